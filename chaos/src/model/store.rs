//! The checkpoint store: immutable manifests and state objects, and what collects them.

use std::collections::BTreeMap;

use qanat_coordinator_core::state::State;
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::Manifest;
use qanat_storage::checkpoint::gc::{Inventory, plan};

use super::dataflow::Counts;

/// What lies in the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) manifests: BTreeMap<String, Manifest>,
    /// What a subtask had counted when it wrote an object.
    pub(super) objects: BTreeMap<String, Counts>,
}

impl Store {
    /// What is collected as of a state, and which epochs of the job are done with then.
    pub(super) fn collect(&mut self, state: &State) -> BTreeMap<qanat_proto::ids::JobId, Vec<Epoch>> {
        let mut inventory = Inventory {
            state_objects: self.objects.keys().cloned().collect(),
            manifests: self.manifests.keys().filter_map(|key| key.parse().ok()).collect(),
            ..Inventory::default()
        };
        let mut collected = BTreeMap::new();
        for (id, job) in &state.jobs {
            let generation = if job.dropped { job.generation.next() } else { job.generation };
            inventory.generations.insert(*id, generation);
            let read = |key: &str| self.manifests.get(key).map(|manifest| (key.to_owned(), manifest.clone()));
            inventory.live.extend(job.claims.values().filter_map(|claim| read(&claim.manifest_key)));
            inventory.retired.extend(job.retired.values().filter_map(|claim| read(&claim.manifest_key)));
            if !job.retired.is_empty() {
                collected.insert(*id, job.retired.keys().copied().collect());
            }
        }
        for key in plan(&inventory) {
            self.objects.remove(&key);
            self.manifests.remove(&key);
        }
        collected
    }
}
