//! What a coordinator answers over gRPC.

mod cluster;
mod jobs;
mod nodes;
mod raft;

pub use cluster::ClusterService;
pub use jobs::{JobsService, PlannedJob, PlannedScript, Planner};
pub use nodes::NodesService;
pub use raft::RaftService;

use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, Place};
use tonic::Status;

use crate::raft::{Leadership, Member};

/// What a coordinator that does not lead answers.
async fn not_leading(member: &Member) -> Status {
    let error = Error::new(Code::NotLeader, "this coordinator does not lead its group");
    status_of(&match member.leadership().await {
        Leadership::Following { leader: Some(address) } => {
            error.at(Place::Named(address)).hint("the leader is at this address")
        }
        _ => error.hint("no leader is known yet: try again"),
    })
}
