//! A driver, a store of commands and an executor in one thread: what walks and schedules are played on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow_schema::Schema;
use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::{Command, RunWith};
use qanat_coordinator_core::job::{Input, JobDriver, Output};
use qanat_coordinator_core::placement::Executor as Connected;
use qanat_coordinator_core::state::State;
use qanat_proto::changelog::{Changelog, SourceChangelog};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::{
    CommitPermit, CoordinatorMessage, ExecutorMessage, FromExecutor, OperatorReport, SubtaskReport, ToExecutor,
    WithdrawnObjects,
};
use qanat_proto::graph::{Edge, JobGraph, Operator, OperatorKind, Partitioning, SinkNode, SourceNode};
use qanat_proto::ids::{Epoch, Generation, JobId, KeyGroupRange, OperatorId, SplitId, StartId, SubtaskId, Token};
use qanat_proto::manifest::{MANIFEST_VERSION, Manifest, PreparedHandle, SinkChannel, SourceState, SplitState};
use qanat_proto::names::Origin;
use qanat_proto::receipt::{OperatorCounts, Receipt, RowHash, RowSum, SplitReceipt, Totals};
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error};

pub(crate) const JOB: JobId = JobId(9);
pub(crate) const START: StartId = StartId(1);
pub(crate) const SOURCE: OperatorId = OperatorId(1);
pub(crate) const SINK: OperatorId = OperatorId(2);
/// Records of the source.
pub(crate) const TOTAL: u64 = 40;

pub(crate) fn graph() -> JobGraph {
    let table = TableDescriptor {
        name: "t".into(),
        connector: "test".into(),
        options: BTreeMap::new(),
        physical: Schema::empty().into(),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
    };
    let source = SourceNode {
        table: table.clone(),
        projection: vec![],
        unread: Vec::new(),
        metadata: vec![],
        pushed_filter: None,
        watermark: None,
        bounded: true,
        replayable: true,
        gives: SourceChangelog::Append,
    };
    let operator = |id, kind| Operator {
        id,
        name: "op".into(),
        kind,
        output: Schema::empty().into(),
        changelog: Changelog::Append,
        ttl_ms: [0; 2],
    };
    JobGraph {
        operators: vec![
            operator(SOURCE, OperatorKind::Source(source)),
            operator(SINK, OperatorKind::Sink(SinkNode::of_table(table))),
        ],
        edges: vec![Edge { from: SOURCE, to: SINK, port: 0, partitioning: Partitioning::Forward }],
    }
}

pub(crate) fn epoch_zero() -> Manifest {
    let split = SplitState {
        id: SplitId("s".into()),
        detail: Arc::default(),
        position: Arc::new(0.into()),
        rows: 0,
        watermark: None,
        idle: false,
        finished: false,
    };
    Manifest {
        version: MANIFEST_VERSION,
        job: JOB,
        job_name: "job".into(),
        generation: Generation(0),
        epoch: Epoch(0),
        created_ms: 0,
        graph: graph(),
        settings: JobSettings::default(),
        parallelism: 1,
        key_groups: 4,
        sources: vec![SourceState { operator: SOURCE, splits: vec![split] }],
        operators: vec![],
        prepared: vec![],
        is_final: false,
        receipt: Receipt::default(),
        totals: Totals::default(),
    }
}

/// The executor's side: one subtask that reads records 0.. and a sink that stages and publishes.
pub(crate) struct Executor {
    pub(crate) token: Token,
    pub(crate) position: u64,
    pub(crate) from: u64,
    pub(crate) started: bool,
    pub(crate) sealed: Epoch,
    /// What it said about the epoch that it sealed last: a new leader asks for it again.
    pub(crate) report: Option<SubtaskReport>,
}

pub(crate) struct World {
    pub(crate) state: State,
    /// The durable command log; a crash of the coordinator replays it.
    pub(crate) log: Vec<Command>,
    pub(crate) driver: JobDriver,
    /// The executor's process.
    pub(crate) start: StartId,
    pub(crate) executor: Option<Executor>,
    /// The newest token that was ever deployed: none is deployed twice (P1).
    pub(crate) deployed: Option<Token>,
    pub(crate) to_executor: VecDeque<ToExecutor>,
    pub(crate) to_coordinator: Vec<FromExecutor>,
    pub(crate) manifests: BTreeMap<String, Manifest>,
    /// Staged and visible records by handle name.
    pub(crate) staged: BTreeMap<String, Vec<u64>>,
    pub(crate) visible: BTreeMap<String, Vec<u64>>,
    /// Names of all handles that were ever claimed.
    pub(crate) claimed: BTreeSet<String>,
    pub(crate) attempt: u64,
    pub(crate) now: u64,
    /// Where its rows go.
    pub(crate) channel: SinkChannel,
    /// What its sink says of a handle.
    pub(crate) detail: serde_json::Value,
}

