//! The clocks of one simulated machine.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use qanat_storage::env::Clock;
use qanat_storage::env::sim::START_MS;

/// Time since the simulation began, for all machines.
#[derive(Clone, Default)]
pub(super) struct Time(Arc<AtomicU64>);

impl Time {
    pub(super) fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A wall clock that may be wrong, and a monotonic one that is right.
#[derive(Clone, Default)]
pub(super) struct HostClock {
    time: Time,
    wrong_by_ms: Arc<AtomicI64>,
}

impl HostClock {
    pub(super) fn new(time: Time) -> Rc<Self> {
        Rc::new(Self { time, wrong_by_ms: Arc::default() })
    }

    pub(super) fn jump(&self, by_ms: i64) {
        self.wrong_by_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for HostClock {
    fn now_ms(&self) -> i64 {
        START_MS + self.time.ms().cast_signed() + self.wrong_by_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.time.ms())
    }
}
