//! The history of jobs, as the command log tells it: every run, every epoch with its receipt.
//!
//! The state that the log ends in forgets what is not needed any more; people and `audit` want all of it. What
//! the log itself has let go of is known in sums only.

use std::collections::BTreeMap;

use qanat_coordinator::raft::{Entry, RunSummary};
use qanat_coordinator_core::state::{Claimed, Job};
use qanat_coordinator_core::{Command, State};
use qanat_proto::ids::{Epoch, Generation, JobId};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::receipt::{Receipt, Totals};
use qanat_proto::{Code, Error, Result};
use serde::Serialize;

/// One run of a job.
pub(crate) struct JobHistory {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) created_ms: i64,
    /// Time of its last command.
    pub(crate) changed_ms: i64,
    /// Its state at the end of the log.
    pub(crate) job: Job,
    /// All accepted claims that are known, epoch 0 included.
    pub(crate) epochs: BTreeMap<Epoch, EpochHistory>,
    /// Epochs up to this one have no receipts any more, only their sums. 0: all have.
    pub(crate) cut: Epoch,
    pub(crate) sums_to_cut: Totals,
    pub(crate) parallelism: BTreeMap<Generation, u32>,
}

/// One claimed epoch.
pub(crate) struct EpochHistory {
    pub(crate) generation: Generation,
    /// None once the log has let go of the claim.
    pub(crate) claimed_ms: Option<i64>,
    pub(crate) committed_ms: Option<i64>,
    pub(crate) status: EpochStatus,
    pub(crate) manifest_key: String,
    pub(crate) checksum: String,
    pub(crate) handles: Vec<PreparedHandle>,
    pub(crate) is_final: bool,
    /// None for epoch 0 and up to [`JobHistory::cut`].
    pub(crate) receipt: Option<Receipt>,
}

/// How far an epoch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EpochStatus {
    /// Decided; its commit is owed.
    Claimed,
    Committed,
    /// Committed, and its manifest is given up: a later epoch is restored instead.
    Retired,
    /// A rollback took it back for ever.
    Withdrawn,
}

impl EpochStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Committed => "committed",
            Self::Retired => "retired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl JobHistory {
    /// The newest epoch that was not withdrawn; epoch 0 at least.
    pub(crate) fn last_epoch(&self) -> Epoch {
        let counts = |(_, history): &(&Epoch, &EpochHistory)| history.status != EpochStatus::Withdrawn;
        self.epochs.iter().rev().find(counts).map_or(Epoch(0), |(epoch, _)| *epoch)
    }
}

/// Applies the rows of a log, each with the time of its append in ms, and keeps what was accepted. Runs in
/// the order they were started.
///
/// # Errors
/// E0304 if a snapshot is not what the commands before it lead to.
pub(crate) fn replay(entries: Vec<(i64, Entry)>) -> Result<Vec<JobHistory>> {
    let mut state = State::default();
    let mut order: Vec<JobId> = Vec::new();
    let mut started: BTreeMap<JobId, Draft> = BTreeMap::new();
    for (index, (at, entry)) in entries.into_iter().enumerate() {
        let proposal = match entry {
            Entry::Snapshot(snapshot) if index == 0 => {
                state = snapshot.state;
                for run in snapshot.runs {
                    if let Some(job) = state.job(run.job) {
                        order.push(run.job);
                        started.insert(run.job, Draft::of_snapshot(job, run));
                    }
                }
                continue;
            }
            Entry::Snapshot(snapshot) if snapshot.state == state => continue,
            Entry::Snapshot(_) => {
                let message = "the command log holds a snapshot that its commands do not lead to";
                return Err(Error::new(Code::CorruptLog, message).hint("bring the log back from a copy"));
            }
            Entry::Proposal(proposal) => proposal,
        };
        // A refused command is part of the log and changed nothing.
        if state.apply_proposal(&proposal).is_err() {
            continue;
        }
        let command = proposal.command;
        let mut start = |job: JobId, manifest_key: &str, checksum: &str| {
            order.push(job);
            started.insert(job, Draft::new(at, manifest_key, checksum));
        };
        match &command {
            Command::CreateJob { job, manifest_key, checksum, .. } => start(*job, manifest_key, checksum),
            Command::CreateGroup { jobs, .. } => {
                jobs.iter().for_each(|job| start(job.job, &job.manifest_key, &job.checksum));
            }
            _ => {}
        }
        if let Some(draft) = command.job().and_then(|job| started.get_mut(&job)) {
            draft.changed_ms = at;
            draft.take(at, &command);
        }
    }
    let finish = |id: JobId| {
        let (draft, job) = (started.remove(&id)?, state.jobs.remove(&id)?);
        Some(JobHistory {
            id,
            name: job.name.clone(),
            created_ms: draft.created_ms,
            changed_ms: draft.changed_ms,
            job,
            epochs: draft.epochs,
            cut: draft.cut,
            sums_to_cut: draft.sums_to_cut,
            parallelism: draft.parallelism,
        })
    };
    Ok(order.into_iter().filter_map(finish).collect())
}

