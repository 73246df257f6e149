//! Aggregates over the rows before each row, in the order of time.
//!
//! Rows wait until the watermark has passed them; then they are told of in their order, with the results as they are
//! behind them. A frame that ends somewhere is kept as rows, which are taken back from the accumulators when they leave
//! it. Rows that are due are taken in *rounds*: the first row of every key, then the second, so that a round is one batch
//! for the accumulators however the keys are mixed. Rows of the same time that belong together are one row of a round.
//!
//! Keys that were not used of late are put aside where memory is short ([`super::over_aside`]).
//!
//! In processing time nothing waits: rows are in the order in which they come, and a frame of time goes by a column that
//! says when that was.
//!
//! What must never happen: a row told twice, or one told before another of its key that is older.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit};
use datafusion_common::DataFusionError;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{OverAggregateNode, OverFrame};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

use super::ages::{Ages, earlier};
use super::aggregate::calls::{Calls, Inputs};
use super::aside::Aside;
use super::emit::{Emitter, batch_of};
use super::evaluate::{evaluate_or_bury, internal};
use super::event_time::{milliseconds, split_late, split_times};
use super::group::accumulator::{Batch, GroupAccumulator, call_bytes, of_calls};
use super::group::state::{Groups, StateTables};
use super::kept_rows::KeptRows;
use super::keys::keys_of;
use super::over_aside::{Arriving, aside};
use super::slots::Slots;
use super::state_rows::StateRows;
use super::wakes::Wakes;
use super::{Operator, OperatorContext, Output};

const ROWS: &str = "rows";
/// Rows that are told of at once, and those of the same time as the last of them.
const PIECE_ROWS: usize = 1 << 14;

/// Key has changed since it was saved.
pub(super) const UNSAVED: u8 = 1;
/// Key stands in the state.
pub(super) const SAVED: u8 = 2;

pub struct OverAggregate {
    pub(super) node: OverAggregateNode,
    name: String,
    pub(super) calls: Calls,
    pub(super) time: Time,
    pub(super) slots: Slots,
    pub(super) accumulators: Vec<Box<dyn GroupAccumulator>>,
    pub(super) rows: KeptRows,
    /// Rows that are not told of yet, by their time, in the order in which they came: slot and number.
    pub(super) waiting: BTreeMap<i64, Vec<(u32, i64)>>,
    pub(super) keys: Vec<Key>,
    unsaved: Vec<u32>,
    ages: Ages,
    /// Keys by the time up to which their rows may be in the frame of another.
    pub(super) ends: BTreeMap<i64, Vec<u32>>,
    /// `i64::MIN`: none yet.
    watermark: i64,
    pub(super) is_due: bool,
    pub(super) aside: Aside<Arriving>,
    pub(super) wakes: Wakes,
    /// The processing time, and that of the row that came last.
    clock_ms: i64,
    latest_ms: i64,
    state: StateTables,
    rows_state: StateRows,
    /// Rows that are gone and stand in the state.
    deletes: Vec<RecordBatch>,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// What is known of a key, by its slot.
#[derive(Clone, Default)]
pub(super) struct Key {
    /// Rows that were told of and are in the frame of the next one: time and number.
    pub(super) frame: VecDeque<(i64, i64)>,
    /// The time of the last row that was told of.
    pub(super) last: Option<i64>,
    /// Rows that are not.
    pub(super) waits: u32,
    pub(super) flags: u8,
}

/// Times as they are compared: in the unit of their column.
#[derive(Clone, Copy)]
pub(super) struct Time {
    column: Option<usize>,
    /// They are when rows came: no row is late, and none waits.
    pub(super) is_clock: bool,
    pub(super) per_ms: i64,
}

/// A row that is told of.
#[derive(Clone, Copy)]
struct Due {
    time: i64,
    slot: u32,
    number: i64,
}

/// What happens to each key at once.
#[derive(Default)]
struct Round {
    slots: Vec<u32>,
    /// Slot and place among the rows that are due.
    added: Vec<(u32, u32)>,
    /// Slot and place among the rows that leave a frame.
    gone: Vec<(u32, u32)>,
}

impl OverAggregate {
    pub fn new(node: &OverAggregateNode, context: OperatorContext) -> Result<Self> {
        let input = context.inputs.first().ok_or_else(|| Error::internal("an aggregation has one input"))?;
        let calls = Calls::new(&context.name, &node.partition_by, &node.aggregates, input)?;
        let failed = |e: DataFusionError| calls.error(&e);
        let types = calls.types(input).map_err(failed)?;
        let ends = matches!(node.frame, OverFrame::Rows(_) | OverFrame::RangeMs(_));
        let accumulators = of_calls(&calls.calls, &types, ends).map_err(failed)?;
        let column = node.time_column.or(node.clock_column);
        let per_ms = match column.map(|column| input.field(column).data_type()) {
            Some(DataType::Timestamp(TimeUnit::Microsecond, _)) => 1_000,
            Some(DataType::Timestamp(TimeUnit::Nanosecond, _)) => 1_000_000,
            _ => 1,
        };
        let columns = input.fields().iter().enumerate();
        let columns = columns.map(|(at, field)| field.as_ref().clone().with_name(format!("column_{at}")));
        let name = Field::new("name", DataType::Int64, false);
        let (aside, wakes) = aside(&context, node, &calls, &accumulators)?;
        Ok(Self {
            aside,
            wakes,
            clock_ms: i64::MIN,
            latest_ms: i64::MIN,

            node: node.clone(),
            name: context.name.clone(),
            time: Time { column, is_clock: node.time_column.is_none(), per_ms },
            slots: Slots::new(&calls.key_types).map_err(failed)?,
            state: StateTables::new(&calls.key_types, &accumulators, context.key_groups, true),
            rows_state: StateRows::new(std::iter::once(name).chain(columns).collect(), context.key_groups),
            accumulators,
            rows: KeptRows::new(Arc::clone(input)),
            waiting: BTreeMap::new(),
            keys: Vec::new(),
            unsaved: Vec::new(),
            ages: Ages::new(context.ttl_ms[0]),
            ends: BTreeMap::new(),
            watermark: i64::MIN,
            is_due: false,
            deletes: Vec::new(),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            calls,
        })
    }

