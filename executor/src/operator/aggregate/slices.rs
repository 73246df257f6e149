//! The tables of all slices, and what they hold together.
//!
//! The job's budget asks for the bytes after each step, and there may be thousands of slices: a table is
//! measured when it was changed, never all of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use qanat_executor_core::window::Window;
use qanat_proto::error::Result;

use super::slice_table::{SliceTable, TableFactory};

#[derive(Default)]
pub(crate) struct Slices {
    tables: BTreeMap<Window, Measured>,
    bytes: usize,
}

struct Measured {
    table: SliceTable,
    /// As of the last change.
    bytes: usize,
}

impl Slices {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Groups of all slices, or an upper bound of their number.
    pub(crate) fn groups(&self) -> usize {
        self.tables.values().map(|measured| measured.table.len()).sum()
    }

    /// The slice that ends first.
    pub(crate) fn first(&self) -> Option<Window> {
        self.tables.first_key_value().map(|(slice, _)| *slice)
    }

    /// All slices, in the order of their ends.
    pub(crate) fn all(&self) -> impl Iterator<Item = Window> {
        self.tables.keys().copied()
    }

    /// The slices with an end behind `start`, up to `end`, in the order of their ends.
    pub(crate) fn within(&self, start: i64, end: i64) -> Vec<Window> {
        let after = Window { end: start, start: i64::MAX };
        let until = Window { end, start: i64::MAX };
        if start >= end {
            return Vec::new();
        }
        self.tables
            .range((std::ops::Bound::Excluded(after), std::ops::Bound::Included(until)))
            .map(|(s, _)| *s)
            .collect()
    }

    pub(crate) fn get(&self, slice: Window) -> Option<&SliceTable> {
        self.tables.get(&slice).map(|measured| &measured.table)
    }

    /// What a table held when it was changed last.
    pub(crate) fn bytes_of(&self, slice: Window) -> usize {
        self.tables.get(&slice).map_or(0, |measured| measured.bytes)
    }

    /// Changes the table of a slice, which is made if there is none.
    pub(crate) fn change<T>(
        &mut self,
        slice: Window,
        factory: &TableFactory,
        change: impl FnOnce(&mut SliceTable) -> Result<T>,
    ) -> Result<T> {
        let measured = match self.tables.entry(slice) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Measured { table: factory.table()?, bytes: 0 }),
        };
        let changed = change(&mut measured.table);
        let bytes = measured.table.bytes();
        self.bytes = self.bytes - measured.bytes + bytes;
        measured.bytes = bytes;
        changed
    }

    pub(crate) fn remove(&mut self, slice: Window) -> Option<SliceTable> {
        let Measured { table, bytes } = self.tables.remove(&slice)?;
        self.bytes -= bytes;
        Some(table)
    }
}
