//! Formats: how bytes become rows (here) and rows become bytes (`crate::encode`).
//!
//! The tables of options below are shared by both directions, so that one `CREATE TABLE` serves as
//! source and as sink.

pub mod arrow_ipc;
mod cast;
mod columnar;
pub mod csv;
pub(crate) mod decimal;
pub mod decode;
mod guard;
pub mod json;
mod json_leaves;
mod json_line;
mod json_text;
mod json_wanted;
pub mod parquet;
pub mod reader;
pub mod stream;
pub mod text;
pub(crate) mod textual;
mod time;

pub(crate) use self::cast::{CALENDAR_DAYS, can_conform, conform};

use qanat_proto::changelog::SourceChangelog;
use qanat_proto::connector::{FormatDescriptor, OptionKind, OptionSpec, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result, nearest};

use crate::options::Options;

const fn option(key: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { key, kind, default, required: false, doc }
}

/// Options of every connector that takes a format.
pub const COMMON: &[OptionSpec] = &[
    OptionSpec {
        key: "format",
        kind: OptionKind::Text,
        default: None,
        required: true,
        doc: "How rows are written: `csv`, `json`, `parquet`, `arrow`, or `debezium-json` for rows that change.",
    },
    option(
        "dead-letter.policy",
        OptionKind::Choice(&["dead_letter", "fail", "null"]),
        Some("dead_letter"),
        "What becomes of a record that cannot be decoded: it is kept in the job's dead-letter table, fails the job, or \
         loses only the bad field, which becomes NULL.",
    ),
];

pub const CSV: &[OptionSpec] = &[
    option("csv.field-delimiter", OptionKind::Character, Some(","), "The character between two fields."),
    option("csv.quote-character", OptionKind::Character, Some("\""), "The character around quoted fields."),
    option("csv.disable-quote-character", OptionKind::Boolean, Some("false"), "Quotes are ordinary characters."),
    option("csv.escape-character", OptionKind::Character, None, "Makes the next character of a quoted field literal."),
    option("csv.allow-comments", OptionKind::Boolean, Some("false"), "Lines that begin with `#` are skipped."),
    option("csv.ignore-parse-errors", OptionKind::Boolean, Some("false"), "Short for `dead-letter.policy` = `null`."),
    option("csv.null-literal", OptionKind::Text, None, "Unquoted text that stands for NULL, for example `NA`."),
    option(
        "csv.write-bigdecimal-in-scientific-notation",
        OptionKind::Choice(&["false"]),
        Some("false"),
        "Decimals are written with all their digits, which every reader takes.",
    ),
    option("csv.array-element-delimiter", OptionKind::Character, Some(";"), "The character between array elements."),
    option(
        "csv.header",
        OptionKind::Choice(&["auto", "true", "false"]),
        Some("auto"),
        "Whether the first record names the columns. With a header columns are found by name, without one by position.",
    ),
    option(
        "csv.multiline",
        OptionKind::Boolean,
        Some("true"),
        "Whether quoted fields may hold line breaks. `false` lets large files be read in parallel.",
    ),
];

pub const JSON: &[OptionSpec] = &[
    option(
        "json.timestamp-format.standard",
        OptionKind::Choice(&["SQL", "ISO-8601"]),
        Some("SQL"),
        "How timestamps are written: `2013-01-01 10:00:00` or `2013-01-01T10:00:00`. Both are read.",
    ),
    option("json.ignore-parse-errors", OptionKind::Boolean, Some("false"), "Short for `dead-letter.policy` = `null`."),
    option(
        "json.fail-on-missing-field",
        OptionKind::Boolean,
        Some("false"),
        "Whether a record without a declared column is bad; if not, the column is NULL.",
    ),
    option(
        "json.encode.decimal-as-plain-number",
        OptionKind::Choice(&["true"]),
        Some("true"),
        "Decimals are written with all their digits, never as `1E+3`.",
    ),
    option(
        "json.map-null-key.mode",
        OptionKind::Choice(&["FAIL", "DROP", "LITERAL"]),
        Some("FAIL"),
        "Taken and not needed: no map has a NULL key.",
    ),
    option("json.map-null-key.literal", OptionKind::Text, Some("null"), "Taken and not needed: no map has a NULL key."),
    option(
        "json.zero-timestamp.behavior",
        OptionKind::Choice(&["FAIL"]),
        Some("FAIL"),
        "A timestamp of zeros is no timestamp; `dead-letter.policy` = `null` makes it NULL.",
    ),
    option(
        "json.decode.json-parser.enabled",
        OptionKind::Boolean,
        Some("true"),
        "Taken and not needed: there is one parser.",
    ),
    option(
        "json.encode.ignore-null-fields",
        OptionKind::Boolean,
        Some("false"),
        "Whether fields that are NULL are left out when rows are written.",
    ),
];

