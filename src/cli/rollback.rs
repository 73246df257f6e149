//! `qanat job rollback` and `job drop`.

use clap::Args;
use qanat_client::{Client, RollbackResponse};
use qanat_connectors::filesystem::withdrawn::path_of;
use qanat_coordinator::raft::Reach;
use qanat_coordinator::rollback::{RestorePoint, RollbackPlan, check_all_withdraw};
use qanat_proto::ids::Epoch;
use qanat_proto::{Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::cli::job_report::JobReport;
use crate::cli::savepoint::decide;
use crate::cluster::starts_of;
use crate::output::{self, Format};
use crate::withdrawable;

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// The savepoint or epoch to go back to.
    #[arg(long, value_name = "NAME|EPOCH")]
    to: String,
    /// Go on although rows stay in sinks that cannot take them back (topics, print): they come twice there.
    #[arg(long)]
    allow_duplicates: bool,
    /// Only say what would be taken back.
    #[arg(long)]
    dry_run: bool,
    /// Return before everything is taken back.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct DropJob {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What was taken back, or would be.
#[derive(Debug, Serialize)]
struct Report {
    job: String,
    to: u64,
    /// The withdrawn epochs, both included; null if there are none.
    withdrawn: Option<(u64, u64)>,
    sinks: Vec<SinkLine>,
    dry_run: bool,
    /// A job of this folder goes on, and takes back, when it is run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct SinkLine {
    table: String,
    files: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeps: Option<String>,
}

impl Report {
    fn of_cluster(response: RollbackResponse, dry_run: bool) -> Self {
        let line = |sink: qanat_client::RolledBackSink| SinkLine {
            table: sink.table,
            files: sink.objects,
            keeps: Some(sink.keeps).filter(|why| !why.is_empty()),
        };
        Self {
            job: response.job.map(|job| job.name).unwrap_or_default(),
            to: response.to,
            withdrawn: (response.last > 0).then_some((response.first, response.last)),
            sinks: response.sinks.into_iter().map(line).collect(),
            dry_run,
            next: None,
        }
    }

    fn text(&self) -> String {
        let goes = if self.dry_run { "would go" } else { "goes" };
        let mut text = format!("{} {goes} back to epoch {}", self.job, self.to);
        match self.withdrawn {
            Some((first, last)) => text.push_str(&format!("; epochs {first} to {last} are withdrawn\n")),
            None => text.push_str("; nothing came after it\n"),
        }
        for sink in &self.sinks {
            let keeps = sink.keeps.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
            text.push_str(&format!("{}: {}{keeps}\n", sink.table, output::counted(sink.files, "file", "files")));
        }
        self.next.iter().for_each(|next| text.push_str(&format!("{next}\n")));
        text
    }
}

impl Rollback {
    pub(super) fn execute(&self, format: Format) -> Result<()> {
        let report = if self.cluster.is_used(self.job.folder_option())? {
            Report::of_cluster(self.cluster.ask(|client| self.in_cluster(client))?, self.dry_run)
        } else {
            self.in_folder(&Env::real())?
        };
        output::print_object(&report, format, || report.text());
        Ok(())
    }

    async fn in_cluster(&self, client: Client) -> Result<RollbackResponse> {
        let change =
            |rollback: qanat_client::Rollback| rollback.allow_duplicates(self.allow_duplicates).dry_run(self.dry_run);
        let run = self.job.run.as_deref();
        go_back(&client, &self.name, run, &self.to, change, !self.dry_run && !self.no_wait).await
    }

    /// Of a job that no process runs: the next run begins with what is to be taken back.
    fn in_folder(&self, env: &Env) -> Result<Report> {
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::State)?;
        let to = match self.to.parse::<u64>() {
            Ok(epoch) => RestorePoint::Epoch(Epoch(epoch)),
            Err(_) => RestorePoint::Savepoint(&self.to),
        };
        let plan = RollbackPlan::new(&found.history.job, to);
        let plan = plan.map_err(|error| error.at(Place::Named(self.name.clone())))?;
        let mut sinks = Vec::new();
        let restored = &plan.restored;
        let manifest = found.checkpoints(env)?.read_manifest(&restored.manifest_key, &restored.checksum)?;
        if plan.withdrawn().is_some() {
            let base = std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?;
            sinks = withdrawable::sinks(env, &manifest.graph, found.history.id, plan.to, &base)?;
            plan.add_claims(&mut sinks, path_of);
        }
        if !self.dry_run {
            if !self.allow_duplicates {
                check_all_withdraw(&sinks)?;
            }
            let request = format!("{:032x}", env.entropy.u128());
            let starts = starts_of(&manifest.sources);
            decide(env, &found, &plan.command(found.history.id, &sinks, starts, request)?)?;
        }
        Ok(Report {
            job: self.name.clone(),
            to: plan.to.0,
            withdrawn: plan.withdrawn().map(|(first, last)| (first.0, last.0)),
            sinks: sinks
                .into_iter()
                .map(|sink| SinkLine { table: sink.table, files: sink.names.len() as u64, keeps: sink.keeps })
                .collect(),
            dry_run: self.dry_run,
            next: (!self.dry_run)
                .then(|| "the files are taken back, and the job goes on, with the next `qanat run`".to_owned()),
        })
    }
}

/// Rolls a job of a cluster back; with `waits`, returns when everything is taken back.
async fn go_back(
    client: &Client,
    name: &str,
    run: Option<&str>,
    to: &str,
    change: impl FnOnce(qanat_client::Rollback) -> qanat_client::Rollback,
    waits: bool,
) -> Result<RollbackResponse> {
    let job = client.describe_run(name, run).await?.id;
    let rollback = match to.parse::<u64>() {
        Ok(epoch) => qanat_client::Rollback::to_epoch(&job, epoch),
        Err(_) => qanat_client::Rollback::to_savepoint(&job, to),
    };
    let response = client.rollback(change(rollback)).await?;
    if waits {
        let mut watch = client.watch(&job).await?;
        while watch.next().await?.is_some_and(|job| job.withdrawing) {}
    }
    Ok(response)
}

/// `job resume --from`: only a cluster has jobs that are resumed from elsewhere.
pub(super) fn resume_from(name: &str, to: &str, cluster: &ClusterArguments, format: Format) -> Result<()> {
    let response = cluster.ask(|client| async move { go_back(&client, name, None, to, |same| same, true).await })?;
    let report = Report::of_cluster(response, false);
    output::print_object(&report, format, || report.text());
    Ok(())
}

impl DropJob {
    pub(super) fn execute(&self, format: Format) -> Result<()> {
        let dropped = self.cluster.ask(|client| async move { client.drop_job(&self.name, self.dry_run).await })?;
        let job = dropped.job.map(JobReport::new);
        let (name, checkpoints) = (job.as_ref().map_or("", |job| job.name.as_str()), dropped.checkpoints);
        let shown = serde_json::json!({ "job": job, "checkpoints": checkpoints, "dry_run": self.dry_run });
        output::print_object(&shown, format, || {
            let goes = if self.dry_run { "would go" } else { "goes" };
            let checkpoints = output::counted(checkpoints, "checkpoint", "checkpoints");
            format!("job {name} {goes}, with {checkpoints}; what its sinks hold stays\n")
        });
        Ok(())
    }
}
