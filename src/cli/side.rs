//! `qanat late` and `qanat dead-letters`: what did not make it into the answer.

use clap::{Args, Subcommand};
use qanat_client::{Client, DeadLetter, LateRow, SideQuery};
use qanat_proto::Result;
use qanat_proto::manifest::SinkChannel;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::cluster::ClusterArguments;
use crate::cli::{JobArguments, readmit};
use crate::data_folder::DataView;
use crate::inspect::side;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Late {
    /// List the late rows of a job, of all its runs unless --run is given.
    List(List),
    /// Write late rows, as JSON objects, into a file or topic: each of them once, however often it is called.
    Readmit(readmit::Readmit),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List the dead letters of a job, of all its runs unless --run is given.
    List(List),
    /// Write raw records into a file or topic: each of them once, however often it is called.
    Readmit(readmit::Readmit),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Name of the job; of a cluster, or its id or the first digits of it.
    name: String,
    /// Show at most N.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Serialize)]
struct LateLine {
    id: u64,
    job: String,
    epoch: i64,
    operator: String,
    event_time: Option<String>,
    watermark: Option<String>,
    /// As it stands: a parser into doubles would lose digits.
    row: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct DeadLine {
    id: u64,
    job: String,
    epoch: i64,
    operator: String,
    origin: Option<String>,
    offset: Option<i64>,
    reason: String,
    text: Option<String>,
    /// The bytes, in hex: what `text` shows may have lost some.
    raw: Option<String>,
}

impl Late {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        match self {
            Self::List(list) => {
                let ask = |client: Client| async move { client.late_rows(&list.query()).await };
                let rows = list.rows(ask, |view, query, part| side::late(view, query, part))?;
                let lines: Vec<LateLine> = rows.into_iter().map(late_line).collect();
                output::print_object(&lines, format, || late_table(&lines));
                Ok(())
            }
            Self::Readmit(readmit) => readmit.execute(SinkChannel::Late, format),
        }
    }
}

impl DeadLetters {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        match self {
            Self::List(list) => {
                let ask = |client: Client| async move { client.dead_letters(&list.query()).await };
                let rows = list.rows(ask, |view, query, part| side::dead_letters(view, query, part))?;
                let lines: Vec<DeadLine> = rows.into_iter().map(dead_line).collect();
                output::print_object(&lines, format, || dead_table(&lines));
                Ok(())
            }
            Self::Readmit(readmit) => readmit.execute(SinkChannel::DeadLetters, format),
        }
    }
}

impl List {
    fn query(&self) -> SideQuery {
        SideQuery { job: self.name.clone(), run: self.job.run.clone(), limit: self.limit }
    }

    /// The rows, from where the command line says that they are.
    fn rows<L, F: Future<Output = Result<Vec<L>>>>(
        &self,
        ask: impl FnOnce(Client) -> F,
        look: impl FnOnce(&DataView, &SideQuery, &mut dyn FnMut(Vec<L>) -> bool) -> Result<()>,
    ) -> Result<Vec<L>> {
        if self.cluster.is_used(self.job.folder_option())? {
            return self.cluster.ask(ask);
        }
        let mut rows = Vec::new();
        look(&self.job.view()?, &self.query(), &mut |part| {
            rows.extend(part);
            true
        })?;
        Ok(rows)
    }
}

fn late_line(entry: LateRow) -> LateLine {
    LateLine {
        id: entry.id,
        job: entry.job,
        epoch: entry.epoch,
        operator: entry.operator,
        event_time: entry.event_time_ms.map(output::time),
        watermark: entry.watermark_ms.map(output::time),
        row: RawValue::from_string(entry.row).unwrap_or_default(),
    }
}

fn dead_line(entry: DeadLetter) -> DeadLine {
    DeadLine {
        id: entry.id,
        job: entry.job,
        epoch: entry.epoch,
        operator: entry.operator,
        origin: entry.origin,
        offset: entry.offset,
        reason: entry.reason,
        text: entry.text,
        raw: entry.raw.map(|raw| raw.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

fn late_table(lines: &[LateLine]) -> String {
    let row = |line: &LateLine| {
        vec![
            line.id.to_string(),
            line.job.chars().take(8).collect(),
            line.epoch.to_string(),
            line.operator.clone(),
            line.event_time.clone().unwrap_or_default(),
            line.watermark.clone().unwrap_or_default(),
            line.row.get().to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::table(&["id", "run", "epoch", "operator", "event time", "watermark", "row"], &rows)
}

fn dead_table(lines: &[DeadLine]) -> String {
    let row = |line: &DeadLine| {
        vec![
            line.id.to_string(),
            line.job.chars().take(8).collect(),
            line.epoch.to_string(),
            line.operator.clone(),
            line.origin.clone().unwrap_or_default(),
            line.offset.map_or_else(String::new, |offset| offset.to_string()),
            shown(&line.reason),
            shown(line.text.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::table(&["id", "run", "epoch", "operator", "origin", "offset", "reason", "text"], &rows)
}

/// A text on one line of a terminal: control characters as escapes, long ones cut.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    let mut shown: String = text
        .chars()
        .take(CHARACTERS_MAX)
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> =
                if c.is_control() { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) };
            escaped
        })
        .collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn dead_letters_as_a_table() {
        let entry = DeadLetter {
            id: 3,
            job: "35b03a71ce54b7e3ea445a5c694d0e2d".to_owned(),
            epoch: 7,
            operator: "flights".to_owned(),
            origin: Some("/data/flights.csv".to_owned()),
            offset: Some(12),
            reason: "column `n`: not a BIGINT".to_owned(),
            raw: Some(b"a\xff\t1".to_vec()),
            text: Some(String::from_utf8_lossy(b"a\xff\t1").into_owned()),
        };
        let long =
            DeadLetter { id: 4, raw: None, origin: None, offset: None, text: Some("x".repeat(200)), ..entry.clone() };
        let lines = vec![dead_line(entry), dead_line(long)];
        assert_eq!(lines.first().and_then(|line| line.raw.as_deref()), Some("61ff0931"));
        let table = dead_table(&lines);
        expect![[r#"
            id  run       epoch  operator  origin             offset  reason                    text
            3   35b03a71  7      flights   /data/flights.csv  12      column `n`: not a BIGINT  a�\t1
        "#]]
        .assert_eq(&(table.lines().take(2).collect::<Vec<_>>().join("\n") + "\n"));
        assert!(table.trim_end().ends_with(&("x".repeat(120) + "…")));
    }

    #[test]
    fn late_rows_keep_their_columns() {
        let line = late_line(LateRow {
            id: 0,
            job: "ab".repeat(16),
            epoch: 1,
            operator: "w".to_owned(),
            event_time_ms: Some(0),
            watermark_ms: None,
            row: r#"{"k":"a","b":12345678901234567890.10}"#.to_owned(),
        });
        expect![[r#"{"id":0,"job":"abababababababababababababababab","epoch":1,"operator":"w","event_time":"1970-01-01T00:00:00.000Z","watermark":null,"row":{"k":"a","b":12345678901234567890.10}}"#]]
            .assert_eq(&serde_json::to_string(&line).expect("json"));
    }
}
