//! The client.

use std::sync::Arc;
use std::time::Duration;

use qanat_proto::access::{AccessToken, Role};
use qanat_proto::rpc::control::cluster_client::ClusterClient;
use qanat_proto::rpc::control::jobs_client::JobsClient;
use qanat_proto::rpc::control::{
    AccessToken as TokenFacts, AddCoordinatorRequest, AuditLogRequest, AuditLogResponse, CreateTokenRequest,
    DrainRequest, Job, JobRequest, JobState, ListRequest, ListTokensRequest, OverviewRequest, RemoveCoordinatorRequest,
    RescaleRequest, RevokeTokenRequest, ScriptRequest, StatusRequest, StopRequest,
};
use qanat_proto::rpc::dial::{Dial, TcpDial, TlsDial};
use qanat_proto::trace::TraceParent;
use qanat_proto::{Code, Error, Result, address};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::call::{Coordinators, Failed};
use crate::submit::random;
use crate::watch::JobWatch;
use crate::{ClusterStatus, Overview, Submit, Submitted, Validated};

/// How long a call may take when nothing else is said.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client of one cluster. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    coordinators: Arc<Coordinators>,
    deadline: Duration,
    trace: Option<TraceParent>,
}

impl Client {
    /// Knows these coordinators (`HOST:PORT`); one is enough, more survive its loss. Connects with the first call.
    ///
    /// # Errors
    /// E0501 without an address, or for one that is not `HOST:PORT`.
    pub fn new<A: Into<String>>(coordinators: impl IntoIterator<Item = A>) -> Result<Self> {
        Self::with_dial(coordinators, Arc::new(TcpDial))
    }

    /// As [`Client::new`], with connections of another kind.
    ///
    /// # Errors
    /// E0501 without an address, or for one that is not `HOST:PORT`.
    pub fn with_dial<A: Into<String>>(coordinators: impl IntoIterator<Item = A>, dial: Arc<dyn Dial>) -> Result<Self> {
        Self::make(coordinators, dial, None)
    }

    /// Speaks TLS with the coordinators, which must have certificates of `authority` (PEM), and shows them a token with
    /// every call. A token is never sent otherwise.
    ///
    /// # Errors
    /// E0501 without an address, or for one that is not `HOST:PORT`.
    pub fn secure<A: Into<String>>(
        coordinators: impl IntoIterator<Item = A>,
        authority: &[u8],
        token: Option<&AccessToken>,
    ) -> Result<Self> {
        Self::make(coordinators, Arc::new(TlsDial::of_client(authority)), token)
    }

    fn make<A: Into<String>>(
        coordinators: impl IntoIterator<Item = A>,
        dial: Arc<dyn Dial>,
        token: Option<&AccessToken>,
    ) -> Result<Self> {
        let addresses: Vec<String> = coordinators.into_iter().map(Into::into).collect();
        addresses.iter().try_for_each(|each| address::check(each))?;
        let coordinators = Arc::new(Coordinators::new(addresses, dial, token)?);
        Ok(Self { coordinators, deadline: DEADLINE, trace: None })
    }

    /// Calls end after so long at the latest.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Calls end after so long if no coordinator was ever heard at any of the addresses: they may be mistyped. A cluster
    /// that was heard is waited for until the deadline. Without it one that is yet to start is, too.
    pub fn with_connect_timeout(self, timeout: Duration) -> Self {
        self.coordinators.set_connect_timeout(timeout);
        self
    }

    /// Calls belong to this trace: a W3C `traceparent`, which the logs of all processes show. Without it each call has
    /// a random one.
    ///
    /// # Errors
    /// E0501 if it is none.
    pub fn with_traceparent(mut self, traceparent: &str) -> Result<Self> {
        let trace = TraceParent::parse(traceparent);
        let wrong = || Error::new(Code::Usage, format!("`{traceparent}` is no W3C traceparent"));
        self.trace = Some(trace.ok_or_else(|| wrong().hint("write 00-TRACE-PARENT-01 in lower-case hex digits"))?);
        Ok(self)
    }

