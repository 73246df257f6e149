//! When to kill: drawn from a seed, spread over what a process does in its life.

use std::time::Duration;

use qanat_storage::env::sim::Random;
use serde::Serialize;

/// What the process is doing when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opening its folders, restoring, replaying a commit.
    StartUp,
    /// Anywhere in the middle.
    Running,
    /// A manifest has just appeared: the claim is next.
    Claiming,
    /// A file shows that no record names yet.
    Committing,
    /// The last rows are read, or all of them.
    Final,
}

/// One planned kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub phase: Phase,
    /// Since the start of the process, or since what the phase waits for.
    pub delay: Duration,
}

impl Moment {
    /// Draws one; `Final` ones are asked for by [`Moment::at_the_end`].
    pub fn draw(random: &Random, sees_files: bool) -> Self {
        let (phase, bound_us) = match random.below(100) {
            0..20 => (Phase::StartUp, 80_000),
            20..60 => (Phase::Running, 600_000),
            60..80 => (Phase::Claiming, 4_000),
            _ if sees_files => (Phase::Committing, 1_000),
            _ => (Phase::Claiming, 20_000),
        };
        Self { phase, delay: Duration::from_micros(random.below(bound_us)) }
    }

    pub fn at_the_end(random: &Random) -> Self {
        Self { phase: Phase::Final, delay: Duration::from_micros(random.below(250_000)) }
    }
}
