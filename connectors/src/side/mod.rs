//! Side tables of a job: late rows and dead letters, kept in topics and committed with the epoch.
//!
//! | table | topic | channel |
//! |---|---|---|
//! | late rows | `<job name>.late` | [`SinkChannel::Late`] |
//! | dead letters | `<job name>.dead-letters` | [`SinkChannel::DeadLetters`] |
//!
//! One partition each, fixed columns ([`schema`]), the run told apart by the job id in each row. They are
//! written through the same contract as any sink, so that a row is late, or dead, exactly once: the
//! executor opens [`sink`], writes what [`rows`] builds, and commits its handles with the others'. `qanat
//! late` and `qanat dead-letters` read through [`read`].

mod read;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use qanat_proto::error::{Error, Result};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::names::Name;
use qanat_storage::log::{TopicSpec, Topics};

use crate::contract::Sink;
use crate::log::{LogSink, Routing};

pub use read::{
    DeadLetterEntry, LateEntry, SideReader, dead_letter_entries, dead_letters_of, late_entries, late_rows_of,
};
pub use rows::{SideOrigin, dead_letters, dead_rows, late_rows};
pub use schema::{dead_letter_schema, late_schema, schema};

/// Name of the topic that holds a side table of a job.
///
/// # Errors
/// E0501 if the job's name is too long for it; E0503 for a channel that is no side table.
pub fn topic_name(job_name: &str, channel: SinkChannel) -> Result<Name> {
    match channel {
        SinkChannel::Late => Name::new(&format!("{job_name}.late")),
        SinkChannel::DeadLetters => Name::new(&format!("{job_name}.dead-letters")),
        SinkChannel::Table => Err(Error::internal("a sink's own table is no side table")),
    }
}

/// Opens a side table of a job for writing, creating its topic if need be.
///
/// # Errors
/// E0114 if a topic of this name holds other columns.
pub fn sink(topics: &Arc<Topics>, job_name: &str, channel: SinkChannel) -> Result<Arc<dyn Sink>> {
    let name = topic_name(job_name, channel)?;
    topics.get_or_create(&name, TopicSpec::new(1))?;
    let columns = schema(channel)?;
    let event_time = columns.index_of("event_time").ok();
    Ok(Arc::new(LogSink::open(topics.clone(), name, columns, event_time, Routing::Single, channel, false)?))
}
