//! What the operator tests share: rows, expressions, state that survives a restore, and a driver.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, UInt16Type};
use arrow::util::display::array_value_to_string;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use qanat_proto::changelog::Changelog;
use qanat_proto::graph::EncodedExpr;
use qanat_proto::ids::{KeyGroupRange, owner_of};
use qanat_storage::state::TableDelta;

use crate::operator::{BoxedOperator, Operator, OperatorContext, Output};

pub(super) const KEY_GROUPS: u16 = 16;

pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

pub(super) fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<Field> = fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

pub(super) fn encoded(expr: &Expr, schema: &SchemaRef) -> EncodedExpr {
    let schema = DFSchema::try_from(Arc::clone(schema)).expect("a schema");
    qanat_sql::expr::encode(expr, &schema).expect("encodes")
}

pub(super) fn context(
    inputs: Vec<SchemaRef>,
    partition: Vec<Vec<usize>>,
    output: SchemaRef,
    (parallelism, index): (u32, u32),
) -> OperatorContext {
    OperatorContext {
        name: "test".to_owned(),
        key_groups: KEY_GROUPS,
        range: KeyGroupRange::of_subtask(KEY_GROUPS, parallelism, index),
        inputs,
        partition,
        output,
        changelog: Changelog::Append,
        ttl_ms: [0; 2],
        spills: false,
        batch_rows: 7,
    }
}

pub(super) fn integers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

pub(super) fn floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(values))
}

pub(super) fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter(values))
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), columns).expect("columns fit")
}

/// Rows as text, in order.
pub(super) fn lines<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &ArrayRef| {
                if column.is_null(row) { "-".to_owned() } else { array_value_to_string(column, row).expect("prints") }
            };
            lines.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

pub(super) fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// State tables as the checkpoint store keeps them: the fold of all deltas.
#[derive(Clone, Default)]
pub(super) struct Store {
    tables: BTreeMap<String, Vec<Row>>,
    next: u64,
}

#[derive(Clone)]
struct Row {
    key: String,
    batch: RecordBatch,
    time: Option<i64>,
}

impl Store {
    pub(super) fn apply(&mut self, operator: &BoxedOperator, deltas: Vec<TableDelta>) {
        for delta in deltas {
            let spec = operator.tables().into_iter().find(|t| t.name == delta.table).expect("a known table");
            let rows = self.tables.entry(delta.table.clone()).or_default();
            let key_of = |batch: &RecordBatch, row: usize| {
                let keys: Vec<usize> = (0..=spec.key_columns).collect();
                lines([&batch.slice(row, 1).project(&keys).expect("keys")]).remove(0)
            };
            for deleted in &delta.deletes {
                for row in 0..deleted.num_rows() {
                    let key = key_of(deleted, row);
                    rows.retain(|r| r.key != key);
                }
            }
            for batch in &delta.upserts {
                assert_eq!(batch.schema(), spec.schema);
                for row in 0..batch.num_rows() {
                    let mut key = key_of(batch, row);
                    if spec.append_only {
                        key = format!("{}", self.next);
                        self.next += 1;
                    } else {
                        rows.retain(|r| r.key != key);
                    }
                    let time = spec.time_column.map(|c| batch.column(c).as_primitive::<Int64Type>().value(row));
                    rows.push(Row { key, batch: batch.slice(row, 1), time });
                }
            }
            if let Some(closed) = delta.closed {
                rows.retain(|r| r.time.is_none_or(|time| time > closed));
            }
        }
    }

    /// Restores the rows of one subtask, last rows first: the order must not matter.
    pub(super) fn restore(
        &self,
        operator: &mut BoxedOperator,
        (parallelism, index): (u32, u32),
        watermark: Option<i64>,
    ) {
        for (table, rows) in &self.tables {
            let own = |row: &&Row| {
                let group = row.batch.column(0).as_primitive::<UInt16Type>().value(0);
                owner_of(group, KEY_GROUPS, parallelism) == index
            };
            let batches: Vec<RecordBatch> = rows.iter().rev().filter(own).map(|row| row.batch.clone()).collect();
            for chunk in batches.chunks(5) {
                let rows = arrow::compute::concat_batches(&chunk[0].schema(), chunk).expect("one schema");
                operator.restore(table, rows).expect("restores");
            }
        }
        operator.restored(watermark).expect("restored");
    }

    pub(super) fn rows(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }
}

/// Everything that came out.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) rows: Vec<RecordBatch>,
    pub(super) late: Vec<RecordBatch>,
    pub(super) dead: Vec<RecordBatch>,
}

impl Collected {
    pub(super) fn add(&mut self, out: Output) {
        assert!(out.batches.iter().all(|batch| batch.num_rows() <= 7), "a batch is larger than batch_rows");
        self.rows.extend(out.batches);
        self.late.extend(out.late.into_iter().map(|late| late.rows));
        self.dead.extend(out.dead.into_iter().map(|dead| dead.rows));
    }
}

/// What happens to an operator.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Rows {
        port: usize,
        rows: RecordBatch,
    },
    Watermark(i64),
    Snapshot,
    /// Everything since the last snapshot is lost and happens again, at another parallelism.
    Restore {
        parallelism: u32,
    },
}

type Subtasks = Vec<BoxedOperator>;

/// Drives an operator through events at a parallelism that changes, rows spread by `partition`. Crashes
/// are real: what came after the last snapshot is thrown away and done again.
pub(super) fn run(events: &[Event], partition: &[Vec<usize>], make: &dyn Fn((u32, u32)) -> BoxedOperator) -> Collected {
    let (collected, left) = run_leaving(events, partition, make);
    assert_eq!(left, 0, "state is left when all input has ended");
    collected
}

