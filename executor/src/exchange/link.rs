//! Elements as they travel, and back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;
use arrow_flight::utils::flight_data_to_arrow_batch;
use bytes::Bytes;
use prost::Message;
use qanat_proto::ids::Epoch;
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_proto::rpc::exchange::{Forward, Rows, forward};
use qanat_proto::{Error, Result};

use crate::exchange::Pair;
use crate::task::channel::Element;

/// Encodes the elements of one edge.
pub(super) struct Encoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    compression: IpcWriteContext,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            options: IpcWriteOptions::default(),
            dictionaries: DictionaryTracker::new(false),
            compression: IpcWriteContext::default(),
        }
    }

    /// The message with the schema of the edge.
    pub(super) fn schema(&mut self, schema: &SchemaRef) -> Bytes {
        let encoded =
            self.generator.schema_to_bytes_with_dictionary_tracker(schema, &mut self.dictionaries, &self.options);
        encoded.ipc_message.into()
    }

    /// Messages for one element; several if its columns have dictionaries.
    ///
    /// # Errors
    /// If the batch cannot be encoded.
    pub(super) fn element(&mut self, pair: Pair, element: Element, bytes: usize) -> Result<Vec<FlightData>> {
        let mut messages = Vec::with_capacity(1);
        let (marker, rows) = match element {
            Element::Batch { rows, sum } => {
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
        let forward = Forward { sender: pair.sender, receiver: pair.receiver, element: Some(marker) };
        let mut message = FlightData { app_metadata: forward.encode_to_vec().into(), ..FlightData::default() };
        if let Some(rows) = rows {
            let (dictionaries, batch) = self
                .generator
                .encode(&rows, &mut self.dictionaries, &self.options, &mut self.compression)
                .map_err(|e| Error::internal(format!("encode a batch: {e}")))?;
            for dictionary in dictionaries {
                messages.push(FlightData {
                    data_header: dictionary.ipc_message.into(),
                    data_body: dictionary.arrow_data.into(),
                    ..FlightData::default()
                });
            }
            message.data_header = batch.ipc_message.into();
            message.data_body = batch.arrow_data.into();
        }
        messages.push(message);
        Ok(messages)
    }
}

/// One message, read.
pub(super) struct Arrived {
    pub(super) pair: Pair,
    pub(super) element: Element,
    /// What it counts of the channel's credit.
    pub(super) bytes: usize,
}

/// Reads a message of an edge whose rows have `schema`.
///
/// # Errors
/// E0503 for anything that a sender of this version does not send.
pub(super) fn decode(data: &FlightData, schema: &SchemaRef) -> Result<Arrived> {
    let wrong = |what: &str| Error::internal(format!("an executor sent {what}"));
    let forward = Forward::decode(data.app_metadata.clone()).map_err(|_| wrong("a message that cannot be read"))?;
    let pair = Pair { sender: forward.sender, receiver: forward.receiver };
    let (element, bytes) = match forward.element.ok_or_else(|| wrong("an empty message"))? {
        forward::Element::Rows(counted) => {
            let rows: RecordBatch = flight_data_to_arrow_batch(data, Arc::clone(schema), &HashMap::new())
                .map_err(|e| Error::internal(format!("an executor sent a batch that cannot be read: {e}")))?;
            let hash = RowHash((u128::from(counted.hash_high) << 64) | u128::from(counted.hash_low));
            let sum = RowSum { rows: counted.rows, hash };
            (Element::Batch { rows, sum }, counted.bytes as usize)
        }
        forward::Element::Watermark(watermark) => (Element::Watermark(watermark), 0),
        forward::Element::Idle(_) => (Element::Idle, 0),
        forward::Element::Active(_) => (Element::Active, 0),
        forward::Element::Barrier(epoch) => (Element::Barrier(Epoch(epoch)), 0),
    };
    Ok(Arrived { pair, element, bytes })
}
