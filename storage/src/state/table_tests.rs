use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, StringArray, UInt16Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt16Type};
use proptest::prelude::*;
use qanat_proto::error::Code;

use super::*;
use crate::checkpoint::CheckpointStore;
use crate::checkpoint::fixture::{JOB, origin, range, store};
use crate::env::Env;

const GROUPS: u16 = 8;

/// A key's group, as a stand-in for its hash.
/// Of a few key groups, so that a merge makes several files.
const SLICE_BYTES: u64 = 4 << 10;

fn group(key: u8) -> u16 {
    u16::from(key) % GROUPS
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("group", DataType::UInt16, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("time", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

pub(crate) fn spec(append_only: bool) -> TableSpec {
    TableSpec { name: "counts".to_owned(), schema: schema(), key_columns: 1, time_column: Some(2), append_only }
}

fn keys(keys: &[u8]) -> Vec<ArrayRef> {
    let groups = UInt16Array::from_iter_values(keys.iter().map(|key| group(*key)));
    // Key 0 is NULL: nulls are keys like others.
    let names = keys.iter().map(|key| (*key > 0).then(|| format!("key-{key}"))).collect::<StringArray>();
    vec![Arc::new(groups), Arc::new(names)]
}

pub(crate) fn upserts(rows: &[(u8, i64, i64)]) -> RecordBatch {
    let mut columns = keys(&rows.iter().map(|row| row.0).collect::<Vec<_>>());
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))));
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))));
    RecordBatch::try_new(schema(), columns).expect("four columns")
}

fn deletes(rows: &[u8]) -> RecordBatch {
    RecordBatch::try_new(spec(false).delete_schema(), keys(rows)).expect("two columns")
}

pub(crate) fn delta(rows: &[(u8, i64, i64)], gone: &[u8], closed: Option<i64>) -> TableDelta {
    TableDelta { table: "counts".to_owned(), upserts: vec![upserts(rows)], deletes: vec![deletes(gone)], closed }
}

fn rows_of(table: &mut Table, store: &CheckpointStore) -> Vec<(u16, Option<String>, i64, i64)> {
    let mut rows = Vec::new();
    table
        .read_in_slices(store, SLICE_BYTES, &mut |batch| {
            for row in 0..batch.num_rows() {
                let name = batch.column(1).as_string::<i32>();
                rows.push((
                    batch.column(0).as_primitive::<UInt16Type>().value(row),
                    arrow::array::Array::is_valid(name, row).then(|| name.value(row).to_owned()),
                    batch.column(2).as_primitive::<Int64Type>().value(row),
                    batch.column(3).as_primitive::<Int64Type>().value(row),
                ));
            }
            Ok(())
        })
        .expect("reads");
    rows.sort();
    rows
}

#[derive(Clone, Debug)]
struct Step {
    rows: Vec<(u8, i64)>,
    gone: Vec<u8>,
    closed: Option<i64>,
    /// Begin a merge after this epoch's write, and take its result after the next one's.
    compacts: bool,
    /// Restore at this parallelism before the epoch.
    rescale: Option<u32>,
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop::collection::vec((0_u8..24, 0_i64..60), 0..8),
        prop::collection::vec(0_u8..24, 0..4),
        prop::option::weighted(0.3, 0_i64..50),
        prop::bool::weighted(0.4),
        prop::option::weighted(0.15, 1_u32..5),
    )
        .prop_map(|(rows, gone, closed, compacts, rescale)| Step { rows, gone, closed, compacts, rescale })
}

/// A merge of a part of the files, whatever [`compact::choose`] thinks: every part must do.
fn merge_of(table: &Table, count: usize) -> Option<Compaction> {
    let first = table.files.len().checked_sub(count).filter(|_| count > 0)?;
    Some(Compaction {
        spec: table.spec.clone(),
        range: table.range,
        files: table.files[first..].to_vec(),
        reaches_oldest: first == 0,
    })
}

/// What a manifest lists: the files of all subtasks, by epoch.
fn listed(tables: &[Table]) -> Vec<StateFile> {
    let mut listed: Vec<StateFile> = tables.iter().flat_map(|table| table.files().to_vec()).collect();
    listed.sort_by(|a, b| (a.epoch, &a.object).cmp(&(b.epoch, &b.object)));
    listed
}

