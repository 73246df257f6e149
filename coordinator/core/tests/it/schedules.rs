//! Schedules of `docs/protocol.md` that a driver meets: what it sends, when, and what it does not listen to.

use qanat_coordinator_core::checkpoint::EpochReports;
use qanat_coordinator_core::command::{Command, Outcome};
use qanat_coordinator_core::job::{Input, JobDriver};
use qanat_coordinator_core::placement::Executor;
use qanat_coordinator_core::state::JobStatus;
use qanat_proto::Code;
use qanat_proto::control::{
    CoordinatorMessage, EdgeCount, ExecutorMessage, FromExecutor, OperatorReport, SubtaskReport, ToExecutor,
};
use qanat_proto::graph::Partitioning;
use qanat_proto::ids::{Epoch, Generation, KeyGroupRange, OperatorId, StartId, SubtaskId, Token};
use qanat_proto::physical::PhysicalGraph;
use qanat_proto::receipt::{OperatorCounts, RowHash, RowSum, Totals};
use qanat_proto::settings::JobSettings;

use crate::world::{JOB, SINK, SOURCE, START, World, connected, epoch_zero, graph};

pub(crate) const INTERVAL_MS: u64 = qanat_proto::limits::EPOCH_INTERVAL_MS_DEFAULT;
const TIMEOUT_MS: u64 = qanat_proto::limits::EPOCH_TIMEOUT_MS_DEFAULT;

pub(crate) fn token(generation: u64) -> Token {
    Token { job: JOB, generation: Generation(generation) }
}

/// The kind of a message, with the epoch it is for.
fn kind(message: &ToExecutor) -> (&'static str, u64) {
    match &message.message {
        ExecutorMessage::Deploy(deployment) => ("deploy", deployment.restore.epoch.0),
        ExecutorMessage::Start => ("start", 0),
        ExecutorMessage::Trigger { epoch } => ("trigger", epoch.0),
        ExecutorMessage::Commit(permit) => ("commit", permit.epoch.0),
        ExecutorMessage::CommitLog { permit, owner, .. } => ("commit log", permit.epoch.0 * 1_000 + owner),
        ExecutorMessage::AbortLower { .. } => ("abort", 0),
        ExecutorMessage::Withdraw(withdrawals) => ("withdraw", withdrawals.last().map_or(0, |last| last.first.0)),
        ExecutorMessage::Stop => ("stop", 0),
    }
}

impl World {
    /// Lets everything that is under way arrive.
    pub(crate) fn settle(&mut self) {
        while !self.to_executor.is_empty() || !self.to_coordinator.is_empty() {
            self.execute();
            self.deliver(0, false);
        }
        self.check();
    }

    /// A first generation that reads.
    pub(crate) fn running() -> Self {
        let mut world = Self::new();
        world.settle();
        assert!(world.executor.as_ref().is_some_and(|executor| executor.started));
        world
    }

    /// Reads a little, and lets an epoch be prepared and reported.
    pub(crate) fn prepare_epoch(&mut self) {
        self.read(5);
        self.advance(INTERVAL_MS);
        self.execute();
        self.deliver(0, false);
    }

    pub(crate) fn lose_all_but_the_log(&mut self) {
        self.start = StartId(self.start.0 + 1);
        self.executor = None;
        self.to_executor.clear();
        self.to_coordinator.clear();
        self.restart_coordinator();
    }

    /// Somebody asks for a stop with a last checkpoint.
    pub(crate) fn stop(&mut self) {
        let decided = self.propose(Command::StopWithSavepoint { job: JOB });
        self.step(decided);
    }

    pub(crate) fn sent(&self) -> Vec<(&'static str, u64)> {
        self.to_executor.iter().map(kind).collect()
    }

    pub(crate) fn count(&self, matches: impl Fn(&Command) -> bool) -> usize {
        self.log.iter().filter(|command| matches(command)).count()
    }

    pub(crate) fn claims(&self) -> usize {
        self.count(|command| matches!(command, Command::Claim { .. }))
    }

    pub(crate) fn failures(&self) -> usize {
        self.count(|command| matches!(command, Command::RecordFailure { .. }))
    }
}

