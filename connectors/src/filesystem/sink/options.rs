//! The options of the file sink.

use qanat_proto::connector::{OptionKind, OptionSpec, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::settings::{parse_duration_ms, parse_size};

use crate::encode::bad_option;
use crate::format::DEBEZIUM;

const fn option(key: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { key, kind, default, required: false, doc }
}

/// Options that only the sink has.
pub const SINK_OPTIONS: &[OptionSpec] = &[
    option(
        "sink.rolling-policy.file-size",
        OptionKind::Size,
        Some("128MB"),
        "A file is closed and the next one begun when it has this size. Every epoch closes its files anyway.",
    ),
    option(
        "sink.changelog",
        OptionKind::Choice(&["log", "table"]),
        None,
        "`log`: rows may change. Each row that is new, replaced or gone is written, with a last column `row_kind` that \
         says `+I`, `-U` (as it was), `+U` (as it is now) or `-D`. `table`: rows may change, and the latest of each PRIMARY \
         KEY is kept: `_table/<number>` names the files of each version, the highest is the table; a path that ends in a \
         file name is one plain file, replaced at once, of 64 MiB at most. Without it only rows that are final are taken, \
         but for the format `debezium-json`, whose records are changes.",
    ),
    option(
        "sink.table.retention",
        OptionKind::Duration,
        Some("1 min"),
        "How long the files of a version stay when the next has taken its place: for readers, and for rollbacks. With \
         `sink.changelog` = `table`.",
    ),
    option(
        "sink.rolling-policy.rollover-interval",
        OptionKind::Duration,
        Some("30 min"),
        "A file is closed, and the next one begun, with the first row that comes when it has been open for so long.",
    ),
    option(
        "sink.rolling-policy.check-interval",
        OptionKind::Duration,
        Some("1 min"),
        "Taken and not needed: the age of a file is looked at with each batch of rows.",
    ),
    option(
        "auto-compaction",
        OptionKind::Choice(&["false"]),
        Some("false"),
        "Files are not joined after they are written: use a larger `execution.checkpointing.interval` or a smaller \
         `sink.parallelism`.",
    ),
    option(
        "sink.shuffle-by-partition.enable",
        OptionKind::Boolean,
        Some("false"),
        "Whether the rows of a partition are all written by one subtask: fewer files.",
    ),
    option(
        "sink.parallelism",
        OptionKind::Integer { min: 1, max: 256 },
        None,
        "Subtasks that write, at most. Without it, as many as the job has; more than the job has makes the job wider.",
    ),
    option(
        "sink.partition-commit.trigger",
        OptionKind::Choice(&["process-time", "partition-time"]),
        Some("process-time"),
        "What `sink.partition-commit.delay` counts from: the partition's first commit, or its own time against the \
         watermark.",
    ),
    option(
        "sink.partition-commit.delay",
        OptionKind::Duration,
        Some("0 s"),
        "How long to wait before a partition is announced.",
    ),
    option(
        "sink.partition-commit.policy.kind",
        OptionKind::Text,
        None,
        "How a partition is announced. Only `success-file` is supported: an empty file in its folder.",
    ),
    option(
        "sink.partition-commit.watermark-time-zone",
        OptionKind::Choice(&["UTC"]),
        Some("UTC"),
        "The times of partitions are UTC, as the watermark is.",
    ),
    option(
        "sink.partition-commit.success-file.name",
        OptionKind::Text,
        Some("_SUCCESS"),
        "Name of that file; it must begin with `_` or `.`, so that no reader takes it for data.",
    ),
    option(
        "partition.time-extractor.kind",
        OptionKind::Choice(&["default"]),
        Some("default"),
        "How the time of a partition is found: from its values.",
    ),
    option(
        "partition.time-extractor.timestamp-formatter",
        OptionKind::Choice(&["yyyy-MM-dd HH:mm:ss"]),
        Some("yyyy-MM-dd HH:mm:ss"),
        "How the time that the pattern makes is written; a date alone is its midnight.",
    ),
    option(
        "partition.time-extractor.timestamp-pattern",
        OptionKind::Text,
        None,
        "How its values make a time, such as `$day $hour:00:00`. Without it the first value is the time.",
    ),
];

/// Typed options of one file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// As written.
    pub path: String,
    pub file_bytes: u64,
    /// How long a file is written to, at most.
    pub file_ms: u64,
    pub keeps: Keeps,
    /// How partitions are announced, if asked for.
    pub partition_commit: Option<PartitionCommit>,
}

