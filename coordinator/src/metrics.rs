//! What a coordinator counts, and shows on the page of metrics.
//!
//! The leader's loop tells of what it does; nothing here decides anything. Figures of a job are gone when it ends, and
//! all of them when another coordinator leads.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram as Quantiles;
use qanat_coordinator_core::command::{Command, Refusal};
use qanat_coordinator_core::job::{Input, Output};
use qanat_coordinator_core::state::State;
use qanat_proto::control::ExecutorMessage;
use qanat_proto::exposition::{FENCED, Histogram, Page};
use qanat_proto::ids::{Epoch, Generation, JobId, Token};

use crate::nodes::Nodes;
use crate::raft::{Decision, Member};

const JOB: &[&str] = &["job"];

qanat_proto::families! {
    PHASE: Histogram "qanat_checkpoint_phase_seconds" &["job", "phase"],
        "Time of each phase of an epoch: `reports` from the trigger to the last subtask's report, `manifest` until \
         it is written, `claim` until a majority has decided, `commit` until all sinks have committed and that is \
         recorded.";
    WHOLE: Histogram "qanat_checkpoint_seconds" JOB,
        "Time from the trigger of an epoch until its commit is recorded.";
    LATENCY: Summary "qanat_job_end_to_end_latency_seconds" JOB,
        "Time from the oldest row of an epoch being read to all rows of the epoch being visible: from the barrier \
         before it until its commit is recorded, one value per epoch. No row of the epoch took longer.";
    CLAIMED: Counter "qanat_job_epochs_claimed_total" JOB,
        "Epochs that were claimed since this coordinator leads.";
    COMMITTED: Counter "qanat_job_epochs_committed_total" JOB,
        "Epochs whose commit was recorded since this coordinator leads.";
    GENERATIONS: Counter "qanat_job_generations_total" JOB,
        "Generations that were opened since this coordinator leads: the first one, restarts and moves.";
    FAILURES: Counter "qanat_job_failures_total" &["job", "code"],
        "Generations that failed since this coordinator leads, by error code.";
    GENERATION: Gauge "qanat_job_generation" JOB,
        "The newest generation of a job that has not ended.";
    EPOCH: Gauge "qanat_job_claimed_epoch" JOB,
        "The newest claimed epoch of a job that has not ended.";
    JOBS: Gauge "qanat_jobs" &["state"],
        "Jobs by state, ended ones included.";
    EXECUTORS: Gauge "qanat_executors" &["state"],
        "Executors by state, as the leader sees them: `attached`, `draining`, or `away`: not connected, and not \
         drained before it left. One is away until an executor of its name is back.";
    TERM: Gauge "qanat_raft_term" &[],
        "The term that this coordinator is in.";
    ROLE: Gauge "qanat_raft_role" &["role"],
        "1 for the role that this coordinator has in its group, 0 for the others.";
    LOG: Gauge "qanat_raft_last_log_index" &[],
        "Index of the last entry of this coordinator's log.";
    COMMIT: Gauge "qanat_raft_committed_index" &[],
        "Index of the last entry that it knows to be decided.";
    APPLIED: Gauge "qanat_raft_applied_index" &[],
        "Index of the last entry that it has applied.";
    SNAPSHOT: Gauge "qanat_raft_snapshot_index" &[],
        "Index of the last entry that its newest snapshot covers.";
    SNAPSHOTS: Counter "qanat_raft_snapshots_total" &[],
        "Snapshots that it has built since it started.";
    MEMBERS: Gauge "qanat_raft_members" &["votes"],
        "Members of the group, with and without a vote.";
}

/// Counters of one coordinator.
#[derive(Default)]
pub struct CoordinatorMetrics(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    jobs: BTreeMap<JobId, JobCounts>,
    fenced_reports: u64,
    fenced_claims: u64,
}

/// How the checkpoints of a job went, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointTimes {
    /// From trigger to recorded commit: of the last epoch, and of the slowest but one in a hundred.
    pub last: Option<Duration>,
    pub p99: Option<Duration>,
    /// The bound of [`LATENCY`] at the same quantile.
    pub latency_p99: Option<Duration>,
    pub failures: u64,
}

struct JobCounts {
    /// Of the generation that messages go to.
    token: Option<Token>,
    /// Since when rows are read for the epoch that is to be triggered next.
    reading_since: Option<Duration>,
    open: Option<Open>,
    /// Claimed, and not committed.
    committing: Option<(Open, Duration)>,
    reports: Histogram,
    manifest: Histogram,
    claim: Histogram,
    commit: Histogram,
    whole: Histogram,
    last: Option<Duration>,
    whole_ms: Quantiles<u64>,
    latency_ms: Quantiles<u64>,
    latency_sum: Duration,
    claimed: u64,
    committed: u64,
    generations: u64,
    failures: BTreeMap<&'static str, u64>,
}

/// An epoch under way.
#[derive(Clone, Copy)]
struct Open {
    epoch: Epoch,
    reading_since: Option<Duration>,
    triggered: Duration,
    /// When the phase began that it is in.
    phase: Duration,
}

