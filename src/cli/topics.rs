//! `qanat topics`: the topics of a data folder or of a cluster.

use std::time::Duration;

use clap::{Args, Subcommand};
use qanat_client::{NewTopic, Topic};
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use qanat_storage::log::{Retention, TopicSpec};
use serde::Serialize;

use crate::cli::DataArguments;
use crate::cli::cluster::ClusterArguments;
use crate::data_folder::{DataFolder, DataView};
use crate::inspect::topics;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// List all topics.
    List(List),
    /// Show one topic: columns, retention, partitions with their offsets and sizes.
    Describe(Named),
    /// Create an empty topic. Its columns are those of the first rows written to it.
    Create(Create),
    /// Delete a topic and all its rows.
    Delete(Named),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    /// Name of the topic.
    name: String,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Name of the topic.
    name: String,
    /// Number of partitions; it never changes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// Keep at most about this much per partition (`500mb`, `10gb`); the oldest rows go first.
    #[arg(long, value_name = "SIZE")]
    retention_bytes: Option<String>,
    /// Keep rows for this long (`12h`, `7d`).
    #[arg(long, value_name = "DURATION")]
    retention_age: Option<String>,
    /// Keep rows until every job of the data folder, or of the cluster, that reads them is done with them.
    #[arg(long)]
    retention_consumed: bool,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// A topic as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    rows: u64,
    bytes: u64,
    retention: Retention,
    /// None until the first rows.
    columns: Option<Vec<Column>>,
    partitions: Vec<PartitionLine>,
}

#[derive(Debug, Serialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

#[derive(Debug, Serialize)]
struct PartitionLine {
    partition: u32,
    first_offset: u64,
    end_offset: u64,
    bytes: u64,
    segments: u64,
}

impl Topics {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let env = Env::real();
        match self {
            Self::List(list) => {
                let topics = match list.cluster.is_used(list.data.folder_option())? {
                    true => list.cluster.ask(|client| async move { client.topics().await })?,
                    false => topics::list(&DataView::open(&env, &list.data.folder(), None)?)?,
                };
                let lines: Vec<Line> = topics.into_iter().map(line).collect();
                output::print_object(&lines, format, || {
                    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
                    output::table(&["topic", "partitions", "rows", "size", "retention"], &rows)
                });
            }
            Self::Describe(named) => {
                let topic = match named.cluster.is_used(named.data.folder_option())? {
                    true => named.cluster.ask(|client| async move { client.topic(&named.name).await })?,
                    false => topics::describe(&DataView::open(&env, &named.data.folder(), None)?, &named.name)?,
                };
                let line = line(topic);
                output::print_object(&line, format, || text(&line));
            }
            Self::Create(create) => {
                let name = Name::new(&create.name)?;
                let spec = TopicSpec { partitions: create.partitions, retention: create.retention()? };
                let topic = match create.cluster.is_used(create.data.folder_option())? {
                    true => {
                        create.cluster.ask(|client| async move { client.create_topic(new(&name, &spec)?).await })?
                    }
                    false => topics::shown(
                        &DataFolder::open(&env, &create.data.folder())?.topics.create(&name, spec)?.describe()?,
                    ),
                };
                let (line, name) = (line(topic), &create.name);
                output::print_object(&line, format, || format!("created topic {name}"));
            }
            Self::Delete(named) => {
                let name = Name::new(&named.name)?;
                if named.cluster.is_used(named.data.folder_option())? {
                    named.cluster.ask(|client| async move { client.delete_topic(&named.name).await })?;
                } else {
                    // Nothing is created only to be told that it does not hold the topic.
                    DataView::open(&env, &named.data.folder(), None)?;
                    DataFolder::open(&env, &named.data.folder())?.topics.delete(&name)?;
                }
                let deleted = serde_json::json!({ "deleted": name });
                output::print_object(&deleted, format, || format!("deleted topic {name}"));
            }
        }
        Ok(())
    }
}

impl Create {
    fn retention(&self) -> Result<Retention> {
        let bad = |option: &str, text: &str, hint: &str| {
            Error::new(Code::Usage, format!("`--{option} {text}` cannot be read")).hint(hint.to_owned())
        };
        let bytes = match &self.retention_bytes {
            None => None,
            Some(text) => {
                Some(parse_bytes(text).ok_or_else(|| bad("retention-bytes", text, "write a size such as `500mb`"))?)
            }
        };
        let age_ms = match &self.retention_age {
            None => None,
            Some(text) => {
                let age = parse_duration(text).and_then(|age| i64::try_from(age.as_millis()).ok());
                Some(age.ok_or_else(|| bad("retention-age", text, "write a duration such as `12h` or `7d`"))?)
            }
        };
        Ok(Retention { bytes, age_ms, consumed: self.retention_consumed })
    }
}

