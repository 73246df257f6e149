//! What an audit has to go by, gathered before anything is judged: plain data, so that the judging is pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use qanat_proto::EpochRanges;
use qanat_proto::graph::JobGraph;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SplitId};
use qanat_proto::manifest::{PreparedHandle, SinkChannel, SourceState};
use qanat_proto::receipt::{Receipt, RowSum, Totals};

/// All of one run of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) job: JobId,
    pub(super) name: String,
    pub(super) status: &'static str,
    /// No process will go on with it: whatever stands in its sinks must stand in its receipts.
    pub(super) has_ended: bool,
    /// None if no manifest can be read.
    pub(super) graph: Option<JobGraph>,
    /// Start positions of the splits, while epoch 0 is kept.
    pub(super) start: BTreeMap<(OperatorId, SplitId), Arc<serde_json::Value>>,
    pub(super) cut: Cut,
    /// Claimed epochs after the cut, from 1 on if there is none, ascending.
    pub(super) epochs: Vec<ClaimedEpoch>,
    /// First and last of epochs that rollbacks took back.
    pub(super) withdrawn: EpochRanges,
    /// Of those, the ones whose files nobody has said yet to have taken away.
    pub(super) withdrawing: EpochRanges,
    /// The manifests that may still be restored, by epoch.
    pub(super) manifests: BTreeMap<Epoch, ManifestEvidence>,
    pub(super) sinks: Vec<SinkEvidence>,
    pub(super) side_tables: Vec<SideEvidence>,
}

/// Epochs whose receipts the command log has let go of.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    /// The last of them; 0 if there is none.
    pub(super) epoch: Epoch,
    /// Whether the commit of that one is recorded.
    pub(super) committed: bool,
    pub(super) sums: Totals,
}

/// One claim, as the command log has it.
#[derive(Clone, Debug)]
pub(super) struct ClaimedEpoch {
    pub(super) epoch: Epoch,
    pub(super) generation: Generation,
    pub(super) parallelism: u32,
    pub(super) committed: bool,
    pub(super) manifest_key: String,
    pub(super) handles: Vec<PreparedHandle>,
    pub(super) receipt: Receipt,
}

/// A manifest that was read again, or why it could not be.
#[derive(Clone, Debug)]
pub(super) enum ManifestEvidence {
    Read {
        receipt: Receipt,
        totals: Totals,
        sources: Vec<SourceState>,
    },
    /// With the object that is damaged or missing.
    Damaged {
        object: String,
        message: String,
    },
}

/// What one sink operator left behind.
#[derive(Clone, Debug)]
pub(super) struct SinkEvidence {
    pub(super) operator: OperatorId,
    pub(super) table: String,
    pub(super) medium: Medium,
    /// What was found of it, by epoch.
    pub(super) found: BTreeMap<Epoch, FoundEpoch>,
    /// Damage that was found while reading.
    pub(super) faults: Vec<SinkFault>,
    /// Rows up to this epoch may have gone by retention.
    pub(super) cut: Option<Epoch>,
    /// What it comes to, of a log of changes.
    pub(super) changes: Option<NetChanges>,
}

/// What a log of changes comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetChanges {
    Known(RowSum),
    /// It is too large, or its files are not what they should be.
    Unknown,
}

/// Where a sink writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Folder(String),
    Topic(String),
    /// Drops its rows.
    Nothing,
    /// What it writes cannot be read again.
    Unreadable(String),
}

/// What a sink holds of one epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundEpoch {
    /// Of a topic as it was read; of files as the commit record says.
    pub(super) sum: RowSum,
    /// What could be read. Of a topic that is all.
    pub(super) read: RowSum,
    /// Rows of files that are what their record says.
    pub(super) right: u64,
    /// Files by object name, with their paths. Topics do not tell the handles of an epoch apart.
    pub(super) objects: BTreeMap<String, FoundObject>,
    /// The manifest key in the commit record.
    pub(super) manifest_key: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct FoundObject {
    pub(super) path: String,
    pub(super) sum: RowSum,
}

#[derive(Clone, Debug)]
pub(super) struct SinkFault {
    pub(super) epoch: Option<Epoch>,
    pub(super) place: String,
    pub(super) message: String,
    /// The object that the file's name tells, of a file.
    pub(super) object: Option<String>,
    pub(super) lost: u64,
    pub(super) surplus: u64,
}

/// What one side table holds of the job, by the operator that staged it and by epoch.
#[derive(Clone, Debug)]
pub(super) struct SideEvidence {
    pub(super) channel: SinkChannel,
    pub(super) topic: String,
    pub(super) found: BTreeMap<(OperatorId, Epoch), RowSum>,
    pub(super) cut: Option<Epoch>,
}
