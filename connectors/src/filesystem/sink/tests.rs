//! Exactly once, at every crash point: power failures between and within all disk operations, IO errors
//! at the k-th one for every k, replays by later generations, zombies, and faults planted for `audit`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::CommitPermit;
use qanat_proto::error::Code;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::receipt::RowSum;
use qanat_storage::env::sim::SimEnv;
use qanat_storage::env::{Disk, Entry, Env, File, OpenMode};

use super::{FileSink, STAGED};
use crate::contract::{CommitScope, Sink};
use crate::filesystem::audit::{Fault, audit};
use crate::filesystem::committed::{committed_files, records};
use crate::filesystem::reread::read_rows;

pub(super) const ROOT: &str = "/lake/out";
pub(super) const JOB: JobId = JobId(0xabcd);
pub(super) const SCOPE: CommitScope = CommitScope { operator: OperatorId(7), channel: SinkChannel::Table };

pub(super) fn token(generation: u64) -> Token {
    Token { job: JOB, generation: Generation(generation) }
}

pub(super) fn subtask(index: u32) -> SubtaskId {
    SubtaskId { operator: SCOPE.operator, index }
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("carrier", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

/// Rows `from..to`, with carriers AA, B/B, an empty text and null in turn.
pub(super) fn rows(from: i64, to: i64) -> RecordBatch {
    let carriers = [Some("AA"), Some("B/B"), Some(""), None];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..to)),
        Arc::new((from..to).map(|i| carriers[i.rem_euclid(4) as usize]).collect::<StringArray>()),
        Arc::new(TimestampMillisecondArray::from_iter_values((from..to).map(|i| 1_357_034_400_000 + i))),
    ];
    RecordBatch::try_new(schema(), columns).expect("a batch")
}

pub(super) fn table(options: &[(&str, &str)], partitioned_by: &[&str]) -> TableDescriptor {
    let mut all = BTreeMap::from([
        ("connector".to_owned(), "filesystem".to_owned()),
        ("path".to_owned(), ROOT.to_owned()),
        ("format".to_owned(), "csv".to_owned()),
    ]);
    all.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    TableDescriptor {
        name: "out".to_owned(),
        connector: "filesystem".to_owned(),
        options: all,
        physical: schema(),
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: partitioned_by.iter().map(|c| (*c).to_owned()).collect(),
    }
}

pub(super) fn open(env: &Env, table: &TableDescriptor, overwrite: bool) -> Arc<FileSink> {
    FileSink::open(env.clone(), Path::new("/"), table, overwrite).expect("a sink")
}

pub(super) fn permit(token: Token, epoch: u64, handles: &[PreparedHandle]) -> CommitPermit {
    CommitPermit { token, epoch: Epoch(epoch), manifest_key: format!("manifest-{epoch}"), handles: handles.to_vec() }
}

pub(super) fn commit(
    sink: &FileSink,
    generation: u64,
    epoch: u64,
    handles: &[PreparedHandle],
) -> qanat_proto::error::Result<()> {
    sink.commit(SCOPE, &permit(token(generation), epoch, handles), handles)
}

/// What a plain reader of the folder sees: the data files and their rows, by the ids in the first column.
pub(super) fn visible(disk: &dyn Disk) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).unwrap_or_default() {
            let name = entry.path.file_name().and_then(|n| n.to_str()).expect("UTF-8");
            if name.starts_with(['.', '_']) {
                continue;
            }
            if entry.is_dir {
                folders.push(entry.path);
            } else {
                found.push(entry.path);
            }
        }
    }
    found.sort();
    found
}

