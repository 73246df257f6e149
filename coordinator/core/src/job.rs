//! The driver of one job: from events to commands and messages.
//!
//! What it remembers is volatile and can be lost at any moment: after a change of leadership a new driver
//! starts from the state alone. If the newest generation still runs and its executors are all there, it goes on with
//! it: it says everything again from the deployment on, and they answer what they have done. Otherwise it opens
//! another. It never acts on its own memory of a decision: messages that matter are sent only after `apply` said so.
//!
//! ```text
//!            OpenGeneration        restored, deployed      commit replayed, lower generations aborted
//!  Waiting ----------------> Restoring ----> Deploying ----> Replaying ----> Aborting ----> Running
//!   |  ^                        ^                                                             |
//!   |  +------------------------|--- a failure, after a backoff ------------------------------+
//!   +--> Adopting --------------+
//!        another leader: the executors find it
//! ```
//! After a rollback, `Withdrawing` stands between `Deploying` and `Replaying` (P10).

use std::collections::BTreeSet;

use qanat_proto::control::{
    CommitPermit, CoordinatorMessage, Deployment, ExecutorMessage, FromExecutor, Host, SubtaskReport, ToExecutor,
};
use qanat_proto::ids::{Epoch, Generation, JobId, StartId, Token};
use qanat_proto::manifest::Manifest;
use qanat_proto::physical::PhysicalGraph;
use qanat_proto::settings::JobSettings;
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{Code, Error, Place, limits};

use crate::apply::Applied;
use crate::command::{Command, Outcome, Refusal};
use crate::placement::{Executor, place};
use crate::state::{Claimed, State};

mod committing;
mod links;
mod running;
mod withdrawing;

use committing::{Committing, commit_slow};
use links::BrokenLinks;
use running::{ManifestState, Running};

/// Claims beyond those kept before some are retired.
const RETIRE_BATCH: usize = 8;

/// What happened. Times are monotonic milliseconds.
#[derive(Clone, Debug)]
pub enum Input {
    /// Executors that are alive, and the one that has just connected (again). Also the first input of a driver.
    Executors {
        executors: Vec<Executor>,
        attached: Option<StartId>,
    },
    /// The command log has this command, and `apply` said this.
    Applied(Command, Result<Applied, Refusal>),
    ManifestRead(Box<Manifest>),
    ManifestWritten {
        epoch: Epoch,
        manifest: Box<Manifest>,
        key: String,
        checksum: String,
    },
    /// Reading or writing a manifest failed.
    StoreFailed(Error),
    /// What the retired manifests of these epochs named is deleted.
    Collected(Vec<Epoch>),
    FromExecutor(FromExecutor),
    Tick,
}

/// What to do about it, in order.
#[derive(Clone, Debug)]
pub enum Output {
    Propose(Command),
    Send(ToExecutor),
    ReadManifest {
        key: String,
        checksum: String,
    },
    WriteManifest {
        epoch: Epoch,
        manifest: Box<Manifest>,
    },
    /// Retired manifests may be collected now.
    Collect,
    /// An epoch is claimed and committed: for progress.
    Progress(Box<Manifest>),
    /// A claimed epoch waits for its commit longer than it should (P8).
    CommitSlow(Error),
}

/// Volatile view of one job.
#[derive(Clone, Debug)]
pub struct JobDriver {
    job: JobId,
    /// What the next generation runs with.
    parallelism: u32,
    settings: JobSettings,
    executors: Vec<Executor>,
    /// Another placement or parallelism is wanted: with the next commit a new generation opens.
    moves: bool,
    /// The generation goes on as it was: it is not one that has just opened.
    is_adopted: bool,
    links: BrokenLinks,
    phase: Phase,
    backoff_ms: u64,
    jitter: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    /// No generation yet, or the last one ended; the next opens at this time.
    Waiting {
        until_ms: u64,
        proposed: bool,
    },
    /// The newest generation runs, and its executors have not all found this leader yet.
    Adopting,
    Restoring {
        token: Token,
        /// The epoch whose manifest is being read.
        from: Epoch,
    },
    Deploying {
        running: Box<Running>,
        waiting: BTreeSet<StartId>,
    },
    /// What a rollback takes back goes before anything else happens (P10).
    Withdrawing {
        running: Box<Running>,
        waiting: BTreeSet<StartId>,
    },
    /// The restored epoch's commit is replayed before any new record flows (P5).
    Replaying {
        running: Box<Running>,
        committing: Committing,
    },
    Aborting {
        running: Box<Running>,
        waiting: BTreeSet<StartId>,
    },
    Running(Box<Running>),
    /// The generation ends; executors are told to stop.
    Ended,
}

