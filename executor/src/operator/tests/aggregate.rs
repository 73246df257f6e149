//! Windowed aggregation against a map of windows, for every shape, phase, key and path.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::{col, lit};
use proptest::prelude::*;
use qanat_proto::error::Result;
use qanat_proto::graph::{
    AggregateCall, Firing, TimeDomain, WindowAggregateNode, WindowColumn, WindowShape, WindowSource,
};
use qanat_proto::physical::Phase;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::state::{TableDelta, TableSpec};

use super::harness::{
    Event, Store, batch, context, encoded, events, finish, floats, integers, lines, run, schema, shown, sorted, steps,
    times, timestamp,
};
use crate::operator::aggregate::window_aggregate::WindowAggregate;
use crate::operator::{BoxedOperator, Operator, Output, partial_schema};

/// key, text, integer, float.
type Row = (Option<i64>, Option<u8>, Option<i64>, Option<i32>);

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("s", DataType::Utf8),
        ("v", DataType::Int64),
        ("x", DataType::Float64),
        ("t", timestamp()),
    ])
}

fn rows(rows: &[(i64, Row)]) -> RecordBatch {
    let text = |n: Option<u8>| n.map(|n| "abc"[..usize::from(n % 4).min(3)].to_owned());
    batch(
        &input(),
        vec![
            integers(rows.iter().map(|(_, r)| r.0)),
            Arc::new(rows.iter().map(|(_, r)| text(r.1)).collect::<StringArray>()),
            integers(rows.iter().map(|(_, r)| r.2)),
            floats(rows.iter().map(|(_, r)| r.3.map(f64::from))),
            times(rows.iter().map(|(t, _)| Some(*t))),
        ],
    )
}

fn call(name: &str, function: &str, argument: Option<&str>) -> AggregateCall {
    AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args: argument.map(|a| encoded(&col(a), &input())).into_iter().collect(),
        distinct: false,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
    }
}

/// Which calls a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Those that can be taken back: counts and sums of integers.
    Reversible,
    Plain,
    WithDistinct,
}

fn calls(which: Which) -> Vec<AggregateCall> {
    let positive = Some(encoded(&col("x").gt(lit(0.0)), &input()));
    let negative = Some(encoded(&col("x").lt(lit(0.0)), &input()));
    let zero = Some(encoded(&col("x").eq(lit(0.0)), &input()));
    let mut calls = vec![
        call("n", "count", None),
        call("c", "count", Some("v")),
        call("s", "sum", Some("v")),
        call("lo", "min", Some("v")),
        call("hi", "max", Some("x")),
        call("sx", "sum", Some("x")),
        call("a", "avg", Some("x")),
        AggregateCall { filter: positive, ..call("f", "sum", Some("v")) },
        AggregateCall { filter: negative, ..call("g", "sum", Some("v")) },
        AggregateCall { filter: zero, ..call("z", "sum", Some("v")) },
    ];
    match which {
        Which::Reversible => calls.retain(|call| matches!(call.name.as_str(), "n" | "c" | "s" | "f" | "g" | "z")),
        Which::Plain => {}
        Which::WithDistinct => {
            calls.push(AggregateCall { distinct: true, ..call("d", "count", Some("s")) });
            calls.push(AggregateCall { distinct: true, ..call("e", "sum", Some("v")) });
        }
    }
    calls
}

fn node(shape: WindowShape, keys: Vec<usize>, lateness: i64, firing: Firing, which: Which) -> WindowAggregateNode {
    WindowAggregateNode {
        window: WindowSource::Function { shape, domain: TimeDomain::Event, time_column: 4 },
        keys,
        aggregates: calls(which),
        window_columns: vec![WindowColumn::Start, WindowColumn::End, WindowColumn::Time],
        allowed_lateness_ms: lateness,
        firing,
    }
}

fn output(keys: &[usize], which: Which) -> SchemaRef {
    let mut fields: Vec<(String, DataType)> =
        keys.iter().map(|k| (format!("key{k}"), input().field(*k).data_type().clone())).collect();
    let float = |name: &str| matches!(name, "hi" | "sx" | "a");
    for call in calls(which) {
        let data_type = if float(&call.name) { DataType::Float64 } else { DataType::Int64 };
        fields.push((call.name, data_type));
    }
    for name in ["window_start", "window_end", "window_time"] {
        fields.push((name.to_owned(), timestamp()));
    }
    schema(&fields.iter().map(|(n, t)| (n.as_str(), t.clone())).collect::<Vec<_>>())
}

