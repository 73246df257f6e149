//! `qanat submit`: run a script as jobs of a cluster.

use clap::Args;
use qanat_client::{Client, Job, JobState, Submit as Request, error_of_failure};
use qanat_proto::Result;
use qanat_proto::names::Name;
use qanat_storage::env::Env;

use crate::cli::ScriptArguments;
use crate::cli::cluster::ClusterArguments;
use crate::cli::job_report::{JobReport, table};
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
        failed.map_or(Ok(()), |failure| Err(error_of_failure(failure)))
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
