//! A table is the latest row of each key, whatever dies: against a map that took the same changes, at every crash point,
//! with processes that end or sleep at every operation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::Int64Type;
use qanat_executor_core::partition::{KeyHasher, key_group};
use qanat_proto::changelog::{RowKind, with_kinds};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::{Withdrawal, WithdrawnObjects};
use qanat_proto::error::{Code, Result};
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::{Epoch, JobId, Token, owner_of};
use qanat_proto::manifest::PreparedHandle;
use qanat_storage::env::sim::{Interrupt, SimEnv};
use qanat_storage::env::{Disk, Env, OpenMode};

use crate::contract::{MadeVisible, Sink, SinkWriter};
use crate::filesystem::audit::{Fault, audit};
use crate::filesystem::net::net_rows;
use crate::filesystem::reread::read_rows;
use crate::filesystem::sink::tests::{JOB, ROOT, SCOPE, commit, permit, schema, subtask, table, token};
use crate::filesystem::sink::{FileSink, folder_of};
use crate::filesystem::version::{newest_version, numbers, read_version};
use crate::filesystem::withdrawn::path_of;

const BUCKETS: u16 = 8;
const SUBTASKS: u32 = 2;

type Rows = BTreeMap<i64, String>;

/// A key and what it becomes; None: it goes.
type Change = (i64, Option<String>);

fn node(options: &[(&str, &str)]) -> SinkNode {
    let mut table: TableDescriptor = table(&[&[("sink.changelog", "table")], options].concat(), &[]);
    table.primary_key = vec!["id".to_owned()];
    SinkNode { buckets: Some(BUCKETS), ..SinkNode::of_table(table) }
}

fn plain() -> SinkNode {
    SinkNode { buckets: Some(1), ..node(&[("path", "/lake/top.csv")]) }
}

fn sink(env: &Env, node: &SinkNode) -> Arc<FileSink> {
    FileSink::open_node(env.clone(), Path::new("/"), node).expect("a sink")
}

fn batch(changes: &[Change]) -> RecordBatch {
    let kind = |row: &Option<String>| if row.is_some() { RowKind::UpdateAfter } else { RowKind::Delete };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.0))),
        Arc::new(changes.iter().map(|change| change.1.clone()).collect::<StringArray>()),
        Arc::new(TimestampMillisecondArray::from_iter_values(changes.iter().map(|change| change.0))),
        Arc::new(changes.iter().map(|change| Some(kind(&change.1).code())).collect::<Int8Array>()),
    ];
    RecordBatch::try_new(with_kinds(&schema()), columns).expect("a batch")
}

/// Some 25 changes of 40 keys.
fn changes_of(epoch: u64) -> Vec<Change> {
    let number = epoch as i64;
    let keys = (0..40).filter(|id| (id * 7 + number) % 3 != 0);
    let change = |id: i64| (id, ((id + number) % 5 != 0).then(|| format!("e{epoch}-{id}")));
    // What comes last counts.
    let first = keys.clone().filter(|id| id % 4 == 0).map(|id| (id, Some("at first".to_owned())));
    first.chain(keys.clone().map(change)).collect()
}

fn take(rows: &mut Rows, changes: &[Change]) {
    for (id, row) in changes {
        match row {
            Some(row) => rows.insert(*id, row.clone()),
            None => rows.remove(id),
        };
    }
}

fn after(epochs: impl IntoIterator<Item = u64>) -> Rows {
    let mut rows = Rows::new();
    epochs.into_iter().for_each(|epoch| take(&mut rows, &changes_of(epoch)));
    rows
}

fn bucket_of(id: i64, buckets: u16) -> u16 {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    key_group(KeyHasher::default().hash(&[column], 1).expect("a hash")[0], buckets)
}

/// A table as a reader finds it, every row where it belongs.
fn shown_in(disk: &dyn Disk, root: &Path) -> Rows {
    let mut shown = Rows::new();
    let Some(version) = newest_version(disk, root).expect("a version") else { return shown };
    for file in &version.files {
        read_rows(disk, root, version.written(), &file.path, |rows| {
            for row in 0..rows.num_rows() {
                let id = rows.column(0).as_primitive::<Int64Type>().value(row);
                assert_eq!(bucket_of(id, version.buckets), file.bucket);
                let text = rows.column(1).as_string::<i32>().value(row).to_owned();
                assert_eq!(shown.insert(id, text), None, "key {id} stands twice");
            }
            Ok(())
        })
        .expect("reads");
    }
    shown
}

