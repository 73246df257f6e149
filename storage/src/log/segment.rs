//! A segment file: its header, its names, and what is known of one that is open.
//!
//! A segment gets its final name only when its header is whole and synced, so a damaged header is
//! damage, never a torn write. Its number is one above the number of the segment before it, whose
//! final length it records: a sealed segment can neither lose its end nor grow.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use qanat_proto::error::{Code, Error, Place, Result};

use super::codec::{i64_at, long, put, round_up, short, u32_at, u64_at};
use super::index::SparseIndex;
use super::replay::ReplayTable;
use crate::env::{Disk, File, OpenMode};

pub(super) const SEGMENT_MAGIC: &[u8; 8] = b"QANATLOG";
pub(super) const STAGED_MAGIC: &[u8; 8] = b"QANATSTG";
/// Version of segment and staging files.
pub(super) const VERSION: u32 = 1;
/// Headers are padded to whole pages: no write of frames ever shares a sector with one.
const HEADER_UNIT: usize = 4096;
/// Schema, and handles of every live job: far below this.
const HEADER_BYTES_MAX: usize = 64 << 20;
const FIXED: usize = 96;

const AT_VERSION: usize = 8;
const AT_HEADER_LENGTH: usize = 12;
const AT_CRC: usize = 16;
const AT_PARTITION: usize = 20;
const AT_SEQUENCE: usize = 24;
const AT_ID: usize = 32;
const AT_BASE_OFFSET: usize = 40;
const AT_OWNER: usize = 48;
const AT_CREATED: usize = 56;
const AT_PREVIOUS_LENGTH: usize = 64;
const AT_TOPIC_LENGTH: usize = 72;
const AT_SCHEMA_LENGTH: usize = 76;
const AT_REPLAY_LENGTH: usize = 80;

/// The head of a segment or staging file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub topic: String,
    pub partition: u32,
    pub sequence: u64,
    /// Random: frames carry it, so that bytes of another file are never taken for this one's.
    pub id: u64,
    pub base_offset: u64,
    pub owner: u64,
    pub created_ms: i64,
    /// Final length of the segment before; 0 if there was none.
    pub previous_length: u64,
    /// The schema as one Arrow IPC message; empty while the topic has none.
    pub schema: Arc<[u8]>,
    pub replay: ReplayTable,
}

impl SegmentHeader {
    pub(super) fn to_bytes(&self, magic: &[u8; 8]) -> Vec<u8> {
        let replay = self.replay.to_json();
        let used = FIXED + self.topic.len() + self.schema.len() + replay.len();
        let mut bytes = vec![0; FIXED];
        put(&mut bytes, 0, magic);
        put(&mut bytes, AT_VERSION, &VERSION.to_le_bytes());
        let length = round_up(used, HEADER_UNIT);
        put(&mut bytes, AT_HEADER_LENGTH, &narrow(length).to_le_bytes());
        put(&mut bytes, AT_PARTITION, &self.partition.to_le_bytes());
        put(&mut bytes, AT_SEQUENCE, &self.sequence.to_le_bytes());
        put(&mut bytes, AT_ID, &self.id.to_le_bytes());
        put(&mut bytes, AT_BASE_OFFSET, &self.base_offset.to_le_bytes());
        put(&mut bytes, AT_OWNER, &self.owner.to_le_bytes());
        put(&mut bytes, AT_CREATED, &self.created_ms.to_le_bytes());
        put(&mut bytes, AT_PREVIOUS_LENGTH, &self.previous_length.to_le_bytes());
        put(&mut bytes, AT_TOPIC_LENGTH, &narrow(self.topic.len()).to_le_bytes());
        put(&mut bytes, AT_SCHEMA_LENGTH, &narrow(self.schema.len()).to_le_bytes());
        put(&mut bytes, AT_REPLAY_LENGTH, &narrow(replay.len()).to_le_bytes());
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes.extend_from_slice(&self.schema);
        bytes.extend_from_slice(&replay);
        bytes.resize(length, 0);
        let crc = crc32c::crc32c(bytes.get(AT_PARTITION..).unwrap_or_default());
        put(&mut bytes, AT_CRC, &crc.to_le_bytes());
        bytes
    }

