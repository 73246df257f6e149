//! Messages between the coordinator and executors, as plain values.
//!
//! P2: every message says what it is for. One process hands them over as they are; between processes
//! they travel by gRPC.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::graph::JobGraph;
use crate::ids::{Epoch, KeyGroupRange, OperatorId, StartId, SubtaskId, Token};
use crate::manifest::{Manifest, PreparedHandle, SplitState, StateFile};
use crate::receipt::{OperatorCounts, RowSum, SplitReceipt};
use crate::settings::JobSettings;
use crate::trace::TraceParent;

/// From the coordinator to one executor. `start` is the start id of the process it is meant for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToExecutor {
    pub start: StartId,
    pub token: Token,
    pub message: ExecutorMessage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorMessage {
    /// Build the subtasks of a generation, restore them, and wait for [`ExecutorMessage::Start`].
    /// Accepted once per token and start id (P1); a repeat, from another leader, asks how it fares.
    Deploy(Box<Deployment>),
    /// Let records flow. Sent when the restored epoch's commit is recorded (P5).
    Start,
    /// Begin an epoch: sources note their offsets and emit the barrier. A repeat begins nothing: what was
    /// reported about this epoch is reported again (P4).
    Trigger { epoch: Epoch },
    /// Commit exactly these handles.
    Commit(CommitPermit),
    /// Append what was staged under these handles to their topic, as its owner with this token (P11). Taken whatever
    /// generations the executor holds: the owner of a topic is the cluster's and not the job's.
    CommitLog { topic: String, permit: CommitPermit, owner: u64 },
    /// Take these epochs back, in order (P10). A repeat changes nothing.
    Withdraw(Vec<Withdrawal>),
    /// Remove what lower generations of this job prepared and `keep` does not name (P6).
    AbortLower { keep: Vec<PreparedHandle> },
    /// End the generation's subtasks. Nothing is committed by it.
    Stop,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployment {
    pub job_name: String,
    pub graph: JobGraph,
    pub settings: JobSettings,
    pub parallelism: u32,
    /// Its executors in the order of the placement: subtask i of every operator runs on the one at i modulo their
    /// number.
    pub hosts: Vec<Host>,
    /// The restore point; epoch 0 for a new job.
    pub restore: Manifest,
    /// Open the sinks for their commit and run no subtask: a closing job (P7).
    pub replay_only: bool,
    /// Of the request that made the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// The highest epoch that was ever withdrawn (P10); 0: none. Numbers go on above it.
    #[serde(default)]
    pub withdrawn_to: Epoch,
}

/// An executor of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub start: StartId,
    /// Where its exchange listens.
    pub address: String,
}

impl Deployment {
    /// Where a subtask runs.
    pub fn host(&self, index: u32) -> Option<&Host> {
        self.hosts.get(index as usize % self.hosts.len().max(1))
    }

    /// The epoch before the first one of the generation.
    pub fn before_first(&self) -> Epoch {
        self.restore.epoch.max(self.withdrawn_to)
    }
}

/// Epochs that a rollback takes back for ever, and exactly what of them (P10). Fixed when it is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    pub first: Epoch,
    pub last: Epoch,
    pub objects: Vec<WithdrawnObjects>,
}

impl Withdrawal {
    /// What it takes back of one sink operator.
    pub fn names(&self, operator: OperatorId) -> impl Iterator<Item = &str> {
        let own = self.objects.iter().filter(move |objects| objects.operator == operator);
        own.flat_map(|objects| objects.names.iter().map(String::as_str))
    }
}

/// What one sink operator prepared or published in withdrawn epochs, by names that its connector gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawnObjects {
    pub operator: OperatorId,
    pub names: Vec<String>,
}

/// Proof that an epoch is claimed: built only by `coordinator-core::apply` from an applied claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitPermit {
    pub token: Token,
    pub epoch: Epoch,
    pub manifest_key: String,
    pub handles: Vec<PreparedHandle>,
}

/// From an executor to the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FromExecutor {
    pub start: StartId,
    pub token: Token,
    pub message: CoordinatorMessage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoordinatorMessage {
    /// All subtasks are restored and ready.
    Deployed,
    /// One subtask is done with its part of an epoch: everything it names is durable.
    Prepared {
        epoch: Epoch,
        report: Box<SubtaskReport>,
    },
    /// The permit's handles are committed, directory syncs included.
    Committed {
        epoch: Epoch,
        manifest_key: String,
    },
    /// The permit's handles are in their topic.
    LogCommitted {
        topic: String,
        epoch: Epoch,
        manifest_key: String,
    },
    Aborted,
    /// Everything of the withdrawals is taken back, directory syncs included.
    Withdrawn,
    /// A source asks for an early barrier, because the open epoch is large (P8).
    WantsBarrier,
    /// A subtask that has not sealed `epoch` yet took a step: it is busy and not stuck (P8).
    Progress {
        epoch: Epoch,
    },
    /// All sources of the job have ended; the next epoch is the last.
    SourcesEnded,
    Failed {
        subtask: Option<SubtaskId>,
        error: Error,
    },
    Stopped,
}

/// What one subtask has to say about an epoch. A chain of operators reports as one subtask, with a
/// part for each of its operators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubtaskReport {
    pub parts: Vec<OperatorReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorReport {
    pub subtask: SubtaskId,
    pub key_groups: KeyGroupRange,
    /// Combined input watermark at the barrier. None: −∞ (P13).
    pub watermark: Option<i64>,
    pub counts: OperatorCounts,
    /// Sources: every split this subtask owns, finished ones included.
    pub splits: Vec<SplitState>,
    pub split_receipts: Vec<SplitReceipt>,
    /// State: the complete list of live files of each table after this epoch; only the new ones are
    /// this subtask's own (P14).
    pub tables: Vec<(String, Vec<StateFile>)>,
    pub prepared: Vec<PreparedHandle>,
    /// Rows sent on and received from edges since the barrier before.
    pub sent: Vec<EdgeCount>,
    pub received: Vec<EdgeCount>,
    /// A source: all its splits have ended.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeCount {
    pub from: OperatorId,
    pub to: OperatorId,
    pub port: usize,
    pub sum: RowSum,
}
