//! A member that is none any more. The group replicates nothing to one that it has removed, so that this one would
//! wait for ever: it has to be told. Whoever leads does so, when the removed one asks for votes or holds a call open
//! to it.
//!
//! What must never happen: a member is told so while the group counts it. Only a leader that has just heard of a
//! majority says it, of an id that is in no membership it knows, decided or not.

use std::sync::{Arc, Weak};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use qanat_proto::rpc::status::error_of;
use qanat_proto::{Code, Error};
use tokio::sync::watch;
use tonic::Status;

use super::member::{Leadership, Member, change_or_while};
use super::types::{MemberId, Types};

/// Whether this member was told that it is none any more.
#[derive(Clone)]
pub(super) struct Removal(Arc<watch::Sender<bool>>);

impl Removal {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// It is so.
    pub(super) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// What a peer answered.
    pub(super) fn note(&self, status: &Status) {
        if error_of(status).code() == Code::MemberRemoved {
            self.set();
        }
    }

    async fn wait(&self) {
        // Fails when its sender is gone, which `self` is.
        let _ = self.0.subscribe().wait_for(|is_removed| *is_removed).await;
    }
}

/// What a coordinator ends with that was removed.
pub(crate) fn removed(id: MemberId) -> Error {
    Error::new(Code::MemberRemoved, format!("coordinator {id} was removed from its group"))
        .hint("its data folder is of no use any more; add one with another number and an empty folder in its place")
}

/// Whether a membership that is decided and one that may be are without a member.
fn lacks(metrics: &RaftServerMetrics<Types>, id: MemberId) -> bool {
    let is_in = |known: &openraft::Membership<MemberId, openraft::BasicNode>| known.get_node(&id).is_some();
    metrics.state == ServerState::Leader
        && !is_in(metrics.membership_config.membership())
        && !is_in(metrics.committed_membership_config.membership())
}

impl Member {
    /// Returns once this member was told that the group has removed it.
    pub async fn until_removed(&self) -> Error {
        self.removal().wait().await;
        removed(self.id())
    }

    /// Whether this member leads and knows for certain that another one is not of the group.
    pub(crate) async fn has_removed(&self, id: MemberId) -> bool {
        let looks_so = || lacks(&self.raft().server_metrics().borrow_watched(), id);
        // Asking a majority brings all that earlier leaders decided.
        looks_so() && matches!(self.leadership().await, Leadership::Leading { .. }) && looks_so()
    }

    /// Returns once [`Member::has_removed`]; never if the member ends first.
    pub(crate) async fn until_it_removes(member: Weak<Self>, id: MemberId) {
        let Some(mut metrics) = member.upgrade().map(|member| member.raft().server_metrics()) else {
            return std::future::pending().await;
        };
        loop {
            let Some(member) = member.upgrade() else { return std::future::pending().await };
            if member.has_removed(id).await {
                return;
            }
            drop(member);
            if !change_or_while(&mut metrics).await {
                return std::future::pending().await;
            }
        }
    }
}
