//! The executor node: takes control messages, runs one generation per job, reports.
//!
//! Messages are handled in order on the node's own thread, so that a commit never overtakes a deploy.
//! Every message names its token and the start id of this process; anything else is refused (P1, P2).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, Sender, unbounded};
use qanat_connectors::contract::{CommitScope, Opener, Sink};
use qanat_executor_core::control::{Control, Verdict};
use qanat_executor_core::said::Said;
use qanat_proto::control::{
    CommitPermit, CoordinatorMessage, Deployment, ExecutorMessage, FromExecutor, ToExecutor, Withdrawal,
};
use qanat_proto::exposition::Page;
use qanat_proto::ids::{Epoch, JobId, OperatorId, StartId, SubtaskId, Token};
use qanat_proto::manifest::{Manifest, PreparedHandle, SinkChannel};
use qanat_proto::rpc::cluster::JobFigures;
use qanat_proto::trace::TraceParent;
use qanat_proto::{Code, Error, Place, Result, limits};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::env::thread::{self, JoinHandle};
use qanat_storage::env::{Clock, Env};
use tracing::Span;

use crate::deploy::{Generation, GenerationParts};
use crate::exchange::Exchange;
use crate::metrics::{Fenced, JobMetrics, figures, show_fenced, show_job};
use crate::spill::SpillRoot;
use crate::task::channel::Channel;
use crate::task::pool::Pool;
use crate::task::side::SideTables;

/// Sends messages of one generation to the coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    start: StartId,
    token: Token,
    outbox: Sender<FromExecutor>,
    failed: Arc<AtomicBool>,
    said: Arc<Mutex<Said>>,
    /// What log lines of the generation stand in.
    span: Span,
}

impl Reporter {
    pub fn new(start: StartId, token: Token, outbox: Sender<FromExecutor>, span: Span) -> Self {
        Self { start, token, outbox, failed: Arc::default(), said: Arc::default(), span }
    }

    pub fn span(&self) -> &Span {
        &self.span
    }

    pub fn token(&self) -> Token {
        self.token
    }

    /// The process that reports.
    pub fn start(&self) -> StartId {
        self.start
    }

    pub fn send(&self, message: CoordinatorMessage) {
        self.said().note(&message);
        self.pass_on(message);
    }

    fn pass_on(&self, message: CoordinatorMessage) {
        // The coordinator may be gone while the process ends.
        let _ = self.outbox.send(FromExecutor { start: self.start, token: self.token, message });
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says again what was reported about an epoch.
    fn repeat_reports(&self, epoch: Epoch) {
        self.said().reports(epoch).for_each(|report| self.pass_on(report));
    }

    /// Says again that the generation stands, or why it does not.
    fn repeat_deployed(&self) {
        let deployed = self.said().deployed();
        self.pass_on(deployed);
    }

    /// Reports the first failure of the generation; what follows from it is not news.
    pub fn fail(&self, subtask: Option<SubtaskId>, error: Error) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.send(CoordinatorMessage::Failed { subtask, error });
        }
    }

    /// From now on failures are the consequence of a stop and nobody's news.
    pub fn mute(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// Threads of a generation, with the queue each one waits on.
#[derive(Clone, Default)]
pub struct LaneThreads(Arc<Mutex<Vec<(Option<Arc<Channel>>, JoinHandle<()>)>>>);

impl LaneThreads {
    pub fn add(&self, channel: Arc<Channel>, thread: JoinHandle<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Some(channel), thread));
    }

    pub fn add_source(&self, thread: JoinHandle<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((None, thread));
    }

    /// Ends all threads and waits for them.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (channel, _) in &threads {
            if let Some(channel) = channel {
                channel.close();
            }
        }
        for (_, thread) in threads {
            // A lane reports its own panics.
            drop(thread.join());
        }
    }
}

/// Opens the side tables of a job.
pub type OpenSideTables = dyn Fn(&str, JobId) -> Result<SideTables> + Send + Sync;

/// What a node is made of.
#[derive(Clone)]
pub struct NodeConfig {
    pub env: Env,
    pub opener: Arc<dyn Opener>,
    pub checkpoints: Arc<CheckpointStore>,
    pub side_tables: Arc<OpenSideTables>,
    /// Compute threads.
    pub workers: usize,
    /// None where all of a job runs in this process.
    pub exchange: Option<Exchange>,
    /// Appends a permit's rows to their topic as its owner with this token (P11). None where sinks do it.
    pub commit_log: Option<Arc<CommitLog>>,
    /// Where state goes that has no room in memory. None: all of it stays there.
    pub spill: Option<SpillRoot>,
}

