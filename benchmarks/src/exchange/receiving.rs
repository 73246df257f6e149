//! The receiving process: subtasks of the engine whose operator only counts what it is given.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use qanat_connectors::contract::{CommitScope, Sink, SinkWriter, StopFlag};
use qanat_executor::checkpoint::SnapshotWriter;
use qanat_executor::exchange::{Exchange, IncomingEdge, Pair, serve};
use qanat_executor::memory::JobMemory;
use qanat_executor::metrics::SubtaskMetrics;
use qanat_executor::node::LaneThreads;
use qanat_executor::operator::{Operator, Output};
use qanat_executor::task::chain::{Chain, ChainContext, Node, Stage};
use qanat_executor::task::channel::Channel;
use qanat_executor::task::pool::{Pool, TaskHandle};
use qanat_executor::task::side::{SideLanes, SideTables};
use qanat_executor::task::subtask::{Input, Opening, SubtaskTask};
use qanat_proto::control::{CommitPermit, EdgeCount};
use qanat_proto::ids::{Epoch, JobId, KeyGroupRange, StartId, SubtaskId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::receipt::{OperatorCounts, RowSum};
use qanat_proto::{Error, Result};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::Env;
use qanat_storage::env::sim::SimEnv;
use qanat_storage::object::Objects;

use super::{KEY_GROUPS, SENDING, bare, edge, exchange, reporter, row_threads, runtime, schema};

/// What has come in one run.
struct Counted {
    rows: AtomicU64,
    batches: AtomicU64,
    /// Subtasks whose input has not ended.
    open: AtomicUsize,
    ended: crossbeam::channel::Sender<()>,
}

struct Counting(Arc<Counted>);

impl Operator for Counting {
    fn process(&mut self, _: usize, rows: RecordBatch, _: &mut Output) -> Result<()> {
        self.0.rows.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _: &mut Output) -> Result<i64> {
        if watermark == i64::MAX && self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.0.ended.send(());
        }
        Ok(watermark)
    }

    fn take_counts(&mut self) -> OperatorCounts {
        OperatorCounts::default()
    }
}

/// No row is late or dead here.
struct Nowhere;

impl Sink for Nowhere {
    fn writer(&self, _: SubtaskId, _: Token) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("no row comes here"))
    }

    fn commit(&self, _: CommitScope, _: &CommitPermit, _: &[PreparedHandle]) -> Result<()> {
        Ok(())
    }

    fn abort_lower(&self, _: CommitScope, _: Token, _: &[PreparedHandle]) -> Result<()> {
        Ok(())
    }

    fn newest_commit(&self, _: CommitScope, _: JobId) -> Result<Option<Epoch>> {
        Ok(None)
    }
}

/// Serves until its input ends: says where, then takes lines `RUN SENDERS RECEIVERS` and answers `ready`, and
/// `ROWS BATCHES` when all has come.
///
/// # Errors
/// What keeps it from serving.
pub fn receive() -> Result<()> {
    let io = |e: std::io::Error| Error::io("talk to the sending process", &e);
    let runtime = runtime()?;
    let rows = row_threads()?;
    let exchange = exchange(&rows, StartId(2));
    let listen = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let (ours, bare_listener) = (listen().map_err(io)?, listen().map_err(io)?);
    let (ours_at, bare_at) = (ours.local_addr().map_err(io)?, bare_listener.local_addr().map_err(io)?);
    runtime.spawn(serve(exchange.clone(), ours, None, None));
    runtime.spawn(bare::serve(bare_listener));
    let env = Env::real();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let pool = Pool::new(workers, env.clock.clone())?;
    let say = |text: String| {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(io)
    };
    say(format!("{ours_at} {bare_at}"))?;
    // A run's links are for the sending process to end: what is open here stays so until the next run begins.
    let mut last = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(io)?;
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [run, senders, receivers] = numbers[..] else {
            return Err(Error::internal(format!("`{line}` is no run")));
        };
        let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let open = last.insert(Open::new(&env, &exchange, &pool, run, small(senders), small(receivers))?);
        say("ready".to_owned())?;
        open.ended.recv().map_err(|_| Error::internal("the run has no end"))?;
        let [rows, batches] = [&open.counted.rows, &open.counted.batches].map(|n| n.load(Ordering::Acquire));
        say(format!("{rows} {batches}"))?;
    }
    Ok(())
}

