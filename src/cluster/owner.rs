//! The executor's part as the owner of topics: what the leader asks beside the rows of jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use qanat_proto::names::Name;
use qanat_proto::owner::{OwnerAnswer, OwnerTask, OwnerTopic};
use qanat_proto::{Error, Result};
use qanat_storage::env::{Env, thread};
use qanat_storage::log::{Changed, OwnerToken, StagedHandle, Topics};

use crate::readmit::{Readmitter, Step};

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
            OwnerTask::Readmit { asked, published } => {
                let _one = thread::lock(&self.readmitting);
                let readmitter = Readmitter { env: &self.env, topics: &self.topics, owner: Some(OwnerToken(owner)) };
                Ok(match readmitter.step(&asked, &published)? {
                    Step::Done(readmitted) => OwnerAnswer::Readmitted(readmitted),
                    Step::Publish { batch, handle, completed } => {
                        let text = serde_json::to_string(&handle);
                        let text = text.map_err(|e| Error::internal(format!("encode a handle: {e}")))?;
                        OwnerAnswer::Publish { batch, topic: handle.topic, handle: text, completed }
                    }
                })
            }
            OwnerTask::Publish { topic, handle } => {
                let handle: StagedHandle =
                    serde_json::from_str(&handle).map_err(|e| Error::internal(format!("read a handle: {e}")))?;
                self.topics.topic(&Name::new(&topic)?)?.commit_owned(&[handle], OwnerToken(owner))?;
                Ok(OwnerAnswer::Done)
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