    /// Reads and verifies a header. The second value is its length: frames start there.
    ///
    /// # Errors
    /// E0304 if it is damaged, E0307 if its version is unknown.
    pub(super) fn read(file: &dyn File, path: &Path, magic: &[u8; 8]) -> Result<(Self, u64)> {
        let mut fixed = [0; FIXED];
        read_exact(file, path, &mut fixed, 0)?;
        if fixed.get(..8) != Some(magic.as_slice()) {
            return Err(damaged(path, 0, "it does not begin with the magic of a log file"));
        }
        let version = u32_at(&fixed, AT_VERSION);
        if version != VERSION {
            return Err(Error::new(Code::UnknownVersion, format!("log file of version {version}, known is {VERSION}"))
                .at(place(path, long(AT_VERSION))));
        }
        let length = u32_at(&fixed, AT_HEADER_LENGTH) as usize;
        if !(FIXED..=HEADER_BYTES_MAX).contains(&length) || !length.is_multiple_of(HEADER_UNIT) {
            return Err(damaged(path, long(AT_HEADER_LENGTH), "the header has an impossible length"));
        }
        let file_length = file.len().map_err(|e| Error::io(format!("read {}", path.display()), &e))?;
        if file_length < long(length) {
            return Err(damaged(path, file_length, "the file ends inside its header"));
        }
        let mut bytes = vec![0; length];
        read_exact(file, path, &mut bytes, 0)?;
        if crc32c::crc32c(bytes.get(AT_PARTITION..).unwrap_or_default()) != u32_at(&bytes, AT_CRC) {
            return Err(damaged(path, 0, "the header does not match its checksum"));
        }
        let header = Self::parse(&bytes).ok_or_else(|| damaged(path, 0, "the header contradicts itself"))?;
        Ok((header, long(length)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let topic_end = FIXED.checked_add(u32_at(bytes, AT_TOPIC_LENGTH) as usize)?;
        let schema_end = topic_end.checked_add(u32_at(bytes, AT_SCHEMA_LENGTH) as usize)?;
        let replay_end = schema_end.checked_add(u32_at(bytes, AT_REPLAY_LENGTH) as usize)?;
        Some(Self {
            topic: std::str::from_utf8(bytes.get(FIXED..topic_end)?).ok()?.to_owned(),
            partition: u32_at(bytes, AT_PARTITION),
            sequence: u64_at(bytes, AT_SEQUENCE),
            id: u64_at(bytes, AT_ID),
            base_offset: u64_at(bytes, AT_BASE_OFFSET),
            owner: u64_at(bytes, AT_OWNER),
            created_ms: i64_at(bytes, AT_CREATED),
            previous_length: u64_at(bytes, AT_PREVIOUS_LENGTH),
            schema: bytes.get(topic_end..schema_end)?.into(),
            replay: ReplayTable::from_json(bytes.get(schema_end..replay_end)?).ok()?,
        })
    }
}

/// One segment of an open partition.
pub(super) struct Segment {
    pub header: SegmentHeader,
    pub header_length: u64,
    pub path: PathBuf,
    /// Final length and end offset; unset while it is the one that grows.
    pub sealed: OnceLock<Extent>,
    /// None until somebody needs it; the growing segment always has one.
    pub index: Mutex<Option<SparseIndex>>,
    file: Mutex<Weak<dyn File>>,
}

/// How far a segment reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Byte position after the last whole run.
    pub position: u64,
    /// Offset after the last row.
    pub offset: u64,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, header_length: u64, path: PathBuf, file: &Arc<dyn File>) -> Self {
        Self {
            header,
            header_length,
            path,
            sealed: OnceLock::new(),
            index: Mutex::new(None),
            file: Mutex::new(Arc::downgrade(file)),
        }
    }

    /// The file, shared by all who read it, closed when the last of them lets go.
    pub(super) fn file(&self, disk: &dyn Disk) -> Result<Arc<dyn File>> {
        let mut slot = super::lock(&self.file);
        if let Some(file) = slot.upgrade() {
            return Ok(file);
        }
        let file = disk
            .open(&self.path, OpenMode::Read)
            .map_err(|e| Error::io(format!("open log segment {}", self.path.display()), &e))?;
        *slot = Arc::downgrade(&file);
        Ok(file)
    }

