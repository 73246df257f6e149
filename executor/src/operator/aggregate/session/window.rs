//! Session windows as a table function: rows wait until their session closes, then go on with its bounds.
//! Also what the two session operators share: their notion of time, and the table of bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use qanat_executor_core::session::SessionRule;
use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{AssignWindowNode, TimeDomain};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::super::emit::{Emitter, batch_of};
use super::super::super::evaluate::internal;
use super::super::super::event_time::{milliseconds, split_times};
use super::super::super::keys::normalized_key;
use super::super::super::state_rows::StateRows;
use super::super::super::{LateRows, Operator, OperatorContext, Output};
use super::book::{Closed, SessionBook};
use super::parts::{Part, PartRuns};

const ROWS_TABLE: &str = "rows";
const BOUNDS_TABLE: &str = "bounds";

/// Where the time of rows and of closing comes from.
pub(super) struct SessionTime {
    domain: TimeDomain,
    time_column: usize,
    /// `i64::MIN`: none yet.
    pub(super) watermark: i64,
    processing_time: i64,
}

impl SessionTime {
    pub(super) fn new(domain: TimeDomain, time_column: usize) -> Self {
        Self { domain, time_column, watermark: i64::MIN, processing_time: i64::MIN }
    }

    /// What closing is judged by. In processing time no row is late: its time is now.
    pub(super) fn now(&self) -> i64 {
        match self.domain {
            TimeDomain::Event => self.watermark,
            TimeDomain::Processing => self.processing_time,
        }
    }

    /// Rows with a time; the others are put out.
    pub(super) fn usable(&self, rows: RecordBatch, out: &mut Output) -> Result<RecordBatch> {
        match self.domain {
            TimeDomain::Event => Ok(split_times(rows, self.time_column, out)?.0),
            TimeDomain::Processing => Ok(rows),
        }
    }

    pub(super) fn times(&self, rows: &RecordBatch) -> Result<ScalarBuffer<i64>> {
        match self.domain {
            TimeDomain::Event => Ok(milliseconds(rows.column(self.time_column))?.values().clone()),
            TimeDomain::Processing => Ok(vec![self.processing_time; rows.num_rows()].into()),
        }
    }

    /// Puts out the rows that are not in time. Returns how many are.
    pub(super) fn put_out_late(&self, rows: &RecordBatch, in_time: &[bool], out: &mut Output) -> Result<usize> {
        let kept = in_time.iter().filter(|in_time| **in_time).count();
        if kept < in_time.len() {
            let late = BooleanArray::new(BooleanBuffer::collect_bool(in_time.len(), |i| !in_time[i]), None);
            let rows = filter_record_batch(rows, &late).map_err(internal)?;
            out.late.push(LateRows { rows, time_column: self.time_column, watermark: self.now() });
        }
        Ok(kept)
    }

    /// The time by which sessions close, if it moved.
    pub(super) fn on_watermark(&mut self, watermark: i64) -> Option<i64> {
        if watermark <= self.watermark {
            return None;
        }
        self.watermark = watermark;
        match self.domain {
            TimeDomain::Event => Some(watermark),
            TimeDomain::Processing => (watermark == i64::MAX).then_some(i64::MAX),
        }
    }

    pub(super) fn on_processing_time(&mut self, now_ms: i64) -> Option<i64> {
        if self.domain == TimeDomain::Event || now_ms <= self.processing_time {
            return None;
        }
        self.processing_time = now_ms;
        Some(now_ms)
    }

    pub(super) fn next_timer(&self, first_end: Option<i64>) -> Option<i64> {
        match self.domain {
            TimeDomain::Event => None,
            TimeDomain::Processing => Some(first_end.map_or(i64::MAX, |end| end.saturating_add(1))),
        }
    }
}

/// Columns of the table of bounds, behind the key group.
pub(super) fn bound_fields(keys: Vec<Field>) -> Vec<Field> {
    keys.into_iter().chain([Field::new("closed_until", DataType::Int64, false)]).collect()
}

/// Bounds per key: rows up to that time would touch or precede a closed session.
pub(super) fn bounds_spec(schema: &SchemaRef) -> TableSpec {
    let width = schema.fields().len();
    TableSpec {
        name: BOUNDS_TABLE.to_owned(),
        schema: Arc::clone(schema),
        key_columns: width - 2,
        time_column: None,
        append_only: false,
    }
}

