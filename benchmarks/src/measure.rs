//! Taking times in turn, so that a machine that slows down slows both sides.

use std::time::Duration;

use qanat_storage::env::Clock;

/// Medians of two contestants, run A B A B … after one round that is not counted.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub ours: Duration,
    pub limit: Duration,
}

impl Pair {
    /// Our speed as a part of the limit's.
    pub fn ratio(&self) -> f64 {
        self.limit.as_secs_f64() / self.ours.as_secs_f64()
    }
}

/// Runs both in turn for `rounds` counted rounds.
pub fn pair(clock: &dyn Clock, rounds: usize, mut ours: impl FnMut(), mut limit: impl FnMut()) -> Pair {
    let time = |work: &mut dyn FnMut()| {
        let start = clock.monotonic();
        work();
        clock.monotonic().saturating_sub(start)
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (first, second) = (time(&mut ours), time(&mut limit));
        if round > 0 {
            a.push(first);
            b.push(second);
        }
    }
    Pair { ours: median(a), limit: median(b) }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
