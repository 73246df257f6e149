//! The embedded log against the raw disk: appends with group commit, and reading in order.
//!
//! The raw side of an append writes what the log wrote: each frame says up to where its segment was
//! synced before (`docs/log-format.md`), so frames that say the same were one group, one sync.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use qanat_proto::names::Name;
use qanat_proto::{Error, Result};
use qanat_storage::env::{Env, OpenMode};
use qanat_storage::log::{AppendOptions, GroupCommit, LogOptions, Start, Topic, TopicSpec, Topics};

use crate::measure::time;

/// Bytes per read of the raw reader.
const PIECE: usize = 1 << 20;

/// What is appended.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub writers: usize,
    /// Appends of each writer, one after the other.
    pub appends: usize,
    /// Rows of each append.
    pub rows: usize,
}

impl Load {
    pub fn frames(&self) -> usize {
        self.writers * self.appends
    }
}

/// A segment as the log left it.
pub struct Written {
    /// Up to the end of the last frame.
    pub bytes: Vec<u8>,
    /// Length of the file, preallocated space included.
    pub allocated: u64,
    /// The frames of each group that was measured, as ranges of `bytes`.
    pub groups: Vec<Range<usize>>,
    pub frames: usize,
}

impl Written {
    /// Bytes of all groups.
    pub fn measured(&self) -> usize {
        self.groups.iter().map(Range::len).sum()
    }
}

/// Rows as a log of events has them: a number, a time, a short text.
///
/// # Errors
/// None that the sizes here can cause.
pub fn batch(rows: usize) -> Result<RecordBatch> {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("name", DataType::Utf8, true),
    ]);
    let count = i64::try_from(rows).unwrap_or(0);
    let id: Int64Array = (0..count).collect::<Vec<_>>().into();
    let at: TimestampMillisecondArray = (0..count).map(|i| 1_357_000_000_000 + i * 7).collect::<Vec<_>>().into();
    let name: StringArray = (0..count).map(|i| (i % 10 != 0).then(|| format!("name of row {i}"))).collect();
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(id), Arc::new(at), Arc::new(name)])
        .map_err(|e| Error::internal(e.to_string()))
}

/// A topic of one segment with room for `bytes`, preallocated by a first append of `first`.
fn topic(env: &Env, folder: &Path, first: &RecordBatch, bytes: u64) -> Result<(Topics, Arc<Topic>)> {
    let options = LogOptions { segment_bytes: bytes * 2, allocate_bytes: bytes, roll_after_ms: None };
    let topics = Topics::open_with(env.clone(), folder, GroupCommit::spawn()?, options)?;
    let topic = topics.create(&Name::new("events")?, TopicSpec::new(1))?;
    topic.append(0, first, &AppendOptions::default())?;
    Ok((topics, topic))
}

/// Bytes that frames of `rows` take at most.
fn bytes_of(rows: &RecordBatch, frames: usize) -> u64 {
    ((rows.get_array_memory_size() + 4096) * (frames + 2)) as u64
}

/// Appends `load` through group commit; the time runs from the first append to the last answer.
///
/// # Errors
/// What the disk says.
pub fn append(env: &Env, folder: &Path, load: Load) -> Result<(Duration, Written)> {
    let rows = batch(load.rows)?;
    let (_topics, topic) = topic(env, folder, &rows, bytes_of(&rows, load.frames()))?;
    let partition = topic.partition(0)?;
    let from = partition.bytes();
    let barrier = Barrier::new(load.writers + 1);
    let write = || -> Result<()> {
        barrier.wait();
        (0..load.appends).try_for_each(|_| topic.append(0, &rows, &AppendOptions::default()).map(drop))
    };
    let (elapsed, done) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..load.writers).map(|_| scope.spawn(write)).collect();
        barrier.wait();
        time(env.clock.as_ref(), || {
            writers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err(Error::internal("a writer panicked"))))
        })
    });
    done?;
    let expected = ((load.frames() + 1) * load.rows) as u64;
    if partition.end_offset() != expected {
        return Err(Error::internal(format!("{} rows in the log instead of {expected}", partition.end_offset())));
    }
    let segment = topic.folder_of(0).join("0000000000000000.log");
    let (bytes, allocated) = read_file(env, &segment, partition.bytes())?;
    let (groups, frames) = groups(&bytes, from as usize);
    if frames != load.frames() || groups.last().is_some_and(|last| last.end != bytes.len()) {
        return Err(Error::internal(format!("{frames} frames in the log instead of {}", load.frames())));
    }
    Ok((elapsed, Written { bytes, allocated, groups, frames }))
}

/// The first `length` bytes of a file, and its length.
fn read_file(env: &Env, path: &Path, length: u64) -> Result<(Vec<u8>, u64)> {
    let failing = |e: &std::io::Error| Error::io(format!("read {}", path.display()), e);
    let file = env.disk.open(path, OpenMode::Read).map_err(|e| failing(&e))?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|e| failing(&e))?;
    Ok((bytes, file.len().map_err(|e| failing(&e))?))
}

