//! What a rollback would take back of a job's sinks, and which of them cannot.

use std::collections::BTreeSet;
use std::path::Path;

use qanat_connectors::filesystem::sink_folder;
use qanat_connectors::filesystem::withdrawn::published_after;
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
        let table = node.table.name.clone();
        let mut sink = WithdrawableSink { operator: operator.id, table, names: BTreeSet::new(), keeps: None };
        match node.table.connector.as_str() {
            "filesystem" => {
                let folder = sink_folder(base, &node.table)?;
                let published = published_after(env.disk.as_ref(), &folder, job, operator.id, after)?;
                sink.names.extend(published.paths);
                if let Some(epoch) = published.lost {
                    let why = format!("the commit record of epoch {epoch} is gone, and with it the names of its files");
                    sink.keeps = Some(why);
                } else if node.overwrite {
                    sink.keeps = Some("the files that INSERT OVERWRITE took away do not come back".to_owned());
                }
            }
            "blackhole" => {}
            "log" => sink.keeps = Some("rows of a topic stay where they are".to_owned()),
            other => sink.keeps = Some(format!("what `{other}` has shown cannot be taken back")),
        }
        sinks.push(sink);
    }
    Ok(sinks)
}
