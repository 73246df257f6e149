//! The cluster itself: who is there.

use std::sync::Arc;

use qanat_coordinator_core::Command;
use qanat_proto::error::nearest;
use qanat_proto::rpc::control::cluster_server::{Cluster, ClusterServer};
use qanat_proto::rpc::control::{
    AccessToken, AuditLogRequest, AuditLogResponse, Coordinator, CreateTokenRequest, DrainRequest, DrainResponse,
    Executor, ListTokensRequest, ListTokensResponse, RevokeTokenRequest, StatusRequest, StatusResponse,
};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, limits};
use tonic::{Request, Response, Status};

use crate::nodes::Nodes;
use crate::raft::Member;
use crate::service::guard::Guard;
use crate::service::{lead, tokens};

/// Serves the state of the cluster from the leader.
pub struct ClusterService {
    member: Arc<Member>,
    nodes: Arc<Nodes>,
    cluster: Arc<str>,
    guard: Arc<Guard>,
}

impl ClusterService {
    pub fn server(member: Arc<Member>, nodes: Arc<Nodes>, cluster: Arc<str>, guard: Arc<Guard>) -> ClusterServer<Self> {
        ClusterServer::new(Self { member, nodes, cluster, guard })
            .max_decoding_message_size(limits::CLIENT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CLIENT_MESSAGE_BYTES)
    }

    /// Has the group decide for the present caller.
    async fn decide(&self, command: Command) -> Result<(), Status> {
        let decided = self.member.propose_async(command).await.map_err(|error| status_of(&error))?;
        decided.map(drop).map_err(|refusal| status_of(&Error::new(Code::Usage, refusal.to_string())))
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
            let object = if undo { format!("executor {node}, undone") } else { format!("executor {node}") };
            self.decide(Command::Note { object }).await?;
            return Ok(Response::new(DrainResponse {}));
        }
        let names: Vec<String> = self.nodes.executors().into_iter().map(|executor| executor.node).collect();
        let error = Error::new(Code::Usage, format!("there is no executor `{node}`"));
        Err(status_of(&match nearest(&node, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`qanat cluster status` lists them"),
        }))
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Result<Response<AccessToken>, Status> {
        lead(&self.member).await?;
        let refused = |error: Error| status_of(&error);
        let security = tokens::secured(&self.guard).map_err(refused)?;
        let command = tokens::creation(request.into_inner(), security, self.guard.now_ms()).map_err(refused)?;
        self.decide(command.clone()).await?;
        match command {
            Command::CreateToken { id, facts } => Ok(Response::new(tokens::told(id, &facts))),
            _ => Err(Status::internal("a token is made by another command")),
        }
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        lead(&self.member).await?;
        let security = tokens::secured(&self.guard).map_err(|error| status_of(&error))?;
        let tokens = self.member.state(|state| tokens::all(state, security));
        let tokens = tokens.iter().map(|(id, facts)| tokens::told(*id, facts)).collect();
        Ok(Response::new(ListTokensResponse { tokens }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Result<Response<AccessToken>, Status> {
        lead(&self.member).await?;
        let security = tokens::secured(&self.guard).map_err(|error| status_of(&error))?;
        let (wanted, now) = (request.into_inner().token, self.guard.now_ms());
        let found = self.member.state(|state| tokens::to_revoke(state, security, &wanted, now));
        let (id, facts) = found.map_err(|error| status_of(&error))?;
        self.decide(Command::RevokeToken { id }).await?;
        Ok(Response::new(tokens::told(id, &facts)))
    }

    async fn audit_log(&self, request: Request<AuditLogRequest>) -> Result<Response<AuditLogResponse>, Status> {
        lead(&self.member).await?;
        let last = request.into_inner().last;
        Ok(Response::new(self.member.state(|state| tokens::audit_log(&state.audit, last, &self.guard))))
    }
}
