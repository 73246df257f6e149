//! What a campaign against a cluster found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::fault::FaultKind;
use super::watch::Verdict;
use crate::oracle::Violation;

/// The whole campaign.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterReport {
    /// Of the code that was tried.
    pub commit: String,
    pub seed: u64,
    /// Of all jobs, which followed each other.
    pub records: u64,
    pub jobs: u64,
    /// Namespaces, or links.
    pub network: &'static str,
    /// At least so many; none if a time was asked for.
    pub faults_planned: Option<u64>,
    /// Those that were asked for and never came about.
    pub missing: Vec<FaultKind>,
    pub faults: BTreeMap<FaultKind, u64>,
    /// Faults that were tried and met nothing.
    pub missed: BTreeMap<FaultKind, u64>,
    /// What a process said to damage: the codes, or that it went on.
    pub damages: BTreeMap<String, u64>,
    /// From a fault to the next epoch that is visible, by kind, where nothing else happened meanwhile.
    pub recovered_ms: BTreeMap<FaultKind, Vec<u64>>,
    pub generations: u64,
    /// Small jobs that were submitted and acknowledged.
    pub small_jobs: usize,
    /// The most memory that a process had, in bytes, by node.
    pub peaks: BTreeMap<String, u64>,
    pub looks: u64,
    /// To clients that asked meanwhile, all of which some order of the calls explains.
    pub answers: u64,
    pub elapsed_ms: u64,
    pub found: Verdict,
    pub violations: Vec<Violation>,
    pub replay: String,
    pub folder: String,
}

impl ClusterReport {
    fn is_exact(&self) -> bool {
        self.violations.is_empty() && self.found.is_exact()
    }

    fn has_enough_faults(&self) -> bool {
        self.missing.is_empty() && self.faults.values().sum::<u64>() >= self.faults_planned.unwrap_or(1)
    }

    /// Nothing lost, nothing twice, never stuck, and all the faults that were asked for.
    pub fn passes(&self) -> bool {
        self.is_exact() && self.has_enough_faults()
    }

    pub fn verdict(&self) -> &'static str {
        match (self.is_exact(), self.has_enough_faults()) {
            (true, true) => "PASS",
            (true, false) => "UNKNOWN",
            (false, _) => "FAIL",
        }
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = object.as_object_mut() {
            map.insert("verdict".to_owned(), self.verdict().into());
        }
        object
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {} records of {} jobs, {:.1} s",
            self.seed,
            self.records,
            self.jobs,
            self.elapsed_ms as f64 / 1000.0
        )?;
        let sum: u64 = self.faults.values().sum();
        let planned = self.faults_planned.map_or(String::new(), |planned| format!(" of {planned} planned"));
        writeln!(f, "faults     {sum}{planned}, {} generations; network of {}", self.generations, self.network)?;
        for (kind, count) in &self.faults {
            let mut times = self.recovered_ms.get(kind).cloned().unwrap_or_default();
            times.sort_unstable();
            let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
            let missed = self.missed.get(kind).map_or(String::new(), |missed| format!("; {missed} met nothing"));
            let times = match times.is_empty() {
                true => String::new(),
                false => format!("  an epoch after {} / {} / {} ms (least, median, most)", at(0), at(50), at(100)),
            };
            writeln!(f, "  {:<17} {count:>4}{times}{missed}", kind.name())?;
        }
        for kind in &self.missing {
            let tried = self.missed.get(kind).copied().unwrap_or(0);
            writeln!(f, "  {:<17} {:>4}  missing; {tried} met nothing", kind.name(), 0)?;
        }
        for (said, count) in &self.damages {
            writeln!(f, "damage     {count:>4}  {said}")?;
        }
        writeln!(f, "small jobs {}, each with every row once", self.small_jobs)?;
        let peak = self.peaks.iter().max_by_key(|(_, bytes)| **bytes);
        if let Some((name, bytes)) = peak {
            writeln!(f, "memory     {} MiB at most, in {name}", bytes >> 20)?;
        }
        let found = &self.found;
        writeln!(
            f,
            "seen       {} epochs, {} files, {} runs, by {} looks",
            found.epochs, found.committed_files, found.runs, self.looks
        )?;
        writeln!(f, "answers    {} to clients", self.answers)?;
        write!(f, "{found}")?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "violation  {violation}"))?;
        writeln!(f, "verdict    {}", self.verdict())?;
        writeln!(f, "replay     {}", self.replay)?;
        if !self.passes() {
            writeln!(f, "folder     {}", self.folder)?;
        }
        Ok(())
    }
}
