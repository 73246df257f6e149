//! A chain: the operators of one task in one subtask, a tree of nodes.
//!
//! The root gets rows from a source or from input channels; every other node from its parent. Rows
//! leave through routers, sinks and the side lanes for late rows and dead letters. At a barrier the
//! whole chain seals the epoch at once: flush, count, snapshot, then hand the slow parts to threads
//! that finish the report.
//!
//! What is asked of a chain becomes [`Work`], done in order, a step at a time: a node is done with a
//! request, and what follows from it below the node too, before the next one begins. Steps are taken only
//! while every queue takes what is sent. So a window that closes with millions of rows goes out at the
//! speed of its receivers, and a marker (watermark, barrier) never overtakes the rows before it: an epoch
//! is sealed when everything before its barrier is out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use qanat_proto::control::{CoordinatorMessage, EdgeCount, OperatorReport};
use qanat_proto::ids::{Epoch, KeyGroupRange, OperatorId, SubtaskId};
use qanat_proto::receipt::{OperatorCounts, RowSum};
use qanat_proto::{Error, Place, Result};
use qanat_storage::env::Env;
use qanat_storage::state::TableDelta;

use crate::checkpoint::{SnapshotWriter, TableFiles};
use crate::lookup::Refresh;
use crate::memory::{JobMemory, batch_bytes};
use crate::metrics::{Activity, SubtaskMetrics};
use crate::node::Reporter;
use crate::operator::{BoxedOperator, Operator, Output};
use crate::spill::SpillLane;
use crate::tap::Tap;
use crate::task::channel::Element;
use crate::task::collector::Collector;
use crate::task::lane::SinkLane;
use crate::task::pool::{QUANTUM, Step};
use crate::task::router::{Outlet, Router};
use crate::task::side::SideLanes;

/// What a node does with rows.
pub enum Stage {
    /// The root of a source task: rows come decoded.
    Source,
    Operator(BoxedOperator),
    Sink {
        lane: SinkLane,
        outlet: Outlet,
    },
}

/// How far a chain has come with its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is done, and all that was sent has left.
    Done,
    /// A queue is full: the task must wait.
    Full,
    /// The quantum is over.
    More,
}

/// A step that is still to be taken.
enum Work {
    /// Rows for a node.
    Rows {
        node: usize,
        port: usize,
        rows: RecordBatch,
    },
    /// Rows that a node gives. `held`: bytes counted against the job's budget.
    Emit {
        node: usize,
        rows: RecordBatch,
        held: usize,
    },
    /// What a node's last call left to do.
    Resume(usize),
    Watermark {
        node: usize,
        watermark: i64,
    },
    /// A watermark that a node has worked off, for those that it gives rows to.
    Pass {
        node: usize,
        watermark: i64,
    },
    Time {
        node: usize,
        now_ms: i64,
    },
    Flush(usize),
    Idle,
    Wake,
    Seal(Epoch, Box<dyn FnOnce(&mut OperatorReport) + Send>),
    /// State of a node that was put aside and asked for.
    BringBack(usize),
    /// So many bytes of a node's state have no room in memory. It has been flushed.
    PutAside(usize, usize),
}

/// One operator of the chain.
pub struct Node {
    pub id: OperatorId,
    pub name: String,
    pub stage: Stage,
    /// Indexes of chained consumers.
    pub children: Vec<usize>,
    /// Consumers in other tasks.
    pub routers: Vec<Router>,
    /// Live state files, for operators with tables.
    pub files: Option<Arc<TableFiles>>,
    /// Of one that may put state aside.
    pub spill: Option<SpillLane>,
    /// New versions of the lookup table, for lookup joins that refresh.
    pub refresh: Option<Arc<Refresh>>,
    /// Input watermark, ms; `i64::MIN` before the first.
    pub watermark: i64,
    /// The watermark at the restore point, which the task raises first of all.
    pub restored: i64,
    /// Counts of a source or sink; an operator keeps its own.
    pub counts: OperatorCounts,
    pub state_bytes: usize,
    /// Where its rows are looked at.
    pub tap: Arc<Tap>,
}

