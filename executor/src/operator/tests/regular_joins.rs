//! Joins of changelogs against the join of what both sides hold, after every batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::changelog::{Changelog, RowKind, has_kinds, with_kinds};
use qanat_proto::graph::{JoinKind, JoinNode};

use super::harness::{Store, batch, context, encoded, finish, integers, lines, schema, spread};
use super::spilling::Spilling;
use crate::operator::join::Join;
use crate::operator::{BoxedOperator, OperatorContext, Output};

/// Key and value.
type Row = (Option<i64>, i64);
type Rows = [Vec<Row>; 2];

fn side(port: usize) -> SchemaRef {
    let names = [["lk", "lv"], ["rk", "rv"]][port];
    schema(&[(names[0], DataType::Int64), (names[1], DataType::Int64)])
}

fn rows(port: usize, rows: &[(Row, RowKind)], retracts: bool) -> RecordBatch {
    let mut cells: Vec<ArrayRef> =
        vec![integers(rows.iter().map(|(row, _)| row.0)), integers(rows.iter().map(|(row, _)| Some(row.1)))];
    if !retracts {
        return batch(&side(port), cells);
    }
    cells.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|(_, kind)| kind.code()))));
    batch(&with_kinds(&side(port)), cells)
}

fn is_left_only(kind: JoinKind) -> bool {
    matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti)
}

