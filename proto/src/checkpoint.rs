//! What a checkpoint holds, as it is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::OperatorId;
use crate::manifest::{OperatorState, PreparedHandle, SourceState};
use crate::receipt::{Receipt, Totals};
use crate::rpc::control::{Checkpoint, CheckpointDescription};
use crate::{Error, Result};

/// One epoch with all that its manifest says.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointReport {
    pub checkpoint: Checkpoint,
    pub details: CheckpointDetails,
    /// Names of operators.
    pub operators: BTreeMap<OperatorId, String>,
}

/// See [`CheckpointReport`]. What stands in the manifest alone is None once that was retired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointDetails {
    pub sources: Option<Vec<SourceState>>,
    pub operators: Option<Vec<OperatorState>>,
    /// What sinks prepared for its commit.
    pub prepared: Vec<PreparedHandle>,
    pub receipt: Option<Receipt>,
    /// Sums of all receipts up to this one.
    pub totals: Option<Totals>,
}

impl CheckpointReport {
    /// # Errors
    /// E0503 if it is none.
    pub fn of_wire(wire: CheckpointDescription) -> Result<Self> {
        let unreadable = |why: String| Error::internal(format!("a checkpoint cannot be read: {why}"));
        let name = |(id, name): (String, String)| Ok((id.parse().map_err(unreadable)?, name));
        Ok(Self {
            checkpoint: wire.checkpoint.ok_or_else(|| unreadable("it is not there".to_owned()))?,
            details: serde_json::from_str(&wire.details).map_err(|e| unreadable(e.to_string()))?,
            operators: wire.operators.into_iter().map(name).collect::<Result<_>>()?,
        })
    }

    /// # Errors
    /// E0503 if it cannot be written as JSON.
    pub fn into_wire(self) -> Result<CheckpointDescription> {
        let details = serde_json::to_string(&self.details);
        Ok(CheckpointDescription {
            checkpoint: Some(self.checkpoint),
            details: details.map_err(|e| Error::internal(format!("write a checkpoint: {e}")))?,
            operators: self.operators.into_iter().map(|(id, name)| (id.to_string(), name)).collect(),
        })
    }
}