/// See [`NodeConfig::commit_log`].
pub type CommitLog = dyn Fn(&CommitPermit, u64) -> Result<()> + Send + Sync;

/// A running executor. Dropping it ends every generation and waits for its threads.
pub struct Node {
    start: StartId,
    inbox: Option<Sender<ToExecutor>>,
    thread: Option<JoinHandle<()>>,
    metrics: Metrics,
    fenced: Arc<Fenced>,
    exchange: Option<Exchange>,
    clock: Arc<dyn Clock>,
    control: Arc<Mutex<Control>>,
}

/// Of each job that runs here.
type Metrics = Arc<Mutex<BTreeMap<JobId, Arc<JobMetrics>>>>;

impl Node {
    /// Starts a node that reports to `outbox`.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(start: StartId, config: NodeConfig, outbox: Sender<FromExecutor>) -> Result<Self> {
        let pool = Arc::new(Pool::new(config.workers, config.env.clock.clone())?);
        let (inbox, messages) = unbounded();
        let metrics = Metrics::default();
        let fenced = Arc::<Fenced>::default();
        let (exchange, clock) = (config.exchange.clone(), config.env.clock.clone());
        let control = Arc::new(Mutex::new(Control::new(start)));
        let log = match &config.commit_log {
            Some(commit) => Some(LogCommitter::start(start, commit.clone(), outbox.clone(), fenced.clone())?),
            None => None,
        };
        let worker = Worker {
            start,
            config,
            pool,
            outbox,
            metrics: metrics.clone(),
            fenced: fenced.clone(),
            generations: BTreeMap::new(),
            control: control.clone(),
            log,
        };
        let thread = thread::spawn("executor", move || worker.run(&messages))
            .map_err(|e| Error::io("start the executor thread", &e))?;
        Ok(Self { start, inbox: Some(inbox), thread: Some(thread), metrics, fenced, exchange, clock, control })
    }

    pub fn send(&self, message: ToExecutor) {
        if let Some(inbox) = &self.inbox {
            // The worker ends only when the inbox closes.
            let _ = inbox.send(message);
        }
    }

    /// Which start of the process this is.
    pub fn start_id(&self) -> StartId {
        self.start
    }

    /// The newest generation of each job that was deployed here, ended ones too.
    pub fn holds(&self) -> Vec<Token> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).built().collect()
    }

    pub fn metrics(&self, job: JobId) -> Option<Arc<JobMetrics>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    /// Those of all jobs that run here.
    pub fn all_metrics(&self) -> Vec<(JobId, Arc<JobMetrics>)> {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.iter().map(|(job, metrics)| (*job, metrics.clone())).collect()
    }

    /// What it says of its jobs on a heartbeat.
    pub fn figures(&self) -> Vec<JobFigures> {
        let now = self.clock.monotonic();
        let metrics = self.all_metrics().into_iter().take(limits::HEARTBEAT_JOBS_MAX);
        metrics.map(|(_, job)| figures(job.token, &job, now)).collect()
    }

    /// Shows what this node counts.
    pub fn show(&self, page: &mut Page) {
        let (now, now_ms) = (self.clock.monotonic(), self.clock.now_ms());
        for (_, job) in self.all_metrics() {
            show_job(page, &job, now, now_ms);
        }
        show_fenced(page, &self.fenced, self.exchange.as_ref().map_or(0, |exchange| exchange.incoming.fenced()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Worker {
    start: StartId,
    config: NodeConfig,
    pool: Arc<Pool>,
    outbox: Sender<FromExecutor>,
    metrics: Metrics,
    fenced: Arc<Fenced>,
    generations: BTreeMap<JobId, Running>,
    control: Arc<Mutex<Control>>,
    log: Option<LogCommitter>,
}

struct Running {
    generation: Generation,
    committer: Committer,
    reporter: Reporter,
}

impl Worker {
    fn run(mut self, messages: &Receiver<ToExecutor>) {
        for message in thread::messages(messages) {
            self.handle(message);
        }
        for (_, running) in std::mem::take(&mut self.generations) {
            running.end();
        }
    }

    fn handle(&mut self, to: ToExecutor) {
        let verdict = self.control().take(&to);
        let ToExecutor { token, message, .. } = to;
        match (verdict, message) {
            (Verdict::Fenced, _) => self.fenced.refuse_control(),
            (Verdict::Unknown, _) => {}
            (Verdict::Append, ExecutorMessage::CommitLog { topic, permit, owner }) => {
                if let Some(log) = &self.log {
                    log.send(topic, permit, owner);
                }
            }
            (Verdict::Build, ExecutorMessage::Deploy(deployment)) => self.deploy(token, &deployment),
            (Verdict::Stands, _) => {
                if let Some(running) = self.generations.get(&token.job) {
                    running.reporter.repeat_deployed();
                }
            }
            (Verdict::HasEnded, ExecutorMessage::Deploy(deployment)) => {
                let error = Error::new(Code::ExecutorLost, "the executor has ended this generation already");
                self.reporter(token, &deployment).fail(None, error);
            }
            (Verdict::End, _) => self.end(token.job),
            (Verdict::Take | Verdict::Build | Verdict::HasEnded | Verdict::Append, message) => {
                self.pass_on(token, message);
            }
        }
    }

    /// Something for the generation that the job has here.
    fn pass_on(&mut self, token: Token, message: ExecutorMessage) {
        let Some(running) = self.generations.get_mut(&token.job) else { return };
        match message {
            ExecutorMessage::Start => running.generation.start(),
            ExecutorMessage::Trigger { epoch } => {
                running.generation.trigger(epoch);
                running.reporter.repeat_reports(epoch);
            }
            ExecutorMessage::Commit(permit) => running.committer.send(Work::Commit(permit)),
            ExecutorMessage::Withdraw(withdrawals) => running.committer.send(Work::Withdraw(withdrawals)),
            ExecutorMessage::AbortLower { keep } => running.committer.send(Work::Abort(keep)),
            ExecutorMessage::Deploy(_) | ExecutorMessage::CommitLog { .. } | ExecutorMessage::Stop => {}
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&mut self, job: JobId) {
        if let Some(running) = self.generations.remove(&job) {
            self.metrics.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
            running.end();
        }
    }

    fn reporter(&self, token: Token, deployment: &Deployment) -> Reporter {
        let trace_id = deployment.trace.as_ref().map(TraceParent::trace_id);
        let (job, generation) = (deployment.job_name.as_str(), token.generation.0);
        // As important as the most important of its lines.
        let span = tracing::error_span!("generation", job, id = %token.job.short(), generation, trace_id);
        Reporter::new(self.start, token, self.outbox.clone(), span)
    }

    fn deploy(&mut self, token: Token, deployment: &Deployment) {
        let reporter = self.reporter(token, deployment);
        let span = reporter.span().clone();
        let _inside = span.enter();
        self.end(token.job);
        let (epoch, parallelism) = (deployment.restore.epoch.0, deployment.parallelism);
        tracing::info!(epoch, parallelism, "deploys from an epoch on");
        match self.build(&reporter, deployment) {
            Ok(running) => {
                failpoint("deploy.built");
                self.metrics
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(token.job, running.generation.metrics());
                self.generations.insert(token.job, running);
                reporter.send(CoordinatorMessage::Deployed);
            }
            Err(error) => {
                self.control().ended(token);
                reporter.fail(None, error);
            }
        }
    }

    fn build(&self, reporter: &Reporter, deployment: &Deployment) -> Result<Running> {
        let parts = GenerationParts {
            config: &self.config,
            pool: &self.pool,
            reporter,
            deployment,
            side: (self.config.side_tables)(&deployment.job_name, reporter.token().job)?,
        };
        let generation = parts.build()?;
        let committer = Committer::start(reporter.clone(), generation.sinks(), self.fenced.clone())?;
        Ok(Running { generation, committer, reporter: reporter.clone() })
    }
}

impl Running {
    fn end(self) {
        self.reporter.mute();
        self.generation.stop();
        self.committer.stop();
        self.reporter.send(CoordinatorMessage::Stopped);
    }
}

enum Work {
    Commit(CommitPermit),
    Abort(Vec<PreparedHandle>),
    Withdraw(Vec<Withdrawal>),
}

/// Commits on a thread of its own: a slow sink delays its own commit and nothing else.
struct Committer {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    stop: Sender<()>,
}

impl Committer {
    fn start(reporter: Reporter, sinks: CommitTargets, fenced: Arc<Fenced>) -> Result<Self> {
        let (work, queue) = unbounded::<Work>();
        let (stop, stopped) = unbounded::<()>();
        let name = "commit".to_owned();
        let thread = crate::task::lane::spawn(name, reporter.clone(), move || {
            for item in thread::messages(&queue) {
                match item {
                    Work::Commit(permit) => {
                        if !commit_until_done(&reporter, &sinks, &permit, &stopped, &fenced) {
                            return Ok(());
                        }
                    }
                    Work::Withdraw(withdrawals) => {
                        failpoint("withdraw.start");
                        sinks.withdraw(reporter.token().job, &withdrawals)?;
                        failpoint("withdraw.done");
                        reporter.send(CoordinatorMessage::Withdrawn);
                    }
                    Work::Abort(keep) => {
                        sinks.abort_lower(reporter.token(), &keep)?;
                        failpoint("abort.done");
                        reporter.send(CoordinatorMessage::Aborted);
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), stop })
    }

    fn send(&self, item: Work) {
        if let Some(work) = &self.work {
            let _ = work.send(item);
        }
    }

    fn stop(mut self) {
        let _ = self.stop.send(());
        self.work = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The owner of topics: appends for all jobs, on a thread of its own.
struct LogCommitter {
    work: Option<Sender<(String, CommitPermit, u64)>>,
    thread: Option<JoinHandle<()>>,
}

impl LogCommitter {
    fn start(
        start: StartId,
        commit: Arc<CommitLog>,
        outbox: Sender<FromExecutor>,
        fenced: Arc<Fenced>,
    ) -> Result<Self> {
        let (work, queue) = unbounded::<(String, CommitPermit, u64)>();
        let run = move || {
            for (topic, permit, owner) in thread::messages(&queue) {
                let (epoch, manifest_key) = (permit.epoch, permit.manifest_key.clone());
                // A panic is a failure like others: whoever waits for the commit hears of it.
                let done = catch_unwind(AssertUnwindSafe(|| commit(&permit, owner)));
                let message = match done.unwrap_or_else(|_| Err(Error::internal("a commit panicked"))) {
                    Ok(()) => CoordinatorMessage::LogCommitted { topic, epoch, manifest_key },
                    // Another owner does it.
                    Err(error) if error.code() == Code::Fenced => {
                        fenced.refuse_log();
                        tracing::info!(%error, topic, "another executor owns the topic");
                        continue;
                    }
                    // The generation that the job opens then replays it.
                    Err(error) => CoordinatorMessage::Failed { subtask: None, error },
                };
                let _ = outbox.send(FromExecutor { start, token: permit.token, message });
            }
        };
        let thread = thread::spawn("log-commit", run).map_err(|e| Error::io("start the log's thread", &e))?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    fn send(&self, topic: String, permit: CommitPermit, owner: u64) {
        if let Some(work) = &self.work {
            let _ = work.send((topic, permit, owner));
        }
    }
}

impl Drop for LogCommitter {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Attempts at a commit within one generation: about three seconds.
const COMMIT_ATTEMPTS: u32 = 6;

/// A claimed epoch is never given up (P7, P8): retries with growing pauses until it is committed, the
/// generation is stopped, or the failure lasts; then the generation fails and the next one replays the
/// commit. False if it is not committed.
fn commit_until_done(
    reporter: &Reporter,
    sinks: &CommitTargets,
    permit: &CommitPermit,
    stopped: &Receiver<()>,
    fenced: &Fenced,
) -> bool {
    let mut pause = std::time::Duration::from_millis(50);
    for attempt in 1.. {
        failpoint("commit.start");
        match sinks.commit(permit) {
            Ok(()) => {
                failpoint("commit.done");
                tracing::info!(epoch = permit.epoch.0, "committed");
                reporter.send(CoordinatorMessage::Committed {
                    epoch: permit.epoch,
                    manifest_key: permit.manifest_key.clone(),
                });
                return true;
            }
            Err(error) => {
                if error.code() == Code::Fenced {
                    fenced.refuse_log();
                }
                tracing::warn!(epoch = permit.epoch.0, %error, "could not commit an epoch yet");
                // An fsync that failed is never retried on the same handle. Any other failure that lasts is
                // reported: the next generation replays the commit, and the user hears of it.
                if error.code() == qanat_proto::Code::FsyncFailed || attempt >= COMMIT_ATTEMPTS {
                    reporter.fail(None, error);
                    return false;
                }
            }
        }
        match thread::recv_timeout(stopped, pause) {
            Err(crossbeam::channel::RecvTimeoutError::Timeout) => {}
            _ => return false,
        }
        pause *= 2;
    }
    false
}

/// Everything a permit may name.
pub struct CommitTargets {
    /// Sinks of sink operators.
    pub tables: BTreeMap<OperatorId, Arc<dyn Sink>>,
    pub side: SideTables,
}

impl CommitTargets {
    fn commit(&self, permit: &CommitPermit) -> Result<()> {
        let mut by_scope: BTreeMap<_, Vec<PreparedHandle>> = BTreeMap::new();
        for handle in &permit.handles {
            by_scope.entry((handle.subtask.operator, handle.channel)).or_default().push(handle.clone());
        }
        for ((operator, channel), handles) in by_scope {
            let sink = match self.side.sink(channel) {
                Some(sink) => sink,
                None => self
                    .tables
                    .get(&operator)
                    .ok_or_else(|| Error::internal(format!("a permit names operator {operator}, which has no sink")))?,
            };
            sink.commit(CommitScope { operator, channel }, permit, &handles)?;
            failpoint("commit.sink");
        }
        Ok(())
    }

    /// Takes withdrawn epochs back, in the order they were decided on. Readers of side tables skip them.
    fn withdraw(&self, job: JobId, withdrawals: &[Withdrawal]) -> Result<()> {
        for withdrawal in withdrawals {
            for (operator, sink) in &self.tables {
                let scope = CommitScope { operator: *operator, channel: SinkChannel::Table };
                sink.withdraw(scope, job, withdrawal)?;
                failpoint("withdraw.sink");
            }
        }
        Ok(())
    }

    fn abort_lower(&self, token: Token, keep: &[PreparedHandle]) -> Result<()> {
        self.all().try_for_each(|(scope, sink)| sink.abort_lower(scope, token, keep))
    }

    /// No sink may hold an epoch that is younger than the last claim, withdrawn ones excepted: that claim was durable
    /// before its commit began, so whoever restores an older one has lost the end of its log. To go on would write
    /// those epochs again.
    ///
    /// # Errors
    /// E0304 if a sink does.
    pub fn refuse_lost_claims(&self, job: JobId, restore: Epoch) -> Result<()> {
        for (scope, sink) in self.all() {
            if let Some(epoch) = sink.newest_commit(scope, job)?.filter(|epoch| *epoch > restore) {
                let message = format!(
                    "the command log of job {} ends with epoch {restore}, and a sink holds epoch {epoch}",
                    job.short()
                );
                return Err(Error::new(Code::CorruptLog, message)
                    .hint("the log has lost its end: bring it back from a copy, or fill an empty sink anew under another --name"));
            }
        }
        Ok(())
    }

    /// A table whose sinks remember what was committed must know of it, once rows of epochs before the
    /// restore point are: their commits were done before it was claimed. To go on with a sink that lost
    /// them would make a part look like the whole.
    ///
    /// # Errors
    /// E0304 if a table lost all of them.
    pub fn refuse_lost_rows(&self, restore: &Manifest) -> Result<()> {
        let tables = restore.graph.sinks().map(|(operator, node)| (node.table.name.as_str(), operator.id));
        let mut operators: BTreeMap<&str, Vec<OperatorId>> = BTreeMap::new();
        tables.for_each(|(table, operator)| operators.entry(table).or_default().push(operator));
        for (table, operators) in operators {
            let newest = restore.receipt.sinks.iter().filter(|sink| sink.table == table).flat_map(|sink| &sink.objects);
            let newest: u64 = newest.map(|object| object.sum.rows).sum();
            let committed = restore.totals.sinks.get(table).map_or(0, |sum| sum.rows).saturating_sub(newest);
            if committed == 0 {
                continue;
            }
            let mut is_lost = true;
            for operator in operators {
                let Some(sink) = self.tables.get(&operator) else { continue };
                let scope = CommitScope { operator, channel: SinkChannel::Table };
                is_lost &= sink.remembers_commits() && sink.newest_commit(scope, restore.job)?.is_none();
            }
            if is_lost {
                let message =
                    format!("{committed} rows of job {} were committed, and the sink holds none", restore.job.short());
                return Err(Error::new(Code::CorruptLog, message).at(Place::Named(table.to_owned())).hint(
                    "bring its folder or topic back (a relative path is looked up in the working directory), \
                         or fill it anew under another --name",
                ));
            }
        }
        Ok(())
    }

    /// Every sink there is. All side rows of a job share one table per channel, whatever operator staged them.
    fn all(&self) -> impl Iterator<Item = (CommitScope, &Arc<dyn Sink>)> {
        let scope = |operator, channel| CommitScope { operator, channel };
        let tables = self.tables.iter().map(move |(operator, sink)| (scope(*operator, SinkChannel::Table), sink));
        let side = [(SinkChannel::Late, &self.side.late), (SinkChannel::DeadLetters, &self.side.dead_letters)];
        tables.chain(side.into_iter().map(move |(channel, sink)| (scope(OperatorId(0), channel), sink)))
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