impl JobDriver {
    /// For a job that runs with `parallelism` and `settings` from its next generation on.
    pub fn new(job: JobId, parallelism: u32, settings: JobSettings) -> Self {
        Self {
            job,
            parallelism,
            settings,
            executors: Vec::new(),
            moves: false,
            is_adopted: false,
            links: BrokenLinks::default(),
            phase: Phase::Waiting { until_ms: 0, proposed: false },
            backoff_ms: limits::RESTART_BACKOFF_MS.0,
            jitter: 0,
        }
    }

    /// One event.
    pub fn step(&mut self, state: &State, now_ms: u64, now_wall_ms: i64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Executors { executors, attached } => self.on_executors(state, executors, attached, &mut out),
            Input::Applied(command, result) => self.on_applied(state, now_ms, command, result, &mut out),
            Input::ManifestRead(manifest) => self.on_manifest(state, *manifest, &mut out),
            Input::ManifestWritten { epoch, manifest, key, checksum } => {
                self.on_written(epoch, manifest, key, checksum, &mut out);
            }
            Input::StoreFailed(error) => self.fail(state, error, &mut out),
            Input::Collected(epochs) => {
                out.push(Output::Propose(Command::Collected { job: self.job, epochs }));
            }
            Input::FromExecutor(message) => self.on_message(state, now_ms, now_wall_ms, message, &mut out),
            Input::Tick => {
                if self.links.release(now_ms) {
                    self.move_if_better(state);
                }
            }
        }
        self.on_time(state, now_ms, &mut out);
        out
    }

    /// Some came, some went: a running generation goes on if all of its own are there.
    fn on_executors(
        &mut self,
        state: &State,
        executors: Vec<Executor>,
        attached: Option<StartId>,
        out: &mut Vec<Output>,
    ) {
        self.executors = executors;
        self.links.keep(|start| self.executors.iter().any(|executor| executor.start == start));
        let Some(job) = state.job(self.job) else { return };
        let known = |start: &StartId| self.executors.iter().find(|executor| executor.start == *start);
        match &self.phase {
            Phase::Ended => {}
            Phase::Waiting { proposed: true, .. } => {}
            Phase::Waiting { proposed: false, .. } => {
                let is_whole = !job.placement.is_empty() && job.placement.iter().all(|start| known(start).is_some());
                if job.is_adoptable() && is_whole {
                    // Until they have all found this leader, or one is given up.
                    self.phase = Phase::Adopting;
                    self.adopt(state, out);
                }
            }
            Phase::Adopting
            | Phase::Restoring { .. }
            | Phase::Deploying { .. }
            | Phase::Withdrawing { .. }
            | Phase::Replaying { .. }
            | Phase::Aborting { .. }
            | Phase::Running(_) => {
                let is_lost = |start: &&StartId| known(start).is_none() && !planted(Bug::AnyStart);
                if let Some(lost) = job.placement.iter().find(is_lost) {
                    let error = Error::new(Code::ExecutorLost, format!("executor {} is lost", state.node_of(*lost)))
                        .hint("the job goes on elsewhere from its last claimed epoch");
                    // What is left needs no pause to recover.
                    self.backoff_ms = 0;
                    self.fail(state, error, out);
                } else if matches!(self.phase, Phase::Adopting)
                    || attached.is_some_and(|start| job.placement.contains(&start))
                {
                    // What was said while it was away is said again; what was heard of it may have been lost.
                    self.adopt(state, out);
                    return;
                }
            }
        }
        self.move_if_better(state);
        self.tell_owners(state, attached, out);
    }

    /// Other owners of topics get what is owed, and so does one that has just connected (again).
    fn tell_owners(&mut self, state: &State, attached: Option<StartId>, out: &mut Vec<Output>) {
        let (token, placement, committing) = match &mut self.phase {
            Phase::Replaying { running, committing } => (running.token, &running.placement, Some(committing)),
            Phase::Running(running) => {
                let Running { token, placement, committing, .. } = running.as_mut();
                (*token, &*placement, committing.as_mut())
            }
            _ => return,
        };
        if let Some(committing) = committing {
            attached.into_iter().for_each(|start| committing.forget_told(start, state));
            committing.tell_owners(token, placement, state, &self.executors, out);
        }
    }

    /// Ends the epoch that is under way as soon as may be, if the job should run elsewhere; the next generation begins
    /// where it ends, so that nothing is computed twice.
    fn move_if_better(&mut self, state: &State) {
        if self.moves || !self.should_move(state) {
            return;
        }
        if let Phase::Running(running) = &mut self.phase {
            self.moves = true;
            running.wants_barrier = true;
        }
    }

    /// Whether the job should run elsewhere: one of its executors is to be stopped, there is room now on more of them
    /// than it was squeezed into, or it was rescaled.
    fn should_move(&self, state: &State) -> bool {
        let Some(job) = state.job(self.job).filter(|job| job.closing.is_none()) else { return false };
        let better = place_job(state, &self.executors, self.job, self.parallelism, &self.links.apart());
        let is_draining = |start: &StartId| self.executors.iter().any(|e| e.start == *start && e.draining);
        let would_differ = better.len() > job.placement.len() || job.parallelism != self.parallelism;
        !better.is_empty() && (would_differ || job.placement.iter().any(is_draining))
    }

    /// The commit of an epoch is recorded and none is open: what runs ends here.
    fn hand_over(&mut self, state: &State, now_ms: u64, out: &mut Vec<Output>) {
        let is_at_rest = matches!(&self.phase, Phase::Running(running) if running.open.is_none());
        if self.moves && is_at_rest {
            self.moves = false;
            self.stop_executors(state, out);
            self.phase = Phase::Waiting { until_ms: now_ms, proposed: false };
        }
    }

    /// Goes on with the newest generation as it is, once all of its executors are connected: from the deployment
    /// on, every message is said again, and executors answer what they have done already (P1, P4).
    fn adopt(&mut self, state: &State, out: &mut Vec<Output>) {
        let Some(job) = state.job(self.job) else { return };
        let is_there = |start: &StartId| self.executors.iter().any(|e| e.start == *start && e.attached);
        let Some((from, claim)) = job.last_claim().filter(|_| job.placement.iter().all(is_there)) else { return };
        self.is_adopted = true;
        self.phase = Phase::Restoring { token: job.token(self.job), from };
        out.push(Output::ReadManifest { key: claim.manifest_key.clone(), checksum: claim.checksum.clone() });
    }

    fn on_applied(
        &mut self,
        state: &State,
        now_ms: u64,
        command: Command,
        result: Result<Applied, Refusal>,
        out: &mut Vec<Output>,
    ) {
        match (command, result) {
            (Command::OpenGeneration { .. }, Ok(Applied::Opened { token, restore })) => {
                if let Some(claim) = state.job(self.job).and_then(|job| job.claims.get(&restore)) {
                    self.is_adopted = false;
                    self.phase = Phase::Restoring { token, from: restore };
                    out.push(Output::ReadManifest {
                        key: claim.manifest_key.clone(),
                        checksum: claim.checksum.clone(),
                    });
                }
            }
            (Command::OpenGeneration { .. }, Err(_)) => {
                self.phase = Phase::Waiting { until_ms: now_ms + self.backoff_ms, proposed: false };
            }
            (Command::Claim { epoch, .. }, Ok(Applied::Permit(permit))) => {
                self.on_claimed(state, now_ms, epoch, permit, out)
            }
            // The claim is refused only if this generation is over or the job closes: a stop was
            // applied first. Nothing of the epoch was made visible.
            (Command::Claim { .. }, Err(refusal)) => {
                self.fail(state, Error::internal(format!("a claim was refused: {refusal}")), out);
            }
            (Command::Committed { epoch, .. }, Ok(_)) => self.on_commit_recorded(state, now_ms, epoch, out),
            (Command::Close { .. } | Command::RecordFailure { .. }, _) => self.after_failure(state, now_ms, out),
            (Command::StopWithSavepoint { .. }, Ok(_)) => {
                if let Phase::Running(running) = &mut self.phase {
                    running.wants_barrier = true;
                }
            }
            (Command::Rescale { parallelism, .. }, Ok(_)) => {
                self.parallelism = parallelism;
                self.move_if_better(state);
            }
            (Command::Retire { .. }, Ok(_)) => out.push(Output::Collect),
            (Command::OwnTopics { .. }, Ok(_)) => self.tell_owners(state, None, out),
            (Command::Savepoint { .. }, Ok(_)) => {
                if let Phase::Running(running) = &mut self.phase {
                    running.wants_barrier = true;
                }
            }
            (Command::Rollback { .. }, Ok(_)) => self.on_rolled_back(state, now_ms, out),
            (Command::Withdrawn { .. }, Ok(_)) => self.on_withdrawn(state, now_ms, out),
            // What this generation would wait for is decided otherwise: it can only be replaced.
            (Command::Committed { token, .. } | Command::Withdrawn { token }, Err(refusal))
                if self.token() == Some(token) =>
            {
                self.fail(state, Error::internal(format!("what was done was refused: {refusal}")), out);
            }
            _ => {}
        }
    }

    /// The restore point is read: deploy.
    fn on_manifest(&mut self, state: &State, mut manifest: Manifest, out: &mut Vec<Output>) {
        let Phase::Restoring { token, from } = self.phase else { return };
        // P5: what was asked for before a rollback may come after it.
        if manifest.epoch != from && !planted(Bug::OldManifest) {
            return;
        }
        let Some(job) = state.job(self.job) else { return };
        manifest.parallelism = job.parallelism;
        if planted(Bug::ResolveAgain) && manifest.epoch == Epoch(0) {
            manifest.sources.clear();
        }
        manifest.settings = JobSettings {
            key_groups: manifest.key_groups,
            ..job.settings.clone().unwrap_or_else(|| manifest.settings.clone())
        };
        let physical = PhysicalGraph::expand(&manifest.graph, manifest.parallelism);
        let deployment = Deployment {
            job_name: job.name.clone(),
            graph: manifest.graph.clone(),
            settings: manifest.settings.clone(),
            parallelism: manifest.parallelism,
            hosts: job.placement.iter().map(|start| self.host(*start)).collect(),
            restore: manifest.clone(),
            // A closing job runs no subtask again: it only owes its commit (P7).
            replay_only: job.closing.is_some(),
            trace: job.run_with.as_ref().and_then(|run_with| run_with.trace.clone()),
            withdrawn_to: job.withdrawn_to(),
        };
        for start in &job.placement {
            let message = ExecutorMessage::Deploy(Box::new(deployment.clone()));
            out.push(Output::Send(ToExecutor { start: *start, token, message }));
        }
        let running = Box::new(Running {
            token,
            placement: job.placement.clone(),
            totals: manifest.totals.clone(),
            base: manifest,
            physical,
            open: None,
            committing: None,
            due_ms: 0,
            may_trigger: false,
            wants_barrier: false,
            written: None,
        });
        self.phase = Phase::Deploying { running, waiting: job.placement.iter().copied().collect() };
    }

    fn host(&self, start: StartId) -> Host {
        let executor = self.executors.iter().find(|executor| executor.start == start);
        Host { start, address: executor.map(|executor| executor.address.clone()).unwrap_or_default() }
    }

    /// Of the generation that it leads.
    fn token(&self) -> Option<Token> {
        match &self.phase {
            Phase::Waiting { .. } | Phase::Adopting | Phase::Ended => None,
            Phase::Restoring { token, .. } => Some(*token),
            Phase::Deploying { running, .. }
            | Phase::Withdrawing { running, .. }
            | Phase::Replaying { running, .. }
            | Phase::Aborting { running, .. }
            | Phase::Running(running) => Some(running.token),
        }
    }

    fn on_message(&mut self, state: &State, now_ms: u64, now_wall_ms: i64, from: FromExecutor, out: &mut Vec<Output>) {
        // P2: a message of an older generation says nothing about this one.
        let current = self.token();
        if current != Some(from.token) && !(planted(Bug::OldReports) && current.is_some()) {
            return;
        }
        match from.message {
            CoordinatorMessage::Failed { error, .. } => {
                self.note_link(from.start, &error, now_ms);
                self.fail(state, error, out);
            }
            CoordinatorMessage::Deployed => self.on_deployed(state, now_ms, from.start, out),
            CoordinatorMessage::Committed { epoch, manifest_key } => {
                self.on_committed(from.start, epoch, &manifest_key, out);
            }
            CoordinatorMessage::LogCommitted { topic, epoch, manifest_key } => {
                self.on_log_committed(&topic, epoch, &manifest_key, out);
            }
            CoordinatorMessage::Aborted => self.on_aborted(state, from.start, now_ms, out),
            CoordinatorMessage::Withdrawn => self.on_taken_back(from.start, out),
            CoordinatorMessage::Prepared { epoch, report } => {
                self.on_prepared(state, now_wall_ms, epoch, *report, out);
            }
            CoordinatorMessage::WantsBarrier | CoordinatorMessage::SourcesEnded => {
                if let Phase::Running(running) = &mut self.phase {
                    running.wants_barrier = true;
                }
            }
            CoordinatorMessage::Progress { epoch } => {
                if let Phase::Running(running) = &mut self.phase
                    && let Some(open) = running.open.as_mut().filter(|open| open.reports.epoch == epoch)
                {
                    open.since_ms = open.since_ms.max(now_ms);
                }
            }
            // Whoever tells a generation to stop leads it no more. This one has heard it from a leader that meant to
            // replace it and did not come to that.
            CoordinatorMessage::Stopped => {
                let error = Error::new(Code::ExecutorLost, "the generation was stopped by a leader before");
                self.fail(state, error, out);
            }
        }
    }

    /// A broken link names the address at its other end.
    fn note_link(&mut self, from: StartId, error: &Error, now_ms: u64) {
        let Some(Place::Named(address)) = error.place().filter(|_| error.code() == Code::LinkBroken) else { return };
        if let Some(other) = self.executors.iter().find(|executor| executor.address == *address) {
            self.links.add(from, other.start, now_ms);
        }
    }

    /// All executors hold the restored generation: replay the commit it owes, or go on to the abort.
    fn on_deployed(&mut self, state: &State, now_ms: u64, start: StartId, out: &mut Vec<Output>) {
        let Phase::Deploying { waiting, .. } = &mut self.phase else { return };
        waiting.remove(&start);
        if !waiting.is_empty() {
            return;
        }
        let Phase::Deploying { running, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else { return };
        self.withdraw_or_replay(state, now_ms, running, out);
    }

    /// Makes the last claim visible, if it is not yet.
    fn replay(&mut self, state: &State, now_ms: u64, running: Box<Running>, out: &mut Vec<Output>) {
        let Some(job) = state.job(self.job) else { return };
        // Of a new generation, its restore point; of one that is adopted, what it has claimed since.
        let Some((epoch, claim)) = job.last_claim() else { return };
        if planted(Bug::AbortAll) {
            running.send_committer(&ExecutorMessage::AbortLower { keep: Vec::new() }, out);
        }
        if claim.committed || planted(Bug::SkipReplay) {
            self.abort_lower(running, claim, out);
            return;
        }
        let permit = CommitPermit {
            token: running.token,
            epoch,
            manifest_key: claim.manifest_key.clone(),
            handles: claim.handles.clone(),
        };
        let committing = Committing::begin(&running, state, &self.executors, permit, now_ms, out);
        self.phase = Phase::Replaying { running, committing };
    }

    fn abort_lower(&mut self, running: Box<Running>, claim: &Claimed, out: &mut Vec<Output>) {
        let keep = claim.handles.clone();
        let waiting = running.send_committer(&ExecutorMessage::AbortLower { keep }, out);
        self.phase = Phase::Aborting { running, waiting };
    }

    fn on_aborted(&mut self, state: &State, start: StartId, now_ms: u64, out: &mut Vec<Output>) {
        let Phase::Aborting { waiting, .. } = &mut self.phase else { return };
        waiting.remove(&start);
        if !waiting.is_empty() {
            return;
        }
        let Phase::Aborting { mut running, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else { return };
        running.send_all(&ExecutorMessage::Start, out);
        // What a failure held back is to be seen soon, however long an epoch is; and one that was under way is complete
        // already, most of the time.
        let interval_ms = running.base.settings.epoch_interval_ms;
        let is_first = running.token.generation == Generation(1);
        running.due_ms = match (self.is_adopted, is_first) {
            (true, _) => now_ms,
            (false, true) => now_ms + interval_ms,
            (false, false) => now_ms + interval_ms.min(limits::EPOCH_AFTER_RECOVERY_MS),
        };
        self.phase = Phase::Running(running);
        // Executors may have come while it started.
        self.move_if_better(state);
    }

    fn on_prepared(
        &mut self,
        state: &State,
        now_wall_ms: i64,
        epoch: Epoch,
        report: SubtaskReport,
        out: &mut Vec<Output>,
    ) {
        let Phase::Running(running) = &mut self.phase else { return };
        let Some(open) = running.open.as_mut().filter(|open| open.reports.epoch == epoch) else { return };
        open.reports.add(report);
        if !open.reports.is_complete() || !matches!(open.manifest, ManifestState::Gathering) {
            return;
        }
        open.manifest = ManifestState::Writing;
        let totals = &running.totals;
        match open.reports.assemble(running.token, &running.base, &running.physical, totals, now_wall_ms) {
            Ok(manifest) => out.push(Output::WriteManifest { epoch, manifest: Box::new(manifest) }),
            Err(error) => self.fail(state, error, out),
        }
    }

    fn on_written(
        &mut self,
        epoch: Epoch,
        manifest: Box<Manifest>,
        key: String,
        checksum: String,
        out: &mut Vec<Output>,
    ) {
        let Phase::Running(running) = &mut self.phase else { return };
        let Some(open) = running.open.as_mut().filter(|open| open.reports.epoch == epoch) else { return };
        if manifest.generation != running.token.generation {
            return;
        }
        let claim = Box::new(Command::Claim {
            token: running.token,
            epoch,
            manifest_key: key.clone(),
            checksum,
            handles: manifest.prepared.clone(),
            is_final: manifest.is_final,
            receipt: Box::new(manifest.receipt.clone()),
        });
        open.manifest = ManifestState::Ready { claim };
        if planted(Bug::CommitBeforeClaim) {
            let (token, manifest_key) = (running.token, key);
            let permit = CommitPermit { token, epoch, manifest_key, handles: manifest.prepared.clone() };
            running.send_committer(&ExecutorMessage::Commit(permit), out);
        }
        running.written = Some(manifest);
        running.propose_claim(out);
    }

    fn on_claimed(&mut self, state: &State, now_ms: u64, epoch: Epoch, permit: CommitPermit, out: &mut Vec<Output>) {
        let Phase::Running(running) = &mut self.phase else { return };
        if running.open.as_ref().is_some_and(|open| open.reports.epoch == epoch) {
            running.open = None;
            if let Some(manifest) = &running.written {
                running.totals = manifest.totals.clone();
            }
        }
        self.backoff_ms = limits::RESTART_BACKOFF_MS.0;
        running.committing = Some(Committing::begin(running, state, &self.executors, permit, now_ms, out));
    }

    fn on_commit_recorded(&mut self, state: &State, now_ms: u64, epoch: Epoch, out: &mut Vec<Output>) {
        let Some(job) = state.job(self.job) else { return };
        if job.status.is_ended() {
            self.stop_executors(state, out);
            if let Phase::Running(running) = &mut self.phase
                && let Some(manifest) = running.written.take()
            {
                out.push(Output::Progress(manifest));
            }
            self.phase = Phase::Ended;
            return;
        }
        match &mut self.phase {
            Phase::Replaying { committing, .. } if committing.is_done() => {
                let Phase::Replaying { running, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else { return };
                let Some((_, claim)) = job.last_claim() else { return };
                self.abort_lower(running, claim, out);
            }
            Phase::Running(running) => {
                running.committing = None;
                if running.written.as_ref().is_some_and(|m| m.epoch == epoch)
                    && let Some(manifest) = running.written.take()
                {
                    out.push(Output::Progress(manifest));
                }
                if let Some(open) = &mut running.open {
                    open.since_ms = open.since_ms.max(now_ms);
                }
                running.propose_claim(out);
                self.retire(state, out);
                self.hand_over(state, now_ms, out);
            }
            _ => {}
        }
    }

    /// Keeps the newest claims and retires what is older (P14).
    fn retire(&self, state: &State, out: &mut Vec<Output>) {
        let (Some(job), Phase::Running(running)) = (state.job(self.job), &self.phase) else { return };
        let kept = running.base.settings.checkpoints_kept.max(1);
        let restore_point = (!job.has_claimed).then_some(job.restore_point);
        // A few at a time: collecting lists the whole store.
        let unnamed: Vec<Epoch> = job.claims.keys().copied().filter(|epoch| !job.is_savepoint(*epoch)).collect();
        let all = planted(Bug::RetireLast);
        let excess = if all { unnamed.len() } else { unnamed.len().saturating_sub(kept) };
        if excess < RETIRE_BATCH && !all {
            return;
        }
        let epochs: Vec<_> = unnamed.into_iter().take(excess).filter(|epoch| Some(*epoch) != restore_point).collect();
        if !epochs.is_empty() {
            out.push(Output::Propose(Command::Retire { job: self.job, epochs }));
        }
    }

    fn fail(&mut self, state: &State, error: Error, out: &mut Vec<Output>) {
        let (token, is_last) = match &self.phase {
            Phase::Waiting { .. } | Phase::Ended => return,
            Phase::Adopting => match state.job(self.job) {
                Some(job) => (job.token(self.job), false),
                None => return,
            },
            Phase::Restoring { token, .. } => (*token, false),
            Phase::Deploying { running, .. }
            | Phase::Withdrawing { running, .. }
            | Phase::Replaying { running, .. }
            | Phase::Aborting { running, .. }
            | Phase::Running(running) => (running.token, !running.base.graph.is_replayable()),
        };
        debug_assert!(state.job(self.job).is_some());
        self.stop_executors(state, out);
        out.push(Output::Propose(Command::RecordFailure { token, error, is_last }));
    }

    fn after_failure(&mut self, state: &State, now_ms: u64, out: &mut Vec<Output>) {
        let Some(job) = state.job(self.job) else { return };
        self.stop_executors(state, out);
        if job.status.is_ended() {
            self.phase = Phase::Ended;
            return;
        }
        self.moves = false;
        self.phase = Phase::Waiting { until_ms: now_ms + self.backoff_ms, proposed: false };
        // Spread of an eighth, from a counter: drivers of many jobs do not restart in step.
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(now_ms | 1);
        let spread = (self.jitter >> 33) % (self.backoff_ms / 8 + 1);
        let (least, most) = limits::RESTART_BACKOFF_MS;
        self.backoff_ms = (self.backoff_ms * 2 + spread).clamp(least, most);
    }

    fn stop_executors(&self, state: &State, out: &mut Vec<Output>) {
        match &self.phase {
            Phase::Waiting { .. } | Phase::Ended => {}
            Phase::Adopting | Phase::Restoring { .. } => {
                let Some(job) = state.job(self.job) else { return };
                let (token, message) = (job.token(self.job), ExecutorMessage::Stop);
                let stop = |start: &StartId| ToExecutor { start: *start, token, message: message.clone() };
                out.extend(job.placement.iter().map(stop).map(Output::Send));
            }
            Phase::Deploying { running, .. }
            | Phase::Withdrawing { running, .. }
            | Phase::Replaying { running, .. }
            | Phase::Aborting { running, .. }
            | Phase::Running(running) => running.send_all(&ExecutorMessage::Stop, out),
        }
    }

    fn on_time(&mut self, state: &State, now_ms: u64, out: &mut Vec<Output>) {
        let Some(job) = state.job(self.job) else { return };
        if job.status.is_ended() && matches!(self.phase, Phase::Waiting { .. }) {
            // By a command that this driver did not hear of.
            self.phase = Phase::Ended;
            return;
        }
        let mut timed_out = None;
        match &mut self.phase {
            Phase::Waiting { until_ms, proposed: proposed @ false } if now_ms >= *until_ms || job.stop_requested => {
                let placement = place_job(state, &self.executors, self.job, self.parallelism, &self.links.apart());
                let command = if !placement.is_empty() {
                    (now_ms >= *until_ms).then(|| Command::OpenGeneration {
                        job: self.job,
                        expected: job.generation,
                        placement,
                        parallelism: self.parallelism,
                        settings: self.settings.clone(),
                    })
                } else {
                    // Nothing runs and nothing can. What a last epoch would hold is read again by a resume.
                    let is_stop_due = job.stop_requested && job.closing.is_none();
                    is_stop_due.then_some(Command::Close { job: self.job, outcome: Outcome::Stopped })
                };
                *proposed = command.is_some();
                out.extend(command.map(Output::Propose));
            }
            Phase::Running(running) => {
                // After the last claim of a job nothing is triggered any more (P7).
                let ends_here = self.moves && running.committing.is_some();
                let number = if planted(Bug::AnyEpoch) { running.base.epoch.next() } else { job.next_epoch() };
                let next = (job.closing.is_none() && !ends_here).then_some(number);
                timed_out = running.on_time(next, now_ms, out);
            }
            Phase::Replaying { running, committing } => {
                if now_ms.saturating_sub(committing.since_ms) > running.base.settings.epoch_timeout_ms {
                    committing.since_ms = now_ms;
                    out.push(Output::CommitSlow(commit_slow(committing.permit.epoch)));
                }
            }
            Phase::Waiting { .. }
            | Phase::Adopting
            | Phase::Restoring { .. }
            | Phase::Deploying { .. }
            | Phase::Withdrawing { .. }
            | Phase::Aborting { .. }
            | Phase::Ended => {}
        }
        if let Some(error) = timed_out {
            self.fail(state, error, out);
        }
    }

    /// Whether the job has come to its end.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// When `step` wants a `Tick` at the latest, in monotonic milliseconds.
    pub fn wake_at(&self) -> Option<u64> {
        let phase = match &self.phase {
            // Nothing can run before one comes, and that is an input of its own.
            Phase::Waiting { .. } if !self.executors.iter().any(Executor::is_usable) => None,
            Phase::Waiting { until_ms, proposed: false } => Some(*until_ms),
            Phase::Running(running) => running.wake_at(),
            Phase::Replaying { running, committing } => {
                Some(committing.since_ms + running.base.settings.epoch_timeout_ms + 1)
            }
            _ => None,
        };
        phase.into_iter().chain(self.links.next_ms()).min()
    }
}

/// Where the next generation of a job would run.
fn place_job(
    state: &State,
    executors: &[Executor],
    job: JobId,
    parallelism: u32,
    apart: &[(StartId, StartId)],
) -> Vec<StartId> {
    let run_with = state.job(job).and_then(|job| job.run_with.as_ref());
    place(state, executors, job, parallelism, run_with.is_some_and(|run_with| run_with.together), apart)
}
