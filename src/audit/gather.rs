//! The reading: command log, manifests, state files, commit records, files and topics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use qanat_connectors::filesystem::audit::audit;
use qanat_connectors::filesystem::net::net_rows;
use qanat_connectors::filesystem::sink_folder;
use qanat_connectors::log::LogOptions;
use qanat_connectors::side;
use qanat_coordinator::raft::Reach;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::graph::{JobGraph, SinkNode};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId};
use qanat_proto::manifest::{Manifest, SinkChannel};
use qanat_proto::names::Name;
use qanat_proto::receipt::RowSum;
use qanat_proto::{Code, Error, Result};
use qanat_storage::log::{Isolation, Start, Topic};

use super::evidence::{
    ClaimedEpoch, Cut, Evidence, FoundEpoch, FoundObject, ManifestEvidence, Medium, NetChanges, SideEvidence,
    SinkEvidence, SinkFault,
};
use crate::data_folder::{DataView, FoundJob};
use crate::history::{EpochHistory, EpochStatus};

/// Reads all there is of a run. The command log was read before, so that whatever it says was committed
/// must be found now.
pub(super) fn gather(view: &DataView, found: &FoundJob, base: &Path) -> Result<Evidence> {
    let history = &found.history;
    let manifests = manifests(view, found)?;
    let newest = manifests.iter().rev().find_map(|(_, (_, manifest))| manifest.as_ref());
    let graph = newest.map(|manifest| manifest.graph.clone());
    let mut evidence = Evidence {
        job: history.id,
        name: history.name.clone(),
        status: history.job.status.name(),
        has_ended: history.job.status.is_ended(),
        cut: Cut {
            epoch: history.cut,
            committed: history.epochs.get(&history.cut).is_none_or(|claim| claim.status != EpochStatus::Claimed),
            sums: history.sums_to_cut.clone(),
        },
        ..Evidence::default()
    };
    if let Some((_, Some(first))) = manifests.get(&Epoch(0)) {
        for source in &first.sources {
            let splits = source.splits.iter();
            evidence.start.extend(splits.map(|split| ((source.operator, split.id.clone()), split.position.clone())));
        }
    }
    for (epoch, claim) in &history.epochs {
        let Some(receipt) = claim.receipt.as_ref().filter(|_| claim.status != EpochStatus::Withdrawn) else { continue };
        evidence.epochs.push(ClaimedEpoch {
            epoch: *epoch,
            generation: claim.generation,
            parallelism: parallelism(history, claim.generation),
            committed: claim.status != EpochStatus::Claimed,
            manifest_key: claim.manifest_key.clone(),
            handles: claim.handles.clone(),
            receipt: receipt.clone(),
        });
    }
    if let Some(graph) = &graph {
        evidence.sinks = sinks(view, graph, history.id, base)?;
    }
    for channel in [SinkChannel::Late, SinkChannel::DeadLetters] {
        let topic = side::topic_name(&history.name, channel)?;
        let (found, cut) = topic_sums(|| view.topics()?.find(&topic), history.id)?;
        evidence.side_tables.push(SideEvidence { channel, topic: topic.to_string(), found, cut });
    }
    // A rollback leaves rows in topics and side tables, whose readers skip those epochs.
    let is_withdrawn = |epoch: &Epoch| history.job.is_withdrawn(*epoch);
    evidence.sinks.iter_mut().for_each(|sink| sink.found.retain(|epoch, _| !is_withdrawn(epoch)));
    evidence.side_tables.iter_mut().for_each(|table| table.found.retain(|(_, epoch), _| !is_withdrawn(epoch)));
    evidence.withdrawn.clone_from(&history.job.withdrawn);
    evidence.withdrawing = history.job.withdrawing.iter().map(|of| (of.first, of.last)).collect();
    evidence.graph = graph;
    evidence.manifests = manifests.into_iter().map(|(epoch, (manifest, _))| (epoch, manifest)).collect();
    Ok(evidence)
}

fn parallelism(history: &crate::history::JobHistory, generation: Generation) -> u32 {
    history.parallelism.get(&generation).copied().unwrap_or(history.job.parallelism)
}

