//! `COUNT(DISTINCT)`: the values of all groups in one table, which calls over the same argument share.
//!
//! An entry is a group and a value; for each call it has how many of its rows have that value. Where no row is taken back
//! it is enough that there is one, and a value that comes again changes nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, UInt32Type};
use datafusion_common::DataFusionError;

use super::super::slots::{Slots, shared};
use super::accumulator::{Batch, Changed, GroupAccumulator};
use super::values_aside::{ValuesAside, value_of};

/// One call. The first one of a table looks up the entries of each batch for all of them.
pub(crate) struct DistinctCount {
    table: Arc<Mutex<Table>>,
    /// Its place among the calls of the table.
    call: usize,
}

pub(super) struct Table {
    types: Vec<DataType>,
    retracts: bool,
    /// Of the slot of a group, and a value.
    pub(super) entries: Slots,
    pub(super) calls: Vec<Counts>,
    /// By entry, the slot of its group.
    pub(super) groups: Vec<u32>,
    /// Entries that have changed since they were saved.
    changed: Vec<u32>,
    pub(super) has_changed: Vec<bool>,
    pub(super) aside: ValuesAside,
    /// The entry of each row of the batch.
    found: Vec<u32>,
}

/// What is put aside counts as if it were there.
#[derive(Default)]
pub(super) struct Counts {
    /// By entry: rows that have the value.
    pub(super) rows: Vec<i64>,
    /// By slot: values that some row has.
    pub(super) distinct: Vec<i64>,
    /// By slot: entries whose number is not 0.
    pub(super) entries: Vec<u32>,
}

impl Counts {
    fn grow(&mut self, slots: usize) {
        self.distinct.resize(slots.max(self.distinct.len()), 0);
        self.entries.resize(slots.max(self.entries.len()), 0);
    }

    /// An entry of a group gets another number.
    fn set(&mut self, slot: usize, entry: usize, number: i64) {
        let before = std::mem::replace(&mut self.rows[entry], number);
        self.distinct[slot] += i64::from(number > 0) - i64::from(before > 0);
        self.entries[slot] = (self.entries[slot] + u32::from(number != 0)).saturating_sub(u32::from(before != 0));
    }
}

/// A row without a value.
const NONE: u32 = u32::MAX;

impl DistinctCount {
    /// As many calls over one argument. `retracts`: rows may be taken back.
    pub(crate) fn of(argument: &DataType, retracts: bool, calls: usize) -> Result<Vec<Self>, DataFusionError> {
        let table = Table {
            types: vec![argument.clone()],
            retracts,
            entries: Slots::new(&[DataType::UInt32, argument.clone()])?,
            calls: (0..calls).map(|_| Counts::default()).collect(),
            groups: Vec::new(),
            changed: Vec::new(),
            has_changed: Vec::new(),
            found: Vec::new(),
            aside: ValuesAside::new(argument)?,
        };
        let table = Arc::new(Mutex::new(table));
        Ok((0..calls).map(|call| Self { table: Arc::clone(&table), call }).collect())
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leads(&self) -> bool {
        self.call == 0
    }
}

impl Table {
    /// Looks up the entries of rows, and adds those that are new. `filter`: of rows that count.
    fn find(&mut self, slots: &[u32], values: &ArrayRef, filter: Option<&BooleanArray>) -> Result<(), DataFusionError> {
        let (rows, groups) = (slots.len(), slots);
        let mut found = std::mem::take(&mut self.found);
        let slots: ArrayRef = Arc::new(UInt32Array::from(slots.to_vec()));
        let nulls = values.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let is_there = match (nulls.as_ref().map(NullBuffer::inner), filter.map(BooleanArray::values)) {
            (Some(nulls), Some(filter)) => Some(nulls & filter),
            (nulls, filter) => nulls.or(filter).cloned(),
        };
        match is_there {
            None => self.entries.find_or_add(&[slots, Arc::clone(values)], rows, &mut found)?,
            Some(is_there) => {
                let mask = BooleanArray::new(is_there.clone(), None);
                let kept = [arrow::compute::filter(&slots, &mask)?, arrow::compute::filter(values, &mask)?];
                let mut entries = Vec::new();
                self.entries.find_or_add(&kept, kept[0].len(), &mut entries)?;
                found.clear();
                found.resize(rows, NONE);
                is_there.set_indices().zip(entries).for_each(|(row, entry)| found[row] = entry);
            }
        }
        let entries = self.entries.len();
        self.groups.resize(entries, 0);
        for (entry, slot) in found.iter().zip(groups).filter(|(entry, _)| **entry != NONE) {
            self.groups[*entry as usize] = *slot;
        }
        self.aside.residence.grow(entries);
        self.aside.residence.touch(found.iter().copied().filter(|entry| *entry != NONE));
        self.found = found;
        self.has_changed.resize(entries, false);
        self.calls.iter_mut().for_each(|call| call.rows.resize(entries, 0));
        Ok(())
    }

    fn count(&mut self, call: usize, batch: Batch<'_>) {
        let Self { retracts, calls, changed, has_changed, found, aside, .. } = self;
        let counts = &mut calls[call];
        for (row, slot, sign) in batch.rows() {
            let entry = found[row];
            if entry == NONE {
                continue;
            }
            let number = counts.rows[entry as usize];
            if !*retracts && number > 0 {
                continue;
            }
            counts.set(slot, entry as usize, number + sign);
            if !std::mem::replace(&mut has_changed[entry as usize], true) {
                changed.push(entry);
                aside.residence.change([entry]);
            }
        }
    }
}

impl Table {
    /// The entries of values without NULLs, those that are new added; what was found for a batch is lost.
    pub(super) fn look_up(&mut self, slots: &[u32], values: &ArrayRef) -> Result<Vec<u32>, DataFusionError> {
        self.find(slots, values, None)?;
        Ok(std::mem::take(&mut self.found))
    }
}

impl GroupAccumulator for DistinctCount {
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        let table = &mut *self.table();
        table.calls[self.call].grow(slots);
        table.aside.grow(slots);
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        self.forget(&[slot])
    }

