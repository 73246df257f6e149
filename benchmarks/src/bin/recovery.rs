//! `recovery`: how long a job of a real cluster is disturbed when one of its processes is killed, as distributions.
//!
//! Two clocks run from the kill: *processed*, until the next generation's first row reaches the sink, and *visible*,
//! until the first epoch that it commits. A job without state and one with windows of 100 ms, each at two epoch
//! intervals; an executor dies, or the coordinator that leads: then also the longest time in which no row reached the
//! sink, by the executors' metrics (a window's rows come every 100 ms at best).
//! `cargo run --release -p qanat-benchmarks --bin recovery -- target/release/qanat 50`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use qanat_benchmarks::cluster::{DevCluster, Role, new_folder};
use qanat_benchmarks::measure::{print, quantile};
use qanat_benchmarks::scrape::sum;
use qanat_benchmarks::sink_probe::{POLL, SinkProbe, wait};
use qanat_client::{Client, Submit};
use qanat_storage::env::{Clock, Entropy, Env};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const INTERVALS_MS: [u64; 2] = [100, 1_000];
const ROWS_PER_SECOND: u64 = 20_000;
/// Whatever is waited for comes in this time, or the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long visible epochs are followed after a leader has died, beyond two intervals.
const FOLLOWED: Duration = Duration::from_secs(3);

/// Between two looks at the executors' metrics.
const SCRAPED_EVERY: Duration = Duration::from_millis(5);

/// The job that is disturbed.
#[derive(Clone, Copy)]
enum Job {
    Stateless,
    Windows,
}

impl Job {
    fn name(self) -> &'static str {
        match self {
            Self::Stateless => "stateless",
            Self::Windows => "windows",
        }
    }

    fn script(self, sink: &Path, interval_ms: u64) -> String {
        let columns = match self {
            Self::Stateless => "id BIGINT, v BIGINT",
            Self::Windows => "w TIMESTAMP(3), k BIGINT, n BIGINT",
        };
        let query = match self {
            Self::Stateless => "SELECT id, id * 31 + 7 FROM numbers",
            Self::Windows => {
                "SELECT window_start, id % 100, COUNT(*) FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), \
                 INTERVAL '0.1' SECOND)) GROUP BY window_start, window_end, id % 100"
            }
        };
        // Event time goes as fast as the clock.
        let per_ms = ROWS_PER_SECOND / 1_000;
        format!(
            "SET 'execution.checkpointing.interval' = '{interval_ms} ms';\n\
             CREATE TABLE numbers (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id / {per_ms}, 3), WATERMARK FOR ts AS ts) WITH \
             ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', \
             'fields.id.end' = '100000000000', 'rows-per-second' = '{ROWS_PER_SECOND}');\n\
             CREATE TABLE sink ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
             INSERT INTO sink {query};\n",
            sink.display()
        )
    }
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    fn report(&self) -> Value {
        let (count, mut times) = (self.0.len(), self.0.clone());
        let mut at = |part: f64| (count > 0).then(|| (quantile(&mut times, part).as_secs_f64() * 1e3).round());
        json!({ "count": count, "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0) })
    }
}

/// Follows the rows that reach the sink.
struct RowWatch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration>>,
}

impl RowWatch {
    /// The longest time without one.
    fn end(self) -> Result<Duration> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watcher of rows has died"))?
    }
}

struct Trial {
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    cluster: DevCluster,
    client: Client,
    folder: PathBuf,
    probe: SinkProbe,
    job: &'static str,
    interval: Duration,
    submits: u64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().map_or_else(|| PathBuf::from("target/release/qanat"), PathBuf::from);
    let kills = arguments.next().and_then(|kills| kills.parse().ok()).unwrap_or(50);
    let only = arguments.next().unwrap_or_default();
    print(measure(&binary, kills, &only))
}

