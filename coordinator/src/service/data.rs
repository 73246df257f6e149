//! What topics and jobs hold, for clients that look; and the topics that they make and delete (`topics.rs`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::Stream;
use qanat_coordinator_core::Claimed;
use qanat_coordinator_core::retention::TopicStart;
use qanat_proto::audit::Report;
use qanat_proto::checkpoint::CheckpointReport;
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::job_choice::{Candidate, choose, is_id};
use qanat_proto::owner::Readmission;
use qanat_proto::rows::TailRows;
use qanat_proto::rpc::control::data_server::{Data, DataServer};
use qanat_proto::rpc::control::tail_event::Event;
use qanat_proto::rpc::control::tail_request::Of;
use qanat_proto::rpc::control::{
    AuditPart, AuditRequest, Checkpoint, CheckpointDescription, CheckpointRequest, CheckpointsRequest,
    CheckpointsResponse, CreateTopicRequest, DeleteTopicRequest, DeleteTopicResponse, ListTopicsRequest,
    ListTopicsResponse, ReadmitPart, ReadmitRequest, RowFormat, SideRowsPart, SideRowsRequest, TailEvent, TailRequest,
    Topic, TopicRequest,
};
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, Result, limits, rows};
use qanat_storage::env::thread;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::nodes::Nodes;
use crate::owner::Owners;
use crate::raft::Member;
use crate::retention::TopicRetention;
use crate::service::jobs::find;
use crate::service::{gone, lead};
use crate::tap::OperatorTail;
use crate::topics::TopicChanges;

/// Parts of an answer that wait for the connection.
pub(super) const QUEUED: usize = 4;
/// How often a client that waits for a long answer is told that it is being made.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// Bytes of a report in one message.
const PART_BYTES: usize = 1 << 20;

/// Reads what topics and jobs hold. The binary has the code that does so in a folder; this crate has it not. All of
/// it blocks.
pub trait DataReader: Send + Sync {
    /// All topics, by name.
    ///
    /// # Errors
    /// What is wrong with one of them.
    fn topics(&self) -> Result<Vec<Topic>>;

    /// One topic.
    ///
    /// # Errors
    /// E0308 if there is none.
    fn topic(&self, name: &str) -> Result<Topic>;

    /// Follows a topic until the request is fulfilled or nobody wants more.
    ///
    /// # Errors
    /// E0308 if there is none; what is wrong with the request or the topic.
    fn tail(&self, topic: &str, request: &TailRequest, parts: &Parts<TailEvent>) -> Result<()>;

    /// Rows that a job put aside.
    ///
    /// # Errors
    /// E0309 for a job or run that is not there.
    fn side_rows(&self, request: &SideRowsRequest, parts: &Parts<SideRowsPart>) -> Result<()>;

    /// What a client asks to be readmitted, with what the owner of the log has to know of the job.
    ///
    /// # Errors
    /// E0207 for a file where none may be written; E0501 for a request that makes no sense.
    fn readmission(&self, request: &ReadmitRequest) -> Result<Readmission>;

    /// The newest epochs of a run, oldest first.
    ///
    /// # Errors
    /// E0309 if there is none.
    fn checkpoints(&self, job: &str, run: Option<&str>, limit: usize) -> Result<Vec<Checkpoint>>;

    /// One epoch of a run.
    ///
    /// # Errors
    /// E0309 if there is no such run, E0501 if it has no such epoch.
    fn checkpoint(&self, job: &str, run: Option<&str>, epoch: Epoch) -> Result<CheckpointReport>;

    /// Audits a run.
    ///
    /// # Errors
    /// E0309 if there is none.
    fn audit(&self, job: &str, run: Option<&str>) -> Result<Report>;

    /// An operator of the graph that a claim restores.
    ///
    /// # Errors
    /// E0311 if there is none of this name.
    fn operator(&self, claim: &Claimed, wanted: &str) -> Result<OperatorId>;

    /// Where the epoch of a claim begins to read topics; those that it joins as lookup tables from their beginning.
    ///
    /// # Errors
    /// E0301 if its manifest is damaged or gone.
    fn starts(&self, claim: &Claimed) -> Result<Vec<TopicStart>>;

