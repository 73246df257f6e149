//! Calc, window assignment and unnesting.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion_expr::{col, lit};
use qanat_proto::graph::{AssignWindowNode, CalcNode, Firing, NamedExpr, TimeDomain, UnnestNode, WindowShape};

use super::harness::{batch, context, encoded, finish, integers, lines, schema, shown, times, timestamp};
use crate::operator::assign_window::AssignWindow;
use crate::operator::calc::Calc;
use crate::operator::evaluate::{REASON_EVALUATION, REASON_NULL_TIME};
use crate::operator::unnest::Unnest;
use crate::operator::{Operator, Output};

#[test]
fn a_calc_filters_projects_and_buries_rows_it_cannot_evaluate() {
    let input = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let output = schema(&[("q", DataType::Int64)]);
    let node = CalcNode {
        filter: Some(encoded(&col("a").gt(lit(0_i64)), &input)),
        projection: vec![NamedExpr { name: "q".to_owned(), expr: encoded(&(col("a") / col("b")), &input) }],
    };
    let mut calc = Calc::new(&node, context(vec![Arc::clone(&input)], vec![], output, (1, 0))).expect("builds");
    let mut out = Output::default();
    let a = integers([Some(8), Some(9), Some(-1), None, Some(6), Some(7)]);
    let b = integers([Some(2), Some(0), Some(0), Some(1), Some(3), Some(0)]);
    calc.process(0, batch(&input, vec![a, b]), &mut out).expect("processes");
    assert_eq!(lines(&out.batches), ["4", "2"]);
    assert_eq!(out.dead.len(), 1);
    assert_eq!(out.dead[0].reason, format!("{REASON_EVALUATION}: Arrow error: Divide by zero error"));
    assert_eq!(lines([&out.dead[0].rows]), ["9|0", "7|0"]);
    let counts = calc.take_counts();
    assert_eq!((counts.rows_in, counts.rows_out, counts.filtered, counts.dead_lettered), (6, 2, 2, 2));
}

#[test]
fn rows_are_repeated_per_window() {
    let input = schema(&[("a", DataType::Int64), ("t", timestamp())]);
    let output = schema(&[
        ("a", DataType::Int64),
        ("t", timestamp()),
        ("window_start", timestamp()),
        ("window_end", timestamp()),
        ("window_time", timestamp()),
    ]);
    let node = AssignWindowNode {
        shape: WindowShape::Hop { size: 20, slide: 10, offset: 0 },
        domain: TimeDomain::Event,
        time_column: 1,
        partition_by: vec![],
        allowed_lateness_ms: 0,
        firing: Firing::Complete,
    };
    let mut assign =
        AssignWindow::new(&node, &context(vec![Arc::clone(&input)], vec![], output, (1, 0))).expect("builds");
    let mut out = Output::default();
    let rows = batch(&input, vec![integers([Some(1), Some(2), Some(3)]), times([Some(5), None, Some(15)])]);
    assign.process(0, rows, &mut out).expect("processes");
    finish(&mut assign, &mut out);
    let line = |a: i64, t: i64, start: i64| {
        [a.to_string(), shown(t), shown(start), shown(start + 20), shown(start + 19)].join("|")
    };
    assert_eq!(lines(&out.batches), [line(1, 5, -10), line(1, 5, 0), line(3, 15, 0), line(3, 15, 10)]);
    assert_eq!(out.dead[0].reason, REASON_NULL_TIME);
    let counts = assign.take_counts();
    assert_eq!((counts.rows_in, counts.rows_out, counts.dead_lettered, counts.expanded), (3, 4, 1, 2));

    // [0, 20) has ended at 20, [10, 30) has not: 15 is in both, 9 is late. Behind the operator both are open.
    assert_eq!(assign.on_watermark(20, &mut out).expect("holds back"), 10);
    let mut out = Output::default();
    let rows = batch(&input, vec![integers([Some(4), Some(5)]), times([Some(9), Some(15)])]);
    assign.process(0, rows, &mut out).expect("processes");
    finish(&mut assign, &mut out);
    assert_eq!(lines(&out.batches), [line(5, 15, 0), line(5, 15, 10)]);
    assert_eq!(out.late[0].rows.num_rows(), 1);
    let counts = assign.take_counts();
    assert_eq!((counts.rows_in, counts.rows_out, counts.late, counts.expanded), (2, 2, 1, 1));
}

fn unnest(list: ArrayRef, outer: bool, expand_struct: bool, elements: &[(&str, DataType)]) -> (Vec<String>, [u64; 4]) {
    let input = schema(&[("a", DataType::Int64), ("l", list.data_type().clone())]);
    let mut fields = vec![("a", DataType::Int64)];
    fields.extend_from_slice(elements);
    fields.push(("position", DataType::Int32));
    let node = UnnestNode { column: 1, outer, expand_struct, ordinality: true };
    let mut unnest = Unnest::new(&node, &context(vec![Arc::clone(&input)], vec![], schema(&fields), (1, 0)));
    let mut out = Output::default();
    let numbers = integers((1..=list.len() as i64).map(Some));
    let rows = batch(&input, vec![numbers, list]);
    unnest.process(0, rows, &mut out).expect("processes");
    let counts = unnest.take_counts();
    assert_eq!(counts.rows_in + counts.expanded, counts.rows_out + counts.filtered);
    (lines(&out.batches), [counts.rows_in, counts.rows_out, counts.filtered, counts.expanded])
}

#[test]
fn lists_are_unnested_with_positions() {
    let list = || -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(7), None]),
            None,
            Some(vec![]),
            Some(vec![Some(9)]),
        ]))
    };
    let element = [("e", DataType::Int64)];
    let (rows, counts) = unnest(list(), false, false, &element);
    assert_eq!(rows, ["1|7|1", "1|-|2", "4|9|1"]);
    assert_eq!(counts, [4, 3, 2, 1]);
    let (rows, counts) = unnest(list(), true, false, &element);
    assert_eq!(rows, ["1|7|1", "1|-|2", "2|-|-", "3|-|-", "4|9|1"]);
    assert_eq!(counts, [4, 5, 0, 1]);
}

#[test]
fn struct_elements_become_columns() {
    let fields = vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Int64, true)];
    let values = StructArray::new(
        fields.clone().into(),
        vec![integers([Some(1), Some(2), Some(3)]), integers([Some(4), Some(5), Some(6)])],
        Some(vec![true, false, true].into()),
    );
    let item = Arc::new(Field::new("item", DataType::Struct(fields.into()), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
    let list: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::new(values), None));
    let (rows, _) = unnest(list, false, true, &[("x", DataType::Int64), ("y", DataType::Int64)]);
    assert_eq!(rows, ["1|1|4|1", "1|-|-|2", "2|3|6|1"]);
}
