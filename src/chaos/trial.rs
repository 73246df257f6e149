//! The run itself: one fault after the other, each healed and overcome before the next, and the audit at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use qanat_client::{Client, ClusterStatus};
use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;

use crate::chaos::kind::Kind;
use crate::chaos::node::{Identity, Node, State};
use crate::chaos::plan::Plan;
use crate::chaos::report::ChaosReport;
use crate::chaos::subject::Subject;
use crate::cluster::asked_to_end;
use crate::output;
use crate::proof::Proof;

/// What to do.
pub(crate) struct ChaosOptions {
    pub(crate) seed: u64,
    /// No fault begins later than this.
    pub(crate) lasts: Duration,
    /// How long nodes and jobs may take to come back after a fault.
    pub(crate) within: Duration,
    pub(crate) kinds: Vec<Kind>,
    /// Each of the kinds was asked for by its name, and has to come about.
    pub(crate) is_chosen: bool,
    /// Names; all that have not ended if there is none.
    pub(crate) jobs: Vec<String>,
    /// The command that does the same again.
    pub(crate) replay: String,
}

/// A client that knows these addresses alone.
type Connect = dyn Fn(&str) -> Result<Client>;

/// How often something that is waited for is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// One question in a row of them: the next one may find another leader.
const QUESTION: Duration = Duration::from_secs(5);
/// A process that was killed, or asked to end, is gone by then.
pub(super) const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// Why no further fault is done.
pub(super) enum Stop {
    /// Something is wrong with the cluster or a job.
    Broken(String),
    /// Something could not be done or looked at, and says nothing about them.
    Lost(String),
}

pub(crate) struct Trial {
    pub(super) env: Env,
    pub(super) client: Client,
    connect: Box<Connect>,
    pub(super) options: ChaosOptions,
    pub(super) cluster: String,
    /// Those that faults are done to.
    pub(super) nodes: Vec<Node>,
    /// All that were up at the beginning, here or elsewhere.
    members: Vec<Identity>,
    /// Those that were started again and did not take part yet: of an executor what it had for a start before.
    returning: BTreeMap<(bool, String), String>,
    pub(super) subjects: Vec<Subject>,
    plan: Plan,
    /// An executor that takes no work at the moment.
    pub(super) drained: Option<String>,
    /// The savepoint that is being made: job and name.
    pub(super) named: Option<(String, String)>,
    faults: BTreeMap<Kind, u64>,
    refused: BTreeMap<Kind, String>,
    recovered_ms: BTreeMap<String, Vec<u64>>,
    pub(super) proof: Proof,
    begun: Duration,
}

impl Trial {
    /// Looks at what there is, and touches nothing.
    ///
    /// # Errors
    /// If no coordinator answers; E0309 and E0501 for jobs that are not there or do not run.
    pub(crate) async fn prepare(connect: Box<Connect>, addresses: &str, options: ChaosOptions) -> Result<Self> {
        let env = Env::real();
        let status = connect(addresses)?.status().await?;
        // All of them are asked from here on: whichever is away, others are not.
        let all = status.coordinators.iter().map(|coordinator| coordinator.address.as_str());
        let client = connect(&std::iter::once(addresses).chain(all).collect::<Vec<_>>().join(","))?;
        let client = client.with_deadline(options.within);
        let subjects = Subject::find(&client, &options.jobs).await?;
        let (members, away) = members(&status);
        let mut proof = Proof { replay: options.replay.clone(), ..Proof::default() };
        let away = away.into_iter().map(|identity| format!("{identity} was away from the beginning"));
        proof.unproved.extend(away);
        let mut nodes = Vec::new();
        for identity in &members {
            match Node::find(&env, &status.cluster, identity.clone()) {
                Ok(node) => nodes.push(node),
                Err(why) => proof.unproved.push(format!("no fault was done to {why}")),
            }
        }
        let (plan, begun) = (Plan::new(options.seed, &options.kinds), env.clock.monotonic());
        Ok(Self {
            env,
            client,
            connect,
            cluster: status.cluster,
            nodes,
            members,
            returning: BTreeMap::new(),
            subjects,
            plan,
            drained: None,
            named: None,
            faults: BTreeMap::new(),
            refused: BTreeMap::new(),
            recovered_ms: BTreeMap::new(),
            proof,
            begun,
            options,
        })
    }

