//! What a coordinator answers over gRPC.

mod cluster;
mod data;
mod guard;
mod jobs;
mod nodes;
mod raft;
mod rate;
mod readmit;
mod roles;
mod rollback;
mod savepoints;
mod tokens;
mod topics;
mod trace;

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tls_tests;

pub use cluster::ClusterService;
pub use data::{DataReader, DataService, Parts, tail_events};
pub use guard::{Guard, GuardLayer, Security};
pub use jobs::{JobsService, PlannedJob, PlannedScript, Planner};
pub use nodes::NodesService;
pub use raft::RaftService;
pub use roles::{Needs, needs};

use std::collections::BTreeMap;

use qanat_coordinator_core::Refusal;
use qanat_proto::ids::StartId;
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error};
use tonic::Status;

use crate::nodes::Nodes;
use crate::raft::{Leadership, Member, not_leader};

/// Answers come from the leader, and from what is decided: another coordinator says who that is.
pub(crate) async fn lead(member: &Member) -> Result<(), Status> {
    match member.leadership().await {
        Leadership::Leading { .. } => Ok(()),
        Leadership::Following { leader } => Err(status_of(&not_leader(leader))),
    }
}

/// The nodes' names, as decided and as executors said when they came: a leader knows them before it has met anybody.
fn node_names(member: &Member, nodes: &Nodes) -> BTreeMap<StartId, String> {
    let mut names = nodes.names();
    names.extend(member.state(|state| {
        let named = state.nodes.iter().map(|(name, holder)| (holder.start, name.clone()));
        named.collect::<Vec<_>>()
    }));
    names
}

/// A job that was there a moment ago.
fn gone() -> Status {
    status_of(&Error::new(Code::UnknownJob, "the job is gone"))
}

/// What `apply` refuses.
fn refused(refusal: &Refusal) -> Status {
    status_of(&refusal.into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crossbeam::channel::unbounded;
    use qanat_coordinator_core::Command;
    use qanat_coordinator_core::membership::Incarnation;
    use qanat_storage::env::Env;

    use super::*;

    #[test]
    fn a_leader_that_has_met_nobody_knows_the_names_of_all() {
        let sim = Env::sim(1);
        let member = Member::alone(&sim.env, PathBuf::from("/commands")).expect("leads");
        let incarnation = Incarnation { folder: 1, number: 1 };
        let register = Command::Register { node: "a".to_owned(), start: StartId(7), incarnation, known: Vec::new() };
        member.propose(&register).expect("decided").expect("registered");
        let (events, _heard) = unbounded();
        let (inbox, _reports) = unbounded();
        let nodes = Nodes::new(sim.env.clock.clone(), events, inbox);
        assert_eq!(node_names(&member, &nodes), [(StartId(7), "a".to_owned())].into());
        // Of one that works under a name that was given to another one since, the leader knows none.
        nodes.lead([(StartId(7), String::new()), (StartId(8), "b".to_owned())]);
        assert_eq!(node_names(&member, &nodes), [(StartId(7), "a".to_owned()), (StartId(8), "b".to_owned())].into());
    }
}
