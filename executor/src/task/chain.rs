//! A chain: the operators of one task in one subtask, a tree of function calls.
//!
//! The root gets rows from a source or from input channels; every other node from its parent. Rows
//! leave through routers, sinks and the side lanes for late rows and dead letters. At a barrier the
//! whole chain seals the epoch at once: flush, count, snapshot, then hand the slow parts to threads
//! that finish the report.

use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_proto::control::{EdgeCount, OperatorReport};
use qanat_proto::ids::{Epoch, KeyGroupRange, OperatorId, SubtaskId};
use qanat_proto::receipt::{OperatorCounts, RowSum};
use qanat_proto::{Error, Place, Result};
use qanat_storage::env::Env;
use qanat_storage::state::TableDelta;

use crate::checkpoint::{SnapshotWriter, TableFiles};
use crate::lookup::Refresh;
use crate::memory::JobMemory;
use crate::node::Reporter;
use crate::operator::{BoxedOperator, Output};
use crate::task::channel::Element;
use crate::task::collector::Collector;
use crate::task::lane::SinkLane;
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
    /// New versions of the lookup table, for lookup joins that refresh.
    pub refresh: Option<Arc<Refresh>>,
    /// Input watermark, ms; `i64::MIN` before the first.
    pub watermark: i64,
    /// Counts of a source or sink; an operator keeps its own.
    pub counts: OperatorCounts,
    pub state_bytes: usize,
}

/// What a chain shares with the rest of its generation.
pub struct ChainContext {
    pub index: u32,
    pub key_groups: KeyGroupRange,
    pub reporter: Reporter,
    pub memory: Arc<JobMemory>,
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
}

impl Chain {
    /// `nodes` in topological order, the root first; `epoch` is the one that is open.
    pub fn new(context: ChainContext, nodes: Vec<Node>, side: SideLanes, epoch: Epoch) -> Self {
        Self { context, nodes, side, epoch }
    }

    /// Whether everything sent so far has left; if not, the task must wait.
    pub fn drain(&mut self) -> bool {
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

    /// Rows for the root.
    pub fn rows(&mut self, port: usize, rows: RecordBatch) -> Result<()> {
        self.process(0, port, rows)?;
        self.account();
        Ok(())
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
        self.advance(0, watermark)?;
        self.account();
        Ok(())
    }

    pub fn root_watermark(&self) -> i64 {
        self.nodes.first().map_or(i64::MIN, |root| root.watermark)
    }

    /// Tells all consumers that nothing comes for now. Everything held is sent before (P13).
    pub fn go_idle(&mut self) -> Result<()> {
        self.flush()?;
        for node in &mut self.nodes {
            node.routers.iter_mut().for_each(|router| router.send_marker(&Element::Idle));
        }
        Ok(())
    }

    /// Tells all consumers that rows will come again, and asks for their watermarks (P13).
    pub fn begin_wake(&mut self) {
        for node in &mut self.nodes {
            node.routers.iter_mut().for_each(Router::begin_wake);
        }
    }

    /// The watermark to adopt before the first row after idleness: None while a consumer has not answered.
    pub fn adopted(&self) -> Option<i64> {
        let mut routers = self.nodes.iter().flat_map(|node| &node.routers);
        routers.try_fold(self.root_watermark(), |highest, router| router.adopted().map(|w| highest.max(w)))
    }

    /// Moves processing time on.
    pub fn processing_time(&mut self, now_ms: i64) -> Result<()> {
        for index in 0..self.nodes.len() {
            let mut out = Output::default();
            if let Some(Node { stage: Stage::Operator(operator), .. }) = self.nodes.get_mut(index) {
                operator.on_processing_time(now_ms, &mut out)?;
            }
            self.deliver(index, out)?;
        }
        self.account();
        Ok(())
    }

    /// The earliest processing time at which an operator wants to be called, ms since 1970 UTC.
    pub fn next_timer(&self) -> Option<i64> {
        let timers = self.nodes.iter().filter_map(|node| match &node.stage {
            Stage::Operator(operator) => operator.next_timer(),
            Stage::Source | Stage::Sink { .. } => None,
        });
        timers.min()
    }

    /// Seals the open epoch: its rows are all those processed so far.
    ///
    /// `root` completes the root's part of the report.
    ///
    /// # Errors
    /// If an operator cannot flush or snapshot, or `barrier` is not the open epoch.
    pub fn barrier(&mut self, barrier: Epoch, root: impl FnOnce(&mut OperatorReport)) -> Result<()> {
        qanat_proto::check!(I3, barrier == self.epoch, "barrier {barrier} while epoch {} is open", self.epoch)?;
        self.flush()?;
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
                        operator.load(version.number, version.rows)?;
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
            self.context.snapshots.save(operator, self.context.index, barrier, files, deltas, collector.clone());
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
        self.account();
        Ok(())
    }

    /// Sends on what operators hold back only for speed.
    fn flush(&mut self) -> Result<()> {
        for index in 0..self.nodes.len() {
            let mut out = Output::default();
            if let Some(Node { stage: Stage::Operator(operator), .. }) = self.nodes.get_mut(index) {
                operator.flush(&mut out)?;
            }
            self.deliver(index, out)?;
        }
        Ok(())
    }

    fn process(&mut self, index: usize, port: usize, rows: RecordBatch) -> Result<()> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        match &mut node.stage {
            Stage::Source => self.emit(index, rows),
            Stage::Operator(operator) => {
                let mut out = Output::default();
                let place = || Place::Named(node.name.clone());
                operator.process(port, rows, &mut out).map_err(|e: Error| e.or_at(place))?;
                self.deliver(index, out)
            }
            Stage::Sink { outlet, .. } => {
                let count = rows.num_rows() as u64;
                node.counts.rows_in += count;
                node.counts.rows_out += count;
                if count > 0 {
                    // The sink's own handles carry the sums of what it staged.
                    outlet.send(Element::Batch { rows, sum: RowSum::default() });
                }
                Ok(())
            }
        }
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
        for rows in out.batches {
            self.emit(index, rows)?;
        }
        Ok(())
    }

    fn emit(&mut self, index: usize, rows: RecordBatch) -> Result<()> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        for router in &mut node.routers {
            router.send_rows(rows.clone())?;
        }
        for position in 0..node.children.len() {
            let child = self.nodes.get(index).and_then(|node| node.children.get(position).copied());
            if let Some(child) = child {
                self.process(child, 0, rows.clone())?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize, watermark: i64) -> Result<()> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        if watermark <= node.watermark {
            return Ok(());
        }
        node.watermark = watermark;
        let mut passed = watermark;
        let mut out = Output::default();
        if let Stage::Operator(operator) = &mut node.stage {
            passed = operator.on_watermark(watermark, &mut out)?;
        }
        self.deliver(index, out)?;
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let marker = Element::Watermark(passed);
        node.routers.iter_mut().for_each(|router| router.send_marker(&marker));
        for child in node.children.clone() {
            self.advance(child, passed)?;
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
        self.context.memory.shrink(held);
    }
}
