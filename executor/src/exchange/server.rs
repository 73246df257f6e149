//! The receiving end: Flight's `DoExchange`, and nothing else of Flight; beside it, taps for those who look.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt};
use prost::Message;
use qanat_proto::ids::StartId;
use qanat_proto::rpc::edge;
use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::rpc::status::status_of;
use qanat_proto::rpc::tls::{Credentials, Peers, admit};
use qanat_proto::{Error, Result, limits};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

use crate::exchange::asked::Asked;
use crate::exchange::incoming::{Far, Opened, Owed};
use crate::exchange::link::decode;
use crate::exchange::owner::{OwnerService, PerformTask};
use crate::exchange::taps::TapService;
use crate::exchange::{EdgeKey, Exchange, Pair};
use crate::task::channel::Channel;

/// Answers that wait for the connection.
const QUEUED: usize = 4;

/// Serves an exchange until the future is dropped, connections in turn on each of its runtimes. With credentials, to
/// executors of the cluster and to nobody else. `perform` does what the owner of topics is asked.
///
/// # Errors
/// E0608 for credentials that do not fit each other; E0503 if the server ends by itself.
pub async fn serve(
    exchange: Exchange,
    listener: TcpListener,
    credentials: Option<Credentials>,
    perform: Option<Arc<PerformTask>>,
) -> Result<()> {
    let runtimes = exchange.runtimes.clone();
    let router = router(exchange, credentials, perform)?;
    let (mut serving, mut queues) = (JoinSet::new(), Vec::new());
    for runtime in runtimes.all() {
        let (queue, accepted) = mpsc::channel(QUEUED);
        queues.push(queue);
        // A socket belongs to the runtime that it is made on.
        let own = ReceiverStream::new(accepted).map(|socket: std::io::Result<_>| socket.and_then(TcpStream::from_std));
        serving.spawn_on(router.clone().serve_with_incoming(own), runtime);
    }
    let accepting = async {
        for queue in queues.iter().cycle() {
            let socket = listener.accept().await.and_then(|(socket, _)| socket.into_std());
            if queue.send(socket).await.is_err() {
                break;
            }
        }
    };
    let failed = |error: &dyn std::fmt::Display| Error::internal(format!("serve the exchange: {error}"));
    let ended = tokio::select! {
        ended = serving.join_next() => ended,
        () = accepting => serving.join_next().await,
    };
    match ended {
        Some(Ok(Ok(()))) | None => Ok(()),
        Some(Ok(Err(error))) => Err(failed(&error)),
        Some(Err(error)) => Err(failed(&error)),
    }
}

/// What an exchange serves; [`serve`] without its listener.
///
/// # Errors
/// E0608 for credentials that do not fit each other.
pub fn router(
    exchange: Exchange,
    credentials: Option<Credentials>,
    perform: Option<Arc<PerformTask>>,
) -> Result<Router> {
    let is_guarded = credentials.is_some();
    let owner = OwnerService::server(exchange.clone(), is_guarded, perform);
    let taps = TapService { exchange: exchange.clone(), is_guarded }.server();
    let service = FlightServiceServer::new(Server { is_guarded, exchange })
        .max_decoding_message_size(limits::DATA_MESSAGE_BYTES)
        .max_encoding_message_size(limits::DATA_MESSAGE_BYTES);
    Ok(edge::server(credentials.as_ref(), Peers::Nodes)?
        .max_frame_size(limits::DATA_FRAME_BYTES)
        .add_service(service)
        .add_service(taps)
        .add_service(owner))
}

struct Server {
    exchange: Exchange,
    /// Callers show a certificate.
    is_guarded: bool,
}

type Answer<T> = std::result::Result<T, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Answer<T>> + Send>>;

