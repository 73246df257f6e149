//! One coordinator of a group: proposes commands, knows who leads, changes the group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::{RaftMetrics, RaftServerMetrics};
use openraft::{BasicNode, Config, LinearizerOption, ReadPolicy, ServerState, SnapshotPolicy};
use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::Proposal;
use qanat_coordinator_core::{Command, Refusal, State};
use qanat_proto::rpc::dial::Dial;
use qanat_proto::{Code, Error, Place, Result, limits};
use qanat_storage::env::{Env, thread};
use qanat_storage::log::GroupCommit;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;

use super::follow::follow_leaders;
use super::journal::{Journal, Limits};
use super::log_store::LogStore;
use super::network::Network;
use super::removal::Removal;
use super::state_machine::{RunSummary, StateMachine};
use super::types::{MemberId, Raft, Types};
use super::writer::JournalWriter;
use crate::caller;

/// What a member is made of.
pub struct MemberConfig {
    pub env: Env,
    pub runtime: Handle,
    /// Where its log lies.
    pub folder: PathBuf,
    pub commit: GroupCommit,
    pub id: MemberId,
    /// The group's own random name: members of another one are refused.
    pub cluster: Arc<str>,
    pub dial: Arc<dyn Dial>,
}

/// A running member. Dropping it ends its part in the group.
pub struct Member {
    id: MemberId,
    env: Env,
    runtime: Handle,
    raft: Raft,
    log: LogStore,
    machine: StateMachine,
    removal: Removal,
    /// Of a group of one.
    own: Option<Runtime>,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This one, with everything applied that any leader before it decided. Changes with each term.
    Leading { term: u64 },
    /// Another one, by its address, or nobody yet.
    Following { leader: Option<String> },
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: MemberId,
    pub address: String,
    /// False: a learner, which has no vote.
    pub votes: bool,
    pub leads: bool,
    /// Index of the last entry it is known to hold; None if it was not heard of. Known to the leader only.
    pub matched: Option<u64>,
    /// Whether it acknowledged something lately; of others known to the leader only.
    pub answers: bool,
}

/// How far a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    pub term: u64,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: &'static str,
    /// Indexes of entries; None before the first.
    pub last_log: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub snapshot: Option<u64>,
    /// Built since it started.
    pub snapshots: u64,
}

/// What `apply` said to a command.
pub type Decision = std::result::Result<Applied, Refusal>;

impl Member {
    /// Opens the log in `folder` and takes part in the group that it tells of. A new one waits for
    /// [`Member::found`], or for a leader that adds it.
    ///
    /// # Errors
    /// E0304 for a damaged log, E0307 for one of another version, E0305 if it cannot be written.
    pub fn start(config: MemberConfig) -> Result<Self> {
        let MemberConfig { env, runtime, folder, commit, id, cluster, dial } = config;
        if thread::is_simulated() {
            super::runtime::seed(env.entropy.u64());
        }
        let (journal, mut found) = Journal::open(&env, &folder, commit, Limits::default())?;
        let (large, mut is_large) = tokio::sync::watch::channel(());
        let log = LogStore::new(
            &mut found,
            JournalWriter::start(journal, move || {
                let _ = large.send(());
            })?,
        );
        let machine = StateMachine::new(found.snapshot, log.clone())?;
        let settings = settings().validate().map_err(|e| Error::internal(format!("Raft's settings: {e}")))?;
        let removal = Removal::new();
        let network = Network { cluster, me: id, dial, removal: removal.clone() };
        let follower = network.clone();
        let raft = thread::block_on(&runtime, Raft::new(id, Arc::new(settings), network, log.clone(), machine.clone()));
        let raft = raft.map_err(|fatal| log.failure().unwrap_or_else(|| Error::internal(format!("Raft: {fatal}"))))?;
        let trigger = raft.clone();
        runtime.spawn(async move {
            while is_large.changed().await.is_ok() {
                if trigger.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        });
        runtime.spawn(follow_leaders(raft.clone(), follower, id));
        Ok(Self { id, env, runtime, raft, log, machine, removal, own: None })
    }

    /// A group of one, which leads when this returns: the command log of a single process.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn alone(env: &Env, folder: PathBuf) -> Result<Self> {
        struct Nobody;
        impl Dial for Nobody {
            fn dial(&self, _: &str) -> std::result::Result<tonic::transport::Channel, String> {
                Err("a group of one has no peers".to_owned())
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("raft")
            .enable_time()
            .build()
            .map_err(|e| Error::io("start the coordinator's runtime", &e))?;
        let mut member = Self::start(MemberConfig {
            env: env.clone(),
            runtime: runtime.handle().clone(),
            folder,
            commit: GroupCommit::spawn()?,
            id: 1,
            cluster: "alone".into(),
            dial: Arc::new(Nobody),
        })?;
        member.own = Some(runtime);
        member.found([(1, "alone".to_owned())].into())?;
        thread::block_on(&member.runtime, async {
            // Nobody else can be elected: there is no reason to wait for a timeout first.
            if !member.raft.is_leader() {
                member.raft.trigger().elect(false).await.map_err(|fatal| member.broken(&fatal))?;
            }
            member.await_leadership(Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS)).await
        })?;
        Ok(member)
    }

    /// Makes a new group of these members. Does nothing if the log tells of one already.
    ///
    /// # Errors
    /// E0305 if the log cannot be written.
    pub fn found(&self, members: BTreeMap<MemberId, String>) -> Result<()> {
        let members: BTreeMap<_, _> = members.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        thread::block_on(&self.runtime, async {
            if self.raft.is_initialized().await.map_err(|fatal| self.broken(&fatal))? {
                return Ok(());
            }
            match self.raft.initialize(members).await {
                // Another one founded it at the same time and was quicker: the same members.
                Ok(()) | Err(RaftError::APIError(_)) => Ok(()),
                Err(RaftError::Fatal(fatal)) => Err(self.broken(&fatal)),
            }
        })
    }

    pub fn id(&self) -> MemberId {
        self.id
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn removal(&self) -> &Removal {
        &self.removal
    }

    /// The state as of the last applied command. Commands wait while it is looked at.
    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.machine.machine().content.state)
    }

