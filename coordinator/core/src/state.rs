//! Replicated state: what is true once a command is applied.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::control::Withdrawal;
use qanat_proto::ids::{Epoch, Generation, JobId, StartId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::owner::TopicChange;
use qanat_proto::settings::JobSettings;
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{EpochRanges, Error};
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::audit::AuditLog;
use crate::command::{Outcome, RunWith};
use crate::membership::KnownNode;
use crate::retention::TopicCut;

/// Everything the control plane knows for certain. Equal command logs give equal states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Number of commands applied, refused ones included.
    pub applied: u64,
    pub jobs: BTreeMap<JobId, Job>,
    /// Who appends to the topics of a cluster that have no other owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_owner: Option<LogOwner>,
    /// Who appends to topics that jobs have written to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, LogOwner>,
    /// Topics that are being made or deleted, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topic_changes: BTreeMap<String, PendingChange>,
    /// What of topics goes because all have read it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cuts: BTreeMap<String, TopicCut>,
    /// Commands applied when a job was made or rolled back last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_begun: u64,
    /// Executors that take no new work, until they are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub draining: BTreeSet<StartId>,
    /// Which process is which node, of the nodes that are there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, KnownNode>,
    /// Who may call.
    #[serde(default, skip_serializing_if = "Access::is_empty")]
    pub access: Access,
    /// What was asked for, and by whom.
    #[serde(default, skip_serializing_if = "AuditLog::is_empty")]
    pub audit: AuditLog,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The one executor that appends to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOwner {
    pub start: StartId,
    /// Rises with each owner: the fencing token of partitions.
    pub token: u64,
}

/// A change of a topic that is decided on and not known to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// Rises with each change.
    pub number: u64,
    pub change: TopicChange,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    /// Jobs are numbered in the order they were made; those of one group have one number.
    #[serde(default)]
    pub number: u64,
    /// Whose script it was made by, together with others or alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupPlace>,
    /// Digest of the script and its settings: another script is another job.
    pub script_digest: String,
    /// What its generations run with by themselves; None if somebody says so each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_with: Option<Box<RunWith>>,
    pub status: JobStatus,
    /// The newest generation. 0: none was opened yet.
    pub generation: Generation,
    /// Executors of the newest generation.
    pub placement: Vec<StartId>,
    /// Parallelism and settings of the newest generation; None before the first.
    pub parallelism: u32,
    pub settings: Option<JobSettings>,
    /// Whether the newest generation may still claim. Stop, failure and closing end it.
    pub generation_open: bool,
    /// The epoch the newest generation restored (P5).
    pub restore_point: Epoch,
    /// Whether the newest generation has claimed an epoch.
    pub has_claimed: bool,
    /// Whether any claim of the job named something a sink prepared.
    pub has_output: bool,
    /// Whether the receipt of the finished job was seen.
    pub acknowledged: bool,
    /// Set by `StopWithSavepoint`: the next claim is the last (P7).
    pub stop_requested: bool,
    /// Where the job goes when its last claim is committed.
    pub closing: Option<Outcome>,
    /// Claims that may still be restored, by epoch. The last is the newest ever claimed.
    pub claims: BTreeMap<Epoch, Claimed>,
    /// Epochs whose manifests were retired and may be collected.
    pub retired: BTreeMap<Epoch, Claimed>,
    /// The last failure and how often it came in a row at the same place.
    pub last_failure: Option<(Error, u32)>,
    /// Epochs with a name, kept until it is dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub savepoints: BTreeMap<String, Savepoint>,
    /// Names that the next claim gets, with the request that asked for each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub savepoints_wanted: BTreeMap<String, String>,
    /// Whether a rollback was decided since the newest generation opened: what that one has done, it did not do for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// Epochs that are withdrawn for ever (P10).
    #[serde(default, skip_serializing_if = "EpochRanges::is_empty")]
    pub withdrawn: EpochRanges,
    /// What each new generation takes back first, until that is recorded as done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawing: Vec<Withdrawal>,
    /// The request of the last rollback.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rolled_back_by: String,
    /// It only waits for its checkpoints to be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

/// A job's place among those of its script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlace {
    pub name: String,
    /// Counts from 0.
    pub index: u32,
}

/// A named epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savepoint {
    pub epoch: Epoch,
    /// The request that asked for it.
    pub request: String,
}

/// States of a job, by the names users see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    Created,
    Running,
    Restarting,
    Stopped,
    Finished,
    Failed { error: Error },
}

impl JobStatus {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Stopped => "STOPPED",
            Self::Finished => "FINISHED",
            Self::Failed { .. } => "FAILED",
        }
    }

    /// No generation will open again unless the job is resumed.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Stopped | Self::Finished | Self::Failed { .. })
    }
}

/// A claimed epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Generation that claimed it.
    pub generation: Generation,
    pub manifest_key: String,
    pub checksum: String,
    pub handles: Vec<PreparedHandle>,
    pub is_final: bool,
    pub committed: bool,
}

impl Job {
    /// The newest claim. There always is one: epoch 0 is claimed at creation.
    pub fn last_claim(&self) -> Option<(Epoch, &Claimed)> {
        self.claims.last_key_value().map(|(e, c)| (*e, c))
    }

    /// The next epoch that may be claimed (P4): numbers are never used twice, those of withdrawn epochs neither.
    pub fn next_epoch(&self) -> Epoch {
        self.last_claim().map_or(Epoch(0), |_| self.highest_epoch().next())
    }

    /// The highest number that was ever claimed; 0 before the first epoch.
    pub fn highest_epoch(&self) -> Epoch {
        let last = self.last_claim().map_or(Epoch(0), |(epoch, _)| epoch);
        if planted(Bug::ReuseEpochs) { last } else { last.max(self.withdrawn_to()) }
    }

    /// Whether an epoch with rows or without was claimed: before that nothing was read or written for good.
    pub fn has_begun(&self) -> bool {
        self.has_output || self.last_claim().is_some_and(|(epoch, _)| epoch > Epoch(0))
    }

    /// By what jobs are sorted in the order they were made.
    pub fn order(&self) -> (u64, u32) {
        (self.number, self.group.as_ref().map_or(0, |group| group.index))
    }

    /// Whether it runs, or is to run, on this executor.
    pub fn has_part_on(&self, start: StartId) -> bool {
        !self.status.is_ended() && self.placement.contains(&start)
    }

    /// Its subtasks of one operator on each of its executors.
    pub fn share(&self) -> u32 {
        self.parallelism.div_ceil(u32::try_from(self.placement.len()).unwrap_or(1).max(1))
    }

    /// Whether its newest generation may go on as it is under another leader: it runs, and nothing ends it.
    pub fn is_adoptable(&self) -> bool {
        self.generation > Generation(0)
            && self.generation_open
            && self.closing.is_none()
            && self.status == JobStatus::Running
    }

    pub fn token(&self, job: JobId) -> Token {
        Token { job, generation: self.generation }
    }
}

impl State {
    pub fn job(&self, job: JobId) -> Option<&Job> {
        self.jobs.get(&job)
    }

    /// The active job of this name: there is one at most. It looks through all jobs, which is once for each request
    /// of a client; an index would have to follow every change of a status.
    pub fn find(&self, name: &str) -> Option<(JobId, &Job)> {
        self.jobs.iter().find(|(_, job)| job.name == name && !job.status.is_ended()).map(|(id, job)| (*id, job))
    }

    /// XXH3-64 over the canonical JSON of the state: equal on all replicas at equal `applied` (I6).
    pub fn digest(&self) -> u64 {
        let bytes = serde_json::to_vec(self).expect("the state holds only maps with string keys, numbers and text");
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}