    pub(crate) fn coordinators(&self) -> Arc<Coordinators> {
        self.coordinators.clone()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What a call says of its trace.
    fn trace(&self) -> Result<AsciiMetadataValue> {
        let drawn =
            || -> Result<_> { Ok(TraceParent::new(u128::from_be_bytes(random()?), u64::from_be_bytes(random()?))) };
        let trace = match &self.trace {
            Some(trace) => Some(trace.clone()),
            None => drawn()?,
        };
        let text = trace.ok_or_else(|| Error::internal("the system's random numbers are 0"))?.to_string();
        text.parse().map_err(|_| Error::internal("a traceparent is no header"))
    }

    /// One request to whoever leads, again where that is of use.
    pub(crate) async fn call<C, R: Clone, T, F>(
        &self,
        client: impl Fn(Channel) -> C,
        request: R,
        call: impl Fn(C, Request<R>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        Ok(self.try_call(client, request, call).await?)
    }

    /// As [`Client::call`], for what a second try finds done by a first one whose answer was lost.
    pub(crate) async fn try_call<C, R: Clone, T, F>(
        &self,
        client: impl Fn(Channel) -> C,
        request: R,
        call: impl Fn(C, Request<R>) -> F,
    ) -> std::result::Result<T, Failed>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let trace = self.trace()?;
        let ask = |channel| {
            let mut request = self.coordinators.request(request.clone());
            request.metadata_mut().insert(TraceParent::METADATA, trace.clone());
            let answer = call(client(channel), request);
            async move { answer.await.map(Response::into_inner) }
        };
        self.coordinators.call(self.deadline, ask).await
    }

    /// Makes the jobs of a script and runs them.
    ///
    /// # Errors
    /// What is wrong with the script; E0302 if an active job has its name; E0602 if nobody answers in time.
    pub async fn submit(&self, submit: Submit) -> Result<Submitted> {
        let request = submit.into_request()?;
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.submit(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// Checks a script without running it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn validate(&self, script: impl Into<String>) -> Result<Validated> {
        let request = ScriptRequest { script: script.into(), ..ScriptRequest::default() };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.validate(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// How a script would run, a text per job.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn explain(&self, script: impl Into<String>) -> Result<Vec<String>> {
        let request = ScriptRequest { script: script.into(), ..ScriptRequest::default() };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.explain(request).await };
        Ok(self.call(JobsClient::new, request, call).await?.plans)
    }

    /// Jobs in the order they were made: those that have not ended, and of each name the newest run if it can be
    /// resumed. With `all`, finished ones and earlier runs too.
    ///
    /// # Errors
    /// E0602 if nobody answers in time.
    pub async fn list(&self, all: bool) -> Result<Vec<Job>> {
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.list(request).await };
        Ok(self.call(JobsClient::new, ListRequest { all }, call).await?.jobs)
    }

    /// A job by its name, its id or the first digits of that, four at least: the newest run of a name. Wherever a job
    /// is named it may be so.
    ///
    /// # Errors
    /// E0309 if there is none; E0501 if the digits fit several.
    pub async fn describe(&self, job: &str) -> Result<Job> {
        self.describe_run(job, None).await
    }

    /// As [`Client::describe`], or another run of the name: the one whose id begins with `run`.
    ///
    /// # Errors
    /// E0309 if there is none; E0501 if the digits fit several.
    pub async fn describe_run(&self, job: &str, run: Option<&str>) -> Result<Job> {
        let request = JobRequest { job: job.to_owned(), run: run.unwrap_or_default().to_owned() };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.describe(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// Asks for a last epoch and the end of a job; [`Client::watch`] tells when it has come. Acknowledged means
    /// decided: whatever dies then, the job stops.
    ///
    /// # Errors
    /// E0309 if there is none.
    pub async fn stop(&self, job: &str) -> Result<Job> {
        self.end(job, false).await
    }

    /// Ends a job without a last epoch: what came after its last claimed one is read again by a resume.
    ///
    /// # Errors
    /// E0309 if there is none.
    pub async fn stop_now(&self, job: &str) -> Result<Job> {
        self.end(job, true).await
    }

    async fn end(&self, job: &str, no_savepoint: bool) -> Result<Job> {
        let request = StopRequest { job: job.to_owned(), no_savepoint };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.stop(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// Runs a stopped or failed job again, from its last epoch.
    ///
    /// # Errors
    /// E0309 if there is none; E0501 if it cannot be resumed.
    pub async fn resume(&self, job: &str) -> Result<Job> {
        // By id: a repeat must not meet another job of the name.
        let id = self.describe(job).await?.id;
        let request = JobRequest { job: id.clone(), ..JobRequest::default() };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.resume(request).await };
        match self.try_call(JobsClient::new, request, call).await {
            Err(failed) if failed.may_be_done && failed.error.code() == Code::Usage => {
                let resumed = self.describe(&id).await?;
                let runs = !matches!(resumed.state(), JobState::Stopped | JobState::Failed) && !resumed.stopping;
                if runs { Ok(resumed) } else { Err(failed.error) }
            }
            done => Ok(done?),
        }
    }

    /// Lets a job go on with another number of subtasks per operator, from its next epoch; one that has stopped or
    /// failed, when it is resumed. With the number that it has nothing happens.
    ///
    /// # Errors
    /// E0309 if there is none; E0501 for a number that is not possible, and for a job that has finished.
    pub async fn rescale(&self, job: &str, parallelism: u32) -> Result<Job> {
        let request = RescaleRequest { job: job.to_owned(), parallelism };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.rescale(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// Moves work away from an executor, or with `undo` lets it take work again. Returns at once, with the names of the
    /// jobs that find less room elsewhere; [`Client::status`] shows what it still has.
    ///
    /// # Errors
    /// E0501 if there is no such node; E0612 if no other executor could run what it runs.
    pub async fn drain(&self, node: &str, undo: bool) -> Result<Vec<String>> {
        let request = DrainRequest { node: node.to_owned(), undo };
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.drain(request).await };
        Ok(self.call(ClusterClient::new, request, call).await?.squeezed)
    }

    /// Adds a coordinator that listens at `HOST:PORT` already. Returns when it has a vote. `id` must be new to the
    /// cluster.
    ///
    /// # Errors
    /// E0501 for an id or address that is taken; E0602 if it does not catch up.
    pub async fn add_coordinator(&self, id: u64, address: &str) -> Result<ClusterStatus> {
        let request = AddCoordinatorRequest { id, address: address.to_owned() };
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.add_coordinator(request).await };
        self.call(ClusterClient::new, request, call).await
    }

    /// Takes a coordinator out of the group, one that is gone for good as well.
    ///
    /// # Errors
    /// E0501 for the last one, and if those that are left could not decide.
    pub async fn remove_coordinator(&self, id: u64) -> Result<ClusterStatus> {
        let request = RemoveCoordinatorRequest { id };
        let call =
            |mut cluster: ClusterClient<Channel>, request| async move { cluster.remove_coordinator(request).await };
        self.call(ClusterClient::new, request, call).await
    }

    /// Follows a job until it has ended, across changes of leadership.
    ///
    /// # Errors
    /// E0309 if there is none.
    pub async fn watch(&self, job: &str) -> Result<JobWatch> {
        // By id from here on: another job may take its name.
        let id = self.describe(job).await?.id;
        Ok(JobWatch::new(self.coordinators.clone(), id, self.deadline))
    }

    /// Who is in the cluster, and how the jobs fare that have not ended.
    ///
    /// # Errors
    /// E0602 if nobody answers in time.
    pub async fn overview(&self) -> Result<Overview> {
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.overview(request).await };
        self.call(ClusterClient::new, OverviewRequest {}, call).await
    }

    /// Who is in the cluster.
    ///
    /// # Errors
    /// E0602 if nobody answers in time.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.status(request).await };
        self.call(ClusterClient::new, StatusRequest {}, call).await
    }

    /// Makes an access token: its secret is drawn here, and the cluster learns its digest alone. `expires_ms` is
    /// milliseconds since 1970 UTC; None: never.
    ///
    /// # Errors
    /// E0501 if another token has the name.
    pub async fn create_token(&self, name: &str, role: Role, expires_ms: Option<i64>) -> Result<AccessToken> {
        let token = AccessToken::new(u64::from_be_bytes(random()?), random()?);
        let request = CreateTokenRequest {
            id: token.id().to_string(),
            digest: token.digest().as_bytes().to_vec(),
            name: name.to_owned(),
            role: role.to_string(),
            expires_ms: expires_ms.unwrap_or(0),
        };
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.create_token(request).await };
        self.call(ClusterClient::new, request, call).await.map(|_| token)
    }

    /// All access tokens, without their secrets.
    ///
    /// # Errors
    /// E0602 if nobody answers in time.
    pub async fn list_tokens(&self) -> Result<Vec<TokenFacts>> {
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.list_tokens(request).await };
        Ok(self.call(ClusterClient::new, ListTokensRequest {}, call).await?.tokens)
    }

