//! Retention waits for readers (P15): the positions that restorable manifests need.
//!
//! Called by whoever owns a job's manifests: at every start, before retention is applied, and after each
//! claim and each retired manifest.

use qanat_proto::error::Result;
use qanat_proto::graph::OperatorKind;
use qanat_proto::manifest::Manifest;
use qanat_proto::names::Name;
use qanat_storage::log::Topics;

use super::LogOptions;
use super::source::{offset_of, split_of};

/// Holds every partition that the manifests read from at the lowest offset any of them needs, and a topic that is
/// joined as a lookup table from its beginning: it is read whole again. `reader` names the holder: the job. Splits
/// of other connectors are passed over.
///
/// # Errors
/// E0304 for a damaged partition.
pub fn hold_positions<'a>(
    topics: &Topics,
    reader: &str,
    manifests: impl IntoIterator<Item = &'a Manifest> + Clone,
) -> Result<()> {
    let mut lowest: std::collections::BTreeMap<(Name, u32), u64> = std::collections::BTreeMap::new();
    for split in manifests.clone().into_iter().flat_map(|m| &m.sources).flat_map(|source| &source.splits) {
        let Some((topic, partition)) = split_of(&split.detail) else { continue };
        let Some(offset) = offset_of(&split.position) else { continue };
        let held = lowest.entry((topic, partition)).or_insert(offset);
        *held = (*held).min(offset);
    }
    for ((topic, partition), offset) in lowest {
        if let Some(topic) = topics.find(&topic)? {
            topic.partition(partition)?.hold(reader, offset);
        }
    }
    for operator in manifests.into_iter().flat_map(|manifest| &manifest.graph.operators) {
        let OperatorKind::LookupJoin(node) = &operator.kind else { continue };
        if node.table.connector != "log" {
            continue;
        }
        let Some(topic) = topics.find(&LogOptions::of_table(&node.table)?.topic)? else { continue };
        for partition in 0..topic.partitions() {
            topic.partition(partition)?.hold(reader, 0);
        }
    }
    Ok(())
}

/// Gives up everything that `reader` holds: the job was dropped.
///
/// # Errors
/// E0304 for a damaged partition.
pub fn release_positions(topics: &Topics, reader: &str) -> Result<()> {
    for name in topics.list()? {
        let topic = topics.topic(&name)?;
        for partition in 0..topic.partitions() {
            topic.partition(partition)?.release(reader);
        }
    }
    Ok(())
}
