//! Elements as they travel, and back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;
use arrow_flight::utils::flight_data_to_arrow_batch;
use bytes::Bytes;
use prost::Message;
use qanat_proto::ids::Epoch;
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_proto::rpc::exchange::{Forward, Forwards, Rows, forward};
use qanat_proto::settings::ExchangeCompression;
use qanat_proto::{Error, Result};

use crate::exchange::Pair;
use crate::task::channel::Element;

/// Encodes the elements of one edge.
pub(super) struct Encoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
    /// What goes into the next message.
    next: Forwards,
}

impl Encoder {
    pub(super) fn new(compression: ExchangeCompression) -> Result<Self> {
        let compression = match compression {
            ExchangeCompression::None => None,
            ExchangeCompression::Lz4 => Some(CompressionType::LZ4_FRAME),
        };
        let options = IpcWriteOptions::default().try_with_compression(compression);
        Ok(Self {
            generator: IpcDataGenerator::default(),
            options: options.map_err(|e| Error::internal(format!("compress rows: {e}")))?,
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
            next: Forwards::default(),
        })
    }

    /// The message with the schema of the edge.
    pub(super) fn schema(&mut self, schema: &SchemaRef) -> Bytes {
        let encoded =
            self.generator.schema_to_bytes_with_dictionary_tracker(schema, &mut self.dictionaries, &self.options);
        encoded.ipc_message.into()
    }

    /// Adds an element to those that go next. A message that is complete with it is given back.
    ///
    /// # Errors
    /// If the batch cannot be encoded.
    pub(super) fn add(&mut self, pair: Pair, element: Element) -> Result<Option<FlightData>> {
        let (marker, rows) = match element {
            Element::Batch { rows, sum, bytes } => {
                let hash = sum.hash.0;
                let counted = Rows {
                    rows: sum.rows,
                    hash_high: (hash >> 64) as u64,
                    hash_low: hash as u64,
                    bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                };
                (forward::Element::Rows(counted), Some(rows))
            }
            Element::Watermark(watermark) => (forward::Element::Watermark(watermark), None),
            Element::Idle => (forward::Element::Idle(true), None),
            Element::Active => (forward::Element::Active(true), None),
            Element::Barrier(epoch) => (forward::Element::Barrier(epoch.0), None),
        };
        let element = Some(marker);
        self.next.elements.push(Forward { sender: pair.sender, receiver: pair.receiver, element });
        let Some(rows) = rows else { return Ok(None) };
        let encoded = self.generator.encode(&rows, &mut self.dictionaries, &self.options, &mut self.context);
        let (dictionaries, batch) = encoded.map_err(|e| Error::internal(format!("encode a batch: {e}")))?;
        if !dictionaries.is_empty() {
            return Err(Error::internal("a batch with dictionaries cannot be sent"));
        }
        let mut message = self.finish().unwrap_or_default();
        message.data_header = batch.ipc_message.into();
        message.data_body = batch.arrow_data.into();
        Ok(Some(message))
    }

    /// The message of what was added since the last one. None if nothing was.
    pub(super) fn finish(&mut self) -> Option<FlightData> {
        if self.next.elements.is_empty() {
            return None;
        }
        let forwards = std::mem::take(&mut self.next);
        Some(FlightData { app_metadata: forwards.encode_to_vec().into(), ..FlightData::default() })
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

/// The batch of a message. The library panics at some headers that are not its own.
fn batch(data: &FlightData, schema: &SchemaRef) -> Result<RecordBatch> {
    let wrong =
        |what: &dyn std::fmt::Display| Error::internal(format!("an executor sent a batch that cannot be read: {what}"));
    let read = || flight_data_to_arrow_batch(data, Arc::clone(schema), &HashMap::new());
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| wrong(&e)),
        Err(_) => Err(wrong(&"its header makes no sense")),
    }
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

    #[test]
    fn elements_come_out_as_they_went_in() {
        let rows = batch(&[1, 2, 3]);
        let schema = rows.schema();
        let mut encoder = Encoder::new(ExchangeCompression::None).expect("supported");
        encoder.schema(&schema);
        assert!(encoder.finish().is_none());
        let sum = RowSum { rows: 3, hash: RowHash(u128::MAX - 5) };
        let other = Pair { sender: 0, receiver: 7 };
        for (pair, element) in [(PAIR, Element::Watermark(-5)), (other, Element::Active), (other, Element::Idle)] {
            assert!(encoder.add(pair, element).expect("encodes").is_none());
        }
        let first = encoder.add(PAIR, Element::batch(rows.clone(), sum)).expect("encodes").expect("whole");
        assert!(encoder.add(PAIR, Element::Barrier(Epoch(9))).expect("encodes").is_none());
        let second = encoder.finish().expect("a marker");
        let arrived = decode(&first, &schema).expect("reads");
        assert_eq!(arrived.len(), 4);
        assert!(matches!(arrived[0], Arrived { pair: PAIR, element: Element::Watermark(-5) }));
        assert_eq!(arrived[1].pair, other);
        let Element::Batch { rows: found, sum: counted, bytes } = &arrived[3].element else { panic!("a batch") };
        assert_eq!((found, *counted, *bytes), (&rows, sum, 24));
        let arrived = decode(&second, &schema).expect("reads");
        assert!(matches!(arrived[0].element, Element::Barrier(Epoch(9))));
    }

    #[test]
    fn compressed_rows_are_smaller_and_come_out_the_same() {
        let rows = batch(&[7; 8_192]);
        let encoded = |compression| {
            let mut encoder = Encoder::new(compression).expect("supported");
            let element = Element::batch(rows.clone(), RowSum { rows: 8_192, hash: RowHash::default() });
            encoder.add(PAIR, element).expect("encodes").expect("whole")
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
        let mut encoder = Encoder::new(ExchangeCompression::None).expect("supported");
        let sum = RowSum { rows: 3, hash: RowHash::default() };
        let message = encoder.add(PAIR, Element::batch(rows.clone(), sum)).expect("encodes").expect("whole");
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