    /// Ends a token, by its name or id.
    ///
    /// # Errors
    /// E0501 if there is none, or it is the last administrator's.
    pub async fn revoke_token(&self, token: &str) -> Result<TokenFacts> {
        let is_it = |known: &TokenFacts| known.name == token || known.id == token;
        let known = self.list_tokens().await?.into_iter().find(is_it);
        let request = RevokeTokenRequest { token: token.to_owned() };
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.revoke_token(request).await };
        match (self.try_call(ClusterClient::new, request, call).await, known) {
            // It was this client's own.
            (Err(failed), Some(known)) if failed.may_be_done && failed.error.code() == Code::NotAuthenticated => {
                Ok(known)
            }
            (Err(failed), Some(known)) if failed.may_be_done && failed.error.code() == Code::Usage => {
                let is_gone = !self.list_tokens().await?.iter().any(is_it);
                if is_gone { Ok(known) } else { Err(failed.error) }
            }
            (done, _) => Ok(done?),
        }
    }

    /// Changes that were asked for, oldest first: the newest `last` of them, or all that are kept.
    ///
    /// # Errors
    /// E0602 if nobody answers in time.
    pub async fn audit_log(&self, last: Option<u32>) -> Result<AuditLogResponse> {
        let request = AuditLogRequest { last: last.unwrap_or(0) };
        let call = |mut cluster: ClusterClient<Channel>, request| async move { cluster.audit_log(request).await };
        self.call(ClusterClient::new, request, call).await
    }
}
