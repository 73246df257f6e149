//! The command log: every durable fact of the control plane, in order, in the embedded log.
//!
//! One command is one row of a one-partition topic; a command counts once its append is acknowledged,
//! that is, once it is synced. The state is whatever the log says when it is applied from its start.
//!
//! So that neither the log nor a start grows with the age of a job, a *snapshot* of the state is written
//! now and then, as the first row of a segment. A start reads from the newest snapshot on. Segments before
//! it are history: they hold the receipts that `audit` proves epochs by, and go, oldest first, once the log
//! is larger than [`COMMAND_LOG_BYTES`].
//!
//! ```text
//! [create, open, claim, committed, ...] [snapshot, claim, ...] [snapshot, claim, ...
//!  history: receipts; may go              history               a start reads from here
//! ```
//!
//! What must never happen: a segment removed that no snapshot in a later one covers, or a state that is not
//! what the commands from the very first on would give. Tests: `command_log/tests.rs` (every crash point).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use qanat_coordinator_core::{Command, State};
use qanat_proto::ids::JobId;
use qanat_proto::limits::{COMMAND_LOG_BYTES, SNAPSHOT_AFTER_BYTES};
use qanat_proto::names::Name;
use qanat_proto::receipt::Totals;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use qanat_storage::log::{AppendOptions, GroupCommit, Partition, Start, Topic, TopicSpec, Topics};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

const TOPIC: &str = "commands";
/// Version of [`Snapshot`].
const VERSION: u32 = 1;
/// A snapshot is at most this part of the commands that follow it, so that few large states do not fill the log.
const SNAPSHOT_SHARE: u64 = 4;

/// How much of a log somebody wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From the oldest row that is kept on: every receipt. Takes as long as the history.
    History,
    /// From the newest snapshot on: the state and the sums of each run. Takes the same time at any age.
    State,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Command(Command),
    Snapshot(Box<Snapshot>),
}

/// Everything that the commands before it led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    pub state: State,
    /// In the order they were started.
    pub runs: Vec<RunSummary>,
}

/// What is told of a run after the commands that made it are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub job: JobId,
    /// Times of its first and its last command, ms since 1970 UTC.
    pub created_ms: i64,
    pub changed_ms: i64,
    /// Sums of the receipts of all its claims.
    pub totals: Totals,
}

/// Sizes at which the log is made smaller.
#[derive(Clone, Copy, Debug)]
struct Limits {
    snapshot_after: u64,
    /// Commands behind a snapshot, in its own size, before the next.
    share: u64,
    history: u64,
}

/// An open command log. One process writes it: the one that owns the data folder.
pub struct CommandLog {
    env: Env,
    topic: Arc<Topic>,
    schema: Arc<Schema>,
    limits: Limits,
    runs: Vec<RunSummary>,
    /// Offsets of snapshots that begin a segment.
    snapshots: BTreeSet<u64>,
    /// Bytes of the newest snapshot, and of the commands behind it.
    snapshot_bytes: u64,
    command_bytes: u64,
    // Keeps the log's writer alive.
    _topics: Topics,
}

impl CommandLog {
    /// Opens or creates the log in `folder` and returns the state that it ends in.
    ///
    /// # Errors
    /// E0304 for a damaged log; E0307 for a command of an unknown version.
    pub fn open(env: &Env, folder: &Path) -> Result<(Self, State)> {
        let limits = Limits { snapshot_after: SNAPSHOT_AFTER_BYTES, share: SNAPSHOT_SHARE, history: COMMAND_LOG_BYTES };
        Self::open_with(env, folder, GroupCommit::spawn()?, limits)
    }

