//! What a node listens to, and what it refuses (P1, P2).

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use crossbeam::channel::Receiver;
use qanat_connectors::contract::{ReadRequest, SinkWriter, Source};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::SubtaskReport;
use qanat_proto::graph::{JobGraph, SinkNode};
use qanat_proto::manifest::{MANIFEST_VERSION, Manifest};
use qanat_proto::receipt::{Receipt, Totals};
use qanat_proto::settings::JobSettings;
use qanat_storage::env::sim::SimEnv;
use qanat_storage::object::Objects;

use super::*;

const JOB: JobId = JobId(5);
const START: StartId = StartId(1);

/// Opens nothing: the jobs here have side tables alone.
struct NoTables;

impl Opener for NoTables {
    fn source(&self, table: &TableDescriptor, _: ReadRequest) -> Result<Arc<dyn Source>> {
        Err(Error::internal(format!("nobody reads {}", table.name)))
    }

    fn sink(&self, node: &SinkNode, _: SchemaRef) -> Result<Arc<dyn Sink>> {
        Err(Error::internal(format!("nobody writes to {}", node.table.name)))
    }
}

/// A side table that knows of commits up to an epoch.
struct Side(Option<Epoch>);

impl Sink for Side {
    fn writer(&self, _: SubtaskId, _: Token) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("no rows"))
    }

    fn commit(&self, _: CommitScope, _: &CommitPermit, _: &[PreparedHandle]) -> Result<()> {
        Ok(())
    }

    fn abort_lower(&self, _: CommitScope, _: Token, _: &[PreparedHandle]) -> Result<()> {
        Ok(())
    }

    fn newest_commit(&self, _: CommitScope, _: JobId) -> Result<Option<Epoch>> {
        Ok(self.0)
    }
}

fn node(newest: Option<Epoch>) -> (Node, Receiver<FromExecutor>) {
    let SimEnv { env, .. } = Env::sim(1);
    let objects = Objects::in_directory(&env, std::path::Path::new("/checkpoints")).expect("opens");
    let config = NodeConfig {
        env,
        opener: Arc::new(NoTables),
        checkpoints: Arc::new(CheckpointStore::new(objects)),
        side_tables: Arc::new(move |_, _| {
            Ok(SideTables { late: Arc::new(Side(None)), dead_letters: Arc::new(Side(newest)) })
        }),
        workers: 1,
        exchange: None,
        commit_log: None,
        spill: None,
    };
    let (outbox, inbox) = unbounded();
    (Node::start(START, config, outbox).expect("starts"), inbox)
}

fn token(generation: u64) -> Token {
    Token { job: JOB, generation: qanat_proto::ids::Generation(generation) }
}

fn deploy(restore: u64) -> ExecutorMessage {
    let graph = JobGraph { operators: Vec::new(), edges: Vec::new() };
    let restore = Manifest {
        version: MANIFEST_VERSION,
        job: JOB,
        job_name: "job".into(),
        generation: qanat_proto::ids::Generation(0),
        epoch: Epoch(restore),
        created_ms: 0,
        graph: graph.clone(),
        settings: JobSettings::default(),
        parallelism: 1,
        key_groups: 4,
        sources: Vec::new(),
        operators: Vec::new(),
        prepared: Vec::new(),
        is_final: false,
        receipt: Receipt::default(),
        totals: Totals::default(),
    };
    let settings = JobSettings::default();
    let deployment = Deployment {
        job_name: "job".into(),
        graph,
        settings,
        parallelism: 1,
        hosts: Vec::new(),
        restore,
        withdrawn_to: Epoch(0),
        replay_only: false,
        trace: None,
    };
    ExecutorMessage::Deploy(Box::new(deployment))
}

fn commit(generation: u64) -> ExecutorMessage {
    let manifest_key = format!("m{generation}");
    ExecutorMessage::Commit(CommitPermit { token: token(generation), epoch: Epoch(1), manifest_key, handles: vec![] })
}

/// A node and its answers.
struct Exchange {
    node: Node,
    inbox: Receiver<FromExecutor>,
}

impl Exchange {
    fn new(newest: Option<Epoch>) -> Self {
        let (node, inbox) = node(newest);
        Self { node, inbox }
    }

    fn send_to(&self, start: StartId, generation: u64, message: ExecutorMessage) {
        self.node.send(ToExecutor { start, token: token(generation), message });
    }

