//! The join of rows whose times are no further apart than an interval, with a condition over both sides.
//!
//! A row is kept for as long as one may come that it could meet, which the watermark tells. So nothing that was said is
//! ever taken back: a row without a match is told of when none can come any more (outer and anti), one with a match at
//! its first one (semi). A row behind the watermark is late, since rows that it would have met may be gone.
//!
//! Keys that were not used of late are put aside where memory is short ([`super::interval_aside`]).
//!
//! What must never happen: a row that goes while one may come that it could meet; a match that is forgotten with the
//! row that it was with, so that its partner is told of as one without.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef, UInt16Type};
use datafusion_common::DataFusionError;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{IntervalJoinNode, JoinKind};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::aside::Aside;
use super::super::emit::{Emitter, batch_of};
use super::super::evaluate::{evaluation_error, internal};
use super::super::event_time::{split_late, split_times};
use super::super::kept_rows::KeptRows;
use super::super::keys::{any_null, key_type, keys_of};
use super::super::slots::Slots;
use super::super::state_rows::StateRows;
use super::super::wakes::Wakes;
use super::super::{Operator, OperatorContext, Output};
use super::aside::tables;
use super::condition::{Condition, side_by_side, taken};
use super::interval_aside::Arriving;

/// Read back behind [`MATCHED`].
const ROWS: [&str; 2] = ["left_rows", "right_rows"];
const MATCHED: [&str; 2] = ["left_matched", "right_matched"];
/// Pairs of one piece.
const PAIRS_AT_ONCE: usize = 1 << 14;

