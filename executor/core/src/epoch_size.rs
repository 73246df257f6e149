//! The size of an epoch is bounded at its sources (P8): behind so many bytes a source asks for the next barrier, and
//! behind twice as many it reads nothing more until that comes.
//!
//! Sinks never hold back rows for their size: the barrier that would end the epoch stands behind those rows.

/// What one source subtask has read since its last barrier.
#[derive(Clone, Debug)]
pub struct EpochSize {
    limit: u64,
    read: u64,
    has_asked: bool,
}

impl EpochSize {
    /// Counts from a restore point on. `limit` is in bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit: limit.max(1), read: 0, has_asked: false }
    }

    /// Counts rows that were read. True if the next barrier is to be asked for now: once in each epoch.
    #[must_use]
    pub fn add(&mut self, bytes: u64) -> bool {
        self.read = self.read.saturating_add(bytes);
        let is_due = self.read >= self.limit && !self.has_asked;
        self.has_asked |= is_due;
        is_due
    }

    /// Whether nothing more may be read in this epoch.
    pub fn is_full(&self) -> bool {
        self.read / 2 >= self.limit
    }

    /// The barrier has gone out: what comes next belongs to another epoch.
    pub fn barrier(&mut self) {
        (self.read, self.has_asked) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_source_asks_for_a_barrier_and_then_waits_for_it() {
        let mut size = EpochSize::new(100);
        for _ in 0..2 {
            assert!(!size.add(99));
            assert!(size.add(1), "as large as it should be");
            assert!(!size.is_full() && !size.add(99), "it is asked for once, and rows flow meanwhile");
            assert!(!size.is_full() && !size.add(1));
            assert!(size.is_full(), "as large as it may be");
            size.barrier();
            assert!(!size.is_full());
        }
        // One batch may be larger than all of it.
        assert!(size.add(u64::MAX) && size.is_full());
    }
}
