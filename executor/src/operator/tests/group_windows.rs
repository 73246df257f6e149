//! Groups of windows that are told before they close against a model that takes the same rows, watermarks and clocks.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::changelog::{Changelog, RowKind, with_kinds};
use qanat_proto::graph::{AggregateCall, GroupAggregateNode, WindowTelling};

use super::harness::{
    Store, batch, context, encoded, finish, integers, lines, schema, shown, spread, times, timestamp,
};
use crate::operator::group::GroupAggregate;
use crate::operator::{BoxedOperator, OperatorContext, Output};

const SIZE: i64 = 10;

/// Key, value, and how far its window's end is from the watermark.
type Row = (i64, i64, i64);

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int64), ("e", timestamp())])
}

fn call(name: &str, function: &str, distinct: bool) -> AggregateCall {
    AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args: vec![encoded(&col("v"), &columns())],
        distinct,
        filter: None,
        order_by: Vec::new(),
        ignore_nulls: false,
    }
}

fn output() -> SchemaRef {
    let fields = [("k", DataType::Int64), ("e", timestamp()), ("n", DataType::Int64), ("s", DataType::Int64)];
    let fields: Vec<Field> = fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect();
    with_kinds(&Schema::new(fields))
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Advance(i64),
    /// The clock goes on by far.
    Tick,
    Snapshot,
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0_i64..3, 0_i64..9, -4_i64..3), 1..12).prop_map(Step::Rows),
        4 => (1_i64..25).prop_map(Step::Advance),
        3 => Just(Step::Tick),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

/// What should be.
#[derive(Clone, Default)]
struct Model {
    /// By key and end of open windows: values, and whether they have changed since they were told.
    open: BTreeMap<(i64, i64), (Vec<i64>, bool)>,
    /// What was told, closed windows included.
    told: BTreeMap<(i64, i64), String>,
    watermark: i64,
    late: u64,
}

impl Model {
    fn tell(&mut self, is_wanted: impl Fn(i64) -> bool) {
        for ((k, end), (values, has_changed)) in self.open.iter_mut().filter(|((_, end), _)| is_wanted(*end)) {
            if std::mem::take(has_changed) {
                let distinct: std::collections::BTreeSet<&i64> = values.iter().collect();
                let line = format!("{k}|{}|{}|{}", shown(*end), distinct.len(), values.iter().sum::<i64>());
                self.told.insert((*k, *end), line);
            }
        }
    }
}

struct Trial {
    node: GroupAggregateNode,
    changelog: Changelog,
    subtasks: Vec<BoxedOperator>,
    clock: i64,
    model: Model,
    /// By key and end, as text.
    kept: BTreeMap<(String, String), String>,
}

impl Trial {
    fn make(&self, subtask: (u32, u32)) -> BoxedOperator {
        let context = context(vec![columns()], vec![vec![0, 2]], output(), subtask);
        let context = OperatorContext { changelog: self.changelog.clone(), ..context };
        Box::new(GroupAggregate::new(&self.node, context).expect("builds"))
    }

    /// Does something with each subtask, and takes what comes.
    fn each(&mut self, mut act: impl FnMut(usize, &mut BoxedOperator, &mut Output)) -> u64 {
        let mut late = 0;
        for index in 0..self.subtasks.len() {
            let mut out = Output::default();
            act(index, &mut self.subtasks[index], &mut out);
            finish(self.subtasks[index].as_mut(), &mut out);
            late += out.late.iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
            for batch in &out.batches {
                self.apply(batch);
            }
        }
        late
    }

    fn apply(&mut self, batch: &RecordBatch) {
        let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
        let cells = batch.project(&[0, 1, 2, 3]).expect("columns");
        for (line, kind) in lines([&cells]).into_iter().zip(kinds.values()) {
            let mut parts = line.split('|').map(str::to_owned);
            let key = (parts.next().expect("a key"), parts.next().expect("an end"));
            let before = if RowKind::of_code(*kind).expect("a kind").is_added() {
                self.kept.insert(key, line.clone())
            } else {
                self.kept.remove(&key)
            };
            match (RowKind::of_code(*kind).expect("a kind"), &self.changelog) {
                (RowKind::Insert, _) => assert_eq!(before, None, "{line} is not new"),
                (RowKind::UpdateAfter, Changelog::Retract) => assert_eq!(before, None, "{line} was not taken back"),
                (RowKind::UpdateBefore, _) => assert_eq!(before, Some(line), "it takes back another row"),
                (RowKind::UpdateAfter, _) => assert!(before.is_some_and(|before| before != line), "{line} is no news"),
                (RowKind::Delete, _) => panic!("{line} goes"),
            }
        }
    }

    fn check(&self, when: &str) {
        let kept: Vec<&String> = self.kept.values().collect();
        let mut told: Vec<&String> = self.model.told.values().collect();
        let mut kept_sorted = kept.clone();
        kept_sorted.sort();
        told.sort();
        assert_eq!(kept_sorted, told, "{when}");
    }