    /// Rows of an earlier time are told of, and late if they come now.
    pub(super) fn now(&self) -> i64 {
        match (self.time.is_clock, self.watermark) {
            (true, _) | (_, i64::MAX) => i64::MAX,
            (_, watermark) => watermark.saturating_sub(self.node.allowed_lateness_ms),
        }
    }

    /// Frames that end before are of no more use.
    pub(super) fn closed_before(&self) -> i64 {
        if !self.time.is_clock {
            return self.now();
        }
        let latest = self.clock_ms.saturating_sub(Self::SILENCE_MS).max(self.latest_ms);
        latest.saturating_sub(self.slack_ms())
    }

    /// The frame's length in the unit of times; None: it has none.
    pub(super) fn length(&self) -> Option<i64> {
        match self.node.frame {
            OverFrame::RangeMs(ms) => Some(ms.saturating_mul(self.time.per_ms)),
            _ => None,
        }
    }

    /// How long no row must have come before frames are emptied by the clock of this process: it says nothing of rows that
    /// have come elsewhere and wait to be taken.
    const SILENCE_MS: i64 = 600_000;

    /// How much longer than its frame a row is kept by the times of the rows that came last: those of several senders are
    /// not in one order.
    fn slack_ms(&self) -> i64 {
        match self.node.frame {
            OverFrame::RangeMs(ms) => (ms / 8).clamp(5_000, 60_000),
            _ => 0,
        }
    }

    fn keeps_frames(&self) -> bool {
        matches!(self.node.frame, OverFrame::Rows(_) | OverFrame::RangeMs(_))
    }

    fn slots_of(&mut self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let failed = |e: DataFusionError| self.calls.error(&e);
        let keys = keys_of(rows, &self.node.partition_by, &self.calls.key_types).map_err(failed)?;
        let mut found = Vec::new();
        self.slots.find_or_add(&keys, rows.num_rows(), &mut found).map_err(failed)?;
        self.grow()?;
        self.ages.touch(&found);
        self.aside.residence.change(found.iter().copied());
        Ok(found)
    }

