//! Joins whose rows get too old, against what is told of rows by when they lived: a pair whose lives overlap is told, and
//! taken back if one of the two is taken back while the other lives; a row is told without a match unless it had one that
//! was not taken back from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use datafusion_expr::{col, lit};
use proptest::prelude::*;
use qanat_proto::changelog::{Changelog, RowKind, has_kinds, is_added, with_kinds};
use qanat_proto::graph::{JoinKind, JoinNode};

use super::harness::{Store, batch, context, encoded, finish, integers, lines, schema, spread};
use crate::operator::join::Join;
use crate::operator::{BoxedOperator, OperatorContext, Output};

const TTL_MS: u64 = 1_000;

fn side(port: usize) -> SchemaRef {
    let names = [["lk", "lv"], ["rk", "rv"]][port];
    schema(&[(names[0], DataType::Int64), (names[1], DataType::Int64)])
}

/// The life of a row.
#[derive(Clone, Copy, Debug)]
struct Life {
    port: usize,
    key: Option<i64>,
    /// Unlike that of any other row; the condition asks for the rest by four.
    value: i64,
    born: usize,
    gone: Option<usize>,
    is_taken_back: bool,
}

impl Life {
    /// Whether it lived at the moment before `at`.
    fn lived(&self, at: usize) -> bool {
        self.born < at && self.gone.is_none_or(|gone| at <= gone)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ends = |life: &Self| life.gone.unwrap_or(usize::MAX);
        self.born.max(other.born) < ends(self).min(ends(other))
    }

    fn is_taken_back_from(&self, other: &Self) -> bool {
        self.is_taken_back && self.gone.is_some_and(|gone| other.lived(gone))
    }
}

fn expected(lives: &[Life], node: &JoinNode) -> BTreeMap<String, i64> {
    let cell = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let line = |life: Option<&Life>| match life {
        Some(life) => format!("{}|{}", cell(life.key), life.value),
        None => "-|-".to_owned(),
    };
    let meets = |l: &Life, r: &Life| {
        let holds = node.filter.is_none() || l.value % 4 < r.value % 4;
        l.key.is_some() && l.key == r.key && holds && l.overlaps(r)
    };
    let of = |port: usize| lives.iter().filter(move |life| life.port == port);
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    let mut add = |text: String| *found.entry(text).or_default() += 1;
    let mut told_alone = |life: &Life, is_told: bool| {
        if is_told && !life.is_taken_back {
            let alone = line(Some(life));
            add(match (node.kind, life.port) {
                (JoinKind::LeftSemi | JoinKind::LeftAnti, _) => alone,
                (_, 0) => format!("{alone}|{}", line(None)),
                _ => format!("{}|{alone}", line(None)),
            });
        }
    };
    for l in of(0) {
        let had_match = of(1).any(|r| meets(l, r) && !r.is_taken_back_from(l));
        match node.kind {
            JoinKind::LeftSemi => told_alone(l, had_match),
            JoinKind::LeftAnti | JoinKind::Left | JoinKind::Full => told_alone(l, !had_match),
            JoinKind::Inner | JoinKind::Right => {}
        }
    }
    for r in of(1).filter(|_| matches!(node.kind, JoinKind::Right | JoinKind::Full)) {
        told_alone(r, !of(0).any(|l| meets(l, r) && !l.is_taken_back_from(r)));
    }
    if !matches!(node.kind, JoinKind::LeftSemi | JoinKind::LeftAnti) {
        for l in of(0) {
            for r in of(1).filter(|r| meets(l, r) && !r.is_taken_back_from(l) && !l.is_taken_back_from(r)) {
                add(format!("{}|{}", line(Some(l)), line(Some(r))));
            }
        }
    }
    found
}

