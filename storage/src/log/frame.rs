//! A frame: the unit of the log that carries one Arrow batch, and its header's bytes.
//!
//! `docs/log-format.md` holds the layout for outside readers; the offsets below are the same table.
//! Two checksums cover every byte of a frame: the header's own, and the payload's, which the header
//! holds. A header states the segment and the position it was written for, so that a block that ended
//! up elsewhere, or a stale one, is found out (I9), and the position up to which the segment was
//! synced before it was written, so that recovery can tell a torn tail from a damaged middle (I8).

use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId};
use qanat_proto::zoo::{Bug, planted};

use super::codec::{i64_at, long, put, round_up, u16_at, u32_at, u64_at, u128_at};

/// Frames start at, and are padded to, multiples of this: Arrow buffers in them are aligned as they lie.
pub(super) const FRAME_ALIGN: usize = 16;
/// Header bytes before the handle name.
pub(super) const FRAME_FIXED: usize = 160;
/// A handle is an object name (`Origin::object`), about 90 bytes.
pub(super) const HANDLE_BYTES_MAX: usize = 255;
/// Bytes of an end mark: a header without handle and payload.
pub(super) const END_MARK_BYTES: usize = FRAME_FIXED;

const MAGIC: u32 = u32::from_le_bytes(*b"QFRM");
const HAS_EVENT_TIME: u8 = 1;

const AT_CRC: usize = 4;
const AT_LENGTH: usize = 8;
const AT_HEADER_LENGTH: usize = 12;
const AT_KIND: usize = 14;
const AT_FLAGS: usize = 15;
const AT_SEGMENT: usize = 16;
const AT_POSITION: usize = 24;
const AT_CONFIRMED: usize = 32;
const AT_FIRST_OFFSET: usize = 40;
const AT_ROWS: usize = 48;
const AT_PAYLOAD_LENGTH: usize = 52;
const AT_PAYLOAD_CRC: usize = 56;
const AT_RUN_CHECKSUM: usize = 60;
const AT_RUN_ID: usize = 64;
const AT_RUN_INDEX: usize = 72;
const AT_RUN_FRAMES: usize = 76;
const AT_RUN_BYTES: usize = 80;
const AT_EVENT_MIN: usize = 88;
const AT_EVENT_MAX: usize = 96;
const AT_APPEND_MS: usize = 104;
const AT_JOB: usize = 112;
const AT_GENERATION: usize = 128;
const AT_EPOCH: usize = 136;
const AT_OPERATOR: usize = 144;
const AT_HANDLE_LENGTH: usize = 152;

/// Lowest and highest event time of a frame's rows, milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime {
    pub min: i64,
    pub max: i64,
}

/// Who wrote a frame. All zero: a plain append without a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterStamp {
    pub job: JobId,
    pub generation: Generation,
    pub epoch: Epoch,
    pub operator: OperatorId,
}

impl WriterStamp {
    pub const NONE: Self = Self { job: JobId(0), generation: Generation(0), epoch: Epoch(0), operator: OperatorId(0) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Rows.
    Data = 1,
    /// Nothing follows, and everything before it was synced.
    EndMark = 2,
    /// The job in the writer stamp was dropped: its handles need no longer be remembered.
    Forget = 3,
}

/// The run a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Run {
    /// First offset of the run.
    pub id: u64,
    /// Place of this frame in it.
    pub index: u32,
    pub frames: u32,
    /// Bytes of all its frames.
    pub bytes: u64,
    /// CRC32C of the payload checksums of its frames, each as four little-endian bytes, in order.
    pub checksum: u32,
}

/// A parsed frame header. The handle stays in the bytes: see [`FrameHeader::handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub kind: FrameKind,
    pub length: u32,
    pub header_length: u16,
    pub segment_id: u64,
    pub position: u64,
    pub confirmed: u64,
    pub first_offset: u64,
    pub rows: u32,
    pub payload_length: u32,
    pub payload_crc: u32,
    pub run: Run,
    pub event_time: Option<EventTime>,
    pub append_ms: i64,
    pub writer: WriterStamp,
}

impl FrameHeader {
    /// Whether a header might start here: cheap, before [`FrameHeader::parse`].
    pub(super) fn has_magic(bytes: &[u8]) -> bool {
        u32_at(bytes, 0) == MAGIC
    }