    /// Its values go with the next snapshot, which tells of it.
    fn forget(&mut self, slots: &[u32]) -> Result<(), DataFusionError> {
        let table = &mut *self.table();
        let counts = &mut table.calls[self.call];
        let gone: HashSet<u32> = slots.iter().copied().filter(|slot| counts.entries[*slot as usize] > 0).collect();
        if gone.is_empty() {
            return Ok(());
        }
        for entry in 0..counts.rows.len() {
            let slot = table.groups[entry];
            if counts.rows[entry] == 0 || !gone.contains(&slot) {
                continue;
            }
            counts.set(slot as usize, entry, 0);
            if !std::mem::replace(&mut table.has_changed[entry], true) {
                table.changed.push(entry as u32);
            }
        }
        Ok(())
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let mut table = self.table();
        if self.leads() {
            // What calls share has the values of all rows.
            let filter = batch.filter.filter(|_| table.calls.len() == 1);
            table.find(batch.slots, &values[0], filter)?;
        }
        table.count(self.call, batch);
        Ok(())
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        let table = self.table();
        let distinct = &table.calls[self.call].distinct;
        Ok(shared(Int64Array::from_iter_values(slots.iter().map(|slot| distinct[*slot as usize]))))
    }

    fn bytes(&self) -> usize {
        let table = self.table();
        let own = &table.calls[self.call];
        let by_entry = table.entries.share(own.rows.capacity() * 8);
        let own = by_entry + own.distinct.capacity() * 8 + own.entries.capacity() * 4;
        if !self.leads() {
            return own;
        }
        let by_entry = table.has_changed.capacity() + table.groups.capacity() * 4;
        let lists = (table.changed.capacity() + table.found.capacity()) * 4;
        own + table.entries.used_bytes() + table.entries.share(by_entry) + lists + table.aside.bytes()
    }

    fn free_bytes(&self) -> Option<usize> {
        // Numbers of values and entries, and of those that are put aside.
        Some(if self.leads() { 16 } else { 12 })
    }

    fn distinct(&mut self) -> Option<&mut DistinctCount> {
        self.leads().then_some(self)
    }

    fn counters(&self, slots: &[u32]) -> Vec<Vec<i64>> {
        let table = self.table();
        let Counts { distinct, entries, .. } = &table.calls[self.call];
        let of = |counter: &dyn Fn(usize) -> i64| slots.iter().map(|slot| counter(*slot as usize)).collect();
        let mut counters = vec![of(&|slot| distinct[slot]), of(&|slot| i64::from(entries[slot]))];
        if self.leads() {
            counters.push(of(&|slot| i64::from(table.aside.away(slot as u32))));
        }
        counters
    }

    fn set_counters(&mut self, slots: &[u32], counters: &[&[i64]]) {
        let table = &mut *self.table();
        let [distinct, entries, away @ ..] = counters else { return };
        for (at, slot) in slots.iter().enumerate() {
            let counts = &mut table.calls[self.call];
            counts.distinct[*slot as usize] = distinct[at];
            counts.entries[*slot as usize] = entries[at] as u32;
            if let Some(away) = away.first() {
                table.aside.set_away(*slot, away[at] as u32);
            }
        }
    }

    fn counter_columns(&self) -> usize {
        2 + usize::from(self.leads())
    }

    fn value_types(&self) -> Option<Vec<DataType>> {
        self.leads().then(|| self.table().types.clone())
    }

    fn value_numbers(&self) -> usize {
        self.table().calls.len()
    }

    fn values_stay(&self) -> bool {
        let table = self.table();
        !table.retracts && table.calls.len() == 1
    }

    fn take_changed(&mut self) -> Result<Changed, DataFusionError> {
        let table = &mut *self.table();
        let changed = std::mem::take(&mut table.changed);
        changed.iter().for_each(|entry| table.has_changed[*entry as usize] = false);
        let mut columns = table.entries.keys(&changed)?.into_iter();
        let slots = columns.next().map(|slots| slots.as_primitive::<UInt32Type>().values().to_vec());
        let numbers = table.calls.iter();
        let numbers: Vec<Vec<i64>> =
            numbers.map(|call| changed.iter().map(|entry| call.rows[*entry as usize]).collect()).collect();
        for (row, entry) in changed.iter().enumerate() {
            if numbers.iter().all(|numbers| numbers[row] == 0) {
                if table.aside.residence.gone(*entry) {
                    table.aside.left.push((table.groups[*entry as usize], value_of(table.entries.key(*entry)).into()));
                }
                table.entries.remove(*entry);
            }
        }
        Ok(Changed { slots: slots.unwrap_or_default(), values: columns.collect(), numbers })
    }

    fn restore_values(
        &mut self,
        slots: &[u32],
        values: &[ArrayRef],
        numbers: &[&[i64]],
    ) -> Result<(), DataFusionError> {
        let table = &mut *self.table();
        table.find(slots, &values[0], None)?;
        let most = slots.iter().copied().max().map_or(0, |slot| slot as usize + 1);
        for (counts, numbers) in table.calls.iter_mut().zip(numbers) {
            counts.grow(most);
            for ((entry, slot), number) in table.found.iter().zip(slots).zip(numbers.iter()) {
                counts.set(*slot as usize, *entry as usize, *number);
            }
        }
        Ok(())
    }
}
