//! [`KeyValue`] in sled, with the checks that sled lacks.
//!
//! ```text
//! <folder>/lock            owned by the one process that uses the store
//! <folder>/format          JSON, written last: the store is complete, of this version, and in ...
//! <folder>/sled-<random>/  ... this folder, which holds sled's own files
//!
//! sled's keys:  0x00       -> number of batches (8 bytes LE), of pairs (8 bytes LE), sum of their hashes (16 bytes LE)
//!               0x01 <key> -> value
//! ```
//!
//! Each build has a folder of its own: sled's threads may still write for a moment after a store was closed.

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sled::IVec;
use xxhash_rust::xxh3::Xxh3;

use super::{Batch, Error, KeyValue, Pair, is_empty_range};
use crate::crash_safe::{self, Error as FileError};
use crate::env::{Disk, Env, File, OpenMode, thread};

/// Memory sled may use for its pages, in bytes. Its own default is a gigabyte.
const CACHE_BYTES: u64 = 32 << 20;

/// Longest `format` file that is read; ours is far shorter.
const FORMAT_BYTES_MAX: u64 = 1024;

/// Version of what this file adds to sled.
const FORMAT: u32 = 1;

/// How long to wait for the threads of a store that this process has closed, and how often to look.
const CLOSING_MAX: Duration = Duration::from_secs(10);
const CLOSING_STEP: Duration = Duration::from_millis(1);

const FOLDER_PREFIX: &str = "sled-";
const SUM_KEY: &[u8] = &[0];
const PAIR_PREFIX: u8 = 1;

/// Opens the store in a folder, or builds it anew: if there is none, if its build was never finished, if
/// it is damaged, and if its `version` (of the caller's own layout of keys and values) is another.
///
/// `rebuild` fills an empty store from the source of truth. The store counts as complete only once it
/// returned `Ok` and everything is synced. A store that is locked or unreadable for an outside reason
/// (rights, a full disk) is left alone and the error returned.
pub fn open_or_rebuild(
    env: &Env,
    folder: &Path,
    version: u32,
    rebuild: impl FnOnce(&dyn KeyValue) -> qanat_proto::Result<()>,
) -> qanat_proto::Result<SledStore> {
    let disk = env.disk.as_ref();
    crash_safe::create_folder(disk, folder).map_err(Error::from)?;
    // Before anything is looked at: a store in use must not be thrown away, whatever its version.
    let lock = lock(disk, folder)?;
    match SledStore::open_locked(env, folder, version, &lock) {
        Ok(store) => return Ok(store),
        Err(Error::Foreign { found, .. }) if found.is_empty() => {}
        Err(e) if e.is_rebuildable() => tracing::warn!(reason = %e, "rebuilding a metadata store"),
        Err(e) => return Err(e.into()),
    }
    // The mark of completeness goes first and for good, so that no crash leaves it beside a half-built store.
    match crash_safe::remove(disk, &folder.join("format")) {
        Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        result => result.map_err(Error::from)?,
    }
    for entry in disk.list(folder).map_err(|e| Error::from(io_error("list", folder)(e)))? {
        if entry.is_dir {
            // What a closing store still holds on to is removed by the next build.
            if let Err(e) = remove_tree(disk, &entry.path) {
                tracing::debug!(path = %entry.path.display(), error = %e, "could not remove an old metadata store");
            }
        }
    }
    let inner = format!("{FOLDER_PREFIX}{:016x}", env.entropy.u64());
    let store = SledStore::start(env, folder, &inner, &lock)?;
    rebuild(&store)?;
    // Also an empty store has a fingerprint, so that one without is known to have lost it.
    store.apply(Batch::default())?;
    store.sync(disk, &folder.join(&inner))?;
    let batches = store.sum.lock().unwrap_or_else(PoisonError::into_inner).batches;
    let format = Format { format: FORMAT, contents: version, batches, folder: inner };
    crash_safe::write_new(env, &folder.join("format"), &format.encode()?).map_err(Error::from)?;
    Ok(store)
}

/// What the `format` file says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    format: u32,
    contents: u32,
    /// Batches that the finished build had applied: a store with fewer has lost some.
    batches: u64,
    folder: String,
}

impl Format {
    fn encode(&self) -> qanat_proto::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| qanat_proto::Error::internal(format!("could not encode a format: {e}")))
    }

    /// `None` if it is not of this version, or not ours at all.
    fn decode(text: &str, version: u32) -> Option<Self> {
        let format: Self = serde_json::from_str(text).ok()?;
        let name = format.folder.strip_prefix(FOLDER_PREFIX)?;
        let is_ours = format.format == FORMAT && format.contents == version;
        (is_ours && name.bytes().all(|b| b.is_ascii_hexdigit())).then_some(format)
    }
}

