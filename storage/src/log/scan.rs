//! Walking the frames of a segment: what recovery, index building and readers share.
//!
//! Recovery reads the last segment from its first frame and keeps whole runs. At the first place that
//! is no whole run it asks whether anything further on says that this place was synced already (a
//! frame or end mark whose `confirmed` lies beyond it). If so, the middle is damaged and the log is
//! refused; if not, it is the torn end of a group nobody was told about, and is cut (I8, I9).

use std::collections::VecDeque;
use std::path::Path;

use qanat_proto::error::Result;
use qanat_proto::zoo::{Bug, planted};

use super::codec::{long, u16_at};
use super::frame::{FRAME_ALIGN, FRAME_FIXED, FrameHeader, FrameKind, Run, extend_checksum};
use super::index::SparseIndex;
use super::replay::ReplayTable;
use super::segment::{Extent, SegmentHeader, Window, damaged};
use crate::env::File;

/// Bytes read at a time where all of a file is read.
const WHOLE_PIECE: usize = 1 << 20;
/// Bytes read at a time where only headers are looked at.
const HEADER_PIECE: usize = 64 << 10;

/// Follows the frames of a run and says when it is whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunCheck {
    next_index: u32,
    run: Run,
    bytes: u64,
    checksum: u32,
}

impl RunCheck {
    /// Takes the next frame. `Ok(true)`: the run is whole. `Err`: the frame does not belong here.
    pub(super) fn add(&mut self, header: &FrameHeader) -> Result<bool, &'static str> {
        let run = header.run;
        if run.frames == 0 || run.index >= run.frames {
            return Err("a frame has no place in its own run");
        }
        if self.next_index == 0 {
            *self = Self { run, ..Self::default() };
            if run.id != header.first_offset {
                return Err("a run does not begin at its own offset");
            }
        }
        let expected = Run { index: self.next_index, ..self.run };
        if run != expected {
            return Err("a frame of another run stands inside a run");
        }
        self.bytes += u64::from(header.length);
        self.checksum = extend_checksum(self.checksum, header.payload_crc);
        self.next_index += 1;
        if self.next_index < run.frames {
            return Ok(planted(Bug::TornRuns));
        }
        if self.bytes != run.bytes || (header.kind == FrameKind::Data && self.checksum != run.checksum) {
            return Err("a run is not what it says it is");
        }
        self.next_index = 0;
        Ok(true)
    }

    /// Whether it stands between two runs.
    pub(super) fn is_between(&self) -> bool {
        self.next_index == 0
    }
}

/// Where the runs end that frames behind them say were synced.
struct Confirmed {
    at: Extent,
    /// Ends of whole runs of which nobody has said so yet.
    open: VecDeque<Extent>,
}

impl Confirmed {
    fn from(at: Extent) -> Self {
        Self { at, open: VecDeque::new() }
    }

    /// Everything before this position was synced.
    fn up_to(&mut self, position: u64) {
        self.while_synced(|end| end.position <= position);
    }

    fn while_synced(&mut self, is_synced: impl Fn(&Extent) -> bool) {
        while let Some(end) = self.open.pop_front_if(|end| is_synced(end)) {
            self.at = end;
        }
    }
}

/// What a scan of the growing segment found.
pub(super) struct Scanned {
    /// After the last whole run.
    pub end: Extent,
    /// After the last run that was synced before something behind it was written.
    pub confirmed: Extent,
    pub index: SparseIndex,
    /// An end mark stands at the end, and nothing but zeros after it.
    pub is_marked: bool,
}

/// The header of the frame at `position`, if a whole one of this segment stands there.
fn header_at(window: &mut Window<'_>, segment_id: u64, position: u64) -> Result<Option<FrameHeader>> {
    let fixed = window.get(position, FRAME_FIXED)?;
    if !FrameHeader::has_magic(fixed) || fixed.len() < FRAME_FIXED {
        return Ok(None);
    }
    let length = usize::from(u16_at(fixed, 12));
    let bytes = window.get(position, length)?;
    Ok(FrameHeader::parse(bytes).filter(|header| header.segment_id == segment_id && header.position == position))
}

