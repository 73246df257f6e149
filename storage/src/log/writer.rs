//! The writing half of a partition: accepts appends, writes them in groups, rolls segments.
//!
//! Only the log writer (or whoever steps it) calls [`Writer::write_group`], under the partition's
//! writer lock. An append is answered only after its bytes were synced *and* the seal marker was seen
//! to be absent after the sync (P11). What fails half-way poisons the partition for good: after a
//! failed write or sync nobody knows what is on the disk, and trying again would lie (E0305).

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use qanat_proto::check;
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::ids::JobId;
use qanat_proto::zoo::{Bug, planted};
use serde::{Deserialize, Serialize};

use super::answer::{Reply, Sleepers};
use super::codec::long;
use super::frame::{
    END_MARK_BYTES, FrameHeader, FrameKind, Placement, Run, WriterStamp, end_mark, finish_frame, header_length,
    place_frame, rows, time_max,
};
use super::group::Request;
use super::partition::{Access, Partition};
use super::payload::{EncodedRun, TopicSchema};
use super::replay::{ReplayKey, ReplayTable};
use super::segment::{Extent, SEGMENT_MAGIC, Segment, SegmentHeader, damaged, seal_path, segment_path};
use super::topic::AppendOptions;
use crate::crash_safe;
use crate::env::{File, OpenMode};

/// Frames gathered in memory before they are written, synced or not.
const GATHERED_BYTES_MAX: u64 = 16 << 20;
/// Preallocation grows with the segment up to this, so that small topics stay small on disk.
const ALLOCATE_BYTES_MAX: u64 = 16 << 20;
/// Small runs find their space filled with zeros, this much at a time: a sync into space that is only reserved
/// must also write the file system's journal, which takes as long again. For larger runs the bytes count, and
/// are written once.
const FILL_BYTES_MAX: u64 = 4 << 20;
const FILLED_FOR_RUNS_OF: u64 = 64 << 10;

/// Fencing token of a partition's owner. Handed out rising by whoever assigns partitions; within one
/// process with its own data folder it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerToken(pub u64);

/// The answer to an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offsets of the rows. Empty if nothing was appended.
    pub offsets: Range<u64>,
    /// The handle was committed before: nothing was appended now.
    pub was_done: bool,
}

#[expect(clippy::large_enum_variant, reason = "nearly every request is an append")]
pub(super) enum Work {
    Append(Append),
    /// Forget a dropped job's handles.
    Forget(JobId),
}

/// One run to append.
pub(super) struct Append {
    pub rows: Rows,
    pub count: u64,
    pub bytes: u64,
    pub frames: u32,
    pub checksum: u32,
    pub key: Option<ReplayKey>,
    /// Refused if the partition has another owner by now. None: whoever owns it here.
    pub owner: Option<OwnerToken>,
    pub begins_segment: bool,
    pub schema: TopicSchema,
}

pub(super) enum Rows {
    Memory(Vec<Vec<u8>>),
    /// Verified frames of a staging file, read when their turn comes.
    Staged {
        file: Arc<dyn File>,
        path: PathBuf,
        frames: Vec<StagedFrame>,
    },
}

/// Where a frame lies in a staging file.
#[derive(Clone, Copy, Debug)]
pub(super) struct StagedFrame {
    pub position: u64,
    pub length: u32,
}

impl Work {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Append(append) => append.bytes,
            Self::Forget(_) => long(END_MARK_BYTES),
        }
    }
}

impl Append {
    pub(super) fn memory(run: EncodedRun, schema: TopicSchema, options: &AppendOptions) -> Self {
        Self {
            count: run.rows,
            bytes: run.bytes,
            frames: u32::try_from(run.frames.len()).unwrap_or(u32::MAX),
            checksum: run.checksum,
            rows: Rows::Memory(run.frames),
            key: None,
            owner: options.owner,
            begins_segment: options.begins_segment,
            schema,
        }
    }
}