impl Server {
    /// The edge that the first message asks for, of a generation that runs here.
    fn open(&self, first: &FlightData) -> Answer<(Arc<Opened>, EdgeKey, StartId)> {
        let invalid = |what: String| Status::invalid_argument(what);
        let Asked { cluster, token, key, start } = Asked::of(first).map_err(invalid)?;
        if cluster != *self.exchange.cluster {
            return Err(Status::permission_denied("this executor belongs to another cluster"));
        }
        let opened = self.exchange.incoming.find(token);
        let opened =
            opened.ok_or_else(|| Status::failed_precondition(format!("generation {token} does not run here")))?;
        let edge = opened.edges.get(&key).ok_or_else(|| Status::not_found("no such edge"))?;
        if Asked::schema(first).map_err(invalid)? != *edge.schema {
            return Err(invalid("the rows have another schema than the edge".to_owned()));
        }
        if !opened.take(key, start) {
            return Err(Status::already_exists("this edge was opened before in this generation"));
        }
        Ok((opened, key, start))
    }
}

/// Moves what arrives into the channels, until the sender or the generation ends.
async fn receive(
    opened: Arc<Opened>,
    key: EdgeKey,
    near: BTreeMap<Pair, Arc<Channel>>,
    mut messages: Streaming<FlightData>,
) -> Result<()> {
    let mut ended = opened.ended.clone();
    let edge = opened.edges.get(&key).ok_or_else(|| Error::internal("an edge is gone"))?;
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            _ = ended.changed() => return Ok(()),
        };
        // A sender that is gone is news for the leader, who knows whether the generation is over.
        let Ok(Some(message)) = message else { return Ok(()) };
        for arrived in decode(&message, &edge.schema)? {
            let channel =
                near.get(&arrived.pair).ok_or_else(|| Error::internal("rows for a channel that there is not"))?;
            if channel.push_from_afar(arrived.element).is_err() {
                return Err(Error::internal("an executor sent more than it had credit for"));
            }
        }
    }
}

#[tonic::async_trait]
impl FlightService for Server {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoExchangeStream>> {
        if self.is_guarded {
            let cluster = &self.exchange.cluster;
            let caller = admit(request.extensions(), cluster, NodeRole::Executor);
            caller.map_err(|error| status_of(&error))?;
        }
        let mut messages = request.into_inner();
        let first = messages.message().await?.ok_or_else(|| Status::invalid_argument("an empty exchange"))?;
        let (opened, key, start) = self.open(&first)?;
        let owed = Arc::new(Owed::default());
        let mut near = BTreeMap::new();
        let channels = opened.edges.get(&key).map(|edge| edge.channels.clone()).unwrap_or_default();
        // The others' senders come with exchanges of their own.
        for (pair, (_, channel)) in channels.into_iter().filter(|(_, (sender, _))| *sender == start) {
            channel.set_far_sender(Box::new(Far { pair, owed: owed.clone() }));
            near.insert(pair, channel);
        }
        let (sender, answers) = mpsc::channel(QUEUED);
        let mut ended = opened.ended.clone();
        let reporter = opened.reporter.clone();
        let receiving = receive(opened, key, near, messages);
        tokio::spawn(async move {
            let answering = async {
                loop {
                    owed.changed.notified().await;
                    while let Some(backward) = owed.take() {
                        let answer =
                            FlightData { app_metadata: backward.encode_to_vec().into(), ..FlightData::default() };
                        if sender.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                }
            };
            tokio::select! {
                received = receiving => {
                    if let Err(error) = received {
                        reporter.fail(None, error);
                    }
                }
                () = answering => {}
                _ = ended.changed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Response<Self::HandshakeStream>> {
        Err(unsupported())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Response<Self::ListFlightsStream>> {
        Err(unsupported())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<Response<FlightInfo>> {
        Err(unsupported())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<Response<PollInfo>> {
        Err(unsupported())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<Response<SchemaResult>> {
        Err(unsupported())
    }

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Response<Self::DoGetStream>> {
        Err(unsupported())
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoPutStream>> {
        Err(unsupported())
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Response<Self::DoActionStream>> {
        Err(unsupported())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Response<Self::ListActionsStream>> {
        Err(unsupported())
    }
}

fn unsupported() -> Status {
    Status::unimplemented("executors exchange rows of jobs, and nothing else")
}
