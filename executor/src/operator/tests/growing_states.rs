//! States that grow with their rows: kept in pieces, written a few times each, put together in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_expr::{col, lit};
use proptest::prelude::*;
use qanat_proto::graph::{
    AggregateCall, Firing, TimeDomain, WindowAggregateNode, WindowColumn, WindowShape, WindowSource,
};
use qanat_proto::physical::Phase;

use super::harness::{Store, batch, context, encoded, finish, integers, lines, schema, sorted, times, timestamp};
use crate::operator::aggregate::window_aggregate::WindowAggregate;
use crate::operator::{BoxedOperator, Output};

fn input() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int64), ("s", DataType::Utf8), ("t", timestamp())])
}

fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    batch(
        &input(),
        vec![
            integers(rows.iter().map(|(k, _)| Some(*k))),
            integers(rows.iter().map(|(_, v)| Some(*v))),
            Arc::new(rows.iter().map(|(_, v)| Some(v.to_string())).collect::<StringArray>()),
            times(rows.iter().map(|_| Some(5))),
        ],
    )
}

fn operator() -> BoxedOperator {
    let call = |name: &str, function: &str, args: Vec<datafusion_expr::Expr>, distinct| AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args: args.iter().map(|arg| encoded(arg, &input())).collect(),
        distinct,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
    };
    let node = WindowAggregateNode {
        window: WindowSource::Function {
            shape: WindowShape::Tumble { size: 1_000, offset: 0 },
            domain: TimeDomain::Event,
            time_column: 3,
        },
        keys: vec![0],
        aggregates: vec![
            call("d", "count", vec![col("v")], true),
            call("a", "array_agg", vec![col("v")], false),
            call("j", "string_agg", vec![col("s"), lit(",")], false),
            call("n", "sum", vec![col("v")], false),
        ],
        window_columns: vec![WindowColumn::End],
        allowed_lateness_ms: 0,
        firing: Firing::Complete,
    };
    let output = schema(&[
        ("k", DataType::Int64),
        ("d", DataType::Int64),
        ("a", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))),
        ("j", DataType::Utf8),
        ("n", DataType::Int64),
        ("window_end", timestamp()),
    ]);
    let context = context(vec![input()], vec![vec![0]], output, (1, 0));
    Box::new(WindowAggregate::new(&node, Phase::Whole, context, &input()).expect("builds"))
}

/// Takes a snapshot; the number of values in the lists it writes.
fn snapshot(operator: &mut BoxedOperator, store: &mut Store) -> usize {
    let deltas = operator.snapshot().expect("snapshots");
    let lists = deltas.iter().flat_map(|delta| &delta.upserts).flat_map(RecordBatch::columns);
    let written = lists.filter_map(|column| column.as_list_opt::<i32>()).map(|list| list.values().len()).sum();
    store.apply(operator, deltas);
    written
}

fn restored(store: &Store) -> BoxedOperator {
    let mut again = operator();
    store.restore(&mut again, (1, 0), None);
    again
}

/// What the window has to say of each key.
fn expected(values: &BTreeMap<i64, Vec<i64>>) -> Vec<String> {
    let line = |(key, values): (&i64, &Vec<i64>)| {
        let distinct = values.iter().collect::<BTreeSet<_>>().len();
        let texts: Vec<String> = values.iter().map(i64::to_string).collect();
        let (list, joined, sum) = (texts.join(", "), texts.join(","), values.iter().sum::<i64>());
        format!("{key}|{distinct}|[{list}]|{joined}|{sum}|1970-01-01T00:00:01")
    };
    sorted(values.iter().map(line).collect())
}

fn fired(operator: &mut BoxedOperator) -> Vec<String> {
    let mut out = Output::default();
    operator.on_watermark(i64::MAX, &mut out).expect("fires");
    finish(operator.as_mut(), &mut out);
    sorted(lines(&out.batches))
}

proptest! {
    /// Steps: rows (first value, how many, every how many a key), snapshots, restores.
    #[test]
    fn pieces_come_together_in_order(
        steps in prop::collection::vec(
            prop_oneof![
                4 => (0_i64..50, 1_i64..60, 1_i64..4).prop_map(Some),
                3 => Just(None),
            ],
            1..25,
        ),
        restores in prop::collection::vec(prop::bool::weighted(0.3), 25),
    ) {
        let (mut operator, mut store) = (operator(), Store::default());
        let mut values: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (step, restores) in steps.iter().zip(restores) {
            match step {
                Some((first, count, keys)) => {
                    let new: Vec<(i64, i64)> = (0..*count).map(|i| (i % keys, first + i)).collect();
                    new.iter().for_each(|(key, value)| values.entry(*key).or_default().push(*value));
                    operator.process(0, rows(&new), &mut Output::default()).expect("processes");
                }
                None => {
                    snapshot(&mut operator, &mut store);
                    if restores {
                        operator = restored(&store);
                    }
                }
            }
        }
        prop_assert_eq!(fired(&mut operator), expected(&values));
        // A snapshot after the window has fired leaves nothing.
        snapshot(&mut operator, &mut store);
        prop_assert_eq!(store.rows(), 0);
    }
}

#[test]
fn a_value_is_written_a_few_times_and_not_in_each_snapshot() {
    const SNAPSHOTS: usize = 256;
    const NEW: usize = 40;
    let (mut operator, mut store) = (operator(), Store::default());
    let mut values: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let (mut written, mut most) = (0, 0);
    for number in 0..SNAPSHOTS {
        let new: Vec<(i64, i64)> = (0..NEW).map(|i| (7, (number * NEW + i) as i64)).collect();
        new.iter().for_each(|(key, value)| values.entry(*key).or_default().push(*value));
        operator.process(0, rows(&new), &mut Output::default()).expect("processes");
        written += snapshot(&mut operator, &mut store);
        most = most.max(store.rows());
        if number % 50 == 49 {
            operator = restored(&store);
        }
    }
    let depth = SNAPSHOTS.ilog2() as usize + 1;
    assert!(most <= depth, "{most} pieces");
    // The set and the list are both lists.
    let each = written / (2 * SNAPSHOTS * NEW);
    assert!(each <= depth, "each value was written {each} times");
    assert_eq!(fired(&mut operator), expected(&values));
}
