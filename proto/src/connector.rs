//! What a connector and a format are, as the planner sees them: options, capabilities, limits.
//!
//! `qanat-connectors` implements [`ConnectorCatalog`]; the binary hands it to the planner, so that
//! `qanat-sql` knows connectors only through this file.

use std::collections::BTreeMap;

use arrow_schema::{DataType, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::changelog::{AcceptedChangelog, SourceChangelog};
use crate::error::Result;

/// A table bound to its connector: what `CREATE TABLE … WITH (…)` says, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDescriptor {
    /// Name in the script.
    pub name: String,
    /// Canonical connector name, for example `filesystem`.
    pub connector: String,
    /// Options as written, keys lower-case; defaults are not filled in.
    pub options: BTreeMap<String, String>,
    /// Columns that the format decodes or encodes, in declaration order.
    pub physical: SchemaRef,
    pub metadata: Vec<MetadataColumn>,
    /// Names of the columns of `PRIMARY KEY … NOT ENFORCED`.
    pub primary_key: Vec<String>,
    /// Names of the columns of `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
}

impl TableDescriptor {
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }
}

/// `name TYPE METADATA [FROM 'key'] [VIRTUAL]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataColumn {
    pub name: String,
    pub kind: MetadataKind,
}

/// What a source can stamp on each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetadataKind {
    /// `origin`, STRING: the file path, the topic and partition, …
    Origin,
    /// `offset`, BIGINT: position of the record within its origin: row number for files (0-based), log offset, …
    Offset,
    /// `ingest-time`, TIMESTAMP(3): when the record was read (wall clock, UTC).
    IngestTime,
    /// `timestamp`, TIMESTAMP(3): the record's own timestamp where the origin keeps one.
    Timestamp,
}

impl MetadataKind {
    pub const ALL: [Self; 4] = [Self::Origin, Self::Offset, Self::IngestTime, Self::Timestamp];

    pub fn key(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Offset => "offset",
            Self::IngestTime => "ingest-time",
            Self::Timestamp => "timestamp",
        }
    }

    pub fn data_type(self) -> DataType {
        match self {
            Self::Origin => DataType::Utf8,
            Self::Offset => DataType::Int64,
            Self::IngestTime | Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
        }
    }
}

/// The connector of VALUES lists, which the planner alone makes tables of: it is listed nowhere.
pub const VALUES_CONNECTOR: &str = "values";
/// Its option: the rows as an Arrow IPC stream in base64.
pub const VALUES_ROWS: &str = "rows";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Source,
    Sink,
    Lookup,
}

/// How sure a sink is. The first is the rule; a table that gives less must be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
    /// Rows are dropped on purpose (`blackhole`).
    None,
}

/// What a checked table can do in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableTraits {
    /// The read ends by itself.
    pub bounded: bool,
    /// Reading again from an offset gives the same rows.
    pub replayable: bool,
    pub delivery: Delivery,
    /// Of a sink: the rows that it takes.
    pub changelog: AcceptedChangelog,
    /// Of a sink: how the rows find the subtask that writes them.
    pub routing: SinkRouting,
    /// Of a source: the rows that it gives.
    pub gives: SourceChangelog,
}

/// How the rows of a sink find the subtask that writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkRouting {
    /// Any subtask writes any row.
    #[default]
    Any,
    /// The rows of a primary key go to the subtask that owns its key group.
    ByKey,
    /// One subtask writes all.
    Single,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    Text,
    Integer {
        min: i64,
        max: i64,
    },
    Number,
    Boolean,
    /// `128MB`, `4 kb`, plain bytes.
    Size,
    /// `1 s`, `500ms`, `2 min`, `1 h`, `1 d`.
    Duration,
    /// One character, or an escape such as `\t`.
    Character,
    Choice(&'static [&'static str]),
}

/// One `WITH` option. A `*` in the key stands for one segment (`fields.*.kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    pub key: &'static str,
    pub kind: OptionKind,
    /// None: no default. For documentation and for [`TableDescriptor`] readers alike.
    pub default: Option<&'static str>,
    pub required: bool,
    pub doc: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct ConnectorDescriptor {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub doc: &'static str,
    pub source: bool,
    pub sink: bool,
    pub lookup: bool,
    /// Names of formats it takes; empty if it has rows of its own.
    pub formats: &'static [&'static str],
    pub options: &'static [OptionSpec],
}

#[derive(Clone, Copy, Debug)]
pub struct FormatDescriptor {
    pub name: &'static str,
    pub doc: &'static str,
    pub decodes: bool,
    pub encodes: bool,
    /// Keys carry the format's prefix (`csv.null-literal`).
    pub options: &'static [OptionSpec],
}

/// The connectors and formats there are. Implemented by `qanat-connectors`.
pub trait ConnectorCatalog: Send + Sync {
    fn connectors(&self) -> Vec<ConnectorDescriptor>;
    fn formats(&self) -> Vec<FormatDescriptor>;

    /// Checks every option and column of a table for a role, with no IO.
    ///
    /// # Errors
    /// One error with a code and a hint: unknown or missing option (with the nearest name), bad value,
    /// a role the connector does not have, a column type the format cannot carry.
    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits>;

    /// Whether the table's source can leave out what a filter does not want.
    fn uses_filters(&self, table: &TableDescriptor) -> bool {
        let _ = table;
        false
    }
}

impl dyn ConnectorCatalog + '_ {
    pub fn connector(&self, name: &str) -> Option<ConnectorDescriptor> {
        self.connectors().into_iter().find(|c| c.name == name || c.aliases.contains(&name))
    }
}