    /// Topics that keep rows until they are read, with their ids.
    ///
    /// # Errors
    /// E0304 for a damaged description.
    fn consumed_topics(&self) -> Result<BTreeMap<String, u64>>;

    /// Each row as a JSON object.
    ///
    /// # Errors
    /// E0217 for values that JSON does not have.
    fn json(&self, rows: &RecordBatch) -> Result<Vec<String>>;
}

/// Takes the parts of an answer.
pub struct Parts<T>(mpsc::Sender<std::result::Result<T, Status>>);

impl<T> Parts<T> {
    /// Waits until the connection has room. False: nobody wants more.
    pub fn send(&self, part: T) -> bool {
        thread::block_on_here(self.0.send(Ok(part))).is_ok()
    }

    /// Whether somebody waits for more.
    pub fn is_wanted(&self) -> bool {
        !self.0.is_closed()
    }
}

/// Rows as events of the format that was asked for, in messages of a sensible size.
///
/// # Errors
/// E0211 for a row that fits into no message.
pub fn tail_events(reader: &dyn DataReader, format: RowFormat, rows: &TailRows) -> Result<Vec<TailEvent>> {
    let event = |part| {
        let part = rows.part(part);
        let mut wire = part.to_wire();
        match format {
            RowFormat::Arrow => wire.arrow = rows::encode(&part.rows)?,
            RowFormat::Unspecified | RowFormat::Json => wire.json = reader.json(&part.rows)?,
        }
        Ok(TailEvent { event: Some(Event::Rows(wire)) })
    };
    rows::parts(&rows.rows).map(event).collect()
}

/// Serves what is asked about topics and jobs.
pub struct DataService {
    pub(super) member: Arc<Member>,
    nodes: Arc<Nodes>,
    reader: Arc<dyn DataReader>,
    dial: Arc<dyn Dial>,
    cluster: Arc<str>,
    pub(super) changes: Arc<TopicChanges>,
    pub(super) owners: Arc<Owners>,
    tails: Arc<Semaphore>,
    histories: Arc<Semaphore>,
}

type Answer<T> = std::result::Result<Response<T>, Status>;
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

impl DataService {
    pub fn server(
        member: Arc<Member>,
        nodes: Arc<Nodes>,
        reader: Arc<dyn DataReader>,
        dial: Arc<dyn Dial>,
        cluster: Arc<str>,
        owners: Arc<Owners>,
    ) -> DataServer<Self> {
        let changes = TopicChanges::new(member.clone(), owners.clone());
        member.runtime().spawn(changes.clone().finish());
        let retention = TopicRetention { member: member.clone(), owners: owners.clone(), reader: reader.clone() };
        member.runtime().spawn(retention.sweep());
        let tails = Arc::new(Semaphore::new(limits::TAILS_MAX));
        let histories = Arc::new(Semaphore::new(limits::HISTORIES_MAX));
        DataServer::new(Self { member, nodes, reader, dial, cluster, changes, owners, tails, histories })
            .max_decoding_message_size(limits::CLIENT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
    }

    /// Looks on a thread that may block.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn DataReader) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Status> {
        let reader = self.reader.clone();
        let looked = thread::blocking(move || look(reader.as_ref())).await;
        looked.unwrap_or_else(|e| Err(panicked(&e))).map_err(|error| status_of(&error))
    }