/// What the files of a table hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Rows, one by one.
    Rows,
    /// Rows may change, and say what they do.
    Log,
    /// The latest row of each primary key.
    Table(TableOptions),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// How long a version stays behind the next.
    pub retention_ms: i64,
    /// The path is that of one plain file.
    pub is_plain: bool,
}

/// When and how a partition is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCommit {
    pub success_file: String,
    pub trigger: Trigger,
    pub delay_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    ProcessTime,
    /// `pattern` makes a time of the partition's values; without one the first value is it.
    PartitionTime {
        pattern: Option<String>,
    },
}

/// `sink.rolling-policy.file-size` when nothing is said: Flink's default, and a good size for readers.
const FILE_BYTES_DEFAULT: u64 = 128 << 20;

/// `sink.rolling-policy.rollover-interval` when nothing is said: Flink's default.
const FILE_MS_DEFAULT: u64 = 30 * 60 * 1000;

/// `sink.table.retention` when nothing is said.
const RETENTION_MS_DEFAULT: i64 = 60_000;

impl SinkOptions {
    /// # Errors
    /// E0203 or E0204 for a bad or missing value; E0102 for what is not supported yet.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        let place = || Place::Named(table.name.clone());
        let Some(path) = table.option("path") else {
            return Err(Error::new(Code::MissingOption, "option `path` is missing").at(place()));
        };
        if path.trim().is_empty() {
            return Err(bad_option("path", path, "a folder").at(place()));
        }
        if path.contains(['*', '?', '[']) {
            return Err(bad_option("path", path, "one folder when the table is written").at(place()));
        }
        let file_bytes = match table.option("sink.rolling-policy.file-size") {
            None => FILE_BYTES_DEFAULT,
            Some(text) => parse_size(text).filter(|n| *n > 0).ok_or_else(|| {
                bad_option("sink.rolling-policy.file-size", text, "a size such as `128MB`").at(place())
            })?,
        };
        let partition_commit = partition_commit(table).map_err(|e| e.or_at(place))?;
        const SHUFFLE: &str = "sink.shuffle-by-partition.enable";
        let shuffle = table.option(SHUFFLE).filter(|text| text.trim().eq_ignore_ascii_case("true"));
        if let Some(text) = shuffle.filter(|_| table.option("sink.parallelism").is_some()) {
            let error = bad_option(SHUFFLE, text, "`true` only without `sink.parallelism`");
            return Err(error.at(place()));
        }
        if let Some(text) = shuffle.filter(|_| table.partitioned_by.is_empty()) {
            return Err(bad_option(SHUFFLE, text, "`true` only if the table is PARTITIONED BY some column").at(place()));
        }
        const INTERVAL: &str = "sink.rolling-policy.rollover-interval";
        let file_ms = match table.option(INTERVAL) {
            None => FILE_MS_DEFAULT,
            Some(text) => parse_duration_ms(text)
                .filter(|ms| *ms > 0)
                .ok_or_else(|| bad_option(INTERVAL, text, "a duration such as `10 min`").at(place()))?,
        };
        let is_envelope = table.option("format").is_some_and(|format| format.eq_ignore_ascii_case(DEBEZIUM));
        let keeps = match table.option(CHANGELOG) {
            Some(text) if text.eq_ignore_ascii_case("table") => {
                Keeps::Table(table_options(table, path, is_envelope).map_err(|e| e.or_at(place))?)
            }
            Some(_) => Keeps::Log,
            None if is_envelope => Keeps::Log,
            None => Keeps::Rows,
        };
        if let (Some(text), Keeps::Rows | Keeps::Log) = (table.option(RETENTION), &keeps) {
            return Err(bad_option(RETENTION, text, "a value only with `sink.changelog` = `table`").at(place()));
        }
        Ok(Self { path: path.to_owned(), file_bytes, file_ms, keeps, partition_commit })
    }
}

const CHANGELOG: &str = "sink.changelog";
const RETENTION: &str = "sink.table.retention";

