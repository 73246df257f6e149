//! Lookup tables: read whole before the first probe, saved with the checkpoint, refreshed at a barrier.
//!
//! The rows that a job joins with are part of its state: version and rows are saved when they are
//! loaded, and a restored job goes on with exactly these (I12). A refresh reads the table again in the
//! background; the new version takes effect at one barrier for all subtasks, and the snapshot of that
//! barrier holds it. A job of a cluster, which may run on several executors, has it in its epoch 0.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use qanat_connectors::contract::{Opener, ReadOutcome, ReadRequest, StopFlag};
use qanat_proto::graph::{JobGraph, LookupJoinNode, OperatorKind};
use qanat_proto::ids::{Epoch, Generation, JobId, KeyGroupRange, SubtaskId, Token};
use qanat_proto::manifest::{OperatorState, StateFile, TableState};
use qanat_proto::names::Origin;
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error, Place, Result, limits};
use qanat_storage::checkpoint::{CheckpointStore, StateWriter};
use qanat_storage::env::{Clock, thread};
use qanat_storage::state::Table;

use crate::node::NodeConfig;
use crate::operator::lookup_join::{saved_delta, saved_table};

/// A version of a lookup table.
#[derive(Clone, Debug)]
pub struct Version {
    pub number: u64,
    /// In the schema that `LookupJoinNode::projection` gives.
    pub rows: Vec<RecordBatch>,
}

/// Reads a lookup table from its origin.
///
/// # Errors
/// What the connector says; E0210 for a record that cannot be decoded, whatever the table's policy: a
/// join with part of a table would be wrong without a word.
pub fn read(opener: &dyn Opener, node: &LookupJoinNode) -> Result<Vec<RecordBatch>> {
    read_rows(opener, node, usize::MAX).map_err(|e| e.or_at(|| Place::Named(node.table.name.clone())))
}

/// Reads the table of each lookup join of a job that begins, and makes it durable as the state of its epoch 0: all of
/// its executors join with the same rows (P9). `sequence` tells objects of one try from those of another.
///
/// # Errors
/// As [`read`]; E0401 for a table that is larger than the job's memory.
pub fn begin(
    opener: &dyn Opener,
    store: &CheckpointStore,
    job: JobId,
    graph: &JobGraph,
    settings: &JobSettings,
    sequence: u64,
) -> Result<Vec<OperatorState>> {
    let mut states = Vec::new();
    for operator in &graph.operators {
        let OperatorKind::LookupJoin(node) = &operator.kind else { continue };
        let rows = read_rows(opener, node, settings.memory_bytes)
            .map_err(|e| e.or_at(|| Place::Named(node.table.name.clone())))?;
        let (mut table, _) = restore(store, node, None, settings.key_groups)?;
        let token = Token { job, generation: Generation(0) };
        let subtask = SubtaskId { operator: operator.id, index: 0 };
        let mut writer = StateWriter::resume(store, Origin { token, epoch: Epoch(0), subtask }, sequence);
        let delta = saved_delta(table.spec(), 1, &rows)?;
        table.write(&delta, &mut writer)?;
        let saved = TableState { name: table.spec().name.clone(), files: table.files().to_vec() };
        states.push(OperatorState { operator: operator.id, watermarks: Vec::new(), tables: vec![saved] });
    }
    Ok(states)
}

fn read_rows(opener: &dyn Opener, node: &LookupJoinNode, bytes_max: usize) -> Result<Vec<RecordBatch>> {
    let request = ReadRequest {
        projection: node.projection.clone(),
        unread: Vec::new(),
        metadata: Vec::new(),
        batch_rows: limits::BATCH_ROWS,
        bounded: true,
        filter: None,
    };
    let source = opener.source(&node.table, request)?;
    let stop = StopFlag::default();
    let mut batches = Vec::new();
    let mut bytes = 0;
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
                    bytes += batch.rows.get_array_memory_size();
                    if bytes > bytes_max {
                        let message =
                            format!("a lookup table is larger than the {bytes_max} bytes that its job may use");
                        return Err(Error::new(Code::MemoryLimit, message).hint("raise `job.memory`"));
                    }
                    batches.push(batch.rows);
                }
                ReadOutcome::Pending | ReadOutcome::Away => {
                    return Err(Error::new(Code::BadRole, "a lookup table must be bounded"));
                }
                ReadOutcome::End => break,
            }
        }
    }
    Ok(batches)
}

