//! Loading lookup tables: read whole before the first probe.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use qanat_connectors::contract::{ReadOutcome, ReadRequest, StopFlag};
use qanat_proto::control::Deployment;
use qanat_proto::graph::{LookupJoinNode, OperatorKind};
use qanat_proto::ids::OperatorId;
use qanat_proto::{Code, Error, Place, Result, limits};

use crate::node::NodeConfig;
use crate::operator::Operator;

/// The lookup tables of a job, loaded.
pub struct Loaded(BTreeMap<OperatorId, Vec<RecordBatch>>);

impl Loaded {
    /// Gives an operator its table, if it has one.
    ///
    /// # Errors
    /// What the operator says of the rows.
    pub fn give(&self, id: OperatorId, operator: &mut dyn Operator) -> Result<()> {
        match self.0.get(&id) {
            Some(rows) => operator.load(1, rows.clone()),
            None => Ok(()),
        }
    }
}

/// Reads every lookup table of a job.
///
/// # Errors
/// What the connector says; E0210 for a record that cannot be decoded, whatever the table's policy: a
/// join with part of a table would be wrong without a word.
pub fn load_all(config: &NodeConfig, deployment: &Deployment) -> Result<Loaded> {
    let mut loaded = BTreeMap::new();
    for operator in &deployment.graph.operators {
        if let OperatorKind::LookupJoin(node) = &operator.kind {
            let rows = load(config, node).map_err(|e| e.or_at(|| Place::Named(node.table.name.clone())))?;
            loaded.insert(operator.id, rows);
        }
    }
    Ok(Loaded(loaded))
}

fn load(config: &NodeConfig, node: &LookupJoinNode) -> Result<Vec<RecordBatch>> {
    let request = ReadRequest {
        projection: node.projection.clone(),
        metadata: Vec::new(),
        batch_rows: limits::BATCH_ROWS,
        bounded: true,
    };
    let source = config.opener.source(&node.table, request)?;
    let stop = StopFlag::default();
    let mut batches = Vec::new();
    for split in source.discover()? {
        let mut reader = source.open(&split, &split.start)?;
        loop {
            match reader.next(&stop)? {
                ReadOutcome::Batch(batch) => {
                    if let Some(letter) = batch.dead_letters.first() {
                        let offset = u64::try_from(letter.offset).ok();
                        let message = format!("a lookup table has a record that cannot be read: {}", letter.reason);
                        let place = Place::Origin { origin: letter.origin.clone(), offset, unit: "row".to_owned() };
                        return Err(Error::new(Code::BadRecord, message).at(place));
                    }
                    batches.push(batch.rows);
                }
                ReadOutcome::Pending => {
                    return Err(Error::new(Code::BadRole, "a lookup table must be bounded"));
                }
                ReadOutcome::End => break,
            }
        }
    }
    Ok(batches)
}
