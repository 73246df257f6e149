//! The side lanes of a task: late rows and dead letters.
//!
//! They are staged and committed with the epoch like any sink's rows. A lane starts with the first row
//! it is given: most tasks never have one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_connectors::contract::{DeadLetter, Sink};
use qanat_connectors::side::{self, SideOrigin};
use qanat_proto::Result;
use qanat_proto::ids::{Epoch, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::thread::JoinHandle;

use crate::memory::JobMemory;
use crate::node::{LaneThreads, Reporter};
use crate::operator::{DeadRows, LateRows};
use crate::task::channel::{Channel, Element};
use crate::task::collector::Collector;
use crate::task::lane::SinkLane;
use crate::task::pool::Waker;
use crate::task::router::Outlet;

/// The side tables of a job, opened for writing.
#[derive(Clone)]
pub struct SideTables {
    pub late: Arc<dyn Sink>,
    pub dead_letters: Arc<dyn Sink>,
}

impl SideTables {
    pub fn sink(&self, channel: SinkChannel) -> Option<&Arc<dyn Sink>> {
        match channel {
            SinkChannel::Late => Some(&self.late),
            SinkChannel::DeadLetters => Some(&self.dead_letters),
            SinkChannel::Table => None,
        }
    }
}

/// The id under which a task's side rows are staged: its own, so that names never collide (P3).
pub fn side_operator(root: OperatorId, channel: SinkChannel) -> OperatorId {
    let mark = match channel {
        SinkChannel::Table => 0,
        SinkChannel::Late => 0x6c61_7465_0000_0000,
        SinkChannel::DeadLetters => 0x6465_6164_0000_0000,
    };
    OperatorId(root.0.rotate_left(16) ^ mark)
}

pub struct SideLanes {
    tables: SideTables,
    root: OperatorId,
    index: u32,
    token: Token,
    reporter: Reporter,
    memory: Arc<JobMemory>,
    threads: LaneThreads,
    waker: Waker,
    late: Option<Lane>,
    dead: Option<Lane>,
}

struct Lane {
    lane: SinkLane,
    outlet: Outlet,
}

impl SideLanes {
    pub fn new(
        tables: SideTables,
        root: OperatorId,
        index: u32,
        reporter: Reporter,
        memory: Arc<JobMemory>,
        threads: LaneThreads,
        waker: Waker,
    ) -> Self {
        let token = reporter.token();
        Self { tables, root, index, token, reporter, memory, threads, waker, late: None, dead: None }
    }

    pub fn late(&mut self, epoch: Epoch, operator: &str, late: &LateRows) -> Result<()> {
        let rows = side::late_rows(self.origin(epoch, operator), &late.rows, late.time_column, late.watermark)?;
        self.push(SinkChannel::Late, epoch, rows)
    }

    pub fn dead(&mut self, epoch: Epoch, operator: &str, dead: &DeadRows) -> Result<()> {
        let rows = side::dead_rows(self.origin(epoch, operator), &dead.rows, &dead.reason)?;
        self.push(SinkChannel::DeadLetters, epoch, rows)
    }

    /// Records that could not be decoded.
    pub fn undecoded(&mut self, epoch: Epoch, table: &str, letters: &[DeadLetter]) -> Result<()> {
        let rows = side::dead_letters(self.origin(epoch, table), letters)?;
        self.push(SinkChannel::DeadLetters, epoch, rows)
    }

    fn origin<'a>(&self, epoch: Epoch, operator: &'a str) -> SideOrigin<'a> {
        SideOrigin { job: self.token.job, epoch, operator }
    }

    fn push(&mut self, channel: SinkChannel, epoch: Epoch, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let lane = match self.slot(channel).take() {
            Some(lane) => lane,
            None => self.open(channel, epoch)?,
        };
        let lane = self.slot(channel).insert(lane);
        lane.outlet.send(Element::batch(rows, RowSum::default()));
        Ok(())
    }

    fn slot(&mut self, channel: SinkChannel) -> &mut Option<Lane> {
        match channel {
            SinkChannel::DeadLetters => &mut self.dead,
            SinkChannel::Late | SinkChannel::Table => &mut self.late,
        }
    }

    fn open(&self, channel: SinkChannel, epoch: Epoch) -> Result<Lane> {
        let sink = self.tables.sink(channel).unwrap_or(&self.tables.late);
        let operator = side_operator(self.root, channel);
        let writer = sink.writer(SubtaskId { operator, index: self.index }, self.token)?;
        let queue = Channel::new(self.memory.clone());
        queue.set_sender(self.waker.clone());
        let (lane, thread): (SinkLane, JoinHandle<()>) =
            SinkLane::start(self.root, queue.clone(), writer, epoch, self.reporter.clone())?;
        self.threads.add(queue.clone(), thread);
        Ok(Lane { lane, outlet: Outlet::new(queue) })
    }

    /// Lanes that will answer the next barrier.
    pub fn open_lanes(&self) -> usize {
        usize::from(self.late.is_some()) + usize::from(self.dead.is_some())
    }

    pub fn barrier(&mut self, epoch: Epoch, collector: &Arc<Collector>) {
        for lane in [&mut self.late, &mut self.dead].into_iter().flatten() {
            lane.lane.seal(collector.clone());
            lane.outlet.send(Element::Barrier(epoch));
        }
    }

    /// Pushes what waits; whether nothing is left.
    pub fn drain(&mut self) -> bool {
        let late = self.late.as_mut().is_none_or(|lane| lane.outlet.drain());
        let dead = self.dead.as_mut().is_none_or(|lane| lane.outlet.drain());
        late && dead
    }
}
