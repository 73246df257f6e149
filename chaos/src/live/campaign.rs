//! The campaign: one job, killed again and again, and read by somebody else all the while.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qanat_storage::env::sim::Random;

use super::moment::{Moment, Phase};
use super::process::{Ended, Life, POLL, Qanat};
use super::report::{Kill, Report};
use super::watch::Watch;
use super::workload::{JOB, Place, TOPIC, Workload};
use crate::oracle::Violation;

/// What a life is expected to add, at the rate that is asked of the source: the rate is chosen so that the
/// records last for all kills.
const LIFE_S: f64 = 0.3;
/// A life that does not come to its planned moment is killed anyway.
const LIFE_MAX: Duration = Duration::from_secs(3);
/// Between two looks of the readers, unless the moment is a thing they wait for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The last run has all the time it needs, within reason.
const LAST_MAX: Duration = Duration::from_secs(600);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub records: u64,
    pub kills: u64,
    pub seed: u64,
    pub file: bool,
    pub log: bool,
    pub windows: bool,
    pub parallelism: u32,
    pub interval_ms: u64,
    pub binary: PathBuf,
    /// Part of the folder's name, so that campaigns of one process do not meet.
    pub name: String,
    /// Leave the folder behind even if all is well.
    pub keep: bool,
}

enum End {
    Killed(Kill),
    Finished(Ended),
    Died(Ended),
}

struct Trial<'a> {
    campaign: &'a Campaign,
    watch: Watch,
    random: Random,
    kills: Vec<Kill>,
    finals: u64,
    looks: u64,
    violations: Vec<Violation>,
    qanat: Qanat,
}

impl Campaign {
    /// Runs it. A failure of the engine is in the report, not an error.
    ///
    /// # Errors
    /// If the trial itself cannot be done.
    pub fn run(&self) -> Result<Report> {
        let begun = Instant::now();
        let qanat = Qanat::in_new_folder(&self.name, &self.binary)?;
        let workload = self.workload();
        qanat.write(&format!("{JOB}.sql"), &workload.script())?;
        let mut trial = Trial {
            campaign: self,
            watch: Watch::new(&workload, &qanat.folder),
            random: Random::new(self.seed),
            kills: Vec::new(),
            finals: 0,
            looks: 0,
            violations: Vec::new(),
            qanat: qanat.clone(),
        };
        let mut starts = 0;
        let mut receipt = serde_json::Value::Null;
        loop {
            starts += 1;
            match trial.live()? {
                End::Killed(kill) => trial.kills.push(kill),
                End::Finished(ended) => {
                    receipt = ended.json()?;
                    break;
                }
                End::Died(ended) => {
                    let text = format!("the process ended with {}: {}", ended.status, ended.stderr.trim());
                    trial.violations.push(text);
                    break;
                }
            }
            trial.look()?;
            if trial.violations.len() >= VIOLATIONS_MAX {
                break;
            }
        }
        let (found, last) = trial.watch.finish_twice(&workload, &qanat.folder)?;
        trial.violations.extend(last);
        check_receipt(&receipt, self, &mut trial.violations);
        trial.violations.dedup();
        let report = Report {
            seed: self.seed,
            records: self.records,
            kills_planned: self.kills,
            kills: trial.kills,
            starts,
            looks: trial.looks,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            receipt,
            found,
            violations: trial.violations,
            replay: self.replay(),
            folder: qanat.folder.display().to_string(),
        };
        if report.passes() && !self.keep {
            qanat.clean_up();
        }
        Ok(report)
    }

    fn workload(&self) -> Workload {
        let seconds = (self.kills as f64 * LIFE_S).max(1.0);
        Workload {
            records: self.records,
            rows_per_second: Some((self.records as f64 / seconds).max(1.0) as u64),
            interval_ms: self.interval_ms,
            file: self.file,
            log: self.log,
            windows: self.windows,
            topic: TOPIC.to_owned(),
            place: Place::of_run(),
        }
    }

    fn replay(&self) -> String {
        let sink = match (self.file, self.log) {
            (true, true) => "both",
            (false, true) => "log",
            _ => "file",
        };
        format!(
            "cargo run -p qanat-chaos --bin kill -- --records {} --kills {} --seed {} --sink {sink}{} --parallelism {} --interval-ms {}",
            self.records,
            self.kills,
            self.seed,
            if self.windows { " --windows" } else { "" },
            self.parallelism,
            self.interval_ms
        )
    }
}

