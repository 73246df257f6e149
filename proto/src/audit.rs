//! What an audit says of a job: every epoch and sink, and the first place where something does not add up.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, JobId};
use crate::receipt::RowSum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
}

/// Which equation does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Epochs follow each other without a gap, and each but the last is committed.
    Epochs,
    /// A manifest or state object is there, whole, and says the same as the command log.
    Checkpoint,
    /// A split goes on where the epoch before left it.
    Splits,
    /// What one operator gave, the next one got.
    Edges,
    /// An operator accounts for each row it took.
    Operators,
    /// What was staged and claimed is what the sink holds.
    Sinks,
    /// Late rows and dead letters were kept.
    SideTables,
}

/// A place where something does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub epoch: Option<Epoch>,
    pub check: Check,
    /// The file, split, operator, edge or table.
    pub place: String,
    pub message: String,
    /// Rows that were claimed and are not there, where that can be counted. Where the number is right and the rows
    /// are not, none is lost or doubled: it is a difference all the same.
    #[serde(default, skip_serializing_if = "is_none")]
    pub lost: u64,
    /// Rows that are there and were not claimed, where that can be counted.
    #[serde(default, skip_serializing_if = "is_none")]
    pub duplicated: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochLine {
    pub epoch: Epoch,
    pub generation: u64,
    pub read: u64,
    #[serde(flatten)]
    pub written: RowSum,
    pub objects: u64,
    pub late: u64,
    pub dead_lettered: u64,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLine {
    pub table: String,
    /// `files`, `topic` or the connector.
    pub medium: String,
    /// Folder or topic.
    pub place: String,
    /// As the receipts say.
    #[serde(flatten)]
    pub claimed: RowSum,
    pub objects: u64,
    /// As the sink holds it; None where it cannot be read again.
    pub found: Option<RowSum>,
    /// The rows of the table: those found, or what they come to if they are changes. None if that is not known.
    #[serde(default)]
    pub net: Option<RowSum>,
}

/// Sums over all epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub epochs: u64,
    pub read: u64,
    pub written: u64,
    pub objects: u64,
    pub late: u64,
    pub dead_lettered: u64,
}

/// The whole of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub job: JobId,
    pub name: String,
    pub status: String,
    pub verdict: Verdict,
    pub totals: Sums,
    /// Rows that were read back and are what was claimed: of files, and of epochs of topics, that are right as a whole.
    #[serde(default)]
    pub reconciled: u64,
    pub sinks: Vec<SinkLine>,
    pub epochs: Vec<EpochLine>,
    /// What could not be proved, and why. No failure.
    pub unproved: Vec<String>,
    /// The first is the first place where it breaks.
    pub differences: Vec<Difference>,
}