/// Runs of frames from `from` on that name the same confirmed position, and the number of frames.
fn groups(bytes: &[u8], from: usize) -> (Vec<Range<usize>>, usize) {
    const AT_LENGTH: usize = 8;
    const AT_CONFIRMED: usize = 32;
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut confirmed = None;
    let (mut at, mut frames) = (from, 0);
    while let Some(header) = bytes.get(at..at + AT_CONFIRMED + 8).filter(|header| header.starts_with(b"QFRM")) {
        let number = |at: usize, length: usize| {
            header.get(at..at + length).into_iter().flatten().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let end = at + number(AT_LENGTH, 4) as usize;
        match groups.last_mut() {
            Some(group) if confirmed == Some(number(AT_CONFIRMED, 8)) => group.end = end,
            _ => groups.push(at..end),
        }
        confirmed = Some(number(AT_CONFIRMED, 8));
        frames += 1;
        at = end;
    }
    (groups, frames)
}

/// The limit of [`append`]: the same bytes in the same groups, one write and one `fdatasync` each, into
/// a file preallocated in the same way: for small appends it is full of zeros, for large ones only reserved.
///
/// # Errors
/// What the disk says; a file that does not hold the same bytes in the end.
pub fn append_raw(env: &Env, path: &Path, written: &Written) -> Result<Duration> {
    let failing = |e: std::io::Error| Error::io(format!("write {}", path.display()), &e);
    let from = written.groups.first().map_or(0, |group| group.start);
    let file = env.disk.open(path, OpenMode::CreateNew).map_err(failing)?;
    file.allocate(written.allocated).map_err(failing)?;
    if written.measured() / written.frames.max(1) <= 64 << 10 {
        file.write_all_at(&vec![0; written.allocated as usize], 0).map_err(failing)?;
    }
    file.write_all_at(written.bytes.get(..from).unwrap_or_default(), 0).map_err(failing)?;
    file.sync_all().map_err(failing)?;
    let (elapsed, done) = time(env.clock.as_ref(), || {
        written.groups.iter().try_for_each(|group| {
            file.write_all_at(written.bytes.get(group.clone()).unwrap_or_default(), group.start as u64)?;
            file.sync_data()
        })
    });
    done.map_err(failing)?;
    let (bytes, _) = read_file(env, path, written.bytes.len() as u64)?;
    if bytes != written.bytes {
        return Err(Error::internal("the raw side wrote other bytes than the log"));
    }
    Ok(elapsed)
}

/// A topic of one segment to be read.
pub struct ToRead {
    _topics: Topics,
    topic: Arc<Topic>,
    file: Arc<dyn qanat_storage::env::File>,
    /// Of the log in it.
    pub bytes: u64,
    pub rows: u64,
    checksum: u32,
}

impl ToRead {
    /// Writes `frames` frames of `rows` rows.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(env: &Env, folder: &Path, frames: usize, rows: usize) -> Result<Self> {
        let batch = batch(rows)?;
        let (topics, topic) = topic(env, folder, &batch, bytes_of(&batch, frames))?;
        let pending: Vec<_> =
            (1..frames).map(|_| topic.append_later(0, &batch, &AppendOptions::default())).collect::<Result<_>>()?;
        pending.into_iter().try_for_each(|pending| pending.wait().map(drop))?;
        let segment = topic.folder_of(0).join("0000000000000000.log");
        let bytes = topic.partition(0)?.bytes();
        let file = env
            .disk
            .open(&segment, OpenMode::Read)
            .map_err(|e| Error::io(format!("open {}", segment.display()), &e))?;
        let mut this = Self { _topics: topics, topic, file, bytes, rows: (frames * rows) as u64, checksum: 0 };
        this.checksum = this.checksum()?;
        Ok(this)
    }

    /// Reads all frames, checked but not decoded.
    ///
    /// # Errors
    /// E0304 for a damaged log; an internal error if rows are missing.
    pub fn frames(&self) -> Result<()> {
        let mut reader = self.topic.read_from(0, Start::Earliest)?;
        let mut rows = 0;
        while let Some(frame) = reader.poll_frame()? {
            rows += u64::from(frame.rows);
        }
        self.expect(rows)
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// As [`ToRead::frames`].
    pub fn batches(&self) -> Result<()> {
        let mut reader = self.topic.read_from(0, Start::Earliest)?;
        let mut rows = 0;
        while let Some(batch) = reader.poll()? {
            rows += batch.rows.num_rows() as u64;
        }
        self.expect(rows)
    }

    /// The limit: reads the same file and checks one CRC32C over all of it.
    ///
    /// # Errors
    /// What the disk says; another checksum than at first.
    pub fn raw(&self) -> Result<()> {
        if self.checksum()? == self.checksum { Ok(()) } else { Err(Error::internal("the file changed")) }
    }

    fn expect(&self, rows: u64) -> Result<()> {
        if rows == self.rows { Ok(()) } else { Err(Error::internal(format!("{rows} rows read of {}", self.rows))) }
    }

    fn checksum(&self) -> Result<u32> {
        let mut buffer = vec![0; PIECE];
        let (mut at, mut checksum) = (0, 0);
        while at < self.bytes {
            let wanted = buffer.len().min((self.bytes - at) as usize);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            self.file.read_exact_at(piece, at).map_err(|e| Error::io("read a segment", &e))?;
            checksum = crc32c::crc32c_append(checksum, piece);
            at += wanted as u64;
        }
        Ok(checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Folder;

    #[test]
    fn both_sides_do_the_same_work() {
        let env = Env::real();
        let folder = Folder::new(&env, &std::env::temp_dir()).expect("a folder");
        let load = Load { writers: 4, appends: 5, rows: 10 };
        let (_, written) = append(&env, &folder.path().join("topics"), load).expect("appended");
        assert_eq!(written.frames, 20);
        assert!((5..=20).contains(&written.groups.len()), "a writer has one append in a group at most");
        append_raw(&env, &folder.path().join("raw"), &written).expect("the same bytes");

        let log = ToRead::write(&env, &folder.path().join("read"), 30, 100).expect("written");
        assert_eq!(log.rows, 3_000);
        log.frames().expect("all frames");
        log.batches().expect("all rows");
        log.raw().expect("the same file");
    }
}
