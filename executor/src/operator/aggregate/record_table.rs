//! Groups by one 64-bit key: an open-addressing index over fixed-width records.
//!
//! ```text
//! index:   [ 0 | base + 1 | 0 | base + 1 | … ]     power of two, at most half full
//! records: [ key | flags | word … word ][ key | flags | word … word ] …
//! ```
//! A record holds its key and all its accumulators side by side, so that a row costs one cache miss in
//! the index and one in the records, however many aggregates there are. A batch is looked up in passes
//! without dependent branches between rows, so that the misses of neighbouring rows overlap.
//!
//! Depends on nothing; `integer` puts Arrow columns in and out. Groups are numbered in order of arrival.

use std::ops::Range;

/// Words before the accumulators of a record.
pub(crate) const HEADER_WORDS: usize = 2;
/// Flag of a record that changed since the flag was last cleared.
pub(crate) const CHANGED: u64 = 1 << 63;

/// Records of another table that are looked up before the first of them is added.
const ABSORBED_AT_ONCE: usize = 256;
/// Records that are turned into columns at once.
const TRANSPOSED_AT_ONCE: usize = 512;
const INDEX_LENGTH_MIN: usize = 64;
const INDEX_GROWTH: usize = 4;
/// From so many groups on a table takes the room that it is expected to need, but for no more than so many times
/// what it has: it may stay small among large ones.
const EXPECTED_FROM: usize = 1 << 11;
const EXPECTED_GROWTH: usize = 8;

/// Some records of a table.
pub(crate) enum Selection {
    /// By number of the group.
    Groups(Range<usize>),
    /// Of these groups those whose first word behind the key is not 0.
    Live(Range<usize>),
    Bases(Vec<u32>),
}

/// Index and records. `base` of a record: its position in `records`.
#[derive(Clone)]
pub(crate) struct RecordTable {
    index: Vec<u32>,
    /// `64 - log2(index.len())`.
    shift: u32,
    records: Vec<u64>,
    width: usize,
    /// Accumulators of a new record.
    initial: Vec<u64>,
    /// The record of the NULL key; it is not in the index.
    null_base: Option<u32>,
    /// Groups that there will be, or not.
    expected: usize,
}

/// The most groups a table can hold, given that bases are 32 bits wide.
pub(crate) fn groups_max(words: usize) -> usize {
    (u32::MAX as usize - 1) / (HEADER_WORDS + words)
}

impl RecordTable {
    /// `initial`: the accumulator words of a new record. `expected`: groups that there may be; room for them is
    /// taken once there are some, so that the table need not grow again and again.
    pub(crate) fn new(initial: Vec<u64>, expected: usize) -> Self {
        Self {
            index: vec![0; INDEX_LENGTH_MIN],
            shift: 64 - INDEX_LENGTH_MIN.trailing_zeros(),
            records: Vec::new(),
            width: HEADER_WORDS + initial.len(),
            initial,
            null_base: None,
            expected,
        }
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.records.len() / self.width
    }

    pub(crate) fn bytes(&self) -> usize {
        self.index.capacity() * size_of::<u32>() + self.records.capacity() * size_of::<u64>()
    }

    /// The bases of `keys`, in order, into `bases`; absent keys are added. Each touched record gets `flags`.
    pub(crate) fn find_or_add(&mut self, keys: &[i64], flags: u64, bases: &mut Vec<u32>) {
        // First pass: what stands at the home position of each key. The loads are independent.
        bases.clear();
        let shift = self.shift;
        let index = self.index.as_slice();
        bases.extend(keys.iter().map(|key| index[(hash(*key) >> shift) as usize]));
        // Second pass: compare keys. Most records are found at home and predicted so.
        for (base, key) in bases.iter_mut().zip(keys) {
            let at = (*base).wrapping_sub(1) as usize;
            if let Some(found) = self.records.get_mut(at..at.wrapping_add(HEADER_WORDS))
                && found[0] == *key as u64
            {
                found[1] |= flags;
                *base = at as u32;
                continue;
            }
            let at = self.probe(*key);
            self.records[at as usize + 1] |= flags;
            *base = at;
        }
    }