fn check_against_model(steps: &[Step], append_only: bool) -> Result<(), TestCaseError> {
    let sim = Env::sim(1);
    let store = store(&sim.env);
    let mut tables = vec![Table::new(spec(append_only), range(0, GROUPS))];
    let mut pending: Vec<Option<Compacted>> = vec![None];
    let mut model: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
    let mut bag: Vec<(u8, i64, i64)> = Vec::new();
    let mut closed: Option<i64> = None;
    for (epoch, step) in (1_u64..).zip(steps) {
        if let Some(parallelism) = step.rescale {
            let listed = listed(&tables);
            let owned = |index| KeyGroupRange::of_subtask(GROUPS, parallelism, index);
            tables = (0..parallelism).map(|i| Table::restored(spec(append_only), owned(i), &listed)).collect();
            pending = vec![None; tables.len()];
        }
        let mut rows: BTreeMap<u8, i64> = step.rows.iter().copied().collect();
        let gone: Vec<u8> = if append_only { Vec::new() } else { step.gone.clone() };
        rows.retain(|key, _| !gone.contains(key) || key % 2 == 0);
        closed = closed.max(step.closed);
        for key in &gone {
            model.remove(key);
        }
        for (key, time) in &rows {
            model.insert(*key, (*time, epoch as i64));
            bag.push((*key, *time, epoch as i64));
        }
        model.retain(|_, (time, _)| Some(*time) > closed);
        bag.retain(|(_, time, _)| Some(*time) > closed);
        for (index, table) in tables.iter_mut().enumerate() {
            let owned = table.range;
            let rows: Vec<_> = rows
                .iter()
                .filter(|(key, _)| owned.contains(group(**key)))
                .map(|(key, time)| (*key, *time, epoch as i64))
                .collect();
            let gone: Vec<u8> = gone.iter().copied().filter(|key| owned.contains(group(*key))).collect();
            let mut writer = StateWriter::new(&store, origin(JOB, 1, epoch, index as u32));
            // A row or two in each file, now and then.
            let part_bytes = if epoch % 3 == 0 { 30 } else { PART_BYTES };
            table.write_in_parts(&delta(&rows, &gone, closed), &mut writer, part_bytes).expect("writes");
            if let Some(compacted) = pending[index].take() {
                table.replace(compacted);
            }
            if step.compacts {
                let compaction = table.compaction().or_else(|| merge_of(table, 1 + epoch as usize % 4));
                pending[index] =
                    compaction.map(|compaction| compaction.run(&store, &mut writer, SLICE_BYTES).expect("merges"));
            }
            prop_assert!(table.files().is_sorted_by_key(|file| file.epoch));
        }
        // Restored by the same owners, and by others.
        let listed = listed(&tables);
        for parallelism in [1, 3] {
            for index in 0..parallelism {
                let owned = KeyGroupRange::of_subtask(GROUPS, parallelism, index);
                let found = rows_of(&mut Table::restored(spec(append_only), owned, &listed), &store);
                let name = |key: u8| (key > 0).then(|| format!("key-{key}"));
                let all: Vec<(u8, i64, i64)> = if append_only {
                    bag.clone()
                } else {
                    model.iter().map(|(key, (time, value))| (*key, *time, *value)).collect()
                };
                let mut expected: Vec<_> = all
                    .into_iter()
                    .filter(|(key, ..)| owned.contains(group(*key)))
                    .map(|(key, time, value)| (group(key), name(key), time, value))
                    .collect();
                expected.sort();
                prop_assert_eq!(found, expected, "epoch {} of {} owned {:?}", epoch, parallelism, owned);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_table_agrees_with_a_map(steps in prop::collection::vec(step(), 1..24)) {
        check_against_model(&steps, false)?;
    }

    #[test]
    fn an_append_only_table_agrees_with_a_list(steps in prop::collection::vec(step(), 1..12)) {
        check_against_model(&steps, true)?;
    }
}

#[test]
fn a_merge_takes_the_place_of_its_own_entries_only() {
    let sim = Env::sim(7);
    let store = store(&sim.env);
    let mut old = Table::new(spec(true), range(0, GROUPS));
    let mut writer = StateWriter::new(&store, origin(JOB, 1, 1, 0));
    old.write(&delta(&[(0, 41, 1), (7, 42, 1)], &[], None), &mut writer).expect("writes");
    // Listed by two owners of which neither had the groups between: two entries of one object.
    let entry = |start, end| StateFile { key_groups: range(start, end), ..old.files()[0].clone() };
    let mut table = Table::restored(spec(true), range(0, GROUPS), &[entry(0, 2), entry(6, 8)]);
    assert_eq!(table.files().len(), 2);
    let mut writer = StateWriter::new(&store, origin(JOB, 1, 2, 0));
    let newest = merge_of(&table, 1).expect("one file").run(&store, &mut writer, SLICE_BYTES).expect("merges");
    table.replace(newest);
    assert_eq!(rows_of(&mut table, &store).len(), 2);
    // Side by side they are one entry.
    let table = Table::restored(spec(true), range(0, GROUPS), &[entry(0, 2), entry(2, 5), entry(5, 8)]);
    assert_eq!(table.files(), old.files());
}

#[test]
fn the_number_of_files_stays_small_and_old_rows_are_seldom_rewritten() {
    let sim = Env::sim(2);
    let store = store(&sim.env);
    let mut table = Table::new(spec(false), range(0, GROUPS));
    let mut written = 0;
    for epoch in 1..400 {
        let mut writer = StateWriter::new(&store, origin(JOB, 1, epoch, 0));
        let rows: Vec<_> = (0..20).map(|i| ((epoch * 20 + i) as u8, 100, epoch as i64)).collect();
        table.write(&delta(&rows, &[], None), &mut writer).expect("writes");
        if let Some(compaction) = table.compaction() {
            let compacted = compaction.run(&store, &mut writer, SLICE_BYTES).expect("merges");
            written += compacted.files.iter().map(|file| file.rows).sum::<u64>();
            table.replace(compacted);
        }
        assert!(table.runs() <= qanat_proto::limits::STATE_FILES_PER_TABLE_MAX);
    }
    assert_eq!(rows_of(&mut table, &store).len(), 256);
    assert!(written < 400 * 20 * 4, "{written} rows rewritten");
}

#[test]
fn dead_files_go_without_being_read() {
    let sim = Env::sim(3);
    let store = store(&sim.env);
    let mut table = Table::new(spec(false), range(0, GROUPS));
    for epoch in 1..=5_u8 {
        let mut writer = StateWriter::new(&store, origin(JOB, 1, u64::from(epoch), 0));
        let time = i64::from(epoch) * 10;
        table.write(&delta(&[(epoch, time, 1)], &[], Some(time - 25)), &mut writer).expect("writes");
    }
    assert_eq!(table.files().len(), 3);
    let mut writer = StateWriter::new(&store, origin(JOB, 1, 6, 0));
    table.write(&delta(&[], &[], Some(50)), &mut writer).expect("writes");
    assert!(table.files().is_empty(), "nothing is left, so nothing is written");
}

#[test]
fn wrong_rows_are_refused_and_change_nothing() {
    let sim = Env::sim(4);
    let store = store(&sim.env);
    let mut table = Table::new(spec(false), range(0, 2));
    let mut writer = StateWriter::new(&store, origin(JOB, 1, 1, 0));
    let foreign = table.write(&delta(&[(3, 1, 1)], &[], None), &mut writer).expect_err("group 3 is another's");
    assert_eq!(foreign.code(), Code::Invariant);
    let other = TableDelta { table: "other".to_owned(), ..delta(&[], &[], None) };
    assert_eq!(table.write(&other, &mut writer).expect_err("another table").code(), Code::Internal);
    let mut bag = Table::new(spec(true), range(0, GROUPS));
    assert!(bag.write(&delta(&[], &[1], None), &mut writer).is_err());
    let shape = TableDelta { upserts: vec![deletes(&[1])], ..delta(&[], &[], None) };
    assert!(table.write(&shape, &mut writer).is_err());
    assert!(table.files().is_empty());
    table.write(&delta(&[(1, 1, 1)], &[], None), &mut writer).expect("writes");

    let mut changed = spec(false);
    changed.schema = Arc::new(Schema::new(vec![
        Field::new("group", DataType::UInt16, false),
        Field::new("key", DataType::Int64, true),
        Field::new("time", DataType::Int64, false),
    ]));
    let mut table = Table::restored(changed, range(0, GROUPS), table.files());
    assert_eq!(table.read(&store, &mut |_| Ok(())).expect_err("another shape").code(), Code::UnknownVersion);
}

#[test]
fn large_files_are_read_in_parts() {
    let sim = Env::sim(5);
    let store = store(&sim.env);
    let count = 120_000_i64;
    let groups = UInt16Array::from_iter_values((0..count).map(|i| (i * 7 % 256) as u16));
    let keys = (0..count).map(|i| Some(format!("key-{i}"))).collect::<StringArray>();
    let times = Int64Array::from_iter_values(0..count);
    let columns: Vec<ArrayRef> = vec![Arc::new(groups), Arc::new(keys), Arc::new(times.clone()), Arc::new(times)];
    let batch = RecordBatch::try_new(schema(), columns).expect("four columns");
    let mut table = Table::new(spec(false), range(0, 256));
    let mut writer = StateWriter::new(&store, origin(JOB, 1, 1, 0));
    let delta = TableDelta { upserts: vec![batch], ..delta(&[], &[], None) };
    table.write(&delta, &mut writer).expect("writes");

    struct Counting<'a>(&'a CheckpointStore, std::cell::Cell<u64>);
    impl StateBytes for Counting<'_> {
        fn read(&self, object: &str, range: std::ops::Range<u64>) -> Result<bytes::Bytes> {
            self.1.set(self.1.get() + range.end - range.start);
            self.0.read(object, range)
        }
    }
    let source = Counting(&store, std::cell::Cell::new(0));
    let mut part = Table::restored(spec(false), range(16, 32), table.files());
    let mut rows = 0;
    part.read(&source, &mut |batch| {
        rows += batch.num_rows();
        Ok(())
    })
    .expect("reads");
    assert_eq!(rows, (0..count).filter(|i| (16..32).contains(&(i * 7 % 256))).count());
    assert!(source.1.get() * 4 < table.files()[0].bytes, "{} of {}", source.1.get(), table.files()[0].bytes);
}
