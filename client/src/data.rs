//! What topics and jobs hold.

use qanat_proto::audit::Report;
use qanat_proto::checkpoint::CheckpointReport;
use qanat_proto::rpc::control::data_client::DataClient;
use qanat_proto::rpc::control::{
    AuditPart, AuditRequest, Checkpoint, CheckpointRequest, CheckpointsRequest, CreateTopicRequest, DeadLetter,
    DeleteTopicRequest, LateRow, ListTopicsRequest, SideRowsPart, SideRowsRequest, SideTable, Topic, TopicRequest,
};
use qanat_proto::rpc::status::error_of;
use qanat_proto::{Code, Error, Result, limits};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::Client;
use crate::submit::random_id;

/// Which of a job's late rows or dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideQuery {
    /// The job's name, for rows of all its runs; or its id.
    pub job: String,
    /// Only of this run: the first digits of its id.
    pub run: Option<String>,
    /// At most so many, the oldest.
    pub limit: Option<u64>,
}

impl SideQuery {
    /// All rows of a job.
    pub fn new(job: impl Into<String>) -> Self {
        Self { job: job.into(), ..Self::default() }
    }

    fn request(&self, table: SideTable) -> SideRowsRequest {
        SideRowsRequest {
            job: self.job.clone(),
            table: table.into(),
            run: self.run.clone().unwrap_or_default(),
            limit: self.limit.unwrap_or(0),
        }
    }
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTopic {
    request: CreateTopicRequest,
}

impl NewTopic {
    /// One partition that keeps everything.
    pub fn new(name: impl Into<String>) -> Self {
        Self { request: CreateTopicRequest { topic: name.into(), partitions: 1, ..CreateTopicRequest::default() } }
    }

    /// How many partitions it has, for ever: 1 to 1,000.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.request.partitions = partitions;
        self
    }

    /// Keeps at most about so many bytes per partition, read or not.
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.request.retention_bytes = Some(bytes);
        self
    }

    /// Keeps rows for so many milliseconds, read or not.
    pub fn keep_ms(mut self, age_ms: i64) -> Self {
        self.request.retention_age_ms = Some(age_ms);
        self
    }

    /// Keeps rows until every job that reads them is done with them.
    pub fn keep_until_read(mut self) -> Self {
        self.request.retention_consumed = true;
        self
    }
}

pub(crate) fn data(channel: Channel) -> DataClient<Channel> {
    DataClient::new(channel).max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
}

impl Client {
    /// All topics, by name.
    ///
    /// # Errors
    /// E0602 if nobody answers in time.
    pub async fn topics(&self) -> Result<Vec<Topic>> {
        let call = |mut data: DataClient<Channel>, request| async move { data.list_topics(request).await };
        Ok(self.call(data, ListTopicsRequest {}, call).await?.topics)
    }

    /// One topic: columns, retention, partitions with their offsets and sizes.
    ///
    /// # Errors
    /// E0308 if there is none.
    pub async fn topic(&self, name: &str) -> Result<Topic> {
        let request = TopicRequest { topic: name.to_owned() };
        let call = |mut data: DataClient<Channel>, request| async move { data.describe_topic(request).await };
        self.call(data, request, call).await
    }