/// Reads the last segment and finds where its log ends. `least_end`: rows below it were synced. `is_owner`: nobody
/// writes it meanwhile.
///
/// # Errors
/// E0304 if what is damaged had been synced.
pub(super) fn scan_segment(
    file: &dyn File,
    path: &Path,
    segment: &SegmentHeader,
    header_length: u64,
    replay: &mut ReplayTable,
    least_end: u64,
    is_owner: bool,
) -> Result<Scanned> {
    let mut window = Window::growing(file, path, WHOLE_PIECE)?;
    let mut end = Extent { position: header_length, offset: segment.base_offset };
    let mut at = end;
    let mut index = SparseIndex::default();
    let mut run = RunCheck::default();
    let mut seen = Vec::new();
    let mut is_marked = false;
    let mut confirmed = Confirmed::from(end);
    while let Some(header) = header_at(&mut window, segment.id, at.position)? {
        if header.kind == FrameKind::EndMark {
            is_marked = at == end && header.first_offset == at.offset;
            if is_marked {
                confirmed.up_to(header.confirmed);
            }
            break;
        }
        let frame = window.get(at.position, header.length as usize)?;
        if header.first_offset != at.offset || !header.payload_is_whole(frame) {
            break;
        }
        let handle = header.handle(frame).to_owned();
        let Ok(is_whole) = run.add(&header) else { break };
        seen.push((header, handle));
        at = Extent { position: header.end_position(), offset: header.end_offset() };
        if is_whole {
            end = at;
            for (header, handle) in seen.drain(..) {
                confirmed.up_to(header.confirmed);
                match header.kind {
                    FrameKind::Data => index.push(header.first_offset, header.position, header.time_max()),
                    FrameKind::Forget => {
                        replay.forget(header.writer.job);
                    }
                    FrameKind::EndMark => {}
                }
                if !handle.is_empty() {
                    replay.remember(&header.writer, &handle);
                }
            }
            confirmed.open.push_back(end);
        }
    }
    confirmed.while_synced(|end| end.offset <= least_end);
    let is_clean = match refuse_damage(&mut window, path, segment.id, end.position, is_marked) {
        // A group that was half written when this place was read, by an owner who went on meanwhile.
        Err(_) if !is_owner && scan_on(file, path, segment, end)?.end != end => false,
        looked => looked?,
    };
    Ok(Scanned { end, confirmed: confirmed.at, index, is_marked: is_marked && is_clean })
}

/// What another process has written since.
pub(super) struct Grown {
    /// After the last whole run.
    pub end: Extent,
    /// After the last run that was synced before something behind it was written.
    pub confirmed: Extent,
    /// The frames of whole runs.
    pub frames: Vec<FrameHeader>,
}

/// Follows whole runs from `from`, which lies between two, in a segment that another process writes.
pub(super) fn scan_on(file: &dyn File, path: &Path, segment: &SegmentHeader, from: Extent) -> Result<Grown> {
    let mut window = Window::growing(file, path, WHOLE_PIECE)?;
    let (mut end, mut at) = (from, from);
    let mut run = RunCheck::default();
    let mut confirmed = Confirmed::from(from);
    let mut frames = Vec::new();
    let mut whole = 0;
    while let Some(header) = header_at(&mut window, segment.id, at.position)? {
        if header.first_offset != at.offset {
            break;
        }
        // Also one whose payload is not there yet says what was synced before it.
        confirmed.up_to(header.confirmed);
        let frame = window.get(at.position, header.length as usize)?;
        if header.kind == FrameKind::EndMark || !header.payload_is_whole(frame) {
            break;
        }
        let Ok(is_whole) = run.add(&header) else { break };
        at = Extent { position: header.end_position(), offset: header.end_offset() };
        frames.push(header);
        if is_whole {
            end = at;
            confirmed.open.push_back(end);
            whole = frames.len();
        }
    }
    frames.truncate(whole);
    Ok(Grown { end, confirmed: confirmed.at, frames })
}

/// Looks through everything after the end for proof that the end was not the end. Returns whether
/// nothing but zeros follows (after the end mark, if there is one).
fn refuse_damage(window: &mut Window<'_>, path: &Path, segment_id: u64, end: u64, is_marked: bool) -> Result<bool> {
    let mut is_clean = true;
    let mut position = end + if is_marked { long(super::frame::END_MARK_BYTES) } else { 0 };
    while position < window.limit() {
        let piece = window.get(position, WHOLE_PIECE)?;
        let piece_length = long(piece.len());
        let mut candidates = Vec::new();
        for (step, slot) in piece.chunks(FRAME_ALIGN).enumerate() {
            if slot.iter().any(|byte| *byte != 0) {
                is_clean = false;
                if FrameHeader::has_magic(slot) {
                    candidates.push(position + long(step * FRAME_ALIGN));
                }
            }
        }
        for candidate in candidates {
            if header_at(window, segment_id, candidate)?.is_some_and(|header| header.confirmed > end) {
                return Err(damaged(path, end, "bytes that were synced are not what was written"));
            }
        }
        position += piece_length;
    }
    Ok(is_clean)
}

/// Builds the index of a sealed segment from its frame headers.
///
/// # Errors
/// E0304 if a header is damaged.
pub(super) fn index_sealed(
    file: &dyn File,
    path: &Path,
    segment: &SegmentHeader,
    header_length: u64,
    end: Extent,
) -> Result<SparseIndex> {
    let mut index = SparseIndex::default();
    walk_headers(file, path, segment, header_length, end.position, |header| {
        if header.kind == FrameKind::Data {
            index.push(header.first_offset, header.position, header.time_max());
        }
        true
    })?;
    Ok(index)
}

/// Visits the frame headers from `position` to `limit` until `visit` says false.
pub(super) fn walk_headers(
    file: &dyn File,
    path: &Path,
    segment: &SegmentHeader,
    mut position: u64,
    limit: u64,
    mut visit: impl FnMut(&FrameHeader) -> bool,
) -> Result<()> {
    let mut window = Window::new(file, path, limit, HEADER_PIECE);
    while position < limit {
        let header = header_at(&mut window, segment.id, position)?
            .ok_or_else(|| damaged(path, position, "a frame header does not match its checksum or place"))?;
        if !visit(&header) {
            break;
        }
        position = header.end_position();
    }
    Ok(())
}