fn shown(disk: &dyn Disk) -> Rows {
    shown_in(disk, Path::new(ROOT))
}

/// The plain file's rows.
fn plain_rows(disk: &dyn Disk) -> Option<Rows> {
    let file = disk.open(Path::new("/lake/top.csv"), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[0].parse().expect("an id"), cells[1].to_owned())
    };
    Some(text.lines().skip(1).map(row).collect())
}

/// One generation's subtasks.
struct Generation {
    sink: Arc<FileSink>,
    writers: Vec<Box<dyn SinkWriter>>,
    buckets: u16,
}

impl Generation {
    fn of(env: &Env, node: &SinkNode, token: Token) -> Result<Self> {
        let sink = sink(env, node);
        let writers = (0..SUBTASKS).map(|index| sink.writer(subtask(index), token)).collect::<Result<_>>()?;
        Ok(Self { sink, writers, buckets: node.buckets.expect("buckets") })
    }

    fn prepare(&mut self, epoch: u64, changes: &[Change]) -> Result<Vec<PreparedHandle>> {
        let mut handles = Vec::new();
        for (index, writer) in self.writers.iter_mut().enumerate() {
            let owns = |change: &&Change| {
                owner_of(bucket_of(change.0, self.buckets), self.buckets, SUBTASKS.min(self.buckets.into()))
                    == index as u32
            };
            let own: Vec<Change> = changes.iter().filter(owns).cloned().collect();
            // In two batches, so that the one takes the place of the other.
            let (first, second) = own.split_at(own.len() / 2);
            for part in [first, second] {
                writer.write(Epoch(epoch), &batch(part))?;
            }
            handles.extend(writer.prepare(Epoch(epoch))?);
        }
        Ok(handles)
    }
}

fn clean(disk: &dyn Disk, root: &Path) {
    let found = audit(disk, root, JOB).expect("an audit");
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
}

#[test]
fn the_latest_row_of_each_key_is_kept_in_every_format() {
    let formats: &[&[(&str, &str)]] = &[
        &[("format", "csv")],
        &[("format", "csv"), ("compression", "gzip")],
        &[("format", "json")],
        &[("format", "parquet")],
        &[("format", "arrow")],
    ];
    for format in formats {
        let SimEnv { env, disk, .. } = Env::sim(1);
        let mut generation = Generation::of(&env, &node(format), token(1)).expect("opens");
        assert_eq!(generation.prepare(1, &[]).expect("prepares"), vec![]);
        for epoch in 2..6 {
            let handles = generation.prepare(epoch, &changes_of(epoch)).expect("prepares");
            let taken: u64 = handles.iter().map(|handle| handle.sum.rows).sum();
            assert_eq!(taken, changes_of(epoch).len() as u64, "handles account for every change");
            assert_eq!(shown(&disk), after(2..epoch), "nothing shows before its commit");
            commit(&generation.sink, 1, epoch, &handles).expect("commits");
            assert_eq!(shown(&disk), after(2..=epoch), "{format:?}");
        }
        clean(&disk, Path::new(ROOT));
        assert_eq!(disk.list(&Path::new(ROOT).join(".staged")).expect("lists"), vec![]);
        assert_eq!(numbers(&disk, Path::new(ROOT)).expect("numbers"), vec![2, 3, 4, 5]);
        let net = net_rows(&disk, Path::new(ROOT), JOB, SCOPE.operator).expect("rows").expect("known");
        assert_eq!(net.rows, shown(&disk).len() as u64);
    }
}

