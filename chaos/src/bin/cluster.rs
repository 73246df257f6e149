//! `cluster`: a cluster of real processes under faults of every kind, and nothing may be lost or doubled.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use qanat_chaos::live::binary;
use qanat_chaos::live::cluster::{ClusterCampaign, Extent};
use qanat_chaos::live::fault::FaultKind;
use qanat_chaos::live::ledger::{Part, Sum};
use qanat_chaos::live::rolling::RollingRestart;

/// Records of a job under faults.
const RECORDS: u64 = 400_000;
/// Records of a rolling restart's only job.
const ROLLING_RECORDS: u64 = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Three coordinators and three executors, faults at random moments, and a reader of its own all the while.
#[derive(Parser, Debug)]
struct Arguments {
    /// Records of a job: one follows the other until all faults have come. 400,000 if not given, of a rolling restart's
    /// only job 2,000,000.
    #[arg(long)]
    records: Option<u64>,
    /// Faults over the run.
    #[arg(long, default_value_t = 30)]
    faults: u64,
    /// Faults for so long (`90s`, `10m`, `2h`), however many.
    #[arg(long = "for", value_name = "TIME", value_parser = time, conflicts_with = "faults")]
    lasts: Option<Duration>,
    /// Rows per second of the source; the records of a rolling restart must last for all of it.
    #[arg(long, default_value_t = 12_000)]
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
    kinds: Vec<FaultKind>,
    /// Proxies between the processes, also where the system allows each a network of its own.
    #[arg(long)]
    links: bool,
    /// Appends what came of it to a file, as one line of JSON: a part of a longer campaign.
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    /// Nothing is run: the sum of the parts in a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["faults", "lasts", "kinds", "seed", "append", "rolling"])]
    sum: Option<PathBuf>,
    /// No faults: every process is ended and started again in turn, so many times, executors drained before.
    #[arg(long, value_name = "ROUNDS", num_args = 0..=1, default_missing_value = "1", conflicts_with_all = ["faults", "lasts", "kinds", "seed", "append"])]
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

fn time(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3_600),
        _ => return Err("write 90s, 10m or 2h".to_owned()),
    };
    let number = number.parse::<u64>().map_err(|e| format!("`{number}` is no number: {e}"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
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
    if let Some(path) = &arguments.sum {
        let sum = Sum::read(path)?;
        print(arguments.output, &sum, &serde_json::to_value(&sum)?)?;
        return Ok(sum.passes());
    }
    if let Some(rounds) = arguments.rolling {
        return roll(arguments, rounds);
    }
    let campaign = ClusterCampaign {
        records: arguments.records.unwrap_or(RECORDS),
        extent: arguments.lasts.map_or(Extent::Faults(arguments.faults), Extent::Time),
        rows_per_second: arguments.rate,
        seed: arguments.seed,
        parallelism: arguments.parallelism,
        interval_ms: arguments.interval_ms,
        kinds: if arguments.kinds.is_empty() { FaultKind::ALL.to_vec() } else { arguments.kinds.clone() },
        links: arguments.links,
        binary: binary::locate(arguments.binary.as_deref())?,
        name: format!("cluster-{}", arguments.seed),
        keep: arguments.keep,
    };
    let report = campaign.run()?;
    if let Some(path) = &arguments.append {
        Part::new(&report).append(path)?;
    }
    print(arguments.output, &report, &report.to_json())?;
    Ok(report.passes())
}

fn print(output: Output, text: &dyn std::fmt::Display, json: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Text => write!(out, "{text}")?,
        Output::Json => writeln!(out, "{json}")?,
    }
    Ok(())
}

/// False also if a pause was longer than a failover may be.
fn roll(arguments: &Arguments, rounds: u64) -> anyhow::Result<bool> {
    let restart = RollingRestart {
        records: arguments.records.unwrap_or(ROLLING_RECORDS),
        rows_per_second: arguments.rate,
        rounds,
        parallelism: arguments.parallelism,
        interval_ms: arguments.interval_ms,
        binary: binary::locate(arguments.binary.as_deref())?,
        name: "rolling".to_owned(),
        keep: arguments.keep,
    };
    let report = restart.run()?;
    print(arguments.output, &report, &report.to_json())?;
    Ok(report.is_exact() && report.is_quick())
}
