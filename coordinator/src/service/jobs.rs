//! Clients' jobs: submit, look, watch, stop.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use qanat_coordinator_core::command::{Command, JobTopics, Outcome, Refusal, RunWith};
use qanat_coordinator_core::retention::TopicStart;
use qanat_coordinator_core::state::{Claimed, Job as JobFacts, JobStatus, State};
use qanat_proto::graph::{JobGraph, OperatorKind, SourceNode};
use qanat_proto::ids::{Epoch, JobId, StartId};
use qanat_proto::job_choice::{Candidate, choose};
use qanat_proto::manifest::{Manifest, OperatorState, PreparedHandle, SourceState};
use qanat_proto::names::Name;
use qanat_proto::rpc::control::jobs_server::{Jobs, JobsServer};
use qanat_proto::rpc::control::{
    DropRequest, DropResponse, DropSavepointRequest, ExplainResponse, Job, JobRequest, JobState, ListRequest,
    ListResponse, RescaleRequest, RollbackRequest, RollbackResponse, Savepoint, SavepointRequest, SavepointsResponse,
    ScriptRequest, StopRequest, SubmitRequest, SubmitResponse, ValidateResponse, validate_response,
};
use qanat_proto::rpc::failure::failure_of;
use qanat_proto::rpc::status::status_of;
use qanat_proto::settings::JobSettings;
use qanat_proto::trace::TraceParent;
use qanat_proto::{Code, Error, Place, Result, limits};
use qanat_storage::env::{Env, thread};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::caller;
use crate::driver::{Coordinator, NewJob};
use crate::nodes::Nodes;
use crate::raft::{Decision, Leadership, Member, RunSummary, not_leader};
use crate::rollback::WithdrawableSink;
use crate::service::trace::is_about;
use crate::service::{gone, lead, node_names, refused};

/// How often a watched job is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// A script, planned.
#[derive(Clone, Debug)]
pub struct PlannedScript {
    pub jobs: Vec<PlannedJob>,
    pub settings: JobSettings,
    pub warnings: Vec<String>,
    /// How it would run, a text per job.
    pub plans: Vec<String>,
}

/// One of its jobs.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    pub graph: JobGraph,
    /// What makes two scripts the same job.
    pub digest: String,
    pub parallelism: u32,
    /// Where its sources begin (P9). Empty if it was only looked at.
    pub sources: Vec<SourceState>,
}

/// Makes jobs of SQL. The binary has the parser and the connectors; this crate has neither.
pub trait Planner: Send + Sync {
    /// Plans a script. With `starts`, its sources are asked where they begin and its sinks are opened once.
    /// `parallelism` 0: as the script says. Blocks.
    ///
    /// # Errors
    /// What is wrong with the script, a source or a sink.
    fn plan(
        &self,
        script: &str,
        set: &BTreeMap<String, String>,
        parallelism: u32,
        starts: bool,
    ) -> Result<PlannedScript>;

    /// What the lookup tables of a job hold when it begins, made durable as part of its epoch 0. Blocks.
    ///
    /// # Errors
    /// What is wrong with a table.
    fn lookups(&self, job: JobId, graph: &JobGraph, settings: &JobSettings) -> Result<Vec<OperatorState>>;

    /// What a job's sinks published after an epoch, and which of them cannot take it back. `restored` is the claim to
    /// go back to. Blocks.
    ///
    /// # Errors
    /// What is wrong with a manifest or a sink.
    fn withdrawable(&self, job: JobId, restored: &Claimed, after: Epoch) -> Result<Vec<WithdrawableSink>>;

    /// Where an epoch begins to read topics. Blocks.
    ///
    /// # Errors
    /// What is wrong with its manifest.
    fn starts(&self, restored: &Claimed) -> Result<Vec<TopicStart>>;

    /// Topics that a job of this name reads or writes, side tables included, and where it begins to read them.
    ///
    /// # Errors
    /// E0202 to E0204 for the options of a table.
    fn topics(&self, job_name: &str, job: &PlannedJob) -> Result<JobTopics>;

    /// The name by which the sink that prepared this takes it back; None if there is nothing to take back.
    fn withdrawable_name(&self, handle: &PreparedHandle) -> Option<String>;
}

/// Serves jobs on every coordinator; one that does not lead says who does.
pub struct JobsService {
    env: Env,
    pub(super) member: Arc<Member>,
    nodes: Arc<Nodes>,
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) planner: Arc<dyn Planner>,
}

pub(super) type Answer<T> = std::result::Result<Response<T>, Status>;

