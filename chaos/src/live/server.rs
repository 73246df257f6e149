//! A process of a cluster that can be ended, paused and started again on its disk.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};

use super::shim::Control;

/// Whatever a process does at its start or end is done by then.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);
/// What a process says of its metrics.
const ANNOUNCEMENT: &str = "metrics at http://";

/// A process, and how to start it again.
pub struct Server {
    pub name: String,
    /// Orders that it is under.
    pub control: Control,
    command: Vec<String>,
    variables: Vec<(String, String)>,
    child: Option<Child>,
    pid: i32,
    /// Where its metrics are, once it has said so: `HOST:PORT`.
    metrics: Arc<Mutex<Option<String>>>,
    stderr: PathBuf,
    /// The most memory that one of its lives had, in bytes.
    peak: u64,
}

impl Server {
    /// Not started yet. What it says on stderr is appended to `NAME.stderr` in `folder`.
    pub fn new(name: &str, folder: &Path, control: Control, variables: Vec<(String, String)>) -> Self {
        Self {
            name: name.to_owned(),
            control,
            command: Vec::new(),
            variables,
            child: None,
            pid: 0,
            metrics: Arc::default(),
            stderr: folder.join(format!("{name}.stderr")),
            peak: 0,
        }
    }

    /// What it is from its next start on.
    pub fn becomes(&mut self, command: Vec<String>) {
        self.command = command;
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// # Errors
    /// If it is not there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("the process has no id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// It can have no more memory than it has.
    ///
    /// # Errors
    /// If the system does not limit it.
    pub fn starve(&self) -> Result<()> {
        use rustix::process::{Resource, Rlimit, prlimit};
        let limit = Rlimit { current: Some(0), maximum: Some(0) };
        let pid = Pid::from_raw(self.pid).context("the process has no id")?;
        prlimit(Some(pid), Resource::As, limit).with_context(|| format!("limit {}", self.name)).map(drop)
    }

    /// Where its metrics are: `HOST:PORT`. None before it has said so.
    pub fn metrics(&self) -> Option<String> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How it ended by itself; none while it runs.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), |child| child.try_wait().context("look at a process"))
    }

    /// Ends it and waits until it is gone; nothing happens if it is. Returns how it ended.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<Option<ExitStatus>> {
        self.weigh();
        if self.ended()?.is_none() && self.child.is_some() {
            self.signal(signal)?;
        }
        self.reap(PATIENCE)
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn reap(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let begun = Instant::now();
        let Some(child) = &mut self.child else { return Ok(None) };
        loop {
            if let Some(status) = child.try_wait().context("wait for a process")? {
                return Ok(Some(status));
            }
            ensure!(begun.elapsed() < patience, "{} does not end", self.name);
            std::thread::sleep(POLL);
        }
    }

    /// Starts it on its disk. Returns the first line that it says; if it ended without one, how.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn try_start(&mut self) -> Result<std::result::Result<String, ExitStatus>> {
        self.control.calm()?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let errors = File::options().append(true).create(true).open(&self.stderr)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.variables.iter().cloned());
        command.env_remove("QANAT_FAILPOINT").env_remove("QANAT_DATA").env_remove("QANAT_CLUSTER");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("start {program}"))?;
        self.pid = i32::try_from(child.id())?;
        self.metrics = Arc::default();
        let stdout = child.stdout.take().context("no output")?;
        self.child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        let Some(first) = lines.next().transpose()? else {
            return Ok(Err(self.reap(PATIENCE)?.context("a process without an end")?));
        };
        let metrics = self.metrics.clone();
        let note = move |line: &str| {
            if let Some(address) = line.strip_prefix(ANNOUNCEMENT) {
                let address = address.split('/').next().unwrap_or_default().to_owned();
                *metrics.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
            }
        };
        note(&first);
        std::thread::spawn(move || lines.map_while(std::result::Result::ok).for_each(|line| note(&line)));
        Ok(Ok(first))
    }

    /// Notes how much memory it has had so far.
    pub fn weigh(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0);
        self.peak = self.peak.max(kib << 10);
    }

    /// The most memory that one of its lives had, as far as it was weighed.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// What all its lives have said on stderr.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn said(&self) -> Result<String> {
        let bytes = std::fs::read(&self.stderr).with_context(|| format!("read what {} said", self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
