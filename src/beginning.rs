//! Where a job begins: what its sources start at (P9), whether its sinks can be opened, how wide it is.

use qanat_connectors::contract::Opener;
use qanat_executor::deploy::{initial_splits, read_request};
use qanat_proto::graph::{JobGraph, OperatorKind};
use qanat_proto::manifest::SourceState;
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error, Place, Result};

/// The splits of every source, resolved once.
///
/// # Errors
/// What a connector says.
pub(crate) fn sources(opener: &dyn Opener, graph: &JobGraph) -> Result<Vec<SourceState>> {
    let mut sources = Vec::new();
    for (operator, node) in graph.sources() {
        let source = opener.source(&node.table, read_request(node)?)?;
        let at = || Place::Named(node.table.name.clone());
        let splits = initial_splits(source.as_ref()).map_err(|e| e.or_at(at))?;
        sources.push(SourceState { operator: operator.id, splits });
    }
    Ok(sources)
}

/// Opens every sink once, so that a folder without permission is an error now and not a restart loop.
pub(crate) fn check_sinks(opener: &dyn Opener, graph: &JobGraph) -> Result<()> {
    for operator in &graph.operators {
        if let OperatorKind::Sink(node) = &operator.kind {
            let at = || Place::Named(node.table.name.clone());
            opener.sink(node, operator.output.clone()).map_err(|e| e.or_at(at))?;
        }
    }
    Ok(())
}

/// What makes two scripts the same job: their graphs.
pub(crate) fn digest(graph: &JobGraph) -> String {
    let bytes = serde_json::to_vec(graph).unwrap_or_default();
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))
}

/// A table that asks for more writers than the job has subtasks gets them: the job is as wide as it.
pub(crate) fn widened(parallelism: u32, graph: &JobGraph, settings: &JobSettings) -> Result<u32> {
    let wanted = graph.sink_parallelism();
    let most = parallelism_max(settings);
    if wanted > most {
        let message = format!("`sink.parallelism` = `{wanted}` is more than the {most} subtasks that a job can have");
        return Err(Error::new(Code::BadOption, message)
            .hint("lower it, or raise `pipeline.max-parallelism`: a subtask needs a key group"));
    }
    Ok(parallelism.max(wanted))
}

/// As many subtasks as there are key groups, at most.
pub(crate) fn parallelism_max(settings: &JobSettings) -> u32 {
    u32::from(settings.key_groups).min(qanat_proto::limits::PARALLELISM_MAX)
}

/// Processors of this machine.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// Subtasks per operator: as asked for, else as the settings say, else one per core.
///
/// # Errors
/// E0501 for a number that is not possible.
pub(crate) fn parallelism(asked: Option<u32>, settings: &JobSettings) -> Result<u32> {
    let most = parallelism_max(settings);
    let wanted = match asked {
        Some(parallelism) => parallelism,
        None if settings.parallelism > 0 => settings.parallelism,
        None => cores().min(most),
    };
    if wanted == 0 || wanted > most {
        return Err(Error::new(Code::Usage, format!("parallelism {wanted} is not possible"))
            .hint(format!("use 1 to {most}: a subtask needs a key group (`pipeline.max-parallelism`)")));
    }
    Ok(wanted)
}
