//! Arrow batches to frames and back.
//!
//! A frame's payload is a piece of an Arrow IPC stream: the dictionary batches its columns need, if
//! any, then one record batch. The schema stands once, in the segment's header: a frame of one row
//! would otherwise be mostly schema. Segment schema + payload is a whole IPC stream for any reader.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::ipc;
use qanat_proto::limits::LOG_FRAME_BYTES_MAX;

use super::codec::{long, u32_at};
use super::frame::{
    EventTime, FRAME_ALIGN, FrameKind, HANDLE_BYTES_MAX, WriterStamp, extend_checksum, finish_frame, header_length,
    payload_crc,
};

const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Frames of one run, complete but for their place.
#[derive(Debug, Default)]
pub(super) struct EncodedRun {
    pub frames: Vec<Vec<u8>>,
    pub rows: u64,
    pub bytes: u64,
    pub checksum: u32,
}

impl EncodedRun {
    pub(super) fn push(&mut self, frame: Vec<u8>, rows: u64) {
        self.rows += rows;
        self.bytes += long(frame.len());
        self.checksum = extend_checksum(self.checksum, payload_crc(&frame));
        self.frames.push(frame);
    }
}

/// The schema of a topic, and its IPC message.
#[derive(Clone, Debug)]
pub(super) struct TopicSchema {
    pub schema: SchemaRef,
    pub message: Arc<[u8]>,
}

impl TopicSchema {
    pub(super) fn new(schema: &Schema) -> Result<Self> {
        let mut message = Vec::new();
        for part in
            StreamEncoder::try_new_with_options(schema, options()?).and_then(StreamEncoder::finish).map_err(encoding)?
        {
            message.extend_from_slice(&part);
        }
        message.truncate(message_length(&message));
        Ok(Self { schema: Arc::new(schema.clone()), message: message.into() })
    }

    pub(super) fn parse(message: &[u8]) -> Result<Self> {
        let mut decoder = decoder_of(message)?;
        // The decoder takes the schema in once it sees that something follows it.
        ipc::guarded(|| decoder.decode(&mut Buffer::from(END_OF_STREAM.as_slice()))).map_err(decoding)?;
        let schema =
            decoder.schema().ok_or_else(|| Error::new(Code::CorruptLog, "a topic's schema is no Arrow schema"))?;
        Ok(Self { schema, message: message.into() })
    }

    /// Whether rows of `other` may be appended: same names and types in the same order, and no nulls
    /// where the topic has none.
    pub(super) fn accepts(&self, other: &Schema) -> bool {
        let (ours, theirs) = (self.schema.fields(), other.fields());
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(our, their)| {
                our.name() == their.name()
                    && our.data_type() == their.data_type()
                    && (our.is_nullable() || !their.is_nullable())
            })
    }

    /// Encodes a batch as frames of one run. A batch too large for one frame becomes several.
    ///
    /// # Errors
    /// E0211 if a single row is larger than a frame may be.
    pub(super) fn encode(
        &self,
        batch: &RecordBatch,
        event_time: Option<EventTime>,
        writer: &WriterStamp,
        handle: &str,
    ) -> Result<EncodedRun> {
        if handle.len() > HANDLE_BYTES_MAX {
            return Err(Error::internal(format!("a log handle of {} bytes", handle.len())));
        }
        let mut run = EncodedRun::default();
        let mut rest = vec![batch.clone()];
        while let Some(batch) = rest.pop() {
            if let Some(frame) = self.encode_frame(&batch, event_time, writer, handle)? {
                run.push(frame, long(batch.num_rows()));
            } else if batch.num_rows() > 1 {
                let half = batch.num_rows() / 2;
                rest.push(batch.slice(half, batch.num_rows() - half));
                rest.push(batch.slice(0, half));
            } else {
                return Err(Error::new(
                    Code::RecordTooLarge,
                    format!("a row is larger than the {LOG_FRAME_BYTES_MAX} bytes that a log frame may have"),
                ));
            }
        }
        Ok(run)
    }

    /// None: larger than a frame may be.
    fn encode_frame(
        &self,
        batch: &RecordBatch,
        event_time: Option<EventTime>,
        writer: &WriterStamp,
        handle: &str,
    ) -> Result<Option<Vec<u8>>> {
        // The decoder's schema is the topic's: field metadata of the caller must not slip into frames.
        let columns = batch.columns().iter().map(compact_views).collect();
        let row_count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &row_count).map_err(encoding)?;
        let mut encoder = StreamEncoder::try_new_with_options(&self.schema, options()?).map_err(encoding)?;
        let parts = encoder.encode(&batch).map_err(encoding)?;
        let header = header_length(handle);
        let total: usize = parts.iter().map(Buffer::len).sum();
        let Some(payload) = total.checked_sub(self.message.len()) else {
            return Err(Error::internal("an Arrow stream is shorter than its schema"));
        };
        if header + payload + FRAME_ALIGN > LOG_FRAME_BYTES_MAX {
            return Ok(None);
        }
        let mut frame = Vec::with_capacity(header + payload + FRAME_ALIGN);
        frame.resize(header, 0);
        let mut skip = self.message.len();
        for part in &parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            frame.extend_from_slice(part.get(skipped..).unwrap_or_default());
        }
        let rows = u32::try_from(batch.num_rows()).map_err(|_| Error::internal("a batch of 2^32 rows"))?;
        finish_frame(&mut frame, FrameKind::Data, rows, event_time, writer, handle);
        Ok(Some(frame))
    }
}

