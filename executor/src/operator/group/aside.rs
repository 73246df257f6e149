//! Groups that are put aside: all that is known of them leaves memory, and comes back when a row of theirs does.
//!
//! Entries begin with a byte: 0 for a group, with its key; from 1 on for the values of a `COUNT(DISTINCT)`
//! ([`super::values_aside`]), by the place of its table. The entry of a group has its row of the state with counters of
//! its distinct values, and the values of calls that keep these with their group.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::DataFusionError;
use qanat_proto::error::{Error, Result};
use qanat_storage::spill::Entries;

use super::super::Operator;
use super::super::aggregate::calls::{Calls, Inputs};
use super::super::aside::{Aside, keys_of_bytes};
use super::super::packer::PackedRows;
use super::super::residence::Asked;
use super::super::slots::Slots;
use super::accumulator::GroupAccumulator;
use super::aggregate::{DUE, GroupAggregate, SAVED, UNSAVED};
use super::state::Groups;
use super::values_aside::Of;

/// What comes: a batch, or rows of a table of the state.
pub(super) enum Arriving {
    Batch { retracted: Option<BooleanArray>, inputs: Inputs },
    State { table: String, rows: RecordBatch },
}

/// First byte of the entry of a group.
const GROUP: u8 = 0;

/// Columns of the tables that groups are packed with: key, a number that is known of each, states and counters; then the
/// values of each call that keeps them.
pub(crate) fn tables(key_types: &[DataType], accumulators: &[Box<dyn GroupAccumulator>]) -> Vec<Vec<DataType>> {
    let mut groups: Vec<DataType> = key_types.to_vec();
    groups.push(DataType::Int64);
    groups.extend(accumulators.iter().flat_map(|call| call.state_types()));
    let counters: usize = accumulators.iter().map(|call| call.counter_columns()).sum();
    groups.extend(std::iter::repeat_n(DataType::Int64, counters));
    let values = accumulators.iter().filter(|call| call.counter_columns() == 0).filter_map(|call| call.value_types());
    let values = values.map(|mut values| {
        values.push(DataType::Int64);
        values
    });
    std::iter::once(groups).chain(values).collect()
}

/// Rows of [`tables`] for groups in these slots, with the number that is known of each.
pub(crate) fn pack_groups(of: Groups<'_>, written: &[u32], known: Vec<i64>) -> Result<Vec<PackedRows>> {
    let Groups { slots, accumulators, calls } = of;
    let failed = |e: DataFusionError| calls.error(&e);
    let numbers = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
    let mut columns = slots.keys(written).map_err(failed)?;
    columns.push(numbers(known));
    let (mut counters, mut tables) = (Vec::new(), Vec::new());
    for call in accumulators {
        columns.extend(call.states(written).map_err(failed)?);
        counters.extend(call.counters(written));
        if let Some(values) = call.values_of(written).map_err(failed)? {
            let columns = values.values.into_iter().chain([numbers(values.numbers)]).collect();
            tables.push(PackedRows { columns, counts: values.counts });
        }
    }
    columns.extend(counters.into_iter().map(numbers));
    tables.insert(0, PackedRows { columns, counts: vec![1; written.len()] });
    Ok(tables)
}