/// What a chain shares with the rest of its generation.
pub struct ChainContext {
    pub index: u32,
    pub key_groups: KeyGroupRange,
    pub reporter: Reporter,
    pub memory: Arc<JobMemory>,
    pub metrics: Arc<SubtaskMetrics>,
    pub snapshots: SnapshotWriter,
    pub env: Env,
}

impl ChainContext {
    /// Tells this thread's expressions what time it is, once per quantum.
    pub fn set_clock(&self) {
        qanat_sql::functions::clock::set_now(self.env.clock.now_ms(), self.env.entropy.u64());
    }
}

pub struct Chain {
    pub context: ChainContext,
    nodes: Vec<Node>,
    side: SideLanes,
    /// The epoch that is open: its rows are being processed.
    epoch: Epoch,
    /// In order; what follows from a step goes to the front.
    work: VecDeque<Work>,
    /// When the coordinator last heard that steps are taken.
    told: Duration,
    /// It waits for room and not for rows.
    is_held_back: bool,
    /// What its time counts as now.
    activity: Activity,
    /// What log lines of the subtask stand in.
    span: tracing::Span,
}

/// A chain that is busy says so this often, which is well within any sensible epoch timeout.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

impl Chain {
    /// `nodes` in topological order, the root first; `epoch` is the one that is open.
    pub fn new(context: ChainContext, nodes: Vec<Node>, side: SideLanes, epoch: Epoch) -> Self {
        let told = context.env.clock.monotonic();
        let (generation, metrics) = (context.reporter.span(), &context.metrics);
        let (operator, subtask) = (metrics.operator.as_str(), metrics.index);
        let span = tracing::error_span!(parent: generation, "subtask", operator, subtask);
        let (work, activity) = (VecDeque::new(), Activity::default());
        Self { span, context, nodes, side, epoch, work, told, is_held_back: false, activity }
    }

    pub fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// A quantum of its task begins: sets the clock, and gives the monotonic time.
    pub fn begin_quantum(&mut self) -> Duration {
        self.context.set_clock();
        self.is_held_back = false;
        let now = self.context.env.clock.monotonic();
        if self.activity != Activity::Busy {
            self.turn(Activity::Busy, now);
        }
        now
    }

    /// A quantum ends: tells what the time until the next one is spent with.
    pub fn end_quantum(&mut self, step: Step) -> Step {
        let next = match step {
            Step::Again => Activity::Busy,
            Step::Wait | Step::WaitUntil(_) if self.is_held_back => Activity::Backpressured,
            Step::Wait | Step::WaitUntil(_) | Step::Done => Activity::Idle,
        };
        if next != self.activity {
            self.turn(next, self.context.env.clock.monotonic());
        }
        step
    }

    /// A task that has much to do goes from quantum to quantum without.
    fn turn(&mut self, activity: Activity, now: Duration) {
        self.activity = activity;
        self.context.metrics.turn(now, activity);
    }

    /// The task waits for the job's memory.
    pub fn hold_back(&mut self) {
        self.is_held_back = true;
    }

    /// Goes on with the work. Before it is [`Progress::Done`] nothing more may be asked of the chain.
    ///
    /// # Errors
    /// What an operator says.
    pub fn run(&mut self) -> Result<Progress> {
        let mut end = None;
        let (mut has_worked, mut has_moved, mut has_made_room) = (false, false, false);
        let progress = loop {
            if !self.send_kept() || self.is_waiting() {
                break Progress::Full;
            }
            let Some(work) = self.work.pop_front() else {
                if std::mem::replace(&mut has_made_room, true) {
                    break Progress::Done;
                }
                if has_worked {
                    self.account();
                }
                self.make_room(has_worked);
                continue;
            };
            // A timer that finds nothing to do is no progress: rows are.
            has_moved |= matches!(work, Work::Rows { .. } | Work::Emit { .. });
            self.step(work)?;
            has_worked = true;
            if !self.work.is_empty() {
                let now = self.context.env.clock.monotonic();
                if now >= *end.get_or_insert(now + QUANTUM) {
                    break Progress::More;
                }
            }
        };
        self.is_held_back = progress == Progress::Full;
        if has_worked {
            self.account();
        }
        if has_moved {
            self.tell();
        }
        Ok(progress)
    }

