//! Three members over loopback: what one decides all know, whoever is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::unbounded;
use object_store::memory::InMemory;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::VoteRequest;
use openraft::{BasicNode, ChangeMembers};
use qanat_coordinator_core::{Command, Refusal};
use qanat_proto::ids::JobId;
use qanat_proto::rpc::dial::TcpDial;
use qanat_proto::{Code, limits};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::Env;
use qanat_storage::env::sim::{Interrupt, SimDisk, SimEnv};
use qanat_storage::log::GroupCommit;
use qanat_storage::object::Objects;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

use super::member::{Leadership, Member, MemberConfig, RaftStatus};
use super::types::{Types, Vote};
use crate::driver::{Coordinator, CoordinatorConfig, Executors};
use crate::nodes::Nodes;
use crate::service::RaftService;

/// Long for a busy machine: every wait ends when its condition holds.
const LIMIT: Duration = Duration::from_secs(60);

struct Node {
    member: Arc<Member>,
    /// What it serves runs here, and ends with it: a server that is dropped leaves its open connections served.
    serving: Runtime,
}

struct Group {
    disks: BTreeMap<u64, SimEnv>,
    addresses: BTreeMap<u64, SocketAddr>,
    nodes: BTreeMap<u64, Node>,
    /// Members end on it, so it is dropped behind them.
    runtime: Arc<Runtime>,
}

impl Group {
    fn new(members: u64) -> Self {
        let runtime = runtime(2);
        let disks = (1..=members).map(|id| (id, Env::sim(id))).collect();
        let mut group = Self { runtime: Arc::new(runtime), disks, addresses: BTreeMap::new(), nodes: BTreeMap::new() };
        for id in 1..=members {
            group.start(id);
        }
        let addresses = group.addresses.iter().map(|(id, address)| (*id, address.to_string())).collect();
        group.nodes[&1].member.found(addresses).expect("a new group");
        group
    }

    fn start(&mut self, id: u64) {
        self.start_in(id, "test");
    }

    fn start_in(&mut self, id: u64, cluster: &str) {
        let address = self.addresses.get(&id).copied().unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let listener = self.runtime.block_on(async {
            let started = Instant::now();
            loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    // The port of a member that has just ended.
                    Err(e) => assert!(started.elapsed() < LIMIT, "{e}"),
                }
                tokio::task::yield_now().await;
            }
        });
        self.addresses.insert(id, listener.local_addr().expect("bound"));
        let disk = self.disks.entry(id).or_insert_with(|| Env::sim(id));
        let member = Member::start(MemberConfig {
            env: disk.env.clone(),
            runtime: self.runtime.handle().clone(),
            folder: PathBuf::from("/raft"),
            commit: GroupCommit::inline(),
            id,
            cluster: cluster.into(),
            dial: Arc::new(TcpDial),
        });
        let member = Arc::new(member.expect("starts"));
        let service = RaftService::server(member.clone(), cluster.into());
        let serving = runtime(1);
        serving.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let served = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            served.await.expect("serves");
        });
        self.nodes.insert(id, Node { member, serving });
    }

    fn kill(&mut self, id: u64) {
        let Node { member, serving } = self.nodes.remove(&id).expect("runs");
        // Cuts every connection, as the end of a process does.
        drop(serving);
        self.runtime.block_on(member.raft().shutdown()).expect("ends");
    }

    fn leader(&self) -> u64 {
        let started = Instant::now();
        loop {
            for (id, node) in &self.nodes {
                if let Leadership::Leading { .. } = self.runtime.block_on(node.member.leadership()) {
                    return *id;
                }
            }
            assert!(started.elapsed() < LIMIT, "nobody leads");
        }
    }

    /// Proposes until it is decided: an unknown outcome is asked for again.
    fn decide(&self, job: u128) {
        let started = Instant::now();
        loop {
            match self.nodes[&self.leader()].member.propose(&create(job)) {
                Ok(Ok(_) | Err(Refusal::DuplicateJob)) => return,
                Ok(Err(refusal)) => panic!("{refusal}"),
                Err(error) => assert!(started.elapsed() < LIMIT, "{error}"),
            }
        }
    }

    fn statuses(&self) -> Vec<(u64, usize, RaftStatus)> {
        let status =
            |(id, node): (&u64, &Node)| (*id, node.member.state(|state| state.jobs.len()), node.member.raft_status());
        self.nodes.iter().map(status).collect()
    }

    /// Waits until all members know these jobs, and compares their states.
    fn agree(&self, jobs: impl IntoIterator<Item = u128>) {
        let jobs: Vec<JobId> = jobs.into_iter().map(JobId).collect();
        let started = Instant::now();
        for node in self.nodes.values() {
            while node.member.state(|state| state.jobs.keys().copied().ne(jobs.iter().copied())) {
                assert!(started.elapsed() < LIMIT, "a member does not catch up: {:#?}", self.statuses());
                std::thread::yield_now();
            }
        }
        // Equal applied index, equal digest (I6).
        let digests: Vec<_> =
            self.nodes.values().map(|node| node.member.state(|state| (state.applied, state.digest()))).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    }
}