/// The segment that grows.
pub(super) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn File>,
    /// Length of the file: everything in it past the data reads as zero.
    pub allocated: u64,
}

/// What a run asks of the segment it goes into.
struct Needs<'a> {
    bytes: u64,
    /// None: it has no rows.
    schema: Option<&'a TopicSchema>,
    begins_segment: bool,
}

pub(super) struct Writer {
    /// Set once, never cleared.
    pub failed: Option<Error>,
    pub owner: OwnerToken,
    pub replay: ReplayTable,
    /// None until the first append or takeover.
    pub active: Option<Active>,
    /// Synced and acknowledged up to here.
    pub end: Extent,
    /// Where the last mark stands, or the end as it was found.
    marked: Extent,
    /// Accepted up to here.
    next: Extent,
    /// Bytes accepted and not yet written.
    gathered: Vec<Vec<u8>>,
    gathered_bytes: u64,
    /// Index entries of accepted frames.
    unindexed: Vec<(u64, u64, i64)>,
    buffer: Vec<u8>,
    /// Set while a group is written: found set, the last group ended in a panic.
    is_writing: bool,
}

type Waiting = Vec<(Reply, Appended)>;

impl Writer {
    pub(super) fn new(owner: OwnerToken, replay: ReplayTable, active: Option<Active>, end: Extent) -> Self {
        Self {
            failed: None,
            owner,
            replay,
            active,
            end,
            marked: end,
            next: end,
            gathered: Vec::new(),
            gathered_bytes: 0,
            unindexed: Vec::new(),
            buffer: Vec::new(),
            is_writing: false,
        }
    }

    /// One that appends nothing.
    pub(super) fn lost(owner: OwnerToken, error: Error) -> Self {
        let writer = Self::new(owner, ReplayTable::default(), None, Extent::default());
        Self { failed: Some(error), ..writer }
    }

    /// Accepts, writes, syncs and answers a group.
    pub(super) fn write_group(&mut self, partition: &Partition, requests: Vec<Request>) {
        let mut waiting = Vec::with_capacity(requests.len());
        if std::mem::replace(&mut self.is_writing, true) {
            self.poison(Error::internal(format!("the writer of {partition} panicked")));
        }
        for request in requests {
            match self.accept(partition, request.work, &mut waiting) {
                Ok(appended) => waiting.push((request.reply, appended)),
                Err(error) => request.reply.send(Err(error)),
            }
        }
        self.flush(partition, &mut waiting);
        self.is_writing = false;
    }