/// P1: what was read twice into a sink that already held it makes an edge that does not balance.
#[test]
fn p1_no_epoch_is_claimed_whose_edges_or_operators_do_not_balance() {
    let mut base = epoch_zero();
    base.graph = graph();
    base.graph.edges[0].partitioning = Partitioning::Single;
    let physical = PhysicalGraph::expand(&base.graph, 2);
    let sum = |rows| RowSum { rows, hash: RowHash(u128::from(rows) * 17) };
    let edge = |rows| vec![EdgeCount { from: SOURCE, to: SINK, port: 0, sum: sum(rows) }];
    let part = |operator: OperatorId, index, rows, sent, received| OperatorReport {
        subtask: SubtaskId { operator, index },
        key_groups: KeyGroupRange { start: 0, end: 4 },
        watermark: None,
        counts: OperatorCounts { rows_in: rows, rows_out: rows, ..OperatorCounts::default() },
        splits: vec![],
        split_receipts: vec![],
        tables: vec![],
        prepared: vec![],
        sent,
        received,
        ended: false,
    };
    let assemble = |received: Vec<EdgeCount>, kept: u64| {
        let mut reports = EpochReports::new(Epoch(1), &physical, 2);
        let mut last = part(SINK, 0, 7, vec![], received);
        last.counts.rows_out = kept;
        let parts = vec![
            part(SOURCE, 0, 4, edge(4), vec![]),
            part(SOURCE, 1, 3, edge(3), vec![]),
            last,
            part(SINK, 1, 0, vec![], vec![]),
        ];
        reports.add(SubtaskReport { parts });
        assert!(reports.is_complete());
        reports.assemble(token(1), &base, &physical, &Totals::default(), 0).map(|manifest| manifest.receipt)
    };
    let mut sums = sum(4);
    sums.add(sum(3));
    let exact = |sum| vec![EdgeCount { from: SOURCE, to: SINK, port: 0, sum }];
    let receipt = assemble(exact(sums), 7).expect("it balances");
    assert_eq!((receipt.edges[0].sent, receipt.edges[0].received), (sums, sums));
    let another_row = RowSum { hash: RowHash(1), ..sums };
    for (received, kept, what) in [
        (edge(8), 7, "a row too many"),
        (vec![], 7, "all lost"),
        (exact(another_row), 7, "as many, but others"),
        (exact(sums), 6, "a sink that loses a row"),
    ] {
        assert_eq!(assemble(received, kept).expect_err(what).code(), Code::Imbalance, "{what}");
    }
}

/// P2: reports, acknowledgements and failures of an older generation say nothing about this one.
#[test]
fn p2_messages_of_an_older_generation_are_not_heard() {
    let mut world = World::running();
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    let late = world.to_coordinator.clone();
    assert!(matches!(late[..], [FromExecutor { message: CoordinatorMessage::Prepared { .. }, .. }]));
    world.fail();
    world.deliver(1, false);
    world.to_coordinator.clear();
    world.advance(INTERVAL_MS);
    world.settle();
    assert_eq!(world.state.jobs[&JOB].generation, Generation(2));
    world.advance(INTERVAL_MS);
    assert_eq!(world.sent(), [("trigger", 1)]);
    let failed = CoordinatorMessage::Failed { subtask: None, error: qanat_proto::Error::internal("old news") };
    let committed = CoordinatorMessage::Committed { epoch: Epoch(1), manifest_key: "m1-1-1".into() };
    for message in [late[0].message.clone(), failed, committed, CoordinatorMessage::Aborted] {
        world.step(Input::FromExecutor(FromExecutor { start: START, token: token(1), message }));
    }
    assert_eq!((world.claims(), world.failures()), (0, 1));
    world.settle();
    assert_eq!(world.claims(), 1, "the new generation's own report is claimed");
    assert_eq!(world.state.jobs[&JOB].claims[&Epoch(1)].generation, Generation(2));
}

