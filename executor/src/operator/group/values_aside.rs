//! Values of `COUNT(DISTINCT)` that are put aside one by one: a group may have more of them than memory takes.
//!
//! ```text
//! key     number of the table u8, key of the group, value (both as `arrow::row` has them)
//! value   length of the group's key u32, then for each call how many rows have the value, i64
//! ```
//!
//! A group that is put aside itself goes with all of its values, and is brought back before any of them.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::DataFusionError;
use qanat_proto::error::{Error, Result};
use qanat_storage::spill::Entries;

use super::super::residence::{Asked, Dropped, Residence};
use super::super::slots::{Slots, shared};
use super::distinct::{DistinctCount, Table};

/// What a table of values knows of those that are put aside.
pub(super) struct ValuesAside {
    /// Of entries.
    pub(super) residence: Residence,
    /// Of the values alone.
    converter: RowConverter,
    /// By slot of a group: its values that are put aside.
    away: Vec<u32>,
    /// Group and value of those that are gone and have an entry.
    pub(super) left: Vec<(u32, Box<[u8]>)>,
}

/// In the key of an entry in memory, its group.
const GROUP_BYTES: usize = 5;

/// The value in the key of an entry in memory.
pub(super) fn value_of(key: &[u8]) -> &[u8] {
    key.get(GROUP_BYTES..).unwrap_or_default()
}

impl ValuesAside {
    pub(super) fn new(argument: &DataType) -> Result<Self, DataFusionError> {
        let converter = RowConverter::new(vec![SortField::new(argument.clone())])?;
        Ok(Self { residence: Residence::new(false), converter, away: Vec::new(), left: Vec::new() })
    }

    pub(super) fn grow(&mut self, slots: usize) {
        self.away.resize(slots.max(self.away.len()), 0);
    }

    /// How many values of a group are put aside.
    pub(super) fn away(&self, slot: u32) -> u32 {
        self.away.get(slot as usize).copied().unwrap_or(0)
    }

    pub(super) fn set_away(&mut self, slot: u32, away: u32) {
        self.away[slot as usize] = away;
    }

    pub(super) fn bytes(&self) -> usize {
        self.residence.bytes() + self.away.capacity() * 4
    }
}

/// A table of values, by its number, with the groups that it is of.
pub(super) struct Of<'a> {
    pub(super) table: u8,
    pub(super) groups: &'a Slots,
}

impl Of<'_> {
    fn key(&self, group: &[u8], value: &[u8], key: &mut Vec<u8>) {
        key.clear();
        key.push(self.table);
        key.extend_from_slice(group);
        key.extend_from_slice(value);
    }
}

impl DistinctCount {
    /// From now on values may be put aside.
    pub(super) fn spill(&self) {
        self.table().aside.residence = Residence::new(true);
    }

    pub(super) fn is_any_away(&self) -> bool {
        self.table().aside.residence.is_any_away()
    }

    /// Values that are in memory.
    pub(super) fn used(&self) -> usize {
        self.table().entries.used()
    }

    /// Asks for the values of rows that may have been put aside. `groups`: key and slot of each row's group, which has
    /// none if it is not in memory.
    pub(super) fn ask(
        &self,
        of: &Of<'_>,
        groups: &[(&[u8], Option<u32>)],
        values: &ArrayRef,
        dropped: &Dropped,
        asked: &mut Asked,
    ) -> Result<(), DataFusionError> {
        let table = &*self.table();
        if !table.aside.residence.is_any_away() {
            return Ok(());
        }
        let slots = shared(groups.iter().map(|(_, slot)| Some(slot.unwrap_or(0))).collect::<UInt32Array>());
        let entries = table.entries.rows(&[slots, std::sync::Arc::clone(values)])?;
        let nulls = values.logical_nulls();
        let mut key = Vec::new();
        for (row, ((group, slot), entry)) in groups.iter().zip(&entries).enumerate() {
            let is_there =
                slot.is_some_and(|slot| table.aside.away(slot) == 0 || table.entries.find(entry.data()).is_some());
            if is_there || nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            of.key(group, value_of(entry.data()), &mut key);
            if !dropped.contains(&key) {
                asked.push(&key);
            }
        }
        Ok(())
    }

