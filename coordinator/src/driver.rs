//! The leader loop: take an event, step the job's driver, make its commands durable, apply them, and
//! only then perform what follows from them.
//!
//! One thread owns the state. Manifests are read and written on a second one, so that a slow disk
//! delays the epoch it holds and nothing else; what is retired is collected on a third, because that lists the whole
//! store, and no epoch waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use qanat_coordinator_core::audit::Caller;
use qanat_coordinator_core::command::{Command, Outcome, RunWith};
use qanat_coordinator_core::job::{Input, JobDriver, Output};
use qanat_coordinator_core::placement::next_log_owner;
use qanat_coordinator_core::state::{Job, JobStatus, State};
use qanat_coordinator_core::{Executor, Refusal};
use qanat_proto::control::{ExecutorMessage, FromExecutor, ToExecutor};
use qanat_proto::ids::{JobId, StartId, Token};
use qanat_proto::manifest::Manifest;
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error, Result, limits};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::Env;
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::env::thread::{self, JoinHandle};
use tokio::sync::Notify;

use crate::caller;
use crate::decisions;
use crate::metrics::CoordinatorMetrics;
use crate::nodes::{NodeEvent, Nodes};
use crate::raft::{Decision, Leadership, Member};
use crate::store_thread::{StoreThread, StoreWork};

/// Reaches an executor.
pub trait ExecutorLink: Send {
    fn send(&self, message: ToExecutor);
}

/// What a coordinator is made of.
pub struct CoordinatorConfig {
    pub env: Env,
    /// The group that decides.
    pub member: Arc<Member>,
    pub checkpoints: Arc<CheckpointStore>,
    pub executors: Executors,
    /// Messages from executors.
    pub inbox: Receiver<FromExecutor>,
}

/// Who runs the jobs.
pub enum Executors {
    /// One in the same process; jobs run when they are asked to ([`Coordinator::run`]).
    Own { start: StartId, link: Box<dyn ExecutorLink> },
    /// Those that attach. While this coordinator leads, every job that has not ended runs.
    Attached { nodes: Arc<Nodes>, events: Receiver<NodeEvent> },
}

/// A job to create: its epoch 0 says where it starts (P9).
#[derive(Clone, Debug)]
pub struct NewJob {
    pub script_digest: String,
    pub epoch_zero: Manifest,
    /// What it runs with by itself; None if it waits for [`Coordinator::run`].
    pub run_with: Option<RunWith>,
}

/// Jobs that are made together.
pub(crate) struct NewJobs {
    pub(crate) jobs: Vec<NewJob>,
    /// Of a script of a cluster.
    pub(crate) group: Option<String>,
}

/// What subscribers are told.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// An epoch's commit is recorded.
    Committed(Box<Manifest>),
    /// A generation failed; the job restarts unless it ended.
    GenerationFailed(Error),
    /// A commit takes long (P8).
    CommitSlow(Error),
    /// The same failure again and again: the job goes on trying, and whoever waits for it may give up.
    Stuck(Error),
    Ended(JobStatus),
}

/// What it is asked for.
pub(crate) enum Request {
    Submit { jobs: NewJobs, reply: Sender<Result<()>> },
    Run { job: JobId, parallelism: u32, settings: Box<JobSettings>, reply: Sender<Result<()>> },
    Subscribe { job: JobId, events: Sender<JobEvent> },
    Decide { command: Box<Command>, reply: Sender<Result<Decision>> },
    State { reply: Sender<State> },
    Shutdown,
}

/// What the loop hears.
pub(crate) enum Event {
    Request(Request),
    /// By somebody who waits, and whom the audit log names.
    Asked(Option<Caller>, Request),
    Input(JobId, Input),
    Node(NodeEvent),
    Leadership(Leadership),
    /// Epoch 0 of a new job is durable.
    Create {
        command: Box<Command>,
        caller: Option<Caller>,
        reply: Sender<Result<()>>,
    },
}