fn output(kind: JoinKind, retracts: bool) -> SchemaRef {
    let names = if is_left_only(kind) { vec!["lk", "lv"] } else { vec!["lk", "lv", "rk", "rv"] };
    let fields: Vec<Field> = names.into_iter().map(|name| Field::new(name, DataType::Int64, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    if kind != JoinKind::Inner || retracts { with_kinds(&schema) } else { schema }
}

/// All lines of the join, with how often each is there.
fn expected([left, right]: &Rows, node: &JoinNode) -> BTreeMap<String, i64> {
    let JoinNode { kind, on, null_equals_null, filter } = node;
    let cell = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let line = |row: Option<&Row>| match row {
        Some(row) => format!("{}|{}", cell(row.0), row.1),
        None => "-|-".to_owned(),
    };
    let is_equal = |l: &Row, r: &Row| l.0 == r.0 && (*null_equals_null || l.0.is_some());
    let meets = |l: &Row, r: &Row| (on.is_empty() || is_equal(l, r)) && (filter.is_none() || l.1 < r.1);
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    let mut add = |text: String| *found.entry(text).or_default() += 1;
    for l in left {
        let matches = right.iter().filter(|r| meets(l, r)).count();
        match kind {
            JoinKind::LeftSemi if matches > 0 => add(line(Some(l))),
            JoinKind::LeftAnti if matches == 0 => add(line(Some(l))),
            JoinKind::LeftSemi | JoinKind::LeftAnti => {}
            JoinKind::Left | JoinKind::Full if matches == 0 => add(format!("{}|{}", line(Some(l)), line(None))),
            _ => right.iter().filter(|r| meets(l, r)).for_each(|r| add(format!("{}|{}", line(Some(l)), line(Some(r))))),
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| meets(l, r))) {
            add(format!("{}|{}", line(None), line(Some(r))));
        }
    }
    found
}

#[derive(Clone, Debug)]
enum Step {
    Rows { port: usize, new: Vec<Row>, gone: Vec<usize> },
    Snapshot,
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let row = (prop::option::weighted(0.9, 0_i64..4), 0_i64..3);
    let rows = (0..2_usize, prop::collection::vec(row, 0..12), prop::collection::vec(any::<usize>(), 0..8));
    prop_oneof![
        7 => rows.prop_map(|(port, new, gone)| Step::Rows { port, new, gone }),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

struct Trial {
    node: JoinNode,
    retracts: bool,
    spills: bool,
    subtasks: Vec<BoxedOperator>,
    there: Rows,
    kept: BTreeMap<String, i64>,
}

impl Trial {
    /// Without a key all rows go to one subtask.
    fn by(&self) -> Vec<usize> {
        self.node.on.iter().map(|on| on.0).collect()
    }

    fn make(&self, subtask: (u32, u32)) -> BoxedOperator {
        let input = |port| if self.retracts { with_kinds(&side(port)) } else { side(port) };
        let output = output(self.node.kind, self.retracts);
        let changelog = if has_kinds(&output) { Changelog::Retract } else { Changelog::Append };
        let context = context(vec![input(0), input(1)], vec![self.by(), self.by()], output, subtask);
        let context = OperatorContext { changelog, spills: self.spills, ..context };
        let join = Box::new(Join::new(&self.node, context).expect("builds"));
        if self.spills { Box::new(Spilling::new(join)) } else { join }
    }

    fn take(&mut self, out: Output) {
        for batch in out.batches {
            assert!(batch.num_rows() <= 7);
            let changes = has_kinds(batch.schema_ref());
            let width = batch.num_columns() - usize::from(changes);
            let cells = batch.project(&(0..width).collect::<Vec<_>>()).expect("columns");
            for (row, line) in lines([&cells]).into_iter().enumerate() {
                let kind = if changes { batch.column(width).as_primitive::<Int8Type>().value(row) } else { 0 };
                let count = self.kept.entry(line.clone()).or_default();
                *count += if qanat_proto::changelog::is_added(kind) { 1 } else { -1 };
                if *count == 0 {
                    self.kept.remove(&line);
                }
            }
        }
    }

    fn give(&mut self, port: usize, rows: &RecordBatch) {
        for (index, part) in spread(rows, &self.by(), self.subtasks.len() as u32) {
            let mut out = Output::default();
            let operator = &mut self.subtasks[index as usize];
            operator.process(port, part, &mut out).expect("processes");
            finish(operator.as_mut(), &mut out);
            self.take(out);
        }
    }

    fn check(&self) {
        assert_eq!(self.kept, expected(&self.there, &self.node));
    }

    fn run(mut self, steps: &[Step]) {
        self.subtasks = vec![self.make((1, 0))];
        let mut store = Store::default();
        let mut saved = (0, self.there.clone(), self.kept.clone());
        let mut crashed = std::collections::BTreeSet::new();
        let mut at = 0;
        while at < steps.len() {
            match &steps[at] {
                Step::Rows { port, new, gone } => {
                    let mut given: Vec<(Row, RowKind)> = new.iter().map(|row| (*row, RowKind::Insert)).collect();
                    self.there[*port].extend(new);
                    for pick in gone.iter().filter(|_| self.retracts) {
                        if !self.there[*port].is_empty() {
                            let which = pick % self.there[*port].len();
                            given.push((self.there[*port].swap_remove(which), RowKind::Delete));
                        }
                    }
                    self.give(*port, &rows(*port, &given, self.retracts));
                    self.check();
                }
                Step::Snapshot => {
                    for operator in &mut self.subtasks {
                        let deltas = operator.snapshot().expect("snapshots");
                        store.apply(operator, deltas);
                    }
                    saved = (at + 1, self.there.clone(), self.kept.clone());
                }
                Step::Restore(parallelism) => {
                    if crashed.insert(at) {
                        at = saved.0;
                        (self.there, self.kept) = (saved.1.clone(), saved.2.clone());
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
        if self.retracts {
            for port in [0, 1] {
                let all: Vec<(Row, RowKind)> =
                    self.there[port].drain(..).map(|row| (row, RowKind::UpdateBefore)).collect();
                self.give(port, &rows(port, &all, true));
                self.check();
            }
            for operator in &mut self.subtasks {
                let deltas = operator.snapshot().expect("snapshots");
                store.apply(operator, deltas);
            }
            assert_eq!(store.rows(), 0, "state is left of rows that are gone");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn joins_are_those_of_what_is_there(
        steps in prop::collection::vec(step(), 0..24),
        kind in prop::sample::select(vec![
            JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::LeftSemi, JoinKind::LeftAnti,
        ]),
        retracts in any::<bool>(),
        spills in any::<bool>(),
        has_filter in any::<bool>(),
        null_equals_null in prop::bool::weighted(0.2),
        has_key in prop::bool::weighted(0.8),
    ) {
        let both: Vec<_> = side(0).fields().iter().chain(side(1).fields()).cloned().collect();
        let both: SchemaRef = Arc::new(Schema::new(both));
        let filter = has_filter.then(|| encoded(&col("lv").lt(col("rv")), &both));
        let on = if has_key { vec![(0, 0)] } else { vec![] };
        let node = JoinNode { kind, on, null_equals_null, filter };
        let there = [Vec::new(), Vec::new()];
        Trial { node, retracts, spills, subtasks: Vec::new(), there, kept: BTreeMap::new() }.run(&steps);
    }
}
