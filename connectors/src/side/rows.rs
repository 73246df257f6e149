//! Builds the rows of side tables.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::{Epoch, JobId};

use super::schema::{dead_letter_schema, late_schema};
use crate::contract::DeadLetter;
use crate::encode::json::rows_as_text;

/// Who puts rows aside.
#[derive(Clone, Copy, Debug)]
pub struct SideOrigin<'a> {
    pub job: JobId,
    /// The epoch that is open.
    pub epoch: Epoch,
    /// Name of the operator or table, for people.
    pub operator: &'a str,
}

impl SideOrigin<'_> {
    /// The first three columns of either table.
    fn columns(&self, count: usize) -> Result<[ArrayRef; 3]> {
        let epoch = i64::try_from(self.epoch.0).map_err(|_| Error::internal("an epoch above 2^63"))?;
        let job = self.job.to_string();
        Ok([
            Arc::new(StringArray::from(vec![job.as_str(); count])),
            Arc::new(Int64Array::from_value(epoch, count)),
            Arc::new(StringArray::from(vec![self.operator; count])),
        ])
    }
}

/// Late rows, as they were when they came too late: `time_column` of `rows` holds the event time,
/// `watermark` (ms) is the one they were judged by.
///
/// # Errors
/// E0217 for a column that JSON cannot hold.
pub fn late_rows(
    origin: SideOrigin<'_>,
    rows: &RecordBatch,
    time_column: usize,
    watermark: i64,
) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let times = match rows.columns().get(time_column) {
        Some(times) if times.data_type().is_temporal() => {
            cast(times, &DataType::Timestamp(TimeUnit::Millisecond, None))
                .map_err(|e| Error::internal(format!("event time of late rows: {e}")))?
        }
        Some(_) | None => return Err(Error::internal("late rows without an event-time column")),
    };
    // The two infinities are no instants.
    let watermark = (watermark != i64::MAX && watermark != i64::MIN).then_some(watermark);
    let [job, epoch, operator] = origin.columns(count)?;
    let columns: Vec<ArrayRef> = vec![
        job,
        epoch,
        operator,
        times,
        Arc::new(TimestampMillisecondArray::from(vec![watermark; count])),
        Arc::new(StringArray::from(rows_as_text(rows)?)),
    ];
    RecordBatch::try_new(late_schema(), columns).map_err(|e| Error::internal(e.to_string()))
}

/// Records that a source could not decode.
///
/// # Errors
/// None that data can cause.
pub fn dead_letters(origin: SideOrigin<'_>, letters: &[DeadLetter]) -> Result<RecordBatch> {
    let [job, epoch, operator] = origin.columns(letters.len())?;
    let columns: Vec<ArrayRef> = vec![
        job,
        epoch,
        operator,
        Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| &letter.origin))),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|letter| letter.offset))),
        Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| &letter.reason))),
        Arc::new(BinaryArray::from_iter_values(letters.iter().map(|letter| &letter.raw))),
        Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| String::from_utf8_lossy(&letter.raw)))),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns).map_err(|e| Error::internal(e.to_string()))
}

/// Rows that an operator could not process.
///
/// # Errors
/// E0217 for a column that JSON cannot hold.
pub fn dead_rows(origin: SideOrigin<'_>, rows: &RecordBatch, reason: &str) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let [job, epoch, operator] = origin.columns(count)?;
    let columns: Vec<ArrayRef> = vec![
        job,
        epoch,
        operator,
        new_null_array(&DataType::Utf8, count),
        new_null_array(&DataType::Int64, count),
        Arc::new(StringArray::from(vec![reason; count])),
        new_null_array(&DataType::Binary, count),
        Arc::new(StringArray::from(rows_as_text(rows)?)),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns).map_err(|e| Error::internal(e.to_string()))
}