    /// An answer in parts. With `beats`, an empty part says now and then that it is being made.
    fn parts<T: Default + Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        beats: bool,
        make: impl FnOnce(&dyn DataReader, &Parts<T>) -> Result<()> + Send + 'static,
    ) -> Answers<T> {
        let (sender, parts) = mpsc::channel(QUEUED);
        let (reader, out) = (self.reader.clone(), Parts(sender.clone()));
        tokio::spawn(async move {
            let mut made = std::pin::pin!(thread::blocking(move || {
                let _permit = permit;
                make(reader.as_ref(), &out)
            }));
            let made = loop {
                match tokio::time::timeout(BEAT, &mut made).await {
                    Ok(made) => break made,
                    // No room: there are parts on their way.
                    Err(_) if beats => drop(sender.try_send(Ok(T::default()))),
                    Err(_) => {}
                }
            };
            if let Err(error) = made.unwrap_or_else(|e| Err(panicked(&e))) {
                // Nobody may be there to hear it.
                let _ = sender.send(Err(status_of(&error))).await;
            }
        });
        Box::pin(ReceiverStream::new(parts))
    }

    /// Whether another history may be read now; waits its turn.
    async fn history(&self) -> std::result::Result<OwnedSemaphorePermit, Status> {
        self.histories.clone().acquire_owned().await.map_err(|_| status_of(&Error::internal("no more histories")))
    }

    /// The job that is named, and its name; of several runs the newest, or the one whose id begins with `run`.
    fn find(&self, job: &str, run: &str) -> std::result::Result<(JobId, String), Status> {
        let found = self.member.state(|state| {
            let id = find(state, job, run)?;
            Ok((id, state.job(id).map(|job| job.name.clone()).unwrap_or_default()))
        });
        found.map_err(|error: Error| status_of(&error))
    }

    /// The name and id of a job that is named by its id, or the first digits of it: so it is one run. None if it is
    /// named by its name: side tables may be all that is left of a job.
    pub(super) fn of_id(&self, job: &str) -> std::result::Result<Option<(String, JobId)>, Status> {
        let found = self.member.state(|state| {
            if !is_id(job) || state.jobs.values().any(|known| known.name == job) {
                return Ok(None);
            }
            let candidates = state.jobs.iter().map(|(id, job)| Candidate { id: *id, name: &job.name, rank: () });
            match choose(job, None, candidates) {
                Ok(id) => Ok(state.job(id).map(|job| (job.name.clone(), id))),
                Err(error) if error.code() == Code::UnknownJob => Ok(None),
                Err(error) => Err(error),
            }
        });
        found.map_err(|error| status_of(&error))
    }

    /// The name of a job, and the id of the run that is meant.
    fn run(&self, job: &str, run: &str) -> std::result::Result<(String, String), Status> {
        self.find(job, run).map(|(id, name)| (name, id.to_string()))
    }

    async fn follow_operator(
        &self,
        job: &str,
        operator: String,
        request: &TailRequest,
        permit: OwnedSemaphorePermit,
    ) -> std::result::Result<Answers<TailEvent>, Status> {
        lead(&self.member).await?;
        let (id, _) = self.find(job, "")?;
        let claim = self.member.state(|state| state.job(id).and_then(|job| Some(job.last_claim()?.1.clone())));
        let claim = claim.ok_or_else(gone)?;
        let operator = self.look(move |reader| reader.operator(&claim, &operator)).await?;
        let (sender, events) = mpsc::channel(QUEUED);
        let tail = OperatorTail {
            member: self.member.clone(),
            nodes: self.nodes.clone(),
            reader: self.reader.clone(),
            dial: self.dial.clone(),
            cluster: self.cluster.clone(),
            job: id,
            operator,
            format: request.format(),
            left: (request.limit > 0).then_some(request.limit),
            sender,
        };
        tokio::spawn(async move {
            let _permit = permit;
            tail.run().await;
        });
        Ok(Box::pin(ReceiverStream::new(events)))
    }
}

fn panicked(error: &str) -> Error {
    Error::new(Code::Panic, format!("the request failed: {error}"))
}

