//! The options of the file sink.

use qanat_proto::connector::{OptionKind, OptionSpec, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::settings::{parse_duration_ms, parse_size};

use crate::encode::bad_option;

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
        "sink.parallelism",
        OptionKind::Integer { min: 1, max: 256 },
        None,
        "Subtasks that write. Without it, as many as the job has.",
    ),
    option(
        "sink.partition-commit.trigger",
        OptionKind::Choice(&["process-time", "partition-time"]),
        Some("process-time"),
        "When a partition is announced. Only `process-time` is supported: after each epoch that wrote to it.",
    ),
    option(
        "sink.partition-commit.delay",
        OptionKind::Duration,
        Some("0 s"),
        "How long to wait before a partition is announced. Only `0 s` is supported.",
    ),
    option(
        "sink.partition-commit.policy.kind",
        OptionKind::Text,
        None,
        "How a partition is announced. Only `success-file` is supported: an empty file in its folder.",
    ),
    option(
        "sink.partition-commit.success-file.name",
        OptionKind::Text,
        Some("_SUCCESS"),
        "Name of that file; it must begin with `_` or `.`, so that no reader takes it for data.",
    ),
];

/// Typed options of one file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// As written.
    pub path: String,
    pub file_bytes: u64,
    /// File that announces a partition after a commit, if asked for.
    pub success_file: Option<String>,
}

/// `sink.rolling-policy.file-size` when nothing is said: Flink's default, and a good size for readers.
const FILE_BYTES_DEFAULT: u64 = 128 << 20;

impl SinkOptions {
    /// # Errors
    /// E0203 or E0204 for a bad or missing value; E0102 for what is not supported yet.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        let place = || Place::Named(table.name.clone());
        let Some(path) = table.option("path") else {
            return Err(Error::new(Code::MissingOption, "option `path` is missing").at(place()));
        };
        if path.contains(['*', '?', '[']) {
            return Err(bad_option("path", path, "one folder when the table is written").at(place()));
        }
        let file_bytes = match table.option("sink.rolling-policy.file-size") {
            None => FILE_BYTES_DEFAULT,
            Some(text) => parse_size(text).filter(|n| *n > 0).ok_or_else(|| {
                bad_option("sink.rolling-policy.file-size", text, "a size such as `128MB`").at(place())
            })?,
        };
        Ok(Self { path: path.to_owned(), file_bytes, success_file: success_file(table).map_err(|e| e.or_at(place))? })
    }
}

/// Partitions are announced after the commit of each epoch that wrote to them. Announcing by watermark or
/// after a delay needs a timer that survives a restart, so it is refused rather than done by halves.
fn success_file(table: &TableDescriptor) -> Result<Option<String>> {
    let unsupported = |key: &str, value: &str, only: &str| {
        Error::new(Code::SqlUnsupported, format!("`{key}` = `{value}` is not supported yet"))
            .hint(format!("only `{only}` is"))
    };
    const TRIGGER: &str = "sink.partition-commit.trigger";
    if let Some(trigger) = table.option(TRIGGER)
        && !trigger.eq_ignore_ascii_case("process-time")
    {
        return Err(unsupported(TRIGGER, trigger, "process-time"));
    }
    const DELAY: &str = "sink.partition-commit.delay";
    if let Some(delay) = table.option(DELAY) {
        match parse_duration_ms(delay) {
            Some(0) => {}
            Some(_) => return Err(unsupported(DELAY, delay, "0 s")),
            None => return Err(bad_option(DELAY, delay, "a duration such as `1 h`")),
        }
    }
    const KIND: &str = "sink.partition-commit.policy.kind";
    let Some(kind) = table.option(KIND) else { return Ok(None) };
    if !kind.eq_ignore_ascii_case("success-file") {
        return Err(unsupported(KIND, kind, "success-file"));
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
    Ok(Some(name.to_owned()))
}
