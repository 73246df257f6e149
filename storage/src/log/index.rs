//! The sparse index of a segment: by offset and by time.
//!
//! In memory only, and rebuilt from frame headers: it can be lost without loss.

/// Bytes between two entries: a lookup walks at most this many bytes of frames.
const ENTRY_BYTES: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    first_offset: u64,
    position: u64,
    /// Highest time of the frames from here to the next entry.
    time_max: i64,
}

/// Entries by rising offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseIndex {
    entries: Vec<Entry>,
}

impl SparseIndex {
    /// Notes a frame. Frames come in order. `time_max`: highest event time, or the append time.
    pub(super) fn push(&mut self, first_offset: u64, position: u64, time_max: i64) {
        match self.entries.last_mut() {
            Some(last) if position - last.position < ENTRY_BYTES => last.time_max = last.time_max.max(time_max),
            _ => self.entries.push(Entry { first_offset, position, time_max }),
        }
    }

    /// Position of a frame at or before the one that holds `offset`.
    pub(super) fn seek(&self, offset: u64) -> Option<u64> {
        let after = self.entries.partition_point(|entry| entry.first_offset <= offset);
        self.entries.get(after.checked_sub(1)?).map(|entry| entry.position)
    }

    /// Positions between which the first frame with a time ≥ `time` lies, if there is one.
    pub(super) fn seek_time(&self, time: i64) -> Option<u64> {
        self.entries.iter().find(|entry| entry.time_max >= time).map(|entry| entry.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeks_by_offset_and_time() {
        let mut index = SparseIndex::default();
        for i in 0..100_u64 {
            index.push(i * 10, 4096 + i * 30_000, i64::try_from(i).expect("small") * 100);
        }
        let position = index.seek(555).expect("held");
        assert!(position <= 4096 + 55 * 30_000 && position + 2 * ENTRY_BYTES > 4096 + 55 * 30_000);
        assert_eq!(index.seek(0), Some(4096));
        let position = index.seek_time(5_000).expect("held");
        assert!(position <= 4096 + 50 * 30_000 && position + 2 * ENTRY_BYTES > 4096 + 50 * 30_000);
        assert_eq!(index.seek_time(10_000), None);
        assert_eq!(SparseIndex::default().seek(3), None);
    }
}
