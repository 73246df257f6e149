//! Random walks: the driver, a faulty store of commands and an executor whose every message may be
//! late, lost with its generation, or repeated. After each step nothing unclaimed is visible; at the end
//! every record is visible exactly once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arrow_schema::Schema;
use proptest::prelude::*;
use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::Command;
use qanat_coordinator_core::job::{Input, JobDriver, Output};
use qanat_coordinator_core::state::{JobStatus, State};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::{
    CoordinatorMessage, ExecutorMessage, FromExecutor, OperatorReport, SubtaskReport, ToExecutor,
};
use qanat_proto::graph::{Edge, JobGraph, Operator, OperatorKind, Partitioning, SinkNode, SourceNode};
use qanat_proto::ids::{Epoch, Generation, JobId, KeyGroupRange, OperatorId, SplitId, StartId, SubtaskId, Token};
use qanat_proto::manifest::{MANIFEST_VERSION, Manifest, PreparedHandle, SinkChannel, SourceState, SplitState};
use qanat_proto::names::Origin;
use qanat_proto::receipt::{OperatorCounts, Receipt, RowHash, RowSum, SplitReceipt, Totals};
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error};

const JOB: JobId = JobId(9);
const START: StartId = StartId(1);
const SOURCE: OperatorId = OperatorId(1);
const SINK: OperatorId = OperatorId(2);
/// Records of the source.
const TOTAL: u64 = 40;

fn graph() -> JobGraph {
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
        metadata: vec![],
        pushed_filter: None,
        watermark: None,
        bounded: true,
    };
    let operator = |id, kind| Operator { id, name: "op".into(), kind, output: Schema::empty().into() };
    JobGraph {
        operators: vec![
            operator(SOURCE, OperatorKind::Source(source)),
            operator(SINK, OperatorKind::Sink(SinkNode { table, overwrite: false, partition: Vec::new() })),
        ],
        edges: vec![Edge { from: SOURCE, to: SINK, port: 0, partitioning: Partitioning::Forward }],
    }
}

fn epoch_zero() -> Manifest {
    let split = SplitState {
        id: SplitId("s".into()),
        detail: serde_json::Value::Null,
        position: 0.into(),
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
        savepoint: None,
        receipt: Receipt::default(),
        totals: Totals::default(),
    }
}

/// The executor's side: one subtask that reads records 0.. and a sink that stages and publishes.
struct Executor {
    token: Token,
    position: u64,
    from: u64,
    started: bool,
    sealed: Epoch,
}

