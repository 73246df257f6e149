//! The cluster itself: who is there.

use std::sync::Arc;

use qanat_proto::error::nearest;
use qanat_proto::rpc::control::cluster_server::{Cluster, ClusterServer};
use qanat_proto::rpc::control::{Coordinator, DrainRequest, DrainResponse, Executor, StatusRequest, StatusResponse};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error};
use tonic::{Request, Response, Status};

use crate::nodes::Nodes;
use crate::raft::Member;
use crate::service::lead;

/// Serves the state of the cluster from the leader.
pub struct ClusterService {
    member: Arc<Member>,
    nodes: Arc<Nodes>,
    cluster: Arc<str>,
}

impl ClusterService {
    pub fn server(member: Arc<Member>, nodes: Arc<Nodes>, cluster: Arc<str>) -> ClusterServer<Self> {
        ClusterServer::new(Self { member, nodes, cluster })
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        lead(&self.member).await?;
        let coordinators = self.member.group().into_iter().map(|member| Coordinator {
            id: member.id,
            address: member.address,
            leads: member.leads,
            votes: member.votes,
        });
        let executors = self.nodes.executors().into_iter().filter(|executor| !executor.node.is_empty());
        let executors = executors.map(|executor| Executor {
            jobs: self.member.state(|state| {
                let here = state.jobs.values().filter(|job| !job.status.is_ended());
                here.filter(|job| job.placement.contains(&executor.start)).map(|job| job.name.clone()).collect()
            }),
            node: executor.node,
            start: executor.start.to_string(),
            slots: executor.slots,
            attached: executor.attached,
            draining: executor.draining,
        });
        Ok(Response::new(StatusResponse {
            cluster: self.cluster.to_string(),
            coordinators: coordinators.collect(),
            executors: executors.collect(),
        }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        lead(&self.member).await?;
        let DrainRequest { node, undo } = request.into_inner();
        if self.nodes.drain(&node, !undo) {
            return Ok(Response::new(DrainResponse {}));
        }
        let names: Vec<String> = self.nodes.executors().into_iter().map(|executor| executor.node).collect();
        let error = Error::new(Code::Usage, format!("there is no executor `{node}`"));
        Err(status_of(&match nearest(&node, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`qanat cluster status` lists them"),
        }))
    }
}
