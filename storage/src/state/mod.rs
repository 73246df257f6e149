//! Keyed state tables: the durable form of what operators hold in memory.
//!
//! An operator keeps its working state in whatever shape is fast. At each barrier it hands over the
//! rows that *changed* ([`TableDelta`]); the writer turns a delta into one immutable file
//! ([`qanat_proto::manifest::StateFile`]) in the checkpoint store. The content of a table is the fold of
//! its files, oldest first: the last row of a key wins, a delete removes it, and a file (or row) whose
//! time has passed is dead. Restore reads only the key groups asked for.
//!
//! If one delta both upserts and deletes a key, the upsert wins. A file lists the key groups for which
//! it counts: after a rescale two subtasks list one old file, each for its own groups.

mod compact;
mod file;
mod restore;
mod snapshot;
mod table;

pub use compact::{Compacted, Compaction};
pub use file::{SectionKind, StateBytes};
pub use restore::SLICE_BYTES;
pub(crate) use snapshot::Encoded;
pub use table::Table;
#[cfg(test)]
pub(crate) use table::tests as testing;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// What a state table looks like. Part of an operator's contract with its own past: changing it needs a
/// new table name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Unique within its operator.
    pub name: String,
    /// Column 0 is the key group (UInt16). Columns `1..=key_columns` are the key; the rest is the value.
    pub schema: SchemaRef,
    pub key_columns: usize,
    /// Int64 column (ms): a row is dead once `closed` passes it. None: rows live until deleted.
    pub time_column: Option<usize>,
    /// Rows are only ever added, each key once per file fold or meant to be kept as a bag: restore
    /// returns all of them without looking for later versions.
    pub append_only: bool,
}

/// Changes of one table between two barriers.
#[derive(Clone, Debug)]
pub struct TableDelta {
    /// Name of the table.
    pub table: String,
    /// New versions of rows, in the table's schema, any order, each key at most once (unless append-only).
    pub upserts: Vec<RecordBatch>,
    /// Keys that are gone: column 0 and the key columns.
    pub deletes: Vec<RecordBatch>,
    /// All rows whose time column is ≤ this are gone.
    pub closed: Option<i64>,
}