fn told(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl Data for DataService {
    type ReadmitStream = Answers<ReadmitPart>;
    type TailStream = Answers<TailEvent>;
    type SideRowsStream = Answers<SideRowsPart>;
    type AuditStream = Answers<AuditPart>;

    async fn list_topics(&self, _: Request<ListTopicsRequest>) -> Answer<ListTopicsResponse> {
        let topics = self.look(|reader| reader.topics()).await?;
        Ok(Response::new(ListTopicsResponse { topics }))
    }

    async fn describe_topic(&self, request: Request<TopicRequest>) -> Answer<Topic> {
        let name = request.into_inner().topic;
        self.look(move |reader| reader.topic(&name)).await.map(Response::new)
    }

    async fn create_topic(&self, request: Request<CreateTopicRequest>) -> Answer<Topic> {
        lead(&self.member).await?;
        self.make_topic(request.into_inner()).await.map(Response::new)
    }

    async fn delete_topic(&self, request: Request<DeleteTopicRequest>) -> Answer<DeleteTopicResponse> {
        lead(&self.member).await?;
        self.remove_topic(request.into_inner()).await.map(|()| Response::new(DeleteTopicResponse {}))
    }

    async fn tail(&self, request: Request<TailRequest>) -> Answer<Self::TailStream> {
        let mut request = request.into_inner();
        let permit = self.tails.clone().try_acquire_owned().map_err(|_| {
            let error =
                Error::new(Code::TooManyRequests, format!("{} tails are served here already", limits::TAILS_MAX));
            status_of(&error.hint("end one of them, or ask another coordinator for a topic"))
        })?;
        let events = match request.of.take() {
            Some(Of::Topic(topic)) => {
                self.parts(permit, false, move |reader, parts| reader.tail(&topic, &request, parts))
            }
            Some(Of::Operator(named)) => self.follow_operator(&named.job, named.operator, &request, permit).await?,
            None => return Err(status_of(&Error::new(Code::Usage, "a tail is of a topic or of an operator"))),
        };
        Ok(Response::new(events))
    }

    async fn side_rows(&self, request: Request<SideRowsRequest>) -> Answer<Self::SideRowsStream> {
        lead(&self.member).await?;
        let mut request = request.into_inner();
        if let Some((name, id)) = self.of_id(&request.job)? {
            (request.job, request.run) = (name, id.to_string());
        }
        let permit = self.history().await?;
        Ok(Response::new(self.parts(permit, true, move |reader, parts| reader.side_rows(&request, parts))))
    }

    async fn readmit(&self, request: Request<ReadmitRequest>) -> Answer<Self::ReadmitStream> {
        lead(&self.member).await?;
        self.write_again(request.into_inner()).await.map(Response::new)
    }

    async fn checkpoints(&self, request: Request<CheckpointsRequest>) -> Answer<CheckpointsResponse> {
        lead(&self.member).await?;
        let CheckpointsRequest { job, run, limit } = request.into_inner();
        let (job, run) = self.run(&job, &run)?;
        let limit = match limit as usize {
            0 => limits::CHECKPOINTS_SHOWN_MAX,
            limit => limit.min(limits::CHECKPOINTS_SHOWN_MAX),
        };
        let _permit = self.history().await?;
        let checkpoints = self.look(move |reader| reader.checkpoints(&job, told(&run), limit)).await?;
        Ok(Response::new(CheckpointsResponse { checkpoints }))
    }

    async fn describe_checkpoint(&self, request: Request<CheckpointRequest>) -> Answer<CheckpointDescription> {
        lead(&self.member).await?;
        let CheckpointRequest { job, run, epoch } = request.into_inner();
        let (job, run) = self.run(&job, &run)?;
        let _permit = self.history().await?;
        let look = move |reader: &dyn DataReader| reader.checkpoint(&job, told(&run), Epoch(epoch))?.into_wire();
        self.look(look).await.map(Response::new)
    }

    async fn audit(&self, request: Request<AuditRequest>) -> Answer<Self::AuditStream> {
        lead(&self.member).await?;
        let AuditRequest { job, run } = request.into_inner();
        let (job, run) = self.run(&job, &run)?;
        let permit = self.history().await?;
        let parts = self.parts(permit, true, move |reader, parts: &Parts<AuditPart>| {
            let report = reader.audit(&job, told(&run))?;
            let json = serde_json::to_string(&report).map_err(|e| Error::internal(format!("write a report: {e}")))?;
            let mut rest = json.as_str();
            while !rest.is_empty() {
                let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
                if !parts.send(AuditPart { json: part.to_owned() }) {
                    break;
                }
                rest = after;
            }
            Ok(())
        });
        Ok(Response::new(parts))
    }
}