/// See the module [`meta`](super) for what may be kept in it.
pub struct SledStore {
    db: sled::Db,
    folder: PathBuf,
    /// What [`SUM_KEY`] holds. Locked while a batch is applied.
    sum: Mutex<Sum>,
    /// Held as long as the store is open.
    _lock: Arc<dyn File>,
}

/// A fingerprint of all pairs, whatever their order, and the number of batches that led to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    batches: u64,
    pairs: u64,
    hashes: u128,
}

impl SledStore {
    /// Opens a complete store. [`Error::Foreign`] if there is none of this version, [`Error::Damaged`] if
    /// its contents do not agree with their fingerprint: rebuild it then.
    pub fn open(env: &Env, folder: &Path, version: u32) -> Result<Self, Error> {
        crash_safe::create_folder(env.disk.as_ref(), folder)?;
        let lock = lock(env.disk.as_ref(), folder)?;
        Self::open_locked(env, folder, version, &lock)
    }

    fn open_locked(env: &Env, folder: &Path, version: u32, lock: &Arc<dyn File>) -> Result<Self, Error> {
        let found = read_format(env.disk.as_ref(), &folder.join("format"))?;
        let Some(format) = Format::decode(&found, version) else {
            let expected = format!("format {FORMAT}, contents {version}");
            return Err(Error::Foreign { folder: folder.into(), found, expected });
        };
        let inner = folder.join(&format.folder);
        if !env.disk.exists(&inner).map_err(io_error("look for", &inner))? {
            return Err(damaged(folder, "its files are gone"));
        }
        let store = Self::start(env, folder, &format.folder, lock)?;
        store.verify(format.batches)?;
        Ok(store)
    }

    fn start(env: &Env, folder: &Path, inner: &str, lock: &Arc<dyn File>) -> Result<Self, Error> {
        let config = sled::Config::new().path(folder.join(inner)).cache_capacity(CACHE_BYTES);
        let deadline = env.clock.monotonic() + CLOSING_MAX;
        let db = loop {
            // Damaged files make some of sled's own assertions fail.
            let opened = match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(opened) => opened.map_err(|e| translate(folder, e)),
                Err(_) => Err(damaged(folder, "opening it fails an assertion")),
            };
            match opened {
                // We own the folder, so it is a store of this process whose threads are still closing it.
                Err(Error::Locked(_)) if env.clock.monotonic() < deadline => thread::rest(CLOSING_STEP),
                result => break result?,
            }
        };
        let store = Self { db, folder: folder.into(), sum: Mutex::new(Sum::default()), _lock: lock.clone() };
        if let Some(bytes) = store.guarded(|| store.db.get(SUM_KEY))? {
            let sum = Sum::decode(&bytes).ok_or_else(|| damaged(folder, "its fingerprint has a wrong length"))?;
            *store.sum.lock().unwrap_or_else(PoisonError::into_inner) = sum;
        }
        Ok(store)
    }

    /// Compares the contents with their fingerprint, and that with the batches of the finished build.
    fn verify(&self, batches_min: u64) -> Result<(), Error> {
        let expected = *self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.batches < batches_min {
            let reason = format!("it is at batch {} and was complete at {batches_min}", expected.batches);
            return Err(damaged(&self.folder, &reason));
        }
        let mut sum = Sum { batches: expected.batches, ..Sum::default() };
        self.guarded(|| {
            for pair in self.db.range([PAIR_PREFIX].as_slice()..) {
                let (key, value) = pair?;
                sum.add(key.get(1..).unwrap_or_default(), &value);
            }
            Ok(())
        })?;
        if sum != expected {
            let reason = format!("its {} pairs do not agree with its fingerprint of {}", sum.pairs, expected.pairs);
            return Err(damaged(&self.folder, &reason));
        }
        Ok(())
    }

    /// Makes everything applied so far durable, which sled's own flush does not.
    fn sync(&self, disk: &dyn Disk, inner: &Path) -> Result<(), Error> {
        self.guarded(|| self.db.flush())?;
        sync_tree(disk, inner)?;
        Ok(())
    }

    /// Runs a call into sled; what goes wrong inside means that its files are not what it wrote.
    fn guarded<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result.map_err(|e| translate(&self.folder, e)),
            Err(_) => Err(damaged(&self.folder, "reading it fails an assertion")),
        }
    }
}