#[test]
fn only_buckets_that_changed_are_written_and_empty_ones_have_no_file() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let mut generation = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    let all: Vec<Change> = (0..100).map(|id| (id, Some("first".to_owned()))).collect();
    let handles = generation.prepare(1, &all).expect("prepares");
    assert_eq!(handles.len(), usize::from(BUCKETS));
    commit(&generation.sink, 1, 1, &handles).expect("commits");
    let handles = generation.prepare(2, &[(3, Some("second".to_owned()))]).expect("prepares");
    assert_eq!(handles.len(), 1);
    commit(&generation.sink, 1, 2, &handles).expect("commits");
    let version = newest_version(&disk, Path::new(ROOT)).expect("a version").expect("there is one");
    let old = read_version(&disk, Path::new(ROOT), 1).expect("a version").expect("there is one");
    let same = version.files.iter().filter(|file| old.files.contains(file)).count();
    assert_eq!((same, version.files.len()), (usize::from(BUCKETS) - 1, usize::from(BUCKETS)));
    let of_one: Vec<Change> =
        (0..100).filter(|id| bucket_of(*id, BUCKETS) == bucket_of(3, BUCKETS)).map(|id| (id, None)).collect();
    let handles = generation.prepare(3, &of_one).expect("prepares");
    commit(&generation.sink, 1, 3, &handles).expect("commits");
    let version = newest_version(&disk, Path::new(ROOT)).expect("a version").expect("there is one");
    assert_eq!(version.files.len(), usize::from(BUCKETS) - 1);
    assert_eq!(shown(&disk).len(), 100 - of_one.len());
    clean(&disk, Path::new(ROOT));
}

/// The barrier of an epoch may come while the commit of the one before is under way.
#[test]
fn an_epoch_goes_on_from_what_is_only_staged() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let mut generation = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    let first = generation.prepare(1, &changes_of(1)).expect("prepares");
    let second = generation.prepare(2, &changes_of(2)).expect("prepares");
    commit(&generation.sink, 1, 1, &first).expect("commits");
    assert_eq!(shown(&disk), after(1..=1));
    commit(&generation.sink, 1, 2, &second).expect("commits");
    assert_eq!(shown(&disk), after(1..=2));
}

/// What recovery does: the last claimed epoch is committed again, the rest is aborted and computed again.
fn recover(env: &Env, node: &SinkNode, handles: &[Vec<PreparedHandle>], epochs: u64) {
    let disk = env.disk.as_ref();
    let root = folder_of(Path::new("/"), &node.table).expect("a folder");
    let claimed = handles.len() as u64;
    let mut generation = Generation::of(env, node, token(2)).expect("opens");
    let keep = handles.last().cloned().unwrap_or_default();
    if claimed > 0 {
        commit(&generation.sink, 2, claimed, &keep).expect("the replay commits");
        assert_eq!(shown_in(disk, &root), after(1..=claimed));
    }
    generation.sink.abort_lower(SCOPE, token(2), &keep).expect("aborts");
    for epoch in claimed + 1..=epochs {
        let again = generation.prepare(epoch, &changes_of(epoch)).expect("prepares");
        commit(&generation.sink, 2, epoch, &again).expect("commits");
    }
    assert_eq!(shown_in(disk, &root), after(1..=epochs));
    if node.buckets == Some(1) {
        assert_eq!(plain_rows(disk), Some(after(1..=epochs)));
    }
    clean(disk, &root);
    for folder in [".staged", "_table", "."] {
        let names = disk.list(&root.join(folder)).expect("lists");
        let stray = |name: &str| folder == ".staged" || name.starts_with(".tmp-");
        let strays: Vec<_> =
            names.iter().filter(|e| e.path.file_name().is_some_and(|n| stray(&n.to_string_lossy()))).collect();
        assert!(strays.is_empty(), "{strays:?}");
    }
}

#[test]
fn every_power_failure_is_survived() {
    const EPOCHS: u64 = 3;
    for node in [node(&[]), plain()] {
        let SimEnv { env, disk, .. } = Env::sim(3);
        disk.record();
        let mut generation = Generation::of(&env, &node, token(1)).expect("opens");
        let mut handles = Vec::new();
        for epoch in 1..=EPOCHS {
            handles.push(generation.prepare(epoch, &changes_of(epoch)).expect("prepares"));
            disk.mark(epoch * 10);
            commit(&generation.sink, 1, epoch, &handles[epoch as usize - 1]).expect("commits");
            disk.mark(epoch * 10 + 1);
        }
        let trace = disk.take_trace();
        let root = folder_of(Path::new("/"), &node.table).expect("a folder");
        let mut states = 0;
        for state in trace.crash_states().chain(trace.random_crash_states(5, 2)) {
            let here = Env { disk: Arc::new(state.disk.clone()), ..Env::sim(9).env };
            let mark = state.last_mark().unwrap_or(0);
            let (committed, prepared) = ((mark / 10).saturating_sub(u64::from(mark % 10 == 0)), mark / 10);
            let shown = shown_in(&state.disk, &root);
            let is_shown = (committed..=prepared).find(|epoch| shown == after(1..=*epoch));
            let is_shown =
                is_shown.unwrap_or_else(|| panic!("{state}: it shows no epoch of {committed} to {prepared}"));
            if node.buckets == Some(1) {
                let file = plain_rows(&state.disk).unwrap_or_default();
                let whole = (committed..=is_shown).any(|epoch| file == after(1..=epoch));
                assert!(whole, "{state}: the plain file is of no version");
            }
            // A claim is durable before its commit begins: what shows was claimed, and what is prepared may have been.
            let claimed = if states % 2 == 0 { prepared } else { is_shown };
            recover(&here, &node, &handles[..claimed as usize], EPOCHS);
            states += 1;
        }
        assert!(states > 300, "{states}");
    }
}