    pub(super) fn grow(&mut self) -> Result<()> {
        let slots = self.slots.len();
        self.aside.residence.grow(slots);
        self.keys.resize_with(slots, Key::default);
        for accumulator in &mut self.accumulators {
            accumulator.grow(slots).map_err(|e| self.calls.error(&e))?;
        }
        Ok(())
    }

    fn touch(&mut self, slot: u32) {
        self.aside.residence.change([slot]);
        let flags = &mut self.keys[slot as usize].flags;
        if *flags & UNSAVED == 0 {
            *flags |= UNSAVED;
            self.unsaved.push(slot);
        }
    }

    pub(super) fn wait(&mut self, slot: u32, time: i64, number: i64) {
        self.waiting.entry(time).or_default().push((slot, number));
        self.keys[slot as usize].waits += 1;
    }

    /// Tells of a piece of what is due; whether there may be more.
    fn tell(&mut self, out: &mut Output) -> Result<bool> {
        let now = self.now();
        let mut due: Vec<Due> = Vec::new();
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().div_euclid(self.time.per_ms) < now
            && due.len() < PIECE_ROWS
        {
            let (time, rows) = entry.remove_entry();
            due.extend(rows.into_iter().map(|(slot, number)| Due { time, slot, number }));
        }
        if due.is_empty() {
            self.expire(self.closed_before())?;
            return Ok(false);
        }
        let (rounds, results, gone) = self.rounds(&due);
        let numbers: Vec<Option<i64>> =
            due.iter().map(|row| row.number).chain(gone.iter().copied()).map(Some).collect();
        let rows = batch_of(self.rows.schema(), self.rows.gather(&numbers)?, numbers.len())?;
        let inputs = self.calls.evaluate(&rows).map_err(|e| self.calls.error(&e))?;
        let told = self.accumulate(&rounds, &inputs, due.len())?;
        let mut columns = rows.slice(0, due.len()).columns().to_vec();
        for column in told {
            columns.push(take(&column, &results, None).map_err(internal)?);
        }
        self.counts.rows_out += self.emitter.emit(columns, due.len(), out)?;
        if self.keeps_frames() {
            self.remove(&gone, &rows.slice(due.len(), gone.len()))?;
        } else {
            let numbers: Vec<i64> = due.iter().map(|row| row.number).collect();
            self.remove(&numbers, &rows)?;
        }
        Ok(true)
    }

    /// The rounds in which rows are taken, the place of each row's result among those of all rounds, and the numbers of
    /// the rows that leave a frame.
    fn rounds(&mut self, due: &[Due]) -> (Vec<Round>, UInt32Array, Vec<i64>) {
        let mut order: Vec<usize> = (0..due.len()).collect();
        // Rows of one time stay as they came.
        order.sort_by_key(|row| due[*row].slot);
        let (frame, length) = (self.node.frame, self.length());
        let has_peers = !self.time.is_clock && matches!(frame, OverFrame::UnboundedRange | OverFrame::RangeMs(_));
        let mut rounds: Vec<Round> = Vec::new();
        let mut places: Vec<(usize, usize)> = vec![(0, 0); due.len()];
        let mut gone = Vec::new();
        for rows in order.chunk_by(|a, b| due[*a].slot == due[*b].slot) {
            let slot = due[rows[0]].slot;
            self.touch(slot);
            let keeps_frames = self.keeps_frames();
            let key = &mut self.keys[slot as usize];
            key.waits -= rows.len() as u32;
            for (at, step) in rows.chunk_by(|a, b| has_peers && due[*a].time == due[*b].time).enumerate() {
                if at == rounds.len() {
                    rounds.push(Round::default());
                }
                let round = &mut rounds[at];
                let time = due[step[0]].time;
                for row in step {
                    places[*row] = (at, round.slots.len());
                    round.added.push((slot, *row as u32));
                    if keeps_frames {
                        key.frame.push_back((time, due[*row].number));
                    }
                }
                round.slots.push(slot);
                key.last = Some(time);
                let leaves = |key: &Key| match (frame, length, key.frame.front()) {
                    (OverFrame::Rows(before), _, Some(_)) => key.frame.len() as u64 > before.saturating_add(1),
                    (_, Some(length), Some((first, _))) => *first < time.saturating_sub(length),
                    _ => false,
                };
                while leaves(key)
                    && let Some((_, number)) = key.frame.pop_front()
                {
                    round.gone.push((slot, gone.len() as u32));
                    gone.push(number);
                }
                if let Some(length) = length {
                    note_end(&mut self.ends, time.saturating_add(length), slot);
                }
            }
        }
        let starts: Vec<usize> = rounds
            .iter()
            .scan(0, |next, round| {
                let start = *next;
                *next += round.slots.len();
                Some(start)
            })
            .collect();
        let results = places.into_iter().map(|(round, place)| (starts[round] + place) as u32).collect();
        (rounds, results, gone)
    }

