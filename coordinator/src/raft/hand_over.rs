//! A leader that goes hands over first, so that nobody has to miss it before another one is elected.
//!
//! openraft lets the successor ask for votes at once, and the others give theirs although they have just heard of the
//! leader. Meanwhile the leader decides nothing and sends no heartbeats: a successor that does not come is missed like
//! a leader that died.

use std::cmp::Reverse;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};

use super::member::Member;
use super::types::MemberId;

impl Member {
    /// Lets another voter lead, if this one does. True once that one leads, as far as this one knows; false if there
    /// is nobody, or it does not take over within `limit`.
    pub async fn hand_over(&self, limit: Duration) -> bool {
        let Some(next) = self.successor() else { return false };
        if self.raft().trigger().transfer_leader(next).await.is_err() {
            return false;
        }
        let mut metrics = self.raft().server_metrics();
        let taken_over = async {
            loop {
                let leader = metrics.borrow_watched().current_leader;
                if leader.is_some_and(|leader| leader != self.id()) {
                    return true;
                }
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, taken_over).await.unwrap_or(false)
    }

    /// The voter that has come furthest; of several, the one that was heard of last: one that has died may have been as
    /// far. None if this member does not lead, or knows nothing of the others.
    pub(super) fn successor(&self) -> Option<MemberId> {
        let metrics = self.raft().metrics().borrow_watched().clone();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let (matched, heard) = (metrics.replication?, metrics.heartbeat?);
        let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != self.id());
        let known = others.filter_map(|id| {
            let matched = matched.get(&id).and_then(Option::as_ref)?;
            let heard = heard.get(&id).and_then(Option::as_ref)?;
            Some((matched.index, Reverse(heard.elapsed()), id))
        });
        known.max().map(|(.., id)| id)
    }
}
