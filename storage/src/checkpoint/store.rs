//! The checkpoint store: manifests and state objects under names that never collide (P3).
//!
//! Objects are written once, under free names, and are durable when a put returns; a put that finds its
//! name taken by the same bytes is a repeat and succeeds. What must never happen: a manifest read back
//! that is not byte for byte the one that was claimed (I7).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, Generation, JobId, KeyGroupRange};
use qanat_proto::manifest::{MANIFEST_VERSION, Manifest, StateFile};
use qanat_proto::names::Origin;
use xxhash_rust::xxh3::xxh3_128;

use super::envelope::{damaged, seal, unseal};
use crate::object::{Objects, Put};
use crate::state::{Encoded, StateBytes};

const MANIFESTS: &str = "manifests";
pub(super) const STATE: &str = "state";

/// Manifests and state files of the jobs that share a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    objects: Objects,
}

/// The key of a manifest, taken apart. Its text is the key in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestKey {
    pub job: JobId,
    pub epoch: Epoch,
    pub generation: Generation,
    /// Tells attempts of one generation at one epoch apart.
    pub attempt: u64,
}

impl fmt::Display for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MANIFESTS}/{}/{:012}-{}-{:016x}", self.job, self.epoch.0, self.generation, self.attempt)
    }
}

impl FromStr for ManifestKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (job, rest) = text.strip_prefix(MANIFESTS)?.strip_prefix('/')?.split_once('/')?;
            let mut parts = rest.split('-');
            let key = Self {
                job: job.parse().ok()?,
                epoch: Epoch(parts.next()?.parse().ok()?),
                generation: Generation(parts.next()?.parse().ok()?),
                attempt: u64::from_str_radix(parts.next()?, 16).ok()?,
            };
            // Only the one spelling that `Display` gives: a name has no aliases.
            (parts.next().is_none() && key.to_string() == text).then_some(key)
        };
        parse().ok_or_else(|| damaged(text, "its name is not the name of a manifest"))
    }
}

impl CheckpointStore {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Writes a manifest under a key of its own, durably, and returns the key and the checksum that the
    /// claim carries. `attempt` tells apart what one generation writes for one epoch.
    ///
    /// # Errors
    /// E0502 if the key holds another manifest; and what the store says.
    pub fn put_manifest(&self, manifest: &Manifest, attempt: u64) -> Result<(String, String)> {
        let Manifest { job, epoch, generation, .. } = *manifest;
        let key = ManifestKey { job, epoch, generation, attempt }.to_string();
        let payload =
            serde_json::to_vec(manifest).map_err(|e| Error::internal(format!("could not encode a manifest: {e}")))?;
        let bytes = seal(&payload);
        let checksum = checksum(&bytes);
        self.put(&key, bytes)?;
        Ok((key, checksum))
    }

    /// Reads the manifest that was claimed with this key and checksum.
    ///
    /// # Errors
    /// E0301 if it is missing, damaged, or another one; E0307 if its version is unknown.
    pub fn read_manifest(&self, key: &str, expected: &str) -> Result<Manifest> {
        let (manifest, found) = self.read(key)?;
        if found != expected {
            return Err(damaged(key, "it is not the one that was claimed"));
        }
        Ok(manifest)
    }

    /// Reads a manifest whose checksum is not known, with the checksum it has: for tools that show what
    /// is there. A restore needs [`CheckpointStore::read_manifest`].
    ///
    /// # Errors
    /// As [`CheckpointStore::read_manifest`].
    pub fn inspect_manifest(&self, key: &str) -> Result<(Manifest, String)> {
        self.read(key)
    }

    fn read(&self, key: &str) -> Result<(Manifest, String)> {
        let name: ManifestKey = key.parse()?;
        let bytes = self.objects.get(key)?;
        let payload = unseal(&bytes, key)?;
        #[derive(serde::Deserialize)]
        struct Version {
            version: u32,
        }
        let unreadable = |e: serde_json::Error| damaged(key, &format!("it cannot be read: {e}"));
        let Version { version } = serde_json::from_slice(payload).map_err(unreadable)?;
        if version != MANIFEST_VERSION {
            return Err(Error::new(
                Code::UnknownVersion,
                format!("manifest `{key}` has the unknown version {version}"),
            )
            .at(Place::Named(key.to_owned()))
            .hint("use the version of qanat that wrote it, or a newer one"));
        }
        let manifest: Manifest = serde_json::from_slice(payload).map_err(unreadable)?;
        let found = ManifestKey { job: manifest.job, epoch: manifest.epoch, generation: manifest.generation, ..name };
        if found != name {
            return Err(damaged(key, &format!("it holds `{found}`")));
        }
        Ok((manifest, checksum(&bytes)))
    }

