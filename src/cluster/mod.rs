//! The processes of a cluster: coordinators, executors, and a whole one on loopback for trying things out.

mod authority;
mod coordinator;
mod dev;
mod ending;
mod executor;
mod family;
mod node_folder;
mod owner;
mod planner;
mod reader;
mod roots;
mod security;
mod storage;

pub(crate) use authority::{InitOptions, NewNode, certify, host_of, init};
pub(crate) use coordinator::{CoordinatorOptions, run_coordinator};
pub(crate) use dev::{DevOptions, run_dev};
pub(crate) use executor::{ExecutorOptions, run_executor};
pub(crate) use security::{NodeSecurity, read_authority, read_token};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qanat_proto::rpc::dial::{Dial, TcpDial, TlsDial};
use qanat_proto::{Code, Error, Place, Result};
use tokio::runtime::Runtime;

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
    take(runtime, || {
        let bound = runtime.block_on(tokio::net::TcpListener::bind(parsed));
        bound.map_err(|e| Error::io("listen", &e).at(at()).hint("another process may use the port"))
    })
}

/// Takes a port or a folder. An earlier start of this process that was killed a moment ago may still hold it: the system
/// takes a process apart behind the back of whoever starts the next one.
fn take<T>(runtime: &Runtime, mut take: impl FnMut() -> Result<T>) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(50);
    // 2 s in all.
    for _ in 0..40 {
        match take() {
            Err(error) if matches!(error.code(), Code::Io | Code::DataFolderLocked) => {
                runtime.block_on(tokio::time::sleep(PAUSE));
            }
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
async fn asked_to_end() {
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
    fn a_port_that_becomes_free_is_taken() {
        let runtime = runtime().expect("starts");
        let mut held = Some(std::net::TcpListener::bind("127.0.0.1:0").expect("bound"));
        let address = held.as_ref().and_then(|held| held.local_addr().ok()).expect("an address");
        let mut tries = 0;
        let taken = take(&runtime, || {
            tries += 1;
            if tries == 3 {
                held = None;
            }
            std::net::TcpListener::bind(address).map_err(|e| Error::io("listen", &e))
        });
        assert_eq!(taken.expect("free").local_addr().expect("an address"), address);
        // What no waiting changes is told at once.
        tries = 0;
        let refused = take(&runtime, || {
            tries += 1;
            Err::<(), _>(Error::new(Code::Usage, "no address"))
        });
        assert_eq!((refused.expect_err("refused").code(), tries), (Code::Usage, 1));
    }
}
