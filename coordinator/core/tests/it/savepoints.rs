//! Epochs with a name, and jobs that are dropped.

use qanat_coordinator_core::Refusal;
use qanat_coordinator_core::command::{Command, Outcome};
use qanat_coordinator_core::job::Input;
use qanat_coordinator_core::state::JobStatus;
use qanat_proto::ids::Epoch;

use crate::schedules::INTERVAL_MS;
use crate::world::{JOB, World};

fn savepoint(name: &str, request: &str) -> Command {
    Command::Savepoint { job: JOB, name: name.to_owned(), request: request.to_owned() }
}

impl World {
    fn ask(&mut self, command: Command) -> Result<(), Refusal> {
        let applied = self.propose(command);
        let Input::Applied(_, result) = &applied else { panic!("an answer") };
        let result = result.clone().map(drop);
        self.step(applied);
        result
    }

    fn savepoint(&self, name: &str) -> Option<Epoch> {
        self.state.jobs[&JOB].savepoints.get(name).map(|savepoint| savepoint.epoch)
    }

    pub(crate) fn epochs(&mut self, count: usize) {
        for _ in 0..count {
            self.advance(INTERVAL_MS);
            self.settle();
        }
    }
}

#[test]
fn the_next_claim_gets_the_name_and_is_kept() {
    let mut world = World::running();
    world.epochs(2);
    assert_eq!(world.ask(savepoint("before", "r1")), Ok(()));
    assert_eq!(world.savepoint("before"), None);
    // It does not wait for the interval.
    world.advance(1);
    world.settle();
    assert_eq!(world.savepoint("before"), Some(Epoch(3)));
    // A repeat of the request changes nothing; another one under the name is refused.
    assert_eq!(world.ask(savepoint("before", "r1")), Ok(()));
    assert_eq!(world.ask(savepoint("before", "r2")), Err(Refusal::SavepointExists { epoch: Some(Epoch(3)) }));
    world.epochs(40);
    let kept: Vec<u64> = world.state.jobs[&JOB].claims.keys().map(|epoch| epoch.0).collect();
    assert_eq!(kept[0], 3, "{kept:?}");
    assert!(kept[1] > 20, "the others were retired: {kept:?}");
    let refused = world.ask(Command::Retire { job: JOB, epochs: vec![Epoch(3)] });
    assert_eq!(refused, Err(Refusal::StillNeeded { epoch: Epoch(3) }));
    // Without its name it goes like any other.
    assert_eq!(world.ask(Command::DropSavepoint { job: JOB, name: "before".to_owned() }), Ok(()));
    assert_eq!(
        world.ask(Command::DropSavepoint { job: JOB, name: "before".to_owned() }),
        Err(Refusal::UnknownSavepoint)
    );
    world.epochs(10);
    assert!(!world.state.jobs[&JOB].claims.contains_key(&Epoch(3)));
}

#[test]
fn the_last_claim_of_an_ended_job_gets_the_name_at_once() {
    let mut world = World::running();
    world.epochs(2);
    assert_eq!(world.ask(Command::Close { job: JOB, outcome: Outcome::Stopped }), Ok(()));
    world.settle();
    assert_eq!(world.state.jobs[&JOB].status, JobStatus::Stopped);
    assert_eq!(world.ask(savepoint("end", "r")), Ok(()));
    assert_eq!(world.savepoint("end"), Some(Epoch(2)));
}

#[test]
fn a_name_that_waits_when_the_job_ends_goes_to_its_last_claim() {
    let mut world = World::running();
    world.epochs(2);
    assert_eq!(world.ask(savepoint("end", "r")), Ok(()));
    assert_eq!(world.ask(Command::Close { job: JOB, outcome: Outcome::Stopped }), Ok(()));
    world.settle();
    assert_eq!(world.savepoint("end"), Some(Epoch(2)));
}

#[test]
fn a_dropped_job_goes_with_its_checkpoints() {
    let mut world = World::running();
    world.epochs(2);
    let drop = || Command::DropJob { job: JOB };
    assert_eq!(world.ask(drop()), Err(Refusal::WrongStatus), "it runs");
    assert_eq!(world.ask(Command::Close { job: JOB, outcome: Outcome::Stopped }), Ok(()));
    world.settle();
    let claims: Vec<Epoch> = world.state.jobs[&JOB].claims.keys().copied().collect();
    assert_eq!(world.ask(drop()), Ok(()));
    assert_eq!(world.ask(Command::Resume { job: JOB }), Err(Refusal::UnknownJob));
    assert_eq!(world.ask(savepoint("late", "r")), Err(Refusal::UnknownJob));
    // What may be collected stays known until it is.
    assert_eq!(world.state.jobs[&JOB].retired.keys().copied().collect::<Vec<_>>(), claims);
    assert_eq!(world.ask(Command::Collected { job: JOB, epochs: claims }), Ok(()));
    assert!(!world.state.jobs.contains_key(&JOB));
}
