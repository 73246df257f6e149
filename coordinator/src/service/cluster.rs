//! The cluster itself: who is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qanat_coordinator_core::placement::squeezed;
use qanat_coordinator_core::{Command, Executor as Known};
use qanat_proto::error::nearest;
use qanat_proto::ids::{JobId, StartId, Token};
use qanat_proto::rpc::control::cluster_server::{Cluster, ClusterServer};
use qanat_proto::rpc::control::{
    AccessToken, AddCoordinatorRequest, AuditLogRequest, AuditLogResponse, Coordinator, CreateTokenRequest,
    DrainRequest, DrainResponse, Executor, Job, JobOverview, ListTokensRequest, ListTokensResponse, OverviewRequest,
    OverviewResponse, RemoveCoordinatorRequest, RevokeTokenRequest, StatusRequest, StatusResponse,
};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, Place, limits};
use qanat_storage::env::Clock;
use tonic::{Request, Response, Status};

use crate::metrics::CoordinatorMetrics;
use crate::nodes::Nodes;
use crate::raft::{Member, RunSummary};
use crate::service::guard::Guard;
use crate::service::jobs::told;
use crate::service::nodes::READY;
use crate::service::{lead, node_names, refused, tokens};

type Answer = Result<Response<StatusResponse>, Status>;

/// Serves the state of the cluster from the leader.
pub struct ClusterService {
    member: Arc<Member>,
    nodes: Arc<Nodes>,
    cluster: Arc<str>,
    guard: Arc<Guard>,
    metrics: Arc<CoordinatorMetrics>,
    clock: Arc<dyn Clock>,
}

