//! Many seeds of one script, each in a process of its own, compared with a run in which nothing goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qanat_proto::zoo::Bug;
use qanat_proto::{Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use super::faults::FaultKind;
use super::input::Input;
use super::seed::{Outcome, Seed};
use crate::proof::quoted;
use crate::script;

/// Simulations that a failing one is made smaller by, at most.
const SHRINKS_MAX: usize = 60;
/// A simulation that takes longer on a real clock waits for what never comes.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(900);
/// Failing seeds that are made smaller; the others are only told.
const SHRUNK_MAX: usize = 3;

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) script: PathBuf,
    pub(crate) set: Vec<String>,
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) kinds: Vec<FaultKind>,
    /// Only these faults and actions of the seed.
    pub(crate) kept: Option<Vec<usize>>,
    /// The script has one right answer, though the planner cannot know.
    pub(crate) is_deterministic: bool,
    /// Simulations at a time.
    pub(crate) processes: usize,
    /// A bug that all simulations have but the one without faults: the first seed that fails ends the campaign, and is
    /// not made smaller.
    pub(crate) planted: Bug,
}

/// A seed in which something was wrong, or could not be looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) unseen: Vec<String>,
    /// The least faults and actions with which it still fails; None: all.
    pub(crate) kept: Option<Vec<usize>>,
    pub(crate) trace: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) done: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) fired: BTreeMap<String, u64>,
    pub(crate) wishes: BTreeMap<String, u64>,
    pub(crate) epochs: u64,
    pub(crate) generations: u64,
    /// States of the replicated log that were compared, and answers to clients that were checked.
    pub(crate) raft_states: usize,
    pub(crate) answers: usize,
    pub(crate) reconciled: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) failures: Vec<Failure>,
    /// What is not proved, and why.
    pub(crate) unproved: Vec<String>,
}

/// Runs one seed in this process.
///
/// # Errors
/// If the script cannot be run, or the simulation cannot be done.
pub(crate) fn one(campaign: &Campaign, seed: u64, is_traced: bool) -> Result<Outcome> {
    let env = Env::real();
    let script = script::read(&env, &campaign.script)?;
    let options = script::options(&campaign.set)?;
    let planned = script::plan(&env, &script, &options)?;
    let input = Input::gather(&env, &planned)?;
    let set = options.variables.into_iter().chain(options.settings).collect();
    let kinds = campaign.kinds.clone();
    Seed { seed, kinds, kept: campaign.kept.clone(), script, set, input, is_traced }.run()
}

impl Campaign {
    /// Runs all seeds. `tell` hears of each that is done.
    ///
    /// # Errors
    /// If the script cannot be run at all, with or without faults.
    pub(crate) fn run(&self, tell: impl Fn(&Found) + Sync) -> Result<Found> {
        let env = Env::real();
        let text = script::read(&env, &self.script)?;
        let planned = script::plan(&env, &text, &script::options(&self.set)?)?;
        Input::gather(&env, &planned)?;
        let mut found = Found::default();
        if !self.is_deterministic && !planned.jobs.iter().all(|job| qanat_sql::is_deterministic(&job.graph)) {
            let text = "the script has a step whose answer may differ between two runs (see `qanat explain`): sinks are \
                        audited, and not compared with a run without faults";
            found.unproved.push(text.to_owned());
        }
        let reference = self.reference()?;
        if reference.late > 0 {
            let text = "some rows come too late for their windows even without faults, and which ones depends on timing: sinks are \
                        audited, and not compared with a run without faults";
            found.unproved.push(text.to_owned());
        }
        let is_compared = found.unproved.is_empty();
        let seeds: VecDeque<u64> = (self.first..self.first.saturating_add(self.seeds)).collect();
        let (seeds, shared) = (Mutex::new(seeds), Mutex::new(found));
        std::thread::scope(|scope| {
            for _ in 0..self.processes.max(1) {
                scope.spawn(|| {
                    loop {
                        if self.planted != Bug::None && !locked(&shared).failures.is_empty() {
                            return;
                        }
                        let Some(seed) = locked(&seeds).pop_front() else { return };
                        let outcome = self.child(seed, &self.kinds, self.kept.as_deref());
                        let mut found = locked(&shared);
                        found.take(seed, outcome, is_compared.then_some(&reference));
                        tell(&found);
                    }
                });
            }
        });
        let mut found = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.failures.sort_by_key(|failure| failure.seed);
        if self.planted != Bug::None {
            return Ok(found);
        }
        let failing = found.failures.iter_mut().filter(|failure| !failure.violations.is_empty());
        for failure in failing.take(SHRUNK_MAX) {
            self.shrink(failure, is_compared.then_some(&reference));
        }
        Ok(found)
    }