    fn accept(&mut self, partition: &Partition, work: Work, waiting: &mut Waiting) -> Result<Appended> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match work {
            Work::Append(append) => self.accept_append(partition, append, waiting),
            Work::Forget(job) => self.accept_forget(partition, job, waiting),
        }
    }

    fn accept_append(&mut self, partition: &Partition, append: Append, waiting: &mut Waiting) -> Result<Appended> {
        if let Some(owner) = append.owner
            && owner != self.owner
        {
            return Err(fenced(partition, owner, self.owner));
        }
        if let Some(key) = &append.key
            && self.replay.is_done(&key.stamp(), &key.name)
        {
            return Ok(Appended { offsets: self.next.offset..self.next.offset, was_done: true });
        }
        let needs = Needs { bytes: append.bytes, schema: Some(&append.schema), begins_segment: append.begins_segment };
        self.make_room(partition, &needs, waiting)?;
        let from = self.next.offset;
        let run = Run { id: from, index: 0, frames: append.frames, bytes: append.bytes, checksum: append.checksum };
        match append.rows {
            Rows::Memory(frames) => {
                for (index, frame) in (0..).zip(frames) {
                    self.gather(partition, frame, Run { index, ..run })?;
                }
            }
            Rows::Staged { file, path, frames } => {
                for (index, staged) in (0..).zip(frames) {
                    let frame = read_staged(file.as_ref(), &path, staged).inspect_err(|e| self.poison(e.clone()))?;
                    self.gather(partition, frame, Run { index, ..run })?;
                }
            }
        }
        check!(
            I8,
            self.next.offset == from + append.count,
            "{partition} counts {} rows of a run of {}",
            self.next.offset - from,
            append.count
        )
        .inspect_err(|e| self.poison(e.clone()))?;
        if let Some(key) = &append.key {
            self.replay.remember(&key.stamp(), &key.name);
        }
        Ok(Appended { offsets: from..self.next.offset, was_done: false })
    }

    fn accept_forget(&mut self, partition: &Partition, job: JobId, waiting: &mut Waiting) -> Result<Appended> {
        let nothing = Appended { offsets: self.next.offset..self.next.offset, was_done: true };
        if !self.replay.knows(job) {
            return Ok(nothing);
        }
        let mut frame = vec![0; header_length("")];
        let writer = WriterStamp { job, ..WriterStamp::NONE };
        finish_frame(&mut frame, FrameKind::Forget, 0, None, &writer, "");
        let needs = Needs { bytes: long(frame.len()), schema: None, begins_segment: false };
        self.make_room(partition, &needs, waiting)?;
        let run = Run { id: self.next.offset, index: 0, frames: 1, bytes: long(frame.len()), checksum: 0 };
        self.gather(partition, frame, run)?;
        self.replay.forget(job);
        Ok(Appended { was_done: false, ..nothing })
    }

    /// Makes sure that a run fits the growing segment: it never crosses into the next.
    fn make_room(&mut self, partition: &Partition, needs: &Needs<'_>, waiting: &mut Waiting) -> Result<()> {
        let Needs { bytes, schema, begins_segment } = *needs;
        let must_roll = match &self.active {
            None => true,
            Some(active) => {
                let is_empty = self.next.position == active.segment.header_length;
                let is_full = self.next.position.saturating_add(bytes) > partition.options.segment_bytes;
                let age_ms = partition.env.clock.now_ms().saturating_sub(active.segment.header.created_ms);
                let is_old = partition.options.roll_after_ms.is_some_and(|most| age_ms > most);
                ((is_full || is_old || begins_segment) && !is_empty)
                    || (active.segment.header.schema.is_empty() && schema.is_some())
            }
        };
        if must_roll {
            self.flush(partition, waiting);
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            self.roll(partition, self.owner, schema.map(|schema| Arc::clone(&schema.message)))?;
        }
        let Some(active) = &mut self.active else { return Err(Error::internal("a log without a segment")) };
        let needed = self.next.position.saturating_add(bytes).saturating_add(long(END_MARK_BYTES));
        if needed > active.allocated {
            let least = partition.options.allocate_bytes;
            let is_filled = bytes <= FILLED_FOR_RUNS_OF;
            let most = if is_filled { FILL_BYTES_MAX } else { ALLOCATE_BYTES_MAX };
            let step = active.allocated.clamp(least, most.min(partition.options.segment_bytes).max(least));
            let target = needed.saturating_add(step);
            let reserved = active.file.allocate(target).and_then(|()| match is_filled {
                true => fill(active.file.as_ref(), active.allocated..target),
                false => Ok(()),
            });
            reserved.map_err(|e| Error::io(format!("reserve space for {}", active.segment.path.display()), &e))?;
            active.allocated = target;
        }
        Ok(())
    }

    /// Puts one frame behind what was accepted.
    fn gather(&mut self, partition: &Partition, mut frame: Vec<u8>, run: Run) -> Result<()> {
        let Some(active) = &self.active else { return Err(Error::internal("a log without a segment")) };
        let place = Placement {
            segment_id: active.segment.header.id,
            position: self.next.position,
            confirmed: self.end.position,
            first_offset: self.next.offset,
            append_ms: partition.env.clock.now_ms(),
            run,
        };
        place_frame(&mut frame, &place);
        let count = u64::from(rows(&frame));
        if count > 0 {
            self.unindexed.push((place.first_offset, place.position, time_max(&frame)));
        }
        let length = long(frame.len());
        self.next = Extent { position: place.position + length, offset: place.first_offset + count };
        self.gathered.push(frame);
        self.gathered_bytes += length;
        if self.gathered_bytes >= GATHERED_BYTES_MAX {
            self.write_gathered(partition).inspect_err(|e| self.poison(e.clone()))?;
        }
        Ok(())
    }

    /// One write of everything gathered.
    fn write_gathered(&mut self, partition: &Partition) -> Result<()> {
        let Some(active) = &self.active else { return Ok(()) };
        let position = self.next.position - self.gathered_bytes;
        let bytes = match self.gathered.as_slice() {
            [] => return Ok(()),
            [frame] => frame.as_slice(),
            frames => {
                self.buffer.clear();
                for frame in frames {
                    self.buffer.extend_from_slice(frame);
                }
                self.buffer.as_slice()
            }
        };
        active.file.write_all_at(bytes, position).map_err(|e| lost(partition, "write", &e))?;
        self.gathered.clear();
        self.gathered_bytes = 0;
        Ok(())
    }

    /// Writes and syncs what was accepted, shows it to readers, and answers.
    fn flush(&mut self, partition: &Partition, waiting: &mut Waiting) {
        if self.failed.is_none()
            && let Err(error) = self.flush_accepted(partition)
        {
            self.poison(error);
        }
        let mut sleepers = Sleepers::default();
        for (reply, appended) in waiting.drain(..) {
            let answer = self.failed.as_ref().map_or(Ok(appended), |error| Err(error.clone()));
            reply.put(answer, &mut sleepers);
        }
        sleepers.wake();
    }

    fn flush_accepted(&mut self, partition: &Partition) -> Result<()> {
        if self.next == self.end {
            return Ok(());
        }
        self.write_gathered(partition)?;
        let Some(active) = &self.active else { return Err(Error::internal("a log without a segment")) };
        if !planted(Bug::SkipSync) {
            let synced = active.file.sync_data();
            synced
                .or_else(|e| if planted(Bug::SyncAgain) { active.file.sync_data() } else { Err(e) })
                .map_err(|e| lost(partition, "sync", &e))?;
        }
        if !planted(Bug::IgnoreSeal) {
            refuse_if_sealed(partition, &active.segment, self.owner)?;
        }
        if let Some(index) = super::lock(&active.segment.index).as_mut() {
            for (offset, position, time) in self.unindexed.drain(..) {
                index.push(offset, position, time);
            }
        }
        self.end = self.next;
        partition.publish(self.end);
        Ok(())
    }

    /// Says behind the last run that everything before was synced. Not synced itself: it only helps to
    /// tell damage from a torn end, and the next group writes over it.
    pub(super) fn mark_end(&mut self, partition: &Partition) {
        if self.failure().is_some() || self.marked == self.end {
            return;
        }
        self.marked = self.end;
        let Some(active) = &self.active else { return };
        if self.end.position.saturating_add(long(END_MARK_BYTES)) > active.allocated {
            // A segment that was just begun and, its disk being full, got no space: nothing to mark yet.
            return;
        }
        let now_ms = partition.env.clock.now_ms();
        let mark = end_mark(active.segment.header.id, self.end.position, self.end.offset, now_ms);
        if let Err(e) = active.file.write_all_at(&mark, self.end.position) {
            self.poison(lost(partition, "write", &e));
        }
    }

    /// Seals the growing segment and begins the next. Everything accepted was flushed.
    ///
    /// # Errors
    /// E0306 if another owner began a segment of the same number, now or long ago; E0305 after which the partition is
    /// poisoned; others (a full disk) leave it as it was.
    pub(super) fn roll(&mut self, partition: &Partition, owner: OwnerToken, schema: Option<Arc<[u8]>>) -> Result<()> {
        let mut previous_length = 0;
        let mut sequence = 0;
        let mut kept_schema = None;
        if let Some(active) = &mut self.active {
            let length = self.end.position;
            if active.allocated != length {
                let sealed = active.file.set_len(length).and_then(|()| active.file.sync_data());
                if let Err(e) = sealed {
                    let error = lost(partition, "seal", &e);
                    self.poison(error.clone());
                    return Err(error);
                }
                active.allocated = length;
            }
            previous_length = length;
            sequence = active.segment.header.sequence + 1;
            kept_schema = Some(Arc::clone(&active.segment.header.schema));
        }
        let schema = schema.or(kept_schema).unwrap_or_else(|| Arc::from([].as_slice()));
        let header = SegmentHeader {
            topic: partition.topic.to_string(),
            partition: partition.index,
            sequence,
            id: partition.env.entropy.u64(),
            base_offset: self.end.offset,
            owner: owner.0,
            created_ms: partition.env.clock.now_ms(),
            previous_length,
            schema,
            replay: if planted(Bug::ForgetCommits) { ReplayTable::default() } else { self.replay.clone() },
        };
        let (segment, file) = create_segment(partition, header).inspect_err(|error| {
            if error.code() == Code::FsyncFailed || error.code() == Code::Fenced {
                self.poison(error.clone());
            }
        })?;
        let before = self.active.as_ref().map(|active| active.segment.as_ref());
        refuse_if_passed(partition, before, sequence, self.owner).inspect_err(|error| self.poison(error.clone()))?;
        let end = Extent { position: segment.header_length, offset: self.end.offset };
        let allocated = segment.header_length;
        let segment = Arc::new(segment);
        let sealed = self.end;
        partition.add_segment(Arc::clone(&segment), sealed, end);
        if let Some(active) = &self.active
            && let Some(index) = super::lock(&active.segment.index).as_ref()
        {
            partition.indexes.put(partition, &active.segment, sealed, index);
        }
        self.active = Some(Active { segment, file, allocated });
        self.owner = owner;
        self.end = end;
        self.next = end;
        Ok(())
    }

    /// Why it appends nothing any more. Asked under its lock: a group that is still being written then ended in a panic.
    pub(super) fn failure(&self) -> Option<Error> {
        let panicked = || self.is_writing.then(|| Error::internal("the writer of the partition panicked"));
        self.failed.clone().or_else(panicked)
    }

    /// Whether it failed by itself, and nobody knows what of it is on the disk.
    pub(super) fn is_lost(&self) -> bool {
        self.failure().is_some_and(|error| !matches!(error.code(), Code::Fenced | Code::UnknownTopic))
    }

    pub(super) fn poison(&mut self, error: Error) {
        if self.failed.is_none() {
            tracing::error!(%error, "a log partition refuses further appends");
            self.failed = Some(error);
            self.gathered.clear();
            self.gathered_bytes = 0;
        }
    }
}

