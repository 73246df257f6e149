//! A whole cluster of real processes on loopback, for trying things out and for tests.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qanat_client::Client;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cluster::family::{Family, PATIENCE, ToldProcess};
use crate::cluster::{listen, lock, runtime};
use crate::data_folder::make_dir;
use crate::output::{self, Format};
use qanat_storage::small_file;

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

/// What is told once it serves.
#[derive(Serialize)]
struct Told {
    api: String,
    /// All coordinators: any of them may be asked.
    coordinators: Vec<String>,
    processes: Vec<ToldProcess>,
}

/// Starts the cluster, says where it is, and tears it down when it is asked to end.
///
/// # Errors
/// What keeps a process from starting.
pub(crate) fn run_dev(options: &DevOptions, format: Format) -> Result<()> {
    let env = Env::real();
    let root = absolute(&options.data)?;
    make_dir(&env, &root)?;
    let runtime = runtime()?;
    let _lock = lock(&env, &root)?;
    let cluster = cluster_id(&env, &root)?;
    let has_served = Served::is_noted(&env, &root)?;
    let ports = Ports::new(&env, &root, &runtime, options)?;
    let members: Vec<String> =
        ports.coordinators.iter().enumerate().map(|(index, address)| format!("{}={address}", index + 1)).collect();
    let storage = root.join("storage").display().to_string();
    let mut family = Family::new()?;
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
        let once: &[&str] = if has_served || index > 0 { &[] } else { &["--found"] };
        family.spawn("coordinator", id, arguments, once)?;
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
        family.spawn("executor", id, arguments, &[])?;
    }
    runtime.block_on(async {
        tokio::select! {
            biased;
            error = family.fails() => Err(error),
            served = serves(&ports.coordinators, options) => served,
        }
    })?;
    family.have_announced(&runtime)?;
    if !has_served {
        Served::note(&env, &root)?;
    }
    let api = ports.coordinators.first().cloned().unwrap_or_default();
    let told = Told { api: api.clone(), coordinators: ports.coordinators.clone(), processes: family.told() };
    output::print_object(&told, format, || {
        let coordinators = output::counted(options.coordinators.into(), "coordinator", "coordinators");
        format!(
            "serving at {api}: {coordinators}, {}",
            output::counted(options.executors.into(), "executor", "executors")
        )
    });
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = crate::cluster::asked_to_end() => {}
            never = family.tell_of_ends() => match never {},
        }
    });
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

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(format!("find `{}`", path.display()), &e))
}

/// The cluster's random id, kept in its folder.
fn cluster_id(env: &Env, root: &Path) -> Result<String> {
    let path = root.join(".id");
    if let Some(id) = read_lines(env, &path)? {
        return Ok(id.trim_end().to_owned());
    }
    let id = format!("{:032x}", env.entropy.u128());
    qanat_storage::crash_safe::write_new(env, &path, &small_file::sealed(&format!("{id}\n"))).map_err(Error::from)?;
    Ok(id)
}

/// A note that the cluster has served: its group is founded. Until then each start founds it, which does nothing to one
/// that is; after it none does, whatever became of the first coordinator's folder.
struct Served;

impl Served {
    fn path(root: &Path) -> PathBuf {
        root.join(".served")
    }

    fn is_noted(env: &Env, root: &Path) -> Result<bool> {
        read_lines(env, &Self::path(root)).map(|note| note.is_some())
    }

    fn note(env: &Env, root: &Path) -> Result<()> {
        let note = small_file::sealed("served\n");
        qanat_storage::crash_safe::write_new(env, &Self::path(root), &note).map_err(Error::from)
    }
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
    fn new(env: &Env, root: &Path, runtime: &Runtime, options: &DevOptions) -> Result<Self> {
        let path = root.join(".addresses");
        if let Some(lines) = read_lines(env, &path)? {
            let coordinators: Vec<String> = lines.lines().map(str::to_owned).collect();
            let foreign =
                |message: String| Error::new(Code::ForeignState, message).at(Place::Named(root.display().to_string()));
            if coordinators.len() != options.coordinators as usize {
                let has = output::counted(coordinators.len() as u64, "coordinator", "coordinators");
                let error = foreign(format!("this cluster has {has}"));
                return Err(error.hint("start it with as many, or another one with another --data"));
            }
            let first = coordinators.first().map(String::as_str).unwrap_or_default();
            // Port 0 asks for any.
            if let Some(api) = options.api.as_deref().filter(|api| *api != first && port_of(api) != Some(0)) {
                let message = format!("this cluster's first coordinator is at {first}, not at {api}");
                let hint = "its group knows it by that address: leave out --api, or start another one with another \
                    --data";
                return Err(foreign(message).hint(hint));
            }
            return Ok(Self { coordinators });
        }
        let mut coordinators = Vec::new();
        if let Some(api) = options.api.as_deref().filter(|api| port_of(api) != Some(0)) {
            // Before it is written down for good.
            drop(listen(runtime, api, None)?);
            coordinators.push(api.to_owned());
        }
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

fn port_of(address: &str) -> Option<u16> {
    address.parse::<SocketAddr>().ok().map(|address| address.port())
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