fn runtime(threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("runs")
}

fn create(job: u128) -> Command {
    Command::CreateJob {
        job: JobId(job),
        name: format!("job-{job}"),
        script_digest: String::new(),
        manifest_key: String::new(),
        checksum: String::new(),
        run_with: None,
    }
}

#[test]
fn a_group_goes_on_without_its_leader_and_the_leader_comes_back() {
    let mut group = Group::new(3);
    group.decide(1);
    for round in 2..5 {
        let leader = group.leader();
        group.kill(leader);
        group.decide(round);
        group.start(leader);
        group.agree(1..=round);
    }
    // All of it stands on the disks: a whole group that dies at once knows it again.
    for id in 1..=3 {
        group.kill(id);
    }
    for id in 1..=3 {
        group.start(id);
    }
    group.decide(5);
    group.agree(1..=5);
}

/// A leader that dies and is back before anybody missed it must not answer from a state that it has outlived.
#[test]
fn a_leader_that_restarts_at_once_knows_all_that_was_decided() {
    let mut group = Group::new(3);
    for round in 1..6 {
        group.decide(round);
        let leader = group.leader();
        group.kill(leader);
        group.start(leader);
        let next = group.leader();
        let known = group.nodes[&next].member.state(|state| state.jobs.len() as u128);
        assert_eq!(known, round, "member {next} leads");
    }
}

#[test]
fn without_a_majority_nothing_is_decided_and_it_is_said() {
    let mut group = Group::new(3);
    group.decide(1);
    let leader = group.leader();
    for id in (1..=3).filter(|id| *id != leader) {
        group.kill(id);
    }
    let error = group.nodes[&leader].member.propose(&create(2)).expect_err("alone");
    assert!(matches!(error.code(), Code::NoQuorum | Code::NotLeader), "{error}");
    for id in (1..=3).filter(|id| *id != leader) {
        group.start(id);
    }
    group.decide(3);
    // What was proposed without a majority may have come about or not, once.
    let jobs =
        group.nodes[&group.leader()].member.state(|state| state.jobs.keys().map(|job| job.0).collect::<Vec<_>>());
    assert!(jobs == [1, 3] || jobs == [1, 2, 3], "{jobs:?}");
    group.agree(jobs);
}

