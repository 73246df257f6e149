//! The executors that are attached to the leader: leases, connections, what is sent to whom.
//!
//! An executor whose connection breaks is given up after a short while, one that is silent when its lease ends. What
//! is sent to one that is not connected is dropped: when it connects again, its jobs' drivers say everything again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use qanat_coordinator_core::Executor;
use qanat_coordinator_core::membership::Incarnation;
use qanat_proto::control::{FromExecutor, ToExecutor};
use qanat_proto::ids::{StartId, Token};
use qanat_proto::limits;
use qanat_proto::rpc::cluster::JobFigures;
use qanat_storage::env::Clock;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::driver::ExecutorLink;
use crate::figures::{Figures, JobRates};

/// What the leader loop hears about executors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// One connected, with the generations that it holds.
    Attached { start: StartId, holds: Vec<Token> },
    /// One is given up.
    Lost(StartId),
    /// One begins or ends to be drained.
    Draining(StartId),
}

/// What an executor says of itself when it connects.
#[derive(Clone, Debug)]
pub struct Registration {
    pub start: StartId,
    pub node: String,
    pub incarnation: Incarnation,
    pub slots: u32,
    pub data_address: String,
    pub holds: Vec<Token>,
}

/// Takes what an executor is sent.
pub type Outbox = UnboundedSender<ToExecutor>;

/// All executors that the leader knows.
pub struct Nodes {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    events: Sender<NodeEvent>,
    inbox: Sender<FromExecutor>,
    /// How many connections there are.
    connected: watch::Sender<usize>,
    /// Whether this coordinator takes them.
    leading: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    leads: bool,
    sessions: u64,
    nodes: BTreeMap<StartId, Node>,
    /// As it was decided: those that take no new work.
    draining: BTreeSet<StartId>,
    /// By name, those that were given up without being drained and are not back.
    gone: BTreeMap<String, Executor>,
}

/// So many that are gone are remembered at most: names cost memory, and nobody looks for more.
const GONE_MAX: usize = 1_000;

impl Inner {
    /// Gives one up.
    fn give_up(&mut self, start: StartId) {
        let Some(node) = self.nodes.remove(&start) else { return };
        // Whoever was drained has left as it should.
        if !node.name.is_empty() && !self.draining.contains(&start) && self.gone.len() < GONE_MAX {
            self.gone.insert(node.name.clone(), node.shown(start, false));
        }
    }
}

struct Node {
    name: String,
    slots: u32,
    data_address: String,
    /// None while it is not connected.
    session: Option<(u64, Outbox)>,
    /// When it is given up.
    lease_ends: Duration,
    /// What it said of its jobs.
    figures: Figures,
}

impl Node {
    fn shown(&self, start: StartId, draining: bool) -> Executor {
        Executor {
            start,
            node: self.name.clone(),
            address: self.data_address.clone(),
            slots: self.slots,
            attached: self.session.is_some(),
            draining,
        }
    }
}

/// One connection of an executor. Dropping it says that the connection is broken.
pub struct Session {
    nodes: Arc<Nodes>,
    start: StartId,
    number: u64,
}

