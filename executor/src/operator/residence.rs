//! Which keys of an operator are in memory, and which of these were used of late.
//!
//! A key whose state was put aside (`executor::spill`) has no slot. When it comes back its entry stays where it was put,
//! so that it costs nothing to put the key aside again unless it has changed meanwhile. What must never happen: an entry
//! that is brought back for a key that is gone, or an old entry for one that has changed.

use std::collections::HashSet;

use hashbrown::HashTable;
use qanat_storage::spill::{Entries, Keys};
use xxhash_rust::xxh3::xxh3_64;

/// Of an operator's slots.
pub(crate) struct Residence {
    is_on: bool,
    /// By slot.
    flags: Vec<u8>,
    /// Where the next search for what was not used begins.
    hand: usize,
    /// Keys that were put aside and have not come back.
    away: usize,
}

/// Used since the hand passed.
const USED: u8 = 1;
/// Has an entry.
const COPIED: u8 = 2;
/// Differs from its entry.
const CHANGED: u8 = 4;

impl Residence {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on, flags: Vec::new(), hand: 0, away: 0 }
    }

    /// Whether a key without a slot may have an entry.
    pub(crate) fn is_any_away(&self) -> bool {
        self.away > 0
    }

    pub(crate) fn grow(&mut self, slots: usize) {
        if self.is_on {
            self.flags.resize(slots.max(self.flags.len()), 0);
        }
    }

    /// Slots are used, and what they hold changes.
    pub(crate) fn change(&mut self, slots: impl IntoIterator<Item = u32>) {
        self.mark(slots, USED | CHANGED);
    }

    /// Slots are used.
    pub(crate) fn touch(&mut self, slots: impl IntoIterator<Item = u32>) {
        self.mark(slots, USED);
    }

    fn mark(&mut self, slots: impl IntoIterator<Item = u32>, flags: u8) {
        if self.is_on {
            slots.into_iter().for_each(|slot| self.flags[slot as usize] |= flags);
        }
    }

    /// The state of a key has come back, as its entry has it.
    pub(crate) fn came_back(&mut self, slot: u32) {
        self.flags[slot as usize] = USED | COPIED;
        self.away -= 1;
    }

    /// The state of a key is no more, and its slot is free. Whether its entry is left ([`Dropped`]).
    pub(crate) fn gone(&mut self, slot: u32) -> bool {
        self.is_on && std::mem::take(&mut self.flags[slot as usize]) & COPIED != 0
    }

    /// Up to `count` slots that were not used since they were looked at last, and `may_go`.
    pub(crate) fn pick(&mut self, count: usize, may_go: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut picked = Vec::new();
        // The first turn takes the marks off, the second one finds what they were on.
        for _ in 0..2 * self.flags.len() {
            if picked.len() == count {
                break;
            }
            self.hand = if self.hand + 1 < self.flags.len() { self.hand + 1 } else { 0 };
            let slot = self.hand as u32;
            if !may_go(slot) {
                continue;
            }
            let flags = &mut self.flags[self.hand];
            if *flags & USED == 0 {
                picked.push(slot);
                // Not a second time.
                *flags |= USED;
            } else {
                *flags &= !USED;
            }
        }
        picked
    }

    /// The state of a slot goes out of memory; whether its entry must be written.
    pub(crate) fn leaves(&mut self, slot: u32) -> bool {
        let flags = std::mem::take(&mut self.flags[slot as usize]);
        self.away += 1;
        flags & (COPIED | CHANGED) != COPIED
    }

    pub(crate) fn bytes(&self) -> usize {
        self.flags.capacity()
    }
}

/// Keys that are gone and whose entries are still there.
#[derive(Default)]
pub(crate) struct Dropped {
    keys: HashSet<Box<[u8]>>,
    bytes: usize,
}

impl Dropped {
    pub(crate) fn insert(&mut self, key: &[u8]) {
        if self.keys.insert(key.into()) {
            self.bytes += key.len() + size_of::<Box<[u8]>>() * 2;
        }
    }

    /// Whether a key must not be asked for.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
    }

    /// Entries that are to be taken away, before others are put.
    pub(crate) fn take(&mut self, entries: &mut Entries) {
        self.keys.drain().for_each(|key| entries.remove(&key));
        self.bytes = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Keys that are asked for, each once.
#[derive(Default)]
pub(crate) struct Asked {
    keys: Keys,
    table: HashTable<usize>,
}

impl Asked {
    pub(crate) fn push(&mut self, key: &[u8]) {
        let hash = xxh3_64(key);
        let at = |index: usize| self.keys.get(index).unwrap_or_default();
        if self.table.find(hash, |index| at(*index) == key).is_none() {
            self.table.insert_unique(hash, self.keys.len(), |index| xxh3_64(at(*index)));
            self.keys.push(key);
        }
    }

    /// None: nothing is asked for.
    pub(crate) fn into_keys(self) -> Option<Keys> {
        (!self.keys.is_empty()).then_some(self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_goes_first_and_is_written_once() {
        let mut residence = Residence::new(true);
        residence.grow(6);
        residence.change(0..6);
        assert_eq!(residence.pick(6, |_| true).len(), 6, "all of them if it must be");
        residence.touch(0..6);
        assert_eq!(residence.pick(2, |slot| slot != 1), [2, 3]);
        residence.touch([4, 1]);
        let mut rest = residence.pick(2, |slot| ![2, 3].contains(&slot));
        rest.sort_unstable();
        assert_eq!(rest, [0, 5]);
        assert!(residence.leaves(2), "it has no entry");
        residence.came_back(2);
        assert!(!residence.leaves(2), "it is as its entry has it");
        residence.came_back(2);
        residence.change([2]);
        assert!(residence.leaves(2) && residence.is_any_away());
    }

    #[test]
    fn keys_that_are_gone_leave_no_entry() {
        let mut residence = Residence::new(true);
        residence.grow(2);
        residence.change([0, 1]);
        assert!(!residence.gone(0), "it was never put aside");
        residence.leaves(1);
        residence.came_back(1);
        assert!(residence.gone(1) && !residence.is_any_away());
        let (mut dropped, mut entries) = (Dropped::default(), Entries::default());
        dropped.insert(b"a");
        assert!(dropped.contains(b"a"));
        dropped.take(&mut entries);
        assert_eq!(entries.iter().collect::<Vec<_>>(), [(b"a".as_slice(), None)]);
        assert!(!dropped.contains(b"a"));
    }

    #[test]
    fn a_key_is_asked_for_once() {
        let mut asked = Asked::default();
        ["a", "b", "a", "", "b", ""].iter().for_each(|key| asked.push(key.as_bytes()));
        let keys = asked.into_keys().expect("some");
        assert_eq!(keys.iter().collect::<Vec<_>>(), [b"a".as_slice(), b"b", b""]);
        assert!(Asked::default().into_keys().is_none());
    }
}
