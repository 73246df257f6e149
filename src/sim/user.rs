//! The user of a simulated cluster: submits a script, changes things while it runs, and waits for its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use qanat_client::history::History;
use qanat_client::{Client, JobState, Rollback, Submit};
use qanat_proto::audit::{Report, Verdict};
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::sim::Random;

use super::clock::Time;
use super::faults::{Action, Plan, Wish};
use super::network::SimDial;
use super::trace::Trace;

/// A cluster in which nothing goes wrong any more ends its jobs within this time, or it is stuck (I15).
pub(super) const ENDS_WITHIN_MS: u64 = 120_000;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What the script is submitted as.
pub(super) const NAME: &str = "simulated";

/// What the user saw in the end.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) audits: Vec<Report>,
    pub(super) wishes: BTreeMap<String, u64>,
    pub(super) violations: Vec<String>,
    /// What could not be looked at.
    pub(super) unseen: Vec<String>,
    pub(super) generations: u64,
    /// Answers of the cluster that were checked against each other.
    pub(super) answers: usize,
}

/// A coordinator that has lost its disk, and the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    pub(super) lost: u64,
    pub(super) new: u64,
    pub(super) address: String,
}

pub(super) struct User {
    pub(super) script: String,
    pub(super) set: BTreeMap<String, String>,
    pub(super) coordinators: Vec<String>,
    pub(super) plan: Rc<Plan>,
    pub(super) time: Time,
    pub(super) trace: Rc<Trace>,
    pub(super) seen: Rc<RefCell<Seen>>,
    /// The first job, once it is known, and the parallelism that it was to have at first.
    pub(super) asked: RefCell<Option<(String, u32)>>,
    /// Of that parallelism.
    pub(super) history: History,
    /// What has to be told the group.
    pub(super) replaced: Rc<RefCell<Vec<Replaced>>>,
    /// It needs the cluster no more.
    pub(super) is_done: Rc<Cell<bool>>,
}

impl User {
    /// Until all is told.
    pub(super) async fn act(self) -> turmoil::Result {
        let is_over = Cell::new(false);
        let act = async {
            let done = self.run().await;
            is_over.set(true);
            done
        };
        let (done, (), ()) = tokio::join!(act, self.ask(1, &is_over), self.ask(2, &is_over));
        if let Err(error) = done {
            self.trace.line("user", &format!("gives up: {error}"));
            self.seen.borrow_mut().unseen.push(error.to_string());
        }
        let mut seen = self.seen.borrow_mut();
        seen.answers = self.history.answers();
        if let Some((_, initial)) = self.asked.borrow().as_ref() {
            seen.violations.extend(self.history.violation(*initial));
        }
        self.is_done.set(true);
        Ok(())
    }

    /// Another client, which asks what the first job's parallelism is to be, and now and then changes it.
    async fn ask(&self, number: u64, is_over: &Cell<bool>) {
        if self.plan.actions.is_empty() {
            return;
        }
        let random = Random::new(self.plan.heals_ms.wrapping_mul(31).wrapping_add(number));
        let Ok(client) = Client::with_dial(self.coordinators.clone(), SimDial::shared()) else { return };
        let client = client.with_deadline(PATIENCE);
        while !is_over.get() {
            tokio::time::sleep(Duration::from_millis(random.between(20, 600))).await;
            let Some((job, _)) = self.asked.borrow().clone() else { continue };
            if random.once_in(8) && self.time.ms() < self.plan.heals_ms {
                let wanted = u32::try_from(random.between(1, 4)).unwrap_or(1);
                drop(self.rescale(&client, &job, wanted).await);
            } else {
                let call = self.history.reads();
                match client.describe(&job).await {
                    Ok(job) => self.history.has_read(call, job.parallelism_wanted),
                    Err(_) => self.history.lost(call),
                }
            }
        }
    }

    async fn rescale(&self, client: &Client, job: &str, wanted: u32) -> Result<()> {
        let is_asked = self.asked.borrow().as_ref().is_some_and(|(asked, _)| asked == job);
        let call = is_asked.then(|| self.history.writes(wanted));
        let done = client.rescale(job, wanted).await;
        match (call, &done) {
            (Some(call), Ok(_)) => self.history.written(call),
            (Some(call), Err(_)) => self.history.lost(call),
            (None, _) => {}
        }
        done.map(drop)
    }