/// What changed in the table of bounds. Also forgets keys that need no state any more, which renumbers the
/// others: to be called last in a snapshot.
pub(super) fn bounds_delta(
    book: &mut SessionBook,
    state_rows: &mut StateRows,
    partition: &[usize],
    now: i64,
) -> Result<TableDelta> {
    let disposable = book.disposable_keys(now);
    let mut bounds = book.take_bounds();
    bounds.retain(|(key, _)| disposable.binary_search(key).is_err());
    let mut upserts = Vec::new();
    if !bounds.is_empty() {
        let mut columns = book.key_values(bounds.iter().map(|(key, _)| *key))?;
        let partition: Vec<ArrayRef> = partition.iter().map(|i| Arc::clone(&columns[*i])).collect();
        columns.push(Arc::new(Int64Array::from_iter_values(bounds.iter().map(|(_, bound)| *bound))));
        upserts.push(state_rows.batch(&partition, columns, bounds.len())?);
    }
    let mut deletes = Vec::new();
    if !disposable.is_empty() {
        let columns = book.key_values(disposable.iter().copied())?;
        let partition: Vec<ArrayRef> = partition.iter().map(|i| Arc::clone(&columns[*i])).collect();
        deletes.push(state_rows.keys(&partition, columns, disposable.len())?);
        book.forget_keys(&disposable)?;
    }
    Ok(TableDelta { table: BOUNDS_TABLE.to_owned(), upserts, deletes, closed: None })
}

pub(super) fn restore_bounds(book: &mut SessionBook, table: &str, keys: &[ArrayRef], rows: &RecordBatch) -> Result<()> {
    if table != BOUNDS_TABLE {
        return Err(Error::internal(format!("a session operator has no state table `{table}`")));
    }
    let bounds = rows.column(keys.len() + 1).as_primitive::<Int64Type>();
    for (row, key) in book.keys(keys, rows.num_rows(), i64::MIN)?.into_iter().enumerate() {
        book.restore_bound(key as u32, bounds.value(row));
    }
    book.compact_keys()
}

/// Where the partition columns of the input stand among `keys`.
pub(super) fn key_positions(keys: &[usize], context: &OperatorContext) -> Result<Vec<usize>> {
    let columns = context.partition.first().into_iter().flatten();
    columns
        .map(|column| keys.iter().position(|key| key == column))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::internal("rows are spread by a column that is no key of the session"))
}

/// Holds rows until their session closes.
pub struct SessionWindow {
    partition_by: Vec<usize>,
    context: OperatorContext,
    time: SessionTime,
    book: SessionBook,
    /// Rows as they came, with their number as the last column.
    rows: PartRuns,
    partition: Vec<usize>,
    /// Number of the next row: the key of its state row.
    next_number: i64,
    saved_below: i64,
    /// (partition key values and number) of rows that went since the last snapshot.
    sent: Vec<RecordBatch>,
    state_rows: StateRows,
    bounds: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
}

