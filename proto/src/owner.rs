//! What the leading coordinator asks of the owner of topics: changes that go beyond the rows of a job. In an
//! `OwnerRequest` and its answer they travel as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::EpochRanges;
use crate::error::Error;
use crate::manifest::SinkChannel;

/// A topic that is made or goes. The group decides on it; whoever owns the topic's log then does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicChange {
    Create(NewTopic),
    /// The topic with this id and no other of its name.
    Delete {
        id: u64,
    },
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Tells it from others of its name: a repeat makes no second one.
    pub id: u64,
    pub partitions: u32,
    /// Bytes kept of each partition; None: all.
    pub bytes: Option<u64>,
    /// Milliseconds that rows are kept; None: for ever.
    pub age_ms: Option<i64>,
    /// Rows go when all jobs are done with them.
    pub consumed: bool,
}

/// Entries of a job's side table that are to be written where a job can read them, each once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readmission {
    /// Name of the job.
    pub job: String,
    pub channel: SinkChannel,
    pub into: ReadmitInto,
    /// Only these (`3,7-9`).
    pub ids: Option<String>,
    /// Only of this run: the first digits of its id.
    pub run: Option<String>,
    pub limit: Option<u64>,
    /// Tells a repeat from another request. Empty: it is none.
    pub request: String,
    /// Epochs of the job's runs that count no more.
    pub withdrawn: BTreeMap<String, EpochRanges>,
    /// What to answer if there are no entries of the job, or of the run.
    pub unknown_job: Option<Error>,
    pub unknown_run: Option<Error>,
}

/// Where entries go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadmitInto {
    /// A new file, with a first line of its own.
    File { path: String, header: Option<String> },
    /// A topic that is there.
    Topic(String),
}

/// What came of a [`Readmission`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readmitted {
    pub readmitted: u64,
    /// The file or topic; None if there was nothing to write.
    pub into: Option<String>,
    pub ids: String,
    /// Batches of earlier requests that were interrupted, completed now.
    pub completed: u64,
}

/// One request to the owner. All of them may come again and late: a repeat changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerTask {
    /// The changes of one topic have rising numbers.
    Change { topic: String, number: u64, change: TopicChange },
    Readmit {
        asked: Box<Readmission>,
        /// Batches that the owners of their topics have published since it was asked first.
        published: Vec<u64>,
    },
    /// Commit what a readmission has staged in the topic.
    Publish {
        topic: String,
        /// A handle of the log, as JSON.
        handle: String,
    },
    /// How much of what lies before these offsets can be removed, if the topic goes by what was read.
    Removable(OwnerTopic),
    /// Remove what lies before these offsets: it was decided to go.
    Remove(OwnerTopic),
}

/// Offsets of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerTopic {
    pub topic: String,
    /// Which topic of the name.
    pub id: u64,
    /// By partition.
    pub offsets: BTreeMap<u32, u64>,
}

/// What the owner answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerAnswer {
    Done,
    /// A later change of the topic was made before.
    Outdated,
    Readmitted(Readmitted),
    /// The owner of the topic must publish this first; then the readmission is asked again.
    Publish {
        batch: u64,
        topic: String,
        handle: String,
        /// Batches of earlier requests that were completed on the way here.
        completed: u64,
    },
    /// Ends of segments, of partitions of which something can go.
    Removable(BTreeMap<u32, u64>),
}
