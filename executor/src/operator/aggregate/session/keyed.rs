//! What the two session operators share: the open sessions of all keys, the time by which rows join them
//! and by which they close, and the table of bounds.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type};
use qanat_executor_core::session::SessionRule;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::TimeDomain;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::super::evaluate::internal;
use super::super::super::event_time::{milliseconds, split_times};
use super::super::super::state_rows::StateRows;
use super::super::super::{LateRows, OperatorContext, Output};
use super::book::{Closed, SessionBook, SessionId};
use super::parts::{Part, PartRuns};

const BOUNDS_TABLE: &str = "bounds";

/// How the sessions of an operator are made.
pub(super) struct SessionPlan {
    pub(super) rule: SessionRule,
    pub(super) domain: TimeDomain,
    pub(super) time_column: usize,
    /// Key columns of the input, and their types.
    pub(super) keys: Vec<usize>,
    pub(super) key_types: Vec<DataType>,
}

pub(super) struct KeyedSessions {
    pub(super) book: SessionBook,
    /// Closed, and still to be put out.
    closing: VecDeque<Closed>,
    domain: TimeDomain,
    time_column: usize,
    /// `i64::MIN`: none yet.
    watermark: i64,
    processing_time: i64,
    /// Positions of the partition columns of the input among the keys.
    partition: Vec<usize>,
    bounds: StateRows,
}

/// Rows that were put into sessions.
pub(super) struct Placed {
    /// Which rows are in time. The others were put out as late.
    pub(super) in_time: Vec<bool>,
    /// Rows in time.
    pub(super) kept: usize,
    /// The session of each row in time.
    pub(super) sessions: Vec<SessionId>,
}

impl KeyedSessions {
    pub(super) fn new(plan: SessionPlan, context: &OperatorContext) -> Result<Self> {
        let fields = key_fields(&plan.key_types).chain([Field::new("closed_until", DataType::Int64, false)]);
        let columns = context.partition.first().into_iter().flatten();
        let partition = columns.map(|column| plan.keys.iter().position(|key| key == column)).collect::<Option<_>>();
        Ok(Self {
            bounds: StateRows::new(fields.collect(), context.key_groups),
            book: SessionBook::new(plan.rule, plan.key_types)?,
            closing: VecDeque::new(),
            domain: plan.domain,
            time_column: plan.time_column,
            watermark: i64::MIN,
            processing_time: i64::MIN,
            partition: partition
                .ok_or_else(|| Error::internal("rows are spread by a column that is no key of the session"))?,
        })
    }

