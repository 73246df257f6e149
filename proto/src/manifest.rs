//! The manifest of an epoch: immutable, checksummed, the whole of what a restore needs (I7).
//!
//! A manifest is written once under a key that carries generation, epoch and attempt; the *claim* on
//! its key is what makes it count. It is stored as one JSON document inside a checksummed envelope
//! (`qanat_storage::checkpoint`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::JobGraph;
use crate::ids::{Epoch, Generation, JobId, KeyGroupRange, OperatorId, SplitId, SubtaskId};
use crate::receipt::{Receipt, RowSum, Totals};
use crate::settings::JobSettings;

/// Version of the manifest format.
pub const MANIFEST_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub job: JobId,
    pub job_name: String,
    pub generation: Generation,
    pub epoch: Epoch,
    /// Wall clock when it was written, milliseconds since 1970 UTC. For people; nothing decides by it.
    pub created_ms: i64,
    /// The graph that commits and restores this epoch (P7).
    pub graph: JobGraph,
    pub settings: JobSettings,
    pub parallelism: u32,
    pub key_groups: u16,
    /// One per source operator.
    pub sources: Vec<SourceState>,
    /// One per other operator that has state or a watermark.
    pub operators: Vec<OperatorState>,
    /// What sinks prepared and will commit under this epoch's permit; side tables included.
    pub prepared: Vec<PreparedHandle>,
    /// All input has ended; nothing follows but the commit (P7).
    pub is_final: bool,
    pub receipt: Receipt,
    /// Sums of all receipts up to this one.
    pub totals: Totals,
}

impl Manifest {
    /// Epoch 0 of a new job: where its sources start, resolved once (P9).
    pub fn epoch_zero(
        job: JobId,
        job_name: String,
        created_ms: i64,
        graph: JobGraph,
        settings: JobSettings,
        sources: Vec<SourceState>,
    ) -> Self {
        Self {
            version: MANIFEST_VERSION,
            job,
            job_name,
            generation: Generation(0),
            epoch: Epoch(0),
            created_ms,
            graph,
            parallelism: 0,
            key_groups: settings.key_groups,
            settings,
            sources,
            operators: Vec::new(),
            prepared: Vec::new(),
            is_final: false,
            receipt: Receipt { job, ..Receipt::default() },
            totals: Totals::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    pub operator: OperatorId,
    pub splits: Vec<SplitState>,
}

/// Where one split stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitState {
    pub id: SplitId,
    /// How the connector finds the split again (a path, a byte range, …). Shared, as the position is: a folder of
    /// a hundred thousand files has as many splits in every manifest.
    pub detail: Arc<serde_json::Value>,
    /// Where reading goes on: before the first record not yet emitted.
    pub position: Arc<serde_json::Value>,
    /// Records read so far, since epoch 0.
    pub rows: u64,
    /// Highest watermark of the split, ms. None: not opened or nothing read yet (−∞).
    pub watermark: Option<i64>,
    pub idle: bool,
    pub finished: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    pub operator: OperatorId,
    /// The combined input watermark of each subtask, by the key groups it owns (P13). None: −∞.
    /// `i64::MAX`: all input has ended.
    pub watermarks: Vec<(KeyGroupRange, Option<i64>)>,
    pub tables: Vec<TableState>,
}

/// The live files of one state table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    pub name: String,
    /// Oldest first: later files win over earlier ones.
    pub files: Vec<StateFile>,
}

/// One immutable file of keyed rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Key in the checkpoint store.
    pub object: String,
    pub bytes: u64,
    /// CRC32C of the whole object.
    pub crc: u32,
    pub rows: u64,
    /// The newest epoch whose changes it holds.
    pub epoch: Epoch,
    /// Key groups for which it counts: those of the subtask that lists it. After a rescale an old file is
    /// listed by several subtasks, each for its own groups; such entries stand side by side.
    pub key_groups: KeyGroupRange,
    /// Highest value of the table's time column in it: when that time has passed, the file is dead.
    /// None: never.
    pub expires_after: Option<i64>,
    /// It goes on where the file before it ends: both hold parts of one merge, or of one change. Where files are counted
    /// they are one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// Something a sink made durable but invisible, named for ever (P12: the key of a replay).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedHandle {
    pub subtask: SubtaskId,
    /// Which sink of the operator: the table it writes, or a side table.
    pub channel: SinkChannel,
    /// Unique name: `Origin::object`.
    pub name: String,
    pub sum: RowSum,
    /// What the connector needs to commit it.
    pub detail: serde_json::Value,
}

impl PreparedHandle {
    /// The topic that its rows go to; empty if it does not say, as of anything but a topic.
    pub fn topic(&self) -> &str {
        self.detail.get("topic").and_then(serde_json::Value::as_str).unwrap_or_default()
    }
}

/// The outputs that an operator stages under an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SinkChannel {
    /// The table of a sink operator.
    Table,
    /// The job's late table.
    Late,
    /// The job's dead-letter table.
    DeadLetters,
}
