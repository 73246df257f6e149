//! Aggregation without a window against aggregation of all that is there, after every flush.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use datafusion_expr::{Expr, col, lit};
use proptest::prelude::*;
use qanat_proto::changelog::{Changelog, RowKind, with_kinds};
use qanat_proto::graph::{AggregateCall, GroupAggregateNode};

use super::harness::{Store, batch, context, encoded, floats, integers, lines, schema, spread};
use super::spilling::Spilling;
use crate::operator::group::GroupAggregate;
use crate::operator::{BoxedOperator, OperatorContext, Output};

/// Key, whole number, real number in quarters.
type Row = (Option<i64>, Option<i64>, Option<i64>);

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int64), ("f", DataType::Float64)])
}

fn rows(rows: &[(Row, RowKind)], retracts: bool) -> RecordBatch {
    let mut cells: Vec<ArrayRef> = vec![
        integers(rows.iter().map(|(row, _)| row.0)),
        integers(rows.iter().map(|(row, _)| row.1)),
        floats(rows.iter().map(|(row, _)| row.2.map(|quarters| quarters as f64 / 4.0))),
    ];
    if !retracts {
        return batch(&columns(), cells);
    }
    cells.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|(_, kind)| kind.code()))));
    batch(&with_kinds(&columns()), cells)
}

fn call(name: &str, function: &str, argument: Option<&Expr>) -> AggregateCall {
    let args = argument.map(|argument| encoded(argument, &columns())).into_iter().collect();
    let (distinct, filter, order_by, ignore_nulls) = (false, None, Vec::new(), false);
    AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args,
        distinct,
        filter,
        order_by,
        ignore_nulls,
    }
}

fn calls() -> Vec<AggregateCall> {
    let (v, f) = (col("v"), col("f"));
    let mut distinct = call("distinct", "count", Some(&v));
    distinct.distinct = true;
    let mut filtered = call("filtered", "sum", Some(&v));
    filtered.filter = Some(encoded(&v.clone().gt(lit(2_i64)), &columns()));
    vec![
        call("rows", "count", None),
        call("values", "count", Some(&v)),
        call("sum", "sum", Some(&v)),
        call("real", "sum", Some(&f)),
        call("mean", "avg", Some(&f)),
        call("least", "min", Some(&v)),
        call("most", "max", Some(&f)),
        distinct,
        filtered,
        call("all", "bool_and", Some(&v.gt(lit(1_i64)))),
    ]
}

fn output(is_global: bool) -> SchemaRef {
    let mut fields = if is_global { vec![] } else { vec![Field::new("k", DataType::Int64, true)] };
    let types = [
        DataType::Int64,
        DataType::Int64,
        DataType::Int64,
        DataType::Float64,
        DataType::Float64,
        DataType::Int64,
        DataType::Float64,
        DataType::Int64,
        DataType::Int64,
        DataType::Boolean,
    ];
    fields.extend(types.into_iter().enumerate().map(|(at, t)| Field::new(format!("call {at}"), t, true)));
    with_kinds(&Arc::new(Schema::new(fields)))
}

/// What a group should say, from the rows it has.
fn expected(key: Option<Option<i64>>, rows: &[Row]) -> String {
    let shown = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let real = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:?}"));
    let whole: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
    let reals: Vec<f64> = rows.iter().filter_map(|row| row.2.map(|quarters| quarters as f64 / 4.0)).collect();
    let sum = |values: &[i64]| (!values.is_empty()).then(|| values.iter().sum::<i64>());
    let total = (!reals.is_empty()).then(|| reals.iter().sum::<f64>());
    let distinct: std::collections::BTreeSet<i64> = whole.iter().copied().collect();
    let large: Vec<i64> = whole.iter().copied().filter(|value| *value > 2).collect();
    let all = (!whole.is_empty()).then(|| whole.iter().all(|value| *value > 1));
    let cells = [
        rows.len().to_string(),
        whole.len().to_string(),
        shown(sum(&whole)),
        real(total),
        real(total.map(|total| total / reals.len() as f64)),
        shown(whole.iter().copied().min()),
        real(reals.iter().copied().reduce(f64::max)),
        distinct.len().to_string(),
        shown(sum(&large)),
        all.map_or_else(|| "-".to_owned(), |all| all.to_string()),
    ];
    key.map(shown).into_iter().chain(cells).collect::<Vec<_>>().join("|")
}

