//! Schedules of `docs/protocol.md` about what is owed and by whom: one author of an effect, and jobs that end.

use std::collections::VecDeque;

use qanat_coordinator_core::command::{Command, Outcome, Refusal, RunWith};
use qanat_coordinator_core::job::{Input, JobDriver, Output};
use qanat_coordinator_core::state::{JobStatus, State};
use qanat_proto::control::{CoordinatorMessage, ExecutorMessage, FromExecutor, ToExecutor};
use qanat_proto::ids::{Epoch, Generation, StartId, SubtaskId};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::receipt::RowSum;
use qanat_proto::settings::JobSettings;

use crate::schedules::{INTERVAL_MS, token};
use crate::world::{JOB, SINK, TOTAL, World, connected, epoch_zero};

/// A job of two executors whose epoch 1 is claimed and not committed, and another leader.
fn claimed_by_two(placement: &[StartId]) -> State {
    let mut state = State::default();
    let run_with =
        RunWith { parallelism: 2, settings: JobSettings::default(), together: false, trace: None, topics: None };
    let handle = |index| PreparedHandle {
        subtask: SubtaskId { operator: SINK, index },
        channel: SinkChannel::Table,
        name: format!("h{index}"),
        sum: RowSum::default(),
        detail: serde_json::Value::Null,
    };
    let commands = [
        Command::CreateJob {
            job: JOB,
            name: "job".into(),
            script_digest: String::new(),
            manifest_key: "m0".into(),
            checksum: String::new(),
            run_with: Some(Box::new(run_with)),
        },
        Command::OpenGeneration {
            job: JOB,
            expected: Generation(0),
            placement: placement.to_vec(),
            parallelism: 2,
            settings: JobSettings::default(),
        },
        Command::Claim {
            token: token(1),
            epoch: Epoch(1),
            manifest_key: "m1".into(),
            checksum: String::new(),
            handles: vec![handle(0), handle(1)],
            is_final: false,
            receipt: Box::default(),
        },
    ];
    commands.iter().for_each(|command| drop(state.apply(command).expect("applied")));
    state
}

