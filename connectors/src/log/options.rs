//! The options of a log table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use qanat_proto::connector::{OptionKind, OptionSpec, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_proto::names::Name;
use qanat_storage::log::{PARTITIONS_MAX, Start, Topic};

use crate::encode::kinds::{self, ROW_KIND};
use crate::options::Options;

const fn option(key: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { key, kind, default, required: false, doc }
}

pub const OPTIONS: &[OptionSpec] = &[
    option("topic", OptionKind::Text, None, "Name of the topic. Without it, the name of the table."),
    option(
        "partitions",
        OptionKind::Integer { min: 1, max: PARTITIONS_MAX as i64 },
        None,
        "Partitions of the topic if it is created here (1 without it).",
    ),
    option(
        "changelog",
        OptionKind::Choice(&["upsert", "log"]),
        None,
        "Rows may change, and a column `row_kind` of the topic says what each does. `upsert`: a row is what its PRIMARY KEY \
         has become, or that it is gone; `log`: each row that is new, replaced or gone, as it was. Without it rows are final.",
    ),
    option(
        "key.fields",
        OptionKind::Text,
        None,
        "Columns by whose values rows are spread, separated by `;`. Without it those of the PRIMARY KEY where rows may change.",
    ),
    option(
        "sink.partitioner",
        OptionKind::Choice(&["default", "fixed", "round-robin"]),
        Some("default"),
        "`fixed`: a subtask writes to one partition. `round-robin`: batches go to the partitions in turn. `default`: by \
         `key.fields` if there are any, else `round-robin`.",
    ),
    option("sink.event-time", OptionKind::Text, None, "TIMESTAMP column by whose values the log is indexed by time."),
    option(
        "sink.parallelism",
        OptionKind::Integer { min: 1, max: 256 },
        None,
        "Subtasks that write, at most. Without it, as many as the job has.",
    ),
    option(
        "scan.startup.mode",
        OptionKind::Choice(&["earliest-offset", "latest-offset", "timestamp", "specific-offsets"]),
        Some("earliest-offset"),
        "Where a new job begins to read.",
    ),
    option(
        "scan.startup.timestamp-millis",
        OptionKind::Integer { min: 0, max: i64::MAX },
        None,
        "For `timestamp`: milliseconds since 1970 UTC.",
    ),
    option(
        "scan.startup.specific-offsets",
        OptionKind::Text,
        None,
        "For `specific-offsets`: for example `partition:0,offset:42;partition:1,offset:300`. Others begin at the earliest.",
    ),
    option(
        "scan.bounded.mode",
        OptionKind::Choice(&["unbounded", "latest-offset"]),
        Some("unbounded"),
        "`latest-offset`: the read ends where the topic ended when the job was submitted.",
    ),
];

/// The checked options of a log table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub topic: Name,
    pub partitions: Option<u32>,
    /// Indexes of the key columns.
    pub keys: Vec<usize>,
    pub partitioner: SinkPartitioner,
    pub event_time_column: Option<usize>,
    pub startup: Startup,
    pub is_bounded: bool,
    /// How rows may change. None: they do not.
    pub changelog: Option<TopicChangelog>,
}

/// What the rows of a topic tell of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicChangelog {
    Upsert,
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkPartitioner {
    Key,
    Fixed,
    RoundRobin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    At(Start),
    /// By partition; others start at the earliest offset.
    Offsets(BTreeMap<u32, u64>),
}

impl LogOptions {
    /// # Errors
    /// E0203 for a topic that has another number of partitions than was asked for.
    pub(super) fn check_partitions(&self, topic: &Topic) -> Result<()> {
        match self.partitions {
            Some(wanted) if wanted != topic.partitions() => {
                let message = format!("topic `{}` has {} partitions, not {wanted}", self.topic, topic.partitions());
                Err(Error::new(Code::BadOption, message).hint("leave `partitions` out, or name another topic"))
            }
            _ => Ok(()),
        }
    }

    /// The columns of the topic.
    pub(super) fn columns(&self, table: &SchemaRef) -> SchemaRef {
        if self.changelog.is_some() { kinds::with_column(table) } else { Arc::clone(table) }
    }

    /// # Errors
    /// E0203 for rows that may change and come out of their order.
    pub(super) fn check_order(&self, partitions: u32) -> Result<()> {
        if self.changelog.is_none() || partitions == 1 || self.partitioner == SinkPartitioner::Key {
            return Ok(());
        }
        let message =
            format!("rows of `{}` may change, and changes of one row could go to several partitions", self.topic);
        Err(Error::new(Code::BadOption, message)
            .hint("name the columns by which rows are spread: `key.fields`, or a PRIMARY KEY"))
    }

