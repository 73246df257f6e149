//! `late readmit` and `dead-letters readmit`: [`crate::readmit`] on a data folder, or asked of a cluster.

use std::path::PathBuf;

use clap::Args;
use qanat_client::Readmit as Asked;
use qanat_proto::manifest::SinkChannel;
use qanat_proto::owner::{ReadmitInto, Readmitted};
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cli::DataArguments;
use crate::cli::cluster::ClusterArguments;
use crate::data_folder::{DataFolder, DataView};
use crate::inspect::side::readmission;
use crate::output::{self, Format, counted};
use crate::readmit::Readmitter;

#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Readmit {
    /// Name of the job; of a cluster, or its id or the first digits of it.
    name: String,
    /// New file: one record (or JSON object) per line. It appears whole, or not at all. Of a cluster, an absolute path
    /// where its jobs may write.
    #[arg(long, value_name = "PATH", conflicts_with = "into_topic")]
    into_file: Option<PathBuf>,
    /// Existing topic. Its columns are filled from JSON objects by name; a topic with one STRING or BYTES
    /// column, or none yet, takes the records as they are.
    #[arg(long, value_name = "TOPIC")]
    into_topic: Option<String>,
    /// First line of the file, for CSV tables that read a header.
    #[arg(long, value_name = "LINE", requires = "into_file")]
    header: Option<String>,
    /// Only these entries, by their ids (`3,7-9`).
    #[arg(long, value_name = "IDS")]
    ids: Option<String>,
    /// Only entries of this run: its id, or the first digits of it.
    #[arg(long, value_name = "JOBID")]
    run: Option<String>,
    /// At most N entries.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What one call did.
#[derive(Debug, Serialize)]
struct Outcome {
    readmitted: u64,
    into: Option<String>,
    ids: String,
    /// Batches of earlier calls that were interrupted, completed now.
    completed: u64,
}

impl Readmit {
    pub(super) fn execute(&self, channel: SinkChannel, format: Format) -> Result<()> {
        let done = if self.cluster.is_used(self.data.folder_option())? {
            let asked = self.asked(channel)?;
            self.cluster.ask(|client| async move { client.readmit(asked).await })?
        } else {
            self.in_folder(channel)?
        };
        let Readmitted { readmitted, into, ids, completed } = done;
        let outcome = Outcome { readmitted, into, ids, completed };
        output::print_object(&outcome, format, || outcome.text());
        Ok(())
    }

    fn in_folder(&self, channel: SinkChannel) -> Result<Readmitted> {
        let env = Env::real();
        let view = DataView::open(&env, &self.data.folder(), None)?;
        let mut asked = readmission(&view, &self.name, channel, self.run.as_deref(), self.into()?)?;
        (asked.ids, asked.limit) = (self.ids.clone(), self.limit);
        // Nothing is created only to be told that there is no such job.
        if let Some(error) = &asked.unknown_job {
            return Err(error.clone());
        }
        let data = DataFolder::open(&env, &self.data.folder())?;
        Readmitter { env: &env, topics: &data.topics, owner: None }.readmit(&asked)
    }

    fn into(&self) -> Result<ReadmitInto> {
        match (&self.into_topic, &self.into_file) {
            (Some(topic), _) => Ok(ReadmitInto::Topic(topic.clone())),
            (None, Some(path)) => {
                Ok(ReadmitInto::File { path: path.display().to_string(), header: self.header.clone() })
            }
            (None, None) => Err(Error::new(Code::Usage, "it is not said where the entries are to be written").hint(
                "--into-file PATH makes a new file of them, --into-topic TOPIC appends them to a topic that a job reads",
            )),
        }
    }

    fn asked(&self, channel: SinkChannel) -> Result<Asked> {
        let asked = match channel {
            SinkChannel::Late => Asked::late(&self.name),
            SinkChannel::DeadLetters | SinkChannel::Table => Asked::dead_letters(&self.name),
        };
        let asked = match self.into()? {
            ReadmitInto::Topic(topic) => asked.into_topic(topic),
            ReadmitInto::File { path, header } => asked.into_file(path, header),
        };
        Ok(asked.of_run(self.run.clone()).ids(self.ids.clone()).limit(self.limit))
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut text = match &self.into {
            None => "nothing left to readmit".to_owned(),
            Some(into) => {
                format!("readmitted {} into {into} (ids {})", counted(self.readmitted, "entry", "entries"), self.ids)
            }
        };
        if self.completed > 0 {
            text.push_str(&format!(
                "\ncompleted {} of calls that were interrupted",
                counted(self.completed, "batch", "batches")
            ));
        }
        text
    }
}
