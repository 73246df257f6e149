//! Rows that wait for their epoch's claim: staged aside, appended at commit, once.
//!
//! ```text
//! write, write, ...   frames into <partition>/.staged/<handle>, in no partition yet
//! prepare             sync them: the handle goes into the manifest
//! commit(handle)      append them as one atomic run per partition; the handle is remembered (P12)
//! ```
//!
//! No open transaction ever stands in a partition, so nothing ever holds readers up, and a generation
//! that dies leaves only files that [`Topic::abort_lower`] removes. What must never happen: a handle
//! counted as done whose rows are not in the partition. A commit that finds neither its rows nor the
//! memory of having appended them is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, Token};
use qanat_proto::names::Origin;
use serde::{Deserialize, Serialize};

use super::codec::long;
use super::frame::{EventTime, FRAME_FIXED, FrameHeader, Placement, Run, extend_checksum, place_frame};
use super::group::Pending;
use super::partition::{Access, Partition, Purpose};
use super::payload::{PayloadDecoder, TopicSchema};
use super::reader::LogBatch;
use super::replay::{ReplayKey, ReplayTable};
use super::segment::{STAGED_MAGIC, SegmentHeader, Window, damaged};
use super::topic::Topic;
use super::writer::{Append, Appended, OwnerToken, Rows, StagedFrame, Work, fenced};
use super::{ends, lock};
use crate::env::{Disk, File, OpenMode, thread};

/// Hidden folder of a partition.
pub(super) const STAGED_FOLDER: &str = ".staged";
/// Bytes gathered before they are written.
const GATHERED_BYTES_MAX: usize = 1 << 20;
const PIECE: usize = 1 << 20;

/// What was staged under one name: the content of a `PreparedHandle`'s detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedHandle {
    /// [`Origin::object`]: unique for ever, the key of a replay.
    pub name: String,
    pub topic: String,
    /// Partitions with at least one row.
    pub partitions: Vec<StagedPartition>,
}

/// The rows of a handle in one partition, and what proves them whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedPartition {
    pub partition: u32,
    pub rows: u64,
    pub frames: u32,
    /// Bytes of the frames.
    pub bytes: u64,
    /// The run's checksum.
    pub checksum: u32,
}

/// What a commit did in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub handle: String,
    pub partition: u32,
    pub appended: Appended,
}

/// Stages the rows of one epoch of one subtask.
pub struct Staging {
    topic: Arc<Topic>,
    key: ReplayKey,
    files: BTreeMap<u32, StagedFile>,
}

struct StagedFile {
    folder: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    id: u64,
    /// Of the next frame.
    position: u64,
    gathered: Vec<u8>,
    total: StagedPartition,
}

impl Topic {
    /// Begins to stage rows under the name that `origin` and `sequence` make.
    pub fn stage(self: &Arc<Self>, origin: Origin, sequence: u64) -> Staging {
        let key = ReplayKey { origin, name: origin.object(sequence) };
        Staging { topic: Arc::clone(self), key, files: BTreeMap::new() }
    }

    /// Appends what was staged under these handles: one atomic run per handle and partition, all in as
    /// few groups as possible. Does nothing for a handle that was committed before, or whose epoch lies
    /// below one that was. May be called again after any failure or crash.
    ///
    /// # Errors
    /// E0304 if staged rows are missing or damaged; E0305, E0306 as for an append.
    pub fn commit(&self, handles: &[StagedHandle]) -> Result<Vec<Committed>> {
        self.commit_as(handles, None)
    }

