//! Rows behind operators, sent to the coordinator that asks on behalf of a client.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use qanat_proto::ids::OperatorId;
use qanat_proto::rpc::exchange::taps_server::{Taps, TapsServer};
use qanat_proto::rpc::exchange::{TapRequest, TapRows};
use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::rpc::status::status_of;
use qanat_proto::rpc::tls::admit;
use qanat_proto::{Code, Error, limits, rows};
use qanat_storage::env::Clock;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::exchange::Exchange;
use crate::exchange::asked::token;
use crate::tap::{Tap, TapReader};

/// Messages that wait for the connection.
const QUEUED: usize = 2;

/// Serves the taps of the generations that run here.
pub(super) struct TapService {
    pub(super) exchange: Exchange,
    /// Callers show a certificate.
    pub(super) is_guarded: bool,
}

impl TapService {
    pub(super) fn server(self) -> TapsServer<Self> {
        TapsServer::new(self)
            .max_decoding_message_size(limits::CLIENT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
    }
}

/// What the taps of one generation need.
pub(super) struct Tapped {
    pub(super) tap: Arc<Tap>,
    pub(super) clock: Arc<dyn Clock>,
    /// Closed when the generation ends.
    pub(super) ended: watch::Receiver<()>,
}

type Message = Result<TapRows, Status>;

#[tonic::async_trait]
impl Taps for TapService {
    type TapStream = ReceiverStream<Message>;

    async fn tap(&self, request: Request<TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        if self.is_guarded {
            let caller = admit(request.extensions(), &self.exchange.cluster, NodeRole::Coordinator);
            caller.map_err(|error| status_of(&error))?;
        }
        let request = request.into_inner();
        if request.cluster != *self.exchange.cluster {
            return Err(Status::permission_denied("this executor belongs to another cluster"));
        }
        let token = token(&request.token)
            .ok_or_else(|| Status::invalid_argument(format!("`{}` is no token", request.token)))?;
        let operator: OperatorId = request.operator.parse().map_err(Status::invalid_argument)?;
        let found = self.exchange.incoming.tapped(token, operator);
        let tapped =
            found.ok_or_else(|| Status::failed_precondition(format!("generation {token} does not run here")))?;
        let reader = tapped.tap.read();
        let full = || {
            let message = format!("{} readers look at this operator already", limits::TAPS_MAX);
            status_of(&Error::new(Code::TooManyRequests, message).hint("end one of them"))
        };
        let reader = reader.ok_or_else(full)?;
        let (sender, messages) = mpsc::channel(QUEUED);
        tokio::spawn(send(tapped, reader, sender));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Sends rows until the generation is over or nobody reads them. What the reader is too slow for is left out where
/// they were offered.
async fn send(mut tapped: Tapped, mut reader: TapReader, sender: mpsc::Sender<Message>) {
    loop {
        let next = tokio::select! {
            biased;
            next = reader.next() => next,
            _ = tapped.ended.changed() => None,
            () = sender.closed() => return,
        };
        let Some((subtask, rows, skipped)) = next else { break };
        let count = u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
        if !pass(&tapped, &sender, subtask, &rows, skipped).await {
            return;
        }
        // Encoding shares the processor with the job: more than people can read is left out.
        tokio::time::sleep(Duration::from_secs(1) * count / limits::TAP_ROWS_PER_SECOND).await;
    }
    while let Some((subtask, rows, skipped)) = reader.try_next() {
        if !pass(&tapped, &sender, subtask, &rows, skipped).await {
            return;
        }
    }
}

/// False: nobody reads any more.
async fn pass(
    tapped: &Tapped,
    sender: &mpsc::Sender<Message>,
    subtask: u32,
    rows: &RecordBatch,
    mut skipped: u64,
) -> bool {
    let at_ms = tapped.clock.now_ms();
    for part in rows::parts(rows) {
        let part = rows.slice(part.start, part.len());
        let count = u32::try_from(part.num_rows()).unwrap_or(u32::MAX);
        let skipped = std::mem::take(&mut skipped);
        let message = rows::encode(&part)
            .map(|arrow| TapRows { subtask, count, arrow, skipped, at_ms })
            .map_err(|error| status_of(&error));
        if sender.send(message).await.is_err() {
            return false;
        }
    }
    true
}
