//! What a coordinator keeps on its disk: votes, entries and snapshots, in order, in the embedded log.
//!
//! One row of a one-partition topic is one JSON object; it counts once its append is acknowledged, that is,
//! once it is synced. A start reads from the newest *snapshot* on: it is the first row of a segment, carries the
//! vote, and is followed, in the same atomic run, by the entries that it does not cover. Segments before it are
//! history: they hold the receipts that `audit` proves epochs by, and go, oldest first, once the journal is larger
//! than [`COMMAND_LOG_BYTES`].
//!
//! ```text
//! [vote, entry, entry, truncate, entry, ...] [snapshot, entry, vote, ...] [snapshot, entry, ...
//!  history: receipts; may go                  history                      a start reads from here
//! ```
//!
//! What must never happen: a segment removed that no snapshot in a later one covers; a start that knows less than
//! was acknowledged, or another order of it. Tests: `crash_tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use openraft::EntryPayload;
use qanat_coordinator_core::audit::Caller;
use qanat_coordinator_core::command::{Command, Proposal};
use qanat_proto::limits::{COMMAND_LOG_BYTES, SNAPSHOT_AFTER_BYTES};
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use qanat_storage::log::{AppendOptions, GroupCommit, Partition, Start, Topic, TopicSpec, Topics};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::types::{LogId, MemberId, RaftEntry, SnapshotBytes, SnapshotMeta, Vote};

const TOPIC: &str = "commands";
/// A snapshot is at most this part of the entries that follow it, so that few large states do not fill the log.
const SNAPSHOT_SHARE: u64 = 4;
/// A machine whose text is longer stands in rows of this many bytes: a frame of the log holds a row of up to 64 MiB,
/// and a text within JSON may take several times its own length.
const PART_BYTES: usize = 8 << 20;

/// One row: an object whose field `row` says which.
pub(super) enum Row {
    Vote(Vote),
    Entry(RaftEntry),
    /// Entries behind this one are void.
    Truncate(Option<LogId>),
    Snapshot {
        vote: Option<Vote>,
        meta: SnapshotMeta,
        machine: SnapshotBytes,
    },
}

impl Row {
    /// The index of the entry that it is or speaks of.
    fn index(&self) -> Option<u64> {
        let id = match self {
            Self::Vote(_) => None,
            Self::Entry(entry) => Some(entry.log_id),
            Self::Truncate(after) => *after,
            Self::Snapshot { meta, .. } => meta.last_log_id,
        };
        id.map(|id| id.index)
    }
}

/// The form of each row. Commands stand in entries as they are, so that a reader without openraft finds them.
#[derive(Deserialize)]
struct Tag {
    row: String,
}

#[derive(Serialize, Deserialize)]
struct VoteRow {
    vote: Vote,
}

/// A command with its time, another set of members, or nothing.
#[derive(Serialize, Deserialize)]
struct EntryRow {
    id: LogId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Command>,
    /// Who asked for the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caller: Option<Box<Caller>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    members: Option<Members>,
}

type Members = openraft::Membership<MemberId, openraft::BasicNode>;

#[derive(Serialize, Deserialize)]
struct TruncateRow {
    after: Option<LogId>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotRow {
    vote: Option<Vote>,
    meta: SnapshotMeta,
    /// None: it is the text of the rows that follow, one behind the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<u64>,
}

/// A piece of a machine that is too large for one row.
#[derive(Serialize, Deserialize)]
struct PartRow {
    text: String,
}

#[derive(Serialize)]
struct Tagged<T> {
    row: &'static str,
    #[serde(flatten)]
    content: T,
}

fn encode(row: &'static str, content: impl Serialize) -> Result<String> {
    let text = serde_json::to_string(&Tagged { row, content });
    text.map_err(|e| Error::internal(format!("encode a row of the command log: {e}")))
}

impl Row {
    /// The row, as one object.
    pub(super) fn text(self) -> Result<String> {
        match self {
            Self::Vote(vote) => encode("vote", VoteRow { vote }),
            Self::Truncate(after) => encode("truncate", TruncateRow { after }),
            Self::Entry(entry) => {
                let mut row = EntryRow { id: entry.log_id, at_ms: None, command: None, caller: None, members: None };
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Membership(members) => row.members = Some(members),
                    EntryPayload::Normal(proposal) => {
                        (row.at_ms, row.command) = (Some(proposal.at_ms), Some(proposal.command));
                        row.caller = proposal.caller;
                    }
                }
                encode("entry", row)
            }
            Self::Snapshot { vote, meta, machine } => {
                let machine = RawValue::from_string(machine.to_string())
                    .map_err(|e| Error::internal(format!("a snapshot is no JSON: {e}")))?;
                encode("snapshot", SnapshotRow { vote, meta, machine: Some(machine), parts: None })
            }
        }
    }

