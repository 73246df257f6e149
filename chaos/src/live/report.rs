//! What a campaign found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::moment::Phase;
use super::watch::Verdict;
use crate::oracle::Violation;

/// One kill.
#[derive(Clone, Debug, Serialize)]
pub struct Kill {
    pub phase: Phase,
    /// Since the process started.
    pub after_ms: u64,
    /// Ids committed by then.
    pub committed: u64,
}

/// The whole campaign.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub records: u64,
    pub kills_planned: u64,
    pub kills: Vec<Kill>,
    pub starts: u64,
    /// Looks of the readers, while the job ran and after each kill.
    pub looks: u64,
    pub elapsed_ms: u64,
    /// The receipt that the last process printed.
    pub receipt: serde_json::Value,
    pub found: Verdict,
    pub violations: Vec<Violation>,
    /// The command that does the same again.
    pub replay: String,
    pub folder: String,
}

impl Report {
    /// Everything there once, nothing wrong at any moment, and as many kills as asked for: too few are no
    /// proof.
    pub fn passes(&self) -> bool {
        self.violations.is_empty() && self.found.is_exact() && self.has_enough_kills()
    }

    pub fn has_enough_kills(&self) -> bool {
        self.kills.len() as u64 >= self.kills_planned
    }

    pub fn verdict(&self) -> &'static str {
        match (self.violations.is_empty() && self.found.is_exact(), self.has_enough_kills()) {
            (true, true) => "PASS",
            (true, false) => "UNKNOWN",
            (false, _) => "FAIL",
        }
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = object.as_object_mut() {
            map.insert("verdict".to_owned(), self.verdict().into());
        }
        object
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} records, {:.1} s", self.seed, self.records, self.elapsed_ms as f64 / 1000.0)?;
        writeln!(f, "kills      {} of {} planned, {} starts", self.kills.len(), self.kills_planned, self.starts)?;
        let mut phases: BTreeMap<Phase, Vec<u64>> = BTreeMap::new();
        for kill in &self.kills {
            phases.entry(kill.phase).or_default().push(kill.after_ms);
        }
        for (phase, mut after) in phases {
            after.sort_unstable();
            let at = |share: usize| after.get((after.len() - 1) * share / 100).copied().unwrap_or(0);
            let name = format!("{phase:?}").to_lowercase();
            writeln!(
                f,
                "  {name:<10} {:>4}  at {} / {} / {} ms (least, median, most)",
                after.len(),
                at(0),
                at(50),
                at(100)
            )?;
        }
        let found = &self.found;
        writeln!(
            f,
            "seen       {} epochs, {} files, {} runs, by {} looks",
            found.epochs, found.committed_files, found.runs, self.looks
        )?;
        write!(f, "{found}")?;
        for violation in &self.violations {
            writeln!(f, "violation  {violation}")?;
        }
        writeln!(f, "verdict    {}", self.verdict())?;
        if !self.passes() {
            writeln!(f, "folder     {}\nreplay     {}", self.folder, self.replay)?;
        }
        Ok(())
    }
}