    /// As [`Self::find_or_add`] for keys of which `is_null` ones are NULL.
    pub(crate) fn find_or_add_nullable(
        &mut self,
        keys: &[i64],
        is_null: impl Fn(usize) -> bool,
        flags: u64,
        bases: &mut Vec<u32>,
    ) {
        bases.clear();
        for (i, key) in keys.iter().enumerate() {
            let base = if is_null(i) { self.null_group() } else { self.probe(*key) };
            self.records[base as usize + 1] |= flags;
            bases.push(base);
        }
    }

    /// The base of the only group of an aggregation without keys.
    pub(crate) fn sole_group(&mut self, flags: u64) -> u32 {
        let base = self.null_group();
        self.records[base as usize + 1] |= flags;
        base
    }

    /// The words at each of `offsets` from the base (0: keys, 1: flags) of `some` records, as columns.
    pub(crate) fn columns(&self, some: &Selection, offsets: &[usize]) -> Vec<Vec<u64>> {
        match some {
            Selection::Groups(groups) => self.transposed(groups.clone(), offsets, |_| true),
            Selection::Live(groups) => self.transposed(groups.clone(), offsets, is_live),
            Selection::Bases(bases) => {
                let column = |offset: &usize| bases.iter().map(|base| self.records[*base as usize + offset]).collect();
                offsets.iter().map(column).collect()
            }
        }
    }

    fn transposed(&self, groups: Range<usize>, offsets: &[usize], is_wanted: impl Fn(&[u64]) -> bool) -> Vec<Vec<u64>> {
        let mut columns = vec![vec![0; groups.len()]; offsets.len()];
        let mut filled = 0;
        // A few records at a time, which stay in the nearest cache for all columns.
        for start in groups.clone().step_by(TRANSPOSED_AT_ONCE) {
            let block = start..groups.end.min(start + TRANSPOSED_AT_ONCE);
            let mut next = filled;
            for (column, offset) in columns.iter_mut().zip(offsets) {
                next = filled;
                for record in self.block(block.clone()) {
                    // Written in any case, and written over if it does not count: no branch to mispredict.
                    column[next] = record[*offset];
                    next += usize::from(is_wanted(record));
                }
            }
            filled = next;
        }
        columns.iter_mut().for_each(|column| column.truncate(filled));
        columns
    }

    /// How many records a selection has.
    pub(crate) fn count(&self, some: &Selection) -> usize {
        match some {
            Selection::Groups(groups) => groups.len(),
            Selection::Live(groups) => self.block(groups.clone()).filter(|record| is_live(record)).count(),
            Selection::Bases(bases) => bases.len(),
        }
    }

    fn block(&self, groups: Range<usize>) -> impl Iterator<Item = &[u64]> {
        self.records[groups.start * self.width..groups.end * self.width].chunks_exact(self.width)
    }

    /// Where in a selection the NULL group stands.
    pub(crate) fn null_in(&self, selection: &Selection) -> Option<usize> {
        let null = self.null_base?;
        match selection {
            Selection::Groups(groups) => {
                let group = null as usize / self.width;
                groups.contains(&group).then(|| group - groups.start)
            }
            Selection::Live(groups) => {
                let group = null as usize / self.width;
                let is_among = groups.contains(&group) && is_live(&self.records[null as usize..]);
                is_among.then(|| self.count(&Selection::Live(groups.start..group)))
            }
            Selection::Bases(bases) => bases.iter().position(|base| *base == null),
        }
    }

