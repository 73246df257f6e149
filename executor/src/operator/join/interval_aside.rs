//! Keys of an interval join that are put aside, as those of a join without a window are ([`super::aside`]).
//!
//! They come back when a row with their key does, and when a row of theirs has to be told of because its time is over, or
//! all of them have to go ([`super::super::wakes`]).

use std::collections::HashSet;

use arrow::array::RecordBatch;
use arrow::buffer::ScalarBuffer;
use qanat_proto::error::Result;
use qanat_storage::spill::Entries;

use super::super::Operator;
use super::super::aside::keys_of_bytes;
use super::super::event_time::milliseconds;
use super::aside::{ROWS_MAX, packed, unpacked};
use super::interval::{IntervalJoin, Side, Tells};

/// What comes: rows that are not late with their times, or rows of the state with their names and whether they have
/// matches.
pub(super) enum Arriving {
    Batch { port: usize, rows: RecordBatch, times: ScalarBuffer<i64> },
    State { port: usize, names: Vec<i64>, rows: RecordBatch, matches: Vec<u32> },
}

impl Arriving {
    pub(super) fn rows(&self) -> (usize, &RecordBatch) {
        match self {
            Self::Batch { port, rows, .. } | Self::State { port, rows, .. } => (*port, rows),
        }
    }
}

impl Side {
    /// When the first row of a key goes that is to be told of then.
    fn tells_at(&self, slot: u32) -> Option<i64> {
        let is_alone = |number: i64| self.rows.facts(number).is_some_and(|(_, matches)| matches == 0);
        let mut list = self.lists[slot as usize].iter();
        let alone = list.find(|(_, number)| self.tells == Tells::Lonely && is_alone(*number));
        alone.map(|(time, _)| time.saturating_add(self.reach.0))
    }

    /// When the last row of a key goes.
    fn goes_at(&self, slot: u32) -> Option<i64> {
        self.lists[slot as usize].last().map(|(time, _)| time.saturating_add(self.reach.0))
    }

    /// The rows of keys leave memory; they stay in the state.
    fn leave(&mut self, slots: &[u32]) -> Result<()> {
        let (mut gone, mut ends) = (Vec::new(), HashSet::new());
        for slot in slots {
            let list = std::mem::take(&mut self.lists[*slot as usize]);
            self.lists_bytes -= list.capacity() * 16;
            gone.extend(list.iter().map(|(_, number)| *number));
            ends.extend(list.iter().map(|(time, _)| time.saturating_add(self.reach.0)));
        }
        let left: HashSet<u32> = slots.iter().copied().collect();
        for end in ends {
            let Some(of_end) = self.ends.get_mut(&end) else { continue };
            of_end.retain(|slot| !left.contains(slot));
            if of_end.is_empty() {
                self.ends.remove(&end);
            }
        }
        self.rows.remove(&gone).map(drop)
    }
}

impl IntervalJoin {
    /// Rows come. What they need and was put aside is asked for at first.
    pub(super) fn arrive(&mut self, arriving: Arriving) -> Result<()> {
        if !self.aside.residence.is_any_away() {
            return self.take_in(arriving);
        }
        let (port, rows) = arriving.rows();
        let (keys, nulls) = self.keys_of(rows, port)?;
        let asked = self.aside.missing(&self.slots, &keys, nulls.as_ref()).map_err(|e| self.failed(&e))?;
        match self.aside.arrive(arriving, asked) {
            Some(arriving) => self.take_in(arriving),
            None => Ok(()),
        }
    }

    /// Asks for keys whose time comes; whether there are some.
    pub(super) fn wake(&mut self) -> bool {
        let now = self.now();
        if now == i64::MAX {
            // All rows go, those too that do not come back for it.
            self.closed = Some(now - 1);
        }
        self.aside.wake(&mut self.wakes, &self.slots, now)
    }

    /// Takes keys out of memory that were not used of late.
    pub(super) fn pack(&mut self, bytes: usize) -> Result<Entries> {
        let mut entries = Entries::default();
        if self.is_meeting() || !self.aside.may_pack() {
            return Ok(entries);
        }
        let count = keys_of_bytes(bytes, self.state_bytes(), self.slots.used());
        let lists = self.sides.each_ref().map(|side| side.lists.as_slice());
        let rows_of = |slot: u32| lists.iter().map(|lists| lists[slot as usize].len()).sum::<usize>();
        let may_go = |slot: u32| (1..=ROWS_MAX).contains(&rows_of(slot));
        self.aside.dropped.take(&mut entries);
        let residence = &mut self.aside.residence;
        let picked = residence.pick(count, may_go);
        let written: Vec<u32> = picked.iter().copied().filter(|slot| residence.leaves(*slot)).collect();
        let tables = self.sides.iter().map(|side| {
            let lists = written.iter().map(|slot| side.lists[*slot as usize].iter().map(|(_, number)| *number));
            packed(&side.rows, lists, true)
        });
        let tables = tables.collect::<Result<Vec<_>>>()?;
        self.aside.pack(written.iter().map(|slot| self.slots.key(*slot)), &tables, &mut entries)?;
        // A key that is as its entry has it may have come back because of its list.
        let (sides, slots, now) = (&self.sides, &self.slots, self.now());
        let tells_at = |slot: u32| sides.iter().filter_map(|side| side.tells_at(slot)).min();
        let tell = picked.iter().filter_map(|slot| Some((tells_at(*slot)?, slots.key(*slot))));
        self.wakes.note(now, true, tell, &mut entries);
        let goes_at = |slot: u32| sides.iter().filter_map(|side| side.goes_at(slot)).max();
        let go = picked.iter().filter(|slot| tells_at(**slot).is_none());
        let go = go.filter_map(|slot| Some((goes_at(*slot)?, slots.key(*slot))));
        self.wakes.note(now, false, go, &mut entries);
        for side in &mut self.sides {
            side.leave(&picked)?;
        }
        picked.iter().for_each(|slot| self.slots.remove(*slot));
        Ok(entries)
    }

    /// Puts keys back into memory.
    pub(super) fn unpack(&mut self, found: &Entries) -> Result<()> {
        let tables = self.aside.unpack_woken(&mut self.wakes, found)?;
        for (port, table) in tables.into_iter().enumerate() {
            let (names, matches, rows) = unpacked(&self.sides[port].rows, table)?;
            self.keep(port, names, rows, matches.values().to_vec())?;
        }
        self.aside.came_back(found, &self.slots);
        Ok(())
    }

    /// Puts back rows that stand in the state, and gives their slots.
    pub(super) fn keep(
        &mut self,
        port: usize,
        names: Vec<i64>,
        rows: RecordBatch,
        matches: Vec<u32>,
    ) -> Result<Vec<u32>> {
        let slots = self.slots_of(&rows, port)?;
        let side = &mut self.sides[port];
        let times = milliseconds(rows.column(side.time))?;
        let first = side.rows.bring_back(names, rows, matches)?;
        let slots: Vec<u32> = slots.into_iter().map(|slot| slot.unwrap_or(0)).collect();
        for ((slot, time), number) in slots.iter().zip(times.values()).zip(first..) {
            side.keep(*slot, *time, number);
        }
        Ok(slots)
    }
}
