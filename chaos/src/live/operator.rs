//! What an operator and other clients do while faults go on: whatever was acknowledged must have come about.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qanat_storage::env::sim::Random;

use super::members::{Members, PATIENCE};
use super::watch::Watch;
use super::workload::{JOB, Workload};
use crate::oracle::Violation;

/// Rows of a small job, how many it reads a second, and how many jobs there may be.
const SMALL_RECORDS: u64 = 6_000;
const SMALL_RATE: u64 = 3_000;
const SMALL_INTERVAL_MS: u64 = 500;
const SMALL_JOBS_MAX: usize = 200;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A refusal of what makes no sense for a job that has ended.
pub(super) fn is_over(error: &str) -> bool {
    error.contains("E0501")
}

/// The clients of one campaign.
#[derive(Default)]
pub struct Operator {
    savepoints: Vec<String>,
    /// Names of the small jobs that were acknowledged.
    jobs: Vec<String>,
}

impl Operator {
    /// Another job has the name now: savepoints are those of one that has ended.
    pub fn turns_to_new_job(&mut self) {
        self.savepoints.clear();
    }

    /// Makes one, and drops the one before the last.
    ///
    /// # Errors
    /// If the cluster does not serve.
    pub fn savepoint(&mut self, members: &Members, which: u64) -> Result<bool> {
        let name = format!("s{which:x}");
        // One whose answer was lost is there when it is asked for again.
        let made = members.console.insist(&["job", "savepoint", JOB, "--name", &name], |error| error.contains("E0"));
        let listed = members.console.insist(&["job", "savepoints", JOB], |_| false)?;
        let is_there = listed["savepoints"].as_array().is_some_and(|all| all.iter().any(|s| s["name"] == *name));
        ensure!(is_there || made.is_err(), "savepoint {name} was acknowledged and is not there: {listed}");
        if !is_there {
            return Ok(false);
        }
        self.savepoints.push(name);
        if self.savepoints.len() > 2 {
            let old = self.savepoints.remove(0);
            members.console.insist(&["job", "savepoint", JOB, "--drop", &old], |error| !error.contains("E06"))?;
        }
        Ok(true)
    }

    /// # Errors
    /// If the cluster does not serve, or the job does not stop or does not go on.
    pub fn stop_and_resume(&self, members: &Members) -> Result<bool> {
        let stopped = members.console.insist(&["job", "stop", JOB], is_over);
        let begun = Instant::now();
        loop {
            match members.job()?.0.as_str() {
                "STOPPED" => break,
                "FINISHED" => return Ok(false),
                status => ensure!(begun.elapsed() < PATIENCE, "the job is {status} after a stop: {stopped:?}"),
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let resumed = members.console.insist(&["job", "resume", JOB], is_over);
        let status = members.job()?.0;
        ensure!(!matches!(status.as_str(), "STOPPED" | "FAILED"), "the job is {status} after a resume: {resumed:?}");
        Ok(true)
    }

    /// Submits a small job twice by one request id.
    ///
    /// # Errors
    /// If the cluster does not serve, or there are two jobs then.
    pub fn submit(&mut self, members: &Members, which: u64) -> Result<bool> {
        if self.jobs.len() >= SMALL_JOBS_MAX {
            return Ok(false);
        }
        let name = format!("small-{}", self.jobs.len() + 1);
        let script = format!("{name}.sql");
        members.qanat.write(&script, &small(members, &name).script())?;
        let id = format!("{:016x}{:016x}", Random::new(which).draw(), which);
        let arguments = ["submit", &script, "--name", &name, "--parallelism", "1", "--request-id", &id];
        let first = members.console.insist(&arguments, |error| !error.contains("E06"))?;
        self.jobs.push(name.clone());
        let second = members.console.insist(&arguments, |error| !error.contains("E06"))?;
        let job = |told: &serde_json::Value| told["jobs"][0]["job"].clone();
        ensure!(job(&first) == job(&second) && job(&first).is_string(), "two jobs by one id: {first} and {second}");
        Ok(true)
    }

    /// What must hold in the end: small jobs end with every row once, and every job passes its audit.
    ///
    /// # Errors
    /// If the cluster does not serve.
    pub fn settle(&self, members: &Members) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        for name in &self.jobs {
            let begun = Instant::now();
            loop {
                let told = members.console.insist(&["job", "describe", name], |error| error.contains("E03"))?;
                if told["status"] == "FINISHED" {
                    break;
                }
                if begun.elapsed() > PATIENCE || told["status"] == "FAILED" {
                    violations.push(format!("{name} was acknowledged and does not end: {told}"));
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
            let (found, wrong) = Watch::new(&small(members, name), &members.qanat.folder.join(name)).finish()?;
            violations.extend(wrong);
            if !found.is_exact() {
                violations.push(format!("{name} is not exact: {found:?}"));
            }
        }
        for name in &self.jobs {
            violations.extend(audit(members, name));
        }
        Ok(violations)
    }

    /// Small jobs that were acknowledged.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }
}

/// What the audit of a job objects to.
pub fn audit(members: &Members, job: &str) -> Option<Violation> {
    members.console.insist(&["audit", job], |error| !error.contains("E06")).err().map(|error| format!("{error:#}"))
}

/// A job that writes below a folder of its own name.
fn small(members: &Members, name: &str) -> Workload {
    let folder = &members.qanat.folder;
    let all = Workload::of_cluster(SMALL_RECORDS, SMALL_RATE, SMALL_INTERVAL_MS, folder).apart(folder, name);
    Workload { log: false, windows: false, ..all }
}