impl JobsService {
    pub fn server(
        env: Env,
        member: Arc<Member>,
        nodes: Arc<Nodes>,
        coordinator: Arc<Coordinator>,
        planner: Arc<dyn Planner>,
    ) -> JobsServer<Self> {
        JobsServer::new(Self { env, member, nodes, coordinator, planner })
            .max_decoding_message_size(limits::SCRIPT_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CLIENT_MESSAGE_BYTES)
    }

    /// Planning and the leader loop block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Status> {
        let caller = caller::current();
        let done = thread::blocking(move || caller::with(caller, work)).await;
        let done = done.unwrap_or_else(|e| Err(Error::new(Code::Panic, format!("the request failed: {e}"))));
        done.map_err(|error| status_of(&error))
    }

    pub(super) async fn decide(&self, command: Command) -> std::result::Result<Decision, Status> {
        let coordinator = self.coordinator.clone();
        self.blocking(move || coordinator.decide(command)).await
    }

    async fn plan(
        &self,
        request: ScriptRequest,
        parallelism: u32,
        starts: bool,
    ) -> std::result::Result<PlannedScript, Status> {
        let planner = self.planner.clone();
        let set = request.set.into_iter().collect();
        self.blocking(move || planner.plan(&request.script, &set, parallelism, starts)).await
    }

    pub(super) fn job(&self, id: JobId) -> Option<Job> {
        let names = node_names(&self.member, &self.nodes);
        let look = |state: &State, runs: &[RunSummary]| Some(told(id, state.job(id)?, &names, run_of(runs, id)));
        self.member.state_and_runs(look)
    }

    pub(super) fn shown(&self, id: JobId) -> std::result::Result<Job, Status> {
        self.job(id).ok_or_else(gone)
    }

    /// The job that is named, the newest run of that name.
    pub(super) fn find(&self, job: &str) -> std::result::Result<JobId, Status> {
        self.find_run(job, "")
    }

    /// The same, or the run whose id begins so.
    pub(super) fn find_run(&self, job: &str, run: &str) -> std::result::Result<JobId, Status> {
        is_about(job);
        self.member.state(|state| find(state, job, run)).map_err(|error| status_of(&error))
    }

    fn not_resumed(&self, id: JobId, refusal: &Refusal) -> Status {
        let told =
            self.member.state(|state| state.job(id).map(|job| format!("job `{}` is {}", job.name, job.status.name())));
        match (refusal, told) {
            (Refusal::WrongStatus, Some(message)) => {
                let error = Error::new(Code::Usage, message);
                status_of(&error.hint("a job that is stopped or failed can be resumed"))
            }
            _ => refused(refusal),
        }
    }

    async fn submit_jobs(
        &self,
        request: SubmitRequest,
        trace: Option<TraceParent>,
    ) -> std::result::Result<SubmitResponse, Status> {
        let refused = |error: Error| status_of(&error);
        let name = Name::new(&request.name).map_err(refused)?;
        let is_id = request.request_id.len() == 32 && request.request_id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_id {
            let error = Error::new(Code::Usage, "a submit needs a request id of 32 hex digits");
            return Err(refused(error.hint("draw it at random, once for each submit, and keep it for repeats")));
        }
        let script = request.script.unwrap_or_default();
        let planned = self.plan(script, request.parallelism, true).await?;
        if planned.jobs.is_empty() {
            let error = Error::new(Code::NothingToRun, "the script holds nothing to run");
            return Err(refused(error.hint("add an INSERT INTO")));
        }
        let several = planned.jobs.len() > 1;
        let mut jobs = Vec::new();
        for (index, job) in planned.jobs.into_iter().enumerate() {
            let name = if several { Name::new(&format!("{name}-{}", index + 1)) } else { Ok(name.clone()) };
            let name = name.map_err(refused)?;
            // The same request makes the same job, whichever leader it reaches.
            let id = JobId(xxhash_rust::xxh3::xxh3_128(format!("{}/{index}", request.request_id).as_bytes()));
            jobs.push((id, name, job));
        }
        // None of them begins if one cannot.
        for (id, name, job) in &jobs {
            self.member.state(|state| check_new(state, *id, name, job)).map_err(refused)?;
        }
        let ids: Vec<JobId> = jobs.iter().map(|(id, _, _)| *id).collect();
        // By the same request, before its answer was lost: all of them were.
        let is_made = self.member.state(|state| ids.iter().any(|id| state.job(*id).is_some()));
        let mut new = Vec::new();
        for (id, name, job) in jobs {
            if is_made {
                break;
            }
            let together = shares_more_than_rows(&job.graph);
            let topics = self.planner.topics(name.as_str(), &job).map_err(refused)?;
            let (planner, graph, settings) = (self.planner.clone(), job.graph.clone(), planned.settings.clone());
            let lookups = self.blocking(move || planner.lookups(id, &graph, &settings)).await?;
            new.push(NewJob {
                script_digest: job.digest,
                epoch_zero: Manifest {
                    operators: lookups,
                    ..Manifest::epoch_zero(
                        id,
                        name.to_string(),
                        self.env.clock.now_ms(),
                        job.graph,
                        planned.settings.clone(),
                        job.sources,
                    )
                },
                run_with: Some(RunWith {
                    parallelism: job.parallelism,
                    settings: planned.settings.clone(),
                    together,
                    trace: trace.clone(),
                    topics: Some(topics),
                }),
            });
        }
        if !is_made {
            let (coordinator, group) = (self.coordinator.clone(), name.to_string());
            self.blocking(move || coordinator.submit_group(group, new)).await?;
        }
        tracing::info!(jobs = ids.len(), "submitted");
        let jobs = ids.into_iter().filter_map(|id| self.job(id)).collect();
        Ok(SubmitResponse { jobs, warnings: planned.warnings })
    }
}