    /// Reads and verifies the header at the start of `bytes`. None: these bytes are no whole header.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FRAME_FIXED || !Self::has_magic(bytes) {
            return None;
        }
        let header_length = u16_at(bytes, AT_HEADER_LENGTH);
        let header = bytes.get(..usize::from(header_length))?;
        if header.len() < FRAME_FIXED || crc32c::crc32c(header.get(AT_LENGTH..)?) != u32_at(bytes, AT_CRC) {
            return None;
        }
        let kind = match bytes.get(AT_KIND) {
            Some(1) => FrameKind::Data,
            Some(2) => FrameKind::EndMark,
            Some(3) => FrameKind::Forget,
            _ => return None,
        };
        let parsed = Self {
            kind,
            length: u32_at(bytes, AT_LENGTH),
            header_length,
            segment_id: u64_at(bytes, AT_SEGMENT),
            position: u64_at(bytes, AT_POSITION),
            confirmed: u64_at(bytes, AT_CONFIRMED),
            first_offset: u64_at(bytes, AT_FIRST_OFFSET),
            rows: u32_at(bytes, AT_ROWS),
            payload_length: u32_at(bytes, AT_PAYLOAD_LENGTH),
            payload_crc: u32_at(bytes, AT_PAYLOAD_CRC),
            run: Run {
                id: u64_at(bytes, AT_RUN_ID),
                index: u32_at(bytes, AT_RUN_INDEX),
                frames: u32_at(bytes, AT_RUN_FRAMES),
                bytes: u64_at(bytes, AT_RUN_BYTES),
                checksum: u32_at(bytes, AT_RUN_CHECKSUM),
            },
            event_time: (bytes.get(AT_FLAGS).is_some_and(|flags| flags & HAS_EVENT_TIME != 0))
                .then(|| EventTime { min: i64_at(bytes, AT_EVENT_MIN), max: i64_at(bytes, AT_EVENT_MAX) }),
            append_ms: i64_at(bytes, AT_APPEND_MS),
            writer: WriterStamp {
                job: JobId(u128_at(bytes, AT_JOB)),
                generation: Generation(u64_at(bytes, AT_GENERATION)),
                epoch: Epoch(u64_at(bytes, AT_EPOCH)),
                operator: OperatorId(u64_at(bytes, AT_OPERATOR)),
            },
        };
        let least = long(usize::from(header_length)) + u64::from(parsed.payload_length);
        (u64::from(parsed.length) >= least && (parsed.length as usize).is_multiple_of(FRAME_ALIGN)).then_some(parsed)
    }

    /// The handle this frame was committed under; empty for a plain append.
    pub(super) fn handle<'a>(&self, frame: &'a [u8]) -> &'a str {
        let length = usize::from(u16_at(frame, AT_HANDLE_LENGTH));
        frame.get(FRAME_FIXED..FRAME_FIXED + length).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    /// Whether the payload and its padding are what the header says.
    pub(super) fn payload_is_whole(&self, frame: &[u8]) -> bool {
        frame
            .get(usize::from(self.header_length)..self.length as usize)
            .is_some_and(|payload| crc32c::crc32c(payload) == self.payload_crc || planted(Bug::SkipChecksum))
    }

    /// First offset after this frame.
    pub(super) fn end_offset(&self) -> u64 {
        self.first_offset.saturating_add(u64::from(self.rows))
    }

    /// Position after this frame.
    pub(super) fn end_position(&self) -> u64 {
        self.position.saturating_add(u64::from(self.length))
    }

    /// What the time index keeps of a frame: its event time, or when it was appended.
    pub(super) fn time_max(&self) -> i64 {
        self.event_time.map_or(self.append_ms, |time| time.max)
    }
}

/// Where and as part of what a frame is written: known only when its turn comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub segment_id: u64,
    pub position: u64,
    pub confirmed: u64,
    pub first_offset: u64,
    pub append_ms: i64,
    pub run: Run,
}

/// Bytes of a frame's header for a handle of this length.
pub(super) fn header_length(handle: &str) -> usize {
    round_up(FRAME_FIXED + handle.len(), FRAME_ALIGN)
}

/// Fills in everything about a frame that does not depend on its place. `frame` holds room for the
/// header, then the payload; it is padded here.
pub(super) fn finish_frame(
    frame: &mut Vec<u8>,
    kind: FrameKind,
    rows: u32,
    event_time: Option<EventTime>,
    writer: &WriterStamp,
    handle: &str,
) {
    let header_length = header_length(handle);
    let payload_length = frame.len() - header_length;
    frame.resize(round_up(frame.len(), FRAME_ALIGN), 0);
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let payload_crc = crc32c::crc32c(frame.get(header_length..).unwrap_or_default());
    put(frame, 0, &MAGIC.to_le_bytes());
    put(frame, AT_LENGTH, &length.to_le_bytes());
    put(frame, AT_HEADER_LENGTH, &u16::try_from(header_length).unwrap_or(u16::MAX).to_le_bytes());
    put(frame, AT_KIND, &[kind as u8, if event_time.is_some() { HAS_EVENT_TIME } else { 0 }]);
    put(frame, AT_ROWS, &rows.to_le_bytes());
    put(frame, AT_PAYLOAD_LENGTH, &u32::try_from(payload_length).unwrap_or(u32::MAX).to_le_bytes());
    put(frame, AT_PAYLOAD_CRC, &payload_crc.to_le_bytes());
    if let Some(time) = event_time {
        put(frame, AT_EVENT_MIN, &time.min.to_le_bytes());
        put(frame, AT_EVENT_MAX, &time.max.to_le_bytes());
    }
    put(frame, AT_JOB, &writer.job.0.to_le_bytes());
    put(frame, AT_GENERATION, &writer.generation.0.to_le_bytes());
    put(frame, AT_EPOCH, &writer.epoch.0.to_le_bytes());
    put(frame, AT_OPERATOR, &writer.operator.0.to_le_bytes());
    put(frame, AT_HANDLE_LENGTH, &u16::try_from(handle.len()).unwrap_or(u16::MAX).to_le_bytes());
    put(frame, FRAME_FIXED, handle.as_bytes());
}

