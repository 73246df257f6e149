//! Retention waits for readers (P15): the positions that restorable manifests need.
//!
//! Called by whoever owns a job's manifests: at every start, before retention is applied, and after each
//! claim and each retired manifest.

use qanat_proto::error::Result;
use qanat_proto::graph::{JobGraph, Operator, OperatorKind};
use qanat_proto::manifest::{Manifest, SourceState, SplitState};
use qanat_proto::names::Name;
use qanat_storage::log::Topics;

use super::LogOptions;
use super::source::{offset_of, split_of, topic_of};

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

/// Where a source begins to read a partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub topic: Name,
    /// Which topic of the name, if it is known.
    pub id: Option<u64>,
    pub partition: u32,
    pub offset: u64,
}

/// Where splits of topics begin. Those of other connectors are passed over.
pub fn starts(sources: &[SourceState]) -> Vec<Start> {
    let start = |split: &SplitState| {
        let (topic, partition) = split_of(&split.detail)?;
        Some(Start { topic, id: topic_of(&split.detail), partition, offset: offset_of(&split.position)? })
    };
    sources.iter().flat_map(|source| &source.splits).filter_map(start).collect()
}

/// Topics that a graph joins as lookup tables: they are read whole whenever a generation begins.
///
/// # Errors
/// E0202 to E0204 for the options of a table.
pub fn lookups(graph: &JobGraph) -> Result<Vec<Name>> {
    let table = |operator: &Operator| match &operator.kind {
        OperatorKind::LookupJoin(node) if node.table.connector == "log" => Some(LogOptions::of_table(&node.table)),
        _ => None,
    };
    graph.operators.iter().filter_map(table).map(|options| options.map(|options| options.topic)).collect()
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
