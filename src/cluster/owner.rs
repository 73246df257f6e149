//! The executor's part as the owner of topics: what the leader asks beside the rows of jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use qanat_proto::Result;
use qanat_proto::names::Name;
use qanat_proto::owner::{OwnerAnswer, OwnerTask, OwnerTopic};
use qanat_storage::env::Env;
use qanat_storage::log::{Changed, OwnerToken, Topics};

use crate::readmit::Readmitter;

/// Does what the owner is asked.
pub(crate) struct TopicOwner {
    env: Env,
    topics: Arc<Topics>,
    /// Held while entries are readmitted: one request after the other.
    readmitting: Mutex<()>,
}

impl TopicOwner {
    pub(crate) fn new(env: Env, topics: Arc<Topics>) -> Self {
        Self { env, topics, readmitting: Mutex::default() }
    }

    /// # Errors
    /// E0306 if there is a newer owner; what the task says.
    pub(crate) fn perform(&self, task: OwnerTask, owner: u64) -> Result<OwnerAnswer> {
        match task {
            OwnerTask::Change { topic, number, change } => {
                let changed = self.topics.change(&Name::new(&topic)?, number, &change)?;
                Ok(match changed {
                    Changed::Made => OwnerAnswer::Done,
                    Changed::Outdated => OwnerAnswer::Outdated,
                })
            }
            OwnerTask::Readmit(asked) => {
                let _one = self.readmitting.lock().unwrap_or_else(PoisonError::into_inner);
                let readmitter = Readmitter { env: &self.env, topics: &self.topics, owner: Some(OwnerToken(owner)) };
                readmitter.readmit(&asked).map(OwnerAnswer::Readmitted)
            }
            OwnerTask::Removable(asked) => self.removable(&asked, OwnerToken(owner)),
            OwnerTask::Remove(asked) => self.remove(&asked, OwnerToken(owner)),
        }
    }

    fn removable(&self, asked: &OwnerTopic, owner: OwnerToken) -> Result<OwnerAnswer> {
        let mut offsets = BTreeMap::new();
        let topic = self.topics.find(&Name::new(&asked.topic)?)?.filter(|topic| topic.id() == asked.id);
        let Some(topic) = topic.filter(|topic| topic.spec().retention.consumed) else {
            return Ok(OwnerAnswer::Removable(offsets));
        };
        for (partition, needed) in asked.offsets.iter().filter(|(partition, _)| **partition < topic.partitions()) {
            if let Some(end) = topic.own(*partition, owner)?.removable(*needed) {
                offsets.insert(*partition, end);
            }
        }
        Ok(OwnerAnswer::Removable(offsets))
    }

    fn remove(&self, asked: &OwnerTopic, owner: OwnerToken) -> Result<OwnerAnswer> {
        let topic = self.topics.find(&Name::new(&asked.topic)?)?.filter(|topic| topic.id() == asked.id);
        let Some(topic) = topic else { return Ok(OwnerAnswer::Done) };
        for (partition, offset) in &asked.offsets {
            topic.own(*partition, owner)?.remove_before(*offset)?;
        }
        Ok(OwnerAnswer::Done)
    }
}
