//! `qanat tail`: rows of a topic as they come.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use qanat_client::{Client, Tail as Request, TailFrom, TailRows};
use qanat_connectors::encode::json::rows_as_text;
use qanat_coordinator::raft::Reach;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;

use crate::cli::DataArguments;
use crate::cli::cluster::ClusterArguments;
use crate::data_folder::DataView;
use crate::inspect::tail::{self, TailReader};
use crate::output::{self, Format};

/// Show rows of a topic, or of an operator of a running job of a cluster, as they arrive, until Ctrl-C.
///
/// Works while a job runs. Each row of a topic is shown with its partition and offset; rows of one partition keep
/// their order. With `-o json` each row is one JSON object on a line of its own:
/// `{"partition":0,"offset":12,"appended":"2013-01-01T05:00:00.000Z","row":{...}}`.
///
/// Of an operator (`JOB/OPERATOR`) rows are shown with the subtask that gave them, before they are committed: a job
/// that recovers gives some again. A job never waits for whoever looks: of more than can be shown rows are left out,
/// and the next object has `"skipped":N`. It ends when the job has ended.
#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// Name of the topic, or JOB/OPERATOR. An operator is named as by `explain` (a source or sink by its table), or
    /// NAME-ID as by `top`.
    #[arg(value_name = "TOPIC|JOB/OPERATOR")]
    topic: String,
    /// Where to begin: `earliest`, `latest`, an offset, or a time such as 2013-01-01T05:00:00Z.
    /// If not given: `earliest` with --to-latest, else `latest`.
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Only this partition; an offset means the same offset of each partition otherwise.
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// End at what is the end of the topic now, instead of waiting for more.
    #[arg(long)]
    to_latest: bool,
    /// `committed`, or `uncommitted` to see staged rows too (after the others, with the name of their
    /// handle; needs --to-latest, because they may vanish again).
    #[arg(long, default_value = "committed", value_parser = ["committed", "uncommitted"])]
    isolation: String,
    /// End after this many rows.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Tail {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let operator = self.topic.split_once('/');
        let request = self.request(operator)?;
        if self.limit == Some(0) {
            return Ok(());
        }
        let mut printer = Printer::new(format);
        if self.cluster.is_used(self.data.folder_option())? {
            return self.cluster.ask(|client| in_cluster(client, request, &mut printer));
        }
        let view = DataView::open(&Env::real(), &self.data.folder(), None)?;
        match operator {
            Some((job, operator)) => Err(in_folder(&view, job, operator)),
            None => tail::topic(&view, &self.topic, request.request(), &mut printer),
        }
    }

    fn request(&self, operator: Option<(&str, &str)>) -> Result<Request> {
        let is_of_topic = self.from.is_some() || self.partition.is_some() || self.to_latest;
        let is_uncommitted = self.isolation == "uncommitted";
        let mut request = match operator {
            Some(_) if is_of_topic || is_uncommitted => {
                let error = Error::new(Code::Usage, "an operator has no partitions, offsets or staged rows");
                return Err(error.hint("leave out --from, --partition, --to-latest and --isolation"));
            }
            Some((job, operator)) => Request::operator(job, operator),
            None => Request::topic(&self.topic),
        };
        if let Some(from) = &self.from {
            request = request.from(from);
        }
        if let Some(partition) = self.partition {
            request = request.partition(partition);
        }
        if self.to_latest {
            request = request.to_latest();
        }
        if is_uncommitted {
            request = request.uncommitted();
        }
        Ok(match self.limit {
            Some(limit) => request.limit(limit),
            None => request,
        })
    }
}

async fn in_cluster(client: Client, request: Request, printer: &mut Printer) -> Result<()> {
    let mut rows = client.tail(request);
    while let Some(batch) = rows.next().await? {
        if !printer.rows(batch)? {
            break;
        }
    }
    Ok(())
}

/// Why an operator of a job in a folder is not shown.
fn in_folder(view: &DataView, job: &str, operator: &str) -> Error {
    let find = || {
        let found = view.job(job, None, Reach::State)?;
        let claim = found.history.job.last_claim().map(|(_, claim)| claim.clone());
        let claim = claim.ok_or_else(|| Error::internal("a job without a claim"))?;
        let manifest = found.checkpoints(&view.env)?.read_manifest(&claim.manifest_key, &claim.checksum)?;
        manifest.graph.find(operator).map(drop)
    };
    let not_here = || {
        Error::new(Code::Usage, "operators are looked at in a cluster only")
            .at(Place::Named(format!("{job}/{operator}")))
            .hint("name it with --cluster HOST:PORT; of a job in one process, look at a topic that it writes")
    };
    find().err().unwrap_or_else(not_here)
}

/// Rows on their way to stdout.
struct Printer {
    format: Format,
    widths: Vec<usize>,
    header: Vec<String>,
}

impl TailReader for Printer {
    fn started(&mut self, _: &BTreeMap<u32, u64>) -> bool {
        true
    }

    fn rows(&mut self, rows: TailRows) -> Result<bool> {
        let lines = match self.format {
            Format::Table => self.table_lines(&rows)?,
            Format::Json => json_lines(&rows)?,
            Format::Yaml => json_lines(&rows)?.iter().map(|line| output::yaml_item(line)).collect(),
        };
        Ok(lines.iter().all(|line| output::print_line(line)))
    }

    fn is_there(&self) -> bool {
        true
    }
}

impl Printer {
    fn new(format: Format) -> Self {
        Self { format, widths: Vec::new(), header: Vec::new() }
    }

