//! The processes of a cluster: coordinators, executors, and a whole one on loopback for trying things out.

mod authority;
mod coordinator;
mod dev;
mod ending;
mod executor;
mod family;
mod guardian;
mod node_folder;
mod owner;
mod planner;
mod reader;
mod roots;
mod security;
mod storage;

pub(crate) use authority::{InitOptions, NewNode, certify, host_of, init};
pub(crate) use coordinator::{CoordinatorOptions, CoordinatorProcess, run_coordinator};
pub(crate) use dev::{DevOptions, run_dev};
pub(crate) use executor::{ExecutorFolders, ExecutorOptions, ExecutorProcess, run_executor};
pub(crate) use guardian::end_behind;
pub(crate) use planner::starts_of;
pub(crate) use security::{NodeSecurity, read_authority, read_token};

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qanat_proto::rpc::dial::{Dial, TcpDial, TlsDial};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::{Env, File, thread};
use tokio::runtime::{Handle, Runtime};

use crate::data_folder;

/// What a process stands in: the machine, or a simulated one.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) env: Env,
    /// Of its IO.
    pub(crate) runtime: Handle,
    /// How it reaches the others.
    pub(crate) dial: Arc<dyn Dial>,
}

/// The runtime of a process: IO only, jobs compute elsewhere.
fn runtime() -> Result<Arc<Runtime>> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("io").enable_all().build();
    built.map(Arc::new).map_err(|e| Error::io("start the runtime", &e))
}

/// How a process reaches the others.
fn dial(security: Option<&NodeSecurity>) -> Arc<dyn Dial> {
    match security {
        Some(security) => Arc::new(TlsDial::of_node(security.credentials())),
        None => Arc::new(TcpDial),
    }
}

/// Binds an address. Without certificates a process is reached from its own machine alone.
fn listen(runtime: &Runtime, address: &str, security: Option<&NodeSecurity>) -> Result<tokio::net::TcpListener> {
    let at = || Place::Named(address.to_owned());
    let parsed: SocketAddr = address.parse().map_err(|e| {
        Error::new(Code::Usage, format!("this is no address to listen at: {e}")).at(at()).hint("write IP:PORT")
    })?;
    if security.is_none() && !parsed.ip().is_loopback() {
        let error = Error::new(Code::Usage, "without certificates a process listens on loopback only");
        return Err(error.at(at()).hint("use 127.0.0.1; or `qanat cluster init`, and --security"));
    }
    let bound = take(|| runtime.block_on(tokio::net::TcpListener::bind(parsed)), is_in_use);
    bound.map_err(|e| Error::io("listen", &e).at(at()).hint("another process may use the port"))
}

/// Binds the address of the metrics.
fn bind_port(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    take(|| std::net::TcpListener::bind(address), is_in_use)
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}

/// [`data_folder::lock`], as [`take`] does.
fn lock(env: &Env, folder: &Path) -> Result<Arc<dyn File>> {
    take(|| data_folder::lock(env, folder), |e| e.code() == Code::DataFolderLocked)
}

/// Tries until what is taken is free, for two seconds: an earlier start of this process that was just killed may still
/// have it, because the system takes that apart behind the back of whoever starts the next one.
fn take<T, E>(
    mut take: impl FnMut() -> std::result::Result<T, E>,
    is_taken: impl Fn(&E) -> bool,
) -> std::result::Result<T, E> {
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..40 {
        match take() {
            Err(error) if is_taken(&error) => thread::rest(PAUSE),
            taken => return taken,
        }
    }
    take()
}

/// Has the system end this process when its parent does, however that ends.
pub(crate) fn end_with(parent: i32) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
        let failed = |e: rustix::io::Errno| Error::io("watch the parent process", &e.into());
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
        // It may have ended before that was said.
        if getppid() != Pid::from_raw(parent) {
            return Err(Error::internal("the parent process has ended"));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}

/// Returns when the process is asked to end (Ctrl-C or SIGTERM).
pub(crate) async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_free_is_taken_and_what_is_wrong_is_told() {
        let answers = |given: Vec<std::result::Result<u8, &'static str>>| {
            let mut given = given.into_iter();
            take(|| given.next().unwrap_or(Err("taken")), |e| *e == "taken")
        };
        assert_eq!(answers(vec![Err("taken"), Err("taken"), Ok(7)]), Ok(7));
        assert_eq!(answers(vec![Err("taken"), Err("no address"), Ok(7)]), Err("no address"));
        assert_eq!(answers(Vec::new()), Err("taken"), "not for ever");
    }
}