fn table_options(table: &TableDescriptor, path: &str, is_envelope: bool) -> Result<TableOptions> {
    let needs = |what: &str| bad_option(CHANGELOG, "table", what);
    if table.primary_key.is_empty() {
        return Err(needs("`table` only with the columns that tell rows apart")
            .hint("declare them: `PRIMARY KEY (…) NOT ENFORCED`"));
    }
    if is_envelope {
        return Err(needs("`table` only with a format of rows: debezium-json holds changes"));
    }
    if !table.partitioned_by.is_empty() {
        return Err(Error::new(
            Code::SqlUnsupported,
            "a table that is kept by its key in files cannot be PARTITIONED BY columns",
        )
        .hint("leave PARTITIONED BY out: its rows are spread over files by their key"));
    }
    for key in ["sink.parallelism", "sink.rolling-policy.file-size", "sink.rolling-policy.rollover-interval"] {
        if let Some(text) = table.option(key) {
            let why = "nothing with `sink.changelog` = `table`, whose files are those of key groups";
            return Err(bad_option(key, text, why));
        }
    }
    let retention_ms = match table.option(RETENTION) {
        None => RETENTION_MS_DEFAULT,
        Some(text) => parse_duration_ms(text)
            .and_then(|ms| i64::try_from(ms).ok())
            .ok_or_else(|| bad_option(RETENTION, text, "a duration such as `10 min`"))?,
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    // `.hidden` and `..` are folders; so is `out/`.
    let is_plain = name.trim_start_matches('.').contains('.');
    Ok(TableOptions { retention_ms, is_plain })
}

fn partition_commit(table: &TableDescriptor) -> Result<Option<PartitionCommit>> {
    const DELAY: &str = "sink.partition-commit.delay";
    let delay_ms = match table.option(DELAY) {
        None => 0,
        Some(text) => parse_duration_ms(text)
            .and_then(|ms| i64::try_from(ms).ok())
            .ok_or_else(|| bad_option(DELAY, text, "a duration such as `1 h`"))?,
    };
    const TRIGGER: &str = "sink.partition-commit.trigger";
    const PATTERN: &str = "partition.time-extractor.timestamp-pattern";
    let pattern = table.option(PATTERN).map(str::to_owned);
    let trigger = match table.option(TRIGGER) {
        Some(text) if text.eq_ignore_ascii_case("partition-time") => Trigger::PartitionTime { pattern },
        Some(text) if !text.eq_ignore_ascii_case("process-time") => {
            return Err(bad_option(TRIGGER, text, "`process-time` or `partition-time`"));
        }
        _ => match pattern {
            Some(pattern) => {
                return Err(bad_option(
                    PATTERN,
                    &pattern,
                    "a value only with `sink.partition-commit.trigger` = `partition-time`",
                ));
            }
            None => Trigger::ProcessTime,
        },
    };
    const KIND: &str = "sink.partition-commit.policy.kind";
    let Some(kind) = table.option(KIND) else {
        if let Some(value) = table.option(TRIGGER).or_else(|| table.option(DELAY)) {
            let key = if table.option(TRIGGER).is_some() { TRIGGER } else { DELAY };
            return Err(bad_option(
                key,
                value,
                "a value only with `sink.partition-commit.policy.kind` = `success-file`",
            ));
        }
        return Ok(None);
    };
    if !kind.eq_ignore_ascii_case("success-file") {
        return Err(Error::new(Code::SqlUnsupported, format!("`{KIND}` = `{kind}` is not supported yet"))
            .hint("only `success-file` is"));
    }
    if table.partitioned_by.is_empty() {
        return Err(bad_option(KIND, kind, "a value only if the table is PARTITIONED BY some column"));
    }
    const NAME: &str = "sink.partition-commit.success-file.name";
    let name = table.option(NAME).unwrap_or("_SUCCESS");
    let is_hidden = name.starts_with(['_', '.']) && name.len() > 1 && name != "..";
    if !is_hidden || name.contains(['/', '\\', '\0']) {
        return Err(bad_option(NAME, name, "a file name that begins with `_` or `.`"));
    }
    Ok(Some(PartitionCommit { success_file: name.to_owned(), trigger, delay_ms }))
}