    /// The row, as the objects that stand in the log: more than one for a machine of more than `part` bytes.
    fn texts(self, part: usize) -> Result<Vec<String>> {
        let Self::Snapshot { vote, meta, machine } = self else { return Ok(vec![self.text()?]) };
        if machine.len() <= part {
            return Ok(vec![Self::Snapshot { vote, meta, machine }.text()?]);
        }
        let (mut parts, mut rest) = (Vec::new(), &*machine);
        while !rest.is_empty() {
            // A character is at most four bytes long.
            let (text, behind) = rest.split_at(rest.floor_char_boundary(part.max(4)));
            parts.push(encode("part", PartRow { text: text.to_owned() })?);
            rest = behind;
        }
        let count = Some(parts.len() as u64);
        parts.insert(0, encode("snapshot", SnapshotRow { vote, meta, machine: None, parts: count })?);
        Ok(parts)
    }
}

/// Puts rows together again from the objects that stand in the log.
#[derive(Default)]
struct Parser {
    /// A snapshot whose machine has not come in full, and how many parts of it are missing.
    open: Option<(SnapshotRow, String, u64)>,
}

impl Parser {
    /// The row that is complete with this object. None: more of it is to come.
    fn parse(&mut self, text: &str) -> Result<Option<Row>> {
        self.parse_json(text).map_err(|detail| {
            Error::new(Code::UnknownVersion, format!("the command log holds a row that cannot be read: {detail}"))
                .hint("it was written by another version of Qanat")
        })
    }

    fn parse_json(&mut self, text: &str) -> serde_json::Result<Option<Row>> {
        let wrong = |what: &str| <serde_json::Error as serde::de::Error>::custom(what);
        let Tag { row } = serde_json::from_str(text)?;
        if let Some((head, mut machine, missing)) = self.open.take() {
            if row != "part" {
                return Err(wrong("a snapshot without its end"));
            }
            machine.push_str(&serde_json::from_str::<PartRow>(text)?.text);
            if missing > 1 {
                self.open = Some((head, machine, missing - 1));
                return Ok(None);
            }
            return Ok(Some(Row::Snapshot { vote: head.vote, meta: head.meta, machine: machine.into() }));
        }
        let row = match row.as_str() {
            "vote" => serde_json::from_str::<VoteRow>(text).map(|row| Row::Vote(row.vote)),
            "truncate" => serde_json::from_str::<TruncateRow>(text).map(|row| Row::Truncate(row.after)),
            "entry" => {
                let EntryRow { id, at_ms, command, caller, members } = serde_json::from_str(text)?;
                let payload = match (command, members) {
                    (Some(command), None) => {
                        EntryPayload::Normal(Proposal { at_ms: at_ms.unwrap_or_default(), command, caller })
                    }
                    (None, Some(members)) => EntryPayload::Membership(members),
                    (None, None) => EntryPayload::Blank,
                    (Some(_), Some(_)) => return Err(wrong("an entry that is two things")),
                };
                Ok(Row::Entry(RaftEntry { log_id: id, payload }))
            }
            "snapshot" => {
                let mut head: SnapshotRow = serde_json::from_str(text)?;
                match (head.machine.take(), head.parts) {
                    (Some(machine), None) => {
                        let machine = Box::<str>::from(machine).into();
                        Ok(Row::Snapshot { vote: head.vote, meta: head.meta, machine })
                    }
                    (None, Some(parts)) if parts > 0 => {
                        self.open = Some((head, String::new(), parts));
                        return Ok(None);
                    }
                    _ => Err(wrong("a snapshot without a machine")),
                }
            }
            other => Err(wrong(&format!("a row `{other}`"))),
        };
        row.map(Some)
    }
}

