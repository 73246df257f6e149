//! Changes of the group: one member at a time comes or goes, and never so that nobody could decide.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::alias::InstantOf;
use openraft::async_runtime::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Instant};
use qanat_proto::{Code, Error, Result, address, limits};

use super::member::{Leadership, Member, no_quorum, not_leader};
use super::types::{MemberId, Types};

/// How long a new member may take to catch up within one call; the next call goes on.
const CATCH_UP: Duration = Duration::from_secs(8);

/// As long as a leader would take to be missed, and some more for a busy machine.
const LATELY: Duration = Duration::from_millis(4 * limits::RAFT_ELECTION_MS.1);
/// Between two looks at who is up.
const PAUSE: Duration = Duration::from_millis(limits::RAFT_HEARTBEAT_MS / 5);

impl Member {
    /// Adds a member that listens already, for whoever asks for it. False for a repeat, which is done.
    ///
    /// # Errors
    /// E0601 if another one leads; E0501 for a number or an address that is taken; E0602 if it does not catch up in time:
    /// then it has no vote.
    pub async fn admit(&self, id: MemberId, address: String) -> Result<bool> {
        self.knows_the_group().await?;
        let group = self.group();
        let refused = |message: String, hint: &str| Err(Error::new(Code::Usage, message).hint(hint));
        match group.iter().find(|member| member.id == id) {
            Some(known) if known.address != address => {
                let message = format!("coordinator {id} is at {}", known.address);
                return refused(message, "give the new one a number that was never used in this cluster");
            }
            Some(known) if known.votes && !self.is_changing() => return Ok(false),
            Some(_) | None => {}
        }
        if id == 0 || address::check(&address).is_err() {
            let message = format!("{id}={address} is no coordinator");
            return refused(message, "write ID=HOST:PORT with a number from 1 on");
        }
        if let Some(other) = group.iter().find(|member| member.address == address && member.id != id) {
            let message = format!("coordinator {} is at {address}", other.id);
            return refused(message, "give each coordinator an address of its own");
        }
        let added = tokio::time::timeout(CATCH_UP, self.add(id, address.clone())).await;
        added.unwrap_or_else(|_| {
            let message = format!("coordinator {id} does not catch up at {address}");
            Err(Error::new(Code::NoQuorum, message)
                .hint("start it there with this cluster's id, and add it again: until then it has no vote"))
        })?;
        Ok(true)
    }

