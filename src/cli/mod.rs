//! Commands, one file per verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use qanat_proto::Result;

use crate::output::Format;

mod explain;
mod run;
mod validate;

/// A distributed stream processor for data integration: SQL in, exactly once out.
#[derive(Debug, Parser)]
#[command(name = "qanat", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
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
}

/// Where jobs, topics and checkpoints are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArguments {
    /// Data folder: topics and jobs.
    #[arg(long, value_name = "DIR", env = "QANAT_DATA", default_value = "./qanat-data")]
    pub(crate) data: PathBuf,
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
    }
}
