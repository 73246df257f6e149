//! A file of entries, sorted by the hashes of their keys.
//!
//! ```text
//! block   CRC32C of what follows u32, then entries up to the next block
//! entry   length of the key u32, length of the value u32 (all bits set: the key is gone), key, value
//! ```
//!
//! All numbers little-endian. Where blocks begin and with which hash is known in memory alone: a file is never opened
//! again. Keys with the same hash stand in the same block. What must never happen: an entry from bytes that are not those
//! that were written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qanat_proto::error::{Code, Error, Place, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::bloom::Bloom;
use crate::env::{Env, File, OpenMode};

/// A block is closed when it has so many bytes.
const BLOCK_BYTES: usize = 4 << 10;
/// Bytes that are written at once, and read at once by a merge.
pub(super) const CHUNK_BYTES: usize = 128 << 10;
const CRC_BYTES: usize = 4;
const HEAD_BYTES: usize = 8;
const GONE: u32 = u32::MAX;

pub(super) fn hash_of(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Read only. Its file has no name any more and goes with it, however the process ends.
pub(super) struct Run {
    /// As it was created.
    path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// How many merges its entries have been through.
    pub(super) tier: u32,
    pub(super) entries: u64,
    /// Hash of the first key of each block, and where it begins.
    blocks: Vec<(u64, u64)>,
    end: u64,
    bloom: Bloom,
}

impl Run {
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.bloom.may_have(hash)
    }

    /// The block that has a hash if any has.
    pub(super) fn block_of(&self, hash: u64) -> Option<usize> {
        self.blocks.partition_point(|(first, _)| *first <= hash).checked_sub(1)
    }

    fn begin_of(&self, block: usize) -> u64 {
        self.blocks.get(block).map_or(self.end, |(_, begin)| *begin)
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Reads the entries of blocks from `first` on, whole blocks up to about `bytes` and one at least, into `buffer`;
    /// `entries` gets where those of each block stand there. Returns the block behind.
    pub(super) fn read(
        &self,
        first: usize,
        bytes: usize,
        buffer: &mut Vec<u8>,
        entries: &mut Vec<std::ops::Range<usize>>,
    ) -> Result<usize> {
        let begin = self.begin_of(first);
        let mut next = (first + 1).min(self.blocks.len());
        while next < self.blocks.len() && self.begin_of(next + 1) - begin <= bytes as u64 {
            next += 1;
        }
        let length = usize::try_from(self.begin_of(next) - begin).unwrap_or(usize::MAX);
        buffer.resize(length, 0);
        self.file.read_exact_at(buffer, begin).map_err(|e| self.failed("read", &e))?;
        entries.clear();
        for block in first..next {
            let start = (self.begin_of(block) - begin) as usize;
            let end = (self.begin_of(block + 1) - begin) as usize;
            let (crc, of_block) =
                buffer.get(start..end).and_then(<[u8]>::split_first_chunk).ok_or_else(|| self.damaged())?;
            if crc32c::crc32c(of_block) != u32::from_le_bytes(*crc) {
                return Err(self.damaged());
            }
            entries.push(start + CRC_BYTES..end);
        }
        Ok(next)
    }

    pub(super) fn damaged(&self) -> Error {
        Error::new(Code::CorruptCheckpoint, "state that was put aside is damaged")
            .at(Place::Named(self.path.display().to_string()))
            .hint("the job goes on from its checkpoint; look at the disk's health")
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        Error::io(format!("{what} `{}`", self.path.display()), error)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bloom.bytes() + self.blocks.capacity() * 16
    }
}

/// Writes a run. Entries come in the order of their hashes, each key once.
pub(super) struct RunWriter {
    run: Run,
    chunk: Vec<u8>,
    /// Where the open block begins in the chunk, and the last hash in it.
    open: Option<(usize, u64)>,
}

impl RunWriter {
    /// `entries`: no less than will come.
    pub(super) fn create(env: &Env, path: &Path, tier: u32, entries: u64) -> Result<Self> {
        let file = env.disk.open(path, OpenMode::CreateNew);
        let file = file.map_err(|e| Error::io(format!("create `{}`", path.display()), &e))?;
        // Should it keep its name, the next start removes it.
        let _ = env.disk.remove_file(path);
        let run = Run {
            path: path.to_owned(),
            file,
            tier,
            entries: 0,
            blocks: Vec::new(),
            end: 0,
            bloom: Bloom::new(entries),
        };
        Ok(Self { run, chunk: Vec::new(), open: None })
    }

    pub(super) fn push(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if let Some((begin, last)) = self.open
            && self.chunk.len() - begin >= BLOCK_BYTES
            && last != hash
        {
            self.close(begin)?;
        }
        let begin = match self.open {
            Some((begin, _)) => begin,
            None => {
                let begin = self.chunk.len();
                self.run.blocks.push((hash, self.run.end + begin as u64));
                self.chunk.extend_from_slice(&[0; CRC_BYTES]);
                begin
            }
        };
        self.open = Some((begin, hash));
        let length = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).ok().filter(|length| *length != GONE);
            length.ok_or_else(|| Error::internal("an entry that is put aside is too long"))
        };
        let of_value = value.map_or(Ok(GONE), length)?;
        self.chunk.extend_from_slice(&length(key)?.to_le_bytes());
        self.chunk.extend_from_slice(&of_value.to_le_bytes());
        self.chunk.extend_from_slice(key);
        self.chunk.extend_from_slice(value.unwrap_or_default());
        self.run.bloom.insert(hash);
        self.run.entries += 1;
        Ok(())
    }

    fn close(&mut self, begin: usize) -> Result<()> {
        let crc = crc32c::crc32c(self.chunk.get(begin + CRC_BYTES..).unwrap_or_default());
        if let Some(place) = self.chunk.get_mut(begin..begin + CRC_BYTES) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        self.open = None;
        if self.chunk.len() >= CHUNK_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let written = self.run.file.write_all_at(&self.chunk, self.run.end);
        written.map_err(|e| self.run.failed("write", &e))?;
        self.run.end += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    /// None: nothing was pushed.
    pub(super) fn finish(mut self) -> Result<Option<Run>> {
        if let Some((begin, _)) = self.open {
            self.close(begin)?;
        }
        self.write()?;
        self.run.blocks.shrink_to_fit();
        Ok((self.run.entries > 0).then_some(self.run))
    }
}

/// Takes the first entry off the bytes of a block: key and value, None for one that is gone. None at the end, and of bytes
/// that are no entry.
pub(super) fn next_entry<'b>(entries: &mut &'b [u8]) -> Option<(&'b [u8], Option<&'b [u8]>)> {
    let (head, rest) = entries.split_at_checked(HEAD_BYTES)?;
    let (key_length, value_length) = head.split_first_chunk::<4>()?;
    let value_length = u32::from_le_bytes(value_length.try_into().ok()?);
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    if value_length == GONE {
        *entries = rest;
        return Some((key, None));
    }
    let (value, rest) = rest.split_at_checked(value_length as usize)?;
    *entries = rest;
    Some((key, Some(value)))
}