/// P4: while an epoch is not claimed, no other is opened, however long it takes.
#[test]
fn p4_one_unclaimed_epoch_is_in_flight() {
    let mut world = World::running();
    world.read(5);
    for _ in 0..10 {
        world.advance(INTERVAL_MS);
    }
    assert_eq!(world.sent(), [("trigger", 1)]);
    world.execute();
    // The report is repeated, and so is the trigger: one claim.
    let report = world.to_coordinator[0].clone();
    world.deliver(0, true);
    world.step(Input::FromExecutor(report));
    assert_eq!(world.claims(), 1);
    world.to_executor.push_front(ToExecutor {
        start: START,
        token: token(1),
        message: ExecutorMessage::Trigger { epoch: Epoch(1) },
    });
    world.settle();
    // By now the next one is due, and has no rows.
    let first = |command: &Command| matches!(command, Command::Claim { epoch: Epoch(1), .. });
    assert_eq!(world.count(first), 1);
    assert_eq!(world.visible.len(), 1);
}

/// P4: the barrier of the next epoch may flow while a commit is pending; its claim waits.
#[test]
fn p4_a_claim_waits_for_the_commit_before() {
    let mut world = World::running();
    world.prepare_epoch();
    assert_eq!((world.claims(), world.sent()), (1, vec![("commit", 1)]));
    let commit = world.to_executor.pop_front().expect("a permit");
    world.prepare_epoch();
    assert_eq!(world.claims(), 1, "epoch 2 is prepared, and epoch 1 is not committed");
    world.to_executor.push_back(commit);
    world.settle();
    assert_eq!(world.claims(), 2);
}

/// P5: a claim whose commit was cut short is replayed under the new token before any new record flows.
#[test]
fn p5_a_commit_is_replayed_before_new_records_flow() {
    let mut world = World::running();
    world.prepare_epoch();
    assert_eq!(world.claims(), 1);
    // Everything dies but the log.
    world.lose_all_but_the_log();
    let mut order = Vec::new();
    let committed = |world: &World| world.state.jobs[&JOB].claims[&Epoch(1)].committed;
    while let Some(next) = world.to_executor.front() {
        assert_eq!(next.token, token(2));
        order.push((kind(next), committed(&world)));
        if let ExecutorMessage::Commit(permit) = &next.message {
            assert_eq!(permit.token, token(2), "the replay has the new token");
            assert_eq!(permit.handles, world.state.jobs[&JOB].claims[&Epoch(1)].handles, "and the claim's handles");
        }
        world.execute();
        world.deliver(0, false);
    }
    assert_eq!(
        order,
        [(("deploy", 1), false), (("commit", 1), false), (("abort", 0), true), (("start", 0), true)],
        "and whether the commit was recorded"
    );
}

/// P6: an abort names what the restored manifest names, so that a claimed file is never taken away.
#[test]
fn p6_an_abort_keeps_what_the_restored_manifest_names() {
    let mut world = World::running();
    world.read(5);
    world.advance(INTERVAL_MS);
    world.settle();
    world.read(5);
    world.fail();
    world.deliver(0, false);
    world.advance(INTERVAL_MS);
    let mut kept = None;
    while let Some(next) = world.to_executor.front() {
        if let ExecutorMessage::AbortLower { keep } = &next.message {
            kept = Some(keep.clone());
        }
        world.execute();
        world.deliver(0, false);
    }
    assert_eq!(kept.expect("an abort"), world.state.jobs[&JOB].claims[&Epoch(1)].handles);
}

/// P7: a stop that was applied first refuses the claim that was in flight, and nothing of it shows.
#[test]
fn p7_a_claim_in_flight_does_not_pass_a_close() {
    let mut world = World::running();
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    world.propose(Command::Close { job: JOB, outcome: Outcome::Stopped });
    world.deliver(0, false);
    world.settle();
    assert_eq!(world.visible.len(), 0);
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Stopped);
    assert_eq!(world.state.jobs[&JOB].claims.len(), 1);
}