/// A history while the log is read.
struct Draft {
    created_ms: i64,
    changed_ms: i64,
    epochs: BTreeMap<Epoch, EpochHistory>,
    cut: Epoch,
    sums_to_cut: Totals,
    /// Sums as of epochs that may be restored, as the last snapshot had them.
    sums_at: BTreeMap<Epoch, Totals>,
    parallelism: BTreeMap<Generation, u32>,
}

impl Draft {
    fn new(at: i64, manifest_key: &str, checksum: &str) -> Self {
        let epoch_zero = EpochHistory {
            generation: Generation(0),
            claimed_ms: Some(at),
            committed_ms: Some(at),
            status: EpochStatus::Committed,
            manifest_key: manifest_key.to_owned(),
            checksum: checksum.to_owned(),
            handles: Vec::new(),
            is_final: false,
            receipt: None,
        };
        let epochs = BTreeMap::from([(Epoch(0), epoch_zero)]);
        Self {
            created_ms: at,
            changed_ms: at,
            epochs,
            cut: Epoch(0),
            sums_to_cut: Totals::default(),
            sums_at: BTreeMap::new(),
            parallelism: BTreeMap::new(),
        }
    }

    /// What a snapshot still knows of a run.
    fn of_snapshot(job: &Job, run: RunSummary) -> Self {
        let known = |claims: &BTreeMap<Epoch, Claimed>, retired: bool| -> BTreeMap<Epoch, EpochHistory> {
            let history = |claim: &Claimed| EpochHistory {
                generation: claim.generation,
                claimed_ms: None,
                committed_ms: None,
                status: match (retired, claim.committed) {
                    (true, _) => EpochStatus::Retired,
                    (false, true) => EpochStatus::Committed,
                    (false, false) => EpochStatus::Claimed,
                },
                manifest_key: claim.manifest_key.clone(),
                checksum: claim.checksum.clone(),
                handles: claim.handles.clone(),
                is_final: claim.is_final,
                receipt: None,
            };
            claims.iter().map(|(epoch, claim)| (*epoch, history(claim))).collect()
        };
        let mut epochs = known(&job.retired, true);
        let taken_back = epochs.iter_mut().filter(|(epoch, _)| job.is_withdrawn(**epoch));
        taken_back.for_each(|(_, history)| history.status = EpochStatus::Withdrawn);
        epochs.extend(known(&job.claims, false));
        Self {
            created_ms: run.created_ms,
            changed_ms: run.changed_ms,
            cut: job.last_claim().map_or(Epoch(0), |(epoch, _)| epoch),
            sums_to_cut: run.totals,
            sums_at: run.totals_at,
            epochs,
            parallelism: BTreeMap::from([(job.generation, job.parallelism)]),
        }
    }

