//! `qanat coordinator`, `executor`, `dev` and `cluster`: the processes of a cluster, and who is in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use qanat_client::{Client, Overview};
use qanat_proto::rpc::control::Job;
use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::beginning::cores;
use crate::cli::audit_log::AuditLog;
use crate::cli::init::{Certify, Init};
use crate::cli::members::{CoordinatorLine, ExecutorLine};
use crate::cli::token::Token;
use crate::cluster::{
    CoordinatorOptions, DevOptions, ExecutorOptions, NodeSecurity, end_behind, end_with, read_authority, read_token,
    run_coordinator, run_dev, run_executor,
};
use crate::observe::MetricsArguments;
use crate::output::{self, Format, counted};

/// Which cluster a command is for.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArguments {
    /// Addresses of coordinators, separated by commas; one is enough. QANAT_CLUSTER if not given.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) cluster: Option<String>,
    /// Certificate of the cluster's authority (`ca.pem`): speak TLS, and with nobody else.
    #[arg(long, value_name = "FILE", env = "QANAT_CA")]
    ca: Option<PathBuf>,
    /// A file with the access token to show.
    #[arg(long, value_name = "FILE", env = "QANAT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// W3C trace that the request belongs to, as the cluster's logs show it; random if not given.
    #[arg(long, value_name = "00-TRACE-PARENT-01")]
    traceparent: Option<String>,
}

/// Somebody is heard by then at one of the addresses, or they are wrong.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);

impl ClusterArguments {
    pub(super) fn client(&self, addresses: &str) -> Result<Client> {
        let addresses = addresses.split(',').map(str::trim);
        let env = Env::real();
        let token = self.token_file.as_ref().map(|path| read_token(&env, path)).transpose()?;
        match &self.ca {
            Some(ca) => Client::secure(addresses, &read_authority(&env, ca)?, token.as_ref()),
            None if token.is_some() => Err(Error::new(Code::Usage, "a token is never sent without TLS")
                .hint("name the authority of the cluster: --ca, or QANAT_CA")),
            None => Client::new(addresses),
        }
    }

    /// The options of access, as one types them.
    pub(super) fn security_words(&self) -> Vec<String> {
        let options = [("--ca", &self.ca), ("--token-file", &self.token_file)];
        let given = options.into_iter().filter_map(|(name, path)| path.as_ref().map(|path| (name, path)));
        given.flat_map(|(name, path)| [name.to_owned(), path.display().to_string()]).collect()
    }

    /// Runs one request against the cluster that is named.
    pub(crate) fn ask<T, F: Future<Output = Result<T>>>(&self, ask: impl FnOnce(Client) -> F) -> Result<T> {
        let mut client = self.client(&self.addresses()?)?.with_connect_timeout(CONNECT_TIMEOUT);
        if let Some(traceparent) = &self.traceparent {
            client = client.with_traceparent(traceparent)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Error::io("start the client", &e))?.block_on(ask(client))
    }
}

/// One coordinator of a cluster.
#[derive(Args, Debug)]
pub(crate) struct CoordinatorCommand {
    /// The cluster's id: processes of another one are refused.
    #[arg(long, value_name = "ID", required_unless_present = "security", conflicts_with = "security")]
    cluster_id: Option<String>,
    /// Number of this member. Never given to another one, nor to this one with an empty folder.
    #[arg(long, value_name = "N", required_unless_present = "security", conflicts_with = "security")]
    id: Option<u64>,
    /// Where it listens, for everybody.
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// The group as it is founded: `1=HOST:PORT,2=HOST:PORT,...`. A coordinator that joins later needs none.
    #[arg(long, value_name = "N=HOST:PORT,...", value_parser = members, conflicts_with = "security")]
    members: Option<Members>,
    /// This process's folder of `qanat cluster init`: who it is, and whom it believes. Without, it listens on loopback.
    #[arg(long, value_name = "DIR")]
    security: Option<PathBuf>,
    /// Found the group: once in its life, on one of its members.
    #[arg(long)]
    found: bool,
    /// This member's own folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder for checkpoints and topics that every process of the cluster reaches.
    #[arg(long, value_name = "DIR")]
    storage: PathBuf,
    /// A folder below which jobs may read and write files. May be repeated.
    #[arg(long, value_name = "DIR")]
    files_root: Vec<PathBuf>,
    #[command(flatten)]
    metrics: MetricsArguments,
    /// End when this process does, which started it.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
    /// End when this process does, which did not start it.
    #[arg(long, value_name = "PID", hide = true, conflicts_with = "parent")]
    until: Option<i32>,
}

/// A group of coordinators: `HOST:PORT` by number.
pub(super) type Members = BTreeMap<u64, String>;

fn members(text: &str) -> std::result::Result<Members, String> {
    text.split(',').map(member).collect()
}

fn member(text: &str) -> std::result::Result<(u64, String), String> {
    let (id, address) = text.split_once('=').ok_or_else(|| format!("`{text}` is not N=HOST:PORT"))?;
    let id = id.trim().parse::<u64>().map_err(|e| format!("`{id}` is no number: {e}"))?;
    Ok((id, address.trim().to_owned()))
}

