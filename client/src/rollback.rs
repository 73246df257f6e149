//! Savepoints, rollback, and the end of a job's record.

use qanat_proto::rpc::control::jobs_client::JobsClient;
use qanat_proto::rpc::control::rollback_request::To;
use qanat_proto::rpc::control::{
    DropRequest, DropResponse, DropSavepointRequest, Job, JobRequest, RollbackRequest, RollbackResponse, Savepoint,
    SavepointRequest, SavepointsResponse,
};
use qanat_proto::{Code, Error, Result};
use tonic::transport::Channel;

use crate::Client;
use crate::submit::random_id;

/// How a job is rolled back.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    request: RollbackRequest,
}

impl Rollback {
    fn new(job: &str, to: To) -> Self {
        let request = RollbackRequest { job: job.to_owned(), to: Some(to), ..RollbackRequest::default() };
        Self { request }
    }

    /// Back to the epoch of a savepoint.
    pub fn to_savepoint(job: &str, name: &str) -> Self {
        Self::new(job, To::Savepoint(name.to_owned()))
    }

    /// Back to an epoch that can still be restored.
    pub fn to_epoch(job: &str, epoch: u64) -> Self {
        Self::new(job, To::Epoch(epoch))
    }

    /// Goes on although rows stay in sinks that cannot take them back: they come twice there.
    pub fn allow_duplicates(mut self, allow: bool) -> Self {
        self.request.allow_duplicates = allow;
        self
    }

    /// Only says what would be taken back.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }
}

impl Client {
    /// Gives the next claimed epoch of a job a name, with which it is kept until it is dropped; of a job that has
    /// ended, its last one. Pending until that epoch is claimed: [`Client::savepoints`] tells.
    ///
    /// # Errors
    /// E0309 if there is no such job; E0501 if the job has a savepoint of this name.
    pub async fn savepoint(&self, job: &str, name: &str) -> Result<Savepoint> {
        let request = SavepointRequest { job: job.to_owned(), name: name.to_owned(), request_id: random_id()? };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.savepoint(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// The savepoints of a job, and the epochs that can be restored.
    ///
    /// # Errors
    /// E0309 if there is no such job.
    pub async fn savepoints(&self, job: &str) -> Result<SavepointsResponse> {
        let request = JobRequest { job: job.to_owned(), ..JobRequest::default() };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.savepoints(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// A name goes; its epoch is kept no longer than others.
    ///
    /// # Errors
    /// E0309 if there is no such job; E0310 if it has no such savepoint.
    pub async fn drop_savepoint(&self, job: &str, name: &str) -> Result<Job> {
        let request = DropSavepointRequest { job: job.to_owned(), name: name.to_owned() };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.drop_savepoint(request).await };
        match self.try_call(JobsClient::new, request, call).await {
            Err(failed) if failed.may_be_done && failed.error.code() == Code::NotRestorable => self.describe(job).await,
            done => Ok(done?),
        }
    }

    /// Takes back everything that a job wrote after an epoch, for ever, and lets it go on from there, also if it had
    /// ended. Acknowledged means decided: whatever dies then, it comes about; [`Job::withdrawing`] tells how far it is.
    ///
    /// # Errors
    /// E0309 and E0310 for a job, savepoint or epoch that is not there; E0409 if a sink cannot take its rows back.
    pub async fn rollback(&self, rollback: Rollback) -> Result<RollbackResponse> {
        let request = RollbackRequest { request_id: random_id()?, ..rollback.request };
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.rollback(request).await };
        self.call(JobsClient::new, request, call).await
    }

    /// Forgets an ended job, with its checkpoints. What its sinks hold stays.
    ///
    /// # Errors
    /// E0309 if there is none; E0501 if it has not ended.
    pub async fn drop_job(&self, job: &str, dry_run: bool) -> Result<DropResponse> {
        let call = |mut jobs: JobsClient<Channel>, request| async move { jobs.drop(request).await };
        let request = DropRequest { job: job.to_owned(), dry_run: true };
        let would = self.call(JobsClient::new, request, call).await?;
        if dry_run {
            return Ok(would);
        }
        // By id: a repeat must not meet another job of the name.
        let dropped = would.job.as_ref().ok_or_else(|| Error::internal("a job is dropped that nobody names"))?;
        let id = dropped.id.clone();
        match self.try_call(JobsClient::new, DropRequest { job: id, dry_run }, call).await {
            Err(failed) if failed.may_be_done && failed.error.code() == Code::UnknownJob => Ok(would),
            done => Ok(done?),
        }
    }
}
