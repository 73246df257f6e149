//! What a connector implements. `suite.rs` proves an implementation.
//!
//! All methods here may block: the executor runs them on threads of their own (a *lane*), joined to
//! the compute pool by bounded queues. Nothing here starts a thread or keeps a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::control::{CommitPermit, Withdrawal};
use qanat_proto::error::Result;
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::{Epoch, JobId, SplitId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_storage::env::Env;
use serde_json::Value;

use crate::predicate::PushedFilter;

/// What a connector needs from the process it runs in.
#[derive(Clone)]
pub struct Context {
    pub env: Env,
    /// Folder of the embedded log's topics, already opened by the process.
    pub topics: Arc<qanat_storage::log::Topics>,
    /// The folder against which relative paths are resolved.
    pub base: std::path::PathBuf,
}

/// A table opened for reading, for one source operator of one job.
pub trait Source: Send + Sync {
    /// Lists the splits there are now, in a stable order, with their start positions (P9: called once
    /// at submit, and again from time to time when [`Source::is_growing`]). A split seen before keeps
    /// its id. A split found after the first call starts at its beginning.
    fn discover(&self) -> Result<Vec<Split>>;

    /// Whether new splits may appear (a folder that is followed).
    fn is_growing(&self) -> bool;

    /// Called when `discover` finds a split again that was read to its end at `position`.
    ///
    /// # Errors
    /// E0212 if what it lies in has been replaced since.
    fn check_finished(&self, _split: &Split, _position: &Value) -> Result<()> {
        Ok(())
    }

    /// Opens a split at a position that `discover` or [`SourceBatch::position`] gave.
    fn open(&self, split: &Split, position: &Value) -> Result<Box<dyn SplitReader>>;
}

/// A unit of a source with its own offset and watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub id: SplitId,
    /// What `open` needs to find it again; kept in manifests.
    pub detail: Value,
    pub start: Value,
}

/// What a source is asked to produce.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// Indexes into `table.physical`.
    pub projection: Vec<usize>,
    /// Members of rows that nobody reads: paths, the column first. NULL may stand in their place.
    pub unread: Vec<Vec<String>>,
    /// Metadata columns appended after them, with their names.
    pub metadata: Vec<(String, MetadataKind)>,
    /// Rows per batch at most.
    pub batch_rows: usize,
    /// Wall clock for `ingest-time` comes from `Env::clock`.
    pub bounded: bool,
    /// Over the source's columns. Rows that it does not let pass may be left out: the plan still filters, and
    /// what is left out is counted in `records` and given to the watermark as `hidden`.
    pub filter: Option<PushedFilter>,
}

/// Reads one split in order.
pub trait SplitReader: Send {
    /// The next rows. Must return [`ReadOutcome::Pending`] rather than wait longer than about 50 ms
    /// for data that is not there yet, and must return early when `stop` is set.
    fn next(&mut self, stop: &StopFlag) -> Result<ReadOutcome>;
}

pub enum ReadOutcome {
    Batch(SourceBatch),
    /// Nothing new for now. Only a read that never ends says this.
    Pending,
    /// What the split lies in is not there for now, and nothing was read since it was opened. After it `next` is not
    /// called again: the split is opened anew from time to time, and holds nobody back meanwhile.
    Away,
    /// The split is finished. After it `next` is not called again.
    End,
}

/// Decoded rows and where to go on after them.
pub struct SourceBatch {
    /// Schema: the projected physical columns, then the requested metadata columns.
    pub rows: RecordBatch,
    /// Records that could not be decoded, in order. `rows` does not hold them.
    pub dead_letters: Vec<DeadLetter>,
    /// Resuming here gives exactly the records after this batch.
    pub position: Value,
    /// Records consumed from the origin: rows + dead letters + rows skipped by a pushed filter.
    pub records: u64,
    /// Raw bytes consumed (after decompression), for progress.
    pub bytes: u64,
    /// Of a table with a watermark: rows that the pushed filter left out, which still move the watermark.
    /// The columns are those of `rows`; those that the watermark does not read are NULL.
    pub hidden: Option<RecordBatch>,
}