/// Whether subtasks of a graph meet elsewhere than on its edges: sources that wait for each other's watermarks, and
/// lookup tables that are read again, of which all take a new version at one barrier.
fn shares_more_than_rows(graph: &JobGraph) -> bool {
    let is_aligned = |(_, source): (_, &SourceNode)| source.watermark.as_ref().is_some_and(|w| w.alignment.is_some());
    let reloads = |kind: &OperatorKind| matches!(kind, OperatorKind::LookupJoin(node) if node.refresh_ms.is_some());
    graph.sources().any(is_aligned) || graph.operators.iter().any(|operator| reloads(&operator.kind))
}

/// Whether a job can be made, or was made by the same request before.
fn check_new(state: &State, id: JobId, name: &Name, job: &PlannedJob) -> Result<()> {
    if let Some(known) = state.job(id) {
        if known.script_digest == job.digest && known.name == name.as_str() {
            return Ok(());
        }
        return Err(Error::new(Code::Usage, "this request id was used for another submit")
            .hint("draw a new one for each submit; only a repeat has the same"));
    }
    match state.find(name.as_str()) {
        Some((active, _)) => Err(Error::new(Code::ForeignState, format!("an active job has the name `{name}`"))
            .at(Place::Named(active.to_string()))
            .hint("stop it, or give this one another name")),
        None => Ok(()),
    }
}

/// A job by its name, its id or the first digits of it; of several with one name the active one, or the one made last.
/// `run`: the one whose id begins so, if it is not empty.
pub(super) fn find(state: &State, wanted: &str, run: &str) -> Result<JobId> {
    let known = |id: &JobId| state.job(*id).is_some_and(|job| !job.dropped);
    let by_id = wanted.parse::<JobId>().ok().filter(known);
    if let Some(id) = by_id.filter(|id| id.to_string().starts_with(run)) {
        return Ok(id);
    }
    let jobs = state.jobs.iter().filter(|(_, job)| !job.dropped);
    let candidates =
        jobs.map(|(id, job)| Candidate { id: *id, name: &job.name, rank: (!job.status.is_ended(), job.order()) });
    choose(wanted, Some(run).filter(|run| !run.is_empty()), candidates)
}

/// A job as clients see it.
pub(super) fn told(id: JobId, job: &JobFacts, nodes: &BTreeMap<StartId, String>, run: Option<&RunSummary>) -> Job {
    let state = match job.status {
        JobStatus::Created => JobState::Created,
        JobStatus::Running => JobState::Running,
        JobStatus::Restarting => JobState::Restarting,
        JobStatus::Stopped => JobState::Stopped,
        JobStatus::Finished => JobState::Finished,
        JobStatus::Failed { .. } => JobState::Failed,
    };
    let failure = match &job.status {
        JobStatus::Failed { error } => Some(error),
        _ => job.last_failure.as_ref().map(|(error, _)| error),
    };
    let claimed = job.last_claim().map_or(Epoch(0), |(epoch, _)| epoch);
    let committed = job.claims.iter().rev().find(|(_, claim)| claim.committed).map_or(Epoch(0), |(epoch, _)| *epoch);
    let node = |start| nodes.get(start).filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| start.to_string());
    let mut executors: Vec<String> = match job.status.is_ended() {
        true => Vec::new(),
        false => job.placement.iter().map(node).collect(),
    };
    executors.sort_unstable();
    Job {
        id: id.to_string(),
        name: job.name.clone(),
        state: state.into(),
        generation: job.generation.0,
        claimed_epoch: claimed.0,
        committed_epoch: committed.0,
        parallelism: job.parallelism,
        executors,
        failure: failure.map(failure_of),
        stopping: job.stop_requested && !job.status.is_ended(),
        created_ms: run.map_or(0, |run| run.created_ms),
        changed_ms: run.map_or(0, |run| run.changed_ms),
        withdrawing: !job.withdrawing.is_empty(),
        group: job.group.as_ref().map(|group| group.name.clone()).unwrap_or_default(),
        parallelism_wanted: wanted_parallelism(job),
        totals: String::new(),
    }
}

