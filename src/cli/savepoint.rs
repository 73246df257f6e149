//! `qanat job savepoint` and `job savepoints`: epochs with a name.

use std::time::Duration;

use clap::Args;
use qanat_client::Client;
use qanat_coordinator::raft::Reach;
use qanat_coordinator_core::Command;
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::attach::{self, Request};
use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::data_folder::{FoundJob, JobFolder};
use crate::output::{self, Format};

/// Between two looks whether the process is there, if nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(crate) struct Savepoint {
    /// Name of the job, its id or the first digits of it.
    job_name: String,
    /// Name of the savepoint; made from the time if not given.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Drop this savepoint instead: its epoch is kept no longer than others.
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    drop: Option<String>,
    /// Return before the epoch is claimed.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Savepoints {
    /// Name of the job, its id or the first digits of it.
    name: String,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// The savepoints of a job, as they are printed.
#[derive(Debug, Serialize)]
struct Listed {
    savepoints: Vec<Line>,
    /// Epochs that can be restored, named or not.
    restorable: Vec<u64>,
    /// First and last of epochs that rollbacks took back.
    withdrawn: Vec<(u64, u64)>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// None while no epoch has it yet.
    epoch: Option<u64>,
}

impl Listed {
    fn of_cluster(response: qanat_client::SavepointsResponse) -> Self {
        let line = |s: qanat_client::Savepoint| Line { name: s.name, epoch: (!s.pending).then_some(s.epoch) };
        let range = |pair: &[u64]| Some((*pair.first()?, *pair.get(1)?));
        Self {
            savepoints: response.savepoints.into_iter().map(line).collect(),
            restorable: response.restorable,
            withdrawn: response.withdrawn.chunks(2).filter_map(range).collect(),
        }
    }

    fn of_folder(found: &FoundJob) -> Self {
        let job = &found.history.job;
        let named = job.savepoints.iter().map(|(name, s)| Line { name: name.clone(), epoch: Some(s.epoch.0) });
        let mut savepoints: Vec<Line> = named.collect();
        savepoints.sort_by_key(|line| line.epoch);
        savepoints.extend(job.savepoints_wanted.keys().map(|name| Line { name: name.clone(), epoch: None }));
        let range = |(first, last): (Epoch, Epoch)| (first.0, last.0);
        Self {
            savepoints,
            restorable: job.claims.keys().map(|epoch| epoch.0).collect(),
            withdrawn: job.withdrawn.iter().map(range).collect(),
        }
    }

    fn print(&self, format: Format) {
        output::print_object(self, format, || {
            let epoch = |line: &Line| line.epoch.map_or_else(|| "the next one".to_owned(), |epoch| epoch.to_string());
            let rows: Vec<Vec<String>> =
                self.savepoints.iter().map(|line| vec![line.name.clone(), epoch(line)]).collect();
            let numbers: Vec<String> = self.restorable.iter().map(ToString::to_string).collect();
            let mut text = output::table(&["savepoint", "epoch"], &rows);
            text.push_str(&format!("\nepochs that can be restored: {}\n", numbers.join(", ")));
            for (first, last) in &self.withdrawn {
                text.push_str(&format!("withdrawn: {first} to {last}\n"));
            }
            text
        });
    }
}

impl Savepoints {
    pub(super) fn execute(&self, format: Format) -> Result<()> {
        let run = self.job.run.as_deref();
        let listed = if self.cluster.is_used(self.job.folder_option())? {
            let ask = |client: Client| async move { client.savepoints(&run_of(&client, &self.name, run).await?).await };
            Listed::of_cluster(self.cluster.ask(ask)?)
        } else {
            let view = self.job.view()?;
            Listed::of_folder(&view.job(&self.name, run, Reach::State)?)
        };
        listed.print(format);
        Ok(())
    }
}

