//! What of the checkpoint store may be deleted, and in which order (P14, I17).
//!
//! [`plan`] decides, purely; [`collect`] reads what the decision needs and carries it out. Collectable
//! are
//! - state objects that a retired manifest names, or that were made by a generation below the current one
//!   of their job, if no live manifest *of any job* names them (a copy shares objects with its origin);
//! - retired manifests, and manifests that a lower generation wrote and nobody claimed.
//!
//! Objects of jobs that the caller does not speak of are never touched: another cluster may share the folder (P6).
//!
//! State objects go first and manifests after them, the oldest manifest last: an interrupted collection
//! leaves manifests that name missing objects, all of them retired, and the next one finds the rest.
//! The decision stays right however late it is carried out: a claim names only new objects of its own
//! generation and those of the last claimed manifest, which is live.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::check;
use qanat_proto::error::{Code, Result};
use qanat_proto::ids::{Generation, JobId};
use qanat_proto::manifest::Manifest;
use qanat_proto::names::Origin;
use qanat_proto::zoo::{Bug, planted};

use super::store::{CheckpointStore, ManifestKey, STATE};

/// What the control plane knows of one job's checkpoints.
#[derive(Clone, Debug)]
pub struct JobCheckpoints {
    pub job: JobId,
    /// The current generation; objects of lower ones are orphans unless a live manifest names them.
    pub generation: Generation,
    /// Key and checksum of every manifest that may be restored or is yet to be committed: the last claimed,
    /// the kept ones, epoch 0 while it counts, savepoints.
    pub live: Vec<(String, String)>,
    /// Key and checksum of the manifests whose retirement is applied.
    pub retired: Vec<(String, String)>,
}

/// What a decision is made from.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Current generation of each job that is spoken of.
    pub generations: BTreeMap<JobId, Generation>,
    /// Live manifests of all jobs.
    pub live: Vec<(String, Manifest)>,
    /// Retired manifests that can still be read.
    pub retired: Vec<(String, Manifest)>,
    /// Retired manifests that cannot: only they themselves can go.
    pub unreadable: Vec<String>,
    /// All state objects and manifests in the store.
    pub state_objects: Vec<String>,
    pub manifests: Vec<ManifestKey>,
}

/// Keys to delete, in this order.
pub fn plan(inventory: &Inventory) -> Vec<String> {
    let live_keys: BTreeSet<&str> = inventory.live.iter().map(|(key, _)| key.as_str()).collect();
    let live = inventory.live.iter().filter(|_| !planted(Bug::CollectShared));
    let live_objects: BTreeSet<&str> = live.flat_map(|(_, manifest)| objects_of(manifest)).collect();
    let is_below = |job: JobId, generation: Generation| {
        let current = inventory.generations.get(&job);
        current.is_some_and(|current| generation < *current || planted(Bug::CollectCurrent))
    };

    let present: BTreeSet<&str> = inventory.state_objects.iter().map(String::as_str).collect();
    let retired = inventory.retired.iter().flat_map(|(_, manifest)| objects_of(manifest));
    let orphans = inventory.state_objects.iter().map(String::as_str).filter(|object| {
        let name = object.strip_prefix(STATE).and_then(|rest| rest.strip_prefix('/'));
        let origin = name.and_then(Origin::parse_object);
        origin.is_some_and(|(origin, _)| is_below(origin.token.job, origin.token.generation))
    });
    let objects: BTreeSet<&str> =
        retired.chain(orphans).filter(|object| present.contains(object) && !live_objects.contains(object)).collect();

    let retired = inventory.retired.iter().map(|(key, _)| key).chain(&inventory.unreadable);
    let mut manifests: BTreeSet<ManifestKey> = retired.filter_map(|key| key.parse().ok()).collect();
    manifests.extend(inventory.manifests.iter().filter(|key| is_below(key.job, key.generation)));
    let mut manifests: Vec<ManifestKey> =
        manifests.into_iter().filter(|key| !live_keys.contains(key.to_string().as_str())).collect();
    manifests.sort_unstable_by_key(|key| (std::cmp::Reverse(key.epoch), *key));

    objects.into_iter().map(str::to_owned).chain(manifests.iter().map(ToString::to_string)).collect()
}

/// Deletes what is collectable of the jobs spoken of; returns how many objects went. `jobs` must name
/// every job of the store that may share objects with them.
///
/// # Errors
/// E0301 if a live manifest cannot be read: then nothing is deleted, because nobody knows what it names.
/// And what the store says, after which the rest is left for the next time.
pub fn collect(store: &CheckpointStore, jobs: &[JobCheckpoints]) -> Result<usize> {
    // List before reading: what appears later is of a current generation, and not collectable.
    let mut inventory = Inventory { state_objects: store.list_state()?, ..Inventory::default() };
    for job in jobs {
        inventory.generations.insert(job.job, job.generation);
        inventory.manifests.extend(store.list_manifests(job.job)?);
        for (key, checksum) in &job.live {
            inventory.live.push((key.clone(), without_splits(store.read_manifest(key, checksum)?)));
        }
        for (key, checksum) in &job.retired {
            match store.read_manifest(key, checksum) {
                Ok(manifest) => inventory.retired.push((key.clone(), without_splits(manifest))),
                Err(error) if error.code() == Code::CorruptCheckpoint => inventory.unreadable.push(key.clone()),
                Err(error) => return Err(error),
            }
        }
    }
    let mut deleted = 0;
    for key in plan(&inventory) {
        let is_live = inventory
            .live
            .iter()
            .any(|(live, manifest)| *live == key || objects_of(manifest).any(|object| object == key));
        check!(I17, !is_live, "object `{key}` is about to be deleted, and a live manifest needs it")?;
        deleted += usize::from(store.objects().delete(&key)?);
    }
    Ok(deleted)
}

/// What a decision needs of a manifest: the positions of a hundred thousand files are most of it.
fn without_splits(mut manifest: Manifest) -> Manifest {
    manifest.sources = Vec::new();
    manifest.receipt.sources = Vec::new();
    manifest
}

/// The state objects that a manifest names.
fn objects_of(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let tables = manifest.operators.iter().flat_map(|operator| &operator.tables);
    tables.flat_map(|table| &table.files).map(|file| file.object.as_str())
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;
