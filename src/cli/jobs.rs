//! `qanat jobs` and `qanat job`: what runs, what ran, and how it stands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use qanat_client::Client;
use qanat_coordinator::raft::Reach;
use qanat_coordinator_core::JobStatus;
use qanat_proto::receipt::Totals;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::attach::{self, LiveJob, Request};
use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::cli::job_report::{Facts, JobReport, is_active, table};
use crate::cli::{rollback, savepoint};
use crate::data_folder::{DataView, FoundJob};
use crate::history::{EpochStatus, JobHistory};
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List jobs, the newest run of each name; of a cluster, those that have not finished.
    List(List),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    data: crate::cli::DataArguments,
    /// Folder of a job's own state, in place of `<data>/jobs`.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// List earlier runs too, and of a cluster the jobs that have finished.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Show one job: state, generation, last epoch, what it read and wrote, its last error, and live figures while it
    /// runs.
    Describe(Describe),
    /// Take a last checkpoint and end a running job; `qanat run` or `job resume` goes on from there.
    Stop(Stop),
    /// Run a stopped or failed job of a cluster again, from its last epoch.
    Resume(Resume),
    /// Let a job of a cluster go on with another parallelism, from its next epoch or when it is resumed.
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
    /// Name of the job, its id or the first digits of it.
    name: String,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Resume {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// Go on from this savepoint or epoch: what came after it is taken back, as by `job rollback`, which has options
    /// for sinks that cannot.
    #[arg(long, value_name = "NAME|EPOCH")]
    from: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Rescale {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// Subtasks per operator.
    #[arg(long)]
    parallelism: u32,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// Name of the job, its id or the first digits of it.
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
        let folder = list.data.folder_option().or_else(|| list.state.as_ref().map(|_| "--state"));
        if list.cluster.is_used(folder)? {
            let jobs = list.cluster.ask(|client| async move { client.list(list.all).await })?;
            let jobs: Vec<JobReport> = jobs.into_iter().map(JobReport::new).collect();
            output::print_object(&jobs, format, || table(&jobs));
            return Ok(());
        }
        let view = DataView::open(&Env::real(), &list.data.folder(), list.state.as_deref())?;
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
            Self::Rescale(command) => command.execute(format),
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

impl Rescale {
    fn execute(&self, format: Format) -> Result<()> {
        let rescale = |client: Client| async move {
            let before = client.describe(&self.name).await?;
            // By id: what is told of is what was changed.
            Ok((client.rescale(&before.id, self.parallelism).await?, before))
        };
        let (job, before) = self.cluster.ask(rescale)?;
        let (is_active, has, wanted) = (is_active(&job), before.parallelism_wanted, self.parallelism);
        let report = JobReport::new(job);
        output::print_object(&report, format, || {
            let name = &report.name;
            match is_active {
                _ if has == wanted => format!("job {name} has parallelism {wanted} already: nothing changes\n"),
                true => format!("job {name} goes on with parallelism {wanted}, {has} before, from its next epoch\n"),
                false => format!("job {name} goes on with parallelism {wanted}, {has} before, when it is resumed\n"),
            }
        });
        Ok(())
    }
}

/// Follows a job.
#[derive(Args, Debug)]
pub(crate) struct Watching {
    /// Name of the job, its id or the first digits of it.
    name: String,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Watching {
    fn execute(&self, format: Format) -> Result<()> {
        let watch = |client: Client| async move {
            let mut watch = client.watch(&self.name).await?;
            let mut shown = String::new();
            while let Some(job) = watch.next().await? {
                let report = JobReport::new(job);
                let told = std::mem::replace(&mut shown, report.line());
                if format == Format::Table && told == shown {
                    // A claim, which nobody sees before its commit.
                    continue;
                }
                let line = match format {
                    Format::Json => {
                        serde_json::to_string(&report).map_err(|e| Error::internal(format!("print a job: {e}")))?
                    }
                    Format::Yaml => output::yaml_item(&serde_json::to_string(&report).unwrap_or_default()),
                    Format::Table => format!("{} {shown}", report.changed()),
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
    output::print_object(&report, format, || table(std::slice::from_ref(&report)));
}

impl Describe {
    fn execute(&self, format: Format) -> Result<()> {
        if self.cluster.is_used(self.job.folder_option())? {
            let run = self.job.run.as_deref();
            let describe = |client: Client| async move {
                let job = client.describe_run(&self.name, run).await?;
                let jobs = if is_active(&job) { client.overview().await?.jobs } else { Vec::new() };
                let live = jobs.into_iter().find(|live| live.job.as_ref().is_some_and(|of| of.id == job.id));
                Ok(JobReport::new(job).with(live))
            };
            let report = self.cluster.ask(describe)?;
            output::print_object(&report, format, || report.text());
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
    let mut facts = Facts::default();
    facts.add("job", &line.name);
    facts.add("run", &line.job);
    facts.add("status", line.status_text());
    facts.add("generation", line.generation);
    facts.add("parallelism", line.parallelism);
    facts.add("last epoch", line.epoch);
    facts.add("created", &line.created);
    facts.add("changed", &line.changed);
    facts.totals(&line.totals);
    if let Some(live) = &line.live {
        facts.add("memory", output::bytes(live.memory_bytes));
        for source in &live.sources {
            let watermark = source.watermark.map_or_else(|| "none".to_owned(), output::time);
            let bytes = output::bytes(source.bytes);
            let records = output::counted(source.records, "record", "records");
            facts.add("since start", format!("{}: {records}, {bytes}, watermark {watermark}", source.table));
        }
    }
    if let Some(error) = &line.error {
        facts.error(if line.status == "FAILED" { "error" } else { "last error" }, error);
    }
    facts.text()
}

impl Stop {
    fn execute(&self, format: Format) -> Result<()> {
        if self.cluster.is_used(self.job.folder_option())? {
            print_of_cluster(self.cluster.ask(|client| self.in_cluster(client))?, format);
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
        let watch = found.watch(&Env::real())?;
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

    async fn in_cluster(&self, client: Client) -> Result<qanat_client::Job> {
        let name = savepoint::run_of(&client, &self.name, self.job.run.as_deref()).await?;
        let job = if self.no_savepoint { client.stop_now(&name).await } else { client.stop(&name).await }?;
        if self.no_wait {
            return Ok(job);
        }
        let mut watch = client.watch(&job.id).await?;
        let tells = !self.no_savepoint;
        until_ended(
            job,
            async || watch.next().await,
            |text| {
                if tells {
                    output::note(text)
                }
            },
        )
        .await
    }
}

/// A stop that takes longer says what it waits for.
const STOP_TOLD_AFTER: Duration = Duration::from_secs(2);

fn waits(job: &JobReport) -> String {
    format!(
        "job {} is {}: the stop waits for {}; `qanat job stop {} --no-savepoint` ends it at once, and a resume reads \
         again from epoch {}",
        job.name,
        job.status,
        job.awaits(),
        job.name,
        job.epoch(),
    )
}

/// The job as it ended. `next` is its next change, and may be dropped while it is waited for.
async fn until_ended(
    mut job: qanat_client::Job,
    mut next: impl AsyncFnMut() -> Result<Option<qanat_client::Job>>,
    mut tell: impl FnMut(&str),
) -> Result<qanat_client::Job> {
    let clock = Env::real().clock;
    let told_at = clock.monotonic() + STOP_TOLD_AFTER;
    let mut is_told = false;
    loop {
        let changed = match is_told {
            true => next().await?,
            false => match tokio::time::timeout(told_at.saturating_sub(clock.monotonic()), next()).await {
                Ok(changed) => changed?,
                Err(_) => {
                    is_told = true;
                    tell(&waits(&JobReport::new(job.clone())));
                    continue;
                }
            },
        };
        match changed {
            Some(changed) => job = changed,
            None => return Ok(job),
        }
    }
}

#[cfg(test)]
mod tests {
    use qanat_client::{Failure, Job as Told, JobState};

    use super::*;

    #[test]
    fn a_stop_that_takes_long_says_what_it_waits_for() {
        let failure =
            Failure { code: "E0603".to_owned(), message: "an executor is lost".to_owned(), ..Failure::default() };
        let restarting = Told {
            name: "sales".to_owned(),
            state: JobState::Restarting.into(),
            claimed_epoch: 7,
            failure: Some(failure),
            ..Told::default()
        };
        let (changes, mut changed) = tokio::sync::mpsc::unbounded_channel();
        let mut changes = Some(changes);
        let mut told = String::new();
        // It ends when it has been told, and not before.
        let tell = |text: &str| {
            told = text.to_owned();
            let stopped = Told { state: JobState::Stopped.into(), ..Told::default() };
            assert!(changes.take().expect("told once").send(stopped).is_ok(), "nobody hears it");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ended = runtime.block_on(async {
            let ended = until_ended(restarting, async || Ok(changed.recv().await), tell);
            tokio::time::timeout(Duration::from_secs(60), ended).await
        });
        assert_eq!(ended.expect("in time").expect("ended").state(), JobState::Stopped);
        for part in [
            "job sales is RESTARTING",
            "[E0603] an executor is lost",
            "`qanat job stop sales --no-savepoint`",
            "epoch 7",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
