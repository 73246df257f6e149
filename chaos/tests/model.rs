//! Level M in CI: walks of every model, and that they see enough to be worth something.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use qanat_chaos::model::Kind;

type Seen = BTreeMap<&'static str, u64>;

fn failure(model: Kind, seed: u64) -> String {
    format!("{model:?} {seed}:\n{}", model.explain(seed).unwrap_or_default())
}

/// Walks these seeds on all processors; what they have seen together.
fn walk(model: Kind, seeds: std::ops::RangeInclusive<u64>) -> Seen {
    let (next, seen) = (AtomicU64::new(*seeds.start()), Mutex::new(Seen::new()));
    let look = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > *seeds.end() {
                return;
            }
            let figures = model.walk(seed).unwrap_or_else(|_| panic!("{}", failure(model, seed)));
            let mut seen = seen.lock().expect("no panic");
            figures.into_iter().for_each(|(name, count)| *seen.entry(name).or_default() += count);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(look)));
    seen.into_inner().expect("no panic")
}

#[test]
fn no_order_of_events_breaks_an_epoch() {
    let seen = walk(Kind::Epochs, 1..=14_000);
    for (what, least) in [
        ("generations", 100_000),
        ("claims", 40_000),
        ("rollbacks", 10_000),
        ("retired", 800),
        ("cuts", 10_000),
        ("fenced", 1_000),
    ] {
        assert!(seen[what] >= least, "{what}: {seen:?}");
    }
}

#[test]
fn no_owner_and_no_power_failure_loses_a_row_of_the_log() {
    let seen = walk(Kind::Log, 1..=3_000);
    assert!(seen["epochs"] >= 14_000 && seen["owners"] >= 20_000, "{seen:?}");
}

#[test]
fn no_restart_fires_a_window_twice_or_makes_rows_late() {
    let seen = walk(Kind::Time, 1..=3_000);
    assert!(seen["windows"] >= 30_000 && seen["epochs"] >= 9_000, "{seen:?}");
}

#[test]
fn seeds_that_failed_once_hold() {
    let mut walked = 0;
    for line in include_str!("../seeds/model.txt").lines().filter(|line| !line.starts_with('#')) {
        let (model, seed) = line.split_once(' ').expect("a model and a seed");
        let model = <Kind as clap::ValueEnum>::from_str(model, true).expect("a model");
        let seed = seed.parse().expect("a number");
        assert!(model.walk(seed).is_ok(), "{}", failure(model, seed));
        walked += 1;
    }
    assert!(walked >= 7, "{walked}");
}

/// The same seed takes the same steps: a failure that is told can be played again.
#[test]
fn a_seed_is_a_walk() {
    for model in Kind::ALL {
        for seed in 1..20 {
            assert_eq!(model.walk(seed), model.walk(seed), "{model:?} {seed}");
        }
    }
}
