//! Looks for a planted bug.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use qanat_proto::zoo::{Bug, plant};

use super::kind::Kind;
use super::walk::Violation;

/// One bug is planted for as long as this lives. One at a time: it is planted in the whole process.
pub struct Finder {
    model: Kind,
}

/// How it was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub seed: u64,
    /// Walks until then, this one included.
    pub seeds: u64,
    pub violation: Violation,
}

impl Finder {
    pub fn new(bug: Bug) -> Self {
        plant(bug);
        Self { model: Kind::of(bug) }
    }

    /// The lowest of these seeds whose walk breaks an invariant, on all processors.
    pub fn find(&self, seeds: RangeInclusive<u64>) -> Option<Found> {
        let first = *seeds.start();
        let (next, best) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
        let found: Mutex<Option<Found>> = Mutex::default();
        let look = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                // Those below the best are looked at to their end, so that the answer depends on nothing but the seeds.
                if seed > *seeds.end() || seed > best.load(Ordering::Acquire) {
                    return;
                }
                if let Err(violation) = self.model.walk(seed) {
                    let mut found = found.lock().expect("no panic");
                    if best.fetch_min(seed, Ordering::AcqRel) > seed {
                        *found = Some(Found { seed, seeds: seed - first + 1, violation });
                    }
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(look)));
        found.into_inner().expect("no panic")
    }

    /// The fewest steps of a seed that break an invariant.
    pub fn explain(&self, seed: u64) -> Option<String> {
        self.model.explain(seed)
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        plant(Bug::None);
    }
}
