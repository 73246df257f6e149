//! What a run of faults found: the common report, and how long each kind kept the jobs waiting.

use std::collections::BTreeMap;

use qanat_proto::{Code, Result};
use serde::Serialize;

use crate::output::{self, Format};
use crate::proof::{Detail, Judged, Proof};

/// The common report, and what only this command knows.
pub(crate) struct ChaosReport {
    pub(super) proof: Proof,
    pub(super) cluster: String,
    pub(super) seed: u64,
    /// The nodes that faults were done to.
    pub(super) touched: Vec<String>,
    /// From a fault to the next epoch of all jobs, by kind: how long it was felt.
    pub(super) recovered_ms: BTreeMap<String, Vec<u64>>,
}

#[derive(Serialize)]
struct Printed<'a> {
    cluster: &'a str,
    seed: u64,
    touched: &'a [String],
    recovered_ms: &'a BTreeMap<String, Vec<u64>>,
    #[serde(flatten)]
    proof: Judged<'a>,
}

impl ChaosReport {
    pub(crate) fn print(&self, format: Format) {
        let Self { proof, cluster, seed, touched, recovered_ms } = self;
        let printed = Printed { cluster, seed: *seed, touched, recovered_ms, proof: proof.judged() };
        output::print_object(&printed, format, || self.text());
    }

    /// # Errors
    /// E0410 if something is lost, doubled or broken; E0411 if nothing is proved.
    pub(crate) fn outcome(&self) -> Result<()> {
        self.proof.outcome(Code::ProofFailed)
    }

    fn text(&self) -> String {
        let row = |(kind, times): (&String, &Vec<u64>)| {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let at = |share: usize| sorted.get(sorted.len().saturating_sub(1) * share / 100).copied();
            let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), output::duration);
            vec![kind.clone(), times.len().to_string(), time(at(0)), time(at(50)), time(at(100))]
        };
        let rows: Vec<Vec<String>> = self.recovered_ms.iter().map(row).collect();
        let header = ["fault", "times", "next epoch after, least", "median", "most"];
        let table = if rows.is_empty() { String::new() } else { output::table(&header, &rows) + "\n" };
        table + &self.proof.summary(Detail::Here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_how_long_each_kind_was_felt() {
        let report = ChaosReport {
            proof: Proof { subject: vec!["sales".to_owned()], reconciled: 1, ..Proof::default() },
            cluster: "c".to_owned(),
            seed: 1,
            touched: Vec::new(),
            recovered_ms: [("kill-leader".to_owned(), vec![900, 1_500, 700])].into(),
        };
        let text = report.text();
        let line = text.lines().nth(1).expect("a row").split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line, "kill-leader 3 700 ms 900 ms 1.5 s");
        assert!(text.contains("verdict     pass"), "{text}");
    }
}
