//! `qanat sim`: runs a script in simulated clusters under faults, and proves that its answer stays the same.

use clap::Args;
use clap::ValueEnum;
use qanat_proto::zoo::{self, Bug};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;

use crate::cli::ScriptArguments;
use crate::output::{self, Format};
use crate::sim::{Campaign, FaultKind, Report, bugs, look_for, one};

/// How often progress is told, in seeds.
const TOLD_EVERY: u64 = 50;

/// Run a script in simulated clusters under faults, and compare its sinks with those of a run without.
///
/// Each seed is a whole cluster in one thread, in simulated time: processes die, machines lose power, links break,
/// disks fail and fill up, clocks jump, while a user rescales, stops and drains. Nothing outside is touched: files that
/// the script reads are copied into the simulation, and what it writes stays there. The same seed does the same again.
/// The exit status is 0 only if every seed passes.
#[derive(Args, Debug)]
pub(crate) struct Sim {
    #[command(flatten)]
    script: ScriptArguments,
    /// Simulations.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of faults, with commas between; `none` for none. All of them if not given.
    #[arg(long, value_name = "KIND,...")]
    faults: Option<String>,
    /// Only these faults and actions of the seed, by their numbers, or `none`: how a failure is replayed that was made smaller.
    #[arg(long, value_name = "N,...")]
    keep: Option<String>,
    /// The script has one right answer, whatever the order of its rows: compare sinks even where `explain` says that a
    /// step may differ (ties that cannot be, sums of floats without a remainder).
    #[arg(long)]
    deterministic: bool,
    /// Print every step of the first seed. Its sinks are audited, and not compared.
    #[arg(long)]
    trace: bool,
    /// Simulations at a time; as many as there are processors if not given.
    #[arg(long)]
    processes: Option<usize>,
    /// Run this seed in this process, and say what came of it.
    #[arg(long, hide = true)]
    one: Option<u64>,
    /// Plant this bug, or `all` in turn, and print how many seeds pass until one fails.
    #[arg(long, value_name = "BUG", hide = true)]
    plant: Option<String>,
}

impl Sim {
    pub(crate) fn execute(self, format: Format) -> Result<()> {
        if !cfg!(tokio_unstable) {
            let error = Error::new(Code::Usage, "this build cannot be simulated");
            return Err(
                error.hint("build it with RUSTFLAGS='--cfg tokio_unstable', as the project's .cargo/config.toml does")
            );
        }
        let kinds = kinds(self.faults.as_deref())?;
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let campaign = Campaign {
            script: self.script.script,
            set: self.script.set,
            first: self.seed,
            seeds: self.seeds.max(1),
            kinds,
            kept: self.keep.as_deref().map(numbers).transpose()?,
            is_deterministic: self.deterministic,
            processes: self.processes.unwrap_or(processors),
            planted: Bug::None,
        };
        if let Some(name) = self.plant.as_deref() {
            let bugs = bugs(name)?;
            match (self.one, bugs.as_slice()) {
                (Some(_), [bug]) => {
                    zoo::plant(*bug);
                }
                _ => return look_for(&campaign, &bugs),
            }
        }
        if let Some(seed) = self.one {
            let outcome = one(&campaign, seed, self.trace)?;
            output::print_object(&outcome, Format::Json, String::new);
            return Ok(());
        }
        if self.trace {
            let outcome = one(&campaign, campaign.first, true)?;
            for line in outcome.trace.iter().chain(&outcome.violations).chain(&outcome.unseen) {
                output::print_line(line);
            }
            if let Some(first) = outcome.violations.first().or_else(|| outcome.unseen.first()) {
                return Err(Error::new(Code::ProofFailed, first.clone()));
            }
            return Ok(());
        }
        let clock = Env::real().clock;
        let begun = clock.monotonic();
        let found = campaign.run(|found| {
            if found.done % TOLD_EVERY == 0 {
                let failures = found.failures.len();
                output::note(&format!("{} of {} clusters, {failures} failures", found.done, campaign.seeds));
            }
        })?;
        let is_chosen = self.faults.is_some();
        let report = Report::of(&campaign, found, is_chosen, clock.monotonic().saturating_sub(begun).as_secs_f64());
        report.print(format);
        report.outcome()
    }
}

fn kinds(text: Option<&str>) -> Result<Vec<FaultKind>> {
    match text {
        None => Ok(FaultKind::ALL.to_vec()),
        Some("none") => Ok(Vec::new()),
        Some(text) => text.split(',').map(|name| FaultKind::from_str(name, true).map_err(|_| unknown(name))).collect(),
    }
}

fn numbers(text: &str) -> Result<Vec<usize>> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let number = |word: &str| {
        let error = |e| Error::new(Code::Usage, format!("`{word}` is no number of a fault: {e}"));
        word.parse().map_err(|e| error(e).at(Place::Named("--keep".to_owned())).hint("write numbers, or `none`"))
    };
    text.split(',').map(number).collect()
}

fn unknown(name: &str) -> Error {
    let known: Vec<String> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
    Error::new(Code::Usage, format!("`{name}` is no kind of fault"))
        .at(Place::Named("--faults".to_owned()))
        .hint(format!("there are {}", known.join(", ")))
}