    /// [`Topic::commit`] in the name of an owner: E0306 if a partition has another by now.
    pub fn commit_as(&self, handles: &[StagedHandle], owner: Option<OwnerToken>) -> Result<Vec<Committed>> {
        // Everything is looked at before anything is appended: a handle that lacks rows in one partition
        // is refused in all.
        let mut ready = Vec::new();
        let mut staged_files = Vec::new();
        for handle in handles {
            let key = ReplayKey::parse(&handle.name)?;
            for staged in &handle.partitions {
                let partition = self.partition(staged.partition)?;
                staged_files.push(staged_path(&partition.folder, &handle.name));
                let part = prepare_commit(&partition, &key, staged, owner)?;
                ready.push((handle.name.clone(), partition, part));
            }
        }
        let mut submitted = Vec::with_capacity(ready.len());
        for (handle, partition, part) in ready {
            let pending = match part {
                Part::New(append) => partition.commit.submit(&partition, Work::Append(append)),
                Part::Done(end) => Pending::ready(Appended { offsets: end..end, was_done: true }),
            };
            submitted.push((handle, partition, pending));
        }
        let mut committed = Vec::with_capacity(submitted.len());
        let mut reached = BTreeMap::new();
        for (handle, partition, pending) in submitted {
            let appended = pending.wait()?;
            // No further: what is to be seen behind it may be another owner's, and not durable yet.
            let end = reached.entry(partition.index()).or_default();
            *end = appended.offsets.end.max(*end);
            committed.push(Committed { handle, partition: partition.index(), appended });
        }
        let noting = lock(&self.noting);
        ends::note(self.env(), self.folder(), reached)?;
        drop(noting);
        for path in staged_files {
            remove_if_there(self.env().disk.as_ref(), &path)?;
        }
        Ok(committed)
    }

    /// [`Topic::commit`] by one of several processes: each partition that the handles name is taken over first, unless
    /// this process owns it under this token already (P11).
    ///
    /// # Errors
    /// As [`Topic::commit`]; E0306 if a newer owner has taken a partition.
    pub fn commit_owned(&self, handles: &[StagedHandle], owner: OwnerToken) -> Result<Vec<Committed>> {
        let partitions: BTreeSet<u32> =
            handles.iter().flat_map(|handle| &handle.partitions).map(|staged| staged.partition).collect();
        let own = || {
            for index in &partitions {
                self.own(*index, owner)?;
            }
            self.commit_as(handles, Some(owner))
        };
        own().map_err(|error| {
            let mut touched = partitions.iter().filter_map(|index| self.partition(*index).ok());
            // What is missing here may be what a newer owner has appended: this one knows nothing of it.
            let fenced = touched.find_map(|partition| partition.refuse_if_outranked(owner).err());
            let error = fenced.unwrap_or(error);
            if error.code() == Code::Fenced {
                let touched = partitions.iter().filter_map(|index| self.partition(*index).ok());
                // A task that is late says nothing of what this process owns under a newer token.
                touched.for_each(|partition| partition.disown(owner));
            }
            error
        })
    }

    /// A partition that this process owns under the token: taken over, if it does not yet, or if its disk failed.
    ///
    /// # Errors
    /// E0306 if it has a newer owner.
    pub fn own(&self, index: u32, owner: OwnerToken) -> Result<Arc<Partition>> {
        // Two threads of one owner take it over once.
        let _owning = lock(&self.owning);
        let partition = self.partition(index)?;
        if partition.owner() != Some(owner) || partition.is_lost() {
            partition.take_over(owner)?;
            partition.sweep_staged(Some(owner))?;
        }
        Ok(partition)
    }

    /// The highest epoch of `job`, or of one of its operators, of which anything was committed here (P12).
    ///
    /// # Errors
    /// E0304 if rows are gone that nothing was to remove.
    pub fn newest_commit(&self, job: JobId, operator: Option<OperatorId>) -> Result<Option<Epoch>> {
        let mut newest = None;
        for partition in self.open_all()? {
            if self.keeps_everything() && partition.first_offset() > 0 {
                let message = format!(
                    "{partition} begins at offset {}, and its topic keeps everything",
                    partition.first_offset()
                );
                return Err(Error::new(Code::CorruptLog, message)
                    .at(Place::Named(partition.folder.display().to_string()))
                    .hint("its first segments are gone: restore the folder from a copy, or delete the topic and fill it again"));
            }
            newest = newest.max(partition.newest_commit(job, operator)?);
        }
        Ok(newest)
    }

    /// Removes what generations of `job` below `below` staged and `keep` does not name (P6). With
    /// `operator`, only what that operator staged: `keep` then needs to name only its handles.
    /// Returns the names removed.
    pub fn abort_lower(
        &self,
        job: JobId,
        below: Generation,
        operator: Option<OperatorId>,
        keep: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        self.remove_staged(|name, origin| {
            origin.may_be_aborted_by(Token { job, generation: below })
                && operator.is_none_or(|operator| operator == origin.subtask.operator)
                && !keep.contains(name)
        })
    }

