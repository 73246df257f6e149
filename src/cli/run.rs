//! `qanat run`: the main job in one process.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{Receiver, Select, bounded, tick};
use qanat_coordinator::{JobEvent, NewJob};
use qanat_coordinator_core::Command;
use qanat_coordinator_core::state::{Job, JobStatus};
use qanat_proto::exposition::Page;
use qanat_proto::graph::JobGraph;
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::manifest::Manifest;
use qanat_proto::names::Name;
use qanat_proto::receipt::Totals;
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use qanat_storage::env::failpoint::failpoint;
use serde::Serialize;

use crate::attach::{Attached, Handler, LiveJob, Request, Response};
use crate::beginning;
use crate::cli::{DataArguments, ScriptArguments};
use crate::data_folder::{DataFolder, JobFolder};
use crate::embedded::Embedded;
use crate::file_limit;
use crate::observe::MetricsArguments;
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::receipt_seen::ReceiptSeen;
use crate::retention::{RETENTION_INTERVAL, Sweeps};
use crate::script;

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    script: ScriptArguments,
    #[command(flatten)]
    data: DataArguments,
    /// Folder of the job's own state, in place of `<data>/jobs/<name>`.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Job name; the script's file name if not given.
    #[arg(long)]
    name: Option<String>,
    /// Subtasks per operator; one per core if not given.
    #[arg(long)]
    parallelism: Option<u32>,
    #[command(flatten)]
    metrics: MetricsArguments,
}

/// What a finished or stopped run reports.
#[derive(Clone, Debug, Serialize)]
struct RunReceipt {
    job: JobId,
    name: String,
    status: &'static str,
    epoch: Epoch,
    #[serde(flatten)]
    totals: Totals,
    elapsed_ms: u64,
}

/// One job of the script, as it runs.
struct Running {
    id: JobId,
    name: Name,
    events: Receiver<JobEvent>,
    /// Its rows go to the screen and nowhere else.
    only_prints: bool,
    /// The manifest of the last claim, once the job has ended.
    last: Option<Manifest>,
    ended: Option<JobStatus>,
}

impl Run {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let env = Env::real();
        let text = script::read(&env, &self.script.script)?;
        let planned = script::plan(&env, &text, &script::options(&self.script.set)?)?;
        script::refuse_own_input(&self.script.script, &planned)?;
        let texts = [planned.explains.as_slice(), planned.listings.as_slice()].concat();
        if planned.jobs.is_empty() {
            if texts.is_empty() {
                return Err(Error::new(Code::NothingToRun, "the script holds nothing to run")
                    .hint("add an INSERT INTO or a SELECT"));
            }
            output::print_object(&serde_json::json!({ "texts": texts }), format, || texts.join("\n"));
            return Ok(());
        }
        // Beside a job, standard output belongs to the receipt.
        for text in texts {
            if format == Format::Table {
                output::print_text(&text);
            } else {
                output::note(&text);
            }
        }
        let name = script::job_name(self.name.as_deref(), &self.script.script)?;
        let parallelism = beginning::parallelism(self.parallelism, &planned.settings)?;
        file_limit::outlive()?;
        let metrics = self.metrics.bind(TcpListener::bind)?;
        let data = DataFolder::open(&env, &self.data.folder())?;
        let folder = JobFolder::open(&env, &self.state.clone().unwrap_or_else(|| data.job_folder(&name)))?;
        data.bind(&folder)?;
        let state_folder = folder.path.clone();
        let base = std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?;
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let started = env.clock.monotonic();
        let embedded = Arc::new(Embedded::start(&data, folder, base, workers)?);
        if let Some(metrics) = metrics {
            let watched = Arc::downgrade(&embedded);
            let show = move |page: &mut Page| {
                if let Some(embedded) = watched.upgrade() {
                    embedded.show(page);
                }
            };
            output::note(&metrics.serve(&env, show)?);
        }
        let several = planned.jobs.len() > 1;
        let mut names = Vec::new();
        for index in 0..planned.jobs.len() {
            names.push(if several { Name::new(&format!("{name}-{}", index + 1))? } else { name.clone() });
        }
        check_leftovers(&embedded, &name, &names)?;
        // All of them before the first one runs: a script that cannot start writes nothing.
        let mut prepared = Vec::new();
        for (name, job) in names.into_iter().zip(&planned.jobs) {
            let parallelism = beginning::widened(parallelism, &job.graph, &planned.settings)?;
            prepared.push((prepare(&env, &embedded, &name, &job.graph, &planned.settings)?, name, parallelism));
        }
        let mut jobs = Vec::new();
        for ((id, name, parallelism), job) in prepared.into_iter().zip(&planned.jobs) {
            let only_prints = job.graph.sinks().all(|(_, node)| node.table.connector == "print");
            let events = embedded.coordinator.subscribe(id);
            // A finished job whose receipt nobody saw only shows it.
            let state = embedded.coordinator.state()?;
            let ended = state.job(id).map(|job| job.status.clone()).filter(|s| *s == JobStatus::Finished);
            if ended.is_none() {
                embedded.coordinator.run(id, parallelism, planned.settings.clone())?;
            }
            jobs.push(Running { id, name, events, only_prints, last: None, ended });
        }
        if format != Format::Table {
            // Standard output belongs to the receipt.
            qanat_connectors::print::set_output(Box::new(std::io::stderr()));
        }
        let progress = Progress::new(env.clone(), format == Format::Table);
        planned.warnings.iter().for_each(|warning| progress.note(&format!("warning: {warning}")));
        let running = jobs.iter().map(|job| (job.id, job.name.to_string())).collect();
        let attached = Attached::serve(&env, &self.data.folder(), handler(Arc::downgrade(&embedded), running));
        if let Err(error) = &attached {
            // Without the socket the job runs all the same; only `job stop` and live figures are missing.
            tracing::warn!("no socket in the data folder: {error}");
        }
        watch(&embedded, &mut jobs, progress)?;
        for job in &mut jobs {
            // Unreadable if that is why the job failed: then its own error says so.
            job.last = embedded.last_manifest(job.id).ok().flatten();
        }
        let elapsed = env.clock.monotonic().saturating_sub(started);
        // The jobs of a script end together: one that is done waits for the others with its receipt unseen, and
        // is not begun anew beside them.
        let is_finished = |job: &Running| job.ended == Some(JobStatus::Finished);
        let all_finished = jobs.iter().all(is_finished);
        let finished = jobs.iter().filter(|_| all_finished).map(|job| job.id);
        let seen = ReceiptSeen::prepare(&env, &state_folder, finished);
        // The failure of a job is told first, and a receipt in any case.
        finish(&jobs, elapsed, format)?;
        let seen = seen?;
        drop(attached);
        failpoint("receipt.shown");
        // From here on the next run starts anew, so a kill here would look like one that lost the job:
        // the process ends at once, and threads and locks end with it.
        seen.leave(&env);
        std::process::exit(0);
    }
}