/// (start, end) of every window of the definition that holds `t`.
fn windows(shape: WindowShape, t: i64) -> Vec<(i64, i64)> {
    let all: Vec<(i64, i64)> = match shape {
        WindowShape::Tumble { size, offset } => {
            (-900..900).map(|i| (offset + i * size, offset + (i + 1) * size)).collect()
        }
        WindowShape::Hop { size, slide, offset } => {
            (-900..900).map(|i| (offset + i * slide, offset + i * slide + size)).collect()
        }
        WindowShape::Cumulate { max_size, step, offset } => (-900..900)
            .map(|i| offset + i * max_size)
            .flat_map(|start| (1..=max_size / step).map(move |n| (start, start + n * step)))
            .collect(),
        WindowShape::Session { .. } => unreachable!("not tested here"),
    };
    all.into_iter().filter(|(start, end)| *start <= t && t < *end).collect()
}

/// The answer, and the number of late rows.
struct Oracle {
    shape: WindowShape,
    keys: Vec<usize>,
    lateness: i64,
    firing: Firing,
    which: Which,
    groups: BTreeMap<(i64, i64, Vec<String>), Vec<Row>>,
    late: usize,
}

impl Oracle {
    fn take(&mut self, t: i64, row: Row, watermark: i64) {
        let mut taking = windows(self.shape, t);
        let is_open = |(_, end): &(i64, i64)| watermark == i64::MIN || end + self.lateness > watermark;
        if self.firing == Firing::Eager || !taking.iter().any(is_open) {
            taking.retain(is_open);
        }
        self.late += usize::from(taking.is_empty());
        let text = lines([&rows(&[(t, row)])]).remove(0);
        let cells: Vec<&str> = text.split('|').collect();
        let key: Vec<String> = self.keys.iter().map(|k| cells[*k].to_owned()).collect();
        for (start, end) in taking {
            self.groups.entry((start, end, key.clone())).or_default().push(row);
        }
    }

    fn lines(&self) -> Vec<String> {
        let show = |v: Option<i64>| v.map_or_else(|| "-".to_owned(), |v| v.to_string());
        let show_float = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:?}"));
        let mut lines = Vec::new();
        for ((start, end, key), rows) in &self.groups {
            let values: Vec<i64> = rows.iter().filter_map(|r| r.2).collect();
            let floats: Vec<f64> = rows.iter().filter_map(|r| r.3).map(f64::from).collect();
            let sum = (!floats.is_empty()).then(|| floats.iter().sum::<f64>());
            let filtered = |keeps: fn(i32) -> bool| {
                let values = rows.iter().filter(|r| r.3.is_some_and(keeps)).filter_map(|r| r.2);
                values.reduce(|sum, value| sum + value)
            };
            let mut cells = key.clone();
            cells.push(rows.len().to_string());
            cells.push(values.len().to_string());
            cells.push(show((!values.is_empty()).then(|| values.iter().sum())));
            if self.which != Which::Reversible {
                cells.push(show(values.iter().min().copied()));
                cells.push(show_float(floats.iter().copied().reduce(f64::max)));
                cells.push(show_float(sum));
                cells.push(show_float(sum.map(|sum| sum / floats.len() as f64)));
            }
            cells.push(show(filtered(|x| x > 0)));
            cells.push(show(filtered(|x| x < 0)));
            cells.push(show(filtered(|x| x == 0)));
            if self.which == Which::WithDistinct {
                let texts: std::collections::BTreeSet<u8> = rows.iter().filter_map(|r| r.1).map(|n| n % 4).collect();
                let distinct: std::collections::BTreeSet<i64> = values.iter().copied().collect();
                cells.push(texts.len().to_string());
                cells.push(show((!distinct.is_empty()).then(|| distinct.iter().sum())));
            }
            cells.extend([*start, *end, end - 1].map(shown));
            lines.push(cells.join("|"));
        }
        sorted(lines)
    }
}

/// Both phases in one subtask, for the driver.
struct TwoPhases {
    partial: WindowAggregate,
    last: WindowAggregate,
}