    /// Drops everything remembered of, and staged by, a job that was dropped: its commits can no longer
    /// be replayed.
    pub fn forget_job(&self, job: JobId) -> Result<()> {
        self.remove_staged(|_, origin| origin.token.job == job)?;
        let mut pending = Vec::new();
        for partition in self.open_all()? {
            pending.push(partition.commit.submit(&partition, Work::Forget(job)));
        }
        pending.into_iter().try_for_each(|pending| pending.wait().map(drop))
    }

    /// Rows of one partition that are staged and not committed, whole frames only, marked with the name
    /// of their handle. For looking, not for reading on: they may vanish, and have no offsets yet.
    pub fn staged_rows(&self, partition: u32) -> Result<Vec<LogBatch>> {
        let partition = self.partition(partition)?;
        let disk = self.env().disk.as_ref();
        let mut batches = Vec::new();
        for (name, path) in staged_names(disk, &partition.folder)? {
            let Ok(key) = ReplayKey::parse(&name) else { continue };
            if partition.done(&key, None)?.is_some() {
                continue;
            }
            let Some(file) = open_if_there(disk, &path)? else { continue };
            // A file whose header is not written yet has no rows yet.
            let Ok(staged) = StagedFrames::read(file.as_ref(), &path) else { continue };
            let mut decoder = PayloadDecoder::new(&staged.header.schema)?;
            for (header, place) in staged.frames {
                let mut frame = vec![0; place.length as usize];
                super::segment::read_exact(file.as_ref(), &path, &mut frame, place.position)?;
                let from = usize::from(header.header_length);
                let payload = frame.get(from..from + header.payload_length as usize).unwrap_or_default();
                batches.push(LogBatch {
                    first_offset: header.first_offset,
                    rows: decoder.decode(payload.into())?,
                    event_time: header.event_time,
                    append_ms: header.append_ms,
                    writer: header.writer,
                    staged: Some(name.clone()),
                });
            }
        }
        Ok(batches)
    }

    fn remove_staged(&self, is_doomed: impl Fn(&str, &Origin) -> bool) -> Result<BTreeSet<String>> {
        let disk = self.env().disk.as_ref();
        let mut removed = BTreeSet::new();
        for index in 0..self.partitions() {
            for (name, path) in staged_names(disk, &self.partition_folder(index))? {
                let doomed = Origin::parse_object(&name).is_some_and(|(origin, _)| is_doomed(&name, &origin));
                if doomed {
                    remove_if_there(disk, &path)?;
                    removed.insert(name);
                }
            }
        }
        Ok(removed)
    }
}

impl Staging {
    /// Name of the handle.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Stages rows for a partition, in order.
    ///
    /// # Errors
    /// E0114 if the rows do not have the topic's schema.
    pub fn write(&mut self, partition: u32, rows: &RecordBatch, event_time: Option<EventTime>) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let schema = self.topic.ensure_schema(rows.schema_ref())?;
        let run = schema.encode(rows, event_time, &self.key.stamp(), &self.key.name)?;
        let staged = match self.files.entry(partition) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(StagedFile::create(&self.topic, partition, &self.key, &schema)?)
            }
        };
        let now_ms = self.topic.env().clock.now_ms();
        run.frames.into_iter().try_for_each(|frame| staged.push(frame, now_ms))
    }

    /// Makes everything staged durable. The handle commits it, now or after any crash.
    pub fn prepare(mut self) -> Result<StagedHandle> {
        for staged in self.files.values_mut() {
            staged.sync(self.topic.env().disk.as_ref())?;
        }
        let files = std::mem::take(&mut self.files);
        Ok(StagedHandle {
            name: self.key.name.clone(),
            topic: self.topic.name().to_string(),
            partitions: files.values().map(|staged| staged.total).collect(),
        })
    }
}

/// What was not prepared is nobody's: no handle names it. A process that wakes up behind its successor begins a file
/// after the abort of that one, and finds out that it is over; no later abort may come.
impl Drop for Staging {
    fn drop(&mut self) {
        // A process that is killed does not tidy up either.
        if thread::is_ending() {
            return;
        }
        for staged in self.files.values() {
            // If it cannot be removed it stays hidden, for the next generation's abort.
            let _ = self.topic.env().disk.remove_file(&staged.path);
        }
    }
}

