//! Random walks: the driver, a faulty store of commands and an executor whose every message may be
//! late, lost with its generation, or repeated. After each step nothing unclaimed is visible; at the end
//! every record is visible exactly once.

use proptest::prelude::*;
use qanat_coordinator_core::state::JobStatus;

use crate::world::{JOB, TOTAL, World};

#[derive(Clone, Debug)]
enum Action {
    Execute,
    Deliver {
        which: usize,
        repeat: bool,
    },
    Read(u64),
    Time(u64),
    FailExecutor,
    /// Another leader: it adopts what runs.
    RestartCoordinator,
    /// The executor's connection breaks with what is on it, and it comes back.
    Reattach,
    /// The executor's process dies and starts again.
    RestartExecutor,
    /// The epochs after one of those that may be restored are taken back.
    RollBack(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => Just(Action::Execute),
        8 => (0..8_usize, prop::bool::weighted(0.2)).prop_map(|(which, repeat)| Action::Deliver { which, repeat }),
        4 => (1..6_u64).prop_map(Action::Read),
        4 => (1..2_000_u64).prop_map(Action::Time),
        1 => Just(Action::FailExecutor),
        1 => Just(Action::RestartCoordinator),
        1 => Just(Action::Reattach),
        1 => Just(Action::RestartExecutor),
        1 => (0..8_usize).prop_map(Action::RollBack),
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
                Action::Reattach => world.reattach(),
                Action::RestartExecutor => world.restart_executor(),
                Action::RollBack(which) => {
                    let epochs: Vec<_> = world.state.jobs[&JOB].claims.keys().copied().collect();
                    world.roll_back(epochs[which % epochs.len()]);
                }
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
