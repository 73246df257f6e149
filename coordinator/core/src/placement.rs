//! Which executors a generation runs on.

use std::cmp::Reverse;

use qanat_proto::ids::{JobId, StartId};

use crate::state::State;

/// An executor as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executor {
    pub start: StartId,
    /// Name of its node: the same after every start.
    pub node: String,
    /// Subtasks of each operator that it is meant to hold, of all jobs together: its share of the work.
    pub slots: u32,
    /// Connected now. One that is not may still come back within its lease.
    pub attached: bool,
    /// Takes no new work: it is about to be stopped.
    pub draining: bool,
}

/// The executors for a new generation of `job`: as few as have room for it, those with the most room first, so
/// that a job crosses no more links and shares the fate of no more machines than it must. When all are full, work
/// is shared by slots: a slot is a measure and not a wall, so that what is left of a cluster carries all of it.
/// Empty if nothing can run now. Deterministic: ties go by node name.
pub fn place(state: &State, executors: &[Executor], job: JobId, parallelism: u32) -> Vec<StartId> {
    let used = |start: StartId| -> u32 {
        let others = state.jobs.iter().filter(|(id, other)| **id != job && !other.status.is_ended());
        let here = others.filter(|(_, other)| other.placement.contains(&start));
        here.map(|(_, other)| other.parallelism.div_ceil(u32::try_from(other.placement.len()).unwrap_or(1).max(1)))
            .sum()
    };
    let usable = executors.iter().filter(|executor| executor.attached && !executor.draining);
    let mut usable: Vec<(u32, &Executor)> = usable.map(|e| (e.slots.saturating_sub(used(e.start)), e)).collect();
    usable.sort_by_key(|(free, executor)| (Reverse(*free), &executor.node, executor.start));
    let mut placement = Vec::new();
    let mut room = 0;
    for (free, executor) in usable {
        if room >= parallelism && !placement.is_empty() {
            break;
        }
        room += free;
        placement.push(executor.start);
    }
    placement
}