struct World {
    state: State,
    /// The durable command log; a crash of the coordinator replays it.
    log: Vec<Command>,
    driver: JobDriver,
    executor: Option<Executor>,
    to_executor: VecDeque<ToExecutor>,
    to_coordinator: Vec<FromExecutor>,
    manifests: BTreeMap<String, Manifest>,
    /// Staged and visible records by handle name.
    staged: BTreeMap<String, Vec<u64>>,
    visible: BTreeMap<String, Vec<u64>>,
    /// Names of all handles that were ever claimed.
    claimed: BTreeSet<String>,
    attempt: u64,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            log: Vec::new(),
            driver: JobDriver::new(JOB, 1, JobSettings::default()),
            executor: None,
            to_executor: VecDeque::new(),
            to_coordinator: Vec::new(),
            manifests: BTreeMap::from([("m0".to_owned(), epoch_zero())]),
            staged: BTreeMap::new(),
            visible: BTreeMap::new(),
            claimed: BTreeSet::new(),
            attempt: 0,
            now: 0,
        };
        world.propose(Command::CreateJob {
            job: JOB,
            name: "job".into(),
            script_digest: String::new(),
            manifest_key: "m0".into(),
            checksum: String::new(),
        });
        world.step(Input::Executors(vec![START]));
        world
    }

    fn propose(&mut self, command: Command) -> Input {
        self.log.push(command.clone());
        let result = self.state.apply(&command);
        if let Ok(Applied::Permit(permit)) = &result {
            self.claimed.extend(permit.handles.iter().map(|handle| handle.name.clone()));
        }
        Input::Applied(command, result)
    }

    fn step(&mut self, input: Input) {
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
    fn restart_coordinator(&mut self) {
        let mut state = State::default();
        for command in &self.log {
            let _ = state.apply(command);
        }
        assert_eq!(state.digest(), self.state.digest(), "I6");
        self.driver = JobDriver::new(JOB, 1, JobSettings::default());
        self.step(Input::Executors(vec![START]));
    }

    fn report(&mut self, token: Token, message: CoordinatorMessage) {
        self.to_coordinator.push(FromExecutor { start: START, token, message });
    }

    /// The executor takes its next message.
    fn execute(&mut self) {
        let Some(ToExecutor { token, message, .. }) = self.to_executor.pop_front() else { return };
        if let ExecutorMessage::Deploy(deployment) = &message {
            if self.executor.as_ref().is_none_or(|e| e.token < token) {
                let split = &deployment.restore.sources[0].splits[0];
                let position = split.position.as_u64().expect("a number");
                let sealed = deployment.restore.epoch;
                self.executor = Some(Executor { token, position, from: position, started: false, sealed });
                self.report(token, CoordinatorMessage::Deployed);
            }
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
                for handle in &permit.handles {
                    if let Some(rows) = self.staged.remove(&handle.name) {
                        self.visible.insert(handle.name.clone(), rows);
                    }
                    assert!(self.visible.contains_key(&handle.name), "a permit's handle is staged or visible");
                }
                let (epoch, manifest_key) = (permit.epoch, permit.manifest_key);
                self.report(token, CoordinatorMessage::Committed { epoch, manifest_key });
            }
            ExecutorMessage::AbortLower { keep } => {
                let keep: BTreeSet<_> = keep.iter().map(|handle| handle.name.as_str()).collect();
                self.staged.retain(|name, _| {
                    let (origin, _) = Origin::parse_object(name).expect("our own names");
                    origin.token.generation >= token.generation || keep.contains(name.as_str())
                });
                self.report(token, CoordinatorMessage::Aborted);
            }
            ExecutorMessage::Stop => self.executor = None,
            ExecutorMessage::Deploy(_) => {}
        }
    }

    fn read(&mut self, records: u64) {
        if let Some(executor) = self.executor.as_mut().filter(|e| e.started) {
            executor.position = (executor.position + records).min(TOTAL);
        }
    }

    fn seal(&mut self, token: Token, epoch: Epoch) {
        let Some(executor) = self.executor.as_mut().filter(|e| e.started && e.sealed < epoch) else { return };
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
            prepared.push(PreparedHandle {
                subtask,
                channel: SinkChannel::Table,
                name,
                sum,
                detail: serde_json::Value::Null,
            });
        }
        let counts = OperatorCounts { rows_in: sum.rows, rows_out: sum.rows, ..OperatorCounts::default() };
        let receipts =
            vec![SplitReceipt { id: SplitId("s".into()), from: from.into(), to: to.into(), rows: to - from }];
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
            detail: serde_json::Value::Null,
            position: to.into(),
            rows: to,
            watermark: None,
            idle: false,
            finished: ended,
        };
        let report = SubtaskReport { parts: vec![part(SOURCE, vec![split], vec![]), part(SINK, vec![], prepared)] };
        self.report(token, CoordinatorMessage::Prepared { epoch, report: Box::new(report) });
    }

    fn deliver(&mut self, which: usize, repeat: bool) {
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

    fn fail(&mut self) {
        let Some(token) = self.executor.take().map(|e| e.token) else { return };
        // Each failure at another place: only a repeat at one place fails the job.
        self.attempt += 1;
        let error = Error::new(Code::Io, "planted").at(qanat_proto::Place::Named(self.attempt.to_string()));
        self.report(token, CoordinatorMessage::Failed { subtask: None, error });
    }

    /// I2: everything visible is claimed, and nothing is there twice.
    fn check(&self) {
        let claimed = &self.claimed;
        let mut seen = BTreeSet::new();
        for (name, rows) in &self.visible {
            assert!(claimed.contains(name), "{name} is visible and was never claimed");
            for row in rows {
                assert!(seen.insert(*row), "record {row} is visible twice");
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now += ms;
        self.step(Input::Tick);
    }
}

#[derive(Clone, Debug)]
enum Action {
    Execute,
    Deliver { which: usize, repeat: bool },
    Read(u64),
    Time(u64),
    FailExecutor,
    RestartCoordinator,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => Just(Action::Execute),
        8 => (0..8_usize, prop::bool::weighted(0.2)).prop_map(|(which, repeat)| Action::Deliver { which, repeat }),
        4 => (1..6_u64).prop_map(Action::Read),
        4 => (1..2_000_u64).prop_map(Action::Time),
        1 => Just(Action::FailExecutor),
        1 => Just(Action::RestartCoordinator),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_record_is_visible_once(actions in prop::collection::vec(action(), 0..250)) {
        let mut world = World::new();
        for action in actions {
            match action {
                Action::Execute => world.execute(),
                Action::Deliver { which, repeat } => world.deliver(which, repeat),
                Action::Read(records) => world.read(records),
                Action::Time(ms) => world.advance(ms),
                Action::FailExecutor => world.fail(),
                Action::RestartCoordinator => world.restart_coordinator(),
            }
            world.check();
        }
        // The faults end: within a bound the job finishes (I15).
        for _ in 0..2_000 {
            if world.state.jobs[&JOB].status == JobStatus::Finished {
                break;
            }
            world.execute();
            world.deliver(0, false);
            world.read(7);
            world.advance(500);
            world.check();
        }
        prop_assert_eq!(&world.state.jobs[&JOB].status, &JobStatus::Finished);
        let total: usize = world.visible.values().map(Vec::len).sum();
        prop_assert_eq!(total as u64, TOTAL);
    }
}