    /// What the sinks hold if nothing goes wrong.
    fn reference(&self) -> Result<Outcome> {
        let outcome = self.child(self.first, &[], None).map_err(|why| {
            Error::internal(format!("a simulation ended: {why}")).at(Place::Named(self.script.display().to_string()))
        })?;
        match outcome.violations.first().or_else(|| outcome.unseen.first()) {
            None => Ok(outcome),
            Some(first) => Err(Error::internal(format!("it does not run even without faults: {first}"))
                .at(Place::Named(self.script.display().to_string()))),
        }
    }

    /// A process that runs one seed, and what it says.
    fn child(&self, seed: u64, kinds: &[FaultKind], kept: Option<&[usize]>) -> std::result::Result<Outcome, String> {
        let program = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
        let mut command = Command::new(program);
        command.args(["-o", "json", "sim"]).arg(&self.script).args(["--one", &seed.to_string()]);
        command.args(["--faults", &names(kinds)]);
        for pair in &self.set {
            command.args(["--set", pair]);
        }
        if let Some(kept) = kept {
            command.args(["--keep", &numbers(kept)]);
        }
        if self.planted != Bug::None && !kinds.is_empty() {
            command.args(["--plant", &format!("{:?}", self.planted)]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| format!("start a simulation: {e}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let (sender, ended) = std::sync::mpsc::channel();
        // What it says is read while it says it.
        std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
        let Ok(output) = ended.recv_timeout(STANDS_STILL_AFTER) else {
            let killed = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            return Err(format!("it stood still for {STANDS_STILL_AFTER:?}; its end: {killed:?}"));
        };
        let output = output.map_err(|e| format!("run a simulation: {e}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: Vec<&str> = said.lines().rev().take(5).collect();
            return Err(format!("{}: {}", output.status, said.into_iter().rev().collect::<Vec<_>>().join("; ")));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("a simulation says what cannot be read: {e}"))
    }

    /// Leaves out what a failure does not need, one after the other.
    fn shrink(&self, failure: &mut Failure, reference: Option<&Outcome>) {
        let Ok(whole) = self.child(failure.seed, &self.kinds, self.kept.as_deref()) else { return };
        let mut kept: Vec<usize> = self.kept.clone().unwrap_or_else(|| (0..whole.events).collect());
        let mut tries = 0;
        let mut at = 0;
        while at < kept.len() && tries < SHRINKS_MAX {
            tries += 1;
            let mut fewer = kept.clone();
            fewer.remove(at);
            let fails = |outcome: Outcome| {
                let mut found = Found::default();
                found.take(failure.seed, Ok(outcome), reference);
                found.failures.pop().filter(|smaller| !smaller.violations.is_empty())
            };
            match self.child(failure.seed, &self.kinds, Some(&fewer)).ok().and_then(fails) {
                Some(smaller) => {
                    kept = fewer;
                    *failure = smaller;
                }
                None => at += 1,
            }
        }
        failure.kept = Some(kept);
    }

    /// The command that does one seed again.
    pub(crate) fn replay(&self, seed: u64, kept: Option<&[usize]>) -> String {
        let mut words = vec!["qanat".to_owned(), "sim".to_owned(), quoted(&self.script.display().to_string())];
        words.extend(["--seed".to_owned(), seed.to_string(), "--seeds".to_owned(), "1".to_owned()]);
        if self.kinds != FaultKind::ALL {
            words.extend(["--faults".to_owned(), names(&self.kinds)]);
        }
        if let Some(kept) = kept {
            words.extend(["--keep".to_owned(), numbers(kept)]);
        }
        for pair in &self.set {
            words.extend(["--set".to_owned(), quoted(pair)]);
        }
        if self.is_deterministic {
            words.push("--deterministic".to_owned());
        }
        words.join(" ")
    }
}

impl Found {
    /// Adds what one seed came to. `reference`: what it has to hold in the end, if that is known.
    fn take(&mut self, seed: u64, outcome: std::result::Result<Outcome, String>, reference: Option<&Outcome>) {
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            Err(why) => Outcome { unseen: vec![format!("the simulation ended: {why}")], ..Outcome::default() },
        };
        self.done += 1;
        self.simulated_ms += outcome.simulated_ms;
        self.epochs += outcome.epochs;
        self.generations += outcome.generations;
        self.raft_states += outcome.raft_states;
        self.answers += outcome.answers;
        for (all, own) in [(&mut self.fired, &outcome.fired), (&mut self.wishes, &outcome.wishes)] {
            own.iter().for_each(|(kind, count)| *all.entry(kind.clone()).or_default() += count);
        }
        if outcome.unseen.is_empty() {
            self.compare(&mut outcome, reference);
        }
        if !outcome.violations.is_empty() || !outcome.unseen.is_empty() {
            let Outcome { violations, unseen, trace, .. } = outcome;
            self.failures.push(Failure { seed, violations, unseen, kept: None, trace });
        }
    }

    fn compare(&mut self, outcome: &mut Outcome, reference: Option<&Outcome>) {
        self.unproved.extend(outcome.unproved.iter().cloned());
        self.unproved.sort();
        self.unproved.dedup();
        let Some(reference) = reference else {
            self.reconciled += outcome.reconciled;
            return;
        };
        if (outcome.late, outcome.dead_lettered) != (reference.late, reference.dead_lettered) {
            outcome.violations.push(format!(
                "{} late rows and {} dead letters, and {} and {} without faults",
                outcome.late, outcome.dead_lettered, reference.late, reference.dead_lettered
            ));
        }
        if outcome.sinks.len() != reference.sinks.len() {
            let (found, wanted) = (outcome.sinks.len(), reference.sinks.len());
            outcome.unseen.push(format!("{found} sinks were read back, and {wanted} without faults"));
        }
        // In the order in which the audit tells of them: a table may be written by several statements.
        for (sink, wanted) in outcome.sinks.iter().zip(&reference.sinks) {
            let (Some((held, held_hash)), Some((rows, hash))) = (&sink.found, &wanted.found) else {
                outcome.unseen.push(format!("sink `{}` cannot be read back", sink.table));
                continue;
            };
            if (&sink.job, &sink.table) != (&wanted.job, &wanted.table) {
                outcome.unseen.push(format!("`{}` stands where `{}` stands without faults", sink.table, wanted.table));
                continue;
            }
            self.lost += rows.saturating_sub(*held);
            self.duplicated += held.saturating_sub(*rows);
            if held != rows {
                outcome.violations.push(format!("`{}` holds {held} rows, and {rows} without faults", sink.table));
            } else if held_hash != hash {
                outcome
                    .violations
                    .push(format!("`{}` holds as many rows as without faults, and not the same", sink.table));
            } else {
                self.reconciled += rows;
            }
        }
    }
}

fn names(kinds: &[FaultKind]) -> String {
    match kinds {
        [] => "none".to_owned(),
        kinds => kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","),
    }
}

fn numbers(kept: &[usize]) -> String {
    if kept.is_empty() {
        return "none".to_owned();
    }
    kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn locked<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
