//! Bytes of a file, plain or decompressed, in order and in bounded pieces.
//!
//! Used by the text formats and by Arrow streams. A stream never holds more than one piece and the
//! decompressor's window, so that a decompression bomb costs time and not memory.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::env::{Disk, File, OpenMode};

/// Bytes asked of the disk at once: large enough for the disk, small enough for the cache.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The first piece of a file is smaller, so that many small files cost little; the size then doubles.
const FIRST_CHUNK_BYTES: usize = 32 << 10;

/// Where text formats read from.
pub trait ByteStream: Send {
    /// Appends at most [`CHUNK_BYTES`] to `buffer`.
    ///
    /// # Errors
    /// E0208 for damaged compression, E0212 if a followed file shrank, else the disk's error. The
    /// bytes appended by earlier calls stay good.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Fill>;

    /// E0212 if the bytes of a range have another CRC32C now than they had.
    fn check(&self, from: u64, to: u64, crc: u32) -> Result<()> {
        let _ = (from, to, crc);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// So many bytes were appended. 0: work was done (skipping), call again.
    Bytes(usize),
    /// Nothing there for now.
    Pending,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the option `compression`: `auto` goes by the file's name.
    pub fn of(option: &str, path: &Path) -> Self {
        match option.to_ascii_lowercase().as_str() {
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "none" => Self::None,
            _ => match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
                Some("gz" | "gzip") => Self::Gzip,
                Some("zst" | "zstd") => Self::Zstd,
                _ => Self::None,
            },
        }
    }
}

/// A file that can be read from any byte, again and again.
#[derive(Clone)]
pub struct FileInput {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
    /// What users call it.
    pub origin: String,
    pub compression: Compression,
    /// Whether more bytes may come at its end. Compressed files are always taken as whole.
    pub follow: bool,
}

impl FileInput {
    pub fn open(&self) -> Result<Arc<dyn File>> {
        self.disk.open(&self.path, OpenMode::Read).map_err(|e| self.io_error("open", &e))
    }

    /// The bytes from `byte` on, counted after decompression. `before` is the CRC32C of those before it,
    /// which is checked where they are read anyway: E0212 from the stream if they are others.
    pub fn stream(&self, byte: u64, before: Option<u32>) -> Result<Box<dyn ByteStream>> {
        let file = self.open()?;
        if self.compression == Compression::None {
            return Ok(Box::new(PlainStream { input: self.clone(), file, offset: byte, chunk: FIRST_CHUNK_BYTES }));
        }
        let reader = self.decompressed(file)?;
        Ok(Box::new(ReadStream { input: self.clone(), reader, offset: 0, skip: byte, crc: 0, before }))
    }

    /// The whole file as a reader, decompressed.
    pub fn reader(&self) -> Result<Box<dyn Read + Send>> {
        let file = self.open()?;
        self.decompressed(file)
    }

    fn decompressed(&self, file: Arc<dyn File>) -> Result<Box<dyn Read + Send>> {
        let reader = BufReader::with_capacity(CHUNK_BYTES, DiskReader::new(file));
        Ok(match self.compression {
            Compression::None => Box::new(reader),
            Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(reader);
                Box::new(decoder.map_err(|e| self.io_error("start to decompress", &e))?)
            }
        })
    }

    pub fn place(&self) -> Place {
        Place::Origin { origin: self.origin.clone(), offset: None, unit: String::new() }
    }

    pub fn io_error(&self, verb: &str, error: &io::Error) -> Error {
        let made = Error::io(format_args!("{verb} `{}`", self.origin), error).at(self.place());
        // What is opened was found by a listing before.
        let is_gone = made.code() == Code::PathNotFound;
        if is_gone {
            made.hint("it was there when this run began: put it back, or start anew under another --name")
        } else {
            made
        }
    }

    /// The error for damage at a decompressed offset; errors of the operating system stay what they are.
    fn read_error(&self, error: &io::Error, offset: u64) -> Error {
        if error.raw_os_error().is_some() || self.compression == Compression::None {
            return self.io_error("read", error);
        }
        let message = if error.kind() == io::ErrorKind::UnexpectedEof {
            format!("compressed file `{}` ends early", self.origin)
        } else {
            format!("compressed file `{}` is damaged: {error}", self.origin)
        };
        Error::new(Code::CorruptInput, message)
            .at(Place::Origin {
                origin: self.origin.clone(),
                offset: Some(offset),
                unit: "decompressed byte".to_owned(),
            })
            .hint("the records before this place were read; replace the file and run the job again")
    }
}

struct PlainStream {
    input: FileInput,
    file: Arc<dyn File>,
    offset: u64,
    chunk: usize,
}

