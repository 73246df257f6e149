//! The only door to disk, clock and randomness.
//!
//! Production uses [`real`]; tests and the simulator use [`sim`], a disk that lies in every way a disk
//! can. Nothing else in the workspace calls `std::fs`, `Instant::now`, `SystemTime` or an unseeded
//! random source (a tidy test holds this).
//!
//! Contract of [`Disk`], which `suite.rs` proves for both:
//! - Bytes are durable only after [`File::sync_data`] (or `sync_all`) returned `Ok`.
//! - A name (created, linked, renamed or removed) is durable only after [`Disk::sync_dir`] of its
//!   folder returned `Ok`.
//! - After a failed sync nothing may be assumed: the caller poisons its handle and never retries it.

pub mod failpoint;
pub mod real;
pub mod sim;
pub mod thread;
pub mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An open file. All methods take `&self`; positions are explicit.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 means end of file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, extending the file if needed.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes contents and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Like `sync_data`, and metadata too (`fsync`).
    fn sync_all(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// When its contents changed last, milliseconds since 1970 UTC.
    fn modified_ms(&self) -> io::Result<i64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space, so that later writes within `len` do not change the file's length. Contents
    /// read as zero. May do nothing where the file system cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Takes an exclusive advisory lock for the life of the handle. `WouldBlock` if another process or
    /// handle holds it.
    fn try_lock(&self) -> io::Result<()>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let n = self.read_at(buffer, offset)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += n as u64;
            let rest = std::mem::take(&mut buffer);
            buffer = rest.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, read only.
    Read,
    /// Existing file, read and write.
    Write,
    /// New file, read and write; `AlreadyExists` if the name is taken.
    CreateNew,
    /// As `CreateNew`, for a secret: nobody but its owner may read or write it.
    CreatePrivate,
    /// Existing or new file, read and write.
    OpenOrCreate,
}

/// What `metadata` and `list` tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: PathBuf,
    pub is_dir: bool,
    pub len: u64,
    /// Milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// A file system.
pub trait Disk: Send + Sync {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Creates a folder and its missing parents. Not durable before `sync_dir` of each parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` if `to` is taken. Never replaces.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, replacing `to` if it is a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames; `AlreadyExists` if `to` is taken. Never replaces.
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// `NotFound` if nothing is there. Follows symbolic links.
    fn metadata(&self, path: &Path) -> io::Result<Entry>;
    /// The entries of a folder, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// The path without symbolic links, where there are such.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_path_buf())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Time.
pub trait Clock: Send + Sync {
    /// Wall clock, milliseconds since 1970 UTC. May jump.
    fn now_ms(&self) -> i64;
    /// Monotonic time since an arbitrary start.
    fn monotonic(&self) -> Duration;
}

/// Randomness.
pub trait Entropy: Send + Sync {
    fn fill(&self, buffer: &mut [u8]);

    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn u128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// Disk, clock and entropy, handed down from `main` or from the simulator. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}
