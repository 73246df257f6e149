//! Joins small batches around a shuffle back to the size that operators work well with.
//!
//! A shuffle cuts each batch into one piece per receiver, so at high parallelism the pieces are small. Who sends them
//! to another executor joins those of a channel that wait behind each other ([`Joined`]). The receiver gathers those
//! that its queues hold already ([`Gathered`]), and with them the watermarks between them, which may well come a little
//! later than the rows behind them but never before those in front. Once its queues are empty, it waits for more no
//! longer than twice what it has just waited for its turn: on an idle machine nothing is delayed, and on a busy one
//! fewer and larger batches make up for it. Nothing waits for more when a barrier or another marker comes.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use qanat_proto::{Error, Result, limits};

/// A batch of this many rows is not worth copying where it is received: about what a full one is cut into for so few
/// receivers, and what is worth it where the pieces are smaller and have to be joined anyway.
const LARGE_ROWS: [usize; 2] = [limits::BATCH_ROWS / 5, limits::BATCH_ROWS / 3];
const FEW: usize = 4;
/// A batch of this many rows goes to another executor as it is, and at once. Smaller ones that wait behind each other go
/// as one, for which most columns need no copy, and may wait a moment for others to go with them.
const SENT_ROWS: usize = limits::BATCH_ROWS / 2;
/// Rows and bytes that are enough.
const ENOUGH_ROWS: usize = limits::BATCH_ROWS / 4 * 3;
const ENOUGH_BYTES: usize = 1 << 20;

/// Whether so many rows go to another executor as they are, and at once.
pub fn is_worth_a_message(rows: usize) -> bool {
    rows >= SENT_ROWS
}

/// Small batches that go on as one.
#[derive(Default)]
pub struct Joined {
    pieces: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Joined {
    /// Adds a batch that takes so many bytes.
    pub fn add(&mut self, rows: RecordBatch, bytes: usize) {
        self.rows += rows.num_rows();
        self.bytes += bytes;
        self.pieces.push(rows);
    }

    pub fn is_enough(&self) -> bool {
        self.rows >= ENOUGH_ROWS || self.bytes >= ENOUGH_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them, in the order in which they came.
    pub fn into_pieces(self) -> Vec<RecordBatch> {
        self.pieces
    }

    /// All of them as one batch, in the order in which they came. None if there is none.
    ///
    /// # Errors
    /// E0503 if they do not fit together.
    pub fn take(&mut self) -> Result<Option<RecordBatch>> {
        let Self { pieces, .. } = std::mem::take(self);
        match pieces.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            [first, ..] => join(first.schema_ref(), &pieces).map(Some),
        }
    }
}

/// Copies batches into one.
///
/// # Errors
/// E0503 if they do not fit together.
pub fn join(schema: &SchemaRef, pieces: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, pieces).map_err(|e| Error::internal(format!("could not join batches: {e}")))
}

/// What a receiver has gathered, by input port.
pub struct Gathered {
    ports: Vec<Port>,
    watermark: Option<i64>,
    large_rows: usize,
}

#[derive(Default)]
struct Port {
    small: Joined,
    large: Option<RecordBatch>,
}

impl Gathered {
    /// From so many channels.
    pub fn of(channels: usize) -> Self {
        let [few, many] = LARGE_ROWS;
        let large_rows = if channels <= FEW { few } else { many };
        Self { ports: Vec::new(), watermark: None, large_rows }
    }

    /// Adds rows that take so many bytes; whether it is enough now.
    pub fn add(&mut self, port: usize, rows: RecordBatch, bytes: usize) -> bool {
        while self.ports.len() <= port {
            self.ports.push(Port::default());
        }
        let Some(port) = self.ports.get_mut(port) else { return true };
        if rows.num_rows() >= self.large_rows {
            port.large = Some(rows);
            return true;
        }
        port.small.add(rows, bytes);
        port.small.is_enough()
    }

    /// A watermark for behind the rows. It only rises.
    pub fn hold(&mut self, watermark: i64) {
        self.watermark = Some(watermark);
    }

    pub fn is_empty(&self) -> bool {
        self.watermark.is_none() && self.ports.iter().all(|port| port.small.is_empty() && port.large.is_none())
    }

    /// Takes all that was gathered: rows by port, and the watermark behind them.
    ///
    /// # Errors
    /// E0503 if rows of one port do not fit together.
    pub fn take(&mut self) -> Result<(Vec<(usize, RecordBatch)>, Option<i64>)> {
        let mut rows = Vec::new();
        for (number, port) in self.ports.iter_mut().enumerate() {
            rows.extend(port.small.take()?.map(|rows| (number, rows)));
            rows.extend(port.large.take().map(|rows| (number, rows)));
        }
        Ok((rows, self.watermark.take()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(rows));
        RecordBatch::try_from_iter([("n", column)]).expect("one column")
    }

    #[test]
    fn small_batches_are_joined_and_large_ones_are_not_copied() {
        let mut gathered = Gathered::of(FEW);
        assert!(gathered.is_empty());
        assert!(
            !gathered.add(1, batch(0..10), 80)
                && !gathered.add(1, batch(10..20), 80)
                && !gathered.add(0, batch(0..5), 40)
        );
        gathered.hold(7);
        let large = batch(20..20 + LARGE_ROWS[0] as i64);
        assert!(gathered.add(1, large.clone(), 0), "a large batch goes on at once");
        let (rows, watermark) = gathered.take().expect("they fit");
        assert_eq!((rows.len(), watermark), (3, Some(7)));
        assert_eq!((rows[0].0, rows[0].1.num_rows()), (0, 5));
        let joined = rows[1].1.column(0).as_primitive::<Int64Type>();
        assert!(joined.values().iter().copied().eq(0..20), "in the order in which they came");
        assert!(Arc::ptr_eq(rows[2].1.column(0), large.column(0)));
        assert!(gathered.is_empty());
    }

    #[test]
    fn enough_is_enough() {
        let mut gathered = Gathered::of(FEW + 1);
        let pieces = (1..).find(|_| gathered.add(0, batch(0..1_000), 8_000)).expect("ends");
        assert_eq!(pieces, 7);
        let (rows, _) = gathered.take().expect("they fit");
        assert_eq!(rows[0].1.num_rows(), 7_000);
    }
}