/// Writes the place of a finished frame into its header, and the header's checksum.
pub(super) fn place_frame(frame: &mut [u8], place: &Placement) {
    put(frame, AT_SEGMENT, &place.segment_id.to_le_bytes());
    put(frame, AT_POSITION, &place.position.to_le_bytes());
    put(frame, AT_CONFIRMED, &place.confirmed.to_le_bytes());
    put(frame, AT_FIRST_OFFSET, &place.first_offset.to_le_bytes());
    put(frame, AT_RUN_CHECKSUM, &place.run.checksum.to_le_bytes());
    put(frame, AT_RUN_ID, &place.run.id.to_le_bytes());
    put(frame, AT_RUN_INDEX, &place.run.index.to_le_bytes());
    put(frame, AT_RUN_FRAMES, &place.run.frames.to_le_bytes());
    put(frame, AT_RUN_BYTES, &place.run.bytes.to_le_bytes());
    put(frame, AT_APPEND_MS, &place.append_ms.to_le_bytes());
    let header_length = usize::from(u16_at(frame, AT_HEADER_LENGTH));
    let crc = crc32c::crc32c(frame.get(AT_LENGTH..header_length).unwrap_or_default());
    put(frame, AT_CRC, &crc.to_le_bytes());
}

/// The payload checksum of a finished frame.
pub(super) fn payload_crc(frame: &[u8]) -> u32 {
    u32_at(frame, AT_PAYLOAD_CRC)
}

/// The rows of a finished frame.
pub(super) fn rows(frame: &[u8]) -> u32 {
    u32_at(frame, AT_ROWS)
}

/// The highest time of a finished frame.
pub(super) fn time_max(frame: &[u8]) -> i64 {
    let timed = frame.get(AT_FLAGS).is_some_and(|flags| flags & HAS_EVENT_TIME != 0);
    i64_at(frame, if timed { AT_EVENT_MAX } else { AT_APPEND_MS })
}

/// An end mark: says that everything before `position` was synced and nothing follows.
pub(super) fn end_mark(segment_id: u64, position: u64, offset: u64, now_ms: i64) -> Vec<u8> {
    let mut mark = vec![0; END_MARK_BYTES];
    finish_frame(&mut mark, FrameKind::EndMark, 0, None, &WriterStamp::NONE, "");
    let run = Run { id: offset, index: 0, frames: 1, bytes: long(END_MARK_BYTES), checksum: 0 };
    place_frame(
        &mut mark,
        &Placement { segment_id, position, confirmed: position, first_offset: offset, append_ms: now_ms, run },
    );
    mark
}

/// Adds a frame's payload checksum to a run's.
pub(super) fn extend_checksum(run: u32, payload_crc: u32) -> u32 {
    crc32c::crc32c_append(run, &payload_crc.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Placement) {
        let handle = "h".repeat(90);
        let mut frame = vec![0; header_length(&handle)];
        frame.extend_from_slice(b"some payload");
        let writer = WriterStamp {
            job: JobId(u128::MAX - 3),
            generation: Generation(2),
            epoch: Epoch(5),
            operator: OperatorId(9),
        };
        finish_frame(&mut frame, FrameKind::Data, 7, Some(EventTime { min: -5, max: 6 }), &writer, &handle);
        let run = Run { id: 100, index: 1, frames: 3, bytes: 4096, checksum: 17 };
        let place = Placement { segment_id: 4, position: 8192, confirmed: 4096, first_offset: 107, append_ms: 3, run };
        place_frame(&mut frame, &place);
        (frame, place)
    }

    #[test]
    fn a_header_reads_back() {
        let (frame, place) = sample();
        let header = FrameHeader::parse(&frame).expect("whole");
        assert_eq!(header.run, place.run);
        assert_eq!((header.position, header.confirmed, header.segment_id), (8192, 4096, 4));
        assert_eq!((header.first_offset, header.end_offset()), (107, 114));
        assert_eq!(header.event_time, Some(EventTime { min: -5, max: 6 }));
        assert_eq!(header.handle(&frame).len(), 90);
        assert_eq!(header.payload_length, 12);
        assert_eq!(frame.len() % FRAME_ALIGN, 0);
        assert!(header.payload_is_whole(&frame));
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_seen() {
        let (frame, _) = sample();
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let accepted = FrameHeader::parse(&bad).is_some_and(|header| header.payload_is_whole(&bad));
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn every_cut_of_a_frame_is_seen() {
        let (frame, _) = sample();
        for length in 0..frame.len() {
            let cut = &frame[..length];
            assert!(!FrameHeader::parse(cut).is_some_and(|header| header.payload_is_whole(cut)), "cut at {length}");
        }
    }
}
