//! Commands, one file per verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use qanat_proto::Result;
use qanat_storage::env::Env;

use crate::data_folder::DataView;
use crate::observe::logs::LogFormat;
use crate::output::Format;

mod audit;
mod audit_log;
mod checkpoints;
mod cluster;
mod explain;
mod init;
mod jobs;
mod members;
mod readmit;
mod rollback;
mod run;
mod savepoint;
mod side;
mod submit;
mod tail;
mod token;
mod top;
mod topics;
mod validate;

/// A distributed stream processor for data integration: SQL in, exactly once out.
#[derive(Debug, Parser)]
#[command(name = "qanat", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// How log lines are written to standard error. What is logged says `QANAT_LOG` (`info`, `qanat_executor=debug`).
    #[arg(long, global = true, value_enum, env = "QANAT_LOG_FORMAT", default_value_t)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a SQL script in this process until its input ends, or until Ctrl-C.
    Run(run::Run),
    /// Check a script without running it.
    Validate(validate::Validate),
    /// Show how a script would run.
    Explain(explain::Explain),
    /// Jobs of the data folder.
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// One job: describe it, stop it.
    #[command(subcommand)]
    Job(jobs::Job),
    /// Topics of the data folder.
    #[command(subcommand)]
    Topics(topics::Topics),
    Tail(tail::Tail),
    /// Rows that came too late for all their windows.
    #[command(subcommand)]
    Late(side::Late),
    /// Records that could not be decoded and rows that could not be processed.
    #[command(subcommand)]
    DeadLetters(side::DeadLetters),
    /// Checkpoints (epochs) of a job.
    #[command(subcommand)]
    Checkpoints(checkpoints::Checkpoints),
    Audit(audit::Audit),
    /// Run a script as jobs of a cluster.
    Submit(submit::Submit),
    Dev(cluster::Dev),
    /// The cluster: who is in it.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    Top(top::Top),
    /// Run one coordinator of a cluster in this process.
    Coordinator(cluster::CoordinatorCommand),
    /// Run one executor of a cluster in this process.
    Executor(cluster::ExecutorCommand),
}

/// Where jobs, topics and checkpoints are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArguments {
    /// Data folder: topics and jobs.
    #[arg(long, value_name = "DIR", env = "QANAT_DATA", default_value = "./qanat-data")]
    pub(crate) data: PathBuf,
}

/// Which run of a job, where its name alone does not say it.
#[derive(Args, Clone, Debug)]
pub(crate) struct JobArguments {
    /// One run alone: its id, or the first digits of it. Otherwise the newest, or all where entries are listed.
    #[arg(long, value_name = "JOBID")]
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataArguments,
    /// Folder of the job's own state, in place of `<data>/jobs/<name>`.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

impl JobArguments {
    pub(crate) fn view(&self) -> Result<DataView> {
        DataView::open(&Env::real(), &self.data.data, self.state.as_deref())
    }
}

/// A script and what is filled into it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScriptArguments {
    /// The SQL script; `-` reads standard input.
    pub(crate) script: PathBuf,
    /// A setting (`parallelism.default=2`) or a value for `${KEY}` in the script. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Run(command) => command.execute(arguments.output),
        Command::Validate(command) => command.execute(arguments.output),
        Command::Explain(command) => command.execute(arguments.output),
        Command::Jobs(command) => command.execute(arguments.output),
        Command::Job(command) => command.execute(arguments.output),
        Command::Topics(command) => command.execute(arguments.output),
        Command::Tail(command) => command.execute(arguments.output),
        Command::Late(command) => command.execute(arguments.output),
        Command::DeadLetters(command) => command.execute(arguments.output),
        Command::Checkpoints(command) => command.execute(arguments.output),
        Command::Audit(command) => command.execute(arguments.output),
        Command::Submit(command) => command.execute(arguments.output),
        Command::Dev(command) => command.execute(arguments.output),
        Command::Cluster(command) => command.execute(arguments.output),
        Command::Top(command) => command.execute(arguments.output),
        Command::Coordinator(command) => command.execute(arguments.output),
        Command::Executor(command) => command.execute(arguments.output),
    }
}