    async fn run(&self) -> Result<()> {
        let client = Client::with_dial(self.coordinators.clone(), SimDial::shared())?.with_deadline(PATIENCE);
        let mut submit = Submit::new(NAME, self.script.clone())
            .parallelism(self.plan.parallelism)
            .request_id("5151515151515151515151515151515a");
        let own = [
            ("execution.checkpointing.interval", self.plan.interval_ms),
            ("execution.checkpointing.timeout", self.plan.timeout_ms),
        ];
        for (key, ms) in own.into_iter().filter(|(key, _)| !self.set.contains_key(*key)) {
            submit = submit.set(key, format!("{ms} ms"));
        }
        for (key, value) in &self.set {
            submit = submit.set(key, value);
        }
        let jobs = loop {
            match client.submit(submit.clone()).await {
                Ok(submitted) => break submitted.jobs,
                Err(error) => {
                    self.trace.line("user", &format!("cannot submit: {error}"));
                    let may_pass = matches!(
                        error.code(),
                        Code::NoQuorum | Code::NotLeader | Code::DiskFull | Code::FsyncFailed | Code::Io | Code::Panic
                    );
                    if !may_pass || self.time.ms() > self.plan.heals_ms + ENDS_WITHIN_MS {
                        return Err(error);
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        *self.asked.borrow_mut() = jobs.first().map(|job| (job.id.clone(), job.parallelism_wanted));
        let jobs: Vec<String> = jobs.into_iter().map(|job| job.id).collect();
        self.trace.line("user", &format!("has submitted {} jobs", jobs.len()));
        for action in &self.plan.actions {
            let wait = action.at_ms.saturating_sub(self.time.ms());
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let which = usize::try_from(action.which % jobs.len().max(1) as u64).unwrap_or(0);
            let Some(job) = jobs.get(which) else { continue };
            let done = self.wish(&client, action, job).await;
            let end = done.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
            self.trace.line("user", &format!("{:?}: {end}", action.wish));
            if done.is_ok() {
                *self.seen.borrow_mut().wishes.entry(format!("{:?}", action.wish).to_lowercase()).or_default() += 1;
            }
        }
        let wait = self.plan.heals_ms.saturating_sub(self.time.ms());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.until_finished(&client, &jobs).await?;
        for job in &jobs {
            let report = client.audit(job, None).await?;
            if report.verdict == Verdict::Fail {
                let differences = report.differences.iter().take(5);
                let told = differences.map(|d| format!("audit: {}: {}", d.place, d.message));
                self.seen.borrow_mut().violations.extend(told);
            }
            let totals = &report.totals;
            let told =
                format!("audit: {} epochs read {} rows and wrote {}", totals.epochs, totals.read, totals.written);
            self.trace.line("user", &told);
            for epoch in report.epochs.iter().rev().take(3).rev() {
                let (read, written) = (epoch.read, epoch.written.rows);
                self.trace
                    .line("user", &format!("audit: epoch {} read {read} rows and wrote {written}", epoch.epoch.0));
            }
            self.seen.borrow_mut().audits.push(report);
        }
        Ok(())
    }

    async fn wish(&self, client: &Client, action: &Action, job: &str) -> Result<()> {
        match action.wish {
            Wish::Rescale => {
                let parallelism = 1 + u32::try_from(action.size % 4).unwrap_or(0);
                self.rescale(client, job, parallelism).await
            }
            Wish::Restart => {
                match action.size % 3 {
                    0 => client.stop_now(job).await?,
                    _ => client.stop(job).await?,
                };
                self.until_stopped(client, job).await?;
                client.resume(job).await.map(drop)
            }
            Wish::Savepoint => client.savepoint(job, &format!("kept-{}", action.at_ms)).await.map(drop),
            Wish::Rollback => {
                let mut known = client.savepoints(job).await?.restorable;
                known.sort_unstable();
                let which = usize::try_from(action.size % known.len().max(1) as u64).unwrap_or(0);
                let to = known.get(which).copied().unwrap_or(0);
                client.rollback(Rollback::to_epoch(job, to)).await.map(drop)
            }
            Wish::Drain => {
                let executors = self.plan.executors.max(1) as u64;
                let node = format!("e{}", 1 + action.size % executors);
                client.drain(&node, false).await?;
                tokio::time::sleep(Duration::from_millis(action.size % 3_000)).await;
                client.drain(&node, true).await.map(drop)
            }
        }
    }

    /// A stop is acknowledged: waits a while until it has come about. At most one epoch that was claimed before it may
    /// still be committed; the next one that is claimed is the last (P7).
    async fn until_stopped(&self, client: &Client, job: &str) -> Result<()> {
        let mut last = None;
        for _ in 0..50 {
            let seen = client.describe(job).await?;
            // An answer to an older wish to go on may have been lost, and the wish have come after the stop.
            if seen.state() != JobState::Running || !seen.stopping {
                break;
            }
            let last = *last.get_or_insert(seen.committed_epoch + 1);
            if seen.committed_epoch > last {
                let told = format!(
                    "job {job} runs on in epoch {} behind a stop; {last} was to be the last",
                    seen.committed_epoch
                );
                self.seen.borrow_mut().violations.push(told);
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Has a new coordinator take the place of a lost one. Whether it has.
    async fn replace(&self, client: &Client, replaced: &Replaced) -> bool {
        let Ok(status) = client.status().await else { return false };
        let is_there = |id: u64| status.coordinators.iter().any(|coordinator| coordinator.id == id);
        let done = match (is_there(replaced.lost), is_there(replaced.new)) {
            (true, _) => client.remove_coordinator(replaced.lost).await,
            (false, false) => client.add_coordinator(replaced.new, &replaced.address).await,
            (false, true) => return true,
        };
        let told = done.map_or_else(|error| error.to_string(), |_| "done".to_owned());
        self.trace.line("user", &format!("replaces coordinator {} by {}: {told}", replaced.lost, replaced.new));
        false
    }

    /// All faults are over: whoever was taken out of use comes back, and what was stopped goes on to its end.
    async fn until_finished(&self, client: &Client, jobs: &[String]) -> Result<()> {
        let deadline = self.plan.heals_ms + ENDS_WITHIN_MS;
        let mut left: Vec<&String> = jobs.iter().collect();
        let mut last = String::new();
        let mut is_undrained = false;
        let mut replaced = 0;
        loop {
            let job = left.first().copied();
            let is_replaced = replaced == self.replaced.borrow().len();
            if job.is_none() && is_undrained && is_replaced {
                return Ok(());
            }
            if self.time.ms() > deadline {
                let seconds = ENDS_WITHIN_MS / 1_000;
                let text = match job {
                    Some(job) => format!("job {job} has not ended {seconds} s after the last fault: {last}"),
                    None => format!("lost coordinators have not been replaced {seconds} s after the last fault"),
                };
                self.seen.borrow_mut().violations.push(text);
                return Err(Error::new(Code::Usage, "the jobs do not end"));
            }
            let next = self.replaced.borrow().get(replaced).cloned();
            if let Some(next) = next
                && self.replace(client, &next).await
            {
                replaced += 1;
            }
            if !is_undrained {
                is_undrained = true;
                for number in 1..=self.plan.executors {
                    is_undrained &= client.drain(&format!("e{number}"), true).await.is_ok();
                }
            }
            let Some(job) = job else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            match client.describe(job).await {
                Ok(seen) => {
                    let failure = seen.failure.as_ref().map(|f| format!("{f:?}")).unwrap_or_default();
                    last = format!(
                        "{:?}, generation {}, epoch {} {failure}",
                        seen.state(),
                        seen.generation,
                        seen.committed_epoch
                    );
                    match seen.state() {
                        JobState::Finished => {
                            self.trace.line("user", &format!("sees the end: {last}"));
                            self.seen.borrow_mut().generations += seen.generation;
                            left.remove(0);
                            continue;
                        }
                        JobState::Failed => {
                            self.seen.borrow_mut().violations.push(format!("job {job} has failed: {last}"));
                            return Err(Error::new(Code::Usage, "a job has failed"));
                        }
                        JobState::Stopped | JobState::Created => drop(client.resume(job).await),
                        _ => {}
                    }
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
