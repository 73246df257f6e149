//! `qanat tail`: rows of a topic as they come.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use qanat_connectors::encode::json::rows_as_text;
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;
use qanat_storage::env::watch::Watch;
use qanat_storage::log::{Isolation, LogBatch, LogReader, Start, Topic};

use crate::cli::DataArguments;
use crate::data_folder::DataView;
use crate::output::{self, Format};

/// File systems that tell nobody of changes (some networks) are looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Show rows of a topic as they arrive, until Ctrl-C.
///
/// Works while a job runs. Each row is shown with its partition and offset; rows of one partition keep
/// their order. With `-o json` each row is one JSON object on a line of its own:
/// `{"partition":0,"offset":12,"appended":"2013-01-01T05:00:00.000Z","row":{...}}`.
#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// Name of the topic.
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
}

impl Tail {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let isolation = Isolation::from_str(&self.isolation)?;
        if isolation == Isolation::Uncommitted && !self.to_latest {
            return Err(Error::new(Code::Usage, "staged rows cannot be followed: they may vanish again")
                .hint("add --to-latest"));
        }
        let start = match &self.from {
            Some(text) => Start::from_str(text)?,
            None if self.to_latest => Start::Earliest,
            None => Start::Latest,
        };
        let view = DataView::open(&Env::real(), &self.data.data, None)?;
        let topic = view.topics()?.topic(&Name::new(&self.topic)?)?;
        let partitions: Vec<u32> = match self.partition {
            Some(partition) if partition < topic.partitions() => vec![partition],
            Some(partition) => {
                let message = format!("topic `{}` has no partition {partition}", topic.name());
                return Err(Error::new(Code::Usage, message)
                    .hint(format!("its partitions are 0 to {}", topic.partitions().saturating_sub(1))));
            }
            None => (0..topic.partitions()).collect(),
        };
        let mut printer = Printer::new(format, self.limit);
        if printer.is_done {
            return Ok(());
        }
        if !self.to_latest {
            return follow(&topic, &partitions, start, &mut printer);
        }
        for partition in partitions {
            let is_behind = |offset| topic.partition(partition).map(|found| offset > found.end_offset());
            if printer.is_done
                || matches!(start, Start::Offset(offset) if self.partition.is_none() && is_behind(offset)?)
            {
                continue;
            }
            let mut batches = topic.read_to_latest(partition, start, isolation)?;
            while !printer.is_done
                && let Some(batch) = batches.next()?
            {
                printer.print(partition, &batch)?;
            }
        }
        Ok(())
    }
}

/// Prints what there is, then waits to be told that there is more.
fn follow(topic: &Arc<Topic>, partitions: &[u32], start: Start, printer: &mut Printer) -> Result<()> {
    let folders: Vec<PathBuf> = partitions.iter().map(|partition| topic.folder_of(*partition)).collect();
    // Before the first look: nothing that arrives after it is missed.
    let watch = Watch::start(folders.iter().map(PathBuf::as_path)).map_err(|e| {
        Error::io(format!("watch topic `{}`", topic.name()), &e).at(Place::Named(topic.folder().display().to_string()))
    })?;
    let mut readers: Vec<(u32, LogReader)> = partitions
        .iter()
        .map(|partition| Ok((*partition, topic.read_from(*partition, start)?)))
        .collect::<Result<_>>()?;
    loop {
        for (partition, reader) in &mut readers {
            while let Some(batch) = reader.poll()? {
                printer.print(*partition, &batch)?;
                if printer.is_done {
                    return Ok(());
                }
            }
        }
        watch.wait(LOOK_AGAIN);
        for partition in partitions {
            topic.partition(*partition)?.refresh()?;
        }
    }
}

/// Rows on their way to stdout.
struct Printer {
    format: Format,
    left: Option<u64>,
    /// The limit is reached, or nobody reads any more.
    is_done: bool,
    widths: Vec<usize>,
    header: Vec<String>,
}

impl Printer {
    fn new(format: Format, limit: Option<u64>) -> Self {
        Self { format, left: limit, is_done: limit == Some(0), widths: Vec::new(), header: Vec::new() }
    }

