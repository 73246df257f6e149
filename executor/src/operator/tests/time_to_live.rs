//! State that nobody touches goes after its time to live, from memory and from the checkpoints; without one it grows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::col;
use qanat_proto::changelog::{Changelog, with_kinds};
use qanat_proto::graph::{
    AggregateCall, GroupAggregateNode, JoinKind, JoinNode, LatestRowsNode, OverAggregateNode, OverFrame, RankFunction,
    SortKey, Ties, TopNNode,
};

use super::harness::{Store, batch, context, encoded, finish, integers, schema};
use crate::operator::group::GroupAggregate;
use crate::operator::join::Join;
use crate::operator::latest_rows::LatestRows;
use crate::operator::over_aggregate::OverAggregate;
use crate::operator::top_n::{FirstRows, TopN};
use crate::operator::{BoxedOperator, OperatorContext, Output};

const TTL_MS: u64 = 1_000;
const STEP_MS: i64 = 50;
/// Ten times the time to live.
const STEPS: i64 = 200;
/// New keys of each step.
const KEYS: i64 = 20;
/// What keys that are gone may take before their room is used again.
const SLACK_BYTES: usize = 3 << 16;

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int64)])
}

/// Keys of a step that none had before, one that all have, and one that comes with other values each time.
fn rows(step: i64, with_kind: bool) -> RecordBatch {
    let keys = (0..KEYS).map(|at| step * KEYS + at).chain([-1, -2]);
    let values = (0..KEYS + 1).chain([step]);
    let mut cells: Vec<ArrayRef> = vec![integers(keys.map(Some)), integers(values.map(Some))];
    if !with_kind {
        return batch(&columns(), cells);
    }
    cells.push(Arc::new(Int8Array::from_value(0, cells[0].len())));
    batch(&with_kinds(&columns()), cells)
}

fn in_context(ttl_ms: u64, inputs: Vec<SchemaRef>, output: SchemaRef) -> OperatorContext {
    let partition = inputs.iter().map(|_| vec![0]).collect();
    let changelog = if qanat_proto::changelog::has_kinds(&output) { Changelog::Retract } else { Changelog::Append };
    OperatorContext { ttl_ms: [ttl_ms; 2], changelog, ..context(inputs, partition, output, (1, 0)) }
}

fn call(name: &str, function: &str, distinct: bool) -> AggregateCall {
    AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args: vec![encoded(&col("v"), &columns())],
        distinct,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
    }
}

fn group(ttl_ms: u64, retracts: bool) -> BoxedOperator {
    let aggregates = vec![call("n", "count", true), call("m", "max", false), call("s", "sum", false)];
    let node = GroupAggregateNode { keys: vec![0], aggregates, mini_batch_ms: 10, windows: None };
    let result = ["k", "n", "m", "s"].map(|name| (name, DataType::Int64));
    let input = if retracts { with_kinds(&columns()) } else { columns() };
    let context = in_context(ttl_ms, vec![input], with_kinds(&schema(&result)));
    Box::new(GroupAggregate::new(&node, context).expect("builds"))
}

fn top_n(ttl_ms: u64, retracts: bool) -> BoxedOperator {
    let key = SortKey { expr: encoded(&col("v"), &columns()), descending: true, nulls_first: false };
    let node = TopNNode {
        function: RankFunction::RowNumber,
        partition_by: vec![0],
        order_by: vec![key],
        ties: Ties::Contents,
        limit: 3,
        skip: 0,
        rank_column: None,
        mini_batch_ms: 10,
    };
    let input = if retracts { with_kinds(&columns()) } else { columns() };
    Box::new(TopN::new(&node, in_context(ttl_ms, vec![input], with_kinds(&columns()))).expect("builds"))
}

fn first_rows(ttl_ms: u64) -> BoxedOperator {
    let node = TopNNode {
        function: RankFunction::RowNumber,
        partition_by: vec![0],
        order_by: vec![],
        ties: Ties::Oldest,
        limit: 2,
        skip: 0,
        rank_column: None,
        mini_batch_ms: 10,
    };
    Box::new(FirstRows::new(&node, in_context(ttl_ms, vec![columns()], columns())).expect("builds"))
}

fn latest(ttl_ms: u64) -> BoxedOperator {
    let rows = with_kinds(&columns());
    let context = in_context(ttl_ms, vec![Arc::clone(&rows)], rows);
    Box::new(LatestRows::new(&LatestRowsNode { key: vec![0] }, context).expect("builds"))
}

fn over(ttl_ms: u64, frame: OverFrame) -> BoxedOperator {
    let aggregates = vec![call("n", "count", true), call("s", "sum", false)];
    let node = OverAggregateNode {
        partition_by: vec![0],
        time_column: None,
        clock_column: None,
        frame,
        aggregates,
        allowed_lateness_ms: 0,
    };
    let output = schema(&["k", "v", "n", "s"].map(|name| (name, DataType::Int64)));
    Box::new(OverAggregate::new(&node, in_context(ttl_ms, vec![columns()], output)).expect("builds"))
}

