//! Aggregates over the rows before each row against a list of all rows, at parallelisms that change and without memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::graph::{AggregateCall, OverAggregateNode, OverFrame};

use super::harness::{
    batch, context, encoded, events, integers, lines, run_leaving, schema, shown, sorted, steps, times, timestamp,
};
use super::spilling::Spilling;
use crate::operator::over_aggregate::OverAggregate;
use crate::operator::{BoxedOperator, OperatorContext};

/// Key and value.
type Row = (Option<i64>, i64);

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("t", timestamp()), ("v", DataType::Int64)])
}

fn rows(rows: &[(i64, Row)]) -> RecordBatch {
    let keys = integers(rows.iter().map(|(_, row)| row.0));
    let values = integers(rows.iter().map(|(_, row)| Some(row.1)));
    batch(&columns(), vec![keys, times(rows.iter().map(|(time, _)| Some(*time))), values])
}

fn expected(kept: &[(i64, Row)], frame: OverFrame) -> Vec<String> {
    let mut keys: BTreeMap<Option<i64>, Vec<(i64, i64)>> = BTreeMap::new();
    for (time, (key, value)) in kept {
        keys.entry(*key).or_default().push((*time, *value));
    }
    let mut told = Vec::new();
    for (key, mut rows) in keys {
        // Rows of one time stay as they came.
        rows.sort_by_key(|(time, _)| *time);
        for (at, (time, value)) in rows.iter().enumerate() {
            let is_in = |(other, row): &(usize, &(i64, i64))| match frame {
                OverFrame::UnboundedRows => *other <= at,
                OverFrame::UnboundedRange => row.0 <= *time,
                OverFrame::Rows(before) => *other <= at && (at - *other) as u64 <= before,
                OverFrame::RangeMs(length) => row.0 <= *time && row.0 >= *time - length,
            };
            let values: Vec<i64> = rows.iter().enumerate().filter(is_in).map(|(_, row)| row.1).collect();
            let key = key.map_or_else(|| "-".to_owned(), |key| key.to_string());
            let (sum, max) = (values.iter().sum::<i64>(), values.iter().max().expect("the row itself"));
            told.push(format!("{key}|{}|{value}|{}|{sum}|{max}", shown(*time), values.len()));
        }
    }
    sorted(told)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    #[test]
    fn each_row_is_told_of_with_those_before_it(
        steps in steps(1, (prop::option::weighted(0.9, 0_i64..5), -5_i64..9)),
        frame in prop::sample::select(vec![
            OverFrame::UnboundedRows, OverFrame::UnboundedRange, OverFrame::Rows(0), OverFrame::Rows(2),
            OverFrame::RangeMs(0), OverFrame::RangeMs(7), OverFrame::RangeMs(60),
        ]),
        lateness in prop::sample::select(vec![0_i64, 6]),
        spills in any::<bool>(),
    ) {
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
            time_column: Some(1),
            clock_column: None,
            frame,
            aggregates: vec![call("n", "count"), call("s", "sum"), call("m", "max")],
            allowed_lateness_ms: lateness,
        };
        let (mut kept, mut late) = (Vec::new(), 0);
        let events = events(&steps, |_, given, watermark| {
            let now = watermark.saturating_sub(lateness);
            late += given.iter().filter(|(time, _)| *time < now).count();
            kept.extend(given.iter().copied().filter(|(time, _)| *time >= now));
            rows(&given)
        });
        let make = |subtask: (u32, u32)| -> BoxedOperator {
            let results = schema(&["n", "s", "m"].map(|name| (name, DataType::Int64)));
            let fields: Vec<_> = columns().fields().iter().chain(results.fields()).cloned().collect();
            let context = context(vec![columns()], vec![vec![0]], Arc::new(Schema::new(fields)), subtask);
            let over = Box::new(OverAggregate::new(&node, OperatorContext { spills, ..context }).expect("builds"));
            if spills { Box::new(Spilling::new(over)) } else { over }
        };
        let (collected, _) = run_leaving(&events, &[vec![0]], &make);
        prop_assert_eq!(sorted(lines(&collected.rows)), expected(&kept, frame));
        prop_assert_eq!(collected.late.iter().map(RecordBatch::num_rows).sum::<usize>(), late);
    }
}