impl ByteStream for PlainStream {
    fn check(&self, from: u64, to: u64, crc: u32) -> Result<()> {
        self.input.check(Arc::clone(&self.file), from, to, crc)
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Fill> {
        let before = buffer.len();
        // A followed file is mostly looked at in vain: no buffer is made for that.
        let is_dry = self.input.follow && self.file.len().is_ok_and(|length| length == self.offset);
        let outcome = if is_dry {
            Ok(0)
        } else {
            buffer.resize(before + self.chunk, 0);
            self.file.read_at(buffer.get_mut(before..).unwrap_or_default(), self.offset)
        };
        buffer.truncate(before + outcome.as_ref().map_or(0, |n| *n));
        match outcome {
            Ok(0) if !self.input.follow => Ok(Fill::End),
            Ok(0) => {
                let length = self.file.len().map_err(|e| self.input.io_error("read", &e))?;
                if length < self.offset {
                    return Err(shrank(&self.input.origin, self.offset, length));
                }
                if self.input.is_other(self.file.as_ref(), length) {
                    return Err(self.input.changed(self.offset));
                }
                Ok(Fill::Pending)
            }
            Ok(n) => {
                self.offset += n as u64;
                self.chunk = (self.chunk * 2).min(CHUNK_BYTES);
                Ok(Fill::Bytes(n))
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Fill::Bytes(0)),
            Err(e) => Err(self.input.read_error(&e, self.offset)),
        }
    }
}

impl FileInput {
    /// E0212 if the bytes of a plain file have another CRC32C.
    pub fn check(&self, file: Arc<dyn File>, from: u64, to: u64, crc: u32) -> Result<()> {
        let mut bytes = DiskReader::at(file, from).take(to.saturating_sub(from));
        let (mut buffer, mut found) = (vec![0; FIRST_CHUNK_BYTES], 0);
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) if found == crc => return Ok(()),
                Ok(0) => return Err(self.changed(to)),
                Ok(n) => found = crc32c::crc32c_append(found, buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io_error("read", &e)),
            }
        }
    }

    /// Whether another file has come in the place of the one that is open, which ended at `length`. Of one
    /// that is gone nothing can be said.
    fn is_other(&self, file: &dyn File, length: u64) -> bool {
        let Ok(there) = self.disk.metadata(&self.path) else { return false };
        // One that is longer may have grown since.
        there.len < length || there.len > length && file.len().is_ok_and(|now| there.len > now)
    }

    /// E0212 for a file whose first bytes are not those that were read.
    fn changed(&self, byte: u64) -> Error {
        let message = format!("`{}` was replaced: its first {byte} bytes are not those that were read", self.origin);
        Error::new(Code::SourceChanged, message)
            .at(self.place())
            .hint("bring back the file whose beginning was read, or start the job anew with another --name")
    }
}

/// E0212 for a file that is shorter than what was already read of it.
pub fn shrank(origin: &str, position: u64, length: u64) -> Error {
    let message = format!("`{origin}` shrank to {length} bytes, but {position} bytes of it were read");
    Error::new(Code::SourceChanged, message)
        .at(Place::Origin { origin: origin.to_owned(), offset: Some(position), unit: "byte".to_owned() })
        .hint("files that are read must only grow; start the job anew to read the file from its beginning")
}

/// A decompressed file. Resumes by skipping.
struct ReadStream {
    input: FileInput,
    reader: Box<dyn Read + Send>,
    /// Decompressed bytes taken so far.
    offset: u64,
    /// Decompressed bytes before the place where reading goes on.
    skip: u64,
    /// CRC32C of those passed so far.
    crc: u32,
    /// What it must be in the end.
    before: Option<u32>,
}

impl ByteStream for ReadStream {
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Fill> {
        let before = buffer.len();
        buffer.resize(before + CHUNK_BYTES, 0);
        let target = buffer.get_mut(before..).unwrap_or_default();
        let outcome = self.reader.read(target);
        buffer.truncate(before + outcome.as_ref().map_or(0, |n| *n));
        match outcome {
            Ok(0) if self.offset < self.skip => Err(shrank(&self.input.origin, self.skip, self.offset)),
            Ok(0) => Ok(Fill::End),
            Ok(n) => {
                let skipped = usize::try_from(self.skip.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(n);
                self.offset += n as u64;
                let passed: Vec<u8> = buffer.drain(before..before + skipped).collect();
                self.crc = crc32c::crc32c_append(self.crc, &passed);
                if skipped > 0 && self.offset >= self.skip && self.before.is_some_and(|crc| crc != self.crc) {
                    buffer.truncate(before);
                    return Err(self.input.changed(self.skip));
                }
                Ok(Fill::Bytes(n - skipped))
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Fill::Bytes(0)),
            Err(e) => Err(self.input.read_error(&e, self.offset)),
        }
    }
}

/// A file of `storage::env` as a standard reader with a position.
pub struct DiskReader {
    file: Arc<dyn File>,
    offset: u64,
}

impl DiskReader {
    pub fn new(file: Arc<dyn File>) -> Self {
        Self { file, offset: 0 }
    }

    pub fn at(file: Arc<dyn File>, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl Read for DiskReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

impl Seek for DiskReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.file.len()?.checked_add_signed(by),
        };
        self.offset = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}
