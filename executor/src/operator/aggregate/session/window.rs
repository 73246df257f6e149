//! Session windows as a table function: rows wait until their session closes, then go on with its bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type};
use qanat_executor_core::session::SessionRule;
use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::AssignWindowNode;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::super::emit::{Emitter, batch_of};
use super::super::super::evaluate::internal;
use super::super::super::keys::{key_type, normalized_key};
use super::super::super::state_rows::StateRows;
use super::super::super::{Operator, OperatorContext, Output};
use super::book::Closed;
use super::keyed::{KeyedSessions, Placed, SessionPlan};
use super::parts::{Part, PartRuns};

const ROWS_TABLE: &str = "rows";

/// Holds rows until their session closes.
pub struct SessionWindow {
    partition_by: Vec<usize>,
    context: OperatorContext,
    keyed: KeyedSessions,
    /// Rows as they came, with their number as the last column.
    rows: PartRuns,
    /// Number of the next row: the key of its state row.
    next_number: i64,
    saved_below: i64,
    /// (partition key values and number) of rows that went since the last snapshot.
    sent: Vec<RecordBatch>,
    state_rows: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
}

impl SessionWindow {
    pub fn new(node: &AssignWindowNode, gap: i64, context: OperatorContext) -> Result<Self> {
        let input = &context.inputs[0];
        let key_types: Vec<DataType> =
            node.partition_by.iter().map(|column| key_type(input.field(*column).data_type())).collect();
        let plan = SessionPlan {
            rule: SessionRule::new(gap, node.allowed_lateness_ms)?,
            domain: node.domain,
            time_column: node.time_column,
            keys: node.partition_by.clone(),
            key_types,
        };
        let mut fields = vec![Field::new("arrival_number", DataType::Int64, false)];
        let columns = input.fields().iter().enumerate();
        fields.extend(columns.map(|(i, f)| f.as_ref().clone().with_name(format!("column_{i}"))));
        Ok(Self {
            keyed: KeyedSessions::new(plan, &context)?,
            rows: PartRuns::new(input.fields().len() + 1),
            partition_by: node.partition_by.clone(),
            next_number: 0,
            saved_below: 0,
            sent: Vec::new(),
            state_rows: StateRows::new(fields, context.key_groups),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.partition_by.iter().map(|i| normalized_key(rows.column(*i))).collect::<Result<_, _>>().map_err(internal)
    }

    fn add(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<u64> {
        let keys = self.keys(rows)?;
        let Placed { in_time, kept, sessions } = self.keyed.place(rows, &keys, out)?;
        if kept == 0 {
            return Ok(0);
        }
        let wanted = BooleanArray::from(in_time);
        let held = filter_record_batch(rows, &wanted).map_err(internal)?;
        let numbers = Int64Array::from_iter_values(self.next_number..self.next_number + kept as i64);
        self.next_number += kept as i64;
        let columns = held.columns().iter().cloned().chain([Arc::new(numbers) as ArrayRef]).collect();
        let run = self.rows.push(columns, kept);
        for (row, id) in sessions.into_iter().enumerate() {
            self.keyed.book.add_part(id, (run, row as u32));
        }
        Ok(kept as u64)
    }

    fn emit(&mut self, closed: &[Closed], out: &mut Output) -> Result<()> {
        let parts: Vec<Part> = closed.iter().flat_map(|closed| closed.parts.iter().copied()).collect();
        let rows = parts.len();
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
}

impl Operator for SessionWindow {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        self.counts.rows_in += taken;
        let late = out.late.len();
        let rows = self.keyed.usable(rows, out)?;
        self.counts.dead_lettered += taken - rows.num_rows() as u64;
        self.counts.accumulated += self.add(&rows, out)?;
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.keyed.book.compact_keys()
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        Ok(self.keyed.on_watermark(watermark))
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        self.keyed.on_processing_time(now_ms);
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let closed = self.keyed.take_closed(self.emitter.batch_rows, |closed| closed.parts.len());
        let Some(closed) = closed else { return Ok(false) };
        self.emit(&closed, out)?;
        Ok(true)
    }

    fn next_timer(&self) -> Option<i64> {
        self.keyed.next_timer()
    }

    fn tables(&self) -> Vec<TableSpec> {
        let rows = TableSpec {
            name: ROWS_TABLE.to_owned(),
            schema: Arc::clone(self.state_rows.schema()),
            key_columns: 1,
            time_column: None,
            append_only: false,
        };
        vec![rows, self.keyed.bounds_spec()]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let saved_below = std::mem::replace(&mut self.saved_below, self.next_number);
        // Sessions that did not change hold no new rows.
        let changed = self.keyed.book.sessions.values_mut().filter(|session| session.is_changed);
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
        self.keyed.book.gone.clear();
        let bounds = self.keyed.bounds_delta()?;
        if self.rows.is_sparse() {
            self.keyed.compact(&mut self.rows)?;
        }
        let deletes = std::mem::take(&mut self.sent);
        Ok(vec![TableDelta { table: ROWS_TABLE.to_owned(), upserts, deletes, closed: None }, bounds])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if table != ROWS_TABLE {
            return self.keyed.restore_bounds(table, &rows);
        }
        let count = rows.num_rows();
        let numbers = Arc::clone(rows.column(1));
        let next = numbers.as_primitive::<Int64Type>().values().iter().map(|n| n + 1).max();
        self.next_number = self.next_number.max(next.unwrap_or(0));
        self.saved_below = self.next_number;
        let held = batch_of(&self.context.inputs[0], rows.columns()[2..].to_vec(), count)?;
        let keys = self.keyed.book.keys(&self.keys(&held)?, count, i64::MIN)?;
        let times = self.keyed.restored_times(&held)?;
        let run = self.rows.push(held.columns().iter().cloned().chain([numbers]).collect(), count);
        let mut by_key: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, key) in keys.iter().enumerate() {
            by_key.entry(*key as u32).or_default().push(row);
        }
        for (key, rows) in by_key {
            for row in rows {
                self.keyed.book.reopen(key, times[row], (run, row as u32));
            }
        }
        self.keyed.book.compact_keys()
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.keyed.restored(watermark);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keyed.book.bytes() + self.rows.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
