//! `qanat submit`: run a script as jobs of a cluster.

use clap::Args;
use qanat_client::{Client, Job, JobState, Submit as Request};
use qanat_proto::names::Name;
use qanat_proto::{Error, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cli::ScriptArguments;
use crate::cli::cluster::ClusterArguments;
use crate::output::{self, Format};
use crate::script;

#[derive(Args, Debug)]
pub(crate) struct Submit {
    #[command(flatten)]
    script: ScriptArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Job name; the script's file name if not given.
    #[arg(long)]
    name: Option<String>,
    /// Subtasks per operator.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    parallelism: u32,
    /// 32 hex digits: a submit that is repeated with the same id makes nothing new.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Return only when all jobs have ended; a failed one makes this command fail.
    #[arg(long)]
    wait: bool,
}

/// A job of a cluster, as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct JobReport {
    pub(crate) name: String,
    /// The name of its script's submit: the jobs of one script have one.
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    pub(crate) job: String,
    pub(crate) status: String,
    generation: u64,
    parallelism: u32,
    /// The newest claimed epoch, and the newest that is visible.
    epoch: u64,
    committed_epoch: u64,
    executors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JobError>,
    stopping: bool,
    /// What a rollback takes back is not gone yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    withdrawing: bool,
    created: String,
    changed: String,
}

#[derive(Debug, Serialize)]
struct JobError {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
}

/// The state of a job, by the name that users see.
pub(super) fn state_name(job: &Job) -> String {
    job.state().as_str_name().trim_start_matches("JOB_STATE_").to_owned()
}

impl JobReport {
    pub(crate) fn new(job: Job) -> Self {
        Self {
            status: state_name(&job),
            name: job.name,
            group: job.group,
            job: job.id,
            generation: job.generation,
            parallelism: job.parallelism,
            epoch: job.claimed_epoch,
            committed_epoch: job.committed_epoch,
            executors: job.executors,
            error: job.failure.map(|f| JobError { code: f.code, message: f.message, hint: f.hint }),
            stopping: job.stopping,
            withdrawing: job.withdrawing,
            created: output::time(job.created_ms),
            changed: output::time(job.changed_ms),
        }
    }

    fn row(&self) -> Vec<String> {
        let status = match &self.error {
            Some(error) => format!("{} ({})", self.status, error.code),
            None => self.status.clone(),
        };
        vec![
            self.name.clone(),
            self.job.chars().take(8).collect(),
            status,
            self.generation.to_string(),
            self.committed_epoch.to_string(),
            self.parallelism.to_string(),
            self.executors.join(", "),
            self.group.clone(),
            self.changed.clone(),
        ]
    }

    /// One line of `job watch`.
    pub(crate) fn line(&self) -> String {
        let row = self.row();
        let field = |index: usize| row.get(index).map_or("", String::as_str);
        let (committed, error) = (self.committed_epoch, self.error.as_ref().map_or("", |error| error.message.as_str()));
        let ending = if self.stopping {
            " stopping"
        } else if self.withdrawing {
            " withdrawing"
        } else {
            ""
        };
        format!(
            "{} {} {}{ending} generation {} epoch {committed} {error}",
            self.changed,
            self.name,
            field(2),
            self.generation
        )
    }
}

/// Jobs as a table.
pub(crate) fn table(jobs: &[JobReport]) -> String {
    let rows: Vec<_> = jobs.iter().map(JobReport::row).collect();
    output::table(
        &["job", "run", "status", "generation", "epoch", "parallelism", "executors", "group", "changed"],
        &rows,
    )
}

impl Submit {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let text = script::read(&Env::real(), &self.script.script)?;
        let name = script::job_name(self.name.as_deref(), &self.script.script)?;
        let request = self.request(&name, text)?;
        let (jobs, warnings) = self.cluster.ask(|client| submit(client, request, self.wait))?;
        warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
        let failed =
            jobs.iter().find(|job| self.wait && job.state() == JobState::Failed).and_then(|job| job.failure.clone());
        let jobs: Vec<JobReport> = jobs.into_iter().map(JobReport::new).collect();
        output::print_object(&serde_json::json!({ "jobs": jobs }), format, || table(&jobs));
        failed.map_or(Ok(()), |failure| {
            let code = qanat_proto::Code::ALL.iter().copied().find(|code| code.as_str() == failure.code);
            Err(Error::new(code.unwrap_or(qanat_proto::Code::Internal), failure.message).hint(failure.hint))
        })
    }

    fn request(&self, name: &Name, text: String) -> Result<Request> {
        let mut request = Request::new(name.to_string(), text).parallelism(self.parallelism);
        for pair in &self.script.set {
            let (key, value) = script::pair(pair)?;
            request = request.set(key, value);
        }
        Ok(match &self.request_id {
            Some(id) => request.request_id(id),
            None => request,
        })
    }
}

async fn submit(client: Client, request: Request, wait: bool) -> Result<(Vec<Job>, Vec<String>)> {
    let submitted = client.submit(request).await?;
    if !wait {
        return Ok((submitted.jobs, submitted.warnings));
    }
    let mut ended = Vec::new();
    for job in submitted.jobs {
        let mut watch = client.watch(&job.id).await?;
        let mut last = job;
        while let Some(job) = watch.next().await? {
            last = job;
        }
        ended.push(last);
    }
    Ok((ended, submitted.warnings))
}