/// A leader whose majority was away for a while leads again in its own term: what it wrote in that time is decided after
/// all, and it knows that when it says that it leads.
#[test]
fn a_leader_that_was_alone_knows_what_it_wrote_before_it_leads_again() {
    let mut group = Group::new(3);
    let mut jobs = vec![1];
    group.decide(1);
    let mut has_led_again = false;
    let begun = Instant::now();
    while !has_led_again {
        assert!(begun.elapsed() < 2 * LIMIT, "another one leads each time");
        let leader = group.leader();
        let [one, other] = [leader % 3 + 1, (leader + 1) % 3 + 1];
        group.kill(one);
        let Node { member: last, serving } = group.nodes.remove(&other).expect("runs");
        drop(serving);
        let member = group.nodes[&leader].member.clone();
        let (before, job) = (member.raft_status(), jobs.len() as u128 + 1);
        let proposal = {
            let member = member.clone();
            group.runtime.spawn(async move { member.propose_async(create(job)).await })
        };
        let is_written = || member.raft_status().last_log > before.last_log;
        while !is_written() && !proposal.is_finished() {
            std::thread::yield_now();
        }
        let is_written = is_written();
        proposal.abort();
        group.runtime.block_on(last.raft().shutdown()).expect("ends");
        drop(last);
        // Alone it says soon that it does not lead, whatever waits to be decided.
        let begun = Instant::now();
        let alone = group.runtime.block_on(member.leadership_to_decide());
        let limit = Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS) / 2;
        assert!(matches!(alone, Leadership::Following { .. }) && begun.elapsed() < limit, "{:?}", begun.elapsed());
        group.start(one);
        group.start(other);
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < LIMIT, "nobody leads");
            let leads = |id: &u64| {
                let leadership = group.runtime.block_on(group.nodes[id].member.leadership_to_decide());
                matches!(leadership, Leadership::Leading { .. })
            };
            let Some(id) = group.nodes.keys().copied().find(leads) else { continue };
            let member = &group.nodes[&id].member;
            let knows = member.state(|state| state.jobs.contains_key(&JobId(job)));
            if id == leader && is_written && member.raft_status().term == before.term {
                assert!(knows, "it leads and does not know what it wrote");
                has_led_again = true;
            }
            if knows {
                jobs.push(job);
            }
            break;
        }
    }
    group.agree(jobs);
}

/// What a leader still wants to be decided must not keep the executors with it: the next leader gives them up after a
/// while.
#[test]
fn a_leader_that_is_alone_sends_its_executors_away_whatever_it_waits_for() {
    let begun = Instant::now();
    // On a machine that is busy its lease may end before it has written anything; then it waits for nothing.
    while !is_written_alone() {
        assert!(begun.elapsed() < 2 * LIMIT, "it never writes");
    }
}

fn is_written_alone() -> bool {
    let mut group = Group::new(3);
    group.decide(1);
    let leader = group.leader();
    let Node { member, serving: _serving } = group.nodes.remove(&leader).expect("runs");
    let env = group.disks[&leader].env.clone();
    let (events, heard) = unbounded();
    let (reports, inbox) = unbounded();
    let nodes = Nodes::new(env.clock.clone(), events, reports);
    let coordinator = Coordinator::start(CoordinatorConfig {
        env,
        member: member.clone(),
        checkpoints: Arc::new(CheckpointStore::new(Objects::new(Arc::new(InMemory::new())))),
        executors: Executors::Attached { nodes: nodes.clone(), events: heard },
        inbox,
    });
    let coordinator = coordinator.expect("starts");
    group.runtime.block_on(nodes.until_it_leads());
    let before = member.raft_status().last_log;
    let others: Vec<Node> = std::mem::take(&mut group.nodes).into_values().collect();
    let others: Vec<_> = others.into_iter().map(|Node { member, serving }| (member, drop(serving)).0).collect();
    let begun = Instant::now();
    let (took, decided) = std::thread::scope(|scope| {
        let decided = scope.spawn(|| coordinator.decide(create(2)));
        while nodes.known().is_some() {
            assert!(begun.elapsed() < LIMIT, "it takes executors for ever");
            std::thread::yield_now();
        }
        (begun.elapsed(), decided.join().expect("no panic"))
    });
    let is_written = member.raft_status().last_log > before;
    if is_written {
        let limit = Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS);
        assert!(took < limit && begun.elapsed() < limit, "{took:?}, {:?}", begun.elapsed());
        assert_eq!(decided.expect_err("alone").code(), Code::NoQuorum);
    }
    drop(coordinator);
    for other in others {
        group.runtime.block_on(other.raft().shutdown()).expect("ends");
    }
    is_written
}