/// Puts groups back that were packed: gives their slots, and the number that is known of each.
pub(crate) fn unpack_groups(
    tables: &mut impl Iterator<Item = PackedRows>,
    slots: &mut Slots,
    accumulators: &mut [Box<dyn GroupAccumulator>],
    calls: &Calls,
) -> Result<(Vec<u32>, Vec<i64>)> {
    let failed = |e: DataFusionError| calls.error(&e);
    let damaged = || Error::internal("a group that was put aside is damaged");
    let PackedRows { columns, counts } = tables.next().ok_or_else(damaged)?;
    let mut found = Vec::new();
    if counts.is_empty() {
        return Ok((found, Vec::new()));
    }
    let (keys, rest) = columns.split_at_checked(calls.key_count()).ok_or_else(damaged)?;
    slots.find_or_add(keys, counts.len(), &mut found).map_err(failed)?;
    for call in accumulators.iter_mut() {
        call.grow(slots.len()).map_err(failed)?;
    }
    let mut columns = rest.iter();
    let known = columns.next().ok_or_else(damaged)?.as_primitive::<Int64Type>().values().to_vec();
    for call in accumulators.iter_mut() {
        let width = call.state_types().len();
        let states: Vec<ArrayRef> = columns.by_ref().take(width).cloned().collect();
        call.restore(&found, &states).map_err(failed)?;
    }
    for call in accumulators {
        let counters = columns.by_ref().take(call.counter_columns());
        let counters: Vec<&[i64]> = counters.map(|c| c.as_primitive::<Int64Type>().values().as_ref()).collect();
        call.set_counters(&found, &counters);
        let keeps_values = call.counter_columns() == 0 && call.value_types().is_some();
        let Some(table) = (if keeps_values { tables.next() } else { None }) else { continue };
        let of_group = found.iter().zip(&table.counts);
        let groups: Vec<u32> = of_group.flat_map(|(slot, count)| std::iter::repeat_n(*slot, *count as usize)).collect();
        let (numbers, values) = table.columns.split_last().ok_or_else(damaged)?;
        let numbers = numbers.as_primitive::<Int64Type>().values();
        call.restore_values(&groups, values, &[numbers.as_ref()]).map_err(failed)?;
    }
    Ok((found, known))
}

/// What groups of these calls are put aside with.
pub(super) fn aside(
    is_on: bool,
    key_types: &[DataType],
    accumulators: &mut [Box<dyn GroupAccumulator>],
) -> Result<Aside<Arriving>> {
    let tables = tables(key_types, accumulators);
    let aside = Aside::new(is_on && accumulators.len() < usize::from(u8::MAX), &tables)?;
    if aside.is_on() {
        accumulators.iter_mut().filter_map(|call| call.distinct()).for_each(|values| values.spill());
    }
    Ok(aside)
}

pub(super) fn of_group(key: &[u8]) -> Vec<u8> {
    [&[GROUP], key].concat()
}

/// The calls that keep their values apart, each with the number of its table.
fn distinct(
    calls: &mut [Box<dyn GroupAccumulator>],
) -> impl Iterator<Item = (u8, &mut super::distinct::DistinctCount)> {
    calls.iter_mut().enumerate().filter_map(|(at, call)| Some((table_of(at), call.distinct()?)))
}

/// First byte of the entries of values of a call. With so many calls that it does not do, nothing is put aside.
fn table_of(call: usize) -> u8 {
    u8::try_from(call + 1).unwrap_or(u8::MAX)
}

impl GroupAggregate {
    /// What rows need and may have been put aside.
    pub(super) fn missing(&mut self, arriving: &Arriving) -> Result<Asked> {
        let mut asked = Asked::default();
        let is_any_away = self.aside.residence.is_any_away();
        if !is_any_away && distinct(&mut self.accumulators).all(|(_, values)| !values.is_any_away()) {
            return Ok(asked);
        }
        let failed = |e: DataFusionError| self.calls.error(&e);
        let (keys, count) = match arriving {
            Arriving::Batch { inputs, .. } => (&inputs.columns[..self.calls.key_count()], inputs.rows),
            Arriving::State { rows, .. } => (&rows.columns()[1..=self.calls.key_count()], rows.num_rows()),
        };
        let keys = if keys.is_empty() { None } else { Some(self.slots.rows(keys).map_err(failed)?) };
        let key = |row: usize| keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
        let groups: Vec<(&[u8], Option<u32>)> = (0..count).map(|row| (key(row), self.slots.find(key(row)))).collect();
        if is_any_away {
            for (key, _) in groups.iter().filter(|(_, slot)| slot.is_none()) {
                let key = of_group(key);
                if !self.aside.dropped.contains(&key) {
                    asked.push(&key);
                }
            }
        }
        if let Arriving::Batch { inputs, .. } = arriving {
            for (call, (at, accumulator)) in self.calls.calls.iter().zip(self.accumulators.iter_mut().enumerate()) {
                let Some(values) = accumulator.distinct() else { continue };
                let of = Of { table: table_of(at), groups: &self.slots };
                let arguments = call.arguments(inputs);
                let argument = arguments.first().ok_or_else(|| Error::internal("a call without an argument"))?;
                values.ask(&of, &groups, argument, &self.aside.dropped, &mut asked).map_err(failed)?;
            }
        }
        Ok(asked)
    }