/// An executor that is there and takes work.
pub(crate) fn connected(start: StartId) -> Connected {
    Connected {
        start,
        node: format!("node-{start}"),
        address: String::new(),
        slots: 1,
        attached: true,
        draining: false,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(SinkChannel::Table, None)
    }

    /// A job of a cluster whose rows all go into a topic.
    pub(crate) fn of_topics() -> Self {
        let run_with =
            RunWith { parallelism: 1, settings: JobSettings::default(), together: false, trace: None, topics: None };
        let mut world = Self::with(SinkChannel::Late, Some(Box::new(run_with)));
        world.own_log();
        world
    }

    /// A job of a cluster that wants two subtasks; its one executor has a slot for one.
    pub(crate) fn of_two_slots() -> Self {
        let run_with =
            RunWith { parallelism: 2, settings: JobSettings::default(), together: false, trace: None, topics: None };
        let mut world = Self::with(SinkChannel::Table, Some(Box::new(run_with)));
        world.driver = JobDriver::new(JOB, 2, JobSettings::default());
        world
    }

    /// The executor becomes the owner of the log (again, with another token).
    pub(crate) fn own_log(&mut self) {
        let start = self.start;
        let _ = self.propose(Command::OwnLog { start });
        self.executors(None);
    }

    fn with(channel: SinkChannel, run_with: Option<Box<RunWith>>) -> Self {
        let mut world = Self {
            state: State::default(),
            log: Vec::new(),
            driver: JobDriver::new(JOB, 1, JobSettings::default()),
            start: START,
            executor: None,
            deployed: None,
            to_executor: VecDeque::new(),
            to_coordinator: Vec::new(),
            manifests: BTreeMap::from([("m0".to_owned(), epoch_zero())]),
            staged: BTreeMap::new(),
            visible: BTreeMap::new(),
            claimed: BTreeSet::new(),
            attempt: 0,
            now: 0,
            channel,
            detail: serde_json::Value::Null,
        };
        world.propose(Command::CreateJob {
            job: JOB,
            name: "job".into(),
            script_digest: String::new(),
            manifest_key: "m0".into(),
            checksum: String::new(),
            run_with,
        });
        world.executors(None);
        world
    }

    pub(crate) fn propose(&mut self, command: Command) -> Input {
        self.log.push(command.clone());
        let result = self.state.apply(&command);
        if let Ok(Applied::Permit(permit)) = &result {
            self.claimed.extend(permit.handles.iter().map(|handle| handle.name.clone()));
        }
        Input::Applied(command, result)
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in self.driver.step(&self.state, self.now, 0, input) {
                match output {
                    Output::Propose(command) => {
                        let applied = self.propose(command);
                        inputs.push_back(applied);
                    }
                    Output::Send(message) => self.to_executor.push_back(message),
                    Output::ReadManifest { key, .. } => {
                        inputs.push_back(Input::ManifestRead(Box::new(self.manifests[&key].clone())));
                    }
                    Output::WriteManifest { epoch, manifest } => {
                        self.attempt += 1;
                        let key = format!("m{}-{epoch}-{}", manifest.generation, self.attempt);
                        self.manifests.insert(key.clone(), (*manifest).clone());
                        inputs.push_back(Input::ManifestWritten { epoch, manifest, key, checksum: String::new() });
                    }
                    Output::Collect => {
                        let retired = self.state.jobs[&JOB].retired.keys().copied().collect();
                        inputs.push_back(Input::Collected(retired));
                    }
                    Output::Progress(_) | Output::CommitSlow(_) => {}
                }
            }
        }
    }

    /// The coordinator dies and starts again from its log.
    pub(crate) fn restart_coordinator(&mut self) {
        let mut state = State::default();
        for command in &self.log {
            let _ = state.apply(command);
        }
        assert_eq!(state.digest(), self.state.digest(), "I6");
        self.driver = JobDriver::new(JOB, 1, JobSettings::default());
        self.executors(None);
    }

    /// The driver hears who is connected.
    pub(crate) fn executors(&mut self, attached: Option<StartId>) {
        let start = self.start;
        self.step(Input::Executors { executors: vec![connected(start)], attached });
    }

    /// The executor's connection breaks, with all that is on its way, and it connects again.
    pub(crate) fn reattach(&mut self) {
        self.to_executor.clear();
        self.to_coordinator.clear();
        self.executors(Some(self.start));
    }

    /// The executor dies and starts again.
    pub(crate) fn restart_executor(&mut self) {
        self.to_executor.clear();
        self.start = StartId(self.start.0 + 1);
        (self.executor, self.deployed) = (None, None);
        self.executors(Some(self.start));
    }

    pub(crate) fn report(&mut self, token: Token, message: CoordinatorMessage) {
        self.to_coordinator.push(FromExecutor { start: self.start, token, message });
    }

    /// What was claimed after `to`.
    pub(crate) fn to_withdraw(&self, to: Epoch) -> Vec<WithdrawnObjects> {
        let after = |name: &&String| Origin::parse_object(name).expect("our own names").0.epoch > to;
        vec![WithdrawnObjects { operator: SINK, names: self.claimed.iter().filter(after).cloned().collect() }]
    }

    /// What the driver does about this alone.
    pub(crate) fn outputs_of(&mut self, input: Input) -> Vec<Output> {
        self.driver.step(&self.state, self.now, 0, input)
    }

    /// What takes back everything after `to`, as of the last claim.
    pub(crate) fn rollback(&self, to: Epoch) -> Option<Command> {
        let (expected, _) = self.state.jobs[&JOB].last_claim()?;
        Some(Command::Rollback {
            job: JOB,
            to,
            expected,
            objects: self.to_withdraw(to),
            starts: Vec::new(),
            request: String::new(),
        })
    }

    /// Everything after `to` is taken back; whether that was accepted.
    pub(crate) fn roll_back(&mut self, to: Epoch) -> bool {
        let Some(rollback) = self.rollback(to) else { return false };
        let applied = self.propose(rollback);
        let is_done = matches!(applied, Input::Applied(_, Ok(_)));
        if is_done && self.driver.is_ended() {
            self.driver = JobDriver::new(JOB, 1, JobSettings::default());
            self.executors(None);
        } else {
            self.step(applied);
        }
        is_done
    }

    /// The executor takes its next message.
    pub(crate) fn execute(&mut self) {
        let Some(ToExecutor { token, message, .. }) = self.to_executor.pop_front() else { return };
        if let ExecutorMessage::Deploy(deployment) = &message {
            if let Some(executor) = self.executor.as_ref().filter(|e| e.token == token) {
                // Another leader asks whether it lives.
                assert!(!deployment.replay_only || !executor.started);
                self.report(token, CoordinatorMessage::Deployed);
            } else if self.deployed == Some(token) {
                let error = Error::new(Code::ExecutorLost, "ended here");
                self.report(token, CoordinatorMessage::Failed { subtask: None, error });
            } else if self.deployed.is_none_or(|newest| newest < token) {
                self.deployed = Some(token);
                let split = &deployment.restore.sources[0].splits[0];
                let position = split.position.as_u64().expect("a number");
                let sealed = deployment.before_first();
                self.executor =
                    Some(Executor { token, position, from: position, started: false, sealed, report: None });
                self.report(token, CoordinatorMessage::Deployed);
            }
            return;
        }
        if let ExecutorMessage::CommitLog { topic, permit, .. } = message {
            self.publish(&permit);
            let (epoch, manifest_key) = (permit.epoch, permit.manifest_key);
            self.report(token, CoordinatorMessage::LogCommitted { topic, epoch, manifest_key });
            return;
        }
        // P2: a message of another token is refused.
        if self.executor.as_ref().is_none_or(|e| e.token != token) {
            return;
        }
        match message {
            ExecutorMessage::Start => {
                self.executor.iter_mut().for_each(|e| e.started = true);
            }
            ExecutorMessage::Trigger { epoch } => self.seal(token, epoch),
            ExecutorMessage::Commit(permit) => {
                self.publish(&permit);
                let (epoch, manifest_key) = (permit.epoch, permit.manifest_key);
                self.report(token, CoordinatorMessage::Committed { epoch, manifest_key });
            }
            ExecutorMessage::Withdraw(withdrawals) => {
                for name in withdrawals.iter().flat_map(|withdrawal| withdrawal.names(SINK)) {
                    self.staged.remove(name);
                    self.visible.remove(name);
                }
                self.report(token, CoordinatorMessage::Withdrawn);
            }
            ExecutorMessage::AbortLower { keep } => {
                let keep: BTreeSet<_> = keep.iter().map(|handle| handle.name.as_str()).collect();
                self.staged.retain(|name, _| {
                    let (origin, _) = Origin::parse_object(name).expect("our own names");
                    origin.token.generation >= token.generation || keep.contains(name.as_str())
                });
                self.report(token, CoordinatorMessage::Aborted);
            }
            ExecutorMessage::Stop => {
                self.executor = None;
                self.report(token, CoordinatorMessage::Stopped);
            }
            ExecutorMessage::Deploy(_) | ExecutorMessage::CommitLog { .. } => {}
        }
    }

    pub(crate) fn publish(&mut self, permit: &CommitPermit) {
        for handle in &permit.handles {
            if let Some(rows) = self.staged.remove(&handle.name) {
                self.visible.insert(handle.name.clone(), rows);
            }
            assert!(self.visible.contains_key(&handle.name), "a permit's handle is staged or visible");
        }
    }

    pub(crate) fn read(&mut self, records: u64) {
        if let Some(executor) = self.executor.as_mut().filter(|e| e.started) {
            executor.position = (executor.position + records).min(TOTAL);
        }
    }

    pub(crate) fn seal(&mut self, token: Token, epoch: Epoch) {
        let Some(executor) = self.executor.as_mut().filter(|e| e.started && e.sealed <= epoch) else { return };
        if executor.sealed == epoch {
            if let Some(report) = executor.report.clone() {
                self.report(token, CoordinatorMessage::Prepared { epoch, report: Box::new(report) });
            }
            return;
        }
        executor.sealed = epoch;
        let rows: Vec<u64> = (executor.from..executor.position).collect();
        let ended = executor.position == TOTAL;
        let (from, to) = (executor.from, executor.position);
        executor.from = executor.position;
        let sum = RowSum { rows: rows.len() as u64, hash: RowHash::default() };
        let subtask = SubtaskId { operator: SINK, index: 0 };
        let name = Origin { token, epoch, subtask }.object(0);
        let mut prepared = Vec::new();
        if !rows.is_empty() {
            self.staged.insert(name.clone(), rows);
            prepared.push(PreparedHandle { subtask, channel: self.channel, name, sum, detail: self.detail.clone() });
        }
        let counts = OperatorCounts { rows_in: sum.rows, rows_out: sum.rows, ..OperatorCounts::default() };
        let receipts = vec![SplitReceipt {
            id: SplitId("s".into()),
            from: Arc::new(from.into()),
            to: Arc::new(to.into()),
            rows: to - from,
        }];
        let part = |operator, splits: Vec<SplitState>, prepared: Vec<PreparedHandle>| OperatorReport {
            subtask: SubtaskId { operator, index: 0 },
            key_groups: KeyGroupRange { start: 0, end: 4 },
            watermark: None,
            counts: counts.clone(),
            splits,
            split_receipts: receipts.clone(),
            tables: vec![],
            prepared,
            sent: vec![],
            received: vec![],
            ended,
        };
        let split = SplitState {
            id: SplitId("s".into()),
            detail: Arc::default(),
            position: Arc::new(to.into()),
            rows: to,
            watermark: None,
            idle: false,
            finished: ended,
        };
        let report = SubtaskReport { parts: vec![part(SOURCE, vec![split], vec![]), part(SINK, vec![], prepared)] };
        self.executor.iter_mut().for_each(|executor| executor.report = Some(report.clone()));
        self.report(token, CoordinatorMessage::Prepared { epoch, report: Box::new(report) });
    }

    pub(crate) fn deliver(&mut self, which: usize, repeat: bool) {
        if self.to_coordinator.is_empty() {
            return;
        }
        let which = which % self.to_coordinator.len();
        let message = self.to_coordinator[which].clone();
        if !repeat {
            self.to_coordinator.remove(which);
        }
        self.step(Input::FromExecutor(message));
    }

    pub(crate) fn fail(&mut self) {
        let Some(token) = self.executor.take().map(|e| e.token) else { return };
        // Each failure at another place: only a repeat at one place fails the job.
        self.attempt += 1;
        let error = Error::new(Code::Io, "planted").at(qanat_proto::Place::Named(self.attempt.to_string()));
        self.report(token, CoordinatorMessage::Failed { subtask: None, error });
    }

    /// I2: everything visible is claimed, and nothing is there twice.
    pub(crate) fn check(&self) {
        let claimed = &self.claimed;
        let job = &self.state.jobs[&JOB];
        if job.withdrawing.is_empty() {
            for name in self.visible.keys() {
                let (origin, _) = Origin::parse_object(name).expect("our own names");
                assert!(!job.is_withdrawn(origin.epoch), "{name} is visible and was withdrawn");
            }
        }
        let mut seen = BTreeSet::new();
        for (name, rows) in &self.visible {
            assert!(claimed.contains(name), "{name} is visible and was never claimed");
            for row in rows {
                assert!(seen.insert(*row), "record {row} is visible twice");
            }
        }
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now += ms;
        self.step(Input::Tick);
        // Otherwise the loop that drives it spins.
        let wake = self.driver.wake_at();
        assert!(wake.is_none_or(|at| at > self.now), "{wake:?} is not after {}", self.now);
    }
}
