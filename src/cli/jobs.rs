//! `qanat jobs` and `qanat job`: what runs, what ran, and how it stands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use qanat_coordinator::raft::Reach;
use qanat_coordinator_core::JobStatus;
use qanat_proto::receipt::Totals;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::attach::{self, LiveJob, Request};
use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::cli::submit::{self, JobReport};
use crate::cli::{rollback, savepoint};
use crate::data_folder::{DataView, FoundJob};
use crate::history::{EpochStatus, JobHistory};
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List the jobs of the data folder, the newest run of each name.
    List(List),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    data: crate::cli::DataArguments,
    /// Folder of a job's own state, in place of `<data>/jobs`.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// List earlier runs too; of a cluster, jobs that have ended.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Show one job: status, generation, last epoch, what it read and wrote, and live figures while it runs.
    Describe(Describe),
    /// Take a last checkpoint and end a running job; `qanat run` or `job resume` goes on from there.
    Stop(Stop),
    /// Run a stopped or failed job of a cluster again, from its last epoch.
    Resume(Resume),
    /// Let a job of a cluster go on with another parallelism, from its next epoch.
    Rescale(Rescale),
    /// Give the next epoch a name, with which it is kept; or drop a name.
    Savepoint(savepoint::Savepoint),
    /// List the savepoints of a job and the epochs that can be restored.
    Savepoints(savepoint::Savepoints),
    /// Take back everything after a savepoint or epoch, for ever, and go on from there.
    Rollback(rollback::Rollback),
    /// Forget a job that has ended, with its checkpoints. What its sinks hold stays.
    Drop(rollback::DropJob),
    /// Show each change of a job of a cluster until it has ended; with `-o json` one object per line.
    Watch(Watching),
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// Name of the job.
    name: String,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Resume {
    /// Name or id of the job.
    name: String,
    /// Go on from this savepoint or epoch: what came after it is taken back, as by `job rollback`.
    #[arg(long, value_name = "NAME|EPOCH")]
    from: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Rescale {
    /// Name or id of the job.
    name: String,
    /// Subtasks per operator.
    #[arg(long)]
    parallelism: u32,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// Name of the job.
    name: String,
    #[command(flatten)]
    job: JobArguments,
    /// Return at once instead of waiting until the job has ended.
    #[arg(long)]
    no_wait: bool,
    /// End a job of a cluster without a last checkpoint: what came after the last epoch is read again by a resume.
    #[arg(long)]
    no_savepoint: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// One run of a job, as it is printed.
#[derive(Debug, Serialize)]
struct JobLine {
    name: String,
    job: String,
    status: &'static str,
    /// Whether a process runs it now.
    running: bool,
    generation: u64,
    parallelism: u32,
    epoch: u64,
    created: String,
    changed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
    totals: Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveJob>,
}

impl JobLine {
    fn new(history: &JobHistory, live: &[LiveJob]) -> Self {
        let job = &history.job;
        let live = live.iter().find(|live| live.job == history.id).cloned();
        let error = match &job.status {
            JobStatus::Failed { error } => Some(error.clone()),
            _ => job.last_failure.as_ref().map(|(error, _)| error.clone()),
        };
        Self {
            name: history.name.clone(),
            job: history.id.to_string(),
            status: job.status.name(),
            running: live.is_some(),
            generation: job.generation.0,
            parallelism: job.parallelism,
            epoch: history.last_epoch().0,
            created: output::time(history.created_ms),
            changed: output::time(history.changed_ms),
            error,
            totals: totals(history),
            live,
        }
    }

    /// A job that no process runs goes on when it is run again, unless it has ended.
    fn status_text(&self) -> String {
        let active = matches!(self.status, "CREATED" | "RUNNING" | "RESTARTING");
        match &self.error {
            _ if !active || self.running => self.status.to_owned(),
            // What it was given up for: to run it again is to try again.
            Some(error) => format!("{} (no process, {})", self.status, error.code()),
            None => format!("{} (no process)", self.status),
        }
    }
}

/// Sums of the receipts of all epochs.
fn totals(history: &JobHistory) -> Totals {
    let mut totals = history.sums_to_cut.clone();
    let counts = history.epochs.values().filter(|epoch| epoch.status != EpochStatus::Withdrawn);
    counts.filter_map(|epoch| epoch.receipt.as_ref()).for_each(|receipt| totals.add(receipt));
    totals
}

impl Jobs {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let Self::List(list) = self;
        if list.cluster.cluster.is_some() {
            let jobs = list.cluster.ask(|client| async move { client.list(list.all).await })?;
            let jobs: Vec<JobReport> = jobs.into_iter().map(JobReport::new).collect();
            output::print_object(&jobs, format, || submit::table(&jobs));
            return Ok(());
        }
        let view = DataView::open(&Env::real(), &list.data.data, list.state.as_deref())?;
        let live = attach::live_jobs(view.root());
        let mut jobs = view.jobs(Reach::State)?;
        jobs.sort_by(|a, b| (&a.history.name, b.history.created_ms).cmp(&(&b.history.name, a.history.created_ms)));
        if !list.all {
            jobs.dedup_by(|a, b| a.history.name == b.history.name);
        }
        let lines: Vec<JobLine> = jobs.iter().map(|job| JobLine::new(&job.history, &live)).collect();
        output::print_object(&lines, format, || {
            let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
            output::table(&["job", "run", "status", "generation", "epoch", "read", "written", "changed"], &rows)
        });
        Ok(())
    }
}

fn row(line: &JobLine) -> Vec<String> {
    vec![
        line.name.clone(),
        line.job.chars().take(8).collect(),
        line.status_text(),
        line.generation.to_string(),
        line.epoch.to_string(),
        line.totals.sources.values().sum::<u64>().to_string(),
        line.totals.sinks.values().map(|sum| sum.rows).sum::<u64>().to_string(),
        line.changed.clone(),
    ]
}

impl Job {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        match self {
            Self::Describe(command) => command.execute(format),
            Self::Stop(command) => command.execute(format),
            Self::Rescale(command) => {
                let rescale = |client: qanat_client::Client| async move {
                    client.rescale(&command.name, command.parallelism).await
                };
                print_of_cluster(command.cluster.ask(rescale)?, format);
                Ok(())
            }
            Self::Savepoint(command) => command.execute(format),
            Self::Savepoints(command) => command.execute(format),
            Self::Rollback(command) => command.execute(format),
            Self::Drop(command) => command.execute(format),
            Self::Watch(command) => command.execute(format),
            Self::Resume(command) if command.from.is_some() => {
                let from = command.from.as_deref().unwrap_or_default();
                rollback::resume_from(&command.name, from, &command.cluster, format)
            }
            Self::Resume(command) => {
                print_of_cluster(
                    command.cluster.ask(|client| async move { client.resume(&command.name).await })?,
                    format,
                );
                Ok(())
            }
        }
    }
}

