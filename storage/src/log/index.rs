//! The sparse index of a segment: by offset and by time.
//!
//! Rebuilt from frame headers, so it can be lost without loss. Of sealed segments a coarser one is kept
//! between two runs ([`super::index_cache`]).

use super::codec::{i64_at, u64_at};
use super::segment::Extent;

/// Bytes between two entries: a lookup walks at most this many bytes of frames.
const ENTRY_BYTES: u64 = 64 << 10;

/// Bytes between two entries of an index that is kept: a segment's fits one value of a store, and a lookup
/// still walks a few milliseconds at most.
const KEPT_ENTRY_BYTES: u64 = 1 << 20;
/// Bytes of an entry that is kept.
const KEPT_BYTES: usize = 24;
/// Bytes before the entries: the extent of the segment.
const KEPT_HEAD: usize = 16;

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
            Some(last) if position.saturating_sub(last.position) < ENTRY_BYTES => {
                last.time_max = last.time_max.max(time_max)
            }
            _ => self.entries.push(Entry { first_offset, position, time_max }),
        }
    }

    /// Forgets what lies at `position` and behind it.
    pub(super) fn cut(&mut self, position: u64) {
        self.entries.retain(|entry| entry.position < position);
    }

    /// The form that is kept: the extent of the segment, entries at least [`KEPT_ENTRY_BYTES`] apart, and a
    /// checksum of these and of `name`, so that no other segment's index passes for this one's.
    pub(super) fn to_bytes(&self, name: &[u8], extent: Extent) -> Vec<u8> {
        let mut coarse: Vec<Entry> = Vec::new();
        for entry in &self.entries {
            match coarse.last_mut() {
                Some(last) if entry.position - last.position < KEPT_ENTRY_BYTES => {
                    last.time_max = last.time_max.max(entry.time_max);
                }
                _ => coarse.push(*entry),
            }
        }
        let mut bytes = Vec::with_capacity(KEPT_HEAD + coarse.len() * KEPT_BYTES + 4);
        bytes.extend_from_slice(&extent.position.to_le_bytes());
        bytes.extend_from_slice(&extent.offset.to_le_bytes());
        for entry in coarse {
            bytes.extend_from_slice(&entry.first_offset.to_le_bytes());
            bytes.extend_from_slice(&entry.position.to_le_bytes());
            bytes.extend_from_slice(&entry.time_max.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(name), &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if the bytes are not what [`SparseIndex::to_bytes`] made for this segment.
    pub(super) fn from_bytes(bytes: &[u8], name: &[u8], extent: Extent) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let is_whole = crc32c::crc32c_append(crc32c::crc32c(name), body).to_le_bytes() == *crc;
        let kept = body.get(KEPT_HEAD..)?;
        let fits = Extent { position: u64_at(body, 0), offset: u64_at(body, 8) } == extent;
        if !is_whole || !fits || !kept.len().is_multiple_of(KEPT_BYTES) {
            return None;
        }
        let entry = |bytes: &[u8]| Entry {
            first_offset: u64_at(bytes, 0),
            position: u64_at(bytes, 8),
            time_max: i64_at(bytes, 16),
        };
        Some(Self { entries: kept.chunks_exact(KEPT_BYTES).map(entry).collect() })
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

    #[test]
    fn what_is_kept_finds_the_same_frames_or_is_refused() {
        let extent = Extent { position: 4096 + 1000 * 30_000, offset: 10_000 };
        let mut index = SparseIndex::default();
        for i in 0..1_000_u64 {
            index.push(i * 10, 4096 + i * 30_000, i64::try_from(i).expect("small") * 100);
        }
        let bytes = index.to_bytes(b"t/0/7", extent);
        assert!(bytes.len() < 1_000, "{}", bytes.len());
        let kept = SparseIndex::from_bytes(&bytes, b"t/0/7", extent).expect("its own");
        for offset in [0, 9, 10, 5_555, 9_999] {
            let (exact, coarse) = (index.seek(offset).expect("held"), kept.seek(offset).expect("held"));
            assert!(coarse <= exact && exact - coarse <= KEPT_ENTRY_BYTES + ENTRY_BYTES, "{coarse} {exact}");
        }
        let (exact, coarse) = (index.seek_time(50_000).expect("held"), kept.seek_time(50_000).expect("held"));
        assert!(coarse <= exact && exact - coarse <= KEPT_ENTRY_BYTES + ENTRY_BYTES);
        assert_eq!(kept.seek_time(100_000), None);
        assert_eq!(SparseIndex::from_bytes(&bytes, b"t/0/8", extent), None);
        assert_eq!(SparseIndex::from_bytes(&bytes, b"t/0/7", Extent { offset: 1, ..extent }), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SparseIndex::from_bytes(&flipped, b"t/0/7", extent), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(SparseIndex::from_bytes(&bytes[..length], b"t/0/7", extent), None, "{length} bytes");
        }
    }
}
