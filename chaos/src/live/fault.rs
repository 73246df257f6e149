//! What happens to a cluster: drawn from a seed.

use std::time::Duration;

use serde::Serialize;

use super::moment::Random;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
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
    /// Nothing passes on the exchange towards one executor.
    CutLink,
    /// SIGTERM of any process, and a start: what an operator does.
    Restart,
}

impl FaultKind {
    pub const ALL: [Self; 7] = [
        Self::KillExecutor,
        Self::KillLeader,
        Self::KillFollower,
        Self::PauseExecutor,
        Self::PauseLeader,
        Self::CutLink,
        Self::Restart,
    ];
}

/// One planned fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// Which of those that it may happen to.
    pub which: u64,
    /// Before it.
    #[serde(skip)]
    pub delay: Duration,
    /// How long it lasts: a process is away, paused or cut off for so long.
    #[serde(skip)]
    pub lasts: Duration,
}

impl Fault {
    /// The next one. Each kind comes once before any comes again, so that a short campaign has all of them.
    pub fn draw(random: &mut Random, number: u64, kinds: &[FaultKind]) -> Self {
        let count = kinds.len() as u64;
        let kind = if number < count { number } else { random.below(count) };
        let kind = kinds[usize::try_from(kind).unwrap_or(0)];
        let lasts = match kind {
            FaultKind::PauseExecutor => Duration::from_millis(1_100) + random.micros_below(900_000),
            FaultKind::PauseLeader => Duration::from_millis(700) + random.micros_below(900_000),
            FaultKind::CutLink => Duration::from_millis(300) + random.micros_below(1_500_000),
            _ => random.micros_below(600_000),
        };
        Self { kind, which: random.draw(), delay: random.micros_below(700_000), lasts }
    }
}