    fn send(&self, generation: u64, message: ExecutorMessage) {
        self.send_to(START, generation, message);
    }

    /// The next answer. What was refused before has none.
    fn next(&self) -> String {
        let answer = self.inbox.recv_timeout(Duration::from_secs(30)).expect("an answer");
        let message = match &answer.message {
            CoordinatorMessage::Deployed => "deployed".to_owned(),
            CoordinatorMessage::Committed { manifest_key, .. } => format!("committed {manifest_key}"),
            CoordinatorMessage::Aborted => "aborted".to_owned(),
            CoordinatorMessage::Stopped => "stopped".to_owned(),
            CoordinatorMessage::Failed { error, .. } => format!("failed {}", error.code()),
            other => format!("{other:?}"),
        };
        format!("{}: {message}", answer.token.generation)
    }
}

/// P1: a generation is deployed once, however often and late its deploy is repeated, and to whatever start of
/// the process.
#[test]
fn p1_a_generation_is_deployed_once() {
    let exchange = Exchange::new(None);
    exchange.send(1, deploy(0));
    assert_eq!(exchange.next(), "1: deployed");
    // Another leader asks how it fares.
    exchange.send(1, deploy(0));
    assert_eq!(exchange.next(), "1: deployed");
    exchange.send(1, ExecutorMessage::Stop);
    assert_eq!(exchange.next(), "1: stopped");
    exchange.send(1, deploy(0));
    assert_eq!(exchange.next(), "1: failed E0603");
    exchange.send_to(StartId(2), 2, deploy(0));
    exchange.send(3, deploy(0));
    assert_eq!(exchange.next(), "3: deployed");
    exchange.send(2, deploy(0));
    exchange.send(4, deploy(0));
    assert_eq!([exchange.next(), exchange.next()], ["3: stopped", "4: deployed"]);
}

/// P4: what was reported about an epoch is said again to each leader that asks for it, and nothing of another one.
#[test]
fn p4_reports_are_kept_and_said_to_every_leader() {
    let (outbox, inbox) = unbounded();
    let reporter = Reporter::new(START, token(1), outbox, Span::none());
    let report = |epoch| {
        let report = SubtaskReport { parts: Vec::new() };
        reporter.send(CoordinatorMessage::Prepared { epoch: Epoch(epoch), report: Box::new(report) });
    };
    let heard = || {
        let epochs = inbox.try_iter().map(|said| match said.message {
            CoordinatorMessage::Prepared { epoch, .. } => epoch.0,
            other => panic!("{other:?}"),
        });
        epochs.collect::<Vec<_>>()
    };
    report(1);
    report(1);
    assert_eq!(heard(), [1, 1]);
    // The leader that heard them is gone; so is the next one.
    for _ in 0..2 {
        reporter.repeat_reports(Epoch(1));
        assert_eq!(heard(), [1, 1]);
    }
    report(2);
    assert_eq!(heard(), [2]);
    reporter.repeat_reports(Epoch(1));
    assert_eq!(heard(), [0_u64; 0], "that one was claimed");
    reporter.repeat_reports(Epoch(2));
    assert_eq!(heard(), [2]);
}

/// P2: the permit, abort or stop of an older generation, or for another start of the process, is not heard.
#[test]
fn p2_only_the_current_generation_is_listened_to() {
    let exchange = Exchange::new(None);
    exchange.send(2, deploy(0));
    assert_eq!(exchange.next(), "2: deployed");
    exchange.send(1, commit(1));
    exchange.send(1, ExecutorMessage::AbortLower { keep: Vec::new() });
    exchange.send(1, ExecutorMessage::Stop);
    exchange.send_to(StartId(2), 2, ExecutorMessage::Stop);
    exchange.send(3, ExecutorMessage::Start);
    exchange.send(2, commit(2));
    assert_eq!(exchange.next(), "2: committed m2");
    exchange.send(2, ExecutorMessage::AbortLower { keep: Vec::new() });
    assert_eq!(exchange.next(), "2: aborted");
}

/// A restore point below what a sink holds is one of a log that has lost its end.
#[test]
fn a_generation_that_restores_less_than_its_sinks_hold_is_refused() {
    let exchange = Exchange::new(Some(Epoch(5)));
    exchange.send(1, deploy(4));
    assert_eq!(exchange.next(), "1: failed E0304");
    exchange.send(2, deploy(5));
    assert_eq!(exchange.next(), "2: deployed");
}