impl Nodes {
    /// `events` and `inbox` lead to the leader loop.
    pub fn new(clock: Arc<dyn Clock>, events: Sender<NodeEvent>, inbox: Sender<FromExecutor>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            inner: Mutex::default(),
            events,
            inbox,
            connected: watch::Sender::default(),
            leading: watch::Sender::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This coordinator leads from now on. Executors that the one before knew, by the names of their nodes, have a lease
    /// to find it.
    pub fn lead(&self, expected: impl IntoIterator<Item = (StartId, String)>) {
        let lease_ends = self.clock.monotonic() + Duration::from_millis(limits::EXECUTOR_ADOPTION_MS);
        let mut inner = self.inner();
        inner.leads = true;
        for (start, name) in expected {
            inner.gone.remove(&name);
            let unknown = || Node {
                name,
                slots: 0,
                data_address: String::new(),
                session: None,
                lease_ends,
                figures: Figures::default(),
            };
            inner.nodes.entry(start).or_insert_with(unknown);
        }
        self.leading.send_replace(true);
    }

    /// Another one leads: executors are sent away to look for it.
    pub fn follow(&self) {
        let mut inner = self.inner();
        inner.leads = false;
        inner.nodes.clear();
        inner.gone.clear();
        self.leading.send_replace(false);
    }

    /// Those whose lease has not ended; None if this coordinator does not lead.
    pub fn known(&self) -> Option<Vec<StartId>> {
        let (now, inner) = (self.clock.monotonic(), self.inner());
        let known = inner.nodes.iter().filter(|(_, node)| node.lease_ends > now);
        inner.leads.then(|| known.map(|(start, _)| *start).collect())
    }

    /// Whether an executor is connected. One that is not may be gone, and has its name until its lease ends.
    pub fn is_connected(&self, start: StartId) -> bool {
        self.inner().nodes.get(&start).is_some_and(|node| node.session.is_some())
    }

    /// Takes a connection of the one that is the node of its name; None if this coordinator does not lead.
    pub fn attach(self: &Arc<Self>, registration: Registration, outbox: Outbox) -> Option<Session> {
        let Registration { start, node, incarnation: _, slots, data_address, holds } = registration;
        let mut inner = self.inner();
        if !inner.leads {
            return None;
        }
        inner.sessions += 1;
        let number = inner.sessions;
        let lease_ends = self.lease();
        // Another start of the same node: the one before is gone.
        let gone: Vec<StartId> =
            inner.nodes.iter().filter(|(id, known)| known.name == node && **id != start).map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| drop(inner.nodes.remove(id)));
        inner.gone.remove(&node);
        let session = Some((number, outbox));
        inner
            .nodes
            .insert(start, Node { name: node, slots, data_address, session, lease_ends, figures: Figures::default() });
        drop(inner);
        self.connected.send_modify(|count| *count += 1);
        gone.into_iter().for_each(|id| self.tell(NodeEvent::Lost(id)));
        self.tell(NodeEvent::Attached { start, holds });
        Some(Session { nodes: self.clone(), start, number })
    }

    /// Returns once this coordinator takes connections.
    pub async fn until_it_leads(&self) {
        // Fails when its sender is gone, which `self` is.
        let _ = self.leading.subscribe().wait_for(|leads| *leads).await;
    }

    /// Returns once no executor is connected.
    pub async fn until_left(&self) {
        // Fails when its sender is gone, which `self` is.
        let _ = self.connected.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Gives up those whose lease has ended.
    pub fn expire(&self) {
        let now = self.clock.monotonic();
        let mut inner = self.inner();
        let lost: Vec<StartId> =
            inner.nodes.iter().filter(|(_, node)| node.lease_ends <= now).map(|(start, _)| *start).collect();
        lost.iter().for_each(|start| inner.give_up(*start));
        drop(inner);
        lost.into_iter().for_each(|start| self.tell(NodeEvent::Lost(start)));
    }

    /// When the next lease ends, if none is renewed.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.inner().nodes.values().map(|node| node.lease_ends).min()
    }

    /// The executor that runs on a node, if it is not given up.
    pub fn find(&self, name: &str) -> Option<StartId> {
        self.inner().nodes.iter().find(|(_, node)| node.name == name).map(|(start, _)| *start)
    }

    /// Takes over what was decided: which executors take no new work.
    pub fn set_draining(&self, draining: BTreeSet<StartId>) {
        let before = std::mem::replace(&mut self.inner().draining, draining.clone());
        before.symmetric_difference(&draining).for_each(|start| self.tell(NodeEvent::Draining(*start)));
    }

