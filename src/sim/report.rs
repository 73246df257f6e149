//! What many simulations of one script come to: the common report, and what only a simulation can tell.

use qanat_proto::{Code, Result};
use serde::Serialize;

use super::campaign::{Campaign, Failure, Found};
use crate::output::{self, Format};
use crate::proof::{Detail, Judged, Proof, command_line};

/// Steps before the end of a failing simulation that are shown; `-o json` has more.
const STEPS_SHOWN: usize = 15;

/// See the module.
pub(crate) struct Report {
    proof: Proof,
    found: Found,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    proof: Judged<'a>,
    seeds: u64,
    simulated_seconds: u64,
    /// What users did meanwhile.
    wishes: &'a std::collections::BTreeMap<String, u64>,
    generations: u64,
    /// States of the replicated log that were compared, and answers to clients that were checked.
    raft_states: usize,
    answers: usize,
    failures: &'a [Failure],
}

impl Report {
    /// `is_chosen`: the kinds of faults were asked for one by one, and each has to come about.
    pub(crate) fn of(campaign: &Campaign, found: Found, is_chosen: bool, seconds: f64) -> Self {
        let missing = campaign.kinds.iter().map(|kind| kind.name()).filter(|name| !found.fired.contains_key(name));
        let told = |failure: &Failure, texts: &[String]| {
            texts.iter().map(|text| format!("seed {}: {text}", failure.seed)).collect::<Vec<_>>()
        };
        let first = found.failures.first();
        let proof = Proof {
            subject: vec![campaign.script.display().to_string()],
            faults: found.fired.clone(),
            faults_missing: if is_chosen && campaign.kept.is_none() { missing.collect() } else { Vec::new() },
            epochs_checked: found.epochs,
            reconciled: found.reconciled,
            lost: found.lost,
            duplicated: found.duplicated,
            violations: found.failures.iter().flat_map(|failure| told(failure, &failure.violations)).collect(),
            unproved: found.unproved.clone(),
            unseen: found.failures.iter().flat_map(|failure| told(failure, &failure.unseen)).collect(),
            seconds,
            replay: first.map_or_else(command_line, |failed| campaign.replay(failed.seed, failed.kept.as_deref())),
        };
        Self { proof, found }
    }

    pub(crate) fn print(&self, format: Format) {
        let Found { done, simulated_ms, wishes, generations, raft_states, answers, failures, .. } = &self.found;
        let told = Told {
            proof: self.proof.judged(),
            seeds: *done,
            simulated_seconds: simulated_ms / 1_000,
            wishes,
            generations: *generations,
            raft_states: *raft_states,
            answers: *answers,
            failures,
        };
        output::print_object(&told, format, || {
            let mut text = format!(
                "{}, {} s simulated, {} generations, {} answers to clients checked\n\n{}",
                output::counted(*done, "cluster", "clusters"),
                simulated_ms / 1_000,
                generations,
                answers,
                self.proof.summary(Detail::Here)
            );
            if let Some(failed) = failures.first() {
                text.push_str(&format!("\nseed {} ends so:\n", failed.seed));
                for step in failed.trace.iter().skip(failed.trace.len().saturating_sub(STEPS_SHOWN)) {
                    text.push_str(&format!("{}\n", output::printable(step)));
                }
            }
            text
        });
    }

    /// What makes the exit status.
    ///
    /// # Errors
    /// E0410 if a seed fails; E0411 if nothing is proved.
    pub(crate) fn outcome(&self) -> Result<()> {
        self.proof.outcome(Code::ProofFailed)
    }
}