    /// Keys of all manifests of a job that are there, claimed or not, by epoch.
    ///
    /// # Errors
    /// What the store says. Objects with other names are passed over.
    pub fn list_manifests(&self, job: JobId) -> Result<Vec<ManifestKey>> {
        let listed = self.objects.list(&format!("{MANIFESTS}/{job}"))?;
        let mut keys: Vec<ManifestKey> = listed.iter().filter_map(|object| object.key.parse().ok()).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Keys of the manifests of all jobs.
    ///
    /// # Errors
    /// As [`CheckpointStore::list_manifests`].
    pub fn all_manifests(&self) -> Result<Vec<ManifestKey>> {
        let listed = self.objects.list(MANIFESTS)?;
        Ok(listed.iter().filter_map(|object| object.key.parse().ok()).collect())
    }

    /// Keys of all state objects that are there.
    ///
    /// # Errors
    /// What the store says.
    pub fn list_state(&self) -> Result<Vec<String>> {
        Ok(self.objects.list(STATE)?.into_iter().map(|object| object.key).collect())
    }

    /// Writes the bytes of a state object, durably, under the name of its maker.
    ///
    /// # Errors
    /// E0502 if the name holds other bytes; and what the store says.
    pub fn put_state(&self, origin: &Origin, sequence: u64, bytes: Bytes) -> Result<String> {
        let key = state_key(origin, sequence);
        self.put(&key, bytes)?;
        Ok(key)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        match self.objects.put_new(key, bytes.clone())? {
            Put::Written => Ok(()),
            // A repeat after a lost reply finds its own bytes.
            Put::Exists if self.objects.get(key)? == bytes => Ok(()),
            Put::Exists => Err(Error::new(
                Code::Invariant,
                format!("invariant I7 does not hold: object `{key}` exists with other bytes"),
            )
            .at(Place::Named(key.to_owned()))),
        }
    }
}

impl StateBytes for CheckpointStore {
    fn read(&self, object: &str, range: Range<u64>) -> Result<Bytes> {
        self.objects.get_range(object, range)
    }
}

/// Writes the state files of one subtask in one epoch, under names that count up.
#[derive(Debug)]
pub struct StateWriter<'a> {
    store: &'a CheckpointStore,
    origin: Origin,
    sequence: u64,
}

impl<'a> StateWriter<'a> {
    /// One per subtask and epoch: two writers of one origin would give the same names.
    pub fn new(store: &'a CheckpointStore, origin: Origin) -> Self {
        Self { store, origin, sequence: 0 }
    }

    /// Goes on where another writer of the same origin stands ([`StateWriter::sequence`]), which writes
    /// nothing any more: for a merge that runs beside later epochs.
    pub fn resume(store: &'a CheckpointStore, origin: Origin, sequence: u64) -> Self {
        Self { store, origin, sequence }
    }

    /// Objects written under this origin.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Key of the next object.
    pub(crate) fn next_object(&self) -> String {
        state_key(&self.origin, self.sequence)
    }

    /// Encodes and writes the next object; `encode` is given its key.
    pub(crate) fn write(
        &mut self,
        key_groups: KeyGroupRange,
        encode: impl FnOnce(&str) -> Result<Encoded>,
    ) -> Result<StateFile> {
        let object = self.next_object();
        let Encoded { bytes, rows, expires_after } = encode(&object)?;
        let (length, crc) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        self.store.put_state(&self.origin, self.sequence, Bytes::from(bytes))?;
        self.sequence += 1;
        Ok(StateFile {
            object,
            bytes: length,
            crc,
            rows,
            epoch: self.origin.epoch,
            key_groups,
            expires_after,
            continues: false,
        })
    }
}

fn state_key(origin: &Origin, sequence: u64) -> String {
    format!("{STATE}/{}", origin.object(sequence))
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
