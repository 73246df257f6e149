//! Keys of aggregates over the rows before each row that are put aside: accumulators, the rows of the frame, and rows that
//! wait. They come back when a row with their key does, and when the watermark passes a row of theirs that waits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{OverAggregateNode, OverFrame};
use qanat_storage::spill::Entries;

use super::aggregate::calls::Calls;
use super::aside::{Aside, keys_of_bytes};
use super::emit::batch_of;
use super::group::accumulator::GroupAccumulator;
use super::group::aside::{pack_groups, tables, unpack_groups};
use super::group::state::Groups;
use super::keys::keys_of;
use super::over_aggregate::{Key, OverAggregate, SAVED, UNSAVED, note_end};
use super::packer::PackedRows;
use super::wakes::Wakes;
use super::{Operator, OperatorContext, Output};

/// What comes: rows of a batch that are not late, rows that the state keeps with their names, or rows of another table.
pub(super) enum Arriving {
    Batch(RecordBatch),
    Rows { names: Vec<i64>, rows: RecordBatch },
    State { table: String, rows: RecordBatch },
}

/// A key with more rows stays in memory.
const ROWS_MAX: usize = 1 << 14;
/// Columns of an entry's rows in front of those of the input: name, time, and whether it was told of.
const OWN_COLUMNS: [DataType; 3] = [DataType::Int64, DataType::Int64, DataType::Boolean];

/// Nothing is put aside without a key, or with values that are kept apart from their key.
pub(super) fn aside(
    context: &OperatorContext,
    node: &OverAggregateNode,
    calls: &Calls,
    accumulators: &[Box<dyn GroupAccumulator>],
) -> Result<(Aside<Arriving>, Wakes)> {
    let is_on = context.spills && !node.partition_by.is_empty();
    let is_on = is_on && accumulators.iter().all(|call| call.counter_columns() == 0);
    let mut tables = tables(&calls.key_types, accumulators);
    let input = context.inputs.first().ok_or_else(|| Error::internal("an aggregation has one input"))?;
    let columns = input.fields().iter().map(|field| field.data_type().clone());
    tables.push(OWN_COLUMNS.into_iter().chain(columns).collect());
    let kept = match node.frame {
        OverFrame::RangeMs(ms) => ms,
        // Rows wait for the watermark.
        _ => 1_000,
    };
    Ok((Aside::new(is_on, &tables)?, Wakes::new(kept)))
}

impl OverAggregate {
    /// Something comes. What it needs and was put aside is asked for at first.
    pub(super) fn arrive(&mut self, arriving: Arriving, out: &mut Output) -> Result<()> {
        if !self.aside.residence.is_any_away() {
            return self.take_in(arriving, out);
        }
        let failed = |e| self.calls.error(&e);
        let keys = match &arriving {
            Arriving::Batch(rows) | Arriving::Rows { rows, .. } => {
                keys_of(rows, &self.node.partition_by, &self.calls.key_types).map_err(failed)?
            }
            Arriving::State { rows, .. } => rows.columns()[1..=self.calls.key_count()].to_vec(),
        };
        let asked = self.aside.missing(&self.slots, &keys, None).map_err(failed)?;
        match self.aside.arrive(arriving, asked) {
            Some(arriving) => self.take_in(arriving, out),
            None => Ok(()),
        }
    }

    /// Asks for keys whose time comes; whether there are some.
    pub(super) fn wake(&mut self) -> bool {
        let now = self.closed_before();
        self.aside.wake(&mut self.wakes, &self.slots, now)
    }

    /// Takes keys out of memory that were not used of late.
    pub(super) fn pack(&mut self, bytes: usize) -> Result<Entries> {
        let mut entries = Entries::default();
        if !self.aside.may_pack() || self.is_due {
            return Ok(entries);
        }
        let count = keys_of_bytes(bytes, self.state_bytes(), self.slots.used());
        let keys = &self.keys;
        let may_go = |slot: u32| {
            let key = &keys[slot as usize];
            let rows = key.frame.len() + key.waits as usize;
            key.flags & UNSAVED == 0 && (key.flags & SAVED != 0 || rows > 0) && rows <= ROWS_MAX
        };
        self.aside.dropped.take(&mut entries);
        let residence = &mut self.aside.residence;
        let picked = residence.pick(count, may_go);
        let written: Vec<u32> = picked.iter().copied().filter(|slot| residence.leaves(*slot)).collect();
        let mut waiting: HashMap<u32, Vec<(i64, i64)>> = picked.iter().map(|slot| (*slot, Vec::new())).collect();
        for (time, rows) in &self.waiting {
            for (slot, number) in rows {
                if let Some(of_slot) = waiting.get_mut(slot) {
                    of_slot.push((*time, *number));
                }
            }
        }
        let known = written.iter().map(|slot| self.keys[*slot as usize].last.unwrap_or(i64::MIN)).collect();
        let groups = Groups { slots: &self.slots, accumulators: &mut self.accumulators, calls: &self.calls };
        let mut tables = pack_groups(groups, &written, known)?;
        tables.push(self.packed_rows(&written, &waiting)?);
        self.aside.pack(written.iter().map(|slot| self.slots.key(*slot)), &tables, &mut entries)?;
        let now = self.closed_before();
        let (slots, per_ms, length) = (&self.slots, self.time.per_ms, self.length());
        let first = |slot: &u32| Some((waiting.get(slot)?.first()?.0.div_euclid(per_ms), slots.key(*slot)));
        self.wakes.note(now, true, picked.iter().filter_map(first), &mut entries);
        let end = |slot: &u32| {
            let (time, _) = self.keys[*slot as usize].frame.back()?;
            let end = time.saturating_add(length?).div_euclid(per_ms);
            Some((end, slots.key(*slot)))
        };
        let told = picked.iter().filter(|slot| waiting.get(slot).is_some_and(Vec::is_empty));
        self.wakes.note(now, false, told.filter_map(end), &mut entries);
        self.leave(&picked, &waiting)?;
        Ok(entries)
    }