/// As [`run`], for operators whose state does not end with the input: how many rows of it are left.
pub(super) fn run_leaving(
    events: &[Event],
    partition: &[Vec<usize>],
    make: &dyn Fn((u32, u32)) -> BoxedOperator,
) -> (Collected, usize) {
    let mut parallelism = 1;
    let mut subtasks: Subtasks = vec![make((1, 0))];
    let (mut store, mut watermark) = (Store::default(), i64::MIN);
    // As of the last snapshot: position, watermark, and how much had come out.
    let mut saved = (0, i64::MIN, (0, 0, 0));
    let mut collected = Collected::default();
    let mut restored = std::collections::BTreeSet::new();
    let mut at = 0;
    while at < events.len() {
        match &events[at] {
            Event::Rows { port, rows } => {
                for (index, part) in spread(rows, &partition[*port], parallelism) {
                    let mut out = Output::default();
                    subtasks[index as usize].process(*port, part, &mut out).expect("processes");
                    finish(subtasks[index as usize].as_mut(), &mut out);
                    collected.add(out);
                }
            }
            Event::Watermark(to) => {
                watermark = watermark.max(*to);
                advance(&mut subtasks, watermark, &mut collected);
            }
            Event::Snapshot => {
                for operator in &mut subtasks {
                    let mut out = Output::default();
                    operator.flush(&mut out).expect("flushes");
                    collected.add(out);
                    let deltas = operator.snapshot().expect("snapshots");
                    store.apply(operator, deltas);
                }
                saved = (at + 1, watermark, (collected.rows.len(), collected.late.len(), collected.dead.len()));
            }
            Event::Restore { parallelism: wanted } => {
                // Each crash happens once.
                if restored.insert(at) {
                    (at, watermark) = (saved.0, saved.1);
                    let (rows, late, dead) = saved.2;
                    collected.rows.truncate(rows);
                    collected.late.truncate(late);
                    collected.dead.truncate(dead);
                    parallelism = *wanted;
                    subtasks = (0..parallelism).map(|index| make((parallelism, index))).collect();
                    for (index, operator) in subtasks.iter_mut().enumerate() {
                        let restored = (watermark > i64::MIN).then_some(watermark);
                        store.restore(operator, (parallelism, index as u32), restored);
                    }
                    continue;
                }
            }
        }
        at += 1;
    }
    advance(&mut subtasks, i64::MAX, &mut collected);
    for operator in &mut subtasks {
        let deltas = operator.snapshot().expect("snapshots");
        store.apply(operator, deltas);
        let counts = operator.take_counts();
        assert_eq!(counts.rows_in, counts.accumulated + counts.late + counts.dead_lettered, "I13");
    }
    (collected, store.rows())
}

fn advance(subtasks: &mut Subtasks, watermark: i64, collected: &mut Collected) {
    for operator in subtasks {
        let mut out = Output::default();
        let behind = operator.on_watermark(watermark, &mut out).expect("fires");
        assert!(behind <= watermark && (watermark < i64::MAX || behind == watermark), "{behind} behind {watermark}");
        finish(operator.as_mut(), &mut out);
        collected.add(out);
    }
}

/// Lets an operator do what its last call left to do.
pub(super) fn finish(operator: &mut dyn Operator, out: &mut Output) {
    while operator.resume(out).expect("goes on") {}
}

pub(super) fn spread(rows: &RecordBatch, columns: &[usize], parallelism: u32) -> Vec<(u32, RecordBatch)> {
    if columns.is_empty() || rows.num_rows() == 0 {
        return vec![(0, rows.clone())];
    }
    qanat_executor_core::partition::partition_batch(rows, columns, KEY_GROUPS, parallelism).expect("partitions")
}

/// A step of a random history; times of rows are relative to the watermark of the moment.
#[derive(Clone, Debug)]
pub(super) enum Step<R> {
    Rows(usize, Vec<(i64, R)>),
    Advance(i64),
    Snapshot,
    Restore(u32),
}

pub(super) fn steps<R: std::fmt::Debug + Clone>(
    ports: usize,
    row: impl proptest::strategy::Strategy<Value = R> + 'static,
) -> impl proptest::strategy::Strategy<Value = Vec<Step<R>>> {
    use proptest::prelude::*;
    let row = row.boxed();
    let step = prop_oneof![
        6 => (0..ports, prop::collection::vec((-25_i64..25, row), 0..25)).prop_map(|(port, rows)| Step::Rows(port, rows)),
        3 => (0_i64..20).prop_map(Step::Advance),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ];
    prop::collection::vec(step, 0..16)
}

/// Turns steps into events; `rows_of` makes a batch of rows with absolute times, and hears the watermark
/// by which they will be judged.
pub(super) fn events<R: Clone>(
    steps: &[Step<R>],
    mut rows_of: impl FnMut(usize, Vec<(i64, R)>, i64) -> RecordBatch,
) -> Vec<Event> {
    let (mut clock, mut watermark) = (0, i64::MIN);
    let event = |step: &Step<R>| match step {
        Step::Rows(port, rows) => {
            let rows = rows.iter().map(|(offset, row)| (clock + offset, row.clone())).collect();
            Event::Rows { port: *port, rows: rows_of(*port, rows, watermark) }
        }
        Step::Advance(by) => {
            clock += by;
            watermark = clock;
            Event::Watermark(clock)
        }
        Step::Snapshot => Event::Snapshot,
        Step::Restore(parallelism) => Event::Restore { parallelism: *parallelism },
    };
    steps.iter().map(event).collect()
}

/// A time as rows print it.
pub(super) fn shown(time_ms: i64) -> String {
    let column = times([Some(time_ms)]);
    array_value_to_string(&column, 0).expect("prints")
}