pub(super) fn visible_text(disk: &dyn Disk) -> Vec<String> {
    let read = |path: &PathBuf| {
        let file = disk.open(path, OpenMode::Read).expect("opens");
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("reads");
        String::from_utf8(bytes).expect("UTF-8").lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut lines: Vec<String> = visible(disk).iter().flat_map(read).collect();
    lines.sort();
    lines
}

/// The rows of all committed files, by the commit records.
pub(super) fn committed_sum(disk: &dyn Disk) -> RowSum {
    let mut sum = RowSum::default();
    committed_files(disk, Path::new(ROOT)).expect("records").iter().for_each(|(_, file)| sum.add(file.sum()));
    sum
}

pub(super) fn sum_of(batches: &[RecordBatch]) -> RowSum {
    let mut sum = RowSum::default();
    batches.iter().for_each(|b| sum.add(RowHasher::default().sum(b).expect("a sum")));
    sum
}

pub(super) fn clean_audit(disk: &dyn Disk) {
    let found = audit(disk, Path::new(ROOT), JOB).expect("an audit");
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
}

struct FileSubject {
    env: Env,
    table: TableDescriptor,
}

impl crate::suite::sink::Subject for FileSubject {
    fn open(&self) -> Arc<dyn Sink> {
        open(&self.env, &self.table, false)
    }
    fn rows(&self, seed: u64) -> RecordBatch {
        let from = seed as i64 * 100;
        rows(from, from + 7)
    }
    fn visible(&self) -> RowSum {
        let disk = self.env.disk.as_ref();
        clean_records(disk, "conformance");
        let named = committed_files(disk, Path::new(ROOT)).expect("records").len();
        assert_eq!(visible(disk).len(), named, "files and records agree");
        committed_sum(disk)
    }
}

#[test]
fn it_is_a_sink() {
    for partitioned_by in [&[][..], &["carrier"][..]] {
        crate::suite::sink::run(&FileSubject { env: Env::sim(2).env, table: table(&[], partitioned_by) });
    }
}

/// One epoch of two subtasks, prepared.
pub(super) fn prepared(sink: &FileSink, generation: u64, epoch: u64, first: i64) -> Vec<PreparedHandle> {
    let mut handles = Vec::new();
    for index in 0..2 {
        let mut writer = sink.writer(subtask(index), token(generation)).expect("a writer");
        let from = first + 10 * i64::from(index);
        writer.write(Epoch(epoch), &rows(from, from + 10)).expect("writes");
        handles.extend(writer.prepare(Epoch(epoch)).expect("prepares"));
    }
    handles
}

#[test]
fn rows_arrive_in_every_format_and_are_read_back() {
    let formats: &[&[(&str, &str)]] = &[
        &[("format", "csv")],
        &[("format", "csv"), ("csv.header", "false"), ("csv.field-delimiter", "\\t"), ("csv.null-literal", "AA")],
        &[("format", "csv"), ("compression", "gzip")],
        &[("format", "json")],
        &[("format", "json"), ("compression", "zstd"), ("json.encode.ignore-null-fields", "true")],
        &[("format", "json"), ("json.timestamp-format.standard", "ISO-8601")],
        &[("format", "parquet")],
        &[("format", "parquet"), ("parquet.compression", "zstd")],
        &[("format", "arrow"), ("arrow.compression", "lz4")],
    ];
    for options in formats {
        for partitioned_by in [&[][..], &["carrier"][..], &["at", "carrier"][..]] {
            let SimEnv { env, disk, .. } = Env::sim(1);
            let sink = open(&env, &table(options, partitioned_by), false);
            let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
            assert_eq!(writer.prepare(Epoch(1)).expect("prepares"), vec![], "an empty epoch makes no file");
            writer.write(Epoch(2), &rows(0, 9)).expect("writes");
            writer.write(Epoch(2), &rows(9, 20)).expect("writes");
            let handles = writer.prepare(Epoch(2)).expect("prepares");
            assert!(visible(&disk).is_empty(), "{options:?}");
            commit(&sink, 1, 2, &handles).expect("commits");
            assert_eq!(committed_sum(&disk), sum_of(&[rows(0, 20)]), "{options:?} {partitioned_by:?}");
            clean_audit(&disk);
            assert_eq!(disk.list(&Path::new(ROOT).join(".staged")).expect("lists"), vec![]);
        }
    }
}

#[test]
fn csv_text_is_as_documented() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let sink = open(&env, &table(&[], &[]), false);
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    writer.write(Epoch(1), &rows(0, 4)).expect("writes");
    let handles = writer.prepare(Epoch(1)).expect("prepares");
    commit(&sink, 1, 1, &handles).expect("commits");
    let path = visible(&disk).remove(0);
    assert_eq!(
        path.to_str(),
        Some("/lake/out/part-0000000000000000000000000000abcd-g1-e00000001-0000000000000007-0-0.csv")
    );
    let expected = [
        "0,AA,2013-01-01 10:00:00.000",
        "1,B/B,2013-01-01 10:00:00.001",
        "2,\"\",2013-01-01 10:00:00.002",
        "3,,2013-01-01 10:00:00.003",
    ];
    assert_eq!(visible_text(&disk), expected);
    assert!(disk.exists(&Path::new(ROOT).join(format!("_commits/{JOB}/{}/1.json", SCOPE.operator))).expect("looks"));
}