#[test]
fn a_wiped_member_is_replaced_and_gets_all_by_a_snapshot() {
    let mut group = Group::new(3);
    for job in 1..=40 {
        group.decide(job);
    }
    let leader = group.leader();
    let wiped = (1..=3).find(|id| *id != leader).expect("a follower");
    group.kill(wiped);
    group.disks.remove(&wiped);
    let member = group.nodes[&leader].member.clone();
    // Its log is not kept for ever: what it missed is a snapshot and what follows.
    group.runtime.block_on(async {
        member.raft().trigger().snapshot().await.expect("asked");
        let snapshot = member.raft().wait(Some(LIMIT)).metrics(|m| m.snapshot.is_some(), "a snapshot").await;
        let upto = snapshot.expect("made").snapshot.expect("there").index;
        member.raft().trigger().purge_log(upto).await.expect("asked");
        member
            .raft()
            .wait(Some(LIMIT))
            .metrics(|m| m.purged.is_some_and(|id| id.index >= upto), "purged")
            .await
            .expect("purges");
    });
    group.decide(41);
    // Under its old id it would be a member that has forgotten its votes.
    group.runtime.block_on(member.remove(wiped)).expect("removed");
    group.start(4);
    group.runtime.block_on(member.add(4, group.addresses[&4].to_string())).expect("added");
    group.decide(42);
    group.agree(1..=42);
    assert_eq!(member.group().iter().map(|m| (m.id, m.votes)).collect::<Vec<_>>().len(), 3);
    // The new one counts: with one of the old ones gone the group goes on.
    let other = (1..=3).find(|id| *id != leader && *id != wiped).expect("a follower");
    group.kill(other);
    group.decide(43);
    group.agree(1..=43);
}

#[test]
fn a_member_of_another_cluster_is_refused() {
    let group = Group::new(1);
    group.decide(1);
    let address = group.addresses[&1];
    let stranger = Member::start(MemberConfig {
        env: Env::sim(9).env,
        runtime: group.runtime.handle().clone(),
        folder: PathBuf::from("/raft"),
        commit: GroupCommit::inline(),
        id: 2,
        cluster: "another".into(),
        dial: Arc::new(TcpDial),
    });
    let stranger = stranger.expect("starts");
    stranger.found([(1, address.to_string()), (2, "127.0.0.1:1".to_owned())].into()).expect("a group of its own");
    let error = group.runtime.block_on(stranger.await_leadership(Duration::from_secs(2))).expect_err("refused");
    assert_eq!(error.code(), Code::NoQuorum);
    group.decide(2);
    group.agree(1..=2);
}

impl Group {
    /// Asks whoever leads until it is done; a leader that hands over names another one.
    fn change(&self, change: impl AsyncFn(&Member) -> qanat_proto::Result<()>) {
        let started = Instant::now();
        loop {
            let member = self.nodes[&self.leader()].member.clone();
            match self.runtime.block_on(change(member.as_ref())) {
                Ok(()) => return,
                Err(error) => {
                    // A new leader has not heard of everybody yet.
                    let is_passing = matches!(error.code(), Code::NotLeader | Code::NoQuorum | Code::Usage);
                    assert!(is_passing && started.elapsed() < LIMIT, "{error}");
                }
            }
        }
    }

    fn voters(&self) -> Vec<u64> {
        let group = self.nodes[&self.leader()].member.group();
        group.iter().filter(|member| member.votes).map(|member| member.id).collect()
    }
}

/// Waits until a member was told that it is none any more.
fn told_of_removal(group: &Group, id: u64) {
    let member = group.nodes[&id].member.clone();
    let told = group.runtime.block_on(async { tokio::time::timeout(LIMIT, member.until_removed()).await });
    assert_eq!(told.expect("it is told").code(), Code::MemberRemoved);
}