    /// Takes the rounds one by one. `inputs`: of the rows that are due, then of those that leave a frame. Returns the
    /// results of each call, round by round.
    fn accumulate(&mut self, rounds: &[Round], inputs: &Inputs, due: usize) -> Result<Vec<ArrayRef>> {
        let mut results: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.accumulators.len()];
        for round in rounds {
            // What leaves goes first: a sum may hold one of the two and not both.
            let gone = round.gone.iter().map(|(slot, at)| (*slot, due as u32 + at));
            let (slots, places): (Vec<u32>, Vec<u32>) = gone.chain(round.added.iter().copied()).unzip();
            let retracted = (!round.gone.is_empty()).then(|| {
                BooleanArray::new(BooleanBuffer::collect_bool(slots.len(), |row| row < round.gone.len()), None)
            });
            self.update(&slots, &places.into(), retracted.as_ref(), inputs)?;
            for (accumulator, results) in self.accumulators.iter_mut().zip(&mut results) {
                results.push(accumulator.results(&round.slots).map_err(|e| self.calls.error(&e))?);
            }
        }
        let joined = |pieces: Vec<ArrayRef>| match pieces.as_slice() {
            [piece] => Ok(Arc::clone(piece)),
            pieces => concat(&pieces.iter().map(|piece| piece.as_ref()).collect::<Vec<_>>()).map_err(internal),
        };
        results.into_iter().map(joined).collect()
    }

    /// Rows at `places` of `inputs` come to keys, or leave them.
    fn update(
        &mut self,
        slots: &[u32],
        places: &UInt32Array,
        retracted: Option<&BooleanArray>,
        inputs: &Inputs,
    ) -> Result<()> {
        let picked = inputs.columns.iter().map(|column| take(column, places, None).map_err(internal));
        let picked = Inputs { columns: picked.collect::<Result<_>>()?, rows: slots.len() };
        for (accumulator, call) in self.accumulators.iter_mut().zip(&self.calls.calls) {
            let batch = Batch { slots, retracted, filter: call.filter(&picked) };
            accumulator.update(batch, &call.arguments(&picked)).map_err(|e| self.calls.error(&e))?;
        }
        Ok(())
    }

