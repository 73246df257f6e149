//! The groups of the newest window, kept up to date: slices that enter it are added, slices that leave it
//! are taken away again.
//!
//! For aggregates that can be taken back without loss: counts, and sums of integers, which wrap. A slice
//! then costs two passes over its groups, however many windows share it.
//!
//! ```text
//! record:  key | counters | accumulators … | more counters …
//! ```
//! The first counter is of the slices with the group, the others, one for each nullable call, of those with
//! a value for it, three to a word. They tell a sum that is NULL from one that is 0, and a group that is gone
//! from one that counts nothing; slices need not carry more for it than they do anyway. A record of one count
//! and one sum has four words, so that none lies in two cache lines.
//!
//! It is derived from the slices and never saved. What must never happen: a row added to a slice that is
//! merged already; the owner calls [`Running::forget`] then.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};

use super::calls::Calls;
use super::integer::{IntegerPlan, IntegerTable};
use super::record_table::{HEADER_WORDS, RecordTable, Selection};
use super::slice_table::{Results, SliceTable};
use super::slices::Slices;

/// Bits of a counter, and counters in a word.
const COUNTER_BITS: usize = 21;
const COUNTERS: usize = 3;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// Slices of a window that can be counted.
pub(crate) const SLICES_MAX: i64 = COUNTER_MASK as i64;

/// A table with fewer groups is not made anew, however many of them are gone.
const DEAD_GROUPS_MIN: usize = 1 << 14;

pub(crate) struct Running {
    plan: Arc<IntegerPlan>,
    records: RecordTable,
    /// Of the slices that are merged, in order.
    slices: VecDeque<Merged>,
    /// Groups that no slice has.
    dead: usize,
    /// Groups of slices that lack a value, over all nullable calls.
    lacking: u64,
    /// End of the last slice that is merged.
    until: i64,
}

/// A slice that is merged.
struct Merged {
    slice: Window,
    /// The record of each of its groups, in their order.
    bases: Vec<u32>,
}

impl Running {
    pub(crate) fn new(plan: &Arc<IntegerPlan>) -> Self {
        let mut initial = plan.initial().to_vec();
        // The counter of the group stands before those of the calls.
        let words = (1 + plan.nullable().len()).div_ceil(COUNTERS);
        initial.resize(initial.len() + words - 1, 0);
        Self {
            plan: Arc::clone(plan),
            records: RecordTable::new(initial, 0),
            slices: VecDeque::new(),
            dead: 0,
            lacking: 0,
            until: i64::MIN,
        }
    }

    /// Whether rows of this slice would come too late.
    pub(crate) fn holds(&self, slice_end: i64) -> bool {
        slice_end <= self.until
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::new(&self.plan);
    }

    pub(crate) fn bytes(&self) -> usize {
        let bases: usize = self.slices.iter().map(|merged| merged.bases.capacity() * size_of::<u32>()).sum();
        self.records.bytes() + bases
    }

    /// Groups held, those that are gone included.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Makes this the groups of `window`, whose `slices` are those that have rows. Windows come in the
    /// order of their ends.
    pub(crate) fn advance(&mut self, window: Window, slices: &Slices) -> Result<()> {
        if self.dead > DEAD_GROUPS_MIN && self.dead > self.records.len() / 2 {
            self.forget();
        }
        for slice in slices.within(self.until.max(window.start), window.end) {
            if let Some(table) = slices.get(slice) {
                self.add(slice, integers(table)?)?;
            }
        }
        self.until = window.end;
        Ok(())
    }

    /// Takes away slices that no window needs any more.
    pub(crate) fn leave(&mut self, gone: &[(Window, SliceTable)]) -> Result<()> {
        // Adding what stays is less work then.
        if gone.len() > self.slices.len() / 2 {
            self.forget();
            return Ok(());
        }
        for (slice, table) in gone {
            if self.slices.front().is_some_and(|merged| merged.slice == *slice)
                && let Some(merged) = self.slices.pop_front()
            {
                self.take_away(&merged, integers(table)?);
            }
        }
        Ok(())
    }

