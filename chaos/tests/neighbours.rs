//! A cluster that has lost the majority of its coordinators, and one whose clocks disagree.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use qanat_chaos::live::binary;
use qanat_chaos::live::members::{COORDINATORS, Members, NODES};
use qanat_chaos::live::network::Network;
use qanat_chaos::live::process::Qanat;
use qanat_chaos::live::scrape::sum;
use qanat_chaos::live::shim::Order;
use qanat_chaos::live::watch::Watch;
use qanat_chaos::live::workload::{JOB, Workload};
use rustix::process::Signal;

/// Whatever is waited for comes in this time.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A client gives up after 30 s; more is its own start and end.
const REFUSED_MAX: Duration = Duration::from_secs(45);

/// A cluster with a job that runs.
struct Trial {
    qanat: Qanat,
    workload: Workload,
    members: Members,
    watch: Watch,
}

impl Trial {
    /// Starts the processes. `settings` stand in front of the script.
    fn start(name: &str, records: u64, settings: &str) -> Result<Self> {
        let qanat = Qanat::in_new_folder(name, &binary::locate(None)?)?;
        let workload = Workload::of_cluster(records, 10_000, 200, &qanat.folder);
        qanat.write(&format!("{JOB}.sql"), &format!("{settings}{}", workload.script()))?;
        let members = Members::start(&qanat, Network::of_links(NODES)?)?;
        let watch = Watch::new(&workload, &qanat.folder);
        Ok(Self { qanat, workload, members, watch })
    }

    /// Submits the job and waits for its first rows.
    fn submit(&mut self) -> Result<()> {
        self.members.console.ask(&["submit", &format!("{JOB}.sql"), "--parallelism", "6"])?;
        self.grows()
    }

    fn look(&mut self) -> Result<u64> {
        let violations = self.watch.observe()?;
        ensure!(violations.is_empty(), "{violations:?}");
        Ok(self.watch.committed())
    }

    /// Waits until more rows are visible, or all of them.
    fn grows(&mut self) -> Result<()> {
        let before = self.look()?;
        let begun = Instant::now();
        while self.look()? <= before && before < self.workload.records {
            ensure!(begun.elapsed() < PATIENCE, "no row after {before}: {}", self.members.said()?);
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// What the sources of all executors have read.
    fn read(&self) -> Result<f64> {
        let addresses = self.members.servers[COORDINATORS..].iter().map(|server| server.metrics());
        addresses.map(|address| sum(&address.context("no metrics")?, "qanat_source_rows_total")).sum()
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so(self)? {
            ensure!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            self.look()?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits for the end of the job: every row is there once, by whoever looks. Returns its generation.
    fn finish(mut self) -> Result<u64> {
        let mut generation = 0;
        self.until("the job ends", |trial| {
            let (status, newest, _) = trial.members.job()?;
            ensure!(!matches!(status.as_str(), "FAILED" | "STOPPED"), "the job is {status}");
            generation = newest;
            Ok(status == "FINISHED")
        })?;
        for mut watch in [self.watch, Watch::new(&self.workload, &self.qanat.folder)] {
            let (found, violations) = watch.finish()?;
            ensure!(violations.is_empty() && found.is_exact(), "{found}{violations:?}");
        }
        drop(self.members);
        self.qanat.clean_up();
        Ok(generation)
    }
}

/// Writes are refused with one code, and so are questions; what runs goes on until its epoch is as large as it may be,
/// and says so; nothing becomes visible; and when the majority is back the job goes on as if nothing had been.
#[test]
fn a_lost_majority_refuses_all_decisions_and_loses_nothing() -> Result<()> {
    let settings = "SET 'execution.checkpointing.max-size' = '64 kb';\n";
    let mut trial = Trial::start("majority", 200_000, settings)?;
    trial.submit()?;
    let (_, generation, _) = trial.members.job()?;
    let leader = trial.members.leader()?;
    let lost = [leader, (leader + 1) % COORDINATORS];
    for index in lost {
        trial.members.end(index, Signal::KILL)?;
    }
    let read = trial.read()?;
    trial.until("rows are read on", |trial| Ok(trial.read()? > read))?;
    trial
        .qanat
        .write("other.sql", &trial.workload.script().replace(&trial.qanat.folder.display().to_string(), "/x"))?;
    let asked: [&[&str]; 5] = [
        &["submit", "other.sql"],
        &["job", "rescale", JOB, "--parallelism", "3"],
        &["job", "savepoint", JOB, "--name", "s"],
        &["cluster", "drain", "executor-1"],
        &["jobs", "list"],
    ];
    let members = &trial.members;
    let begun = Instant::now();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked = asked.map(|arguments| scope.spawn(move || members.console.command(arguments)));
        asked.into_iter().map(|asked| asked.join().expect("a client")).collect()
    });
    ensure!(begun.elapsed() < REFUSED_MAX, "refused only after {:?}", begun.elapsed());
    for (arguments, answer) in asked.iter().zip(answers) {
        let answer = answer?;
        let error = answer.stderr.lines().rev().find(|line| line.starts_with("{\"error\""));
        let error: serde_json::Value = serde_json::from_str(error.with_context(|| answer.stderr.clone())?)?;
        let is_clear = error["error"]["code"] == "E0602" && error["error"]["hint"].is_string();
        ensure!(is_clear && !answer.success(), "{arguments:?}: {error}");
    }
    // By now it had to stop, and it says why.
    let mut read = trial.read()?;
    trial.until("sources wait", |trial| {
        let before = std::mem::replace(&mut read, trial.read()?);
        let said = trial.members.said()?;
        Ok(read == before && said.contains("E0602") && said.contains("as large as it may be"))
    })?;
    let visible = trial.look()?;
    ensure!(visible < trial.workload.records, "everything is visible already");
    for _ in 0..20 {
        std::thread::sleep(LOOK_EVERY);
        ensure!(trial.look()? == visible && trial.read()? == read, "something went on");
    }
    for index in lost {
        trial.members.begin(index)?;
    }
    trial.grows()?;
    ensure!(trial.finish()? == generation, "the job had to begin again");
    Ok(())
}

/// Two coordinators and two executors live an hour apart from the rest, and every one of them leads for a while. That
/// rows are compressed on their way changes nothing, either.
#[test]
fn clocks_an_hour_off_change_nothing() -> Result<()> {
    let settings = "SET 'execution.exchange.compression' = 'lz4';\n";
    let mut trial = Trial::start("clocks", 400_000, settings)?;
    for (index, off_s) in [3600_i32, -3600].into_iter().enumerate() {
        let executor = COORDINATORS + index;
        for node in [index, executor] {
            trial.members.server(node)?.control.order(Order::ClockOffMs, i64::from(off_s) * 1_000)?;
            trial.members.end(node, Signal::TERM)?;
            trial.members.begin(node)?;
        }
        trial.until("it takes part", |trial| trial.members.takes_part(index))?;
        trial
            .until("it says where its metrics are", |trial| Ok(trial.members.servers[executor].metrics().is_some()))?;
        let address = trial.members.servers[executor].metrics().context("no metrics")?;
        let started = sum(&address, "qanat_process_start_time_seconds")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        ensure!((started - now - f64::from(off_s)).abs() < 600.0, "its clock is right: {started}, and now is {now}");
    }
    trial.submit()?;
    for _ in 0..COORDINATORS {
        let leader = trial.members.leader()?;
        trial.members.end(leader, Signal::KILL)?;
        trial.grows()?;
        trial.members.begin(leader)?;
        trial.until("it takes part", |trial| trial.members.takes_part(leader))?;
    }
    trial.finish()?;
    Ok(())
}
