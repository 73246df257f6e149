//! Reads formats whose records are runs of bytes: CSV and JSON lines.
//!
//! [`TextReader`] owns bytes and positions; a [`RecordDecoder`] owns the syntax. The reader hands the
//! decoder a buffer that begins at a record; the decoder finds as many whole records as fit a batch
//! and decodes them. A position is the byte and the row (within the split) of the next record.
//! Nothing here may hold more than one record of `RECORD_BYTES_MAX` and one batch.

use arrow::array::RecordBatch;
use qanat_proto::error::Result;
use qanat_proto::limits::{DEAD_LETTER_BYTES_MAX, RECORD_BYTES_MAX};
use serde::{Deserialize, Serialize};

use super::reader::{BadRecord, Chunk, FormatReader, Read, too_large};
use super::stream::{ByteStream, Fill};
use crate::contract::StopFlag;

/// Bytes of one batch at most (one larger record may stand alone): bounds memory when rows are wide.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Bytes of a plain file that are held against the position at most, and a batch more.
const WINDOW_BYTES: u64 = 1 << 20;

/// The syntax of a text format.
pub trait RecordDecoder: Send {
    /// Looks at the first bytes of the file. None: more are needed. Else how many bytes stand before
    /// the first record (a byte order mark, a header).
    fn begin(&mut self, head: &[u8], at_end: bool) -> Result<Option<usize>>;

    /// Finds whole records in `bytes`, which begins at a record and has only grown since the last
    /// call. Stops when a batch is full, or before a record that begins after `limit`. With `at_end` a
    /// last record without a line end is whole.
    fn scan(&mut self, bytes: &[u8], at_end: bool, limit: usize) -> Scan;

    /// Decodes the records found by the last `scan`, and forgets them. May overwrite the bytes of bad
    /// records.
    fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded>;

    /// Forgets what was scanned.
    fn reset(&mut self);
}

/// What [`RecordDecoder::scan`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub records: usize,
    /// Bytes of these records and of blank lines and comments before and between them.
    pub bytes: usize,
    /// More bytes would not add a record to this batch.
    pub is_full: bool,
}

pub struct Decoded {
    pub rows: RecordBatch,
    /// In order of `record`.
    pub bad: Vec<BadRecord>,
}

/// Where a text split stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPosition {
    /// Of the next record, after decompression.
    pub byte: u64,
    /// Records of the split before it.
    pub row: u64,
    /// CRC32C of the bytes from `since` to it: another file of the same name can be told by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc: Option<u32>,
    /// Where these bytes begin: at 0 in a compressed file, which is read again from there anyway; near the
    /// position in a plain one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub since: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How the first record of a read is found.
pub enum Start {
    /// The stream begins at the beginning of the file.
    FileStart,
    /// The stream begins at a record. Another stream gives the head of the file.
    Record(Box<dyn ByteStream>),
    /// The stream begins anywhere: the first record is behind the next line end.
    Range(Box<dyn ByteStream>),
}

pub struct TextReader {
    stream: Box<dyn ByteStream>,
    decoder: Box<dyn RecordDecoder>,
    start: Option<Start>,
    /// Bytes from `position` on begin at `consumed`.
    buffer: Vec<u8>,
    consumed: usize,
    position: TextPosition,
    /// Records that begin after this byte belong to the next split.
    range_end: Option<u64>,
    /// The checksum of the position begins anew now and then.
    is_windowed: bool,
    at_end: bool,
    /// The stream has nothing for now.
    is_waiting: bool,
    /// It had nothing when it was last asked.
    has_waited: bool,
    /// The stream's error, delivered when the whole records before it are.
    failed: Option<qanat_proto::Error>,
    skipping: Option<Skipping>,
}

/// An over-long record being passed over.
struct Skipping {
    raw: Vec<u8>,
    bytes: u64,
}

