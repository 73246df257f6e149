//! A whole cluster of real processes under faults, while an independent reader looks at what it writes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::fault::{Fault, FaultKind};
use super::members::{COORDINATORS, EXECUTORS, Members};
use super::moment::Random;
use super::process::Qanat;
use super::watch::{Verdict, Watch};
use super::workload::{JOB, Workload};
use crate::oracle::Violation;

/// A cluster whose last fault is over makes progress within this time, or it is stuck (I15).
const PROGRESS_MAX: Duration = Duration::from_secs(30);
/// The last part has all the time it needs, within reason.
const LAST_MAX: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two questions of the client.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct ClusterCampaign {
    pub records: u64,
    pub faults: u64,
    pub rows_per_second: u64,
    pub seed: u64,
    pub parallelism: u32,
    pub interval_ms: u64,
    /// What may happen.
    pub kinds: Vec<FaultKind>,
    pub binary: PathBuf,
    /// Part of the folder's name, so that campaigns of one process do not meet.
    pub name: String,
    /// Leave the folder behind even if all is well.
    pub keep: bool,
}

/// What it found.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterReport {
    pub seed: u64,
    pub records: u64,
    pub faults_planned: u64,
    pub kinds_planned: usize,
    pub faults: BTreeMap<FaultKind, u64>,
    /// From a fault to the next epoch that is visible, by kind, where nothing else happened meanwhile.
    pub recovered_ms: BTreeMap<FaultKind, Vec<u64>>,
    pub generations: u64,
    pub looks: u64,
    pub elapsed_ms: u64,
    pub found: Verdict,
    pub violations: Vec<Violation>,
    pub replay: String,
    pub folder: String,
}

impl ClusterReport {
    fn is_exact(&self) -> bool {
        self.violations.is_empty() && self.found.is_exact()
    }

    fn has_enough_faults(&self) -> bool {
        let kinds = self.kinds_planned.min(usize::try_from(self.faults_planned).unwrap_or(usize::MAX));
        self.faults.values().sum::<u64>() >= self.faults_planned && self.faults.len() >= kinds
    }

    /// Nothing lost, nothing twice, never stuck, and all the faults that were asked for.
    pub fn passes(&self) -> bool {
        self.is_exact() && self.has_enough_faults()
    }

    pub fn verdict(&self) -> &'static str {
        match (self.is_exact(), self.has_enough_faults()) {
            (true, true) => "PASS",
            (true, false) => "UNKNOWN",
            (false, _) => "FAIL",
        }
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = object.as_object_mut() {
            map.insert("verdict".to_owned(), self.verdict().into());
        }
        object
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} records, {:.1} s", self.seed, self.records, self.elapsed_ms as f64 / 1000.0)?;
        let sum: u64 = self.faults.values().sum();
        writeln!(f, "faults     {sum} of {} planned, {} generations", self.faults_planned, self.generations)?;
        for (kind, count) in &self.faults {
            let mut times = self.recovered_ms.get(kind).cloned().unwrap_or_default();
            times.sort_unstable();
            let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
            let name = format!("{kind:?}");
            writeln!(
                f,
                "  {name:<15} {count:>4}  an epoch after {} / {} / {} ms (least, median, most)",
                at(0),
                at(50),
                at(100)
            )?;
        }
        let found = &self.found;
        writeln!(
            f,
            "seen       {} epochs, {} files, {} runs, by {} looks",
            found.epochs, found.committed_files, found.runs, self.looks
        )?;
        write!(f, "{found}")?;
        for violation in &self.violations {
            writeln!(f, "violation  {violation}")?;
        }
        writeln!(f, "verdict    {}", self.verdict())?;
        if !self.passes() {
            writeln!(f, "folder     {}\nreplay     {}", self.folder, self.replay)?;
        }
        Ok(())
    }
}

struct Trial<'a> {
    campaign: &'a ClusterCampaign,
    cluster: Members,
    watch: Watch,
    random: Random,
    faults: BTreeMap<FaultKind, u64>,
    last: Option<(FaultKind, Instant)>,
    recovered_ms: BTreeMap<FaultKind, Vec<u64>>,
    looks: u64,
    violations: Vec<Violation>,
}

impl ClusterCampaign {
    /// Runs it. A failure of the engine is in the report, not an error.
    ///
    /// # Errors
    /// If the trial itself cannot be done.
    pub fn run(&self) -> Result<ClusterReport> {
        let begun = Instant::now();
        let qanat = Qanat::in_new_folder(&self.name, &self.binary)?;
        let workload = Workload::of_cluster(self.records, self.rows_per_second, self.interval_ms, &qanat.folder);
        let script = format!("{JOB}.sql");
        qanat.write(&script, &workload.script())?;
        let cluster = Members::start(&qanat)?;
        cluster.ask(&["submit", &script, "--parallelism", &self.parallelism.to_string()])?;
        let mut trial = Trial {
            campaign: self,
            cluster,
            watch: Watch::new(&workload, &qanat.folder),
            random: Random::new(self.seed),
            faults: BTreeMap::new(),
            last: None,
            recovered_ms: BTreeMap::new(),
            looks: 0,
            violations: Vec::new(),
        };
        trial.run()?;
        let generations = trial.finish()?;
        let (found, last) = trial.watch.finish_twice(&workload, &qanat.folder)?;
        trial.violations.extend(last);
        trial.violations.dedup();
        let report = ClusterReport {
            seed: self.seed,
            records: self.records,
            faults_planned: self.faults,
            kinds_planned: self.kinds.len(),
            faults: trial.faults.clone(),
            recovered_ms: trial.recovered_ms.clone(),
            generations,
            looks: trial.looks,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            found,
            violations: std::mem::take(&mut trial.violations),
            replay: self.replay(),
            folder: qanat.folder.display().to_string(),
        };
        drop(trial);
        if report.passes() && !self.keep {
            qanat.clean_up();
        }
        Ok(report)
    }

