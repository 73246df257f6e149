//! A node of the cluster that runs on this machine: killed, paused, and brought back, whatever happens.

use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::{Error, Result};
use qanat_storage::env::Env;
use rustix::process::Signal;

use crate::chaos::machine::{self, Started};
use crate::chaos::process::Process;
use crate::cluster::NodeSecurity;

/// Who a node is, as the cluster tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) role: NodeRole,
    /// A coordinator's number, an executor's name.
    pub(super) name: String,
    /// Where it listens.
    pub(super) address: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.role, self.name, self.address)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    Paused,
    /// It has ended, and is to be started again.
    Down,
}

/// A node and its process.
pub(super) struct Node {
    pub(super) identity: Identity,
    process: Process,
    state: State,
}

impl Drop for Node {
    /// However the command ends: nothing stays away that it took away.
    fn drop(&mut self) {
        if self.state == State::Down {
            self.process.until_over();
        }
        // There is nobody left to tell.
        let _ = self.bring_back();
    }
}

impl Node {
    /// Finds the node's process. Else why there is none that may be touched.
    pub(super) fn find(env: &Env, cluster: &str, identity: Identity) -> Result<Self, String> {
        let Some(pid) = machine::listener(&identity.address) else {
            return Err(format!("{identity} is no process of this machine and user"));
        };
        let process = Process::of(pid).map_err(|error| format!("{identity}, process {pid}: {}", error.message()))?;
        if is_node(env, cluster, &identity, &process.started) {
            Ok(Self { identity, process, state: State::Runs })
        } else {
            Err(format!("{identity}: process {pid}, which listens there, is not this node itself"))
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Ends it with a signal; it is gone when [`Node::is_gone`] says so.
    pub(super) fn end(&mut self, signal: Signal) -> Result<()> {
        if self.state == State::Runs {
            self.process.hold_outputs();
        }
        self.process.signal(signal)?;
        self.state = State::Down;
        Ok(())
    }

    /// Whether its process has ended, by itself or not.
    pub(super) fn is_gone(&mut self) -> bool {
        let is_gone = self.process.has_ended();
        if is_gone {
            self.state = State::Down;
        }
        is_gone
    }

    pub(super) fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)?;
        self.state = State::Paused;
        Ok(())
    }

    /// It runs again, if it was paused or is down.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn bring_back(&mut self) -> Result<()> {
        match self.state {
            State::Runs => return Ok(()),
            State::Paused => self.process.signal(Signal::CONT)?,
            State::Down if self.process.has_ended() => self.process.start_again()?,
            State::Down => return Err(Error::internal(format!("{} does not end", self.identity))),
        }
        self.state = State::Runs;
        Ok(())
    }

    /// Somebody else has started it again: a service manager, or its owner.
    pub(super) fn replace(&mut self, mut other: Self) {
        std::mem::swap(&mut self.process, &mut other.process);
        std::mem::swap(&mut self.identity, &mut other.identity);
        self.state = State::Runs;
        other.state = State::Runs;
    }
}

/// Whether a process is that node and no other thing: a tunnel to another machine listens at a port, too.
fn is_node(env: &Env, cluster: &str, identity: &Identity, started: &Started) -> bool {
    let (verb, name) = match identity.role {
        NodeRole::Coordinator => ("coordinator", "--id"),
        NodeRole::Executor => ("executor", "--node"),
    };
    if !started.has(verb) {
        return false;
    }
    match started.option("--security") {
        Some(folder) => {
            let read = NodeSecurity::read(env, &started.folder.join(folder), identity.role);
            read.is_ok_and(|security| {
                let own = security.identity();
                own.cluster.as_str() == cluster && own.node.as_str() == identity.name
            })
        }
        None => started.option("--cluster-id") == Some(cluster) && started.option(name) == Some(&identity.name),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn started(words: &[&str]) -> Started {
        let arguments = words.iter().map(OsString::from).collect();
        Started { program: "qanat".into(), arguments, folder: "/".into(), variables: Vec::new() }
    }

    #[test]
    fn only_the_node_itself_is_touched() {
        let executor = Identity { role: NodeRole::Executor, name: "e-1".into(), address: "127.0.0.1:1".into() };
        let is = |words: &[&str]| is_node(&Env::real(), "sales", &executor, &started(words));
        assert!(is(&["executor", "--cluster-id", "sales", "--node", "e-1"]));
        assert!(is(&["-o", "json", "executor", "--node=e-1", "--cluster-id=sales"]));
        for other in [
            &["coordinator", "--cluster-id", "sales", "--node", "e-1"][..],
            &["executor", "--cluster-id", "other", "--node", "e-1"],
            &["executor", "--cluster-id", "sales", "--node", "e-2"],
            &["executor", "--security", "there-is-no-such-folder"],
            &["-L", "8080:worker:8080", "gateway"],
        ] {
            assert!(!is(other), "{other:?}");
        }
        let coordinator = Identity { role: NodeRole::Coordinator, name: "2".into(), ..executor.clone() };
        let words = ["coordinator", "--cluster-id", "sales", "--id", "2", "--members", "1=a:1,2=b:1"];
        assert!(is_node(&Env::real(), "sales", &coordinator, &started(&words)));
    }
}
