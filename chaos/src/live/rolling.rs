//! A rolling restart, as an operator does it: every process of a cluster is ended with SIGTERM and started again on its
//! disk, one after the other, executors drained before, while a job runs and an independent reader looks.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;

use super::members::{COORDINATORS, EXECUTORS, Members, NODES, name};
use super::network::Network;
use super::process::Qanat;
use super::watch::{Verdict, Watch};
use super::workload::{JOB, Workload};
use crate::oracle::Violation;

/// What a failover may take beside one epoch: a restart that is planned must not take longer.
const FAILOVER_MS: u64 = 1_500;
/// Whatever is waited for comes in this time, or the cluster is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// The rest of the job has all the time it needs, within reason.
const LAST_MAX: Duration = Duration::from_secs(900);
/// Between two looks of the reader: what a pause is measured with.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Between two questions of a client, which is a process too.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct RollingRestart {
    /// Must last for all restarts at the rate.
    pub records: u64,
    pub rows_per_second: u64,
    /// How often each process is started again.
    pub rounds: u64,
    pub parallelism: u32,
    pub interval_ms: u64,
    pub binary: PathBuf,
    /// Part of the folder's name, so that trials of one process do not meet.
    pub name: String,
    /// Leave the folder behind even if all is well.
    pub keep: bool,
}

/// One process, started again.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// `executor-2`, or `coordinator 1, the leader`
    pub process: String,
    /// Until it had no work any more; executors alone.
    pub drained_ms: Option<u64>,
    /// From SIGTERM to its start.
    pub away_ms: u64,
    /// The longest time without new rows in the sinks while all this went on.
    pub pause_ms: u64,
}

/// What it found.
#[derive(Clone, Debug, Serialize)]
pub struct RollingReport {
    pub records: u64,
    pub restarts_planned: u64,
    pub restarts: Vec<Restart>,
    /// The longest pause of all, and what it may be: 1.5 s and an epoch.
    pub pause_ms: u64,
    pub bound_ms: u64,
    pub generations: u64,
    pub elapsed_ms: u64,
    pub found: Verdict,
    pub violations: Vec<Violation>,
    pub folder: String,
}

impl RollingReport {
    /// Nothing lost, nothing twice, and every process was started again.
    pub fn is_exact(&self) -> bool {
        self.violations.is_empty() && self.found.is_exact() && self.restarts.len() as u64 == self.restarts_planned
    }

    /// No pause was longer than a failover may be.
    pub fn is_quick(&self) -> bool {
        self.pause_ms <= self.bound_ms
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = object.as_object_mut() {
            map.insert("verdict".to_owned(), self.verdict().into());
        }
        object
    }

    fn verdict(&self) -> &'static str {
        match (self.is_exact(), self.is_quick()) {
            (true, true) => "PASS",
            (true, false) => "SLOW",
            (false, _) => "FAIL",
        }
    }
}

impl fmt::Display for RollingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rolling    {} records, {:.1} s", self.records, self.elapsed_ms as f64 / 1000.0)?;
        writeln!(
            f,
            "restarts   {} of {}, {} generations",
            self.restarts.len(),
            self.restarts_planned,
            self.generations
        )?;
        for restart in &self.restarts {
            let drained = restart.drained_ms.map_or(String::new(), |ms| format!("drained in {ms} ms, "));
            let Restart { process, away_ms, pause_ms, .. } = restart;
            writeln!(f, "  {process:<26} {drained}away for {away_ms} ms; longest pause {pause_ms} ms")?;
        }
        writeln!(f, "pause      {} ms at most; a failover may take {} ms", self.pause_ms, self.bound_ms)?;
        write!(f, "{}", self.found)?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "violation  {violation}"))?;
        writeln!(f, "verdict    {}", self.verdict())?;
        if !self.is_exact() {
            writeln!(f, "folder     {}", self.folder)?;
        }
        Ok(())
    }
}

/// What the reader has seen, at any moment.
#[derive(Default)]
struct Seen {
    /// When there were new rows.
    arrivals: Mutex<Vec<Instant>>,
    violations: Mutex<Vec<Violation>>,
    is_over: AtomicBool,
}

