//! A whole cluster of real processes under faults, while an independent reader looks at what it writes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::fault::{Fault, FaultKind};
use super::link::Link;
use super::moment::Random;
use super::process::Qanat;
use super::watch::{Verdict, Watch};
use super::workload::{JOB, Place, Workload};
use crate::oracle::Violation;

/// Coordinators and executors of the cluster.
const COORDINATORS: usize = 3;
const EXECUTORS: usize = 3;
/// A cluster whose last fault is over makes progress within this time, or it is stuck (I15).
const PROGRESS_MAX: Duration = Duration::from_secs(30);
/// A start, or a command of a client.
const PATIENCE: Duration = Duration::from_secs(60);
/// The last part has all the time it needs, within reason.
const LAST_MAX: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two questions of the client.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct ClusterCampaign {
    pub records: u64,
    pub faults: u64,
    pub rows_per_second: u64,
    pub seed: u64,
    pub parallelism: u32,
    pub interval_ms: u64,
    /// What may happen.
    pub kinds: Vec<FaultKind>,
    pub binary: PathBuf,
    /// Part of the folder's name, so that campaigns of one process do not meet.
    pub name: String,
    /// Leave the folder behind even if all is well.
    pub keep: bool,
}

/// What it found.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterReport {
    pub seed: u64,
    pub records: u64,
    pub faults_planned: u64,
    pub kinds_planned: usize,
    pub faults: BTreeMap<FaultKind, u64>,
    /// From a fault to the next epoch that is visible, by kind, where nothing else happened meanwhile.
    pub recovered_ms: BTreeMap<FaultKind, Vec<u64>>,
    pub generations: u64,
    pub looks: u64,
    pub elapsed_ms: u64,
    pub found: Verdict,
    pub violations: Vec<Violation>,
    pub replay: String,
    pub folder: String,
}

impl ClusterReport {
    fn is_exact(&self) -> bool {
        self.violations.is_empty() && self.found.is_exact()
    }

    fn has_enough_faults(&self) -> bool {
        let kinds = self.kinds_planned.min(usize::try_from(self.faults_planned).unwrap_or(usize::MAX));
        self.faults.values().sum::<u64>() >= self.faults_planned && self.faults.len() >= kinds
    }

    /// Nothing lost, nothing twice, never stuck, and all the faults that were asked for.
    pub fn passes(&self) -> bool {
        self.is_exact() && self.has_enough_faults()
    }

    pub fn verdict(&self) -> &'static str {
        match (self.is_exact(), self.has_enough_faults()) {
            (true, true) => "PASS",
            (true, false) => "UNKNOWN",
            (false, _) => "FAIL",
        }
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = object.as_object_mut() {
            map.insert("verdict".to_owned(), self.verdict().into());
        }
        object
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} records, {:.1} s", self.seed, self.records, self.elapsed_ms as f64 / 1000.0)?;
        let sum: u64 = self.faults.values().sum();
        writeln!(f, "faults     {sum} of {} planned, {} generations", self.faults_planned, self.generations)?;
        for (kind, count) in &self.faults {
            let mut times = self.recovered_ms.get(kind).cloned().unwrap_or_default();
            times.sort_unstable();
            let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
            let name = format!("{kind:?}");
            writeln!(
                f,
                "  {name:<15} {count:>4}  an epoch after {} / {} / {} ms (least, median, most)",
                at(0),
                at(50),
                at(100)
            )?;
        }
        let found = &self.found;
        writeln!(
            f,
            "seen       {} epochs, {} files, {} runs, by {} looks",
            found.epochs, found.committed_files, found.runs, self.looks
        )?;
        write!(f, "{found}")?;
        for violation in &self.violations {
            writeln!(f, "violation  {violation}")?;
        }
        writeln!(f, "verdict    {}", self.verdict())?;
        if !self.passes() {
            writeln!(f, "folder     {}\nreplay     {}", self.folder, self.replay)?;
        }
        Ok(())
    }
}

/// A process of the cluster, and how to start it again.
struct Process {
    command: Vec<String>,
    /// None: `qanat dev` started it, and its id is all there is.
    child: Option<Child>,
    pid: i32,
}

impl Process {
    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid).context("the process has no id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signal process {}", self.pid))
    }

    /// Waits until it is gone.
    fn reap(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            child.wait().context("wait for a process")?;
            return Ok(());
        }
        let begun = Instant::now();
        let stat = PathBuf::from(format!("/proc/{}/stat", self.pid));
        // One that its parent has not waited for yet is gone all the same.
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
            ensure!(begun.elapsed() < PATIENCE, "process {} does not end", self.pid);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

