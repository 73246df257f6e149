//! The first rows of each partition against sorting all that is there, after every flush.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::changelog::{Changelog, RowKind, with_kinds};
use qanat_proto::graph::{RankFunction, SortKey, Ties, TopNNode};

use super::harness::{Store, batch, context, encoded, integers, lines, schema, spread};
use super::spilling::Spilling;
use crate::operator::top_n::{FirstRows, TopN};
use crate::operator::{BoxedOperator, OperatorContext, Output};

/// Partition, what rows are ordered by (of which the text is longer than a key's first bytes), and what else they have.
type Row = (Option<i64>, Option<i64>, u8, i64);

fn columns() -> SchemaRef {
    schema(&[("p", DataType::Int64), ("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Int64)])
}

fn text(of: u8) -> String {
    format!("a text that is longer than others {of}")
}

fn rows(rows: &[(Row, RowKind)], retracts: bool) -> RecordBatch {
    let mut cells: Vec<ArrayRef> = vec![
        integers(rows.iter().map(|(row, _)| row.0)),
        integers(rows.iter().map(|(row, _)| row.1)),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(row, _)| text(row.2)))),
        integers(rows.iter().map(|(row, _)| Some(row.3))),
    ];
    if !retracts {
        return batch(&columns(), cells);
    }
    cells.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|(_, kind)| kind.code()))));
    batch(&with_kinds(&columns()), cells)
}

fn node(function: RankFunction, bounds: (usize, usize), has_rank: bool) -> TopNNode {
    let key =
        |name: &str, descending| SortKey { expr: encoded(&col(name), &columns()), descending, nulls_first: false };
    TopNNode {
        function,
        partition_by: vec![0],
        order_by: vec![key("a", true), key("b", false)],
        ties: Ties::Contents,
        limit: bounds.1,
        skip: bounds.0,
        rank_column: has_rank.then(|| "rank".to_owned()),
        mini_batch_ms: 100,
    }
}

fn output(node: &TopNNode) -> SchemaRef {
    let rank = node.rank_column.as_ref().map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
    let fields: Vec<_> = columns().fields().iter().cloned().chain(rank).collect();
    let output = Arc::new(Schema::new(fields));
    if node.is_final() { output } else { with_kinds(&output) }
}