impl TwoPhases {
    fn hand_over(&mut self, from: Output, out: &mut Output) -> Result<()> {
        out.late.extend(from.late);
        out.dead.extend(from.dead);
        from.batches.into_iter().try_for_each(|rows| self.last.process(0, rows, out))
    }
}

impl Operator for TwoPhases {
    fn process(&mut self, port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let mut between = Output::default();
        self.partial.process(port, rows, &mut between)?;
        self.hand_over(between, out)
    }
    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<i64> {
        let mut between = Output::default();
        self.partial.on_watermark(watermark, &mut between)?;
        self.hand_over(between, out)?;
        self.last.on_watermark(watermark, out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        self.last.resume(out)
    }
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        let mut between = Output::default();
        self.partial.flush(&mut between)?;
        self.hand_over(between, out)
    }
    fn tables(&self) -> Vec<TableSpec> {
        assert!(self.partial.tables().is_empty());
        self.last.tables()
    }
    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        self.last.snapshot()
    }
    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        self.last.restore(table, rows)
    }
    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.partial.restored(watermark)?;
        self.last.restored(watermark)
    }
    fn take_counts(&mut self) -> OperatorCounts {
        self.partial.take_counts()
    }
}

#[derive(Clone, Copy, Debug)]
enum Variant {
    Whole,
    General,
    TwoPhases,
    TwoPhasesGeneral,
}

fn make(node: &WindowAggregateNode, variant: Variant, subtask: (u32, u32)) -> BoxedOperator {
    let which = match node.aggregates.len() {
        6 => Which::Reversible,
        10 => Which::Plain,
        _ => Which::WithDistinct,
    };
    let output = output(&node.keys, which);
    let whole = |phase, inputs: SchemaRef, partition: Vec<usize>| {
        let context = context(vec![inputs], vec![partition], Arc::clone(&output), subtask);
        let operator = WindowAggregate::new(node, phase, context, &input()).expect("builds");
        match variant {
            Variant::Whole | Variant::TwoPhases => operator,
            Variant::General | Variant::TwoPhasesGeneral => operator.general_only(),
        }
    };
    match variant {
        Variant::Whole | Variant::General => Box::new(whole(Phase::Whole, input(), node.keys.clone())),
        Variant::TwoPhases | Variant::TwoPhasesGeneral => {
            let (between, partition) = partial_schema(node, &input()).expect("a schema");
            Box::new(TwoPhases {
                partial: whole(Phase::Partial, input(), node.keys.clone()),
                last: whole(Phase::Final, between, partition),
            })
        }
    }
}

fn shapes() -> impl Strategy<Value = WindowShape> {
    (1_i64..12, 1_i64..5, -20_i64..20, 0..3).prop_map(|(unit, count, offset, kind)| match kind {
        0 => WindowShape::Tumble { size: unit * count, offset },
        1 => WindowShape::Hop { size: unit * count, slide: unit, offset },
        _ => WindowShape::Cumulate { max_size: unit * count, step: unit, offset },
    })
}

fn row() -> impl Strategy<Value = Row> {
    let integer = || prop::option::weighted(0.8, -4_i64..4);
    (integer(), prop::option::weighted(0.8, 0_u8..4), integer(), prop::option::weighted(0.8, -4_i32..4))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_batch_answer(
        steps in steps(1, row()),
        shape in shapes(),
        lateness in prop_oneof![Just(0_i64), 0_i64..15],
        firing in prop_oneof![Just(Firing::Complete), Just(Firing::Eager)],
        keys in prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![0, 1]), Just(vec![3]), Just(vec![])],
        which in prop_oneof![Just(Which::Reversible), Just(Which::Plain), Just(Which::WithDistinct)],
    ) {
        let node = node(shape, keys.clone(), lateness, firing, which);
        let groups = BTreeMap::new();
        let mut oracle = Oracle { shape, keys: keys.clone(), lateness, firing, which, groups, late: 0 };
        let events = events(&steps, |_, r, watermark| {
            r.iter().for_each(|(t, row)| oracle.take(*t, *row, watermark));
            rows(&r)
        });
        let expected = oracle.lines();
        for variant in [Variant::Whole, Variant::General, Variant::TwoPhases, Variant::TwoPhasesGeneral] {
            let found = run(&events, std::slice::from_ref(&keys), &|subtask| make(&node, variant, subtask));
            prop_assert_eq!(&sorted(lines(&found.rows)), &expected, "{:?}", variant);
            prop_assert_eq!(found.late.iter().map(RecordBatch::num_rows).sum::<usize>(), oracle.late);
        }
    }
}