/// Follows a job.
#[derive(Args, Debug)]
pub(crate) struct Watching {
    /// Name or id of the job.
    name: String,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Watching {
    fn execute(&self, format: Format) -> Result<()> {
        let watch = |client: qanat_client::Client| async move {
            let mut watch = client.watch(&self.name).await?;
            while let Some(job) = watch.next().await? {
                let report = JobReport::new(job);
                let line = match format {
                    Format::Json => {
                        serde_json::to_string(&report).map_err(|e| Error::internal(format!("print a job: {e}")))?
                    }
                    Format::Yaml => output::yaml_item(&serde_json::to_string(&report).unwrap_or_default()),
                    Format::Table => report.line(),
                };
                if !output::print_line(line.trim_end()) {
                    // Whoever read it has seen enough.
                    return Ok(());
                }
            }
            Ok(())
        };
        self.cluster.ask(watch)
    }
}

/// A job of a cluster.
fn print_of_cluster(job: qanat_client::Job, format: Format) {
    let report = JobReport::new(job);
    output::print_object(&report, format, || submit::table(std::slice::from_ref(&report)));
}

impl Describe {
    fn execute(&self, format: Format) -> Result<()> {
        if self.cluster.cluster.is_some() {
            let job = self.cluster.ask(|client| async move { client.describe(&self.name).await })?;
            print_of_cluster(job, format);
            return Ok(());
        }
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::State)?;
        print(&view, &found, format);
        Ok(())
    }
}

