//! A whole cluster of real processes on loopback, for trying things out and for tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use qanat_client::Client;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cluster::runtime;
use crate::data_folder::{lock, make_dir};
use crate::observe::ANNOUNCEMENT;
use crate::output::{self, Format};
use crate::small_file;

/// What the cluster is made of.
pub(crate) struct DevOptions {
    pub(crate) data: PathBuf,
    /// Where the first coordinator listens; a free port if not given.
    pub(crate) api: Option<String>,
    pub(crate) coordinators: u32,
    pub(crate) executors: u32,
    pub(crate) slots: u32,
    pub(crate) files_roots: Vec<PathBuf>,
}

/// How long all processes may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is told once it serves.
#[derive(Serialize)]
struct Told {
    api: String,
    /// All coordinators: any of them may be asked.
    coordinators: Vec<String>,
    processes: Vec<ToldProcess>,
}

#[derive(Clone, Serialize)]
struct ToldProcess {
    role: &'static str,
    id: String,
    pid: u32,
    /// Where its metrics are, until it is started again.
    metrics: String,
    /// Starts it again on its folders.
    command: Vec<String>,
}

/// Processes that end with this one.
struct Family(Vec<(ToldProcess, Child)>);

impl Drop for Family {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
        }
        for (_, child) in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Starts the cluster, says where it is, and tears it down when it is asked to end.
///
/// # Errors
/// What keeps a process from starting.
pub(crate) fn run_dev(options: &DevOptions, format: Format) -> Result<()> {
    let env = Env::real();
    let root = absolute(&options.data)?;
    make_dir(&env, &root)?;
    let _lock = lock(&env, &root)?;
    let (cluster, is_new) = cluster_id(&env, &root)?;
    let ports = Ports::new(&env, &root, options)?;
    let members: Vec<String> =
        ports.coordinators.iter().enumerate().map(|(index, address)| format!("{}={address}", index + 1)).collect();
    let program = std::env::current_exe().map_err(|e| Error::io("find this program", &e))?;
    let program = program.display().to_string();
    let storage = root.join("storage").display().to_string();
    let mut family = Family(Vec::new());
    let mut announced = Vec::new();
    let mut spawn = |role: &'static str, id: String, mut arguments: Vec<String>, once: &[&str]| -> Result<()> {
        arguments.extend(["--metrics", "127.0.0.1:0"].map(str::to_owned));
        let mut command = Command::new(&program);
        // Not even a parent that is killed leaves them behind.
        let parent = std::process::id().to_string();
        command
            .args(&arguments)
            .args(once)
            .args(["--parent", &parent])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|e| Error::io("start a process", &e))?;
        announced.push(drain(&mut child));
        let metrics = String::new();
        let told =
            ToldProcess { role, id, pid: child.id(), metrics, command: [vec![program.clone()], arguments].concat() };
        family.0.push((told, child));
        Ok(())
    };
    let text = |argument: &str| argument.to_owned();
    for (index, address) in ports.coordinators.iter().enumerate() {
        let id = (index + 1).to_string();
        let data = root.join(format!("coordinator-{id}")).display().to_string();
        let mut arguments = vec![
            text("coordinator"),
            text("--cluster-id"),
            cluster.clone(),
            text("--id"),
            id.clone(),
            text("--listen"),
            address.clone(),
            text("--members"),
            members.join(","),
            text("--data"),
            data,
            text("--storage"),
            storage.clone(),
        ];
        for files_root in &options.files_roots {
            arguments.extend([text("--files-root"), absolute(files_root)?.display().to_string()]);
        }
        let once: &[&str] = if is_new && index == 0 { &["--found"] } else { &[] };
        spawn("coordinator", id, arguments, once)?;
    }
    for index in 1..=options.executors {
        let id = format!("executor-{index}");
        let arguments = vec![
            text("executor"),
            text("--cluster-id"),
            cluster.clone(),
            text("--node"),
            id.clone(),
            text("--slots"),
            options.slots.to_string(),
            text("--coordinators"),
            ports.coordinators.join(","),
            text("--data"),
            root.join(&id).display().to_string(),
            text("--storage"),
            storage.clone(),
        ];
        spawn("executor", id, arguments, &[])?;
    }
    let runtime = runtime()?;
    runtime.block_on(serves(&ports.coordinators, options))?;
    for ((told, _), announced) in family.0.iter_mut().zip(announced) {
        // It serves, so it has said where.
        told.metrics = announced.recv_timeout(PATIENCE).unwrap_or_default();
    }
    let api = ports.coordinators.first().cloned().unwrap_or_default();
    let told = Told {
        api: api.clone(),
        coordinators: ports.coordinators.clone(),
        processes: family.0.iter().map(|(told, _)| told.clone()).collect(),
    };
    output::print_object(&told, format, || {
        format!("serving at {api}: {} coordinators, {} executors", options.coordinators, options.executors)
    });
    runtime.block_on(crate::cluster::asked_to_end());
    drop(family);
    Ok(())
}