/// A record that could not be decoded or processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub origin: String,
    /// Position of the record within its origin, as the `offset` metadata column counts.
    pub offset: i64,
    pub reason: String,
    /// At most `DEAD_LETTER_BYTES_MAX`.
    pub raw: Vec<u8>,
}

/// Set when a reader should return soon.
#[derive(Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A table opened for writing, for one sink operator (or side table) of one generation.
///
/// The life of rows: `write` … `prepare(e)` makes them durable under names of their own but invisible;
/// after the claim, `commit` of the permit's handles makes them visible. `commit` is idempotent, may be
/// called by a later generation for handles of an earlier one, and has finished every directory sync
/// (or its equal) when it returns.
pub trait Sink: Send + Sync {
    fn writer(&self, subtask: SubtaskId, token: Token) -> Result<Box<dyn SinkWriter>>;

    /// Makes exactly these handles visible, writes the commit record, and returns.
    fn commit(&self, operator: CommitScope, permit: &CommitPermit, handles: &[PreparedHandle]) -> Result<()>;

    /// Removes what generations of this job *below* `token` staged and `keep` does not name (P6).
    fn abort_lower(&self, operator: CommitScope, token: Token, keep: &[PreparedHandle]) -> Result<()>;

    /// Takes back what generations of `job` prepared or published in withdrawn epochs: exactly the names that the
    /// withdrawal lists for this operator (P10). Idempotent; whatever an older generation does with them later changes
    /// nothing that a reader sees. A sink that cannot take anything back does nothing: whoever decided on the rollback
    /// was asked.
    fn withdraw(&self, _operator: CommitScope, _job: JobId, _withdrawal: &Withdrawal) -> Result<()> {
        Ok(())
    }

    /// The highest epoch of `job` of which this sink has proof that it was committed. An epoch is committed
    /// only after its claim is durable, so whoever knows of fewer claims has lost some. None: there was no
    /// commit, or the sink keeps no record of them.
    fn newest_commit(&self, operator: CommitScope, job: JobId) -> Result<Option<Epoch>>;

    /// Whether [`Sink::newest_commit`] knows of an epoch for as long as the sink is what it was: one that
    /// knows of none has lost what the job committed.
    fn remembers_commits(&self) -> bool {
        false
    }
}

/// What a rollback would take back of one sink table (P10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawable {
    /// Names, as [`Sink::withdraw`] gets them.
    pub names: Vec<String>,
    /// Why rows would stay. None: all of them go.
    pub keeps: Option<String>,
}

/// The rows that a rollback is about: what an operator of a job made visible after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeVisible {
    pub job: JobId,
    pub operator: qanat_proto::ids::OperatorId,
    pub after: Epoch,
}

/// Which sink of a job a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitScope {
    pub operator: qanat_proto::ids::OperatorId,
    pub channel: SinkChannel,
}

/// One subtask's output. Created once per generation; `epoch` names the epoch that is open.
pub trait SinkWriter: Send {
    fn write(&mut self, epoch: Epoch, rows: &RecordBatch) -> Result<()>;

    /// Event time has come so far, ms since 1970 UTC; `i64::MAX` is the end of the input.
    fn watermark(&mut self, watermark_ms: i64) {
        let _ = watermark_ms;
    }

    /// Nothing comes for now: until the next watermark this subtask holds up no other.
    fn idle(&mut self) {}

    /// Seals what was written since the last call. Everything it names is durable when it returns.
    /// An epoch without rows gives no handles of rows.
    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>>;
}

/// Opens tables. Implemented by the registry in `lib.rs`.
pub trait Opener: Send + Sync {
    fn source(&self, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>>;
    fn sink(&self, node: &SinkNode, rows: SchemaRef) -> Result<Arc<dyn Sink>>;
}