pub const DEBEZIUM_JSON: &[OptionSpec] = &[
    option(
        "debezium-json.schema-include",
        OptionKind::Boolean,
        Some("false"),
        "Whether each record that is read has its schema beside it: `{\"schema\": …, \"payload\": {…}}`.",
    ),
    option(
        "debezium-json.timestamp-format.standard",
        OptionKind::Choice(&["SQL", "ISO-8601"]),
        Some("SQL"),
        "How timestamps are written: `2013-01-01 10:00:00` or `2013-01-01T10:00:00`. Both are read.",
    ),
    option(
        "debezium-json.ignore-parse-errors",
        OptionKind::Boolean,
        Some("false"),
        "Short for `dead-letter.policy` = `null`.",
    ),
    option(
        "debezium-json.encode.ignore-null-fields",
        OptionKind::Boolean,
        Some("false"),
        "Whether fields that are NULL are left out when rows are written.",
    ),
];

pub const PARQUET: &[OptionSpec] = &[option(
    "parquet.compression",
    OptionKind::Choice(&["none", "uncompressed", "snappy", "zstd"]),
    Some("snappy"),
    "How pages are compressed when rows are written.",
)];

pub const ARROW: &[OptionSpec] = &[option(
    "arrow.compression",
    OptionKind::Choice(&["none", "lz4", "zstd"]),
    Some("none"),
    "How buffers are compressed when rows are written.",
)];

/// Names of the formats that file-like connectors take.
pub const NAMES: &[&str] = &["csv", "json", "parquet", "arrow", DEBEZIUM];

/// The format whose records are changes.
pub const DEBEZIUM: &str = "debezium-json";

/// One line per format.
pub const FORMATS: &[FormatDescriptor] = &[
    FormatDescriptor { name: "csv", doc: "Delimited text.", decodes: true, encodes: true, options: CSV },
    FormatDescriptor { name: "json", doc: "One JSON object per line.", decodes: true, encodes: true, options: JSON },
    FormatDescriptor {
        name: DEBEZIUM,
        doc: "Changes as Debezium tells them, one JSON object per line.",
        decodes: true,
        encodes: true,
        options: DEBEZIUM_JSON,
    },
    FormatDescriptor { name: "parquet", doc: "Parquet files.", decodes: true, encodes: true, options: PARQUET },
    FormatDescriptor { name: "arrow", doc: "Arrow IPC.", decodes: true, encodes: true, options: ARROW },
];

/// The format that a table names.
///
/// # Errors
/// E0204 without `format`; E0205 for a format that is not among `allowed`.
pub fn of_table(table: &TableDescriptor, allowed: &[&str]) -> Result<&'static FormatDescriptor> {
    let place = || Place::Named(table.name.clone());
    let Some(name) = table.option("format") else {
        // Misspelt, it would pass for one that was forgotten.
        let misspelt = table.options.keys().find(|key| nearest(key, ["format", "connector"]) == Some("format"));
        return Err(match misspelt {
            Some(key) => {
                Error::new(Code::UnknownOption, format!("connector `{}` has no option `{key}`", table.connector))
                    .at(place())
                    .hint("did you mean `format`?")
            }
            None => Error::new(Code::MissingOption, "option `format` is missing")
                .at(place())
                .hint(format!("formats are: {}", allowed.join(", "))),
        });
    };
    let found = FORMATS.iter().find(|f| f.name.eq_ignore_ascii_case(name) && allowed.contains(&f.name));
    found.ok_or_else(|| {
        let message = format!("connector `{}` has no format `{name}`", table.connector);
        let error = Error::new(Code::BadRole, message).at(place());
        match nearest(name, allowed.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("formats are: {}", allowed.join(", "))),
        }
    })
}

/// How the rows tell of changes that are read in the table's format.
///
/// # Errors
/// As [`of_table`].
pub fn gives(table: &TableDescriptor, options: &Options<'_>) -> Result<SourceChangelog> {
    if of_table(table, NAMES)?.name != DEBEZIUM {
        return Ok(SourceChangelog::Append);
    }
    Ok(SourceChangelog::Envelope { is_wrapped: options.boolean("debezium-json.schema-include") == Some(true) })
}

/// A timestamp as text, SQL or ISO-8601, in milliseconds since 1970 UTC.
pub fn parse_timestamp_ms(text: &str) -> Option<i64> {
    time::parse_timestamp(text.trim().as_bytes(), arrow::datatypes::TimeUnit::Millisecond)
}