#[test]
fn files_roll_by_size_within_an_epoch() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let sink = open(&env, &table(&[("sink.rolling-policy.file-size", "100")], &[]), false);
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    for i in 0..10 {
        writer.write(Epoch(1), &rows(i * 3, i * 3 + 3)).expect("writes");
    }
    let handles = writer.prepare(Epoch(1)).expect("prepares");
    assert!(handles.len() >= 5, "{}", handles.len());
    commit(&sink, 1, 1, &handles).expect("commits");
    assert_eq!(committed_sum(&disk), sum_of(&[rows(0, 30)]));
    clean_audit(&disk);
}

#[test]
fn many_partitions_stay_within_the_limit_of_open_files() {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let sink = open(&env, &table(&[], &["id"]), false);
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    writer.write(Epoch(1), &rows(0, 600)).expect("writes");
    writer.write(Epoch(1), &rows(0, 5)).expect("writes");
    let handles = writer.prepare(Epoch(1)).expect("prepares");
    assert_eq!(handles.len(), 605, "the five oldest were closed and got a second file");
    commit(&sink, 1, 1, &handles).expect("commits");
    assert_eq!(committed_sum(&disk), sum_of(&[rows(0, 600), rows(0, 5)]));
    clean_audit(&disk);
}

/// The whole life of two epochs: what every crash test runs.
pub(super) fn two_epochs(
    env: &Env,
    table: &TableDescriptor,
    mut acknowledge: impl FnMut(u64),
) -> Vec<Vec<PreparedHandle>> {
    let sink = open(env, table, false);
    let mut all = Vec::new();
    for epoch in 1..=2 {
        let handles = prepared(&sink, 1, epoch, epoch as i64 * 100);
        acknowledge(epoch * 10);
        commit(&sink, 1, epoch, &handles).expect("commits");
        acknowledge(epoch * 10 + 1);
        all.push(handles);
    }
    all
}

/// Takes a folder after a crash through what recovery does: a new generation replays the last claimed
/// epoch, aborts the rest, and goes on. `claimed` epochs of `handles` were claimed before the crash.
fn recover(env: &Env, table: &TableDescriptor, handles: &[Vec<PreparedHandle>], claimed: u64) {
    let sink = open(env, table, false);
    let mut keep = Vec::new();
    if claimed > 0 {
        keep = handles[claimed as usize - 1].clone();
        commit(&sink, 2, claimed, &keep).expect("the replay commits");
        // A job may end with this replay: nobody sweeps after it.
        let records = Path::new(ROOT).join("_commits").join(JOB.to_string()).join(SCOPE.operator.to_string());
        let names = env.disk.list(&records).expect("lists").into_iter().map(|entry| entry.path);
        let drafts: Vec<_> = names.filter(|path| path.extension().is_none_or(|kind| kind != "json")).collect();
        assert!(drafts.is_empty(), "{drafts:?}");
    }
    sink.abort_lower(SCOPE, token(2), &keep).expect("aborts");
    // The rest is computed again.
    for epoch in claimed + 1..=2 {
        let again = prepared(&sink, 2, epoch, epoch as i64 * 100);
        commit(&sink, 2, epoch, &again).expect("commits");
    }
    let all = sum_of(&[rows(100, 120), rows(200, 220)]);
    assert_eq!(committed_sum(env.disk.as_ref()), all);
    assert_eq!(visible_text(env.disk.as_ref()).len(), 40);
    clean_audit(env.disk.as_ref());
    let staged = env.disk.list(&Path::new(ROOT).join(".staged")).expect("lists");
    assert!(staged.is_empty(), "{staged:?}");
}

