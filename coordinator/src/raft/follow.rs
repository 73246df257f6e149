//! A leader whose process dies is missed at once: each follower holds a call open to it. When that breaks and cannot
//! be made again, the leader's lease alone is waited for, and not the timeout behind it.
//!
//! Nothing depends on this for safety: what it does is ask for votes earlier, by a pre-vote that those refuse who
//! hear the leader still.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{BasicNode, RaftNetworkFactory};
use qanat_proto::limits;

use super::member::change_or_while;
use super::network::Network;
use super::types::{MemberId, Raft, Types};

/// Before a call that broke is made again.
const AGAIN: Duration = Duration::from_millis(10);
/// How long each member is asked whether it has removed this one.
const ANSWER: Duration = Duration::from_secs(1);

/// The leader that a member follows, and how many voters ask for votes before this one when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Followed {
    leader: MemberId,
    node: BasicNode,
    turn: u64,
}

impl Followed {
    /// None while this member leads, has no vote, or knows of no leader.
    fn of(metrics: &RaftServerMetrics<Types>, me: MemberId) -> Option<Self> {
        let leader = metrics.current_leader.filter(|leader| *leader != me)?;
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<MemberId> = membership.voter_ids().filter(|id| *id != leader).collect();
        let turn = voters.iter().position(|id| *id == me)?;
        Some(Self { leader, node: membership.get_node(&leader)?.clone(), turn: turn as u64 })
    }
}

/// A leader that is gone, until another one leads.
struct Missed {
    leader: MemberId,
    turn: u64,
    /// How often this member has asked for votes again.
    asked: u32,
    /// When it asks again.
    wait: Pin<Box<tokio::time::Sleep>>,
}

impl Missed {
    fn new(followed: &Followed) -> Self {
        let Followed { leader, turn, .. } = *followed;
        Self { leader, turn, asked: 0, wait: Self::pause(turn, 0) }
    }

    /// Longer than an election takes, which syncs two votes; each time longer, so that a slow disk is no reason for
    /// one election to end another for ever.
    fn pause(turn: u64, asked: u32) -> Pin<Box<tokio::time::Sleep>> {
        let turns = (2 << asked.min(4)) + turn;
        Box::pin(tokio::time::sleep(Duration::from_millis(turns * limits::RAFT_TURN_MS)))
    }

    fn asks_again(&mut self) {
        self.asked += 1;
        self.wait = Self::pause(self.turn, self.asked);
    }
}

/// The members of the group that this one knows of, if it is none of them.
fn others_than(metrics: &RaftServerMetrics<Types>, me: MemberId) -> Vec<(MemberId, BasicNode)> {
    let membership = metrics.membership_config.membership();
    if membership.get_node(&me).is_some() {
        return Vec::new();
    }
    membership.nodes().map(|(id, node)| (*id, node.clone())).collect()
}

/// Follows whoever leads, for as long as the member lives.
pub(super) async fn follow_leaders(raft: Raft, mut network: Network, me: MemberId) {
    let mut metrics = raft.server_metrics();
    let removal = network.removal.clone();
    let mut missed: Option<Missed> = None;
    // One that was removed has nobody to follow.
    while !removal.is_set() {
        let (leader, followed) = {
            let metrics = metrics.borrow_watched();
            (metrics.current_leader, Followed::of(&metrics, me))
        };
        missed = missed.filter(|missed| leader.is_none_or(|leader| leader == missed.leader));
        let Some(followed) = followed else {
            let others = others_than(&metrics.borrow_watched(), me);
            let is_alive = if let Some(missed) = missed.as_mut().filter(|_| others.is_empty()) {
                // An election is under way. If it comes to nothing, the timers of all members would take as long again.
                tokio::select! {
                    changed = metrics.changed() => changed.is_ok(),
                    () = &mut missed.wait => {
                        missed.asks_again();
                        raft.trigger().elect(true).await.is_ok()
                    }
                }
            } else if others.is_empty() {
                metrics.changed().await.is_ok()
            } else {
                // Whoever leads says whether this one was removed, and nothing if it is only new.
                for (id, node) in others {
                    let peer = network.new_client(id, &node).await;
                    let _ = tokio::time::timeout(ANSWER, peer.follow()).await;
                }
                change_or_while(&mut metrics).await
            };
            if !is_alive {
                return;
            }
            continue;
        };
        let gone = async {
            // Another try tells a process that is gone from a connection that broke.
            while network.new_client(followed.leader, &followed.node).await.follow().await && !removal.is_set() {
                missed = None;
                tokio::time::sleep(AGAIN).await;
            }
            match &mut missed {
                Some(missed) => (&mut missed.wait).await,
                None => {
                    let (_, lease_ms) = limits::RAFT_ELECTION_MS;
                    tokio::time::sleep(Duration::from_millis(lease_ms + followed.turn * limits::RAFT_TURN_MS)).await;
                }
            }
        };
        let is_gone = tokio::select! {
            () = gone => true,
            is_alive = another(&mut metrics, &followed, me) => {
                if !is_alive {
                    return;
                }
                false
            }
        };
        if is_gone && !removal.is_set() {
            match &mut missed {
                Some(missed) => missed.asks_again(),
                None => missed = Some(Missed::new(&followed)),
            }
            if raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }
}

/// Waits until the member follows another leader, or none. False if it has ended.
async fn another(
    metrics: &mut openraft::alias::WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    followed: &Followed,
    me: MemberId,
) -> bool {
    loop {
        if metrics.changed().await.is_err() {
            return false;
        }
        if Followed::of(&metrics.borrow_watched(), me).as_ref() != Some(followed) {
            return true;
        }
    }
}