#[test]
fn the_fast_path_is_taken_where_it_can_be() {
    let shape = WindowShape::Tumble { size: 10, offset: 0 };
    let operator = |keys: Vec<usize>, which| {
        let node = node(shape, keys.clone(), 0, Firing::Complete, which);
        let context = context(vec![input()], vec![keys.clone()], output(&keys, which), (1, 0));
        WindowAggregate::new(&node, Phase::Whole, context, &input()).expect("builds")
    };
    assert!(operator(vec![0], Which::Plain).has_fast_path());
    assert!(operator(vec![], Which::Plain).has_fast_path());
    assert!(!operator(vec![1], Which::Plain).has_fast_path());
    assert!(!operator(vec![0], Which::WithDistinct).has_fast_path());
}

#[test]
fn windows_fire_in_order_and_late_rows_are_put_aside() {
    let node = node(WindowShape::Tumble { size: 10, offset: 0 }, vec![0], 0, Firing::Complete, Which::Plain);
    let mut operator = make(&node, Variant::Whole, (1, 0));
    let mut out = Output::default();
    let one = (Some(1), None, Some(5), None);
    operator.process(0, rows(&[(25, one), (3, one), (14, one)]), &mut out).expect("processes");
    operator.on_watermark(20, &mut out).expect("fires");
    finish(operator.as_mut(), &mut out);
    let text = lines(&out.batches);
    assert_eq!(text.len(), 2);
    assert!(text[0].ends_with(&format!("{}|{}|{}", shown(0), shown(10), shown(9))), "{text:?}");
    operator.process(0, rows(&[(19, one), (20, one)]), &mut out).expect("processes");
    assert_eq!((out.late.len(), out.late[0].rows.num_rows(), out.late[0].watermark), (1, 1, 20));
    assert_eq!(out.late[0].time_column, 4);
}

#[test]
fn snapshots_hold_only_what_changed() {
    let node = node(WindowShape::Tumble { size: 1_000, offset: 0 }, vec![0], 0, Firing::Complete, Which::Plain);
    for variant in [Variant::Whole, Variant::General] {
        let mut operator = make(&node, variant, (1, 0));
        let mut out = Output::default();
        let many: Vec<(i64, Row)> = (0..100).map(|k| (5, (Some(k), None, Some(1), None))).collect();
        let upserts = |operator: &mut BoxedOperator| -> usize {
            operator.snapshot().expect("snapshots")[0].upserts.iter().map(RecordBatch::num_rows).sum()
        };
        operator.process(0, rows(&many), &mut out).expect("processes");
        assert_eq!(upserts(&mut operator), 100);
        assert_eq!(upserts(&mut operator), 0);
        operator.process(0, rows(&many[40..43]), &mut out).expect("processes");
        assert_eq!(upserts(&mut operator), 3, "{variant:?}");
        assert!(operator.state_bytes() > 0);
    }
}

#[test]
fn partial_aggregation_gives_up_on_distinct_keys() {
    let node = node(WindowShape::Tumble { size: 1_000, offset: 0 }, vec![0], 0, Firing::Complete, Which::Plain);
    let (between, partition) = partial_schema(&node, &input()).expect("a schema");
    let output = output(&[0], Which::Plain);
    let build = |phase, schema: SchemaRef, partition: Vec<usize>| {
        let mut context = context(vec![schema], vec![partition], Arc::clone(&output), (1, 0));
        context.batch_rows = 8_192;
        WindowAggregate::new(&node, phase, context, &input()).expect("builds")
    };
    let mut partial = build(Phase::Partial, input(), vec![0]);
    let mut last = build(Phase::Final, between, partition);
    let (mut sent, mut out) = (Output::default(), Output::default());
    let mut next = 0;
    for _ in 0..40 {
        let many: Vec<(i64, Row)> = (next..next + 4_000).map(|k| (5, (Some(k), None, Some(k), Some(1)))).collect();
        next += 4_000;
        partial.process(0, rows(&many), &mut sent).expect("processes");
    }
    let early: usize = sent.batches.iter().map(RecordBatch::num_rows).sum();
    assert!(early >= 150_000, "rows pass through without waiting: {early}");
    partial.flush(&mut sent).expect("flushes");
    for rows in sent.batches {
        last.process(0, rows, &mut out).expect("merges");
    }
    last.on_watermark(i64::MAX, &mut out).expect("fires");
    finish(&mut last, &mut out);
    assert_eq!(out.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 160_000);
}

