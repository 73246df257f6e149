//! The messages of an Arrow IPC file or stream, decoded one after the other.
//!
//! The arrow crate decodes the columns; the framing is read here, because its readers believe every length
//! that stands in a file, and an allocation that fails ends the whole process. Format:
//! <https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, Message, MessageHeader, root_as_footer, root_as_message};
use qanat_proto::ipc;
use qanat_proto::limits::RECORD_BYTES_MAX;

/// How an IPC file begins; a stream does not.
pub(super) const FILE_MAGIC: &[u8] = b"ARROW1";

/// Bytes of its magic and of the footer's length at the end of a file.
const TRAILER_BYTES: u64 = 10;

/// What stands before the length of a message, since version 0.15 of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Bytes allocated before any of them was read; then twice as many as were read.
const FIRST_BYTES: usize = 16 << 20;

/// Record batches in order.
pub(super) struct Messages {
    source: Source,
    schema: SchemaRef,
    decoder: FileDecoder,
}

enum Source {
    /// The footer says where each batch lies.
    File {
        reader: Box<dyn ReadSeek>,
        blocks: std::vec::IntoIter<Block>,
    },
    Stream(Box<dyn Read + Send>),
}

/// What a file is read from.
pub(super) trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// One message: its metadata with the head, then its body. The block says where the body begins.
struct Framed {
    block: Block,
    bytes: Buffer,
}

impl Messages {
    /// Reads the footer and the dictionaries.
    pub(super) fn of_file(file: impl Read + Seek + Send + 'static) -> Result<Self, ArrowError> {
        let mut reader = BufReader::new(file);
        let end = reader.seek(SeekFrom::End(0))?;
        let at = end.checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("it is too short"))?;
        reader.seek(SeekFrom::Start(at))?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        reader.read_exact(&mut trailer)?;
        let length = read_footer_length(trailer)?;
        let at = at.checked_sub(length as u64).ok_or_else(|| impossible("the footer"))?;
        reader.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        let footer = root_as_footer(&bytes).map_err(|e| damaged(&format!("its footer: {e}")))?;
        let schema = footer.schema().ok_or_else(|| damaged("its footer has no schema"))?;
        let schema = schema_of(schema)?;
        let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
        for block in footer.dictionaries().into_iter().flatten() {
            let dictionary = Framed::at(&mut reader, block)?;
            decoder.read_dictionary(&dictionary.block, &dictionary.bytes)?;
        }
        let blocks = footer.recordBatches().ok_or_else(|| damaged("its footer has no batches"))?;
        let blocks = blocks.iter().copied().collect::<Vec<_>>().into_iter();
        Ok(Self { source: Source::File { reader: Box::new(reader), blocks }, schema, decoder })
    }

    /// Reads the schema.
    pub(super) fn of_stream(mut reader: Box<dyn Read + Send>) -> Result<Self, ArrowError> {
        let other =
            |e: &dyn std::fmt::Display| damaged(&format!("it does not begin like an Arrow stream or file ({e})"));
        let first = match Framed::next(&mut reader) {
            Ok(first) => first.ok_or_else(|| damaged("it is empty"))?,
            Err(ArrowError::ParseError(e)) => return Err(other(&e)),
            Err(e) => return Err(e),
        };
        let message = first.message()?;
        let schema = message.header_as_schema().ok_or_else(|| other(&"no schema"))?;
        let schema = schema_of(schema)?;
        let decoder = FileDecoder::new(Arc::clone(&schema), message.version());
        Ok(Self { source: Source::Stream(reader), schema, decoder })
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Decodes only these columns: ascending indexes.
    pub(super) fn project(mut self, columns: Vec<usize>) -> Self {
        self.decoder = self.decoder.with_projection(columns);
        self
    }

    /// Passes over batches without decoding them.
    pub(super) fn skip(&mut self, batches: usize) -> Result<(), ArrowError> {
        match &mut self.source {
            Source::File { blocks, .. } => blocks.by_ref().take(batches).for_each(drop),
            Source::Stream(_) => {
                for _ in 0..batches {
                    self.next_framed()?;
                }
            }
        }
        Ok(())
    }

    /// The next batch; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(batch) = self.next_framed()? else { return Ok(None) };
        self.decoder.read_record_batch(&batch.block, &batch.bytes)
    }

    /// The next message that is a batch; dictionaries before it are taken in.
    fn next_framed(&mut self) -> Result<Option<Framed>, ArrowError> {
        loop {
            let framed = match &mut self.source {
                Source::File { reader, blocks } => {
                    return blocks.next().map(|block| Framed::at(reader, &block)).transpose();
                }
                Source::Stream(reader) => Framed::next(reader)?,
            };
            match framed {
                Some(dictionary) if dictionary.message()?.header_type() == MessageHeader::DictionaryBatch => {
                    self.decoder.read_dictionary(&dictionary.block, &dictionary.bytes)?;
                }
                other => return Ok(other),
            }
        }
    }
}

