//! What executors say of their jobs on heartbeats, and the rates that follow. For people: nothing is decided by it.

use std::collections::VecDeque;
use std::time::Duration;

use qanat_proto::ids::Token;
use qanat_proto::limits;
use qanat_proto::rpc::cluster::JobFigures;

/// Rates are over so much of the past.
const WINDOW: Duration = Duration::from_secs(3);
/// An executor says more often than it should how its jobs fare: no more than this is kept.
const HELD_MAX: usize = 32;

/// What one executor said in the last few seconds.
#[derive(Debug, Default)]
pub struct Figures(VecDeque<(Duration, Vec<JobFigures>)>);

/// How a job fares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobRates {
    pub rows_per_second: f64,
    pub bytes_per_second: f64,
    pub sink_rows_per_second: f64,
    pub memory_bytes: u64,
    /// The lowest of its sources; ms since 1970 UTC.
    pub watermark_ms: Option<i64>,
    /// Of its busiest and of its most backpressured subtask, from 0 to 1.
    pub busy_ratio: f64,
    pub backpressured_ratio: f64,
    /// The operator of the busiest subtask.
    pub busiest: String,
}

impl Figures {
    /// `now` is monotonic.
    pub fn add(&mut self, now: Duration, mut jobs: Vec<JobFigures>) {
        jobs.truncate(limits::HEARTBEAT_JOBS_MAX);
        jobs.iter_mut().filter(|job| job.busiest.len() > limits::HEARTBEAT_NAME_BYTES_MAX).for_each(|job| {
            job.busiest.clear();
        });
        while self.0.len() >= HELD_MAX || self.0.front().is_some_and(|(at, _)| *at + WINDOW < now) {
            self.0.pop_front();
        }
        self.0.push_back((now, jobs));
    }

    /// How a generation fares on this executor. None if it says nothing of it.
    pub fn rates(&self, token: Token) -> Option<JobRates> {
        let id = token.job.to_string();
        let find = |jobs: &'_ [JobFigures]| {
            jobs.iter().find(|job| job.job == id && job.generation == token.generation.0).cloned()
        };
        let (end, last) = self.0.back().and_then(|(at, jobs)| Some((*at, find(jobs)?)))?;
        let (start, first) = self.0.iter().find_map(|(at, jobs)| Some((*at, find(jobs)?)))?;
        let passed = end.saturating_sub(start).as_secs_f64();
        let rate = |last: u64, first: u64| {
            if passed > 0.0 { last.saturating_sub(first) as f64 / passed } else { 0.0 }
        };
        let ratio = |ratio: f64| if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { 0.0 };
        Some(JobRates {
            rows_per_second: rate(last.source_rows, first.source_rows),
            bytes_per_second: rate(last.source_bytes, first.source_bytes),
            sink_rows_per_second: rate(last.sink_rows, first.sink_rows),
            memory_bytes: last.memory_bytes,
            watermark_ms: last.watermark_ms,
            busy_ratio: ratio(last.busy_ratio),
            backpressured_ratio: ratio(last.backpressured_ratio),
            busiest: last.busiest,
        })
    }
}

impl JobRates {
    /// Of another executor.
    pub fn add(&mut self, other: &Self) {
        self.rows_per_second += other.rows_per_second;
        self.bytes_per_second += other.bytes_per_second;
        self.sink_rows_per_second += other.sink_rows_per_second;
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.watermark_ms = self.watermark_ms.into_iter().chain(other.watermark_ms).min();
        self.backpressured_ratio = self.backpressured_ratio.max(other.backpressured_ratio);
        if other.busy_ratio > self.busy_ratio {
            self.busy_ratio = other.busy_ratio;
            self.busiest.clone_from(&other.busiest);
        }
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::ids::{Generation, JobId};

    use super::*;

    #[test]
    fn rates_are_over_the_last_seconds_of_one_generation() {
        let token = Token { job: JobId(7), generation: Generation(2) };
        let said = |generation, rows| JobFigures {
            job: token.job.to_string(),
            generation,
            source_rows: rows,
            source_bytes: rows * 10,
            sink_rows: rows / 2,
            memory_bytes: 5,
            watermark_ms: Some(i64::try_from(rows).expect("small")),
            busy_ratio: 0.5,
            backpressured_ratio: f64::NAN,
            busiest: "Calc".to_owned(),
        };
        let mut figures = Figures::default();
        assert_eq!(figures.rates(token), None);
        figures.add(Duration::from_secs(0), vec![said(1, 1_000_000)]);
        assert_eq!(figures.rates(token), None, "an older generation says nothing about this one");
        for second in 1..=10 {
            figures.add(Duration::from_secs(second), vec![said(2, 400 * second * second)]);
        }
        let rates = figures.rates(token).expect("it said so");
        // From second 7 to second 10.
        assert!((rates.rows_per_second - 400.0 * 51.0 / 3.0).abs() < 1e-9, "{rates:?}");
        assert!((rates.sink_rows_per_second - 200.0 * 51.0 / 3.0).abs() < 1e-9, "{rates:?}");
        assert_eq!((rates.watermark_ms, rates.backpressured_ratio), (Some(40_000), 0.0));
        let mut both = rates.clone();
        both.add(&JobRates { watermark_ms: Some(9), busy_ratio: 0.9, busiest: "Sink".to_owned(), ..rates.clone() });
        assert_eq!((both.watermark_ms, both.busiest.as_str(), both.memory_bytes), (Some(9), "Sink", 10));
        for _ in 0..100 {
            figures.add(Duration::from_secs(10), vec![JobFigures::default(); limits::HEARTBEAT_JOBS_MAX + 1]);
        }
        assert_eq!(figures.0.len(), HELD_MAX);
        assert!(figures.0.iter().skip(1).all(|(_, jobs)| jobs.len() <= limits::HEARTBEAT_JOBS_MAX));
    }
}
