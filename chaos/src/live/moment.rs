//! When to kill: drawn from a seed, spread over what a process does in its life.

use std::time::Duration;

use serde::Serialize;

/// SplitMix64: small, seeded, good enough to pick moments.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub fn micros_below(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound))
    }
}

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
    pub fn draw(random: &mut Random, sees_files: bool) -> Self {
        let (phase, bound_us) = match random.below(100) {
            0..20 => (Phase::StartUp, 80_000),
            20..60 => (Phase::Running, 600_000),
            60..80 => (Phase::Claiming, 4_000),
            _ if sees_files => (Phase::Committing, 1_000),
            _ => (Phase::Claiming, 20_000),
        };
        Self { phase, delay: random.micros_below(bound_us) }
    }

    pub fn at_the_end(random: &mut Random) -> Self {
        Self { phase: Phase::Final, delay: random.micros_below(250_000) }
    }
}
