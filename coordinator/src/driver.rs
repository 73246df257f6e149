//! The leader loop: take an event, step the job's driver, make its commands durable, apply them, and
//! only then perform what follows from them.
//!
//! One thread owns the state. Manifests are read and written on a second one, so that a slow disk
//! delays the epoch it holds and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use qanat_coordinator_core::Refusal;
use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::{Command, Outcome};
use qanat_coordinator_core::job::{Input, JobDriver, Output};
use qanat_coordinator_core::state::{Claimed, Job, JobStatus, State};
use qanat_proto::control::{FromExecutor, ToExecutor};
use qanat_proto::ids::{Epoch, JobId, StartId};
use qanat_proto::manifest::Manifest;
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error, Result};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::checkpoint::gc::{self, JobCheckpoints};
use qanat_storage::env::Env;
use qanat_storage::env::failpoint::failpoint;

use crate::command_log::CommandLog;

/// Reaches an executor.
pub trait ExecutorLink: Send {
    fn send(&self, message: ToExecutor);
}

/// What a coordinator is made of.
pub struct CoordinatorConfig {
    pub env: Env,
    pub log: CommandLog,
    /// State as of the end of the log.
    pub state: State,
    pub checkpoints: Arc<CheckpointStore>,
    /// The executors there are, by start id.
    pub executors: Vec<StartId>,
    pub link: Box<dyn ExecutorLink>,
    /// Messages from executors.
    pub inbox: Receiver<FromExecutor>,
}

/// A job to create: its epoch 0 says where it starts (P9).
#[derive(Clone, Debug)]
pub struct NewJob {
    pub script_digest: String,
    pub epoch_zero: Manifest,
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

enum Request {
    Submit { job: Box<NewJob>, reply: Sender<Result<()>> },
    Run { job: JobId, parallelism: u32, settings: Box<JobSettings>, reply: Sender<Result<()>> },
    Stop { job: JobId },
    Subscribe { job: JobId, events: Sender<JobEvent> },
    State { reply: Sender<State> },
    Shutdown,
}

enum Event {
    Request(Request),
    Input(JobId, Input),
    /// Epoch 0 of a new job is durable.
    Create {
        command: Box<Command>,
        reply: Sender<Result<()>>,
    },
}

/// Handle of a running coordinator. Dropping it ends the loop; jobs keep what is claimed.
pub struct Coordinator {
    events: Sender<Event>,
    threads: Vec<JoinHandle<()>>,
}

impl Coordinator {
    /// Starts the loop.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(config: CoordinatorConfig) -> Result<Self> {
        let (events, queue) = unbounded();
        let (store_work, store_queue) = unbounded();
        let mut coordinator = Self { events: events.clone(), threads: Vec::new() };
        let CoordinatorConfig { env, log, state, checkpoints, executors, link, inbox } = config;
        let store = StoreThread { checkpoints, events: events.clone() };
        coordinator.spawn("checkpoint", move || store.run(&store_queue))?;
        let forward = events;
        coordinator.spawn("inbox", move || {
            for message in inbox {
                if forward.send(Event::Input(message.token.job, Input::FromExecutor(message))).is_err() {
                    return;
                }
            }
        })?;
        let mut leader = Leader {
            env,
            log,
            state,
            executors,
            link,
            store: Some(store_work),
            drivers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            broken: None,
        };
        coordinator.spawn("coordinator", move || leader.run(&queue))?;
        Ok(coordinator)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|e| Error::io("start a coordinator thread", &e))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Records a job durably. It runs after [`Coordinator::run`].
    ///
    /// # Errors
    /// If its manifest or the command cannot be made durable, or an active job has its name.
    pub fn submit(&self, job: NewJob) -> Result<()> {
        self.ask(|reply| Request::Submit { job: Box::new(job), reply })?
    }

    /// Runs a created, stopped or interrupted job with `parallelism` subtasks per operator.
    ///
    /// # Errors
    /// E0309 for a job that does not exist; E0501 for one that has ended for good.
    pub fn run(&self, job: JobId, parallelism: u32, settings: JobSettings) -> Result<()> {
        self.ask(|reply| Request::Run { job, parallelism, settings: Box::new(settings), reply })?
    }

    /// Asks for a stop with a last checkpoint.
    pub fn stop(&self, job: JobId) {
        let _ = self.events.send(Event::Request(Request::Stop { job }));
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
        self.events.send(Event::Request(request(reply))).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Request(Request::Shutdown));
        // The inbox thread ends when the last executor is gone; it is not waited for.
        for thread in self.threads.drain(..).filter(|t| t.thread().name() != Some("inbox")) {
            drop(thread.join());
        }
    }
}