impl KeyValue for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.guarded(|| self.db.get(stored_key(key)))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn apply(&self, batch: Batch) -> Result<(), Error> {
        batch.check()?;
        let mut current = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = *current;
        sum.batches += 1;
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            let stored = stored_key(&key);
            if let Some(old) = self.guarded(|| self.db.get(&stored))? {
                sum.subtract(&key, &old);
            }
            match value {
                Some(value) => {
                    sum.add(&key, &value);
                    changes.insert(stored, value);
                }
                None => changes.remove(stored),
            }
        }
        changes.insert(SUM_KEY, sum.encode().as_slice());
        self.guarded(|| self.db.apply_batch(changes))?;
        *current = sum;
        Ok(())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        if is_empty_range(from, to) {
            return Ok(Vec::new());
        }
        let from = match from {
            Bound::Included(key) => Bound::Included(stored_key(key)),
            Bound::Excluded(key) => Bound::Excluded(stored_key(key)),
            Bound::Unbounded => Bound::Included(vec![PAIR_PREFIX]),
        };
        let to = match to {
            Bound::Included(key) => Bound::Included(stored_key(key)),
            Bound::Excluded(key) => Bound::Excluded(stored_key(key)),
            Bound::Unbounded => Bound::Unbounded,
        };
        self.guarded(|| {
            let pairs = self.db.range((from, to)).take(limit);
            pairs.map(|pair| pair.map(|(key, value)| (unstored_key(&key), value.to_vec()))).collect()
        })
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Sum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.pairs = self.pairs.wrapping_add(1);
        self.hashes = self.hashes.wrapping_add(hash(key, value));
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.pairs = self.pairs.wrapping_sub(1);
        self.hashes = self.hashes.wrapping_sub(hash(key, value));
    }

    fn encode(self) -> Vec<u8> {
        let (batches, pairs) = (self.batches.to_le_bytes(), self.pairs.to_le_bytes());
        [batches.as_slice(), pairs.as_slice(), self.hashes.to_le_bytes().as_slice()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (batches, rest) = bytes.split_first_chunk()?;
        let (pairs, hashes) = rest.split_first_chunk()?;
        let hashes = u128::from_le_bytes(hashes.try_into().ok()?);
        Some(Self { batches: u64::from_le_bytes(*batches), pairs: u64::from_le_bytes(*pairs), hashes })
    }
}

fn hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(value);
    hash.digest128()
}

fn stored_key(key: &[u8]) -> Vec<u8> {
    [&[PAIR_PREFIX], key].concat()
}

fn unstored_key(stored: &IVec) -> Vec<u8> {
    stored.get(1..).unwrap_or_default().to_vec()
}

/// Makes this process (and this handle in it) the owner of a store's folder.
fn lock(disk: &dyn Disk, folder: &Path) -> Result<Arc<dyn File>, Error> {
    let path = folder.join("lock");
    let file = disk.open(&path, OpenMode::OpenOrCreate).map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked(folder.into())),
        Err(e) => Err(io_error("lock", &path)(e).into()),
    }
}

/// The `format` file's text; empty if there is none or it cannot be ours.
fn read_format(disk: &dyn Disk, path: &Path) -> Result<String, Error> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; file.len()?.min(FORMAT_BYTES_MAX) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(String::new()),
        result => Ok(result.map_err(io_error("read", path))?),
    }
}

fn translate(folder: &Path, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(source) if source.to_string().starts_with("could not acquire lock") => {
            Error::Locked(folder.into())
        }
        // sled reports an early end and unreadable bytes of its files as errors of this kind.
        sled::Error::Io(source)
            if matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            damaged(folder, &source.to_string())
        }
        sled::Error::Io(source) => Error::Io(io_error("use", folder)(source)),
        error @ (sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => damaged(folder, &error.to_string()),
    }
}

fn damaged(folder: &Path, reason: &str) -> Error {
    Error::Damaged { folder: folder.into(), reason: reason.into() }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { what, path: path.into(), source }
}

fn sync_tree(disk: &dyn Disk, folder: &Path) -> Result<(), FileError> {
    for entry in disk.list(folder).map_err(io_error("list", folder))? {
        if entry.is_dir {
            sync_tree(disk, &entry.path)?;
        } else {
            let file = disk.open(&entry.path, OpenMode::Write).map_err(io_error("open", &entry.path))?;
            file.sync_all().map_err(|source| FileError::Sync { path: entry.path, source })?;
        }
    }
    crash_safe::create_folder(disk, folder)?;
    disk.sync_dir(folder).map_err(|source| FileError::Sync { path: folder.into(), source })
}

/// Removes a folder and all in it; nothing there is fine.
fn remove_tree(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let entries = match disk.list(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        if entry.is_dir {
            remove_tree(disk, &entry.path)?;
        } else {
            disk.remove_file(&entry.path)?;
        }
    }
    disk.remove_dir(folder)
}