impl StagedFile {
    fn create(topic: &Topic, partition: u32, key: &ReplayKey, schema: &TopicSchema) -> Result<Self> {
        if partition >= topic.partitions() {
            return Err(topic.no_partition(partition));
        }
        let folder = topic.partition_folder(partition).join(STAGED_FOLDER);
        let path = folder.join(&key.name);
        let file = topic.env().disk.open(&path, OpenMode::CreateNew).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::new(Code::SinkConflict, format!("`{}` is staged already in topic `{}`", key.name, topic.name()))
            }
            _ => Error::io(format!("create {}", path.display()), &e),
        })?;
        let header = SegmentHeader {
            topic: topic.name().to_string(),
            partition,
            sequence: 0,
            id: topic.env().entropy.u64(),
            base_offset: 0,
            owner: 0,
            created_ms: topic.env().clock.now_ms(),
            previous_length: 0,
            schema: Arc::clone(&schema.message),
            replay: ReplayTable::default(),
        };
        let gathered = header.to_bytes(STAGED_MAGIC);
        let total = StagedPartition { partition, rows: 0, frames: 0, bytes: 0, checksum: 0 };
        Ok(Self { folder, path, file, id: header.id, position: long(gathered.len()), gathered, total })
    }

    fn push(&mut self, mut frame: Vec<u8>, now_ms: i64) -> Result<()> {
        let (rows, crc) = (u64::from(super::frame::rows(&frame)), super::frame::payload_crc(&frame));
        let run = Run {
            id: self.total.rows,
            index: 0,
            frames: 1,
            bytes: long(frame.len()),
            checksum: extend_checksum(0, crc),
        };
        let place = Placement {
            segment_id: self.id,
            position: self.position,
            confirmed: 0,
            first_offset: self.total.rows,
            append_ms: now_ms,
            run,
        };
        place_frame(&mut frame, &place);
        self.position += long(frame.len());
        self.total.rows += rows;
        self.total.frames += 1;
        self.total.bytes += long(frame.len());
        self.total.checksum = extend_checksum(self.total.checksum, crc);
        self.gathered.extend_from_slice(&frame);
        if self.gathered.len() >= GATHERED_BYTES_MAX { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let at = self.position - long(self.gathered.len());
        self.file
            .write_all_at(&self.gathered, at)
            .map_err(|e| Error::io(format!("write {}", self.path.display()), &e))?;
        self.gathered.clear();
        Ok(())
    }

    fn sync(&mut self, disk: &dyn Disk) -> Result<()> {
        self.write()?;
        self.file
            .sync_all()
            .and_then(|()| disk.sync_dir(&self.folder))
            .map_err(|e| Error::new(Code::FsyncFailed, format!("could not sync {}: {e}", self.path.display())))
    }
}

impl Partition {
    /// Whether the partition remembers a handle, or an epoch above it, for good: then the end of what is durable. With
    /// `owner`, as the owner: what another process has appended may not be durable yet.
    ///
    /// # Errors
    /// What the writer failed with: it remembers what it was to append, and nobody knows whether that is durable.
    /// E0306 if this process is not the owner.
    pub(super) fn done(&self, key: &ReplayKey, owner: Option<OwnerToken>) -> Result<Option<u64>> {
        let is_done = |replay: &ReplayTable| replay.is_done(&key.stamp(), &key.name);
        match (super::lock(&self.writer).as_ref(), owner) {
            (Some(writer), Some(owner)) if writer.owner != owner => Err(fenced(self, owner, writer.owner)),
            (Some(writer), _) => match writer.failure() {
                Some(error) => Err(error),
                None => Ok(is_done(&writer.replay).then_some(writer.end.offset)),
            },
            (None, Some(owner)) => {
                Err(Error::new(Code::Fenced, format!("{self} was taken over from owner {}", owner.0)))
            }
            (None, None) => Ok(is_done(&self.load(Purpose::Read)?.replay).then_some(0)),
        }
    }

    /// What is there to be seen: of a log that failed, perhaps not for good.
    fn newest_commit(&self, job: JobId, operator: Option<OperatorId>) -> Result<Option<Epoch>> {
        if let Some(writer) = super::lock(&self.writer).as_ref() {
            match writer.failure() {
                None => return Ok(writer.replay.newest(job, operator)),
                // A process of its own takes nothing any more.
                Some(error) if self.access == Access::Write => return Err(error),
                // Among several the next commit takes it over again.
                Some(_) => {}
            }
        }
        Ok(self.load(Purpose::Read)?.replay.newest(job, operator))
    }

