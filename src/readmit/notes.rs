//! What is remembered of entries that were readmitted, durable before anything is published.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Result};
use qanat_storage::log::{AppendOptions, Isolation, OwnerToken, StagedHandle, Start, Topic, TopicSpec, Topics};
use serde::{Deserialize, Serialize};

use super::ids::parse_ids;

/// Where entries went, durable enough to do it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    File {
        path: PathBuf,
        /// Hidden, in the same folder. None in notes of versions that wrote the file only when it was published.
        #[serde(default)]
        draft: Option<PathBuf>,
        header: Option<String>,
        bytes: u64,
        crc32c: u32,
    },
    Topic(StagedHandle),
}

/// One line of the topic `<job>.readmitted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) batch: u64,
    pub(super) is_done: bool,
    pub(super) channel: SinkChannel,
    /// Id of the side table's topic: one that was deleted and made anew counts its entries from 0 again.
    #[serde(default)]
    pub(super) side_table: u64,
    pub(super) ids: String,
    pub(super) target: Target,
    /// Id of the topic that they go to; 0 in notes of files.
    #[serde(default)]
    pub(super) into_topic: u64,
    /// Of one that is done: the topic was deleted before its entries were known to be in it.
    #[serde(default)]
    pub(super) is_void: bool,
    /// The request that it is of, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) request: String,
}

/// The notes of a job.
pub(super) struct Memory {
    topic: Arc<Topic>,
    schema: SchemaRef,
    owner: Option<OwnerToken>,
}

impl Memory {
    /// With a token it is owned from here on: of several processes that share the topics none notes anything that
    /// another one does not know of (P11).
    ///
    /// # Errors
    /// E0306 if there is a newer owner.
    pub(super) fn open(topics: &Topics, job_name: &str, owner: Option<OwnerToken>) -> Result<Self> {
        let topic = topics.get_or_create(&Name::new(&format!("{job_name}.readmitted"))?, TopicSpec::new(1))?;
        if let Some(owner) = owner {
            topic.own(0, owner)?;
        }
        let schema = Arc::new(Schema::new(vec![Field::new("note", DataType::Utf8, false)]));
        topic.declare_schema(&schema)?;
        Ok(Self { topic, schema, owner })
    }

    pub(super) fn notes(&self) -> Result<Vec<Note>> {
        let mut notes = Vec::new();
        let mut batches = self.topic.read_to_latest(0, Start::Earliest, Isolation::Committed)?;
        while let Some(batch) = batches.next()? {
            let unknown = |why: String| {
                Error::new(
                    Code::UnknownVersion,
                    format!("topic `{}` holds a note that cannot be read: {why}", self.topic.name()),
                )
            };
            let texts = batch.rows.column(0).as_string_opt::<i32>().ok_or_else(|| unknown("no text".to_owned()))?;
            for text in texts.iter().flatten() {
                notes.push(serde_json::from_str(text).map_err(|e| unknown(e.to_string()))?);
            }
        }
        Ok(notes)
    }

    /// Durable when it returns.
    pub(super) fn append(&self, note: &Note) -> Result<()> {
        let text = serde_json::to_string(note).map_err(|e| Error::internal(format!("write a note: {e}")))?;
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let rows = RecordBatch::try_new(self.schema.clone(), vec![column])
            .map_err(|e| Error::internal(format!("write a note: {e}")))?;
        self.topic.append(0, &rows, &AppendOptions { owner: self.owner, ..AppendOptions::default() }).map(drop)
    }
}

/// Notes that were begun and not done.
pub(super) fn open_notes(notes: &[Note]) -> Vec<Note> {
    let done: BTreeSet<u64> = notes.iter().filter(|note| note.is_done).map(|note| note.batch).collect();
    notes.iter().filter(|note| !note.is_done && !done.contains(&note.batch)).cloned().collect()
}

/// Batches that went nowhere.
pub(super) fn void(notes: &[Note]) -> BTreeSet<u64> {
    notes.iter().filter(|note| note.is_void).map(|note| note.batch).collect()
}

/// Entries of a side table that stand in any note. Those of a void one are free for whoever names them: whether
/// somebody read them before their topic was deleted, nobody knows.
pub(super) fn taken(notes: &[Note], channel: SinkChannel, side_table: u64, are_named: bool) -> Result<BTreeSet<u64>> {
    let mut taken = BTreeSet::new();
    let free = if are_named { void(notes) } else { BTreeSet::new() };
    let is_of = |note: &&Note| {
        (note.channel, note.side_table) == (channel, side_table) && !note.is_done && !free.contains(&note.batch)
    };
    for note in notes.iter().filter(is_of) {
        taken.extend(parse_ids(&note.ids)?);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_in_any_note_are_taken_and_open_notes_found() {
        let target = Target::File { path: PathBuf::from("/x"), draft: None, header: None, bytes: 0, crc32c: 0 };
        let note = |batch, is_done, channel, ids: &str| Note {
            batch,
            is_done,
            channel,
            side_table: 5,
            ids: ids.to_owned(),
            target: target.clone(),
            into_topic: 0,
            is_void: false,
            request: String::new(),
        };
        let void = Note { is_void: true, ..note(4, true, SinkChannel::Late, "7") };
        let notes = [
            note(1, false, SinkChannel::Late, "1-2"),
            note(1, true, SinkChannel::Late, "1-2"),
            note(2, false, SinkChannel::DeadLetters, "5"),
            note(3, false, SinkChannel::Late, "4"),
            note(4, false, SinkChannel::Late, "7"),
            void,
        ];
        let taken = |side_table, are_named| taken(&notes, SinkChannel::Late, side_table, are_named).expect("ids");
        assert_eq!(taken(5, false), BTreeSet::from([1, 2, 4, 7]));
        assert_eq!(taken(5, true), BTreeSet::from([1, 2, 4]));
        assert_eq!(taken(6, false), BTreeSet::new(), "another topic");
        assert_eq!(open_notes(&notes).iter().map(|note| note.batch).collect::<Vec<_>>(), [2, 3]);
    }
}
