//! Snapshots on their way to the checkpoint store, and back.
//!
//! An operator hands over what changed; threads here encode, write and sync it while the operator goes
//! on. One epoch of a job is open at a time, so the files of one table are written in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use qanat_proto::ids::{Epoch, KeyGroupRange, OperatorId, SubtaskId};
use qanat_proto::manifest::{OperatorState, StateFile};
use qanat_proto::names::Origin;
use qanat_proto::{Error, Place, Result};
use qanat_storage::checkpoint::{CheckpointStore, StateWriter};
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::state::{Table, TableDelta, TableSpec};

use crate::node::{LaneThreads, Reporter};
use crate::operator::Operator;
use crate::task::collector::Collector;
use crate::task::lane;

/// Threads that write snapshots: two, so that one slow write does not hold back the others.
const WRITERS: usize = 2;
/// Snapshots that wait for a writer.
const QUEUE: usize = 1_024;

/// The state tables of one operator of one subtask.
pub struct TableFiles(Mutex<Vec<Table>>);

impl TableFiles {
    /// A single table, restored by the caller.
    pub fn of(table: Table) -> Self {
        Self(Mutex::new(vec![table]))
    }

    /// Reads the rows of the restore point into the operator, key groups of `range` only.
    ///
    /// # Errors
    /// E0301 for a missing or damaged file.
    pub fn restore(
        store: &CheckpointStore,
        specs: Vec<TableSpec>,
        state: Option<&OperatorState>,
        range: KeyGroupRange,
        operator: &mut dyn Operator,
    ) -> Result<Self> {
        let mut tables = Vec::with_capacity(specs.len());
        for spec in specs {
            let files: &[StateFile] = state
                .and_then(|state| state.tables.iter().find(|table| table.name == spec.name))
                .map_or(&[], |table| &table.files);
            let name = spec.name.clone();
            let mut table = Table::restored(spec, range, files);
            table.read(store, &mut |rows| operator.restore(&name, rows))?;
            tables.push(table);
        }
        Ok(Self(Mutex::new(tables)))
    }

    /// Writes the changes of an epoch; the complete list of live files after it.
    fn save(&self, store: &CheckpointStore, origin: Origin, deltas: &[TableDelta]) -> Result<Files> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = StateWriter::new(store, origin);
        for delta in deltas {
            let table = tables
                .iter_mut()
                .find(|table| table.spec().name == delta.table)
                .ok_or_else(|| Error::internal(format!("an operator has no state table `{}`", delta.table)))?;
            table.write(delta, &mut writer)?;
        }
        for table in tables.iter_mut() {
            if let Some(compaction) = table.compaction() {
                let compacted = compaction.run(store, &mut writer)?;
                table.replace(compacted);
            }
        }
        Ok(tables.iter().map(|table| (table.spec().name.clone(), table.files().to_vec())).collect())
    }
}

type Files = Vec<(String, Vec<StateFile>)>;

struct Job {
    origin: Origin,
    files: Arc<TableFiles>,
    deltas: Vec<TableDelta>,
    collector: Arc<Collector>,
}

/// Hands snapshots to the writer threads. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct SnapshotWriter {
    jobs: Sender<Job>,
    reporter: Reporter,
}

impl SnapshotWriter {
    /// Starts the writers.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(store: Arc<CheckpointStore>, reporter: Reporter, threads: &LaneThreads) -> Result<Self> {
        let (jobs, queue) = bounded::<Job>(QUEUE);
        for index in 0..WRITERS {
            let (store, queue) = (store.clone(), queue.clone());
            let thread: JoinHandle<()> =
                lane::spawn(format!("snapshot-{index}"), reporter.clone(), move || write_all(&store, &queue))?;
            threads.add_source(thread);
        }
        Ok(Self { jobs, reporter })
    }

    /// Writes an operator's changes in the background, then tells the collector.
    pub fn save(
        &self,
        operator: OperatorId,
        index: u32,
        epoch: Epoch,
        files: Arc<TableFiles>,
        deltas: Vec<TableDelta>,
        collector: Arc<Collector>,
    ) {
        let origin = Origin { token: self.reporter.token(), epoch, subtask: SubtaskId { operator, index } };
        // The writers end only when the generation does.
        let _ = self.jobs.send(Job { origin, files, deltas, collector });
    }
}

fn write_all(store: &CheckpointStore, queue: &Receiver<Job>) -> Result<()> {
    for job in queue {
        let operator = job.origin.subtask.operator;
        failpoint("state.store");
        let files = job
            .files
            .save(store, job.origin, &job.deltas)
            .map_err(|error| error.or_at(|| Place::Named(format!("state of operator {operator}"))))?;
        failpoint("state.stored");
        job.collector.stored(operator, files);
    }
    Ok(())
}