fn print(view: &DataView, found: &FoundJob, format: Format) {
    let line = JobLine::new(&found.history, &attach::live_jobs(view.root()));
    output::print_object(&line, format, || text(&line));
}

fn text(line: &JobLine) -> String {
    let mut rows = vec![
        vec!["job".to_owned(), line.name.clone()],
        vec!["run".to_owned(), line.job.clone()],
        vec!["status".to_owned(), line.status_text()],
        vec!["generation".to_owned(), line.generation.to_string()],
        vec!["parallelism".to_owned(), line.parallelism.to_string()],
        vec!["last epoch".to_owned(), line.epoch.to_string()],
        vec!["created".to_owned(), line.created.clone()],
        vec!["changed".to_owned(), line.changed.clone()],
    ];
    if let Some(error) = &line.error {
        rows.push(vec!["last error".to_owned(), error.to_string()]);
    }
    for (table, count) in &line.totals.sources {
        rows.push(vec!["read".to_owned(), format!("{count} records of {table}")]);
    }
    for (table, sum) in &line.totals.sinks {
        rows.push(vec!["written".to_owned(), format!("{} rows into {table}", sum.rows)]);
    }
    rows.push(vec!["late".to_owned(), line.totals.late.to_string()]);
    rows.push(vec!["dead letters".to_owned(), line.totals.dead_lettered.to_string()]);
    if let Some(live) = &line.live {
        rows.push(vec!["memory".to_owned(), output::bytes(live.memory_bytes)]);
        for source in &live.sources {
            let watermark = source.watermark.map_or_else(|| "none".to_owned(), output::time);
            let bytes = output::bytes(source.bytes);
            let figures = format!("{}: {} records, {bytes}, watermark {watermark}", source.table, source.records);
            rows.push(vec!["since start".to_owned(), figures]);
        }
    }
    rows.iter()
        .map(|row| format!("{:<13}{}\n", row.first().map_or("", String::as_str), row.get(1).map_or("", String::as_str)))
        .collect()
}

impl Stop {
    fn execute(&self, format: Format) -> Result<()> {
        if self.cluster.cluster.is_some() {
            let stop = |client: qanat_client::Client| async move {
                let stopped =
                    if self.no_savepoint { client.stop_now(&self.name).await } else { client.stop(&self.name).await };
                let mut job = stopped?;
                if !self.no_wait {
                    let mut watch = client.watch(&job.id).await?;
                    while let Some(changed) = watch.next().await? {
                        job = changed;
                    }
                }
                Ok(job)
            };
            print_of_cluster(self.cluster.ask(stop)?, format);
            return Ok(());
        }
        if self.no_savepoint {
            let error = Error::new(Code::Usage, "--no-savepoint is for a job of a cluster");
            return Err(error.hint("a second Ctrl-C ends `qanat run` at once, which loses nothing either"));
        }
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::State)?;
        let id = found.history.id;
        let not_running = || {
            Error::new(Code::UnknownJob, format!("job `{}` is not running", self.name))
                .at(Place::Named(view.root().display().to_string()))
                .hint("no process that owns this data folder runs it; `qanat run` resumes it where it stands")
        };
        let watch = found.watch()?;
        if attach::ask(view.root(), &Request::Stop { job: id })?.is_none() {
            return Err(not_running());
        }
        let mut found = view.again(&found)?;
        let mut is_running = true;
        while is_running && !self.no_wait && !found.history.job.status.is_ended() {
            // If the process is gone, what the log says after that is final.
            is_running = watch.wait(Duration::from_secs(1)) || attach::ask(view.root(), &Request::Status)?.is_some();
            found = view.again(&found)?;
        }
        print(&view, &found, format);
        Ok(())
    }
}
