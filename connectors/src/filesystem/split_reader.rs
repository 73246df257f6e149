//! One split being read: decoded chunks become source batches, bad records dead letters.

use std::sync::Arc;
use std::time::Duration;

use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::env::Clock;
use serde_json::json;

use super::output::Output;
use super::watched::Watched;
use crate::contract::{DeadLetter, ReadOutcome, SourceBatch, SplitReader, StopFlag};
use crate::format::decode::{FormatOptions, TextSplit};
use crate::format::reader::{BadRecord, Chunk, DecodeRequest, FormatReader, Policy, Read};
use crate::format::stream::FileInput;

/// Where a position holds the identity of its file.
pub(crate) const IDENTITY: &str = "file";

pub(crate) struct FileSplitReader {
    reader: Box<dyn FormatReader>,
    output: Output,
    origin: String,
    first_row: FirstRow,
    policy: Policy,
    clock: Arc<dyn Clock>,
    /// While a followed file has nothing new, it is looked at this often.
    monitor: Option<Duration>,
    /// A file that may not change: what it is stands in every position, so that another one is not taken
    /// for it.
    watched: Option<Watched>,
    /// When a followed file had nothing new.
    dry_since: Option<Duration>,
    /// Decoded, but its row numbers are not known yet.
    held: Option<Chunk>,
}

/// The number of a split's first record within its file. A split that begins in the middle counts the
/// records before it, once, and only when somebody needs the number.
pub(crate) enum FirstRow {
    Known(u64),
    Unknown { format: Box<FormatOptions>, input: Box<FileInput>, from: u64, request: Box<DecodeRequest> },
    Counting { reader: Box<dyn FormatReader>, rows: u64 },
}

impl FirstRow {
    pub(crate) fn unknown(format: FormatOptions, input: FileInput, from: u64, request: &DecodeRequest) -> Self {
        let request =
            DecodeRequest { projection: Vec::new(), policy: Policy::DeadLetter, filter: None, ..request.clone() };
        Self::Unknown { format: Box::new(format), input: Box::new(input), from, request: Box::new(request) }
    }

    /// None: `stop` was set before the count was done; it goes on at the next call.
    fn get(&mut self, stop: &StopFlag) -> Result<Option<u64>> {
        loop {
            match self {
                Self::Known(row) => return Ok(Some(*row)),
                Self::Unknown { format, input, from, request } => {
                    if let Some(rows) = format.rows_before(input, *from)? {
                        *self = Self::Known(rows);
                        continue;
                    }
                    let split = TextSplit { part: Some((0, *from)), position: format.start(None) };
                    let reader = format.open(input, &split, (**request).clone())?;
                    *self = Self::Counting { reader, rows: 0 };
                }
                Self::Counting { reader, rows } => match reader.next(stop)? {
                    Read::Chunk(chunk) => *rows += chunk.records,
                    Read::Pending => return Ok(None),
                    Read::End => *self = Self::Known(*rows),
                },
            }
            if stop.is_set() && !matches!(self, Self::Known(_)) {
                return Ok(None);
            }
        }
    }
}

impl FileSplitReader {
    pub(crate) fn new(
        reader: Box<dyn FormatReader>,
        output: Output,
        origin: String,
        first_row: FirstRow,
        policy: Policy,
        clock: Arc<dyn Clock>,
        monitor: Option<Duration>,
        watched: Option<Watched>,
    ) -> Self {
        Self { reader, output, origin, first_row, policy, clock, monitor, watched, dry_since: None, held: None }
    }

    fn next_chunk(&mut self, stop: &StopFlag) -> Result<Read> {
        if let Some(chunk) = self.held.take() {
            return Ok(Read::Chunk(chunk));
        }
        let now = self.clock.monotonic();
        if let (Some(since), Some(interval)) = (self.dry_since, self.monitor)
            && now.saturating_sub(since) < interval
        {
            return Ok(Read::Pending);
        }
        let read = self.reader.next(stop)?;
        self.dry_since = matches!(read, Read::Pending).then_some(now);
        Ok(read)
    }

    fn dead_letters(&self, bad: Vec<BadRecord>, first: u64) -> Result<Vec<DeadLetter>> {
        if let (Policy::Fail, Some(record)) = (self.policy, bad.first()) {
            let code = if record.is_too_large { Code::RecordTooLarge } else { Code::BadRecord };
            let offset = first + record.record as u64;
            let place = Place::Origin { origin: self.origin.clone(), offset: Some(offset), unit: "row".to_owned() };
            let error = Error::new(code, format!("record {offset} cannot be decoded: {}", record.reason)).at(place);
            return Err(error.hint("'dead-letter.policy' = 'dead_letter', of a run that is started anew, keeps bad records aside and goes on"));
        }
        let letter = |record: BadRecord| DeadLetter {
            origin: self.origin.clone(),
            offset: i64::try_from(first + record.record as u64).unwrap_or(i64::MAX),
            reason: record.reason,
            raw: record.raw,
        };
        Ok(bad.into_iter().map(letter).collect())
    }
}

impl SplitReader for FileSplitReader {
    fn next(&mut self, stop: &StopFlag) -> Result<ReadOutcome> {
        let read = self.next_chunk(stop);
        if let (Some(watched), Ok(Read::Chunk(_) | Read::End) | Err(_)) = (&self.watched, &read) {
            watched.check()?;
        }
        let mut chunk = match read? {
            Read::Chunk(chunk) => chunk,
            Read::Pending => return Ok(ReadOutcome::Pending),
            Read::End => return Ok(ReadOutcome::End),
        };
        let base = if !chunk.bad.is_empty() || self.output.wants_offsets() {
            match self.first_row.get(stop)? {
                Some(row) => row,
                None => {
                    self.held = Some(chunk);
                    return Ok(ReadOutcome::Pending);
                }
            }
        } else {
            0
        };
        let first = base + chunk.first;
        let now_ms = self.clock.now_ms();
        let rows = self.output.rows(&chunk, first, now_ms)?;
        let hidden = self.output.hidden(&chunk, first, now_ms)?;
        let dead_letters = self.dead_letters(std::mem::take(&mut chunk.bad), first)?;
        if let (Some(watched), Some(position)) = (&self.watched, chunk.position.as_object_mut()) {
            position.insert(IDENTITY.to_owned(), json!(watched.identity));
        }
        Ok(ReadOutcome::Batch(SourceBatch {
            rows,
            dead_letters,
            position: chunk.position,
            records: chunk.records,
            bytes: chunk.bytes,
            hidden,
        }))
    }
}
