//! One coordinator of the model: a replica of the state, and the driver of the job while it believes that it leads.

use std::collections::{BTreeMap, VecDeque};

use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::{Command, Refusal};
use qanat_coordinator_core::job::{Input, JobDriver, Output};
use qanat_coordinator_core::placement::Executor;
use qanat_coordinator_core::state::State;
use qanat_proto::control::ToExecutor;
use qanat_proto::ids::{Epoch, StartId, Token};
use qanat_proto::manifest::Manifest;
use qanat_proto::{Code, Error};
use qanat_storage::checkpoint::ManifestKey;

use super::job::JOB;
use super::store::Store;

/// A replica. Its state is durable: a crash ends its part as a leader and nothing else.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) state: State,
    /// Commands of the log that are in it.
    pub(super) applied: usize,
    pub(super) leading: Option<Leading>,
}

/// An executor as a leader knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) host: usize,
    pub(super) is_attached: bool,
}

/// Manifests that are read and written, and collections, apart from the loop.
#[derive(Clone, Debug)]
enum Io {
    Read(String),
    Write { epoch: Epoch, manifest: Box<Manifest>, attempt: u64 },
    Collect(Box<State>),
}

/// What a leader has in memory alone.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    term: u64,
    attempts: u64,
    slots: u32,
    driver: Option<JobDriver>,
    pub(super) known: BTreeMap<StartId, Known>,
    inputs: VecDeque<Input>,
    outputs: VecDeque<Output>,
    /// The loop waits until it is decided.
    pub(super) proposed: Option<Command>,
    /// It does not: it will begin anew.
    pub(super) has_given_up: bool,
    io: VecDeque<Io>,
}

impl Leading {
    /// A leader that has applied everything. `expected` are the executors that the one before knew.
    pub(super) fn new(term: u64, slots: u32, expected: BTreeMap<StartId, Known>) -> Self {
        Self {
            term,
            attempts: 0,
            slots,
            driver: None,
            known: expected,
            inputs: VecDeque::new(),
            outputs: VecDeque::new(),
            proposed: None,
            has_given_up: false,
            io: VecDeque::new(),
        }
    }

    /// Begins to run the job, or goes on with it.
    pub(super) fn drive(&mut self, state: &State) {
        let job = state.job(JOB).filter(|job| !job.status.is_ended() || !job.withdrawing.is_empty());
        if let Some(run_with) = job.and_then(|job| job.run_with.as_ref()) {
            self.driver = Some(JobDriver::new(JOB, run_with.parallelism, run_with.settings.clone()));
            self.tell_executors(state, None);
        }
    }

    /// The driver hears who is there.
    pub(super) fn tell_executors(&mut self, state: &State, attached: Option<StartId>) {
        let executors = self.known.iter().map(|(start, known)| Executor {
            start: *start,
            node: format!("node-{}", known.host),
            address: format!("host-{}", known.host),
            slots: self.slots,
            attached: known.is_attached,
            draining: state.draining.contains(start),
        });
        self.inputs.push_back(Input::Executors { executors: executors.collect(), attached });
    }

    /// Nothing waits: the loop would take its next event.
    pub(super) fn is_at_rest(&self) -> bool {
        self.proposed.is_none() && self.inputs.is_empty() && self.outputs.is_empty()
    }

    pub(super) fn has_io(&self) -> bool {
        !self.io.is_empty()
    }

