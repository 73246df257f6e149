//! P10: the schedules of a rollback.

use qanat_coordinator_core::Refusal;
use qanat_coordinator_core::command::{Command, Outcome};
use qanat_coordinator_core::job::{Input, Output};
use qanat_coordinator_core::retention::{TopicCut, TopicStart};
use qanat_coordinator_core::state::JobStatus;
use qanat_proto::control::{ExecutorMessage, ToExecutor};
use qanat_proto::ids::Epoch;

use crate::schedules::{INTERVAL_MS, token};
use crate::world::{JOB, TOTAL, World};

impl World {
    /// Epochs of five records each.
    fn read_epochs(&mut self, count: usize) {
        for _ in 0..count {
            self.read(5);
            self.epochs(1);
        }
    }

    fn next_epoch(&self) -> u64 {
        self.state.jobs[&JOB].next_epoch().0
    }

    fn visible_rows(&self) -> Vec<u64> {
        let mut rows: Vec<u64> = self.visible.values().flatten().copied().collect();
        rows.sort_unstable();
        rows
    }

    /// Until the job has read everything.
    fn finish(&mut self) {
        for _ in 0..100 {
            if self.state.jobs[&JOB].status == JobStatus::Finished {
                break;
            }
            self.read(7);
            self.epochs(1);
        }
        assert_eq!(self.state.jobs[&JOB].status, JobStatus::Finished);
        assert_eq!(self.visible_rows(), (0..TOTAL).collect::<Vec<_>>());
    }

    /// Delivers until a message of this kind is the next for the executor.
    fn until(&mut self, wanted: &str) {
        for _ in 0..100 {
            if self.sent().first().is_some_and(|(kind, _)| *kind == wanted) {
                return;
            }
            if self.to_executor.is_empty() { self.deliver(0, false) } else { self.execute() }
        }
        panic!("no {wanted}");
    }
}

#[test]
fn p10_what_was_withdrawn_is_computed_again_under_higher_numbers() {
    let mut world = World::running();
    world.read_epochs(4);
    assert!(world.roll_back(Epoch(2)));
    assert_eq!(world.next_epoch(), 5, "numbers keep rising");
    world.settle();
    assert_eq!(world.visible_rows(), (0..10).collect::<Vec<_>>());
    world.read_epochs(1);
    let claims: Vec<u64> = world.state.jobs[&JOB].claims.keys().map(|epoch| epoch.0).collect();
    assert_eq!(claims[claims.len() - 2..], [2, 5]);
    // Withdrawn for ever.
    assert!(!world.roll_back(Epoch(3)));
    // And back once more, past the first rollback.
    assert!(world.roll_back(Epoch(1)));
    world.settle();
    assert_eq!(world.visible_rows(), (0..5).collect::<Vec<_>>());
    world.restart_coordinator();
    world.finish();
}

/// A generation has taken back what one rollback listed, and a second rollback is decided before that is.
#[test]
fn p10_what_a_generation_has_taken_back_says_nothing_of_a_later_rollback() {
    let mut world = World::running();
    world.read_epochs(3);
    assert!(world.roll_back(Epoch(2)));
    world.until("withdraw");
    let Some(ToExecutor { token, .. }) = world.to_executor.front().cloned() else { panic!("it is told to") };
    let rollback = Command::Rollback {
        job: JOB,
        to: Epoch(1),
        expected: Epoch(2),
        objects: world.to_withdraw(Epoch(1)),
        starts: Vec::new(),
        request: String::new(),
    };
    let rolled_back = world.propose(rollback);
    assert!(matches!(world.propose(Command::Withdrawn { token }), Input::Applied(_, Err(Refusal::OldGeneration))));
    world.step(rolled_back);
    world.settle();
    assert_eq!(world.visible_rows(), (0..5).collect::<Vec<_>>());
    world.finish();
}

/// A leader does not hear of a rollback that is decided: its majority did not answer for a while. What its generation has
/// done since is refused, and nothing waits for it.
#[test]
fn p10_a_generation_whose_leader_did_not_hear_of_a_rollback_is_replaced() {
    for epoch in [1, 2] {
        let mut world = World::running();
        world.read_epochs(3);
        assert!(world.roll_back(Epoch(2)));
        world.until("withdraw");
        let Some(ToExecutor { token, .. }) = world.to_executor.front().cloned() else { panic!("it is told to") };
        let _ = world.propose(Command::Rollback {
            job: JOB,
            to: Epoch(epoch),
            expected: Epoch(2),
            objects: world.to_withdraw(Epoch(epoch)),
            starts: Vec::new(),
            request: String::new(),
        });
        let refused = world.propose(Command::Withdrawn { token });
        assert!(matches!(refused, Input::Applied(_, Err(Refusal::OldGeneration))));
        world.step(refused);
        world.settle();
        world.advance(60_000);
        world.settle();
        assert_eq!(world.visible_rows(), (0..5 * epoch).collect::<Vec<_>>());
        world.finish();
    }
}

