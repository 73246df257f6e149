//! Taking times in turn, so that a machine that slows down slows both sides.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use qanat_proto::{Error, Result};
use qanat_storage::crash_safe;
use qanat_storage::env::{Clock, Env};
use serde_json::{Value, json};

/// Two contestants, measured round by round.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Medians.
    pub ours: Duration,
    pub limit: Duration,
    /// Our speed as a part of the limit's in each round: first quartile, median, third quartile.
    pub ratios: [f64; 3],
}

impl Pair {
    /// Of the times of each round, ours first.
    pub fn of(rounds: &[(Duration, Duration)]) -> Self {
        let mut ratios: Vec<f64> =
            rounds.iter().map(|(ours, limit)| limit.as_secs_f64() / ours.as_secs_f64()).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| ratios.get(ratios.len() * quarter / 4).copied().unwrap_or(f64::NAN);
        Self {
            ours: median(rounds.iter().map(|(ours, _)| *ours)),
            limit: median(rounds.iter().map(|(_, limit)| *limit)),
            ratios: [at(1), at(2), at(3)],
        }
    }

    /// Our speed as a part of the limit's: the median of the rounds.
    pub fn ratio(&self) -> f64 {
        self.ratios[1]
    }

    /// Both speeds over `amount` of something, their ratio and the ratio's quartiles.
    pub fn report(&self, unit: &str, amount: f64) -> Value {
        json!({
            "unit": unit,
            "ours": amount / self.ours.as_secs_f64(),
            "limit": amount / self.limit.as_secs_f64(),
            "ratio": self.ratio(),
            "quartiles": [self.ratios[0], self.ratios[2]],
        })
    }
}

/// How long `work` takes.
pub fn time<T>(clock: &dyn Clock, work: impl FnOnce() -> T) -> (Duration, T) {
    let start = clock.monotonic();
    let done = work();
    (clock.monotonic().saturating_sub(start), done)
}

/// Runs both in turn for `rounds` counted rounds, after one that is not counted. Who goes first changes.
pub fn pair(clock: &dyn Clock, rounds: usize, mut ours: impl FnMut(), mut limit: impl FnMut()) -> Pair {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let (a, b) = if round % 2 == 0 {
            let a = time(clock, &mut ours).0;
            (a, time(clock, &mut limit).0)
        } else {
            let b = time(clock, &mut limit).0;
            (time(clock, &mut ours).0, b)
        };
        if round > 0 {
            times.push((a, b));
        }
    }
    Pair::of(&times)
}

/// The one in the middle.
pub fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The time below which this part of `times` lies, which are sorted with it.
pub fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * part) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// What a process has used of the processors so far, its own code and the system's for it. In ticks of 10 ms.
///
/// # Errors
/// If there is no such process, or no `/proc`.
pub fn processor_time(process: u32) -> Result<Duration> {
    ticks(&process.to_string(), 11)
}

/// As [`processor_time`], of all processes that this one has started and waited for.
///
/// # Errors
/// If there is no `/proc`.
pub fn ended_processor_time() -> Result<Duration> {
    ticks("self", 13)
}

/// The sum of two fields, counted from the one behind the name.
fn ticks(process: &str, first: usize) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("look at a process", &e))?;
    // The name, which stands in brackets, may hold anything.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(first).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// A folder for files, and a part of the names of the cases to run: the arguments of a benchmark.
pub fn arguments() -> (PathBuf, String) {
    let mut arguments = std::env::args().skip(1);
    (arguments.next().unwrap_or_else(|| "target".to_owned()).into(), arguments.next().unwrap_or_default())
}

/// What a benchmark's `main` ends with.
pub fn print<E: Display>(report: Result<Value, E>) -> ExitCode {
    // Nobody reads a closed stream.
    match report {
        Ok(report) => {
            let _ = writeln!(std::io::stdout(), "{report:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A folder for the files of one benchmark, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder inside `parent`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(env: &Env, parent: &Path) -> Result<Self> {
        let path = parent.join(format!("qanat-benchmark-{:016x}", env.entropy.u64()));
        crash_safe::create_folder(env.disk.as_ref(), &path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left-over files cost only space.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_processor_time() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut times, 0.5), Duration::from_millis(51));
        assert_eq!(quantile(&mut times, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
        let before = processor_time(std::process::id()).expect("runs");
        let clock = Env::real().clock;
        let begun = clock.monotonic();
        let mut sum = 0_u64;
        while processor_time(std::process::id()).expect("runs") == before {
            assert!(clock.monotonic().saturating_sub(begun) < Duration::from_secs(60), "work is not counted");
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn a_ratio_is_of_rounds_not_of_medians() {
        let ms = Duration::from_millis;
        let rounds = [(ms(10), ms(20)), (ms(100), ms(100)), (ms(20), ms(10)), (ms(1000), ms(1500))];
        let pair = Pair::of(&rounds);
        assert_eq!(pair.ratios, [1.0, 1.5, 2.0]);
        assert_eq!((pair.ours, pair.limit), (ms(100), ms(100)));
    }
}