#[test]
fn every_power_failure_is_survived() {
    for table in [table(&[], &[]), table(&[("sink.partition-commit.policy.kind", "success-file")], &["carrier"])] {
        let SimEnv { env, disk, .. } = Env::sim(3);
        disk.record();
        let handles = two_epochs(&env, &table, |mark| disk.mark(mark));
        let trace = disk.take_trace();
        let mut states = 0;
        for state in trace.crash_states().chain(trace.random_crash_states(5, 2)) {
            let here = Env { disk: Arc::new(state.disk.clone()), ..Env::sim(9).env };
            // Prepared and acknowledged may have been claimed; both must end well.
            let (least, most) = match state.last_mark() {
                None => (0, 0),
                Some(10) => (0, 1),
                Some(11) => (1, 1),
                Some(20) => (1, 2),
                _ => (2, 2),
            };
            // Nothing unclaimed is visible, and what records say stands (I2).
            let shown = visible_text(&state.disk).len();
            assert!(shown <= 20 * most as usize, "{state}: {shown} rows are visible");
            assert!(
                committed_sum(&state.disk).rows >= 20 * state.marks().iter().filter(|m| *m % 10 == 1).count() as u64
            );
            clean_records(&state.disk, &state.to_string());
            // Rows that show were claimed; where none do, both answers must end well.
            let claimed = if shown > 20 * least as usize || states % 2 == 0 { most } else { least };
            recover(&here, &table, &handles, claimed);
            states += 1;
        }
        assert!(states > 300, "{states}");
    }
}

/// Every file that a record names is there, whole.
pub(super) fn clean_records(disk: &dyn Disk, context: &str) {
    for record in records(disk, Path::new(ROOT), None).expect("records") {
        for file in &record.files {
            let mut sum = RowSum::default();
            read_rows(disk, Path::new(ROOT), record.written(), &file.path, |rows| {
                sum.add(RowHasher::default().sum(rows)?);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(sum, file.sum(), "{context}");
        }
    }
}

/// Counts operations; fails the chosen one and all after it, as a process that dies there would; looks
/// at the folder as a reader after every one.
struct Faulty {
    inner: Arc<dyn Disk>,
    count: AtomicU64,
    fail_at: u64,
    /// Rows that a reader may see.
    allowed: AtomicU64,
}

impl Faulty {
    fn step<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.count.fetch_add(1, Ordering::SeqCst) >= self.fail_at {
            return Err(io::Error::other("injected"));
        }
        let result = act();
        let shown = visible_text(self.inner.as_ref()).len() as u64;
        assert!(shown <= self.allowed.load(Ordering::SeqCst), "{shown} rows are visible before their claim");
        clean_records(self.inner.as_ref(), "after an operation");
        result
    }
}

struct FaultyFile(Arc<dyn File>, Arc<Faulty>);

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.step(|| self.0.write_all_at(bytes, offset))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.step(|| self.0.sync_data())
    }
    fn sync_all(&self) -> io::Result<()> {
        self.1.step(|| self.0.sync_all())
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.0.modified_ms()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.step(|| self.0.set_len(len))
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.1.step(|| self.0.allocate(len))
    }
    fn try_lock(&self) -> io::Result<()> {
        self.0.try_lock()
    }
}

struct FaultyDisk(Arc<Faulty>);

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = match mode {
            OpenMode::Read => self.0.inner.open(path, mode)?,
            _ => self.0.step(|| self.0.inner.open(path, mode))?,
        };
        Ok(Arc::new(FaultyFile(file, self.0.clone())))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.create_dir_all(path))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.link(from, to))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.rename(from, to))
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.rename_no_replace(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.remove_file(path))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.remove_dir(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.step(|| self.0.inner.sync_dir(path))
    }
    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.0.inner.metadata(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.inner.list(path)
    }
}