/// The store answers late: a generation that is restored after a rollback takes no manifest that the one before asked
/// for.
#[test]
fn p10_a_manifest_that_was_asked_for_before_a_rollback_is_not_restored() {
    let mut world = World::running();
    world.read_epochs(2);
    let late = world.manifests.values().find(|manifest| manifest.epoch == Epoch(2)).cloned().expect("written");
    let rollback = world.rollback(Epoch(1)).expect("something is claimed");
    let mut input = world.propose(rollback);
    let asked_for = loop {
        let mut outputs = world.outputs_of(input).into_iter();
        match outputs.next_back() {
            Some(Output::Propose(command)) => input = world.propose(command),
            Some(Output::ReadManifest { key, .. }) => break world.manifests[&key].clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked_for.epoch, Epoch(1));
    let outputs = world.outputs_of(Input::ManifestRead(Box::new(late)));
    assert!(outputs.is_empty(), "it was read for the generation before");
    world.step(Input::ManifestRead(Box::new(asked_for)));
    world.settle();
    assert_eq!(world.visible_rows(), (0..5).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn p10_a_claim_that_is_under_way_is_refused() {
    let mut world = World::running();
    world.read_epochs(2);
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    assert!(!world.to_coordinator.is_empty(), "its report is under way");
    assert!(world.roll_back(Epoch(1)));
    // Also a claim that an older leader sent.
    let receipt = Box::default();
    let claim = Command::Claim {
        token: token(1),
        epoch: Epoch(3),
        manifest_key: "m".into(),
        checksum: String::new(),
        handles: Vec::new(),
        is_final: false,
        receipt,
    };
    assert!(matches!(world.propose(claim), Input::Applied(_, Err(_))));
    let committed = Command::Committed {
        token: token(1),
        epoch: Epoch(2),
        manifest_key: world.manifests.keys().nth(2).cloned().expect("written"),
        handle_names: Vec::new(),
    };
    assert!(matches!(world.propose(committed), Input::Applied(_, Err(_))));
    world.settle();
    assert_eq!(world.visible_rows(), (0..5).collect::<Vec<_>>());
    world.finish();
}

/// The withdrawal dies half-way: the next generation does not restore what is being withdrawn, and finishes it first.
#[test]
fn p10_each_generation_finishes_the_list_before_anything_else() {
    let mut world = World::running();
    world.read_epochs(3);
    assert!(world.roll_back(Epoch(1)));
    for _ in 0..3 {
        world.until("withdraw");
        assert!(!world.state.jobs[&JOB].withdrawing.is_empty());
        let claim = world.state.jobs[&JOB].last_claim().map(|(epoch, _)| epoch);
        assert_eq!(claim, Some(Epoch(1)));
        world.restart_executor();
        world.advance(60_000);
    }
    // Done, and the answer is lost.
    world.until("withdraw");
    world.execute();
    world.to_coordinator.clear();
    world.restart_executor();
    world.advance(60_000);
    world.until("withdraw");
    assert!(!world.sent().iter().any(|(kind, _)| *kind == "start" || *kind == "trigger"));
    world.settle();
    assert!(world.state.jobs[&JOB].withdrawing.is_empty());
    world.finish();
}

#[test]
fn p10_another_leader_finishes_it() {
    let mut world = World::running();
    world.read_epochs(3);
    assert!(world.roll_back(Epoch(1)));
    world.until("withdraw");
    let ExecutorMessage::Withdraw(list) = world.to_executor[0].message.clone() else { panic!("a list") };
    world.to_executor.clear();
    world.restart_coordinator();
    world.until("withdraw");
    let ExecutorMessage::Withdraw(again) = world.to_executor[0].message.clone() else { panic!("a list") };
    assert_eq!(list, again, "the list was fixed when it was decided");
    world.settle();
    world.finish();
}

#[test]
fn p10_a_commit_that_is_not_recorded_is_withdrawn_too() {
    let mut world = World::running();
    world.read_epochs(2);
    world.read(5);
    world.advance(INTERVAL_MS);
    world.execute();
    world.deliver(0, false);
    assert_eq!(world.sent().last(), Some(&("commit", 3)));
    assert!(world.roll_back(Epoch(1)));
    // The permit reaches the old generation all the same, which makes its rows visible.
    world.execute();
    assert_eq!(world.visible_rows().len(), 15);
    world.settle();
    assert_eq!(world.visible_rows(), (0..5).collect::<Vec<_>>());
    world.finish();
}

/// A leader does not hear of a rollback that is decided, as one whose majority did not answer for a while. The commit that
/// it waits for is refused, and its generation is replaced.
#[test]
fn p10_a_commit_that_a_rollback_overtook_unheard_is_not_waited_for() {
    let mut world = World::running();
    world.read_epochs(2);
    world.read(5);
    world.advance(INTERVAL_MS);
    world.until("commit");
    let rollback = world.rollback(Epoch(1)).expect("something is claimed");
    assert!(matches!(world.propose(rollback), Input::Applied(_, Ok(_))));
    world.settle();
    world.advance(60_000);
    world.settle();
    assert_eq!(world.visible_rows(), (0..5).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn p10_an_ended_job_goes_on_from_where_it_was_rolled_back_to() {
    let mut world = World::running();
    world.read_epochs(2);
    world.finish();
    assert!(world.roll_back(Epoch(1)));
    world.finish();
}

#[test]
fn p10_a_stop_waits_for_what_is_to_be_withdrawn() {
    let mut world = World::running();
    world.read_epochs(3);
    assert!(world.roll_back(Epoch(2)));
    let closed = world.propose(Command::Close { job: JOB, outcome: Outcome::Stopped });
    world.step(closed);
    assert!(!world.state.jobs[&JOB].status.is_ended());
    assert!(!world.roll_back(Epoch(1)), "it is closing");
    world.advance(60_000);
    world.settle();
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Stopped);
    assert_eq!(world.visible_rows(), (0..10).collect::<Vec<_>>());
}

#[test]
fn p10_a_repeated_request_takes_nothing_back() {
    let mut world = World::running();
    world.read_epochs(3);
    let objects = Vec::new();
    let to_last = Command::Rollback {
        job: JOB,
        to: Epoch(3),
        expected: Epoch(3),
        objects,
        starts: Vec::new(),
        request: "r".into(),
    };
    let applied = world.propose(to_last.clone());
    world.step(applied);
    world.settle();
    world.read_epochs(2);
    // Its answer was lost, and it comes again.
    let again = world.propose(to_last);
    assert!(matches!(again, Input::Applied(_, Ok(_))));
    assert!(world.state.jobs[&JOB].generation_open);
    world.finish();
}

#[test]
fn p10_the_list_must_be_as_of_the_last_claim() {
    let mut world = World::running();
    world.read_epochs(3);
    let stale = Command::Rollback {
        job: JOB,
        to: Epoch(1),
        expected: Epoch(2),
        objects: Vec::new(),
        starts: Vec::new(),
        request: String::new(),
    };
    assert!(matches!(world.propose(stale), Input::Applied(_, Err(Refusal::NotNext { next: Epoch(4) }))));
    let unknown = Command::Rollback {
        job: JOB,
        to: Epoch(7),
        expected: Epoch(3),
        objects: Vec::new(),
        starts: Vec::new(),
        request: String::new(),
    };
    assert!(matches!(world.propose(unknown), Input::Applied(_, Err(Refusal::NotRestorable { .. }))));
    // To the last claim: nothing is withdrawn, and the job starts again from there.
    assert!(world.roll_back(Epoch(3)));
    assert!(world.state.jobs[&JOB].withdrawn.is_empty());
    world.settle();
    world.finish();
}

/// An ended job keeps no rows of its sources for the epochs that have no name.
#[test]
fn p10_a_job_does_not_go_back_to_where_its_rows_are_gone() {
    let mut world = World::running();
    world.read_epochs(3);
    let cut = TopicCut { id: 7, offsets: [(0, 20)].into() };
    let as_of = world.state.applied;
    world.propose(Command::CutTopic { topic: "t".into(), cut, as_of });
    let Some(Command::Rollback { job, to, expected, objects, .. }) = world.rollback(Epoch(1)) else {
        panic!("planned")
    };
    let reads_from = |offset: u64, id: u64| Command::Rollback {
        job,
        to,
        expected,
        objects: objects.clone(),
        starts: vec![TopicStart { topic: "t".into(), id: Some(id), partition: 0, offset }],
        request: String::new(),
    };
    let refused = Input::Applied(reads_from(19, 7), Err(Refusal::RowsGo { topic: "t".into() }));
    assert_eq!(format!("{:?}", world.propose(reads_from(19, 7))), format!("{refused:?}"));
    assert!(world.state.jobs[&JOB].withdrawn.is_empty());
    assert!(matches!(world.propose(reads_from(20, 7)), Input::Applied(_, Ok(_))));
}
