//! Topics that are made and deleted: the group decides, the owner of the log does it, and the group notes that it is
//! done. What a leader that is gone left undone is done by the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qanat_coordinator_core::Command;
use qanat_coordinator_core::apply::Applied;
use qanat_proto::owner::{OwnerAnswer, OwnerTask, TopicChange};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error};
use tonic::Status;

use crate::owner::Owners;
use crate::raft::Member;
use crate::service::lead;

/// How often a leader looks for changes that nobody waits for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes and deletes the topics of a cluster.
pub(crate) struct TopicChanges {
    member: Arc<Member>,
    owners: Arc<Owners>,
}

impl TopicChanges {
    pub(crate) fn new(member: Arc<Member>, owners: Arc<Owners>) -> Arc<Self> {
        Arc::new(Self { member, owners })
    }

    /// Has a topic made or deleted. Returns when it is.
    ///
    /// # Errors
    /// E0312 if a job uses the topic; what the owner answers.
    pub(crate) async fn change(&self, topic: &str, change: TopicChange) -> Result<(), Status> {
        let command = Command::ChangeTopic { topic: topic.to_owned(), change: change.clone() };
        match self.propose(command).await? {
            Applied::Changing { number } => self.perform(topic, number, change).await,
            _ => Err(status_of(&Error::internal("a change of a topic was applied as something else"))),
        }
    }

    async fn perform(&self, topic: &str, number: u64, change: TopicChange) -> Result<(), Status> {
        let task = OwnerTask::Change { topic: topic.to_owned(), number, change };
        let done = self.owners.perform(topic, &task).await;
        if let Err(status) = &done
            && is_pending(status)
        {
            // It may still come about.
            return done.map(drop);
        }
        self.propose(Command::TopicChanged { topic: topic.to_owned(), number }).await?;
        match done? {
            OwnerAnswer::Done => Ok(()),
            OwnerAnswer::Outdated => {
                let error = Error::new(Code::TopicInUse, format!("topic `{topic}` was changed by others meanwhile"));
                Err(status_of(&error.hint("`qanat topics list` shows what there is")))
            }
            OwnerAnswer::Readmitted(_) | OwnerAnswer::Publish { .. } | OwnerAnswer::Removable(_) => {
                Err(status_of(&Error::internal("the owner of the log answers something else")))
            }
        }
    }

    async fn propose(&self, command: Command) -> Result<Applied, Status> {
        let decided = self.member.propose_async(command).await.map_err(|error| status_of(&error))?;
        decided.map_err(|refusal| status_of(&(&refusal).into()))
    }

    /// Does what others were decided on and left, for as long as it is polled and this coordinator leads.
    pub(crate) async fn finish(self: Arc<Self>) {
        let mut seen = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let pending = self.member.state(|state| state.topic_changes.clone());
            if pending.is_empty() || lead(&self.member).await.is_err() {
                seen.clear();
                continue;
            }
            // Whoever asked for it waits for it still, if it is new.
            for (topic, change) in pending.iter().filter(|(topic, change)| seen.get(*topic) == Some(&change.number)) {
                if let Err(status) = self.perform(topic, change.number, change.change.clone()).await {
                    tracing::info!(topic, %status, "a topic is not changed yet, or cannot be");
                }
            }
            seen = pending.into_iter().map(|(topic, change)| (topic, change.number)).collect();
        }
    }
}

/// Whether nobody knows what became of the change, so that it must be asked for again.
fn is_pending(status: &Status) -> bool {
    let code = qanat_proto::rpc::status::error_of(status).code();
    matches!(code, Code::NotLeader | Code::NoQuorum | Code::ExecutorLost)
}