/// A table that a changelog keeps: lines by key.
#[derive(Clone, Default)]
struct Kept(BTreeMap<String, String>);

impl Kept {
    fn apply(&mut self, out: &Output, changelog: &Changelog, is_global: bool) {
        for batch in &out.batches {
            let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
            let cells = batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).expect("columns");
            for (line, kind) in lines([&cells]).into_iter().zip(kinds.values()) {
                let key = if is_global { String::new() } else { line.split('|').next().expect("a key").to_owned() };
                let kind = RowKind::of_code(*kind).expect("a kind");
                let before = if kind.is_added() { self.0.insert(key, line.clone()) } else { self.0.remove(&key) };
                match (kind, changelog) {
                    (RowKind::Insert, _) => assert_eq!(before, None, "{line} is not new"),
                    (RowKind::UpdateAfter, Changelog::Retract) => assert_eq!(before, None, "{line} was not taken back"),
                    (RowKind::UpdateBefore, Changelog::Retract) | (RowKind::Delete, _) => {
                        assert_eq!(before, Some(line), "it takes back another row");
                    }
                    (RowKind::UpdateAfter, _) => {
                        assert!(before.is_some_and(|before| before != line), "{line} is no news")
                    }
                    (RowKind::UpdateBefore, _) => panic!("{line} is taken back, and its key has what it becomes"),
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Row>),
    /// By place among the rows that are there.
    Retract(Vec<usize>),
    Flush,
    Snapshot,
    /// All since the last snapshot is lost and done again, at another parallelism.
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::option::weighted(0.8, 0_i64..6);
    prop_oneof![
        5 => prop::collection::vec((value(), value(), value()), 1..20).prop_map(Step::Add),
        4 => prop::collection::vec(any::<usize>(), 1..15).prop_map(Step::Retract),
        3 => Just(Step::Flush),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

/// One trial: operators at a parallelism, what they have told and what they should.
struct Trial {
    retracts: bool,
    spills: bool,
    is_global: bool,
    changelog: Changelog,
    subtasks: Vec<BoxedOperator>,
    there: Vec<Row>,
    /// A group without a key is there once it had rows.
    has_begun: bool,
    kept: Kept,
}

impl Trial {
    fn make(&self, subtask: (u32, u32)) -> BoxedOperator {
        let input = if self.retracts { with_kinds(&columns()) } else { columns() };
        let keys = if self.is_global { vec![] } else { vec![0] };
        let node = GroupAggregateNode { keys: keys.clone(), aggregates: calls(), mini_batch_ms: 100, windows: None };
        let context = context(vec![input], vec![keys], output(self.is_global), subtask);
        let context = OperatorContext { changelog: self.changelog.clone(), spills: self.spills, ..context };
        let groups = Box::new(GroupAggregate::new(&node, context).expect("builds"));
        if self.spills { Box::new(Spilling::new(groups)) } else { groups }
    }

    fn give(&mut self, rows: &RecordBatch) {
        let keys: &[usize] = if self.is_global { &[] } else { &[0] };
        for (index, part) in spread(rows, keys, self.subtasks.len() as u32) {
            let mut out = Output::default();
            self.subtasks[index as usize].process(0, part, &mut out).expect("processes");
            self.kept.apply(&out, &self.changelog, self.is_global);
        }
    }

    fn flush(&mut self) {
        for operator in &mut self.subtasks {
            let mut out = Output::default();
            operator.flush(&mut out).expect("flushes");
            assert!(out.batches.iter().all(|batch| batch.num_rows() <= 7));
            self.kept.apply(&out, &self.changelog, self.is_global);
        }
        let mut groups: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
        for row in &self.there {
            groups.entry(if self.is_global { None } else { row.0 }).or_default().push(*row);
        }
        if self.is_global && self.has_begun {
            groups.entry(None).or_default();
        }
        let key = |key: Option<i64>| (!self.is_global).then_some(key);
        let mut wanted: Vec<String> = groups.iter().map(|(group, rows)| expected(key(*group), rows)).collect();
        wanted.sort();
        let mut found: Vec<String> = self.kept.0.values().cloned().collect();
        found.sort();
        assert_eq!(found, wanted);
    }

    fn run(mut self, steps: &[Step]) {
        self.subtasks = vec![self.make((1, 0))];
        let mut store = Store::default();
        let mut saved = (0, self.there.clone(), self.has_begun, self.kept.clone());
        let mut crashed = std::collections::BTreeSet::new();
        let mut at = 0;
        while at < steps.len() {
            match &steps[at] {
                Step::Add(new) => {
                    let new: Vec<(Row, RowKind)> = new.iter().map(|row| (*row, RowKind::Insert)).collect();
                    self.there.extend(new.iter().map(|(row, _)| *row));
                    self.has_begun = true;
                    self.give(&rows(&new, self.retracts));
                }
                Step::Retract(picks) if self.retracts => {
                    let mut gone = Vec::new();
                    for pick in picks {
                        if !self.there.is_empty() {
                            let row = self.there.swap_remove(pick % self.there.len());
                            gone.push((row, if pick % 2 == 0 { RowKind::Delete } else { RowKind::UpdateBefore }));
                        }
                    }
                    self.give(&rows(&gone, true));
                }
                Step::Retract(_) => {}
                Step::Flush => self.flush(),
                Step::Snapshot => {
                    self.flush();
                    for operator in &mut self.subtasks {
                        let deltas = operator.snapshot().expect("snapshots");
                        store.apply(operator, deltas);
                    }
                    saved = (at + 1, self.there.clone(), self.has_begun, self.kept.clone());
                }
                Step::Restore(parallelism) => {
                    if crashed.insert(at) {
                        at = saved.0;
                        (self.there, self.has_begun, self.kept) = (saved.1.clone(), saved.2, saved.3.clone());
                        self.subtasks = (0..*parallelism).map(|index| self.make((*parallelism, index))).collect();
                        for (index, operator) in self.subtasks.iter_mut().enumerate() {
                            store.restore(operator, (*parallelism, index as u32), None);
                        }
                        continue;
                    }
                }
            }
            at += 1;
        }
        self.flush();
        // Groups that are gone are gone from the state.
        if self.retracts {
            let all: Vec<(Row, RowKind)> = self.there.drain(..).map(|row| (row, RowKind::Delete)).collect();
            self.give(&rows(&all, true));
            self.flush();
            for operator in &mut self.subtasks {
                let deltas = operator.snapshot().expect("snapshots");
                store.apply(operator, deltas);
                let counts = operator.take_counts();
                assert_eq!(counts.rows_in, counts.accumulated + counts.late + counts.dead_lettered, "I13");
            }
            assert!(store.rows() <= usize::from(self.is_global), "{} rows of state are left", store.rows());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_those_of_all_rows(
        steps in prop::collection::vec(step(), 0..24),
        retracts in any::<bool>(),
        is_global in prop::bool::weighted(0.2),
        is_upsert in any::<bool>(),
        spills in any::<bool>(),
    ) {
        let key = if is_global { vec![] } else { vec![0] };
        let changelog = if is_upsert { Changelog::Upsert { key } } else { Changelog::Retract };
        let trial = Trial {
            retracts,
            spills,
            is_global,
            changelog,
            subtasks: Vec::new(),
            there: Vec::new(),
            has_begun: false,
            kept: Kept::default(),
        };
        trial.run(&steps);
    }
}