/// P7: a stop waits for a last epoch only where there can be one; without an executor the job ends where it is, and a
/// resume reads on from there.
#[test]
fn p7_a_stop_of_a_job_that_nobody_runs_comes_about_at_once() {
    let mut world = World::running();
    world.prepare_epoch();
    world.settle();
    let claims = world.claims();
    assert!(claims > 0);
    world.read(5);
    world.step(Input::Executors { executors: vec![], attached: None });
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Restarting);
    world.stop();
    assert_eq!((world.claims(), &world.state.jobs[&JOB].status), (claims, &JobStatus::Stopped));
    // Also if the executors go while the last epoch is under way.
    let mut world = World::running();
    world.read(5);
    world.stop();
    world.step(Input::Executors { executors: vec![], attached: None });
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Stopped);
    assert_eq!(world.failures(), 1);
    // One that never ran, too.
    let mut world = World::new();
    world.lose_all_but_the_log();
    world.step(Input::Executors { executors: vec![], attached: None });
    world.stop();
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Stopped);
}

/// P7: the stop is in the log before its trigger, and after the savepoint nothing is triggered, by nobody.
#[test]
fn p7_a_savepoint_is_the_last_epoch_whoever_leads() {
    let mut world = World::running();
    world.read(5);
    world.stop();
    assert!(matches!(world.log.last(), Some(Command::StopWithSavepoint { .. })));
    assert_eq!(world.sent(), [("trigger", 1)], "at once, not when the interval is over");
    world.execute();
    world.deliver(0, false);
    assert_eq!(world.claims(), 1);
    world.lose_all_but_the_log();
    while !world.to_executor.is_empty() || !world.to_coordinator.is_empty() {
        assert!(!world.sent().iter().any(|(kind, _)| matches!(*kind, "trigger" | "start")), "{:?}", world.sent());
        world.execute();
        world.deliver(0, false);
        world.advance(INTERVAL_MS);
    }
    assert_eq!((world.claims(), &world.state.jobs[&JOB].status), (1, &JobStatus::Stopped));
    assert_eq!(world.visible.len(), 1, "and its commit is not given up");
}

/// P8: a commit of ninety seconds does not make the epoch behind it time out; one that is late of itself does.
#[test]
fn p8_an_epoch_is_not_timed_out_by_the_commit_before() {
    let mut world = World::running();
    world.prepare_epoch();
    let commit = world.to_executor.pop_front().expect("a permit");
    world.advance(INTERVAL_MS);
    assert_eq!(world.sent(), [("trigger", 2)]);
    let trigger = world.to_executor.pop_front().expect("a trigger");
    world.advance(90_000);
    assert_eq!(world.failures(), 0, "a commit is never timed out");
    world.to_executor.push_back(commit);
    world.settle();
    world.advance(TIMEOUT_MS - 1);
    assert_eq!(world.failures(), 0, "the time counts from the commit");
    world.advance(2);
    assert_eq!(world.failures(), 1, "and then it is over");
    assert_eq!(world.state.jobs[&JOB].last_failure.as_ref().map(|(e, _)| e.code()), Some(Code::EpochTimeout));
    // Its barrier arrives at last, in a generation that is no more.
    world.to_executor.push_back(trigger);
    world.settle();
    assert_eq!(world.claims(), 1);
}

/// P8: a subtask that has not sealed the epoch and is at work keeps it open; one that is at a later epoch, or of
/// another generation, does not.
#[test]
fn p8_an_epoch_is_not_given_up_while_rows_before_its_barrier_move() {
    let mut world = World::running();
    world.advance(INTERVAL_MS);
    assert_eq!(world.sent(), [("trigger", 1)]);
    let says = |world: &mut World, token, epoch| {
        let message = CoordinatorMessage::Progress { epoch: Epoch(epoch) };
        world.step(Input::FromExecutor(FromExecutor { start: START, token, message }));
    };
    for _ in 0..5 {
        world.advance(TIMEOUT_MS - 1);
        says(&mut world, token(1), 1);
    }
    assert_eq!(world.failures(), 0, "it is at work");
    world.advance(TIMEOUT_MS - 1);
    says(&mut world, token(1), 2);
    says(&mut world, token(0), 1);
    assert_eq!(world.failures(), 0, "not yet");
    world.advance(2);
    assert_eq!(world.failures(), 1, "those who have sealed it say nothing for it");
}

