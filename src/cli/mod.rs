//! Commands, one file per verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use qanat_proto::Result;

use crate::observe::logs::LogFormat;
use crate::output::Format;

mod audit;
mod audit_log;
#[cfg(target_os = "linux")]
mod chaos;
mod checkpoints;
mod cluster;
mod explain;
mod init;
mod job_report;
mod jobs;
mod members;
mod readmit;
mod rollback;
mod run;
mod savepoint;
mod side;
mod sim;
mod submit;
mod tail;
mod target;
mod token;
mod top;
mod topics;
mod validate;

pub(crate) use target::{DataArguments, JobArguments};

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
    /// Jobs of a data folder or of a cluster.
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// One job: describe, stop, resume, rescale, name epochs, roll back, watch, drop.
    #[command(subcommand)]
    Job(jobs::Job),
    /// Topics of a data folder or of a cluster.
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
    #[cfg(target_os = "linux")]
    Chaos(chaos::Chaos),
    /// Run a script as jobs of a cluster.
    Submit(submit::Submit),
    Sim(sim::Sim),
    Dev(cluster::Dev),
    /// A cluster: who is in it, who may call, what was changed; coordinators and executors that come and go.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    Top(top::Top),
    /// Run one coordinator of a cluster in this process.
    Coordinator(cluster::CoordinatorCommand),
    /// Run one executor of a cluster in this process.
    Executor(cluster::ExecutorCommand),
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
        #[cfg(target_os = "linux")]
        Command::Chaos(command) => command.execute(arguments.output),
        Command::Submit(command) => command.execute(arguments.output),
        Command::Sim(command) => command.execute(arguments.output),
        Command::Dev(command) => command.execute(arguments.output),
        Command::Cluster(command) => command.execute(arguments.output),
        Command::Top(command) => command.execute(arguments.output),
        Command::Coordinator(command) => command.execute(arguments.output),
        Command::Executor(command) => command.execute(arguments.output),
    }
}
