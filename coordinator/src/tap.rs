//! Follows an operator of a running job for one client: asks the executors of its generation for the rows behind it,
//! and those of the next generation when that one is over.
//!
//! What is shown is no part of exactly once: executors leave rows out for a reader that is slow, and what flows between
//! two generations is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use qanat_proto::ids::{JobId, OperatorId, StartId, Token};
use qanat_proto::rows::{TailFrom, TailRows, decode};
use qanat_proto::rpc::control::tail_event::Event;
use qanat_proto::rpc::control::{RowFormat, TailEvent, TailStarted};
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::exchange::taps_client::TapsClient;
use qanat_proto::rpc::exchange::{TapRequest, TapRows};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Error, limits};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code as Grpc, Status, Streaming};

use crate::nodes::Nodes;
use crate::raft::Member;
use crate::service::{DataReader, lead, tail_events};

/// Between two looks for the next generation.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Until an executor says that it will send rows.
const OPEN_LIMIT: Duration = Duration::from_millis(2 * limits::CONNECT_TIMEOUT_MS);

/// One client's tail of one operator.
pub(crate) struct OperatorTail {
    pub(crate) member: Arc<Member>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) reader: Arc<dyn DataReader>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) cluster: Arc<str>,
    pub(crate) job: JobId,
    pub(crate) operator: OperatorId,
    pub(crate) format: RowFormat,
    /// Rows until it ends.
    pub(crate) left: Option<u64>,
    pub(crate) sender: mpsc::Sender<Result<TailEvent, Status>>,
}

/// Whether a tail goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Look for the generation that runs now.
    Look,
    /// The client has all that it wanted, or is gone.
    End,
}

impl OperatorTail {
    /// Until the job has ended, the client is gone, or this coordinator leads no more.
    pub(crate) async fn run(mut self) {
        let started = TailEvent { event: Some(Event::Started(TailStarted::default())) };
        if self.sender.send(Ok(started)).await.is_err() {
            return;
        }
        if let Err(status) = self.follow().await {
            // Nobody may be there to hear it.
            let _ = self.sender.send(Err(status)).await;
        }
    }

    async fn follow(&mut self) -> Result<(), Status> {
        let mut channels = BTreeMap::new();
        loop {
            lead(&self.member).await?;
            let facts = self.member.state(|state| {
                let job = state.job(self.job).filter(|job| !job.status.is_ended())?;
                Some((job.token(self.job), job.placement.iter().copied().collect::<BTreeSet<_>>()))
            });
            let Some((token, placement)) = facts else { return Ok(()) };
            if let Some(streams) = self.open(token, &placement, &mut channels).await?
                && self.relay(token, streams).await? == Next::End
            {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// The rows of all executors of a generation; None while one of them is not there or not ready.
    async fn open(
        &self,
        token: Token,
        placement: &BTreeSet<StartId>,
        channels: &mut BTreeMap<String, Channel>,
    ) -> Result<Option<Vec<Streaming<TapRows>>>, Status> {
        let executors = self.nodes.executors();
        let mut streams = Vec::new();
        for start in placement {
            let address = executors.iter().find(|executor| executor.start == *start).map(|found| &found.address);
            let Some(address) = address.filter(|address| !address.is_empty()) else { return Ok(None) };
            let channel = match channels.get(address) {
                Some(channel) => channel.clone(),
                None => {
                    let dialled = self.dial.dial(address);
                    let dialled = dialled.map_err(|e| status_of(&Error::internal(format!("dial an executor: {e}"))))?;
                    channels.entry(address.clone()).or_insert(dialled).clone()
                }
            };
            let request = TapRequest {
                cluster: self.cluster.to_string(),
                token: token.to_string(),
                operator: self.operator.to_string(),
            };
            let mut taps = TapsClient::new(channel).max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES);
            match tokio::time::timeout(OPEN_LIMIT, taps.tap(request)).await {
                Ok(Ok(stream)) => streams.push(stream.into_inner()),
                // Another try would find the same.
                Ok(Err(status)) if matches!(status.code(), Grpc::ResourceExhausted | Grpc::PermissionDenied) => {
                    return Err(status);
                }
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
        Ok((!streams.is_empty()).then_some(streams))
    }

    /// Passes rows on until the generation is over, or its executors are not all there any more.
    async fn relay(&mut self, token: Token, streams: Vec<Streaming<TapRows>>) -> Result<Next, Status> {
        let mut rows = select_all(streams);
        loop {
            let next = tokio::select! {
                next = rows.next() => next,
                () = self.sender.closed() => return Ok(Next::End),
            };
            let Some(Ok(tapped)) = next else { return Ok(Next::Look) };
            if self.pass(token, tapped).await? == Next::End {
                return Ok(Next::End);
            }
        }
    }

    async fn pass(&mut self, token: Token, tapped: TapRows) -> Result<Next, Status> {
        let refused = |error: Error| status_of(&error);
        let from = TailFrom::Subtask { subtask: tapped.subtask, generation: token.generation.0 };
        let mut skipped = tapped.skipped;
        for rows in decode(&tapped.arrow).map_err(refused)? {
            let wanted = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let rows = rows.slice(0, rows.num_rows().min(wanted));
            let count = rows.num_rows() as u64;
            let skipped = std::mem::take(&mut skipped);
            let rows = TailRows { from: from.clone(), at_ms: tapped.at_ms, rows, skipped };
            for event in tail_events(self.reader.as_ref(), self.format, &rows).map_err(refused)? {
                if self.sender.send(Ok(event)).await.is_err() {
                    return Ok(Next::End);
                }
            }
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    return Ok(Next::End);
                }
            }
        }
        Ok(Next::Look)
    }
}
