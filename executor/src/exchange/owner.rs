//! What the leading coordinator asks of the owner of topics.

use std::sync::Arc;

use qanat_proto::owner::{OwnerAnswer, OwnerTask};
use qanat_proto::rpc::exchange::log_owner_server::{LogOwner, LogOwnerServer};
use qanat_proto::rpc::exchange::{OwnerRequest, OwnerResponse};
use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::rpc::status::status_of;
use qanat_proto::rpc::tls::admit;
use qanat_proto::{Code, Error, Result, limits};
use qanat_storage::env::thread;
use tonic::{Request, Response, Status};

use crate::exchange::Exchange;

/// Does a task as the owner with this token. Blocks.
pub type PerformTask = dyn Fn(OwnerTask, u64) -> Result<OwnerAnswer> + Send + Sync;

/// Serves the owner's side of [`OwnerTask`]s.
pub(super) struct OwnerService {
    exchange: Exchange,
    /// Callers show a certificate.
    is_guarded: bool,
    /// None where nobody owns topics.
    perform: Option<Arc<PerformTask>>,
}

impl OwnerService {
    pub(super) fn server(
        exchange: Exchange,
        is_guarded: bool,
        perform: Option<Arc<PerformTask>>,
    ) -> LogOwnerServer<Self> {
        LogOwnerServer::new(Self { exchange, is_guarded, perform })
            .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl LogOwner for OwnerService {
    async fn perform(&self, request: Request<OwnerRequest>) -> Result<Response<OwnerResponse>, Status> {
        if self.is_guarded {
            let caller = admit(request.extensions(), &self.exchange.cluster, NodeRole::Coordinator);
            caller.map_err(|error| status_of(&error))?;
        }
        let OwnerRequest { cluster, start, owner, task } = request.into_inner();
        if cluster != *self.exchange.cluster {
            return Err(Status::permission_denied("this executor belongs to another cluster"));
        }
        // P1: meant for another start of this process. The leader looks again who owns the log.
        // An older token is refused where the topic's log is written (P11).
        if start != self.exchange.start.to_string() {
            return Err(status_of(&Error::new(Code::Fenced, "another executor owns the log")));
        }
        let task: OwnerTask = serde_json::from_slice(&task)
            .map_err(|e| Status::invalid_argument(format!("a task cannot be read: {e}")))?;
        let perform = self.perform.clone().ok_or_else(|| Status::unimplemented("this executor owns no topics"))?;
        let done = thread::blocking(move || perform(task, owner)).await;
        let done = done.unwrap_or_else(|e| Err(Error::new(Code::Panic, format!("a task failed: {e}"))));
        let answer = done.map_err(|error| status_of(&error))?;
        let answer = serde_json::to_vec(&answer).map_err(|e| Status::internal(format!("encode an answer: {e}")))?;
        Ok(Response::new(OwnerResponse { answer }))
    }
}