    /// Names of the nodes that are not given up.
    pub fn names(&self) -> BTreeMap<StartId, String> {
        self.inner().nodes.iter().map(|(start, node)| (*start, node.name.clone())).collect()
    }

    /// All that are not given up.
    pub fn executors(&self) -> Vec<Executor> {
        let inner = self.inner();
        inner.nodes.iter().map(|(start, node)| node.shown(*start, inner.draining.contains(start))).collect()
    }

    /// For people: all that have a name and are not given up, and those that were, without being drained, and are not
    /// back. By name.
    pub fn attached_and_away(&self) -> Vec<Executor> {
        let mut executors = self.executors();
        executors.retain(|executor| !executor.node.is_empty());
        executors.extend(self.inner().gone.values().cloned());
        executors.sort_by(|one, other| one.node.cmp(&other.node));
        executors
    }

    /// How a job fares in all of its executors together.
    pub fn rates(&self, token: Token) -> JobRates {
        let inner = self.inner();
        let mut rates = JobRates::default();
        inner.nodes.values().filter_map(|node| node.figures.rates(token)).for_each(|part| rates.add(&part));
        rates
    }

    fn lease(&self) -> Duration {
        self.clock.monotonic() + Duration::from_millis(limits::EXECUTOR_LEASE_MS)
    }

    fn tell(&self, event: NodeEvent) {
        // The leader loop may have ended first.
        let _ = self.events.send(event);
    }
}

impl ExecutorLink for Arc<Nodes> {
    fn send(&self, message: ToExecutor) {
        let inner = self.inner();
        if let Some((_, outbox)) = inner.nodes.get(&message.start).and_then(|node| node.session.as_ref()) {
            // A connection that is just breaking: as if it had broken before.
            let _ = outbox.send(message);
        }
    }
}

impl Session {
    /// The executor lives.
    pub fn heard(&self) {
        self.renew(|_| {});
    }

    /// The executor lives, and tells how its jobs fare.
    pub fn tells(&self, jobs: Vec<JobFigures>) {
        let now = self.nodes.clock.monotonic();
        self.renew(|node| node.figures.add(now, jobs));
    }

    /// Renews the lease, with what comes with that.
    fn renew(&self, then: impl FnOnce(&mut Node)) {
        let lease_ends = self.nodes.lease();
        let mut inner = self.nodes.inner();
        if let Some(node) = self.node(&mut inner) {
            node.lease_ends = lease_ends;
            then(node);
        }
    }

    /// The executor reports.
    pub fn report(&self, message: FromExecutor) {
        self.heard();
        // P2: nobody speaks for another.
        if message.start == self.start {
            let _ = self.nodes.inbox.send(message);
        }
    }

