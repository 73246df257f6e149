//! The join of rows with the versions of a table as of their own times: `FOR SYSTEM_TIME AS OF left.ts`.
//!
//! A version of a key holds from its time until that of the next one; a row that is gone ends the last. A row of the left
//! side waits until the watermark has passed its time: then no version can come that would hold at it, and it is told
//! once, with the version of its time. So the output is new rows alone, and nothing is taken back.
//!
//! What must never happen: a row that is told before the version of its time could come; a version that goes while a row
//! may come at whose time it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use qanat_proto::changelog::{RowKind, without_kinds};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{JoinKind, TemporalJoinNode};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::emit::{Emitter, batch_of};
use super::super::evaluate::{evaluation_error, internal, split_kinds};
use super::super::event_time::{is_time, milliseconds, split_late, split_times};
use super::super::kept_rows::KeptRows;
use super::super::keys::{any_null, key_type, keys_of};
use super::super::slots::Slots;
use super::super::state_rows::StateRows;
use super::super::{LateRows, Operator, OperatorContext, Output};
use super::condition::Condition;

const ROWS: &str = "rows";
const VERSIONS: &str = "versions";
/// Rows that are told at once.
const ROWS_AT_ONCE: usize = 1 << 14;

pub struct TemporalJoin {
    node: TemporalJoinNode,
    context: OperatorContext,
    on: [Vec<usize>; 2],
    key_types: Vec<DataType>,
    condition: Condition,
    /// Keys of both sides.
    slots: Slots,
    /// By slot.
    keys: Vec<Key>,
    left: Waiting,
    right: Versions,
    /// `i64::MIN`: none yet.
    watermark: i64,
    /// Whether rows may have to be told, or versions go.
    is_due: bool,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// What is known of a key.
#[derive(Default)]
struct Key {
    /// Rows that wait for their time to pass.
    waiting: u32,
    /// By their times, no two of which are equal.
    versions: Vec<Version>,
}

#[derive(Clone, Copy)]
struct Version {
    time: i64,
    number: i64,
    /// From this time on there is no row.
    is_gone: bool,
}

/// Rows of the left side.
struct Waiting {
    rows: KeptRows,
    /// Slot (None: its key is NULL, and equals nothing) and number by time.
    by_time: BTreeMap<i64, Vec<(Option<u32>, i64)>>,
    count: usize,
    partition: Vec<usize>,
    state: StateRows,
    /// The last time that rows went of.
    closed: Option<i64>,
}

/// Rows of the right side; behind its columns stands whether the row ends one.
struct Versions {
    rows: KeptRows,
    /// Slots by the time of a version, with which those before it go.
    due: BTreeMap<i64, Vec<u32>>,
    partition: Vec<usize>,
    state: StateRows,
    /// Names of versions that are gone and stand in the state.
    gone: Vec<RecordBatch>,
}

impl TemporalJoin {
    pub fn new(node: &TemporalJoinNode, context: OperatorContext) -> Result<Self> {
        let [left, right] = context.inputs.as_slice() else {
            return Err(Error::internal("a join has two inputs"));
        };
        let is_gone = Arc::new(Field::new("is_gone", DataType::Boolean, false));
        let right = without_kinds(right).fields().iter().cloned().chain([is_gone]).collect::<Vec<_>>();
        let (left, right): (SchemaRef, SchemaRef) = (Arc::clone(left), Arc::new(Schema::new(right)));
        let condition = Condition::new(node.filter.as_ref(), &left, &right)?;
        let key_types: Vec<DataType> = node.on.iter().map(|(key, _)| key_type(left.field(*key).data_type())).collect();
        let slots = Slots::new(&key_types).map_err(|e| evaluation_error(&context.name, &e))?;
        let columns = |schema: &SchemaRef| {
            let columns = schema.fields().iter().enumerate();
            columns.map(|(at, field)| field.as_ref().clone().with_name(format!("column_{at}"))).collect::<Vec<_>>()
        };
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        let rows = [number("time"), number("name")].into_iter().chain(columns(&left)).collect();
        let versions = std::iter::once(number("name")).chain(columns(&right)).collect();
        let partition = |port: usize| context.partition.get(port).cloned().unwrap_or_default();
        Ok(Self {
            on: [node.on.iter().map(|on| on.0).collect(), node.on.iter().map(|on| on.1).collect()],
            node: node.clone(),
            key_types,
            condition,
            slots,
            keys: Vec::new(),
            left: Waiting {
                rows: KeptRows::new(left),
                by_time: BTreeMap::new(),
                count: 0,
                partition: partition(0),
                state: StateRows::new(rows, context.key_groups),
                closed: None,
            },
            right: Versions {
                rows: KeptRows::new(right),
                due: BTreeMap::new(),
                partition: partition(1),
                state: StateRows::new(versions, context.key_groups),
                gone: Vec::new(),
            },
            watermark: i64::MIN,
            is_due: false,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    /// Slot of each row; those whose key is NULL have none.
    fn slots_of(&mut self, rows: &RecordBatch, port: usize) -> Result<Vec<Option<u32>>> {
        let keys = keys_of(rows, &self.on[port], &self.key_types);
        let keys = keys.map_err(|e| evaluation_error(&self.context.name, &e))?;
        let nulls = any_null(&keys);
        let mut slots = Vec::new();
        let found = self.slots.find_or_add(&keys, rows.num_rows(), &mut slots);
        found.map_err(|e| evaluation_error(&self.context.name, &e))?;
        self.keys.resize_with(self.slots.len(), Key::default);
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        (0..slots.len()).filter(|row| is_null(*row)).for_each(|row| self.free(slots[row]));
        Ok(slots.into_iter().enumerate().map(|(row, slot)| (!is_null(row)).then_some(slot)).collect())
    }

    /// A slot of which nothing is kept is free.
    fn free(&mut self, slot: u32) {
        let key = &self.keys[slot as usize];
        if key.waiting == 0 && key.versions.is_empty() {
            self.slots.remove(slot);
        }
    }

    fn keep_waiting(&mut self, slots: &[Option<u32>], times: &[i64], first: i64) {
        for ((slot, time), number) in slots.iter().zip(times).zip(first..) {
            if let Some(slot) = slot {
                self.keys[*slot as usize].waiting += 1;
            }
            self.left.by_time.entry(*time).or_default().push((*slot, number));
        }
        self.left.count += slots.len();
    }

    /// Rows of the left side: they wait.
    fn take_rows(&mut self, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let (rows, times) = split_times(rows, self.node.times.0, out)?;
        let watermark = self.watermark;
        let rows = split_late(rows, self.node.times.0, &times, |time| time < watermark, watermark, out)?;
        let times: Vec<i64> = times.iter().copied().filter(|time| *time >= watermark).collect();
        self.counts.accumulated += rows.num_rows() as u64;
        let slots = self.slots_of(&rows, 0)?;
        let matches = vec![0; rows.num_rows()];
        let first = self.left.rows.append(rows, matches)?;
        self.keep_waiting(&slots, &times, first);
        Ok(())
    }

    /// Rows of the right side: each begins a version of its key, or ends one. One behind the watermark does so for the rows
    /// that are still to come, unless a newer one has come already. What a row was before it was replaced says nothing: what
    /// took its place has the same key, and comes with its own time.
    fn take_versions(&mut self, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let (all, kinds) = split_kinds(&rows)?;
        let of_kind = |is_wanted: &dyn Fn(i8) -> bool| -> Vec<u32> {
            (0..kinds.len() as u32).filter(|row| is_wanted(kinds[*row as usize])).collect()
        };
        let ends_by_key = self.node.ends_by_key;
        let ends = |kind: i8| ends_by_key && kind == RowKind::Delete.code();
        let timed = of_kind(&|kind| kind != RowKind::UpdateBefore.code() && !ends(kind));
        let ended = of_kind(&ends);
        self.counts.accumulated += (kinds.len() - timed.len()) as u64;
        let pick = |picked: &[u32]| take_record_batch(&all, &UInt32Array::from(picked.to_vec())).map_err(internal);
        let (rows, times) = (pick(&timed)?, milliseconds(all.column(self.node.times.1))?);
        // Where they stand in the batch.
        let places: Vec<u32> = timed.into_iter().filter(|row| is_time(&times, *row as usize)).collect();
        let (rows, times) = split_times(rows, self.node.times.1, out)?;
        let slots = self.slots_of(&rows, 1)?;
        let is_late = |row: usize| {
            let newest = slots[row].and_then(|slot| self.keys[slot as usize].versions.last());
            times[row] < self.watermark && newest.is_some_and(|newest| times[row] < newest.time)
        };
        let (late, taken): (Vec<u32>, Vec<u32>) = (0..rows.num_rows() as u32).partition(|row| is_late(*row as usize));
        if !late.is_empty() {
            let rows = take_record_batch(&rows, &UInt32Array::from(late)).map_err(internal)?;
            out.late.push(LateRows { rows, time_column: self.node.times.1, watermark: self.watermark });
        }
        self.counts.accumulated += taken.len() as u64;
        let is_gone = |row: usize| !qanat_proto::changelog::is_added(kinds[places[row] as usize]);
        let gone = taken.iter().map(|row| is_gone(*row as usize)).collect();
        let new = take_record_batch(&rows, &UInt32Array::from(taken.clone())).map_err(internal)?;
        let first = self.right.append(new.columns().to_vec(), gone)?;
        let ended_slots = self.slots_of(&pick(&ended)?, 1)?;
        let unknown = ended_slots.clone();
        let mut useless = Vec::new();
        // Numbers of versions that end, each of which gets a row of its own behind those of the batch.
        let (mut ended, mut last_versions) = (ended.into_iter().zip(ended_slots).peekable(), Vec::new());
        let next = self.right.rows.next_number();
        let mut end_before = |place: u32, keys: &mut [Key], right: &mut Versions, useless: &mut Vec<i64>| {
            while let Some((_, slot)) = ended.next_if(|(at, _)| *at < place) {
                let Some(slot) = slot else { continue };
                let key = &mut keys[slot as usize];
                let Some(newest) = key.versions.last().copied().filter(|newest| !newest.is_gone) else { continue };
                let number = next + last_versions.len() as i64;
                last_versions.push(newest.number);
                useless.extend(right.put(slot, key, Version { number, is_gone: true, ..newest }));
            }
        };
        for (row, number) in taken.iter().map(|row| *row as usize).zip(first..) {
            end_before(places[row], &mut self.keys, &mut self.right, &mut useless);
            let Some(slot) = slots[row] else {
                useless.push(number);
                continue;
            };
            let version = Version { time: times[row], number, is_gone: is_gone(row) };
            useless.extend(self.right.put(slot, &mut self.keys[slot as usize], version));
        }
        end_before(u32::MAX, &mut self.keys, &mut self.right, &mut useless);
        if !last_versions.is_empty() {
            let mut columns = self.right.rows.gather(&last_versions.iter().map(|n| Some(*n)).collect::<Vec<_>>())?;
            columns.pop();
            self.right.append(columns, vec![true; last_versions.len()])?;
        }
        self.right.forget(&useless)?;
        unknown.into_iter().flatten().for_each(|slot| self.free(slot));
        self.is_due = self.watermark > i64::MIN;
        Ok(())
    }

    /// Tells some of the rows whose times have passed; whether there may be more.
    fn tell(&mut self, out: &mut Output) -> Result<bool> {
        let (mut numbers, mut versions, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        while numbers.len() < ROWS_AT_ONCE
            && let Some(entry) = self.left.by_time.first_entry().filter(|entry| *entry.key() < self.watermark)
        {
            let (time, rows) = entry.remove_entry();
            for (slot, number) in rows {
                numbers.push(Some(number));
                versions.push(slot.and_then(|slot| self.keys[slot as usize].at(time)));
                slots.extend(slot);
            }
        }
        if numbers.is_empty() {
            return Ok(false);
        }
        self.left.closed = Some(self.watermark.saturating_sub(1));
        let rows = batch_of(self.left.rows.schema(), self.left.rows.gather(&numbers)?, numbers.len())?;
        let pairs = versions.iter().enumerate().filter_map(|(row, version)| Some((row as u32, (*version)?))).unzip();
        let (owns, others) = self.condition.satisfying(&self.context.name, (0, &rows), &self.right.rows, pairs)?;
        let (rows, partners): (RecordBatch, Vec<Option<i64>>) = match self.node.kind {
            JoinKind::Inner => {
                let rows = take_record_batch(&rows, &UInt32Array::from(owns)).map_err(internal)?;
                (rows, others.into_iter().map(Some).collect())
            }
            _ => {
                let mut partners = vec![None; rows.num_rows()];
                owns.into_iter().zip(others).for_each(|(own, other)| partners[own as usize] = Some(other));
                (rows, partners)
            }
        };
        let mut columns = rows.columns().to_vec();
        columns.extend(self.right.rows.gather(&partners)?);
        columns.pop();
        self.counts.rows_out += self.emitter.emit(columns, partners.len(), out)?;
        self.left.count -= numbers.len();
        self.left.rows.remove(&numbers.into_iter().flatten().collect::<Vec<_>>())?;
        for slot in slots {
            self.keys[slot as usize].waiting -= 1;
            self.free(slot);
        }
        Ok(true)
    }

    /// Lets go of versions that hold at no time that may come.
    fn expire(&mut self) -> Result<()> {
        let mut useless = Vec::new();
        if self.watermark == i64::MAX {
            // No time is to come.
            for slot in 0..self.keys.len() as u32 {
                let versions = std::mem::take(&mut self.keys[slot as usize].versions);
                if !versions.is_empty() {
                    useless.extend(versions.iter().map(|version| version.number));
                    self.free(slot);
                }
            }
            self.right.due.clear();
        }
        while let Some(entry) = self.right.due.first_entry().filter(|entry| *entry.key() <= self.watermark) {
            for slot in entry.remove() {
                let versions = &mut self.keys[slot as usize].versions;
                let passed = versions.partition_point(|version| version.time <= self.watermark);
                // The last one holds, if it is no end.
                let ends = passed > 0 && versions[passed - 1].is_gone;
                let count = if ends { passed } else { passed.saturating_sub(1) };
                useless.extend(versions.drain(..count).map(|version| version.number));
                self.free(slot);
            }
        }
        self.right.forget(&useless)
    }
}

impl Key {
    /// The number of the version that holds at a time.
    fn at(&self, time: i64) -> Option<i64> {
        let passed = self.versions.partition_point(|version| version.time <= time);
        let version = self.versions.get(passed.checked_sub(1)?)?;
        (!version.is_gone).then_some(version.number)
    }
}

impl Versions {
    /// Notes a version. Gives the number of one of the same time, whose place it takes.
    fn put(&mut self, slot: u32, key: &mut Key, version: Version) -> Option<i64> {
        let slots = self.due.entry(version.time).or_default();
        if slots.last() != Some(&slot) {
            slots.push(slot);
        }
        let at = key.versions.partition_point(|other| other.time < version.time);
        if let Some(same) = key.versions.get_mut(at).filter(|other| other.time == version.time) {
            return Some(std::mem::replace(same, version).number);
        }
        key.versions.insert(at, version);
        None
    }

    /// Keeps rows, each with whether it ends a version. Returns the number of the first; the others follow.
    fn append(&mut self, columns: Vec<ArrayRef>, gone: Vec<bool>) -> Result<i64> {
        let count = gone.len();
        let gone: ArrayRef = Arc::new(BooleanArray::from(gone));
        let rows = batch_of(self.rows.schema(), columns.into_iter().chain([gone]).collect(), count)?;
        self.rows.append(rows, vec![0; count])
    }

    /// Versions of these numbers are gone.
    fn forget(&mut self, numbers: &[i64]) -> Result<()> {
        let saved: Vec<i64> = numbers.iter().copied().filter(|number| self.rows.is_saved(*number)).collect();
        if !saved.is_empty() {
            let names: Vec<i64> = saved.iter().filter_map(|number| self.rows.name(*number)).collect();
            let columns = self.rows.gather(&saved.iter().map(|number| Some(*number)).collect::<Vec<_>>())?;
            let by: Vec<ArrayRef> = self.partition.iter().map(|column| Arc::clone(&columns[*column])).collect();
            self.gone.push(self.state.keys(&by, vec![Arc::new(Int64Array::from(names))], saved.len())?);
        }
        self.rows.remove(numbers)?;
        Ok(())
    }
}

impl Operator for TemporalJoin {
    fn process(&mut self, port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        let (late, dead) = (out.late.len(), out.dead.len());
        if port == 0 {
            self.take_rows(rows, out)?
        } else {
            self.take_versions(rows, out)?
        }
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.counts.dead_lettered += out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum::<u64>();
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        self.watermark = self.watermark.max(watermark);
        self.is_due = true;
        Ok(watermark)
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if !self.is_due {
            return Ok(false);
        }
        if !self.tell(out)? {
            self.expire()?;
            self.is_due = false;
        }
        Ok(self.is_due)
    }

    fn tables(&self) -> Vec<TableSpec> {
        let rows = TableSpec {
            name: ROWS.to_owned(),
            schema: Arc::clone(self.left.state.schema()),
            key_columns: 2,
            time_column: Some(1),
            append_only: true,
        };
        let versions = TableSpec {
            name: VERSIONS.to_owned(),
            schema: Arc::clone(self.right.state.schema()),
            key_columns: 1,
            time_column: None,
            append_only: false,
        };
        vec![rows, versions]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let by = |partition: &[usize], rows: &RecordBatch| -> Vec<ArrayRef> {
            partition.iter().map(|column| Arc::clone(rows.column(*column))).collect()
        };
        let mut waiting = Vec::new();
        for (names, rows) in self.left.rows.take_unsaved()? {
            let times: ArrayRef = Arc::new(milliseconds(rows.column(self.node.times.0))?);
            let columns = [times, Arc::new(names)].into_iter().chain(rows.columns().iter().cloned()).collect();
            waiting.push(self.left.state.batch(&by(&self.left.partition, &rows), columns, rows.num_rows())?);
        }
        let mut versions = Vec::new();
        for (names, rows) in self.right.rows.take_unsaved()? {
            let columns = std::iter::once(Arc::new(names) as ArrayRef).chain(rows.columns().iter().cloned()).collect();
            versions.push(self.right.state.batch(&by(&self.right.partition, &rows), columns, rows.num_rows())?);
        }
        let closed = self.left.closed.take();
        let deletes = std::mem::take(&mut self.right.gone);
        Ok(vec![
            TableDelta { table: ROWS.to_owned(), upserts: waiting, deletes: Vec::new(), closed },
            TableDelta { table: VERSIONS.to_owned(), upserts: versions, deletes, closed: None },
        ])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let names = |column: usize| rows.column(column).as_primitive::<Int64Type>().values().to_vec();
        match table {
            ROWS => {
                let names = names(2);
                let rows = batch_of(self.left.rows.schema(), rows.columns()[3..].to_vec(), rows.num_rows())?;
                let slots = self.slots_of(&rows, 0)?;
                let times = milliseconds(rows.column(self.node.times.0))?;
                let first = self.left.rows.restore(names, rows)?;
                self.keep_waiting(&slots, times.values(), first);
            }
            VERSIONS => {
                let names = names(1);
                let rows = batch_of(self.right.rows.schema(), rows.columns()[2..].to_vec(), rows.num_rows())?;
                let slots = self.slots_of(&rows, 1)?;
                let times = milliseconds(rows.column(self.node.times.1))?;
                let gone = rows.column(rows.num_columns() - 1).as_boolean().clone();
                let first = self.right.rows.restore(names, rows)?;
                for (row, number) in (0..slots.len()).zip(first..) {
                    let Some(slot) = slots[row] else { continue };
                    let version = Version { time: times.value(row), number, is_gone: gone.value(row) };
                    self.right.put(slot, &mut self.keys[slot as usize], version);
                }
            }
            _ => return Err(Error::internal(format!("a join has no state table `{table}`"))),
        }
        Ok(())
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.watermark = watermark.unwrap_or(i64::MIN);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let waiting = self.left.rows.bytes() + self.left.count * 24 + self.left.by_time.len() * 64;
        let versions = self.right.rows.bytes() + self.right.rows.len() * 32 + self.right.due.len() * 64;
        self.slots.bytes() + self.keys.capacity() * size_of::<Key>() + waiting + versions
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
