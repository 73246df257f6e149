//! A source subtask: decoded batches come from lanes, go through the chain, and every barrier notes
//! exactly how far each split has been processed.
//!
//! A lane runs ahead by a bounded number of batches; each batch carries the position behind it. What a
//! barrier records are the positions of batches that went *through* the chain, so what is still queued
//! is read again after a restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use crossbeam::channel::{Receiver, TryRecvError};
use datafusion_physical_expr::PhysicalExpr;
use qanat_executor_core::barrier::is_sealed;
use qanat_executor_core::epoch_size::EpochSize;
use qanat_executor_core::watermark::{Change, InputStatus, SplitWatermarks, UNKNOWN};
use qanat_executor_core::window::TIME_LIMIT;
use qanat_proto::control::{CoordinatorMessage, OperatorReport};
use qanat_proto::ids::{Epoch, SplitId};
use qanat_proto::manifest::SplitState;
use qanat_proto::receipt::{OperatorCounts, SplitReceipt};
use qanat_proto::{Code, Error, Place, Result, limits};
use qanat_storage::env::Clock;
use qanat_storage::env::failpoint::failpoint;
use serde_json::Value;

use crate::memory::{JobMemory, batch_bytes};
use crate::metrics::SourceMetrics;
use crate::operator::event_time::milliseconds;
use crate::task::alignment::Alignment;
use crate::task::chain::{Chain, Progress};
use crate::task::pool::{QUANTUM, Step, Task, Waker};
use crate::task::source_lane::LaneItem;

/// How long a job may stay over its memory budget while its sources pause, before it fails.
const OVER_BUDGET_MAX: Duration = Duration::from_secs(10);
/// How often a paused source looks at the budget again.
const BUDGET_POLL: Duration = Duration::from_millis(5);
/// How often a source that waits for its barrier looks at the clock; the barrier itself wakes it.
const FULL_POLL: Duration = Duration::from_millis(100);

/// Where the coordinator's trigger waits for its source.
#[derive(Clone)]
pub struct SourceControl {
    trigger: Arc<Mutex<Option<Epoch>>>,
    waker: Waker,
}

impl SourceControl {
    pub fn new(waker: Waker) -> Self {
        Self { trigger: Arc::default(), waker }
    }

    /// Asks for the barrier of `epoch`. Repeats are ignored (P4).
    pub fn trigger(&self, epoch: Epoch) {
        *self.trigger.lock().unwrap_or_else(PoisonError::into_inner) = Some(epoch);
        self.waker.wake();
    }