    /// What faults will be done to, and what not.
    pub(crate) fn announcement(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("\n  process {}: {}", node.pid(), node.identity));
        let jobs: Vec<&str> = self.subjects.iter().map(|subject| subject.name.as_str()).collect();
        let kinds: Vec<String> = self.plan.kinds().iter().map(ToString::to_string).collect();
        format!(
            "cluster {}, for {}: {}{}{}\nwhile these jobs run: {}",
            self.cluster,
            output::duration(ms(self.options.lasts)),
            kinds.join(", "),
            nodes.collect::<String>(),
            self.proof.unproved.iter().map(|line| format!("\n  {line}")).collect::<String>(),
            jobs.join(", "),
        )
    }

    /// Does the faults, brings everything back, and proves the jobs.
    pub(crate) async fn prove(mut self) -> ChaosReport {
        self.begun = self.env.clock.monotonic();
        let stopped = tokio::select! {
            ended = self.run() => ended.err(),
            () = asked_to_stop() => {
                let (after, of) = (self.age().as_secs(), self.options.lasts.as_secs());
                Some(Stop::Lost(format!("a signal ended it after {after} s of {of} s")))
            }
        };
        let is_well = stopped.is_none();
        stopped.into_iter().for_each(|stop| self.note(stop));
        self.heal(is_well).await;
        let audited = tokio::select! {
            () = self.audit() => true,
            () = asked_to_stop() => false,
        };
        if !audited {
            self.proof.unseen.push("a signal ended the audits".to_owned());
        }
        self.report()
    }

    fn report(mut self) -> ChaosReport {
        let named = |kind: &Kind| kind.to_string();
        self.proof.faults = self.faults.iter().map(|(kind, count)| (named(kind), *count)).collect();
        let missing = self.options.kinds.iter().filter(|kind| !self.faults.contains_key(kind));
        let missing: Vec<String> = missing.map(named).collect();
        let no_time = missing.iter().filter(|name| !self.refused.keys().any(|kind| named(kind) == **name));
        let no_time = no_time.map(String::as_str).collect::<Vec<_>>().join(", ");
        let refused = self.refused.iter().map(|(kind, why)| format!("{kind}: {why}"));
        self.proof.unproved.extend(refused);
        if self.options.is_chosen {
            self.proof.faults_missing = missing;
        } else if self.faults.is_empty() {
            self.proof.faults_missing = vec!["any".to_owned()];
        }
        if !no_time.is_empty() {
            self.proof.unproved.push(format!("there was no time for {no_time}"));
        }
        self.proof.seconds = self.age().as_secs_f64();
        ChaosReport {
            touched: self.nodes.iter().map(|node| node.identity.to_string()).collect(),
            proof: std::mem::take(&mut self.proof),
            cluster: std::mem::take(&mut self.cluster),
            seed: self.options.seed,
            recovered_ms: std::mem::take(&mut self.recovered_ms),
        }
    }

    fn note(&mut self, stop: Stop) {
        match stop {
            Stop::Broken(what) => self.proof.violations.push(what),
            Stop::Lost(what) => self.proof.unseen.push(what),
        }
    }

    /// For a question that is asked again.
    pub(super) fn asking(&self) -> Client {
        self.client.clone().with_deadline(QUESTION)
    }

    pub(super) fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    fn age(&self) -> Duration {
        self.now().saturating_sub(self.begun)
    }

    async fn run(&mut self) -> Result<(), Stop> {
        // What does not work by itself says nothing about faults.
        let before = |stop: Stop| match stop {
            Stop::Broken(what) | Stop::Lost(what) => Stop::Lost(format!("before any fault: {what}")),
        };
        self.settle().await.map_err(before)?;
        self.progresses().await.map_err(before)?;
        while self.age() < self.options.lasts && self.proof.violations.len() < VIOLATIONS_MAX {
            if self.subjects.iter().all(Subject::has_ended) {
                let after = output::duration(ms(self.age()));
                self.proof.unproved.push(format!("all jobs had ended after {after}: no fault was done after that"));
                return Ok(());
            }
            let Some(fault) = self.plan.next() else { return Ok(()) };
            tokio::time::sleep(fault.delay).await;
            let begun = self.now();
            if let Some(why) = self.inject(fault).await? {
                self.refused.insert(fault.kind, why);
                self.plan.leave_out(fault.kind);
                continue;
            }
            *self.faults.entry(fault.kind).or_default() += 1;
            self.settle().await?;
            self.progresses().await?;
            let felt = ms(self.now().saturating_sub(begun));
            self.recovered_ms.entry(fault.kind.to_string()).or_default().push(felt);
        }
        Ok(())
    }

    /// Tells of a fault as it is done.
    pub(super) fn tell(&self, kind: Kind, what: &str) {
        output::note(&format!("{:>8.1} s  {kind}: {what}", self.age().as_secs_f64()));
    }

    /// One that is started again is waited for until it takes part anew.
    pub(super) fn expect_back(&mut self, identity: &Identity, status: &ClusterStatus) {
        let start = status.executors.iter().find(|executor| executor.node == identity.name);
        let start = start.map(|executor| executor.start.clone()).unwrap_or_default();
        self.returning.insert(key(identity), start);
    }

    /// Waits until all that were up at the beginning are up.
    ///
    /// # Errors
    /// Who is not, after the time that they have.
    pub(super) async fn settle(&mut self) -> Result<(), Stop> {
        let deadline = self.now() + self.options.within;
        loop {
            let missing = match self.asking().status().await {
                Ok(status) => self.missing(&status).await,
                Err(error) => Some(format!("no coordinator leads: {}", error.message())),
            };
            let Some(missing) = missing else { return Ok(()) };
            if self.now() > deadline {
                return Err(Stop::Broken(format!("{missing}, after {} still", self.patience())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn patience(&self) -> String {
        output::duration(ms(self.options.within))
    }

    /// The first one that is not up, and why.
    async fn missing(&mut self, status: &ClusterStatus) -> Option<String> {
        // An executor that is started again listens elsewhere.
        let (up, _) = members(status);
        let of_nodes = self.nodes.iter_mut().map(|node| &mut node.identity);
        for identity in self.members.iter_mut().chain(of_nodes) {
            if let Some(now) = up.iter().find(|other| key(other) == key(identity)) {
                identity.address.clone_from(&now.address);
            }
        }
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else { continue };
            if node.is_gone() && !self.adopt(index, status) {
                let identity = self.nodes.get(index).map(|node| node.identity.to_string()).unwrap_or_default();
                return Some(format!("{identity} has ended by itself"));
            }
        }
        for identity in self.members.clone() {
            let before = self.returning.get(&key(&identity)).cloned();
            let is_up = match identity.role {
                NodeRole::Executor => status.executors.iter().any(|executor| {
                    executor.node == identity.name && executor.attached && before.as_ref() != Some(&executor.start)
                }),
                NodeRole::Coordinator => {
                    let is_it = |id: u64| id.to_string() == identity.name;
                    let is_up = status.coordinators.iter().any(|known| is_it(known.id) && !known.down);
                    is_up && (before.is_none() || self.takes_part(&identity.address).await)
                }
            };
            if !is_up {
                return Some(format!("{identity} is not back"));
            }
            self.returning.remove(&key(&identity));
        }
        None
    }

    /// A coordinator that was just started counts for the majority when it knows who leads. What others think of it
    /// may be of before.
    async fn takes_part(&self, address: &str) -> bool {
        match (self.connect)(address) {
            Ok(client) => client.with_deadline(Duration::from_secs(1)).status().await.is_ok(),
            Err(_) => false,
        }
    }

    /// Whether somebody else has started a node again, as a service manager does: then that one is it.
    pub(super) fn adopt(&mut self, index: usize, status: &ClusterStatus) -> bool {
        let Some(node) = self.nodes.get_mut(index) else { return false };
        let (up, _) = members(status);
        let Some(identity) = up.into_iter().find(|other| key(other) == key(&node.identity)) else { return false };
        match Node::find(&self.env, &self.cluster, identity) {
            Ok(other) if other.pid() != node.pid() => {
                node.replace(other);
                true
            }
            _ => false,
        }
    }

    /// Waits until each job that has not ended has committed another epoch.
    ///
    /// # Errors
    /// Which job has not, or has failed.
    async fn progresses(&mut self) -> Result<(), Stop> {
        let (deadline, client) = (self.now() + self.options.within, self.asking());
        let mut before: Vec<Option<u64>> = vec![None; self.subjects.len()];
        loop {
            let mut waits_for = None;
            for (subject, before) in self.subjects.iter_mut().zip(&mut before).filter(|(s, _)| !s.has_ended()) {
                if let Err(error) = subject.look(&client).await {
                    waits_for = Some(format!("{}: {}", subject.name, error.message()));
                    continue;
                }
                if let Some(failure) = subject.failure() {
                    return Err(Stop::Broken(failure));
                }
                let epoch = subject.last.committed_epoch;
                if epoch <= *before.get_or_insert(epoch) && !subject.has_ended() {
                    waits_for = Some(format!("{}: no epoch was committed after epoch {epoch}", subject.name));
                }
            }
            let Some(waits_for) = waits_for else { return Ok(()) };
            if self.now() > deadline {
                return Err(Stop::Broken(format!("{waits_for}, for {}", self.patience())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Undoes whatever a fault has left behind. `is_well`: nothing was wrong so far, so that all must go on now.
    async fn heal(&mut self, is_well: bool) {
        for node in &mut self.nodes {
            let deadline = self.env.clock.monotonic() + ENDS_WITHIN;
            while node.state() == State::Down && !node.is_gone() && self.env.clock.monotonic() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if let Err(error) = node.bring_back() {
                self.proof.unseen.push(format!("could not bring {} back: {error}", node.identity));
            }
        }
        let settled = self.settle().await;
        let client = self.client.clone();
        let mut undone = Vec::new();
        if let Some(node) = self.drained.take() {
            undone.push((format!("have {node} take work again"), client.drain(&node, true).await.map(drop)));
        }
        if let Some((job, name)) = self.named.take() {
            // It may not have come about.
            let _ = client.drop_savepoint(&job, &name).await;
        }
        for subject in &mut self.subjects {
            let _ = subject.look(&client).await;
            let is_other = subject.last.parallelism_wanted != subject.parallelism;
            if is_other && subject.parallelism > 0 && !subject.has_ended() {
                let back = client.rescale(&subject.id, subject.parallelism).await;
                undone.push((format!("rescale {} back to {}", subject.name, subject.parallelism), back.map(drop)));
            }
        }
        for (what, result) in undone {
            if let Err(error) = result {
                self.proof.unseen.push(format!("could not {what}: {error}"));
            }
        }
        let goes_on = match settled {
            Ok(()) => self.progresses().await,
            Err(stop) => Err(stop),
        };
        // What was wrong before is told once.
        if let Err(stop) = goes_on
            && is_well
        {
            self.note(stop);
        }
    }

    /// Audits the jobs, through the cluster.
    async fn audit(&mut self) {
        for subject in &self.subjects {
            // It reads every row that the job has ever written.
            output::note(&format!("{:>8.1} s  audit: {}", self.age().as_secs_f64(), subject.name));
            let client = &self.client;
            let mut audited = client.audit(&subject.id, None).await;
            if audited.as_ref().is_err_and(|error| error.code() == Code::NoQuorum) {
                // A leader that has just changed is no reason to give up.
                audited = client.audit(&subject.id, None).await;
            }
            match audited {
                Ok(mut report) => {
                    let unproved = std::mem::take(&mut report.unproved).into_iter();
                    report.unproved = unproved.map(|line| format!("{}: {line}", report.name)).collect();
                    self.proof.add(&report);
                }
                Err(error) => {
                    self.proof.subject.push(subject.name.clone());
                    self.proof.unseen.push(format!("the audit of {}: {error}", subject.name));
                }
            }
            if subject.was_stopped() {
                self.proof.unproved.push(format!("{} was stopped by somebody else", subject.name));
            }
        }
    }
}

/// What a client was told when it asked for a change, as a reason not to do this fault; nobody who decides is no such
/// reason.
pub(super) fn refusal(error: &Error) -> Result<String, Stop> {
    match error.code() {
        Code::NoQuorum => Err(Stop::Broken(error.to_string())),
        _ => Ok(error.to_string()),
    }
}

fn key(identity: &Identity) -> (bool, String) {
    (identity.role == NodeRole::Coordinator, identity.name.clone())
}

/// Those that are up, and those that are not.
fn members(status: &ClusterStatus) -> (Vec<Identity>, Vec<Identity>) {
    let coordinators = status.coordinators.iter().map(|known| {
        let identity =
            Identity { role: NodeRole::Coordinator, name: known.id.to_string(), address: known.address.clone() };
        (identity, !known.down)
    });
    let executors = status.executors.iter().map(|known| {
        let identity = Identity { role: NodeRole::Executor, name: known.node.clone(), address: known.address.clone() };
        (identity, known.attached)
    });
    let (up, away): (Vec<_>, Vec<_>) = coordinators.chain(executors).partition(|(_, is_up)| *is_up);
    let identities = |list: Vec<(Identity, bool)>| list.into_iter().map(|(identity, _)| identity).collect();
    (identities(up), identities(away))
}

/// Returns when this command is asked to end, or its terminal is closed.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return asked_to_end().await };
    tokio::select! {
        () = asked_to_end() => {}
        _ = hangup.recv() => {}
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
