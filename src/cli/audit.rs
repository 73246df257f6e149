//! `qanat audit`: proves that a run lost nothing and doubled nothing, or names the first place where not.

use std::path::PathBuf;

use clap::Args;
use qanat_coordinator::raft::Reach;
use qanat_proto::audit::{Difference, EpochLine, Report, SinkLine, Sums, Verdict};
use qanat_proto::ids::JobId;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::audit;
use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::output::{self, Format};
use crate::proof::{Detail, Judged, Proof, command_line};

/// Prove conservation: receipts against each other and against what the sinks hold.
///
/// Reads the receipt of every epoch from the command log and checks that each split goes on where the
/// epoch before left it, that edges and operators balance, and that files, topics, late rows and dead
/// letters are exactly those that were claimed; every row is read and hashed again. The exit status is 0
/// only if all of it holds (E0406 otherwise) and there were rows to compare (E0411 otherwise).
#[derive(Args, Debug)]
pub(crate) struct Audit {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// Folder against which relative paths of file sinks are resolved; the working directory if not given. A cluster's
    /// jobs have no such paths.
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Audit {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let clock = Env::real().clock;
        let begun = clock.monotonic();
        let run = self.job.run.as_deref();
        let is_cluster = self.cluster.is_used(self.job.folder_option())?;
        let report = match is_cluster {
            true => self.cluster.ask(|client| async move { client.audit(&self.name, run).await })?,
            false => self.in_folder()?,
        };
        let mut proof = Proof { replay: command_line(), ..Proof::default() };
        proof.add(&report);
        proof.seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
        let whole = Whole { report: &report, proof: &proof };
        output::print_object(&whole.printed(), format, || text(&report, &proof));
        let Some(first) = report.differences.first() else { return proof.outcome(Code::AuditFailed) };
        let epoch = first.epoch.map_or_else(String::new, |epoch| format!("epoch {epoch}: "));
        let error = Error::new(Code::AuditFailed, format!("{epoch}{}", first.message));
        let error = error.at(Place::Named(first.place.clone()));
        let relative = report.sinks.iter().any(|sink| sink.found.is_some_and(|f| f.rows == 0) && sink.claimed.rows > 0);
        Err(if relative && self.base.is_none() && !is_cluster {
            error
                .hint("relative paths are looked up in the working directory: run it where the job ran, or give --base")
        } else {
            error
        })
    }

    fn in_folder(&self) -> Result<Report> {
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::History)?;
        let base = match &self.base {
            Some(base) => base.clone(),
            None => std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?,
        };
        audit::audit(&view, &found, &base)
    }
}

/// The details, and the common report.
struct Whole<'a> {
    report: &'a Report,
    proof: &'a Proof,
}

/// What both of them call by one name stands there once: the verdict, and what is not proved.
#[derive(Serialize)]
struct Printed<'a> {
    job: JobId,
    name: &'a str,
    status: &'a str,
    totals: &'a Sums,
    sinks: &'a [SinkLine],
    epochs: &'a [EpochLine],
    differences: &'a [Difference],
    #[serde(flatten)]
    proof: Judged<'a>,
}

impl<'a> Whole<'a> {
    fn printed(&self) -> Printed<'a> {
        let Report { job, name, status, verdict: _, totals, reconciled: _, sinks, epochs, unproved: _, differences } =
            self.report;
        Printed { job: *job, name, status, totals, sinks, epochs, differences, proof: self.proof.judged() }
    }
}

/// Lines of a table at most; `-o json` has all.
const LINES_MAX: usize = 40;

/// The report for people.
fn text(report: &Report, proof: &Proof) -> String {
    let verdict = match report.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
    };
    let mut text = format!(
        "{} {verdict} ({}, {}, job {})\n\n",
        report.name,
        report.status,
        output::counted(report.totals.epochs, "epoch", "epochs"),
        report.job.short()
    );
    let skipped = report.epochs.len().saturating_sub(LINES_MAX);
    let mut rows: Vec<Vec<String>> = report.epochs.iter().skip(skipped).map(epoch_row).collect();
    if skipped > 0 {
        rows.insert(0, vec![format!("({skipped} earlier)")]);
    }
    let sums = &report.totals;
    rows.push(
        ["total".to_owned(), String::new()]
            .into_iter()
            .chain([sums.read, sums.written, sums.objects, sums.late, sums.dead_lettered].map(|n| n.to_string()))
            .chain([verdict.to_owned()])
            .collect(),
    );
    let header = ["epoch", "generation", "read", "written", "objects", "late", "dead letters", "verdict"];
    text.push_str(&output::table(&header, &rows));
    let rows: Vec<Vec<String>> = report.sinks.iter().map(sink_row).collect();
    text.push('\n');
    text.push_str(&output::table(&["sink", "medium", "claimed", "found", "hash", "place"], &rows));
    for difference in report.differences.iter().take(LINES_MAX) {
        let epoch = difference.epoch.map_or_else(String::new, |epoch| format!("epoch {epoch}, "));
        text.push_str(&format!("\ndifference: {epoch}{}: {}\n", difference.place, difference.message));
    }
    if report.differences.len() > LINES_MAX {
        text.push_str(&format!("\n({} differences more)\n", report.differences.len() - LINES_MAX));
    }
    text.push('\n');
    text.push_str(&proof.summary(Detail::Told));
    text
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