    fn take(&self) -> Option<Epoch> {
        self.trigger.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How a source subtask makes watermarks.
pub struct SourceTime {
    pub expr: Option<Arc<dyn PhysicalExpr>>,
    /// A split whose polls give nothing for this long is idle. None: never.
    pub idle_timeout: Option<Duration>,
    /// Splits follow each other in time (`scan.split-order` = `time`).
    pub follows: bool,
    /// Splits may be discovered while the task runs.
    pub grows: bool,
    /// Splits that run ahead wait for the others.
    pub alignment: Option<Arc<Alignment>>,
}

/// What one split has done.
struct Split {
    state: SplitState,
    /// Position and rows at the last barrier.
    from: Arc<Value>,
    rows_from: u64,
    /// Since when polls have given nothing.
    pending_since: Option<Duration>,
    /// When it was last looked at whether it holds others back, and whether that was said.
    looked_at: Option<Duration>,
    was_told: bool,
}

impl Split {
    /// When it is time to look whether it holds others back.
    fn still_at(&self) -> Option<Duration> {
        let since = self.pending_since.filter(|_| !self.state.idle && !self.was_told)?;
        Some(self.looked_at.map_or(since, |looked| looked.max(since)) + STILL_AFTER)
    }
}

/// A split without rows for so long that holds others back is told of, once.
const STILL_AFTER: Duration = Duration::from_secs(60);

pub struct SourceTask {
    chain: Chain,
    table: String,
    control: SourceControl,
    items: Receiver<LaneItem>,
    splits: BTreeMap<SplitId, Split>,
    watermarks: SplitWatermarks,
    time: SourceTime,
    clock: Arc<dyn Clock>,
    memory: Arc<JobMemory>,
    metrics: Arc<SourceMetrics>,
    over_budget_since: Option<Duration>,
    size: EpochSize,
    /// Since when the epoch is as large as it may be, and whether that was said.
    full_since: Option<Duration>,
    was_full_told: bool,
    /// When a split is to be looked at next: not before [`Split::still_at`] of any. None: there is none.
    look_at: Option<Duration>,
    /// Lanes that have not said that they are done.
    lanes: usize,
    ended: bool,
    /// The last sealed epoch.
    sealed: Epoch,
    /// The consumers know nothing of this subtask yet.
    is_new: bool,
    /// The consumers were told that nothing comes for now.
    is_idle: bool,
    /// The consumers were told that rows will come, and are still to answer: nothing is sent before.
    waking: bool,
    /// What woke this subtask up.
    held: Option<LaneItem>,
    failed: bool,
}

impl SourceTask {
    /// `splits` as of the restore point. The task ends its part of the input when all `lanes` said
    /// [`LaneItem::Done`].
    pub fn new(
        chain: Chain,
        table: String,
        control: SourceControl,
        items: Receiver<LaneItem>,
        splits: Vec<SplitState>,
        time: SourceTime,
        clock: Arc<dyn Clock>,
        memory: Arc<JobMemory>,
        metrics: Arc<SourceMetrics>,
        lanes: usize,
        restored: Epoch,
        epoch_bytes: u64,
    ) -> Result<Self> {
        let mut task = Self {
            chain,
            table,
            control,
            items,
            splits: BTreeMap::new(),
            watermarks: SplitWatermarks::new(UNKNOWN),
            time,
            clock,
            memory,
            metrics,
            over_budget_since: None,
            size: EpochSize::new(epoch_bytes),
            full_since: None,
            was_full_told: false,
            look_at: None,
            lanes,
            ended: false,
            sealed: restored,
            is_new: true,
            is_idle: false,
            waking: false,
            held: None,
            failed: false,
        };
        // All of them before any goes on where it was: one that is added adopts what the others have come to.
        for state in &splits {
            let _ = task.watermarks.add(state.id.clone(), task.time.follows);
        }
        for state in splits {
            let _ = task.add_split(state)?;
        }
        if !task.time.grows {
            // The last split that is finished is the end then. To be idle until that is announced would let
            // those behind go on, and what an aggregation still holds would be late for them.
            let _ = task.watermarks.close();
        }
        task.show_watermark();
        Ok(task)
    }

    /// What it changes at the start is announced by [`Self::announce`]. One that was idle at the restore point is
    /// awake: what came meanwhile waits in all splits, and the first that is read would make it late in the others.
    /// It falls idle again when its polls give nothing for the timeout, in this process.
    fn add_split(&mut self, mut state: SplitState) -> Result<Change> {
        let mut change = self.watermarks.add(state.id.clone(), self.time.follows);
        if state.finished {
            change = self.watermarks.finish(&state.id)?;
        } else if state.rows > 0 || state.watermark.is_some() || state.idle {
            change = self.watermarks.open(&state.id, state.watermark)?;
        }
        state.idle = false;
        let split = Split {
            from: state.position.clone(),
            rows_from: state.rows,
            pending_since: None,
            looked_at: None,
            was_told: false,
            state,
        };
        self.splits.insert(split.state.id.clone(), split);
        Ok(change)
    }

    /// Every channel opens with the handshake (P13): after a restore the operators of this task, which keep
    /// no state, judge rows by the watermark that those behind them have kept.
    fn announce(&mut self) -> Result<()> {
        if self.sealed > Epoch(0) {
            return self.wake();
        }
        if self.watermarks.status() == InputStatus::Idle { self.go_idle() } else { Ok(()) }
    }

    fn show_watermark(&self) {
        let holds_back = self.watermarks.status() == InputStatus::Active;
        // The end of all is no time.
        let watermark = Some(self.watermarks.watermark()).filter(|watermark| *watermark < i64::MAX);
        self.metrics.watermark(self.chain.context.index, watermark, holds_back);
    }

    fn wake(&mut self) -> Result<()> {
        self.is_idle = false;
        self.waking = true;
        self.chain.begin_wake()
    }

    fn go_idle(&mut self) -> Result<()> {
        self.is_idle = true;
        self.chain.go_idle()
    }

    fn work(&mut self, start: Duration) -> Result<Step> {
        if std::mem::take(&mut self.is_new) {
            self.announce()?;
        }
        loop {
            match self.chain.run()? {
                Progress::Done => {}
                Progress::Full => return Ok(Step::Wait),
                Progress::More => return Ok(Step::Again),
            }
            if self.waking {
                let Some(adopted) = self.chain.adopted() else { return Ok(Step::Wait) };
                self.waking = false;
                // After a restore, where the splits stand: nobody else says so until one of them goes on.
                let own = Some(self.watermarks.watermark()).filter(|own| *own < i64::MAX);
                self.show_watermark();
                self.chain.watermark(own.map_or(adopted, |own| own.max(adopted)))?;
                if self.watermarks.status() == InputStatus::Idle {
                    self.go_idle()?;
                }
                continue;
            }
            if let Some(epoch) = self.control.take().filter(|epoch| !is_sealed(*epoch, self.sealed)) {
                self.barrier(epoch)?;
                continue;
            }
            if let Some(timer) = self.chain.next_timer() {
                let now = self.clock.now_ms();
                if now >= timer {
                    self.chain.processing_time(now)?;
                    continue;
                }
            }
            if self.ended {
                return Ok(self.rest());
            }
            if self.size.is_full() {
                return Ok(self.full());
            }
            if self.memory.is_over() {
                return self.over_budget();
            }
            self.over_budget_since = None;
            match self.held.take().map_or_else(|| self.items.try_recv(), Ok) {
                Ok(item) => self.item(item)?,
                Err(TryRecvError::Empty) => {
                    self.find_idle()?;
                    return Ok(self.rest());
                }
                // The lanes failed and said so, or the generation stops.
                Err(TryRecvError::Disconnected) => return Ok(Step::Wait),
            }
            if self.clock.monotonic() >= start + QUANTUM {
                return Ok(Step::Again);
            }
        }
    }

    /// Nothing to read: wait for an item, a timer, or the moment a split counts as idle.
    fn rest(&self) -> Step {
        let now = self.clock.monotonic();
        let timer = self.chain.next_timer().filter(|timer| *timer < i64::MAX).map(|timer| {
            let wait = u64::try_from(timer - self.clock.now_ms()).unwrap_or(0);
            now + Duration::from_millis(wait)
        });
        let idle = self.time.idle_timeout.map_or(self.look_at, |timeout| {
            let pending = self.splits.values().filter(|split| !split.state.idle).filter_map(|s| s.pending_since);
            pending.min().map(|since| since + timeout)
        });
        timer.into_iter().chain(idle).min().map_or(Step::Wait, |at| Step::WaitUntil(at.max(now)))
    }

    /// The job holds more than its budget: read nothing, let what is in flight drain. State that does
    /// not shrink in time fails the job, and only this one.
    fn over_budget(&mut self) -> Result<Step> {
        let now = self.clock.monotonic();
        let since = *self.over_budget_since.get_or_insert(now);
        if now > since + OVER_BUDGET_MAX {
            let (used, limit) = (self.memory.used(), self.memory.limit());
            return Err(Error::new(
                Code::MemoryLimit,
                format!("the job's state and buffers take {used} bytes, its budget is {limit}"),
            )
            .hint("raise `job.memory`, or narrow the windows, keys or columns that the query keeps"));
        }
        self.chain.hold_back();
        Ok(Step::WaitUntil(now + BUDGET_POLL))
    }

    /// P8: the epoch is as large as it may be. Its barrier was asked for, and nothing is read before that comes.
    fn full(&mut self) -> Step {
        let now = self.clock.monotonic();
        let since = *self.full_since.get_or_insert(now);
        if now >= since + Duration::from_millis(limits::EPOCH_FULL_TOLD_MS) && !self.was_full_told {
            self.was_full_told = true;
            tracing::warn!(
                table = self.table,
                epoch = self.sealed.next().0,
                "reads nothing more: the epoch is as large as it may be and its barrier does not come; look at the \
                 coordinators, and at the commit of the epoch before"
            );
        }
        self.chain.hold_back();
        Step::WaitUntil(now + FULL_POLL)
    }

    fn item(&mut self, item: LaneItem) -> Result<()> {
        match item {
            LaneItem::Discovered(state) => {
                if !self.splits.contains_key(&state.id) {
                    let change = self.add_split(state)?;
                    self.change(change)?;
                }
            }
            LaneItem::Opened(id) => {
                let restored = self.splits.get(&id).and_then(|split| split.state.watermark);
                let change = self.watermarks.open(&id, restored)?;
                self.align(|alignment| alignment.advance(&id, restored.unwrap_or(UNKNOWN)));
                self.change(change)?;
            }
            LaneItem::Pending(id) => {
                self.align(|alignment| alignment.leave(&id));
                let now = self.clock.monotonic();
                if let Some(split) = self.splits.get_mut(&id) {
                    split.pending_since.get_or_insert(now);
                }
                if self.time.expr.is_some() {
                    self.look_at.get_or_insert(now + STILL_AFTER);
                }
            }
            LaneItem::Away(id) => {
                self.align(|alignment| alignment.leave(&id));
                self.fall_idle(&id)?;
            }
            LaneItem::Batch { split, batch, held } => {
                if self.wake_split(&split)? && self.waking {
                    self.held = Some(LaneItem::Batch { split, batch, held });
                    return Ok(());
                }
                self.memory.shrink(held);
                self.batch(&split, batch)?;
            }
            LaneItem::Finished(id) => {
                if let Some(split) = self.splits.get_mut(&id) {
                    split.state.finished = true;
                    (split.pending_since, split.was_told) = (None, false);
                }
                self.align(|alignment| alignment.leave(&id));
                let change = self.watermarks.finish(&id)?;
                self.change(change)?;
            }
            LaneItem::Done => {
                self.lanes = self.lanes.saturating_sub(1);
                if self.lanes == 0 {
                    let change = self.watermarks.close();
                    self.change(change)?;
                    self.end()?;
                }
            }
        }
        Ok(())
    }

    /// Whether the split was idle. If no other was awake, its rows wait for the consumers' answer.
    fn wake_split(&mut self, id: &SplitId) -> Result<bool> {
        let was_idle = self.splits.get_mut(id).is_some_and(|split| std::mem::take(&mut split.state.idle));
        if was_idle {
            let (_, change) = self.watermarks.wake(id)?;
            self.change(change)?;
        }
        Ok(was_idle)
    }

    fn batch(&mut self, id: &SplitId, batch: qanat_connectors::contract::SourceBatch) -> Result<()> {
        let Some(split) = self.splits.get_mut(id) else {
            return Err(Error::internal(format!("rows of split {id}, which is not known")));
        };
        (split.pending_since, split.was_told) = (None, false);
        split.state.position = Arc::new(batch.position);
        split.state.rows += batch.records;
        let rows = batch.rows.num_rows() as u64;
        let dead = batch.dead_letters.len() as u64;
        let counts = OperatorCounts {
            rows_in: batch.records,
            rows_out: rows,
            dead_lettered: dead,
            filtered: batch.records.saturating_sub(rows + dead),
            ..OperatorCounts::default()
        };
        self.chain.count_source(&counts);
        self.metrics.add(batch.records, batch.bytes);
        self.chain.context.metrics.input.add(batch.records, batch.bytes);
        if dead > 0 {
            let epoch = self.sealed.next();
            self.chain.side().undecoded(epoch, &self.table, &batch.dead_letters)?;
        }
        let watermark = match &self.time.expr {
            Some(expr) => {
                let hidden = batch.hidden.as_ref().map(|hidden| batch_watermark(expr.as_ref(), hidden));
                batch_watermark(expr.as_ref(), &batch.rows)?.max(hidden.transpose()?.flatten())
            }
            None => None,
        };
        if self.chain.next_timer().is_some() {
            self.chain.processing_time(self.clock.now_ms())?;
        }
        if rows > 0 {
            if self.size.add(batch_bytes(&batch.rows) as u64) {
                self.chain.context.reporter.send(CoordinatorMessage::WantsBarrier);
            }
            self.chain.rows(0, batch.rows)?;
        }
        let Some(split) = self.splits.get_mut(id) else { return Ok(()) };
        split.state.watermark = split.state.watermark.max(watermark);
        let reached = split.state.watermark.unwrap_or(UNKNOWN);
        self.align(|alignment| alignment.advance(id, reached));
        if let Some(watermark) = watermark {
            let change = self.watermarks.advance(id, watermark)?;
            self.change(change)?;
        }
        Ok(())
    }

    fn align(&self, tell: impl FnOnce(&Alignment)) {
        if let Some(alignment) = &self.time.alignment {
            tell(alignment);
        }
    }

    /// Splits whose polls gave nothing for the timeout fall idle. A split that is held back, by its
    /// consumers or by alignment, is not polled, so it never looks idle.
    fn find_idle(&mut self) -> Result<()> {
        let now = self.clock.monotonic();
        let Some(timeout) = self.time.idle_timeout else {
            self.tell_of_still(now);
            return Ok(());
        };
        let idle: BTreeSet<SplitId> = self
            .splits
            .iter()
            .filter(|(_, split)| !split.state.idle && split.pending_since.is_some_and(|since| now >= since + timeout))
            .map(|(id, _)| id.clone())
            .collect();
        idle.iter().try_for_each(|id| self.fall_idle(id))
    }

    /// No silent stall (I16): a split without rows for long may be all that keeps windows open.
    fn tell_of_still(&mut self, now: Duration) {
        // Sources run dry often, and may have many splits.
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        let reached = self.splits.values().filter_map(|split| split.state.watermark).max();
        let reached = reached.unwrap_or(UNKNOWN).max(self.metrics.reached());
        for (id, split) in &mut self.splits {
            if split.still_at().is_none_or(|at| now < at) {
                continue;
            }
            split.looked_at = Some(now);
            if split.state.watermark.unwrap_or(UNKNOWN) < reached {
                split.was_told = true;
                tracing::warn!(
                    table = self.table,
                    split = %id,
                    "had no row for a minute, and windows that others are past wait for it: \
                     `scan.watermark.idle-timeout` of the table lets it go"
                );
            }
        }
        self.look_at = self.splits.values().filter_map(Split::still_at).min();
    }

    fn fall_idle(&mut self, id: &SplitId) -> Result<()> {
        if let Some(split) = self.splits.get_mut(id) {
            split.state.idle = true;
        }
        let change = self.watermarks.idle(id)?;
        self.change(change)
    }

    fn change(&mut self, change: Change) -> Result<()> {
        if change.status == Some(InputStatus::Active) && self.is_idle {
            self.wake()?;
        }
        // The end is announced by `end`, once, so that it comes behind everything else.
        self.show_watermark();
        if let Some(watermark) = change.watermark.filter(|w| *w < i64::MAX) {
            self.chain.watermark(watermark)?;
        }
        if change.status == Some(InputStatus::Idle) {
            self.go_idle()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if !self.ended {
            self.ended = true;
            self.chain.watermark(i64::MAX)?;
            self.chain.context.reporter.send(CoordinatorMessage::SourcesEnded);
        }
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch) -> Result<()> {
        let mut states = Vec::with_capacity(self.splits.len());
        let mut receipts = Vec::new();
        for split in self.splits.values_mut() {
            let rows = split.state.rows - split.rows_from;
            if rows > 0 || split.from != split.state.position {
                receipts.push(SplitReceipt {
                    id: split.state.id.clone(),
                    from: std::mem::replace(&mut split.from, split.state.position.clone()),
                    to: split.state.position.clone(),
                    rows,
                });
                split.rows_from = split.state.rows;
            }
            states.push(split.state.clone());
        }
        let ended = self.ended;
        self.chain.barrier(epoch, move |part: &mut OperatorReport| {
            part.splits = states;
            part.split_receipts = receipts;
            part.ended = ended;
        })?;
        self.sealed = epoch;
        self.size.barrier();
        (self.full_since, self.was_full_told) = (None, false);
        failpoint("source.barrier");
        Ok(())
    }
}

impl Task for SourceTask {
    fn run(&mut self, _: Duration) -> Step {
        if self.failed {
            return Step::Done;
        }
        let start = self.chain.begin_quantum();
        let step = self.work(start).unwrap_or_else(|error| {
            self.failed = true;
            let error = error.or_at(|| Place::Named(self.table.clone()));
            self.chain.context.reporter.fail(None, error);
            Step::Done
        });
        self.chain.end_quantum(step)
    }

    fn on_panic(&mut self, error: Error) {
        self.chain.context.reporter.fail(None, error);
    }

    fn span(&self) -> tracing::Span {
        self.chain.span().clone()
    }
}

impl Drop for SourceTask {
    fn drop(&mut self) {
        while let Some(item) = self.held.take().or_else(|| self.items.try_recv().ok()) {
            if let LaneItem::Batch { held, .. } = item {
                self.memory.shrink(held);
            }
        }
    }
}

/// The watermark of a batch: the highest value of the watermark expression, in ms. NULLs say nothing, and neither
/// do rows whose time is so far from 1970 that no window takes them.
fn batch_watermark(expr: &dyn PhysicalExpr, rows: &RecordBatch) -> Result<Option<i64>> {
    watermark_of(expr, rows).or_else(|error| {
        let near = near_rows(rows)?;
        if near.num_rows() < rows.num_rows() { watermark_of(expr, &near) } else { Err(error) }
    })
}

fn watermark_of(expr: &dyn PhysicalExpr, rows: &RecordBatch) -> Result<Option<i64>> {
    let place =
        |e: &dyn std::fmt::Display| Error::new(Code::Evaluation, format!("could not compute the watermark: {e}"));
    let value = expr.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(|e| place(&e))?;
    if !matches!(value.data_type(), DataType::Timestamp(_, _)) {
        return Err(Error::internal("a watermark is not a timestamp"));
    }
    let times = milliseconds(&value)?;
    match arrow::compute::max(&times) {
        Some(highest) if highest > TIME_LIMIT => Ok(times.iter().flatten().filter(|time| *time <= TIME_LIMIT).max()),
        highest => Ok(highest),
    }
}

/// The rows without a time that is out of range.
fn near_rows(rows: &RecordBatch) -> Result<RecordBatch> {
    let mut near = vec![true; rows.num_rows()];
    for column in rows.columns().iter().filter(|column| matches!(column.data_type(), DataType::Timestamp(_, _))) {
        for (near, time) in near.iter_mut().zip(&milliseconds(column)?) {
            *near &= time.is_none_or(|time| (-TIME_LIMIT..=TIME_LIMIT).contains(&time));
        }
    }
    arrow::compute::filter_record_batch(rows, &near.into())
        .map_err(|e| Error::internal(format!("could not leave rows out: {e}")))
}