#[test]
fn a_process_that_dies_at_any_operation_loses_nothing() {
    for node in [node(&[]), plain()] {
        let mut died_at = 0;
        loop {
            let sim = Env::sim(4);
            let interrupt = Arc::new(Interrupt::default());
            let env = interrupt.env(&sim.env);
            interrupt.die_after(died_at);
            let mut claimed = Vec::new();
            let mut run = || -> Result<()> {
                let mut generation = Generation::of(&env, &node, token(1))?;
                for epoch in 1..=3 {
                    let handles = generation.prepare(epoch, &changes_of(epoch))?;
                    claimed.push(handles.clone());
                    commit(&generation.sink, 1, epoch, &handles)?;
                }
                Ok(())
            };
            let is_done = run().is_ok() && !interrupt.is_dead();
            recover(&sim.env, &node, &claimed, 3);
            if is_done {
                assert!(died_at > 100, "{died_at}");
                break;
            }
            died_at += 1;
        }
    }
}

/// A process sleeps at some operation of its commit; a successor commits this epoch and the next ones; it wakes up.
#[test]
fn a_sleeper_changes_nothing_that_a_reader_sees() {
    for node in [node(&[("sink.table.retention", "0 s")]), plain()] {
        let mut at = 1;
        loop {
            let sim = Env::sim(4);
            let interrupt = Arc::new(Interrupt::default());
            let env = interrupt.env(&sim.env);
            let mut generation = Generation::of(&env, &node, token(1)).expect("opens");
            let first = generation.prepare(1, &changes_of(1)).expect("prepares");
            commit(&generation.sink, 1, 1, &first).expect("commits");
            let second = generation.prepare(2, &changes_of(2)).expect("prepares");
            let (awake, successor, kept) = (sim.env.clone(), node.clone(), second.clone());
            interrupt.arm(at, move || {
                let mut next = Generation::of(&awake, &successor, token(2)).expect("opens");
                commit(&next.sink, 2, 2, &kept).expect("the replay commits");
                next.sink.abort_lower(SCOPE, token(2), &kept).expect("aborts");
                for epoch in 3..=5 {
                    let handles = next.prepare(epoch, &changes_of(epoch)).expect("prepares");
                    commit(&next.sink, 2, epoch, &handles).expect("commits");
                }
            });
            // Whatever it comes to.
            let _ = commit(&generation.sink, 1, 2, &second);
            if !interrupt.disarm() {
                assert!(at > 20, "{at}");
                break;
            }
            let root = folder_of(Path::new("/"), &node.table).expect("a folder");
            assert_eq!(shown_in(&sim.disk, &root), after(1..=5), "asleep at {at}");
            if node.buckets == Some(1) {
                assert_eq!(plain_rows(&sim.disk), Some(after(1..=5)), "asleep at {at}");
            }
            let mut next = Generation::of(&sim.env, &node, token(3)).expect("opens");
            let handles = next.prepare(6, &changes_of(6)).expect("prepares");
            commit(&next.sink, 3, 6, &handles).expect("commits");
            assert_eq!(shown_in(&sim.disk, &root), after(1..=6), "asleep at {at}");
            clean(&sim.disk, &root);
            at += 1;
        }
    }
}

fn of_job(job: u128) -> Token {
    Token { job: JobId(job), ..token(1) }
}