/// Answers other commands that attach to this process.
fn handler(embedded: Weak<Embedded>, jobs: Vec<(JobId, String)>) -> Handler {
    Arc::new(move |request| {
        let unknown =
            |job: JobId| Response::Error(Error::new(Code::UnknownJob, format!("job {job} does not run here")));
        match (request, embedded.upgrade()) {
            (Request::Status, embedded) => {
                let live = |(job, name): &(JobId, String)| {
                    embedded.as_ref().and_then(|e| e.metrics(*job)).map(|metrics| LiveJob::of(*job, name, &metrics))
                };
                Response::Status { jobs: jobs.iter().filter_map(live).collect() }
            }
            (Request::Stop { job }, Some(embedded)) if jobs.iter().any(|(id, _)| *id == job) => {
                embedded.coordinator.stop(job);
                Response::Stopping
            }
            (Request::Savepoint { job, name, id }, Some(embedded)) if jobs.iter().any(|(id, _)| *id == job) => {
                decide(&embedded, Command::Savepoint { job, name, request: id })
            }
            (Request::DropSavepoint { job, name }, Some(embedded)) if jobs.iter().any(|(id, _)| *id == job) => {
                decide(&embedded, Command::DropSavepoint { job, name })
            }
            (Request::Stop { job } | Request::Savepoint { job, .. } | Request::DropSavepoint { job, .. }, _) => {
                unknown(job)
            }
        }
    })
}

fn decide(embedded: &Embedded, command: Command) -> Response {
    match embedded.coordinator.decide(command) {
        Ok(Ok(_)) => Response::Done,
        Ok(Err(refusal)) => Response::Error((&refusal).into()),
        Err(error) => Response::Error(error),
    }
}

/// Finds the job to resume, or creates a new one with its epoch 0 (P9).
fn prepare(env: &Env, embedded: &Embedded, name: &Name, graph: &JobGraph, settings: &JobSettings) -> Result<JobId> {
    let digest = beginning::digest(graph);
    let state = embedded.coordinator.state()?;
    let same_name = state.jobs.iter().filter(|(_, job)| job.name == name.as_str());
    let resumable: Vec<_> =
        same_name.filter(|(_, job)| job.status != JobStatus::Finished || !job.acknowledged).collect();
    if let Some((id, _)) = resumable.iter().find(|(_, job)| job.script_digest == digest) {
        tracing::info!(job = %id, "resuming");
        return Ok(**id);
    }
    if resumable.iter().any(|(_, job)| !leaves_nothing(job)) {
        return Err(foreign(name.as_str()));
    }
    let id = JobId(env.entropy.u128());
    let sources = beginning::sources(embedded.opener.as_ref(), graph)?;
    beginning::check_sinks(embedded.opener.as_ref(), graph)?;
    let (name, graph) = (name.to_string(), graph.clone());
    let epoch_zero = Manifest::epoch_zero(id, name, env.clock.now_ms(), graph, settings.clone(), sources);
    embedded.coordinator.submit(NewJob { script_digest: digest, epoch_zero, run_with: None })?;
    Ok(id)
}

