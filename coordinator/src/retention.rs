//! Retention by what was read, in a cluster: the leader works out what no epoch needs any more, the owner says where
//! its segments end, the group decides on a cut there, and the owner removes what lies before it (P15).
//!
//! What is decided is safe for ever (`coordinator-core`'s `retention`): nothing here need be fenced, and a sweep that
//! dies anywhere is made good by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qanat_coordinator_core::retention::{TopicCut, TopicStart, lowest_starts, restorable};
use qanat_coordinator_core::{Claimed, Command, Job};
use qanat_proto::owner::{OwnerAnswer, OwnerTask, OwnerTopic};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, limits};
use qanat_storage::env::thread;
use tonic::Status;

use crate::owner::Owners;
use crate::raft::Member;
use crate::service::{DataReader, lead};

/// Applies the retention of topics that go by what was read.
pub(crate) struct TopicRetention {
    pub(crate) member: Arc<Member>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) reader: Arc<dyn DataReader>,
}

/// What was found out before.
#[derive(Default)]
struct Known {
    /// Topics that go by what was read, with their ids.
    topics: BTreeMap<String, u64>,
    /// Where epochs begin, by their manifests: these never change. Nowhere, if the job reads none of the topics.
    starts: BTreeMap<String, Vec<TopicStart>>,
}

impl TopicRetention {
    /// Sweeps from time to time, while this coordinator leads.
    pub(crate) async fn sweep(self) {
        let mut known = Known::default();
        let mut failed = 0_u32;
        loop {
            tokio::time::sleep(Duration::from_millis(limits::TOPIC_RETENTION_MS)).await;
            if lead(&self.member).await.is_err() {
                known = Known::default();
                continue;
            }
            match self.sweep_once(&mut known).await {
                Ok(()) => failed = 0,
                Err(status) => {
                    failed += 1;
                    // The first one may be a manifest that was collected meanwhile, or an owner that is just lost.
                    if failed == 2 {
                        tracing::warn!(%status, "retention by what was read is not applied: rows of topics stay");
                    }
                }
            }
        }
    }

    async fn sweep_once(&self, known: &mut Known) -> Result<(), Status> {
        let topics = self.look(|reader| reader.consumed_topics()).await?;
        if topics != known.topics {
            *known = Known { topics, starts: BTreeMap::new() };
        }
        if known.topics.is_empty() {
            return Ok(());
        }
        for claim in self.unknown(known) {
            let key = claim.manifest_key.clone();
            let starts = self.look(move |reader| reader.starts(&claim)).await?;
            known.starts.insert(key, starts);
        }
        let plan = self.member.state(|state| {
            let starts = |claim: &Claimed| known.starts.get(&claim.manifest_key).map(Vec::as_slice);
            lowest_starts(state, &known.topics, starts).map(|lowest| (lowest, state.applied))
        });
        // An epoch was claimed meanwhile: the next sweep knows it.
        let Some((lowest, as_of)) = plan else { return Ok(()) };
        for (topic, offsets) in lowest {
            let id = known.topics.get(&topic).copied().unwrap_or_default();
            self.retain(OwnerTopic { topic, id, offsets }, as_of).await?;
        }
        Ok(())
    }

    /// Claims whose manifests have to be read. Those that may be restored no more are forgotten.
    fn unknown(&self, known: &mut Known) -> Vec<Claimed> {
        let Known { topics, starts } = known;
        let uses = |job: &Job| {
            let used = job.run_with.as_ref().and_then(|run_with| run_with.topics.as_ref());
            used.is_none_or(|used| topics.keys().any(|topic| used.names.contains(topic)))
        };
        let mut kept = BTreeSet::new();
        let unknown = self.member.state(|state| {
            let mut unknown = Vec::new();
            for job in state.jobs.values() {
                let is_asked = uses(job);
                for claim in restorable(job) {
                    kept.insert(claim.manifest_key.clone());
                    match starts.contains_key(&claim.manifest_key) {
                        true => {}
                        false if is_asked => unknown.push(claim.clone()),
                        false => drop(starts.insert(claim.manifest_key.clone(), Vec::new())),
                    }
                }
            }
            unknown
        });
        starts.retain(|key, _| kept.contains(key));
        unknown
    }

    /// Looks on a thread that may block.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn DataReader) -> qanat_proto::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let reader = self.reader.clone();
        let looked = thread::blocking(move || look(reader.as_ref())).await;
        let looked = looked.unwrap_or_else(|e| Err(Error::new(Code::Panic, format!("a sweep failed: {e}"))));
        looked.map_err(|error| status_of(&error))
    }

    async fn retain(&self, needed: OwnerTopic, as_of: u64) -> Result<(), Status> {
        let (topic, id) = (needed.topic.clone(), needed.id);
        let OwnerAnswer::Removable(offsets) = self.owners.perform(&topic, &OwnerTask::Removable(needed)).await? else {
            return Err(status_of(&Error::internal("the owner of the log answers something else")));
        };
        if offsets.is_empty() {
            return Ok(());
        }
        let cut = TopicCut { id, offsets: offsets.clone() };
        let command = Command::CutTopic { topic: topic.clone(), cut, as_of };
        let decided = self.member.propose_async(command).await.map_err(|error| status_of(&error))?;
        if decided.is_err() {
            // A job began meanwhile: the next sweep knows it.
            return Ok(());
        }
        let task = OwnerTask::Remove(OwnerTopic { topic: topic.clone(), id, offsets });
        self.owners.perform(&topic, &task).await.map(drop)
    }
}
