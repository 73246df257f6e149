//! Manifests and stores for the tests of this module and of `state`.

use std::path::Path;

use qanat_proto::graph::JobGraph;
use qanat_proto::ids::{Epoch, Generation, JobId, KeyGroupRange, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{MANIFEST_VERSION, Manifest, OperatorState, StateFile, TableState};
use qanat_proto::names::Origin;
use qanat_proto::receipt::{Receipt, Totals};
use qanat_proto::settings::JobSettings;

use super::CheckpointStore;
use crate::env::Env;
use crate::object::Objects;

pub(crate) const ROOT: &str = "/checkpoints";
pub(crate) const JOB: JobId = JobId(7);

pub(crate) fn store(env: &Env) -> CheckpointStore {
    CheckpointStore::new(Objects::in_directory(env, Path::new(ROOT)).expect("opens"))
}

pub(crate) fn range(start: u16, end: u16) -> KeyGroupRange {
    KeyGroupRange { start, end }
}

pub(crate) fn origin(job: JobId, generation: u64, epoch: u64, index: u32) -> Origin {
    Origin {
        token: Token { job, generation: Generation(generation) },
        epoch: Epoch(epoch),
        subtask: SubtaskId { operator: OperatorId(1), index },
    }
}

pub(crate) fn file(object: &str) -> StateFile {
    StateFile {
        object: object.to_owned(),
        bytes: 1,
        crc: 0,
        rows: 0,
        epoch: Epoch(1),
        key_groups: range(0, 8),
        expires_after: None,
        continues: false,
    }
}

pub(crate) fn manifest(job: JobId, generation: u64, epoch: u64, files: Vec<StateFile>) -> Manifest {
    let (generation, epoch) = (Generation(generation), Epoch(epoch));
    Manifest {
        version: MANIFEST_VERSION,
        job,
        job_name: "delays".to_owned(),
        generation,
        epoch,
        created_ms: 0,
        graph: JobGraph { operators: Vec::new(), edges: Vec::new() },
        settings: JobSettings::default(),
        parallelism: 1,
        key_groups: 8,
        sources: Vec::new(),
        operators: vec![OperatorState {
            operator: OperatorId(1),
            watermarks: vec![(range(0, 8), Some(5))],
            tables: vec![TableState { name: "counts".to_owned(), files }],
        }],
        prepared: Vec::new(),
        is_final: false,
        receipt: Receipt {
            job,
            generation,
            epoch,
            sources: Vec::new(),
            operators: Vec::new(),
            edges: Vec::new(),
            sinks: Vec::new(),
        },
        totals: Totals::default(),
    }
}

/// The files that a manifest lists for its one table.
pub(crate) fn files_of(manifest: &Manifest) -> &[StateFile] {
    &manifest.operators[0].tables[0].files
}
