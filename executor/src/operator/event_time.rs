//! The time column of a row, in milliseconds.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{
    DataType, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use qanat_executor_core::window::TIME_LIMIT;
use qanat_proto::error::{Error, Result};

use super::evaluate::{REASON_NULL_TIME, REASON_TIME_RANGE, internal};
use super::{DeadRows, LateRows, Output};

/// The time column as ms, rounded down. Keeps NULLs. Seconds that overflow become the nearest bound,
/// which [`split_times`] then refuses.
pub(crate) fn milliseconds(column: &ArrayRef) -> Result<Int64Array> {
    let nulls = column.nulls().cloned();
    let values: ScalarBuffer<i64> = match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            column.as_primitive::<TimestampMillisecondType>().values().clone()
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            column.as_primitive::<TimestampSecondType>().values().iter().map(|v| v.saturating_mul(1_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().values().iter().map(|v| v.div_euclid(1_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().values().iter().map(|v| v.div_euclid(1_000_000)).collect()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().values().clone(),
        other => return Err(Error::internal(format!("a time column has type {other}"))),
    };
    Ok(Int64Array::new(values, nulls))
}

/// Whether [`split_times`] keeps the row of a time.
pub(crate) fn is_time(times: &Int64Array, row: usize) -> bool {
    times.is_valid(row) && (-TIME_LIMIT..=TIME_LIMIT).contains(&times.value(row))
}

/// Rows with a usable time, and those times. The others (NULL, or beyond what window arithmetic takes)
/// are put into `out.dead`.
pub(crate) fn split_times(
    rows: RecordBatch,
    time_column: usize,
    out: &mut Output,
) -> Result<(RecordBatch, ScalarBuffer<i64>)> {
    let times = milliseconds(rows.column(time_column))?;
    // All rows at once: shifted into the range, a time has none of the high bits.
    let high = times.values().iter().fold(0_u64, |bits, t| bits | t.wrapping_add(TIME_LIMIT) as u64);
    if times.null_count() == 0 && high < 2 * TIME_LIMIT as u64 {
        return Ok((rows, times.values().clone()));
    }
    let good = BooleanBuffer::collect_bool(times.len(), |i| is_time(&times, i));
    let null = BooleanBuffer::collect_bool(times.len(), |i| times.is_null(i));
    let far = BooleanBuffer::collect_bool(times.len(), |i| times.is_valid(i) && !is_time(&times, i));
    for (bad, reason) in [(null, REASON_NULL_TIME), (far, REASON_TIME_RANGE)] {
        if bad.count_set_bits() > 0 {
            let rows = filter_record_batch(&rows, &BooleanArray::new(bad, None)).map_err(internal)?;
            out.dead.push(DeadRows { rows, reason: reason.to_owned() });
        }
    }
    let good = BooleanArray::new(good, None);
    let kept = filter_record_batch(&rows, &good).map_err(internal)?;
    let times = arrow::compute::filter(&times, &good).map_err(internal)?;
    let times = times.as_primitive::<Int64Type>().values().clone();
    Ok((kept, times))
}

/// Puts rows that are late into `out.late`; returns the others. `times`: what `is_late` judges by.
pub(crate) fn split_late(
    rows: RecordBatch,
    time_column: usize,
    times: &[i64],
    is_late: impl Fn(i64) -> bool,
    watermark: i64,
    out: &mut Output,
) -> Result<RecordBatch> {
    if !times.iter().any(|t| is_late(*t)) {
        return Ok(rows);
    }
    let late = BooleanArray::new(BooleanBuffer::collect_bool(times.len(), |i| is_late(times[i])), None);
    let kept = filter_record_batch(&rows, &arrow::compute::not(&late).map_err(internal)?).map_err(internal)?;
    let rows = filter_record_batch(&rows, &late).map_err(internal)?;
    out.late.push(LateRows { rows, time_column, watermark });
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{TimestampMicrosecondArray, TimestampSecondArray};

    use super::*;

    #[test]
    fn finer_units_round_down_and_seconds_saturate() {
        let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(1_999), None]));
        assert_eq!(milliseconds(&micros).expect("a time"), Int64Array::from(vec![Some(-1), Some(1), None]));
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX, 2]));
        assert_eq!(milliseconds(&seconds).expect("a time"), Int64Array::from(vec![i64::MAX, 2_000]));
    }
}