    fn take(&mut self, at: i64, command: &Command) {
        match command {
            Command::OpenGeneration { expected, parallelism, .. } => {
                self.parallelism.insert(expected.next(), *parallelism);
            }
            Command::Claim { token, epoch, manifest_key, checksum, handles, is_final, receipt } => {
                let claim = EpochHistory {
                    generation: token.generation,
                    claimed_ms: Some(at),
                    committed_ms: None,
                    status: EpochStatus::Claimed,
                    manifest_key: manifest_key.clone(),
                    checksum: checksum.clone(),
                    handles: handles.clone(),
                    is_final: *is_final,
                    receipt: Some(receipt.as_ref().clone()),
                };
                self.epochs.insert(*epoch, claim);
            }
            Command::Committed { epoch, .. } => {
                if let Some(claim) = self.epochs.get_mut(epoch)
                    && claim.status == EpochStatus::Claimed
                {
                    claim.status = EpochStatus::Committed;
                    claim.committed_ms = Some(at);
                }
            }
            Command::Retire { epochs, .. } => {
                for epoch in epochs {
                    if let Some(claim) = self.epochs.get_mut(epoch) {
                        claim.status = EpochStatus::Retired;
                    }
                }
            }
            Command::Rollback { to, .. } => {
                let after = self.epochs.range_mut(to.next()..);
                after.for_each(|(_, claim)| claim.status = EpochStatus::Withdrawn);
                if *to < self.cut
                    && let Some(sums) = self.sums_at.get(to)
                {
                    (self.cut, self.sums_to_cut) = (*to, sums.clone());
                }
            }
            Command::OwnLog { .. }
            | Command::OwnTopics { .. }
            | Command::CreateToken { .. }
            | Command::RevokeToken { .. }
            | Command::Drain { .. }
            | Command::Register { .. }
            | Command::ChangeTopic { .. }
            | Command::TopicChanged { .. }
            | Command::CutTopic { .. }
            | Command::Note { .. }
            | Command::Rescale { .. }
            | Command::CreateJob { .. }
            | Command::CreateGroup { .. }
            | Command::RecordFailure { .. }
            | Command::StopWithSavepoint { .. }
            | Command::Close { .. }
            | Command::Resume { .. }
            | Command::Acknowledge { .. }
            | Command::Savepoint { .. }
            | Command::DropSavepoint { .. }
            | Command::Withdrawn { .. }
            | Command::DropJob { .. }
            | Command::Collected { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use qanat_coordinator::raft::Snapshot;
    use qanat_coordinator_core::audit::Caller;
    use qanat_coordinator_core::command::Proposal;
    use qanat_proto::ids::Token;
    use qanat_proto::settings::JobSettings;

    use super::*;

    fn claim(token: Token, epoch: u64) -> Command {
        Command::Claim {
            token,
            epoch: Epoch(epoch),
            manifest_key: format!("m{epoch}"),
            checksum: String::new(),
            handles: Vec::new(),
            is_final: false,
            receipt: Box::new(Receipt { epoch: Epoch(epoch), ..Receipt::default() }),
        }
    }

    /// What clients ask for is in the audit log, which is a part of every snapshot.
    #[test]
    fn what_clients_ask_for_leads_to_the_snapshot_behind_it() {
        let caller = Caller { who: "ann".into(), what: "Jobs.Submit".into(), from: "10.0.0.1:5".into() };
        let command = Command::CreateJob {
            job: JobId(7),
            name: "j".to_owned(),
            script_digest: String::new(),
            manifest_key: "m0".to_owned(),
            checksum: String::new(),
            run_with: None,
        };
        let asked = Proposal { at_ms: 5, command, caller: Some(Box::new(caller)) };
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.state.apply_proposal(&asked).expect("a new job");
        let entries = vec![(5, Entry::Proposal(asked)), (5, Entry::Snapshot(snapshot))];
        assert_eq!(replay(entries).expect("one history").len(), 1);
    }

    #[test]
    fn keeps_what_was_accepted() {
        let job = JobId(7);
        let token = Token { job, generation: Generation(1) };
        let old = Token { job, generation: Generation(0) };
        let committed = |epoch: u64| Command::Committed {
            token,
            epoch: Epoch(epoch),
            manifest_key: format!("m{epoch}"),
            handle_names: Vec::new(),
        };
        let commands = [
            Command::CreateJob {
                job,
                name: "j".to_owned(),
                script_digest: String::new(),
                manifest_key: "m0".to_owned(),
                checksum: String::new(),
                run_with: None,
            },
            Command::OpenGeneration {
                job,
                expected: Generation(0),
                placement: Vec::new(),
                parallelism: 3,
                settings: JobSettings::default(),
            },
            claim(old, 1),
            claim(token, 1),
            committed(1),
            claim(token, 3),
            claim(token, 2),
            Command::Retire { job, epochs: vec![Epoch(0), Epoch(1)] },
        ];
        let proposal = |(at_ms, command)| (at_ms, Entry::Proposal(Proposal { at_ms, command, caller: None }));
        let timed: Vec<_> = (100..).zip(commands).map(proposal).collect();
        let histories = replay(timed).expect("a sound log");
        let [history] = histories.as_slice() else { panic!("one job") };
        let seen: Vec<_> = history.epochs.iter().map(|(e, h)| (e.0, h.status, h.claimed_ms, h.committed_ms)).collect();
        assert_eq!(
            seen,
            [
                (0, EpochStatus::Retired, Some(100), Some(100)),
                (1, EpochStatus::Retired, Some(103), Some(104)),
                (2, EpochStatus::Claimed, Some(106), None),
            ]
        );
        assert_eq!(history.parallelism, BTreeMap::from([(Generation(1), 3)]));
        assert_eq!((history.created_ms, history.changed_ms, history.last_epoch()), (100, 107, Epoch(2)));
    }
}
