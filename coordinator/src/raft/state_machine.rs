//! openraft's state machine: `State::apply`, and the summaries of runs beside it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use qanat_coordinator_core::command::Proposal;
use qanat_coordinator_core::{Command, State};
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::receipt::Totals;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::thread;
use serde::{Deserialize, Serialize};

use super::log_store::LogStore;
use super::types::{Answer, LogId, RaftSnapshot, SnapshotBytes, SnapshotMeta, StoredMembership, Types};

/// Version of [`Snapshot`].
const VERSION: u32 = 2;

/// Everything that the commands before it led to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    pub state: State,
    /// In the order they were started.
    pub runs: Vec<RunSummary>,
}

/// What is told of a run after the commands that made it are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub job: JobId,
    /// Times of its first and its last command, ms since 1970 UTC.
    pub created_ms: i64,
    pub changed_ms: i64,
    /// Sums of the receipts of all its claims, withdrawn ones excepted.
    pub totals: Totals,
    /// The same as of each epoch that may be restored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub totals_at: BTreeMap<Epoch, Totals>,
}

impl Snapshot {
    pub(super) fn of(state: State, runs: Vec<RunSummary>) -> Self {
        Self { version: VERSION, state, runs }
    }

    /// # Errors
    /// E0307 for one of another version.
    pub(super) fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let unknown = |detail: &dyn std::fmt::Display| {
            Error::new(Code::UnknownVersion, format!("the command log holds a snapshot that cannot be read: {detail}"))
                .hint("it was written by another version of Qanat")
        };
        let Version { version } = serde_json::from_str(text).map_err(|e| unknown(&e))?;
        if version != VERSION {
            return Err(unknown(&format!("it has version {version}")));
        }
        serde_json::from_str(text).map_err(|e| unknown(&e))
    }

    pub(super) fn text(&self) -> Result<SnapshotBytes> {
        let text = serde_json::to_string(self).map_err(|e| Error::internal(format!("encode a snapshot: {e}")))?;
        Ok(text.into())
    }
}

/// What is true as of the last applied entry.
pub(super) struct Machine {
    pub(super) content: Snapshot,
    pub(super) applied: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot that is durable.
    snapshot: Option<(SnapshotMeta, SnapshotBytes)>,
}

impl Machine {
    /// Applies one command and keeps the summaries of runs.
    pub(super) fn apply(&mut self, proposal: &Proposal) -> Answer {
        let answer = self.content.state.apply_proposal(proposal);
        // A refused command is part of the log and changes nothing.
        if answer.is_ok() {
            note(&mut self.content.runs, proposal);
            if let Command::Collected { job, .. } = &proposal.command
                && self.content.state.job(*job).is_none()
            {
                self.content.runs.retain(|run| run.job != *job);
            }
        }
        Answer(Some(answer))
    }
}

fn note(runs: &mut Vec<RunSummary>, proposal: &Proposal) {
    let at_ms = proposal.at_ms;
    for (job, _) in proposal.command.makes() {
        let totals_at = BTreeMap::from([(Epoch(0), Totals::default())]);
        runs.push(RunSummary { job, created_ms: at_ms, changed_ms: at_ms, totals: Totals::default(), totals_at });
    }
    let Some(job) = proposal.command.job() else { return };
    // The newest runs stand last.
    if let Some(run) = runs.iter_mut().rev().find(|run| run.job == job) {
        run.changed_ms = at_ms;
        run.note(&proposal.command);
    }
}

impl RunSummary {
    /// Keeps the sums.
    pub fn note(&mut self, command: &Command) {
        match command {
            Command::Claim { receipt, epoch, .. } => {
                self.totals.add(receipt);
                self.totals_at.insert(*epoch, self.totals.clone());
            }
            Command::Retire { epochs, .. } => self.totals_at.retain(|epoch, _| !epochs.contains(epoch)),
            Command::Rollback { to, .. } => {
                if let Some(totals) = self.totals_at.get(to) {
                    self.totals = totals.clone();
                }
                self.totals_at.retain(|epoch, _| epoch <= to);
            }
            _ => {}
        }
    }
}

/// What the commands of a whole log lead to.
#[cfg(test)]
pub(super) fn replayed<'a>(proposals: impl Iterator<Item = &'a Proposal>) -> Snapshot {
    let content = Snapshot { version: VERSION, ..Snapshot::default() };
    let mut machine = Machine { content, applied: None, membership: StoredMembership::default(), snapshot: None };
    for proposal in proposals {
        machine.apply(proposal);
    }
    machine.content
}

/// The machine of one member. Clones share it.
#[derive(Clone)]
pub(crate) struct StateMachine {
    machine: Arc<Mutex<Machine>>,
    log: LogStore,
    built: Arc<AtomicU64>,
}

impl StateMachine {
    /// The machine as the newest snapshot of `log` left it.
    ///
    /// # Errors
    /// E0307 for a snapshot of another version.
    pub(super) fn new(snapshot: Option<(SnapshotMeta, SnapshotBytes)>, log: LogStore) -> Result<Self> {
        let mut machine = Machine {
            content: Snapshot { version: VERSION, ..Snapshot::default() },
            applied: None,
            membership: StoredMembership::default(),
            snapshot: None,
        };
        if let Some((meta, text)) = snapshot {
            machine.content = Snapshot::parse(&text)?;
            machine.applied = meta.last_log_id;
            machine.membership = meta.last_membership.clone();
            machine.snapshot = Some((meta, text));
        }
        Ok(Self { machine: Arc::new(Mutex::new(machine)), log, built: Arc::default() })
    }

    /// Snapshots that were built here.
    pub(super) fn snapshots_built(&self) -> u64 {
        self.built.load(Ordering::Relaxed)
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one snapshot: a copy of the machine as it was when it was asked for.
pub(crate) struct SnapshotBuilder {
    store: StateMachine,
    meta: SnapshotMeta,
    content: Snapshot,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let content = std::mem::take(&mut self.content);
        let encoded = thread::blocking(move || content.text()).await;
        let text = encoded.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.store.log.save_snapshot(self.meta.clone(), text.clone()).await?;
        self.store.machine().snapshot = Some((self.meta.clone(), text.clone()));
        self.store.built.fetch_add(1, Ordering::Relaxed);
        Ok(RaftSnapshot { meta: self.meta.clone(), snapshot: text })
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let machine = self.machine();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + openraft::OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let answer = {
                let mut machine = self.machine();
                machine.applied = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Blank => Answer(None),
                    EntryPayload::Membership(members) => {
                        machine.membership = StoredMembership::new(Some(entry.log_id), members);
                        Answer(None)
                    }
                    EntryPayload::Normal(proposal) => machine.apply(&proposal),
                }
            };
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let machine = self.machine();
        let meta = SnapshotMeta { last_log_id: machine.applied, last_membership: machine.membership.clone() };
        SnapshotBuilder { store: self.clone(), meta, content: machine.content.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotBytes) -> io::Result<()> {
        let content = Snapshot::parse(&snapshot).map_err(io::Error::other)?;
        self.log.save_snapshot(meta.clone(), snapshot.clone()).await?;
        let mut machine = self.machine();
        machine.content = content;
        machine.applied = meta.last_log_id;
        machine.membership = meta.last_membership.clone();
        machine.snapshot = Some((meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let machine = self.machine();
        let snapshot = machine.snapshot.clone();
        Ok(snapshot.map(|(meta, snapshot)| RaftSnapshot { meta, snapshot }))
    }
}
