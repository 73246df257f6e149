//! The epochs of a job, and what each would restore.

use std::collections::BTreeMap;

use qanat_client::{Checkpoint, CheckpointDetails, CheckpointReport};
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::Manifest;
use qanat_proto::{Code, Error, Place, Result};

use crate::data_folder::{DataView, FoundJob};
use crate::history::{EpochHistory, EpochStatus};

/// The newest `limit` epochs of a run, oldest first.
pub(crate) fn list(view: &DataView, found: &FoundJob, limit: usize) -> Vec<Checkpoint> {
    let epochs = &found.history.epochs;
    let newest = epochs.iter().skip(epochs.len().saturating_sub(limit));
    newest
        .map(|(epoch, history)| shown(*epoch, history, manifest(view, found, history).ok().flatten().as_ref()))
        .collect()
}

/// One epoch with all that its manifest says.
///
/// # Errors
/// E0501 for an epoch that there is not; E0301 for a damaged manifest.
pub(crate) fn describe(view: &DataView, found: &FoundJob, epoch: Epoch) -> Result<CheckpointReport> {
    let history = found.history.epochs.get(&epoch).ok_or_else(|| {
        let last = found.history.last_epoch();
        Error::new(Code::Usage, format!("job `{}` has no epoch {epoch}", found.history.name))
            .at(Place::Named(found.history.id.to_string()))
            .hint(format!("its epochs are 0 to {last}"))
    })?;
    let manifest = manifest(view, found, history)?;
    let checkpoint = shown(epoch, history, manifest.as_ref());
    let names = manifest.iter().flat_map(|manifest| &manifest.graph.operators);
    let operators = names.map(|operator| (operator.id, operator.name.clone())).collect();
    let details = CheckpointDetails {
        totals: manifest.as_ref().map(|manifest| manifest.totals.clone()),
        prepared: history.handles.clone(),
        receipt: history.receipt.clone(),
        // The graph is long and the same in every epoch: `explain` shows it.
        sources: manifest.as_ref().map(|manifest| manifest.sources.clone()),
        operators: manifest.map(|manifest| manifest.operators),
    };
    Ok(CheckpointReport { checkpoint, details, operators })
}

fn shown(epoch: Epoch, history: &EpochHistory, manifest: Option<&Manifest>) -> Checkpoint {
    let (read, written) = history.receipt.as_ref().map_or((0, 0), |receipt| {
        let splits = receipt.sources.iter().flat_map(|source| &source.splits);
        let objects = receipt.sinks.iter().flat_map(|sink| &sink.objects);
        (splits.map(|split| split.rows).sum(), objects.map(|object| object.sum.rows).sum())
    });
    let state = manifest.map(state_files);
    Checkpoint {
        epoch: epoch.0,
        generation: history.generation.0,
        status: history.status.name().to_owned(),
        r#final: history.is_final,
        claimed_ms: history.claimed_ms,
        commit_ms: history.committed_ms.zip(history.claimed_ms).map(|(committed, claimed)| committed - claimed),
        read,
        written,
        state_files: state.map(|(files, _)| files),
        state_bytes: state.map(|(_, bytes)| bytes),
        manifest: history.manifest_key.clone(),
    }
}

/// The manifest of an epoch, checked against its claim; None once it was retired.
fn manifest(view: &DataView, found: &FoundJob, history: &EpochHistory) -> Result<Option<Manifest>> {
    if history.status == EpochStatus::Retired {
        return Ok(None);
    }
    found.checkpoints(&view.env)?.read_manifest(&history.manifest_key, &history.checksum).map(Some)
}

/// Number and bytes of the state files that a manifest lists. A file that several subtasks share after a
/// rescale counts once.
fn state_files(manifest: &Manifest) -> (u64, u64) {
    let tables = manifest.operators.iter().flat_map(|operator| &operator.tables);
    let files: BTreeMap<&str, u64> =
        tables.flat_map(|table| &table.files).map(|file| (file.object.as_str(), file.bytes)).collect();
    (files.len() as u64, files.values().sum())
}