/// Times up to an hour, to a hundredth of each.
fn quantiles() -> Quantiles<u64> {
    const HIGHEST_MS: u64 = 3_600_000;
    Quantiles::new_with_max(HIGHEST_MS, 2).expect("the library takes two digits and a bound of more than 1")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl JobCounts {
    fn new() -> Self {
        Self {
            token: None,
            reading_since: None,
            open: None,
            committing: None,
            reports: Histogram::default(),
            manifest: Histogram::default(),
            claim: Histogram::default(),
            commit: Histogram::default(),
            whole: Histogram::default(),
            last: None,
            whole_ms: quantiles(),
            latency_ms: quantiles(),
            latency_sum: Duration::ZERO,
            claimed: 0,
            committed: 0,
            generations: 0,
            failures: BTreeMap::new(),
        }
    }

    /// What was under way is not any more.
    fn forget(&mut self) {
        (self.reading_since, self.open, self.committing) = (None, None, None);
    }

    fn committed(&mut self, now: Duration) {
        self.committed += 1;
        let Some((open, claimed)) = self.committing.take() else { return };
        let whole = now.saturating_sub(open.triggered);
        self.commit.observe(now.saturating_sub(claimed));
        self.whole.observe(whole);
        self.last = Some(whole);
        self.whole_ms.saturating_record(millis(whole));
        if let Some(since) = open.reading_since {
            let latency = now.saturating_sub(since);
            self.latency_ms.saturating_record(millis(latency));
            self.latency_sum += latency;
        }
    }
}

impl CoordinatorMetrics {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job's driver is about to hear this.
    pub(crate) fn hears(&self, job: JobId, input: &Input, now: Duration) {
        let mut counted = self.counted();
        let Some(counts) = counted.jobs.get_mut(&job) else { return };
        match input {
            Input::ManifestWritten { epoch, .. } => {
                if let Some(open) = counts.open.as_mut().filter(|open| open.epoch == *epoch) {
                    counts.manifest.observe(now.saturating_sub(open.phase));
                    open.phase = now;
                }
            }
            // P2: it speaks for a generation that is over.
            Input::FromExecutor(message) if counts.token.is_some_and(|token| token > message.token) => {
                counted.fenced_reports += 1;
            }
            _ => {}
        }
    }

    /// A job's driver wants this done.
    pub(crate) fn does(&self, job: JobId, output: &Output, now: Duration) {
        let mut counted = self.counted();
        let counts = counted.jobs.entry(job).or_insert_with(JobCounts::new);
        match output {
            Output::Send(message) => {
                counts.token = counts.token.max(Some(message.token));
                match &message.message {
                    ExecutorMessage::Start => {
                        counts.reading_since.get_or_insert(now);
                    }
                    // One for each executor, and again for one that comes back: the first counts.
                    ExecutorMessage::Trigger { epoch } if counts.open.is_none_or(|open| open.epoch < *epoch) => {
                        let reading_since = counts.reading_since.replace(now);
                        counts.open = Some(Open { epoch: *epoch, reading_since, triggered: now, phase: now });
                    }
                    _ => {}
                }
            }
            Output::WriteManifest { epoch, .. } => {
                if let Some(open) = counts.open.as_mut().filter(|open| open.epoch == *epoch) {
                    counts.reports.observe(now.saturating_sub(open.phase));
                    open.phase = now;
                }
            }
            _ => {}
        }
    }

    /// The group has decided on a command.
    pub(crate) fn decided(&self, command: &Command, decision: &Decision, now: Duration) {
        let Some(job) = command.job() else { return };
        let mut counted = self.counted();
        match (command, decision) {
            (Command::Claim { .. }, Err(Refusal::OldGeneration)) => counted.fenced_claims += 1,
            (_, Err(_)) => {}
            (Command::Claim { epoch, .. }, Ok(_)) => {
                let counts = counted.jobs.entry(job).or_insert_with(JobCounts::new);
                counts.claimed += 1;
                if let Some(open) = counts.open.take_if(|open| open.epoch == *epoch) {
                    counts.claim.observe(now.saturating_sub(open.phase));
                    counts.committing = Some((open, now));
                }
            }
            (Command::Committed { .. }, Ok(_)) => {
                counted.jobs.entry(job).or_insert_with(JobCounts::new).committed(now);
            }
            (Command::OpenGeneration { .. }, Ok(_)) => {
                let counts = counted.jobs.entry(job).or_insert_with(JobCounts::new);
                counts.generations += 1;
                counts.forget();
            }
            (Command::RecordFailure { error, .. }, Ok(_)) => {
                let counts = counted.jobs.entry(job).or_insert_with(JobCounts::new);
                *counts.failures.entry(error.code().as_str()).or_default() += 1;
                counts.forget();
            }
            _ => {}
        }
    }

    /// A job has ended.
    pub(crate) fn ended(&self, job: JobId) {
        self.counted().jobs.remove(&job);
    }

    /// Another coordinator leads.
    pub(crate) fn stand_down(&self) {
        self.counted().jobs.clear();
    }

    /// How the checkpoints of a job go.
    pub fn checkpoints(&self, job: JobId) -> CheckpointTimes {
        let counted = self.counted();
        let Some(counts) = counted.jobs.get(&job) else { return CheckpointTimes::default() };
        let p99 = |quantiles: &Quantiles<u64>| {
            (!quantiles.is_empty()).then(|| Duration::from_millis(quantiles.value_at_quantile(0.99)))
        };
        CheckpointTimes {
            last: counts.last,
            p99: p99(&counts.whole_ms),
            latency_p99: p99(&counts.latency_ms),
            failures: counts.failures.values().sum(),
        }
    }

    /// Shows all that this coordinator counts. `nodes`: the executors that attach, in a cluster.
    pub fn show(&self, page: &mut Page, member: &Member, nodes: Option<&Nodes>) {
        self.show_jobs(page, &member.state(Jobs::of));
        show_raft(page, member);
        if let Some(nodes) = nodes {
            let mut states = BTreeMap::from([("attached", 0_u64), ("away", 0), ("draining", 0)]);
            for executor in nodes.attached_and_away() {
                let state = match (executor.attached, executor.draining) {
                    (false, _) => "away",
                    (true, true) => "draining",
                    (true, false) => "attached",
                };
                *states.entry(state).or_default() += 1;
            }
            states.into_iter().for_each(|(state, count)| page.add(&EXECUTORS, &[state], count as f64));
        }
    }

    fn show_jobs(&self, page: &mut Page, jobs: &Jobs) {
        for job in &jobs.running {
            let name = [job.name.as_str()];
            page.add(&GENERATION, &name, job.generation.0 as f64);
            page.add(&EPOCH, &name, job.epoch.0 as f64);
            if let Some(counts) = self.counted().jobs.get(&job.id) {
                counts.show(page, &job.name);
            }
        }
        jobs.states.iter().for_each(|(state, count)| page.add(&JOBS, &[state], *count as f64));
        let counted = self.counted();
        page.add(&FENCED, &["report"], counted.fenced_reports as f64);
        page.add(&FENCED, &["claim"], counted.fenced_claims as f64);
    }
}

/// What the page shows of the state: commands wait while it is looked at, and not while the page is written.
#[derive(Default)]
struct Jobs {
    states: BTreeMap<&'static str, u64>,
    running: Vec<RunningJob>,
}

struct RunningJob {
    id: JobId,
    name: String,
    generation: Generation,
    epoch: Epoch,
}

impl Jobs {
    fn of(state: &State) -> Self {
        let mut jobs = Self::default();
        for (id, job) in &state.jobs {
            *jobs.states.entry(job.status.name()).or_default() += 1;
            if !job.status.is_ended() {
                let epoch = job.last_claim().map_or(Epoch(0), |(epoch, _)| epoch);
                let (name, generation) = (job.name.clone(), job.generation);
                jobs.running.push(RunningJob { id: *id, name, generation, epoch });
            }
        }
        jobs
    }
}

impl JobCounts {
    fn show(&self, page: &mut Page, job: &str) {
        let phases = [("reports", &self.reports), ("manifest", &self.manifest), ("claim", &self.claim)];
        for (phase, histogram) in phases.into_iter().chain([("commit", &self.commit)]) {
            page.histogram(&PHASE, &[job, phase], histogram);
        }
        page.histogram(&WHOLE, &[job], &self.whole);
        let at = |quantile: f64| self.latency_ms.value_at_quantile(quantile) as f64 / 1_000.0;
        let shown = [("0.5", at(0.5)), ("0.99", at(0.99)), ("0.999", at(0.999))];
        let shown = if self.latency_ms.is_empty() { &shown[..0] } else { &shown[..] };
        page.summary(&LATENCY, &[job], shown, self.latency_sum.as_secs_f64(), self.latency_ms.len());
        page.add(&CLAIMED, &[job], self.claimed as f64);
        page.add(&COMMITTED, &[job], self.committed as f64);
        page.add(&GENERATIONS, &[job], self.generations as f64);
        for (code, count) in &self.failures {
            page.add(&FAILURES, &[job, code], *count as f64);
        }
    }
}

fn show_raft(page: &mut Page, member: &Member) {
    let raft = member.raft_status();
    page.add(&TERM, &[], raft.term as f64);
    for role in ["leader", "follower", "candidate", "learner"] {
        page.add(&ROLE, &[role], f64::from(u8::from(role == raft.role)));
    }
    for (family, index) in
        [(&LOG, raft.last_log), (&COMMIT, raft.committed), (&APPLIED, raft.applied), (&SNAPSHOT, raft.snapshot)]
    {
        page.add(family, &[], index.unwrap_or(0) as f64);
    }
    page.add(&SNAPSHOTS, &[], raft.snapshots as f64);
    let members = member.group();
    let voters = members.iter().filter(|member| member.votes).count();
    page.add(&MEMBERS, &["true"], voters as f64);
    page.add(&MEMBERS, &["false"], (members.len() - voters) as f64);
}