#[test]
fn a_process_that_dies_at_any_operation_loses_and_doubles_nothing() {
    let table = table(&[], &["carrier"]);
    let mut fail_at = 0;
    loop {
        let sim = Env::sim(4);
        let inner: Arc<dyn Disk> = Arc::new(sim.disk.clone());
        let faulty = Arc::new(Faulty { inner, count: AtomicU64::new(0), fail_at, allowed: AtomicU64::new(0) });
        let env = Env { disk: Arc::new(FaultyDisk(faulty.clone())), ..sim.env.clone() };
        let sink = open(&env, &table, false);
        let mut claimed: Vec<Vec<PreparedHandle>> = Vec::new();
        let mut died = false;
        for epoch in 1..=2_u64 {
            let attempt = || -> qanat_proto::error::Result<Vec<PreparedHandle>> {
                let mut handles = Vec::new();
                for index in 0..2 {
                    let mut writer = sink.writer(subtask(index), token(1))?;
                    let from = epoch as i64 * 100 + 10 * i64::from(index);
                    writer.write(Epoch(epoch), &rows(from, from + 10))?;
                    handles.extend(writer.prepare(Epoch(epoch))?);
                }
                Ok(handles)
            };
            let Ok(handles) = attempt() else {
                died = true;
                break;
            };
            faulty.allowed.store(epoch * 20, Ordering::SeqCst);
            claimed.push(handles.clone());
            if commit(&sink, 1, epoch, &handles).is_err() {
                died = true;
                break;
            }
        }
        let count = claimed.len() as u64;
        recover(&sim.env, &table, &claimed, count);
        if !died {
            assert!(fail_at > 60, "{fail_at}");
            break;
        }
        fail_at += 1;
    }
}

#[test]
fn a_commit_again_changes_nothing() {
    let SimEnv { env, disk, .. } = Env::sim(5);
    let table = table(&[], &["carrier"]);
    let handles = two_epochs(&env, &table, |_| {});
    let before = (visible_text(&disk), committed_sum(&disk));
    for generation in 1..4 {
        let sink = open(&env, &table, false);
        for epoch in 1..=2 {
            commit(&sink, generation, epoch, &handles[epoch as usize - 1]).expect("commits");
        }
    }
    assert_eq!((visible_text(&disk), committed_sum(&disk)), before);
    // A reader moved a file that its record names: the replay does not bring it back.
    let moved = visible(&disk).remove(0);
    disk.rename(&moved, Path::new("/lake/moved")).expect("moves");
    commit(&open(&env, &table, false), 4, 1, &handles[0]).expect("commits");
    assert!(!disk.exists(&moved).expect("looks"));
}

#[test]
fn a_zombie_changes_nothing_that_a_reader_sees() {
    let SimEnv { env, disk, .. } = Env::sim(6);
    let table = table(&[], &[]);
    let sink = open(&env, &table, false);
    let zombie = open(&env, &table, false);
    let first = prepared(&sink, 1, 1, 100);
    // Generation 1 staged epoch 2 as well and stalls before its report; generation 2 claims its own epoch 2.
    let stale = prepared(&zombie, 1, 2, 900);
    commit(&sink, 2, 1, &first).expect("the replay commits");
    sink.abort_lower(SCOPE, token(2), &first).expect("aborts");
    let mut still_open = zombie.writer(subtask(3), token(1)).expect("a writer");
    still_open.write(Epoch(2), &rows(900, 905)).expect("a zombie may write");
    let second = prepared(&sink, 2, 2, 200);
    commit(&sink, 2, 2, &second).expect("commits");
    let before = (visible_text(&disk), committed_sum(&disk));
    // It wakes: prepares, commits what it had the permit for, tries its own epoch 2, and aborts.
    still_open.prepare(Epoch(2)).expect("staged aside");
    commit(&zombie, 1, 1, &first).expect("done already");
    let error = commit(&zombie, 1, 2, &stale).expect_err("the record says something else");
    assert_eq!(error.code(), Code::SinkConflict);
    let third = prepared(&sink, 2, 3, 300);
    zombie.abort_lower(SCOPE, token(1), &[]).expect("aborts nothing of a higher generation");
    assert_eq!((visible_text(&disk), committed_sum(&disk)), before);
    commit(&sink, 2, 3, &third).expect("what generation 2 staged is still there");
    clean_audit(&disk);
}

