//! The processes of one cluster, each of which can be ended, paused and started again on its disk.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::link::Link;
use super::process::{Ended, Qanat};
use super::workload::JOB;

/// Coordinators and executors of the cluster.
pub const COORDINATORS: usize = 3;
pub const EXECUTORS: usize = 3;
/// A start, or a command of a client.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a process says of its metrics.
const ANNOUNCEMENT: &str = "metrics at http://";

/// A process of the cluster, and how to start it again.
pub struct Process {
    command: Vec<String>,
    /// Set for its starts from now on.
    variables: Vec<(String, String)>,
    /// None: `qanat dev` started it, and its id is all there is.
    child: Option<Child>,
    pid: i32,
    /// Where its metrics are, once it has said so: `HOST:PORT`.
    metrics: Arc<Mutex<Option<String>>>,
}

impl Process {
    fn new(command: Vec<String>, pid: i32) -> Self {
        Self { command, variables: Vec::new(), child: None, pid, metrics: Arc::default() }
    }

    /// An environment variable for every start from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// # Errors
    /// If it is not there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid).context("the process has no id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signal process {}", self.pid))
    }

    /// Where its metrics are: `HOST:PORT`. None before it has said so.
    pub fn metrics(&self) -> Option<String> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it is gone.
    fn reap(&mut self) -> Result<()> {
        let begun = Instant::now();
        if let Some(child) = &mut self.child {
            while child.try_wait().context("wait for a process")?.is_none() {
                ensure!(begun.elapsed() < PATIENCE, "process {} does not end", self.pid);
                std::thread::sleep(Duration::from_millis(1));
            }
            return Ok(());
        }
        while !self.is_gone() {
            ensure!(begun.elapsed() < PATIENCE, "process {} does not end", self.pid);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// One that its parent has not waited for yet is gone all the same, once the last of its threads has let go of its
    /// files.
    fn is_gone(&self) -> bool {
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { return true };
        stat.contains(") Z ") && std::fs::read_dir(process.join("task")).map_or(0, Iterator::count) <= 1
    }

    /// Starts it on its disk. Returns the first line that it says.
    fn start(&mut self, qanat: &Qanat) -> Result<String> {
        let (program, arguments) = self.command.split_first().context("no command")?;
        let errors = std::fs::File::options().append(true).create(true).open(qanat.folder.join(STDERR))?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("start {program}"))?;
        self.pid = i32::try_from(child.id())?;
        self.metrics = Arc::default();
        let stdout = child.stdout.take().context("no output")?;
        self.child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next().context("the process said nothing")??;
        let metrics = self.metrics.clone();
        let note = move |line: &str| {
            if let Some(address) = line.strip_prefix(ANNOUNCEMENT) {
                let address = address.split('/').next().unwrap_or_default().to_owned();
                *metrics.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
            }
        };
        note(&first);
        std::thread::spawn(move || lines.map_while(std::result::Result::ok).for_each(|line| note(&line)));
        Ok(first)
    }
}

/// What all processes say on stderr that were not started by `qanat dev`.
const STDERR: &str = "stderr";

/// An executor behind a link that can be cut.
pub struct Executor {
    pub node: String,
    pub process: Process,
    pub link: Link,
}

/// All processes of a cluster; they end with this.
pub struct Members {
    pub qanat: Qanat,
    dev: Child,
    /// Of the coordinators, by their numbers less one.
    pub addresses: Vec<String>,
    pub coordinators: Vec<Process>,
    pub executors: Vec<Executor>,
}