impl Seen {
    fn arrivals(&self) -> Vec<Instant> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The longest time without new rows that begins or ends between the two.
    fn longest_pause(&self, from: Instant, to: Instant) -> Duration {
        let arrivals = self.arrivals();
        let before = arrivals.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
        let inside = arrivals.iter().filter(|at| **at > from && **at <= to).copied();
        let after = arrivals.iter().find(|at| **at > to).copied().unwrap_or(to);
        let all: Vec<Instant> = std::iter::once(before).chain(inside).chain([after]).collect();
        all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Reads on a thread of its own, so that nothing that is waited for elsewhere looks like a pause.
struct Reader {
    seen: Arc<Seen>,
    thread: JoinHandle<Result<Watch>>,
}

impl Reader {
    fn start(mut watch: Watch) -> Self {
        let seen = Arc::<Seen>::default();
        let shared = seen.clone();
        let thread = std::thread::spawn(move || {
            let mut committed = 0;
            while !shared.is_over.load(Ordering::Acquire) {
                let found = watch.observe().context("look at the output")?;
                let now = watch.committed();
                if now > committed {
                    committed = now;
                    shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                }
                let mut violations = shared.violations.lock().unwrap_or_else(PoisonError::into_inner);
                violations.extend(found);
                violations.truncate(VIOLATIONS_MAX);
                drop(violations);
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(watch)
        });
        Self { seen, thread }
    }

    fn end(self) -> Result<(Watch, Vec<Violation>)> {
        self.seen.is_over.store(true, Ordering::Release);
        let watch = self.thread.join().map_err(|_| anyhow::anyhow!("the reader has died"))??;
        let violations = std::mem::take(&mut *self.seen.violations.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((watch, violations))
    }
}

impl RollingRestart {
    /// Does it. A failure of the engine is in the report, not an error.
    ///
    /// # Errors
    /// If the trial itself cannot be done.
    pub fn run(&self) -> Result<RollingReport> {
        let begun = Instant::now();
        let qanat = Qanat::in_new_folder(&self.name, &self.binary)?;
        let workload = Workload::of_cluster(self.records, self.rows_per_second, self.interval_ms, &qanat.folder);
        let script = format!("{JOB}.sql");
        qanat.write(&script, &workload.script())?;
        let mut members = Members::start(&qanat, Network::new(NODES)?)?;
        members.console.ask(&["submit", &script, "--parallelism", &self.parallelism.to_string()])?;
        let reader = Reader::start(Watch::new(&workload, &qanat.folder));
        let mut restarts = Vec::new();
        for _ in 0..self.rounds {
            for index in 0..EXECUTORS {
                restarts.push(restart_executor(&mut members, &reader.seen, index)?);
            }
            // The leader last: whoever follows it is up to date by then.
            let leader = members.leader()?;
            for index in (1..=COORDINATORS).map(|step| (leader + step) % COORDINATORS) {
                restarts.push(restart_coordinator(&mut members, &reader.seen, index)?);
            }
        }
        if members.job()?.0 == "FINISHED" {
            bail!("the job was over before every process was started again: more records, or fewer per second");
        }
        let generations = finish(&members, &reader.seen)?;
        let (mut watch, mut violations) = reader.end()?;
        let (found, last) = watch.finish_twice(&workload, &qanat.folder)?;
        violations.extend(last);
        violations.dedup();
        let report = RollingReport {
            records: self.records,
            restarts_planned: self.rounds * (EXECUTORS + COORDINATORS) as u64,
            pause_ms: restarts.iter().map(|restart| restart.pause_ms).max().unwrap_or(0),
            restarts,
            bound_ms: FAILOVER_MS + self.interval_ms,
            generations,
            elapsed_ms: millis(begun.elapsed()),
            found,
            violations,
            folder: qanat.folder.display().to_string(),
        };
        drop(members);
        if report.is_exact() && !self.keep {
            qanat.clean_up();
        }
        Ok(report)
    }
}

fn restart_executor(members: &mut Members, seen: &Seen, index: usize) -> Result<Restart> {
    settled(members, seen)?;
    let node = name(COORDINATORS + index);
    let begun = Instant::now();
    members.console.ask(&["cluster", "drain", &node])?;
    let drained = begun.elapsed();
    let gone = Instant::now();
    members.end(COORDINATORS + index, Signal::TERM)?;
    let away = gone.elapsed();
    members.begin(COORDINATORS + index)?;
    settled(members, seen)?;
    let pause = seen.longest_pause(begun, Instant::now());
    Ok(Restart { process: node, drained_ms: Some(millis(drained)), away_ms: millis(away), pause_ms: millis(pause) })
}

fn restart_coordinator(members: &mut Members, seen: &Seen, index: usize) -> Result<Restart> {
    settled(members, seen)?;
    let leads = members.leader()? == index;
    let begun = Instant::now();
    members.end(index, Signal::TERM)?;
    let away = begun.elapsed();
    members.begin(index)?;
    until(|| members.takes_part(index), || format!("coordinator {} takes no part again", index + 1))?;
    settled(members, seen)?;
    let pause = seen.longest_pause(begun, Instant::now());
    let role = if leads { ", the leader" } else { "" };
    let process = format!("coordinator {}{role}", index + 1);
    Ok(Restart { process, drained_ms: None, away_ms: millis(away), pause_ms: millis(pause) })
}

/// Waits until the job runs on all executors again, and rows have come after that.
fn settled(members: &Members, seen: &Seen) -> Result<()> {
    let mut shown = Value::Null;
    until(
        || {
            shown = members.console.ask(&["job", "describe", JOB])?;
            let executors = shown["executors"].as_array().map_or(0, Vec::len);
            ensure!(shown["status"] != "FAILED", "the job has failed: {shown}");
            Ok(executors == EXECUTORS && shown["status"] == "RUNNING" || shown["status"] == "FINISHED")
        },
        || "the job does not run on all executors".to_owned(),
    )?;
    if shown["status"] == "FINISHED" {
        return Ok(());
    }
    let since = Instant::now();
    let has_come = || Ok(seen.arrivals().iter().filter(|at| **at > since).count() >= 2);
    until(has_come, || format!("no row comes: {shown}"))
}

/// Waits for the end of the job. Returns how many generations it took.
fn finish(members: &Members, seen: &Seen) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let (status, generation, _) = members.job()?;
        let is_wrong = !seen.violations.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if is_wrong || matches!(status.as_str(), "FINISHED" | "FAILED" | "STOPPED") {
            return Ok(generation);
        }
        ensure!(begun.elapsed() < LAST_MAX, "the job does not end");
        std::thread::sleep(ASK_EVERY);
    }
}

fn until(mut is_so: impl FnMut() -> Result<bool>, what: impl Fn() -> String) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < PATIENCE, "{}", what());
        std::thread::sleep(ASK_EVERY);
    }
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_measured_from_arrival_to_arrival() {
        let seen = Seen::default();
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let pause = |from, to| millis(seen.longest_pause(at(from), at(to)));
        *seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner) = [100, 200, 700, 800, 900].map(at).to_vec();
        assert_eq!(pause(210, 750), 500, "it began before");
        assert_eq!(pause(300, 650), 500, "and ended after");
        assert_eq!(pause(710, 850), 100);
        assert_eq!(pause(850, 2_000), 1_100, "it has not ended");
    }
}
