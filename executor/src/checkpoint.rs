//! Snapshots on their way to the checkpoint store, and back.
//!
//! An operator hands over what changed; threads here encode, write and sync it while the operator goes
//! on. One epoch of a job is open at a time, so the files of one table are written in order. Merging the
//! files of a table is another thread's work, beside the epochs: a report lists what was merged until the
//! result is durable, and the result from then on (P14).

use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam::channel::{Receiver, Sender, bounded};
use qanat_connectors::contract::StopFlag;
use qanat_proto::ids::{Epoch, KeyGroupRange, OperatorId, SubtaskId};
use qanat_proto::manifest::{OperatorState, StateFile};
use qanat_proto::names::Origin;
use qanat_proto::{Error, Place, Result, limits};
use qanat_storage::checkpoint::{CheckpointStore, StateWriter};
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::env::thread::{self, Condvar, JoinHandle};
use qanat_storage::state::{Compaction, Table, TableDelta, TableSpec};

use crate::node::{LaneThreads, Reporter};
use crate::operator::Operator;
use crate::task::collector::Collector;
use crate::task::lane;

/// Threads that write snapshots: two, so that one slow write does not hold back the others.
const WRITERS: usize = 2;
/// Snapshots that wait for a writer.
const QUEUE: usize = 1_024;

/// Merges that wait for the thread. One that finds no room is due again in the next epoch.
const MERGES: usize = 64;

/// The state tables of one operator of one subtask.
pub struct TableFiles {
    tables: Mutex<Tables>,
    merged: Condvar,
}

struct Tables {
    tables: Vec<Table>,
    is_merging: bool,
}

impl TableFiles {
    /// A single table, restored by the caller.
    pub fn of(table: Table) -> Self {
        Self::new(vec![table])
    }

    fn new(tables: Vec<Table>) -> Self {
        Self { tables: Mutex::new(Tables { tables, is_merging: false }), merged: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        thread::lock(&self.tables)
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
        Ok(Self::new(tables))
    }

    /// Writes the changes of an epoch; the complete list of live files after it, and what is to be merged.
    fn save(
        self: &Arc<Self>,
        store: &CheckpointStore,
        origin: Origin,
        deltas: &[TableDelta],
    ) -> Result<(Files, Option<Merge>)> {
        let is_behind = |state: &Tables| {
            state.is_merging && state.tables.iter().any(|t| t.files().len() >= limits::STATE_FILES_BEHIND_MAX)
        };
        let mut state = self.lock();
        while is_behind(&state) {
            state = self.merged.wait(&self.tables, state);
        }
        let mut writer = StateWriter::new(store, origin);
        for delta in deltas {
            let table = state
                .tables
                .iter_mut()
                .find(|table| table.spec().name == delta.table)
                .ok_or_else(|| Error::internal(format!("an operator has no state table `{}`", delta.table)))?;
            table.write(delta, &mut writer)?;
        }
        let files = state.tables.iter().map(|table| (table.spec().name.clone(), table.files().to_vec())).collect();
        let due: Vec<Compaction> = match state.is_merging {
            true => Vec::new(),
            false => state.tables.iter().filter_map(Table::compaction).collect(),
        };
        if due.is_empty() {
            return Ok((files, None));
        }
        state.is_merging = true;
        Ok((files, Some(Merge { files: self.clone(), origin, sequence: writer.sequence(), due })))
    }
}

/// Files of an operator's tables that become fewer, beside the epochs. Its names follow those of the epoch
/// that began it.
struct Merge {
    files: Arc<TableFiles>,
    origin: Origin,
    sequence: u64,
    due: Vec<Compaction>,
}

impl Merge {
    fn run(&self, store: &CheckpointStore) -> Result<()> {
        let mut writer = StateWriter::resume(store, self.origin, self.sequence);
        for compaction in &self.due {
            failpoint("state.merge");
            let result = compaction.run(store, &mut writer);
            failpoint("state.merged");
            let mut state = self.files.lock();
            let table = state.tables.iter_mut().find(|table| table.spec().name == compaction.table());
            match (result, table) {
                (_, None) => {}
                (Ok(compacted), Some(table)) => table.replace(compacted),
                // What died meanwhile may have been collected under the merge.
                (Err(_), Some(table)) if !compaction.is_wanted(table) => {}
                (Err(error), Some(_)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// However a merge ends, the epochs go on.
impl Drop for Merge {
    fn drop(&mut self) {
        self.files.lock().is_merging = false;
        self.files.merged.notify_all();
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
    pub fn start(
        store: Arc<CheckpointStore>,
        reporter: Reporter,
        threads: &LaneThreads,
        stop: &StopFlag,
    ) -> Result<Self> {
        let (jobs, queue) = bounded::<Job>(QUEUE);
        let (merges, due) = bounded::<Merge>(MERGES);
        for index in 0..WRITERS {
            let (store, queue, merges) = (store.clone(), queue.clone(), merges.clone());
            let thread: JoinHandle<()> =
                lane::spawn(format!("snapshot-{index}"), reporter.clone(), move || write_all(&store, &queue, &merges))?;
            threads.add_source(thread);
        }
        let stop = stop.clone();
        let thread = lane::spawn("merge".to_owned(), reporter.clone(), move || merge_all(&store, &due, &stop))?;
        threads.add_source(thread);
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
        let _ = thread::send(&self.jobs, Job { origin, files, deltas, collector });
    }
}

fn write_all(store: &CheckpointStore, queue: &Receiver<Job>, merges: &Sender<Merge>) -> Result<()> {
    for job in thread::messages(queue) {
        let operator = job.origin.subtask.operator;
        failpoint("state.store");
        let (files, merge) =
            job.files.save(store, job.origin, &job.deltas).map_err(|error| at_operator(error, operator))?;
        failpoint("state.stored");
        job.collector.stored(operator, files);
        if let Some(merge) = merge {
            // Without room it is dropped, and due again.
            let _ = merges.try_send(merge);
        }
    }
    Ok(())
}

fn merge_all(store: &CheckpointStore, due: &Receiver<Merge>, stop: &StopFlag) -> Result<()> {
    for merge in thread::messages(due) {
        if !stop.is_set() {
            merge.run(store).map_err(|error| at_operator(error, merge.origin.subtask.operator))?;
        }
    }
    Ok(())
}

fn at_operator(error: Error, operator: OperatorId) -> Error {
    error.or_at(|| Place::Named(format!("state of operator {operator}")))
}
