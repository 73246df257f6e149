//! The small metadata store: ordered bytes for what can be rebuilt, and for nothing else.
//!
//! Indexes and caches whose every fact also lies in the command log, in a manifest or in a topic are kept
//! behind [`KeyValue`]: in memory ([`MemoryStore`], also what the simulator uses) or in sled
//! ([`SledStore`]).
//!
//! Why nothing else: sled 0.34 does not sync on `flush` (on Linux it calls `sync_file_range`, which writes
//! neither the disk's cache nor the file's metadata), so a power failure may take back the last batches,
//! and damage in the middle of its log may pass for the log's end. A store therefore
//! - may come back at an *earlier* state after a crash: keep in it, in the same batch as the facts, how far
//!   they go, and replay the rest from the source;
//! - never comes back in a *mixed* state: a fingerprint of the contents is part of every batch and is
//!   checked on opening (I9);
//! - is thrown away and rebuilt when it is damaged or of another version: [`open_or_rebuild`].
//!
//! sled opens files by itself, beside `storage::env`; it is the one exception, and why the simulator and
//! the crash tests put [`MemoryStore`] in its place.

mod sled_store;

pub use sled_store::{SledStore, open_or_rebuild};

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use qanat_proto::{Code, Place};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Longest key, in bytes. Keys are held in memory many at a time.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// Longest value, in bytes: sled keeps longer ones in files of their own.
pub const VALUE_BYTES_MAX: usize = 32 << 10;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Throw it away and rebuild it ([`open_or_rebuild`]).
    #[error("the store in {} is damaged ({reason}) and must be rebuilt", folder.display())]
    Damaged { folder: PathBuf, reason: String },
    /// Throw it away and rebuild it ([`open_or_rebuild`]): another version wrote it, or a build of it was
    /// never finished.
    #[error("the store in {} has format {found:?} instead of {expected:?} and must be rebuilt", folder.display())]
    Foreign { folder: PathBuf, found: String, expected: String },
    /// Another process has it open.
    #[error("the store in {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// A key or value is too long, or a key is empty.
    #[error("cannot keep an entry with a key of {key} bytes and a value of {value} bytes")]
    Size { key: usize, value: usize },
    #[error(transparent)]
    Io(#[from] crate::crash_safe::Error),
}

impl Error {
    /// Whether throwing the store away helps.
    pub fn is_rebuildable(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Foreign { .. })
    }
}

impl From<Error> for qanat_proto::Error {
    fn from(error: Error) -> Self {
        let rebuild = "stop all users of this folder and delete it: it holds only what can be rebuilt";
        let (code, folder, hint) = match &error {
            Error::Io(e) => return Self::from(e),
            Error::Size { .. } => return Self::internal(error.to_string()),
            Error::Damaged { folder, .. } => (Code::Io, folder, rebuild),
            Error::Foreign { folder, .. } => (Code::UnknownVersion, folder, rebuild),
            Error::Locked(folder) => (Code::DataFolderLocked, folder, "stop the other process first"),
        };
        Self::new(code, error.to_string()).at(Place::Named(folder.display().to_string())).hint(hint)
    }
}

/// Changes that are applied together or not at all. A later change of a key wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    #[must_use]
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.changes.insert(key.into(), Some(value.into()));
        self
    }

    #[must_use]
    pub fn remove(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.changes.insert(key.into(), None);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn check(&self) -> Result<(), Error> {
        for (key, value) in &self.changes {
            let value = value.as_ref().map_or(0, Vec::len);
            if key.is_empty() || key.len() > KEY_BYTES_MAX || value > VALUE_BYTES_MAX {
                return Err(Error::Size { key: key.len(), value });
            }
        }
        Ok(())
    }
}

/// Ordered keys (bytewise) and values that can be rebuilt. See the module for what it must not be used for.
pub trait KeyValue: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Applies a batch atomically: every reader, and every later opening, sees all of it or nothing.
    fn apply(&self, batch: Batch) -> Result<(), Error>;

    /// The first `limit` pairs in a range, by key. Go on from `Bound::Excluded` of the last key.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error>;
}

/// In memory. Always empty at first, so always rebuilt.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl KeyValue for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.pairs.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn apply(&self, batch: Batch) -> Result<(), Error> {
        batch.check()?;
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.changes {
            match value {
                Some(value) => {
                    pairs.insert(key, value);
                }
                None => {
                    pairs.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        if is_empty_range(from, to) {
            return Ok(Vec::new());
        }
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let found = pairs.range::<[u8], _>((from, to)).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Whether no key can lie between two bounds; `BTreeMap::range` panics on such ones.
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}

#[cfg(test)]
mod tests;