/// P8: a claimed epoch is never aborted: its replay goes on for as long as it takes, and says so.
#[test]
fn p8_a_replay_never_gives_up() {
    let mut world = World::running();
    world.prepare_epoch();
    world.lose_all_but_the_log();
    world.execute();
    world.deliver(0, false);
    assert_eq!(world.sent(), [("commit", 1)]);
    for _ in 0..20 {
        world.advance(TIMEOUT_MS);
    }
    assert_eq!((world.failures(), world.sent()), (0, vec![("commit", 1)]));
    world.settle();
    assert!(world.state.jobs[&JOB].claims[&Epoch(1)].committed);
}

/// P9: a job that was never claimed restores the start that was fixed at its submit, whatever is true now.
#[test]
fn p9_a_restart_before_the_first_claim_begins_at_the_recorded_start() {
    let mut world = World::running();
    world.read(5);
    world.fail();
    world.deliver(0, false);
    world.advance(INTERVAL_MS);
    let Some(ToExecutor { message: ExecutorMessage::Deploy(deployment), .. }) = world.to_executor.back() else {
        panic!("a deploy")
    };
    assert_eq!((deployment.restore.epoch, &deployment.restore.sources), (Epoch(0), &epoch_zero().sources));
    assert_eq!(world.state.jobs[&JOB].restore_point, Epoch(0));
}

/// P14: retiring begins when there are enough, and never names the last claim or the restore point.
#[test]
fn p14_a_driver_retires_only_what_is_superseded() {
    let mut world = World::running();
    for round in 0..30 {
        world.read(1);
        world.advance(INTERVAL_MS);
        world.settle();
        if round % 7 == 6 {
            world.fail();
            world.deliver(0, false);
            world.advance(INTERVAL_MS);
            world.settle();
        }
    }
    assert_eq!(world.failures(), 4);
    let mut state = qanat_coordinator_core::State::default();
    let mut retired = 0;
    for command in &world.log {
        if let Command::Retire { epochs, .. } = command {
            let job = &state.jobs[&JOB];
            let last = job.last_claim().map(|(epoch, _)| epoch);
            assert!(!epochs.contains(&last.expect("epoch 0 at least")));
            assert!(job.has_claimed || !epochs.contains(&job.restore_point));
            retired += epochs.len();
        }
        let applied = state.apply(command);
        assert!(!matches!(command, Command::Retire { .. }) || applied.is_ok(), "{command:?}: {applied:?}");
    }
    assert!(retired >= 8, "{retired}");
}