impl Drop for Members {
    fn drop(&mut self) {
        let executors = self.executors.iter_mut().map(|executor| &mut executor.process);
        for child in self.coordinators.iter_mut().chain(executors).filter_map(|process| process.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for process in self.coordinators.iter().filter(|process| process.child.is_none()) {
            let _ = process.signal(Signal::KILL);
        }
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

impl Members {
    /// Starts a cluster in the folder of `qanat`, below which its jobs may write.
    ///
    /// # Errors
    /// If a process does not start.
    pub fn start(qanat: &Qanat) -> Result<Self> {
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
            coordinators.push(Process::new(list(&process["command"])?, pid));
        }
        ensure!(coordinators.len() == COORDINATORS, "{} coordinators", coordinators.len());
        let addresses = list(&told["coordinators"])?;
        let cluster_id = std::fs::read_to_string(qanat.folder.join("dev/storage/.cluster"))?;
        let cluster_id = cluster_id.lines().next().unwrap_or_default().to_owned();
        let mut members = Self { qanat: qanat.clone(), dev, addresses, coordinators, executors: Vec::new() };
        for number in 1..=EXECUTORS {
            let link = Link::new()?;
            let node = format!("executor-{number}");
            let program = qanat.binary.display().to_string();
            let command = [
                program.as_str(),
                "executor",
                "--cluster-id",
                &cluster_id,
                "--node",
                &node,
                "--slots",
                "2",
                "--coordinators",
                &members.addresses.join(","),
                "--data",
                &qanat.folder.join("dev").join(&node).display().to_string(),
                "--storage",
                &qanat.folder.join("dev/storage").display().to_string(),
                "--advertise",
                &link.address().to_string(),
                "--metrics",
                "127.0.0.1:0",
            ];
            let process = Process::new(command.map(str::to_owned).to_vec(), 0);
            members.executors.push(Executor { node, process, link });
            members.start_executor(number - 1)?;
        }
        Ok(members)
    }

    /// Starts an executor on its node and has its link lead there.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_executor(&mut self, index: usize) -> Result<()> {
        let executor = self.executors.get_mut(index).context("no such executor")?;
        let first = executor.process.start(&self.qanat)?;
        let address: SocketAddr =
            first.rsplit(' ').next().unwrap_or_default().parse().with_context(|| first.clone())?;
        executor.link.lead_to(address);
        Ok(())
    }

    /// Starts a coordinator on its disk.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_coordinator(&mut self, index: usize) -> Result<()> {
        self.coordinators.get_mut(index).context("no such coordinator")?.start(&self.qanat).map(drop)
    }

    /// Sends a signal that ends an executor, and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end_executor(&mut self, index: usize, signal: Signal) -> Result<()> {
        let executor = self.executors.get_mut(index).context("no such executor")?;
        executor.process.signal(signal)?;
        executor.process.reap()
    }

    /// Sends a signal that ends a coordinator, and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end_coordinator(&mut self, index: usize, signal: Signal) -> Result<()> {
        let process = self.coordinators.get_mut(index).context("no such coordinator")?;
        process.signal(signal)?;
        process.reap()
    }

    /// A command of a client that knows all coordinators, whatever comes of it.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn command(&self, arguments: &[&str]) -> Result<Ended> {
        self.command_at(&self.addresses.join(","), arguments)
    }

    fn command_at(&self, addresses: &str, arguments: &[&str]) -> Result<Ended> {
        let all = [&["-o", "json"], arguments, &["--cluster", addresses]].concat();
        self.qanat.run(&all, PATIENCE)
    }

    /// A command of a client that succeeds.
    ///
    /// # Errors
    /// If it fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let ended = self.command(arguments)?;
        ensure!(ended.success(), "`{}` failed: {}", arguments.join(" "), ended.stderr.trim());
        ended.json()
    }

    /// Which coordinator leads, as an index.
    ///
    /// # Errors
    /// If nobody does.
    pub fn leader(&self) -> Result<usize> {
        let status = self.ask(&["cluster", "status"])?;
        let coordinators = status["coordinators"].as_array().context("no coordinators")?;
        let leads = coordinators.iter().find(|coordinator| coordinator["leads"] == true).context("nobody leads")?;
        Ok(usize::try_from(leads["id"].as_u64().context("no id")?)? - 1)
    }

    /// Whether a coordinator takes part: it leads, or it knows who does.
    ///
    /// # Errors
    /// If the client cannot be run.
    pub fn takes_part(&self, index: usize) -> Result<bool> {
        let address = self.addresses.get(index).context("no such coordinator")?;
        Ok(self.command_at(address, &["cluster", "status"])?.success())
    }

    /// The job's state, generation and newest visible epoch.
    ///
    /// # Errors
    /// If the cluster does not say.
    pub fn job(&self) -> Result<(String, u64, u64)> {
        let job = self.ask(&["job", "describe", JOB])?;
        let number = |name: &str| job[name].as_u64().unwrap_or(0);
        Ok((job["status"].as_str().unwrap_or_default().to_owned(), number("generation"), number("committed_epoch")))
    }

    /// What executors, and coordinators that were started again, have said on stderr.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn said(&self) -> Result<String> {
        std::fs::read_to_string(self.qanat.folder.join(STDERR)).context("read what the processes said")
    }
}
