//! The operator: groups, what was told of them, and what is to be saved.
//!
//! A group that changes is *due* until it is told; its results as they were told before are taken aside when it becomes
//! due, so that they can be taken back. It is told before every barrier, so that what is saved has been told. What must
//! never happen: a row that is taken back unlike it was given, or a group that is told and not saved.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int8Array, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Int8Type};
use datafusion_common::DataFusionError;
use qanat_proto::changelog::{self, Changelog, RowKind};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::GroupAggregateNode;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::ages::{Ages, earlier};
use super::super::aggregate::calls::{Calls, Inputs};
use super::super::aside::Aside;
use super::super::emit::Emitter;
use super::super::evaluate::{evaluate_or_bury, internal};
use super::super::event_time::{milliseconds, split_late};
use super::super::keys::any_different;
use super::super::mini_batch::MiniBatch;
use super::super::slots::Slots;
use super::super::{Operator, OperatorContext, Output};
use super::accumulator::{Batch, GroupAccumulator, call_bytes, of_calls};
use super::aside::{Arriving, aside, of_group};
use super::state::{Groups, StateTables};
use super::windows::{TOLD_TABLE, Waiting, Wanted, Windows, pick};

/// Groups that are due before they are told without waiting.
const DUE_MAX: usize = 1 << 16;

/// Group has changed since it was told.
pub(super) const DUE: u8 = 1;
/// Group has been told and is there.
pub(super) const TOLD: u8 = 2;
/// Group has changed since it was saved.
pub(super) const UNSAVED: u8 = 4;
/// Group stands in the state.
pub(super) const SAVED: u8 = 8;
/// What was told of the group last stands in the state, since it waits to be told.
const WAITS: u8 = 16;
/// Group is being told, and others that are due are not.
const CHOSEN: u8 = 32;

pub struct GroupAggregate {
    pub(super) node: GroupAggregateNode,
    context: OperatorContext,
    pub(super) calls: Calls,
    /// Whether what is told takes back what was told before.
    tells_before: bool,
    pub(super) slots: Slots,
    pub(super) accumulators: Vec<Box<dyn GroupAccumulator>>,
    /// By slot.
    pub(super) rows: Vec<i64>,
    pub(super) flags: Vec<u8>,
    /// Slots that are due, in order, and of those that are told the results as they were.
    due: Vec<u32>,
    before: Before,
    unsaved: Vec<u32>,
    mini_batch: MiniBatch,
    /// The groups are those of windows, which are told by these.
    windows: Option<Windows>,
    ages: Ages,
    state: StateTables,
    pub(super) aside: Aside<Arriving>,
    emitter: Emitter,
    counts: OperatorCounts,
    /// Slots of the rows of a batch.
    found: Vec<u32>,
}

/// Results of groups as they were told, in the order in which the groups became due.
#[derive(Default)]
struct Before {
    slots: Vec<u32>,
    /// By call, in pieces.
    results: Vec<Vec<ArrayRef>>,
}

impl GroupAggregate {
    pub fn new(node: &GroupAggregateNode, context: OperatorContext) -> Result<Self> {
        let input = context.inputs.first().ok_or_else(|| Error::internal("an aggregation has one input"))?;
        let retracts = changelog::has_kinds(input);
        let calls = Calls::new(&context.name, &node.keys, &node.aggregates, input)?;
        let failed = |e: DataFusionError| calls.error(&e);
        let types = calls.types(input).map_err(failed)?;
        let mut accumulators = of_calls(&calls.calls, &types, retracts).map_err(failed)?;
        let aside = aside(context.spills, &calls.key_types, &mut accumulators)?;
        let slots = Slots::new(&calls.key_types).map_err(failed)?;
        let forgets = context.ttl_ms[0] > 0 || node.windows.is_some();
        let state = StateTables::new(&calls.key_types, &accumulators, context.key_groups, forgets);
        let results = context.output.fields().iter().skip(node.keys.len()).take(node.aggregates.len());
        let results: Vec<DataType> = results.map(|field| field.data_type().clone()).collect();
        let windows = node.windows.map(|node| Windows::new(node, &calls.key_types, &results, context.key_groups));
        let before = Before { slots: Vec::new(), results: vec![Vec::new(); accumulators.len()] };
        Ok(Self {
            node: node.clone(),
            tells_before: matches!(context.changelog, Changelog::Retract),
            slots,
            accumulators,
            rows: Vec::new(),
            flags: Vec::new(),
            due: Vec::new(),
            before,
            unsaved: Vec::new(),
            mini_batch: MiniBatch::new(node.mini_batch_ms),
            windows,
            ages: Ages::new(context.ttl_ms[0]),
            state,
            aside,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            found: Vec::new(),
            calls,
            context,
        })
    }

