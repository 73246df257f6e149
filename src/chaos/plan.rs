//! Which fault comes when: drawn from a seed, so that a run can be tried again. How a cluster answers is not drawn: two
//! runs of one seed have the same faults in the same order, for as long as the same ones are possible.

use std::time::Duration;

use qanat_proto::limits::{EXECUTOR_LEASE_MS, RAFT_ELECTION_MS};
use qanat_storage::env::sim::Random;

use crate::chaos::kind::Kind;

/// Before a fault: somewhere in an epoch, not always at its beginning.
const DELAY_MAX_MS: u64 = 700;
/// How long what was killed is away, beyond its lease or not.
const AWAY_MAX_MS: u64 = 1_500;
/// How much longer than its lease, or an election, a process is paused.
const BEYOND_MS: (u64, u64) = (200, 1_500);

/// One fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// Which of those that it may happen to.
    pub(super) which: u64,
    pub(super) delay: Duration,
    /// How long a process is away or paused.
    pub(super) lasts: Duration,
}

/// The faults of a run, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    random: Random,
    kinds: Vec<Kind>,
    /// What is left of this round: each kind comes once before any comes again.
    round: Vec<Kind>,
}

impl Plan {
    pub(super) fn new(seed: u64, kinds: &[Kind]) -> Self {
        let mut kinds = kinds.to_vec();
        kinds.sort();
        kinds.dedup();
        Self { random: Random::new(seed), kinds, round: Vec::new() }
    }

    pub(super) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// One that this cluster cannot have comes no more.
    pub(super) fn leave_out(&mut self, kind: Kind) {
        self.kinds.retain(|known| *known != kind);
        self.round.retain(|known| *known != kind);
    }

    /// The next one; None if none is possible.
    pub(super) fn next(&mut self) -> Option<Fault> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
        }
        if self.round.is_empty() {
            return None;
        }
        let kind = self.round.remove(self.random.index(self.round.len()));
        let beyond = BEYOND_MS.0 + self.random.below(BEYOND_MS.1 - BEYOND_MS.0);
        let lasts = match kind {
            Kind::PauseExecutor => EXECUTOR_LEASE_MS + beyond,
            Kind::PauseLeader => RAFT_ELECTION_MS.1 + beyond,
            Kind::KillExecutor | Kind::KillLeader | Kind::KillFollower | Kind::Drain => self.random.below(AWAY_MAX_MS),
            Kind::Restart | Kind::Rescale | Kind::Savepoint => 0,
        };
        let (which, delay) = (self.random.draw(), self.random.below(DELAY_MAX_MS));
        Some(Fault { kind, which, delay: Duration::from_millis(delay), lasts: Duration::from_millis(lasts) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drawn(seed: u64, count: usize) -> Vec<Fault> {
        let mut plan = Plan::new(seed, &Kind::ALL);
        (0..count).map_while(|_| plan.next()).collect()
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(drawn(7, 100), drawn(7, 100));
        assert_ne!(drawn(7, 100), drawn(8, 100));
    }

    #[test]
    fn each_kind_comes_once_in_a_round() {
        for round in drawn(1, 4 * Kind::ALL.len()).chunks(Kind::ALL.len()) {
            let kinds: BTreeSet<Kind> = round.iter().map(|fault| fault.kind).collect();
            assert_eq!(kinds.len(), Kind::ALL.len());
        }
    }

    #[test]
    fn what_is_impossible_comes_no_more() {
        let mut plan = Plan::new(3, &[Kind::Drain, Kind::Rescale, Kind::Drain]);
        plan.leave_out(Kind::Drain);
        assert!((0..10).all(|_| plan.next().is_some_and(|fault| fault.kind == Kind::Rescale)));
        plan.leave_out(Kind::Rescale);
        assert_eq!(plan.next(), None);
    }

    #[test]
    fn a_pause_outlasts_what_waits_for_it() {
        for fault in drawn(5, 500) {
            let ms = u64::try_from(fault.lasts.as_millis()).expect("short");
            match fault.kind {
                Kind::PauseExecutor => assert!(ms > EXECUTOR_LEASE_MS),
                Kind::PauseLeader => assert!(ms > RAFT_ELECTION_MS.1),
                _ => assert!(ms < AWAY_MAX_MS),
            }
        }
    }
}