    /// Whether state that was put aside is still to come.
    fn is_waiting(&self) -> bool {
        let Some(Work::BringBack(index)) = self.work.front() else { return false };
        self.nodes.get(*index).and_then(|node| node.spill.as_ref()).is_some_and(SpillLane::is_waiting)
    }

    /// Nodes put state aside if the job holds too much.
    fn make_room(&mut self, has_worked: bool) {
        for (index, node) in self.nodes.iter().enumerate() {
            let (Some(spill), Some(files)) = (&node.spill, &node.files) else { continue };
            let bytes = spill.is_due(node.state_bytes, has_worked);
            // One change after the other, unless nothing else goes on.
            if bytes > 0 && (!files.is_writing() || self.context.memory.is_over()) {
                // What leaves memory has been told and is saved.
                self.work.extend([Work::Flush(index), Work::PutAside(index, bytes)]);
            }
        }
    }

    fn put_aside(&mut self, index: usize, bytes: usize) -> Result<()> {
        let (epoch, subtask) = (self.epoch, self.context.index);
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let (Stage::Operator(operator), Some(files), Some(spill)) = (&mut node.stage, &node.files, &mut node.spill)
        else {
            return Ok(());
        };
        let deltas = operator.snapshot()?;
        self.context.snapshots.save(node.id, subtask, epoch, files.clone(), deltas, None);
        let before = operator.state_bytes();
        let entries = operator.put_aside(bytes)?;
        spill.write(entries, bytes, (before, operator.state_bytes()))
    }

    /// P8: an epoch is not given up while those that its barrier waits for are at work.
    fn tell(&mut self) {
        let now = self.context.env.clock.monotonic();
        if now >= self.told + PROGRESS_EVERY {
            self.told = now;
            self.context.reporter.send(CoordinatorMessage::Progress { epoch: self.epoch });
        }
    }

    /// Pushes what queues did not take; whether nothing is left.
    fn send_kept(&mut self) -> bool {
        let mut empty = self.side.drain();
        for node in &mut self.nodes {
            for router in &mut node.routers {
                empty &= router.drain();
            }
            if let Stage::Sink { outlet, .. } = &mut node.stage {
                empty &= outlet.drain();
            }
        }
        empty
    }

    fn add(&mut self, work: impl IntoIterator<Item = Work>) -> Result<()> {
        self.work.extend(work);
        self.run().map(|_| ())
    }

    /// Rows for the root.
    pub fn rows(&mut self, port: usize, rows: RecordBatch) -> Result<()> {
        self.add([Work::Rows { node: 0, port, rows }])
    }

    /// Counts of the root of a source task.
    pub fn count_source(&mut self, add: &OperatorCounts) {
        if let Some(root) = self.nodes.first_mut() {
            root.counts.add(add);
        }
    }

    pub fn side(&mut self) -> &mut SideLanes {
        &mut self.side
    }

    /// The root's input watermark rose.
    pub fn watermark(&mut self, watermark: i64) -> Result<()> {
        self.add([Work::Watermark { node: 0, watermark }])
    }

    pub fn root_watermark(&self) -> i64 {
        self.nodes.first().map_or(i64::MIN, |root| root.watermark)
    }

    /// Tells all consumers that nothing comes for now. Everything held is sent before (P13).
    pub fn go_idle(&mut self) -> Result<()> {
        self.work.extend((0..self.nodes.len()).map(Work::Flush));
        self.add([Work::Idle])
    }

    /// Tells all consumers that rows will come again, and asks for their watermarks (P13).
    pub fn begin_wake(&mut self) -> Result<()> {
        self.add([Work::Wake])
    }

