//! One partition of a topic: its segments, its writer, and what readers see of it.
//!
//! Opening is recovery: the chain of segments is checked, the last one is synced, scanned and cut to
//! its last whole run. Readers see only what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::limits::LOG_SEGMENT_BYTES;
use qanat_proto::names::Name;
use qanat_proto::zoo::{Bug, planted};

use super::codec::long;
use super::frame::{END_MARK_BYTES, FrameKind, end_mark};
use super::group::{GroupCommit, Request};
use super::index::SparseIndex;
use super::index_cache::IndexCache;
use super::listing::Listing;
use super::replay::ReplayTable;
use super::retention::Retention;
use super::scan::{Grown, index_sealed, scan_on, scan_segment, walk_headers};
use super::segment::{Extent, SEGMENT_MAGIC, Segment, SegmentHeader, Window, damaged};

use super::writer::{Active, OwnerToken, Writer, refuse_if_sealed};
use super::{Setup, ends, lock, takeover};
use crate::crash_safe;
use crate::env::thread::Condvar;
use crate::env::{Env, File, OpenMode};

/// Bytes of a tail that recovery writes again at a time.
const REWRITE_PIECE: usize = 1 << 20;
/// A living owner says long before that what it wrote is synced, or has failed and taken over from itself.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is sealed before it grows past this, unless a single run is larger.
    pub segment_bytes: u64,
    /// Bytes preallocated when a segment gets its first rows; each further step doubles, up to 16 MiB.
    pub allocate_bytes: u64,
    /// A segment with rows is sealed at the first append this long after it was begun.
    pub roll_after_ms: Option<i64>,
}

/// Segments that a topic's retention lets stand: whole ones go, so it keeps at most so much more than it says.
const SEGMENTS_KEPT: u64 = 4;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Of a topic that keeps rows until they are read: so much stays that was.
const CONSUMED_SEGMENT_BYTES: u64 = 8 << 20;
const ROLL_AFTER_MS_MIN: i64 = 1_000;

impl LogOptions {
    /// With segments that are small enough for `retention` to have an effect.
    pub(super) fn for_retention(self, retention: &Retention) -> Self {
        let part = |bytes: u64| (bytes / SEGMENTS_KEPT).max(SEGMENT_BYTES_MIN);
        let most = [retention.bytes.map(part), retention.consumed.then_some(CONSUMED_SEGMENT_BYTES)];
        let segment_bytes = most.into_iter().flatten().fold(self.segment_bytes, u64::min);
        let of_age = retention.age_ms.map(|age| (age / SEGMENTS_KEPT.cast_signed()).max(ROLL_AFTER_MS_MIN));
        Self { segment_bytes, roll_after_ms: self.roll_after_ms.or(of_age), ..self }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: LOG_SEGMENT_BYTES, allocate_bytes: 256 << 10, roll_after_ms: None }
    }
}

/// A partition. Appends go through its topic; reading, retention and takeover through it.
pub struct Partition {
    pub(super) topic: Name,
    pub(super) index: u32,
    pub(super) folder: PathBuf,
    pub(super) env: Env,
    pub(super) options: LogOptions,
    pub(super) commit: GroupCommit,
    pub(super) indexes: IndexCache,
    pub(super) access: Access,
    /// It ends there or later, or has lost rows.
    least_end: u64,
    /// None: opened for reading only.
    pub(super) writer: Mutex<Option<Writer>>,
    pub(super) shared: Mutex<Shared>,
    arrived: Condvar,
}

/// What readers see.
#[derive(Default)]
pub(super) struct Shared {
    pub segments: VecDeque<Arc<Segment>>,
    /// End of what was acknowledged, in the last segment.
    pub end: Extent,
    /// Offset behind the last whole run that was seen, synced or not.
    whole: u64,
    /// What another process wrote without saying yet that it was synced, and since when it stands there.
    unconfirmed: Option<(Extent, Duration)>,
    wakers: Vec<Waker>,
    /// Lowest offset each reader still needs (P15).
    pub holds: BTreeMap<String, u64>,
}

/// Segments as they lie on disk.
pub(super) struct Loaded {
    pub segments: VecDeque<Arc<Segment>>,
    pub end: Extent,
    /// Offset behind the last whole run, synced or not.
    whole: u64,
    /// Of the last segment.
    pub index: SparseIndex,
    pub replay: ReplayTable,
    pub active: Option<Active>,
}