    fn node<'a>(&self, inner: &'a mut Inner) -> Option<&'a mut Node> {
        let node = inner.nodes.get_mut(&self.start)?;
        node.session.as_ref().is_some_and(|(number, _)| *number == self.number).then_some(node)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.nodes.connected.send_modify(|count| *count -= 1);
        let grace = self.nodes.clock.monotonic() + Duration::from_millis(limits::EXECUTOR_RECONNECT_MS);
        let mut inner = self.nodes.inner();
        if let Some(node) = self.node(&mut inner) {
            node.session = None;
            node.lease_ends = node.lease_ends.min(grace);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::{Receiver, unbounded};
    use qanat_proto::control::ExecutorMessage;
    use qanat_proto::ids::{Generation, JobId};
    use qanat_storage::env::Env;
    use qanat_storage::env::sim::SimEnv;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    const TOKEN: Token = Token { job: JobId(1), generation: Generation(1) };

    /// Nodes on a clock of their own, and what is heard of them.
    struct World {
        sim: SimEnv,
        nodes: Arc<Nodes>,
        heard: Receiver<NodeEvent>,
        reports: Receiver<FromExecutor>,
    }

    impl World {
        fn new() -> Self {
            let sim = Env::sim(1);
            let (events, heard) = unbounded();
            let (inbox, reports) = unbounded();
            let nodes = Nodes::new(sim.env.clock.clone(), events, inbox);
            Self { sim, nodes, heard, reports }
        }
    }

    fn registration(start: u64, node: &str) -> Registration {
        let (start, node) = (StartId(start), node.to_owned());
        let incarnation = Incarnation { folder: 1, number: 1 };
        Registration { start, node, incarnation, slots: 2, data_address: String::new(), holds: vec![TOKEN] }
    }

    #[test]
    fn leases_end_and_broken_connections_end_sooner() {
        let World { sim, nodes, heard, reports: _reports } = World::new();
        let (outbox, mut sent) = unbounded_channel();
        assert!(nodes.attach(registration(1, "a"), outbox.clone()).is_none(), "it does not lead");
        assert_eq!(nodes.known(), None);
        nodes.lead([(StartId(7), "b".to_owned())]);
        assert_eq!((nodes.known(), nodes.find("b")), (Some(vec![StartId(7)]), Some(StartId(7))));
        let session = nodes.attach(registration(1, "a"), outbox.clone()).expect("it leads");
        assert_eq!(heard.recv(), Ok(NodeEvent::Attached { start: StartId(1), holds: vec![TOKEN] }));
        assert!(
            nodes.is_connected(StartId(1)) && !nodes.is_connected(StartId(7)),
            "nobody knows whether that one lives"
        );
        nodes.send(ToExecutor { start: StartId(1), token: TOKEN, message: ExecutorMessage::Start });
        assert!(sent.try_recv().is_ok());
        for _ in 0..limits::EXECUTOR_ADOPTION_MS / limits::EXECUTOR_HEARTBEAT_MS {
            session.heard();
            nodes.expire();
            assert!(heard.try_recv().is_err());
            sim.clock.advance(Duration::from_millis(limits::EXECUTOR_HEARTBEAT_MS));
        }
        session.heard();
        nodes.expire();
        assert_eq!(heard.try_recv(), Ok(NodeEvent::Lost(StartId(7))), "it did not find this leader");
        assert!(heard.try_recv().is_err());
        drop(session);
        assert!(!nodes.executors()[0].attached && !nodes.is_connected(StartId(1)));
        // It comes back in time.
        let session = nodes.attach(registration(1, "a"), outbox.clone()).expect("it leads");
        assert!(matches!(heard.recv(), Ok(NodeEvent::Attached { .. })));
        drop(session);
        assert_eq!(nodes.known(), Some(vec![StartId(1)]));
        sim.clock.advance(Duration::from_millis(limits::EXECUTOR_RECONNECT_MS));
        assert_eq!(nodes.known(), Some(vec![]), "its lease has ended, whether or not anybody looked");
        nodes.expire();
        assert_eq!(heard.try_recv(), Ok(NodeEvent::Lost(StartId(1))));
        assert!(nodes.executors().is_empty());
        // For people both are missing, until they are back.
        let missing = || {
            let all = nodes.attached_and_away().into_iter();
            all.map(|executor| (executor.node, executor.slots, executor.attached)).collect::<Vec<_>>()
        };
        assert_eq!(missing(), [("a".to_owned(), 2, false), ("b".to_owned(), 0, false)]);
        let _again = nodes.attach(registration(2, "a"), outbox).expect("it leads");
        assert_eq!(missing(), [("a".to_owned(), 2, true), ("b".to_owned(), 0, false)]);
        nodes.follow();
        assert!(missing().is_empty(), "who leads next knows");
    }

    #[test]
    fn one_that_was_drained_has_left_and_is_not_away() {
        let World { sim, nodes, heard: _heard, reports: _reports } = World::new();
        let (outbox, _sent) = unbounded_channel();
        nodes.lead([]);
        let sessions =
            [(1, "b"), (2, "c"), (3, "a")].map(|(start, node)| nodes.attach(registration(start, node), outbox.clone()));
        let shown = || nodes.attached_and_away().into_iter().map(|executor| executor.node).collect::<Vec<_>>();
        assert_eq!(shown(), ["a", "b", "c"]);
        nodes.set_draining([StartId(1)].into());
        drop(sessions);
        sim.clock.advance(Duration::from_millis(limits::EXECUTOR_RECONNECT_MS));
        nodes.expire();
        assert_eq!(shown(), ["a", "c"]);
    }

    #[test]
    fn a_clock_that_jumps_ends_no_lease_and_keeps_none() {
        const HOUR_MS: i64 = 3_600_000;
        let World { sim, nodes, heard, reports: _reports } = World::new();
        let (outbox, _sent) = unbounded_channel();
        nodes.lead([]);
        let _session = nodes.attach(registration(1, "a"), outbox).expect("it leads");
        assert!(matches!(heard.try_recv(), Ok(NodeEvent::Attached { .. })));
        let now_ms = sim.clock.now_ms();
        for off_ms in [HOUR_MS, -HOUR_MS] {
            sim.clock.jump_wall(now_ms + off_ms);
            nodes.expire();
            assert!(heard.try_recv().is_err(), "{off_ms}");
        }
        sim.clock.advance(Duration::from_millis(limits::EXECUTOR_LEASE_MS));
        sim.clock.jump_wall(now_ms - HOUR_MS);
        nodes.expire();
        assert_eq!(heard.try_recv(), Ok(NodeEvent::Lost(StartId(1))));
    }

    #[test]
    fn who_drains_does_so_under_every_leader() {
        let World { sim: _sim, nodes, heard, reports: _reports } = World::new();
        let (outbox, _sent) = unbounded_channel();
        // Decided under another leader, before it has met anybody.
        nodes.set_draining([StartId(1)].into());
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [NodeEvent::Draining(StartId(1))]);
        nodes.lead([(StartId(1), "a".to_owned())]);
        let sessions =
            [(1, "a"), (2, "b")].map(|(start, node)| nodes.attach(registration(start, node), outbox.clone()));
        let draining = || nodes.executors().iter().map(|executor| executor.draining).collect::<Vec<_>>();
        assert_eq!((draining(), nodes.find("a"), nodes.find("c")), (vec![true, false], Some(StartId(1)), None));
        nodes.follow();
        drop(sessions);
        nodes.lead([]);
        let sessions =
            [(1, "a"), (3, "b")].map(|(start, node)| nodes.attach(registration(start, node), outbox.clone()));
        assert_eq!(draining(), [true, false]);
        nodes.set_draining(BTreeSet::new());
        assert_eq!(draining(), [false, false]);
        drop(sessions);
    }

    #[test]
    fn another_start_of_a_node_takes_its_place() {
        let World { sim: _sim, nodes, heard, reports } = World::new();
        let (outbox, _sent) = unbounded_channel();
        nodes.lead([]);
        let old = nodes.attach(registration(1, "a"), outbox.clone()).expect("it leads");
        let new = nodes.attach(registration(2, "a"), outbox).expect("it leads");
        let events: Vec<_> = heard.try_iter().collect();
        assert_eq!(events[1], NodeEvent::Lost(StartId(1)));
        drop(old);
        assert_eq!(nodes.executors().iter().map(|e| (e.start, e.attached)).collect::<Vec<_>>(), [(StartId(2), true)]);
        // P2: it does not speak for the one before.
        let message = qanat_proto::control::CoordinatorMessage::Deployed;
        new.report(FromExecutor { start: StartId(1), token: TOKEN, message: message.clone() });
        new.report(FromExecutor { start: StartId(2), token: TOKEN, message });
        assert_eq!(reports.try_iter().map(|report| report.start).collect::<Vec<_>>(), [StartId(2)]);
        nodes.follow();
        assert!(nodes.executors().is_empty());
    }
}