pub struct IntervalJoin {
    node: IntervalJoinNode,
    context: OperatorContext,
    key_types: Vec<DataType>,
    condition: Condition,
    /// Keys of both sides.
    pub(super) slots: Slots,
    pub(super) sides: [Side; 2],
    meeting: Option<Meeting>,
    pub(super) aside: Aside<Arriving>,
    pub(super) wakes: Wakes,
    /// `i64::MIN`: none yet.
    watermark: i64,
    /// Whether rows may have to go.
    is_due: bool,
    /// The last time that rows went of.
    pub(super) closed: Option<i64>,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// The rows of one side.
pub(super) struct Side {
    pub(super) rows: KeptRows,
    /// By slot: times and numbers, in this order.
    pub(super) lists: Vec<Vec<(i64, i64)>>,
    /// Slots by the time of the last row that one of their rows could meet.
    pub(super) ends: BTreeMap<i64, Vec<u32>>,
    /// Key columns.
    on: Vec<usize>,
    pub(super) time: usize,
    /// What is added to a row's time for that of the last row that it could meet, and of the first one.
    pub(super) reach: (i64, i64),
    /// Rows are told of without a match, or at their first one.
    pub(super) tells: Tells,
    partition: Vec<usize>,
    state: StateRows,
    matched_state: StateRows,
    /// Rows that have got their first match since the last snapshot: the time after which they go, and their numbers.
    matched: Vec<(i64, i64)>,
    /// Of the restore point: rows that have matches, by key group and name.
    restored_matched: HashSet<(u16, i64)>,
    pub(super) lists_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    Pairs,
    /// And rows without a match, once there can be none.
    Lonely,
    /// Rows at their first match, and no pairs.
    First,
}

/// A batch that meets the other side.
struct Meeting {
    port: usize,
    rows: RecordBatch,
    times: ScalarBuffer<i64>,
    /// Slot of each row; None: its key is NULL, and equals nothing.
    slots: Vec<Option<u32>>,
    /// Where it stands: a row, and a place in the list of its slot.
    row: usize,
    place: usize,
    /// Matches of each row so far.
    matches: Vec<u32>,
}

impl IntervalJoin {
    pub fn new(node: &IntervalJoinNode, context: OperatorContext) -> Result<Self> {
        let [left, right] = context.inputs.as_slice() else {
            return Err(Error::internal("a join has two inputs"));
        };
        let (left, right) = (Arc::clone(left), Arc::clone(right));
        let condition = Condition::new(node.filter.as_ref(), &left, &right)?;
        let key_types: Vec<DataType> = node.on.iter().map(|(key, _)| key_type(left.field(*key).data_type())).collect();
        let slots = Slots::new(&key_types).map_err(|e| evaluation_error(&context.name, &e))?;
        let tells = match node.kind {
            JoinKind::Inner => [Tells::Pairs, Tells::Pairs],
            JoinKind::Left | JoinKind::LeftAnti => [Tells::Lonely, Tells::Pairs],
            JoinKind::Right => [Tells::Pairs, Tells::Lonely],
            JoinKind::Full => [Tells::Lonely, Tells::Lonely],
            JoinKind::LeftSemi => [Tells::First, Tells::Pairs],
        };
        let [left_on, right_on]: [Vec<usize>; 2] =
            [node.on.iter().map(|on| on.0).collect(), node.on.iter().map(|on| on.1).collect()];
        let side = |port: usize, schema: SchemaRef, on: Vec<usize>| {
            let key = ["end", "name"].map(|name| Field::new(name, DataType::Int64, false));
            let columns = schema.fields().iter().enumerate();
            let columns = columns.map(|(at, field)| field.as_ref().clone().with_name(format!("column_{at}")));
            // Left less right is between the bounds.
            let (time, reach) = match port {
                0 => (node.times.0, (node.lower_ms.saturating_neg(), node.upper_ms.saturating_neg())),
                _ => (node.times.1, (node.upper_ms, node.lower_ms)),
            };
            Side {
                state: StateRows::new(key.iter().cloned().chain(columns).collect(), context.key_groups),
                matched_state: StateRows::new(key.to_vec(), context.key_groups),
                lists: Vec::new(),
                ends: BTreeMap::new(),
                on,
                time,
                reach,
                tells: tells[port],
                partition: context.partition.get(port).cloned().unwrap_or_default(),
                matched: Vec::new(),
                restored_matched: HashSet::new(),
                lists_bytes: 0,
                rows: KeptRows::new(schema),
            }
        };
        let sides = [side(0, left, left_on), side(1, right, right_on)];
        // Without a key there is nothing that could go.
        let aside = Aside::new(
            context.spills && !node.on.is_empty(),
            &tables(sides.each_ref().map(|side| side.rows.schema().as_ref())),
        )?;
        Ok(Self {
            aside,
            wakes: Wakes::new(node.upper_ms.saturating_sub(node.lower_ms)),
            node: node.clone(),
            key_types,
            condition,
            slots,
            sides,
            meeting: None,
            watermark: i64::MIN,
            is_due: false,
            closed: None,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    /// Rows of an earlier time are late, and rows that could meet none of this time or later go.
    pub(super) fn now(&self) -> i64 {
        if self.watermark == i64::MAX { i64::MAX } else { self.watermark.saturating_sub(self.node.allowed_lateness_ms) }
    }

    /// The key columns of rows, and where a key is NULL that equals nothing.
    pub(super) fn keys_of(&self, rows: &RecordBatch, port: usize) -> Result<(Vec<ArrayRef>, Option<NullBuffer>)> {
        let keys = keys_of(rows, &self.sides[port].on, &self.key_types);
        let keys = keys.map_err(|e| self.failed(&e))?;
        let nulls = any_null(&keys);
        Ok((keys, nulls))
    }

    pub(super) fn failed(&self, error: &DataFusionError) -> Error {
        evaluation_error(&self.context.name, error)
    }

    /// Slot of each row; those whose key is NULL have none.
    pub(super) fn slots_of(&mut self, rows: &RecordBatch, port: usize) -> Result<Vec<Option<u32>>> {
        let (keys, nulls) = self.keys_of(rows, port)?;
        let mut slots = Vec::new();
        let found = self.slots.find_or_add(&keys, rows.num_rows(), &mut slots);
        found.map_err(|e| self.failed(&e))?;
        for side in &mut self.sides {
            side.lists.resize_with(self.slots.len(), Vec::new);
        }
        self.aside.residence.grow(self.slots.len());
        self.aside.residence.touch(slots.iter().copied());
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        (0..slots.len()).filter(|row| is_null(*row)).for_each(|row| self.free(slots[row]));
        Ok(slots.into_iter().enumerate().map(|(row, slot)| (!is_null(row)).then_some(slot)).collect())
    }

    /// A slot without rows is free.
    fn free(&mut self, slot: u32) {
        if self.sides.iter().all(|side| side.lists[slot as usize].is_empty()) {
            self.aside.gone(slot, &self.slots);
            self.slots.remove(slot);
        }
    }

    pub(super) fn is_meeting(&self) -> bool {
        self.meeting.is_some()
    }

    /// What was asked for is there: a batch meets the other side, rows of the state are kept.
    pub(super) fn take_in(&mut self, arriving: Arriving) -> Result<()> {
        match arriving {
            Arriving::Batch { port, rows, times } => {
                let slots = self.slots_of(&rows, port)?;
                let matches = vec![0; rows.num_rows()];
                self.meeting = Some(Meeting { port, rows, times, slots, row: 0, place: 0, matches });
            }
            Arriving::State { port, names, rows, matches } => {
                let slots = self.keep(port, names, rows, matches)?;
                self.aside.residence.change(slots);
            }
        }
        Ok(())
    }

    /// One piece of a meeting; whether there may be more.
    fn meet(&mut self, meeting: &mut Meeting, out: &mut Output) -> Result<bool> {
        let (owns, others) = self.next_pairs(meeting);
        if owns.is_empty() {
            return Ok(false);
        }
        let (owns, others) = self.satisfying(meeting, (owns, others))?;
        owns.iter().for_each(|own| meeting.matches[*own as usize] += 1);
        let other = &mut self.sides[1 - meeting.port];
        let mut first = Vec::new();
        if other.tells != Tells::Pairs {
            for number in &others {
                if let (0, 1) = other.rows.change_matches(*number, 1) {
                    first.push(Some(*number));
                }
            }
            other.note_matched(&first)?;
        }
        if self.tells_pairs() {
            let own = taken(&meeting.rows, &UInt32Array::from(owns))?;
            let others: Vec<Option<i64>> = others.into_iter().map(Some).collect();
            let count = others.len();
            let other = self.sides[1 - meeting.port].rows.gather(&others)?;
            let columns = side_by_side(meeting.port, own, other);
            self.counts.rows_out += self.emitter.emit(columns, count, out)?;
        } else if self.sides[1 - meeting.port].tells == Tells::First {
            let columns = self.sides[1 - meeting.port].rows.gather(&first)?;
            self.counts.rows_out += self.emitter.emit(columns, first.len(), out)?;
        }
        Ok(true)
    }

    fn tells_pairs(&self) -> bool {
        !matches!(self.node.kind, JoinKind::LeftSemi | JoinKind::LeftAnti)
    }

    /// The next pairs of equal keys whose times are near: a row of the batch and the number of one that is kept.
    fn next_pairs(&self, meeting: &mut Meeting) -> (Vec<u32>, Vec<i64>) {
        let other = &self.sides[1 - meeting.port];
        let reach = self.sides[meeting.port].reach;
        let (mut owns, mut others) = (Vec::new(), Vec::new());
        while meeting.row < meeting.rows.num_rows() && owns.len() < PAIRS_AT_ONCE {
            let list = meeting.slots[meeting.row].map_or(&[][..], |slot| other.lists[slot as usize].as_slice());
            let time = meeting.times[meeting.row];
            let (last, first) = (time.saturating_add(reach.0), time.saturating_add(reach.1));
            let begins = list.partition_point(|(time, _)| *time < first);
            let ends = list.partition_point(|(time, _)| *time <= last).max(begins);
            let near = list.get(begins..ends).unwrap_or_default();
            let rest = near.get(meeting.place..).unwrap_or_default();
            let taken = rest.len().min(PAIRS_AT_ONCE - owns.len());
            owns.extend(std::iter::repeat_n(meeting.row as u32, taken));
            others.extend(rest[..taken].iter().map(|(_, number)| *number));
            if taken == rest.len() {
                (meeting.row, meeting.place) = (meeting.row + 1, 0);
            } else {
                meeting.place += taken;
            }
        }
        (owns, others)
    }

    /// Pairs for which the condition holds.
    fn satisfying(&self, meeting: &Meeting, pairs: (Vec<u32>, Vec<i64>)) -> Result<(Vec<u32>, Vec<i64>)> {
        let kept = &self.sides[1 - meeting.port].rows;
        self.condition.satisfying(&self.context.name, (meeting.port, &meeting.rows), kept, pairs)
    }

    /// Keeps the rows of a batch that others may still meet, and tells of those that none can.
    fn settle(&mut self, meeting: Meeting, out: &mut Output) -> Result<()> {
        let Meeting { port, rows, times, slots, matches, .. } = meeting;
        // Rows of both sides may have got matches.
        self.aside.residence.change(slots.iter().copied().flatten());
        let now = self.now();
        let side = &mut self.sides[port];
        let (mut kept, mut lonely, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let end = times[row].saturating_add(side.reach.0);
            if slots[row].is_some() && end >= now {
                kept.push(row as u32);
            } else if side.tells == Tells::Lonely && matches[row] == 0 {
                lonely.push(row as u32);
            }
            if side.tells == Tells::First && matches[row] > 0 {
                first.push(row as u32);
            }
        }
        if !kept.is_empty() {
            let new = match kept.len() == rows.num_rows() {
                true => rows.clone(),
                false => take_record_batch(&rows, &UInt32Array::from(kept.clone())).map_err(internal)?,
            };
            let of = |row: &u32| matches[*row as usize];
            let number = side.rows.append(new, kept.iter().map(of).collect())?;
            for (row, number) in kept.iter().zip(number..) {
                let end = side.keep(slots[*row as usize].unwrap_or(0), times[*row as usize], number);
                if side.tells != Tells::Pairs && matches[*row as usize] > 0 {
                    side.matched.push((end, number));
                }
            }
        }
        if kept.len() < rows.num_rows() {
            slots.iter().flatten().for_each(|slot| self.free(*slot));
        }
        self.tell(port, &rows, lonely, out)?;
        self.tell(port, &rows, first, out)
    }

    /// Tells of rows of one side without a partner.
    fn tell(&mut self, port: usize, rows: &RecordBatch, picked: Vec<u32>, out: &mut Output) -> Result<()> {
        let count = picked.len();
        if count == 0 {
            return Ok(());
        }
        let rows = take_record_batch(rows, &UInt32Array::from(picked)).map_err(internal)?;
        self.tell_columns(port, rows.columns().to_vec(), count, out)
    }

    fn tell_columns(&mut self, port: usize, own: Vec<ArrayRef>, count: usize, out: &mut Output) -> Result<()> {
        let mut columns = own;
        if self.tells_pairs() {
            let others = self.sides[1 - port].rows.schema().fields().iter();
            let nulls: Vec<ArrayRef> = others.map(|field| new_null_array(field.data_type(), count)).collect();
            columns = side_by_side(port, columns, nulls);
        }
        self.counts.rows_out += self.emitter.emit(columns, count, out)?;
        Ok(())
    }

    /// Lets some rows go that can meet none any more; whether there may be more.
    fn expire(&mut self, out: &mut Output) -> Result<bool> {
        let now = self.now();
        for port in [0, 1] {
            let side = &mut self.sides[port];
            let Some(entry) = side.ends.first_entry().filter(|entry| *entry.key() < now) else { continue };
            let slots = entry.remove();
            self.closed = Some(now.saturating_sub(1));
            let (mut gone, mut lonely) = (Vec::new(), Vec::new());
            for slot in &slots {
                let list = &mut side.lists[*slot as usize];
                // Rows of a key go in the order of their times.
                let count = list.partition_point(|(time, _)| time.saturating_add(side.reach.0) < now);
                gone.extend(list.drain(..count).map(|(_, number)| number));
                if list.is_empty() {
                    side.lists_bytes -= list.capacity() * 16;
                    *list = Vec::new();
                }
            }
            if side.tells == Tells::Lonely {
                let is_lonely = |number: &i64| side.rows.change_matches(*number, 0).1 == 0;
                lonely.extend(gone.iter().copied().filter(is_lonely).map(Some));
            }
            let columns = side.rows.gather(&lonely)?;
            side.rows.remove(&gone)?;
            // What was told of must not come back.
            self.aside.residence.change(slots.iter().copied());
            slots.into_iter().for_each(|slot| self.free(slot));
            if !lonely.is_empty() {
                self.tell_columns(port, columns, lonely.len(), out)?;
            }
            return Ok(true);
        }
        Ok(false)
    }
}

impl Side {
    /// Notes a row that is kept, and tells until when.
    pub(super) fn keep(&mut self, slot: u32, time: i64, number: i64) -> i64 {
        let list = &mut self.lists[slot as usize];
        let before = list.capacity();
        let at = list.partition_point(|other| *other < (time, number));
        list.insert(at, (time, number));
        self.lists_bytes += (list.capacity() - before) * 16;
        let end = time.saturating_add(self.reach.0);
        let slots = self.ends.entry(end).or_default();
        if slots.last() != Some(&slot) {
            slots.push(slot);
        }
        end
    }

    /// Rows have got their first match.
    fn note_matched(&mut self, numbers: &[Option<i64>]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let columns = self.rows.gather(numbers)?;
        let times = super::super::event_time::milliseconds(&columns[self.time])?;
        let numbers = numbers.iter().flatten();
        self.matched
            .extend(times.values().iter().zip(numbers).map(|(time, of)| (time.saturating_add(self.reach.0), *of)));
        Ok(())
    }

    fn spec(&self, port: usize) -> [TableSpec; 2] {
        let spec = |name: &str, state: &StateRows| TableSpec {
            name: name.to_owned(),
            schema: Arc::clone(state.schema()),
            key_columns: 2,
            time_column: Some(1),
            append_only: true,
        };
        [spec(MATCHED[port], &self.matched_state), spec(ROWS[port], &self.state)]
    }

    fn snapshot(&mut self, port: usize, closed: Option<i64>) -> Result<[TableDelta; 2]> {
        let mut upserts = Vec::new();
        for (names, rows) in self.rows.take_unsaved()? {
            let count = rows.num_rows();
            let times = super::super::event_time::milliseconds(rows.column(self.time))?;
            let ends =
                Int64Array::from_iter_values(times.values().iter().map(|time| time.saturating_add(self.reach.0)));
            let by: Vec<ArrayRef> = self.partition.iter().map(|column| Arc::clone(rows.column(*column))).collect();
            let key: [ArrayRef; 2] = [Arc::new(ends), Arc::new(names)];
            upserts.push(self.state.batch(
                &by,
                key.into_iter().chain(rows.columns().iter().cloned()).collect(),
                count,
            )?);
        }
        let rows = TableDelta { table: ROWS[port].to_owned(), upserts, deletes: Vec::new(), closed };
        let matched = self.matched_rows()?;
        Ok([rows, TableDelta { table: MATCHED[port].to_owned(), upserts: matched, deletes: Vec::new(), closed }])
    }

    /// Matches that are news, as rows of their table: each in the key group of the row that it is of.
    fn matched_rows(&mut self) -> Result<Vec<RecordBatch>> {
        let matched = std::mem::take(&mut self.matched);
        let (mut numbers, mut kept) = (Vec::new(), Vec::new());
        for (end, number) in matched {
            // One that has gone meanwhile needs no more.
            if let Some(name) = self.rows.name(number) {
                numbers.push(Some(number));
                kept.push((end, name));
            }
        }
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.rows.gather(&numbers)?;
        let by: Vec<ArrayRef> = self.partition.iter().map(|column| Arc::clone(&columns[*column])).collect();
        let key: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(kept.iter().map(|row| row.0))),
            Arc::new(Int64Array::from_iter_values(kept.iter().map(|row| row.1))),
        ];
        Ok(vec![self.matched_state.batch(&by, key, kept.len())?])
    }

    /// `slots`: those of both sides.
    fn bytes(&self, slots: &Slots) -> usize {
        let ends: usize = self.ends.len() * 64;
        let lists = slots.share(self.lists.capacity() * size_of::<Vec<(i64, i64)>>());
        self.rows.bytes() + lists + self.lists_bytes * 2 + ends
    }
}

impl Operator for IntervalJoin {
    fn process(&mut self, port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        let (late, dead) = (out.late.len(), out.dead.len());
        let (rows, times) = split_times(rows, self.sides[port].time, out)?;
        let now = self.now();
        let rows = split_late(rows, self.sides[port].time, &times, |time| time < now, self.watermark, out)?;
        let times: ScalarBuffer<i64> = times.iter().copied().filter(|time| *time >= now).collect();
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.counts.dead_lettered += out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum::<u64>();
        self.counts.accumulated += rows.num_rows() as u64;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.arrive(Arriving::Batch { port, rows, times })
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        self.watermark = self.watermark.max(watermark);
        self.is_due = true;
        if watermark == i64::MAX {
            return Ok(watermark);
        }
        // A pair is as old as the older of its rows.
        let behind = self.sides.iter().map(|side| side.reach.0).fold(0, i64::max);
        Ok(watermark.saturating_sub(behind).saturating_sub(self.node.allowed_lateness_ms))
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if let Some(arriving) = self.aside.arrived() {
            self.take_in(arriving)?;
            return Ok(true);
        }
        if let Some(mut meeting) = self.meeting.take() {
            if self.meet(&mut meeting, out)? {
                self.meeting = Some(meeting);
            } else {
                self.settle(meeting, out)?;
            }
            return Ok(true);
        }
        // Rows in memory go before others come back.
        self.is_due = self.is_due && (self.expire(out)? || self.wake());
        Ok(self.is_due)
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.sides.iter().enumerate().flat_map(|(port, side)| side.spec(port)).collect()
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let closed = self.closed.take();
        let sides = self.sides.iter_mut().enumerate().map(|(port, side)| side.snapshot(port, closed));
        Ok(sides.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let groups = rows.column(0).as_primitive::<UInt16Type>().values().clone();
        let names = rows.column(2).as_primitive::<Int64Type>().values().to_vec();
        if let Some(port) = MATCHED.iter().position(|name| *name == table) {
            self.sides[port].restored_matched.extend(groups.iter().copied().zip(names));
            return Ok(());
        }
        let port = ROWS.iter().position(|name| *name == table);
        let port = port.ok_or_else(|| Error::internal(format!("a join has no state table `{table}`")))?;
        let rows = batch_of(self.sides[port].rows.schema(), rows.columns()[3..].to_vec(), rows.num_rows())?;
        let matched = &self.sides[port].restored_matched;
        let rows_of = groups.iter().copied().zip(names.iter().copied());
        let matches = rows_of.map(|row| u32::from(matched.contains(&row))).collect();
        self.arrive(Arriving::State { port, names, rows, matches })
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.watermark = watermark.unwrap_or(i64::MIN);
        self.sides.iter_mut().for_each(|side| side.restored_matched = HashSet::new());
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
        let sides: usize = self.sides.iter().map(|side| side.bytes(&self.slots)).sum();
        self.slots.used_bytes() + sides + self.aside.bytes() + self.wakes.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