/// Decodes the payloads of one segment.
pub(super) struct PayloadDecoder(StreamDecoder);

impl PayloadDecoder {
    pub(super) fn new(schema_message: &[u8]) -> Result<Self> {
        Ok(Self(decoder_of(schema_message)?))
    }

    /// The batch of one payload; its columns point into `payload` where alignment allows.
    pub(super) fn decode(&mut self, payload: Buffer) -> Result<RecordBatch> {
        let decoded = ipc::check_all(&payload).and_then(|()| ipc::guarded(|| self.next(payload)));
        decoded.map_err(|error| {
            // What stopped in the middle of a message knows nothing of the next one.
            self.0 = StreamDecoder::new();
            decoding(error)
        })
    }

    fn next(&mut self, mut payload: Buffer) -> Result<RecordBatch, ArrowError> {
        while !payload.is_empty() {
            if let Some(batch) = self.0.decode(&mut payload)? {
                return Ok(batch);
            }
        }
        // A batch whose columns have no bytes at all has no body: one more look finishes it.
        let mut end = Buffer::from(END_OF_STREAM.as_slice());
        self.0.decode(&mut end)?.ok_or_else(|| ArrowError::IpcError("no batch".into()))
    }
}

/// View columns may point into far more bytes than they use, and a frame would carry all of them.
fn compact_views(column: &ArrayRef) -> ArrayRef {
    let wasteful = |held: usize, used: usize| held > 4096 && held / 2 > used;
    let held = |buffers: &[Buffer]| buffers.iter().map(Buffer::len).sum::<usize>();
    if let Some(views) = column.as_string_view_opt() {
        if wasteful(held(views.data_buffers()), views.total_buffer_bytes_used()) {
            return Arc::new(views.gc());
        }
    } else if let Some(views) = column.as_binary_view_opt()
        && wasteful(held(views.data_buffers()), views.total_buffer_bytes_used())
    {
        return Arc::new(views.gc());
    }
    Arc::clone(column)
}

/// A decoder that knows the schema. An empty message (a topic without schema yet) gives a decoder that
/// refuses every batch.
fn decoder_of(schema_message: &[u8]) -> Result<StreamDecoder> {
    let mut decoder = StreamDecoder::new();
    ipc::check_all(schema_message).map_err(decoding)?;
    ipc::guarded(|| decoder.decode(&mut Buffer::from(schema_message))).map_err(decoding)?;
    Ok(decoder)
}

/// Bytes of the encapsulated message without body at the start of `bytes`.
fn message_length(bytes: &[u8]) -> usize {
    8 + u32_at(bytes, 4) as usize
}

fn options() -> Result<IpcWriteOptions> {
    IpcWriteOptions::try_new(FRAME_ALIGN, false, MetadataVersion::V5).map_err(encoding)
}

fn encoding(error: ArrowError) -> Error {
    Error::new(Code::Encode, format!("could not encode rows for the log: {error}"))
}

fn decoding(error: ArrowError) -> Error {
    Error::new(Code::CorruptLog, format!("could not decode rows of the log: {error}"))
}