/// What segments are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    /// To follow upon this segment, the last one, which nobody appends to any more. Others may be about to do the same,
    /// and may have done it already: what was decided about it is not touched.
    Seal(Option<u64>),
    /// To append, where nobody else does.
    Own,
}

/// Whether opening may mend the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// As for reading, until this process becomes the partition's owner ([`Partition::take_over`]).
    Shared,
    Write,
}

impl Partition {
    /// Opens and, with [`Access::Write`], recovers a partition whose folder exists.
    ///
    /// # Errors
    /// E0304 if it is damaged, or ends below `least_end`.
    pub(super) fn open(topic: Name, index: u32, folder: PathBuf, setup: Setup, least_end: u64) -> Result<Arc<Self>> {
        let Setup { env, options, commit, access, indexes } = setup;
        let partition = Self {
            topic,
            index,
            folder,
            env,
            options,
            commit,
            indexes,
            access,
            least_end,
            writer: Mutex::new(None),
            shared: Mutex::new(Shared::default()),
            arrived: Condvar::new(),
        };
        let purpose = if access == Access::Write { Purpose::Own } else { Purpose::Read };
        let mut loaded = partition.load(purpose)?;
        let owner = loaded.segments.back().map_or(OwnerToken(1), |last| OwnerToken(last.header.owner));
        let unfinished = match loaded.segments.back() {
            Some(last) => takeover::read_marker(&partition, last.header.sequence)?,
            None => None,
        };
        partition.install(&mut loaded);
        if access == Access::Write {
            let replay = loaded.replay;
            *lock(&partition.writer) = Some(match unfinished {
                Some(taker) if taker == owner => {
                    Writer::lost(owner, Error::internal("its takeover from itself stopped"))
                }
                _ => Writer::new(owner, replay, loaded.active, loaded.end),
            });
            if let Some(taker) = unfinished {
                // A takeover stopped between its marker and its first segment: it is finished now.
                partition.take_over(taker)?;
            }
        }
        Ok(Arc::new(partition))
    }

    pub(super) fn install(&self, loaded: &mut Loaded) {
        if let Some(last) = loaded.segments.back() {
            let mut index = lock(&last.index);
            // Of one that was sealed since it was read, this may not be all.
            if last.sealed.get().is_none() {
                *index = Some(std::mem::take(&mut loaded.index));
            }
        }
        let mut shared = lock(&self.shared);
        shared.segments.clone_from(&loaded.segments);
        shared.end = loaded.end;
        shared.whole = loaded.whole;
    }

    /// Reads the chain of segments and recovers the last.
    ///
    /// # Errors
    /// E0304 if they are damaged, E0306 if another segment than the one to seal is the last.
    pub(super) fn load(&self, purpose: Purpose) -> Result<Loaded> {
        let disk = self.env.disk.as_ref();
        let reading = |e: &std::io::Error| Error::io(format!("list {}", self.folder.display()), e);
        if purpose != Purpose::Read {
            crash_safe::sweep(disk, &self.folder)?;
        }
        let listing = self.list_whole()?;
        if purpose != Purpose::Read {
            self.sweep_below(&listing);
        }
        if let Purpose::Seal(expected) = purpose {
            self.refuse_if_followed(&listing, expected)?;
        }
        // Readers hold on to segments: one that is known already stays the same object.
        let known = lock(&self.shared).segments.clone();
        let mut segments: VecDeque<Arc<Segment>> = VecDeque::with_capacity(listing.segments.len());
        let mut length = 0;
        for (sequence, path) in listing.segments {
            let file = match disk.open(&path, OpenMode::Read) {
                Ok(file) => file,
                // Its owner, another process, removed it since it was listed.
                Err(e) if purpose != Purpose::Own && e.kind() == std::io::ErrorKind::NotFound => {
                    return self.load(purpose);
                }
                Err(e) => return Err(Error::io(format!("open log segment {}", path.display()), &e)),
            };
            let (header, header_length) = SegmentHeader::read(file.as_ref(), &path, SEGMENT_MAGIC)?;
            if header.sequence != sequence || header.partition != self.index || header.topic != self.topic.as_str() {
                return Err(damaged(&path, 0, "it belongs to another place"));
            }
            if let Some(previous) = segments.back() {
                seal_previous(previous, &header, length)?;
            }
            length = file.len().map_err(|e| reading(&e))?;
            let same = |segment: &&Arc<Segment>| segment.header.sequence == sequence && segment.header.id == header.id;
            let segment = known.iter().find(same).cloned();
            segments.push_back(segment.unwrap_or_else(|| Arc::new(Segment::new(header, header_length, path, &file))));
        }
        let Some(last) = segments.back().cloned() else {
            self.refuse_lost_end(0)?;
            let (end, whole, index, replay) = Default::default();
            return Ok(Loaded { segments, end, whole, index, replay, active: None });
        };
        let mut replay = last.header.replay.clone();
        let (end, whole, index, active) = self.recover_last(&last, purpose, &mut replay).or_else(|error| {
            if let Purpose::Seal(expected) = purpose {
                // Whoever decided meanwhile where it ends has cut it there.
                self.refuse_if_followed(&self.list()?, expected)?;
            }
            Err(error)
        })?;
        Ok(Loaded { segments, end, whole, index, replay, active })
    }