/// Sizes at which the journal is made smaller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) snapshot_after: u64,
    /// Entries behind a snapshot, in its own size, before the next.
    pub(super) share: u64,
    pub(super) history: u64,
    /// Bytes of a machine in one row.
    pub(super) part: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshot_after: SNAPSHOT_AFTER_BYTES,
            share: SNAPSHOT_SHARE,
            history: COMMAND_LOG_BYTES,
            part: PART_BYTES,
        }
    }
}

/// What a start found: everything a member needs to go on where it was.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) vote: Option<Vote>,
    pub(super) snapshot: Option<(SnapshotMeta, SnapshotBytes)>,
    /// Those behind the snapshot, without a gap.
    pub(super) entries: BTreeMap<u64, RaftEntry>,
}

/// An open journal. One process writes it.
pub(super) struct Journal {
    topic: Arc<Topic>,
    schema: Arc<Schema>,
    limits: Limits,
    /// Offsets of snapshots that begin a segment.
    snapshots: BTreeSet<u64>,
    /// Bytes of the newest snapshot, and of the rows behind it.
    snapshot_bytes: u64,
    row_bytes: u64,
    // Keeps the log's writer alive.
    _topics: Topics,
}

impl Journal {
    /// Opens or creates the journal in `folder`.
    ///
    /// # Errors
    /// E0304 for a damaged one; E0307 for a row of an unknown version.
    pub(super) fn open(env: &Env, folder: &Path, commit: GroupCommit, limits: Limits) -> Result<(Self, Recovered)> {
        let topics = Topics::open(env.clone(), folder, commit)?;
        let topic = topics.get_or_create(&Name::new(TOPIC)?, TopicSpec::new(1))?;
        let schema = Arc::new(Schema::new(vec![Field::new("command", DataType::Utf8, false)]));
        topic.declare_schema(&schema)?;
        let partition = topic.partition(0)?;
        let snapshots = snapshots(&topic, &partition)?;
        let mut journal = Self { topic, schema, limits, snapshots, snapshot_bytes: 0, row_bytes: 0, _topics: topics };
        let mut found = Recovered::default();
        let from = journal.snapshots.last().copied().unwrap_or(0);
        let topic = Arc::clone(&journal.topic);
        read(&topic, from, |_, bytes, row| journal.replay(&mut found, bytes, row))?;
        Ok((journal, found))
    }

    fn replay(&mut self, found: &mut Recovered, bytes: u64, row: Row) -> Result<()> {
        self.row_bytes += bytes;
        match row {
            Row::Vote(vote) => found.vote = Some(vote),
            Row::Entry(entry) => {
                let covered = found.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
                let first = covered.map_or(0, |id| id.index + 1);
                let next = found.entries.last_key_value().map_or(first, |(index, _)| index + 1);
                let index = entry.log_id.index;
                if index != next {
                    return Err(damaged(&self.topic, format!("entry {index} stands in the place of entry {next}")));
                }
                found.entries.insert(index, entry);
            }
            Row::Truncate(after) => {
                found.entries.split_off(&after.map_or(0, |id| id.index + 1));
            }
            Row::Snapshot { vote, meta, machine } => {
                (self.snapshot_bytes, self.row_bytes) = (bytes, 0);
                *found = Recovered { vote, snapshot: Some((meta, machine)), entries: BTreeMap::new() };
            }
        }
        Ok(())
    }

    /// Appends rows as one atomic run; durable when it returns.
    ///
    /// # Errors
    /// E0305 if the sync failed: nothing can be decided any more.
    pub(super) fn append(&mut self, rows: Vec<String>) -> Result<()> {
        self.row_bytes += rows.iter().map(|row| row.len() as u64).sum::<u64>();
        self.write(rows, AppendOptions::default()).map(drop)
    }

    /// Whether so much stands behind the newest snapshot that another one is due.
    pub(super) fn is_large(&self) -> bool {
        self.row_bytes >= self.limits.snapshot_after.max(self.limits.share * self.snapshot_bytes)
    }