/// Subtasks per operator of its next generation.
fn wanted_parallelism(job: &JobFacts) -> u32 {
    job.run_with.as_ref().map_or(job.parallelism, |run_with| run_with.parallelism)
}

/// Jobs that a list shows which is not of all of them: one that has not ended, and one that can be resumed unless its
/// name has run again since.
fn is_of_interest(id: JobId, job: &JobFacts, newest: &BTreeMap<&str, JobId>) -> bool {
    match job.status {
        JobStatus::Created | JobStatus::Running | JobStatus::Restarting => true,
        JobStatus::Stopped | JobStatus::Failed { .. } => newest.get(job.name.as_str()) == Some(&id),
        JobStatus::Finished => false,
    }
}

/// The run of a job.
fn run_of(runs: &[RunSummary], id: JobId) -> Option<&RunSummary> {
    runs.iter().rev().find(|run| run.job == id)
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type WatchStream = Pin<Box<dyn Stream<Item = std::result::Result<Job, Status>> + Send>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Answer<SubmitResponse> {
        lead(&self.member).await?;
        is_about(&request.get_ref().name);
        let trace = request.extensions().get::<TraceParent>().cloned();
        self.submit_jobs(request.into_inner(), trace).await.map(Response::new)
    }

    async fn validate(&self, request: Request<ScriptRequest>) -> Answer<ValidateResponse> {
        let planned = self.plan(request.into_inner(), 0, false).await?;
        let jobs = planned.jobs.iter().map(|job| validate_response::Planned {
            sources: job.graph.sources().map(|(_, source)| source.table.name.clone()).collect(),
            sinks: job.graph.sinks().map(|(_, sink)| sink.table.name.clone()).collect(),
            operators: u32::try_from(job.graph.operators.len()).unwrap_or(u32::MAX),
            bounded: job.graph.is_bounded(),
        });
        Ok(Response::new(ValidateResponse { jobs: jobs.collect(), warnings: planned.warnings }))
    }

    async fn explain(&self, request: Request<ScriptRequest>) -> Answer<ExplainResponse> {
        let planned = self.plan(request.into_inner(), 0, false).await?;
        Ok(Response::new(ExplainResponse { plans: planned.plans }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        lead(&self.member).await?;
        let all = request.into_inner().all;
        let names = node_names(&self.member, &self.nodes);
        let jobs = self.member.state_and_runs(|state, runs| {
            let runs: BTreeMap<JobId, &RunSummary> = runs.iter().map(|run| (run.job, run)).collect();
            let mut jobs: Vec<_> = state.jobs.iter().filter(|(_, job)| !job.dropped).collect();
            jobs.sort_by_key(|(_, job)| job.order());
            let newest: BTreeMap<&str, JobId> = jobs.iter().map(|(id, job)| (job.name.as_str(), **id)).collect();
            jobs.retain(|(id, job)| all || is_of_interest(**id, job, &newest));
            jobs.into_iter().map(|(id, job)| told(*id, job, &names, runs.get(id).copied())).collect()
        });
        Ok(Response::new(ListResponse { jobs }))
    }

    async fn describe(&self, request: Request<JobRequest>) -> Answer<Job> {
        lead(&self.member).await?;
        let JobRequest { job, run } = request.into_inner();
        let id = self.find_run(&job, &run)?;
        let totals = self.member.state_and_runs(|_, runs| run_of(runs, id).map(|run| run.totals.clone()));
        let totals = serde_json::to_string(&totals.unwrap_or_default());
        let totals = totals.map_err(|e| status_of(&Error::internal(format!("tell the totals of a job: {e}"))))?;
        Ok(Response::new(Job { totals, ..self.shown(id)? }))
    }

    async fn watch(&self, request: Request<JobRequest>) -> Answer<Self::WatchStream> {
        lead(&self.member).await?;
        let JobRequest { job, run } = request.into_inner();
        let id = self.find_run(&job, &run)?;
        let (sender, seen) = mpsc::channel(4);
        let (member, nodes) = (self.member.clone(), self.nodes.clone());
        tokio::spawn(async move {
            let mut last = None;
            loop {
                if let Leadership::Following { leader } = member.leadership_of_late().await {
                    let _ = sender.send(Err(status_of(&not_leader(leader)))).await;
                    return;
                }
                let names = node_names(&member, &nodes);
                let look = |state: &State, runs: &[RunSummary]| {
                    let job = state.job(id)?;
                    Some((told(id, job, &names, run_of(runs, id)), job.status.is_ended()))
                };
                let Some((job, has_ended)) = member.state_and_runs(look) else { return };
                if last.as_ref() != Some(&job) {
                    last = Some(job.clone());
                    if sender.send(Ok(job)).await.is_err() {
                        return;
                    }
                }
                if has_ended {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(seen))))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Answer<Job> {
        lead(&self.member).await?;
        let StopRequest { job, no_savepoint } = request.into_inner();
        let id = self.find(&job)?;
        let is_ended = self.member.state(|state| state.job(id).is_none_or(|job| job.status.is_ended()));
        if !is_ended {
            // Refused if it closes already.
            let command = match no_savepoint {
                true => Command::Close { job: id, outcome: Outcome::Stopped },
                false => Command::StopWithSavepoint { job: id },
            };
            let _ = self.decide(command).await?;
        }
        self.shown(id).map(Response::new)
    }

    async fn resume(&self, request: Request<JobRequest>) -> Answer<Job> {
        lead(&self.member).await?;
        let JobRequest { job, run } = request.into_inner();
        let id = self.find_run(&job, &run)?;
        self.decide(Command::Resume { job: id }).await?.map_err(|refusal| self.not_resumed(id, &refusal))?;
        self.shown(id).map(Response::new)
    }

    async fn savepoint(&self, request: Request<SavepointRequest>) -> Answer<Savepoint> {
        lead(&self.member).await?;
        self.make_savepoint(request.into_inner()).await.map(Response::new)
    }

    async fn savepoints(&self, request: Request<JobRequest>) -> Answer<SavepointsResponse> {
        lead(&self.member).await?;
        self.list_savepoints(request.get_ref()).map(Response::new)
    }

    async fn drop_savepoint(&self, request: Request<DropSavepointRequest>) -> Answer<Job> {
        lead(&self.member).await?;
        self.forget_savepoint(request.into_inner()).await.map(Response::new)
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Answer<RollbackResponse> {
        lead(&self.member).await?;
        self.roll_back(request.into_inner()).await.map(Response::new)
    }

    async fn drop(&self, request: Request<DropRequest>) -> Answer<DropResponse> {
        lead(&self.member).await?;
        self.drop_job(request.into_inner()).await.map(Response::new)
    }

    async fn rescale(&self, request: Request<RescaleRequest>) -> Answer<Job> {
        lead(&self.member).await?;
        let RescaleRequest { job, parallelism } = request.into_inner();
        let id = self.find(&job)?;
        let (most, has, is_finished) = self.member.state(|state| {
            let Some(job) = state.job(id) else { return (0, 0, false) };
            let groups = job.run_with.as_ref().map_or(0, |run_with| u32::from(run_with.settings.key_groups));
            (groups.min(limits::PARALLELISM_MAX), wanted_parallelism(job), job.status == JobStatus::Finished)
        });
        if is_finished {
            let error = Error::new(Code::Usage, format!("job `{}` is FINISHED", self.shown(id)?.name));
            return Err(status_of(&error.hint("nothing of it runs again; submit its script anew with --parallelism")));
        }
        if parallelism == 0 || parallelism > most {
            let error = Error::new(Code::Usage, format!("parallelism {parallelism} is not possible"));
            return Err(status_of(&error.hint(format!("use 1 to {most}: a subtask needs a key group"))));
        }
        // A repeat too: a generation would end for nothing.
        if parallelism != has {
            let decided = self.decide(Command::Rescale { job: id, parallelism }).await?;
            decided.map_err(|refusal| refused(&refusal))?;
        }
        self.shown(id).map(Response::new)
    }
}