    /// Takes all values of these groups out of memory, and `count` others that were not used of late. They are saved.
    pub(super) fn pack(&mut self, of: &Of<'_>, leaving: &[u32], count: usize, entries: &mut Entries) {
        let table = &mut *self.table();
        let leaving: HashSet<u32> = leaving.iter().copied().collect();
        let is_used = |table: &Table, entry: u32| !table.entries.key(entry).is_empty();
        let mut picked: Vec<u32> = Vec::new();
        if !leaving.is_empty() {
            let all = 0..table.groups.len() as u32;
            picked.extend(all.filter(|e| leaving.contains(&table.groups[*e as usize]) && is_used(table, *e)));
        }
        let mut residence = std::mem::replace(&mut table.aside.residence, Residence::new(true));
        picked.extend(residence.pick(count, |entry| {
            let at = entry as usize;
            is_used(table, entry) && !table.has_changed[at] && !leaving.contains(&table.groups[at])
        }));
        let mut key = Vec::new();
        for entry in picked {
            let group = table.groups[entry as usize];
            if residence.leaves(entry) {
                let of_group = of.groups.key(group);
                of.key(of_group, value_of(table.entries.key(entry)), &mut key);
                entries.put(&key, |bytes| {
                    bytes.extend_from_slice(&(of_group.len() as u32).to_le_bytes());
                    table.calls.iter().for_each(|call| bytes.extend(call.rows[entry as usize].to_le_bytes()));
                });
            }
            table.calls.iter_mut().for_each(|call| call.rows[entry as usize] = 0);
            table.aside.away[group as usize] += 1;
            table.entries.remove(entry);
        }
        table.aside.residence = residence;
    }

    /// The keys of values that are gone and whose entries are left.
    pub(super) fn take_left(&mut self, of: &Of<'_>, dropped: &mut Dropped) {
        let mut key = Vec::new();
        for (group, value) in std::mem::take(&mut self.table().aside.left) {
            of.key(of.groups.key(group), &value, &mut key);
            dropped.insert(&key);
        }
    }

    /// Whether values of a group are put aside.
    pub(super) fn has_away(&self, slot: u32) -> bool {
        self.table().aside.away(slot) > 0
    }

    /// These groups are put aside with all their values: nothing is left of them in memory.
    pub(super) fn leave(&mut self, slots: &[u32]) {
        let table = &mut *self.table();
        for slot in slots.iter().map(|slot| *slot as usize) {
            table.aside.away[slot] = 0;
            for call in &mut table.calls {
                (call.distinct[slot], call.entries[slot]) = (0, 0);
            }
        }
    }

    /// Puts values back into memory. `found`: their keys without the table, and what their entries have.
    pub(super) fn unpack<'f>(&mut self, of: &Of<'_>, found: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Result<()> {
        let damaged = || Error::internal("a value that was put aside is damaged");
        let table = &mut *self.table();
        let mut slots = Vec::new();
        let mut values = Vec::new();
        let mut numbers: Vec<Vec<i64>> = vec![Vec::new(); table.calls.len()];
        for (key, entry) in found {
            let (length, rest) = entry.split_first_chunk::<4>().ok_or_else(damaged)?;
            let (group, value) = key.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
            slots.push(of.groups.find(group).ok_or_else(damaged)?);
            values.push(value);
            let (of_calls, []) = rest.as_chunks::<8>() else { return Err(damaged()) };
            numbers.iter_mut().zip(of_calls).for_each(|(numbers, number)| numbers.push(i64::from_le_bytes(*number)));
        }
        if slots.is_empty() {
            return Ok(());
        }
        let parser = table.aside.converter.parser();
        let columns = table.aside.converter.convert_rows(values.into_iter().map(|value| parser.parse(value)));
        let values = columns.map_err(super::super::evaluate::internal)?.pop().ok_or_else(damaged)?;
        let failed = |e: DataFusionError| Error::internal(format!("could not bring values back: {e}"));
        let entries = table.look_up(&slots, &values).map_err(failed)?;
        for (at, (entry, slot)) in entries.into_iter().zip(slots).enumerate() {
            for (call, numbers) in table.calls.iter_mut().zip(&numbers) {
                call.rows[entry as usize] = numbers[at];
            }
            table.aside.residence.came_back(entry);
            table.aside.away[slot as usize] -= 1;
        }
        Ok(())
    }
}