    /// Removes staged files whose rows are in the partition: a commit was killed before it could.
    pub(super) fn sweep_staged(&self, owner: Option<OwnerToken>) -> Result<()> {
        let disk = self.env.disk.as_ref();
        for (name, path) in staged_names(disk, &self.folder)? {
            if let Ok(key) = ReplayKey::parse(&name)
                && self.done(&key, owner)?.is_some()
            {
                remove_if_there(disk, &path)?;
            }
        }
        Ok(())
    }
}

/// One partition's part of a commit.
enum Part {
    /// It was committed before; all before this offset is durable.
    Done(u64),
    New(Append),
}

/// Finds and verifies one partition's part of a commit.
fn prepare_commit(
    partition: &Partition,
    key: &ReplayKey,
    staged: &StagedPartition,
    owner: Option<OwnerToken>,
) -> Result<Part> {
    if let Some(end) = partition.done(key, owner)? {
        return Ok(Part::Done(end));
    }
    let path = staged_path(&partition.folder, &key.name);
    let Some(file) = open_if_there(partition.env.disk.as_ref(), &path)? else {
        // Whoever commits the same handle at the same time removes the file once it is done.
        if let Some(end) = partition.done(key, owner)? {
            return Ok(Part::Done(end));
        }
        return Err(Error::new(
            Code::CorruptLog,
            format!("the staged rows of `{}` for {partition} are missing", key.name),
        )
        .hint("restore the topic's folder from a copy; the epoch stays uncommitted"));
    };
    let found = StagedFrames::read(file.as_ref(), &path)?;
    if found.total != *staged {
        return Err(damaged(&path, found.end, "it does not hold what was prepared"));
    }
    let schema = TopicSchema::parse(&found.header.schema)?;
    let frames = found.frames.into_iter().map(|(_, place)| place).collect();
    let append = Append {
        rows: Rows::Staged { file, path, frames },
        count: staged.rows,
        bytes: staged.bytes,
        frames: staged.frames,
        checksum: staged.checksum,
        key: Some(key.clone()),
        owner,
        begins_segment: false,
        schema,
    };
    Ok(Part::New(append))
}

/// The whole frames of a staging file.
struct StagedFrames {
    header: SegmentHeader,
    frames: Vec<(FrameHeader, StagedFrame)>,
    total: StagedPartition,
    /// After the last whole frame.
    end: u64,
}

impl StagedFrames {
    fn read(file: &dyn File, path: &Path) -> Result<Self> {
        let (header, mut position) = SegmentHeader::read(file, path, STAGED_MAGIC)?;
        let length = file.len().map_err(|e| Error::io(format!("read {}", path.display()), &e))?;
        let mut window = Window::new(file, path, length, PIECE);
        let mut total = StagedPartition { partition: header.partition, rows: 0, frames: 0, bytes: 0, checksum: 0 };
        let mut frames = Vec::new();
        while position < length {
            let fixed = window.get(position, FRAME_FIXED)?;
            let header_length = usize::from(super::codec::u16_at(fixed, 12));
            let Some(frame) = FrameHeader::parse(window.get(position, header_length)?) else { break };
            let bytes = window.get(position, frame.length as usize)?;
            if frame.segment_id != header.id || frame.position != position || !frame.payload_is_whole(bytes) {
                break;
            }
            total.rows += u64::from(frame.rows);
            total.frames += 1;
            total.bytes += u64::from(frame.length);
            total.checksum = extend_checksum(total.checksum, frame.payload_crc);
            frames.push((frame, StagedFrame { position, length: frame.length }));
            position = frame.end_position();
        }
        Ok(Self { header, frames, total, end: position })
    }
}

fn staged_path(partition: &Path, name: &str) -> PathBuf {
    partition.join(STAGED_FOLDER).join(name)
}

/// Names and paths of what is staged for a partition.
fn staged_names(disk: &dyn Disk, partition: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = partition.join(STAGED_FOLDER);
    let entries = disk.list(&folder).map_err(|e| Error::io(format!("list {}", folder.display()), &e))?;
    let named = entries.into_iter().filter_map(|entry| {
        let name = entry.path.file_name()?.to_str()?.to_owned();
        Some((name, entry.path))
    });
    Ok(named.collect())
}

fn open_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn File>>> {
    match disk.open(path, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("open {}", path.display()), &e)),
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("remove {}", path.display()), &e)),
    }
}