/// A process that wakes up behind its successor begins files that no later generation may come to take away.
#[test]
fn what_was_not_handed_over_goes_with_its_writer() {
    let SimEnv { env, disk, .. } = Env::sim(7);
    let table = table(&[("sink.rolling-policy.file-size", "100")], &[]);
    let sink = open(&env, &table, false);
    let staged = || disk.list(&Path::new(ROOT).join(STAGED)).expect("a folder").len();
    let first = prepared(&sink, 1, 1, 100);
    assert_eq!(staged(), first.len());
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    for from in 0..20 {
        writer.write(Epoch(2), &rows(from * 10, from * 10 + 10)).expect("rows");
    }
    assert!(staged() > first.len() + 1, "files are sealed, and one is open");
    drop(writer);
    assert_eq!(staged(), first.len(), "what is prepared stays");
    commit(&sink, 1, 1, &first).expect("commits");
    clean_audit(&disk);
}

#[test]
fn two_runs_and_two_jobs_in_one_folder_do_not_meet() {
    let SimEnv { env, disk, .. } = Env::sim(7);
    let table = table(&[], &[]);
    two_epochs(&env, &table, |_| {});
    let other = JobId(0xef);
    let sink = open(&env, &table, false);
    let token = Token { job: other, generation: Generation(1) };
    let mut writer = sink.writer(subtask(0), token).expect("a writer");
    writer.write(Epoch(1), &rows(0, 5)).expect("writes");
    let handles = writer.prepare(Epoch(1)).expect("prepares");
    let permit = CommitPermit { token, epoch: Epoch(1), manifest_key: "other".to_owned(), handles: handles.clone() };
    sink.abort_lower(SCOPE, Token { job: JOB, generation: Generation(9) }, &[]).expect("touches its own job alone");
    sink.commit(SCOPE, &permit, &handles).expect("commits");
    assert_eq!(visible_text(&disk).len(), 45);
    clean_audit(&disk);
    assert!(audit(&disk, Path::new(ROOT), other).expect("an audit").findings.is_empty());
}

#[test]
fn a_foreign_file_under_a_final_name_is_a_conflict() {
    let SimEnv { env, disk, .. } = Env::sim(8);
    let table = table(&[], &[]);
    let sink = open(&env, &table, false);
    let handles = prepared(&sink, 1, 1, 100);
    let path = handles[0].detail["path"].as_str().expect("a path").to_owned();
    let file = disk.open(&Path::new(ROOT).join(&path), OpenMode::CreateNew).expect("opens");
    file.write_all_at(b"someone else's", 0).expect("writes");
    assert_eq!(commit(&sink, 1, 1, &handles).expect_err("a conflict").code(), Code::SinkConflict);
    assert!(records(&disk, Path::new(ROOT), None).expect("records").is_empty());
    let mut hostile = handles.clone();
    hostile[0].detail["path"] = "../../etc/passwd".into();
    assert_eq!(commit(&sink, 1, 1, &hostile).expect_err("refused").code(), Code::CorruptCheckpoint);
}