    fn refuse_if_followed(&self, listing: &Listing, last: Option<u64>) -> Result<()> {
        if listing.range().map(|(_, newest)| newest) == last {
            return Ok(());
        }
        Err(Error::new(Code::Fenced, format!("another owner of {self} began the next segment")))
    }

    fn refuse_lost_end(&self, end: u64) -> Result<()> {
        if end >= self.least_end {
            return Ok(());
        }
        let message = format!("{self} ends at offset {end}, and rows up to {} were committed", self.least_end);
        Err(Error::new(Code::CorruptLog, message)
            .at(Place::Named(self.folder.display().to_string()))
            .hint("its last segment is gone or cut: restore the folder from a copy, or delete the topic and fill it again; nothing was changed"))
    }

    /// Syncs, scans and, if it is to grow, cuts the last segment.
    fn recover_last(
        &self,
        last: &Arc<Segment>,
        purpose: Purpose,
        replay: &mut ReplayTable,
    ) -> Result<(Extent, u64, SparseIndex, Option<Active>)> {
        let mends = purpose != Purpose::Read;
        let mode = if mends { OpenMode::Write } else { OpenMode::Read };
        let failing = |e: &std::io::Error| Error::io(format!("recover {}", last.path.display()), e);
        let unsynced = |e: &std::io::Error| super::writer::lost(self, "sync", e);
        let file = self.env.disk.open(&last.path, mode).map_err(|e| failing(&e))?;
        last.share_file(&file);
        if mends {
            // What the process before wrote may not be synced yet, and readers will rely on it.
            file.sync_data().map_err(|e| unsynced(&e))?;
        }
        let scanned =
            scan_segment(file.as_ref(), &last.path, &last.header, last.header_length, replay, self.least_end, mends)?;
        // Before anything is cut or written.
        self.refuse_lost_end(scanned.end.offset)?;
        if !mends {
            let mut shown = scanned.confirmed;
            // Of a folder that is only looked at the owner may be gone for ever.
            if scanned.end != shown && self.access != Access::Shared && self.is_final(file.as_ref(), last)? {
                shown = scanned.end;
            }
            let mut index = scanned.index;
            index.cut(shown.position);
            return Ok((shown, scanned.end.offset, index, None));
        }
        let (end, is_own) = (scanned.end, purpose == Purpose::Own);
        if !scanned.is_marked {
            // After a failed sync the system may hold bytes for clean that are not on the disk, and a second
            // sync would skip them: what nothing confirms is written again.
            let mut window = Window::new(file.as_ref(), &last.path, end.position, REWRITE_PIECE);
            let mut position = scanned.confirmed.position;
            while position < end.position {
                let piece = window.get(position, REWRITE_PIECE)?;
                file.write_all_at(piece, position).map_err(|e| failing(&e))?;
                position += long(piece.len());
            }
            if is_own {
                file.set_len(end.position).map_err(|e| failing(&e))?;
            }
            file.sync_data().map_err(|e| unsynced(&e))?;
            if is_own {
                let mark = end_mark(last.header.id, end.position, end.offset, self.env.clock.now_ms());
                let marked = file
                    .allocate(end.position + long(END_MARK_BYTES))
                    .and_then(|()| file.write_all_at(&mark, end.position));
                match marked {
                    Ok(()) => file.sync_data().map_err(|e| unsynced(&e))?,
                    // A full disk can still be read; the mark comes with the next append.
                    Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {}
                    Err(e) => return Err(failing(&e)),
                }
            }
        }
        let allocated = if is_own { file.len().map_err(|e| failing(&e))? } else { end.position };
        Ok((end, end.offset, scanned.index, Some(Active { segment: Arc::clone(last), file, allocated })))
    }