/// Handle of a running coordinator. Dropping it ends the loop; jobs keep what is claimed.
pub struct Coordinator {
    events: Sender<Event>,
    /// With their names.
    threads: Vec<(&'static str, JoinHandle<()>)>,
    metrics: Arc<CoordinatorMetrics>,
}

impl Coordinator {
    /// Starts the loop.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(config: CoordinatorConfig) -> Result<Self> {
        let (events, queue) = unbounded();
        let (store_work, store_queue) = unbounded();
        let metrics = Arc::<CoordinatorMetrics>::default();
        let mut coordinator = Self { events: events.clone(), threads: Vec::new(), metrics: metrics.clone() };
        let CoordinatorConfig { env, member, checkpoints, executors, inbox } = config;
        let (collect_work, collect_queue) = unbounded();
        let store = StoreThread { checkpoints, events: events.clone() };
        let collector = store.clone();
        coordinator.spawn("checkpoint", move || store.run(&store_queue))?;
        coordinator.spawn("collect", move || collector.collect_newest(&collect_queue))?;
        let forward = events.clone();
        coordinator.spawn("inbox", move || {
            for message in thread::messages(&inbox) {
                if forward.send(Event::Input(message.token.job, Input::FromExecutor(message))).is_err() {
                    return;
                }
            }
        })?;
        let who_leads = Arc::<Notify>::default();
        let (own, link, nodes): (_, Box<dyn ExecutorLink>, _) = match executors {
            Executors::Own { start, link } => (Some(start), link, None),
            Executors::Attached { nodes, events: heard } => {
                let forward = events.clone();
                coordinator.spawn("nodes", move || {
                    for event in thread::messages(&heard) {
                        if forward.send(Event::Node(event)).is_err() {
                            return;
                        }
                    }
                })?;
                let (forward, entrance) = (events.clone(), nodes.clone());
                let changed = move |leadership| {
                    // Not behind the loop, which may wait for a majority: the next leader has to meet the executors
                    // before it gives them up.
                    if matches!(leadership, Leadership::Following { .. }) {
                        entrance.follow();
                    }
                    forward.send(Event::Leadership(leadership)).is_ok()
                };
                member.runtime().spawn(member.clone().watch_leadership(who_leads.clone(), changed));
                (None, Box::new(nodes.clone()), Some(nodes))
            }
        };
        let mut leader = Leader {
            env,
            member,
            own,
            nodes,
            link,
            who_leads,
            store: Some(store_work),
            collector: Some(collect_work),
            term: None,
            attempts: 0,
            sweep_ms: 0,
            drivers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            metrics,
            broken: None,
        };
        coordinator.spawn("coordinator", move || leader.run(&queue))?;
        Ok(coordinator)
    }

    fn spawn(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = thread::spawn(name, work).map_err(|e| Error::io("start a coordinator thread", &e))?;
        self.threads.push((name, thread));
        Ok(())
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<CoordinatorMetrics> {
        &self.metrics
    }

    /// Records a job durably. It runs after [`Coordinator::run`].
    ///
    /// # Errors
    /// If its manifest or the command cannot be made durable, or an active job has its name.
    pub fn submit(&self, job: NewJob) -> Result<()> {
        self.ask(|reply| Request::Submit { jobs: NewJobs { jobs: vec![job], group: None }, reply })?
    }

    /// Records all jobs of a script durably, or none.
    ///
    /// # Errors
    /// As [`Coordinator::submit`].
    pub fn submit_group(&self, group: String, jobs: Vec<NewJob>) -> Result<()> {
        self.ask(|reply| Request::Submit { jobs: NewJobs { jobs, group: Some(group) }, reply })?
    }

    /// Runs a created, stopped or interrupted job with `parallelism` subtasks per operator.
    ///
    /// # Errors
    /// E0309 for a job that does not exist; E0501 for one that has ended for good.
    pub fn run(&self, job: JobId, parallelism: u32, settings: JobSettings) -> Result<()> {
        self.ask(|reply| Request::Run { job, parallelism, settings: Box::new(settings), reply })?
    }

    /// Has the group decide on a command, and the job that it is about act on it.
    ///
    /// # Errors
    /// E0601 and E0602 if this coordinator cannot decide.
    pub fn decide(&self, command: Command) -> Result<Decision> {
        self.ask(|reply| Request::Decide { command: Box::new(command), reply })?
    }

    /// Asks for a stop with a last checkpoint, and does not wait for the decision.
    pub fn stop(&self, job: JobId) {
        let (reply, _) = bounded(1);
        let command = Box::new(Command::StopWithSavepoint { job });
        let _ = self.events.send(Event::Request(Request::Decide { command, reply }));
    }

    /// Events of a job from now on.
    pub fn subscribe(&self, job: JobId) -> Receiver<JobEvent> {
        let (events, receiver) = unbounded();
        let _ = self.events.send(Event::Request(Request::Subscribe { job, events }));
        receiver
    }

    /// A copy of the state.
    ///
    /// # Errors
    /// E0503 if the loop has ended.
    pub fn state(&self) -> Result<State> {
        self.ask(|reply| Request::State { reply })
    }

    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T> {
        let (reply, answer) = bounded(1);
        let ended = || Error::internal("the coordinator has ended");
        self.events.send(Event::Asked(caller::current(), request(reply))).map_err(|_| ended())?;
        thread::recv(&answer).map_err(|_| ended())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Request(Request::Shutdown));
        // These end when the last executor is gone; they are not waited for.
        for (_, thread) in self.threads.drain(..).filter(|(name, _)| !matches!(*name, "inbox" | "nodes")) {
            drop(thread.join());
        }
    }
}