    /// An event for the driver.
    pub(super) fn hear(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// Goes on until something has to be decided or nothing is left; what is to be sent.
    pub(super) fn pump(&mut self, state: &State, now: u64) -> Vec<ToExecutor> {
        let mut sent = Vec::new();
        while self.proposed.is_none() {
            if let Some(output) = self.outputs.pop_front() {
                match output {
                    Output::Propose(command) => self.proposed = Some(command),
                    Output::Send(message) => sent.push(message),
                    Output::ReadManifest { key, .. } => self.io.push_back(Io::Read(key)),
                    Output::WriteManifest { epoch, manifest } => {
                        self.attempts += 1;
                        let attempt = self.term << 40 | self.attempts;
                        self.io.push_back(Io::Write { epoch, manifest, attempt });
                    }
                    Output::Collect => self.io.push_back(Io::Collect(Box::new(state.clone()))),
                    Output::Progress(_) | Output::CommitSlow(_) => {}
                }
                continue;
            }
            if self.driver.as_ref().is_some_and(JobDriver::is_ended) {
                self.driver = None;
            }
            let Some(input) = self.inputs.pop_front() else { break };
            match &mut self.driver {
                Some(driver) => self.outputs.extend(driver.step(state, now, 0, input)),
                // Of a job that has ended.
                None => {
                    if let Input::Collected(epochs) = input {
                        self.proposed = Some(Command::Collected { job: JOB, epochs });
                    }
                }
            }
        }
        sent
    }

    /// Waits no more for what it proposed, and forgets everything that is not in the state.
    pub(super) fn give_up(&mut self) -> Option<Command> {
        let command = self.proposed.take()?;
        self.driver = None;
        self.outputs.clear();
        self.has_given_up = true;
        Some(command)
    }

    /// What was proposed is decided.
    pub(super) fn decided(&mut self, state: &State, command: Command, result: Result<Applied, Refusal>, asked: bool) {
        let is_done = result.is_ok();
        let goes_on = asked && is_done && self.driver.is_none();
        let restarts = goes_on && matches!(command, Command::Rollback { .. } | Command::Resume { .. });
        if asked && is_done && matches!(command, Command::DropJob { .. }) {
            self.io.push_back(Io::Collect(Box::new(state.clone())));
        }
        self.inputs.push_back(Input::Applied(command, result));
        if restarts && !self.has_given_up {
            self.inputs.clear();
            self.drive(state);
        }
    }

    /// The store does what it was asked for first. Who leads no more may ask for a manifest that was retired since then;
    /// one that a claim of `truth` names is there (I7).
    pub(super) fn perform(&mut self, store: &mut Store, truth: &State) -> Result<(), String> {
        match self.io.pop_front() {
            None => {}
            Some(Io::Read(key)) => match store.manifests.get(&key) {
                Some(manifest) => self.inputs.push_back(Input::ManifestRead(Box::new(manifest.clone()))),
                None if truth
                    .jobs
                    .values()
                    .flat_map(|job| job.claims.values())
                    .any(|claim| claim.manifest_key == key) =>
                {
                    return Err(format!("I7: manifest `{key}` is to be restored and is gone"));
                }
                None => self.inputs.push_back(Input::StoreFailed(Error::new(Code::CorruptCheckpoint, "it is retired"))),
            },
            Some(Io::Write { epoch, manifest, attempt }) => {
                let key = ManifestKey { job: JOB, epoch, generation: manifest.generation, attempt }.to_string();
                if store.manifests.insert(key.clone(), (*manifest).clone()).is_some() {
                    return Err(format!("P3: two manifests are called `{key}`"));
                }
                self.inputs.push_back(Input::ManifestWritten { epoch, manifest, key, checksum: String::new() });
            }
            Some(Io::Collect(state)) => {
                for epochs in store.collect(&state).into_values() {
                    self.inputs.push_back(Input::Collected(epochs));
                }
            }
        }
        Ok(())
    }

    /// The store fails in what it was asked for first. `done`: only its answer is lost.
    pub(super) fn store_fails(&mut self, store: &mut Store, done: bool) {
        match self.io.pop_front() {
            None | Some(Io::Collect(_)) => return,
            Some(Io::Read(_)) => {}
            Some(Io::Write { epoch, manifest, attempt }) => {
                if done {
                    let key = ManifestKey { job: JOB, epoch, generation: manifest.generation, attempt }.to_string();
                    store.manifests.insert(key, *manifest);
                }
            }
        }
        self.inputs.push_back(Input::StoreFailed(Error::new(Code::Io, "planted")));
    }

    /// When the driver wants to be woken.
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.driver.as_ref().and_then(JobDriver::wake_at)
    }

    /// What an executor that has just connected still holds and must let go of.
    pub(super) fn leftovers(state: &State, start: StartId, holds: &[Token]) -> Vec<Token> {
        let is_current = |token: &Token| {
            let job = state.job(token.job);
            job.is_some_and(|job| job.generation == token.generation && job.placement.contains(&start))
        };
        holds.iter().filter(|token| !is_current(token)).copied().collect()
    }
}