    /// As [`Member::state`], with the summaries of runs beside it, the newest last.
    pub fn state_and_runs<T>(&self, look: impl FnOnce(&State, &[RunSummary]) -> T) -> T {
        let machine = self.machine.machine();
        look(&machine.content.state, &machine.content.runs)
    }

    /// Has the group decide on a command: appended, synced on a majority, applied. From a thread that is not the
    /// runtime's.
    ///
    /// # Errors
    /// E0601 if another member leads; E0602 if no majority answers in time, and nobody knows what became of it; E0305
    /// and others if this member's disk failed.
    pub fn propose(&self, command: &Command) -> Result<Decision> {
        thread::block_on(&self.runtime, self.propose_async(command.clone()))
    }

    /// As [`Member::propose`], on the runtime.
    ///
    /// # Errors
    /// As [`Member::propose`].
    pub async fn propose_async(&self, command: Command) -> Result<Decision> {
        let caller = caller::current().filter(|_| command.is_asked_for()).map(Box::new);
        let proposal = Proposal { at_ms: self.env.clock.now_ms(), command, caller };
        let limit = Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS);
        let written = async {
            // A leader that a majority has not answered for the length of its lease refuses what it is asked to write.
            // On a busy machine that is soon over: it is waited for, and the write itself says what is wrong otherwise.
            let _ = self.raft.get_read_linearizer(of_late()).await;
            tokio::select! {
                biased;
                written = self.raft.client_write(proposal) => Some(written),
                () = self.until_alone() => None,
            }
        };
        match tokio::time::timeout(limit, written).await {
            Ok(Some(Ok(written))) => {
                written.data.0.ok_or_else(|| Error::internal("a command was applied without an answer"))
            }
            Ok(Some(Err(error))) => Err(self.write_failed(error)),
            Ok(None) | Err(_) => Err(self.log.failure().unwrap_or_else(no_quorum)),
        }
    }

    /// Returns once no majority has answered this leader for the length of its lease, or it leads no more.
    async fn until_alone(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(limits::RAFT_HEARTBEAT_MS)).await;
            if self.raft.get_read_linearizer(of_late()).await.is_err() {
                return;
            }
        }
    }

    /// Who leads now. Leading says that this member has applied all that was decided before.
    pub async fn leadership(&self) -> Leadership {
        self.leadership_by(ReadPolicy::ReadIndex.into(), false).await
    }

    /// As [`Member::leadership`], as of a moment ago at most: a leader that a majority has answered within its lease
    /// asks nobody.
    pub async fn leadership_of_late(&self) -> Leadership {
        self.leadership_by(of_late(), false).await
    }

    /// As [`Member::leadership_of_late`], for whoever decides what comes next: leading says that this member has applied
    /// all that it has written itself as well. A leader whose majority does not answer for a while and then does may
    /// still have that decided.
    pub async fn leadership_to_decide(&self) -> Leadership {
        self.leadership_by(of_late(), true).await
    }

    async fn leadership_by(&self, option: LinearizerOption, to_decide: bool) -> Leadership {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        if metrics.state == ServerState::Leader {
            let term = metrics.vote.leader_id.term;
            let limit = Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS);
            let read = async {
                self.raft.ensure_linearizable(option).await.is_ok()
                    && (!to_decide || self.has_applied_its_log(term).await)
            };
            if tokio::time::timeout(limit, read).await.unwrap_or(false) {
                return Leadership::Leading { term };
            }
        }
        Leadership::Following { leader: self.other_leader(&metrics) }
    }

    /// Waits until what the leader of this term has written so far is applied. False if it does not lead any more.
    async fn has_applied_its_log(&self, term: u64) -> bool {
        // Asked of the task that writes, so behind all that it was asked to write before.
        let last = self.raft.with_raft_state(|state| state.log_ids.last().map(|last| last.index)).await;
        let Ok(last) = last else { return false };
        let leads =
            |metrics: &RaftMetrics<Types>| metrics.state == ServerState::Leader && metrics.vote.leader_id.term == term;
        let is_known = |metrics: &RaftMetrics<Types>| metrics.last_applied.map(|applied| applied.index) >= last;
        let beat = Duration::from_millis(limits::RAFT_HEARTBEAT_MS);
        loop {
            let wait = self.raft.wait(Some(beat));
            match wait.metrics(|metrics| is_known(metrics) || !leads(metrics), "what it wrote").await {
                Ok(metrics) => return leads(&metrics),
                // A majority that does not answer any more decides nothing.
                Err(_) if self.raft.get_read_linearizer(of_late()).await.is_err() => return false,
                Err(_) => {}
            }
        }
    }

    /// The address of the one that leads in this one's place, once that is known. None if it takes longer than an
    /// election does, and at once if this one is still the leader, though nobody answers it.
    pub(crate) async fn next_leader(&self) -> Option<String> {
        let mut metrics = self.raft.server_metrics();
        let known = async {
            loop {
                let leader = self.other_leader(&metrics.borrow_watched());
                if leader.is_some() || self.is_elected() || metrics.changed().await.is_err() {
                    return leader;
                }
            }
        };
        let (least, most) = limits::RAFT_ELECTION_MS;
        tokio::time::timeout(Duration::from_millis(least + most), known).await.unwrap_or(None)
    }

    /// The address of another one that leads, as far as this one knows.
    pub(crate) fn known_leader(&self) -> Option<String> {
        self.other_leader(&self.raft.server_metrics().borrow_watched())
    }

    /// Whether this one was elected. It leads as soon as it has applied all that was decided before.
    pub(crate) fn is_elected(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    fn other_leader(&self, metrics: &RaftServerMetrics<Types>) -> Option<String> {
        let leader = metrics.current_leader.filter(|leader| *leader != self.id)?;
        metrics.membership_config.membership().get_node(&leader).map(|node| node.addr.clone())
    }

    /// Returns the term once this member leads.
    ///
    /// # Errors
    /// E0602 if it does not within `limit`; the disk's if that is why.
    pub async fn await_leadership(&self, limit: Duration) -> Result<u64> {
        let wait = async {
            let mut metrics = self.raft.server_metrics();
            loop {
                if let Leadership::Leading { term } = self.leadership_to_decide().await {
                    return Ok(term);
                }
                if !change_or_while(&mut metrics).await {
                    return Err(no_quorum());
                }
            }
        };
        let result = tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| Err(no_quorum()));
        result.map_err(|error| self.log.failure().unwrap_or(error))
    }

    /// Calls back with each change of [`Member::leadership_to_decide`], the present one first, until the member is gone; a
    /// moment after `again` also with one that was told before.
    pub async fn watch_leadership(self: Arc<Self>, again: Arc<Notify>, mut changed: impl FnMut(Leadership) -> bool) {
        let mut metrics = self.raft.server_metrics();
        let mut known = None;
        let me = Arc::downgrade(&self);
        drop(self);
        loop {
            let Some(member) = me.upgrade() else { return };
            let now = member.leadership_to_decide().await;
            drop(member);
            if known.as_ref() != Some(&now) {
                known = Some(now.clone());
                if !changed(now) {
                    return;
                }
            }
            let goes_on = change_or_while(&mut metrics).await;
            if again.notified().now_or_never().is_some() {
                known = None;
            }
            if !goes_on {
                return;
            }
        }
    }

    /// The members of the group, by id.
    pub fn group(&self) -> Vec<MemberStatus> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        let answering = self.answering();
        let status = |(id, node): (&MemberId, &BasicNode)| MemberStatus {
            id: *id,
            address: node.addr.clone(),
            votes: voters.contains(id),
            leads: metrics.current_leader == Some(*id),
            matched: self.matched(*id),
            answers: *id == self.id || answering.contains(id),
        };
        membership.nodes().map(status).collect()
    }

    /// Index of the last entry that a member is known to hold. Known to the leader only.
    pub(super) fn matched(&self, id: MemberId) -> Option<u64> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        metrics.replication?.get(&id)?.as_ref().map(|log| log.index)
    }

    /// How many entries are applied, and a hash of the state behind the last of them: the same on every member.
    pub fn state_hash(&self) -> (u64, u64) {
        let machine = self.machine.machine();
        // What cannot be encoded could not be sent to another member either.
        let text = machine.content.text().unwrap_or_default();
        (machine.applied.map_or(0, |applied| applied.index), xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }

    /// How far this member is.
    pub fn raft_status(&self) -> RaftStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        RaftStatus {
            term: metrics.current_term,
            role: match metrics.state {
                ServerState::Leader => "leader",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
                ServerState::Follower | ServerState::Shutdown => "follower",
            },
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|log| log.index),
            applied: metrics.last_applied.map(|log| log.index),
            snapshot: metrics.snapshot.map(|log| log.index),
            snapshots: self.machine.snapshots_built(),
        }
    }

    /// Why a command or a change of the group was not decided here.
    pub(super) fn write_failed(&self, error: RaftError<Types, ClientWriteError<Types>>) -> Error {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                not_leader(forward.leader_node.map(|node| node.addr))
            }
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => no_quorum(),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
                Error::new(Code::NoQuorum, "a change of the group is not decided yet")
                    .hint("ask for it again once a majority answers: only then it is done for certain")
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                Error::new(Code::Usage, format!("the group cannot be changed so: {error}"))
            }
            RaftError::APIError(error) => Error::internal(format!("Raft: {error}")),
            RaftError::Fatal(fatal) => self.broken(&fatal),
        }
    }

    /// Returns once this member takes part no more, with the reason: E0305 if its disk failed. Whoever serves it ends
    /// then: others find out at once, and a start on the same disk reads what is really there.
    pub async fn until_broken(&self) -> Error {
        let mut metrics = self.raft.metrics();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            if let Err(fatal) = running {
                return self.broken(&fatal);
            }
            if metrics.changed().await.is_err() {
                return self.broken(&"ended");
            }
        }
    }

    /// What ended this member's part for good.
    fn broken(&self, fatal: &dyn std::fmt::Display) -> Error {
        self.log.failure().unwrap_or_else(|| Error::internal(format!("Raft: {fatal}")))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let raft = self.raft.clone();
        let ended = async move { drop(raft.shutdown().await) };
        if Handle::try_current().is_ok() || thread::is_simulated() {
            // Within a runtime nobody may wait: what was acknowledged is on the disk in any case.
            self.runtime.spawn(ended);
            if let Some(own) = self.own.take() {
                own.shutdown_background();
            }
        } else {
            self.runtime.block_on(ended);
        }
    }
}