struct Cluster {
    qanat: Qanat,
    dev: Child,
    addresses: String,
    coordinators: Vec<Process>,
    executors: Vec<(Process, Link)>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let children = self.coordinators.iter_mut().chain(self.executors.iter_mut().map(|(process, _)| process));
        for child in children.filter_map(|process| process.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for process in &self.coordinators {
            let _ = process.signal(rustix::process::Signal::KILL);
        }
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

impl Cluster {
    fn start(qanat: &Qanat) -> Result<Self> {
        let root = qanat.folder.display().to_string();
        let mut command =
            qanat.command(&["-o", "json", "dev", "--data", "dev", "--executors", "0", "--files-root", &root]);
        let errors = std::fs::File::create(qanat.folder.join("dev.stderr"))?;
        let mut dev =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().context("start dev")?;
        let mut line = String::new();
        BufReader::new(dev.stdout.take().context("no output")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).with_context(|| format!("dev says {line:?}"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text is missing");
        let list =
            |value: &Value| value.as_array().cloned().unwrap_or_default().iter().map(text).collect::<Result<Vec<_>>>();
        let mut coordinators = Vec::new();
        for process in told["processes"].as_array().context("no processes")? {
            let pid = i32::try_from(process["pid"].as_i64().context("no pid")?)?;
            coordinators.push(Process { command: list(&process["command"])?, child: None, pid });
        }
        ensure!(coordinators.len() == COORDINATORS, "{} coordinators", coordinators.len());
        let addresses = list(&told["coordinators"])?.join(",");
        let cluster_id = std::fs::read_to_string(qanat.folder.join("dev/storage/.cluster"))?;
        let cluster_id = cluster_id.lines().next().unwrap_or_default().to_owned();
        let mut cluster = Self { qanat: qanat.clone(), dev, addresses, coordinators, executors: Vec::new() };
        for number in 1..=EXECUTORS {
            let link = Link::new()?;
            let program = qanat.binary.display().to_string();
            let command = [
                program.as_str(),
                "executor",
                "--cluster-id",
                &cluster_id,
                "--node",
                &format!("executor-{number}"),
                "--slots",
                "2",
                "--coordinators",
                &cluster.addresses,
                "--storage",
                &qanat.folder.join("dev/storage").display().to_string(),
                "--advertise",
                &link.address().to_string(),
            ];
            let command = command.map(str::to_owned).to_vec();
            let mut process = Process { command, child: None, pid: 0 };
            cluster.start_executor(&mut process, &link)?;
            cluster.executors.push((process, link));
        }
        Ok(cluster)
    }

    fn spawn(&self, process: &mut Process) -> Result<()> {
        let (program, arguments) = process.command.split_first().context("no command")?;
        let errors = std::fs::File::options().append(true).create(true).open(self.qanat.folder.join("stderr"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        process.pid = i32::try_from(child.id())?;
        process.child = Some(child);
        Ok(())
    }

    /// Starts an executor and has its link lead there.
    fn start_executor(&self, process: &mut Process, link: &Link) -> Result<()> {
        self.spawn(process)?;
        let stdout = process.child.as_mut().and_then(|child| child.stdout.take()).context("no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next().context("the executor said nothing")??;
        let address: SocketAddr =
            first.rsplit(' ').next().unwrap_or_default().parse().with_context(|| first.clone())?;
        link.lead_to(address);
        std::thread::spawn(move || lines.for_each(drop));
        Ok(())
    }

    fn start_coordinator(&self, process: &mut Process) -> Result<()> {
        self.spawn(process)?;
        let stdout = process.child.as_mut().and_then(|child| child.stdout.take()).context("no output")?;
        std::thread::spawn(move || BufReader::new(stdout).lines().for_each(drop));
        Ok(())
    }

    /// A command of a client.
    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let all = [&["-o", "json"], arguments, &["--cluster", &self.addresses]].concat();
        let ended = self.qanat.run(&all, PATIENCE)?;
        ensure!(ended.success(), "`{}` failed: {}", arguments.join(" "), ended.stderr.trim());
        ended.json()
    }

    fn leader(&self) -> Result<usize> {
        let status = self.ask(&["cluster", "status"])?;
        let coordinators = status["coordinators"].as_array().context("no coordinators")?;
        let leads = coordinators.iter().find(|coordinator| coordinator["leads"] == true).context("nobody leads")?;
        Ok(usize::try_from(leads["id"].as_u64().context("no id")?)? - 1)
    }

    /// The job's state, generation and newest visible epoch.
    fn job(&self) -> Result<(String, u64, u64)> {
        let job = self.ask(&["job", "describe", JOB])?;
        let number = |name: &str| job[name].as_u64().unwrap_or(0);
        Ok((job["status"].as_str().unwrap_or_default().to_owned(), number("generation"), number("committed_epoch")))
    }
}

struct Trial<'a> {
    campaign: &'a ClusterCampaign,
    cluster: Cluster,
    watch: Watch,
    random: Random,
    faults: BTreeMap<FaultKind, u64>,
    last: Option<(FaultKind, Instant)>,
    recovered_ms: BTreeMap<FaultKind, Vec<u64>>,
    looks: u64,
    violations: Vec<Violation>,
}

impl ClusterCampaign {
    /// Runs it. A failure of the engine is in the report, not an error.
    ///
    /// # Errors
    /// If the trial itself cannot be done.
    pub fn run(&self) -> Result<ClusterReport> {
        let begun = Instant::now();
        let qanat = Qanat::in_new_folder(&self.name, &self.binary)?;
        let workload = self.workload(&qanat.folder);
        let script = format!("{JOB}.sql");
        qanat.write(&script, &workload.script())?;
        let cluster = Cluster::start(&qanat)?;
        cluster.ask(&["submit", &script, "--parallelism", &self.parallelism.to_string()])?;
        let mut trial = Trial {
            campaign: self,
            cluster,
            watch: Watch::new(&workload, &qanat.folder),
            random: Random::new(self.seed),
            faults: BTreeMap::new(),
            last: None,
            recovered_ms: BTreeMap::new(),
            looks: 0,
            violations: Vec::new(),
        };
        trial.run()?;
        let generations = trial.finish()?;
        let (mut found, last) = trial.watch.finish()?;
        trial.violations.extend(last);
        // A reader that comes only now must see the same.
        let (again, last) = Watch::new(&workload, &qanat.folder).finish()?;
        trial.violations.extend(last);
        if again.committed() != found.committed() {
            trial.violations.push(format!("a new reader finds {again:?}, the one that was there {found:?}"));
            found = again;
        }
        trial.violations.dedup();
        let report = ClusterReport {
            seed: self.seed,
            records: self.records,
            faults_planned: self.faults,
            kinds_planned: self.kinds.len(),
            faults: trial.faults.clone(),
            recovered_ms: trial.recovered_ms.clone(),
            generations,
            looks: trial.looks,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            found,
            violations: std::mem::take(&mut trial.violations),
            replay: self.replay(),
            folder: qanat.folder.display().to_string(),
        };
        drop(trial);
        if report.passes() && !self.keep {
            qanat.clean_up();
        }
        Ok(report)
    }

    fn workload(&self, folder: &Path) -> Workload {
        Workload {
            records: self.records,
            rows_per_second: Some(self.rows_per_second),
            interval_ms: self.interval_ms,
            file: true,
            log: true,
            windows: true,
            place: Place::of_cluster(folder),
        }
    }

    fn replay(&self) -> String {
        format!(
            "cargo run -p qanat-chaos --bin cluster -- --records {} --faults {} --rate {} --seed {} --parallelism {} --interval-ms {}",
            self.records, self.faults, self.rows_per_second, self.seed, self.parallelism, self.interval_ms
        )
    }
}

impl Trial<'_> {
    fn run(&mut self) -> Result<()> {
        for number in 0..self.campaign.faults {
            let fault = Fault::draw(&mut self.random, number, &self.campaign.kinds);
            // Some come while the one before is still felt.
            let is_alone = self.random.below(4) > 0;
            if is_alone && !self.progresses()? {
                return Ok(());
            }
            self.pass(fault.delay)?;
            if self.cluster.job()?.0 == "FINISHED" {
                return Ok(());
            }
            let begun = Instant::now();
            self.inject(fault)?;
            *self.faults.entry(fault.kind).or_default() += 1;
            self.last = is_alone.then_some((fault.kind, begun));
            if self.violations.len() >= VIOLATIONS_MAX {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until more rows are visible. False if the job has ended, or none come: then it is stuck.
    fn progresses(&mut self) -> Result<bool> {
        let before = self.watch.committed();
        let begun = Instant::now();
        let mut asked = Instant::now();
        loop {
            if self.watch.committed() > before {
                if let Some((kind, at)) = self.last.take() {
                    let after = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.recovered_ms.entry(kind).or_default().push(after);
                }
                return Ok(true);
            }
            // Now and then: a client is a process too, and takes its share of the machine.
            if asked.elapsed() > ASK_EVERY {
                asked = Instant::now();
                let (status, generation, epoch) = self.cluster.job()?;
                if status == "FINISHED" {
                    return Ok(false);
                }
                if matches!(status.as_str(), "FAILED" | "STOPPED") {
                    let job = self.cluster.ask(&["job", "describe", JOB])?;
                    self.violations.push(format!("the job is {status}: {job}"));
                    return Ok(false);
                }
                if begun.elapsed() > PROGRESS_MAX {
                    let text = format!("no row in {PROGRESS_MAX:?} after epoch {epoch} of generation {generation}");
                    self.violations.push(text);
                    return Ok(false);
                }
            }
            self.pass(LOOK_EVERY)?;
        }
    }

    /// Lets time go by, looking.
    fn pass(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.look()?;
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn inject(&mut self, fault: Fault) -> Result<()> {
        use rustix::process::Signal;
        let executor = usize::try_from(fault.which % EXECUTORS as u64)?;
        match fault.kind {
            FaultKind::KillExecutor => self.bounce_executor(executor, Signal::KILL, fault.lasts),
            FaultKind::KillLeader => {
                let leader = self.cluster.leader()?;
                self.bounce_coordinator(leader, Signal::KILL, fault.lasts)
            }
            FaultKind::KillFollower => {
                let other = 1 + usize::try_from(fault.which % (COORDINATORS as u64 - 1))?;
                let follower = (self.cluster.leader()? + other) % COORDINATORS;
                self.bounce_coordinator(follower, Signal::KILL, fault.lasts)
            }
            FaultKind::PauseExecutor => {
                self.cluster.executors[executor].0.signal(Signal::STOP)?;
                self.pass(fault.lasts)?;
                self.cluster.executors[executor].0.signal(Signal::CONT)
            }
            FaultKind::PauseLeader => {
                let leader = self.cluster.leader()?;
                self.cluster.coordinators[leader].signal(Signal::STOP)?;
                self.pass(fault.lasts)?;
                self.cluster.coordinators[leader].signal(Signal::CONT)
            }
            FaultKind::CutLink => {
                self.cluster.executors[executor].1.cut(true);
                self.pass(fault.lasts)?;
                self.cluster.executors[executor].1.cut(false);
                Ok(())
            }
            FaultKind::Restart => {
                let any = usize::try_from(fault.which % (COORDINATORS + EXECUTORS) as u64)?;
                match any.checked_sub(COORDINATORS) {
                    Some(executor) => self.bounce_executor(executor, Signal::TERM, Duration::ZERO),
                    None => self.bounce_coordinator(any, Signal::TERM, Duration::ZERO),
                }
            }
        }
    }

    fn bounce_executor(&mut self, index: usize, signal: rustix::process::Signal, away: Duration) -> Result<()> {
        let (mut process, link) = self.cluster.executors.remove(index);
        process.signal(signal)?;
        process.reap()?;
        self.pass(away)?;
        self.cluster.start_executor(&mut process, &link)?;
        self.cluster.executors.insert(index, (process, link));
        Ok(())
    }

    fn bounce_coordinator(&mut self, index: usize, signal: rustix::process::Signal, away: Duration) -> Result<()> {
        let mut process = self.cluster.coordinators.remove(index);
        process.signal(signal)?;
        process.reap()?;
        self.pass(away)?;
        self.cluster.start_coordinator(&mut process)?;
        self.cluster.coordinators.insert(index, process);
        Ok(())
    }

    /// Waits for the end of the job. Returns how many generations it took.
    fn finish(&mut self) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let (status, generation, _) = self.cluster.job()?;
            match status.as_str() {
                "FINISHED" => return Ok(generation),
                "FAILED" | "STOPPED" => return Ok(generation),
                _ if !self.violations.is_empty() => return Ok(generation),
                _ if begun.elapsed() > LAST_MAX => bail!("the job does not end"),
                _ => self.pass(Duration::from_millis(200))?,
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        self.looks += 1;
        let found = self.watch.observe().context("look at the output")?;
        self.violations.extend(found);
        self.violations.truncate(VIOLATIONS_MAX);
        Ok(())
    }
}
