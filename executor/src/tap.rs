//! Rows behind an operator, for whoever looks at them: sampled while somebody does, and free while nobody does.
//!
//! ```text
//!  task ── rows ──> router, child, sink
//!            └────> Tap ──> queue of each reader ──> Taps (exchange/taps.rs) ──> coordinator ──> client
//! ```
//!
//! What must never happen: a task waits for a reader. A full queue leaves rows out and counts them; what waits in it
//! is bounded by `limits::TAP_QUEUE`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use qanat_proto::limits;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::memory::batch_bytes;

/// The place behind one operator, shared by its subtasks in this process.
#[derive(Default)]
pub struct Tap {
    /// Readers: what a task looks at for each batch.
    watched: AtomicUsize,
    readers: Mutex<Vec<Reader>>,
}

/// Where rows for one reader go.
struct Reader {
    sender: Sender<Tapped>,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Bytes of the batches that wait.
    bytes: AtomicUsize,
    /// Rows that were left out since the last that went in.
    skipped: AtomicU64,
}

/// A batch on its way to a reader.
struct Tapped {
    subtask: u32,
    rows: RecordBatch,
    bytes: usize,
}

/// One reader's end. Dropping it ends the reading.
pub struct TapReader {
    tap: Arc<Tap>,
    queue: Arc<Queue>,
    receiver: Receiver<Tapped>,
}

impl Tap {
    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody looks. To be asked before [`Tap::offer`]; costs one load.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// Hands rows of a subtask to all readers that have room for them.
    pub fn offer(&self, subtask: u32, rows: &RecordBatch) {
        let count = rows.num_rows() as u64;
        if count == 0 {
            return;
        }
        let bytes = batch_bytes(rows);
        for reader in self.readers().iter() {
            let queue = &reader.queue;
            let waiting = queue.bytes.fetch_add(bytes, Ordering::AcqRel);
            // A batch that is larger than the queue goes into an empty one.
            let has_room = waiting == 0 || waiting + bytes <= limits::TAP_QUEUE.0;
            let tapped = Tapped { subtask, rows: rows.clone(), bytes };
            if !has_room || reader.sender.try_send(tapped).is_err() {
                queue.bytes.fetch_sub(bytes, Ordering::AcqRel);
                queue.skipped.fetch_add(count, Ordering::AcqRel);
            }
        }
    }

    /// Begins to look; None if too many do already.
    pub fn read(self: &Arc<Self>) -> Option<TapReader> {
        let mut readers = self.readers();
        if readers.len() >= limits::TAPS_MAX {
            return None;
        }
        let (sender, receiver) = channel(limits::TAP_QUEUE.1);
        let queue = Arc::<Queue>::default();
        readers.push(Reader { sender, queue: queue.clone() });
        self.watched.store(readers.len(), Ordering::Relaxed);
        Some(TapReader { tap: self.clone(), queue, receiver })
    }
}

impl TapReader {
    /// The next rows with the subtask that gave them, and how many were left out since the rows before. Waits for
    /// them; dropped while it waits, it loses nothing.
    pub async fn next(&mut self) -> Option<(u32, RecordBatch, u64)> {
        let tapped = self.receiver.recv().await?;
        Some(self.take(tapped))
    }

    /// As [`TapReader::next`], of what is there already.
    pub fn try_next(&mut self) -> Option<(u32, RecordBatch, u64)> {
        let tapped = self.receiver.try_recv().ok()?;
        Some(self.take(tapped))
    }

    fn take(&self, tapped: Tapped) -> (u32, RecordBatch, u64) {
        self.queue.bytes.fetch_sub(tapped.bytes, Ordering::AcqRel);
        (tapped.subtask, tapped.rows, self.queue.skipped.swap(0, Ordering::AcqRel))
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        let mut readers = self.tap.readers();
        readers.retain(|reader| !Arc::ptr_eq(&reader.queue, &self.queue));
        self.tap.watched.store(readers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn rows(count: i64) -> RecordBatch {
        let column = Arc::new(Int64Array::from_iter_values(0..count)) as _;
        RecordBatch::try_from_iter([("n", column)]).expect("a batch")
    }

    #[test]
    fn a_slow_reader_misses_rows_and_is_told_how_many() {
        let tap = Arc::<Tap>::default();
        assert!(!tap.is_watched());
        tap.offer(0, &rows(5));
        let (mut slow, mut quick) = (tap.read().expect("room"), tap.read().expect("room"));
        let offered = limits::TAP_QUEUE.1 + 3;
        for _ in 0..offered {
            assert!(tap.is_watched());
            tap.offer(1, &rows(5));
            assert_eq!(
                quick.try_next().map(|(subtask, rows, skipped)| (subtask, rows.num_rows(), skipped)),
                Some((1, 5, 0))
            );
        }
        tap.offer(2, &rows(0));
        assert_eq!(slow.try_next().map(|(_, _, skipped)| skipped), Some(15));
        let left = std::iter::from_fn(|| slow.try_next()).map(|(_, rows, skipped)| (rows.num_rows(), skipped));
        assert_eq!(left.collect::<Vec<_>>(), vec![(5, 0); limits::TAP_QUEUE.1 - 1]);
        drop((slow, quick));
        assert!(!tap.is_watched());
    }

    #[test]
    fn bytes_are_bounded_and_a_large_batch_passes_alone() {
        let tap = Arc::<Tap>::default();
        let mut reader = tap.read().expect("room");
        let text = "x".repeat(limits::TAP_QUEUE.0);
        let column = Arc::new(StringArray::from(vec![text])) as _;
        let large = RecordBatch::try_from_iter([("s", column)]).expect("a batch");
        tap.offer(0, &large);
        tap.offer(0, &rows(1));
        tap.offer(0, &large);
        assert_eq!(reader.try_next().map(|(_, rows, skipped)| (rows == large, skipped)), Some((true, 2)));
        assert!(reader.try_next().is_none());
        tap.offer(0, &rows(1));
        assert_eq!(reader.try_next().map(|(_, rows, skipped)| (rows.num_rows(), skipped)), Some((1, 0)));
        let others: Vec<_> = (1..limits::TAPS_MAX).map(|_| tap.read().expect("room")).collect();
        assert!(tap.read().is_none());
        drop(others);
        assert!(tap.read().is_some());
    }
}