impl Savepoint {
    pub(super) fn execute(&self, format: Format) -> Result<()> {
        let env = Env::real();
        let name = match (&self.name, &self.drop) {
            (Some(name), _) | (None, Some(name)) => Name::new(name)?.to_string(),
            (None, None) => format!("s{}", env.clock.now_ms()),
        };
        if self.drop.is_none() && name.bytes().all(|b| b.is_ascii_digit()) {
            let error = Error::new(Code::Usage, format!("`{name}` is a number, as an epoch is"));
            return Err(error.hint("choose a name with a letter in it"));
        }
        let epoch = if self.cluster.is_used(self.job.folder_option())? {
            self.cluster.ask(|client| self.in_cluster(client, &name))?
        } else {
            self.in_folder(&env, &name)?
        };
        let shown =
            serde_json::json!({ "job": self.job_name, "savepoint": name, "epoch": epoch, "dropped": self.drop });
        output::print_object(&shown, format, || match (&self.drop, epoch) {
            (Some(_), _) => format!("savepoint {name} is dropped\n"),
            (None, Some(epoch)) => format!("savepoint {name} is epoch {epoch}\n"),
            (None, None) => format!("savepoint {name} will be the next epoch\n"),
        });
        Ok(())
    }

    async fn in_cluster(&self, client: Client, name: &str) -> Result<Option<u64>> {
        let job = client.describe_run(&self.job_name, self.job.run.as_deref()).await?.id;
        if self.drop.is_some() {
            return client.drop_savepoint(&job, name).await.map(|_| None);
        }
        let made = client.savepoint(&job, name).await?;
        if !made.pending || self.no_wait {
            return Ok((!made.pending).then_some(made.epoch));
        }
        // The claim that gets the name is a change of the job.
        let mut watch = client.watch(&job).await?;
        while watch.next().await?.is_some() {
            let listed = client.savepoints(&job).await?.savepoints;
            match listed.into_iter().find(|savepoint| savepoint.name == name) {
                Some(savepoint) if savepoint.pending => {}
                Some(savepoint) => return Ok(Some(savepoint.epoch)),
                None => break,
            }
        }
        Err(Error::new(Code::NotRestorable, format!("savepoint `{name}` was dropped before it had an epoch")))
    }

    /// Asks the process that runs the job, or decides in its place if there is none.
    fn in_folder(&self, env: &Env, name: &str) -> Result<Option<u64>> {
        let view = self.job.view()?;
        let found = view.job(&self.job_name, self.job.run.as_deref(), Reach::State)?;
        let job = found.history.id;
        let id = format!("{:032x}", env.entropy.u128());
        let request = match &self.drop {
            Some(_) => Request::DropSavepoint { job, name: name.to_owned() },
            None => Request::Savepoint { job, name: name.to_owned(), id: id.clone() },
        };
        let runs = || attach::live_jobs(view.root()).iter().any(|live| live.job == job);
        // Before anything is asked, so that no change is missed.
        let watch = found.watch(env)?;
        let mut is_running = runs() && attach::ask(view.root(), &request)?.is_some();
        if !is_running {
            let command = match &self.drop {
                Some(_) => Command::DropSavepoint { job, name: name.to_owned() },
                None => Command::Savepoint { job, name: name.to_owned(), request: id },
            };
            decide(env, &found, &command)?;
        }
        if self.drop.is_some() {
            return Ok(None);
        }
        loop {
            let found = view.again(&found)?;
            let epoch = found.history.job.savepoints.get(name).map(|savepoint| savepoint.epoch.0);
            if epoch.is_some() || self.no_wait || !is_running {
                return Ok(epoch);
            }
            // Asked before the next look, which so sees the last thing that a process did.
            is_running = watch.wait(LOOK_EVERY) || runs();
        }
    }
}

/// By what a job of a cluster is named: its id where a run is, and what was said otherwise.
pub(super) async fn run_of(client: &Client, name: &str, run: Option<&str>) -> Result<String> {
    match run {
        Some(_) => Ok(client.describe_run(name, run).await?.id),
        None => Ok(name.to_owned()),
    }
}

/// Decides about a job that no process runs.
///
/// # Errors
/// E0303 if one does; what the command is refused for.
pub(super) fn decide(env: &Env, found: &FoundJob, command: &Command) -> Result<()> {
    let folder = JobFolder::open(env, &found.folder)?;
    folder.member.propose(command)?.map(drop).map_err(|refusal| Error::from(&refusal).or_at(|| of(found.history.id)))
}

fn of(job: JobId) -> Place {
    Place::Named(job.to_string())
}