fn join(ttl_ms: u64, kind: JoinKind, retracts: bool) -> BoxedOperator {
    let node = JoinNode { kind, on: vec![(0, 0)], null_equals_null: false, filter: None };
    let input = if retracts { with_kinds(&columns()) } else { columns() };
    let both = schema(&["k", "v", "k2", "v2"].map(|name| (name, DataType::Int64)));
    let output = if retracts || kind != JoinKind::Inner { with_kinds(&both) } else { both };
    let context = in_context(ttl_ms, vec![Arc::clone(&input), input], output);
    Box::new(Join::new(&node, context).expect("builds"))
}

/// The most bytes of memory and rows of the checkpoint in the first two times to live behind the first, and in the last two.
fn most(make: &dyn Fn(u64) -> BoxedOperator, ttl_ms: u64, ports: usize, with_kind: bool) -> [(usize, usize); 2] {
    let (mut operator, mut store) = (make(ttl_ms), Store::default());
    let mut most = [(0, 0); 2];
    for step in 0..STEPS {
        let now = 1_000_000 + step * STEP_MS;
        let mut out = Output::default();
        if operator.next_timer().is_some() {
            operator.on_processing_time(now, &mut out).expect("time goes on");
        }
        for port in 0..ports {
            operator.process(port, rows(step, with_kind), &mut out).expect("processes");
            finish(operator.as_mut(), &mut out);
        }
        if step % 4 == 0 {
            operator.flush(&mut out).expect("flushes");
            let deltas = operator.snapshot().expect("snapshots");
            store.apply(&operator, deltas);
        }
        if step == STEPS / 2 {
            operator = make(ttl_ms);
            store.restore(&mut operator, (1, 0), None);
        }
        let part = match step / 20 {
            2..4 => 0,
            8..10 => 1,
            _ => continue,
        };
        most[part] = (most[part].0.max(operator.state_bytes()), most[part].1.max(store.rows()));
    }
    most
}

fn check(name: &str, make: &dyn Fn(u64) -> BoxedOperator, ports: usize, with_kind: bool) {
    let [early, late] = most(make, TTL_MS, ports, with_kind);
    assert!(late.0 <= early.0 * 3 / 2 + SLACK_BYTES, "{name}: {} bytes, then {}", early.0, late.0);
    // What keeps all rows of a key keeps those of the two that are touched in each step.
    let touched = 2 * STEPS as usize;
    assert!(late.1 <= early.1 * 5 / 4 + touched, "{name}: {} rows saved, then {}", early.1, late.1);
    let [early, late] = most(make, 0, ports, with_kind);
    assert!(
        late.1 * 2 > early.1 * 3 && late.1 > early.1 * 5 / 4 + touched,
        "{name}, without: {} rows saved, then {}",
        early.1,
        late.1
    );
}

#[test]
fn state_stays_flat() {
    check("groups", &|ttl| group(ttl, false), 1, false);
    check("groups of changes", &|ttl| group(ttl, true), 1, true);
    check("first rows in an order", &|ttl| top_n(ttl, false), 1, false);
    check("first rows of changes", &|ttl| top_n(ttl, true), 1, true);
    check("first rows to come", &first_rows, 1, false);
    check("rows by key", &latest, 1, true);
    check("all rows before", &|ttl| over(ttl, OverFrame::UnboundedRows), 1, false);
    check("a few rows before", &|ttl| over(ttl, OverFrame::Rows(2)), 1, false);
    check("joins", &|ttl| join(ttl, JoinKind::Inner, false), 2, false);
    check("joins of changes", &|ttl| join(ttl, JoinKind::Inner, true), 2, true);
    check("outer joins", &|ttl| join(ttl, JoinKind::Full, false), 2, false);
    check("outer joins of changes", &|ttl| join(ttl, JoinKind::Left, true), 2, true);
}

#[test]
fn what_is_touched_stays_and_what_is_not_begins_anew() {
    let mut operator = group(TTL_MS, false);
    let mut told = Vec::new();
    for (now, key) in [(0, 1), (0, 2), (600, 1), (1_200, 1), (1_400, 2), (1_500, 1)] {
        let mut out = Output::default();
        operator.on_processing_time(now, &mut out).expect("time goes on");
        let row = batch(&columns(), vec![integers([Some(key)]), integers([Some(now)])]);
        operator.process(0, row, &mut out).expect("processes");
        operator.flush(&mut out).expect("flushes");
        told.extend(super::harness::lines(&out.batches));
    }
    let kinds: Vec<(&str, &str)> =
        told.iter().filter_map(|line| Some((line.split('|').next()?, line.rsplit('|').next()?))).collect();
    // Key 2 was told, forgotten, and is new again.
    assert_eq!(kinds.iter().filter(|row| **row == ("2", "0")).count(), 2, "{told:?}");
    assert_eq!(kinds.iter().filter(|row| **row == ("1", "0")).count(), 1, "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("1|4|1500|3300|2"));
}
