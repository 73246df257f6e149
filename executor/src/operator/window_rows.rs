//! What operators over windows that rows carry share: when such windows close, and a buffer of rows by
//! window with its state table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use qanat_executor_core::window::{Window, is_closed};
use qanat_proto::error::Result;
use qanat_proto::graph::TimeDomain;
use qanat_storage::state::{TableDelta, TableSpec};

use super::Output;
use super::emit::batch_of;
use super::event_time::{milliseconds, split_late, split_times};
use super::state_rows::StateRows;
use crate::memory::batch_bytes;

/// Windows given by columns in processing time wait this long after their end, since their rows are
/// sent on only when the window has ended.
pub(crate) const PROCESSING_GRACE_MS: i64 = 1_000;

/// Says when windows close, in either time domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowClock {
    domain: TimeDomain,
    lateness: i64,
    /// `i64::MIN`: none yet.
    pub(crate) watermark: i64,
    processing_time: i64,
}

/// A step of time by which windows close.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    time: i64,
    delay: i64,
}

impl Due {
    pub(crate) fn closes(&self, window_end: i64) -> bool {
        is_closed(window_end, self.delay, self.time)
    }
}

impl WindowClock {
    pub(crate) fn new(domain: TimeDomain, allowed_lateness_ms: i64) -> Self {
        Self { domain, lateness: allowed_lateness_ms, watermark: i64::MIN, processing_time: i64::MIN }
    }

    pub(crate) fn is_late(&self, window_end: i64) -> bool {
        self.domain == TimeDomain::Event && is_closed(window_end, self.lateness, self.watermark)
    }

    /// None if nothing can close. At the end of input everything does.
    pub(crate) fn on_watermark(&mut self, watermark: i64) -> Option<Due> {
        if watermark <= self.watermark {
            return None;
        }
        self.watermark = watermark;
        match self.domain {
            TimeDomain::Event => Some(Due { time: watermark, delay: self.lateness }),
            TimeDomain::Processing => (watermark == i64::MAX).then_some(Due { time: watermark, delay: 0 }),
        }
    }

    pub(crate) fn on_processing_time(&mut self, now_ms: i64) -> Option<Due> {
        if self.domain == TimeDomain::Event || now_ms <= self.processing_time {
            return None;
        }
        self.processing_time = now_ms;
        Some(Due { time: now_ms, delay: PROCESSING_GRACE_MS })
    }

    /// See `Operator::next_timer`; `first_end`: of the window that closes first.
    pub(crate) fn next_timer(&self, first_end: Option<i64>) -> Option<i64> {
        match self.domain {
            TimeDomain::Event => None,
            TimeDomain::Processing => Some(first_end.map_or(i64::MAX, |end| end.saturating_add(PROCESSING_GRACE_MS))),
        }
    }

    /// Rows whose window is known and still open, with their windows. The others are put out.
    pub(crate) fn admit(
        &self,
        rows: RecordBatch,
        (start, end): (usize, usize),
        out: &mut Output,
    ) -> Result<RecordBatch> {
        let (rows, _) = split_times(rows, start, out)?;
        let (rows, ends) = split_times(rows, end, out)?;
        split_late(rows, end, &ends, |end| self.is_late(end), self.watermark, out)
    }
}

/// Splits `rows` by window: few rows move when rows of a window stand together.
pub(crate) fn split_by_window(rows: &RecordBatch, (start, end): (usize, usize)) -> Result<Vec<(Window, RecordBatch)>> {
    let (starts, ends) = (milliseconds(rows.column(start))?, milliseconds(rows.column(end))?);
    let (starts, ends) = (starts.values(), ends.values());
    let mut by_window: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        by_window.entry(Window { end: ends[row], start: starts[row] }).or_default().push(row as u32);
    }
    by_window
        .into_iter()
        .map(|(window, picked)| {
            let (first, count) = (picked[0] as usize, picked.len());
            let together = picked[count - 1] as usize + 1 - first == count;
            let part = if together {
                rows.slice(first, count)
            } else {
                arrow::compute::take_record_batch(rows, &arrow::array::UInt32Array::from(picked))
                    .map_err(super::evaluate::internal)?
            };
            Ok((window, part))
        })
        .collect()
}