    /// Rows leave frames in which none to come can be.
    fn expire(&mut self, now: i64) -> Result<()> {
        let Some(length) = self.length().filter(|_| now < i64::MAX) else { return Ok(()) };
        let now = now.saturating_mul(self.time.per_ms);
        let mut gone: Vec<(u32, i64)> = Vec::new();
        while let Some(entry) = self.ends.first_entry()
            && *entry.key() < now
        {
            for slot in entry.remove() {
                let frame = &mut self.keys[slot as usize].frame;
                let before = gone.len();
                while frame.front().is_some_and(|(time, _)| time.saturating_add(length) < now)
                    && let Some((_, number)) = frame.pop_front()
                {
                    gone.push((slot, number));
                }
                if gone.len() > before {
                    self.touch(slot);
                }
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let (slots, numbers): (Vec<u32>, Vec<i64>) = gone.into_iter().unzip();
        let wanted: Vec<Option<i64>> = numbers.iter().copied().map(Some).collect();
        let rows = batch_of(self.rows.schema(), self.rows.gather(&wanted)?, wanted.len())?;
        let inputs = self.calls.evaluate(&rows).map_err(|e| self.calls.error(&e))?;
        let retracted = BooleanArray::from(vec![true; slots.len()]);
        self.update(&slots, &(0..slots.len() as u32).collect(), Some(&retracted), &inputs)?;
        self.remove(&numbers, &rows)
    }

    /// Keys are too old, and begin anew.
    fn forget(&mut self, old: &[u32]) -> Result<()> {
        let (waiting, old): (Vec<u32>, Vec<u32>) = old.iter().partition(|slot| self.keys[**slot as usize].waits > 0);
        self.ages.touch(&waiting);
        if old.is_empty() {
            return Ok(());
        }
        let mut gone = Vec::new();
        for slot in &old {
            let key = &mut self.keys[*slot as usize];
            key.last = None;
            gone.extend(std::mem::take(&mut key.frame).into_iter().map(|(_, number)| number));
            self.touch(*slot);
        }
        for accumulator in &mut self.accumulators {
            accumulator.forget(&old).map_err(|e| self.calls.error(&e))?;
        }
        let wanted: Vec<Option<i64>> = gone.iter().copied().map(Some).collect();
        let rows = batch_of(self.rows.schema(), self.rows.gather(&wanted)?, wanted.len())?;
        self.remove(&gone, &rows)
    }

    /// What was asked for is there.
    pub(super) fn take_in(&mut self, arriving: Arriving, out: &mut Output) -> Result<()> {
        match arriving {
            Arriving::Batch(rows) => self.take_batch(rows, out),
            Arriving::Rows { names, rows } => self.take_rows(names, rows),
            Arriving::State { table, rows } => self.take_state(&table, &rows),
        }
    }

    /// Rows that are not late, as far as the watermark says.
    fn take_batch(&mut self, mut rows: RecordBatch, out: &mut Output) -> Result<()> {
        let (taken, late) = (rows.num_rows() as u64, out.late.len());
        let mut found = self.slots_of(&rows)?;
        let mut times = self.time.of(&rows)?;
        if self.node.clock_column.is_some() {
            // Clocks differ: whoever comes later is not older.
            for (slot, time) in found.iter().zip(&mut times) {
                let last = &mut self.keys[*slot as usize].last;
                *time = last.map_or(*time, |last| last.max(*time));
                *last = Some(*time);
                self.latest_ms = self.latest_ms.max(time.div_euclid(self.time.per_ms));
            }
        }
        if let Some(column) = self.node.time_column {
            // What one subtask has told of another one may have got, which knows less of how far time has come.
            let is_told = |row: usize| self.keys[found[row] as usize].last.is_some_and(|last| times[row] <= last);
            let judged: Vec<i64> =
                (0..times.len()).map(|row| if is_told(row) { i64::MIN } else { times[row] }).collect();
            rows = split_late(rows, column, &judged, |time| time == i64::MIN, self.watermark, out)?;
            found =
                found.into_iter().zip(&judged).filter(|(_, time)| **time > i64::MIN).map(|(slot, _)| slot).collect();
            times = judged.into_iter().filter(|time| *time > i64::MIN).collect();
        }
        let late: u64 = out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum();
        self.counts.late += late;
        self.counts.accumulated += taken - late;
        let count = rows.num_rows();
        let first = self.rows.append(rows, vec![0; count])?;
        for ((slot, time), number) in found.into_iter().zip(times).zip(first..) {
            self.wait(slot, time, number);
        }
        if self.time.is_clock {
            while self.tell(out)? {}
        }
        Ok(())
    }

    /// Rows that the state keeps.
    fn take_rows(&mut self, names: Vec<i64>, rows: RecordBatch) -> Result<()> {
        let (found, times) = (self.slots_of(&rows)?, self.time.of(&rows)?);
        let first = self.rows.restore(names.clone(), rows)?;
        let length = self.length();
        for (((slot, time), name), number) in found.into_iter().zip(times).zip(names).zip(first..) {
            let key = &mut self.keys[slot as usize];
            let is_told = self.time.is_clock || key.last.is_some_and(|last| time <= last);
            if !is_told {
                self.wait(slot, time, number);
                continue;
            }
            // They come in no order; names rise as rows came at first.
            let is_before = |row: &(i64, i64)| (row.0, self.rows.name(row.1)) < (time, Some(name));
            let at = match key.frame.back() {
                Some(last) if !is_before(last) => key.frame.partition_point(is_before),
                _ => key.frame.len(),
            };
            key.frame.insert(at, (time, number));
            if let Some(length) = length {
                note_end(&mut self.ends, time.saturating_add(length), slot);
            }
        }
        Ok(())
    }

    /// Rows of a table of keys, or of values of keys.
    fn take_state(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let mut found = Vec::new();
        let keys = self.state.keys_of(rows, &self.calls);
        self.slots.find_or_add(keys, rows.num_rows(), &mut found).map_err(|e| self.calls.error(&e))?;
        self.grow()?;
        self.ages.touch(&found);
        self.aside.residence.change(found.iter().copied());
        let last = self.state.restore(table, rows, &found, &mut self.accumulators, &self.calls)?;
        for (slot, last) in found.iter().zip(last.unwrap_or_default()) {
            let key = &mut self.keys[*slot as usize];
            key.last = Some(last);
            key.flags = SAVED;
        }
        Ok(())
    }

    /// Rows are not needed any more. `rows`: they themselves.
    fn remove(&mut self, numbers: &[i64], rows: &RecordBatch) -> Result<()> {
        let names: Int64Array = self.rows.remove(numbers)?.into_iter().collect();
        if names.null_count() == names.len() {
            return Ok(());
        }
        let is_saved = BooleanArray::new(
            names.nulls().map_or_else(|| BooleanBuffer::new_set(names.len()), |n| n.inner().clone()),
            None,
        );
        let pick = |column: &dyn Array| filter(column, &is_saved).map_err(internal);
        let by = self.node.partition_by.iter().map(|column| pick(rows.column(*column).as_ref()));
        let by = by.collect::<Result<Vec<_>>>()?;
        let names = pick(&names)?;
        let count = names.len();
        self.deletes.push(self.rows_state.keys(&by, vec![names], count)?);
        Ok(())
    }

    /// Rows that are kept and not saved yet, as rows of their table.
    fn unsaved_rows(&mut self) -> Result<Vec<RecordBatch>> {
        let mut upserts = Vec::new();
        for (names, rows) in self.rows.take_unsaved()? {
            let by: Vec<ArrayRef> =
                self.node.partition_by.iter().map(|column| Arc::clone(rows.column(*column))).collect();
            let columns = std::iter::once(Arc::new(names) as ArrayRef).chain(rows.columns().iter().cloned()).collect();
            upserts.push(self.rows_state.batch(&by, columns, rows.num_rows())?);
        }
        Ok(upserts)
    }
}

/// Notes when rows of a key may leave its frame at the latest.
pub(super) fn note_end(ends: &mut BTreeMap<i64, Vec<u32>>, end: i64, slot: u32) {
    let slots = ends.entry(end).or_default();
    if slots.last() != Some(&slot) {
        slots.push(slot);
    }
}

impl Time {
    /// The times of rows, in their unit. Rows without a time of their own have the order in which they come.
    fn of(self, rows: &RecordBatch) -> Result<Vec<i64>> {
        let Some(column) = self.column else { return Ok(vec![0; rows.num_rows()]) };
        let column = rows.column(column);
        if self.per_ms == 1 {
            return Ok(milliseconds(column)?.values().to_vec());
        }
        let column = arrow::compute::cast(column, &DataType::Int64).map_err(internal)?;
        Ok(column.as_primitive::<Int64Type>().values().to_vec())
    }
}

impl Operator for OverAggregate {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        let (late, dead) = (out.late.len(), out.dead.len());
        // Rows whose arguments cannot be computed are found now, where they can still be put aside.
        let calls = &self.calls;
        let evaluated = evaluate_or_bury(&self.name, rows, out, |rows| calls.evaluate(rows).map(drop))?;
        let mut rows = match evaluated {
            Some((rows, ())) => rows,
            None => RecordBatch::new_empty(Arc::clone(self.rows.schema())),
        };
        if let Some(column) = self.node.time_column {
            let (timed, times) = split_times(rows, column, out)?;
            let now = self.now();
            rows = split_late(timed, column, &times, |time| time < now, self.watermark, out)?;
        }
        let late: u64 = out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum();
        let dead: u64 = out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum();
        self.counts.rows_in += taken;
        self.counts.late += late;
        self.counts.dead_lettered += dead;
        self.arrive(Arriving::Batch(rows), out)
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        self.watermark = self.watermark.max(watermark);
        self.is_due = true;
        if watermark == i64::MAX { Ok(watermark) } else { Ok(watermark.saturating_sub(self.node.allowed_lateness_ms)) }
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        if self.node.clock_column.is_some() {
            self.clock_ms = now_ms;
            self.is_due = true;
        }
        let old = self.ages.too_old(now_ms);
        self.forget(&old)
    }

    fn next_timer(&self) -> Option<i64> {
        let end = self.ends.first_key_value().map(|(end, _)| end.div_euclid(self.time.per_ms));
        let end = earlier(end, self.wakes.next()).filter(|_| self.node.clock_column.is_some());
        earlier(self.ages.next_timer(), end.map(|end| end.saturating_add(self.slack_ms() + Self::SILENCE_MS + 1)))
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if let Some(arriving) = self.aside.arrived() {
            self.take_in(arriving, out)?;
            return Ok(true);
        }
        self.is_due = self.is_due && (self.tell(out)? || self.wake());
        Ok(self.is_due)
    }

    fn tables(&self) -> Vec<TableSpec> {
        let rows = TableSpec {
            name: ROWS.to_owned(),
            schema: Arc::clone(self.rows_state.schema()),
            key_columns: 1,
            time_column: None,
            append_only: false,
        };
        // What was told of a key is known before its rows come.
        self.state.specs().into_iter().chain([rows]).collect()
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let upserts = self.unsaved_rows()?;
        let deletes = std::mem::take(&mut self.deletes);
        let rows = TableDelta { table: ROWS.to_owned(), upserts, deletes, closed: None };
        let unsaved = std::mem::take(&mut self.unsaved);
        // A key without rows is as one that never had any, if its frame has an end in time or it has begun anew.
        let has_end = self.length().is_some();
        let (gone, there): (Vec<u32>, Vec<u32>) = unsaved.into_iter().partition(|slot| {
            let key = &self.keys[*slot as usize];
            (has_end || key.last.is_none()) && key.frame.is_empty() && key.waits == 0
        });
        let last = |slot: &u32| self.keys[*slot as usize].last.unwrap_or(i64::MIN);
        let there: Vec<(u32, i64)> = there.iter().map(|slot| (*slot, last(slot))).collect();
        let saved = |slot: &&u32| self.keys[**slot as usize].flags & SAVED != 0;
        let saved: Vec<u32> = gone.iter().filter(saved).copied().collect();
        let groups = Groups { slots: &self.slots, accumulators: &mut self.accumulators, calls: &self.calls };
        let mut deltas = self.state.snapshot(groups, &there, &saved)?;
        deltas.push(rows);
        for (slot, _) in there {
            self.keys[slot as usize].flags = SAVED;
        }
        for slot in gone {
            self.keys[slot as usize] = Key::default();
            for accumulator in &mut self.accumulators {
                accumulator.clear(slot).map_err(|e| self.calls.error(&e))?;
            }
            self.aside.gone(slot, &self.slots);
            self.slots.remove(slot);
            self.ages.gone(slot);
        }
        Ok(deltas)
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let arriving = match table {
            ROWS => Arriving::Rows {
                names: rows.column(1).as_primitive::<Int64Type>().values().to_vec(),
                rows: batch_of(self.rows.schema(), rows.columns()[2..].to_vec(), rows.num_rows())?,
            },
            table => Arriving::State { table: table.to_owned(), rows },
        };
        self.arrive(arriving, &mut Output::default())
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.watermark = watermark.unwrap_or(i64::MIN);
        for rows in self.waiting.values_mut() {
            rows.sort_by_key(|(_, number)| self.rows.name(*number));
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
        // Each row that is kept waits or is in a frame, and most frames with a length have an end of their own.
        let rows = self.rows.len() * 32
            + self.waiting.len() * 64
            + self.ends.len() * 64
            + self.slots.share(self.keys.capacity() * size_of::<Key>());
        let aside = self.aside.bytes() + self.wakes.bytes();
        accumulators + rows + self.rows.bytes() + self.slots.used_bytes() + self.ages.bytes() + aside
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
