//! Searches a small world to its end, once for each kind of fault.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use qanat_chaos::model::Shape;
use qanat_chaos::model::small::{Budget, Small};
use serde_json::json;
use stateright::{Checker, Model};

#[derive(Parser)]
#[command(about = "Visits every state of a small world, with a few faults anywhere in it")]
struct Arguments {
    /// Executors.
    #[arg(long, default_value_t = 2)]
    hosts: usize,
    /// Splits, of one record each.
    #[arg(long, default_value_t = 2)]
    splits: usize,
    #[arg(long, default_value_t = 1)]
    records: u64,
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    #[arg(long, default_value_t = 0)]
    deaths: u8,
    #[arg(long, default_value_t = 0)]
    elections: u8,
    #[arg(long, default_value_t = 0)]
    breaks: u8,
    #[arg(long, default_value_t = 0)]
    repeats: u8,
    #[arg(long, default_value_t = 0)]
    rollbacks: u8,
    /// Epochs.
    #[arg(long, default_value_t = 3)]
    epochs: u64,
    /// States after which a search gives up, which fails.
    #[arg(long, default_value_t = 20_000_000)]
    most: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> Result<()> {
    let of = Arguments::parse();
    let shape = Shape {
        coordinators: 2,
        hosts: of.hosts,
        slots: 1,
        parallelism: of.parallelism,
        splits: of.splits,
        records: of.records,
        old: of.records,
        from_latest: false,
        epoch_interval_ms: 0,
        epoch_timeout_ms: 1_000_000,
        checkpoints_kept: 1,
        commit_step_ms: 0,
    };
    let Arguments { deaths, elections, breaks, repeats, rollbacks, .. } = of;
    let budget = Budget { deaths, elections, breaks, repeats, rollbacks };
    let begun = Instant::now();
    let search = Small { shape, budget, epochs: of.epochs }.checker().threads(of.threads).target_state_count(of.most);
    // Depth first: what waits to be looked at is few states, and what is known of the others a number each.
    let found = search.spawn_dfs().join();
    let seconds = begun.elapsed().as_secs_f64();
    let states = found.unique_state_count();
    writeln!(
        io::stdout().lock(),
        "{}",
        json!({
            "faults": format!("{budget:?}"),
            "states": states,
            "steps": found.state_count(),
            "depth": found.max_depth(),
            "states_per_s": (states as f64 / seconds).round(),
        })
    )?;
    let mut told = io::stderr().lock();
    for (property, path) in found.discoveries() {
        if property == "a job finishes" {
            continue;
        }
        writeln!(told, "not so: {property}")?;
        for (state, action) in path.into_vec() {
            if let Some(action) = action {
                writeln!(told, "  {action:?}")?;
            } else if let Some(broken) = &state.broken {
                writeln!(told, "{broken}")?;
            }
        }
        bail!("a state breaks what must hold");
    }
    if found.discovery("a job finishes").is_none() {
        bail!("no order of events finishes the job");
    }
    if found.state_count() >= of.most {
        bail!("there are more states than {}", of.most);
    }
    Ok(())
}
