//! Reads a partition in offset order, from any offset, for as long as one likes.
//!
//! A reader sees only acknowledged rows, and so only whole runs. Every frame is checked against its
//! checksums, its place and its neighbours before a byte of it is used (I9). At the end it waits to be
//! woken; it never polls the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::{Buffer, MutableBuffer};
use qanat_proto::error::{Code, Error, Result};

use super::codec::{long, short};
use super::frame::{EventTime, FRAME_FIXED, FrameHeader, FrameKind, WriterStamp};
use super::partition::{Access, Partition, offset_gone};
use super::payload::PayloadDecoder;
use super::scan::RunCheck;
use super::segment::{Extent, Segment, damaged, read_exact};
use crate::env::File;

/// Bytes per read: enough to keep a disk busy, few enough to stay in the processor's cache.
const PIECE: usize = 1 << 20;
/// Buffers kept for reuse while batches still point into others.
const SPARE_MAX: usize = 4;
/// How long a waiting reader goes without asking whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(20);
/// How often a partition that another process appends to is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Rows of one frame.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// Offset of the first row; the others follow without gap.
    pub first_offset: u64,
    pub rows: RecordBatch,
    pub event_time: Option<EventTime>,
    /// When it was appended, milliseconds since 1970 UTC. For staged rows: when they were staged.
    pub append_ms: i64,
    pub writer: WriterStamp,
    /// Rows that are prepared but not committed: the name of their handle. Their offsets count from 0.
    pub staged: Option<String>,
}

/// A checked frame, not decoded.
#[derive(Clone, Debug)]
pub struct LogFrame {
    pub first_offset: u64,
    pub rows: u32,
    pub event_time: Option<EventTime>,
    pub append_ms: i64,
    pub writer: WriterStamp,
    /// Part of an Arrow IPC stream without its schema.
    pub payload: Buffer,
}

/// Reads one partition. See the module's documentation.
pub struct LogReader {
    partition: Arc<Partition>,
    next_offset: u64,
    at: Option<Cursor>,
    spare: VecDeque<Buffer>,
}

/// A place in a segment.
struct Cursor {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Of the next frame.
    position: u64,
    /// Offset that frame must have. None: after a jump by the index.
    offset: Option<u64>,
    run: Option<RunCheck>,
    limit: Extent,
    bytes: Buffer,
    bytes_at: u64,
    decoder: PayloadDecoder,
}

impl Partition {
    /// Reads from `offset` on; the end offset waits for the next append.
    ///
    /// # Errors
    /// E0213 if the offset is gone or past the end.
    pub fn read_from(self: &Arc<Self>, offset: u64) -> Result<LogReader> {
        self.segment_of(offset)?;
        Ok(LogReader { partition: Arc::clone(self), next_offset: offset, at: None, spare: VecDeque::new() })
    }
}

impl LogReader {
    /// Offset of the next row it will give: where to go on after what it gave so far.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The next rows, or None if there are none yet. Never waits.
    ///
    /// # Errors
    /// E0304 with file and position if bytes are damaged; E0213 if retention overtook the reader.
    pub fn poll(&mut self) -> Result<Option<LogBatch>> {
        let from = self.next_offset;
        let Some(frame) = self.poll_frame()? else { return Ok(None) };
        let Some(cursor) = &mut self.at else { return Err(Error::internal("a frame without a segment")) };
        let position = cursor.position;
        let rows = cursor
            .decoder
            .decode(frame.payload)
            .map_err(|e| damaged(&cursor.segment.path, position, &format!("before this place: {}", e.message())))?;
        if rows.num_rows() != frame.rows as usize {
            return Err(damaged(&cursor.segment.path, position, "the frame before it has another number of rows"));
        }
        // The first frame may begin below the offset asked for.
        let skip = short(from.saturating_sub(frame.first_offset));
        let rows = if skip == 0 { rows } else { rows.slice(skip, rows.num_rows() - skip) };
        Ok(Some(LogBatch {
            first_offset: frame.first_offset + long(skip),
            rows,
            event_time: frame.event_time,
            append_ms: frame.append_ms,
            writer: frame.writer,
            staged: None,
        }))
    }

