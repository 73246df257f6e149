//! Which executors a generation runs on.

use std::cmp::Reverse;

use qanat_proto::ids::{JobId, StartId};

use crate::state::{Job, State};

/// An executor as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executor {
    pub start: StartId,
    /// Name of its node: the same after every start.
    pub node: String,
    /// Where other executors reach it.
    pub address: String,
    /// Subtasks of each operator that it is meant to hold, of all jobs together: its share of the work.
    pub slots: u32,
    /// Connected now. One that is not may still come back within its lease.
    pub attached: bool,
    /// Takes no new work: it is about to be stopped.
    pub draining: bool,
}

impl Executor {
    /// Whether a new generation may run on it now.
    pub fn is_usable(&self) -> bool {
        self.attached && !self.draining
    }
}

/// The executors for a new generation of `job`: as few as have room for it, those with the most room first, so
/// that a job crosses no more links and shares the fate of no more machines than it must. When all are full, work
/// is shared by slots: a slot is a measure and not a wall, so that what is left of a cluster carries all of it.
/// Empty if nothing can run now. Deterministic: ties go by node name.
///
/// `together`: all of the job must run in one process. `apart`: pairs of which at most one may run it; of the sides
/// of such a cut the one with the most room is taken.
pub fn place(
    state: &State,
    executors: &[Executor],
    job: JobId,
    parallelism: u32,
    together: bool,
    apart: &[(StartId, StartId)],
) -> Vec<StartId> {
    let used = |start: StartId| -> u32 {
        let here = state.jobs.iter().filter(|(id, other)| **id != job && other.has_part_on(start));
        here.map(|(_, other)| other.share()).sum()
    };
    let usable = executors.iter().filter(|executor| executor.is_usable());
    let mut usable: Vec<(u32, &Executor)> = usable.map(|e| (e.slots.saturating_sub(used(e.start)), e)).collect();
    usable.sort_by_key(|(free, executor)| (Reverse(*free), &executor.node, executor.start));
    let beginning_with = |first: &(u32, &Executor)| {
        let mut placement = vec![first.1.start];
        let mut room = first.0;
        for (free, executor) in usable.iter().filter(|other| other.1.start != first.1.start) {
            if room >= parallelism || together || placement.len() >= parallelism as usize {
                break;
            }
            let is_cut = |other: &StartId| {
                let start = executor.start;
                apart.contains(&(start, *other)) || apart.contains(&(*other, start))
            };
            if !placement.iter().any(is_cut) {
                room += free;
                placement.push(executor.start);
            }
        }
        (room.min(parallelism), placement)
    };
    let firsts = usable.iter().take(if apart.is_empty() { 1 } else { usable.len() });
    // Of equal ones the first: `max_by_key` takes the last.
    let best = firsts.map(beginning_with).rev().max_by_key(|(room, placement)| (*room, Reverse(placement.len())));
    best.map(|(_, placement)| placement).unwrap_or_default()
}

/// The jobs that find less room on other executors than they have on `start`, in the order they were made: all of them
/// can move, and share slots then.
pub fn squeezed(state: &State, executors: &[Executor], start: StartId) -> Vec<String> {
    let others = || executors.iter().filter(|executor| executor.is_usable() && executor.start != start);
    let shares = |start: StartId| state.jobs.values().filter(move |job| job.has_part_on(start)).map(Job::share);
    let mut free: u32 = others().map(|e| e.slots.saturating_sub(shares(e.start).sum())).sum();
    let mut squeezed = Vec::new();
    for job in state.moving_from(start) {
        if job.share() > free {
            squeezed.push(job.name.clone());
        }
        free = free.saturating_sub(job.share());
    }
    squeezed
}

