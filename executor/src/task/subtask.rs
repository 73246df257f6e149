//! A subtask whose rows come from other subtasks, through channels.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use qanat_executor_core::barrier::{Alignment, BarrierAligner};
use qanat_executor_core::watermark::{Change, Combiner, InputStatus, UNKNOWN};
use qanat_proto::control::EdgeCount;
use qanat_proto::ids::Epoch;
use qanat_proto::receipt::RowSum;
use qanat_proto::{Error, Result};
use qanat_storage::env::Clock;

use crate::task::chain::{Chain, Progress};
use crate::task::channel::{Channel, Element};
use crate::task::coalesce::Gathered;
use crate::task::pool::{QUANTUM, Step, Task};

/// A turn that came this late came on a busy machine.
const BUSY: Duration = Duration::from_millis(1);
/// What was gathered waits for more no longer than twice what its task waited for its turn, and no longer than this.
const LINGER_MAX: Duration = Duration::from_millis(20);

/// One input queue.
pub struct Input {
    pub channel: Arc<Channel>,
    pub port: usize,
    /// Index into [`SubtaskTask::received`].
    pub edge: usize,
}

pub struct SubtaskTask {
    chain: Chain,
    inputs: Vec<Input>,
    /// Rows received since the last barrier, per edge.
    received: Vec<EdgeCount>,
    aligner: BarrierAligner,
    combiner: Combiner,
    clock: Arc<dyn Clock>,
    next_input: usize,
    gathered: Gathered,
    /// A marker that was taken and waits until what was gathered before it is through.
    marker: Option<(usize, Element)>,
    /// Inputs that woke this subtask up and wait for the watermark to adopt; while its own consumers
    /// have not answered, nothing is processed.
    waking: Vec<usize>,
    /// The chain has not heard of the watermark at the restore point.
    is_new: bool,
    /// Its consumers have not yet said how far they are.
    is_asking: bool,
    /// Until when what was gathered waits for more.
    linger_until: Duration,
    /// The last time that was asked for to be woken at.
    woken_at: Option<Duration>,
    failed: bool,
}

/// The watermark that a subtask opens with after a restore (P13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The one its operator had (`i64::MIN`: none).
    At(i64),
    /// The one its consumers have kept: as a source, it keeps no state, and what it had was its own splits'.
    Ask,
}

impl SubtaskTask {
    /// `restored` is the epoch of the restore point.
    pub fn new(
        chain: Chain,
        inputs: Vec<Input>,
        received: Vec<EdgeCount>,
        restored: Epoch,
        opening: Opening,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let watermark = match opening {
            Opening::At(watermark) => watermark,
            Opening::Ask => UNKNOWN,
        };
        let aligner = BarrierAligner::new(inputs.len(), restored);
        let combiner = Combiner::new(inputs.len(), watermark);
        let gathered = Gathered::of(inputs.len());
        Self {
            chain,
            inputs,
            received,
            aligner,
            combiner,
            clock,
            next_input: 0,
            gathered,
            marker: None,
            waking: Vec::new(),
            is_new: true,
            is_asking: opening == Opening::Ask && restored > Epoch(0),
            linger_until: Duration::ZERO,
            woken_at: None,
            failed: false,
        }
    }

    fn work(&mut self, start: Duration, waited: Duration) -> Result<Step> {
        let end = start + QUANTUM;
        if self.gathered.is_empty() {
            self.linger_until = if waited < BUSY { start } else { start + (2 * waited).min(LINGER_MAX) };
        }
        if std::mem::take(&mut self.is_new) {
            if self.is_asking {
                self.chain.begin_wake()?;
            } else if self.combiner.watermark() > UNKNOWN {
                // Operators without state of their own judge rows too.
                self.chain.watermark(self.combiner.watermark())?;
            }
        }
        loop {
            match self.chain.run()? {
                Progress::Done => {}
                Progress::Full => return Ok(Step::Wait),
                Progress::More => return Ok(Step::Again),
            }
            if !self.finish_wake()? {
                return Ok(Step::Wait);
            }
            if let Some(timer) = self.chain.next_timer() {
                let now = self.clock.now_ms();
                if now >= timer {
                    self.chain.processing_time(now)?;
                    continue;
                }
            }
            let now = self.clock.monotonic();
            let is_over = now >= end;
            let next = if is_over { None } else { self.marker.take().or_else(|| self.take()) };
            match next {
                Some((index, element)) => self.element(index, element)?,
                None if !self.gathered.is_empty() && now >= self.linger_until => self.pass_on()?,
                None if is_over => return Ok(Step::Again),
                None => return Ok(self.wait(now)),
            }
        }
    }