#[derive(Clone, Debug)]
enum Step {
    Rows {
        port: usize,
        new: Vec<(Option<i64>, i64)>,
        gone: Vec<usize>,
    },
    /// All that is there gets too old.
    Age,
    Snapshot,
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let row = (prop::option::weighted(0.9, 0_i64..3), 0_i64..4);
    let rows = (0..2_usize, prop::collection::vec(row, 0..6), prop::collection::vec(any::<usize>(), 0..4));
    prop_oneof![
        8 => rows.prop_map(|(port, new, gone)| Step::Rows { port, new, gone }),
        2 => Just(Step::Age),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

#[derive(Clone, Default)]
struct World {
    lives: Vec<Life>,
    tick: usize,
    told: BTreeMap<String, i64>,
}

struct Trial {
    node: JoinNode,
    ttl_ms: [u64; 2],
    retracts: bool,
    subtasks: Vec<BoxedOperator>,
    world: World,
    now: i64,
}

impl Trial {
    fn make(&self, subtask: (u32, u32)) -> BoxedOperator {
        let input = |port| if self.retracts { with_kinds(&side(port)) } else { side(port) };
        let is_left_only = matches!(self.node.kind, JoinKind::LeftSemi | JoinKind::LeftAnti);
        let names = if is_left_only { vec!["lk", "lv"] } else { vec!["lk", "lv", "rk", "rv"] };
        let fields: Vec<Field> = names.into_iter().map(|name| Field::new(name, DataType::Int64, true)).collect();
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let changes = self.node.kind != JoinKind::Inner || self.retracts;
        let output = if changes { with_kinds(&output) } else { output };
        let changelog = if changes { Changelog::Retract } else { Changelog::Append };
        let context = context(vec![input(0), input(1)], vec![vec![0], vec![0]], output, subtask);
        Box::new(Join::new(&self.node, OperatorContext { changelog, ttl_ms: self.ttl_ms, ..context }).expect("builds"))
    }

    fn take(&mut self, out: Output) {
        for batch in out.batches {
            let changes = has_kinds(batch.schema_ref());
            let width = batch.num_columns() - usize::from(changes);
            let cells = batch.project(&(0..width).collect::<Vec<_>>()).expect("columns");
            for (row, line) in lines([&cells]).into_iter().enumerate() {
                let kind = if changes { batch.column(width).as_primitive::<Int8Type>().value(row) } else { 0 };
                let count = self.world.told.entry(line.clone()).or_default();
                *count += if is_added(kind) { 1 } else { -1 };
                assert!(*count >= 0, "`{line}` is taken back and was not told");
                if *count == 0 {
                    self.world.told.remove(&line);
                }
            }
        }
    }

    fn give(&mut self, port: usize, new: &[(Option<i64>, i64)], gone: &[usize]) {
        let World { lives, tick, .. } = &mut self.world;
        let mut given = Vec::new();
        for (key, rest) in new {
            *tick += 1;
            let value = lives.len() as i64 * 4 + rest;
            lives.push(Life { port, key: *key, value, born: *tick, gone: None, is_taken_back: false });
            given.push((*key, value, RowKind::Insert));
        }
        for pick in gone.iter().filter(|_| self.retracts) {
            let known: Vec<usize> =
                (0..lives.len()).filter(|at| lives[*at].port == port && !lives[*at].is_taken_back).collect();
            if known.is_empty() {
                continue;
            }
            *tick += 1;
            let life = &mut lives[known[pick % known.len()]];
            given.push((life.key, life.value, RowKind::Delete));
            // One that is forgotten takes nothing back.
            if life.gone.is_none() {
                (life.gone, life.is_taken_back) = (Some(*tick), true);
            }
        }
        let keys = given.iter().map(|row| row.0);
        let mut cells: Vec<ArrayRef> = vec![integers(keys), integers(given.iter().map(|row| Some(row.1)))];
        let mut columns = side(port);
        if self.retracts {
            cells.push(Arc::new(Int8Array::from_iter_values(given.iter().map(|row| row.2.code()))));
            columns = with_kinds(&columns);
        }
        for (index, part) in spread(&batch(&columns, cells), &[0], self.subtasks.len() as u32) {
            let mut out = Output::default();
            let operator = &mut self.subtasks[index as usize];
            operator.process(port, part, &mut out).expect("processes");
            finish(operator.as_mut(), &mut out);
            self.take(out);
        }
    }

    fn age(&mut self) {
        // The first look sees what is there, and the second that it is too old.
        for _ in 0..2 {
            self.now += 10 * TTL_MS as i64;
            let mut out = Output::default();
            for operator in &mut self.subtasks {
                operator.on_processing_time(self.now, &mut out).expect("time goes on");
            }
            assert!(out.batches.is_empty(), "age tells nothing");
        }
        self.world.tick += 1;
        for life in self.world.lives.iter_mut().filter(|life| life.gone.is_none()) {
            // A row without a key is not kept: it is told of at once, and taken back whenever.
            if self.ttl_ms[life.port] > 0 && life.key.is_some() {
                life.gone = Some(self.world.tick);
            }
        }
    }

    fn run(mut self, steps: &[Step]) {
        self.subtasks = vec![self.make((1, 0))];
        let mut store = Store::default();
        let mut saved = (0, World::default());
        let mut crashed = std::collections::BTreeSet::new();
        let mut at = 0;
        while at < steps.len() {
            match &steps[at] {
                Step::Rows { port, new, gone } => self.give(*port, new, gone),
                Step::Age => self.age(),
                Step::Snapshot => {
                    for operator in &mut self.subtasks {
                        let deltas = operator.snapshot().expect("snapshots");
                        store.apply(operator, deltas);
                    }
                    saved = (at + 1, self.world.clone());
                }
                Step::Restore(parallelism) => {
                    if crashed.insert(at) {
                        (at, self.world) = saved.clone();
                        self.subtasks = (0..*parallelism).map(|index| self.make((*parallelism, index))).collect();
                        for (index, operator) in self.subtasks.iter_mut().enumerate() {
                            store.restore(operator, (*parallelism, index as u32), None);
                        }
                        continue;
                    }
                }
            }
            assert_eq!(self.world.told, expected(&self.world.lives, &self.node));
            at += 1;
        }
        self.age();
        for operator in &mut self.subtasks {
            let deltas = operator.snapshot().expect("snapshots");
            store.apply(operator, deltas);
        }
        if self.ttl_ms.iter().all(|ttl_ms| *ttl_ms > 0) {
            assert_eq!(store.rows(), 0, "state is left of rows that are too old");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    #[test]
    fn what_was_told_of_rows_that_are_too_old_stays(
        steps in prop::collection::vec(step(), 0..24),
        kind in prop::sample::select(vec![
            JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::LeftSemi, JoinKind::LeftAnti,
        ]),
        ttl_ms in prop::sample::select(vec![[TTL_MS, TTL_MS], [TTL_MS, 0], [0, TTL_MS]]),
        retracts in any::<bool>(),
        has_filter in any::<bool>(),
    ) {
        let both: Vec<_> = side(0).fields().iter().chain(side(1).fields()).cloned().collect();
        let both: SchemaRef = Arc::new(Schema::new(both));
        let filter = has_filter.then(|| encoded(&(col("lv") % lit(4_i64)).lt(col("rv") % lit(4_i64)), &both));
        let node = JoinNode { kind, on: vec![(0, 0)], null_equals_null: false, filter };
        Trial { node, ttl_ms, retracts, subtasks: Vec::new(), world: World::default(), now: 0 }.run(&steps);
    }
}