#[test]
fn a_removed_member_is_told_and_so_is_one_that_was_down() {
    let mut group = Group::new(5);
    group.decide(1);
    let leader = group.leader();
    let mut followers = (1..=5).filter(|id| *id != leader);
    let (up, down) = (followers.next().expect("a follower"), followers.next().expect("another"));
    group.kill(down);
    for id in [up, down] {
        group.change(async |member: &Member| member.dismiss(id, async { Ok(()) }).await);
    }
    told_of_removal(&group, up);
    group.start(down);
    told_of_removal(&group, down);
    // Whoever leads, and one that led as well.
    let led = group.leader();
    group.change(async |member: &Member| member.dismiss(led, async { Ok(()) }).await);
    told_of_removal(&group, led);
    for id in [up, down, led] {
        group.kill(id);
    }
    group.decide(2);
    let is_quiet = |node: &Node| {
        let told = node.member.until_removed();
        group.runtime.block_on(async { tokio::time::timeout(Duration::ZERO, told).await.is_err() })
    };
    assert_eq!(group.nodes.len(), 2);
    assert!(group.nodes.values().all(is_quiet), "those that are left are members");
}

#[test]
fn a_group_grows_from_one_to_five_and_shrinks_again() {
    let mut group = Group::new(1);
    group.decide(1);
    for id in 2..=5 {
        group.start(id);
        let address = group.addresses[&id].to_string();
        group.change(async |member: &Member| member.admit(id, address.clone()).await.map(drop));
        // A repeat is done.
        group.change(async |member: &Member| member.admit(id, address.clone()).await.map(drop));
        group.decide(u128::from(id));
    }
    assert_eq!(group.voters(), [1, 2, 3, 4, 5]);
    group.agree(1..=5);
    // Two of five may be gone.
    let leader = group.leader();
    let lost: Vec<u64> = (1..=5).filter(|id| *id != leader).take(2).collect();
    lost.iter().for_each(|id| group.kill(*id));
    group.decide(6);
    for id in lost {
        group.change(async |member: &Member| member.dismiss(id, async { Ok(()) }).await);
        group.change(async |member: &Member| member.dismiss(id, async { Ok(()) }).await);
    }
    assert_eq!(group.voters().len(), 3);
    // The leader goes each time, after it has handed over.
    for round in 7..9 {
        let leader = group.leader();
        group.change(async |member: &Member| member.dismiss(leader, async { Ok(()) }).await);
        assert!(!group.voters().contains(&leader));
        group.kill(leader);
        group.decide(round);
    }
    let last = group.voters();
    assert_eq!(last.len(), 1);
    let member = group.nodes[&last[0]].member.clone();
    let refused = group.runtime.block_on(member.dismiss(last[0], async { Ok(()) })).expect_err("the last one");
    assert_eq!(refused.code(), Code::Usage);
    group.agree(1..=8);
}

/// A change takes two steps. Whoever asks again for one that was left behind the first gets the second as well.
#[test]
fn a_change_that_was_left_in_the_middle_is_finished_by_a_repeat() {
    let mut group = Group::new(3);
    group.start(4);
    let address = group.addresses[&4].to_string();
    let leave_in_the_middle = |group: &Group, change: ChangeMembers<u64, BasicNode>| {
        let raft = group.nodes[&group.leader()].member.raft().clone();
        group.runtime.block_on(async {
            let mut metrics = raft.server_metrics();
            let mut changed = std::pin::pin!(raft.change_membership(change, false));
            let is_joint = |metrics: &RaftServerMetrics<Types>| {
                metrics.membership_config.membership().get_joint_config().len() > 1
            };
            while !is_joint(&metrics.borrow_watched()) {
                tokio::select! {
                    biased;
                    news = metrics.changed() => news.expect("it runs"),
                    _ = &mut changed => panic!("both steps at once"),
                }
            }
        });
    };
    let steps = |group: &Group| {
        let raft = group.nodes[&group.leader()].member.raft().clone();
        let metrics = raft.server_metrics().borrow_watched().clone();
        metrics.membership_config.membership().get_joint_config().len()
    };
    let node = BasicNode { addr: address.clone() };
    group.change(async |member| {
        member.raft().add_learner(4, node.clone(), true).await.map(drop).map_err(|e| member.write_failed(e))
    });
    leave_in_the_middle(&group, ChangeMembers::AddVoterIds([4].into()));
    assert_eq!(steps(&group), 2);
    group.change(async |member| member.admit(4, address.clone()).await.map(drop));
    assert_eq!((steps(&group), group.voters()), (1, vec![1, 2, 3, 4]));
    let gone = group.leader() % 4 + 1;
    leave_in_the_middle(&group, ChangeMembers::RemoveVoters([gone].into()));
    assert_eq!(steps(&group), 2);
    group.change(async |member| member.dismiss(gone, async { Ok(()) }).await);
    assert_eq!((steps(&group), group.voters()), (1, (1..=4).filter(|id| *id != gone).collect()));
}

