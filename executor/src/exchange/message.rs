//! A message to another executor as it is written: Flight's `FlightData`, whose body stays in the columns' own memory
//! until it is copied to the connection. The generated client wants it in one piece, which is one copy more of every
//! row.

use std::str::FromStr;

use arrow::buffer::Buffer;
use arrow_flight::FlightData;
use bytes::BufMut;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use qanat_proto::limits;
use tonic::client::Grpc;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
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

    pub(super) fn encode(&self, into: &mut impl BufMut) -> Result<(), prost::EncodeError> {
        self.head.encode(into)?;
        if self.body_bytes() > 0 {
            encode_key(BODY, WireType::LengthDelimited, into);
            encode_varint(self.body_bytes() as u64, into);
            self.body.iter().for_each(|piece| into.put_slice(piece));
        }
        Ok(())
    }
}

/// Calls Flight's `DoExchange`.
///
/// # Errors
/// What the call ends with.
pub(super) async fn do_exchange(
    channel: Channel,
    messages: impl tokio_stream::Stream<Item = Message> + Send + 'static,
) -> Result<Streaming<FlightData>, Status> {
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(limits::DATA_MESSAGE_BYTES)
        .max_encoding_message_size(limits::DATA_MESSAGE_BYTES);
    client.ready().await.map_err(|e| Status::unavailable(format!("the service is not ready: {e}")))?;
    let path = PathAndQuery::from_str(DO_EXCHANGE).map_err(|e| Status::internal(e.to_string()))?;
    Ok(client.streaming(Request::new(messages), path, MessageCodec).await?.into_inner())
}

/// Writes [`Message`], and reads what Flight answers.
struct MessageCodec;

struct MessageEncoder;

impl Codec for MessageCodec {
    type Encode = Message;
    type Decode = FlightData;
    type Encoder = MessageEncoder;
    type Decoder = <ProstCodec<FlightData, FlightData> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<FlightData, FlightData>::default().decoder()
    }
}

impl Encoder for MessageEncoder {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(message.head_bytes() + message.body_bytes());
        message.encode(into).map_err(|e| Status::internal(e.to_string()))
    }
}
