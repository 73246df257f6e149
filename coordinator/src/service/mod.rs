//! What a coordinator answers over gRPC.

mod cluster;
mod guard;
mod jobs;
mod nodes;
mod raft;
mod rate;
mod roles;
mod rollback;
mod savepoints;
mod tokens;
mod trace;

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tls_tests;

pub use cluster::ClusterService;
pub use guard::{Guard, GuardLayer, Security};
pub use jobs::{JobsService, PlannedJob, PlannedScript, Planner, WithdrawableSink};
pub use nodes::NodesService;
pub use raft::RaftService;
pub use roles::{Needs, needs};

use qanat_proto::rpc::status::status_of;
use tonic::Status;

use crate::raft::{Leadership, Member, not_leader};

/// Answers come from the leader, and from what is decided: another coordinator says who that is.
async fn lead(member: &Member) -> Result<(), Status> {
    match member.leadership().await {
        Leadership::Leading { .. } => Ok(()),
        Leadership::Following { leader } => Err(status_of(&not_leader(leader))),
    }
}