/// Rows held per window until it closes, kept in an append-only state table.
pub(crate) struct WindowRows {
    table: &'static str,
    rows: SchemaRef,
    /// Columns of `rows` by whose hash rows were spread.
    partition: Vec<usize>,
    batches: BTreeMap<Window, Vec<RecordBatch>>,
    unsaved: BTreeMap<Window, Vec<RecordBatch>>,
    state_rows: StateRows,
    bytes: usize,
}

impl WindowRows {
    pub(crate) fn new(table: &'static str, rows: SchemaRef, partition: Vec<usize>, key_groups: u16) -> Self {
        let mut fields =
            vec![Field::new("window_end", DataType::Int64, false), Field::new("window_start", DataType::Int64, false)];
        fields
            .extend(rows.fields().iter().enumerate().map(|(i, f)| f.as_ref().clone().with_name(format!("column_{i}"))));
        let state_rows = StateRows::new(fields, key_groups);
        Self { table, rows, partition, batches: BTreeMap::new(), unsaved: BTreeMap::new(), state_rows, bytes: 0 }
    }

    pub(crate) fn add(&mut self, rows: &RecordBatch, window_columns: (usize, usize)) -> Result<()> {
        for (window, part) in split_by_window(rows, window_columns)? {
            self.unsaved.entry(window).or_default().push(part.clone());
            self.hold(window, part);
        }
        Ok(())
    }

    fn hold(&mut self, window: Window, rows: RecordBatch) {
        self.bytes += batch_bytes(&rows);
        self.batches.entry(window).or_default().push(rows);
    }

    pub(crate) fn first(&self) -> Option<Window> {
        self.batches.keys().next().copied()
    }

    /// The rows of a window as one batch; none are held afterwards.
    pub(crate) fn take(&mut self, window: Window) -> Result<RecordBatch> {
        self.unsaved.remove(&window);
        let Some(batches) = self.batches.remove(&window) else {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.rows)));
        };
        let bytes: usize = batches.iter().map(batch_bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        arrow::compute::concat_batches(&self.rows, &batches).map_err(super::evaluate::internal)
    }

    /// Forgets windows for which `is_gone` holds.
    pub(crate) fn drop_windows(&mut self, is_gone: impl Fn(&Window) -> bool) -> Result<()> {
        let gone: Vec<Window> = self.batches.keys().filter(|window| is_gone(window)).copied().collect();
        for window in gone {
            self.take(window)?;
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn spec(&self) -> TableSpec {
        TableSpec {
            name: self.table.to_owned(),
            schema: Arc::clone(self.state_rows.schema()),
            key_columns: 2,
            time_column: Some(1),
            append_only: true,
        }
    }

    /// Rows added since the last call. `closed`: end of the last window that was dropped.
    pub(crate) fn snapshot(&mut self, closed: Option<i64>) -> Result<TableDelta> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let unsaved =
            unsaved.into_iter().flat_map(|(window, batches)| batches.into_iter().map(move |rows| (window, rows)));
        let mut upserts = Vec::new();
        for (window, rows) in unsaved {
            let partition: Vec<ArrayRef> = self.partition.iter().map(|i| Arc::clone(rows.column(*i))).collect();
            let count = rows.num_rows();
            let mut columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_value(window.end, count)),
                Arc::new(Int64Array::from_value(window.start, count)),
            ];
            columns.extend(rows.columns().iter().cloned());
            upserts.push(self.state_rows.batch(&partition, columns, count)?);
        }
        Ok(TableDelta { table: self.table.to_owned(), upserts, deletes: Vec::new(), closed })
    }

    pub(crate) fn restore(&mut self, state: &RecordBatch) -> Result<()> {
        let ends = state.column(1).as_primitive::<Int64Type>().values().clone();
        let starts = state.column(2).as_primitive::<Int64Type>().values().clone();
        let rows = batch_of(&self.rows, state.columns()[3..].to_vec(), state.num_rows())?;
        let mut by_window: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            by_window.entry(Window { end: ends[row], start: starts[row] }).or_default().push(row as u32);
        }
        for (window, picked) in by_window {
            let part = arrow::compute::take_record_batch(&rows, &arrow::array::UInt32Array::from(picked))
                .map_err(super::evaluate::internal)?;
            self.hold(window, part);
        }
        Ok(())
    }
}