    /// The watermark to adopt before the first row after idleness: None while a consumer has not answered.
    /// To be asked when the chain is done with its work.
    pub fn adopted(&self) -> Option<i64> {
        let own = self.nodes.iter().map(|node| node.watermark.max(node.restored)).max().unwrap_or(i64::MIN);
        let mut routers = self.nodes.iter().flat_map(|node| &node.routers);
        routers.try_fold(own, |highest, router| router.adopted().map(|w| highest.max(w)))
    }

    /// Moves processing time on.
    pub fn processing_time(&mut self, now_ms: i64) -> Result<()> {
        self.add((0..self.nodes.len()).map(|node| Work::Time { node, now_ms }))
    }

    /// The earliest processing time at which an operator wants to be called, ms since 1970 UTC.
    pub fn next_timer(&self) -> Option<i64> {
        let timers = self.nodes.iter().filter_map(|node| match &node.stage {
            Stage::Operator(operator) => operator.next_timer(),
            Stage::Source | Stage::Sink { .. } => None,
        });
        timers.min()
    }

    /// Seals the open epoch: its rows are all those asked for so far.
    ///
    /// `root` completes the root's part of the report.
    ///
    /// # Errors
    /// If an operator cannot flush or snapshot, or `barrier` is not the open epoch.
    pub fn barrier(&mut self, barrier: Epoch, root: impl FnOnce(&mut OperatorReport) + Send + 'static) -> Result<()> {
        self.work.extend((0..self.nodes.len()).map(Work::Flush));
        self.add([Work::Seal(barrier, Box::new(root))])
    }

    fn seal(&mut self, barrier: Epoch, root: impl FnOnce(&mut OperatorReport)) -> Result<()> {
        qanat_proto::check!(I3, barrier == self.epoch, "barrier {barrier} while epoch {} is open", self.epoch)?;
        let mut parts = Vec::with_capacity(self.nodes.len());
        let mut snapshots: Vec<(OperatorId, Arc<TableFiles>, Vec<TableDelta>)> = Vec::new();
        let mut sinks = 0;
        for node in &mut self.nodes {
            let mut counts = std::mem::take(&mut node.counts);
            match &mut node.stage {
                Stage::Operator(operator) => {
                    counts.add(&operator.take_counts());
                    let held = operator.lookup_version().unwrap_or(0);
                    if let Some(version) = node.refresh.as_ref().and_then(|refresh| refresh.take(barrier, held)) {
                        operator.load(version.number, version.rows, false)?;
                    }
                    if let Some(spill) = &mut node.spill {
                        spill.try_again();
                    }
                    if let Some(files) = &node.files {
                        snapshots.push((node.id, files.clone(), operator.snapshot()?));
                    }
                }
                Stage::Sink { .. } => sinks += 1,
                Stage::Source => {}
            }
            parts.push(OperatorReport {
                subtask: SubtaskId { operator: node.id, index: self.context.index },
                key_groups: self.context.key_groups,
                watermark: (node.watermark > i64::MIN).then_some(node.watermark),
                counts,
                splits: Vec::new(),
                split_receipts: Vec::new(),
                tables: Vec::new(),
                prepared: Vec::new(),
                sent: node.routers.iter_mut().map(Router::take_sent).collect(),
                received: Vec::new(),
                ended: false,
            });
        }
        if let Some(part) = parts.first_mut() {
            root(part);
        }
        let pending = snapshots.len() + sinks + self.side.open_lanes();
        let collector = Collector::start(barrier, self.context.reporter.clone(), parts, pending);
        for (operator, files, deltas) in snapshots {
            self.context.snapshots.save(operator, self.context.index, barrier, files, deltas, Some(collector.clone()));
        }
        let marker = Element::Barrier(barrier);
        for node in &mut self.nodes {
            node.routers.iter_mut().for_each(|router| router.send_marker(&marker));
            if let Stage::Sink { lane, outlet } = &mut node.stage {
                lane.seal(collector.clone());
                outlet.send(marker.clone());
            }
        }
        self.side.barrier(barrier, &collector);
        self.epoch = barrier.next();
        Ok(())
    }