    /// Columns keep their widths from batch to batch, and grow.
    fn table_lines(&mut self, batch: &TailRows) -> Result<Vec<String>> {
        let rows: &RecordBatch = &batch.rows;
        let unreadable = |e: arrow::error::ArrowError| Error::internal(format!("show rows: {e}"));
        let options = FormatOptions::default().with_null("NULL");
        let columns = rows
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).map_err(unreadable))
            .collect::<Result<Vec<_>>>()?;
        let place: &[&str] = match batch.from {
            TailFrom::Partition { .. } | TailFrom::Staged { .. } => &["partition", "offset"],
            TailFrom::Subtask { .. } => &["subtask"],
        };
        let mut header: Vec<String> = place.iter().map(|name| (*name).to_owned()).collect();
        header.extend(rows.schema_ref().fields().iter().map(|field| field.name().clone()));
        let mut cells: VecDeque<Vec<String>> = VecDeque::new();
        for row in 0..rows.num_rows() {
            let mut line = match &batch.from {
                TailFrom::Partition { partition, first_offset } => {
                    vec![partition.to_string(), (first_offset + row as u64).to_string()]
                }
                TailFrom::Staged { partition, .. } => vec![partition.to_string(), "staged".to_owned()],
                TailFrom::Subtask { subtask, .. } => vec![subtask.to_string()],
            };
            let values = columns.iter().map(|column| column.value(row).try_to_string().map_err(unreadable));
            for value in values {
                line.push(value?.replace(['\n', '\r', '\t'], " "));
            }
            cells.push_back(line);
        }
        if self.header != header {
            self.header.clone_from(&header);
            cells.push_front(header);
        }
        self.widths.resize(self.header.len(), 0);
        for line in &cells {
            self.widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        let skipped = (batch.skipped > 0).then(|| format!("({} rows left out)", batch.skipped));
        Ok(skipped.into_iter().chain(cells.iter().map(|line| aligned(line, &self.widths))).collect())
    }
}

fn aligned(line: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in line.iter().zip(widths) {
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(cell.chars().count())));
    }
    text.truncate(text.trim_end().len());
    text
}

/// One object per row. The row's own text is kept as the encoder wrote it, digit by digit.
fn json_lines(batch: &TailRows) -> Result<Vec<String>> {
    let at = output::time(batch.at_ms);
    let texts = rows_as_text(&batch.rows)?;
    let line = |(row, text): (u64, String)| match &batch.from {
        TailFrom::Staged { partition, handle } => {
            format!(r#"{{"partition":{partition},"staged":"{handle}","appended":"{at}","row":{text}}}"#)
        }
        TailFrom::Partition { partition, first_offset } => {
            let offset = first_offset + row;
            format!(r#"{{"partition":{partition},"offset":{offset},"appended":"{at}","row":{text}}}"#)
        }
        TailFrom::Subtask { subtask, generation } => {
            // Before the rows that come after the gap.
            let skipped =
                if row == 0 && batch.skipped > 0 { format!(r#""skipped":{},"#, batch.skipped) } else { String::new() };
            format!(r#"{{{skipped}"subtask":{subtask},"generation":{generation},"at":"{at}","row":{text}}}"#)
        }
    };
    Ok((0..).zip(texts).map(line).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use expect_test::expect;

    use super::*;

    fn rows(from: TailFrom, skipped: u64) -> TailRows {
        let names = Arc::new(StringArray::from(vec![Some("a"), None]));
        let numbers = Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), Some(-1)]));
        let rows = RecordBatch::try_from_iter([("name", names as _), ("n", numbers as _)]).expect("a batch");
        TailRows { from, at_ms: 1_357_016_400_000, rows, skipped }
    }

    #[test]
    fn rows_as_a_table() {
        let mut printer = Printer::new(Format::Table);
        let topic = rows(TailFrom::Partition { partition: 0, first_offset: 41 }, 0);
        let other = rows(TailFrom::Partition { partition: 1, first_offset: 41 }, 0);
        let mut lines = printer.table_lines(&topic).expect("lines");
        lines.extend(printer.table_lines(&other.part(0..1)).expect("lines"));
        expect![[r#"
            partition  offset  name  n
            0          41      a     9007199254740993
            0          42      NULL  -1
            1          41      a     9007199254740993"#]]
        .assert_eq(&lines.join("\n"));
        let mut printer = Printer::new(Format::Table);
        let operator = rows(TailFrom::Subtask { subtask: 3, generation: 2 }, 12);
        expect![[r#"
            (12 rows left out)
            subtask  name  n
            3        a     9007199254740993
            3        NULL  -1"#]]
        .assert_eq(&printer.table_lines(&operator).expect("lines").join("\n"));
    }

    #[test]
    fn rows_as_json() {
        let topic = rows(TailFrom::Partition { partition: 0, first_offset: 41 }, 0);
        let staged = rows(TailFrom::Staged { partition: 3, handle: "h".to_owned() }, 0);
        let operator = rows(TailFrom::Subtask { subtask: 3, generation: 2 }, 12);
        let mut lines = json_lines(&topic).expect("lines");
        lines.extend(json_lines(&staged.part(1..2)).expect("lines"));
        lines.extend(json_lines(&operator).expect("lines"));
        expect![[r#"
            {"partition":0,"offset":41,"appended":"2013-01-01T05:00:00.000Z","row":{"name":"a","n":9007199254740993}}
            {"partition":0,"offset":42,"appended":"2013-01-01T05:00:00.000Z","row":{"name":null,"n":-1}}
            {"partition":3,"staged":"h","appended":"2013-01-01T05:00:00.000Z","row":{"name":null,"n":-1}}
            {"skipped":12,"subtask":3,"generation":2,"at":"2013-01-01T05:00:00.000Z","row":{"name":"a","n":9007199254740993}}
            {"subtask":3,"generation":2,"at":"2013-01-01T05:00:00.000Z","row":{"name":null,"n":-1}}"#]]
        .assert_eq(&lines.join("\n"));
    }
}
