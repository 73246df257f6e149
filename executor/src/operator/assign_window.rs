//! Appends the window columns to each row, one row per window it belongs to. Stateless; sessions are in
//! [`super::aggregate::session`].
//!
//! Overlapping windows that fire complete are the reason why rows are judged late here: behind this
//! operator each copy of a row stands for itself, and some of its windows could take it while others do
//! not. The watermark is held back until a window can get no copy any more.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take;
use qanat_executor_core::window::Windows;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{AssignWindowNode, Firing, TimeDomain};
use qanat_proto::receipt::OperatorCounts;

use super::emit::Emitter;
use super::evaluate::internal;
use super::event_time::{milliseconds, split_late, split_times};
use super::{Operator, OperatorContext, Output};

pub struct AssignWindow {
    windows: Windows,
    domain: TimeDomain,
    time_column: usize,
    firing: Firing,
    overlaps: bool,
    /// `i64::MIN`: none yet.
    watermark: i64,
    processing_time: i64,
    /// Rows that are not all out yet.
    rest: Option<Rest>,
    emitter: Emitter,
    counts: OperatorCounts,
}

struct Rest {
    rows: RecordBatch,
    /// The times of rows; None: they all have the processing time of when they came.
    times: Option<ScalarBuffer<i64>>,
    next: usize,
}

impl AssignWindow {
    pub fn new(node: &AssignWindowNode, context: &OperatorContext) -> Result<Self> {
        Ok(Self {
            windows: Windows::new(node.shape, node.allowed_lateness_ms, node.firing)?,
            domain: node.domain,
            time_column: node.time_column,
            firing: node.firing,
            overlaps: node.shape.overlaps(),
            watermark: i64::MIN,
            processing_time: i64::MIN,
            rest: None,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
        })
    }

    fn holds_back(&self) -> bool {
        self.domain == TimeDomain::Event && self.firing == Firing::Complete && self.overlaps
    }

    fn watermark_behind(&self) -> i64 {
        if self.holds_back() { self.windows.held_back(self.watermark) } else { self.watermark }
    }

    /// Puts out the next rows. A row may have thousands of windows: what fills a batch goes on.
    fn assign(&mut self, rest: &mut Rest, out: &mut Output) -> Result<()> {
        let (count, wanted) = (rest.rows.num_rows(), self.emitter.batch_rows);
        let capacity = count.min(wanted);
        let (mut picked, mut starts, mut ends) =
            (Vec::with_capacity(capacity), Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let first = rest.next;
        while rest.next < count && picked.len() < wanted {
            let time = rest.times.as_ref().map_or(self.processing_time, |times| times[rest.next]);
            for window in self.windows.windows_of(time) {
                picked.push(rest.next as u32);
                starts.push(window.start);
                ends.push(window.end);
            }
            rest.next += 1;
        }
        let expanded = picked.len().checked_sub(rest.next - first);
        self.counts.expanded += expanded.ok_or_else(|| Error::internal("a row without a window"))? as u64;
        self.emit(&rest.rows, picked, starts, ends, out)
    }

    fn emit(
        &mut self,
        rows: &RecordBatch,
        picked: Vec<u32>,
        starts: Vec<i64>,
        ends: Vec<i64>,
        out: &mut Output,
    ) -> Result<()> {
        let count = picked.len();
        let is_all =
            count == rows.num_rows() && picked.first() == Some(&0) && picked.last() == Some(&(count as u32 - 1));
        let picked = UInt32Array::from(picked);
        let mut columns: Vec<ArrayRef> = if is_all && self.windows.windows_per_slice() == 1 {
            rows.columns().to_vec()
        } else {
            rows.columns().iter().map(|c| take(c, &picked, None)).collect::<Result<_, _>>().map_err(internal)?
        };
        let times: Vec<i64> = ends.iter().map(|end| end - 1).collect();
        for values in [starts, ends, times] {
            columns.push(Arc::new(TimestampMillisecondArray::from(values)));
        }
        self.counts.rows_out += self.emitter.emit(columns, count, out)?;
        Ok(())
    }
}

impl Operator for AssignWindow {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        self.counts.rows_in += taken;
        let (rows, times) = match self.domain {
            TimeDomain::Event => {
                let (mut rows, mut times) = split_times(rows, self.time_column, out)?;
                self.counts.dead_lettered += taken - rows.num_rows() as u64;
                if self.holds_back() {
                    let with_time = rows.num_rows();
                    let bound = self.windows.late_below(self.watermark);
                    rows = split_late(rows, self.time_column, &times, |t| t < bound, self.watermark, out)?;
                    let late = with_time - rows.num_rows();
                    if late > 0 {
                        times = milliseconds(rows.column(self.time_column))?.values().clone();
                    }
                    self.counts.late += late as u64;
                }
                (rows, Some(times))
            }
            TimeDomain::Processing => (rows, None),
        };
        self.rest = Some(Rest { rows, times, next: 0 });
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(mut rest) = self.rest.take() else { return Ok(false) };
        self.assign(&mut rest, out)?;
        let has_more = rest.next < rest.rows.num_rows();
        self.rest = has_more.then_some(rest);
        Ok(has_more)
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        self.watermark = self.watermark.max(watermark);
        Ok(self.watermark_behind())
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.watermark = watermark.unwrap_or(i64::MIN);
        Ok(())
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        self.processing_time = self.processing_time.max(now_ms);
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        (self.domain == TimeDomain::Processing).then_some(i64::MAX)
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