    fn replay(&self) -> String {
        format!(
            "cargo run -p qanat-chaos --bin cluster -- --records {} --faults {} --rate {} --seed {} --parallelism {} --interval-ms {}",
            self.records, self.faults, self.rows_per_second, self.seed, self.parallelism, self.interval_ms
        )
    }
}

impl Trial<'_> {
    fn run(&mut self) -> Result<()> {
        for number in 0..self.campaign.faults {
            let fault = Fault::draw(&mut self.random, number, &self.campaign.kinds);
            // Some come while the one before is still felt.
            let is_alone = self.random.below(4) > 0;
            if is_alone && !self.progresses()? {
                return Ok(());
            }
            self.pass(fault.delay)?;
            if self.cluster.job()?.0 == "FINISHED" {
                return Ok(());
            }
            let begun = Instant::now();
            self.inject(fault)?;
            *self.faults.entry(fault.kind).or_default() += 1;
            self.last = is_alone.then_some((fault.kind, begun));
            if self.violations.len() >= VIOLATIONS_MAX {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until more rows are visible. False if the job has ended, or none come: then it is stuck.
    fn progresses(&mut self) -> Result<bool> {
        let before = self.watch.committed();
        let begun = Instant::now();
        let mut asked = Instant::now();
        loop {
            if self.watch.committed() > before {
                if let Some((kind, at)) = self.last.take() {
                    let after = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.recovered_ms.entry(kind).or_default().push(after);
                }
                return Ok(true);
            }
            // Now and then: a client is a process too, and takes its share of the machine.
            if asked.elapsed() > ASK_EVERY {
                asked = Instant::now();
                let (status, generation, epoch) = self.cluster.job()?;
                if status == "FINISHED" {
                    return Ok(false);
                }
                if matches!(status.as_str(), "FAILED" | "STOPPED") {
                    let job = self.cluster.ask(&["job", "describe", JOB])?;
                    self.violations.push(format!("the job is {status}: {job}"));
                    return Ok(false);
                }
                if begun.elapsed() > PROGRESS_MAX {
                    let text = format!("no row in {PROGRESS_MAX:?} after epoch {epoch} of generation {generation}");
                    self.violations.push(text);
                    return Ok(false);
                }
            }
            self.pass(LOOK_EVERY)?;
        }
    }

    /// Lets time go by, looking.
    fn pass(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.look()?;
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn inject(&mut self, fault: Fault) -> Result<()> {
        use rustix::process::Signal;
        let executor = usize::try_from(fault.which % EXECUTORS as u64)?;
        match fault.kind {
            FaultKind::KillExecutor => self.bounce_executor(executor, Signal::KILL, fault.lasts),
            FaultKind::KillLeader => {
                let leader = self.cluster.leader()?;
                self.bounce_coordinator(leader, Signal::KILL, fault.lasts)
            }
            FaultKind::KillFollower => {
                let other = 1 + usize::try_from(fault.which % (COORDINATORS as u64 - 1))?;
                let follower = (self.cluster.leader()? + other) % COORDINATORS;
                self.bounce_coordinator(follower, Signal::KILL, fault.lasts)
            }
            FaultKind::PauseExecutor => {
                self.cluster.executors[executor].process.signal(Signal::STOP)?;
                self.pass(fault.lasts)?;
                self.cluster.executors[executor].process.signal(Signal::CONT)
            }
            FaultKind::PauseLeader => {
                let leader = self.cluster.leader()?;
                self.cluster.coordinators[leader].signal(Signal::STOP)?;
                self.pass(fault.lasts)?;
                self.cluster.coordinators[leader].signal(Signal::CONT)
            }
            FaultKind::CutLink => {
                self.cluster.executors[executor].link.cut(true);
                self.pass(fault.lasts)?;
                self.cluster.executors[executor].link.cut(false);
                Ok(())
            }
            FaultKind::Restart => {
                let any = usize::try_from(fault.which % (COORDINATORS + EXECUTORS) as u64)?;
                match any.checked_sub(COORDINATORS) {
                    Some(executor) => self.bounce_executor(executor, Signal::TERM, Duration::ZERO),
                    None => self.bounce_coordinator(any, Signal::TERM, Duration::ZERO),
                }
            }
        }
    }

    fn bounce_executor(&mut self, index: usize, signal: rustix::process::Signal, away: Duration) -> Result<()> {
        self.cluster.end_executor(index, signal)?;
        self.pass(away)?;
        self.cluster.start_executor(index)
    }

    fn bounce_coordinator(&mut self, index: usize, signal: rustix::process::Signal, away: Duration) -> Result<()> {
        self.cluster.end_coordinator(index, signal)?;
        self.pass(away)?;
        self.cluster.start_coordinator(index)
    }

    /// Waits for the end of the job. Returns how many generations it took.
    fn finish(&mut self) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let (status, generation, _) = self.cluster.job()?;
            match status.as_str() {
                "FINISHED" => return Ok(generation),
                "FAILED" | "STOPPED" => return Ok(generation),
                _ if !self.violations.is_empty() => return Ok(generation),
                _ if begun.elapsed() > LAST_MAX => bail!("the job does not end"),
                _ => self.pass(Duration::from_millis(200))?,
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        self.looks += 1;
        let found = self.watch.observe().context("look at the output")?;
        self.violations.extend(found);
        self.violations.truncate(VIOLATIONS_MAX);
        Ok(())
    }
}