    fn give(&mut self, rows: &[Row]) {
        let lateness = self.node.windows.expect("windows").allowed_lateness_ms;
        let base = self.model.watermark.max(0) / SIZE * SIZE;
        let rows: Vec<Row> = rows.iter().map(|(k, v, far)| (*k, *v, base + far * SIZE)).collect();
        for (k, v, end) in &rows {
            if end + lateness <= self.model.watermark {
                self.model.late += 1;
            } else {
                let group = self.model.open.entry((*k, *end)).or_default();
                group.0.push(*v);
                group.1 = true;
            }
        }
        let rows = batch(
            &columns(),
            vec![
                integers(rows.iter().map(|row| Some(row.0))),
                integers(rows.iter().map(|row| Some(row.1))),
                times(rows.iter().map(|row| Some(row.2))),
            ],
        );
        let mut parts: BTreeMap<u32, RecordBatch> =
            spread(&rows, &[0, 2], self.subtasks.len() as u32).into_iter().collect();
        let clock = self.clock;
        let late = self.each(|index, subtask, out| {
            // As a task does before each batch.
            subtask.on_processing_time(clock, out).expect("goes on");
            if let Some(part) = parts.remove(&(index as u32)) {
                subtask.process(0, part, out).expect("processes");
            }
        });
        self.model.late -= late;
        assert_eq!(self.model.late, 0, "late rows");
    }

    fn advance(&mut self, to: i64) {
        let WindowTelling { allowed_lateness_ms, late_ms, .. } = self.node.windows.expect("windows");
        let from = std::mem::replace(&mut self.model.watermark, to);
        let is_closed = |end: i64| end.saturating_add(allowed_lateness_ms) <= to;
        self.model.tell(|end| end <= to && (late_ms.is_some() || end > from || is_closed(end)));
        self.model.open.retain(|(_, end), _| !is_closed(*end));
        self.each(|_, subtask, out| {
            assert_eq!(subtask.on_watermark(to, out).expect("goes on"), to);
        });
        self.check("behind a watermark");
    }

    fn tick(&mut self) {
        let WindowTelling { early_ms, late_ms, .. } = self.node.windows.expect("windows");
        let watermark = self.model.watermark;
        self.model.tell(|end| if end > watermark { early_ms.is_some() } else { late_ms.is_some() });
        for _ in 0..2 {
            self.clock += 1_000;
            let clock = self.clock;
            self.each(|_, subtask, out| subtask.on_processing_time(clock, out).expect("ticks"));
        }
        self.check("behind a tick");
    }

    fn run(mut self, steps: &[Step]) {
        self.subtasks = vec![self.make((1, 0))];
        let mut store = Store::default();
        let mut saved = (0, self.model.clone(), self.kept.clone());
        let mut crashed = std::collections::BTreeSet::new();
        let mut at = 0;
        while at < steps.len() {
            match &steps[at] {
                Step::Rows(rows) => self.give(rows),
                Step::Advance(by) => self.advance(self.model.watermark.max(0) + by),
                Step::Tick => self.tick(),
                Step::Snapshot => {
                    let watermark = self.model.watermark;
                    if self.node.windows.expect("windows").late_ms.is_some() {
                        self.model.tell(|end| end <= watermark);
                    }
                    self.each(|_, subtask, out| subtask.flush(out).expect("flushes"));
                    self.check("behind a flush");
                    for operator in &mut self.subtasks {
                        let deltas = operator.snapshot().expect("snapshots");
                        store.apply(operator, deltas);
                    }
                    saved = (at + 1, self.model.clone(), self.kept.clone());
                }
                Step::Restore(parallelism) => {
                    if crashed.insert(at) {
                        at = saved.0;
                        (self.model, self.kept) = (saved.1.clone(), saved.2.clone());
                        self.subtasks = (0..*parallelism).map(|index| self.make((*parallelism, index))).collect();
                        let watermark = (self.model.watermark > i64::MIN).then_some(self.model.watermark);
                        for (index, operator) in self.subtasks.iter_mut().enumerate() {
                            store.restore(operator, (*parallelism, index as u32), watermark);
                        }
                        continue;
                    }
                }
            }
            at += 1;
        }
        self.advance(i64::MAX);
        for operator in &mut self.subtasks {
            let deltas = operator.snapshot().expect("snapshots");
            store.apply(operator, deltas);
            let counts = operator.take_counts();
            assert_eq!(counts.rows_in, counts.accumulated + counts.late + counts.dead_lettered, "I13");
        }
        assert_eq!(store.rows(), 0, "state is left when all input has ended");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_told_before_they_close(
        steps in prop::collection::vec(step(), 0..32),
        early in any::<bool>(),
        late in any::<bool>(),
        allowed_lateness_ms in prop::sample::select(vec![0_i64, 15]),
        is_upsert in any::<bool>(),
    ) {
        let windows = WindowTelling {
            end: 1,
            allowed_lateness_ms,
            early_ms: early.then_some(100),
            late_ms: late.then_some(100),
        };
        let trial = Trial {
            node: GroupAggregateNode {
                keys: vec![0, 2],
                aggregates: vec![call("n", "count", true), call("s", "sum", false)],
                mini_batch_ms: 100,
                windows: Some(windows),
            },
            changelog: if is_upsert { Changelog::Upsert { key: vec![0, 1] } } else { Changelog::Retract },
            subtasks: Vec::new(),
            clock: 0,
            model: Model { watermark: i64::MIN, ..Model::default() },
            kept: BTreeMap::new(),
        };
        trial.run(&steps);
    }
}
