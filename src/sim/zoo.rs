//! Bugs of the zoo in simulated clusters: how many seeds pass until one notices.

use std::sync::atomic::{AtomicU64, Ordering};

use qanat_proto::zoo::{self, Bug};
use qanat_proto::{Code, Error, Place, Result};

use super::campaign::Campaign;
use crate::output;

/// The bugs of this name, or `all`.
///
/// # Errors
/// E0501 if there is none, or if this build has none.
pub(crate) fn bugs(name: &str) -> Result<Vec<Bug>> {
    let place = || Place::Named("--plant".to_owned());
    if !zoo::plant(Bug::None) {
        let error = Error::new(Code::Usage, "no bugs can be planted in this build").at(place());
        return Err(error.hint("build it with `--features zoo`"));
    }
    let known = Bug::ALL.iter().copied().filter(|bug| name == "all" || format!("{bug:?}") == name);
    let known: Vec<Bug> = known.collect();
    if known.is_empty() {
        let error = Error::new(Code::Usage, format!("there is no bug `{name}`")).at(place());
        return Err(error.hint("`all`, or one that `qanat_proto::zoo` lists"));
    }
    Ok(known)
}

/// Plants each of them in turn, and prints the seeds until a simulation fails.
///
/// # Errors
/// E0410 with the names of those that no seed finds; what [`Campaign::run`] says.
pub(crate) fn look_for(campaign: &Campaign, bugs: &[Bug]) -> Result<()> {
    let mut missed = Vec::new();
    output::print_line(&format!("{:<4} {:<24} {:>6} {:>6}  found as", "rule", "bug", "seeds", "seed"));
    for bug in bugs {
        let campaign = Campaign { planted: *bug, ..campaign.clone() };
        let run = AtomicU64::new(0);
        let found = campaign.run(|_| {
            run.fetch_add(1, Ordering::Relaxed);
        })?;
        let (rule, name) = (bug.rule(), format!("{bug:?}"));
        let seeds = run.into_inner();
        match found.failures.first() {
            Some(failure) => {
                let why = failure.violations.first().or_else(|| failure.unseen.first()).map_or("", String::as_str);
                let why = output::printable(why.lines().next().unwrap_or_default());
                output::print_line(&format!("{rule:<4} {name:<24} {seeds:>6} {:>6}  {why}", failure.seed));
            }
            None => {
                output::print_line(&format!("{rule:<4} {name:<24} {seeds:>6} {:>6}", "none"));
                missed.push(name);
            }
        }
    }
    if missed.is_empty() {
        return Ok(());
    }
    let seeds = campaign.seeds;
    Err(Error::new(Code::ProofFailed, format!("{seeds} seeds do not find {}", missed.join(", "))))
}