    /// What closing is judged by. In processing time no row is late: its time is now.
    fn now(&self) -> i64 {
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

    fn times(&self, rows: &RecordBatch) -> Result<ScalarBuffer<i64>> {
        match self.domain {
            TimeDomain::Event => Ok(milliseconds(rows.column(self.time_column))?.values().clone()),
            TimeDomain::Processing => Ok(vec![self.processing_time; rows.num_rows()].into()),
        }
    }

    /// Puts rows into sessions by their keys. Late rows are put out.
    pub(super) fn place(&mut self, rows: &RecordBatch, keys: &[ArrayRef], out: &mut Output) -> Result<Placed> {
        let now = self.now();
        let times = self.times(rows)?;
        let keys = self.book.keys(keys, rows.num_rows(), now)?;
        let in_time: Vec<bool> =
            keys.iter().zip(times.iter()).map(|(key, time)| self.book.insert(*key as u32, *time, now)).collect();
        let kept = in_time.iter().filter(|in_time| **in_time).count();
        if kept < in_time.len() {
            let late = BooleanArray::new(BooleanBuffer::collect_bool(in_time.len(), |i| !in_time[i]), None);
            let rows = filter_record_batch(rows, &late).map_err(internal)?;
            out.late.push(LateRows { rows, time_column: self.time_column, watermark: now });
        }
        // The sessions are looked up once all rows are in: they may have merged meanwhile.
        let rows_in_time = (0..in_time.len()).filter(|row| in_time[*row]);
        let sessions = rows_in_time.map(|row| self.book.session_of(keys[row] as u32, times[row]));
        let sessions = sessions.collect::<Option<_>>().ok_or_else(|| Error::internal("a row lost its session"))?;
        Ok(Placed { in_time, kept, sessions })
    }

    /// Returns the watermark behind the operator.
    pub(super) fn on_watermark(&mut self, watermark: i64) -> i64 {
        if watermark > self.watermark {
            self.watermark = watermark;
            if self.domain == TimeDomain::Event || watermark == i64::MAX {
                self.closing.extend(self.book.close(watermark));
            }
        }
        self.book.rule.held_back(watermark)
    }

    pub(super) fn on_processing_time(&mut self, now_ms: i64) {
        if self.domain == TimeDomain::Processing && now_ms > self.processing_time {
            self.processing_time = now_ms;
            self.closing.extend(self.book.close(now_ms));
        }
    }

    pub(super) fn next_timer(&self) -> Option<i64> {
        match self.domain {
            TimeDomain::Event => None,
            TimeDomain::Processing => Some(self.book.first_end().map_or(i64::MAX, |end| end.saturating_add(1))),
        }
    }

    /// Closed sessions to be put out next: until their `weight` is `enough`. None: there are no more.
    pub(super) fn take_closed(&mut self, enough: usize, weight: impl Fn(&Closed) -> usize) -> Option<Vec<Closed>> {
        let weights = self.closing.iter().scan(0, |sum, closed| {
            let before = *sum;
            *sum += weight(closed);
            Some(before)
        });
        let count = weights.take_while(|before| *before < enough).count();
        (count > 0).then(|| self.closing.drain(..count).collect())
    }

    /// Key group columns of state rows, out of their keys.
    pub(super) fn partition(&self, keys: &[ArrayRef]) -> Vec<ArrayRef> {
        self.partition.iter().map(|i| Arc::clone(&keys[*i])).collect()
    }

    /// Gathers the rows of all sessions into one run.
    pub(super) fn compact(&mut self, runs: &mut PartRuns) -> Result<()> {
        let parts: Vec<Part> = self.book.sessions.values().flat_map(|session| session.parts.iter().copied()).collect();
        let columns = runs.gather(&parts).map_err(internal)?;
        runs.replace(columns, parts.len());
        let owned = self.book.sessions.values_mut().flat_map(|session| &mut session.parts);
        for (row, part) in owned.enumerate() {
            *part = (0, row as u32);
        }
        Ok(())
    }

    /// The table of bounds per key: rows up to that time would touch or precede a closed session.
    pub(super) fn bounds_spec(&self) -> TableSpec {
        let schema = self.bounds.schema();
        TableSpec {
            name: BOUNDS_TABLE.to_owned(),
            schema: Arc::clone(schema),
            key_columns: schema.fields().len() - 2,
            time_column: None,
            append_only: false,
        }
    }

    /// What changed in the table of bounds. Also forgets keys that need no state any more, which renumbers
    /// the others: to be called last in a snapshot.
    pub(super) fn bounds_delta(&mut self) -> Result<TableDelta> {
        let disposable = self.book.disposable_keys(self.now());
        let mut bounds = self.book.take_bounds();
        bounds.retain(|(key, _)| disposable.binary_search(key).is_err());
        let mut upserts = Vec::new();
        if !bounds.is_empty() {
            let mut columns = self.book.key_values(bounds.iter().map(|(key, _)| *key))?;
            let partition = self.partition(&columns);
            columns.push(Arc::new(Int64Array::from_iter_values(bounds.iter().map(|(_, bound)| *bound))));
            upserts.push(self.bounds.batch(&partition, columns, bounds.len())?);
        }
        let mut deletes = Vec::new();
        if !disposable.is_empty() {
            let columns = self.book.key_values(disposable.iter().copied())?;
            let partition = self.partition(&columns);
            deletes.push(self.bounds.keys(&partition, columns, disposable.len())?);
            self.book.forget_keys(&disposable)?;
        }
        Ok(TableDelta { table: BOUNDS_TABLE.to_owned(), upserts, deletes, closed: None })
    }

    /// Takes rows of the table of bounds back.
    pub(super) fn restore_bounds(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        if table != BOUNDS_TABLE {
            return Err(Error::internal(format!("a session operator has no state table `{table}`")));
        }
        let width = self.bounds.schema().fields().len() - 2;
        let bounds = rows.column(width + 1).as_primitive::<Int64Type>();
        let keys = self.book.keys(&rows.columns()[1..=width], rows.num_rows(), i64::MIN)?;
        for (row, key) in keys.into_iter().enumerate() {
            self.book.restore_bound(key as u32, bounds.value(row));
        }
        self.book.compact_keys()
    }

    /// Times of rows of a snapshot.
    pub(super) fn restored_times(&self, rows: &RecordBatch) -> Result<ScalarBuffer<i64>> {
        match self.domain {
            TimeDomain::Event => self.times(rows),
            // Rows of processing time are as old as the restore: they start anew.
            TimeDomain::Processing => Ok(vec![0; rows.num_rows()].into()),
        }
    }

    pub(super) fn restored(&mut self, watermark: Option<i64>) {
        self.watermark = watermark.unwrap_or(i64::MIN);
        self.book.finish_restore();
    }
}

/// Key columns of state rows.
pub(super) fn key_fields(types: &[DataType]) -> impl Iterator<Item = Field> {
    types.iter().enumerate().map(|(i, t)| Field::new(format!("key_{i}"), t.clone(), true))
}