    fn add(&mut self, slice: Window, table: &IntegerTable) -> Result<()> {
        self.plan.check_room(self.records.len() + table.len())?;
        let nullable = self.plan.nullable();
        let before = self.records.len();
        let (mut revived, mut lacking) = (0, 0);
        let mut bases = Vec::with_capacity(table.len());
        self.records.absorb(table.records(), |base, mine, theirs| {
            bases.push(base);
            revived += usize::from(mine[0] == 0);
            lacking += shift::<true>(mine, theirs, nullable);
        });
        self.lacking += lacking;
        // Groups without a slice that now have one: new records among them.
        self.dead -= revived - (self.records.len() - before);
        self.slices.push_back(Merged { slice, bases });
        Ok(())
    }

    fn take_away(&mut self, merged: &Merged, table: &IntegerTable) {
        let nullable = self.plan.nullable();
        let (mut died, mut lacking) = (0, 0);
        self.records.combine(&merged.bases, table.records(), |mine, theirs| {
            lacking += shift::<false>(mine, theirs, nullable);
            died += usize::from(mine[0] == 0);
        });
        self.lacking -= lacking;
        self.dead += died;
    }

    /// Keys and results of those of `groups` that the window has.
    pub(crate) fn results(&self, calls: &Calls, groups: Range<usize>) -> Result<Results> {
        let selection = if self.dead == 0 { Selection::Groups(groups) } else { Selection::Live(groups) };
        let flags = (self.lacking > 0).then(|| self.flags(&selection));
        self.plan.results(calls, &self.records, &selection, flags.as_deref())
    }

    /// What the flags of these groups would be in a table of the window.
    fn flags(&self, selection: &Selection) -> Vec<u64> {
        let nullable = self.plan.nullable();
        let behind = HEADER_WORDS + self.plan.initial().len();
        let words = (1 + nullable.len()).div_ceil(COUNTERS);
        let offsets: Vec<usize> = std::iter::once(HEADER_WORDS - 1).chain(behind..behind + words - 1).collect();
        let mut flags = vec![0; self.records.count(selection)];
        for (word, column) in self.records.columns(selection, &offsets).iter().enumerate() {
            for (flags, counters) in flags.iter_mut().zip(column) {
                for (call, position) in calls_of(word, nullable) {
                    *flags |= if counters >> (position * COUNTER_BITS) & COUNTER_MASK > 0 { *call } else { 0 };
                }
            }
        }
        flags
    }
}

/// Flags of the calls whose counters stand in a word, with their positions in it.
fn calls_of(word: usize, nullable: &[u64]) -> impl Iterator<Item = (&u64, usize)> {
    // Position 0 of the first word is the group's.
    let first = (word * COUNTERS).saturating_sub(1);
    let last = nullable.len().min((word + 1) * COUNTERS - 1);
    nullable[first..last].iter().zip(usize::from(word == 0)..)
}

/// Adds the record of a slice to that of the window, or takes it away; both without their keys. Returns how
/// many of the nullable calls have no value in the slice.
#[inline]
fn shift<const ADDS: bool>(mine: &mut [u64], theirs: &[u64], nullable: &[u64]) -> u64 {
    let by = |word: &mut u64, value: u64| {
        *word = if ADDS { word.wrapping_add(value) } else { word.wrapping_sub(value) };
    };
    let (flags, accumulators) = (theirs[0], &theirs[1..]);
    let mut lacking = 0;
    let mut counters = |word: usize, group: u64| {
        calls_of(word, nullable).fold(group, |counters, (flag, position)| {
            let has_value = u64::from(flags & flag != 0);
            lacking += 1 - has_value;
            counters | has_value << (position * COUNTER_BITS)
        })
    };
    by(&mut mine[0], counters(0, 1));
    let (sums, more) = mine[1..].split_at_mut(accumulators.len());
    sums.iter_mut().zip(accumulators).for_each(|(sum, value)| by(sum, *value));
    for (word, mine) in more.iter_mut().enumerate() {
        by(mine, counters(word + 1, 0));
    }
    lacking
}

fn integers(table: &SliceTable) -> Result<&IntegerTable> {
    match table {
        SliceTable::Integer(table) => Ok(table),
        SliceTable::General(_) => Err(Error::internal("a slice of another kind in a running window")),
    }
}