    /// Bases of the records with the `CHANGED` flag, which is cleared.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        let mut bases = Vec::new();
        for (i, record) in self.records.chunks_exact_mut(self.width).enumerate() {
            if record[1] & CHANGED != 0 {
                record[1] &= !CHANGED;
                bases.push((i * self.width) as u32);
            }
        }
        bases
    }

    /// Calls `f` with the accumulator at `offset` of each base and each value.
    #[inline]
    pub(crate) fn each<V: Copy>(
        &mut self,
        bases: &[u32],
        offset: usize,
        values: impl Iterator<Item = V>,
        f: impl Fn(&mut u64, V),
    ) {
        let records = self.records.as_mut_slice();
        for (base, value) in bases.iter().zip(values) {
            f(&mut records[*base as usize + offset], value);
        }
    }

    /// As [`Self::each`] where `is_valid` holds, setting `flag` in those records.
    #[inline]
    pub(crate) fn each_valid<V: Copy>(
        &mut self,
        bases: &[u32],
        offset: usize,
        values: impl Iterator<Item = V>,
        is_valid: impl Fn(usize) -> bool,
        flag: u64,
        f: impl Fn(&mut u64, V),
    ) {
        let records = self.records.as_mut_slice();
        for (i, (base, value)) in bases.iter().zip(values).enumerate() {
            if is_valid(i) {
                records[*base as usize + 1] |= flag;
                f(&mut records[*base as usize + offset], value);
            }
        }
    }

    /// Calls `combine` for each group of `other`, in order, with the base of the record of the same key here
    /// (it is added if it is new), what stands behind that record's key, and what stands behind it there.
    #[inline]
    pub(crate) fn absorb(&mut self, other: &Self, mut combine: impl FnMut(u32, &mut [u64], &[u64])) {
        let width = self.width;
        let null = other.null_base.map(|base| base as usize / other.width);
        let mut bases = [0_u32; ABSORBED_AT_ONCE];
        let mut is_home = [false; ABSORBED_AT_ONCE];
        for (b, block) in other.records.chunks(ABSORBED_AT_ONCE * other.width).enumerate() {
            // As in `find_or_add`: loads without dependence first.
            let (shift, index) = (self.shift, self.index.as_slice());
            for (base, theirs) in bases.iter_mut().zip(block.chunks_exact(other.width)) {
                *base = index[(hash(theirs[0] as i64) >> shift) as usize];
            }
            let records = self.records.as_slice();
            for ((base, is_home), theirs) in bases.iter_mut().zip(&mut is_home).zip(block.chunks_exact(other.width)) {
                *base = base.wrapping_sub(1);
                *is_home = records.get(*base as usize).is_some_and(|key| *key == theirs[0]);
            }
            for (i, theirs) in block.chunks_exact(other.width).enumerate() {
                let base = match null {
                    Some(null) if null == b * ABSORBED_AT_ONCE + i => self.null_group(),
                    _ if is_home[i] => bases[i],
                    _ => self.probe(theirs[0] as i64),
                };
                let at = base as usize;
                combine(base, &mut self.records[at + 1..at + width], &theirs[1..]);
            }
        }
    }

    /// Calls `combine` as [`Self::absorb`] does, for groups whose bases here are known.
    #[inline]
    pub(crate) fn combine(&mut self, bases: &[u32], other: &Self, mut combine: impl FnMut(&mut [u64], &[u64])) {
        for (base, theirs) in bases.iter().zip(other.records.chunks_exact(other.width)) {
            let at = *base as usize;
            combine(&mut self.records[at + 1..at + self.width], &theirs[1..]);
        }
    }

    /// Base of `key`'s record, adding it.
    fn probe(&mut self, key: i64) -> u32 {
        let mask = self.index.len() - 1;
        let mut position = (hash(key) >> self.shift) as usize;
        loop {
            let slot = self.index[position];
            if slot == 0 {
                if (self.len() + 1) * 2 > self.index.len() {
                    self.grow();
                    return self.probe(key);
                }
                let base = self.add(key);
                self.index[position] = base + 1;
                return base;
            }
            if self.records[slot as usize - 1] == key as u64 {
                return slot - 1;
            }
            position = (position + 1) & mask;
        }
    }

    fn null_group(&mut self) -> u32 {
        if let Some(base) = self.null_base {
            return base;
        }
        let base = self.add(0);
        self.null_base = Some(base);
        base
    }

    fn add(&mut self, key: i64) -> u32 {
        let base = u32::try_from(self.records.len()).expect("the caller keeps the number of groups below groups_max()");
        self.records.extend_from_slice(&[key as u64, 0]);
        self.records.extend_from_slice(&self.initial);
        base
    }

    fn grow(&mut self) {
        let mut length = self.index.len() * INDEX_GROWTH;
        if self.len() >= EXPECTED_FROM && self.expected > self.len() {
            // A few more than before fit as well.
            let expected = (self.expected + self.expected / 16).min(self.len() * EXPECTED_GROWTH);
            length = (expected * 2).next_power_of_two().max(self.index.len() * 2);
            self.records.reserve_exact((expected - self.len()) * self.width);
        }
        self.rebuild(length);
    }

    fn rebuild(&mut self, length: usize) {
        self.index.clear();
        self.index.resize(length, 0);
        self.shift = 64 - length.trailing_zeros();
        let mask = length - 1;
        for (i, record) in self.records.chunks_exact(self.width).enumerate() {
            let base = (i * self.width) as u32;
            if self.null_base == Some(base) {
                continue;
            }
            let mut position = (hash(record[0] as i64) >> self.shift) as usize;
            while self.index[position] != 0 {
                position = (position + 1) & mask;
            }
            self.index[position] = base + 1;
        }
    }
}