/// The version of the restore point, and its state table: the table is empty and the version None if
/// none was saved.
///
/// # Errors
/// E0301 for a missing or damaged file.
pub fn restore(
    store: &CheckpointStore,
    node: &LookupJoinNode,
    state: Option<&OperatorState>,
    key_groups: u16,
) -> Result<(Table, Option<Version>)> {
    let loaded = node.table.physical.project(&node.projection);
    let loaded = Arc::new(loaded.map_err(|e| Error::internal(format!("columns of a lookup table: {e}")))?);
    let spec = saved_table(&loaded);
    let saved = state.and_then(|state| state.tables.iter().find(|table| table.name == spec.name));
    let files: &[StateFile] = saved.map_or(&[], |table| &table.files);
    let range = KeyGroupRange { start: 0, end: key_groups };
    let mut table = Table::restored(spec, range, files);
    if saved.is_none() {
        return Ok((table, None));
    }
    let mut version = Version { number: 1, rows: Vec::new() };
    table.read(store, &mut |rows| {
        let versions = rows.column(1).as_primitive::<Int64Type>();
        if let Some(number) = arrow::compute::max(versions) {
            version.number = u64::try_from(number).unwrap_or(1);
        }
        let columns: Vec<usize> = (2..rows.num_columns()).collect();
        let rows = rows.project(&columns).map_err(|e| Error::internal(format!("columns of a lookup table: {e}")))?;
        version.rows.push(rows);
        Ok(())
    })?;
    Ok((table, Some(version)))
}

/// Hands a new version to all subtasks of one operator at the same barrier.
#[derive(Default)]
pub struct Refresh(Mutex<Handover>);

#[derive(Default)]
struct Handover {
    /// The highest epoch that any subtask has begun to seal. All have sealed the one before: there is one
    /// unclaimed epoch at a time (P4).
    sealing: Epoch,
    /// The version that takes effect at the barrier of `sealing` at the latest, for subtasks that are still
    /// to come to it.
    current: Option<Version>,
    /// The version for the barrier after.
    next: Option<Version>,
}

impl Refresh {
    fn lock(&self) -> MutexGuard<'_, Handover> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a version. It takes effect at the first barrier that no subtask has begun to seal.
    pub fn offer(&self, version: Version) {
        self.lock().next = Some(version);
    }

    /// The version to take at the barrier of `epoch`, if it is newer than `held`. Whatever is offered
    /// between two subtasks of one barrier, both take the same.
    pub fn take(&self, epoch: Epoch, held: u64) -> Option<Version> {
        let mut handover = self.lock();
        if epoch > handover.sealing {
            handover.sealing = epoch;
            if let Some(next) = handover.next.take() {
                handover.current = Some(next);
            }
        }
        handover.current.as_ref().filter(|version| version.number > held).cloned()
    }
}

/// Reads the table again and again until it is told to stop. One that cannot be read is tried again at the
/// next time; until then the rows are joined with the version there is.
pub fn refresh_until_stopped(
    config: &NodeConfig,
    node: &LookupJoinNode,
    interval: Duration,
    mut version: u64,
    refresh: &Refresh,
    stop: &StopFlag,
) -> Result<()> {
    let clock: &Arc<dyn Clock> = &config.env.clock;
    let mut due = clock.monotonic() + interval;
    while !stop.is_set() {
        let now = clock.monotonic();
        if now < due {
            thread::park_timeout((due - now).min(Duration::from_millis(50)));
            continue;
        }
        match read(config.opener.as_ref(), node) {
            Ok(rows) => {
                version += 1;
                refresh.offer(Version { number: version, rows });
            }
            Err(error) => {
                tracing::warn!(table = node.table.name, %error, "could not read a lookup table again; its last version stays");
            }
        }
        due = clock.monotonic() + interval;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> Version {
        Version { number, rows: Vec::new() }
    }

    fn taken(refresh: &Refresh, epoch: u64, held: u64) -> Option<u64> {
        refresh.take(Epoch(epoch), held).map(|version| version.number)
    }

    #[test]
    fn all_subtasks_take_the_same_version_at_a_barrier() {
        let refresh = Refresh::default();
        assert_eq!(taken(&refresh, 4, 1), None);
        refresh.offer(version(2));
        assert_eq!(taken(&refresh, 5, 1), Some(2));
        // Offered between two subtasks of one barrier: it waits for the next.
        refresh.offer(version(3));
        assert_eq!(taken(&refresh, 5, 1), Some(2));
        refresh.offer(version(4));
        assert_eq!(taken(&refresh, 6, 2), Some(4));
        assert_eq!(taken(&refresh, 6, 2), Some(4));
        assert_eq!(taken(&refresh, 7, 4), None);
        // Offered when a first subtask has sealed the epoch without a new version.
        refresh.offer(version(5));
        assert_eq!(taken(&refresh, 7, 4), None);
        assert_eq!(taken(&refresh, 8, 4), Some(5));
    }
}
