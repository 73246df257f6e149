//! `qanat cluster audit-log`: what was changed, by whom, when and from where.

use std::collections::BTreeMap;

use clap::Args;
use qanat_proto::Result;
use serde::Serialize;

use crate::cli::cluster::ClusterArguments;
use crate::output::{self, Format};

/// Show the changes that were asked for, oldest first.
#[derive(Args, Debug)]
pub(crate) struct AuditLog {
    /// So many of the newest; all that are kept if not given.
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Serialize)]
struct Report {
    entries: Vec<Entry>,
    /// Older ones that are not kept any more.
    dropped: u64,
    /// Refused calls of changes since the leading coordinator started, by code.
    refused: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Entry {
    number: u64,
    at: String,
    who: String,
    what: String,
    object: String,
    from: String,
}

impl AuditLog {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        // The cluster takes none for all.
        let asked = self.last.map(|last| last.max(1));
        let log = self.cluster.ask(|client| async move { client.audit_log(asked).await })?;
        let shown = log.entries.into_iter().take(self.last.map_or(usize::MAX, |last| last as usize));
        let entries = shown.map(|entry| Entry {
            number: entry.number,
            at: output::time(entry.at_ms),
            who: entry.who,
            what: entry.what,
            object: entry.object,
            from: entry.from,
        });
        let refused = log.refused.into_iter().collect();
        let report = Report { entries: entries.collect(), dropped: log.dropped, refused };
        output::print_object(&report, format, || {
            let row = |e: &Entry| {
                vec![
                    e.number.to_string(),
                    e.at.clone(),
                    e.who.clone(),
                    e.what.clone(),
                    e.object.clone(),
                    e.from.clone(),
                ]
            };
            let rows: Vec<Vec<String>> = report.entries.iter().map(row).collect();
            let mut text = output::table(&["", "when", "who", "what", "object", "from"], &rows);
            for (code, count) in &report.refused {
                text.push_str(&format!("refused with {code}: {count}\n"));
            }
            text
        });
        Ok(())
    }
}