/// Whether nothing is lost if a job is never run again: it failed before it wrote anything, did not even
/// have an epoch, or is done.
fn leaves_nothing(job: &Job) -> bool {
    match job.status {
        JobStatus::Failed { .. } => !job.has_output,
        JobStatus::Finished => true,
        JobStatus::Created | JobStatus::Running | JobStatus::Restarting | JobStatus::Stopped => !job.has_begun(),
    }
}

fn foreign(name: &str) -> Error {
    Error::new(Code::ForeignState, format!("job `{name}` was started from another script"))
        .at(Place::Named(name.to_owned()))
        .hint("run the script it was started from, or give this one another --name or --state")
}

/// Refuses a script that was edited so that it has more or fewer jobs while one of before is not done: that
/// one would never end, and its rows would be written again under another name.
fn check_leftovers(embedded: &Embedded, script: &Name, names: &[Name]) -> Result<()> {
    let is_of_script = |name: &str| match name.strip_prefix(script.as_str()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    };
    let state = embedded.coordinator.state()?;
    let leftover = state.jobs.values().find(|job| {
        let is_planned = names.iter().any(|name| name.as_str() == job.name);
        is_of_script(&job.name) && !is_planned && !leaves_nothing(job)
    });
    leftover.map_or(Ok(()), |job| Err(foreign(&job.name)))
}

/// Follows the jobs until all have ended. Ctrl-C asks for a last checkpoint; a second one ends the
/// process at once, and the next run resumes.
fn watch(embedded: &Embedded, jobs: &mut [Running], mut progress: Progress) -> Result<()> {
    let interrupts = interrupts()?;
    let ticks = tick(Duration::from_millis(200));
    let sweeps = tick(RETENTION_INTERVAL);
    let mut swept = Sweeps::default();
    let mut asked = false;
    let mut attempts = Attempts::default();
    while jobs.iter().any(|job| job.ended.is_none()) {
        let mut select = Select::new();
        let open: Vec<usize> =
            jobs.iter().enumerate().filter(|(_, job)| job.ended.is_none()).map(|(index, _)| index).collect();
        for index in &open {
            if let Some(job) = jobs.get(*index) {
                select.recv(&job.events);
            }
        }
        let interrupt = select.recv(&interrupts);
        let clock = select.recv(&ticks);
        let sweep = select.recv(&sweeps);
        let ready = select.ready();
        drop(select);
        if ready == interrupt {
            if interrupts.try_recv().is_ok() {
                if asked {
                    std::process::exit(130);
                }
                asked = true;
                progress.note("stopping with a last checkpoint; Ctrl-C again ends at once");
                jobs.iter().for_each(|job| embedded.coordinator.stop(job.id));
            }
        } else if ready == sweep {
            let _ = sweeps.try_recv();
            swept.note(embedded.retain_topics());
        } else if ready == clock {
            let _ = ticks.try_recv();
            attempts.tick(&progress);
            if let Some(error) = embedded.poisoned() {
                return Err(error);
            }
            if !asked && qanat_connectors::print::is_closed() {
                // `qanat run … | head` has seen enough. What also goes elsewhere goes on.
                asked = true;
                jobs.iter().filter(|job| job.only_prints).for_each(|job| embedded.coordinator.stop(job.id));
            }
            for job in jobs.iter().filter(|job| job.ended.is_none()) {
                if let Some(metrics) = embedded.metrics(job.id) {
                    progress.show(&job.name, &metrics);
                }
            }
        } else if let Some(job) = open.get(ready).and_then(|index| jobs.get_mut(*index)) {
            while let Ok(event) = job.events.try_recv() {
                match event {
                    JobEvent::Committed(_) => {}
                    JobEvent::GenerationFailed(error) => attempts.failed(job.id, error, &progress),
                    // What is claimed stays claimed: the next run of the script goes on from there.
                    JobEvent::Stuck(error) => job.ended = Some(JobStatus::Failed { error }),
                    JobEvent::CommitSlow(error) => progress.note(&error.to_string()),
                    JobEvent::Ended(status) => job.ended = Some(status),
                }
                if let Some(JobStatus::Failed { error }) = &job.ended {
                    attempts.ended(job.id, error);
                }
            }
        }
    }
    progress.clear();
    // A run may be shorter than the time between two sweeps.
    swept.note(embedded.retain_topics());
    Ok(())
}