impl TextReader {
    pub fn new(
        stream: Box<dyn ByteStream>,
        decoder: Box<dyn RecordDecoder>,
        start: Start,
        position: TextPosition,
        range_end: Option<u64>,
    ) -> Self {
        Self {
            stream,
            decoder,
            start: Some(start),
            buffer: Vec::new(),
            consumed: 0,
            position,
            range_end,
            is_windowed: false,
            at_end: false,
            is_waiting: false,
            has_waited: false,
            failed: None,
            skipping: None,
        }
    }

    /// Lets the checksum of the position cover only what stands near to it.
    #[must_use]
    pub fn windowed(mut self) -> Self {
        self.is_windowed = true;
        self
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.consumed..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.digest(bytes);
        self.pass(bytes);
    }

    fn digest(&mut self, bytes: usize) {
        let TextPosition { byte, crc, since, .. } = &mut self.position;
        if let Some(crc) = crc {
            if self.is_windowed && byte.saturating_sub(*since) >= WINDOW_BYTES {
                (*since, *crc) = (*byte, 0);
            }
            let bytes = self.buffer.get(self.consumed..self.consumed + bytes).unwrap_or_default();
            *crc = crc32c::crc32c_append(*crc, bytes);
        }
    }

    fn pass(&mut self, bytes: usize) {
        self.consumed += bytes;
        self.position.byte += bytes as u64;
    }