    /// One group of appends: called by the log writer only.
    pub(super) fn write_group(&self, requests: Vec<Request>) {
        match lock(&self.writer).as_mut() {
            Some(writer) => writer.write_group(self, requests),
            None => {
                for request in requests {
                    request.reply.send(Err(self.read_only()));
                }
            }
        }
    }

    /// Marks the end of what the groups wrote, once no other group waits.
    pub(super) fn mark_end(&self) {
        if let Some(writer) = lock(&self.writer).as_mut() {
            writer.mark_end(self);
        }
    }

    pub(super) fn read_only(&self) -> Error {
        Error::new(Code::Usage, format!("{self} is open for reading only"))
    }

    /// Shows acknowledged rows to readers and wakes those that wait.
    pub(super) fn publish(&self, end: Extent) {
        let wakers = {
            let mut shared = lock(&self.shared);
            shared.end = end;
            std::mem::take(&mut shared.wakers)
        };
        self.arrived.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Looks again at a partition that is open for reading only: shows what its owner, another process,
    /// has written since, and wakes waiting readers. Returns the end offset. Does nothing where this
    /// process is the owner.
    ///
    /// # Errors
    /// E0304 if the log is damaged.
    pub fn refresh(&self) -> Result<u64> {
        if let Some(owner) = self.owner() {
            if !self.is_overtaken(owner)? {
                return Ok(self.end_offset());
            }
            self.disown(owner);
        }
        // One at a time, and none while this process takes the partition over: what was read first never replaces what
        // was read later.
        let writer = lock(&self.writer);
        if writer.is_some() {
            return Ok(self.end_offset());
        }
        let (last, end) = {
            let shared = lock(&self.shared);
            (shared.segments.back().cloned(), shared.end)
        };
        let (oldest, newest) = self.list()?.range().unzip();
        if let Some(oldest) = oldest {
            // What its owner removed.
            let mut shared = lock(&self.shared);
            while shared.segments.len() > 1 && shared.segments.front().is_some_and(|s| s.header.sequence < oldest) {
                shared.segments.pop_front();
            }
        }
        let is_last = |last: &Arc<Segment>| newest.is_none_or(|newest| newest <= last.header.sequence);
        let grown = last.filter(is_last).map(|last| last.file(self.env.disk.as_ref()).map(|file| (last, file)));
        let (last, file) = match grown {
            Some(Ok(grown)) => grown,
            // It was removed since the folder was listed.
            Some(Err(error)) if error.code() != Code::PathNotFound => return Err(error),
            Some(Err(_)) | None => {
                if newest.is_some() {
                    let mut loaded = self.load(Purpose::Read)?;
                    self.install(&mut loaded);
                    self.publish(loaded.end);
                }
                return Ok(self.end_offset());
            }
        };
        let grown = scan_on(file.as_ref(), &last.path, &last.header, end)?;
        let is_final =
            self.has_waited(&grown) && (self.was_committed(grown.end)? || self.is_final(file.as_ref(), &last)?);
        let shown = if is_final { grown.end } else { grown.confirmed };
        if let Some(index) = lock(&last.index).as_mut() {
            let data = grown.frames.iter().filter(|frame| frame.kind == FrameKind::Data);
            for frame in data.take_while(|frame| frame.position < shown.position) {
                index.push(frame.first_offset, frame.position, frame.time_max());
            }
        }
        if shown.position > end.position {
            self.publish(shown);
        }
        Ok(shown.offset)
    }

    /// Whether what its owner wrote last has stood for so long without a word that it was synced that there will be none:
    /// the owner is gone, and has acknowledged it or not.
    fn has_waited(&self, grown: &Grown) -> bool {
        let now = self.env.clock.monotonic();
        let mut shared = lock(&self.shared);
        shared.whole = grown.end.offset;
        if grown.end == grown.confirmed {
            shared.unconfirmed = None;
            return false;
        }
        let since = shared.unconfirmed.filter(|(end, _)| *end == grown.end).map_or(now, |(_, since)| since);
        shared.unconfirmed = Some((grown.end, since));
        now.saturating_sub(since) >= CONFIRMED_WITHIN || planted(Bug::ReadUnsynced)
    }

    /// Whether a commit that was acknowledged reached as far.
    fn was_committed(&self, end: Extent) -> Result<bool> {
        let rows = self.folder.parent().unwrap_or(&self.folder);
        Ok(ends::least(self.env.disk.as_ref(), rows, self.index)? >= end.offset)
    }

    /// P11: makes whole runs durable that nobody says are, and sees that nobody has decided where their segment ends
    /// meanwhile: then they stay for ever.
    ///
    /// # Errors
    /// E0305 if they cannot be made durable.
    fn is_final(&self, file: &dyn File, segment: &Segment) -> Result<bool> {
        if planted(Bug::ReadUnsynced) {
            return Ok(true);
        }
        file.sync_data().map_err(|e| super::writer::lost(self, "sync", &e))?;
        match refuse_if_sealed(self, segment, OwnerToken(segment.header.owner)) {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Code::Fenced => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether another process has taken the partition over from this one.
    fn is_overtaken(&self, owner: OwnerToken) -> Result<bool> {
        let known = lock(&self.shared).segments.back().map(|last| last.header.sequence);
        Ok(self.access == Access::Shared
            && self.list()?.range().map(|(_, newest)| newest) > known
            && self.refuse_if_outranked(owner).is_err_and(|error| error.code() == Code::Fenced))
    }

    /// Seals the last segment at `sealed` and adds the next.
    pub(super) fn add_segment(&self, segment: Arc<Segment>, sealed: Extent, end: Extent) {
        let mut shared = lock(&self.shared);
        if let Some(last) = shared.segments.back() {
            // Set once: only the writer seals, and it seals a segment once.
            let _ = last.sealed.set(sealed);
        }
        shared.segments.push_back(segment);
        shared.end = end;
    }

    pub fn index(&self) -> u32 {
        self.index
    }

    /// Lowest offset that is still there.
    pub fn first_offset(&self) -> u64 {
        lock(&self.shared).segments.front().map_or(0, |segment| segment.header.base_offset)
    }

    /// Offset that the next row will get; every row below it is durable.
    pub fn end_offset(&self) -> u64 {
        lock(&self.shared).end.offset
    }

    /// The owner whose appends are taken. None if open for reading only.
    pub fn owner(&self) -> Option<OwnerToken> {
        lock(&self.writer).as_ref().map(|writer| writer.owner)
    }

    /// Bytes of log, without preallocated space.
    pub fn bytes(&self) -> u64 {
        let shared = lock(&self.shared);
        shared.segments.iter().map(|segment| segment.sealed.get().unwrap_or(&shared.end).position).sum()
    }

    /// Offset at which each segment begins, oldest first. Several may begin at one: all but the last of
    /// them are empty.
    pub fn segment_offsets(&self) -> Vec<u64> {
        lock(&self.shared).segments.iter().map(|segment| segment.header.base_offset).collect()
    }

    pub(super) fn segment_ids(&self) -> BTreeSet<u64> {
        lock(&self.shared).segments.iter().map(|segment| segment.header.id).collect()
    }

    /// Number of segment files.
    pub fn segments(&self) -> usize {
        lock(&self.shared).segments.len()
    }

    /// Wakes `waker` once rows at or past `offset` are there; at once if they are already.
    pub fn register(&self, offset: u64, waker: &Waker) {
        let mut shared = lock(&self.shared);
        if shared.end.offset > offset {
            drop(shared);
            waker.wake_by_ref();
        } else if !shared.wakers.iter().any(|known| known.will_wake(waker)) {
            shared.wakers.push(waker.clone());
        }
    }

    /// Waits until rows at or past `offset` are there or the time is over. Returns whether they are.
    pub(super) fn wait_past(&self, offset: u64, at_most: Duration) -> bool {
        let shared = lock(&self.shared);
        if shared.end.offset > offset {
            return true;
        }
        self.arrived.wait_timeout(&self.shared, shared, at_most).end.offset > offset
    }

    /// The segment that holds `offset`, or will hold it.
    ///
    /// # Errors
    /// E0213 if retention took it, or it lies past the end.
    pub(super) fn segment_of(&self, offset: u64) -> Result<Option<Arc<Segment>>> {
        let shared = lock(&self.shared);
        let first = shared.segments.front().map_or(0, |segment| segment.header.base_offset);
        // What is not known to be synced is shown later, also to whoever has read it before everything failed.
        if offset < first || offset > shared.end.offset.max(shared.whole) {
            let end = shared.end.offset;
            let what = if offset < first { "gone" } else { "not there yet" };
            return Err(offset_gone(&format!(
                "offset {offset} of {self} is {what}: it holds {first} to {end} (excluded)"
            )));
        }
        // Of several segments that begin at one offset all but the last are empty.
        let after = shared.segments.partition_point(|segment| segment.header.base_offset <= offset);
        Ok(after.checked_sub(1).and_then(|i| shared.segments.get(i)).cloned())
    }

    /// The segment after one that a reader has finished.
    pub(super) fn segment_after(&self, sequence: u64) -> Option<Arc<Segment>> {
        let shared = lock(&self.shared);
        let at = shared.segments.partition_point(|segment| segment.header.sequence <= sequence);
        shared.segments.get(at).cloned()
    }

    /// How far a segment may be read. None if it went before this process heard where it ended.
    pub(super) fn extent(&self, segment: &Segment) -> Option<Extent> {
        let shared = lock(&self.shared);
        let is_last = || shared.segments.back().is_some_and(|last| last.header.id == segment.header.id);
        segment.sealed.get().copied().or_else(|| is_last().then_some(shared.end))
    }

    /// Runs `look` on a segment's index, building it first if need be.
    pub(super) fn with_index<T>(&self, segment: &Segment, look: impl FnOnce(&SparseIndex) -> T) -> Result<T> {
        let mut slot = lock(&segment.index);
        if slot.is_none() {
            let gone = || offset_gone(&format!("{} is gone", segment.path.display()));
            let extent = self.extent(segment).ok_or_else(gone)?;
            let is_sealed = segment.sealed.get().is_some();
            *slot = is_sealed.then(|| self.indexes.get(self, segment, extent)).flatten();
            if slot.is_none() {
                let file = segment.file(self.env.disk.as_ref())?;
                let built = index_sealed(file.as_ref(), &segment.path, &segment.header, segment.header_length, extent)?;
                if is_sealed {
                    self.indexes.put(self, segment, extent, &built);
                }
                *slot = Some(built);
            }
        }
        slot.as_ref().map(look).ok_or_else(|| Error::internal("a segment without an index"))
    }

    /// The lowest offset whose frame holds a row at or after `time_ms` (event time where the frame has
    /// one, else the time of its append); the end if there is none.
    pub fn offset_for_time(&self, time_ms: i64) -> Result<u64> {
        let segments: Vec<Arc<Segment>> = lock(&self.shared).segments.iter().cloned().collect();
        for segment in segments {
            let Some(limit) = self.extent(&segment) else { continue };
            let Some(from) = self.with_index(&segment, |index| index.seek_time(time_ms))? else { continue };
            let file = segment.file(self.env.disk.as_ref())?;
            let mut found = None;
            walk_headers(file.as_ref(), &segment.path, &segment.header, from, limit.position, |header| {
                if header.rows > 0 && header.time_max() >= time_ms {
                    found = Some(header.first_offset);
                }
                found.is_none()
            })?;
            if let Some(offset) = found {
                return Ok(offset);
            }
        }
        Ok(self.end_offset())
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of topic `{}`", self.index, self.topic)
    }
}

/// E0213.
pub(super) fn offset_gone(message: &str) -> Error {
    Error::new(Code::OffsetGone, message)
        .hint("start from `earliest` or from an offset that is still there; raise the topic's retention to keep more")
}

/// The chain: each header tells how its predecessor ended.
fn seal_previous(previous: &Segment, next: &SegmentHeader, length: u64) -> Result<()> {
    let why = if next.base_offset < previous.header.base_offset || next.previous_length < previous.header_length {
        "the segment after it contradicts it"
    } else if length < next.previous_length {
        "it is shorter than when it was sealed"
    } else {
        let extent = Extent { position: next.previous_length, offset: next.base_offset };
        if previous.sealed.set(extent).is_ok() {
            // What was indexed of it while it grew elsewhere is not all of it.
            *lock(&previous.index) = None;
        }
        return Ok(());
    };
    Err(damaged(&previous.path, length, why))
}
