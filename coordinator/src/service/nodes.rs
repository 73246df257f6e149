//! The executors' connections.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use qanat_coordinator_core::membership::Incarnation;
use qanat_coordinator_core::{Command, Refusal, State};
use qanat_proto::control::ToExecutor;
use qanat_proto::ids::StartId;
use qanat_proto::rpc::cluster::nodes_server::{Nodes as NodesRpc, NodesServer};
use qanat_proto::rpc::cluster::{
    CoordinatorEvent, ExecutorEvent, Heartbeat, Registered, coordinator_event, executor_event,
};
use qanat_proto::rpc::identity::NodeIdentity;
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, Place, limits};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::{IntervalStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::nodes::{Nodes, Outbox, Registration, Session};
use crate::raft::{Member, not_leader};
use crate::service::refused;

/// How long an executor is kept waiting that came before a new leader was ready. It gives up a silent one later.
pub(super) const READY: Duration = Duration::from_millis(limits::LEADER_SILENCE_MS / 2);

/// Serves the leader's [`Nodes`].
pub struct NodesService {
    nodes: Arc<Nodes>,
    member: Arc<Member>,
    cluster: Arc<str>,
    /// Names are given one after the other: whoever registers next finds the one before attached.
    registering: Mutex<()>,
}

impl NodesService {
    pub fn server(nodes: Arc<Nodes>, member: Arc<Member>, cluster: Arc<str>) -> NodesServer<Self> {
        NodesServer::new(Self { nodes, member, cluster, registering: Mutex::default() })
            .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
    }

    /// `identity` is the one in the caller's certificate, in a cluster that has such.
    fn registration(
        &self,
        event: Option<ExecutorEvent>,
        identity: Option<&NodeIdentity>,
    ) -> Result<Registration, Status> {
        let Some(executor_event::Event::Register(register)) = event.and_then(|event| event.event) else {
            return Err(Status::invalid_argument("a connection begins with its registration"));
        };
        if register.cluster != *self.cluster {
            return Err(Status::permission_denied("this coordinator belongs to another cluster"));
        }
        let invalid = |what: String| Status::invalid_argument(format!("the registration is not valid: {what}"));
        if register.node.is_empty() {
            return Err(invalid("the node has no name".to_owned()));
        }
        if let Some(identity) = identity.filter(|identity| identity.node.as_str() != register.node) {
            let message = format!("`{}` registers with the certificate of `{}`", register.node, identity.node);
            return Err(status_of(&Error::new(Code::CertificateRefused, message)));
        }
        let start: StartId = register.start.parse().map_err(invalid)?;
        let folder = match register.folder.as_str() {
            // Of an earlier version: each of its starts stands for itself.
            "" => start.0,
            folder => u64::from_str_radix(folder, 16).map_err(|e| invalid(e.to_string()))?,
        };
        Ok(Registration {
            start,
            incarnation: Incarnation { folder, number: register.incarnation },
            node: register.node,
            slots: register.slots,
            data_address: register.data_address,
            holds: serde_json::from_slice(&register.holds).map_err(|e| invalid(e.to_string()))?,
        })
    }
}

impl NodesService {
    /// Takes a connection once it is decided that it is of the node whose name it has. None: another coordinator leads.
    async fn admit(&self, registration: Registration, outbox: Outbox) -> Result<Option<Session>, Status> {
        let _turn = self.registering.lock().await;
        let Some(known) = self.nodes.known() else { return Ok(None) };
        let (node, start, incarnation) = (registration.node.clone(), registration.start, registration.incarnation);
        let taken = |refusal: &Refusal| match refusal {
            Refusal::NodeTaken => {
                let status = status_of(&Error::from(refusal).at(Place::Named(node.clone())));
                let holder = self.member.state(|state| state.nodes.get(&node).map(|holder| holder.start));
                if holder.is_some_and(|holder| self.nodes.is_connected(holder)) {
                    return status;
                }
                // It may be gone: whoever asks waits until that is known.
                Status::with_metadata(tonic::Code::Unavailable, status.message(), status.metadata().clone())
            }
            _ => refused(refusal),
        };
        let is_known = |state: &State| state.nodes.get(&node).is_some_and(|holder| holder.start == start);
        if !self.member.state(is_known) {
            // Whoever asks again and again leaves no trace in the log.
            self.member
                .state(|state| state.check_node(&node, start, incarnation, &known))
                .map_err(|refusal| taken(&refusal))?;
            let register = Command::Register { node: node.clone(), start, incarnation, known };
            let decided = self.member.propose_async(register).await.map_err(|error| status_of(&error))?;
            decided.map_err(|refusal| taken(&refusal))?;
        }
        Ok(self.nodes.attach(registration, outbox))
    }
}

#[tonic::async_trait]
impl NodesRpc for NodesService {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<CoordinatorEvent, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<ExecutorEvent>>) -> Result<Response<Self::AttachStream>, Status> {
        let identity = request.extensions().get::<NodeIdentity>().cloned();
        let mut events = request.into_inner();
        let registration = self.registration(events.message().await?, identity.as_ref())?;
        let (outbox, messages) = mpsc::unbounded_channel();
        // One that was just elected leads in a moment.
        if self.member.is_elected() {
            let _ = tokio::time::timeout(READY, self.nodes.until_it_leads()).await;
        }
        let Some(session) = self.admit(registration, outbox).await? else {
            return Err(status_of(&not_leader(self.member.known_leader())));
        };
        self.member.runtime().spawn(async move {
            while let Ok(Some(event)) = events.message().await {
                match event.event {
                    Some(executor_event::Event::Message(body)) => match serde_json::from_slice(&body) {
                        Ok(message) => session.report(message),
                        Err(error) => {
                            tracing::warn!(%error, "an executor sent a message that cannot be read");
                            return;
                        }
                    },
                    Some(executor_event::Event::Heartbeat(heartbeat)) => session.tells(heartbeat.jobs),
                    _ => session.heard(),
                }
            }
        });
        let registered = Registered {
            heartbeat_ms: u32::try_from(limits::EXECUTOR_HEARTBEAT_MS).unwrap_or(u32::MAX),
            lease_ms: u32::try_from(limits::EXECUTOR_LEASE_MS).unwrap_or(u32::MAX),
        };
        let first = CoordinatorEvent { event: Some(coordinator_event::Event::Registered(registered)) };
        // It ends when the sender is dropped: when this coordinator leads no more, or gives the executor up.
        let messages = UnboundedReceiverStream::new(messages).map(|message| encode(&message)).map(Some);
        let every = Duration::from_millis(limits::EXECUTOR_HEARTBEAT_MS);
        let beat = || CoordinatorEvent { event: Some(coordinator_event::Event::Heartbeat(Heartbeat::default())) };
        let beats = IntervalStream::new(tokio::time::interval(every)).map(move |_| Some(Ok(beat())));
        // The last word is who leads in this one's place, so that the executor need not look for it.
        let member = self.member.clone();
        let last = async move { member.next_leader().await.map(|leader| Err(status_of(&not_leader(Some(leader))))) };
        let end = futures::stream::once(last).chain(futures::stream::iter([None]));
        let messages = futures::stream::select(messages.chain(end), beats).take_while(|event| {
            let goes_on = event.is_some();
            async move { goes_on }
        });
        let messages = messages.filter_map(|event| async move { event });
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(first)]).chain(messages))))
    }
}

fn encode(message: &ToExecutor) -> Result<CoordinatorEvent, Status> {
    let body = serde_json::to_vec(message).map_err(|e| Status::internal(format!("encode a message: {e}")))?;
    Ok(CoordinatorEvent { event: Some(coordinator_event::Event::Message(body)) })
}
