//! Snapshots on their way to the checkpoint store, and back.
//!
//! An operator hands over what changed; threads here encode, write and sync it while the operator goes
//! on. What one operator hands over is written in its order: what it saves at a barrier, and what it saves within
//! an epoch because memory is short, which counts with the barrier behind it. Merging the files of a table is
//! another thread's work, beside the epochs: a report lists what was merged until the result is durable, and the
//! result from then on (P14).

use std::sync::atomic::{AtomicU64, Ordering};
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
use qanat_storage::state::{Compaction, SLICE_BYTES, Table, TableDelta, TableSpec};

use crate::memory::{self, JobMemory, batch_bytes};
use crate::node::{LaneThreads, Reporter};
use crate::operator::Operator;
use crate::spill::SpillLane;
use crate::task::collector::Collector;
use crate::task::lane;

/// Threads that write snapshots: two, so that one slow write does not hold back the others. (One operator has two of them
/// at most: what it saves within an epoch while that is written waits.)
const WRITERS: usize = 2;
/// Snapshots that wait for a writer.
const QUEUE: usize = 1_024;

/// A merge has this part of the budget in memory at a time, but no less than what is worth it.
const MERGE_PART: usize = 32;
const MERGE_BYTES_MIN: u64 = 1 << 20;
/// Merges that wait for the thread. One that finds no room is due again in the next epoch.
const MERGES: usize = 64;

/// The state tables of one operator of one subtask.
pub struct TableFiles {
    tables: Mutex<Tables>,
    changed: Condvar,
    /// Of the next snapshot that is handed over.
    next_turn: AtomicU64,
    /// Snapshots that were written.
    done: AtomicU64,
}

struct Tables {
    tables: Vec<Table>,
    is_merging: bool,
    /// The snapshot that is to be written now.
    turn: u64,
    /// The epoch that was written last, and its objects so far.
    written: (Epoch, u64),
}

impl TableFiles {
    /// A single table, restored by the caller.
    pub fn of(table: Table) -> Self {
        Self::new(vec![table])
    }

    fn new(tables: Vec<Table>) -> Self {
        let tables = Tables { tables, is_merging: false, turn: 0, written: (Epoch(0), 0) };
        Self {
            tables: Mutex::new(tables),
            changed: Condvar::new(),
            next_turn: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        thread::lock(&self.tables)
    }

    /// Whether what was handed over is still to be written.
    pub fn is_writing(&self) -> bool {
        self.done.load(Ordering::Acquire) < self.next_turn.load(Ordering::Acquire)
    }

    /// Reads the rows of the restore point into the operator, key groups of `range` only. With `spill` it puts aside
    /// what it has no memory for.
    ///
    /// # Errors
    /// E0301 for a missing or damaged file.
    pub fn restore(
        store: &CheckpointStore,
        specs: Vec<TableSpec>,
        state: Option<&OperatorState>,
        range: KeyGroupRange,
        operator: &mut dyn Operator,
        mut spill: Option<&mut SpillLane>,
    ) -> Result<Self> {
        let mut tables = Vec::with_capacity(specs.len());
        for spec in specs {
            let files: &[StateFile] = state
                .and_then(|state| state.tables.iter().find(|table| table.name == spec.name))
                .map_or(&[], |table| &table.files);
            let name = spec.name.clone();
            let mut table = Table::restored(spec, range, files);
            table.read(store, &mut |rows| {
                operator.restore(&name, rows)?;
                spill.as_mut().map_or(Ok(()), |spill| spill.restore(operator))
            })?;
            tables.push(table);
        }
        Ok(Self::new(tables))
    }

    /// Writes what has changed, when its turn comes; the complete list of live files after it, and what is to be merged
    /// if this is the end of an epoch.
    fn save(self: &Arc<Self>, store: &CheckpointStore, job: &Job) -> Result<(Files, Option<Merge>)> {
        let is_behind = |state: &Tables| {
            state.is_merging && state.tables.iter().any(|t| t.runs() >= limits::STATE_FILES_BEHIND_MAX)
        };
        let _turn = Turn(self);
        let mut state = self.lock();
        while state.turn != job.turn || is_behind(&state) {
            state = self.changed.wait(&self.tables, state);
        }
        let sequence = if state.written.0 == job.origin.epoch { state.written.1 } else { 0 };
        let mut writer = StateWriter::resume(store, job.origin, sequence);
        for delta in &job.deltas {
            let table = state.tables.iter_mut().find(|table| table.spec().name == delta.table);
            let table =
                table.ok_or_else(|| Error::internal(format!("an operator has no state table `{}`", delta.table)))?;
            table.write(delta, &mut writer)?;
        }
        state.written = (job.origin.epoch, writer.sequence());
        let files = state.tables.iter().map(|table| (table.spec().name.clone(), table.files().to_vec())).collect();
        // A merge writes its files under names that follow those of the epoch: nothing of it may come behind.
        let due: Vec<Compaction> = match state.is_merging || job.collector.is_none() {
            true => Vec::new(),
            false => state.tables.iter().filter_map(Table::compaction).collect(),
        };
        if due.is_empty() {
            return Ok((files, None));
        }
        state.is_merging = true;
        let (files_of, origin, sequence) = (self.clone(), job.origin, writer.sequence());
        let slice_bytes = ((job.memory.limit() / MERGE_PART) as u64).clamp(MERGE_BYTES_MIN, SLICE_BYTES);
        let memory = job.memory.clone();
        Ok((files, Some(Merge { files: files_of, origin, sequence, due, slice_bytes, memory })))
    }
}

/// Ends a turn, whatever became of it: who is next must not wait for ever.
struct Turn<'a>(&'a TableFiles);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().turn += 1;
        self.0.done.fetch_add(1, Ordering::AcqRel);
        self.0.changed.notify_all();
    }
}