    /// Writes a snapshot with the rows of the entries behind it, and lets old history go.
    ///
    /// # Errors
    /// As [`Journal::append`], and the disk's.
    pub(super) fn snapshot(&mut self, snapshot: Row, behind: Vec<String>) -> Result<()> {
        // Should it fail, the next try comes after as many rows again.
        self.row_bytes = behind.iter().map(|row| row.len() as u64).sum();
        let mut rows = snapshot.texts(self.limits.part)?;
        let bytes = rows.iter().map(|row| row.len() as u64).sum();
        rows.extend(behind);
        let offset = self.write(rows, AppendOptions { begins_segment: true, ..AppendOptions::default() })?;
        self.snapshots.insert(offset);
        self.snapshot_bytes = bytes;
        self.retain()
    }

    fn write(&self, rows: Vec<String>, options: AppendOptions) -> Result<u64> {
        let column = Arc::new(StringArray::from(rows));
        let rows = RecordBatch::try_new(self.schema.clone(), vec![column])
            .map_err(|e| Error::internal(format!("encode rows of the command log: {e}")))?;
        Ok(self.topic.append(0, &rows, &options)?.offsets.start)
    }

    /// Removes what lies before a snapshot, oldest first, until the journal is small enough.
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

    #[cfg(test)]
    pub(super) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }
}

/// The topic of the journal in `folder`, to look at while another process may write it. None without one.
pub(super) fn find(env: &Env, folder: &Path) -> Result<Option<Arc<Topic>>> {
    Topics::open_read_only(env.clone(), folder).find(&Name::new(TOPIC)?)
}

/// The segments that begin with a snapshot.
///
/// # Errors
/// E0304 if the journal's beginning is gone and no snapshot stands for it.
pub(super) fn snapshots(topic: &Arc<Topic>, partition: &Partition) -> Result<BTreeSet<u64>> {
    let mut snapshots = BTreeSet::new();
    for offset in partition.segment_offsets().into_iter().filter(|offset| *offset < partition.end_offset()) {
        let mut reader = topic.read_from(0, Start::Offset(offset))?;
        let Some(batch) = reader.poll()? else { continue };
        if is_snapshot(texts(&batch.rows)?.value(0)) {
            snapshots.insert(offset);
        }
    }
    if partition.first_offset() > 0 && snapshots.is_empty() {
        return Err(damaged(topic, "it has lost its beginning: no snapshot stands for what is gone"));
    }
    Ok(snapshots)
}

/// Rows from an offset on, each with the offset where it begins and its length in bytes.
pub(super) fn read(topic: &Arc<Topic>, from: u64, mut visit: impl FnMut(u64, u64, Row) -> Result<()>) -> Result<()> {
    let end = topic.partition(0)?.end_offset();
    let mut reader = topic.read_from(0, Start::Offset(from))?;
    let mut parser = Parser::default();
    // Of the row that is not complete yet.
    let (mut first, mut bytes) = (None, 0);
    while reader.next_offset() < end {
        let Some(batch) = reader.next(Duration::ZERO, &|| true)? else { break };
        let texts = texts(&batch.rows)?;
        for index in 0..texts.len() {
            let text = texts.value(index);
            let offset = *first.get_or_insert(batch.first_offset + index as u64);
            bytes += text.len() as u64;
            if let Some(row) = parser.parse(text)? {
                // Indexes rise one by one: none is the last there can be.
                if row.index() == Some(u64::MAX) {
                    return Err(damaged(topic, "an index has no next one"));
                }
                visit(offset, bytes, row)?;
                (first, bytes) = (None, 0);
            }
        }
    }
    if parser.open.is_some() {
        return Err(damaged(topic, "a snapshot has lost its end"));
    }
    Ok(())
}

fn texts(rows: &RecordBatch) -> Result<&StringArray> {
    rows.column(0)
        .as_string_opt::<i32>()
        .ok_or_else(|| Error::new(Code::UnknownVersion, "the command log holds rows that are no text"))
}

fn is_snapshot(text: &str) -> bool {
    serde_json::from_str::<Tag>(text).is_ok_and(|tag| tag.row == "snapshot")
}

pub(super) fn damaged(topic: &Topic, detail: impl std::fmt::Display) -> Error {
    Error::new(Code::CorruptLog, format!("the command log is damaged: {detail}"))
        .at(Place::Named(topic.folder().display().to_string()))
        .hint("bring it back from a copy")
}
