//! What a rollback would take back of a job's sinks, and which of them cannot.

use std::path::Path;

use qanat_connectors::Catalog;
use qanat_connectors::contract::MadeVisible;
use qanat_coordinator::rollback::WithdrawableSink;
use qanat_proto::Result;
use qanat_proto::graph::JobGraph;
use qanat_proto::ids::{Epoch, JobId};
use qanat_storage::env::Env;

/// Asks every sink what it published after an epoch. `base` is what relative paths are resolved against.
///
/// # Errors
/// E0301 for a damaged commit record; the disk's.
pub(crate) fn sinks(
    env: &Env,
    graph: &JobGraph,
    job: JobId,
    after: Epoch,
    base: &Path,
) -> Result<Vec<WithdrawableSink>> {
    let mut sinks = Vec::new();
    for (operator, node) in graph.sinks() {
        let rows = MadeVisible { job, operator: operator.id, after };
        let found = Catalog.withdrawable(env, base, node, rows)?;
        let (table, names) = (node.table.name.clone(), found.names.into_iter().collect());
        sinks.push(WithdrawableSink { operator: operator.id, table, names, keeps: found.keeps });
    }
    Ok(sinks)
}