impl SessionWindow {
    pub fn new(node: &AssignWindowNode, gap: i64, context: OperatorContext) -> Result<Self> {
        let rule = SessionRule::new(gap, node.allowed_lateness_ms)?;
        let input = &context.inputs[0];
        let key_types: Vec<DataType> = node
            .partition_by
            .iter()
            .map(|column| match input.field(*column).data_type() {
                DataType::Dictionary(_, value) => value.as_ref().clone(),
                other => other.clone(),
            })
            .collect();
        let key_fields = key_types.iter().enumerate().map(|(i, t)| Field::new(format!("key_{i}"), t.clone(), true));
        let bounds = bound_fields(key_fields.collect());
        let mut fields = vec![Field::new("arrival_number", DataType::Int64, false)];
        let columns = input.fields().iter().enumerate();
        fields.extend(columns.map(|(i, f)| f.as_ref().clone().with_name(format!("column_{i}"))));
        Ok(Self {
            time: SessionTime::new(node.domain, node.time_column),
            book: SessionBook::new(rule, key_types)?,
            rows: PartRuns::new(input.fields().len() + 1),
            partition: key_positions(&node.partition_by, &context)?,
            partition_by: node.partition_by.clone(),
            next_number: 0,
            saved_below: 0,
            sent: Vec::new(),
            state_rows: StateRows::new(fields, context.key_groups),
            bounds: StateRows::new(bounds, context.key_groups),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.partition_by.iter().map(|i| normalized_key(rows.column(*i))).collect::<Result<_, _>>().map_err(internal)
    }

    fn add(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<u64> {
        let watermark = self.time.now();
        let times = self.time.times(rows)?;
        let keys = self.book.keys(&self.keys(rows)?, rows.num_rows(), watermark)?;
        let in_time: Vec<bool> =
            keys.iter().zip(times.iter()).map(|(key, time)| self.book.insert(*key as u32, *time, watermark)).collect();
        let kept = self.time.put_out_late(rows, &in_time, out)?;
        if kept == 0 {
            return Ok(0);
        }
        let wanted = BooleanArray::new(BooleanBuffer::from(in_time.clone()), None);
        let held = filter_record_batch(rows, &wanted).map_err(internal)?;
        let numbers = Int64Array::from_iter_values(self.next_number..self.next_number + kept as i64);
        self.next_number += kept as i64;
        let columns = held.columns().iter().cloned().chain([Arc::new(numbers) as ArrayRef]).collect();
        let run = self.rows.push(columns, kept);
        for (row, source) in (0..rows.num_rows()).filter(|row| in_time[*row]).enumerate() {
            let id = self.book.session_of(keys[source] as u32, times[source]);
            let id = id.ok_or_else(|| Error::internal("a row lost its session"))?;
            self.book.add_part(id, (run, row as u32));
        }
        Ok(kept as u64)
    }

    fn fire(&mut self, time: i64, out: &mut Output) -> Result<()> {
        let closed = self.book.close(time);
        let mut group: Vec<&Closed> = Vec::new();
        let mut rows = 0;
        for (i, session) in closed.iter().enumerate() {
            rows += session.parts.len();
            group.push(session);
            if rows >= self.emitter.batch_rows || i + 1 == closed.len() {
                self.emit(&std::mem::take(&mut group), rows, out)?;
                rows = 0;
            }
        }
        Ok(())
    }

    fn emit(&mut self, closed: &[&Closed], rows: usize, out: &mut Output) -> Result<()> {
        let parts: Vec<Part> = closed.iter().flat_map(|closed| closed.parts.iter().copied()).collect();
        let mut columns = self.rows.gather(&parts).map_err(internal)?;
        self.rows.release(&parts);
        let numbers = columns.pop().ok_or_else(|| Error::internal("held rows lost their numbers"))?;
        let held = batch_of(&self.context.inputs[0], columns.clone(), rows)?;
        self.note_sent(&held, numbers)?;
        let times = |time: &dyn Fn(Window) -> i64| -> ArrayRef {
            let windows = closed.iter().flat_map(|closed| std::iter::repeat_n(closed.window, closed.parts.len()));
            Arc::new(TimestampMillisecondArray::from_iter_values(windows.map(time)))
        };
        columns.push(times(&|window| window.start));
        columns.push(times(&|window| window.end));
        columns.push(times(&|window| window.end - 1));
        self.counts.rows_out += self.emitter.emit(columns, rows, out)?;
        Ok(())
    }

    /// Remembers which rows of earlier snapshots are gone.
    fn note_sent(&mut self, rows: &RecordBatch, numbers: ArrayRef) -> Result<()> {
        let is_saved = numbers.as_primitive::<Int64Type>().iter().map(|n| n.map(|n| n < self.saved_below)).collect();
        let partition: Vec<ArrayRef> =
            self.context.partition.first().into_iter().flatten().map(|i| Arc::clone(rows.column(*i))).collect();
        let sent = self.state_rows.keys(&partition, vec![numbers], rows.num_rows())?;
        let sent = filter_record_batch(&sent, &is_saved).map_err(internal)?;
        if sent.num_rows() > 0 {
            self.sent.push(sent);
        }
        Ok(())
    }

    /// Gathers the rows of all sessions into one run.
    fn compact_rows(&mut self) -> Result<()> {
        let parts: Vec<Part> = self.book.sessions.values().flat_map(|session| session.parts.iter().copied()).collect();
        let columns = self.rows.gather(&parts).map_err(internal)?;
        self.rows.replace(columns, parts.len());
        let owned = self.book.sessions.values_mut().flat_map(|session| &mut session.parts);
        for (row, part) in owned.enumerate() {
            *part = (0, row as u32);
        }
        Ok(())
    }
}

impl Operator for SessionWindow {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        self.counts.rows_in += taken;
        let late = out.late.len();
        let rows = self.time.usable(rows, out)?;
        self.counts.dead_lettered += taken - rows.num_rows() as u64;
        self.counts.accumulated += self.add(&rows, out)?;
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.book.compact_keys()
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<i64> {
        if let Some(time) = self.time.on_watermark(watermark) {
            self.fire(time, out)?;
        }
        Ok(watermark)
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<()> {
        match self.time.on_processing_time(now_ms) {
            Some(time) => self.fire(time, out),
            None => Ok(()),
        }
    }

    fn next_timer(&self) -> Option<i64> {
        self.time.next_timer(self.book.first_end())
    }

    fn tables(&self) -> Vec<TableSpec> {
        let rows = TableSpec {
            name: ROWS_TABLE.to_owned(),
            schema: Arc::clone(self.state_rows.schema()),
            key_columns: 1,
            time_column: None,
            append_only: false,
        };
        vec![rows, bounds_spec(self.bounds.schema())]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let saved_below = std::mem::replace(&mut self.saved_below, self.next_number);
        // Sessions that did not change hold no new rows.
        let changed = self.book.sessions.values_mut().filter(|session| session.is_changed);
        let mut parts: Vec<Part> = Vec::new();
        for session in changed {
            session.is_changed = false;
            parts.extend_from_slice(&session.parts);
        }
        let mut upserts = Vec::new();
        if !parts.is_empty() {
            let mut columns = self.rows.gather(&parts).map_err(internal)?;
            let numbers = columns.pop().ok_or_else(|| Error::internal("held rows lost their numbers"))?;
            let rows = batch_of(&self.context.inputs[0], columns, parts.len())?;
            let partition: Vec<ArrayRef> =
                self.context.partition.first().into_iter().flatten().map(|i| Arc::clone(rows.column(*i))).collect();
            let is_new = numbers.as_primitive::<Int64Type>().iter().map(|n| n.map(|n| n >= saved_below)).collect();
            let columns = std::iter::once(numbers).chain(rows.columns().iter().cloned()).collect();
            let state = self.state_rows.batch(&partition, columns, parts.len())?;
            let state = filter_record_batch(&state, &is_new).map_err(internal)?;
            if state.num_rows() > 0 {
                upserts.push(state);
            }
        }
        self.book.gone.clear();
        let now = self.time.now();
        let bounds = bounds_delta(&mut self.book, &mut self.bounds, &self.partition, now)?;
        if self.rows.is_sparse() {
            self.compact_rows()?;
        }
        let deletes = std::mem::take(&mut self.sent);
        Ok(vec![TableDelta { table: ROWS_TABLE.to_owned(), upserts, deletes, closed: None }, bounds])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if table != ROWS_TABLE {
            let keys = &rows.columns()[1..=self.partition_by.len()];
            return restore_bounds(&mut self.book, table, keys, &rows);
        }
        let count = rows.num_rows();
        let numbers = Arc::clone(rows.column(1));
        let next = numbers.as_primitive::<Int64Type>().values().iter().map(|n| n + 1).max();
        self.next_number = self.next_number.max(next.unwrap_or(0));
        self.saved_below = self.next_number;
        let held = batch_of(&self.context.inputs[0], rows.columns()[2..].to_vec(), count)?;
        let keys = self.book.keys(&self.keys(&held)?, count, i64::MIN)?;
        let times = match self.time.domain {
            TimeDomain::Event => milliseconds(held.column(self.time.time_column))?.values().clone(),
            // Rows of processing time are as old as the restore: they start anew.
            TimeDomain::Processing => vec![0; count].into(),
        };
        let run = self.rows.push(held.columns().iter().cloned().chain([numbers]).collect(), count);
        let mut by_key: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, key) in keys.iter().enumerate() {
            by_key.entry(*key as u32).or_default().push(row);
        }
        for (key, rows) in by_key {
            for row in rows {
                self.book.reopen(key, times[row], (run, row as u32));
            }
        }
        self.book.compact_keys()
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.time.watermark = watermark.unwrap_or(i64::MIN);
        self.book.finish_restore();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.book.bytes() + self.rows.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
