//! Following a job.

use std::sync::Arc;
use std::time::Duration;

use qanat_proto::Result;
use qanat_proto::rpc::control::jobs_client::JobsClient;
use qanat_proto::rpc::control::{Job, JobRequest, JobState};

use crate::call::{Coordinators, Followed};

/// The changes of one job.
pub struct JobWatch {
    coordinators: Arc<Coordinators>,
    id: String,
    deadline: Duration,
    stream: Option<Followed<Job>>,
    last: Option<Job>,
}

impl JobWatch {
    pub(crate) fn new(coordinators: Arc<Coordinators>, id: String, deadline: Duration) -> Self {
        Self { coordinators, id, deadline, stream: None, last: None }
    }

    /// The job when it has changed, first as it stands; None once it has ended and that was told.
    ///
    /// # Errors
    /// E0602 if no coordinator answers in time.
    pub async fn next(&mut self) -> Result<Option<Job>> {
        loop {
            if self.last.as_ref().is_some_and(has_ended) {
                return Ok(None);
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => {
                    let request = JobRequest { job: self.id.clone(), ..JobRequest::default() };
                    let call = |channel| {
                        let request = self.coordinators.request(request.clone());
                        async move { JobsClient::new(channel).watch(request).await.map(tonic::Response::into_inner) }
                    };
                    none.insert(self.coordinators.follow(self.deadline, call).await?)
                }
            };
            match stream.message().await {
                Ok(Some(job)) if self.last.as_ref() == Some(&job) => {}
                Ok(Some(job)) => {
                    self.last = Some(job.clone());
                    return Ok(Some(job));
                }
                // The leader is gone: another one goes on telling.
                Ok(None) | Err(_) => self.stream = None,
            }
        }
    }
}

fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Stopped | JobState::Finished | JobState::Failed)
}