    /// Takes groups and distinct values out of memory that were not used of late.
    pub(super) fn pack(&mut self, bytes: usize) -> Result<Entries> {
        let mut entries = Entries::default();
        if !self.aside.may_pack() {
            return Ok(entries);
        }
        self.aside.dropped.take(&mut entries);
        let all = self.state_bytes();
        // As large a part of the groups as of the values of each call.
        let values = distinct(&mut self.accumulators);
        let counts: Vec<usize> = values.map(|(_, values)| keys_of_bytes(bytes, all, values.used())).collect();
        let is_global = self.node.keys.is_empty();
        let count = keys_of_bytes(bytes, all, self.slots.used());
        let flags = &self.flags;
        let may_go = |slot: u32| !is_global && flags[slot as usize] & (SAVED | DUE | UNSAVED) == SAVED;
        let residence = &mut self.aside.residence;
        let picked = residence.pick(count, may_go);
        for ((table, values), count) in distinct(&mut self.accumulators).zip(counts) {
            values.pack(&Of { table, groups: &self.slots }, &picked, count, &mut entries);
        }
        // What was put aside of a group's values is part of its entry.
        let written: Vec<u32> = picked.iter().copied().filter(|slot| residence.leaves(*slot)).collect();
        let known = written.iter().map(|slot| self.rows[*slot as usize]).collect();
        let groups = Groups { slots: &self.slots, accumulators: &mut self.accumulators, calls: &self.calls };
        let tables = pack_groups(groups, &written, known)?;
        let keys: Vec<Vec<u8>> = written.iter().map(|slot| of_group(self.slots.key(*slot))).collect();
        self.aside.pack(keys.iter().map(Vec::as_slice), &tables, &mut entries)?;
        distinct(&mut self.accumulators).for_each(|(_, values)| values.leave(&picked));
        for slot in picked {
            self.flags[slot as usize] = 0;
            self.rows[slot as usize] = 0;
            for call in &mut self.accumulators {
                call.clear(slot).map_err(|e| self.calls.error(&e))?;
            }
            self.slots.remove(slot);
        }
        Ok(entries)
    }

    /// Puts groups and values back into memory.
    pub(super) fn unpack(&mut self, found: &Entries) -> Result<()> {
        let of_table = |wanted: u8| {
            found.iter().filter_map(move |(key, value)| match key.split_first() {
                Some((table, key)) if *table == wanted => Some((key, value?)),
                _ => None,
            })
        };
        let mut tables = self.aside.unpack(of_table(GROUP).map(|(_, value)| value))?.into_iter();
        let (slots, rows) = unpack_groups(&mut tables, &mut self.slots, &mut self.accumulators, &self.calls)?;
        self.grow()?;
        for (slot, rows) in slots.into_iter().zip(rows) {
            self.is_back(slot, rows);
            self.aside.residence.came_back(slot);
        }
        for (table, values) in distinct(&mut self.accumulators) {
            values.unpack(&Of { table, groups: &self.slots }, of_table(table))?;
        }
        Ok(())
    }

    /// Values that were saved to be gone leave no entry.
    pub(super) fn drop_values(&mut self) {
        for (table, values) in distinct(&mut self.accumulators) {
            values.take_left(&Of { table, groups: &self.slots }, &mut self.aside.dropped);
        }
    }
}