    /// The rows of keys, those of the frame first.
    fn packed_rows(&self, slots: &[u32], waiting: &HashMap<u32, Vec<(i64, i64)>>) -> Result<PackedRows> {
        let (mut counts, mut times, mut numbers, mut told) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for slot in slots {
            let frame = self.keys[*slot as usize].frame.iter().copied();
            let mut waits: Vec<(i64, i64)> = waiting.get(slot).cloned().unwrap_or_default();
            // While the state is read back rows come in no order; names rise as rows came at first.
            waits.sort_by_key(|(time, number)| (*time, self.rows.name(*number)));
            let before = numbers.len();
            for (time, number, is_told) in
                frame.map(|row| (row.0, row.1, true)).chain(waits.into_iter().map(|row| (row.0, row.1, false)))
            {
                times.push(time);
                numbers.push(Some(number));
                told.push(is_told);
            }
            counts.push((numbers.len() - before) as u32);
        }
        let names = numbers.iter().flatten().map(|number| self.rows.name(*number).unwrap_or_default());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(names)),
            Arc::new(Int64Array::from(times)),
            Arc::new(BooleanArray::from(told)),
        ];
        columns.extend(self.rows.gather(&numbers)?);
        Ok(PackedRows { columns, counts })
    }

    /// Keys leave memory; they stay in the state.
    fn leave(&mut self, picked: &[u32], waiting: &HashMap<u32, Vec<(i64, i64)>>) -> Result<()> {
        let length = self.length();
        let (mut gone, mut ends, mut times) = (Vec::new(), HashSet::new(), HashSet::new());
        for slot in picked {
            let key = std::mem::take(&mut self.keys[*slot as usize]);
            gone.extend(key.frame.iter().map(|(_, number)| *number));
            ends.extend(
                length
                    .into_iter()
                    .flat_map(|length| key.frame.iter().map(move |(time, _)| time.saturating_add(length))),
            );
            let waits = waiting.get(slot).into_iter().flatten();
            gone.extend(waits.clone().map(|(_, number)| *number));
            times.extend(waits.map(|(time, _)| *time));
        }
        for end in ends {
            if let Some(slots) = self.ends.get_mut(&end) {
                slots.retain(|slot| !waiting.contains_key(slot));
                if slots.is_empty() {
                    self.ends.remove(&end);
                }
            }
        }
        for time in times {
            if let Some(rows) = self.waiting.get_mut(&time) {
                rows.retain(|(slot, _)| !waiting.contains_key(slot));
                if rows.is_empty() {
                    self.waiting.remove(&time);
                }
            }
        }
        self.rows.remove(&gone)?;
        for slot in picked {
            for call in &mut self.accumulators {
                call.clear(*slot).map_err(|e| self.calls.error(&e))?;
            }
            self.slots.remove(*slot);
        }
        Ok(())
    }

    /// Puts keys back into memory.
    pub(super) fn unpack(&mut self, found: &Entries) -> Result<()> {
        let mut tables = self.aside.unpack_woken(&mut self.wakes, found)?;
        let damaged = || Error::internal("rows that were put aside are damaged");
        let PackedRows { mut columns, counts } = tables.pop().ok_or_else(damaged)?;
        if counts.is_empty() {
            return Ok(());
        }
        let mut tables = tables.into_iter();
        let (slots, known) = unpack_groups(&mut tables, &mut self.slots, &mut self.accumulators, &self.calls)?;
        self.grow()?;
        for (slot, last) in slots.iter().zip(known) {
            let is_saved = last > i64::MIN;
            let flags = if is_saved { SAVED } else { 0 };
            self.keys[*slot as usize] = Key { last: is_saved.then_some(last), flags, ..Key::default() };
        }
        let rows = columns.split_off(OWN_COLUMNS.len().min(columns.len()));
        let [names, times, told] = columns.as_slice() else { return Err(damaged()) };
        let rows = batch_of(self.rows.schema(), rows, names.len())?;
        let names = names.as_primitive::<Int64Type>().values().to_vec();
        let first = self.rows.restore(names, rows)?;
        let (times, told) = (times.as_primitive::<Int64Type>().values(), told.as_boolean().values());
        let of_slots = slots.iter().zip(counts).flat_map(|(slot, count)| std::iter::repeat_n(*slot, count as usize));
        let length = self.length();
        for (((slot, time), is_told), number) in of_slots.zip(times).zip(told.iter()).zip(first..) {
            if !is_told {
                self.wait(slot, *time, number);
                continue;
            }
            self.keys[slot as usize].frame.push_back((*time, number));
            if let Some(length) = length {
                note_end(&mut self.ends, time.saturating_add(length), slot);
            }
        }
        self.aside.came_back(found, &self.slots);
        Ok(())
    }
}