    /// Removes a member for whoever asks for it: a repeat is done. A leader that removes itself hands over first, and
    /// names who leads then. `noted` is awaited when nothing refuses it any more, and while this one still decides.
    ///
    /// # Errors
    /// E0501 for the last one that has a vote, and if those that are left and answer are no majority of them; E0601
    /// if another one leads, or does now because it handed over.
    pub async fn dismiss(&self, id: MemberId, noted: impl Future<Output = Result<()>>) -> Result<()> {
        self.knows_the_group().await?;
        let group = self.group();
        let Some(known) = group.iter().find(|member| member.id == id) else { return Ok(()) };
        let left = group.iter().filter(|member| member.votes && member.id != id);
        let left: BTreeSet<MemberId> = left.map(|member| member.id).collect();
        if left.is_empty() {
            let error = Error::new(Code::Usage, format!("coordinator {id} is the last one that has a vote"));
            return Err(error.hint("add another one first"));
        }
        if known.votes {
            // By the clock of the runtime, as openraft notes who answered.
            let begun = InstantOf::<Types>::now();
            // One that answered lately may have died since.
            let is_up = |other| self.answered_within(begun.elapsed()).contains(&other);
            self.have_majority(id, &left, is_up).await?;
        }
        if id == self.id() && self.hand_over(Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS)).await {
            let leader = self.leadership().await;
            return Err(not_leader(if let Leadership::Following { leader } = leader { leader } else { None }));
        }
        noted.await?;
        if known.votes {
            // One whose disk hangs answers, and holds nothing of what is written.
            let last = self.raft().metrics().borrow_watched().last_log_index;
            let holds = |other| self.matched(other) >= last;
            self.have_majority(id, &left, holds).await?;
        }
        self.remove(id).await?;
        if id == self.id() {
            // Nobody else needs to tell it.
            self.removal().set();
        }
        Ok(())
    }

    /// The members that acknowledged something lately; known to the leader only.
    pub(super) fn answering(&self) -> BTreeSet<MemberId> {
        self.answered_within(LATELY)
    }

    /// The members that acknowledged what was sent to them so long ago at most; known to the leader only.
    fn answered_within(&self, limit: Duration) -> BTreeSet<MemberId> {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let heard = metrics.heartbeat.iter().flatten();
        heard.filter_map(|(id, at)| at.as_ref().filter(|at| at.elapsed() < limit).map(|_| *id)).collect()
    }

    /// Returns once most of those that would be left, this one included, are found to be up.
    ///
    /// # Errors
    /// E0501 if they are not after the time in which one that lives is found; E0601 if another one leads then.
    async fn have_majority(
        &self,
        without: MemberId,
        left: &BTreeSet<MemberId>,
        is_up: impl Fn(MemberId) -> bool,
    ) -> Result<()> {
        let most = LATELY.as_millis() / PAUSE.as_millis();
        let mut up = 0;
        // Counted, and not measured: a process that was paused meanwhile has found nobody.
        for _ in 0..most {
            up = left.iter().filter(|id| **id == self.id() || is_up(**id)).count();
            if up > left.len() / 2 {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.knows_the_group().await?;
        let of = left.len();
        let message = format!("without coordinator {without} only {up} of {of} answer, which is no majority");
        let error = Error::new(Code::Usage, message);
        Err(error.hint("start the others first, or remove those that are gone for good"))
    }

    /// Adds a member: it gets a vote once it has acknowledged all that was decided before, its own coming included. So
    /// one that nobody reaches, or that is no member of this cluster, has none. Waits for as long as that takes.
    ///
    /// # Errors
    /// As [`Member::propose_async`]; E0601 if this one stops leading.
    pub async fn add(&self, id: MemberId, address: String) -> Result<()> {
        let node = BasicNode { addr: address };
        let coming = self.raft().add_learner(id, node, false).await.map_err(|e| self.write_failed(e))?;
        // Not the library's own waiting: it takes a member that lags by less than some thousand entries as one that has
        // caught up, also if it never answered.
        let mut metrics = self.raft().metrics();
        loop {
            let Some(replication) = metrics.borrow_watched().replication.clone() else {
                return Err(not_leader(None));
            };
            if replication.get(&id).is_some_and(|acknowledged| *acknowledged >= Some(coming.log_id)) {
                break;
            }
            metrics.changed().await.map_err(|_| not_leader(None))?;
        }
        let change = ChangeMembers::AddVoterIds([id].into());
        self.raft().change_membership(change, true).await.map(drop).map_err(|e| self.write_failed(e))
    }

    /// Removes a member. It may be gone for good already, as long as a majority is there.
    ///
    /// # Errors
    /// As [`Member::propose_async`], whose limit it has; E0501 for the last one.
    pub async fn remove(&self, id: MemberId) -> Result<()> {
        let votes = self.group().iter().any(|member| member.id == id && member.votes);
        let removed = [id].into();
        let change = if votes { ChangeMembers::RemoveVoters(removed) } else { ChangeMembers::RemoveNodes(removed) };
        let limit = Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS);
        match tokio::time::timeout(limit, self.raft().change_membership(change, false)).await {
            Ok(changed) => changed.map(drop).map_err(|e| self.write_failed(e)),
            Err(_) => Err(no_quorum()),
        }
    }

    /// A change takes effect before it is decided: who is in the group is certain behind all that this leader wrote.
    async fn knows_the_group(&self) -> Result<()> {
        match self.leadership_to_decide().await {
            Leadership::Leading { .. } => Ok(()),
            Leadership::Following { leader } => Err(not_leader(leader)),
        }
    }

    /// Whether the group was left between the two steps of a change, both of whose majorities then decide: whoever
    /// asked for it, or led, was gone before the second one.
    fn is_changing(&self) -> bool {
        let metrics = self.raft().server_metrics().borrow_watched().clone();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }
}