fn commit_as(generation: &Generation, token: Token, epoch: u64, handles: &[PreparedHandle]) -> Result<()> {
    generation.sink.commit(SCOPE, &permit(token, epoch, handles), handles)
}

#[test]
fn a_second_job_goes_on_with_the_table_or_replaces_it() {
    for (overwrites, plain_file) in [(false, false), (true, false), (false, true), (true, true)] {
        let SimEnv { env, disk, .. } = Env::sim(1);
        let node = if plain_file { plain() } else { node(&[]) };
        let root = folder_of(Path::new("/"), &node.table).expect("a folder");
        let mut first = Generation::of(&env, &node, token(1)).expect("opens");
        for epoch in 1..4 {
            let handles = first.prepare(epoch, &changes_of(epoch)).expect("prepares");
            commit(&first.sink, 1, epoch, &handles).expect("commits");
        }
        let node = SinkNode { overwrite: overwrites, ..node };
        let mut second = Generation::of(&env, &node, of_job(5)).expect("opens");
        let changes: Vec<Change> = vec![(1, Some("new".to_owned())), (2, None)];
        let nothing = second.prepare(1, &[]).expect("prepares");
        assert_eq!(nothing.is_empty(), !overwrites, "an overwrite begins without rows too");
        commit_as(&second, of_job(5), 1, &nothing).expect("commits");
        let mut wanted = if overwrites { Rows::new() } else { after(1..4) };
        assert_eq!(shown_in(&disk, &root), wanted);
        let handles = second.prepare(2, &changes).expect("prepares");
        commit_as(&second, of_job(5), 2, &handles).expect("commits");
        take(&mut wanted, &changes);
        assert_eq!(shown_in(&disk, &root), wanted, "{overwrites} {plain_file}");
        assert_eq!(newest_version(&disk, &root).expect("a version").expect("there is one").number, 5);
        if plain_file {
            assert_eq!(plain_rows(&disk), Some(wanted));
        }
        // The first one comes again, and finds what the second has made of the table.
        let handles = first.prepare(4, &changes_of(4)).expect("prepares");
        let refused = commit(&first.sink, 1, 4, &handles).expect_err("another job keeps the table by now");
        assert_eq!(refused.code(), Code::SinkConflict);
        clean(&disk, &root);
    }
}

#[test]
fn a_table_of_another_form_is_not_gone_on_with() {
    let SimEnv { env, .. } = Env::sim(1);
    let mut first = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    let handles = first.prepare(1, &changes_of(1)).expect("prepares");
    commit(&first.sink, 1, 1, &handles).expect("commits");
    let mut by_carrier = node(&[]);
    by_carrier.table.primary_key = vec!["carrier".to_owned()];
    let other = [
        (node(&[("format", "json")]), "another format"),
        (by_carrier, "the primary key (id)"),
        (SinkNode { buckets: Some(16), ..node(&[]) }, "8 buckets, and this job has 16 key groups"),
    ];
    for (node, why) in other {
        let refused = Generation::of(&env, &node, of_job(5)).err().expect("refused");
        assert_eq!(refused.code(), Code::SinkSchema);
        assert!(refused.message().contains(why), "{refused}");
        Generation::of(&env, &SinkNode { overwrite: true, ..node }, of_job(5)).expect("an overwrite replaces it");
    }
}

#[test]
fn a_plain_file_of_somebody_else_is_replaced_only_by_an_overwrite() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    disk.create_dir_all(Path::new("/lake")).expect("creates");
    disk.open(Path::new("/lake/top.csv"), OpenMode::CreateNew)
        .expect("creates")
        .write_all_at(b"mine", 0)
        .expect("writes");
    let refused = Generation::of(&env, &plain(), token(1)).err().expect("refused");
    assert_eq!(refused.code(), Code::SinkConflict);
    let node = SinkNode { overwrite: true, ..plain() };
    let mut generation = Generation::of(&env, &node, token(1)).expect("opens");
    let handles = generation.prepare(1, &changes_of(1)).expect("prepares");
    commit(&generation.sink, 1, 1, &handles).expect("commits");
    assert_eq!(plain_rows(&disk), Some(after(1..=1)));
}

