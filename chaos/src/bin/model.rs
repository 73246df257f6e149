//! Random walks of the models, from one seed on.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use qanat_chaos::model::Kind;
use serde_json::json;

#[derive(Parser)]
#[command(about = "Plays the engine's decisions against orders of events, losses and deaths that seeds choose")]
struct Arguments {
    /// One model; all of them otherwise.
    #[arg(long)]
    model: Option<Kind>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, |n| n.get()))]
    threads: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let models = arguments.model.map_or_else(|| Kind::ALL.to_vec(), |model| vec![model]);
    let mut failed = false;
    for model in models {
        failed |= !run(model, &arguments)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Walks all seeds of one model, prints one line about them, and says whether all held.
fn run(model: Kind, arguments: &Arguments) -> Result<bool> {
    let begun = Instant::now();
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let seen: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let failed: Mutex<Option<u64>> = Mutex::default();
    let work = || {
        let mut mine: BTreeMap<&'static str, u64> = BTreeMap::new();
        while !is_over.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= arguments.seeds {
                break;
            }
            match model.walk(arguments.seed + n) {
                Ok(figures) => figures.into_iter().for_each(|(name, count)| *mine.entry(name).or_default() += count),
                Err(_) => {
                    *failed.lock().expect("no panic") = Some(arguments.seed + n);
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        }
        let mut seen = seen.lock().expect("no panic");
        mine.into_iter().for_each(|(name, count)| *seen.entry(name).or_default() += count);
    };
    thread::scope(|scope| (0..arguments.threads.max(1)).for_each(|_| _ = scope.spawn(work)));
    let walked = next.load(Ordering::Relaxed).min(arguments.seeds);
    let seconds = begun.elapsed().as_secs_f64();
    let seen = seen.into_inner().expect("no panic");
    writeln!(
        io::stdout().lock(),
        "{}",
        json!({
            "model": format!("{model:?}").to_lowercase(),
            "seed": arguments.seed,
            "seeds": walked,
            "seeds_per_s": (walked as f64 / seconds).round(),
            "seen": seen,
        })
    )?;
    let Some(seed) = failed.into_inner().expect("no panic") else { return Ok(true) };
    let name = format!("{model:?}").to_lowercase();
    let mut told = io::stderr().lock();
    writeln!(told, "seed {seed} of `{name}`:\n{}", model.explain(seed).unwrap_or_default())?;
    writeln!(told, "replay it: model --model {name} --seed {seed} --seeds 1")?;
    Ok(false)
}