#[test]
fn audit_names_each_planted_fault() {
    type Plant = fn(&dyn Disk, &Path);
    fn rewrite(disk: &dyn Disk, path: &Path, change: impl FnOnce(String) -> String) {
        let file = disk.open(path, OpenMode::Write).expect("opens");
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("reads");
        let changed = change(String::from_utf8(bytes).expect("UTF-8"));
        file.set_len(0).expect("cuts");
        file.write_all_at(changed.as_bytes(), 0).expect("writes");
    }
    // With the rows that are lost and those that are too many, of a file with so many.
    let plants: [(Plant, &[Fault], fn(u64) -> (u64, u64)); 6] = [
        (|disk, path| disk.remove_file(path).expect("removes"), &[Fault::MissingFile], |rows| (rows, 0)),
        (
            |disk, path| {
                rewrite(disk, path, |text| {
                    let (kept, _) = text.trim_end().rsplit_once('\n').expect("two lines");
                    format!("{kept}\n")
                });
            },
            &[Fault::ChangedBytes, Fault::WrongRows],
            |_| (1, 0),
        ),
        (
            |disk, path| {
                rewrite(disk, path, |text| {
                    let last = text.lines().last().expect("a line").to_owned();
                    format!("{text}{last}\n")
                });
            },
            &[Fault::ChangedBytes, Fault::WrongRows],
            |_| (0, 1),
        ),
        (
            |disk, path| rewrite(disk, path, |text| text.replacen("AA", "AB", 1)),
            &[Fault::ChangedBytes, Fault::WrongRows],
            |_| (0, 0),
        ),
        // The same rows in other bytes.
        (|disk, path| rewrite(disk, path, |text| text.replacen("AA", "\"AA\"", 1)), &[Fault::ChangedBytes], |_| (0, 0)),
        (
            |disk, path| {
                let copy = path.with_file_name(
                    path.file_name().expect("a name").to_str().expect("UTF-8").replace("-0.csv", "-9.csv"),
                );
                disk.link(path, &copy).expect("copies");
            },
            &[Fault::ExtraFile],
            |rows| (0, rows),
        ),
    ];
    for (plant, expected, differ) in plants {
        let SimEnv { env, disk, .. } = Env::sim(11);
        two_epochs(&env, &table(&[], &[]), |_| {});
        let target = visible(&disk).pop().expect("a file");
        plant(&disk, &target);
        let found = audit(&disk, Path::new(ROOT), JOB).expect("an audit");
        let faults: Vec<Fault> = found.findings.iter().map(|f| f.fault).collect();
        assert_eq!(faults, expected, "{:#?}", found.findings);
        assert!(found.findings.iter().all(|f| f.epoch == Some(Epoch(2))), "{:#?}", found.findings);
        let sums = found.findings.iter().fold((0, 0), |sums, f| (sums.0 + f.lost, sums.1 + f.surplus));
        let second = found.epochs.iter().find(|audited| audited.epoch == Epoch(2)).expect("an epoch");
        let named: Vec<_> = second.files.iter().filter(|file| target.ends_with(&file.path)).collect();
        let rows = named.first().expect("a record names it").rows;
        assert_eq!(sums, differ(rows), "{:#?}", found.findings);
        // All of a file is right, or none.
        let whole: u64 = second.files.iter().map(|file| file.rows).sum();
        let is_right = !faults.iter().any(|fault| matches!(fault, Fault::MissingFile | Fault::WrongRows));
        assert_eq!(second.right, if is_right { whole } else { whole - rows });
    }
    // A record gone or changed.
    for (damage, expected) in [(false, Fault::MissingRecord), (true, Fault::DamagedRecord)] {
        let SimEnv { env, disk, .. } = Env::sim(11);
        two_epochs(&env, &table(&[], &[]), |_| {});
        let record = Path::new(ROOT).join(format!("_commits/{JOB}/{}/1.json", SCOPE.operator));
        if damage {
            rewrite(&disk, &record, |text| text.replacen("\"rows\":10", "\"rows\":11", 1));
        } else {
            disk.remove_file(&record).expect("removes");
        }
        let found = audit(&disk, Path::new(ROOT), JOB).expect("an audit");
        assert_eq!(found.findings[0].fault, expected, "{:#?}", found.findings);
        assert_eq!(found.findings[0].epoch, Some(Epoch(1)));
    }
}

