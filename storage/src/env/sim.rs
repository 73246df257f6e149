//! The environment of tests and of the simulator: a disk that lies, a clock moved by hand, seeded entropy.
//!
//! ```
//! # use std::path::Path;
//! # use qanat_storage::env::{Env, OpenMode, sim::CrashPlan};
//! let sim = Env::sim(7);
//! let file = sim.env.disk.open(Path::new("a"), OpenMode::CreateNew)?;
//! file.write_all_at(b"lost", 0)?;
//! sim.disk.crash(&CrashPlan::Nothing);
//! assert!(!sim.env.disk.exists(Path::new("a"))?);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Everything is a pure function of the seed and of the calls made: no thread, no real time, no file.

mod contents;
mod disk;
mod interrupt;
mod random;
#[cfg(test)]
mod tests;
mod trace;
mod volume;

pub use disk::SimDisk;
pub use interrupt::Interrupt;
pub use random::Random;
pub use trace::{ALONE_MAX, CrashState, CrashStates, Operation, TORN_MAX, Trace};
pub use volume::CrashPlan;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Clock, Entropy, Env};

/// Where every simulated wall clock starts: 2024-01-01T00:00:00Z.
pub const START_MS: i64 = 1_704_067_200_000;

/// Size in bytes of what a disk writes wholly or not at all.
pub const SECTOR: usize = 512;

/// A simulated environment and the handles that steer its three parts.
#[derive(Clone)]
pub struct SimEnv {
    /// What the code under test is given.
    pub env: Env,
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub entropy: Arc<SimEntropy>,
}

impl Env {
    /// A simulated environment, wholly determined by `seed`.
    pub fn sim(seed: u64) -> SimEnv {
        let clock = Arc::new(SimClock::default());
        let entropy = Arc::new(SimEntropy::new(seed));
        let disk = SimDisk::with_clock(seed, clock.clone());
        let env = Env { disk: Arc::new(disk.clone()), clock: clock.clone(), entropy: entropy.clone() };
        SimEnv { env, disk, clock, entropy }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct SimClock {
    wall_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl Default for SimClock {
    fn default() -> Self {
        Self { wall_ms: AtomicI64::new(START_MS), monotonic_ns: AtomicU64::new(0) }
    }
}

impl SimClock {
    /// Moves both clocks on by `by` (the wall clock in whole milliseconds).
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let before = self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        let ms = before.saturating_add(ns) / 1_000_000 - before / 1_000_000;
        self.wall_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall clock alone, also backwards: what a bad time server does.
    pub fn jump_wall(&self, now_ms: i64) {
        self.wall_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }
}

/// Seeded entropy: the same seed and the same calls give the same bytes.
#[derive(Debug)]
pub struct SimEntropy(Mutex<Random>);

impl SimEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Random::new(seed)))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}