#[test]
fn versions_go_when_their_time_is_over_and_their_files_with_them() {
    let SimEnv { env, disk, clock, .. } = Env::sim(1);
    let mut generation = Generation::of(&env, &node(&[("sink.table.retention", "30 s")]), token(1)).expect("opens");
    for epoch in 1..=20 {
        let handles = generation.prepare(epoch, &changes_of(epoch)).expect("prepares");
        commit(&generation.sink, 1, epoch, &handles).expect("commits");
        clock.advance(Duration::from_secs(10));
        clean(&disk, Path::new(ROOT));
        if epoch == 10 {
            // A successor finds what there is.
            generation = Generation::of(&env, &node(&[("sink.table.retention", "30 s")]), token(2)).expect("opens");
        }
    }
    // Version 16 gave way to 17 at 160 s, 30 s before the one before the newest.
    assert_eq!(numbers(&disk, Path::new(ROOT)).expect("numbers"), vec![16, 17, 18, 19, 20]);
    let mut named: Vec<_> = Vec::new();
    for number in 16..=20 {
        let version = read_version(&disk, Path::new(ROOT), number).expect("a version").expect("there is one");
        named.extend(version.files.into_iter().map(|file| Path::new(ROOT).join(file.path)));
    }
    let mut there: Vec<_> =
        disk.list(&Path::new(ROOT).join("_data")).expect("lists").into_iter().map(|entry| entry.path).collect();
    named.sort();
    named.dedup();
    there.sort();
    // One that was written empty is no version's, and goes with the version it emptied.
    there.retain(|path| named.contains(path) || disk.metadata(path).expect("there").len > 40);
    assert_eq!(there, named);
    assert_eq!(shown(&disk), after(1..=20));
}

fn withdrawal(first: u64, handles: &[&[PreparedHandle]]) -> Withdrawal {
    let names = handles.iter().flat_map(|handles| handles.iter().filter_map(path_of)).collect();
    let last = first + handles.len() as u64 - 1;
    let objects = vec![WithdrawnObjects { operator: SCOPE.operator, names }];
    Withdrawal { first: Epoch(first), last: Epoch(last), objects }
}

#[test]
fn a_rollback_gives_the_table_back_at_every_crash_point() {
    for node in [node(&[]), plain()] {
        let root = folder_of(Path::new("/"), &node.table).expect("a folder");
        let mut died_at = 0;
        loop {
            let sim = Env::sim(4);
            let mut generation = Generation::of(&sim.env, &node, token(1)).expect("opens");
            let mut all = Vec::new();
            for epoch in 1..=4 {
                all.push(generation.prepare(epoch, &changes_of(epoch)).expect("prepares"));
                if epoch < 4 {
                    commit(&generation.sink, 1, epoch, &all[epoch as usize - 1]).expect("commits");
                }
            }
            let rows = MadeVisible { job: JOB, operator: SCOPE.operator, after: Epoch(1) };
            assert_eq!(super::super::keeps(&sim.disk, &root, &node, rows).expect("looks"), None);
            let withdrawal = withdrawal(2, &[&all[1], &all[2], &all[3]]);
            let interrupt = Arc::new(Interrupt::default());
            interrupt.die_after(died_at);
            let first_try = sink(&interrupt.env(&sim.env), &node).withdraw(SCOPE, JOB, &withdrawal);
            let is_done = first_try.is_ok() && !interrupt.is_dead();
            let again = sink(&sim.env, &node);
            again.withdraw(SCOPE, JOB, &withdrawal).expect("withdraws");
            assert_eq!(shown_in(&sim.disk, &root), after(1..=1), "died at {died_at}");
            if node.buckets == Some(1) {
                assert_eq!(plain_rows(&sim.disk), Some(after(1..=1)));
            }
            // The paused one of before wakes up, in the middle of its commit of epoch 4.
            let _ = commit(&generation.sink, 1, 4, &all[3]);
            assert_eq!(shown_in(&sim.disk, &root), after(1..=1), "died at {died_at}");
            let mut next = Generation::of(&sim.env, &node, token(2)).expect("opens");
            next.sink.abort_lower(SCOPE, token(2), &all[0]).expect("aborts");
            let handles = next.prepare(5, &changes_of(5)).expect("prepares");
            commit(&next.sink, 2, 5, &handles).expect("commits");
            assert_eq!(shown_in(&sim.disk, &root), after([1, 5]), "died at {died_at}");
            assert_eq!(numbers(&sim.disk, &root).expect("numbers"), vec![1, 5]);
            clean(&sim.disk, &root);
            if is_done {
                assert!(died_at > 10, "{died_at}");
                break;
            }
            died_at += 1;
        }
    }
}

