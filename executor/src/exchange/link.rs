//! Elements as they travel, and back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{CompressionType, root_as_message};
use arrow_flight::FlightData;
use bytes::Bytes;
use prost::Message as _;
use qanat_proto::ids::Epoch;
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_proto::rpc::exchange::{Forward, Forwards, Rows, forward};
use qanat_proto::settings::ExchangeCompression;
use qanat_proto::{Error, Result, ipc, limits};

use crate::exchange::message::Message;
use crate::exchange::{Pair, pieces};
use crate::task::channel::Element;
use crate::task::coalesce::{is_worth_a_message, join};

/// What any column of Arrow asks of the place where its values stand.
const ALIGNMENT: usize = 16;

/// What goes next.
#[derive(Debug)]
pub(super) enum Sent {
    /// Batches that arrive as one. They count so many bytes.
    Rows { pieces: Vec<RecordBatch>, sum: RowSum, bytes: usize },
    /// A watermark or another marker.
    Marker(Element),
}

impl Sent {
    /// Whether it does not wait for others to go with it.
    pub(super) fn is_worth_a_message(&self) -> bool {
        matches!(self, Self::Rows { pieces, .. }
            if is_worth_a_message(pieces.iter().map(RecordBatch::num_rows).sum()))
    }
}

impl From<Element> for Sent {
    fn from(element: Element) -> Self {
        match element {
            Element::Batch { rows, sum, bytes } => Self::Rows { pieces: vec![rows], sum, bytes },
            marker => Self::Marker(marker),
        }
    }
}

/// A body of fewer bytes is copied out of what was read from the connection.
const SHARED_BYTES: usize = 32 << 10;

/// Encodes the elements of one edge.
pub(super) struct Encoder {
    stream: StreamEncoder,
    /// Several batches need not be joined first.
    is_direct: bool,
    /// The header of the message that tells it.
    pub(super) schema: Bytes,
    /// What goes into the next message.
    next: Forwards,
}

/// What Arrow's stream format writes in front of a message's header: a mark, and the header's padded length.
const PREFIX: usize = 8;

impl Encoder {
    /// For an edge whose rows have `schema`.
    ///
    /// # Errors
    /// For a schema that does not travel.
    pub(super) fn new(schema: &SchemaRef, compression: ExchangeCompression) -> Result<Self> {
        let failed = |e: ArrowError| Error::internal(format!("encode rows: {e}"));
        let mut stream = StreamEncoder::try_new_with_options(schema, options(compression)?).map_err(failed)?;
        // The first batch has the schema in front of it.
        let pieces = stream.encode(&RecordBatch::new_empty(Arc::clone(schema))).map_err(failed)?;
        let told = match pieces.as_slice() {
            [prefix, told, ..] if prefix.len() == PREFIX => Bytes::copy_from_slice(told),
            _ => return Err(Error::internal("a schema was encoded in an unknown form")),
        };
        let types = schema.fields().iter().map(|field| field.data_type());
        let is_direct = compression == ExchangeCompression::None && pieces::are_direct(types);
        Ok(Self { stream, is_direct, schema: told, next: Forwards::default() })
    }

