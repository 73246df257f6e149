//! Following rows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use qanat_proto::rows::{TailFrom, TailRows};
use qanat_proto::rpc::control::tail_event::Event;
use qanat_proto::rpc::control::tail_request::Of;
use qanat_proto::rpc::control::{OperatorName, RowFormat, TailEvent, TailRequest};
use qanat_proto::rpc::status::error_of;
use qanat_proto::{Code, Result};

use crate::Client;
use crate::call::{Coordinators, Followed};
use crate::data::data;

/// Before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_millis(50);

/// Rows to follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    request: TailRequest,
}

impl Tail {
    fn of(of: Of) -> Self {
        let format = RowFormat::Arrow.into();
        Self { request: TailRequest { of: Some(of), format, ..TailRequest::default() } }
    }

    /// Committed rows of a topic, each once, from its end on.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::of(Of::Topic(name.into()))
    }

    /// Rows as they leave an operator of a running job: as many as a reader takes, what it misses is counted.
    pub fn operator(job: impl Into<String>, operator: impl Into<String>) -> Self {
        Self::of(Of::Operator(OperatorName { job: job.into(), operator: operator.into() }))
    }

    /// Of a topic: begin elsewhere than at its end: `earliest`, an offset, or a time such as `2013-01-01T05:00:00Z`.
    #[must_use]
    pub fn from(mut self, start: impl Into<String>) -> Self {
        self.request.from = start.into();
        self
    }

    /// Of a topic: only this partition.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.request.partition = Some(partition);
        self
    }

    /// Of a topic: end at what is its end now, and begin at its beginning if nothing else is said.
    #[must_use]
    pub fn to_latest(mut self) -> Self {
        self.request.to_latest = true;
        self
    }

    /// Of a topic: staged rows too, after the others. Only with [`Tail::to_latest`].
    #[must_use]
    pub fn uncommitted(mut self) -> Self {
        self.request.uncommitted = true;
        self
    }

    /// End after so many rows, one at least.
    #[must_use]
    pub fn limit(mut self, rows: u64) -> Self {
        self.request.limit = rows.max(1);
        self
    }

    /// As it goes over the wire.
    pub fn request(&self) -> &TailRequest {
        &self.request
    }
}

/// Rows that are followed. See [`Client::tail`].
pub struct TailStream {
    coordinators: Arc<Coordinators>,
    deadline: Duration,
    request: TailRequest,
    stream: Option<Followed<TailEvent>>,
    /// Offset of the next row, by partition.
    next: HashMap<u32, u64>,
    batches: VecDeque<TailRows>,
    has_ended: bool,
}

impl TailStream {
    /// The next rows; None when there are all that were asked for, or the job has ended. Waits for them as long as it
    /// takes, and finds another coordinator if its own is gone: rows of a topic then go on where they were.
    ///
    /// # Errors
    /// E0308, E0309 or E0311 for a topic, job or operator that is not there; E0602 if no coordinator answers in time.
    pub async fn next(&mut self) -> Result<Option<TailRows>> {
        loop {
            if let Some(rows) = self.batches.pop_front() {
                return Ok(Some(rows));
            }
            if self.has_ended {
                return Ok(None);
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => {
                    let request = TailRequest { resume: self.next.clone(), ..self.request.clone() };
                    let call = |channel| {
                        let request = self.coordinators.request(request.clone());
                        async move { data(channel).tail(request).await.map(tonic::Response::into_inner) }
                    };
                    none.insert(self.coordinators.follow(self.deadline, call).await?)
                }
            };
            match stream.message().await {
                Ok(Some(event)) => self.take(event)?,
                Ok(None) => self.has_ended = true,
                Err(status) => {
                    let error = error_of(&status);
                    let is_gone = matches!(error.code(), Code::NotLeader | Code::NoQuorum);
                    // Staged rows would be shown again.
                    if !is_gone || self.request.uncommitted {
                        return Err(error);
                    }
                    self.stream = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(&mut self, event: TailEvent) -> Result<()> {
        match event.event {
            Some(Event::Started(started)) => self.next = started.offsets,
            Some(Event::Rows(wire)) => {
                for rows in TailRows::of_wire(wire)? {
                    let count = rows.rows.num_rows() as u64;
                    if let TailFrom::Partition { partition, first_offset } = &rows.from {
                        self.next.insert(*partition, first_offset + count);
                    }
                    if self.request.limit > 0 {
                        self.request.limit = self.request.limit.saturating_sub(count);
                        self.has_ended |= self.request.limit == 0;
                    }
                    self.batches.push_back(rows);
                }
            }
            None => {}
        }
        Ok(())
    }
}

impl Client {
    /// Follows rows of a topic or of an operator. Asks with the first call of [`TailStream::next`].
    pub fn tail(&self, tail: Tail) -> TailStream {
        TailStream {
            coordinators: self.coordinators(),
            deadline: self.deadline(),
            request: tail.request,
            stream: None,
            next: HashMap::new(),
            batches: VecDeque::new(),
            has_ended: false,
        }
    }
}