/// Waits for news of the group, or for a little while: a member that was elected does not lead before it has heard of
/// a majority, and then nothing is new. False if the member has ended.
pub(super) async fn change_or_while(
    metrics: &mut openraft::alias::WatchReceiverOf<Types, RaftServerMetrics<Types>>,
) -> bool {
    tokio::select! {
        changed = metrics.changed() => changed.is_ok(),
        () = tokio::time::sleep(Duration::from_millis(limits::RAFT_HEARTBEAT_MS)) => true,
    }
}

/// Satisfied by an answer of a majority within the leader's lease, and waits as long for one if there is none.
fn of_late() -> LinearizerOption {
    LinearizerOption::new(None, true)
}

fn settings() -> Config {
    let (election_timeout_min, election_timeout_max) = limits::RAFT_ELECTION_MS;
    Config {
        cluster_name: "qanat".to_owned(),
        heartbeat_interval: limits::RAFT_HEARTBEAT_MS,
        election_timeout_min,
        election_timeout_max,
        // By size instead: the journal says when.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: limits::RAFT_ENTRIES_KEPT,
        install_snapshot_timeout: limits::RAFT_SNAPSHOT_MS,
        enable_pre_vote: Some(true),
        // What was committed is not written down, so a leader that starts again knows it only from a new term.
        enable_leader_restore: Some(false),
        ..Config::default()
    }
}

/// What a member answers that another one leads, at this address if it is known.
pub(crate) fn not_leader(leader: Option<String>) -> Error {
    let error = Error::new(Code::NotLeader, "this coordinator does not lead its group");
    match leader {
        Some(address) => error.at(Place::Named(address)).hint("the leader is at this address"),
        None => error.hint("no leader is known yet: try again"),
    }
}

pub(super) fn no_quorum() -> Error {
    Error::new(Code::NoQuorum, "no majority of the coordinators answers")
        .hint("jobs go on for as long as they need no decision; start the missing coordinators")
}
