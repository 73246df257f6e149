//! `qanat audit`: proves that a run lost nothing and doubled nothing, or names the first place where not.

mod check;
mod evidence;
mod gather;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;
use qanat_coordinator::raft::Reach;
use qanat_proto::{Code, Error, Place, Result};

use self::report::Verdict;
use crate::cli::JobArguments;
use crate::output::{self, Format};

/// Prove conservation: receipts against each other and against what the sinks hold.
///
/// Reads the receipt of every epoch from the command log and checks that each split goes on where the
/// epoch before left it, that edges and operators balance, and that files, topics, late rows and dead
/// letters are exactly those that were claimed; every row is read and hashed again. The exit status is 0
/// only if all of it holds (E0406 otherwise).
#[derive(Args, Debug)]
pub(crate) struct Audit {
    /// Name of the job.
    name: String,
    /// Folder against which relative paths of file sinks are resolved; the working directory if not given.
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    #[command(flatten)]
    job: JobArguments,
}

impl Audit {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::History)?;
        let base = match &self.base {
            Some(base) => base.clone(),
            None => std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?,
        };
        let report = check::check(&gather::gather(&view, &found, &base)?);
        output::print_object(&report, format, || report.text());
        match (report.verdict, report.differences.first()) {
            (Verdict::Pass, _) | (Verdict::Fail, None) => Ok(()),
            (Verdict::Fail, Some(first)) => {
                let epoch = first.epoch.map_or_else(String::new, |epoch| format!("epoch {epoch}: "));
                let error = Error::new(Code::AuditFailed, format!("{epoch}{}", first.message))
                    .at(Place::Named(first.place.clone()));
                let relative =
                    report.sinks.iter().any(|sink| sink.found.is_some_and(|f| f.rows == 0) && sink.claimed.rows > 0);
                Err(if relative && self.base.is_none() {
                    error.hint("relative paths are looked up in the working directory: run it where the job ran, or give --base")
                } else {
                    error
                })
            }
        }
    }
}