    fn step(&mut self, work: Work) -> Result<()> {
        match work {
            Work::Rows { node, port, rows } => self.process(node, port, rows),
            Work::Emit { node, rows, held } => {
                self.context.memory.shrink(held);
                self.emit(node, rows, (held > 0).then_some(held))
            }
            Work::Resume(index) => {
                if self.ask(index)? {
                    return Ok(());
                }
                let Some((has_more, out)) = self.call(index, |operator, out| operator.resume(out))? else {
                    return Ok(());
                };
                if has_more {
                    self.work.push_front(Work::Resume(index));
                }
                self.deliver(index, out)
            }
            Work::Watermark { node, watermark } => self.raise(node, watermark),
            Work::Pass { node: index, watermark } => {
                let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
                node.routers.iter_mut().for_each(|router| router.send_marker(&Element::Watermark(watermark)));
                if let Stage::Sink { outlet, .. } = &mut node.stage {
                    outlet.send(Element::Watermark(watermark));
                }
                for child in node.children.iter().rev() {
                    self.work.push_front(Work::Watermark { node: *child, watermark });
                }
                Ok(())
            }
            Work::Time { node, now_ms } => {
                let called = self.call(node, |operator, out| operator.on_processing_time(now_ms, out))?;
                called.map_or(Ok(()), |((), out)| self.deliver_all(node, out))
            }
            Work::Flush(node) => {
                let called = self.call(node, |operator, out| operator.flush(out))?;
                called.map_or(Ok(()), |((), out)| self.deliver(node, out))
            }
            Work::Idle => {
                let routers = self.nodes.iter_mut().flat_map(|node| &mut node.routers);
                routers.for_each(|router| router.send_marker(&Element::Idle));
                self.tell_sinks(&Element::Idle);
                Ok(())
            }
            Work::Wake => {
                self.nodes.iter_mut().flat_map(|node| &mut node.routers).for_each(Router::begin_wake);
                self.tell_sinks(&Element::Active);
                Ok(())
            }
            Work::Seal(epoch, root) => self.seal(epoch, root),
            Work::BringBack(index) => {
                let spill = self.nodes.get_mut(index).and_then(|node| node.spill.as_mut());
                let Some(found) = spill.and_then(SpillLane::answer) else { return Ok(()) };
                self.call(index, |operator, _| operator.bring_back(&found)).map(|_| ())
            }
            Work::PutAside(index, bytes) => self.put_aside(index, bytes),
        }
    }

    /// Asks for what an operator needs to go on and was put aside, if it needs any.
    fn ask(&mut self, index: usize) -> Result<bool> {
        let Some(Node { stage: Stage::Operator(operator), spill: Some(spill), .. }) = self.nodes.get_mut(index) else {
            return Ok(false);
        };
        let Some(keys) = operator.wanted() else { return Ok(false) };
        spill.ask(keys)?;
        self.work.push_front(Work::Resume(index));
        self.work.push_front(Work::BringBack(index));
        Ok(true)
    }

    fn tell_sinks(&mut self, marker: &Element) {
        for node in &mut self.nodes {
            if let Stage::Sink { outlet, .. } = &mut node.stage {
                outlet.send(marker.clone());
            }
        }
    }