    /// For the next element, the next timer, or the end of the linger.
    fn wait(&mut self, now: Duration) -> Step {
        let timer = self
            .chain
            .next_timer()
            .filter(|timer| *timer < i64::MAX)
            .map(|timer| now + Duration::from_millis(u64::try_from(timer - self.clock.now_ms()).unwrap_or(0)));
        let linger = (!self.gathered.is_empty()).then_some(self.linger_until);
        let Some(until) = timer.into_iter().chain(linger).min() else { return Step::Wait };
        // One that was asked for and is not over comes by itself.
        if self.woken_at.is_some_and(|woken_at| woken_at > now && woken_at <= until) {
            return Step::Wait;
        }
        self.woken_at = Some(until);
        Step::WaitUntil(until)
    }

    /// The next element, round robin over channels that are not blocked by alignment.
    fn take(&mut self) -> Option<(usize, Element)> {
        let count = self.inputs.len();
        for step in 0..count {
            let index = (self.next_input + step) % count;
            if self.aligner.is_blocked(index) {
                continue;
            }
            if let Some(element) = self.inputs.get(index).and_then(|input| input.channel.pop()) {
                self.next_input = index + 1;
                return Some((index, element));
            }
        }
        None
    }

    fn element(&mut self, index: usize, element: Element) -> Result<()> {
        match element {
            Element::Batch { rows, sum, bytes } => self.gather(index, rows, sum, bytes),
            Element::Watermark(watermark) if watermark < i64::MAX => {
                if let Some(combined) = self.combiner.advance(index, watermark)?.watermark {
                    self.gathered.hold(combined);
                }
                Ok(())
            }
            marker if !self.gathered.is_empty() => {
                self.marker = Some((index, marker));
                self.pass_on()
            }
            marker => self.marker(index, marker),
        }
    }

    fn gather(&mut self, index: usize, rows: RecordBatch, sum: RowSum, bytes: usize) -> Result<()> {
        let Some(input) = self.inputs.get(index) else { return Ok(()) };
        let counted = rows.num_rows() as u64;
        qanat_proto::check!(I13, counted == sum.rows, "{counted} rows arrived, {} were sent", sum.rows)?;
        if let Some(edge) = self.received.get_mut(input.edge) {
            edge.sum.add(sum);
        }
        if self.gathered.add(input.port, rows, bytes) { self.pass_on() } else { Ok(()) }
    }

    /// Gives the chain what was gathered.
    fn pass_on(&mut self) -> Result<()> {
        let (rows, watermark) = self.gathered.take()?;
        if !rows.is_empty() && self.chain.next_timer().is_some() {
            self.chain.processing_time(self.clock.now_ms())?;
        }
        for (port, rows) in rows {
            self.chain.context.metrics.input.add_batch(&rows);
            self.chain.rows(port, rows)?;
        }
        watermark.map_or(Ok(()), |watermark| self.chain.watermark(watermark))
    }

    /// A marker before which nothing is left to be passed on.
    fn marker(&mut self, index: usize, marker: Element) -> Result<()> {
        match marker {
            Element::Batch { rows, sum, bytes } => self.gather(index, rows, sum, bytes),
            Element::Watermark(_) => {
                let change = self.combiner.end(index)?;
                self.change(change)
            }
            Element::Idle => {
                let change = self.combiner.idle(index)?;
                self.change(change)
            }
            Element::Active => {
                let (adopted, change) = self.combiner.wake(index)?;
                if change.status == Some(InputStatus::Active) {
                    self.chain.begin_wake()?;
                    self.waking.push(index);
                } else if let Some(input) = self.inputs.get(index) {
                    input.channel.acknowledge_wake(adopted.max(self.chain.root_watermark()));
                }
                self.change(change)
            }
            Element::Barrier(epoch) => match self.aligner.barrier(index, epoch)? {
                Alignment::Complete(epoch) => {
                    let received = Chain::received(&mut self.received);
                    self.chain.barrier(epoch, move |root| root.received = received)
                }
                Alignment::Waiting | Alignment::Repeated => Ok(()),
            },
        }
    }

    fn change(&mut self, change: Change) -> Result<()> {
        if let Some(watermark) = change.watermark {
            self.chain.watermark(watermark)?;
        }
        if change.status == Some(InputStatus::Idle) {
            self.chain.go_idle()?;
        }
        Ok(())
    }

    /// The handshake, hop by hop: consumers answer first, then this subtask answers its inputs.
    fn finish_wake(&mut self) -> Result<bool> {
        if self.waking.is_empty() && !self.is_asking {
            return Ok(true);
        }
        let Some(adopted) = self.chain.adopted() else { return Ok(false) };
        self.is_asking = false;
        self.chain.watermark(adopted)?;
        for index in std::mem::take(&mut self.waking) {
            if let Some(input) = self.inputs.get(index) {
                input.channel.acknowledge_wake(adopted);
            }
        }
        Ok(true)
    }
}

impl Task for SubtaskTask {
    fn run(&mut self, waited: Duration) -> Step {
        if self.failed {
            return Step::Done;
        }
        let start = self.chain.begin_quantum();
        let step = self.work(start, waited).unwrap_or_else(|error| {
            self.failed = true;
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