#[test]
fn windows_given_by_columns_are_kept_apart() {
    let input = schema(&[("v", DataType::Int64), ("ws", timestamp()), ("we", timestamp())]);
    let node = WindowAggregateNode {
        window: WindowSource::Columns { start: 1, end: 2, domain: TimeDomain::Event },
        keys: vec![],
        aggregates: vec![AggregateCall { args: vec![encoded(&col("v"), &input)], ..call("s", "sum", None) }],
        window_columns: vec![WindowColumn::Start, WindowColumn::End],
        allowed_lateness_ms: 0,
        firing: Firing::Complete,
    };
    let output = schema(&[("s", DataType::Int64), ("window_start", timestamp()), ("window_end", timestamp())]);
    let make = |subtask| -> BoxedOperator {
        let context = context(vec![Arc::clone(&input)], vec![vec![1, 2]], Arc::clone(&output), subtask);
        Box::new(WindowAggregate::new(&node, Phase::Whole, context, &input).expect("builds"))
    };
    let rows = batch(
        &input,
        vec![
            integers([Some(1), Some(2), Some(4), Some(8)]),
            times([Some(0), Some(10), Some(0), None]),
            times([Some(20), Some(20), Some(20), Some(20)]),
        ],
    );
    let events =
        [Event::Rows { port: 0, rows }, Event::Snapshot, Event::Restore { parallelism: 3 }, Event::Watermark(20)];
    let found = run(&events, &[vec![1, 2]], &make);
    let expected = vec![format!("2|{}|{}", shown(10), shown(20)), format!("5|{}|{}", shown(0), shown(20))];
    assert_eq!(sorted(lines(&found.rows)), expected);
    assert_eq!(found.dead.iter().map(|rows| rows.num_rows()).sum::<usize>(), 1);
}

#[test]
fn windows_of_the_clock_fire_once_across_a_restart() {
    let mut node =
        node(WindowShape::Hop { size: 20, slide: 10, offset: 0 }, vec![0], 0, Firing::Complete, Which::Plain);
    node.window = WindowSource::Function {
        shape: WindowShape::Hop { size: 20, slide: 10, offset: 0 },
        domain: TimeDomain::Processing,
        time_column: 4,
    };
    let (mut out, mut store) = (Output::default(), Store::default());
    let one = (Some(1), None, Some(5), None);
    let mut operator = make(&node, Variant::Whole, (1, 0));
    operator.on_processing_time(5, &mut out).expect("moves");
    operator.process(0, rows(&[(0, one), (0, one)]), &mut out).expect("processes");
    // The row is in [-10, 10), which fires, and in [0, 20), which does not.
    operator.on_processing_time(12, &mut out).expect("moves");
    finish(operator.as_mut(), &mut out);
    let deltas = operator.snapshot().expect("snapshots");
    store.apply(&operator, deltas);
    let mut operator = make(&node, Variant::Whole, (1, 0));
    store.restore(&mut operator, (1, 0), None);
    operator.on_processing_time(15, &mut out).expect("moves");
    finish(operator.as_mut(), &mut out);
    operator.process(0, rows(&[(0, one)]), &mut out).expect("processes");
    operator.on_watermark(i64::MAX, &mut out).expect("fires");
    finish(operator.as_mut(), &mut out);
    let ends = [(10, 2), (20, 3), (30, 1)];
    let text = lines(&out.batches);
    assert_eq!(text.len(), ends.len(), "{text:?}");
    for (line, (end, rows)) in text.iter().zip(ends) {
        assert!(line.starts_with(&format!("1|{rows}|")) && line.ends_with(&shown(end - 1)), "{line}");
    }
}