/// Losing the leader does not disturb a running job: the next one goes on with its generation, also with the epoch
/// that was under way.
#[test]
fn p4_another_leader_adopts_a_running_generation_with_its_open_epoch() {
    let mut world = World::running();
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    assert_eq!(world.to_coordinator.len(), 1, "the report of epoch 1");
    // It is lost with the leader.
    world.to_coordinator.clear();
    world.restart_coordinator();
    assert_eq!(world.sent(), [("deploy", 0)]);
    world.read(3);
    // No time goes by.
    world.settle();
    let job = &world.state.jobs[&JOB];
    assert_eq!((job.generation, job.next_epoch()), (Generation(1), Epoch(2)), "the same generation claimed it");
    assert_eq!(world.visible.values().flatten().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

/// P4: a leader tells a generation to stop, because it is to be replaced, and falls before that is decided. The next
/// one adopts the generation, and then the stop arrives.
#[test]
fn p4_a_stop_of_the_leader_before_is_noticed() {
    let mut world = World::running();
    world.restart_coordinator();
    world.settle();
    assert_eq!(world.state.jobs[&JOB].generation, Generation(1), "it is adopted");
    let stop = ToExecutor { start: START, token: token(1), message: ExecutorMessage::Stop };
    world.to_executor.push_back(stop);
    world.settle();
    assert_eq!(world.failures(), 1);
    world.advance(1_000);
    world.settle();
    assert_eq!(world.state.jobs[&JOB].generation, Generation(2));
    world.prepare_epoch();
    world.settle();
    assert_eq!(world.visible.len(), 1);
}

/// P1: another start of the process holds nothing of the generation, whatever its deployment says.
#[test]
fn p1_a_restarted_executor_gets_a_new_generation() {
    let mut world = World::running();
    world.prepare_epoch();
    world.restart_executor();
    assert_eq!(world.state.jobs[&JOB].last_failure.as_ref().map(|(error, _)| error.code()), Some(Code::ExecutorLost));
    world.advance(1);
    world.settle();
    assert_eq!(world.state.jobs[&JOB].generation, Generation(2));
    assert!(
        world.executor.as_ref().is_some_and(|executor| executor.started && executor.from == 0 || executor.from == 5)
    );
}

/// P11: rows of topics are appended by the owner of the log. If it is lost, the next one gets what is owed; the job
/// does not notice, and its epoch is complete only with both parts.
#[test]
fn p11_the_next_owner_of_the_log_gets_what_the_one_before_owed() {
    let mut world = World::of_topics();
    world.settle();
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    world.deliver(0, false);
    let owner = world.state.log_owner.expect("owned");
    assert_eq!(world.sent(), [("commit", 1), ("commit log", 1_000 + owner.token)]);
    world.execute();
    world.deliver(0, false);
    assert_eq!(world.count(|command| matches!(command, Command::Committed { .. })), 0, "one part is missing");
    // The owner is lost with what it was told.
    world.to_executor.clear();
    world.own_log();
    let owner = world.state.log_owner.expect("owned");
    assert_eq!(world.sent(), [("commit log", 1_000 + owner.token)]);
    world.settle();
    assert_eq!(world.count(|command| matches!(command, Command::Committed { .. })), 1);
    assert_eq!(world.state.jobs[&JOB].generation, Generation(1));
    assert_eq!(world.visible.values().flatten().count(), 5);
}

/// P11: a topic is owned beside the job that writes it, and taken over beside it when its owner is lost.
#[test]
fn p11_a_topic_is_owned_beside_its_writer_and_taken_over_when_the_owner_is_lost() {
    let mut world = World::of_topics();
    world.detail = serde_json::json!({ "topic": "t" });
    world.settle();
    let epoch = |world: &mut World| {
        world.read(5);
        world.advance(INTERVAL_MS);
        world.execute();
        world.deliver(0, false);
    };
    epoch(&mut world);
    let first = world.state.owner_of("t").expect("owned");
    assert_eq!(first.start, world.start, "it is decided before anybody is told");
    assert!(Some(first.token) > world.state.log_owner.map(|owner| owner.token));
    assert_eq!(world.sent(), [("commit", 1), ("commit log", 1_000 + first.token)]);
    world.settle();
    // Another job's executor takes it, and is lost with what it was told of the next epoch.
    let other = StartId(77);
    let _ = world.propose(Command::OwnTopics { start: other, topics: vec!["t".to_owned()] });
    let both = vec![connected(world.start), connected(other)];
    world.step(Input::Executors { executors: both.clone(), attached: None });
    epoch(&mut world);
    let second = world.state.owner_of("t").expect("owned");
    assert_eq!(world.to_executor.back().map(|message| message.start), Some(other));
    assert_eq!(world.sent(), [("commit", 2), ("commit log", 2_000 + second.token)]);
    // It connects again and hears it again; then it is gone.
    world.to_executor.pop_back();
    world.step(Input::Executors { executors: both, attached: Some(other) });
    assert_eq!(world.sent(), [("commit", 2), ("commit log", 2_000 + second.token)]);
    world.to_executor.pop_back();
    world.executors(None);
    let third = world.state.owner_of("t").expect("owned");
    assert!(third.start == world.start && third.token > second.token);
    assert_eq!(world.sent(), [("commit", 2), ("commit log", 2_000 + third.token)]);
    world.settle();
    assert_eq!(world.count(|command| matches!(command, Command::Committed { .. })), 2);
    assert_eq!(world.state.jobs[&JOB].generation, Generation(1), "the job does not notice");
    assert_eq!(world.visible.values().flatten().count(), 10);
}

/// P11: of the topics of one epoch each is committed by its own owner, and the epoch is complete with the last of them.
#[test]
fn p11_an_epoch_waits_for_the_owners_of_all_its_topics() {
    let mut world = World::of_topics();
    world.detail = serde_json::json!({ "topic": "t" });
    world.settle();
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    world.deliver(0, false);
    let permit = match &world.to_executor.back().expect("told").message {
        ExecutorMessage::CommitLog { permit, .. } => permit.clone(),
        other => panic!("{other:?}"),
    };
    world.execute();
    world.to_executor.clear();
    let done = |topic: &str| CoordinatorMessage::LogCommitted {
        topic: topic.to_owned(),
        epoch: permit.epoch,
        manifest_key: permit.manifest_key.clone(),
    };
    world.report(permit.token, done("another"));
    for _ in 0..2 {
        world.deliver(0, false);
    }
    let committed = |world: &World| world.count(|command| matches!(command, Command::Committed { .. }));
    assert_eq!(committed(&world), 0, "that is none of its topics");
    world.publish(&permit);
    world.report(permit.token, done("t"));
    world.deliver(0, false);
    assert_eq!(committed(&world), 1);
}

/// A rescale begins where an epoch ends: its commit is recorded first, and nothing is read twice.
#[test]
fn a_rescaled_job_goes_on_behind_its_last_epoch() {
    let mut world = World::of_topics();
    world.settle();
    world.read(5);
    let decided = world.propose(Command::Rescale { job: JOB, parallelism: 2 });
    world.step(decided);
    // The barrier comes at once.
    world.settle();
    let job = &world.state.jobs[&JOB];
    assert_eq!((job.generation, job.parallelism, job.restore_point), (Generation(2), 2, Epoch(1)));
    assert!(job.claims[&Epoch(1)].committed);
    assert_eq!(job.last_failure, None, "a move is no failure");
    assert!(world.executor.as_ref().is_some_and(|executor| executor.started && executor.from == 5));
    assert_eq!(world.visible.values().flatten().count(), 5);
}

/// A rescale that was decided comes about, also if the leader dies right behind it or the job is just recovering.
#[test]
fn a_rescale_outlives_its_leader_and_a_recovery() {
    let is_rescaled = |mut world: World| {
        world.settle();
        world.advance(INTERVAL_MS);
        world.settle();
        let job = &world.state.jobs[&JOB];
        assert_eq!((job.parallelism, job.last_claim().map(|(_, claim)| claim.committed)), (2, Some(true)));
    };
    let mut world = World::of_topics();
    world.settle();
    world.read(5);
    let _ = world.propose(Command::Rescale { job: JOB, parallelism: 2 });
    world.driver = JobDriver::new(JOB, 2, JobSettings::default());
    world.reattach();
    is_rescaled(world);

    let mut world = World::of_topics();
    world.settle();
    world.restart_executor();
    world.advance(60_000);
    assert!(world.sent().iter().any(|(kind, _)| *kind == "deploy"), "{:?}", world.sent());
    let decided = world.propose(Command::Rescale { job: JOB, parallelism: 2 });
    world.step(decided);
    is_rescaled(world);
}

/// A driver that can do nothing sleeps until something comes: without an executor that takes work, and while the last
/// commit of a job takes longer than an epoch would.
#[test]
fn a_driver_with_nothing_to_do_sleeps() {
    let mut world = World::running();
    world.step(Input::Executors { executors: Vec::new(), attached: None });
    world.advance(qanat_proto::limits::RESTART_BACKOFF_MS.1);
    assert_eq!(world.driver.wake_at(), None);
    let draining = Executor { draining: true, ..connected(START) };
    world.step(Input::Executors { executors: vec![draining], attached: None });
    assert_eq!(world.driver.wake_at(), None);
    world.restart_executor();
    world.settle();
    assert!(world.executor.as_ref().is_some_and(|executor| executor.started), "whoever comes is used at once");

    let mut world = World::running();
    world.read(5);
    world.stop();
    world.execute();
    world.deliver(0, false);
    assert_eq!(world.sent(), [("commit", 1)], "the last epoch is claimed, and its commit is under way");
    world.advance(2 * INTERVAL_MS);
    world.settle();
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Stopped);
}
