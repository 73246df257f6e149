//! A long campaign in parts: one line of JSON for each, and their sum.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cluster_report::ClusterReport;
use super::fault::FaultKind;

/// One part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub commit: String,
    pub seed: u64,
    pub network: String,
    pub faults: BTreeMap<FaultKind, u64>,
    pub records: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub small_jobs: u64,
    pub generations: u64,
    pub epochs: u64,
    pub answers: u64,
    pub elapsed_ms: u64,
    pub verdict: String,
}

/// All parts of a file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sum {
    pub parts: u64,
    pub verdicts: BTreeMap<String, u64>,
    pub commits: BTreeSet<String>,
    pub faults: BTreeMap<FaultKind, u64>,
    pub records: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub small_jobs: u64,
    pub generations: u64,
    pub epochs: u64,
    /// To clients, all of which were explained.
    pub answers: u64,
    pub elapsed_ms: u64,
}

/// Of the code that this program was built from; with `+` if it is not what was committed.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let ended = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        ended.status.success().then(|| String::from_utf8_lossy(&ended.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|said| !said.is_empty());
    if is_changed { hash + "+" } else { hash }
}

impl Part {
    pub fn new(report: &ClusterReport) -> Self {
        let of_sinks = [&report.found.files, &report.found.log];
        let sum = |number: fn(&crate::oracle::ids::Reconciliation) -> u64| {
            of_sinks.iter().filter_map(|found| found.as_ref()).map(number).sum()
        };
        Self {
            commit: report.commit.clone(),
            seed: report.seed,
            network: report.network.to_owned(),
            faults: report.faults.clone(),
            records: report.records,
            lost: sum(|found| found.lost),
            duplicated: sum(|found| found.duplicated),
            small_jobs: report.small_jobs as u64,
            generations: report.generations,
            epochs: report.found.epochs,
            answers: report.answers,
            elapsed_ms: report.elapsed_ms,
            verdict: report.verdict().to_owned(),
        }
    }

    /// Writes it behind those that are there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&self, path: &Path) -> Result<()> {
        let line = serde_json::to_string(self).context("a part")? + "\n";
        let file = std::fs::File::options().append(true).create(true).open(path);
        let mut file = file.with_context(|| format!("open {}", path.display()))?;
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(|| format!("write {}", path.display()))
    }
}

impl Sum {
    /// # Errors
    /// If a line is no part.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut sum = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let part = serde_json::from_str(line).with_context(|| format!("{}:{number}", path.display()))?;
            sum.add(&part);
        }
        Ok(sum)
    }

    fn add(&mut self, part: &Part) {
        self.parts += 1;
        *self.verdicts.entry(part.verdict.clone()).or_default() += 1;
        self.commits.insert(part.commit.clone());
        part.faults.iter().for_each(|(kind, count)| *self.faults.entry(*kind).or_default() += count);
        self.records += part.records;
        self.lost += part.lost;
        self.duplicated += part.duplicated;
        self.small_jobs += part.small_jobs;
        self.generations += part.generations;
        self.epochs += part.epochs;
        self.answers += part.answers;
        self.elapsed_ms += part.elapsed_ms;
    }

    /// Every part has passed, and there is one.
    pub fn passes(&self) -> bool {
        self.parts > 0 && self.verdicts.get("PASS") == Some(&self.parts)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commits: Vec<&str> = self.commits.iter().map(String::as_str).collect();
        writeln!(f, "parts      {}, {:.1} h, of {}", self.parts, self.elapsed_ms as f64 / 3.6e6, commits.join(", "))?;
        writeln!(f, "faults     {}", self.faults.values().sum::<u64>())?;
        self.faults.iter().try_for_each(|(kind, count)| writeln!(f, "  {:<17} {count:>5}", kind.name()))?;
        writeln!(f, "records    {}, {} lost, {} duplicated", self.records, self.lost, self.duplicated)?;
        writeln!(
            f,
            "seen       {} epochs, {} generations, {} small jobs, {} answers to clients",
            self.epochs, self.generations, self.small_jobs, self.answers
        )?;
        let verdicts: Vec<String> = self.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        writeln!(f, "verdicts   {}", verdicts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added() -> Result<()> {
        let path = std::env::temp_dir().join(format!("qanat-ledger-{}", std::process::id()));
        let mut part = Part {
            commit: "abc".to_owned(),
            seed: 1,
            network: "links".to_owned(),
            faults: [(FaultKind::Roll, 2), (FaultKind::Drain, 1)].into(),
            records: 10,
            lost: 0,
            duplicated: 0,
            small_jobs: 1,
            generations: 3,
            epochs: 4,
            answers: 6,
            elapsed_ms: 5,
            verdict: "PASS".to_owned(),
        };
        part.append(&path)?;
        anyhow::ensure!(Sum::read(&path)?.passes());
        (part.seed, part.verdict, part.lost) = (2, "FAIL".to_owned(), 7);
        part.append(&path)?;
        let sum = Sum::read(&path)?;
        std::fs::remove_file(&path)?;
        anyhow::ensure!(!sum.passes() && sum.parts == 2 && sum.records == 20 && sum.lost == 7, "{sum}");
        anyhow::ensure!(sum.faults.get(&FaultKind::Roll) == Some(&4), "{sum}");
        Ok(())
    }
}