    /// Whether the file of its name is it still.
    pub(super) fn stands(&self, disk: &dyn Disk) -> std::io::Result<bool> {
        let file = match disk.open(&self.path, OpenMode::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let mut id = [0; 8];
        match file.read_exact_at(&mut id, long(AT_ID)) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| u64::from_le_bytes(id) == self.header.id),
        }
    }

    /// Makes readers share the writer's handle.
    pub(super) fn share_file(&self, file: &Arc<dyn File>) {
        *super::lock(&self.file) = Arc::downgrade(file);
    }
}

/// `0000000000000007.log`
pub(super) fn segment_path(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:016}.log"))
}

/// `0000000000000007.seal`: whoever linked it takes the partition over (P11).
pub(super) fn seal_path(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:016}.seal"))
}

/// The number in a name of [`segment_path`] or [`seal_path`].
pub(super) fn parse_sequence(path: &Path, extension: &str) -> Option<u64> {
    let stem = path.file_name()?.to_str()?.strip_suffix(extension)?.strip_suffix('.')?;
    (stem.len() == 16 && stem.bytes().all(|b| b.is_ascii_digit())).then(|| stem.parse().ok())?
}

/// E0304: `path` is damaged at `position`.
pub(super) fn damaged(path: &Path, position: u64, why: &str) -> Error {
    Error::new(Code::CorruptLog, format!("log file {} is damaged: {why}", path.display()))
        .at(place(path, position))
        .hint("restore the file from a copy, or delete the topic and fill it again; nothing was changed")
}

pub(super) fn place(path: &Path, position: u64) -> Place {
    Place::Origin { origin: path.display().to_string(), offset: Some(position), unit: "byte".into() }
}

/// Reads exactly, and takes an early end for damage.
pub(super) fn read_exact(file: &dyn File, path: &Path, buffer: &mut [u8], position: u64) -> Result<()> {
    file.read_exact_at(buffer, position).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(path, position, "it ends early"),
        _ => Error::io(format!("read log file {}", path.display()), &e).at(place(path, position)),
    })
}

fn length_of(file: &dyn File, path: &Path) -> Result<u64> {
    file.len().map_err(|e| Error::io(format!("read {}", path.display()), &e))
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Reads a file front to back in large pieces, giving any range as one slice.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    path: &'a Path,
    /// Nothing at or past this position is read.
    limit: u64,
    /// The limit is the length of a file that another process may cut: it takes away reserved space.
    may_be_cut: bool,
    piece: usize,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn File, path: &'a Path, limit: u64, piece: usize) -> Self {
        Self { file, path, limit, may_be_cut: false, piece, start: 0, bytes: Vec::new() }
    }

    /// Over all of a file that grows, here or in another process.
    pub(super) fn growing(file: &'a dyn File, path: &'a Path, piece: usize) -> Result<Self> {
        let limit = length_of(file, path)?;
        Ok(Self { may_be_cut: true, ..Self::new(file, path, limit, piece) })
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Up to `length` bytes at `position`; fewer only at the limit.
    pub(super) fn get(&mut self, position: u64, length: usize) -> Result<&[u8]> {
        let length = length.min(short(self.limit.saturating_sub(position)));
        let held = self.start..=self.start + long(self.bytes.len());
        if !(held.contains(&position) && held.contains(&(position + long(length)))) {
            let wanted = length.max(self.piece).min(short(self.limit.saturating_sub(position)));
            self.bytes.resize(wanted, 0);
            self.start = position;
            if let Err(error) = read_exact(self.file, self.path, &mut self.bytes, position) {
                self.bytes.clear();
                let now = length_of(self.file, self.path)?;
                if !self.may_be_cut || now >= self.limit {
                    return Err(error);
                }
                self.limit = now;
                return self.get(position, length);
            }
        }
        let from = short(position - self.start);
        Ok(self.bytes.get(from..from + length).unwrap_or_default())
    }
}