    fn open_with(env: &Env, folder: &Path, commit: GroupCommit, limits: Limits) -> Result<(Self, State)> {
        let topics = Topics::open(env.clone(), folder, commit)?;
        let topic = topics.get_or_create(&Name::new(TOPIC)?, TopicSpec::new(1))?;
        let schema = Arc::new(Schema::new(vec![Field::new("command", DataType::Utf8, false)]));
        topic.declare_schema(&schema)?;
        let partition = topic.partition(0)?;
        let snapshots = snapshots(&topic, &partition)?;
        let mut log = Self {
            env: env.clone(),
            topic,
            schema,
            limits,
            runs: Vec::new(),
            snapshots,
            snapshot_bytes: 0,
            command_bytes: 0,
            _topics: topics,
        };
        let mut state = State::default();
        let from = log.snapshots.last().copied();
        let topic = Arc::clone(&log.topic);
        read(&topic, from.unwrap_or(0), |_, at_ms, bytes, entry| {
            match entry {
                Entry::Snapshot(snapshot) => {
                    log.runs = snapshot.runs;
                    state = snapshot.state;
                    (log.snapshot_bytes, log.command_bytes) = (bytes, 0);
                }
                Entry::Command(command) => {
                    log.command_bytes += bytes;
                    // A refused command is part of history and changes nothing.
                    if state.apply(&command).is_ok() {
                        note(&mut log.runs, at_ms, &command);
                    }
                }
            }
            Ok(())
        })?;
        Ok((log, state))
    }

    /// The rows of the log in `folder`, with the time of each append in ms, from its first command or from a
    /// snapshot on: the newest, or the first if older rows are gone. Takes no part in writing: another process may own the log
    /// and go on. None if there is no log.
    ///
    /// # Errors
    /// As [`CommandLog::open`].
    pub fn look(env: &Env, folder: &Path, reach: Reach) -> Result<Option<Vec<(i64, Entry)>>> {
        let topics = Topics::open_read_only(env.clone(), folder);
        let Some(topic) = topics.find(&Name::new(TOPIC)?)? else { return Ok(None) };
        let partition = topic.partition(0)?;
        let newest = match reach {
            Reach::History => None,
            Reach::State => snapshots(&topic, &partition)?.last().copied(),
        };
        let first = newest.unwrap_or_else(|| partition.first_offset());
        let mut entries = Vec::new();
        read(&topic, first, |_, at_ms, _, entry| {
            if first > 0 && entries.is_empty() && matches!(entry, Entry::Command(_)) {
                // Its beginning is gone and its own snapshot was never written.
                return Ok(());
            }
            entries.push((at_ms, entry));
            Ok(())
        })?;
        if first > 0 && entries.is_empty() {
            return Err(lost_beginning(&topic));
        }
        Ok(Some(entries))
    }

    /// Appends one command; durable when it returns.
    ///
    /// # Errors
    /// E0305 if the sync failed: nothing can be decided any more.
    pub fn append(&mut self, command: &Command) -> Result<()> {
        let text = serde_json::to_string(command).map_err(|e| Error::internal(format!("encode a command: {e}")))?;
        self.command_bytes += text.len() as u64;
        self.write(text, AppendOptions::default()).map(drop)
    }

    /// Notes a command that was appended and accepted.
    pub fn accepted(&mut self, command: &Command) {
        note(&mut self.runs, self.env.clock.now_ms(), command);
    }

    /// Writes a snapshot if enough was appended since the last one, and lets old history go. `state` is what
    /// all commands so far have led to.
    ///
    /// # Errors
    /// As [`CommandLog::append`], and the disk's. The log stays right without the snapshot.
    pub fn compact(&mut self, state: &State) -> Result<()> {
        if self.command_bytes < self.limits.snapshot_after.max(self.limits.share * self.snapshot_bytes) {
            return Ok(());
        }
        // Should it fail, the next try comes after as many commands again.
        self.command_bytes = 0;
        let snapshot = Snapshot { version: VERSION, state: state.clone(), runs: self.runs.clone() };
        let text = serde_json::to_string(&Tagged { command: SNAPSHOT, snapshot: &snapshot })
            .map_err(|e| Error::internal(format!("encode a snapshot: {e}")))?;
        let bytes = text.len() as u64;
        let offset = self.write(text, AppendOptions { begins_segment: true, ..AppendOptions::default() })?;
        self.snapshots.insert(offset);
        self.snapshot_bytes = bytes;
        self.retain()
    }

    fn write(&self, text: String, options: AppendOptions) -> Result<u64> {
        let column = Arc::new(StringArray::from(vec![text]));
        let rows = RecordBatch::try_new(self.schema.clone(), vec![column])
            .map_err(|e| Error::internal(format!("encode a command: {e}")))?;
        Ok(self.topic.append(0, &rows, &options)?.offsets.start)
    }