#[test]
fn what_would_lose_the_majority_is_refused() {
    let mut group = Group::new(3);
    group.decide(1);
    let leader = group.leader();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    group.kill(others[0]);
    let member = group.nodes[&leader].member.clone();
    let started = Instant::now();
    while member.answering().contains(&others[0]) {
        assert!(started.elapsed() < LIMIT, "its silence is not noticed");
        std::thread::yield_now();
    }
    let refused =
        group.runtime.block_on(member.dismiss(others[1], async { Ok(()) })).expect_err("one of two would be left");
    assert_eq!(refused.code(), Code::Usage);
    let taken = group.addresses[&leader].to_string();
    for (id, address) in [(leader, "127.0.0.1:9".to_owned()), (7, taken), (0, "127.0.0.1:9".to_owned())] {
        let refused = group.runtime.block_on(member.admit(id, address)).expect_err("refused");
        assert_eq!(refused.code(), Code::Usage);
    }
    // The lost one itself may.
    group.change(async |member: &Member| member.dismiss(others[0], async { Ok(()) }).await);
    group.decide(2);
}

/// One that nobody reaches never counts for a majority, however short the log is; it can be taken out again, or be added
/// once it is there.
/// Whoever has died a moment ago has just answered: the change would need it, and nothing could be decided any more.
#[test]
fn one_that_has_just_died_is_not_counted_on() {
    let mut group = Group::new(3);
    group.decide(1);
    let leader = group.leader();
    let [died, lives] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    group.kill(died);
    let dismissed = group.nodes[&leader].member.dismiss(lives, async { Ok(()) });
    let error = group.runtime.block_on(Box::pin(dismissed)).expect_err("one of two is no majority");
    assert_eq!(error.code(), Code::Usage, "{error}");
    group.decide(2);
    group.change(async |member| member.dismiss(died, async { Ok(()) }).await);
    let mut left = vec![leader, lives];
    left.sort_unstable();
    assert_eq!(group.voters(), left);
}

/// A member whose disk hangs answers as if nothing were, until something is written.
#[test]
fn one_whose_disk_hangs_is_not_counted_on() {
    let mut group = Group::new(3);
    group.decide(1);
    let hangs = group.leader() % 3 + 1;
    group.kill(hangs);
    let interrupt = Arc::<Interrupt>::default();
    let disk = group.disks.get_mut(&hangs).expect("its disk");
    disk.env = interrupt.env(&disk.env);
    group.start(hangs);
    group.decide(2);
    group.agree([1, 2]);
    let leader = group.leader();
    assert_ne!(leader, hangs, "nobody missed the leader");
    let (goes_on, gate) = unbounded::<()>();
    interrupt.arm(1, move || assert!(gate.recv().is_err(), "it only waits"));
    let lives = (1..=3).find(|id| ![leader, hangs].contains(id)).expect("three");
    let member = group.nodes[&leader].member.clone();
    let noted = async { member.propose_async(create(3)).await.map(drop) };
    let error = group.runtime.block_on(Box::pin(member.dismiss(lives, noted))).expect_err("one of two is no majority");
    assert_eq!(error.code(), Code::Usage, "{error}");
    group.decide(4);
    drop(goes_on);
    group.agree([1, 2, 3, 4]);
    assert_eq!(group.voters(), [1, 2, 3]);
}

/// What leaders write is named by the term that they lead in.
#[test]
fn a_member_votes_once_in_a_term() {
    let mut group = Group::new(1);
    group.start(2);
    let voter = group.nodes[&2].member.clone();
    let granted = |term, candidate| {
        let request = VoteRequest::new(Vote::new(term, candidate), None);
        group.runtime.block_on(voter.raft().vote(request)).expect("answers").vote_granted
    };
    assert_eq!([granted(7, 1), granted(7, 3), granted(7, 1), granted(8, 3)], [true, false, true, true]);
}