    /// # Errors
    /// E0202 to E0204 for options, E0104 for a key column that is not there.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        let options = Options::check(table, &[OPTIONS])?;
        let topic = options.text("topic").unwrap_or(&table.name);
        let topic = Name::new(topic).map_err(|_| {
            options
                .bad("topic", format!("`{topic}` is no name for a topic"))
                .hint("a topic has 1 to 120 letters, digits, `.`, `_` or `-`, starting with a letter, digit or `_`")
        })?;
        let changelog = match options.text("changelog").map(str::to_ascii_lowercase).as_deref() {
            None => None,
            Some("upsert") if table.primary_key.is_empty() => {
                let message = "there is no PRIMARY KEY by which rows replace each other";
                return Err(options
                    .bad("changelog", message)
                    .hint("declare the columns that tell rows apart: `PRIMARY KEY (…) NOT ENFORCED`"));
            }
            Some("upsert") => Some(TopicChangelog::Upsert),
            Some(_) => Some(TopicChangelog::Log),
        };
        if changelog.is_some() && table.physical.index_of(ROW_KIND).is_ok() {
            let message = format!("`{ROW_KIND}` is the column that says what a row does");
            return Err(options.bad("changelog", message).hint("give the table's column another name"));
        }
        let keys = match options.text("key.fields") {
            None if changelog.is_some() => {
                table.primary_key.iter().map(|name| column(table, name)).collect::<Result<Vec<_>>>()?
            }
            None => Vec::new(),
            Some(text) => text.split(';').map(|name| column(table, name.trim())).collect::<Result<Vec<_>>>()?,
        };
        let is_of_key = |key: &usize| table.primary_key.contains(table.physical.field(*key).name());
        if changelog == Some(TopicChangelog::Upsert) && !keys.iter().all(is_of_key) {
            let message = "the rows of one PRIMARY KEY could stand in several partitions, in no order";
            return Err(options
                .bad("key.fields", message)
                .hint("name columns of the PRIMARY KEY alone, or leave it out"));
        }
        let choice = |key: &str| options.text(key).unwrap_or_default().to_ascii_lowercase();
        let partitioner = match choice("sink.partitioner").as_str() {
            "fixed" => SinkPartitioner::Fixed,
            "round-robin" => SinkPartitioner::RoundRobin,
            _ if keys.is_empty() => SinkPartitioner::RoundRobin,
            _ => SinkPartitioner::Key,
        };
        let event_time_column = match options.text("sink.event-time") {
            None => None,
            Some(name) => {
                let index = column(table, name)?;
                if !matches!(table.physical.field(index).data_type(), DataType::Timestamp(_, _)) {
                    return Err(options.bad("sink.event-time", format!("column `{name}` is no TIMESTAMP")));
                }
                Some(index)
            }
        };
        Ok(Self {
            topic,
            partitions: options.integer("partitions").and_then(|n| u32::try_from(n).ok()),
            keys,
            partitioner,
            event_time_column,
            startup: startup(&options, &choice("scan.startup.mode"))?,
            is_bounded: choice("scan.bounded.mode") == "latest-offset",
            changelog,
        })
    }
}

fn startup(options: &Options<'_>, mode: &str) -> Result<Startup> {
    for (key, its_mode) in
        [("scan.startup.timestamp-millis", "timestamp"), ("scan.startup.specific-offsets", "specific-offsets")]
    {
        if options.is_set(key) && mode != its_mode {
            return Err(options.bad(key, format!("it is of 'scan.startup.mode' = '{its_mode}'")));
        }
    }
    Ok(match mode {
        "latest-offset" => Startup::At(Start::Latest),
        "timestamp" => {
            options.required("scan.startup.timestamp-millis")?;
            Startup::At(Start::Time(options.integer("scan.startup.timestamp-millis").unwrap_or(0)))
        }
        "specific-offsets" => {
            const KEY: &str = "scan.startup.specific-offsets";
            let text = options.required(KEY)?;
            let parsed: Option<BTreeMap<u32, u64>> = text.split(';').map(partition_offset).collect();
            Startup::Offsets(parsed.ok_or_else(|| {
                options.bad(KEY, format!("`{text}` is not of the form `partition:0,offset:42;partition:1,offset:300`"))
            })?)
        }
        _ => Startup::At(Start::Earliest),
    })
}

/// `partition:0,offset:42`
fn partition_offset(text: &str) -> Option<(u32, u64)> {
    let (partition, offset) = text.trim().split_once(',')?;
    let partition = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
    Some((partition, offset.trim().strip_prefix("offset:")?.trim().parse().ok()?))
}

fn column(table: &TableDescriptor, name: &str) -> Result<usize> {
    table.physical.index_of(name).map_err(|_| {
        let error = Error::new(Code::UnknownColumn, format!("table `{}` has no column `{name}`", table.name))
            .at(Place::Named(table.name.clone()));
        match nearest(name, table.physical.fields().iter().map(|f| f.name().as_str())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}