/// Failed attempts, told while the job goes on: once for the same error again and again, and not at all if
/// it is the one that the job ends with.
#[derive(Default)]
struct Attempts {
    /// Of each job: its error, the ticks since, whether it was told.
    last: BTreeMap<JobId, (Error, u32, bool)>,
}

impl Attempts {
    /// A second: by then the third attempt with the same error has ended the job.
    const TICKS: u32 = 5;

    fn failed(&mut self, job: JobId, error: Error, progress: &Progress) {
        if self.last.get(&job).is_some_and(|(last, _, _)| *last == error) {
            return;
        }
        if let Some((before, _, false)) = self.last.insert(job, (error, 0, false)) {
            tell(&before, progress);
        }
    }

    fn tick(&mut self, progress: &Progress) {
        for (error, ticks, is_told) in self.last.values_mut().filter(|(_, _, is_told)| !is_told) {
            *ticks += 1;
            if *ticks > Self::TICKS {
                tell(error, progress);
                *is_told = true;
            }
        }
    }

    fn ended(&mut self, job: JobId, error: &Error) {
        self.last.retain(|id, (last, _, _)| *id != job || last != error);
    }
}

fn tell(error: &Error, progress: &Progress) {
    progress.note(&format!("attempt failed: {error}"));
}

/// One message per Ctrl-C (or SIGTERM).
fn interrupts() -> Result<Receiver<()>> {
    let (sender, receiver) = bounded(4);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
                loop {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => {}
                        _ = terminate.recv() => {}
                    }
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        })
        .map_err(|e| Error::io("listen for signals", &e))?;
    Ok(receiver)
}

/// Prints the receipt; the first failure is the command's error.
fn finish(jobs: &[Running], elapsed: Duration, format: Format) -> Result<()> {
    let mut receipts = Vec::new();
    for job in jobs {
        let status = job.ended.as_ref().map_or("RUNNING", JobStatus::name);
        receipts.push(RunReceipt {
            job: job.id,
            name: job.name.to_string(),
            status,
            epoch: job.last.as_ref().map_or(Epoch(0), |manifest| manifest.epoch),
            totals: job.last.as_ref().map_or_else(Totals::default, |manifest| manifest.totals.clone()),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
    }
    let failed = jobs.iter().find_map(|job| match &job.ended {
        Some(JobStatus::Failed { error }) => Some(error.clone()),
        _ => None,
    });
    // A neighbour that is done has its receipt, also where standard output is for nothing else.
    let has_finished = jobs.iter().any(|job| job.ended == Some(JobStatus::Finished));
    if failed.is_none() || has_finished || format == Format::Table {
        let table = || receipts.iter().map(receipt_text).collect::<Vec<_>>().join("\n");
        match receipts.as_slice() {
            [one] => output::print_object(one, format, table),
            many => output::print_object(&BTreeMap::from([("jobs", many)]), format, table),
        }
    }
    // A receipt that could not be shown was not seen.
    failed.map_or_else(output::check, Err)
}

fn receipt_text(receipt: &RunReceipt) -> String {
    let mut rows = Vec::new();
    for (table, count) in &receipt.totals.sources {
        rows.push(vec!["read".to_owned(), table.clone(), count.to_string(), String::new()]);
    }
    for (table, sum) in &receipt.totals.sinks {
        let objects = receipt.totals.objects.get(table).copied().unwrap_or(0);
        rows.push(vec![
            "written".to_owned(),
            table.clone(),
            sum.rows.to_string(),
            format!("{objects} objects, hash {}", sum.hash),
        ]);
    }
    let where_they_are = |count: u64, command: &str| match count {
        0 => String::new(),
        _ => format!("`qanat {command} list {}` shows them", receipt.name),
    };
    let (late, dead) = (receipt.totals.late, receipt.totals.dead_lettered);
    rows.push(vec!["late".to_owned(), String::new(), late.to_string(), where_they_are(late, "late")]);
    let shown = where_they_are(dead, "dead-letters");
    rows.push(vec!["dead letters".to_owned(), String::new(), dead.to_string(), shown]);
    format!(
        "{} {} ({}, {:.1} s, job {})\n{}",
        receipt.name,
        receipt.status,
        output::counted(receipt.epoch.0, "epoch", "epochs"),
        receipt.elapsed_ms as f64 / 1000.0,
        receipt.job.short(),
        output::table(&["receipt", "table", "rows", ""], &rows)
    )
}