    /// Makes an empty topic, and returns it. Its columns are those of the first rows written to it.
    ///
    /// # Errors
    /// E0501 if there is one of the name; E0603 if no executor owns the log.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<Topic> {
        let request = CreateTopicRequest { request_id: random_id()?, ..topic.request };
        let call = |mut data: DataClient<Channel>, request| async move { data.create_topic(request).await };
        self.call(data, request, call).await
    }

    /// Removes a topic and all its rows.
    ///
    /// # Errors
    /// E0308 if there is none; E0312 while a job that has not ended reads or writes it; E0603 if no executor owns the
    /// log.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        // By id: a repeat must not meet another topic of the name.
        let id = self.topic(name).await?.id;
        let request = DeleteTopicRequest { topic: name.to_owned(), id };
        let call = |mut data: DataClient<Channel>, request| async move { data.delete_topic(request).await };
        self.call(data, request, call).await.map(drop)
    }

    /// Rows of a job that came too late for all their windows, the oldest first.
    ///
    /// # Errors
    /// E0309 for a job or run that is not there.
    pub async fn late_rows(&self, query: &SideQuery) -> Result<Vec<LateRow>> {
        self.side_rows(query, SideTable::Late, |part| part.late).await
    }

    /// Records that a job could not decode and rows that it could not process, the oldest first.
    ///
    /// # Errors
    /// E0309 for a job or run that is not there.
    pub async fn dead_letters(&self, query: &SideQuery) -> Result<Vec<DeadLetter>> {
        self.side_rows(query, SideTable::DeadLetters, |part| part.dead_letters).await
    }

    async fn side_rows<T>(
        &self,
        query: &SideQuery,
        table: SideTable,
        rows_of: impl Fn(SideRowsPart) -> Vec<T>,
    ) -> Result<Vec<T>> {
        if query.limit == Some(0) {
            return Ok(Vec::new());
        }
        let call = |mut data: DataClient<Channel>, request| async move { data.side_rows(request).await };
        let mut parts = self.call(data, query.request(table), call).await?;
        let mut rows = Vec::new();
        while let Some(part) = self.part(&mut parts).await? {
            rows.extend(rows_of(part));
        }
        Ok(rows)
    }

    /// The newest epochs of a job, oldest first; 10,000 at most. `run`: of another run than the newest of that name,
    /// the first digits of its id.
    ///
    /// # Errors
    /// E0309 if there is none.
    pub async fn checkpoints(&self, job: &str, run: Option<&str>, limit: Option<usize>) -> Result<Vec<Checkpoint>> {
        if limit == Some(0) {
            return Ok(Vec::new());
        }
        let limit = limit.map_or(0, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let request = CheckpointsRequest { job: job.to_owned(), run: run.unwrap_or_default().to_owned(), limit };
        let call = |mut data: DataClient<Channel>, request| async move { data.checkpoints(request).await };
        Ok(self.call(data, request, call).await?.checkpoints)
    }

    /// One epoch of a job: source positions, watermarks, state files, prepared output.
    ///
    /// # Errors
    /// E0309 if there is no such job, E0501 if it has no such epoch.
    pub async fn checkpoint(&self, job: &str, run: Option<&str>, epoch: u64) -> Result<CheckpointReport> {
        let request = CheckpointRequest { job: job.to_owned(), run: run.unwrap_or_default().to_owned(), epoch };
        let call = |mut data: DataClient<Channel>, request| async move { data.describe_checkpoint(request).await };
        CheckpointReport::of_wire(self.call(data, request, call).await?)
    }

    /// Has the cluster prove that a job lost nothing and doubled nothing: it reads the receipts of all epochs, and every
    /// row that its sinks hold. What does not add up stands in the report, and is no error. Takes as long as reading
    /// them does; the deadline is for each sign of life.
    ///
    /// # Errors
    /// E0309 if there is no such job; E0602 if the coordinator is gone before it is done.
    pub async fn audit(&self, job: &str, run: Option<&str>) -> Result<Report> {
        let request = AuditRequest { job: job.to_owned(), run: run.unwrap_or_default().to_owned() };
        let call = |mut data: DataClient<Channel>, request| async move { data.audit(request).await };
        let mut parts = self.call(data, request, call).await?;
        let mut json = String::new();
        while let Some(AuditPart { json: part }) = self.part(&mut parts).await? {
            json.push_str(&part);
        }
        serde_json::from_str(&json).map_err(|e| Error::internal(format!("an audit cannot be read: {e}")))
    }

    /// The next part of an answer; None at its end.
    pub(crate) async fn part<T>(&self, parts: &mut Streaming<T>) -> Result<Option<T>> {
        match tokio::time::timeout(self.deadline(), parts.message()).await {
            Ok(part) => part.map_err(|status| error_of(&status)),
            Err(_) => Err(Error::new(Code::NoQuorum, "the coordinator does not go on with its answer")
                .hint("ask again: another one may lead by now")),
        }
    }
}
