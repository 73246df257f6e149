//! What happens to a cluster: drawn from a seed.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use qanat_storage::env::sim::Random;

/// One kind of fault, or of what an operator does in the middle of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// SIGKILL of an executor, and a start on the same node.
    KillExecutor,
    /// SIGKILL of the coordinator that leads, and a start on its old disk.
    KillLeader,
    KillFollower,
    /// SIGSTOP of an executor for longer than its lease, then SIGCONT: a zombie wakes.
    PauseExecutor,
    /// SIGSTOP of the leader for longer than an election.
    PauseLeader,
    /// SIGTERM of any process, and a start: what an operator does.
    Restart,
    /// Nothing passes between one executor and the other executors.
    CutLink,
    /// Nothing passes between the leader, or an executor, and anybody else.
    IsolateLeader,
    IsolateExecutor,
    /// A node hears and is not heard, or the other way round.
    OneWay,
    /// Two coordinators do not reach each other, and both reach the third.
    Bridge,
    /// An executor does not reach the leader, and both reach everybody else.
    Partial,
    /// What a node sends is slow, or some of it is lost.
    SlowLink,
    LossyLink,
    /// All connections of a node break in the middle of whatever they carry, a few times.
    ResetLink,
    /// The wall clock of a running process jumps by up to two hours.
    ClockJump,
    /// A process has no room to write.
    FullDisk,
    /// A few syncs of a process fail, or take long.
    FailSync,
    SlowSync,
    /// An executor gets no more memory, and dies of it.
    MemoryLimit,
    /// A node loses its disk; a coordinator is readmitted under a new number.
    WipeExecutor,
    WipeCoordinator,
    /// A bit of a coordinator's journal flips while it is down, or while it runs.
    FlipStopped,
    FlipRunning,
    /// Every process is restarted in turn, executors drained before, the leader last.
    Roll,
    /// The job gets another parallelism, a savepoint, is stopped and resumed.
    Rescale,
    Savepoint,
    StopResume,
    /// An executor is drained and takes work again.
    Drain,
    /// Another, small job is submitted, twice by one request id.
    Submit,
}

impl FaultKind {
    pub const ALL: [Self; 30] = [
        Self::KillExecutor,
        Self::KillLeader,
        Self::KillFollower,
        Self::PauseExecutor,
        Self::PauseLeader,
        Self::Restart,
        Self::CutLink,
        Self::IsolateLeader,
        Self::IsolateExecutor,
        Self::OneWay,
        Self::Bridge,
        Self::Partial,
        Self::SlowLink,
        Self::LossyLink,
        Self::ResetLink,
        Self::ClockJump,
        Self::FullDisk,
        Self::FailSync,
        Self::SlowSync,
        Self::MemoryLimit,
        Self::WipeExecutor,
        Self::WipeCoordinator,
        Self::FlipStopped,
        Self::FlipRunning,
        Self::Roll,
        Self::Rescale,
        Self::Savepoint,
        Self::StopResume,
        Self::Drain,
        Self::Submit,
    ];

    /// As it is written on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How long it lasts: at least, and at most more, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::PauseExecutor => (1_100, 900),
            Self::PauseLeader => (700, 900),
            Self::CutLink => (300, 1_500),
            Self::IsolateLeader | Self::IsolateExecutor | Self::OneWay | Self::Bridge | Self::Partial => (500, 2_500),
            Self::SlowLink | Self::LossyLink => (800, 1_500),
            Self::ResetLink | Self::FullDisk | Self::SlowSync => (400, 1_200),
            _ => (0, 600),
        }
    }
}

/// One planned fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Which of those that it may happen to, and how.
    pub which: u64,
    /// Before it.
    pub delay: Duration,
    /// How long it lasts: a process is away, paused or cut off for so long.
    pub lasts: Duration,
    /// Not before the job has made progress; the others come while the one before is still felt.
    pub is_alone: bool,
}

/// Which kinds come, in which order.
#[derive(Clone, Debug)]
pub struct Plan {
    random: Random,
    kinds: Vec<FaultKind>,
    /// Come before any comes again.
    first: VecDeque<FaultKind>,
    missed: usize,
}

/// So often, for each kind, a fault that did not come about is tried again first.
const MISSED_MAX: usize = 3;

impl Plan {
    pub fn new(seed: u64, kinds: &[FaultKind]) -> Self {
        let random = Random::new(seed);
        let mut first: Vec<FaultKind> = kinds.to_vec();
        for place in (1..first.len()).rev() {
            first.swap(place, random.index(place + 1));
        }
        Self { random, kinds: kinds.to_vec(), first: first.into(), missed: 0 }
    }

    /// The next one. Each kind comes once before any comes again, so that a short campaign has all of them.
    pub fn draw(&mut self) -> Fault {
        let random = &self.random;
        let any = random.index(self.kinds.len());
        let kind = self.first.pop_front().unwrap_or(self.kinds[any]);
        let (least, more) = kind.lasts_ms();
        let lasts = Duration::from_millis(least) + Duration::from_micros(random.below(more * 1_000));
        let delay = Duration::from_micros(random.below(700_000));
        Fault { kind, which: random.draw(), delay, lasts, is_alone: random.below(4) > 0 }
    }

    /// It did not come about: it comes again soon.
    pub fn again(&mut self, kind: FaultKind) {
        if self.missed < MISSED_MAX * self.kinds.len() {
            self.missed += 1;
            self.first.push_back(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let mut plan = Plan::new(7, &FaultKind::ALL);
        let drawn: Vec<FaultKind> = (0..FaultKind::ALL.len()).map(|_| plan.draw().kind).collect();
        assert_eq!(drawn.iter().copied().collect::<BTreeSet<_>>().len(), FaultKind::ALL.len());
        assert_ne!(drawn, FaultKind::ALL, "in another order");
        let mut same = Plan::new(7, &FaultKind::ALL);
        assert_eq!((0..drawn.len()).map(|_| same.draw().kind).collect::<Vec<_>>(), drawn);
        plan.again(FaultKind::Roll);
        assert_eq!(plan.draw().kind, FaultKind::Roll);
    }
}
