//! What an audit says.

use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::receipt::RowSum;
use serde::Serialize;

use crate::output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Pass,
    Fail,
}

/// Which equation does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    /// Epochs follow each other without a gap, and each but the last is committed.
    Epochs,
    /// A manifest or state object is there, whole, and says the same as the command log.
    Checkpoint,
    /// A split goes on where the epoch before left it.
    Splits,
    /// What one operator gave, the next one got.
    Edges,
    /// An operator accounts for each row it took.
    Operators,
    /// What was staged and claimed is what the sink holds.
    Sinks,
    /// Late rows and dead letters were kept.
    SideTables,
}

/// A place where something does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) epoch: Option<Epoch>,
    pub(super) check: Check,
    /// The file, split, operator, edge or table.
    pub(super) place: String,
    pub(super) message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct EpochLine {
    pub(super) epoch: Epoch,
    pub(super) generation: u64,
    pub(super) read: u64,
    #[serde(flatten)]
    pub(super) written: RowSum,
    pub(super) objects: u64,
    pub(super) late: u64,
    pub(super) dead_lettered: u64,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SinkLine {
    pub(super) table: String,
    /// `files`, `topic` or the connector.
    pub(super) medium: String,
    /// Folder or topic.
    pub(super) place: String,
    /// As the receipts say.
    #[serde(flatten)]
    pub(super) claimed: RowSum,
    pub(super) objects: u64,
    /// As the sink holds it; None where it cannot be read again.
    pub(super) found: Option<RowSum>,
}

/// Sums over all epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub(super) epochs: u64,
    pub(super) read: u64,
    pub(super) written: u64,
    pub(super) objects: u64,
    pub(super) late: u64,
    pub(super) dead_lettered: u64,
}

/// The whole of an audit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) job: JobId,
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) verdict: Verdict,
    pub(super) totals: Sums,
    pub(super) sinks: Vec<SinkLine>,
    pub(super) epochs: Vec<EpochLine>,
    /// What could not be proved, and why. No failure.
    pub(super) unproved: Vec<String>,
    /// The first is the first place where it breaks.
    pub(super) differences: Vec<Difference>,
}

/// Lines of a table at most; `-o json` has all.
const LINES_MAX: usize = 40;

impl Report {
    pub(super) fn text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
        };
        let mut text = format!(
            "{} {verdict} ({}, {} epochs, job {})\n\n",
            self.name,
            self.status,
            self.totals.epochs,
            self.job.short()
        );
        let skipped = self.epochs.len().saturating_sub(LINES_MAX);
        let mut rows: Vec<Vec<String>> = self.epochs.iter().skip(skipped).map(epoch_row).collect();
        if skipped > 0 {
            rows.insert(0, vec![format!("({skipped} earlier)")]);
        }
        let sums = &self.totals;
        rows.push(
            ["total".to_owned(), String::new()]
                .into_iter()
                .chain([sums.read, sums.written, sums.objects, sums.late, sums.dead_lettered].map(|n| n.to_string()))
                .chain([verdict.to_owned()])
                .collect(),
        );
        let header = ["epoch", "generation", "read", "written", "objects", "late", "dead letters", "verdict"];
        text.push_str(&output::table(&header, &rows));
        let rows: Vec<Vec<String>> = self.sinks.iter().map(sink_row).collect();
        text.push('\n');
        text.push_str(&output::table(&["sink", "medium", "claimed", "found", "hash", "place"], &rows));
        for line in &self.unproved {
            text.push_str(&format!("\nnot proved: {line}\n"));
        }
        for difference in self.differences.iter().take(LINES_MAX) {
            let epoch = difference.epoch.map_or_else(String::new, |epoch| format!("epoch {epoch}, "));
            text.push_str(&format!("\ndifference: {epoch}{}: {}\n", difference.place, difference.message));
        }
        if self.differences.len() > LINES_MAX {
            text.push_str(&format!("\n({} differences more)\n", self.differences.len() - LINES_MAX));
        }
        text
    }
}

fn epoch_row(line: &EpochLine) -> Vec<String> {
    let verdict = match line.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
    };
    let counts = [line.read, line.written.rows, line.objects, line.late, line.dead_lettered];
    [line.epoch.to_string(), line.generation.to_string()]
        .into_iter()
        .chain(counts.map(|n| n.to_string()))
        .chain([verdict.to_owned()])
        .collect()
}

fn sink_row(line: &SinkLine) -> Vec<String> {
    vec![
        line.table.clone(),
        line.medium.clone(),
        line.claimed.rows.to_string(),
        line.found.map_or_else(|| "-".to_owned(), |found| found.rows.to_string()),
        line.claimed.hash.to_string(),
        line.place.clone(),
    ]
}