    /// Removes what lies before a snapshot, oldest first, until the log is small enough.
    fn retain(&mut self) -> Result<()> {
        let partition = self.topic.partition(0)?;
        while partition.bytes() > self.limits.history {
            let first = partition.first_offset();
            let Some(next) = self.snapshots.iter().copied().find(|offset| *offset > first) else { break };
            partition.remove_before(next)?;
            self.snapshots.retain(|offset| *offset >= next);
        }
        Ok(())
    }
}

const SNAPSHOT: &str = "snapshot";

/// The form of a snapshot's row: commands have a tag of the same name.
#[derive(Serialize)]
struct Tagged<'a> {
    command: &'a str,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

/// Keeps the summaries of runs.
fn note(runs: &mut Vec<RunSummary>, at_ms: i64, command: &Command) {
    let job = command.job();
    if let Command::CreateJob { .. } = command {
        runs.push(RunSummary { job, created_ms: at_ms, changed_ms: at_ms, totals: Totals::default() });
    }
    // The newest runs stand last.
    if let Some(run) = runs.iter_mut().rev().find(|run| run.job == job) {
        run.changed_ms = at_ms;
        if let Command::Claim { receipt, .. } = command {
            run.totals.add(receipt);
        }
    }
}

/// The segments that begin with a snapshot.
///
/// # Errors
/// E0304 if the log's beginning is gone and no snapshot stands for it.
fn snapshots(topic: &Arc<Topic>, partition: &Partition) -> Result<BTreeSet<u64>> {
    let mut snapshots = BTreeSet::new();
    for offset in partition.segment_offsets().into_iter().filter(|offset| *offset < partition.end_offset()) {
        let mut reader = topic.read_from(0, Start::Offset(offset))?;
        let Some(batch) = reader.poll()? else { continue };
        if is_snapshot(texts(&batch.rows)?.value(0))? {
            snapshots.insert(offset);
        }
    }
    if partition.first_offset() > 0 && snapshots.is_empty() {
        return Err(lost_beginning(topic));
    }
    Ok(snapshots)
}

fn read(topic: &Arc<Topic>, from: u64, mut visit: impl FnMut(u64, i64, u64, Entry) -> Result<()>) -> Result<()> {
    let end = topic.partition(0)?.end_offset();
    let mut reader = topic.read_from(0, Start::Offset(from))?;
    while reader.next_offset() < end {
        let Some(batch) = reader.next(Duration::ZERO, &|| true)? else { break };
        let texts = texts(&batch.rows)?;
        for index in 0..texts.len() {
            let text = texts.value(index);
            visit(batch.first_offset + index as u64, batch.append_ms, text.len() as u64, parse(text)?)?;
        }
    }
    Ok(())
}

fn texts(rows: &RecordBatch) -> Result<&StringArray> {
    rows.column(0).as_string_opt::<i32>().ok_or_else(|| unknown("no text"))
}

fn parse(text: &str) -> Result<Entry> {
    if !is_snapshot(text)? {
        return serde_json::from_str(text).map(Entry::Command).map_err(unknown);
    }
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(text).map_err(unknown)?;
    if version != VERSION {
        return Err(unknown(format!("a snapshot of version {version}")));
    }
    serde_json::from_str(text).map(|snapshot| Entry::Snapshot(Box::new(snapshot))).map_err(unknown)
}

fn is_snapshot(text: &str) -> Result<bool> {
    #[derive(Deserialize)]
    struct Tag {
        command: String,
    }
    serde_json::from_str::<Tag>(text).map(|tag| tag.command == SNAPSHOT).map_err(unknown)
}

fn unknown(detail: impl std::fmt::Display) -> Error {
    Error::new(Code::UnknownVersion, format!("the command log holds a command that cannot be read: {detail}"))
        .hint("it was written by another version of Qanat")
}

fn lost_beginning(topic: &Topic) -> Error {
    Error::new(Code::CorruptLog, "the command log has lost its beginning: no snapshot stands for what is gone")
        .at(Place::Named(topic.folder().display().to_string()))
        .hint("bring it back from a copy")
}
