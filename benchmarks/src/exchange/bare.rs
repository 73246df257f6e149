//! Bare Arrow Flight with the settings that make it fast: large windows and frames, no delay.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use qanat_proto::{Error, Result, limits};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Messages that are encoded before the connection takes them.
const QUEUED: usize = 4;

/// Decodes all batches that are put, and answers with the number of their rows.
pub(super) async fn serve(listener: TcpListener) -> std::result::Result<(), tonic::transport::Error> {
    let (stream, connection) = limits::RPC_WINDOW_BYTES;
    tonic::transport::Server::builder()
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_frame_size(limits::DATA_FRAME_BYTES)
        .tcp_nodelay(true)
        .add_service(FlightServiceServer::new(Counting).max_decoding_message_size(limits::DATA_MESSAGE_BYTES))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
}

/// Puts batches to [`serve`].
pub struct BareClient {
    runtime: Arc<Runtime>,
    client: FlightServiceClient<Channel>,
}

impl BareClient {
    pub(super) fn new(runtime: Arc<Runtime>, address: &str) -> Result<Self> {
        let (stream, connection) = limits::RPC_WINDOW_BYTES;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Error::internal(e.to_string()))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .initial_stream_window_size(stream)
            .initial_connection_window_size(connection);
        let channel = {
            let _entered = runtime.enter();
            endpoint.connect_lazy()
        };
        let client = FlightServiceClient::new(channel).max_encoding_message_size(limits::DATA_MESSAGE_BYTES);
        Ok(Self { runtime, client })
    }

    /// Sends `count` batches out of `batches`, and returns the rows that came.
    ///
    /// # Errors
    /// What Flight says.
    pub fn run(&self, batches: &Arc<Vec<RecordBatch>>, count: usize) -> Result<u64> {
        let failed = |e: &dyn std::fmt::Display| Error::internal(format!("bare Flight: {e}"));
        let mut client = self.client.clone();
        let batches = batches.clone();
        self.runtime.block_on(async move {
            let (sender, messages) = mpsc::channel::<FlightData>(QUEUED);
            let rows = stream::iter((0..count).filter_map(move |index| batches.get(index % batches.len()).cloned()));
            let mut encoder = FlightDataEncoderBuilder::new()
                .with_max_flight_data_size(limits::DATA_MESSAGE_BYTES / 2)
                .build(rows.map(Ok));
            let encoding = tokio::spawn(async move {
                while let Some(message) = encoder.next().await {
                    if sender.send(message?).await.is_err() {
                        break;
                    }
                }
                Ok::<_, FlightError>(())
            });
            let answers = client.do_put(ReceiverStream::new(messages)).await.map_err(|e| failed(&e))?;
            let answers: Vec<PutResult> = answers.into_inner().try_collect().await.map_err(|e| failed(&e))?;
            encoding.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
            let counted = answers.last().and_then(|answer| <[u8; 8]>::try_from(&answer.app_metadata[..]).ok());
            counted.map(u64::from_le_bytes).ok_or_else(|| failed(&"no answer"))
        })
    }
}

struct Counting;

type Answer<T> = std::result::Result<T, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Answer<T>> + Send>>;

fn unsupported() -> Status {
    Status::unimplemented("rows are put, and nothing else")
}

#[tonic::async_trait]
impl FlightService for Counting {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoPutStream>> {
        let messages = request.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            rows += batch.map_err(|e| Status::internal(e.to_string()))?.num_rows() as u64;
        }
        let answer = PutResult { app_metadata: rows.to_le_bytes().to_vec().into() };
        Ok(Response::new(Box::pin(stream::iter([Ok(answer)]))))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoExchangeStream>> {
        Err(unsupported())
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

    async fn do_action(&self, _: Request<Action>) -> Answer<Response<Self::DoActionStream>> {
        Err(unsupported())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Response<Self::ListActionsStream>> {
        Err(unsupported())
    }
}
