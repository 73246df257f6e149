//! Plants each bug of the zoo in turn and counts the seeds until a walk of the models breaks an invariant.

use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::Parser;
use qanat_chaos::model::{Finder, Kind};
use qanat_proto::zoo::Bug;

#[derive(Parser)]
#[command(about = "Plants bugs, and says how soon the models find each")]
struct Arguments {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds after which a bug counts as not found.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// Times that each is looked for; the median is told.
    #[arg(long, default_value_t = 5)]
    times: u64,
    /// Show the fewest steps that break something.
    #[arg(long)]
    explain: bool,
    /// A part of the name of the bugs to plant.
    #[arg(default_value = "")]
    only: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (mut missed, mut out) = (Vec::new(), io::stdout().lock());
    let bugs = Bug::ALL.iter().copied().filter(|bug| format!("{bug:?}").contains(&arguments.only));
    writeln!(out, "{:<4} {:<24} {:<7} {:>7} {:>7}  found as", "rule", "bug", "model", "seeds", "most")?;
    for bug in bugs {
        let finder = Finder::new(bug);
        let first = |time: u64| arguments.seed + time * arguments.seeds;
        let times = 0..arguments.times.max(1);
        let found: Option<Vec<_>> =
            times.map(|time| finder.find(first(time)..=first(time) + arguments.seeds - 1)).collect();
        let (name, rule, model) = (format!("{bug:?}"), bug.rule(), format!("{:?}", Kind::of(bug)).to_lowercase());
        let Some(found) = found else {
            writeln!(out, "{rule:<4} {name:<24} {model:<7} {:>7} {:>7}", "none", "none")?;
            missed.push(bug);
            continue;
        };
        let mut seeds: Vec<u64> = found.iter().map(|found| found.seeds).collect();
        seeds.sort_unstable();
        let (median, most) = (seeds[seeds.len() / 2], seeds[seeds.len() - 1]);
        writeln!(out, "{rule:<4} {name:<24} {model:<7} {median:>7} {most:>7}  {}", found[0].violation)?;
        if arguments.explain {
            writeln!(out, "{}", finder.explain(found[0].seed).unwrap_or_default())?;
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("not found: {missed:?}") }
}