/// How often an executor that is waited for is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl ClusterService {
    pub fn server(
        member: Arc<Member>,
        nodes: Arc<Nodes>,
        cluster: Arc<str>,
        guard: Arc<Guard>,
        metrics: Arc<CoordinatorMetrics>,
        clock: Arc<dyn Clock>,
    ) -> ClusterServer<Self> {
        ClusterServer::new(Self { member, nodes, cluster, guard, metrics, clock })
            .max_decoding_message_size(limits::CLIENT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CLIENT_MESSAGE_BYTES)
    }

    /// Has the group decide for the present caller.
    async fn decide(&self, command: Command) -> Result<(), Status> {
        let decided = self.member.propose_async(command).await.map_err(|error| status_of(&error))?;
        decided.map(drop).map_err(|refusal| refused(&refusal))
    }

    /// The executor of that name. One that still looks for this leader, or comes back, is waited for as long as its
    /// place is kept.
    async fn find(&self, node: &str) -> Option<StartId> {
        let found = async {
            loop {
                if let Some(start) = self.nodes.find(node) {
                    return start;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(Duration::from_millis(limits::EXECUTOR_ADOPTION_MS), found).await.ok()
    }

    /// All executors. If there is none but this one on which work may run, those that still look for this leader are
    /// waited for as long as their places are kept.
    async fn with_others_than(&self, start: StartId) -> Vec<Known> {
        let settled = async {
            loop {
                let executors = self.nodes.executors();
                let is_other = |executor: &Known| executor.start != start && executor.is_usable();
                if executors.iter().any(is_other) || executors.iter().all(|executor| executor.attached) {
                    return executors;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_millis(limits::EXECUTOR_ADOPTION_MS), settled).await;
        settled.unwrap_or_else(|_| self.nodes.executors())
    }

    /// One that was just elected knows its executors in a moment.
    async fn until_ready(&self) {
        let _ = tokio::time::timeout(READY, self.nodes.until_it_leads()).await;
    }

    fn group(&self) -> StatusResponse {
        let coordinators = self.member.group().into_iter().map(|member| Coordinator {
            id: member.id,
            address: member.address,
            leads: member.leads,
            votes: member.votes,
            down: !member.answers,
        });
        let executors = self.nodes.attached_and_away().into_iter().map(|executor| Executor {
            jobs: self.member.state(|state| {
                let here = state.jobs.values().filter(|job| !job.status.is_ended());
                here.filter(|job| job.placement.contains(&executor.start)).map(|job| job.name.clone()).collect()
            }),
            node: executor.node,
            start: executor.start.to_string(),
            slots: executor.slots,
            attached: executor.attached,
            draining: executor.draining,
            address: executor.address,
        });
        StatusResponse {
            cluster: self.cluster.to_string(),
            coordinators: coordinators.collect(),
            executors: executors.collect(),
        }
    }

    fn jobs(&self) -> Vec<JobOverview> {
        let names = node_names(&self.member, &self.nodes);
        let jobs = self.member.state_and_runs(|state, runs| {
            let runs: BTreeMap<JobId, &RunSummary> = runs.iter().map(|run| (run.job, run)).collect();
            let running = state.jobs.iter().filter(|(_, job)| !job.status.is_ended());
            let shown = |id: JobId, job| told(id, job, &names, runs.get(&id).copied());
            running.map(|(id, job)| (job.token(*id), shown(*id, job))).collect::<Vec<_>>()
        });
        let now_ms = self.clock.now_ms();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let overview = |(token, job): (Token, Job)| {
            let (rates, times) = (self.nodes.rates(token), self.metrics.checkpoints(token.job));
            JobOverview {
                job: Some(job),
                rows_per_second: rates.rows_per_second,
                bytes_per_second: rates.bytes_per_second,
                sink_rows_per_second: rates.sink_rows_per_second,
                watermark_ms: rates.watermark_ms,
                watermark_lag_ms: rates
                    .watermark_ms
                    .map(|watermark| u64::try_from(now_ms.saturating_sub(watermark)).unwrap_or(0)),
                checkpoint_ms: times.last.map(millis),
                checkpoint_p99_ms: times.p99.map(millis),
                latency_p99_ms: times.latency_p99.map(millis),
                memory_bytes: rates.memory_bytes,
                busy_ratio: rates.busy_ratio,
                backpressured_ratio: rates.backpressured_ratio,
                busiest: rates.busiest,
                failures: times.failures,
            }
        };
        jobs.into_iter().map(overview).collect()
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        lead(&self.member).await?;
        self.until_ready().await;
        Ok(Response::new(self.group()))
    }

    async fn overview(&self, _: Request<OverviewRequest>) -> Result<Response<OverviewResponse>, Status> {
        lead(&self.member).await?;
        self.until_ready().await;
        Ok(Response::new(OverviewResponse { status: Some(self.group()), jobs: self.jobs() }))
    }

    async fn add_coordinator(&self, request: Request<AddCoordinatorRequest>) -> Answer {
        let AddCoordinatorRequest { id, address } = request.into_inner();
        let object = format!("coordinator {id} at {address}");
        if self.member.admit(id, address).await.map_err(|error| status_of(&error))? {
            self.decide(Command::Note { object }).await?;
        }
        Ok(Response::new(self.group()))
    }

    async fn remove_coordinator(&self, request: Request<RemoveCoordinatorRequest>) -> Answer {
        let RemoveCoordinatorRequest { id } = request.into_inner();
        // Before it goes, because the leader may be the one.
        let note = Command::Note { object: format!("coordinator {id}") };
        let noted = async { self.member.propose_async(note).await.map(drop) };
        Box::pin(self.member.dismiss(id, noted)).await.map_err(|error| status_of(&error))?;
        Ok(Response::new(self.group()))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        lead(&self.member).await?;
        let DrainRequest { node, undo } = request.into_inner();
        if let Some(start) = self.find(&node).await {
            let object = if undo { format!("executor {node}, undone") } else { format!("executor {node}") };
            let known = self.nodes.names().into_keys().collect();
            let executors = if undo { self.nodes.executors() } else { self.with_others_than(start).await };
            let usable = executors.iter().filter(|executor| executor.is_usable()).map(|executor| executor.start);
            let usable = Some(usable.collect());
            let squeezed =
                self.member.state(|state| if undo { Vec::new() } else { squeezed(state, &executors, start) });
            let decided = self.member.propose_async(Command::Drain { start, undo, known, usable, object }).await;
            decided
                .map_err(|error| status_of(&error))?
                .map_err(|refusal| status_of(&Error::from(&refusal).at(Place::Named(node))))?;
            self.nodes.set_draining(self.member.state(|state| state.draining.clone()));
            return Ok(Response::new(DrainResponse { squeezed }));
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
        let log = self.member.state(|state| state.audit.clone());
        Ok(Response::new(tokens::audit_log(&log, last, &self.guard)))
    }
}
