//! Changelogs: rows that insert, replace and take back rows of a table.
//!
//! A batch of a changelog has one column more than its table, [`KIND_COLUMN`], which stands last and says what each row
//! does. So a changelog goes through exchanges, receipts and state files like any rows, and an operator that looks at
//! one row at a time need not know of it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// Name of the column of [`RowKind`]s. No column of a table may have it.
pub const KIND_COLUMN: &str = "$row_kind";

/// What a row does to the table that a changelog describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(i8)]
pub enum RowKind {
    /// `+I`: a new row.
    Insert = 0,
    /// `-U`: what a row was; what it becomes follows.
    UpdateBefore = 1,
    /// `+U`: what a row has become.
    UpdateAfter = 2,
    /// `-D`: a row that is gone.
    Delete = 3,
}

impl RowKind {
    pub const ALL: [Self; 4] = [Self::Insert, Self::UpdateBefore, Self::UpdateAfter, Self::Delete];

    /// The value that stands in [`KIND_COLUMN`].
    pub fn code(self) -> i8 {
        self as i8
    }

    pub fn of_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// As users read it.
    pub fn short(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// Whether the row is there afterwards.
    pub fn is_added(self) -> bool {
        is_added(self.code())
    }
}

/// Whether a row of this kind is there afterwards.
pub fn is_added(code: i8) -> bool {
    code & 1 == 0
}

/// What rows an operator gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changelog {
    /// New rows alone. There is no [`KIND_COLUMN`].
    #[default]
    Append,
    /// What a key has become, or that it is gone: a row of the same key takes the place of the one before. Of what is
    /// gone the key is right and the other columns are what they last were.
    Upsert { key: Vec<usize> },
    /// Every row that is replaced or gone is taken back by an equal one first.
    Retract,
}

impl Changelog {
    pub fn is_append(&self) -> bool {
        matches!(self, Self::Append)
    }
}

/// Rows that a sink takes, from what it takes least to what it takes most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedChangelog {
    #[default]
    Append,
    /// By the table's primary key.
    Upsert,
    /// All kinds of rows.
    Retract,
}

/// How the rows of a source tell of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceChangelog {
    /// They do not: every row is new.
    #[default]
    Append,
    /// Each record is one change in Debezium's form, with the row as it was and as it is ([`envelope`]). `is_wrapped`:
    /// it stands in a field `payload`, beside its schema.
    Envelope { is_wrapped: bool },
    /// As [`Changelog::Retract`].
    Retract,
    /// As [`Changelog::Upsert`], by the table's primary key.
    Upsert,
}

impl SourceChangelog {
    pub fn is_append(self) -> bool {
        self == Self::Append
    }
}

/// Fields of an envelope: the row as it was, the row as it is, and what was done.
pub const BEFORE: &str = "before";
pub const AFTER: &str = "after";
pub const OP: &str = "op";
/// The field in which an envelope stands that has its schema beside it.
pub const PAYLOAD: &str = "payload";

/// The columns that a record of changes of `columns` is read into.
pub fn envelope(columns: &Fields, is_wrapped: bool) -> Vec<FieldRef> {
    // What a record leaves out is NULL, whatever the table declares.
    let columns: Fields = columns.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let row = |name: &str| Arc::new(Field::new(name, DataType::Struct(columns.clone()), true));
    let fields = vec![row(BEFORE), row(AFTER), Arc::new(Field::new(OP, DataType::Utf8, true))];
    if !is_wrapped {
        return fields;
    }
    vec![Arc::new(Field::new(PAYLOAD, DataType::Struct(fields.into()), true))]
}

/// The column of kinds.
pub fn kind_field() -> Field {
    Field::new(KIND_COLUMN, DataType::Int8, false)
}

/// Whether rows of `schema` have kinds.
pub fn has_kinds(schema: &Schema) -> bool {
    schema.fields().last().is_some_and(|field| field.name() == KIND_COLUMN)
}

/// Columns of `schema` beside the kinds of its rows.
pub fn width(schema: &Schema) -> usize {
    schema.fields().len() - usize::from(has_kinds(schema))
}

/// The columns, and the kinds of rows behind them.
pub fn with_kinds(columns: &Schema) -> SchemaRef {
    let fields = columns.fields().iter().cloned().chain([Arc::new(kind_field())]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns without the kinds of rows.
pub fn without_kinds(schema: &SchemaRef) -> SchemaRef {
    if !has_kinds(schema) {
        return Arc::clone(schema);
    }
    Arc::new(Schema::new(schema.fields().iter().take(width(schema)).cloned().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_codes() {
        for kind in RowKind::ALL {
            assert_eq!(RowKind::of_code(kind.code()), Some(kind));
            assert_eq!(kind.is_added(), kind.short().starts_with('+'));
        }
        assert_eq!(RowKind::of_code(4), None);
    }
}