/// Between two sweeps of a loop that has more to do.
const SWEEP_EVERY_MS: u64 = 1_000;

struct Leader {
    env: Env,
    member: Arc<Member>,
    /// The executor in this process, or those that attach.
    own: Option<StartId>,
    nodes: Option<Arc<Nodes>>,
    link: Box<dyn ExecutorLink>,
    /// Has the present leadership told again.
    who_leads: Arc<Notify>,
    /// The term in which it leads a group of several processes.
    term: Option<u64>,
    /// Manifests written by this process: each has a name of its own.
    attempts: u64,
    /// When it sweeps next, on the monotonic clock.
    sweep_ms: u64,
    store: Option<Sender<StoreWork>>,
    /// What is to be kept and what may go, as of now.
    collector: Option<Sender<BTreeMap<JobId, Job>>>,
    drivers: BTreeMap<JobId, JobDriver>,
    subscribers: BTreeMap<JobId, Vec<Sender<JobEvent>>>,
    metrics: Arc<CoordinatorMetrics>,
    /// The command log cannot be written: nothing can be decided any more.
    broken: Option<Error>,
}

impl Leader {
    fn run(&mut self, events: &Receiver<Event>) {
        loop {
            let now = self.now_ms();
            if now >= self.sweep_ms {
                self.sweep_ms = now + SWEEP_EVERY_MS;
                self.sweep();
            }
            let wake = self.drivers.values().filter_map(JobDriver::wake_at).min();
            let expiry = self.nodes.as_ref().and_then(|nodes| nodes.next_expiry());
            let expiry = expiry.map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX).saturating_add(1));
            let wake = wake.into_iter().chain(expiry).min();
            let at = wake.map_or(self.sweep_ms, |at| at.min(self.sweep_ms));
            let wait = Duration::from_millis(at.saturating_sub(now));
            match thread::recv_timeout(events, wait) {
                Ok(Event::Request(Request::Shutdown)) | Err(RecvTimeoutError::Disconnected) => {
                    (self.store, self.collector) = (None, None);
                    return;
                }
                Ok(Event::Request(request)) => self.request(request),
                Ok(Event::Asked(by, request)) => caller::with(by, || self.request(request)),
                Ok(Event::Input(job, input)) => self.step(job, input),
                Ok(Event::Node(event)) => self.on_node(&event),
                Ok(Event::Leadership(leadership)) => self.on_leadership(&leadership),
                Ok(Event::Create { command, caller, reply }) => {
                    // The reply comes when the command is applied: never before it is durable (I10).
                    let _ = reply.send(caller::with(caller, || self.create(&command)));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(nodes) = &self.nodes {
                        nodes.expire();
                    }
                    let jobs: Vec<_> = self.drivers.keys().copied().collect();
                    jobs.into_iter().for_each(|job| self.step(job, Input::Tick));
                }
            }
        }
    }

    /// What becomes due without anybody's word.
    fn sweep(&self) {
        if let Some(nodes) = &self.nodes {
            nodes.expire();
            // Also what was decided after whoever asked for it had given up.
            nodes.set_draining(self.member.state(|state| state.draining.clone()));
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.env.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    fn on_leadership(&mut self, leadership: &Leadership) {
        let Some(nodes) = self.nodes.clone() else { return };
        match leadership {
            // Also in the term in which it leads already: then something was not decided here, and may have been since.
            Leadership::Leading { term } => {
                tracing::info!(term, "this coordinator leads");
                self.term = Some(*term);
                let (running, expected) = self.member.state(|state| {
                    let jobs = state.jobs.iter().filter(|(_, job)| !job.status.is_ended());
                    (jobs.map(|(id, _)| *id).collect::<Vec<_>>(), state.expected())
                });
                nodes.set_draining(self.member.state(|state| state.draining.clone()));
                nodes.lead(expected);
                running.into_iter().for_each(|job| self.drive(job));
                // What an earlier leader did not come to.
                if self.member.state(|state| state.jobs.values().any(|job| job.dropped)) {
                    self.collect();
                }
            }
            Leadership::Following { .. } => {
                nodes.follow();
                self.stand_down();
            }
        }
    }

    /// Forgets everything that is not in the state: whoever leads next derives it again.
    fn stand_down(&mut self) {
        self.term = None;
        self.drivers.clear();
        self.subscribers.clear();
        self.metrics.stand_down();
    }

    /// Begins to run a job of the cluster, or goes on with it.
    fn drive(&mut self, job: JobId) {
        let run_with = self.member.state(|state| state.job(job).and_then(|job| job.run_with.clone()));
        if let (Some(run_with), Some(_), Some(executors)) = (run_with, self.term, self.executors()) {
            self.drivers.insert(job, JobDriver::new(job, run_with.parallelism, run_with.settings));
            self.step(job, Input::Executors { executors, attached: None });
        }
    }

    /// Those that are there; None if they were sent away. That says nothing of them: the next word is that another one
    /// leads.
    fn executors(&self) -> Option<Vec<Executor>> {
        Some(match (&self.nodes, self.own) {
            (Some(nodes), _) => {
                let executors = nodes.executors();
                nodes.known()?;
                executors
            }
            (None, Some(start)) => {
                let node = "this process".to_owned();
                let address = String::new();
                vec![Executor { start, node, address, slots: u32::MAX, attached: true, draining: false }]
            }
            (None, None) => Vec::new(),
        })
    }

    fn on_node(&mut self, event: &NodeEvent) {
        let attached = match event {
            NodeEvent::Attached { start, holds } => {
                self.stop_leftovers(*start, holds);
                Some(*start)
            }
            NodeEvent::Lost(_) | NodeEvent::Draining(_) => None,
        };
        let Some(executors) = self.executors() else { return };
        let next = self.member.state(|state| next_log_owner(state, &executors)).filter(|_| self.term.is_some());
        if let Some(start) = next
            && self.propose(&Command::OwnLog { start }).is_err()
        {
            return;
        }
        let jobs: Vec<_> = self.drivers.keys().copied().collect();
        for job in jobs {
            self.step(job, Input::Executors { executors: executors.clone(), attached });
        }
    }

    /// Ends what an executor still holds of generations that are over: they can claim nothing any more.
    fn stop_leftovers(&self, start: StartId, holds: &[Token]) {
        for token in holds {
            let is_current = self.member.state(|state| {
                let job = state.job(token.job);
                job.is_some_and(|job| job.generation == token.generation && job.placement.contains(&start))
            });
            if !is_current {
                self.link.send(ToExecutor { start, token: *token, message: ExecutorMessage::Stop });
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Submit { jobs, reply } => {
                // The same request may come again, and to another leader, before its job is decided on.
                let attempt = if self.nodes.is_some() { self.next_attempt() } else { 0 };
                self.store(StoreWork::Submit { jobs, caller: caller::current(), reply, attempt });
            }
            Request::Run { job, parallelism, settings, reply } => {
                let result = self.run_job(job, parallelism, *settings);
                let _ = reply.send(result);
            }
            Request::Decide { command, reply } => {
                let decided = self.propose(&command);
                if let (Ok(result), Some(job)) = (&decided, command.job()) {
                    let is_done = result.is_ok();
                    let (goes_on, goes) = match *command {
                        Command::Rollback { .. } | Command::Resume { .. } => {
                            (is_done && !self.drivers.contains_key(&job), false)
                        }
                        Command::DropJob { .. } => (false, is_done),
                        _ => (false, false),
                    };
                    self.step(job, Input::Applied(*command, result.clone()));
                    if goes_on {
                        self.drive(job);
                    }
                    if goes {
                        self.collect();
                    }
                }
                let _ = reply.send(decided);
            }
            Request::Subscribe { job, events } => self.subscribers.entry(job).or_default().push(events),
            Request::State { reply } => {
                let _ = reply.send(self.member.state(State::clone));
            }
            Request::Shutdown => {}
        }
    }

    /// Closes the jobs of a name that never got anywhere: they have nothing to lose, and would keep it for ever.
    fn close_unborn(&mut self, name: &str) -> Result<()> {
        if self.nodes.is_some() {
            // A cluster runs each job that it knows. One that this leader does not run yet may just have been made.
            return Ok(());
        }
        let is_unborn = |(id, job): &(&JobId, &Job)| {
            let is_idle = !job.status.is_ended() && !self.drivers.contains_key(id);
            job.name == name && is_idle && !job.has_begun()
        };
        let unborn = |state: &State| state.jobs.iter().filter(is_unborn).map(|(id, _)| *id).collect::<Vec<_>>();
        let unborn = self.member.state(unborn);
        for job in unborn {
            let error = Error::new(Code::ForeignState, "another script took its name before it had an epoch");
            let _ = self.propose(&Command::Close { job, outcome: Outcome::Failed(error) })?;
        }
        Ok(())
    }

    fn create(&mut self, command: &Command) -> Result<()> {
        for (_, name) in command.makes() {
            self.close_unborn(name)?;
        }
        match self.propose(command)? {
            Ok(_) => {
                command.makes().into_iter().for_each(|(job, _)| self.drive(job));
                Ok(())
            }
            Err(Refusal::DuplicateJob) => Ok(()),
            Err(Refusal::NameTaken) => {
                let error = Error::new(Code::ForeignState, "an active job has this name");
                Err(error.hint("stop it, or give this one another name"))
            }
            Err(refusal @ (Refusal::TopicChanging { .. } | Refusal::RowsGo { .. })) => Err((&refusal).into()),
            Err(refusal) => Err(Error::new(Code::Usage, format!("the job was refused: {refusal}"))),
        }
    }

    fn run_job(&mut self, id: JobId, parallelism: u32, settings: JobSettings) -> Result<()> {
        let job = self.member.state(|state| state.job(id).cloned());
        let job = job.ok_or_else(|| Error::new(Code::UnknownJob, format!("no job {id}")))?;
        match &job.status {
            JobStatus::Stopped | JobStatus::Failed { .. } => {
                self.close_unborn(&job.name)?;
                self.propose(&Command::Resume { job: id })?.map_err(|refusal| Error::from(&refusal))?;
            }
            JobStatus::Finished => {
                let message = format!("job `{}` is {}", job.name, job.status.name());
                return Err(Error::new(Code::Usage, message).hint("submit it anew"));
            }
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting => {
                if job.stop_requested {
                    let _ = self.propose(&Command::Resume { job: id })?;
                }
            }
        }
        let executors = self.executors().unwrap_or_default();
        self.drivers.insert(id, JobDriver::new(id, parallelism, settings));
        self.step(id, Input::Executors { executors, attached: None });
        Ok(())
    }

    /// Has the group decide: appended, synced, applied.
    fn propose(&mut self, command: &Command) -> Result<Decision> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        match command {
            Command::Claim { .. } => failpoint("claim.propose"),
            Command::Committed { .. } => failpoint("committed.propose"),
            _ => {}
        }
        let was_closing = match command {
            Command::RecordFailure { token, .. } => {
                self.member.state(|state| state.job(token.job).is_some_and(|job| job.closing.is_some()))
            }
            _ => false,
        };
        let applied = match self.member.propose(command) {
            Ok(applied) => applied,
            Err(error) if self.nodes.is_some() => {
                // What became of it is in the state, whoever leads now. That may well be this one as before, and nobody
                // else says so then.
                tracing::warn!(%error, "a command was not decided here");
                self.stand_down();
                self.who_leads.notify_one();
                return Err(error);
            }
            Err(error) => {
                self.broken = Some(error.clone());
                return Err(error);
            }
        };
        self.metrics.decided(command, &applied, self.env.clock.monotonic());
        decisions::log(&self.member, command, &applied);
        match command {
            Command::Claim { .. } => failpoint("claim.applied"),
            Command::Committed { .. } => failpoint("committed.applied"),
            Command::Retire { .. } => failpoint("retire.applied"),
            Command::OpenGeneration { .. } => failpoint("generation.open"),
            _ => {}
        }
        if let Command::RecordFailure { error, token, .. } = command {
            self.tell(token.job, &JobEvent::GenerationFailed(error.clone()));
            // A job that this very failure closes still owes a commit, and ends by itself.
            let goes_on = |job: &&Job| !job.status.is_ended() && (was_closing || job.closing.is_none());
            let repeated = self.member.state(|state| {
                let job = state.job(token.job).filter(goes_on);
                job.and_then(|job| job.last_failure.as_ref()).map_or(0, |(_, count)| *count)
            });
            if repeated >= limits::SAME_FAILURE_MAX {
                self.tell(token.job, &JobEvent::Stuck(error.clone()));
            }
        }
        Ok(applied)
    }

    fn tell(&mut self, job: JobId, event: &JobEvent) {
        if let Some(subscribers) = self.subscribers.get_mut(&job) {
            subscribers.retain(|subscriber| subscriber.send(event.clone()).is_ok());
        }
    }

    fn step(&mut self, job: JobId, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (now, wall) = (self.now_ms(), self.env.clock.now_ms());
            self.metrics.hears(job, &input, self.env.clock.monotonic());
            let Some(driver) = self.drivers.get_mut(&job) else {
                // Of a job that has ended, perhaps a dropped one.
                if let Input::Collected(epochs) = input {
                    let _ = self.propose(&Command::Collected { job, epochs });
                }
                return;
            };
            let outputs = self.member.state(|state| driver.step(state, now, wall, input));
            for output in outputs {
                self.perform(job, output, &mut inputs);
                if !self.drivers.contains_key(&job) {
                    // Something was not decided here: what else there is to do is derived again from what was.
                    return;
                }
            }
        }
        if self.drivers.get(&job).is_some_and(JobDriver::is_ended) {
            self.drivers.remove(&job);
            self.metrics.ended(job);
            if let Some(status) = self.member.state(|state| state.job(job).map(|job| job.status.clone())) {
                self.tell(job, &JobEvent::Ended(status));
            }
        }
    }

    fn perform(&mut self, job: JobId, output: Output, inputs: &mut VecDeque<Input>) {
        self.metrics.does(job, &output, self.env.clock.monotonic());
        match output {
            Output::Propose(command) => match self.propose(&command) {
                Ok(result) => inputs.push_back(Input::Applied(command, result)),
                Err(error) => {
                    // Without its log the coordinator can decide nothing: say so and end the run. What
                    // is claimed stays claimed and is found again at the next start.
                    self.tell(job, &JobEvent::Ended(JobStatus::Failed { error }));
                }
            },
            Output::Send(message) => self.link.send(message),
            Output::ReadManifest { key, checksum } => self.store(StoreWork::Read { job, key, checksum }),
            Output::WriteManifest { epoch, manifest } => {
                let attempt = self.next_attempt();
                self.store(StoreWork::Write { job, epoch, manifest, attempt });
            }
            Output::Collect => self.collect(),
            Output::Progress(manifest) => self.tell(job, &JobEvent::Committed(manifest)),
            Output::CommitSlow(error) => self.tell(job, &JobEvent::CommitSlow(error)),
        }
    }

    fn collect(&self) {
        let jobs = self.member.state(|state| state.jobs.clone());
        if let Some(collector) = &self.collector {
            let _ = collector.send(jobs);
        }
    }

    /// No two leaders, and no two tries of one, write a manifest under one name.
    fn next_attempt(&mut self) -> u64 {
        self.attempts += 1;
        (self.term.unwrap_or(0) << ATTEMPT_BITS) | self.attempts
    }

    fn store(&self, work: StoreWork) {
        if let Some(store) = &self.store {
            let _ = store.send(work);
        }
    }
}

/// Manifests of one process, each with a number: as many as 2 to this.
const ATTEMPT_BITS: u32 = 40;

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