impl CoordinatorCommand {
    pub(crate) fn execute(self, format: Format) -> Result<()> {
        self.parent.map_or(Ok(()), end_with)?;
        self.until.map_or(Ok(()), end_behind)?;
        let env = Env::real();
        let security = self.security.as_deref();
        let security = security.map(|folder| NodeSecurity::read(&env, folder, NodeRole::Coordinator)).transpose()?;
        let (cluster, id, members) = match &security {
            Some(security) => {
                let identity = security.identity();
                let id = identity.node.as_str().parse().map_err(|_| {
                    Error::new(Code::CertificateRefused, format!("`{identity}` is no number of a coordinator"))
                })?;
                (identity.cluster.to_string(), id, security.coordinators().clone())
            }
            // clap sees to it that they are there.
            None => (self.cluster_id.unwrap_or_default(), self.id.unwrap_or(0), self.members.unwrap_or_default()),
        };
        if self.found && members.is_empty() {
            return Err(
                Error::new(Code::Usage, "a group is founded of members").hint("name them: --members 1=HOST:PORT,...")
            );
        }
        run_coordinator(CoordinatorOptions {
            cluster,
            id,
            listen: self.listen,
            members,
            security,
            founds: self.found,
            data: self.data,
            storage: self.storage,
            files_roots: Some(self.files_root),
            metrics: self.metrics,
            format,
        })
    }
}

/// One executor of a cluster.
#[derive(Args, Debug)]
pub(crate) struct ExecutorCommand {
    /// The cluster's id: another one's coordinators are refused.
    #[arg(long, value_name = "ID", required_unless_present = "security", conflicts_with = "security")]
    cluster_id: Option<String>,
    /// Name of this node: the same after every start.
    #[arg(long, value_name = "NAME", required_unless_present = "security", conflicts_with = "security")]
    node: Option<String>,
    /// This process's folder of `qanat cluster init`: who it is, and whom it believes. Without, it listens on loopback.
    #[arg(long, value_name = "DIR")]
    security: Option<PathBuf>,
    /// Its share of the work; one per core if not given.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Where other executors reach it; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// The address that others are told, where it is not the one it listens at. Its certificate names the host.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Addresses of coordinators, separated by commas; those of the security folder if not given.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    coordinators: Vec<String>,
    /// Folder for checkpoints and topics that every process of the cluster reaches.
    #[arg(long, value_name = "DIR")]
    storage: PathBuf,
    /// This node's own folder. A restart on it takes the place of the process before at once; without it a restart
    /// waits until the cluster has given that one up.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    metrics: MetricsArguments,
    /// End when this process does, which started it.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
    /// End when this process does, which did not start it.
    #[arg(long, value_name = "PID", hide = true, conflicts_with = "parent")]
    until: Option<i32>,
}

impl ExecutorCommand {
    pub(crate) fn execute(self, format: Format) -> Result<()> {
        self.parent.map_or(Ok(()), end_with)?;
        self.until.map_or(Ok(()), end_behind)?;
        let env = Env::real();
        let security = self.security.as_deref();
        let security = security.map(|folder| NodeSecurity::read(&env, folder, NodeRole::Executor)).transpose()?;
        let (cluster, node) = match &security {
            Some(security) => (security.identity().cluster.to_string(), security.identity().node.to_string()),
            // clap sees to it that they are there.
            None => (self.cluster_id.unwrap_or_default(), self.node.unwrap_or_default()),
        };
        let mut coordinators = self.coordinators;
        if let Some(security) = security.as_ref().filter(|_| coordinators.is_empty()) {
            coordinators = security.coordinators().values().cloned().collect();
        }
        run_executor(ExecutorOptions {
            cluster,
            node,
            security,
            slots: self.slots.unwrap_or_else(cores),
            listen: self.listen,
            advertise: self.advertise,
            coordinators,
            storage: self.storage,
            data: self.data,
            metrics: self.metrics,
            format,
        })
    }
}

/// Start a cluster of real processes on this machine and tear it down at the end.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// Folder of everything that it keeps.
    #[arg(long, value_name = "DIR", default_value = "./qanat-dev")]
    data: PathBuf,
    /// Where the first coordinator of a new cluster listens, and from then on; a free port of loopback if not given.
    #[arg(long, value_name = "HOST:PORT")]
    api: Option<String>,
    #[arg(long, value_name = "N", default_value_t = 3)]
    coordinators: u32,
    #[arg(long, value_name = "N", default_value_t = 3)]
    executors: u32,
    /// Share of the work of each executor; one per core if not given.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// A folder below which jobs may read and write files; the working directory if not given. May be repeated.
    #[arg(long, value_name = "DIR")]
    files_root: Vec<PathBuf>,
}