/// P3: of all executors of a job one publishes and one clears away, so that a commit record has one writer.
#[test]
fn p3_one_executor_publishes_for_all() {
    let placement = [StartId(1), StartId(2)];
    let mut state = claimed_by_two(&placement);
    let mut driver = JobDriver::new(JOB, 2, JobSettings::default());
    let executors = placement.iter().copied().map(connected).collect();
    let mut inputs = VecDeque::from([Input::Executors { executors, attached: None }]);
    let mut sent: Vec<ToExecutor> = Vec::new();
    while let Some(input) = inputs.pop_front() {
        for output in driver.step(&state, 0, 0, input) {
            match output {
                Output::ReadManifest { .. } => {
                    let restored = qanat_proto::manifest::Manifest { epoch: Epoch(1), ..epoch_zero() };
                    inputs.push_back(Input::ManifestRead(Box::new(restored)));
                }
                Output::Propose(command) => {
                    let applied = state.apply(&command);
                    inputs.push_back(Input::Applied(command, applied));
                }
                Output::Send(message) => {
                    let answer = match &message.message {
                        ExecutorMessage::Deploy(_) => Some(CoordinatorMessage::Deployed),
                        ExecutorMessage::Commit(permit) => Some(CoordinatorMessage::Committed {
                            epoch: permit.epoch,
                            manifest_key: permit.manifest_key.clone(),
                        }),
                        _ => None,
                    };
                    let (start, token) = (message.start, message.token);
                    let answer = answer.map(|message| Input::FromExecutor(FromExecutor { start, token, message }));
                    inputs.extend(answer);
                    sent.push(message);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let to = |is_it: fn(&ExecutorMessage) -> bool| sent.iter().filter(|message| is_it(&message.message)).count();
    assert_eq!(to(|message| matches!(message, ExecutorMessage::Deploy(_))), 2);
    assert_eq!(to(|message| matches!(message, ExecutorMessage::Commit(_))), 1);
    assert_eq!(to(|message| matches!(message, ExecutorMessage::AbortLower { .. })), 1);
    let permit = sent.iter().find_map(|message| match &message.message {
        ExecutorMessage::Commit(permit) => Some(permit),
        _ => None,
    });
    assert_eq!(permit.map(|permit| permit.handles.len()), Some(2), "the handles of both");
    assert!(state.jobs[&JOB].claims[&Epoch(1)].committed);
}

/// P7: a job that owes a commit is not dropped, however it is to end.
#[test]
fn p7_a_job_is_not_dropped_before_its_commit() {
    let mut world = World::running();
    world.prepare_epoch();
    assert_eq!(world.claims(), 1);
    let drop_it = |world: &mut World| {
        let Input::Applied(_, result) = world.propose(Command::DropJob { job: JOB }) else { panic!("an answer") };
        result.map(drop)
    };
    let closed = world.propose(Command::Close { job: JOB, outcome: Outcome::Stopped });
    assert_eq!(drop_it(&mut world), Err(Refusal::WrongStatus), "its rows would never appear");
    world.step(closed);
    world.advance(60_000);
    world.settle();
    assert_eq!((&world.state.jobs[&JOB].status, world.visible.len()), (&JobStatus::Stopped, 1));
    assert_eq!(drop_it(&mut world), Ok(()));
}

/// P7: a leader that did not hear of the end of a job has nothing left to do, and does not look at it for ever.
#[test]
fn p7_whoever_did_not_hear_of_an_end_ends_as_well() {
    let mut world = World::running();
    let closed = world.propose(Command::Close { job: JOB, outcome: Outcome::Stopped });
    assert!(matches!(closed, Input::Applied(_, Ok(_))) && world.state.jobs[&JOB].status == JobStatus::Stopped);
    world.restart_coordinator();
    world.advance(60_000);
    assert!(world.driver.is_ended() && world.driver.wake_at().is_none());
}

/// P13: what was read to its end does not end again: after the final claim a generation runs nothing, so that no
/// window and no `COUNT(*)` fires a second time.
#[test]
fn p13_the_end_of_the_input_does_not_come_again() {
    let mut world = World::running();
    world.read(TOTAL);
    world.advance(INTERVAL_MS);
    world.execute();
    world.deliver(0, false);
    assert!(world.state.jobs[&JOB].claims[&Epoch(1)].is_final);
    world.lose_all_but_the_log();
    let mut deployed = 0;
    while !world.to_executor.is_empty() || !world.to_coordinator.is_empty() {
        for message in &world.to_executor {
            match &message.message {
                ExecutorMessage::Deploy(deployment) => {
                    assert!(deployment.replay_only, "nothing but the commit is done again");
                    deployed += 1;
                }
                ExecutorMessage::Start | ExecutorMessage::Trigger { .. } => panic!("{message:?}"),
                _ => {}
            }
        }
        world.execute();
        world.deliver(0, false);
        world.advance(INTERVAL_MS);
    }
    assert!(deployed > 0);
    assert_eq!((&world.state.jobs[&JOB].status, world.claims()), (&JobStatus::Finished, 1));
    assert_eq!(world.visible.values().flatten().copied().collect::<Vec<_>>(), (0..TOTAL).collect::<Vec<_>>());
}

/// P8: a source whose epoch is as large as it should be asks for the next barrier, which comes at once, however long
/// the interval is.
#[test]
fn p8_a_source_that_asks_for_a_barrier_gets_it() {
    let mut world = World::running();
    world.read(5);
    let asks = |world: &mut World| {
        let (start, message) = (world.start, CoordinatorMessage::WantsBarrier);
        world.step(Input::FromExecutor(FromExecutor { start, token: token(1), message }));
    };
    assert_eq!(world.sent(), []);
    asks(&mut world);
    assert_eq!(world.sent(), [("trigger", 1)]);
    // While that one is under way: the next follows it.
    asks(&mut world);
    assert_eq!(world.sent(), [("trigger", 1)], "one at a time");
    world.execute();
    world.deliver(0, false);
    assert_eq!(world.sent(), [("commit", 1), ("trigger", 2)]);
    world.settle();
    assert_eq!(world.visible.len(), 1);
}

/// Which executors take no new work is decided, and so every leader knows it; of those that are gone nothing stays.
#[test]
fn a_drained_executor_is_known_to_every_leader() {
    let mut state = State::default();
    let mut drain = |start: u64, undo: bool, known: &[u64]| {
        let known = known.iter().map(|start| StartId(*start)).collect();
        let command = Command::Drain { start: StartId(start), undo, known, usable: None, object: String::new() };
        state.apply(&command).expect("applied");
        state.draining.iter().map(|start| start.0).collect::<Vec<_>>()
    };
    assert_eq!(drain(1, false, &[1, 2, 3]), [1]);
    assert_eq!(drain(1, false, &[1, 2, 3]), [1], "a repeat");
    assert_eq!(drain(2, false, &[1, 2, 3]), [1, 2]);
    assert_eq!(drain(1, true, &[1, 2, 3]), [2]);
    assert_eq!(drain(4, false, &[3, 4]), [4], "2 is gone");
}

/// An executor that comes while a generation starts is not forgotten: the first epoch ends at once, and the next
/// generation runs on both.
#[test]
fn an_executor_that_comes_while_a_job_starts_is_used() {
    let mut world = World::of_two_slots();
    let first = world.start;
    assert_eq!(world.state.jobs[&JOB].placement, [first]);
    assert!(!world.executor.as_ref().is_some_and(|executor| executor.started), "it is only deployed");
    let second = StartId(77);
    world.step(Input::Executors { executors: vec![connected(first), connected(second)], attached: Some(second) });
    // The first one answers, what is sent to the other is lost.
    for _ in 0..20 {
        world.execute();
        world.deliver(0, false);
    }
    assert_eq!(world.state.jobs[&JOB].placement.len(), 2);
    assert_eq!(world.state.jobs[&JOB].last_failure, None, "a move is no failure");
}
