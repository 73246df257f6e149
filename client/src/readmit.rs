//! Late rows and dead letters, written where a job can read them.

use qanat_proto::owner::Readmitted;
use qanat_proto::rpc::control::data_client::DataClient;
use qanat_proto::rpc::control::readmit_request::Into as Where;
use qanat_proto::rpc::control::{ReadmitRequest, SideTable};
use qanat_proto::{Code, Error, Result};
use tonic::transport::Channel;

use crate::Client;
use crate::data::data;
use crate::submit::random_id;

/// So often a request is repeated whose answer breaks off.
const TRIES: u32 = 5;

/// Which entries are readmitted, and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct Readmit {
    request: ReadmitRequest,
}

impl Readmit {
    fn new(job: &str, table: SideTable) -> Self {
        let request = ReadmitRequest { job: job.to_owned(), table: table.into(), ..ReadmitRequest::default() };
        Self { request }
    }

    /// Rows of a job that came too late: those that were not readmitted before.
    pub fn late(job: &str) -> Self {
        Self::new(job, SideTable::Late)
    }

    /// Records that a job could not decode and rows that it could not process, likewise.
    pub fn dead_letters(job: &str) -> Self {
        Self::new(job, SideTable::DeadLetters)
    }

    /// Into a topic that is there.
    pub fn into_topic(mut self, topic: impl Into<String>) -> Self {
        self.request.into = Some(Where::Topic(topic.into()));
        self
    }

    /// Into a new file where the cluster's jobs may write, by its absolute path; `header` becomes its first line.
    pub fn into_file(mut self, path: impl Into<String>, header: Option<String>) -> Self {
        self.request.into = Some(Where::File(path.into()));
        self.request.header = header;
        self
    }

    /// Only entries of this run: the first digits of its id.
    pub fn of_run(mut self, run: Option<String>) -> Self {
        self.request.run = run.unwrap_or_default();
        self
    }

    /// Only these entries (`3,7-9`).
    pub fn ids(mut self, ids: Option<String>) -> Self {
        self.request.ids = ids.unwrap_or_default();
        self
    }

    /// At most so many, the oldest.
    pub fn limit(mut self, limit: Option<u64>) -> Self {
        self.request.limit = limit;
        self
    }
}

impl Client {
    /// Writes late rows or dead letters where a job can read them, each once, whatever dies meanwhile. Takes as long as
    /// reading them does; the deadline is for each sign of life.
    ///
    /// # Errors
    /// E0309 for a job or run that is not there; E0207 and E0216 for a file that must not be written or is there; E0308
    /// for a topic that is not; E0114 for an entry that does not fit the topic; E0603 if no executor owns the log.
    pub async fn readmit(&self, readmit: Readmit) -> Result<Readmitted> {
        let request = ReadmitRequest { request_id: random_id()?, ..readmit.request };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_readmit(request.clone()).await {
                Err(error) if tries < TRIES && matches!(error.code(), Code::NoQuorum | Code::NotLeader) => {}
                done => return done,
            }
        }
    }

    async fn try_readmit(&self, request: ReadmitRequest) -> Result<Readmitted> {
        let call = |mut data: DataClient<Channel>, request| async move { data.readmit(request).await };
        let mut parts = self.call(data, request, call).await?;
        while let Some(part) = self.part(&mut parts).await? {
            if let Some(outcome) = part.outcome {
                let into = Some(outcome.into).filter(|into| !into.is_empty());
                let (readmitted, ids, completed) = (outcome.readmitted, outcome.ids, outcome.completed);
                return Ok(Readmitted { readmitted, into, ids, completed });
            }
        }
        Err(Error::new(Code::NoQuorum, "the answer ends before its outcome"))
    }
}