    fn print(&mut self, partition: u32, batch: &LogBatch) -> Result<()> {
        let wanted = self.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let rows = batch.rows.slice(0, batch.rows.num_rows().min(wanted));
        let lines = match self.format {
            Format::Table => self.table_lines(partition, batch, &rows)?,
            Format::Json => json_lines(partition, batch, &rows)?,
            Format::Yaml => json_lines(partition, batch, &rows)?.iter().map(|line| output::yaml_item(line)).collect(),
        };
        for line in lines {
            if !output::print_line(&line) {
                self.is_done = true;
                return Ok(());
            }
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(rows.num_rows() as u64);
            self.is_done = *left == 0;
        }
        Ok(())
    }

    /// Columns keep their widths from batch to batch, and grow.
    fn table_lines(&mut self, partition: u32, batch: &LogBatch, rows: &RecordBatch) -> Result<Vec<String>> {
        let unreadable = |e: arrow::error::ArrowError| Error::internal(format!("show rows: {e}"));
        let options = FormatOptions::default().with_null("NULL");
        let columns = rows
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).map_err(unreadable))
            .collect::<Result<Vec<_>>>()?;
        let mut header = vec!["partition".to_owned(), "offset".to_owned()];
        header.extend(rows.schema_ref().fields().iter().map(|field| field.name().clone()));
        let mut cells: VecDeque<Vec<String>> = VecDeque::new();
        for row in 0..rows.num_rows() {
            let offset = if batch.staged.is_some() {
                "staged".to_owned()
            } else {
                (batch.first_offset + row as u64).to_string()
            };
            let values = columns.iter().map(|column| column.value(row).try_to_string().map_err(unreadable));
            let mut line = vec![partition.to_string(), offset];
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
        Ok(cells.iter().map(|line| aligned(line, &self.widths)).collect())
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
fn json_lines(partition: u32, batch: &LogBatch, rows: &RecordBatch) -> Result<Vec<String>> {
    let appended = output::time(batch.append_ms);
    let texts = rows_as_text(rows)?;
    let line = |(row, text): (u64, String)| match &batch.staged {
        Some(handle) => {
            format!(r#"{{"partition":{partition},"staged":"{handle}","appended":"{appended}","row":{text}}}"#)
        }
        None => {
            let offset = batch.first_offset + row;
            format!(r#"{{"partition":{partition},"offset":{offset},"appended":"{appended}","row":{text}}}"#)
        }
    };
    Ok((0..).zip(texts).map(line).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use expect_test::expect;
    use qanat_storage::log::WriterStamp;

    use super::*;

    fn batch() -> LogBatch {
        let names = Arc::new(StringArray::from(vec![Some("a"), None]));
        let numbers = Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), Some(-1)]));
        let rows = RecordBatch::try_from_iter([("name", names as _), ("n", numbers as _)]).expect("a batch");
        LogBatch {
            first_offset: 41,
            rows,
            event_time: None,
            append_ms: 1_357_016_400_000,
            writer: WriterStamp::NONE,
            staged: None,
        }
    }

    #[test]
    fn rows_as_a_table() {
        let mut printer = Printer::new(Format::Table, None);
        let batch = batch();
        let mut lines = printer.table_lines(0, &batch, &batch.rows).expect("lines");
        lines.extend(printer.table_lines(1, &batch, &batch.rows.slice(0, 1)).expect("lines"));
        expect![[r#"
            partition  offset  name  n
            0          41      a     9007199254740993
            0          42      NULL  -1
            1          41      a     9007199254740993"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn rows_as_json() {
        let staged = LogBatch { staged: Some("h".to_owned()), ..batch() };
        let mut lines = json_lines(0, &batch(), &batch().rows).expect("lines");
        lines.extend(json_lines(3, &staged, &staged.rows.slice(1, 1)).expect("lines"));
        expect![[r#"
            {"partition":0,"offset":41,"appended":"2013-01-01T05:00:00.000Z","row":{"name":"a","n":9007199254740993}}
            {"partition":0,"offset":42,"appended":"2013-01-01T05:00:00.000Z","row":{"name":null,"n":-1}}
            {"partition":3,"staged":"h","appended":"2013-01-01T05:00:00.000Z","row":{"name":null,"n":-1}}"#]]
        .assert_eq(&lines.join("\n"));
    }
}