    /// The next rows, waiting for them for at most `timeout`. Returns None early once `should_stop` says
    /// so.
    pub fn next(&mut self, timeout: Duration, should_stop: &dyn Fn() -> bool) -> Result<Option<LogBatch>> {
        let clock = Arc::clone(&self.partition.env.clock);
        let deadline = clock.monotonic().saturating_add(timeout);
        loop {
            if let Some(batch) = self.poll()? {
                return Ok(Some(batch));
            }
            let left = deadline.saturating_sub(clock.monotonic());
            if left.is_zero() || should_stop() {
                return Ok(None);
            }
            let mut wait = left.min(STOP_CHECK);
            if self.partition.access == Access::Shared {
                // Nobody here hears of what another process appends, nor that it owns the partition by now.
                if self.partition.refresh()? > self.next_offset {
                    continue;
                }
                wait = wait.min(LOOK_AGAIN);
            }
            self.partition.wait_past(self.next_offset, wait);
        }
    }

    /// Wakes `waker` when [`LogReader::poll`] has something to give.
    pub fn register(&self, waker: &Waker) {
        self.partition.register(self.next_offset, waker);
    }

    /// Like [`LogReader::poll`], without decoding. The frame may begin below the offset asked for.
    pub fn poll_frame(&mut self) -> Result<Option<LogFrame>> {
        loop {
            if self.at.is_none() {
                let Some(cursor) = self.seek()? else { return Ok(None) };
                self.at = Some(cursor);
            }
            let Some(cursor) = &mut self.at else { return Err(Error::internal("a reader without a place")) };
            if cursor.position >= cursor.limit.position {
                let Some(limit) = self.partition.extent(&cursor.segment) else {
                    // Retention took it: what comes next is in another one, or gone.
                    self.at = None;
                    continue;
                };
                cursor.limit = limit;
            }
            if cursor.position >= cursor.limit.position {
                if cursor.segment.sealed.get().is_none() {
                    return Ok(None);
                }
                cursor.finish(self.next_offset)?;
                let Some(next) = self.partition.segment_after(cursor.segment.header.sequence) else { return Ok(None) };
                if next.header.base_offset != self.next_offset {
                    // Retention took what lay between.
                    self.partition.segment_of(self.next_offset)?;
                    return Err(damaged(&next.path, 0, "it does not go on where the segment before ends"));
                }
                let position = next.header_length;
                let offset = next.header.base_offset;
                match self.cursor(next, position, Some(offset))? {
                    Some(cursor) => self.keep(cursor),
                    None => self.at = None,
                }
                continue;
            }
            let (header, payload) = cursor.frame(&mut self.spare)?;
            if header.kind != FrameKind::Data || header.end_offset() <= self.next_offset {
                continue;
            }
            self.next_offset = header.end_offset();
            return Ok(Some(LogFrame {
                first_offset: header.first_offset,
                rows: header.rows,
                event_time: header.event_time,
                append_ms: header.append_ms,
                writer: header.writer,
                payload,
            }));
        }
    }

    fn keep(&mut self, cursor: Cursor) {
        if let Some(old) = self.at.replace(cursor) {
            remember(&mut self.spare, old.bytes);
        }
    }

    /// Finds the frame that holds the next offset.
    fn seek(&self) -> Result<Option<Cursor>> {
        let Some(segment) = self.partition.segment_of(self.next_offset)? else { return Ok(None) };
        if segment.header.base_offset == self.next_offset {
            let position = segment.header_length;
            return self.cursor(segment, position, Some(self.next_offset));
        }
        let position = self.partition.with_index(&segment, |index| index.seek(self.next_offset))?;
        let position = position.unwrap_or(segment.header_length);
        self.cursor(segment, position, None)
    }

    /// A place in a segment. None if it has gone since it was found.
    fn cursor(&self, segment: Arc<Segment>, position: u64, offset: Option<u64>) -> Result<Option<Cursor>> {
        let file = segment.file(self.partition.env.disk.as_ref()).map_err(|error| match error.code() {
            // Its owner, another process, removed it.
            Code::PathNotFound => offset_gone(&format!("offset {} of {} is gone", self.next_offset, self.partition)),
            _ => error,
        })?;
        let Some(limit) = self.partition.extent(&segment) else { return Ok(None) };
        let decoder = PayloadDecoder::new(&segment.header.schema)?;
        Ok(Some(Cursor {
            segment,
            file,
            position,
            offset,
            run: offset.map(|_| RunCheck::default()),
            limit,
            bytes: Buffer::default(),
            bytes_at: 0,
            decoder,
        }))
    }
}