#[test]
fn a_member_that_does_not_answer_gets_no_vote() {
    let mut group = Group::new(1);
    group.decide(1);
    let member = group.nodes[&1].member.clone();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound");
    let refused = group.runtime.block_on(member.admit(2, free.to_string())).expect_err("nobody is there");
    assert_eq!(refused.code(), Code::NoQuorum);
    assert_eq!(group.voters(), [1]);
    group.decide(2);
    group.runtime.block_on(member.dismiss(2, async { Ok(()) })).expect("taken out");
    assert_eq!(member.group().iter().map(|member| member.id).collect::<Vec<_>>(), [1]);
    // A process of another cluster is none of this one's either.
    group.start_in(3, "another");
    let address = group.addresses[&3].to_string();
    let refused = group.runtime.block_on(member.admit(3, address)).expect_err("a stranger");
    assert_eq!(refused.code(), Code::NoQuorum);
    group.kill(3);
    group.start(4);
    let address = group.addresses[&4].to_string();
    group.change(async |member: &Member| member.admit(4, address.clone()).await.map(drop));
    assert_eq!(group.voters(), [1, 4]);
    group.decide(3);
}

/// A member whose disk fails says so and is none; the others go on, and it comes back on the disk it has.
#[test]
fn a_member_whose_disk_fails_ends_and_the_others_go_on() {
    let mut group = Group::new(3);
    group.decide(1);
    let mut round = 2;
    for fails in [SimDisk::fail_sync, SimDisk::fail_write] {
        for leads in [true, false] {
            let leader = group.leader();
            let id = if leads { leader } else { leader % 3 + 1 };
            fails(&group.disks[&id].disk, 1);
            group.decide(round);
            let member = group.nodes[&id].member.clone();
            let ended = group.runtime.block_on(async { tokio::time::timeout(LIMIT, member.until_broken()).await });
            assert_eq!(ended.expect("it is told").code(), Code::FsyncFailed);
            drop(member);
            group.kill(id);
            group.decide(round + 1);
            group.start(id);
            group.agree(1..=round + 1);
            round += 2;
        }
    }
}

/// A leader that hands over and dies then is back with all that was decided without it.
#[test]
fn a_leader_that_hands_over_and_is_killed_comes_back() {
    let mut group = Group::new(3);
    group.decide(1);
    for round in 2..6 {
        let led = group.leader();
        let member = group.nodes[&led].member.clone();
        assert!(group.runtime.block_on(member.hand_over(LIMIT)), "another one takes over");
        assert_ne!(group.leader(), led);
        // Again: it does not lead.
        assert!(!group.runtime.block_on(member.hand_over(LIMIT)));
        drop(member);
        group.kill(led);
        group.decide(round);
        group.start(led);
        group.agree(1..=round);
    }
}

/// One of the others is gone and had come as far as the one that is left.
#[test]
fn a_leader_hands_over_to_one_that_answers() {
    let mut group = Group::new(3);
    group.decide(1);
    group.agree([1]);
    let led = group.leader();
    let others: Vec<u64> = (1..=3).filter(|id| *id != led).collect();
    let member = group.nodes[&led].member.clone();
    group.kill(others[1]);
    let started = Instant::now();
    while member.answering().contains(&others[1]) {
        assert!(started.elapsed() < LIMIT, "its silence is not noticed");
        std::thread::yield_now();
    }
    assert_eq!(member.successor(), Some(others[0]));
    assert!(group.runtime.block_on(member.hand_over(LIMIT)), "it takes over");
    assert_eq!(group.leader(), others[0]);
    group.decide(2);
    group.agree([1, 2]);
}

#[test]
fn the_last_member_hands_over_to_nobody() {
    let group = Group::new(1);
    group.decide(1);
    assert!(!group.runtime.block_on(group.nodes[&1].member.hand_over(LIMIT)));
    group.decide(2);
    group.agree([1, 2]);
}