#[test]
fn overwrite_takes_away_what_stood_there_when_the_job_began() {
    let SimEnv { env, disk, .. } = Env::sim(12);
    let table = table(&[], &[]);
    two_epochs(&env, &table, |_| {});
    let foreign = disk.open(Path::new("/lake/out/by-hand.csv"), OpenMode::CreateNew).expect("opens");
    foreign.write_all_at(b"id\n1\n", 0).expect("writes");
    let sink = open(&env, &table, true);
    let run = Token { job: JobId(0xef), generation: Generation(1) };
    let permit = |epoch: u64, handles: &[PreparedHandle]| CommitPermit {
        token: run,
        epoch: Epoch(epoch),
        manifest_key: format!("o-{epoch}"),
        handles: handles.to_vec(),
    };
    let mut writer = sink.writer(subtask(0), run).expect("a writer");
    let first = writer.prepare(Epoch(1)).expect("prepares");
    assert_eq!(first.len(), 1, "the list rides on the first epoch, rows or not");
    // What arrives after the list was fixed stays.
    let later = disk.open(Path::new("/lake/out/later.csv"), OpenMode::CreateNew).expect("opens");
    later.write_all_at(b"id\n2\n", 0).expect("writes");
    assert_eq!(visible_text(&disk).len(), 42);
    sink.commit(SCOPE, &permit(1, &first), &first).expect("commits");
    assert_eq!(visible_text(&disk), ["2"]);
    writer.write(Epoch(2), &rows(0, 5)).expect("writes");
    let second = writer.prepare(Epoch(2)).expect("prepares");
    sink.commit(SCOPE, &permit(2, &second), &second).expect("commits");
    // A later generation has nothing more to take away, and a replay takes nothing.
    let next = Token { generation: Generation(2), ..run };
    assert_eq!(
        open(&env, &table, true).writer(subtask(0), next).expect("a writer").prepare(Epoch(3)).expect("prepares"),
        vec![]
    );
    sink.commit(SCOPE, &permit(1, &first), &first).expect("commits");
    assert_eq!(visible_text(&disk).len(), 6);
    assert_eq!(committed_sum(&disk), sum_of(&[rows(0, 5)]));
    clean_audit(&disk);
}

#[test]
fn partitions_are_announced_after_their_files() {
    let SimEnv { env, disk, .. } = Env::sim(13);
    let table = table(&[("sink.partition-commit.policy.kind", "success-file")], &["carrier"]);
    two_epochs(&env, &table, |_| {});
    for folder in ["carrier=AA", "carrier=B%2FB", "carrier=", "carrier=__HIVE_DEFAULT_PARTITION__"] {
        assert!(disk.exists(&Path::new(ROOT).join(folder).join("_SUCCESS")).expect("looks"), "{folder}");
    }
    let refused = |options: &[(&str, &str)], partitioned_by: &[&str]| {
        let mut all = vec![("sink.partition-commit.policy.kind", "success-file")];
        all.extend_from_slice(options);
        super::check(&self::table(&all, partitioned_by)).expect_err("refused").code()
    };
    assert_eq!(refused(&[("sink.partition-commit.trigger", "sometimes")], &["carrier"]), Code::BadOption);
    assert_eq!(refused(&[("sink.partition-commit.delay", "soon")], &["carrier"]), Code::BadOption);
    assert_eq!(refused(&[("sink.partition-commit.policy.kind", "metastore")], &["carrier"]), Code::SqlUnsupported);
    assert_eq!(refused(&[("partition.time-extractor.timestamp-pattern", "$day")], &["carrier"]), Code::BadOption);
    assert_eq!(refused(&[("sink.partition-commit.success-file.name", "done")], &["carrier"]), Code::BadOption);
    assert_eq!(refused(&[], &[]), Code::BadOption);
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let sim = Env::sim(14);
    let table = table(&[], &[]);
    let sink = open(&sim.env, &table, false);
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    sim.disk.set_capacity(Some(8192));
    let outcome = (0..200).try_for_each(|i| writer.write(Epoch(1), &rows(i * 1000, i * 1000 + 1000)));
    let error = outcome.and_then(|()| writer.prepare(Epoch(1)).map(|_| ())).expect_err("the disk is full");
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert!(writer.prepare(Epoch(1)).is_err(), "a failed writer prepares nothing");
    assert!(visible(&sim.disk).is_empty());
}