    /// Adds an element to those that go next. A message that is complete with it is given back.
    ///
    /// # Errors
    /// If the batch cannot be encoded.
    pub(super) fn add(&mut self, pair: Pair, sent: Sent) -> Result<Option<Message>> {
        let (element, rows) = match sent {
            Sent::Rows { pieces, sum, bytes } => {
                let hash = sum.hash.0;
                let counted = Rows {
                    rows: sum.rows,
                    hash_high: (hash >> 64) as u64,
                    hash_low: hash as u64,
                    bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                };
                (forward::Element::Rows(counted), pieces)
            }
            Sent::Marker(Element::Watermark(watermark)) => (forward::Element::Watermark(watermark), Vec::new()),
            Sent::Marker(Element::Idle) => (forward::Element::Idle(true), Vec::new()),
            Sent::Marker(Element::Active) => (forward::Element::Active(true), Vec::new()),
            Sent::Marker(Element::Barrier(epoch)) => (forward::Element::Barrier(epoch.0), Vec::new()),
            Sent::Marker(Element::Batch { .. }) => return Err(Error::internal("rows are no marker")),
        };
        let element = Some(element);
        self.next.elements.push(Forward { sender: pair.sender, receiver: pair.receiver, element });
        let mut message = match rows.as_slice() {
            [] => return Ok(None),
            [only] => self.encode(only)?,
            several if self.is_direct => pieces::message_of(several)?,
            [first, ..] => self.encode(&join(first.schema_ref(), &rows)?)?,
        };
        align(&mut message, std::mem::take(&mut self.next));
        let bytes = message.head_bytes() + message.body_bytes();
        if bytes > limits::DATA_MESSAGE_BYTES {
            let most = limits::DATA_MESSAGE_BYTES;
            return Err(Error::internal(format!("a batch of {bytes} bytes cannot be sent: {most} can")));
        }
        Ok(Some(message))
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<Message> {
        message_of(self.stream.encode(rows).map_err(|e| Error::internal(format!("encode a batch: {e}")))?)
    }

    /// The message of what was added since the last one. None if nothing was.
    pub(super) fn finish(&mut self) -> Option<Message> {
        if self.next.elements.is_empty() {
            return None;
        }
        let forwards = std::mem::take(&mut self.next);
        Some(FlightData { app_metadata: forwards.encode_to_vec().into(), ..FlightData::default() }.into())
    }
}

fn options(compression: ExchangeCompression) -> Result<IpcWriteOptions> {
    let compression = match compression {
        ExchangeCompression::None => None,
        ExchangeCompression::Lz4 => Some(CompressionType::LZ4_FRAME),
    };
    let options = IpcWriteOptions::default().try_with_compression(compression);
    options.map_err(|e| Error::internal(format!("compress rows: {e}")))
}

/// Flight's form of a batch that is in the pieces of Arrow's stream format: prefix, header, padding, body.
fn message_of(pieces: Vec<Buffer>) -> Result<Message> {
    let wrong = || Error::internal("a batch was encoded in an unknown form");
    let mut pieces = pieces.into_iter();
    let prefix = pieces.next().filter(|prefix| prefix.len() == PREFIX).ok_or_else(wrong)?;
    let header = pieces.next().ok_or_else(wrong)?;
    let padded = prefix.get(4..).and_then(|bytes| bytes.try_into().ok()).map(i32::from_le_bytes);
    let padded = padded.and_then(|padded| usize::try_from(padded).ok()).ok_or_else(wrong)?;
    if padded > header.len() {
        pieces.next().filter(|padding| header.len() + padding.len() == padded).ok_or_else(wrong)?;
    }
    let is_batch = |header: &Buffer| Some(root_as_message(header).ok()?.header_as_record_batch()?.length());
    if is_batch(&header).is_none() {
        return Err(Error::internal("a batch with dictionaries cannot be sent"));
    }
    let head = FlightData { data_header: Bytes::copy_from_slice(&header), ..FlightData::default() };
    Ok(Message { head, body: pieces.collect() })
}

/// Gives a message its elements, padded so that its body begins at a multiple of [`ALIGNMENT`] bytes. The receiver's
/// buffer mostly begins with the message: its columns need no copy to where they may stand in memory.
fn align(message: &mut Message, mut forwards: Forwards) {
    // The padding's own tag and length.
    const FIELD: usize = 2;
    message.head.app_metadata = forwards.encode_to_vec().into();
    // A second time if a length has become one byte longer.
    for _ in 0..2 {
        let beyond = message.head_bytes() % ALIGNMENT;
        if beyond == 0 {
            return;
        }
        let padding = match forwards.padding.len() {
            0 => 2 * ALIGNMENT - FIELD - beyond,
            padding => padding + ALIGNMENT - beyond,
        };
        forwards.padding = vec![0; padding];
        message.head.app_metadata = forwards.encode_to_vec().into();
    }
}

/// One message, read.
pub(super) struct Arrived {
    pub(super) pair: Pair,
    pub(super) element: Element,
}

/// Reads a message of an edge whose rows have `schema`.
///
/// # Errors
/// E0503 for anything that a sender of this version does not send.
pub(super) fn decode(data: &FlightData, schema: &SchemaRef) -> Result<Vec<Arrived>> {
    let wrong = |what: &str| Error::internal(format!("an executor sent {what}"));
    let forwards = Forwards::decode(data.app_metadata.clone()).map_err(|_| wrong("a message that cannot be read"))?;
    let mut has_rows = false;
    let mut arrived = Vec::with_capacity(forwards.elements.len());
    for forward in forwards.elements {
        let pair = Pair { sender: forward.sender, receiver: forward.receiver };
        let element = match forward.element.ok_or_else(|| wrong("an empty element"))? {
            forward::Element::Rows(_) if std::mem::replace(&mut has_rows, true) => {
                return Err(wrong("two batches in one message"));
            }
            forward::Element::Rows(counted) => {
                let rows = batch(data, schema)?;
                let hash = RowHash((u128::from(counted.hash_high) << 64) | u128::from(counted.hash_low));
                let sum = RowSum { rows: counted.rows, hash };
                Element::Batch { rows, sum, bytes: counted.bytes as usize }
            }
            forward::Element::Watermark(watermark) => Element::Watermark(watermark),
            forward::Element::Idle(_) => Element::Idle,
            forward::Element::Active(_) => Element::Active,
            forward::Element::Barrier(epoch) => Element::Barrier(Epoch(epoch)),
        };
        arrived.push(Arrived { pair, element });
    }
    Ok(arrived)
}

/// What stands in a message, by channel: [`decode`] for whoever tests it from outside.
///
/// # Errors
/// As [`decode`].
#[doc(hidden)]
pub fn elements(message: &FlightData, schema: &SchemaRef) -> Result<Vec<(Pair, Element)>> {
    Ok(decode(message, schema)?.into_iter().map(|arrived| (arrived.pair, arrived.element)).collect())
}

/// The messages that carry these elements, as they arrive.
///
/// # Errors
/// If one cannot be encoded.
#[doc(hidden)]
pub fn messages(
    elements: Vec<(Pair, Element)>,
    schema: &SchemaRef,
    compression: ExchangeCompression,
) -> Result<Vec<FlightData>> {
    let mut encoder = Encoder::new(schema, compression)?;
    let mut messages = Vec::new();
    for (pair, element) in elements {
        messages.extend(encoder.add(pair, element.into())?);
    }
    messages.extend(encoder.finish());
    let arrive = |message: Message| {
        let body: Vec<u8> = message.body.iter().flat_map(|piece| piece.as_slice()).copied().collect();
        FlightData { data_body: body.into(), ..message.head }
    };
    Ok(messages.into_iter().map(arrive).collect())
}

/// The batch of a message.
fn batch(data: &FlightData, schema: &SchemaRef) -> Result<RecordBatch> {
    let wrong =
        |what: &dyn std::fmt::Display| Error::internal(format!("an executor sent a batch that cannot be read: {what}"));
    let read = || {
        let message = root_as_message(&data.data_header).map_err(|e| ArrowError::ParseError(e.to_string()))?;
        let header = message.header_as_record_batch();
        let header = header.ok_or_else(|| ArrowError::ParseError("not a batch".to_owned()))?;
        ipc::check(header, &data.data_body)?;
        // Its columns share the message's memory where it is aligned for them, and are copied where it is not. So is a
        // small body: it shares its memory with what was read after it, and may be kept for longer.
        let body = match data.data_body.len() {
            ..SHARED_BYTES => Buffer::from(data.data_body.as_ref()),
            _ => Buffer::from(data.data_body.clone()),
        };
        read_record_batch(&body, header, Arc::clone(schema), &HashMap::new(), None, &message.version())
    };
    ipc::guarded(read).map_err(|e| wrong(&e))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    const PAIR: Pair = Pair { sender: 1, receiver: 2 };

    fn batch(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("n", column)]).expect("one column")
    }

    fn encoder(schema: &SchemaRef, compression: ExchangeCompression) -> Encoder {
        Encoder::new(schema, compression).expect("supported")
    }

    /// As it arrives.
    fn sent(message: Message) -> FlightData {
        let bytes = message.head_bytes() + message.body_bytes();
        let chunks: Vec<u8> = message.into_chunks().into_iter().flatten().collect();
        let (prefix, message) = chunks.split_at(5);
        assert_eq!((prefix[0], &prefix[1..]), (0, &u32::try_from(bytes).expect("fits").to_be_bytes()[..]));
        assert_eq!(message.len(), bytes);
        FlightData::decode(Bytes::copy_from_slice(message)).expect("reads")
    }

    #[test]
    fn elements_come_out_as_they_went_in() {
        let rows = batch(&[1, 2, 3]);
        let schema = rows.schema();
        let mut encoder = encoder(&schema, ExchangeCompression::None);
        assert!(encoder.finish().is_none());
        let sum = RowSum { rows: 3, hash: RowHash(u128::MAX - 5) };
        let other = Pair { sender: 0, receiver: 7 };
        for (pair, element) in [(PAIR, Element::Watermark(-5)), (other, Element::Active), (other, Element::Idle)] {
            assert!(encoder.add(pair, element.into()).expect("encodes").is_none());
        }
        let first = encoder.add(PAIR, Element::batch(rows.clone(), sum).into()).expect("encodes").expect("whole");
        assert!(encoder.add(PAIR, Element::Barrier(Epoch(9)).into()).expect("encodes").is_none());
        let second = encoder.finish().expect("a marker");
        let arrived = decode(&sent(first), &schema).expect("reads");
        assert_eq!(arrived.len(), 4);
        assert!(matches!(arrived[0], Arrived { pair: PAIR, element: Element::Watermark(-5) }));
        assert_eq!(arrived[1].pair, other);
        let Element::Batch { rows: found, sum: counted, bytes } = &arrived[3].element else { panic!("a batch") };
        assert_eq!((found, *counted, *bytes), (&rows, sum, 24));
        let arrived = decode(&sent(second), &schema).expect("reads");
        assert!(matches!(arrived[0].element, Element::Barrier(Epoch(9))));
    }

    #[test]
    fn rows_stand_where_they_need_no_copy() {
        let schema = batch(&[]).schema();
        let mut encoder = encoder(&schema, ExchangeCompression::None);
        for (markers, rows) in (0..200).flat_map(|markers| [1, 100, 5_000].map(|rows| (markers, rows))) {
            for marker in 0..markers {
                assert!(encoder.add(PAIR, Element::Watermark(1 << (marker % 60)).into()).expect("encodes").is_none());
            }
            let sum = RowSum { rows, hash: RowHash(1 << (rows % 100)) };
            let element = Element::batch(batch(&vec![7; rows as usize]), sum);
            let message = encoder.add(PAIR, element.into()).expect("encodes").expect("whole");
            assert_eq!(message.head_bytes() % ALIGNMENT, 0, "{markers} {rows}");
            let message = sent(message);
            let arrived = decode(&message, &schema).expect("reads");
            assert_eq!(arrived.len(), markers + 1);
            let Some(Arrived { element: Element::Batch { rows, .. }, .. }) = arrived.last() else { panic!("a batch") };
            let is_aligned = message.data_body.as_ptr().align_offset(8) == 0;
            let is_small = message.data_body.len() < SHARED_BYTES;
            let is_shared = message.data_body.as_ptr_range().contains(&rows.column(0).to_data().buffers()[0].as_ptr());
            assert_eq!(is_shared, is_aligned && !is_small, "{markers} {}", rows.num_rows());
        }
    }

    #[test]
    fn compressed_rows_are_smaller_and_come_out_the_same() {
        let rows = batch(&[7; 8_192]);
        let encoded = |compression| {
            let mut encoder = encoder(&rows.schema(), compression);
            let element = Element::batch(rows.clone(), RowSum { rows: 8_192, hash: RowHash::default() });
            sent(encoder.add(PAIR, element.into()).expect("encodes").expect("whole"))
        };
        let [plain, compressed] = [ExchangeCompression::None, ExchangeCompression::Lz4].map(encoded);
        assert!(compressed.data_body.len() * 10 < plain.data_body.len(), "{} bytes", compressed.data_body.len());
        for message in [plain, compressed] {
            let arrived = decode(&message, &rows.schema()).expect("reads");
            let [Arrived { element: Element::Batch { rows: found, .. }, .. }] = arrived.as_slice() else {
                panic!("{} elements", arrived.len())
            };
            assert_eq!(found, &rows);
        }
    }

    #[test]
    fn what_nobody_sends_is_refused() {
        let rows = batch(&[1, 2, 3]);
        let mut encoder = encoder(&rows.schema(), ExchangeCompression::None);
        let sum = RowSum { rows: 3, hash: RowHash::default() };
        let message =
            sent(encoder.add(PAIR, Element::batch(rows.clone(), sum).into()).expect("encodes").expect("whole"));
        // Each byte of what stands before the batch, changed: an error or another message, and no panic.
        let schema = rows.schema();
        for index in 0..message.data_header.len() + message.app_metadata.len() {
            let mut message = message.clone();
            let flip = |bytes: &Bytes, at: usize| {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= 0x55;
                Bytes::from(bytes)
            };
            match index.checked_sub(message.data_header.len()) {
                None => message.data_header = flip(&message.data_header, index),
                Some(at) => message.app_metadata = flip(&message.app_metadata, at),
            }
            let _ = decode(&message, &schema);
        }
        let cut = FlightData { data_body: message.data_body.slice(..4), ..message };
        assert!(decode(&cut, &schema).is_err());
        assert!(decode(&FlightData::default(), &schema).expect("nothing").is_empty());
    }
}
