//! The windowed aggregation operator, fed with decoded batches, and what a loop by hand does with them.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use datafusion_common::DFSchema;
use datafusion_expr::col;
use hashbrown::HashMap;
use qanat_executor::operator::{self, BoxedOperator, OperatorContext, Output};
use qanat_proto::changelog::Changelog;
use qanat_proto::graph::{
    AggregateCall, Firing, Operator, OperatorKind, TimeDomain, WindowAggregateNode, WindowColumn, WindowShape,
    WindowSource,
};
use qanat_proto::ids::{KeyGroupRange, OperatorId};
use qanat_proto::physical::Phase;
use qanat_proto::{Error, Result, limits};

/// Windows that the data spans.
const WINDOWS: i64 = 10;
/// Length of a tumbling window and of a hopping one, ms.
pub const SIZE_MS: i64 = 10_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]))
}

/// `rows` rows in batches: random keys out of `keys`, times that rise over ten windows.
///
/// # Errors
/// None that the sizes here can cause.
pub fn batches(rows: usize, keys: i64) -> Result<Vec<RecordBatch>> {
    let schema = schema();
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(state >> 33).unwrap_or(0)
    };
    let span = WINDOWS * SIZE_MS;
    let mut batches = Vec::new();
    for start in (0..rows).step_by(limits::BATCH_ROWS) {
        let count = limits::BATCH_ROWS.min(rows - start);
        let k: Int64Array = (0..count).map(|_| next() % keys).collect::<Vec<_>>().into();
        let v: Int64Array = (0..count).map(|_| next() % 1_000).collect::<Vec<_>>().into();
        let ts: TimestampMillisecondArray = (start..start + count)
            .map(|row| i64::try_from(row).unwrap_or(0) * span / i64::try_from(rows).unwrap_or(1))
            .collect::<Vec<_>>()
            .into();
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(k), Arc::new(v), Arc::new(ts)]);
        batches.push(batch.map_err(|e| Error::internal(e.to_string()))?);
    }
    Ok(batches)
}

/// `COUNT(*), SUM(v)` by `k` in windows of `shape`, as one operator.
///
/// # Errors
/// None that this fixed plan can cause.
pub fn aggregation(shape: WindowShape) -> Result<BoxedOperator> {
    let input = schema();
    let columns = DFSchema::try_from(input.as_ref().clone()).map_err(|e| Error::internal(e.to_string()))?;
    let call = |name: &str, function: &str, args| AggregateCall {
        name: name.to_owned(),
        function: function.to_owned(),
        args,
        distinct: false,
        filter: None,
        order_by: Vec::new(),
        ignore_nulls: false,
    };
    let node = WindowAggregateNode {
        window: WindowSource::Function { shape, domain: TimeDomain::Event, time_column: 2 },
        keys: vec![0],
        aggregates: vec![
            call("n", "count", Vec::new()),
            call("s", "sum", vec![qanat_sql::expr::encode(&col("v"), &columns)?]),
        ],
        window_columns: vec![WindowColumn::End],
        allowed_lateness_ms: 0,
        firing: Firing::Complete,
    };
    let output: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("n", DataType::Int64, false),
        Field::new("s", DataType::Int64, true),
        Field::new("window_end", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]));
    let logical = Operator {
        id: OperatorId(1),
        name: "aggregation".to_owned(),
        kind: OperatorKind::WindowAggregate(node),
        output: output.clone(),
        changelog: Changelog::Append,
        ttl_ms: [0; 2],
    };
    let context = OperatorContext {
        name: logical.name.clone(),
        key_groups: limits::KEY_GROUPS_DEFAULT,
        range: KeyGroupRange { start: 0, end: limits::KEY_GROUPS_DEFAULT },
        inputs: vec![input.clone()],
        partition: vec![vec![0]],
        output,
        changelog: Changelog::Append,
        ttl_ms: [0; 2],
        spills: false,
        batch_rows: limits::BATCH_ROWS,
    };
    operator::build(&logical, Phase::Whole, &input, context)
}

/// Feeds all batches, with the watermark that a sorted source has, and counts the rows of the answer.
/// Rows are taken as they come out, as the chain does.
///
/// # Errors
/// What the operator says.
pub fn run(operator: &mut BoxedOperator, batches: &[RecordBatch]) -> Result<usize> {
    let mut rows = 0;
    for batch in batches {
        let mut out = Output::default();
        let last = batch.column(2).as_primitive::<TimestampMillisecondType>().values().last().copied().unwrap_or(0);
        operator.process(0, batch.clone(), &mut out)?;
        operator.on_watermark(last, &mut out)?;
        rows += take_all(operator, out)?;
    }
    let mut out = Output::default();
    operator.on_watermark(i64::MAX, &mut out)?;
    Ok(rows + take_all(operator, out)?)
}

fn take_all(operator: &mut BoxedOperator, mut out: Output) -> Result<usize> {
    let mut rows = 0;
    loop {
        rows += out.batches.drain(..).map(|batch| std::hint::black_box(batch).num_rows()).sum::<usize>();
        if !operator.resume(&mut out)? {
            return Ok(rows);
        }
    }
}

/// The limit: a hash map per tumbling window over the same columns, by hand.
pub fn by_hand(batches: &[RecordBatch]) -> usize {
    let mut windows: HashMap<i64, HashMap<i64, (i64, i64)>> = HashMap::new();
    for batch in batches {
        let keys = batch.column(0).as_primitive::<Int64Type>().values();
        let values = batch.column(1).as_primitive::<Int64Type>().values();
        let times = batch.column(2).as_primitive::<TimestampMillisecondType>().values();
        let mut row = 0;
        while row < keys.len() {
            let end = times[row] / SIZE_MS * SIZE_MS + SIZE_MS;
            let run = times[row..].iter().take_while(|time| **time < end).count();
            let window = windows.entry(end).or_default();
            for (key, value) in keys[row..row + run].iter().zip(&values[row..row + run]) {
                let entry = window.entry(*key).or_insert((0, 0));
                entry.0 += 1;
                entry.1 += value;
            }
            row += run;
        }
    }
    windows.values().map(HashMap::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_give_as_many_rows() {
        let batches = batches(50_000, 100).expect("sizes fit");
        let mut tumble = aggregation(WindowShape::Tumble { size: SIZE_MS, offset: 0 }).expect("a fixed plan");
        assert_eq!(run(&mut tumble, &batches).expect("runs"), by_hand(&batches));
        let shape = WindowShape::Hop { size: SIZE_MS, slide: 1_000, offset: 0 };
        let mut hop = aggregation(shape).expect("a fixed plan");
        assert_eq!(run(&mut hop, &batches).expect("runs"), 109 * 100, "109 windows touch the data");
    }
}