impl Framed {
    /// The message of a file at a place of its footer.
    fn at(reader: &mut (impl Read + Seek + ?Sized), block: &Block) -> Result<Self, ArrowError> {
        let place = u64::try_from(block.offset()).map_err(|_| impossible("a batch"))?;
        reader.seek(SeekFrom::Start(place))?;
        let mut bytes = MutableBuffer::new(0);
        append(reader, &mut bytes, i64::from(block.metaDataLength()))?;
        append(reader, &mut bytes, block.bodyLength())?;
        Self { block: *block, bytes: bytes.into() }.checked()
    }

    /// The next message of a stream; None at its end.
    fn next(reader: &mut (impl Read + ?Sized)) -> Result<Option<Self>, ArrowError> {
        let mut bytes = MutableBuffer::new(0);
        let mut head = [0; 4];
        if !begins(reader, &mut head)? {
            return Ok(None);
        }
        bytes.extend_from_slice(&head);
        if head == CONTINUATION {
            reader.read_exact(&mut head)?;
            bytes.extend_from_slice(&head);
        }
        let length = i32::from_le_bytes(head);
        if length == 0 {
            // What compressed the stream put a checksum behind its end.
            io::copy(reader, &mut io::sink())?;
            return Ok(None);
        }
        if usize::try_from(length).is_ok_and(|length| length > RECORD_BYTES_MAX) {
            return Err(impossible("a message"));
        }
        append(reader, &mut bytes, i64::from(length))?;
        let metadata = i32::try_from(bytes.len()).map_err(|_| impossible("a message"))?;
        let body = message_of(&bytes)?.bodyLength();
        append(reader, &mut bytes, body)?;
        Self { block: Block::new(0, metadata, body), bytes: bytes.into() }.checked().map(Some)
    }

    fn message(&self) -> Result<Message<'_>, ArrowError> {
        message_of(&self.bytes)
    }

    /// Refuses a batch whose columns cannot lie in its body.
    fn checked(self) -> Result<Self, ArrowError> {
        let message = self.message()?;
        let dictionary = message.header_as_dictionary_batch();
        if let Some(batch) = message.header_as_record_batch().or_else(|| dictionary?.data()) {
            let body = usize::try_from(self.block.metaDataLength()).ok().and_then(|at| self.bytes.get(at..));
            ipc::check(batch, body.unwrap_or_default())?;
        }
        Ok(self)
    }
}

/// The metadata at the beginning of a message.
fn message_of(bytes: &[u8]) -> Result<Message<'_>, ArrowError> {
    let skip = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
    root_as_message(bytes.get(skip..).unwrap_or_default()).map_err(|e| damaged(&format!("a message: {e}")))
}

fn schema_of(schema: arrow::ipc::Schema<'_>) -> Result<SchemaRef, ArrowError> {
    if !schema.endianness().equals_to_target_endianness() {
        return Err(damaged("its bytes are in the order of another kind of machine"));
    }
    Ok(Arc::new(fb_to_schema(schema)))
}

/// Adds bytes of a length that may be wrong: the memory they take is no more than some times the bytes that are there.
fn append(reader: &mut (impl Read + ?Sized), to: &mut MutableBuffer, length: i64) -> Result<(), ArrowError> {
    let mut missing = usize::try_from(length).map_err(|_| impossible("a message"))?;
    while missing > 0 {
        let have = to.len();
        let step = missing.min(have.max(FIRST_BYTES));
        to.resize(have + step, 0);
        reader.read_exact(to.as_slice_mut().get_mut(have..).unwrap_or_default())?;
        missing -= step;
    }
    Ok(())
}

/// Fills `head`; false at the end of the input.
fn begins(reader: &mut (impl Read + ?Sized), head: &mut [u8; 4]) -> io::Result<bool> {
    let read = loop {
        match reader.read(head) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    reader
        .read_exact(head.get_mut(read..).unwrap_or_default())
        .map(|()| true)
        .or_else(|e| if read == 0 { Ok(false) } else { Err(e) })
}

fn impossible(what: &str) -> ArrowError {
    damaged(&format!("{what} has an impossible length"))
}

fn damaged(text: &str) -> ArrowError {
    ArrowError::ParseError(text.to_owned())
}
