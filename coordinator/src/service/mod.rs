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

use qanat_coordinator_core::Refusal;
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error};
use tonic::Status;

use crate::raft::{Leadership, Member, not_leader};

/// Answers come from the leader, and from what is decided: another coordinator says who that is.
pub(crate) async fn lead(member: &Member) -> Result<(), Status> {
    match member.leadership().await {
        Leadership::Leading { .. } => Ok(()),
        Leadership::Following { leader } => Err(status_of(&not_leader(leader))),
    }
}

/// A job that was there a moment ago.
fn gone() -> Status {
    status_of(&Error::new(Code::UnknownJob, "the job is gone"))
}

/// What `apply` refuses.
fn refused(refusal: &Refusal) -> Status {
    status_of(&refusal.into())
}