    pub(super) fn grow(&mut self) -> Result<()> {
        let slots = self.slots.len();
        self.aside.residence.grow(slots);
        self.rows.resize(slots, 0);
        self.flags.resize(slots, 0);
        for accumulator in &mut self.accumulators {
            accumulator.grow(slots).map_err(|e| self.calls.error(&e))?;
        }
        Ok(())
    }

    /// Groups of these rows become due.
    fn touch(&mut self, slots: &[u32]) -> Result<()> {
        let mut told = Vec::new();
        for slot in slots {
            let flags = &mut self.flags[*slot as usize];
            if *flags & UNSAVED == 0 {
                *flags |= UNSAVED;
                self.unsaved.push(*slot);
            }
            if *flags & DUE == 0 {
                *flags |= DUE;
                self.due.push(*slot);
                if *flags & TOLD != 0 {
                    told.push(*slot);
                }
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        for (accumulator, results) in self.accumulators.iter_mut().zip(&mut self.before.results) {
            results.push(accumulator.results(&told).map_err(|e| self.calls.error(&e))?);
        }
        self.before.slots.extend(told);
        Ok(())
    }

    /// Tells of all groups that are due.
    fn tell(&mut self, out: &mut Output) -> Result<()> {
        self.mini_batch.end();
        let due = std::mem::take(&mut self.due);
        if due.is_empty() {
            return Ok(());
        }
        let results = self.before.results.iter_mut().map(std::mem::take).collect();
        let before = Before { slots: std::mem::take(&mut self.before.slots), results };
        self.tell_groups(&due, before, out)
    }

    /// Tells of [`DUE_MAX`] of the groups of windows that are due and wanted; whether there may be more.
    fn tell_wanted(&mut self, wanted: Wanted, out: &mut Output) -> Result<bool> {
        let Some(windows) = &mut self.windows else { return Ok(false) };
        let (mut chosen, mut rest) = (Vec::new(), Vec::new());
        for slot in std::mem::take(&mut self.due) {
            let is_chosen = chosen.len() < DUE_MAX && windows.is_wanted(slot, wanted);
            if is_chosen { &mut chosen } else { &mut rest }.push(slot);
        }
        self.due = rest;
        let has_more = chosen.len() == DUE_MAX;
        if !has_more {
            windows.end(wanted);
        }
        for slot in &chosen {
            let flags = &mut self.flags[*slot as usize];
            *flags |= CHOSEN;
            if *flags & WAITS != 0 {
                *flags &= !WAITS;
                windows.tells(*slot);
            }
        }
        if chosen.is_empty() {
            return Ok(false);
        }
        let before = self.split_before()?;
        chosen.iter().for_each(|slot| self.flags[*slot as usize] &= !CHOSEN);
        self.tell_groups(&chosen, before, out)?;
        Ok(has_more)
    }

    /// Takes out what was told of the chosen groups.
    fn split_before(&mut self) -> Result<Before> {
        let places = 0..self.before.slots.len();
        let is_chosen = |at: &usize| self.flags[self.before.slots[*at] as usize] & CHOSEN != 0;
        let (chosen, rest): (Vec<usize>, Vec<usize>) = places.partition(is_chosen);
        let slots = |places: &[usize]| places.iter().map(|at| self.before.slots[*at]).collect::<Vec<u32>>();
        let (chosen_slots, rest_slots) = (slots(&chosen), slots(&rest));
        let (chosen, rest) = (some(chosen), some(rest));
        let mut results = Vec::with_capacity(self.before.results.len());
        for pieces in &mut self.before.results {
            let Some(data_type) = pieces.first().map(|piece| piece.data_type().clone()) else {
                results.push(Vec::new());
                continue;
            };
            results.push(vec![pick(pieces, &data_type, &chosen)?]);
            *pieces = if rest.is_empty() { Vec::new() } else { vec![pick(pieces, &data_type, &rest)?] };
        }
        self.before.slots = rest_slots;
        Ok(Before { slots: chosen_slots, results })
    }

    /// `before`: of those of the groups that have been told, in the same order.
    fn tell_groups(&mut self, due: &[u32], mut before: Before, out: &mut Output) -> Result<()> {
        let results = &mut before.results;
        let before = std::mem::take(&mut before.slots);
        let failed = |e: DataFusionError| self.calls.error(&e);
        // Rows as they were, then rows as they are.
        let slots: Vec<u32> = before.iter().chain(due).copied().collect();
        let mut columns = self.slots.keys(&slots).map_err(failed)?;
        let mut has_changed = BooleanBuffer::new_unset(before.len());
        // Groups that were told are due in the order in which they became so, which is that of `before`.
        let told = due.iter().enumerate().filter(|(_, slot)| self.flags[**slot as usize] & TOLD != 0);
        let told: UInt32Array = told.map(|(at, _)| (before.len() + at) as u32).collect();
        for (accumulator, old) in self.accumulators.iter_mut().zip(results) {
            let mut pieces = std::mem::take(old);
            pieces.push(accumulator.results(due).map_err(failed)?);
            let pieces: Vec<&dyn Array> = pieces.iter().map(|piece| piece.as_ref()).collect();
            let column = concat(&pieces).map_err(internal)?;
            let now = take(&column, &told, None).map_err(internal)?;
            has_changed = &has_changed | &any_different(&column.slice(0, before.len()), &now).map_err(failed)?;
            columns.push(column);
        }
        let is_global = self.node.keys.is_empty();
        let (mut picked, mut kinds) = (Vec::new(), Vec::new());
        let mut old = 0;
        for (at, slot) in due.iter().enumerate() {
            let flags = &mut self.flags[*slot as usize];
            let (was_told, is_there) = (*flags & TOLD != 0, self.rows[*slot as usize] > 0 || is_global);
            *flags &= !(DUE | TOLD);
            *flags |= if is_there { TOLD } else { 0 };
            let (then, now) = (old as u32, (before.len() + at) as u32);
            old += usize::from(was_told);
            match (was_told, is_there) {
                (false, false) => {}
                (false, true) => {
                    picked.push(now);
                    kinds.push(RowKind::Insert.code());
                }
                (true, false) => {
                    picked.push(then);
                    kinds.push(RowKind::Delete.code());
                }
                (true, true) if has_changed.value(then as usize) => {
                    if self.tells_before {
                        picked.push(then);
                        kinds.push(RowKind::UpdateBefore.code());
                    }
                    picked.push(now);
                    kinds.push(RowKind::UpdateAfter.code());
                }
                (true, true) => {}
            }
        }
        let picked = UInt32Array::from(picked);
        let mut columns =
            columns.iter().map(|c| take(c, &picked, None)).collect::<Result<Vec<_>, _>>().map_err(internal)?;
        columns.push(Arc::new(Int8Array::from(kinds)));
        self.counts.rows_out += self.emitter.emit(columns, picked.len(), out)?;
        Ok(())
    }

    /// Groups are too old. What was told of them stays.
    fn forget(&mut self, old: &[u32]) -> Result<()> {
        let (due, old): (Vec<u32>, Vec<u32>) = old.iter().partition(|slot| self.flags[**slot as usize] & DUE != 0);
        self.ages.touch(&due);
        for slot in &old {
            self.rows[*slot as usize] = 0;
            let flags = &mut self.flags[*slot as usize];
            *flags &= !TOLD;
            if *flags & UNSAVED == 0 {
                *flags |= UNSAVED;
                self.unsaved.push(*slot);
            }
        }
        for accumulator in self.accumulators.iter_mut().filter(|_| !old.is_empty()) {
            accumulator.forget(&old).map_err(|e| self.calls.error(&e))?;
        }
        Ok(())
    }

    /// Groups without rows that are not told any more: their slots are free.
    fn free(&mut self, slot: u32) -> Result<()> {
        self.flags[slot as usize] = 0;
        for accumulator in &mut self.accumulators {
            accumulator.clear(slot).map_err(|e| self.calls.error(&e))?;
        }
        if self.aside.residence.gone(slot) {
            // Its key with the byte that says what it is.
            self.aside.dropped.insert(&of_group(self.slots.key(slot)));
        }
        self.slots.remove(slot);
        self.ages.gone(slot);
        if let Some(windows) = &mut self.windows {
            windows.free(slot);
        }
        Ok(())
    }

    /// Rows come. What they need and was put aside is asked for at first.
    fn arrive(&mut self, arriving: Arriving, out: Option<&mut Output>) -> Result<()> {
        let asked = self.missing(&arriving)?;
        match self.aside.arrive(arriving, asked) {
            Some(arriving) => self.take_in(arriving, out),
            None => Ok(()),
        }
    }

    /// What was asked for is there. `out`: of a batch.
    fn take_in(&mut self, arriving: Arriving, out: Option<&mut Output>) -> Result<()> {
        match (arriving, out) {
            (Arriving::Batch { retracted, inputs }, Some(out)) => self.update(retracted, &inputs, out),
            (Arriving::State { table, rows }, _) => self.put_back(&table, &rows),
            (Arriving::Batch { .. }, None) => Err(Error::internal("rows of a batch came from the state")),
        }
    }

    fn update(&mut self, retracted: Option<BooleanArray>, inputs: &Inputs, out: &mut Output) -> Result<()> {
        let mut found = std::mem::take(&mut self.found);
        let keys = &inputs.columns[..self.calls.key_count()];
        self.slots.find_or_add(keys, inputs.rows, &mut found).map_err(|e| self.calls.error(&e))?;
        self.grow()?;
        self.touch(&found)?;
        self.ages.touch(&found);
        self.aside.residence.change(found.iter().copied());
        for (accumulator, call) in self.accumulators.iter_mut().zip(&self.calls.calls) {
            let batch = Batch { slots: &found, retracted: retracted.as_ref(), filter: call.filter(inputs) };
            accumulator.update(batch, &call.arguments(inputs)).map_err(|e| self.calls.error(&e))?;
        }
        let batch = Batch { slots: &found, retracted: retracted.as_ref(), filter: None };
        for (_, slot, sign) in batch.rows() {
            self.rows[slot] += sign;
        }
        if let Some(windows) = &mut self.windows {
            windows.touch(&found, keys)?;
            self.found = found;
            return Ok(());
        }
        self.found = found;
        if self.due.len() >= DUE_MAX {
            return self.tell(out);
        }
        if !self.due.is_empty() {
            self.mini_batch.begin();
        }
        Ok(())
    }

    /// Rows of a table of the state.
    fn put_back(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let mut found = Vec::new();
        let keys = self.state.keys_of(rows, &self.calls);
        self.slots.find_or_add(keys, rows.num_rows(), &mut found).map_err(|e| self.calls.error(&e))?;
        self.grow()?;
        let numbers = self.state.restore(table, rows, &found, &mut self.accumulators, &self.calls)?;
        self.ages.touch(&found);
        self.aside.residence.change(found.iter().copied());
        if let Some(windows) = &mut self.windows {
            windows.touch(&found, keys)?;
        }
        for (slot, rows) in found.iter().zip(numbers.unwrap_or_default()) {
            self.is_back(*slot, rows);
        }
        Ok(())
    }

    /// A group that was saved has so many rows.
    pub(super) fn is_back(&mut self, slot: u32, rows: i64) {
        self.rows[slot as usize] = rows;
        let is_there = rows > 0 || self.node.keys.is_empty();
        self.flags[slot as usize] = SAVED | if is_there { TOLD } else { 0 };
    }

    /// A group without rows of which values are put aside stays: it was given rows that it has to take back.
    fn is_kept(&mut self, slot: u32) -> bool {
        let has_rows = self.rows[slot as usize] > 0 || self.node.keys.is_empty();
        has_rows || self.accumulators.iter_mut().any(|call| call.distinct().is_some_and(|values| values.has_away(slot)))
    }
}

impl GroupAggregate {
    /// Rows whose windows are open.
    fn in_time(&self, rows: RecordBatch, out: &mut Output) -> Result<RecordBatch> {
        let Some(windows) = &self.windows else { return Ok(rows) };
        let end = self.node.keys[windows.end_key()];
        let ends = milliseconds(rows.column(end))?;
        split_late(rows, end, ends.values(), |end| windows.is_closed(end), windows.watermark, out)
    }

    /// What was told last of groups that wait at a barrier.
    fn told_delta(&mut self) -> Result<Option<TableDelta>> {
        let Some(windows) = &mut self.windows else { return Ok(None) };
        let failed = |e: DataFusionError| self.calls.error(&e);
        let mut waiting = Vec::new();
        for slot in &self.due {
            let flags = &mut self.flags[*slot as usize];
            if *flags & WAITS == 0 {
                *flags |= WAITS;
                waiting.push(*slot);
            }
        }
        let at: HashMap<u32, usize> = self.before.slots.iter().enumerate().map(|(at, slot)| (*slot, at)).collect();
        let places: Vec<Option<usize>> = waiting.iter().map(|slot| at.get(slot).copied()).collect();
        let fields = self.context.output.fields().iter().skip(self.node.keys.len());
        let results = self.before.results.iter().zip(fields);
        let results = results.map(|(pieces, field)| pick(pieces, field.data_type(), &places)).collect::<Result<_>>()?;
        let is_told = waiting.iter().map(|slot| self.flags[*slot as usize] & TOLD != 0).collect();
        let keys = self.slots.keys(&waiting).map_err(failed)?;
        let mut told = windows.take_told_since();
        told.retain(|slot| self.flags[*slot as usize] & WAITS == 0);
        told.sort_unstable();
        told.dedup();
        let told = self.slots.keys(&told).map_err(failed)?;
        windows.delta(Waiting { keys, is_told, results }, &told).map(Some)
    }

    /// Groups of the restore point that wait, and what was told of them.
    fn wait_again(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some(windows) = &self.windows else { return Ok(()) };
        let (keys, is_told, results) = windows.read(rows);
        let mut found = Vec::new();
        self.slots.find_or_add(keys, rows.num_rows(), &mut found).map_err(|e| self.calls.error(&e))?;
        for (pieces, results) in self.before.results.iter_mut().zip(results) {
            pieces.push(filter(results, is_told).map_err(internal)?);
        }
        for (slot, is_told) in found.iter().zip(is_told.values()) {
            let flags = &mut self.flags[*slot as usize];
            *flags = SAVED | DUE | WAITS | if is_told { TOLD } else { 0 };
            self.due.push(*slot);
            if is_told {
                self.before.slots.push(*slot);
            }
        }
        Ok(())
    }
}

fn some(places: Vec<usize>) -> Vec<Option<usize>> {
    places.into_iter().map(Some).collect()
}

impl Operator for GroupAggregate {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        let late = out.late.len();
        let rows = self.in_time(rows, out)?;
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let taken = rows.num_rows() as u64;
        let dead = out.dead.len();
        let calls = &self.calls;
        let evaluated = evaluate_or_bury(&self.context.name, rows, out, |rows| calls.evaluate(rows))?;
        let buried: u64 = out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum();
        self.counts.dead_lettered += buried;
        self.counts.accumulated += taken - buried;
        let Some((rows, inputs)) = evaluated else { return Ok(()) };
        let retracted = match changelog::has_kinds(rows.schema_ref()) {
            true => Some(retracted_of(&rows)),
            false => None,
        };
        self.arrive(Arriving::Batch { retracted, inputs }, Some(out))
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if let Some(arriving) = self.aside.arrived() {
            self.take_in(arriving, Some(out))?;
            return Ok(false);
        }
        if !self.windows.as_ref().is_some_and(Windows::is_due) {
            return Ok(false);
        }
        if self.tell_wanted(Wanted::Ended, out)? {
            return Ok(true);
        }
        let closed = self.windows.as_mut().map(Windows::close).unwrap_or_default();
        self.forget(&closed)?;
        Ok(false)
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        if let Some(windows) = &mut self.windows {
            windows.on_watermark(watermark);
        }
        Ok(watermark)
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<()> {
        let old = self.ages.too_old(now_ms);
        self.forget(&old)?;
        if let Some(windows) = &mut self.windows {
            for wanted in windows.due_at(now_ms) {
                while self.tell_wanted(wanted, out)? {}
            }
            return Ok(());
        }
        if self.mini_batch.is_due(now_ms) { self.tell(out) } else { Ok(()) }
    }

    fn next_timer(&self) -> Option<i64> {
        let told = self.windows.as_ref().map_or_else(|| self.mini_batch.next_timer(), Windows::next_timer);
        earlier(told, self.ages.next_timer())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.windows.is_none() {
            return self.tell(out);
        }
        while self.tell_wanted(Wanted::Late, out)? {}
        Ok(())
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.state.specs().into_iter().chain(self.windows.as_ref().map(Windows::spec)).collect()
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let told = self.told_delta()?;
        let unsaved = std::mem::take(&mut self.unsaved);
        let (there, gone): (Vec<u32>, Vec<u32>) = unsaved.iter().partition(|slot| self.is_kept(**slot));
        let numbered: Vec<(u32, i64)> = there.iter().map(|slot| (*slot, self.rows[*slot as usize])).collect();
        let saved: Vec<u32> = gone.iter().filter(|slot| self.flags[**slot as usize] & SAVED != 0).copied().collect();
        // What rows were taken back that never came goes, too: the slot is another group's next.
        for accumulator in self.accumulators.iter_mut().filter(|_| !gone.is_empty()) {
            accumulator.forget(&gone).map_err(|e| self.calls.error(&e))?;
        }
        let groups = Groups { slots: &self.slots, accumulators: &mut self.accumulators, calls: &self.calls };
        let mut deltas = self.state.snapshot(groups, &numbered, &saved)?;
        deltas.extend(told);
        self.drop_values();
        for slot in there {
            let flags = &mut self.flags[slot as usize];
            *flags = (*flags & !UNSAVED) | SAVED;
        }
        for slot in gone {
            self.free(slot)?;
        }
        Ok(deltas)
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if let Some(windows) = self.windows.as_mut().filter(|_| table == TOLD_TABLE) {
            windows.restored.push(rows);
            return Ok(());
        }
        self.arrive(Arriving::State { table: table.to_owned(), rows }, None)
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        let Some(windows) = &mut self.windows else { return Ok(()) };
        windows.restore(watermark.unwrap_or(i64::MIN));
        // Behind the groups themselves.
        for rows in std::mem::take(&mut windows.restored) {
            self.wait_again(&rows)?;
        }
        Ok(())
    }

    fn wanted(&mut self) -> Option<Keys> {
        self.aside.wanted()
    }

    fn bring_back(&mut self, found: &Entries) -> Result<()> {
        self.unpack(found)
    }

    fn put_aside(&mut self, bytes: usize) -> Result<Entries> {
        self.pack(bytes)
    }

    fn state_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|call| call_bytes(call.as_ref(), &self.slots)).sum();
        let before: usize = self.before.results.iter().flatten().map(crate::memory::array_bytes).sum();
        accumulators
            + before
            + self.slots.used_bytes()
            + self.slots.share(self.rows.capacity() * 9)
            + self.aside.bytes()
            + self.due.capacity() * 8
            + self.ages.bytes()
            + self.windows.as_ref().map_or(0, Windows::bytes)
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Rows that are taken back.
fn retracted_of(rows: &RecordBatch) -> BooleanArray {
    let kinds = rows.column(rows.num_columns() - 1).as_primitive::<Int8Type>().values();
    BooleanArray::new(kinds.iter().map(|kind| !changelog::is_added(*kind)).collect::<BooleanBuffer>(), None)
}
