//! Rows on their way to whoever looks: Arrow IPC streams that stand for themselves, in messages of a sensible size.

use std::ops::Range;

use arrow::array::{Array, RecordBatch};
use arrow::ipc::writer::StreamWriter;

use crate::rpc::control;
use crate::{Code, Error, Result, ipc, limits};

/// Rows that somebody follows.
#[derive(Clone, Debug, PartialEq)]
pub struct TailRows {
    pub from: TailFrom,
    /// When they were appended, or left the operator: milliseconds since 1970 UTC.
    pub at_ms: i64,
    pub rows: RecordBatch,
    /// Rows that were left out before these, because the reader was slow or there were too many. Never of a topic.
    pub skipped: u64,
}

/// Where followed rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// A partition of a topic; the first row has this offset, and the others follow without gap.
    Partition { partition: u32, first_offset: u64 },
    /// Rows that are staged for a partition under a handle of this name: they may vanish again.
    Staged { partition: u32, handle: String },
    /// A subtask of an operator.
    Subtask { subtask: u32, generation: u64 },
}

impl TailRows {
    /// Rows of a part, with their own first offset.
    pub fn part(&self, part: Range<usize>) -> Self {
        let mut from = self.from.clone();
        if let TailFrom::Partition { first_offset, .. } = &mut from {
            *first_offset += part.start as u64;
        }
        let skipped = if part.start == 0 { self.skipped } else { 0 };
        Self { from, at_ms: self.at_ms, rows: self.rows.slice(part.start, part.len()), skipped }
    }

    /// All but the rows themselves, whose encoding is the reader's choice.
    pub fn to_wire(&self) -> control::TailRows {
        let mut wire = control::TailRows {
            at_ms: self.at_ms,
            count: u32::try_from(self.rows.num_rows()).unwrap_or(u32::MAX),
            skipped: self.skipped,
            ..control::TailRows::default()
        };
        match &self.from {
            TailFrom::Partition { partition, first_offset } => {
                (wire.partition, wire.first_offset) = (*partition, *first_offset);
            }
            TailFrom::Staged { partition, handle } => {
                (wire.partition, wire.staged) = (*partition, handle.clone());
            }
            TailFrom::Subtask { subtask, generation } => {
                (wire.partition, wire.generation) = (*subtask, *generation);
            }
        }
        wire
    }

    /// Of a message in which the rows are Arrow's.
    ///
    /// # Errors
    /// E0503 if they are not.
    pub fn of_wire(wire: control::TailRows) -> Result<Vec<Self>> {
        let partition = wire.partition;
        let mut from = match (wire.generation, wire.staged.is_empty()) {
            (0, true) => TailFrom::Partition { partition, first_offset: wire.first_offset },
            (0, false) => TailFrom::Staged { partition, handle: wire.staged },
            (generation, _) => TailFrom::Subtask { subtask: partition, generation },
        };
        let mut skipped = wire.skipped;
        let mut batches = Vec::new();
        for rows in decode(&wire.arrow)? {
            let count = rows.num_rows() as u64;
            let batch = Self { from: from.clone(), at_ms: wire.at_ms, rows, skipped: std::mem::take(&mut skipped) };
            batches.push(batch);
            if let TailFrom::Partition { first_offset, .. } = &mut from {
                *first_offset += count;
            }
        }
        Ok(batches)
    }
}

/// A batch as an IPC stream, schema and all.
///
/// # Errors
/// E0211 for rows that fit into no message.
pub fn encode(rows: &RecordBatch) -> Result<Vec<u8>> {
    let failed = |e: arrow::error::ArrowError| Error::internal(format!("encode rows: {e}"));
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref()).map_err(failed)?;
    writer.write(rows).map_err(failed)?;
    let bytes = writer.into_inner().map_err(failed)?;
    if bytes.len() > limits::CONTROL_MESSAGE_BYTES - limits::TAIL_MESSAGE_BYTES {
        let message = format!("a row of {} bytes fits into no message", bytes.len());
        return Err(Error::new(Code::RecordTooLarge, message));
    }
    Ok(bytes)
}

/// The batches of an IPC stream.
///
/// # Errors
/// E0503 for bytes that are none.
pub fn decode(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let failed = |e: arrow::error::ArrowError| Error::internal(format!("these are no rows: {e}"));
    ipc::batches(bytes).map_err(failed)
}

/// Parts of a batch that aim at [`limits::TAIL_MESSAGE_BYTES`] and [`limits::BATCH_ROWS`] each.
pub fn parts(rows: &RecordBatch) -> impl Iterator<Item = Range<usize>> + use<> {
    let count = rows.num_rows();
    let bytes: usize = rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let parts = bytes.div_ceil(limits::TAIL_MESSAGE_BYTES).max(1);
    let step = count.div_ceil(parts).clamp(1, limits::BATCH_ROWS);
    (0..count).step_by(step).map(move |first| first..(first + step).min(count))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_come_back_in_parts() {
        let names = StringArray::from_iter_values((0..40).map(|n| format!("{n}").repeat(100_000)));
        let numbers = Int64Array::from_iter_values(0..40);
        let rows = RecordBatch::try_from_iter([("s", Arc::new(names) as _), ("n", Arc::new(numbers) as _)]);
        let rows = rows.expect("a batch").slice(3, 30);
        let parts: Vec<_> = parts(&rows).collect();
        assert!(parts.len() > 2, "{parts:?}");
        let mut next = 0;
        for part in parts {
            assert_eq!(part.start, next);
            next = part.end;
            let sent = rows.slice(part.start, part.len());
            let bytes = encode(&sent).expect("encoded");
            assert!(bytes.len() < 2 * limits::TAIL_MESSAGE_BYTES, "{}", bytes.len());
            assert_eq!(decode(&bytes).expect("decoded"), [sent]);
            assert!(decode(&bytes[..bytes.len() / 2]).is_err());
        }
        assert_eq!(next, 30);
        assert!(decode(b"nothing of the kind").is_err());
    }
}
