//! `kill`: a job is killed with SIGKILL at random moments until it is done, and nothing may be lost or doubled.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use qanat_chaos::live::{binary, campaign::Campaign};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sink {
    File,
    Log,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Kills a running job at random moments, and reads its output with a reader of its own all the while.
#[derive(Parser, Debug)]
struct Arguments {
    /// Records of the job.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Kills over the run; a few more come around its end.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Another seed kills at other moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the records go.
    #[arg(long, value_enum, default_value = "both")]
    sink: Sink,
    /// Also a windowed aggregation over the records.
    #[arg(long)]
    windows: bool,
    /// Subtasks per operator.
    #[arg(long, default_value_t = 2)]
    parallelism: u32,
    /// Time between epochs.
    #[arg(long, default_value_t = 100)]
    interval_ms: u64,
    /// The `qanat` to try; the one of this build if not given.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave the job's folder behind.
    #[arg(long)]
    keep: bool,
    /// How the report is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "could not run the campaign: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let campaign = Campaign {
        records: arguments.records,
        kills: arguments.kills,
        seed: arguments.seed,
        file: arguments.sink != Sink::Log,
        log: arguments.sink != Sink::File,
        windows: arguments.windows,
        parallelism: arguments.parallelism,
        interval_ms: arguments.interval_ms,
        binary: binary::locate(arguments.binary.as_deref())?,
        name: format!("kill-{}", arguments.seed),
        keep: arguments.keep,
    };
    let report = campaign.run()?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Text => write!(out, "{report}")?,
        Output::Json => writeln!(out, "{}", report.to_json())?,
    }
    Ok(report.passes())
}