/// Writes zeros where nothing but zeros is read.
fn fill(file: &dyn File, space: Range<u64>) -> std::io::Result<()> {
    const PIECE: u64 = 256 << 10;
    static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];
    let mut at = space.start;
    while at < space.end {
        let length = PIECE.min(space.end - at);
        file.write_all_at(ZEROS.get(..length as usize).unwrap_or_default(), at)?;
        at += length;
    }
    Ok(())
}

/// Writes a whole, synced header under the segment's name, which nobody else may have taken.
fn create_segment(partition: &Partition, header: SegmentHeader) -> Result<(Segment, Arc<dyn File>)> {
    let path = segment_path(&partition.folder, header.sequence);
    let bytes = header.to_bytes(SEGMENT_MAGIC);
    // Whatever fails once the name may be taken: whether there is a segment, nobody knows.
    let unknown = |e: &std::io::Error| lost(partition, "begin a segment of", e);
    crash_safe::write_new(&partition.env, &path, &bytes).map_err(|e| match e {
        crash_safe::Error::Exists(_) => Error::new(
            Code::Fenced,
            format!("{partition} was taken over: segment {} is there already", header.sequence),
        ),
        crash_safe::Error::Sync { source, .. } | crash_safe::Error::Draft { source, .. } => unknown(&source),
        crash_safe::Error::Io { path: named, source, .. } if named == path => unknown(&source),
        e @ crash_safe::Error::Io { .. } => e.into(),
    })?;
    let file = partition.env.disk.open(&path, OpenMode::Write).map_err(|e| unknown(&e))?;
    let segment = Segment::new(header, long(bytes.len()), path, &file);
    *super::lock(&segment.index) = Some(super::index::SparseIndex::default());
    Ok((segment, file))
}

