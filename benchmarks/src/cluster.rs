//! A cluster of real processes to measure: `qanat dev`, whose processes are killed and started again one by one.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What a process of the cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Coordinator,
    Executor,
}

/// One process, and how it is started again.
#[derive(Debug)]
pub struct Process {
    pub role: Role,
    /// Number of a coordinator, name of an executor.
    pub id: String,
    pid: i32,
    /// Where its metrics are, as it has announced: `HOST:PORT`.
    metrics: Arc<Mutex<Option<String>>>,
    command: Vec<String>,
    /// Once it was started again here.
    child: Option<Child>,
}

impl Process {
    /// SIGKILL: from this call on it does nothing more.
    ///
    /// # Errors
    /// If the process is not there.
    pub fn kill(&mut self) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("the process has no id")?;
        kill_process(pid, Signal::KILL).with_context(|| format!("kill {}", self.id))?;
        if let Some(mut child) = self.child.take() {
            child.wait().context("wait for a killed process")?;
        }
        Ok(())
    }

    /// The number that the system knows it by.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Where its metrics are; None before it has said so.
    pub fn metrics(&self) -> Option<String> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts it on its folders, after it was killed.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn start(&mut self) -> Result<()> {
        let (program, arguments) = self.command.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("start {}", self.id))?;
        self.metrics = Arc::default();
        if let Some(stdout) = child.stdout.take() {
            let metrics = self.metrics.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                    if let Some(url) = line.strip_prefix("metrics at ") {
                        *metrics.lock().unwrap_or_else(PoisonError::into_inner) = Some(host_of(url));
                    }
                }
            });
        }
        self.pid = i32::try_from(child.id())?;
        self.child = Some(child);
        Ok(())
    }
}

/// Coordinators and executors, torn down when this is dropped.
#[derive(Debug)]
pub struct DevCluster {
    dev: Child,
    /// Addresses of the coordinators.
    pub addresses: Vec<String>,
    pub processes: Vec<Process>,
}

impl DevCluster {
    /// Starts it in `folder`, below which jobs may write, and waits until it serves.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(binary: &Path, folder: &Path, coordinators: usize, executors: usize) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["-o", "json", "dev", "--data", "dev", "--slots", "2", "--files-root"]).arg(folder);
        command.args(["--coordinators", &coordinators.to_string(), "--executors", &executors.to_string()]);
        command.current_dir(folder);
        let errors = std::fs::File::create(folder.join("stderr"))?;
        let mut dev =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().context("start dev")?;
        let mut line = String::new();
        BufReader::new(dev.stdout.take().context("no output")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).with_context(|| format!("dev says {line:?}"))?;
        let processes = told["processes"].as_array().context("no processes")?;
        let processes = processes.iter().map(process).collect::<Result<Vec<_>>>()?;
        ensure!(processes.len() == coordinators + executors, "{} processes", processes.len());
        Ok(Self { dev, addresses: texts(&told["coordinators"]), processes })
    }

    /// A process by its role and id.
    ///
    /// # Errors
    /// If there is none.
    pub fn process(&mut self, role: Role, id: &str) -> Result<&mut Process> {
        self.processes.iter_mut().find(|process| process.role == role && process.id == id).context("no such process")
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        // Those of `dev` end with it; what is gone already needs nothing.
        for mut child in self.processes.iter_mut().filter_map(|process| process.child.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = i32::try_from(self.dev.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.dev.wait();
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn process(told: &Value) -> Result<Process> {
    let role = if told["role"] == "coordinator" { Role::Coordinator } else { Role::Executor };
    Ok(Process {
        role,
        id: told["id"].as_str().context("no id")?.to_owned(),
        pid: i32::try_from(told["pid"].as_i64().context("no pid")?)?,
        metrics: Arc::new(Mutex::new(told["metrics"].as_str().map(host_of))),
        command: texts(&told["command"]),
        child: None,
    })
}

/// `HOST:PORT` of a URL.
fn host_of(url: &str) -> String {
    url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned()
}

/// A folder of its own under the system's temporary one.
///
/// # Errors
/// If there is no room.
pub fn new_folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("qanat-{name}-{}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