/// The receiving end of one run.
struct Open {
    counted: Arc<Counted>,
    ended: crossbeam::channel::Receiver<()>,
    _tasks: Vec<TaskHandle>,
    _opening: qanat_executor::exchange::Opening,
}

impl Open {
    fn new(env: &Env, exchange: &Exchange, pool: &Pool, run: u64, senders: u32, receivers: u32) -> Result<Self> {
        let (ends, ended) = crossbeam::channel::unbounded();
        let counted = Arc::new(Counted {
            rows: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            open: AtomicUsize::new(receivers as usize),
            ended: ends,
        });
        let memory = Arc::new(JobMemory::new(8 << 30));
        let reporter = reporter(exchange.start, run);
        let threads = LaneThreads::default();
        // Nothing is ever saved.
        let SimEnv { env: simulated, .. } = Env::sim(1);
        let store = CheckpointStore::new(Objects::in_directory(&simulated, Path::new("/checkpoints"))?);
        let snapshots =
            SnapshotWriter::start(Arc::new(store), reporter.clone(), memory.clone(), &threads, &StopFlag::default())?;
        let (mut channels, mut tasks) = (BTreeMap::new(), Vec::new());
        for receiver in 0..receivers {
            let inputs: Vec<Arc<Channel>> = (0..senders).map(|_| Channel::new(memory.clone())).collect();
            for (sender, channel) in (0..).zip(&inputs) {
                channels.insert(Pair { sender, receiver }, (SENDING, channel.clone()));
            }
            let task = pool.add(|waker| {
                inputs.iter().for_each(|channel| channel.set_receiver(waker.clone()));
                let context = ChainContext {
                    index: receiver,
                    key_groups: KeyGroupRange::of_subtask(KEY_GROUPS, receivers, receiver),
                    reporter: reporter.clone(),
                    memory: memory.clone(),
                    metrics: Arc::new(SubtaskMetrics::new("count", edge().to, receiver, env.clock.monotonic())),
                    snapshots: snapshots.clone(),
                    env: env.clone(),
                };
                let node = Node {
                    id: edge().to,
                    name: "count".to_owned(),
                    stage: Stage::Operator(Box::new(Counting(counted.clone()))),
                    children: Vec::new(),
                    routers: Vec::new(),
                    files: None,
                    spill: None,
                    refresh: None,
                    watermark: i64::MIN,
                    restored: i64::MIN,
                    counts: OperatorCounts::default(),
                    state_bytes: 0,
                    tap: Arc::default(),
                };
                let nowhere = SideTables { late: Arc::new(Nowhere), dead_letters: Arc::new(Nowhere) };
                let side = SideLanes::new(
                    nowhere,
                    edge().to,
                    receiver,
                    reporter.clone(),
                    memory.clone(),
                    threads.clone(),
                    waker,
                );
                let chain = Chain::new(context, vec![node], side, Epoch(1));
                let inputs = inputs.into_iter().map(|channel| Input { channel, port: 0, edge: 0 }).collect();
                let count = EdgeCount { from: edge().from, to: edge().to, port: 0, sum: RowSum::default() };
                let opening = Opening::At(i64::MIN);
                Box::new(SubtaskTask::new(chain, inputs, vec![count], Epoch(0), opening, env.clock.clone()))
            });
            task.waker().wake();
            tasks.push(task);
        }
        let edges = [(edge(), IncomingEdge { schema: schema(), channels })].into();
        let opening = exchange.incoming.open(edges, reporter);
        Ok(Self { counted, ended, _tasks: tasks, _opening: opening })
    }
}