type Manifests = BTreeMap<Epoch, (ManifestEvidence, Option<Manifest>)>;

/// The manifests that may be restored, and the state files of the newest.
fn manifests(view: &DataView, found: &FoundJob) -> Result<Manifests> {
    let store = found.checkpoints(&view.env)?;
    let live: Vec<(&Epoch, &EpochHistory)> =
        found.history.epochs.iter().filter(|(_, claim)| !is_given_up(claim.status)).collect();
    let mut manifests = Manifests::new();
    for (epoch, claim) in &live {
        let evidence = match store.read_manifest(&claim.manifest_key, &claim.checksum) {
            Ok(manifest) => {
                let evidence = ManifestEvidence::Read {
                    receipt: manifest.receipt.clone(),
                    totals: manifest.totals.clone(),
                    sources: manifest.sources.clone(),
                };
                (evidence, Some(manifest))
            }
            Err(error) if was_retired(view, found, **epoch)? => {
                tracing::debug!(%epoch, %error, "retired while it was read");
                continue;
            }
            Err(error) => (damaged(&claim.manifest_key, &error), None),
        };
        manifests.insert(**epoch, evidence);
    }
    let newest = live.last().and_then(|(epoch, _)| manifests.get_mut(epoch).map(|entry| (**epoch, entry)));
    if let Some((epoch, (evidence, Some(manifest)))) = newest {
        let tables = manifest.operators.iter().flat_map(|operator| &operator.tables);
        for file in tables.flat_map(|table| &table.files) {
            let why = match store.objects().get(&file.object) {
                Ok(bytes) if bytes.len() as u64 == file.bytes && crc32c::crc32c(&bytes) == file.crc => continue,
                Ok(bytes) => format!(
                    "it has {} bytes with CRC32C {:08x}; the manifest says {} bytes with {:08x}",
                    bytes.len(),
                    crc32c::crc32c(&bytes),
                    file.bytes,
                    file.crc
                ),
                Err(error) => error.message().to_owned(),
            };
            if !was_retired(view, found, epoch)? {
                *evidence = ManifestEvidence::Damaged { object: file.object.clone(), message: why };
            }
            break;
        }
    }
    Ok(manifests)
}

fn damaged(object: &str, error: &Error) -> ManifestEvidence {
    ManifestEvidence::Damaged { object: object.to_owned(), message: error.message().to_owned() }
}

/// Whether a running job gave an epoch up since its log was read.
fn was_retired(view: &DataView, found: &FoundJob, epoch: Epoch) -> Result<bool> {
    let now = view.job(&found.history.name, Some(&found.history.id.to_string()), Reach::State)?;
    // An epoch that the log has let go of was retired before.
    Ok(now.history.epochs.get(&epoch).is_none_or(|claim| is_given_up(claim.status)))
}

fn is_given_up(status: EpochStatus) -> bool {
    matches!(status, EpochStatus::Retired | EpochStatus::Withdrawn)
}

