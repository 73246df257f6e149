//! `cluster`: a cluster of real processes under kills, pauses, cut links and restarts, and nothing may be lost or doubled.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use qanat_chaos::live::{binary, cluster::ClusterCampaign, fault::FaultKind, rolling::RollingRestart};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Three coordinators and three executors, faults at random moments, and a reader of its own all the while.
#[derive(Parser, Debug)]
struct Arguments {
    /// Records of the job.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Faults over the run.
    #[arg(long, default_value_t = 20)]
    faults: u64,
    /// Rows per second of the source: records must last for all faults.
    #[arg(long, default_value_t = 30_000)]
    rate: u64,
    /// Another seed has other faults at other moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Subtasks per operator.
    #[arg(long, default_value_t = 6)]
    parallelism: u32,
    /// Time between epochs.
    #[arg(long, default_value_t = 200)]
    interval_ms: u64,
    /// Only faults of these kinds, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<FaultKind>,
    /// No faults: every process is ended and started again in turn, so many times, executors drained before.
    #[arg(long, value_name = "ROUNDS", num_args = 0..=1, default_missing_value = "1", conflicts_with_all = ["faults", "only", "seed"])]
    rolling: Option<u64>,
    /// The `qanat` to try; the one of this build if not given.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave the cluster's folder behind.
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
    if let Some(rounds) = arguments.rolling {
        return roll(arguments, rounds);
    }
    let campaign = ClusterCampaign {
        records: arguments.records,
        faults: arguments.faults,
        rows_per_second: arguments.rate,
        seed: arguments.seed,
        parallelism: arguments.parallelism,
        interval_ms: arguments.interval_ms,
        kinds: if arguments.only.is_empty() { FaultKind::ALL.to_vec() } else { arguments.only.clone() },
        binary: binary::locate(arguments.binary.as_deref())?,
        name: format!("cluster-{}", arguments.seed),
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

/// False also if a pause was longer than a failover may be.
fn roll(arguments: &Arguments, rounds: u64) -> anyhow::Result<bool> {
    let restart = RollingRestart {
        records: arguments.records,
        rows_per_second: arguments.rate,
        rounds,
        parallelism: arguments.parallelism,
        interval_ms: arguments.interval_ms,
        binary: binary::locate(arguments.binary.as_deref())?,
        name: "rolling".to_owned(),
        keep: arguments.keep,
    };
    let report = restart.run()?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Text => write!(out, "{report}")?,
        Output::Json => writeln!(out, "{}", report.to_json())?,
    }
    Ok(report.is_exact() && report.is_quick())
}