    /// Calls the operator of a node, if it has one. What it put out is still to be delivered.
    fn call<T>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut dyn Operator, &mut Output) -> Result<T>,
    ) -> Result<Option<(T, Output)>> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(None) };
        let Stage::Operator(operator) = &mut node.stage else { return Ok(None) };
        let mut out = Output::default();
        let value =
            call(operator.as_mut(), &mut out).map_err(|e: Error| e.or_at(|| Place::Named(node.name.clone())))?;
        Ok(Some((value, out)))
    }

    fn process(&mut self, index: usize, port: usize, rows: RecordBatch) -> Result<()> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        match &mut node.stage {
            Stage::Source => self.emit(index, rows, None),
            Stage::Operator(_) => {
                let called = self.call(index, |operator, out| operator.process(port, rows, out))?;
                called.map_or(Ok(()), |((), out)| self.deliver_all(index, out))
            }
            Stage::Sink { outlet, .. } => {
                let count = rows.num_rows() as u64;
                node.counts.rows_in += count;
                node.counts.rows_out += count;
                if count > 0 {
                    if node.tap.is_watched() {
                        node.tap.offer(self.context.index, &rows);
                    }
                    self.context.metrics.sunk.add_batch(&rows);
                    // The sink's own handles carry the sums of what it staged.
                    outlet.send(Element::batch(rows, RowSum::default()));
                }
                Ok(())
            }
        }
    }

    /// A node's watermark rose. It is passed on behind everything that the operator gives for it.
    fn raise(&mut self, index: usize, watermark: i64) -> Result<()> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        if watermark <= node.watermark {
            return Ok(());
        }
        node.watermark = watermark;
        if index == 0 {
            self.context.metrics.set_watermark(watermark);
        }
        let called = self.call(index, |operator, out| operator.on_watermark(watermark, out))?;
        let (passed, out) = called.unwrap_or_else(|| (watermark, Output::default()));
        self.work.push_front(Work::Pass { node: index, watermark: passed });
        self.deliver_all(index, out)
    }

    /// Delivers what a call put out, then what it left to do.
    fn deliver_all(&mut self, index: usize, out: Output) -> Result<()> {
        self.work.push_front(Work::Resume(index));
        self.deliver(index, out)
    }

    fn deliver(&mut self, index: usize, out: Output) -> Result<()> {
        if !out.late.is_empty() || !out.dead.is_empty() {
            let name = self.nodes.get(index).map(|node| node.name.clone()).unwrap_or_default();
            for late in &out.late {
                self.side.late(self.epoch, &name, late)?;
            }
            for dead in &out.dead {
                self.side.dead(self.epoch, &name, dead)?;
            }
        }
        // What waits in line counts; a single batch goes on at once.
        let is_line = out.batches.len() > 1;
        for rows in out.batches.into_iter().rev() {
            let held = if is_line { batch_bytes(&rows) } else { 0 };
            self.context.memory.grow(held);
            self.work.push_front(Work::Emit { node: index, rows, held });
        }
        Ok(())
    }

    /// `bytes` if they were counted already.
    fn emit(&mut self, index: usize, rows: RecordBatch, bytes: Option<usize>) -> Result<()> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        if node.tap.is_watched() {
            node.tap.offer(self.context.index, &rows);
        }
        if !node.routers.is_empty() {
            let bytes = bytes.unwrap_or_else(|| batch_bytes(&rows));
            self.context.metrics.output.add(rows.num_rows() as u64, bytes as u64);
        }
        for router in &mut node.routers {
            router.send_rows(rows.clone())?;
        }
        for child in node.children.iter().rev() {
            self.work.push_front(Work::Rows { node: *child, port: 0, rows: rows.clone() });
        }
        Ok(())
    }

    /// Tells the job's budget what the operators hold now.
    fn account(&mut self) {
        for node in &mut self.nodes {
            if let Stage::Operator(operator) = &node.stage {
                let bytes = operator.state_bytes();
                if bytes != node.state_bytes {
                    self.context.memory.change(node.state_bytes, bytes);
                    node.state_bytes = bytes;
                }
            }
        }
    }

    /// The sums of what came in through channels, for the root's part of the report.
    pub fn received(counts: &mut [EdgeCount]) -> Vec<EdgeCount> {
        let taken = counts.to_vec();
        counts.iter_mut().for_each(|count| count.sum = RowSum::default());
        taken
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let held: usize = self.nodes.iter().map(|node| node.state_bytes).sum();
        let waits = self.work.iter().map(|work| match work {
            Work::Emit { held, .. } => *held,
            _ => 0,
        });
        self.context.memory.shrink(held + waits.sum::<usize>());
    }
}
