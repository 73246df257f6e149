//! The memory budget of a job: what its queues and its state hold.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes held by one job. Sources pause while it is over its limit.
#[derive(Debug)]
pub struct JobMemory {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl JobMemory {
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    pub fn grow(&self, bytes: usize) {
        if bytes > 0 {
            let used = self.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
            self.peak.fetch_max(used, Ordering::AcqRel);
        }
    }

    pub fn shrink(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// Replaces what an owner held by what it holds now.
    pub fn change(&self, before: usize, after: usize) {
        if after > before {
            self.grow(after - before);
        } else {
            self.shrink(before - after);
        }
    }

    pub fn is_over(&self) -> bool {
        self.used.load(Ordering::Acquire) > self.limit
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Acquire)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// Bytes that the rows of a batch take, shared buffers counted by the part that is used.
pub fn batch_bytes(rows: &arrow::array::RecordBatch) -> usize {
    use arrow::array::Array;
    rows.columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
        .sum()
}
