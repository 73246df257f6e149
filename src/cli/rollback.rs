//! `qanat job rollback` and `job drop`.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use qanat_client::{Client, RollbackResponse};
use qanat_coordinator::raft::Reach;
use qanat_coordinator::service::WithdrawableSink;
use qanat_coordinator_core::Command;
use qanat_proto::control::WithdrawnObjects;
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::SinkChannel;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::cli::savepoint::decide;
use crate::cli::submit::JobReport;
use crate::data_folder::FoundJob;
use crate::output::{self, Format};
use crate::withdrawable;

/// Between two looks whether everything is taken back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// Name of the job; of a cluster, or its id.
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
    /// Name or id of the job.
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
            text.push_str(&format!("{}: {} files{keeps}\n", sink.table, sink.files));
        }
        self.next.iter().for_each(|next| text.push_str(&format!("{next}\n")));
        text
    }
}

impl Rollback {
    /// `job resume --from`.
    pub(super) fn resume(name: &str, from: String, cluster: &ClusterArguments) -> Self {
        let data = crate::cli::DataArguments { data: "./qanat-data".into() };
        Self {
            name: name.to_owned(),
            to: from,
            allow_duplicates: false,
            dry_run: false,
            no_wait: false,
            job: JobArguments { run: None, data, state: None },
            cluster: cluster.clone(),
        }
    }

    pub(super) fn execute(&self, format: Format) -> Result<()> {
        let report = match &self.cluster.cluster {
            Some(_) => {
                let response = self.cluster.ask(|client| self.in_cluster(client))?;
                Report::of_cluster(response, self.dry_run)
            }
            None => self.in_folder(&Env::real())?,
        };
        output::print_object(&report, format, || report.text());
        Ok(())
    }

    async fn in_cluster(&self, client: Client) -> Result<RollbackResponse> {
        let job = client.describe(&self.name).await?.id;
        let rollback = match self.to.parse::<u64>() {
            Ok(epoch) => qanat_client::Rollback::to_epoch(&job, epoch),
            Err(_) => qanat_client::Rollback::to_savepoint(&job, &self.to),
        };
        let rollback = rollback.allow_duplicates(self.allow_duplicates).dry_run(self.dry_run);
        let response = client.rollback(rollback).await?;
        let mut withdrawing = !self.dry_run && !self.no_wait;
        while withdrawing {
            withdrawing = client.describe(&job).await?.withdrawing;
            if withdrawing {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(response)
    }

    /// Of a job that no process runs: the next run begins with what is to be taken back.
    fn in_folder(&self, env: &Env) -> Result<Report> {
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::State)?;
        let job = &found.history.job;
        let unknown = |message: String| {
            let epochs: Vec<String> = job.claims.keys().map(ToString::to_string).collect();
            Error::new(Code::NotRestorable, message)
                .at(Place::Named(self.name.clone()))
                .hint(format!("epochs that can be restored: {}", epochs.join(", ")))
        };
        let to = match self.to.parse::<u64>() {
            Ok(epoch) => Epoch(epoch),
            Err(_) => {
                let savepoint = job.savepoints.get(&self.to);
                savepoint.ok_or_else(|| unknown(format!("the job has no savepoint `{}`", self.to)))?.epoch
            }
        };
        let restored = job.claims.get(&to).ok_or_else(|| unknown(format!("epoch {to} cannot be restored")))?;
        let (last, _) = job.last_claim().ok_or_else(|| unknown("the job has no epochs".to_owned()))?;
        let mut sinks = Vec::new();
        if last > to {
            let base = std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?;
            sinks = self.sinks(env, &found, restored, to, &base)?;
        }
        let keeps = sinks.iter().find_map(|sink| sink.keeps.as_ref().map(|why| (&sink.table, why)));
        if let Some((table, why)) = keeps.filter(|_| !self.allow_duplicates && !self.dry_run) {
            return Err(Error::new(Code::CannotWithdraw, format!("`{table}` cannot be rolled back: {why}"))
                .at(Place::Named(table.clone()))
                .hint("--dry-run says what would be taken back; --allow-duplicates goes on all the same"));
        }
        if !self.dry_run {
            let named = sinks.iter().filter(|sink| !sink.names.is_empty());
            let objects = named
                .map(|sink| WithdrawnObjects { operator: sink.operator, names: sink.names.iter().cloned().collect() })
                .collect();
            let request = format!("{:032x}", env.entropy.u128());
            decide(env, &found, &Command::Rollback { job: found.history.id, to, expected: last, objects, request })?;
        }
        let highest = job.next_epoch().0.saturating_sub(1);
        Ok(Report {
            job: self.name.clone(),
            to: to.0,
            withdrawn: (last > to).then_some((to.0 + 1, highest)),
            sinks: sinks
                .into_iter()
                .map(|sink| SinkLine { table: sink.table, files: sink.names.len() as u64, keeps: sink.keeps })
                .collect(),
            dry_run: self.dry_run,
            next: (!self.dry_run)
                .then(|| "the files are taken back, and the job goes on, with the next `qanat run`".to_owned()),
        })
    }

    fn sinks(
        &self,
        env: &Env,
        found: &FoundJob,
        restored: &qanat_coordinator_core::Claimed,
        to: Epoch,
        base: &Path,
    ) -> Result<Vec<WithdrawableSink>> {
        let manifest = found.checkpoints(env)?.read_manifest(&restored.manifest_key, &restored.checksum)?;
        let mut sinks = withdrawable::sinks(env, &manifest.graph, found.history.id, to, base)?;
        let claims = found.history.job.claims.range(to.next()..).flat_map(|(_, claim)| &claim.handles);
        for handle in claims.filter(|handle| handle.channel == SinkChannel::Table) {
            let sink = sinks.iter_mut().find(|sink| sink.operator == handle.subtask.operator);
            if let (Some(sink), Some(name)) = (sink, withdrawable::name(handle)) {
                sink.names.insert(name);
            }
        }
        Ok(sinks)
    }
}

impl DropJob {
    pub(super) fn execute(&self, format: Format) -> Result<()> {
        let dropped = self.cluster.ask(|client| async move { client.drop_job(&self.name, self.dry_run).await })?;
        let job = dropped.job.map(JobReport::new);
        let (name, checkpoints) = (job.as_ref().map_or("", |job| job.name.as_str()), dropped.checkpoints);
        let shown = serde_json::json!({ "job": job, "checkpoints": checkpoints, "dry_run": self.dry_run });
        output::print_object(&shown, format, || {
            let goes = if self.dry_run { "would go" } else { "goes" };
            format!("job {name} {goes}, with {checkpoints} checkpoints; what its sinks hold stays\n")
        });
        Ok(())
    }
}