#[derive(Clone, Debug)]
enum Step {
    /// Rows that come, and the places among those that are there of rows that go then.
    Change(Vec<Row>, Vec<usize>),
    Flush,
    Snapshot,
    /// All since the last snapshot is lost and done again, at another parallelism.
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::option::weighted(0.9, 0_i64..4);
    let row = (value(), value(), 0_u8..3, 0_i64..3);
    prop_oneof![
        6 => (prop::collection::vec(row, 0..20), prop::collection::vec(any::<usize>(), 0..15))
            .prop_map(|(new, gone)| Step::Change(new, gone)),
        3 => Just(Step::Flush),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

/// Operators at a parallelism, what was given to them and what they have told.
struct Trial {
    node: TopNNode,
    retracts: bool,
    spills: bool,
    changelog: Changelog,
    subtasks: Vec<BoxedOperator>,
    there: Vec<Row>,
    /// Lines, each as often as it is told and not taken back; by key the newest alone.
    told: BTreeMap<String, Vec<String>>,
}

impl Trial {
    fn make(&self, subtask: (u32, u32)) -> BoxedOperator {
        let input = if self.retracts { with_kinds(&columns()) } else { columns() };
        let context = context(vec![input], vec![vec![0]], output(&self.node), subtask);
        let context = OperatorContext { changelog: self.changelog.clone(), spills: self.spills, ..context };
        let operator: BoxedOperator = match self.node.is_final() {
            true => Box::new(FirstRows::new(&self.node, context).expect("builds")),
            false => Box::new(TopN::new(&self.node, context).expect("builds")),
        };
        if self.spills { Box::new(Spilling::new(operator)) } else { operator }
    }

    fn take(&mut self, out: &Output) {
        for batch in &out.batches {
            let (cells, kinds) = match self.node.is_final() {
                true => (batch.clone(), vec![RowKind::Insert; batch.num_rows()]),
                false => {
                    let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
                    let kinds = kinds.values().iter().map(|kind| RowKind::of_code(*kind).expect("a kind")).collect();
                    (batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).expect("columns"), kinds)
                }
            };
            for (line, kind) in lines([&cells]).into_iter().zip(kinds) {
                let cells: Vec<&str> = line.split('|').collect();
                let key = match &self.changelog {
                    Changelog::Upsert { key } => key.iter().map(|at| cells[*at]).collect::<Vec<_>>().join("|"),
                    _ => line.clone(),
                };
                let told = self.told.entry(key.clone()).or_default();
                match kind {
                    RowKind::UpdateAfter if self.changelog != Changelog::Retract => {
                        assert_eq!(told.len(), 1, "{line} takes the place of one");
                        *told = vec![line];
                    }
                    kind if kind.is_added() => told.push(line),
                    _ => {
                        let at = told.iter().position(|other| *other == line);
                        told.swap_remove(at.expect("a row that was told"));
                        if told.is_empty() {
                            self.told.remove(&key);
                        }
                    }
                }
            }
        }
    }

    fn give(&mut self, rows: &RecordBatch) {
        for (index, part) in spread(rows, &[0], self.subtasks.len() as u32) {
            let mut out = Output::default();
            self.subtasks[index as usize].process(0, part, &mut out).expect("processes");
            self.take(&out);
        }
    }

    /// Ranks of all rows that are there, by sorting; of those that are equal in their order any may be the first.
    fn check(&mut self) {
        for index in 0..self.subtasks.len() {
            let mut out = Output::default();
            self.subtasks[index].flush(&mut out).expect("flushes");
            self.take(&out);
        }
        let mut told: Vec<Vec<String>> = Vec::new();
        for lines in self.told.values() {
            told.extend(lines.iter().map(|line| line.split('|').map(str::to_owned).collect()));
        }
        let shown = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let cells = |row: &Row| vec![shown(row.0), shown(row.1), text(row.2), row.3.to_string()];
        let mut partitions: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
        self.there.iter().for_each(|row| partitions.entry(row.0).or_default().push(*row));
        let bounds = self.node.skip + 1..=self.node.limit;
        let mut count = 0;
        for (partition, mut rows) in partitions {
            // NULLs last, then the highest first, then by the text.
            let order = |row: &Row| (row.1.is_none(), row.1.map(|a| -a), row.2);
            rows.sort_by_key(order);
            let mut found: Vec<&Vec<String>> = told.iter().filter(|line| line[0] == shown(partition)).collect();
            let orders: BTreeSet<_> = rows.iter().map(order).collect();
            let rank_of = |at: usize| match self.node.function {
                RankFunction::RowNumber => at + 1,
                RankFunction::Rank => rows.iter().position(|row| order(row) == order(&rows[at])).unwrap_or(0) + 1,
                RankFunction::DenseRank => orders.iter().position(|of| *of == order(&rows[at])).unwrap_or(0) + 1,
            };
            let ranked: Vec<(usize, Row)> = (0..rows.len()).map(|at| (rank_of(at), rows[at])).collect();
            let wanted: Vec<_> = ranked.iter().filter(|(rank, _)| bounds.contains(rank)).collect();
            count += wanted.len();
            assert_eq!(found.len(), wanted.len(), "{found:?} of {rows:?}");
            for (rank, row) in wanted {
                // A row that is there and equal in its order, with this rank.
                let is_it = |line: &&Vec<String>| {
                    line[1..3] == cells(row)[1..3] && (self.node.rank_column.is_none() || line[4] == rank.to_string())
                };
                let at = found.iter().position(is_it).unwrap_or_else(|| panic!("{row:?}, {rank}: {found:?}"));
                let line = found.swap_remove(at);
                assert!(rows.iter().any(|row| cells(row)[..] == line[..4]), "{line:?} is not there");
            }
        }
        assert_eq!(count, told.len());
    }

    fn run(mut self, steps: &[Step]) -> BTreeMap<String, Vec<String>> {
        self.subtasks = vec![self.make((1, 0))];
        let mut store = Store::default();
        let mut saved = (0, self.there.clone(), self.told.clone());
        let mut crashed = BTreeSet::new();
        let mut at = 0;
        while at < steps.len() {
            match &steps[at] {
                Step::Change(new, gone) => {
                    let mut given: Vec<(Row, RowKind)> = new.iter().map(|row| (*row, RowKind::Insert)).collect();
                    self.there.extend(new);
                    for pick in gone.iter().filter(|_| self.retracts) {
                        if !self.there.is_empty() {
                            let which = pick % self.there.len();
                            given.push((self.there.remove(which), RowKind::Delete));
                        }
                    }
                    self.give(&rows(&given, self.retracts));
                }
                Step::Flush => self.check(),
                Step::Snapshot => {
                    self.check();
                    for operator in &mut self.subtasks {
                        let deltas = operator.snapshot().expect("snapshots");
                        store.apply(operator, deltas);
                    }
                    saved = (at + 1, self.there.clone(), self.told.clone());
                }
                Step::Restore(parallelism) => {
                    if crashed.insert(at) {
                        at = saved.0;
                        (self.there, self.told) = (saved.1.clone(), saved.2.clone());
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
        self.check();
        let told = self.told.clone();
        if self.retracts {
            let all: Vec<(Row, RowKind)> = self.there.drain(..).map(|row| (row, RowKind::UpdateBefore)).collect();
            self.give(&rows(&all, true));
            self.check();
            for operator in &mut self.subtasks {
                let deltas = operator.snapshot().expect("snapshots");
                store.apply(operator, deltas);
                let counts = operator.take_counts();
                assert_eq!(counts.rows_in, counts.accumulated + counts.late + counts.dead_lettered, "I13");
            }
            assert_eq!(store.rows(), 0, "state is left of rows that are gone");
        } else {
            for operator in &mut self.subtasks {
                let deltas = operator.snapshot().expect("snapshots");
                store.apply(operator, deltas);
            }
            let partitions: BTreeSet<_> = self.there.iter().map(|row| row.0).collect();
            let most = self.there.len().min(match self.node.function {
                RankFunction::RowNumber => partitions.len() * self.node.limit,
                // Equal ones stay together.
                RankFunction::Rank | RankFunction::DenseRank => usize::MAX,
            });
            assert!(store.rows() <= most, "{} rows of state", store.rows());
        }
        told
    }
}

fn trial(node: TopNNode, retracts: bool, changelog: Changelog) -> Trial {
    let spills = false;
    Trial { node, retracts, spills, changelog, subtasks: Vec::new(), there: Vec::new(), told: BTreeMap::new() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_first_rows_are_those_of_sorting_all(
        steps in prop::collection::vec(step(), 0..24),
        function in prop::sample::select(vec![RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank]),
        bounds in prop::sample::select(vec![(0, 1), (0, 3), (1, 2), (2, 6)]),
        has_rank in any::<bool>(),
        retracts in any::<bool>(),
        is_upsert in any::<bool>(),
        spills in any::<bool>(),
    ) {
        let node = node(function, bounds, has_rank && bounds.1 > bounds.0 + 1);
        let key = vec![0].into_iter().chain(node.rank_column.as_ref().map(|_| 4)).collect();
        let upsert = is_upsert && node.tells_by_rank();
        let changelog = if upsert { Changelog::Upsert { key } } else { Changelog::Retract };
        Trial { spills, ..trial(node, retracts, changelog) }.run(&steps);
    }

    /// Ties are broken by what rows hold: in which order they came makes no difference.
    #[test]
    fn the_same_rows_come_to_the_same_answer(
        mut rows in prop::collection::vec((Just(Some(1)), Just(Some(1)), 0_u8..2, 0_i64..9), 0..20),
        cuts in prop::collection::vec(0_usize..20, 0..4),
    ) {
        let run = |rows: &[Row]| {
            let mut steps = Vec::new();
            for (at, row) in rows.iter().enumerate() {
                steps.push(Step::Change(vec![*row], Vec::new()));
                steps.extend(cuts.contains(&at).then_some(Step::Flush));
            }
            trial(node(RankFunction::RowNumber, (0, 3), false), false, Changelog::Retract).run(&steps)
        };
        let told = run(&rows);
        rows.reverse();
        prop_assert_eq!(told, run(&rows));
    }

    #[test]
    fn the_first_to_come_stay_for_ever(
        steps in prop::collection::vec(step(), 0..24),
        limit in 1_usize..3,
        spills in any::<bool>(),
    ) {
        let mut node = node(RankFunction::RowNumber, (0, limit), false);
        (node.order_by, node.ties) = (Vec::new(), Ties::Oldest);
        let came: Vec<Row> = steps.iter().flat_map(|step| match step {
            Step::Change(new, _) => new.clone(),
            _ => Vec::new(),
        }).collect();
        // Its own oracle: the check above is of sorting.
        let mut trial = Trial { spills, ..trial(node, false, Changelog::Append) };
        trial.subtasks = vec![trial.make((1, 0))];
        let mut store = Store::default();
        let mut parallelism = 1;
        for step in &steps {
            match step {
                Step::Change(new, _) => {
                    let new: Vec<_> = new.iter().map(|row| (*row, RowKind::Insert)).collect();
                    trial.give(&rows(&new, false));
                }
                Step::Flush | Step::Snapshot => {}
                Step::Restore(other) => parallelism = *other,
            }
            for index in 0..trial.subtasks.len() {
                let mut out = Output::default();
                trial.subtasks[index].flush(&mut out).expect("flushes");
                trial.take(&out);
                let deltas = trial.subtasks[index].snapshot().expect("snapshots");
                store.apply(&trial.subtasks[index], deltas);
            }
            if parallelism as usize != trial.subtasks.len() {
                trial.subtasks = (0..parallelism).map(|index| trial.make((parallelism, index))).collect();
                for (index, operator) in trial.subtasks.iter_mut().enumerate() {
                    store.restore(operator, (parallelism, index as u32), None);
                }
            }
        }
        let mut first: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
        for row in came {
            let rows = first.entry(row.0).or_default();
            if rows.len() < limit {
                rows.push(row);
            }
        }
        let wanted: Vec<(Row, RowKind)> = first.into_values().flatten().map(|row| (row, RowKind::Insert)).collect();
        let mut wanted = lines([&rows(&wanted, false)]);
        let mut told: Vec<String> = trial.told.into_values().flatten().collect();
        wanted.sort();
        told.sort();
        prop_assert_eq!(told, wanted);
    }
}