struct Leader {
    env: Env,
    log: CommandLog,
    state: State,
    executors: Vec<StartId>,
    link: Box<dyn ExecutorLink>,
    store: Option<Sender<StoreWork>>,
    drivers: BTreeMap<JobId, JobDriver>,
    subscribers: BTreeMap<JobId, Vec<Sender<JobEvent>>>,
    /// The command log cannot be written: nothing can be decided any more.
    broken: Option<Error>,
}

impl Leader {
    fn run(&mut self, events: &Receiver<Event>) {
        loop {
            let now = self.now_ms();
            let wake = self.drivers.values().filter_map(JobDriver::wake_at).min();
            let wait = wake.map_or(Duration::from_secs(1), |at| Duration::from_millis(at.saturating_sub(now)));
            match events.recv_timeout(wait) {
                Ok(Event::Request(Request::Shutdown)) | Err(RecvTimeoutError::Disconnected) => {
                    self.store = None;
                    return;
                }
                Ok(Event::Request(request)) => self.request(request),
                Ok(Event::Input(job, input)) => self.step(job, input),
                Ok(Event::Create { command, reply }) => {
                    // The reply comes when the command is applied: never before it is durable (I10).
                    let _ = reply.send(self.create(&command));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let jobs: Vec<_> = self.drivers.keys().copied().collect();
                    jobs.into_iter().for_each(|job| self.step(job, Input::Tick));
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.env.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Submit { job, reply } => {
                self.store(StoreWork::Submit { job, reply });
            }
            Request::Run { job, parallelism, settings, reply } => {
                let result = self.run_job(job, parallelism, *settings);
                let _ = reply.send(result);
            }
            Request::Stop { job } => self.step(job, Input::Stop),
            Request::Subscribe { job, events } => self.subscribers.entry(job).or_default().push(events),
            Request::State { reply } => {
                let _ = reply.send(self.state.clone());
            }
            Request::Shutdown => {}
        }
    }

    fn create(&mut self, command: &Command) -> Result<()> {
        if let Command::CreateJob { name, .. } = command {
            // One that never got anywhere has nothing to lose, and would keep the name for ever.
            let is_unborn = |(id, job): &(&JobId, &Job)| {
                let is_idle = !job.status.is_ended() && !self.drivers.contains_key(id);
                job.name == *name && is_idle && !job.has_begun()
            };
            let unborn: Vec<JobId> = self.state.jobs.iter().filter(is_unborn).map(|(id, _)| *id).collect();
            for job in unborn {
                let error = Error::new(Code::ForeignState, "another script took its name before it had an epoch");
                let _ = self.propose(&Command::Close { job, outcome: Outcome::Failed(error) })?;
            }
        }
        match self.propose(command)? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Error::new(Code::Usage, format!("the job was refused: {refusal}"))),
        }
    }

    fn run_job(&mut self, id: JobId, parallelism: u32, settings: JobSettings) -> Result<()> {
        let job = self.state.job(id).ok_or_else(|| Error::new(Code::UnknownJob, format!("no job {id}")))?;
        match &job.status {
            JobStatus::Stopped | JobStatus::Failed { .. } => {
                let _ = self.propose(&Command::Resume { job: id })?;
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
        self.drivers.insert(id, JobDriver::new(id, parallelism, settings));
        self.step(id, Input::Executors(self.executors.clone()));
        Ok(())
    }

    /// Appends, syncs, applies.
    fn propose(&mut self, command: &Command) -> Result<std::result::Result<Applied, Refusal>> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        match command {
            Command::Claim { .. } => failpoint("claim.propose"),
            Command::Committed { .. } => failpoint("committed.propose"),
            _ => {}
        }
        if let Err(error) = self.log.append(command) {
            self.broken = Some(error.clone());
            return Err(error);
        }
        let was_closing = match command {
            Command::RecordFailure { token, .. } => self.state.job(token.job).is_some_and(|job| job.closing.is_some()),
            _ => false,
        };
        let applied = self.state.apply(command);
        if applied.is_ok() {
            self.log.accepted(command);
        }
        if let Err(error) = self.log.compact(&self.state) {
            // Everything that was decided is in the log all the same.
            tracing::warn!(%error, "could not compact the command log");
        }
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
            let job = self.state.job(token.job).filter(goes_on);
            let repeated = job.and_then(|job| job.last_failure.as_ref()).map_or(0, |(_, count)| *count);
            if repeated >= qanat_proto::limits::SAME_FAILURE_MAX {
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
            let Some(driver) = self.drivers.get_mut(&job) else { return };
            for output in driver.step(&self.state, now, wall, input) {
                self.perform(job, output, &mut inputs);
            }
        }
        if self.drivers.get(&job).is_some_and(JobDriver::is_ended) {
            self.drivers.remove(&job);
            if let Some(status) = self.state.job(job).map(|job| job.status.clone()) {
                self.tell(job, &JobEvent::Ended(status));
            }
        }
    }

    fn perform(&mut self, job: JobId, output: Output, inputs: &mut VecDeque<Input>) {
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
            Output::WriteManifest { epoch, manifest } => self.store(StoreWork::Write { job, epoch, manifest }),
            Output::Collect => {
                let jobs = self.state.jobs.clone();
                self.store(StoreWork::Collect { job, jobs });
            }
            Output::Progress(manifest) => self.tell(job, &JobEvent::Committed(manifest)),
            Output::CommitSlow(error) => self.tell(job, &JobEvent::CommitSlow(error)),
        }
    }