impl Dev {
    pub(crate) fn execute(self, format: Format) -> Result<()> {
        if self.coordinators == 0 || self.coordinators.is_multiple_of(2) || self.coordinators > 5 {
            let message = format!(
                "a group of {} makes no sense",
                counted(self.coordinators.into(), "coordinator", "coordinators")
            );
            return Err(Error::new(Code::Usage, message).hint("use 1, 3 or 5"));
        }
        let mut files_roots = self.files_root;
        if files_roots.is_empty() {
            files_roots.push(std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?);
        }
        let options = DevOptions {
            data: self.data,
            api: self.api,
            coordinators: self.coordinators,
            executors: self.executors,
            slots: self.slots.unwrap_or_else(cores),
            files_roots,
        };
        run_dev(&options, format)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    Init(Init),
    Certify(Certify),
    /// Access tokens of clients.
    #[command(subcommand)]
    Token(Token),
    AuditLog(AuditLog),
    /// Show coordinators and executors.
    Status(Status),
    /// Move work away from an executor that is about to be stopped, and wait until it has none.
    Drain(Drain),
    /// Add a coordinator that was started with a new number: it catches up, and gets a vote.
    Add(Add),
    /// Take a coordinator out of the group, one that is gone for good as well.
    Remove(Remove),
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// Its number, never used in this cluster before, and where it listens.
    #[arg(value_name = "ID=HOST:PORT", value_parser = member)]
    coordinator: (u64, String),
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Its number.
    id: u64,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// Name of the node.
    node: String,
    /// Let it take work again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What an executor that is drained still has: jobs move with their next epoch, and one that stops goes on until its
/// last one is committed.
fn waits_for(overview: &Overview, node: &str) -> Vec<String> {
    let jobs = overview.jobs.iter().filter_map(|job| job.job.as_ref());
    let here = jobs.filter(|job| job.executors.iter().any(|executor| executor == node));
    let line = |job: &Job| {
        let what = if job.stopping { "is committed for the last time" } else { "has its next epoch" };
        let why =
            job.failure.as_ref().map(|failure| format!(" (the last failure: {} {})", failure.code, failure.message));
        format!("executor `{node}` still runs `{}`, until it {what}{}", job.name, why.unwrap_or_default())
    };
    here.map(line).collect()
}

impl Drain {
    fn execute(&self, format: Format) -> Result<()> {
        /// Between two looks whether it is done.
        const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);
        /// Between two words on what it waits for.
        const TOLD_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
        let drain = |client: Client| async move {
            let squeezed = client.drain(&self.node, self.undo).await?;
            if self.undo {
                return Ok(squeezed);
            }
            let clock = Env::real().clock;
            let mut next_word = clock.monotonic() + TOLD_EVERY;
            loop {
                let status = client.status().await?;
                // Gone is drained, too.
                if status.executors.iter().all(|e| e.node != self.node || e.jobs.is_empty()) {
                    return Ok(squeezed);
                }
                if !status.executors.iter().any(|e| e.node != self.node && e.attached && !e.draining)
                    && let Err(error) = client.drain(&self.node, false).await
                {
                    // The others are gone since: what it has cannot go anywhere, and goes on here.
                    client.drain(&self.node, true).await?;
                    return Err(error);
                }
                if clock.monotonic() >= next_word {
                    next_word += TOLD_EVERY;
                    for line in waits_for(&client.overview().await?, &self.node) {
                        output::note(&line);
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let squeezed = self.cluster.ask(drain)?;
        for job in &squeezed {
            output::note(&format!("warning: job `{job}` has less room on the other executors"));
        }
        let (node, draining) = (&self.node, !self.undo);
        let report = serde_json::json!({ "node": node, "draining": draining, "squeezed": squeezed });
        output::print_object(&report, format, || {
            if draining { format!("{node} has no work any more") } else { format!("{node} takes work again") }
        });
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Serialize)]
struct StatusReport {
    cluster: String,
    coordinators: Vec<CoordinatorLine>,
    executors: Vec<ExecutorLine>,
}

impl Cluster {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let status = match self {
            Self::Status(command) => command.cluster.ask(|client| async move { client.status().await })?,
            Self::Drain(command) => return command.execute(format),
            Self::Init(command) => return command.execute(format),
            Self::Certify(command) => return command.execute(format),
            Self::Token(command) => return command.execute(format),
            Self::AuditLog(command) => return command.execute(format),
            Self::Add(command) => {
                let (id, address) = &command.coordinator;
                command.cluster.ask(|client| async move { client.add_coordinator(*id, address).await })?
            }
            Self::Remove(command) => {
                command.cluster.ask(|client| async move { client.remove_coordinator(command.id).await })?
            }
        };
        let report = StatusReport {
            cluster: status.cluster,
            coordinators: status.coordinators.into_iter().map(Into::into).collect(),
            executors: status.executors.into_iter().map(Into::into).collect(),
        };
        output::print_object(&report, format, || {
            let (coordinators, executors) = (&report.coordinators, &report.executors);
            format!("{}\n{}", CoordinatorLine::table(coordinators), ExecutorLine::table(executors))
        });
        Ok(())
    }
}
