//! Reads side tables, for `qanat late` and `qanat dead-letters`.

use arrow::array::cast::AsArray;
use arrow::array::types::{Int64Type, TimestampMillisecondType};
use arrow::array::{Array, RecordBatch};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::manifest::SinkChannel;
use qanat_storage::log::{Isolation, Start, ToLatest, Topics};

use super::schema::schema;
use super::topic_name;

/// A late row. Its `id` is its offset in the topic: its name for `readmit`.
pub use qanat_proto::rpc::control::LateRow as LateEntry;

/// A record that could not be decoded, or a row that could not be processed.
pub use qanat_proto::rpc::control::DeadLetter as DeadLetterEntry;

/// Batches of a side table in order, to its end as of now. Committed rows only.
pub struct SideReader {
    batches: Option<ToLatest>,
    channel: SinkChannel,
}

impl SideReader {
    /// Opens a side table of a job at a topic offset. A job that never put a row aside has no topic: the
    /// table is empty.
    ///
    /// # Errors
    /// E0213 for an offset that is gone; E0304 for a damaged log.
    pub fn open(topics: &Topics, job_name: &str, channel: SinkChannel, from: u64) -> Result<Self> {
        let batches = match topics.find(&topic_name(job_name, channel)?)? {
            None => None,
            Some(topic) => {
                let start = if from == 0 { Start::Earliest } else { Start::Offset(from) };
                Some(topic.read_to_latest(0, start, Isolation::Committed)?)
            }
        };
        Ok(Self { batches, channel })
    }

    /// The next rows with the offset of the first; `None` at the end.
    ///
    /// # Errors
    /// E0304 for a damaged log; E0114 for a topic of other columns.
    pub fn next_batch(&mut self) -> Result<Option<(u64, RecordBatch)>> {
        let Some(batches) = &mut self.batches else { return Ok(None) };
        let Some(batch) = batches.next()? else { return Ok(None) };
        let wanted = schema(self.channel)?;
        let types = |s: &arrow::datatypes::Schema| s.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        // Later versions may have added columns at the end.
        if !types(batch.rows.schema_ref()).starts_with(&types(&wanted)) {
            return Err(Error::new(Code::SinkSchema, "the topic of a side table holds other columns"));
        }
        Ok(Some((batch.first_offset, batch.rows)))
    }
}

/// The rows of a batch of late rows, whose first has the offset `first`.
pub fn late_entries(first: u64, rows: &RecordBatch) -> Vec<LateEntry> {
    let (event_time, watermark) = (time(rows, 3), time(rows, 4));
    let entry = |(id, row)| LateEntry {
        id,
        job: text(rows, 0, row).unwrap_or_default(),
        epoch: integer(rows, 1, row).unwrap_or_default(),
        operator: text(rows, 2, row).unwrap_or_default(),
        event_time_ms: event_time(row),
        watermark_ms: watermark(row),
        row: text(rows, 5, row).unwrap_or_default(),
    };
    (first..).zip(0..rows.num_rows()).map(entry).collect()
}

/// The rows of a batch of dead letters, whose first has the offset `first`.
pub fn dead_letter_entries(first: u64, rows: &RecordBatch) -> Vec<DeadLetterEntry> {
    let raw = rows.column(6).as_binary::<i32>();
    let entry = |(id, row)| DeadLetterEntry {
        id,
        job: text(rows, 0, row).unwrap_or_default(),
        epoch: integer(rows, 1, row).unwrap_or_default(),
        operator: text(rows, 2, row).unwrap_or_default(),
        origin: text(rows, 3, row),
        offset: integer(rows, 4, row),
        reason: text(rows, 5, row).unwrap_or_default(),
        raw: raw.is_valid(row).then(|| raw.value(row).to_vec()),
        text: text(rows, 7, row),
    };
    (first..).zip(0..rows.num_rows()).map(entry).collect()
}

/// All late rows of a job.
///
/// # Errors
/// Those of [`SideReader`].
pub fn late_rows_of(topics: &Topics, job_name: &str) -> Result<Vec<LateEntry>> {
    let mut reader = SideReader::open(topics, job_name, SinkChannel::Late, 0)?;
    let mut entries = Vec::new();
    while let Some((first, rows)) = reader.next_batch()? {
        entries.extend(late_entries(first, &rows));
    }
    Ok(entries)
}

/// All dead letters of a job.
///
/// # Errors
/// Those of [`SideReader`].
pub fn dead_letters_of(topics: &Topics, job_name: &str) -> Result<Vec<DeadLetterEntry>> {
    let mut reader = SideReader::open(topics, job_name, SinkChannel::DeadLetters, 0)?;
    let mut entries = Vec::new();
    while let Some((first, rows)) = reader.next_batch()? {
        entries.extend(dead_letter_entries(first, &rows));
    }
    Ok(entries)
}

fn text(rows: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let array = rows.column(column).as_string::<i32>();
    array.is_valid(row).then(|| array.value(row).to_owned())
}

fn integer(rows: &RecordBatch, column: usize, row: usize) -> Option<i64> {
    let array = rows.column(column).as_primitive::<Int64Type>();
    array.is_valid(row).then(|| array.value(row))
}

fn time(rows: &RecordBatch, column: usize) -> impl Fn(usize) -> Option<i64> + use<'_> {
    let array = rows.column(column).as_primitive::<TimestampMillisecondType>();
    move |row| array.is_valid(row).then(|| array.value(row))
}