/// All cases whose name (`stateless 100 ms`) contains `only`.
fn measure(binary: &Path, kills: usize, only: &str) -> Result<Value> {
    let binary = std::path::absolute(binary)?;
    let mut report = serde_json::Map::new();
    let mut starts = Times::default();
    let mut first_rows = Times::default();
    for job in [Job::Stateless, Job::Windows] {
        for interval_ms in INTERVALS_MS {
            let name = format!("{} {interval_ms} ms", job.name());
            if !name.contains(only) {
                continue;
            }
            let mut trial = Trial::start(&binary, job, interval_ms, &mut starts, &mut first_rows)?;
            let executor = trial.kill_executors(kills).context(name.clone())?;
            let leader = trial.kill_leaders(kills).context(name.clone())?;
            let folder = trial.folder.clone();
            drop(trial);
            let _ = std::fs::remove_dir_all(folder);
            report.insert(name, json!({ "executor": executor, "leader": leader }));
        }
    }
    report.insert("start of a cluster to serving".to_owned(), starts.report());
    report.insert("submit to first processed row".to_owned(), first_rows.report());
    Ok(Value::Object(report))
}

impl Trial {
    fn start(binary: &Path, job: Job, interval_ms: u64, starts: &mut Times, first_rows: &mut Times) -> Result<Self> {
        let env = Env::real();
        let folder = new_folder(&format!("recovery-{}-{interval_ms}", job.name()))?;
        let begun = env.clock.monotonic();
        let cluster = DevCluster::start(binary, &folder, 3, 3)?;
        starts.add(env.clock.monotonic().saturating_sub(begun));
        let client = Client::new(cluster.addresses.clone())?.with_deadline(PATIENCE);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sink = folder.join("sink");
        let probe = SinkProbe::new(&sink);
        let begun = env.clock.monotonic();
        let submit = Submit::new(job.name(), job.script(&sink, interval_ms)).parallelism(6);
        runtime.block_on(client.submit(submit))?;
        let look = || Ok((probe.processed_generation() > 0).then_some(()));
        let (first, ()) = wait(env.clock.as_ref(), PATIENCE, "the first row", look)?;
        first_rows.add(first.saturating_sub(begun));
        Ok(Self {
            runtime,
            clock: env.clock.clone(),
            entropy: env.entropy.clone(),
            cluster,
            client,
            folder,
            probe,
            job: job.name(),
            interval: Duration::from_millis(interval_ms),
            submits: 0,
        })
    }

    /// Waits until the job runs on all executors, has committed epochs there and a random part of another has passed.
    /// Returns its generation.
    fn settle(&mut self) -> Result<u64> {
        let (runtime, client, job) = (&self.runtime, &self.client, self.job);
        let (_, generation) = wait(self.clock.as_ref(), PATIENCE, "a job on all executors", || {
            let status = runtime.block_on(client.status())?;
            let described = runtime.block_on(client.describe(job))?;
            let attached = status.executors.iter().filter(|executor| executor.attached).count();
            std::thread::sleep(Duration::from_millis(20));
            Ok((attached == 3 && described.executors.len() == 3).then_some(described.generation))
        })?;
        let before = self.probe.visible()?.0;
        wait(self.clock.as_ref(), PATIENCE, "an epoch at rest", || {
            let (epoch, by) = self.probe.visible()?;
            Ok((by == generation && epoch >= before + 2).then_some(()))
        })?;
        let interval_us = u64::try_from(self.interval.as_micros())?;
        std::thread::sleep(Duration::from_micros(self.entropy.u64() % interval_us));
        Ok(generation)
    }

    fn kill_executors(&mut self, kills: usize) -> Result<Value> {
        let (mut processed, mut visible) = (Times::default(), Times::default());
        for _ in 0..kills {
            let generation = self.settle()?;
            let victim = format!("executor-{}", 1 + self.entropy.u64() % 3);
            let begun = self.clock.monotonic();
            self.cluster.process(Role::Executor, &victim)?.kill()?;
            let look = || Ok((self.probe.processed_generation() > generation).then_some(()));
            let (at, ()) = wait(self.clock.as_ref(), PATIENCE, "a row after a kill", look)?;
            processed.add(at.saturating_sub(begun));
            let look = || Ok((self.probe.visible()?.1 > generation).then_some(()));
            let (at, ()) = wait(self.clock.as_ref(), PATIENCE, "an epoch after a kill", look)?;
            visible.add(at.saturating_sub(begun));
            self.cluster.process(Role::Executor, &victim)?.start()?;
        }
        Ok(json!({ "processed again": processed.report(), "visible again": visible.report() }))
    }