#[test]
fn a_rollback_behind_the_retention_says_what_is_gone() {
    let SimEnv { env, disk, clock, .. } = Env::sim(1);
    let node = node(&[("sink.table.retention", "30 s")]);
    let mut generation = Generation::of(&env, &node, token(1)).expect("opens");
    for epoch in 1..=20 {
        let handles = generation.prepare(epoch, &changes_of(epoch)).expect("prepares");
        commit(&generation.sink, 1, epoch, &handles).expect("commits");
        clock.advance(Duration::from_secs(10));
    }
    let keeps = |after| {
        let rows = MadeVisible { job: JOB, operator: SCOPE.operator, after: Epoch(after) };
        super::super::keeps(&disk, Path::new(ROOT), &node, rows).expect("looks")
    };
    assert_eq!(keeps(18), None);
    assert!(keeps(17).is_some_and(|why| why.contains("only half of")), "{:?}", keeps(17));
    let gone = "version 15 of the table is gone: `sink.table.retention` says how long one stays";
    assert_eq!(keeps(15).as_deref(), Some(gone));
    assert!(keeps(3).is_some());
    // Told to go back all the same, the table stays as it is, and the job goes on with it.
    let before = shown(&disk);
    generation.sink.withdraw(SCOPE, JOB, &withdrawal(4, &[&[][..]; 17])).expect("withdraws");
    assert_eq!(shown(&disk), before);
    let mut next = Generation::of(&env, &node, token(2)).expect("opens");
    let handles = next.prepare(21, &changes_of(21)).expect("prepares");
    commit(&next.sink, 2, 21, &handles).expect("commits");
    assert_eq!(shown(&disk), after(1..=21));
}

/// Jobs of one table, one after the other.
#[test]
fn a_job_goes_on_with_what_another_has_made_of_the_table() {
    for overwrite in [false, true] {
        let SimEnv { env, disk, .. } = Env::sim(1);
        let node_of_a = SinkNode { overwrite, ..node(&[]) };
        let mut a = Generation::of(&env, &node_of_a, token(1)).expect("opens");
        let mut all = Vec::new();
        for epoch in 1..=2 {
            all.push(a.prepare(epoch, &changes_of(epoch)).expect("prepares"));
            commit(&a.sink, 1, epoch, &all[epoch as usize - 1]).expect("commits");
        }
        let mut b = Generation::of(&env, &node(&[]), of_job(5)).expect("opens");
        let handles = b.prepare(1, &changes_of(3)).expect("prepares");
        commit_as(&b, of_job(5), 1, &handles).expect("commits");
        // Rows of the first are in what the second has made.
        let rows = MadeVisible { job: JOB, operator: SCOPE.operator, after: Epoch(1) };
        let keeps = super::super::keeps(&disk, Path::new(ROOT), &node_of_a, rows).expect("looks");
        assert!(keeps.is_some_and(|why| why.contains("has gone on with the table, in version 3")));
        a.sink.withdraw(SCOPE, JOB, &withdrawal(2, &[&all[1]])).expect("withdraws");
        assert_eq!(shown(&disk), after(1..=3));
        // It is begun once: what it wrote before is not taken away when it comes again.
        let mut again = Generation::of(&env, &node_of_a, token(2)).expect("opens");
        let handles = again.prepare(3, &changes_of(4)).expect("prepares");
        commit(&again.sink, 2, 3, &handles).expect("commits");
        assert_eq!(shown(&disk), after(1..=4), "{overwrite}");
    }
}

/// A paused process writes its version behind a rollback, and another job comes to the same number.
#[test]
fn a_withdrawn_version_takes_no_number_away() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let mut a = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    let mut all = Vec::new();
    for epoch in 1..=3 {
        all.push(a.prepare(epoch, &changes_of(epoch)).expect("prepares"));
        commit(&a.sink, 1, epoch, &all[epoch as usize - 1]).expect("commits");
    }
    let stale = Path::new(ROOT).join("_table/3");
    disk.link(&stale, Path::new("/lake/stale")).expect("links");
    a.sink.withdraw(SCOPE, JOB, &withdrawal(2, &[&all[1], &all[2]])).expect("withdraws");
    disk.link(Path::new("/lake/stale"), &stale).expect("it wakes up");
    assert_eq!(shown(&disk), after(1..=1));
    let mut b = Generation::of(&env, &node(&[]), of_job(5)).expect("opens");
    let handles = b.prepare(2, &changes_of(7)).expect("prepares");
    let tries = (0..3).find(|_| commit_as(&b, of_job(5), 2, &handles).is_ok());
    assert_eq!(tries, Some(1), "the second try finds the number free");
    assert_eq!(shown(&disk), after([1, 7]));
}

