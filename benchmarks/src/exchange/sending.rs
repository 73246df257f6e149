//! The sending process.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use qanat_executor::exchange::{Exchange, LinkHandles, OutgoingEdge, Pair, RowThreads};
use qanat_executor::memory::JobMemory;
use qanat_executor::metrics::LinkMetrics;
use qanat_executor::task::channel::{Channel, Element};
use qanat_executor::task::pool::{Pool, QUANTUM, Step, Task, TaskHandle};
use qanat_executor::task::router::{Outlet, Route, Router};
use qanat_executor_core::partition::Partitioner;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::control::EdgeCount;
use qanat_proto::receipt::RowSum;
use qanat_proto::settings::ExchangeCompression;
use qanat_proto::{Error, Result};
use qanat_storage::env::{Clock, Env};

use super::bare::BareClient;
use super::helper::Helper;
use super::{KEY_GROUPS, RECEIVER, SENDING, edge, exchange, reporter, row_threads, runtime, schema};
use crate::measure::processor_time;

/// What a run of the engine sends.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Batches with their sums as they are, through one channel: what the exchange alone costs.
    Forward,
    /// Rows by their key from so many subtasks to so many: keys are hashed, rows sorted, and their sums made.
    Shuffle(u32),
}

/// What one run of either side took.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub took: Duration,
    /// Of both processes.
    pub processor: Duration,
    /// Rows of a batch as the operator behind the exchange gets them. 0 for bare Flight.
    pub rows_per_batch: f64,
}

/// The receiving process, and all that leads there.
pub(super) struct Peer {
    env: Env,
    receiver: Helper,
    /// Outlives the links.
    _rows: RowThreads,
    exchange: Exchange,
    pool: Pool,
    address: String,
    bare: BareClient,
    batches: Arc<Vec<RecordBatch>>,
    sums: Arc<Vec<RowSum>>,
    runs: u64,
}

