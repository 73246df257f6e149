//! Indexes of sealed segments, kept between two runs.
//!
//! Without it the first reader of a sealed segment that does not begin at its start, and whoever looks for
//! a time, reads the headers of all its frames. A segment is named by its topic, partition and random id and
//! never changes once sealed, so what is kept of it is right for ever. It is a convenience all the same:
//! what is missing, damaged or of another version is built from the segment and kept anew, and a store that
//! cannot be used is done without. Nothing here is a fact.
//!
//! The store is opened when the first index is asked for: a process that needs none pays nothing.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::index::SparseIndex;
use super::partition::Partition;
use super::segment::{Extent, Segment};
use crate::env::Env;
use crate::meta::{Batch, KeyValue, MemoryStore, VALUE_BYTES_MAX, open_or_rebuild};

/// Version of keys and values.
const VERSION: u32 = 1;
/// Keys looked at in one step.
const SCAN: usize = 256;

/// Where indexes are kept. Cheap to clone; all clones share one store.
#[derive(Clone, Default)]
pub struct IndexCache(Option<Arc<Inner>>);

struct Inner {
    place: Place,
    /// None: it could not be opened.
    store: OnceLock<Option<Arc<dyn KeyValue>>>,
}

enum Place {
    Memory,
    Folder(Env, PathBuf),
}

impl IndexCache {
    /// Keeps nothing beyond the life of an open topic.
    pub fn none() -> Self {
        Self(None)
    }

    /// In memory, shared by the topics that get a clone: what a simulator uses.
    pub fn in_memory() -> Self {
        Self::of(Place::Memory)
    }

    /// In sled, in a folder of its own that one process at a time may use. The folder may be deleted at any
    /// time that nobody does.
    pub fn in_folder(env: &Env, folder: impl Into<PathBuf>) -> Self {
        Self::of(Place::Folder(env.clone(), folder.into()))
    }

    fn of(place: Place) -> Self {
        Self(Some(Arc::new(Inner { place, store: OnceLock::new() })))
    }

    /// Number of indexes kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let Some(store) = self.store() else { return 0 };
        store.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).map_or(0, |pairs| pairs.len())
    }

    fn store(&self) -> Option<&Arc<dyn KeyValue>> {
        let inner = self.0.as_ref()?;
        inner.store.get_or_init(|| inner.open()).as_ref()
    }

    /// The index of a sealed segment, if it is kept and whole.
    pub(super) fn get(&self, partition: &Partition, segment: &Segment, extent: Extent) -> Option<SparseIndex> {
        let key = key(partition, segment.header.id);
        match self.store()?.get(&key) {
            Ok(found) => SparseIndex::from_bytes(&found?, &key, extent),
            Err(error) => {
                tracing::debug!(%error, "could not read a kept index");
                None
            }
        }
    }

    /// Keeps the index of a sealed segment, and drops those of segments that `partition` has no longer.
    pub(super) fn put(&self, partition: &Partition, segment: &Segment, extent: Extent, index: &SparseIndex) {
        let Some(store) = self.store() else { return };
        let key = key(partition, segment.header.id);
        let value = index.to_bytes(&key, extent);
        if value.len() > VALUE_BYTES_MAX {
            return;
        }
        let kept = outdated(store.as_ref(), partition)
            .and_then(|gone| store.apply(gone.into_iter().fold(Batch::default().put(key, value), Batch::remove)));
        if let Err(error) = kept {
            tracing::debug!(%error, "could not keep an index");
        }
    }
}

impl Inner {
    fn open(&self) -> Option<Arc<dyn KeyValue>> {
        match &self.place {
            Place::Memory => Some(Arc::new(MemoryStore::default())),
            Place::Folder(env, folder) => match open_or_rebuild(env, folder, VERSION, |_| Ok(())) {
                Ok(store) => Some(Arc::new(store)),
                Err(error) => {
                    tracing::warn!(%error, "indexes of log segments are not kept");
                    None
                }
            },
        }
    }
}

/// Keys of the partition whose segments are gone.
fn outdated(store: &dyn KeyValue, partition: &Partition) -> Result<Vec<Vec<u8>>, crate::meta::Error> {
    let prefix = prefix(partition);
    let live = partition.segment_ids();
    let mut gone = Vec::new();
    let mut from = Bound::Included(prefix.clone());
    loop {
        let pairs = store.scan(from.as_ref().map(Vec::as_slice), Bound::Unbounded, SCAN)?;
        let of_partition = pairs.iter().take_while(|(key, _)| key.starts_with(&prefix));
        let ids = of_partition.map(|(key, _)| (key, key.get(prefix.len()..).and_then(|id| id.try_into().ok())));
        let mut count = 0;
        for (key, id) in ids {
            count += 1;
            if !id.is_some_and(|id| live.contains(&u64::from_be_bytes(id))) {
                gone.push(key.clone());
            }
        }
        match pairs.last() {
            Some((last, _)) if count == SCAN => from = Bound::Excluded(last.clone()),
            _ => return Ok(gone),
        }
    }
}

/// `<topic> 0 <partition>`: a topic's name has no zero byte.
fn prefix(partition: &Partition) -> Vec<u8> {
    let mut key = partition.topic.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&partition.index.to_be_bytes());
    key
}

fn key(partition: &Partition, segment: u64) -> Vec<u8> {
    let mut key = prefix(partition);
    key.extend_from_slice(&segment.to_be_bytes());
    key
}