impl Cursor {
    /// Reads, checks and steps over the frame at the current position.
    fn frame(&mut self, spare: &mut VecDeque<Buffer>) -> Result<(FrameHeader, Buffer)> {
        let at = self.position;
        let segment = Arc::clone(&self.segment);
        let refuse = |why: &str| Err(damaged(&segment.path, at, why));
        let head = self.fill(FRAME_FIXED, spare)?;
        let length = usize::from(super::codec::u16_at(self.bytes.get(head..).unwrap_or_default(), 12));
        let head = self.fill(length.max(FRAME_FIXED), spare)?;
        let Some(header) = FrameHeader::parse(self.bytes.get(head..).unwrap_or_default()) else {
            return refuse("a frame header does not match its checksum");
        };
        if header.segment_id != self.segment.header.id || header.position != at {
            return refuse("a frame stands where it was not written");
        }
        if header.end_position() > self.limit.position {
            return refuse("a frame reaches past the end of the log");
        }
        let head = self.fill(header.length as usize, spare)?;
        if !header.payload_is_whole(self.bytes.get(head..).unwrap_or_default()) {
            return refuse("a frame does not match its checksum");
        }
        if self.offset.is_some_and(|offset| offset != header.first_offset) {
            return refuse("a frame does not go on where the one before ends");
        }
        if self.run.is_none() && header.run.index == 0 {
            self.run = Some(RunCheck::default());
        }
        if let Some(run) = &mut self.run
            && let Err(why) = run.add(&header)
        {
            return refuse(why);
        }
        self.offset = Some(header.end_offset());
        self.position = header.end_position();
        let payload =
            self.bytes.slice_with_length(head + usize::from(header.header_length), header.payload_length as usize);
        Ok((header, payload))
    }

    /// A sealed segment must end between two runs, at the offset where the next begins.
    fn finish(&self, next_offset: u64) -> Result<()> {
        let ends_whole = self.run.as_ref().is_none_or(RunCheck::is_between);
        if self.position != self.limit.position || next_offset != self.limit.offset || !ends_whole {
            return Err(damaged(&self.segment.path, self.position, "it does not end where it was sealed"));
        }
        Ok(())
    }

    /// Makes sure that `length` bytes from the current position are in memory; returns where.
    fn fill(&mut self, length: usize, spare: &mut VecDeque<Buffer>) -> Result<usize> {
        let held_end = self.bytes_at + long(self.bytes.len());
        let held = self.bytes_at <= self.position && self.position <= held_end;
        let left = short(self.limit.position - self.position);
        let needed = length.min(left);
        if held && held_end - self.position >= long(needed) {
            return Ok(short(self.position - self.bytes_at));
        }
        let wanted = needed.max(PIECE).min(left);
        let mut fresh = reuse(spare, wanted);
        // What is here already is moved, not read again.
        let tail = if held { self.bytes.get(short(self.position - self.bytes_at)..).unwrap_or_default() } else { &[] };
        let kept = tail.len();
        fresh.as_slice_mut().get_mut(..kept).into_iter().for_each(|place| place.copy_from_slice(tail));
        let rest = fresh.as_slice_mut().get_mut(kept..).unwrap_or_default();
        read_exact(self.file.as_ref(), &self.segment.path, rest, self.position + long(kept))?;
        remember(spare, std::mem::replace(&mut self.bytes, fresh.into()));
        self.bytes_at = self.position;
        Ok(0)
    }
}

/// A buffer of `length` bytes, one that nobody points into any more if there is one.
fn reuse(spare: &mut VecDeque<Buffer>, length: usize) -> MutableBuffer {
    for _ in 0..spare.len() {
        let Some(buffer) = spare.pop_front() else { break };
        match buffer.into_mutable() {
            Ok(mut free) if free.capacity() >= length => {
                free.resize(length, 0);
                return free;
            }
            Ok(_) => {}
            Err(busy) => spare.push_back(busy),
        }
    }
    MutableBuffer::from_len_zeroed(length)
}

fn remember(spare: &mut VecDeque<Buffer>, buffer: Buffer) {
    if !buffer.is_empty() {
        spare.push_back(buffer);
        if spare.len() > SPARE_MAX {
            spare.pop_front();
        }
    }
}