fn sinks(view: &DataView, graph: &JobGraph, job: JobId, base: &Path) -> Result<Vec<SinkEvidence>> {
    let mut read: BTreeMap<Name, (Sums, Option<Epoch>)> = BTreeMap::new();
    let mut sinks = Vec::new();
    for (operator, node) in graph.sinks() {
        let mut sink = SinkEvidence {
            operator: operator.id,
            table: node.table.name.clone(),
            medium: Medium::Unreadable(node.table.connector.clone()),
            found: BTreeMap::new(),
            faults: Vec::new(),
            cut: None,
            changes: None,
        };
        match node.table.connector.as_str() {
            "filesystem" => files(view, node, !operator.changelog.is_append(), job, base, &mut sink)?,
            "log" => {
                let topic = LogOptions::of_table(&node.table)?.topic;
                sink.medium = Medium::Topic(topic.to_string());
                if !read.contains_key(&topic) {
                    read.insert(topic.clone(), topic_sums(|| view.topics()?.find(&topic), job)?);
                }
                if let Some((sums, cut)) = read.get(&topic) {
                    sink.cut = *cut;
                    for ((_, epoch), sum) in sums.iter().filter(|((from, _), _)| *from == operator.id) {
                        let found = sink.found.entry(*epoch).or_default();
                        found.sum.add(*sum);
                        found.read.add(*sum);
                    }
                }
            }
            "blackhole" => sink.medium = Medium::Nothing,
            _ => {}
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

/// What the folder of a file sink holds of the job, every file read again.
fn files(
    view: &DataView,
    node: &SinkNode,
    has_changes: bool,
    job: JobId,
    base: &Path,
    sink: &mut SinkEvidence,
) -> Result<()> {
    let folder = sink_folder(base, &node.table)?;
    sink.medium = Medium::Folder(folder.display().to_string());
    let audited = audit(view.env.disk.as_ref(), &folder, job)?;
    for record in audited.epochs.into_iter().filter(|record| record.operator == sink.operator) {
        let found: &mut FoundEpoch = sink.found.entry(record.epoch).or_default();
        found.manifest_key = Some(record.manifest_key);
        found.read.add(record.read);
        found.right += record.right;
        for file in record.files {
            found.sum.add(file.sum());
            let object = object_name(&file.path).to_owned();
            found.objects.insert(object, FoundObject { sum: file.sum(), path: file.path });
        }
    }
    // Two sinks of one job may write to one folder: each judges its own.
    let own = audited.findings.into_iter().filter(|f| f.operator.is_none_or(|operator| operator == sink.operator));
    sink.faults = own
        .map(|finding| SinkFault {
            epoch: finding.epoch,
            object: Some(object_name(&finding.path).to_owned()),
            place: folder.join(finding.path).display().to_string(),
            message: finding.message,
            lost: finding.lost,
            surplus: finding.surplus,
        })
        .collect();
    if has_changes {
        let net = net_rows(view.env.disk.as_ref(), &folder, job, sink.operator);
        sink.changes = Some(net.as_ref().ok().copied().flatten().map_or(NetChanges::Unknown, NetChanges::Known));
        // What cannot be read was found already.
        if let (Err(error), true) = (net, sink.faults.is_empty()) {
            sink.faults.push(SinkFault {
                epoch: None,
                place: folder.display().to_string(),
                message: error.message().to_owned(),
                object: None,
                lost: 0,
                surplus: 0,
            });
        }
    }
    Ok(())
}

/// `carrier=AA/part-<object>.csv.gz`: the object.
fn object_name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.strip_prefix("part-").unwrap_or(name);
    stem.split('.').next().unwrap_or(stem)
}

type Sums = BTreeMap<(OperatorId, Epoch), RowSum>;

/// Rows and hashes of a job in a topic, by operator and epoch, all read again; and the newest epoch of
/// which retention may have taken rows. `open` looks at the topic as it is now: what was opened before does
/// not see what is removed behind it.
fn topic_sums(open: impl Fn() -> Result<Option<Arc<Topic>>>, job: JobId) -> Result<(Sums, Option<Epoch>)> {
    let mut sums = Sums::new();
    let mut cut = None;
    let Some(topic) = open()? else { return Ok((sums, cut)) };
    let mut hasher = RowHasher::default();
    for partition in 0..topic.partitions() {
        let mut is_cut = topic.partition(partition)?.first_offset() > 0 && !topic.keeps_everything();
        let mut first = None;
        let mut batches = topic.read_to_latest(partition, Start::Earliest, Isolation::Committed)?;
        loop {
            let batch = match batches.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                // Retention was faster: on with what it has left.
                Err(error) if error.code() == Code::OffsetGone => {
                    (is_cut, first) = (true, None);
                    let Some(topic) = open()? else { break };
                    batches = topic.read_to_latest(partition, Start::Earliest, Isolation::Committed)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if batch.writer.job != job {
                continue;
            }
            first.get_or_insert(batch.writer.epoch);
            sums.entry((batch.writer.operator, batch.writer.epoch)).or_default().add(hasher.sum(&batch.rows)?);
        }
        if is_cut {
            // Epochs are appended in order: what is gone lies at or before the first one seen.
            cut = cut.max(Some(first.unwrap_or(Epoch(u64::MAX))));
        }
    }
    Ok((sums, cut))
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
