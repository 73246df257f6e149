//! The job of the model: a source of a few splits, a shuffle, an operator with state that is a sink as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use qanat_proto::changelog::{Changelog, SourceChangelog};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::graph::{Edge, JobGraph, Operator, OperatorKind, Partitioning, SinkNode, SourceNode};
use qanat_proto::ids::{Epoch, JobId, OperatorId, SplitId};
use qanat_proto::manifest::{Manifest, SourceState, SplitState};
use qanat_proto::receipt::RowHash;
use qanat_proto::settings::JobSettings;

pub(super) const JOB: JobId = JobId(9 << 96);
pub(super) const SOURCE: OperatorId = OperatorId(1);
pub(super) const SINK: OperatorId = OperatorId(2);

/// A record's number: of its split, and within it.
pub(super) fn record(split: usize, offset: u64) -> u64 {
    (split as u64) << 32 | offset
}

/// A hash of a record, for receipts: anything that tells records apart will do.
pub(super) fn hash_of(record: u64) -> RowHash {
    let mixed = record.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    RowHash(u128::from(mixed) << 64 | u128::from(mixed.rotate_left(23) ^ record))
}

/// The key group of a record.
pub(super) fn group_of(record: u64, key_groups: u16) -> u16 {
    u16::try_from(hash_of(record).0 % u128::from(key_groups)).unwrap_or(0)
}

pub(super) fn split_id(split: usize) -> SplitId {
    SplitId(format!("s{split}"))
}

pub(super) fn split_state(split: usize, position: u64, records: u64) -> SplitState {
    SplitState {
        id: split_id(split),
        detail: Arc::default(),
        position: Arc::new(position.into()),
        rows: position,
        watermark: None,
        idle: false,
        finished: position == records,
    }
}

pub(super) fn graph() -> JobGraph {
    let table = |name: &str| TableDescriptor {
        name: name.into(),
        connector: "model".into(),
        options: BTreeMap::new(),
        physical: Schema::empty().into(),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
    };
    let source = SourceNode {
        table: table("read"),
        projection: vec![],
        unread: Vec::new(),
        metadata: vec![],
        pushed_filter: None,
        watermark: None,
        bounded: true,
        replayable: true,
        gives: SourceChangelog::Append,
    };
    let sink = SinkNode::of_table(table("written"));
    let operator = |id, name: &str, kind| Operator {
        id,
        name: name.into(),
        kind,
        output: Schema::empty().into(),
        changelog: Changelog::Append,
        ttl_ms: [0; 2],
    };
    JobGraph {
        operators: vec![
            operator(SOURCE, "read", OperatorKind::Source(source)),
            operator(SINK, "written", OperatorKind::Sink(sink)),
        ],
        edges: vec![Edge { from: SOURCE, to: SINK, port: 0, partitioning: Partitioning::Hash { columns: vec![0] } }],
    }
}

/// Epoch 0: where the job begins.
pub(super) fn epoch_zero(begun: &[u64], records: u64, settings: JobSettings) -> Manifest {
    let splits = begun.iter().enumerate().map(|(split, position)| split_state(split, *position, records)).collect();
    let sources = vec![SourceState { operator: SOURCE, splits }];
    let mut manifest = Manifest::epoch_zero(JOB, "job".into(), 0, graph(), settings, sources);
    manifest.epoch = Epoch(0);
    manifest
}