/// The executor that is to append to topics next, if the one that does so is lost or draining, or nobody does: the
/// attached one with the most slots.
pub fn next_log_owner(state: &State, executors: &[Executor]) -> Option<StartId> {
    let owner = state.log_owner.and_then(|owner| executors.iter().find(|executor| executor.start == owner.start));
    let others = executors.iter().filter(|executor| executor.is_usable());
    let best = others.min_by_key(|executor| (Reverse(executor.slots), &executor.node));
    match owner {
        Some(owner) if !owner.draining => None,
        _ => best.map(|executor| executor.start),
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::ids::Generation;
    use qanat_proto::settings::JobSettings;

    use super::*;
    use crate::command::Command;
    use crate::state::LogOwner;

    fn executor(start: u64, slots: u32) -> Executor {
        let (start, node) = (StartId(start), format!("node-{start}"));
        Executor { start, node, address: String::new(), slots, attached: true, draining: false }
    }

    #[test]
    fn a_job_takes_no_more_executors_than_it_needs() {
        let executors = [executor(1, 2), executor(2, 4), executor(3, 2)];
        let place = |parallelism, together| place(&State::default(), &executors, JobId(1), parallelism, together, &[]);
        assert_eq!(place(1, false), [StartId(2)]);
        assert_eq!(place(4, false), [StartId(2)]);
        assert_eq!(place(5, false), [StartId(2), StartId(1)]);
        assert_eq!(place(100, false), [StartId(2), StartId(1), StartId(3)]);
        assert_eq!(place(100, true), [StartId(2)]);
    }

    #[test]
    fn a_cut_leaves_the_larger_side() {
        let executors = [executor(1, 2), executor(2, 2), executor(3, 2)];
        let place = |apart: &[(u64, u64)]| {
            let apart: Vec<_> = apart.iter().map(|(a, b)| (StartId(*a), StartId(*b))).collect();
            place(&State::default(), &executors, JobId(1), 6, false, &apart)
        };
        assert_eq!(place(&[(1, 2)]), [StartId(1), StartId(3)]);
        assert_eq!(place(&[(1, 2), (1, 3)]), [StartId(2), StartId(3)]);
        assert_eq!(place(&[(1, 2), (3, 1), (3, 2)]), [StartId(1)]);
    }

    #[test]
    fn who_is_away_or_draining_gets_no_work() {
        let mut executors = [executor(1, 2), executor(2, 2)];
        executors[0].attached = false;
        assert_eq!(place(&State::default(), &executors, JobId(1), 8, false, &[]), [StartId(2)]);
        executors[1].draining = true;
        assert!(place(&State::default(), &executors, JobId(1), 8, false, &[]).is_empty());
    }

    #[test]
    fn jobs_that_find_less_room_elsewhere_are_told() {
        let mut state = State::default();
        let mut executors = vec![executor(1, 4), executor(2, 4), executor(3, 2)];
        let mut job = |id: u128, name: &str, parallelism: u32, placement: &[u64]| {
            let create = Command::CreateJob {
                job: JobId(id),
                name: name.to_owned(),
                script_digest: String::new(),
                manifest_key: String::new(),
                checksum: String::new(),
                run_with: None,
            };
            let placement = placement.iter().copied().map(StartId).collect();
            let (job, expected, settings) = (JobId(id), Generation(0), JobSettings::default());
            let open = Command::OpenGeneration { job, expected, placement, parallelism, settings };
            [create, open].iter().for_each(|command| drop(state.apply(command).expect("applied")));
        };
        job(5, "wide", 4, &[1, 2]);
        job(4, "small", 1, &[1]);
        job(3, "late", 2, &[1]);
        // Free are 2 slots of the second and 2 of the third.
        assert_eq!(squeezed(&state, &executors, StartId(1)), ["late"]);
        assert!(squeezed(&state, &executors, StartId(2)).is_empty());
        executors[2].draining = true;
        assert_eq!(squeezed(&state, &executors, StartId(1)), ["small", "late"]);
    }

    #[test]
    fn the_log_has_an_owner_for_as_long_as_there_is_an_executor() {
        let mut state = State::default();
        let mut executors = vec![executor(1, 2), executor(2, 4)];
        assert_eq!(next_log_owner(&state, &executors), Some(StartId(2)));
        state.log_owner = Some(LogOwner { start: StartId(2), token: 2 });
        assert_eq!(next_log_owner(&state, &executors), None);
        // Within its lease it may come back.
        executors[1].attached = false;
        assert_eq!(next_log_owner(&state, &executors), None);
        executors.pop();
        assert_eq!(next_log_owner(&state, &executors), Some(StartId(1)));
        assert_eq!(next_log_owner(&state, &[]), None);
    }
}
