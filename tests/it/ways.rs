//! The four ways in which every script is run: straight; killed twice and resumed; killed and resumed at
//! another parallelism; killed at moments that a seed chooses. However it goes, the answer is the same.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::process::Invocation;
use crate::rng::Rng;
use crate::sink;

/// Moments at which a process of the first or of a later generation can die, in the order of an epoch.
const MOMENTS: &[&str] = &[
    "source.barrier",
    "sink.write",
    "sink.prepare",
    "sink.prepared",
    "state.store",
    "state.stored",
    "state.merge",
    "state.merged",
    "report.send",
    "manifest.write",
    "manifest.written",
    "claim.propose",
    "claim.applied",
    "commit.start",
    "commit.sink",
    "commit.done",
    "committed.propose",
    "committed.applied",
    "retire.applied",
    "collect.done",
    "generation.open",
    "deploy.built",
    "abort.done",
    "receipt.shown",
];

/// How one run of a script goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Straight,
    Killed,
    Rescaled,
    Seeded,
}

pub(crate) const WAYS: [Way; 4] = [Way::Straight, Way::Killed, Way::Rescaled, Way::Seeded];

/// One start of the process.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) parallelism: u32,
    pub(crate) failpoint: Option<String>,
}

impl Way {
    /// The starts of the process, until one of them is not killed. The last one never is.
    pub(crate) fn attempts(self, rng: &mut Rng, parallelism: u32) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        let mut add = |parallelism: u32, failpoint: Option<String>| attempts.push(Attempt { parallelism, failpoint });
        // Release builds have no failpoints: there the ways differ by parallelism alone.
        let kills = cfg!(debug_assertions);
        match self {
            Self::Straight => {}
            Self::Killed if kills => {
                let first =
                    ["state.stored:1", "manifest.written:1", "claim.applied:1", "commit.sink:1", "commit.done:1"];
                add(parallelism, Some((*rng.pick(&first)).to_owned()));
                let second = ["sink.prepared:1", "claim.propose:1", "committed.propose:1", "commit.start:1"];
                add(parallelism, Some((*rng.pick(&second)).to_owned()));
            }
            Self::Rescaled => {
                let (before, after) = *rng.pick(&[(1, 3), (3, 1), (1, 2), (2, 3)]);
                let moments = ["claim.applied:1", "committed.applied:1", "commit.sink:1", "claim.applied:2"];
                add(before, kills.then(|| (*rng.pick(&moments)).to_owned()));
                add(after, None);
            }
            Self::Killed => {}
            Self::Seeded => {
                for _ in 0..=rng.below(3) {
                    let failpoint = format!("{}:{}", rng.pick(MOMENTS), 1 + rng.below(4));
                    add(u32::try_from(1 + rng.below(3)).unwrap_or(1), kills.then_some(failpoint));
                }
            }
        }
        if attempts.last().is_none_or(|last| last.failpoint.is_some()) {
            attempts.push(Attempt { parallelism, failpoint: None });
        }
        attempts
    }
}

/// Whatever moment a process died at, even between the last commit and its receipt, the next start goes
/// on with the same job: one job id in each sink.
fn check_one_job(folder: &Path, sinks: &[String], before: &BTreeSet<String>, receipt: &Value) -> Result<(), String> {
    let now: BTreeSet<String> = sinks.iter().flat_map(|sink| sink::jobs(&folder.join(sink))).collect();
    // A script with several graphs is several jobs.
    let one = std::slice::from_ref(receipt);
    let jobs = receipt["jobs"].as_array().map_or(one, Vec::as_slice);
    let is_last = |id: &str| jobs.iter().any(|job| job["job"] == id);
    let others: Vec<&String> = now.iter().filter(|job| !before.contains(*job) && !is_last(job)).collect();
    if others.is_empty() { Ok(()) } else { Err(format!("jobs {others:?} were not resumed")) }
}

/// Runs `script` of `folder` to its end and returns its receipt. `sinks` are folders of file sinks: what
/// a reader sees there after a kill must still be there at the end, and recorded.
pub(crate) fn run(
    folder: &Path,
    script: &str,
    attempts: &[Attempt],
    settings: &[(String, String)],
    sinks: &[String],
) -> Result<Value, String> {
    let mut settings = settings.to_vec();
    if attempts.len() > 1 {
        settings.push(("execution.checkpointing.interval".to_owned(), "4 ms".to_owned()));
    }
    let mut seen: Vec<(String, BTreeSet<String>)> = Vec::new();
    let before = sinks.iter().flat_map(|sink| sink::jobs(&folder.join(sink))).collect();
    for attempt in attempts {
        let invocation =
            Invocation::job(folder, script, attempt.parallelism, &settings).failpoint(attempt.failpoint.as_deref());
        let outcome = invocation.run()?;
        if outcome.aborted && attempt.failpoint.is_some() {
            seen.extend(sinks.iter().map(|sink| (sink.clone(), sink::visible(&folder.join(sink)))));
            continue;
        }
        if outcome.code != Some(0) {
            return Err(format!("{attempt:?}: {}", outcome.describe()));
        }
        for (sink, files) in &seen {
            let now = sink::visible(&folder.join(sink));
            let removed = sink::removed(&folder.join(sink))?;
            if let Some(gone) = files.difference(&now).find(|name| !removed.contains(*name)) {
                return Err(format!("`{sink}/{gone}` was shown after a kill and is gone"));
            }
        }
        let receipt = outcome.json()?;
        check_one_job(folder, sinks, &before, &receipt)?;
        return Ok(receipt);
    }
    Err("every attempt was killed".to_owned())
}

/// The list above is that of the binary: a failpoint that is not in it would never be hit.
#[test]
fn every_failpoint_of_the_code_is_a_moment() {
    let mut found = BTreeSet::new();
    let mut folders: Vec<_> = ["src", "coordinator", "executor", "storage", "connectors"]
        .map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f))
        .into();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = text.split("failpoint(\"").skip(1).filter_map(|rest| rest.split_once('"'));
                found.extend(names.map(|(name, _)| name.to_owned()));
            }
        }
    }
    let all = MOMENTS.iter().chain(crate::readmit::MOMENTS).chain(crate::rollback::MOMENTS);
    let listed: BTreeSet<String> = all.map(|name| (*name).to_owned()).collect();
    assert_eq!(found, listed);
}