/// E0306 if somebody linked a seal marker for this segment (P11), or has removed the segment since, and the marker
/// with it.
pub(super) fn refuse_if_sealed(partition: &Partition, segment: &Segment, owner: OwnerToken) -> Result<()> {
    let disk = partition.env.disk.as_ref();
    let failing = |e: std::io::Error| lost(partition, "look for the seal of", &e);
    let is_sealed = disk.exists(&seal_path(&partition.folder, segment.header.sequence)).map_err(failing)?;
    // Removal takes the segment first. A topic of the same name that was made anew has another one in its place.
    if is_sealed || (partition.access == Access::Shared && !segment.stands(disk).map_err(failing)?) {
        return Err(Error::new(Code::Fenced, format!("{partition} was taken over from owner {}", owner.0)));
    }
    Ok(())
}

/// E0306 if the number of the segment that was just begun behind `before` had been used, and was free again: the owner
/// of it came later than this one, and retention has removed what it wrote. It takes the lowest number first, so the
/// segment before is gone as well; and if it stands, everyone who comes from now on finds the one that was begun.
fn refuse_if_passed(partition: &Partition, before: Option<&Segment>, begun: u64, owner: OwnerToken) -> Result<()> {
    if partition.access != Access::Shared {
        return Ok(());
    }
    let is_passed = match before {
        Some(before) => before.stands(partition.env.disk.as_ref()).map(|stands| !stands),
        // The first of all: whoever had it before has others by now.
        None => {
            let range = partition.list().map(|listing| listing.range()).map_err(std::io::Error::other);
            range.map(|range| range != Some((begun, begun)))
        }
    };
    match is_passed {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::new(Code::Fenced, format!("{partition} was taken over from owner {}", owner.0))),
        Err(e) => Err(lost(partition, "look for the segment before the one that begins", &e)),
    }
}

fn read_staged(file: &dyn File, path: &std::path::Path, staged: StagedFrame) -> Result<Vec<u8>> {
    let mut frame = vec![0; staged.length as usize];
    super::segment::read_exact(file, path, &mut frame, staged.position)?;
    match FrameHeader::parse(&frame) {
        Some(header) if header.length == staged.length && header.payload_is_whole(&frame) => Ok(frame),
        _ => Err(damaged(path, staged.position, "a staged frame does not match its checksum")),
    }
}

pub(super) fn fenced(partition: &Partition, theirs: OwnerToken, ours: OwnerToken) -> Error {
    Error::new(
        Code::Fenced,
        format!("{partition} belongs to owner {}, the append came from owner {}", ours.0, theirs.0),
    )
}

/// E0305: what is on disk is unknown from here on.
pub(super) fn lost(partition: &Partition, what: &str, error: &std::io::Error) -> Error {
    Error::new(Code::FsyncFailed, format!("could not {what} {partition}: {error}"))
        .hint("mend the disk and start again, or wait in a cluster: recovery keeps all that was acknowledged")
}
