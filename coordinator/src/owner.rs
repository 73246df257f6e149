//! The way to whoever owns a topic: the one place that knows who that is, and what is asked of it.
//!
//! An owner may be lost while it is asked, and so may this coordinator's lead: a task is asked again of the next owner,
//! which a repeat must not harm.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qanat_coordinator_core::state::LogOwner;
use qanat_proto::owner::{OwnerAnswer, OwnerTask};
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::exchange::OwnerRequest;
use qanat_proto::rpc::exchange::log_owner_client::LogOwnerClient;
use qanat_proto::rpc::status::{error_of, status_of};
use qanat_proto::{Code, Error, limits};
use tonic::Status;
use tonic::transport::Channel;

use crate::nodes::Nodes;
use crate::raft::Member;
use crate::service::lead;

/// Between two looks who owns the log.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks without an owner, or with one that is not reached, until there is none.
const LOOKS_MAX: u64 = limits::OWNER_PATIENCE_MS / 50;
const _: () = assert!(LOOK_EVERY.as_millis() as u64 * LOOKS_MAX == limits::OWNER_PATIENCE_MS);

/// Asks the owners of topics.
pub struct Owners {
    member: Arc<Member>,
    nodes: Arc<Nodes>,
    dial: Arc<dyn Dial>,
    cluster: Arc<str>,
    /// By address.
    channels: Mutex<BTreeMap<String, Channel>>,
}

/// An owner, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reachable {
    owner: LogOwner,
    address: String,
}

impl Owners {
    pub fn new(member: Arc<Member>, nodes: Arc<Nodes>, dial: Arc<dyn Dial>, cluster: Arc<str>) -> Arc<Self> {
        Arc::new(Self { member, nodes, dial, cluster, channels: Mutex::default() })
    }

    /// Who appends to the topic now, if that one is attached.
    fn of(&self, topic: &str) -> Option<Reachable> {
        let owner = self.member.state(|state| state.owner_of(topic))?;
        let executors = self.nodes.executors();
        let found = executors.into_iter().find(|executor| executor.start == owner.start && executor.attached)?;
        (!found.address.is_empty()).then_some(Reachable { owner, address: found.address })
    }

    /// Has the owner of a topic do something, whoever that is in the end.
    ///
    /// # Errors
    /// E0601 if this coordinator leads no more; E0603 if nobody owns the log for a while; what the owner answers.
    pub async fn perform(&self, topic: &str, task: &OwnerTask) -> Result<OwnerAnswer, Status> {
        let mut looks = 0;
        loop {
            lead(&self.member).await?;
            if let Some(asked) = self.of(topic) {
                let answer = tokio::select! {
                    answer = self.ask(&asked, task) => Some(answer),
                    // It may be paused, and never answer.
                    () = self.while_owner(topic, &asked) => None,
                };
                match answer.map(|answer| answer.map_err(|status| error_of(&status))) {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(error)) if !is_elsewhere(&error) => return Err(status_of(&error)),
                    Some(Err(error)) => tracing::info!(%error, topic, "the owner of the log is asked again"),
                    None => continue,
                }
            }
            looks += 1;
            if looks >= LOOKS_MAX {
                let error = Error::new(Code::ExecutorLost, "no executor owns the log of the topic");
                return Err(status_of(
                    &error.hint("`qanat cluster status` lists the executors; start one, and try again"),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn ask(&self, asked: &Reachable, task: &OwnerTask) -> Result<OwnerAnswer, Status> {
        let task = serde_json::to_vec(task).map_err(|e| Status::internal(format!("encode a task: {e}")))?;
        let request = OwnerRequest {
            cluster: self.cluster.to_string(),
            start: asked.owner.start.to_string(),
            owner: asked.owner.token,
            task,
        };
        let mut client = LogOwnerClient::new(self.channel(&asked.address)?)
            .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES);
        let answer = client.perform(request).await?.into_inner().answer;
        serde_json::from_slice(&answer).map_err(|e| Status::internal(format!("an answer cannot be read: {e}")))
    }

    fn channel(&self, address: &str) -> Result<Channel, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        // Executors that are gone leave theirs behind.
        channels.clear();
        let dialled = self.dial.dial(address);
        let dialled = dialled.map_err(|e| status_of(&Error::internal(format!("dial an executor: {e}"))))?;
        Ok(channels.entry(address.to_owned()).or_insert(dialled).clone())
    }

    /// Returns when another one owns the topic, or this coordinator knows of none.
    async fn while_owner(&self, topic: &str, asked: &Reachable) {
        while self.of(topic).as_ref() == Some(asked) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether another one, or the same after a while, may give another answer.
fn is_elsewhere(error: &Error) -> bool {
    matches!(error.code(), Code::Fenced | Code::NoQuorum)
}