impl Trial<'_> {
    /// One process, from its start to a kill or to its own end.
    fn live(&mut self) -> Result<End> {
        let script = format!("{JOB}.sql");
        let parallelism = self.campaign.parallelism.to_string();
        let arguments = ["-o", "json", "run", &script, "--parallelism", &parallelism];
        let mut life = self.qanat.start(&arguments)?;
        let moment = self.plan();
        let Some(moment) = moment else {
            while life.is_running()? && life.age() < LAST_MAX {
                self.look()?;
                std::thread::sleep(LOOK_EVERY);
            }
            return Ok(of_end(life.wait(POLL)?));
        };
        let known = self.manifests()?;
        let mut reached: Option<Instant> = None;
        let mut looked = Instant::now();
        loop {
            if !life.is_running()? {
                return Ok(of_end(life.wait(POLL)?));
            }
            let wants_look = moment.phase == Phase::Committing && reached.is_none();
            if wants_look || looked.elapsed() >= LOOK_EVERY {
                self.look()?;
                looked = Instant::now();
            }
            if reached.is_none() && self.is_reached(&moment, &known)? {
                reached = Some(Instant::now());
            }
            let due = match moment.phase {
                Phase::StartUp | Phase::Running => life.age() >= moment.delay,
                _ => reached.is_some_and(|at| at.elapsed() >= moment.delay),
            };
            if due {
                return self.kill(life, moment.phase);
            }
            if moment.phase != Phase::Final && (life.age() >= LIFE_MAX || self.is_ahead()) {
                return self.kill(life, Phase::Running);
            }
            std::thread::sleep(POLL.min(moment.delay).max(Duration::from_micros(200)));
        }
    }

    /// The next kill: the planned ones over the whole run, then a few around the end.
    fn plan(&mut self) -> Option<Moment> {
        if (self.kills.len() as u64) < self.campaign.kills {
            return Some(Moment::draw(&self.random, self.watch.sees_files()));
        }
        if self.finals < self.campaign.kills.div_ceil(20).max(2) {
            self.finals += 1;
            return Some(Moment::at_the_end(&self.random));
        }
        None
    }

    fn kill(&mut self, life: Life, phase: Phase) -> Result<End> {
        let after_ms = u64::try_from(life.age().as_millis()).unwrap_or(u64::MAX);
        let ended = life.kill()?;
        if ended.stderr.contains("panicked") {
            self.violations.push(format!("a thread panicked: {}", ended.stderr.trim()));
        }
        // It was faster than the signal.
        if ended.signal().is_none() {
            return Ok(of_end(ended));
        }
        Ok(End::Killed(Kill { phase, after_ms, committed: self.watch.committed() }))
    }

    fn is_reached(&self, moment: &Moment, known: &[String]) -> Result<bool> {
        Ok(match moment.phase {
            Phase::StartUp | Phase::Running => true,
            Phase::Claiming => self.manifests()?.iter().any(|name| !known.contains(name)),
            Phase::Committing => self.watch.is_committing(),
            // What one life adds is left, or less.
            Phase::Final => {
                let share = self.campaign.records / self.campaign.kills.max(1);
                self.campaign.records - self.watch.committed() <= share
            }
        })
    }

    /// More is committed than the kills so far allow: the rest must last for the rest of them.
    fn is_ahead(&self) -> bool {
        let (done, all) = (self.kills.len() as u128 + 1, u128::from(self.campaign.kills) + 1);
        u128::from(self.watch.committed()) * all > u128::from(self.campaign.records) * done * 9 / 10
    }

    fn manifests(&self) -> Result<Vec<String>> {
        let folder = self.qanat.folder.join(Place::of_run().manifests);
        let mut found = Vec::new();
        for job in crate::oracle::folder::names(&folder)? {
            found.extend(crate::oracle::folder::names(&folder.join(job))?);
        }
        Ok(found)
    }

    fn look(&mut self) -> Result<()> {
        self.looks += 1;
        let found = self.watch.observe().context("look at the output")?;
        self.violations.extend(found);
        self.violations.truncate(VIOLATIONS_MAX);
        Ok(())
    }
}

fn of_end(ended: Ended) -> End {
    if ended.success() && !ended.stderr.contains("panicked") { End::Finished(ended) } else { End::Died(ended) }
}

/// The receipt must tell the truth too.
fn check_receipt(receipt: &serde_json::Value, campaign: &Campaign, violations: &mut Vec<Violation>) {
    let mut expect = |pointer: &str, expected: serde_json::Value| {
        let found = receipt.pointer(pointer);
        if found != Some(&expected) {
            violations.push(format!("the receipt says {found:?} at {pointer}, not {expected}"));
        }
    };
    expect("/status", "FINISHED".into());
    expect("/sources/numbers", campaign.records.into());
    if campaign.file {
        expect("/sinks/ids_files/rows", campaign.records.into());
    }
    if campaign.log {
        expect("/sinks/ids_log/rows", campaign.records.into());
    }
    expect("/late", 0.into());
    expect("/dead_lettered", 0.into());
}
