//! A message to another executor as it is written: Flight's `FlightData`, whose body goes to the connection from the
//! columns' own memory. The generated client wants it in one piece, which is one copy more of every row, and copies that
//! once more into what it writes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use arrow::buffer::Buffer;
use arrow_flight::FlightData;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use qanat_proto::limits;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming, body};
use tonic_prost::ProstCodec;

/// Flight's field for the body: the last one of a message.
const BODY: u32 = 1_000;
const DO_EXCHANGE: &str = "/arrow.flight.protocol.FlightService/DoExchange";

/// One message.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// All but the body.
    pub(super) head: FlightData,
    /// The body, in pieces.
    pub(super) body: Vec<Buffer>,
}

impl From<FlightData> for Message {
    fn from(head: FlightData) -> Self {
        Self { head, body: Vec::new() }
    }
}

impl Message {
    pub(super) fn body_bytes(&self) -> usize {
        self.body.iter().map(Buffer::len).sum()
    }

    /// Bytes in front of the body.
    pub(super) fn head_bytes(&self) -> usize {
        let body = match self.body_bytes() {
            0 => 0,
            bytes => key_len(BODY) + encoded_len_varint(bytes as u64),
        };
        self.head.encoded_len() + body
    }

    /// As it goes: what gRPC puts in front of a message, the message, and large pieces of its body where they stand.
    pub(super) fn into_chunks(self) -> VecDeque<Bytes> {
        let (head, body) = (self.head_bytes(), self.body_bytes());
        let small: usize = self.body.iter().map(Buffer::len).filter(|bytes| *bytes < LARGE_BYTES).sum();
        // Small pieces stand between large ones: all of them share one allocation, which is handed out bit by bit.
        let mut open = BytesMut::with_capacity(PREFIX + head + small);
        open.put_u8(UNCOMPRESSED);
        // At most `limits::DATA_MESSAGE_BYTES`, see `Encoder::add`.
        open.put_u32((head + body) as u32);
        self.head.encode_raw(&mut open);
        if body > 0 {
            encode_key(BODY, WireType::LengthDelimited, &mut open);
            encode_varint(body as u64, &mut open);
        }
        let mut chunks = VecDeque::new();
        for piece in self.body {
            if piece.len() < LARGE_BYTES {
                open.put_slice(&piece);
            } else {
                chunks.push_back(open.split().freeze());
                chunks.push_back(Bytes::from_owner(Piece(piece)));
            }
        }
        chunks.push_back(open.freeze());
        chunks.retain(|chunk| !chunk.is_empty());
        chunks
    }
}

/// What gRPC puts in front of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const UNCOMPRESSED: u8 = 0;
/// A piece of so many bytes goes from where it stands. Smaller ones are cheaper to copy next to each other.
const LARGE_BYTES: usize = 16 << 10;

struct Piece(Buffer);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Calls Flight's `DoExchange`.
///
/// # Errors
/// What the call ends with.
pub(super) async fn do_exchange(
    channel: Channel,
    messages: mpsc::Receiver<Message>,
) -> Result<Streaming<FlightData>, Status> {
    let body = Body { messages, chunks: VecDeque::new() };
    let mut client =
        Grpc::new(WithBody { channel, body: Some(body) }).max_decoding_message_size(limits::DATA_MESSAGE_BYTES);
    client.ready().await.map_err(|e| Status::unavailable(format!("the service is not ready: {e}")))?;
    let path = PathAndQuery::from_str(DO_EXCHANGE).map_err(|e| Status::internal(e.to_string()))?;
    let nothing = Request::new(tokio_stream::empty::<FlightData>());
    Ok(client.streaming(nothing, path, ProstCodec::<FlightData, FlightData>::default()).await?.into_inner())
}

/// The messages of one call.
struct Body {
    messages: mpsc::Receiver<Message>,
    /// Of the message that is on its way.
    chunks: VecDeque<Bytes>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            match std::task::ready!(self.messages.poll_recv(context)) {
                Some(message) => self.chunks = message.into_chunks(),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// A channel whose one call has a body of its own. All else about the call is the library's.
struct WithBody {
    channel: Channel,
    body: Option<Body>,
}

impl Service<http::Request<body::Body>> for WithBody {
    type Response = <Channel as Service<http::Request<body::Body>>>::Response;
    type Error = <Channel as Service<http::Request<body::Body>>>::Error;
    type Future = <Channel as Service<http::Request<body::Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<body::Body>) -> Self::Future {
        let own = self.body.take();
        self.channel.call(request.map(|given| own.map_or(given, body::Body::new)))
    }
}
