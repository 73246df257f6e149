//! The command log: every durable fact of the control plane, in order, in the embedded log.
//!
//! One command is one row of a one-partition topic; a command counts once its append is acknowledged,
//! that is, once it is synced. The state is whatever the log says when it is applied from its start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use qanat_coordinator_core::Command;
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use qanat_storage::log::{AppendOptions, GroupCommit, Start, Topic, TopicSpec, Topics};

const TOPIC: &str = "commands";

/// An open command log. One process writes it: the one that owns the data folder.
pub struct CommandLog {
    topic: Arc<Topic>,
    schema: Arc<Schema>,
    // Keeps the log's writer alive.
    _topics: Topics,
}

impl CommandLog {
    /// Opens or creates the log in `folder` and returns every command in it.
    ///
    /// # Errors
    /// E0304 for a damaged log; E0307 for a command of an unknown version.
    pub fn open(env: &Env, folder: &Path) -> Result<(Self, Vec<Command>)> {
        let topics = Topics::open(env.clone(), folder, GroupCommit::spawn()?)?;
        let topic = topics.get_or_create(&Name::new(TOPIC)?, TopicSpec::new(1))?;
        let schema = Arc::new(Schema::new(vec![Field::new("command", DataType::Utf8, false)]));
        topic.declare_schema(&schema)?;
        let commands = read(&topic)?.into_iter().map(|(_, command)| command).collect();
        Ok((Self { topic, schema, _topics: topics }, commands))
    }

    /// Every command of the log in `folder`, with the time of its append in ms. Takes no part in writing:
    /// another process may own the log and go on. None if there is no log.
    ///
    /// # Errors
    /// As [`CommandLog::open`].
    pub fn look(env: &Env, folder: &Path) -> Result<Option<Vec<(i64, Command)>>> {
        let topics = Topics::open_read_only(env.clone(), folder);
        match topics.find(&Name::new(TOPIC)?)? {
            Some(topic) => read(&topic).map(Some),
            None => Ok(None),
        }
    }

    /// Appends one command; durable when it returns.
    ///
    /// # Errors
    /// E0305 if the sync failed: nothing can be decided any more.
    pub fn append(&self, command: &Command) -> Result<()> {
        let text = serde_json::to_string(command).map_err(|e| Error::internal(format!("encode a command: {e}")))?;
        let column = Arc::new(StringArray::from(vec![text]));
        let rows = RecordBatch::try_new(self.schema.clone(), vec![column])
            .map_err(|e| Error::internal(format!("encode a command: {e}")))?;
        self.topic.append(0, &rows, &AppendOptions::default())?;
        Ok(())
    }
}

fn read(topic: &Arc<Topic>) -> Result<Vec<(i64, Command)>> {
    let end = topic.partition(0)?.end_offset();
    let mut reader = topic.read_from(0, Start::Earliest)?;
    let mut commands = Vec::new();
    while reader.next_offset() < end {
        let Some(batch) = reader.next(Duration::ZERO, &|| true)? else { break };
        let texts = batch.rows.column(0).as_string_opt::<i32>().ok_or_else(|| unknown("no text"))?;
        for index in 0..texts.len() {
            commands.push((batch.append_ms, serde_json::from_str(texts.value(index)).map_err(unknown)?));
        }
    }
    Ok(commands)
}

fn unknown(detail: impl std::fmt::Display) -> Error {
    Error::new(Code::UnknownVersion, format!("the command log holds a command that cannot be read: {detail}"))
        .hint("it was written by another version of Qanat")
}