/// Waits until there is a leader and all executors are attached.
async fn serves(coordinators: &[String], options: &DevOptions) -> Result<()> {
    let client = Client::new(coordinators.iter().cloned())?.with_deadline(PATIENCE);
    let started = Env::real().clock.monotonic();
    loop {
        let status = client.status().await?;
        if status.executors.iter().filter(|executor| executor.attached).count() >= options.executors as usize {
            return Ok(());
        }
        if Env::real().clock.monotonic().saturating_sub(started) > PATIENCE {
            let error = Error::new(Code::ExecutorLost, "not all executors have found the coordinators");
            return Err(error.hint("their own messages stand above"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps a pipe empty, so that nobody ever waits for its reader. Gives where the process says that its metrics are.
fn drain(child: &mut Child) -> Receiver<String> {
    let (found, announced) = bounded(1);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let address = line.as_ref().ok().and_then(|line| line.strip_prefix(ANNOUNCEMENT));
                if let Some(address) = address {
                    let _ = found.try_send(format!("http://{address}"));
                }
            }
        });
    }
    announced
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(format!("find `{}`", path.display()), &e))
}

/// The cluster's random id, kept in its folder; whether it is new.
fn cluster_id(env: &Env, root: &Path) -> Result<(String, bool)> {
    let path = root.join(".id");
    if let Some(id) = read_lines(env, &path)? {
        return Ok((id.trim_end().to_owned(), false));
    }
    let id = format!("{:032x}", env.entropy.u128());
    qanat_storage::crash_safe::write_new(env, &path, &small_file::sealed(&format!("{id}\n"))).map_err(Error::from)?;
    Ok((id, true))
}

fn read_lines(env: &Env, path: &Path) -> Result<Option<String>> {
    const BYTES_MAX: u64 = 4 << 10;
    small_file::read_sealed(env, path, BYTES_MAX, "the file is damaged")
}

/// Addresses of the processes, the same at every start of the cluster.
struct Ports {
    coordinators: Vec<String>,
}

impl Ports {
    fn new(env: &Env, root: &Path, options: &DevOptions) -> Result<Self> {
        let path = root.join(".addresses");
        if let Some(lines) = read_lines(env, &path)? {
            let coordinators: Vec<String> = lines.lines().map(str::to_owned).collect();
            if coordinators.len() == options.coordinators as usize {
                return Ok(Self { coordinators });
            }
            let message = format!("this cluster has {} coordinators", coordinators.len());
            return Err(Error::new(Code::ForeignState, message).at(Place::Named(root.display().to_string())));
        }
        let mut coordinators: Vec<String> = options.api.iter().cloned().collect();
        while coordinators.len() < options.coordinators as usize {
            let address = format!("127.0.0.1:{}", free_port(env)?);
            if !coordinators.contains(&address) {
                coordinators.push(address);
            }
        }
        let lines: String = coordinators.iter().map(|address| format!("{address}\n")).collect();
        qanat_storage::crash_safe::write_new(env, &path, &small_file::sealed(&lines)).map_err(Error::from)?;
        Ok(Self { coordinators })
    }
}

/// A port that nobody listens at. Below those that the system gives to connections, so that none of these takes it
/// before its process does.
fn free_port(env: &Env) -> Result<u16> {
    const RANGE: (u16, u16) = (10_000, 32_000);
    const TRIES: usize = 1_000;
    for _ in 0..TRIES {
        let offset = env.entropy.u64() % u64::from(RANGE.1 - RANGE.0);
        let port = RANGE.0 + u16::try_from(offset).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new(Code::Io, "no free port was found on loopback"))
}