#[test]
fn a_kept_table_has_a_folder_of_its_own() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    disk.create_dir_all(Path::new("/lake/top.csv")).expect("creates");
    for overwrite in [false, true] {
        let refused = Generation::of(&env, &SinkNode { overwrite, ..plain() }, token(1)).err().expect("refused");
        assert_eq!(refused.code(), Code::BadOption);
    }
    disk.create_dir_all(Path::new(ROOT)).expect("creates");
    disk.open(&Path::new(ROOT).join("part-1.csv"), OpenMode::CreateNew).expect("creates");
    let refused = Generation::of(&env, &node(&[]), token(1)).err().expect("refused");
    assert_eq!(refused.code(), Code::SinkConflict);
    disk.remove_file(&Path::new(ROOT).join("part-1.csv")).expect("removes");
    let mut generation = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    let handles = generation.prepare(1, &changes_of(1)).expect("prepares");
    commit(&generation.sink, 1, 1, &handles).expect("commits");
    let rows = FileSink::open(env, Path::new("/"), &table(&[], &[]), true).expect("a sink");
    assert_eq!(rows.writer(subtask(0), of_job(5)).err().expect("refused").code(), Code::SinkConflict);
}

#[test]
fn an_audit_finds_what_was_done_to_a_table() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let mut generation = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    for epoch in 1..=2 {
        let handles = generation.prepare(epoch, &changes_of(epoch)).expect("prepares");
        commit(&generation.sink, 1, epoch, &handles).expect("commits");
    }
    let version = newest_version(&disk, Path::new(ROOT)).expect("a version").expect("there is one");
    let path = Path::new(ROOT).join(&version.files[0].path);
    disk.flip_bit(&path, 8 * 40).expect("flips");
    let faults = |disk: &dyn Disk| -> Vec<Fault> {
        audit(disk, Path::new(ROOT), JOB).expect("an audit").findings.iter().map(|finding| finding.fault).collect()
    };
    assert!(faults(&disk).contains(&Fault::ChangedBytes), "{:?}", faults(&disk));
    // Nor does a writer build on it.
    let mut next = Generation::of(&env, &node(&[]), token(2)).expect("opens");
    let refused = next.prepare(3, &changes_of(3)).expect_err("a changed file");
    assert_eq!(refused.code(), Code::SourceChanged);
    disk.remove_file(&path).expect("removes");
    assert_eq!(faults(&disk), vec![Fault::MissingFile]);
    disk.flip_bit(&Path::new(ROOT).join("_table/1"), 8 * 40).expect("flips");
    assert!(faults(&disk).contains(&Fault::DamagedRecord), "{:?}", faults(&disk));
}

/// More changes than are held in memory: a bucket is written more than once in an epoch.
#[test]
fn one_key_may_change_often() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let mut generation = Generation::of(&env, &node(&[]), token(1)).expect("opens");
    let mut rows = Rows::new();
    for round in 0..40 {
        let changes: Vec<Change> = (0..8192).map(|id| (id % 50, Some(format!("{round}-{id}")))).collect();
        take(&mut rows, &changes);
        for (index, writer) in generation.writers.iter_mut().enumerate() {
            let owns = |change: &&Change| owner_of(bucket_of(change.0, BUCKETS), BUCKETS, SUBTASKS) == index as u32;
            let own: Vec<Change> = changes.iter().filter(owns).cloned().collect();
            writer.write(Epoch(1), &batch(&own)).expect("writes");
        }
    }
    let handles = generation.prepare(1, &[]).expect("prepares");
    assert_eq!(handles.iter().map(|handle| handle.sum.rows).sum::<u64>(), 40 * 8192);
    commit(&generation.sink, 1, 1, &handles).expect("commits");
    assert_eq!(shown(&disk), rows);
}