    fn kill_leaders(&mut self, kills: usize) -> Result<Value> {
        let (mut gaps, mut submits, mut pauses) = (Times::default(), Times::default(), Times::default());
        let mut disturbed = BTreeMap::new();
        for _ in 0..kills {
            let generation = self.settle()?;
            let status = self.runtime.block_on(self.client.status())?;
            let leader = status.coordinators.iter().find(|c| c.leads).context("nobody leads")?.id.to_string();
            let last = self.last_epoch()?;
            let begun = self.clock.monotonic();
            self.cluster.process(Role::Coordinator, &leader)?.kill()?;
            let submit = self.submit_another();
            let watched = self.watch_rows();
            gaps.add(self.longest_gap(last, begun)?);
            pauses.add(watched.end()?);
            let accepted = self.runtime.block_on(submit)??;
            submits.add(accepted.saturating_sub(begun));
            let after = self.runtime.block_on(self.client.describe(self.job))?.generation;
            *disturbed.entry(after - generation).or_insert(0_u64) += 1;
            self.cluster.process(Role::Coordinator, &leader)?.start()?;
        }
        Ok(json!({
            "longest pause of processed rows": pauses.report(),
            "visible gap": gaps.report(),
            "first accepted submit": submits.report(),
            "kills by new generations of the job": disturbed.iter().map(|(k, v)| (k.to_string(), json!(v))).collect::<serde_json::Map<_, _>>(),
        }))
    }

    /// Waits for the next epoch: its number, and when it came.
    fn last_epoch(&mut self) -> Result<(u64, Duration)> {
        let before = self.probe.visible()?.0;
        let look = || Ok(Some(self.probe.visible()?.0).filter(|epoch| *epoch > before));
        let (at, epoch) = wait(self.clock.as_ref(), PATIENCE, "an epoch", look)?;
        // A moment within the interval, not just behind an epoch.
        std::thread::sleep(self.interval.mul_f64((self.entropy.u64() % 100) as f64 / 100.0));
        Ok((epoch, at))
    }

    /// The longest time between two visible epochs from `last` on.
    fn longest_gap(&mut self, mut last: (u64, Duration), begun: Duration) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        let mut seen = 0;
        loop {
            let epoch = self.probe.visible()?.0;
            let now = self.clock.monotonic();
            if epoch > last.0 {
                longest = longest.max(now.saturating_sub(last.1));
                last = (epoch, now);
                seen += 1;
            }
            let over = now.saturating_sub(begun);
            if seen >= 2 && over > FOLLOWED + self.interval * 2 {
                return Ok(longest);
            }
            anyhow::ensure!(over < PATIENCE, "no epoch came after a leader was killed");
            std::thread::sleep(POLL);
        }
    }

    /// Watches from another thread how many rows reach the sink.
    fn watch_rows(&self) -> RowWatch {
        let executors = self.cluster.processes.iter().filter(|process| process.role == Role::Executor);
        let addresses: Vec<String> = executors.filter_map(|process| process.metrics()).collect();
        let label = format!("job=\"{}\"", self.job);
        let (clock, is_over) = (self.clock.clone(), Arc::new(AtomicBool::new(false)));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            let (mut known, mut since, mut longest) = (f64::NAN, clock.monotonic(), Duration::ZERO);
            while !over.load(Ordering::Acquire) {
                let rows = addresses.iter().map(|address| sum(address, "qanat_subtask_sink_rows_total", &label));
                let rows = rows.sum::<Result<f64>>()?;
                let now = clock.monotonic();
                if rows != known {
                    longest = if known.is_nan() { longest } else { longest.max(now.saturating_sub(since)) };
                    (known, since) = (rows, now);
                }
                std::thread::sleep(SCRAPED_EVERY);
            }
            Ok(longest.max(clock.monotonic().saturating_sub(since)))
        });
        RowWatch { is_over, thread }
    }

    /// Submits a small job from another thread; when it was accepted.
    fn submit_another(&mut self) -> tokio::task::JoinHandle<Result<Duration>> {
        self.submits += 1;
        let script = "CREATE TABLE one (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');\n\
                      CREATE TABLE nothing (id BIGINT) WITH ('connector' = 'blackhole');\n\
                      INSERT INTO nothing SELECT id FROM one;\n";
        let submit = Submit::new(format!("one-{}", self.submits), script).parallelism(1);
        let (client, clock) = (self.client.clone(), self.clock.clone());
        self.runtime.spawn(async move {
            client.submit(submit).await?;
            Ok(clock.monotonic())
        })
    }
}
