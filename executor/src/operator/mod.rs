//! Operators: synchronous, no IO, one per file.
//!
//! A chain of operators runs inside one subtask. The task loop calls them in order: `process` for each
//! batch, `on_watermark` when the combined input watermark rises, `on_barrier` just before an epoch is
//! sealed, `snapshot` right after. Rows and side rows leave through [`Output`].

pub(crate) mod ages;
pub mod aggregate;
pub(crate) mod aside;
pub mod assign_window;
pub mod calc;
pub mod changes;
pub(crate) mod emit;
pub mod evaluate;
pub(crate) mod event_time;
pub mod group;
pub mod join;
pub(crate) mod kept_rows;
pub(crate) mod keys;
pub mod latest_rows;
pub mod lookup_join;
pub(crate) mod mini_batch;
pub mod over_aggregate;
mod over_aside;
pub(crate) mod packer;
mod registry;
pub(crate) mod residence;
pub(crate) mod slots;
pub(crate) mod state_rows;
pub mod top_n;
pub mod unnest;
mod wakes;
pub mod window_join;
pub mod window_rows;
pub mod window_top_n;

pub use qanat_proto::physical::Phase;
pub use registry::{build, partial_schema, spills};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::Changelog;
use qanat_proto::error::Result;
use qanat_proto::ids::KeyGroupRange;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

/// What an operator is built with.
#[derive(Clone, Debug)]
pub struct OperatorContext {
    /// Name for late rows, dead letters and errors.
    pub name: String,
    pub key_groups: u16,
    /// Key groups this subtask owns.
    pub range: KeyGroupRange,
    /// Input schemas by port.
    pub inputs: Vec<SchemaRef>,
    /// By port: the columns by which the edge into it spreads rows over subtasks, in the order in which
    /// they are hashed. Empty: all rows go to subtask 0. State rows carry the key group of these columns.
    pub partition: Vec<Vec<usize>>,
    pub output: SchemaRef,
    /// What its rows say of those before them.
    pub changelog: Changelog,
    /// How long it keeps what nobody touches. 0: for ever.
    pub ttl_ms: [u64; 2],
    /// Whether it is asked to put state aside, and may ask for it again.
    pub spills: bool,
    pub batch_rows: usize,
}

/// One operator of one subtask.
pub trait Operator: Send {
    /// Takes rows that arrived on input `port`.
    fn process(&mut self, port: usize, rows: RecordBatch, out: &mut Output) -> Result<()>;

    /// The combined input watermark rose to `watermark` (ms). `i64::MAX`: all input has ended.
    /// Returns the watermark to pass on: `watermark`, unless the operator holds it back.
    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<i64> {
        let _ = out;
        Ok(watermark)
    }

    /// Processing time, in ms since 1970 UTC; called before a batch and on a timer. Only operators with
    /// processing-time windows care. The value never goes back.
    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<()> {
        let _ = (now_ms, out);
        Ok(())
    }

    /// The processing time, ms since 1970 UTC, at which `on_processing_time` is wanted next. None for
    /// operators that do not care. `i64::MAX`: call it before each batch, no timer is due.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// Goes on with what the last call of `process`, `on_watermark` or `on_processing_time` left to do, so
    /// that no call puts out more than a few batches: the rows of the windows that it closed, the pairs of
    /// a join. Called until it returns false, before any other call; the watermark is passed on behind it.
    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let _ = out;
        Ok(false)
    }

    /// Sends on whatever must not wait: partial aggregates. Called before each barrier, before the
    /// subtask announces idle, and after a linger when input is slow (P13).
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// Tables that `snapshot` and `restore` use. Empty for a stateless operator.
    fn tables(&self) -> Vec<TableSpec> {
        Vec::new()
    }

    /// State that changed since the last call, as rows of its tables. Must be quick (copy columns, no
    /// encoding): the result is written in the background.
    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        Ok(Vec::new())
    }

    /// Rows of a table as of the restore point: called for each table any number of times before the
    /// first `process`. Only rows of this subtask's key groups. `watermark` as of the restore point.
    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let _ = (table, rows);
        Ok(())
    }

    /// Called once after all `restore` calls, before the first `process`.
    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        let _ = watermark;
        Ok(())
    }

    /// Takes the rows of a lookup table, in the schema that `LookupJoinNode::projection` gives, in place
    /// of those of an earlier version. Called before the first `process` and then at barriers only. Rows
    /// that come from the restore point are saved already: a second copy in the state would be a second
    /// partner for every row (I1).
    fn load(&mut self, version: u64, rows: Vec<RecordBatch>, is_saved: bool) -> Result<()> {
        let _ = (version, rows, is_saved);
        Err(qanat_proto::error::Error::internal("an operator without a lookup table was given one"))
    }

    /// The version of the lookup table in use; None without one.
    fn lookup_version(&self) -> Option<u64> {
        None
    }

    /// Keys of state that was put aside and is needed to go on. Asked for after every call and before `resume`, as long
    /// as there are some; what is found comes through `bring_back`.
    fn wanted(&mut self) -> Option<Keys> {
        None
    }

    /// Takes back what `put_aside` gave, of all keys that were wanted and have an entry.
    fn bring_back(&mut self, found: &Entries) -> Result<()> {
        let _ = found;
        Ok(())
    }

    /// Takes about `bytes` of state out of memory, that of keys that were not used of late, and gives it as entries by
    /// key. Called between batches, when everything has been flushed and saved.
    fn put_aside(&mut self, bytes: usize) -> Result<Entries> {
        let _ = bytes;
        Ok(Entries::default())
    }

    /// Bytes of state held, for the job's budget.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Rows taken, given, filtered, … since the last call.
    fn take_counts(&mut self) -> OperatorCounts;
}

/// Where an operator puts rows.
#[derive(Default)]
pub struct Output {
    pub batches: Vec<RecordBatch>,
    pub late: Vec<LateRows>,
    pub dead: Vec<DeadRows>,
}

/// Rows whose windows had all closed, with the watermark they were judged by.
pub struct LateRows {
    pub rows: RecordBatch,
    /// Index of the event-time column (or of `window_end`) in `rows`.
    pub time_column: usize,
    pub watermark: i64,
}

/// Rows an operator could not process.
pub struct DeadRows {
    pub rows: RecordBatch,
    pub reason: String,
}

impl Output {
    pub fn emit(&mut self, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.batches.push(rows);
        }
    }
}

/// A boxed operator with what the chain needs to know of it.
pub type BoxedOperator = Box<dyn Operator>;

#[cfg(test)]
mod tests;
