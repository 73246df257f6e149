//! The bytes of one simulated file: sparse, paged, and cheap to copy.
//!
//! Pages are shared between copies until one of them is written, so that a crash state costs little
//! more than the pages that differ.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Unit of sharing and of the space a file takes, in bytes.
pub(super) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    len: u64,
    /// Bytes from the start for which space is taken although nothing was written.
    reserved: u64,
    /// Pages that were written; a missing one reads as zero.
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Space taken, in pages.
    pub(super) fn page_count(&self) -> u64 {
        let reserved = self.reserved.div_ceil(PAGE);
        reserved + self.pages.range(reserved..).count() as u64
    }

    /// Bytes read; fewer than asked for only at the end of the file.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(available);
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..count).filter(|rest| !rest.is_empty()) {
            let (page, start, n) = position(offset + done as u64, rest.len());
            let (target, _) = rest.split_at_mut(n);
            match self.pages.get(&page).and_then(|page| page.get(start..start + n)) {
                Some(source) => target.copy_from_slice(source),
                None => target.fill(0),
            }
            done += n;
        }
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let (page, start, n) = position(offset + done as u64, rest.len());
            let page = Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize])));
            if let (Some(target), Some(source)) = (page.get_mut(start..start + n), rest.get(..n)) {
                target.copy_from_slice(source);
            }
            done += n;
        }
        if !bytes.is_empty() {
            self.extend(offset + bytes.len() as u64);
        }
    }

    /// Makes the file at least `len` bytes long; the new ones are zero.
    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(super) fn resize(&mut self, len: u64) {
        if len < self.len {
            self.reserved = self.reserved.min(len);
            let kept = len.div_ceil(PAGE);
            self.pages.split_off(&kept);
            // Bytes cut off must read as zero when the file grows again.
            let (page, start, _) = position(len, 1);
            if let Some(tail) = self.pages.get_mut(&page).and_then(|page| Arc::make_mut(page).get_mut(start..)) {
                tail.fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn reserve(&mut self, len: u64) {
        self.reserved = self.reserved.max(len);
        self.extend(len);
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        let mut byte = [0];
        if self.read(&mut byte, bit / 8) == 1 {
            self.write(&[byte[0] ^ (1 << (bit % 8))], bit / 8);
        }
    }

    /// Pages that must be taken before a reservation of `len` bytes is possible.
    pub(super) fn pages_to_reserve(&self, len: u64) -> u64 {
        let mut reserved = self.clone();
        reserved.reserve(len);
        reserved.page_count() - self.page_count()
    }

    /// How many bytes of a write of `len` bytes at `offset` fit into `free` further pages.
    pub(super) fn fitting(&self, offset: u64, len: usize, free: u64) -> usize {
        let reserved = self.reserved.div_ceil(PAGE);
        let mut done = 0;
        let mut taken = 0;
        while done < len {
            let (page, _, n) = position(offset + done as u64, len - done);
            if page >= reserved && !self.pages.contains_key(&page) {
                if taken == free {
                    break;
                }
                taken += 1;
            }
            done += n;
        }
        done
    }
}

/// Page, start within it, and how many of `len` bytes at `offset` lie in it.
fn position(offset: u64, len: usize) -> (u64, usize, usize) {
    let start = (offset % PAGE) as usize;
    (offset / PAGE, start, len.min(PAGE as usize - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_cuts_and_growth_read_as_zero() {
        let mut contents = Contents::default();
        contents.write(&[7; 10], 5000);
        assert_eq!((contents.len(), contents.page_count()), (5010, 1));
        contents.resize(5005);
        contents.resize(9000);
        let mut bytes = vec![1; 9000];
        assert_eq!(contents.read(&mut bytes, 0), 9000);
        assert!(bytes[..5000].iter().all(|b| *b == 0) && bytes[5005..].iter().all(|b| *b == 0));
        assert_eq!(bytes[5000..5005], [7; 5]);
        contents.resize(0);
        assert_eq!(contents.page_count(), 0);
    }

    #[test]
    fn space_is_counted_once() {
        let mut contents = Contents::default();
        contents.write(&[1], 0);
        assert_eq!(contents.pages_to_reserve(3 * PAGE), 2);
        contents.reserve(3 * PAGE);
        assert_eq!(contents.page_count(), 3);
        assert_eq!(contents.fitting(0, 3 * PAGE as usize + 5, 0), 3 * PAGE as usize);
        assert_eq!(contents.fitting(0, 3 * PAGE as usize + 5, 1), 3 * PAGE as usize + 5);
    }

    #[test]
    fn copies_are_independent() {
        let mut one = Contents::default();
        one.write(&[1; 8], 0);
        let mut two = one.clone();
        two.write(&[2; 4], 0);
        two.flip_bit(0);
        let mut bytes = [0; 8];
        one.read(&mut bytes, 0);
        assert_eq!(bytes, [1; 8]);
        two.read(&mut bytes, 0);
        assert_eq!(bytes, [3, 2, 2, 2, 1, 1, 1, 1]);
    }
}