    /// Reads on. Errors are kept for later.
    fn fill(&mut self) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.is_waiting = false;
        let (waited, before) = (std::mem::take(&mut self.has_waited), self.buffer.len());
        match self.stream.fill(&mut self.buffer) {
            // Meanwhile the file may have been cut and filled anew.
            Ok(Fill::Bytes(_)) if waited => {
                if let Err(error) = self.check() {
                    self.buffer.truncate(before);
                    self.failed = Some(error);
                }
            }
            Ok(Fill::Bytes(_)) => {}
            Ok(Fill::Pending) => {
                self.is_waiting = true;
                self.has_waited = true;
            }
            Ok(Fill::End) => self.at_end = true,
            Err(error) => self.failed = Some(error),
        }
    }

    /// Holds what was read against what is there.
    fn check(&self) -> Result<()> {
        let TextPosition { byte, crc, since, .. } = self.position;
        crc.map_or(Ok(()), |crc| self.stream.check(since, byte, crc))
    }

    /// Nothing more will come, for ever or for now.
    fn is_dry(&self) -> bool {
        self.at_end || self.is_waiting || self.failed.is_some()
    }

    /// Finds the first record. False: not found yet.
    fn begin(&mut self, stop: &StopFlag) -> Result<bool> {
        while let Some(start) = self.start.take() {
            match start {
                Start::FileStart => {
                    let head = self.buffer.get(self.consumed..).unwrap_or_default();
                    if let Some(skip) = self.decoder.begin(head, self.at_end)? {
                        self.consume(skip);
                        return Ok(true);
                    }
                    self.start = Some(Start::FileStart);
                }
                Start::Record(mut head) => {
                    self.begin_elsewhere(head.as_mut())?;
                    return Ok(true);
                }
                Start::Range(mut head) => {
                    let line_end = memchr::memchr(b'\n', self.pending());
                    // What stands before the line end belongs to the split before.
                    let passed = line_end.map_or_else(|| self.pending().len(), |at| at + 1);
                    self.consume(passed);
                    if line_end.is_some() || self.at_end {
                        self.begin_elsewhere(head.as_mut())?;
                        return Ok(true);
                    }
                    self.start = Some(Start::Range(head));
                }
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if stop.is_set() {
                return Ok(false);
            }
            self.fill();
            if self.is_waiting {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn begin_elsewhere(&mut self, head: &mut dyn ByteStream) -> Result<()> {
        let mut bytes = Vec::new();
        let mut at_end = false;
        while self.decoder.begin(&bytes, at_end)?.is_none() {
            match head.fill(&mut bytes)? {
                Fill::Bytes(_) => {}
                Fill::End | Fill::Pending => at_end = true,
            }
        }
        Ok(())
    }

    /// Decodes what the last scan found.
    fn decode(&mut self, scan: Scan) -> Result<Read> {
        // Decoding may overwrite what it has read.
        self.digest(scan.bytes);
        let bytes = self.buffer.get_mut(self.consumed..).unwrap_or_default();
        let decoded = self.decoder.decode(bytes)?;
        let first = self.position.row;
        self.pass(scan.bytes);
        self.position.row += scan.records as u64;
        Ok(Read::Chunk(Chunk {
            hidden: None,
            rows: decoded.rows,
            first,
            records: scan.records as u64,
            bad: decoded.bad,
            bytes: scan.bytes as u64,
            position: serde_json::json!(self.position),
        }))
    }

    /// Passes over a record that is too large, up to its first line end. None: not there yet.
    fn skip(&mut self, stop: &StopFlag) -> Result<Option<Read>> {
        loop {
            let Some(skipping) = &mut self.skipping else { return Ok(None) };
            let pending = self.buffer.get(self.consumed..).unwrap_or_default();
            let line_end = memchr::memchr(b'\n', pending).map(|at| at + 1);
            let taken = line_end.unwrap_or(pending.len());
            let room = DEAD_LETTER_BYTES_MAX.saturating_sub(skipping.raw.len()).min(taken);
            skipping.raw.extend_from_slice(pending.get(..room).unwrap_or_default());
            skipping.bytes += taken as u64;
            if let Some(crc) = &mut self.position.crc {
                *crc = crc32c::crc32c_append(*crc, pending.get(..taken).unwrap_or_default());
            }
            self.consumed += taken;
            if line_end.is_some() || self.at_end {
                let Some(skipping) = self.skipping.take() else { return Ok(None) };
                let first = self.position.row;
                self.position.byte += skipping.bytes;
                self.position.row += 1;
                let rows = self.decoder.decode(&mut [])?.rows;
                return Ok(Some(Read::Chunk(Chunk {
                    hidden: None,
                    rows,
                    first,
                    records: 1,
                    bad: vec![too_large(0, skipping.raw)],
                    bytes: skipping.bytes,
                    position: serde_json::json!(self.position),
                })));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if stop.is_set() {
                return Ok(Some(Read::Pending));
            }
            self.fill();
            if self.is_waiting {
                return Ok(Some(Read::Pending));
            }
        }
    }
}

impl FormatReader for TextReader {
    fn next(&mut self, stop: &StopFlag) -> Result<Read> {
        if self.start.is_some() && !self.begin(stop)? {
            return Ok(Read::Pending);
        }
        self.is_waiting = false;
        loop {
            if let Some(read) = self.skip(stop)? {
                return Ok(read);
            }
            let left = self.range_end.map_or(Some(u64::MAX), |end| end.checked_sub(self.position.byte));
            let Some(left) = left else { return Ok(Read::End) };
            let limit = usize::try_from(left).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX);
            let bytes = self.buffer.get(self.consumed..).unwrap_or_default();
            let scan = self.decoder.scan(bytes, self.at_end, limit);
            let tail = bytes.len() - scan.bytes;
            if scan.records > 0 && (scan.is_full || self.is_dry() || stop.is_set() || tail > RECORD_BYTES_MAX) {
                return self.decode(scan);
            }
            if scan.records == 0 && scan.bytes > 0 {
                // Blank lines and comments only.
                self.consume(scan.bytes);
                self.decoder.reset();
                continue;
            }
            if tail > RECORD_BYTES_MAX {
                self.decoder.reset();
                self.skipping = Some(Skipping { raw: Vec::new(), bytes: 0 });
                continue;
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.at_end {
                return Ok(Read::End);
            }
            if self.is_waiting || stop.is_set() {
                return Ok(Read::Pending);
            }
            self.fill();
        }
    }
}