impl Peer {
    /// Starts it. `batches` are sent over and over.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(super) fn start(env: &Env, batches: Vec<RecordBatch>) -> Result<Self> {
        let mut receiver = Helper::start(RECEIVER)?;
        let told = receiver.hear()?;
        let (ours, bare) = told.split_once(' ').ok_or_else(|| Error::internal(format!("it says `{told}`")))?;
        let rows = row_threads()?;
        let mut hasher = RowHasher::default();
        let sums = batches.iter().map(|batch| hasher.sum(batch)).collect::<Result<Vec<_>>>()?;
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            env: env.clone(),
            receiver,
            exchange: exchange(&rows, SENDING),
            pool: Pool::new(workers, env.clock.clone())?,
            address: ours.to_owned(),
            bare: BareClient::new(Arc::new(runtime()?), bare)?,
            _rows: rows,
            batches: Arc::new(batches),
            sums: Arc::new(sums),
            runs: 0,
        })
    }

    fn processor(&self) -> Result<Duration> {
        Ok(processor_time(std::process::id())? + processor_time(self.receiver.id())?)
    }

    /// Sends `count` batches through bare Flight.
    ///
    /// # Errors
    /// What goes wrong, and E0503 if not all rows came.
    pub(super) fn bare(&self, count: usize) -> Result<Run> {
        let (processor, begun) = (self.processor()?, self.env.clock.monotonic());
        let rows = self.bare.run(&self.batches, count)?;
        let took = self.env.clock.monotonic().saturating_sub(begun);
        self.check(rows, count)?;
        Ok(Run { took, processor: self.processor()?.saturating_sub(processor), rows_per_batch: 0.0 })
    }

    /// Sends `count` batches through the engine's exchange.
    ///
    /// # Errors
    /// What goes wrong, and E0503 if not all rows came.
    pub(super) fn ours(&mut self, load: Load, count: usize) -> Result<Run> {
        let parallelism = match load {
            Load::Forward => 1,
            Load::Shuffle(parallelism) => parallelism,
        };
        self.runs += 1;
        self.receiver.tell(&format!("{} {parallelism} {parallelism}", self.runs))?;
        if self.receiver.hear()? != "ready" {
            return Err(Error::internal("the receiving process is not ready"));
        }
        let memory = Arc::new(JobMemory::new(8 << 30));
        let reporter = reporter(SENDING, self.runs);
        let (mut channels, mut tasks) = (BTreeMap::new(), Vec::new());
        for sender in 0..parallelism {
            let own: Vec<Arc<Channel>> = (0..parallelism).map(|_| Channel::new(memory.clone())).collect();
            for (receiver, channel) in (0..).zip(&own) {
                channels.insert(Pair { sender, receiver }, channel.clone());
            }
            let left = (sender as usize..count).step_by(parallelism as usize).len();
            tasks.push(self.task(load, own, left)?);
        }
        let (processor, begun) = (self.processor()?, self.env.clock.monotonic());
        let mut links = LinkHandles::default();
        let metrics = Arc::new(LinkMetrics::new(channels.len()));
        let edge = OutgoingEdge {
            key: edge(),
            schema: schema(),
            address: self.address.clone(),
            channels,
            compression: ExchangeCompression::None,
            metrics,
        };
        links.start(&self.exchange, edge, reporter);
        tasks.iter().for_each(|task| task.waker().wake());
        let told = self.receiver.hear()?;
        let took = self.env.clock.monotonic().saturating_sub(begun);
        let processor = self.processor()?.saturating_sub(processor);
        let numbers: Vec<u64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [rows, came] = numbers[..] else { return Err(Error::internal(format!("it says `{told}`"))) };
        self.check(rows, count)?;
        drop((tasks, links));
        Ok(Run { took, processor, rows_per_batch: rows as f64 / came as f64 })
    }

    fn task(&self, load: Load, own: Vec<Arc<Channel>>, left: usize) -> Result<TaskHandle> {
        let way = match load {
            Load::Forward => None,
            Load::Shuffle(parallelism) => {
                Some(Route::Hash(Box::new(Partitioner::new(vec![0], KEY_GROUPS, parallelism)?)))
            }
        };
        let clock = self.env.clock.clone();
        Ok(self.pool.add(move |waker| {
            own.iter().for_each(|channel| channel.set_sender(waker.clone()));
            let count = EdgeCount { from: edge().from, to: edge().to, port: 0, sum: RowSum::default() };
            let outlets = own.into_iter().map(Outlet::new).collect();
            let made = way.is_none();
            let router = Router::new(outlets, way.unwrap_or(Route::One(0)), count);
            let (batches, sums) = (self.batches.clone(), self.sums.clone());
            Box::new(Sending { router, made, batches, sums, left, has_ended: false, clock })
        }))
    }

    fn check(&self, rows: u64, count: usize) -> Result<()> {
        let sent: usize =
            (0..count).filter_map(|i| self.batches.get(i % self.batches.len())).map(RecordBatch::num_rows).sum();
        if rows == sent as u64 { Ok(()) } else { Err(Error::internal(format!("{sent} rows were sent, {rows} came"))) }
    }
}

/// A subtask that has its rows ready.
struct Sending {
    router: Router,
    /// The sums are ready, too.
    made: bool,
    batches: Arc<Vec<RecordBatch>>,
    sums: Arc<Vec<RowSum>>,
    left: usize,
    has_ended: bool,
    clock: Arc<dyn Clock>,
}

impl Task for Sending {
    fn run(&mut self, _: Duration) -> Step {
        let end = self.clock.monotonic() + QUANTUM;
        loop {
            if !self.router.drain() {
                return Step::Wait;
            }
            if self.has_ended {
                return Step::Done;
            }
            if self.left == 0 {
                self.router.send_marker(&Element::Watermark(i64::MAX));
                self.has_ended = true;
                continue;
            }
            self.left -= 1;
            let index = self.left % self.batches.len();
            let (Some(rows), Some(sum)) = (self.batches.get(index).cloned(), self.sums.get(index)) else {
                return Step::Done;
            };
            if self.made {
                if let Some(outlet) = self.router.outlets.first_mut() {
                    outlet.send(Element::batch(rows, *sum));
                }
            } else {
                self.router.send_rows(rows).expect("these columns can be hashed");
            }
            if self.clock.monotonic() >= end {
                return Step::Again;
            }
        }
    }

    fn on_panic(&mut self, error: Error) {
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(1);
    }
}