/// `500`, `500kb`, `1.5 GiB`; powers of 1024, as in Flink's sizes.
fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = number * (1_u64 << shift) as f64;
    (bytes >= 1.0 && bytes < i64::MAX as f64).then_some(bytes as u64)
}

/// `90s`, `15 min`, `12h`, `7d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit.as_str() {
        "ms" => 0.001,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().filter(|age| *age >= Duration::from_millis(1))
}

fn split_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

/// What a cluster is asked for.
fn new(name: &Name, spec: &TopicSpec) -> Result<NewTopic> {
    if spec.partitions == 0 {
        return Err(Error::new(Code::Usage, "a topic has at least one partition").hint("leave --partitions out"));
    }
    let mut topic = NewTopic::new(name.as_str()).partitions(spec.partitions);
    let Retention { bytes, age_ms, consumed } = spec.retention;
    if let Some(bytes) = bytes {
        topic = topic.keep_bytes(bytes);
    }
    if let Some(age_ms) = age_ms {
        topic = topic.keep_ms(age_ms);
    }
    Ok(if consumed { topic.keep_until_read() } else { topic })
}

fn line(topic: Topic) -> Line {
    let columns = topic.columns.into_iter().map(|column| Column {
        name: column.name,
        data_type: column.r#type,
        nullable: column.nullable,
    });
    let columns: Vec<Column> = columns.collect();
    Line {
        name: topic.name,
        rows: topic.partitions.iter().map(|p| p.end_offset - p.first_offset).sum(),
        bytes: topic.partitions.iter().map(|p| p.bytes).sum(),
        retention: Retention {
            bytes: topic.retention_bytes,
            age_ms: topic.retention_age_ms,
            consumed: topic.retention_consumed,
        },
        columns: Some(columns).filter(|columns| !columns.is_empty()),
        partitions: topic
            .partitions
            .iter()
            .map(|p| PartitionLine {
                partition: p.partition,
                first_offset: p.first_offset,
                end_offset: p.end_offset,
                bytes: p.bytes,
                segments: p.segments,
            })
            .collect(),
    }
}

fn row(line: &Line) -> Vec<String> {
    vec![
        line.name.clone(),
        line.partitions.len().to_string(),
        line.rows.to_string(),
        output::bytes(line.bytes),
        retention_text(&line.retention),
    ]
}

fn retention_text(retention: &Retention) -> String {
    let mut parts = Vec::new();
    parts.extend(retention.bytes.map(|bytes| format!("{} per partition", output::bytes(bytes))));
    parts.extend(retention.age_ms.map(|age| match age {
        _ if age % 86_400_000 == 0 => format!("{} d", age / 86_400_000),
        _ if age % 3_600_000 == 0 => format!("{} h", age / 3_600_000),
        _ => format!("{} s", age as f64 / 1000.0),
    }));
    parts.extend(retention.consumed.then(|| "until read".to_owned()));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

fn text(line: &Line) -> String {
    let mut text = output::table(&["topic", "partitions", "rows", "size", "retention"], &[row(line)]);
    if let Some(columns) = &line.columns {
        let rows: Vec<Vec<String>> = columns
            .iter()
            .map(|c| vec![c.name.clone(), c.data_type.clone(), if c.nullable { "" } else { "not null" }.to_owned()])
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["column", "type", ""], &rows));
    }
    let rows: Vec<Vec<String>> = line
        .partitions
        .iter()
        .map(|p| {
            vec![
                p.partition.to_string(),
                p.first_offset.to_string(),
                p.end_offset.to_string(),
                output::bytes(p.bytes),
                p.segments.to_string(),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&output::table(&["partition", "first offset", "end offset", "size", "segments"], &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(parse_bytes("500"), Some(500));
        assert_eq!(parse_bytes("1.5 GiB"), Some(3 << 29));
        assert_eq!(parse_bytes("2mb"), Some(2 << 20));
        for bad in ["", "mb", "-1", "0", "1 parsec", "1e3", "99999999999tb", "1.2.3"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(parse_duration("12h"), Some(Duration::from_secs(43_200)));
        assert_eq!(parse_duration("15 min"), Some(Duration::from_secs(900)));
        for bad in ["", "5", "0s", "h", "1 y"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn retention_is_readable() {
        assert_eq!(retention_text(&Retention::default()), "everything");
        let all = Retention { bytes: Some(1 << 20), age_ms: Some(7 * 86_400_000), consumed: true };
        assert_eq!(retention_text(&all), "1.0 MiB per partition, 7 d, until read");
    }
}
