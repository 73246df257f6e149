//! The checkpoint store: immutable objects under keys, in a folder or (later) in a cloud.
//!
//! Checkpoints speak the `object_store` trait. [`DirectoryStore`] is our own implementation for a folder,
//! because the crate's local store never syncs: here a put is durable when it returns, and a name leads
//! to a whole object or to none (I7). [`Objects`] is the door for code that runs on ordinary threads.
//!
//! An object that cannot be synced is given up before it has a name: only whoever puts it hears of that. Once names
//! could not be synced nobody knows what is on disk: the store is poisoned, and every later write is refused with E0305
//! until the process starts anew.

mod directory;
mod upload;

pub use directory::{DirectoryStore, Fault};

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use qanat_proto::{Code, Error, Place, Result};

use crate::env::Env;
use crate::env::thread::block_on_here as block_on;

/// Objects for synchronous callers. Cheap to clone.
///
/// Each call blocks its thread, so call it from threads that may wait (never from a future: blocking on a
/// store from within an executor would stop that executor).
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Where they lie in a folder.
    directory: Option<DirectoryStore>,
}

/// What became of [`Objects::put_new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an object that exists already may hold other bytes"]
pub enum Put {
    /// The object is new, and durable.
    Written,
    /// The key was taken and stays as it was, durably.
    Exists,
}

/// What [`Objects::list`] tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    /// Bytes.
    pub len: u64,
    /// Milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

impl Objects {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, directory: None }
    }

    /// Objects in a folder, which is created if it is missing.
    pub fn in_directory(env: &Env, root: &FilePath) -> Result<Self> {
        let directory = DirectoryStore::open(env, root)?;
        Ok(Self { store: Arc::new(directory.clone()), directory: Some(directory) })
    }

    /// Why nothing is written any more (E0305): what was made visible may be gone after a loss of power. Whoever has
    /// the store ends then; a start looks at what is really there.
    pub fn poisoned(&self) -> Option<Error> {
        self.directory.as_ref().filter(|directory| directory.is_poisoned()).map(|_| {
            Error::new(Code::FsyncFailed, "names of objects could not be synced")
                .at(Place::Named("checkpoints".to_owned()))
                .hint("look at the disk's health and the kernel log, then start again")
        })
    }

    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Writes an object under a free key, durably. Of several callers racing for one key exactly one
    /// gets [`Put::Written`].
    pub fn put_new(&self, key: &str, bytes: Bytes) -> Result<Put> {
        let path = parse(key)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match block_on(self.store.put_opts(&path, PutPayload::from_bytes(bytes), options)) {
            Ok(_) => Ok(Put::Written),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Exists),
            Err(e) => Err(public(&e, "write", key)),
        }
    }

    /// Writes an object, durably, replacing what was under the key: readers see the old or the new one.
    pub fn replace(&self, key: &str, bytes: Bytes) -> Result<()> {
        let path = parse(key)?;
        block_on(self.store.put(&path, PutPayload::from_bytes(bytes))).map_err(|e| public(&e, "write", key))?;
        Ok(())
    }

    /// All bytes of an object; E0301 if it is missing.
    pub fn get(&self, key: &str) -> Result<Bytes> {
        self.find(key)?.ok_or_else(|| missing(key))
    }

    /// All bytes of an object, `None` if there is none under this key.
    pub fn find(&self, key: &str) -> Result<Option<Bytes>> {
        let path = parse(key)?;
        match block_on(async { self.store.get(&path).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(public(&e, "read", key)),
        }
    }

    /// The bytes of an object in `range`, all of which must exist; E0301 if not.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = parse(key)?;
        let bytes = block_on(self.store.get_range(&path, range.clone())).map_err(|e| public(&e, "read", key))?;
        if bytes.len() as u64 != range.end - range.start {
            let message = format!("object {key} ends before byte {}", range.end);
            return Err(Error::new(Code::CorruptCheckpoint, message).at(Place::Named(key.into())));
        }
        Ok(bytes)
    }

    /// Removes an object for good. False if there was none.
    pub fn delete(&self, key: &str) -> Result<bool> {
        let path = parse(key)?;
        match block_on(self.store.delete(&path)) {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(public(&e, "delete", key)),
        }
    }

    /// The objects below a prefix (whole segments: `a` finds `a/b`, neither `a` nor `ab`), sorted by key;
    /// all objects for "".
    pub fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let path = Path::parse(prefix).map_err(|e| Error::internal(format!("bad object prefix {prefix:?}: {e}")))?;
        let found: Vec<_> =
            block_on(self.store.list(Some(&path)).try_collect()).map_err(|e| public(&e, "list", prefix))?;
        let mut listed: Vec<Listed> = found
            .into_iter()
            .map(|meta: object_store::ObjectMeta| Listed {
                key: meta.location.to_string(),
                len: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .collect();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }
}

fn parse(key: &str) -> Result<Path> {
    match Path::parse(key) {
        Ok(path) if path.as_ref() == key && !key.is_empty() => Ok(path),
        Ok(_) => Err(Error::internal(format!("bad object key {key:?}"))),
        Err(e) => Err(Error::internal(format!("bad object key {key:?}: {e}"))),
    }
}

fn missing(key: &str) -> Error {
    Error::new(Code::CorruptCheckpoint, format!("object {key} is missing"))
        .at(Place::Named(key.into()))
        .hint("go back to an older checkpoint, or put the object back from a copy")
}

/// A store's error for people. What the directory store knows is in the source of the error.
fn public(error: &object_store::Error, what: &str, key: &str) -> Error {
    use object_store::Error as Store;
    let known = match error {
        Store::Generic { source, .. } | Store::PermissionDenied { source, .. } | Store::NotFound { source, .. } => {
            source.downcast_ref::<Fault>()
        }
        _ => None,
    };
    let named = |error: Error| error.or_at(|| Place::Named(key.into()));
    match (error, known) {
        (Store::NotFound { .. }, _) => missing(key),
        (_, Some(Fault::Poisoned)) => {
            named(Error::new(Code::FsyncFailed, format!("could not {what} object {key}: {}", Fault::Poisoned)))
        }
        (_, Some(Fault::File(e))) => named(Error::from(e)),
        (_, Some(fault @ Fault::Key { .. })) => Error::internal(fault.to_string()),
        (_, Some(fault @ Fault::Range(_))) => {
            named(Error::new(Code::CorruptCheckpoint, format!("could not {what} object {key}: {fault}")))
        }
        (Store::PermissionDenied { .. } | Store::Unauthenticated { .. }, None) => {
            named(Error::new(Code::PermissionDenied, format!("could not {what} object {key}: {error}")))
        }
        (_, None) => named(Error::new(Code::Io, format!("could not {what} object {key}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