/// Files of an operator's tables that become fewer, beside the epochs. Its names follow those of the epoch
/// that began it.
struct Merge {
    files: Arc<TableFiles>,
    origin: Origin,
    sequence: u64,
    due: Vec<Compaction>,
    slice_bytes: u64,
    memory: Arc<JobMemory>,
}

impl Merge {
    fn run(&self, store: &CheckpointStore) -> Result<()> {
        let mut writer = StateWriter::resume(store, self.origin, self.sequence);
        for compaction in &self.due {
            failpoint("state.merge");
            let result = compaction.run(store, &mut writer, self.slice_bytes);
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
            if self.memory.put_aside() > 0 {
                memory::give_back();
            }
        }
        Ok(())
    }
}

/// However a merge ends, the epochs go on.
impl Drop for Merge {
    fn drop(&mut self) {
        self.files.lock().is_merging = false;
        self.files.changed.notify_all();
    }
}

type Files = Vec<(String, Vec<StateFile>)>;

struct Job {
    origin: Origin,
    files: Arc<TableFiles>,
    turn: u64,
    deltas: Vec<TableDelta>,
    /// Of the barrier; None within an epoch.
    collector: Option<Arc<Collector>>,
    memory: Arc<JobMemory>,
    /// What the deltas hold of it.
    bytes: usize,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

/// Hands snapshots to the writer threads. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct SnapshotWriter {
    jobs: Sender<Job>,
    reporter: Reporter,
    memory: Arc<JobMemory>,
}

impl SnapshotWriter {
    /// Starts the writers.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(
        store: Arc<CheckpointStore>,
        reporter: Reporter,
        memory: Arc<JobMemory>,
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
        Ok(Self { jobs, reporter, memory })
    }

    /// Writes an operator's changes in the background, then tells the collector of the barrier. Without one they are
    /// changes within the open epoch, told of with those of its end.
    pub fn save(
        &self,
        operator: OperatorId,
        index: u32,
        epoch: Epoch,
        files: Arc<TableFiles>,
        deltas: Vec<TableDelta>,
        collector: Option<Arc<Collector>>,
    ) {
        let turn = files.next_turn.fetch_add(1, Ordering::AcqRel);
        // At a barrier memory may be short as well, and then the job must not stop for it.
        let early = deltas.iter().filter(|_| collector.is_none());
        let bytes = early.flat_map(|delta| delta.upserts.iter().chain(&delta.deletes)).map(batch_bytes).sum();
        self.memory.grow(bytes);
        let memory = self.memory.clone();
        let origin = Origin { token: self.reporter.token(), epoch, subtask: SubtaskId { operator, index } };
        // The writers end only when the generation does.
        let _ = thread::send(&self.jobs, Job { origin, files, turn, deltas, collector, memory, bytes });
    }
}

fn write_all(store: &CheckpointStore, queue: &Receiver<Job>, merges: &Sender<Merge>) -> Result<()> {
    for job in thread::messages(queue) {
        let operator = job.origin.subtask.operator;
        failpoint("state.store");
        let (files, merge) = job.files.save(store, &job).map_err(|error| at_operator(error, operator))?;
        failpoint("state.stored");
        if let Some(collector) = &job.collector {
            collector.stored(operator, files);
        }
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
