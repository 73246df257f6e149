//! Frames of processing time against a list of all rows: what is in a frame goes by when rows came.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::graph::{AggregateCall, OverAggregateNode, OverFrame};

use super::harness::{Store, batch, context, encoded, finish, integers, lines, schema, shown, spread, times};
use super::spilling::Spilling;
use crate::operator::over_aggregate::OverAggregate;
use crate::operator::{BoxedOperator, OperatorContext, Output};

const LENGTH_MS: i64 = 1_000;

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("t", DataType::Timestamp(TimeUnit::Millisecond, None)), ("v", DataType::Int64)])
}

fn make(subtask: (u32, u32), spills: bool) -> BoxedOperator {
    let call = |name: &str, function: &str| AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args: vec![encoded(&col("v"), &columns())],
        distinct: false,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
    };
    let node = OverAggregateNode {
        partition_by: vec![0],
        time_column: None,
        clock_column: Some(1),
        frame: OverFrame::RangeMs(LENGTH_MS),
        aggregates: vec![call("n", "count"), call("s", "sum"), call("m", "max")],
        allowed_lateness_ms: 0,
    };
    let results = ["n", "s", "m"].map(|name| (name, DataType::Int64));
    let output =
        columns().fields().iter().cloned().chain(schema(&results).fields().iter().cloned()).collect::<Vec<_>>();
    let output = std::sync::Arc::new(arrow::datatypes::Schema::new(output));
    let context = context(vec![columns()], vec![vec![0]], output, subtask);
    let over = Box::new(OverAggregate::new(&node, OperatorContext { spills, ..context }).expect("builds"));
    if spills { Box::new(Spilling::new(over)) } else { over }
}

/// Key, time and value.
type Row = (i64, i64, i64);

fn rows(rows: &[Row]) -> RecordBatch {
    let integer = |cell: fn(&Row) -> i64| integers(rows.iter().map(|row| Some(cell(row))));
    batch(&columns(), vec![integer(|row| row.0), times(rows.iter().map(|row| Some(row.1))), integer(|row| row.2)])
}

/// What is told of rows, in the order in which they come.
fn expected(all: &[Row]) -> Vec<String> {
    let mut before: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    let told = all.iter().map(|(key, time, value)| {
        let before = before.entry(*key).or_default();
        let at = before.iter().map(|(time, _)| *time).fold(*time, i64::max);
        before.push((at, *value));
        let frame: Vec<i64> = before.iter().filter(|row| row.0 >= at - LENGTH_MS).map(|row| row.1).collect();
        let (sum, max) = (frame.iter().sum::<i64>(), frame.iter().max().expect("the row itself"));
        format!("{key}|{}|{value}|{}|{sum}|{max}", shown(*time), frame.len())
    });
    let mut told: Vec<String> = told.collect();
    told.sort();
    told
}

fn give(subtasks: &mut [BoxedOperator], given: &[Row], told: &mut Vec<String>) {
    for (index, part) in spread(&rows(given), &[0], subtasks.len() as u32) {
        let mut out = Output::default();
        let operator = subtasks[index as usize].as_mut();
        operator.process(0, part, &mut out).expect("processes");
        finish(operator, &mut out);
        told.extend(lines(&out.batches));
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Milliseconds since the row before, key and value.
    Rows(Vec<(i64, i64, i64)>),
    Clock(i64),
    Snapshot,
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec((0_i64..300, 0_i64..3, -5_i64..5), 0..20).prop_map(Step::Rows),
        2 => (0_i64..1_500).prop_map(Step::Clock),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

fn run(steps: &[Step], spills: bool) {
    let (mut now, mut all, mut told): (i64, Vec<Row>, Vec<String>) = (1_000_000, Vec::new(), Vec::new());
    let mut subtasks = vec![make((1, 0), spills)];
    let mut store = Store::default();
    let mut saved = (0, 0, 0);
    let mut crashed = std::collections::BTreeSet::new();
    let mut at = 0;
    let timer = |subtasks: &mut [BoxedOperator], now: i64| {
        for operator in subtasks.iter_mut().filter(|operator| operator.next_timer().is_some_and(|at| at <= now)) {
            let mut out = Output::default();
            operator.on_processing_time(now, &mut out).expect("time goes on");
            finish(operator.as_mut(), &mut out);
            assert!(out.batches.is_empty());
        }
    };
    while at < steps.len() {
        match &steps[at] {
            Step::Rows(more) => {
                let from = all.len();
                for (gap, key, value) in more {
                    now += gap;
                    all.push((*key, now, *value));
                }
                give(&mut subtasks, &all[from..], &mut told);
            }
            Step::Clock(by) => {
                now += by;
                timer(&mut subtasks, now);
            }
            Step::Snapshot => {
                for operator in &mut subtasks {
                    let deltas = operator.snapshot().expect("snapshots");
                    store.apply(operator, deltas);
                }
                saved = (at + 1, all.len(), told.len());
            }
            Step::Restore(parallelism) => {
                if crashed.insert(at) {
                    at = saved.0;
                    all.truncate(saved.1);
                    told.truncate(saved.2);
                    subtasks = (0..*parallelism).map(|index| make((*parallelism, index), spills)).collect();
                    for (index, operator) in subtasks.iter_mut().enumerate() {
                        store.restore(operator, (*parallelism, index as u32), None);
                    }
                    continue;
                }
            }
        }
        at += 1;
    }
    told.sort();
    assert_eq!(told, expected(&all));
    // What is put aside comes back for it, and may leave again before it has gone.
    for round in 1..12 {
        timer(&mut subtasks, now + round * 700_000);
    }
    for operator in &mut subtasks {
        let deltas = operator.snapshot().expect("snapshots");
        store.apply(operator, deltas);
        assert_eq!(operator.next_timer(), None, "nothing is left to wait for");
    }
    assert_eq!(store.rows(), 0, "rows are left that no frame can have");
}

#[test]
fn a_clock_that_goes_back_does_not_bring_rows_back() {
    let all = [(1, 5_000, 1), (1, 4_000, 2), (1, 6_001, 3), (1, 6_000, 4), (2, 100, 5), (1, 7_001, 6)];
    let (mut subtasks, mut told) = (vec![make((1, 0), false)], Vec::new());
    for row in all {
        give(&mut subtasks, &[row], &mut told);
    }
    told.sort();
    assert_eq!(told, expected(&all));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn frames_hold_what_came_within_their_time(
        steps in prop::collection::vec(step(), 0..20),
        spills in any::<bool>(),
    ) {
        run(&steps, spills);
    }
}