/// Of [`Selection::Live`]. `record`: with its key.
fn is_live(record: &[u64]) -> bool {
    record[1] != 0
}

/// Folded multiplication: one multiply, and all bits of the key reach the high bits of the result.
#[inline]
fn hash(key: i64) -> u64 {
    let product = u128::from(key as u64 ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93_u128;
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_as_a_map_does(batches in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.9, -40_i64..40), 0..300), 0..8)) {
            let mut table = RecordTable::new(vec![0], 0);
            let mut oracle: HashMap<Option<i64>, u64> = HashMap::new();
            let mut bases = Vec::new();
            for batch in &batches {
                let keys: Vec<i64> = batch.iter().map(|key| key.unwrap_or(7)).collect();
                if batch.iter().all(Option::is_some) {
                    table.find_or_add(&keys, CHANGED, &mut bases);
                } else {
                    table.find_or_add_nullable(&keys, |i| batch[i].is_none(), CHANGED, &mut bases);
                }
                table.each(&bases, HEADER_WORDS, keys.iter().copied(), |count, _| *count += 1);
                for key in batch {
                    *oracle.entry(*key).or_default() += 1;
                }
            }
            let counts = |table: &RecordTable| -> HashMap<Option<i64>, u64> {
                let all = Selection::Groups(0..table.len());
                let null = table.null_in(&all);
                let columns = table.columns(&all, &[0, HEADER_WORDS]);
                let pairs = columns[0].iter().copied().zip(columns[1].iter().copied()).enumerate();
                pairs.map(|(i, (key, count))| ((Some(i) != null).then_some(key as i64), count)).collect()
            };
            prop_assert_eq!(table.len(), oracle.len());
            prop_assert_eq!(counts(&table), oracle.clone());
            // Twice the same, from groups in another order.
            let mut sum = RecordTable::new(vec![0], 0);
            sum.find_or_add(&[-3, 50, 7], 0, &mut bases);
            for _ in 0..2 {
                sum.absorb(&table, |_, mine, theirs| {
                    mine[0] |= CHANGED;
                    mine[1] += theirs[1];
                });
            }
            let mut doubled = counts(&sum);
            doubled.retain(|_, count| *count > 0);
            prop_assert_eq!(doubled, oracle.into_iter().map(|(key, count)| (key, 2 * count)).collect::<HashMap<_, _>>());
            prop_assert_eq!(sum.take_changed().len(), table.len());
            // And back again, by the bases that were found.
            let mut bases = Vec::new();
            sum.absorb(&table, |base, _, _| bases.push(base));
            for _ in 0..2 {
                sum.combine(&bases, &table, |mine, theirs| mine[1] -= theirs[1]);
            }
            prop_assert!(counts(&sum).values().all(|count| *count == 0));
            prop_assert_eq!(table.take_changed().len(), table.len());
            prop_assert!(table.take_changed().is_empty());
        }
    }

    #[test]
    fn many_keys_survive_growth() {
        let keys: Vec<i64> = (0..50_000).map(|i| i << 20).collect();
        for expected in [0, 1, 5_000, 49_000, 50_000, 1_000_000] {
            let mut table = RecordTable::new(vec![], expected);
            let mut bases = Vec::new();
            for chunk in keys.chunks(8_192) {
                table.find_or_add(chunk, 0, &mut bases);
            }
            assert_eq!(table.len(), keys.len());
            table.find_or_add(&keys, 0, &mut bases);
            assert!(bases.iter().enumerate().all(|(i, base)| *base as usize == i * table.width));
        }
        let mut few = RecordTable::new(vec![], 1_000_000);
        few.find_or_add(&keys[..1_000], 0, &mut Vec::new());
        assert!(few.bytes() < 100_000, "{}", few.bytes());
        few.find_or_add(&keys[1_000..3_000], 0, &mut Vec::new());
        assert!(few.bytes() < 1_000_000, "{}", few.bytes());
    }
}