    fn store(&self, work: StoreWork) {
        if let Some(store) = &self.store {
            let _ = store.send(work);
        }
    }
}

enum StoreWork {
    Submit {
        job: Box<NewJob>,
        reply: Sender<Result<()>>,
    },
    Read {
        job: JobId,
        key: String,
        checksum: String,
    },
    Write {
        job: JobId,
        epoch: Epoch,
        manifest: Box<Manifest>,
    },
    /// Copies share objects with their origin, so all jobs of the store are looked at.
    Collect {
        job: JobId,
        jobs: BTreeMap<JobId, Job>,
    },
}

struct StoreThread {
    checkpoints: Arc<CheckpointStore>,
    events: Sender<Event>,
}

impl StoreThread {
    fn run(&self, work: &Receiver<StoreWork>) {
        for item in work {
            self.perform(item);
        }
    }

    fn perform(&self, item: StoreWork) {
        match item {
            StoreWork::Submit { job, reply } => {
                let manifest = &job.epoch_zero;
                match self.checkpoints.put_manifest(manifest, 0) {
                    Ok((manifest_key, checksum)) => {
                        let command = Box::new(Command::CreateJob {
                            job: manifest.job,
                            name: manifest.job_name.clone(),
                            script_digest: job.script_digest,
                            manifest_key,
                            checksum,
                        });
                        self.tell(Event::Create { command, reply });
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
            StoreWork::Read { job, key, checksum } => {
                let input = match self.checkpoints.read_manifest(&key, &checksum) {
                    Ok(manifest) => Input::ManifestRead(Box::new(manifest)),
                    Err(error) => Input::StoreFailed(error),
                };
                self.tell(Event::Input(job, input));
            }
            StoreWork::Write { job, epoch, manifest } => {
                failpoint("manifest.write");
                let input = match self.checkpoints.put_manifest(&manifest, 0) {
                    Ok((key, checksum)) => Input::ManifestWritten { epoch, manifest, key, checksum },
                    Err(error) => Input::StoreFailed(error),
                };
                failpoint("manifest.written");
                self.tell(Event::Input(job, input));
            }
            StoreWork::Collect { job, jobs } => match gc::collect(&self.checkpoints, &checkpoints_of(&jobs)) {
                Ok(_) => {
                    failpoint("collect.done");
                    let retired = jobs.get(&job).map(|job| job.retired.keys().copied().collect());
                    self.tell(Event::Input(job, Input::Collected(retired.unwrap_or_default())));
                }
                // What could not be deleted is found again at the next collection.
                Err(error) => tracing::warn!(%error, "could not collect retired checkpoints"),
            },
        }
    }

    fn tell(&self, event: Event) {
        // The loop may have ended first.
        let _ = self.events.send(event);
    }
}

fn checkpoints_of(jobs: &BTreeMap<JobId, Job>) -> Vec<JobCheckpoints> {
    let keys = |claims: &BTreeMap<Epoch, Claimed>| {
        claims.values().map(|claim| (claim.manifest_key.clone(), claim.checksum.clone())).collect()
    };
    jobs.iter()
        .map(|(id, job)| JobCheckpoints {
            job: *id,
            generation: job.generation,
            live: keys(&job.claims),
            retired: keys(&job.retired),
        })
        .collect()
}
