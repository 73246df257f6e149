//! The kinds of rows as users read them: a last column `row_kind` with `+I`, `-U`, `+U` or `-D`.

use std::sync::Arc;

use ::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use ::arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use qanat_proto::changelog::{RowKind, has_kinds};
use qanat_proto::error::{Code, Error, Result};

/// Name of the column.
pub(crate) const ROW_KIND: &str = "row_kind";

/// Columns of a table, then that of the kinds.
pub(crate) fn with_column(columns: &SchemaRef) -> SchemaRef {
    let field = Arc::new(Field::new(ROW_KIND, DataType::Utf8, false));
    Arc::new(Schema::new(columns.fields().iter().cloned().chain([field]).collect::<Vec<_>>()))
}

/// The kind of each row; None if the rows are all new.
///
/// # Errors
/// E0502 for a number that is no kind.
pub(crate) fn of_rows(rows: &RecordBatch) -> Result<Option<Vec<RowKind>>> {
    if !has_kinds(rows.schema_ref()) {
        return Ok(None);
    }
    let unknown = |code: i8| Error::new(Code::Invariant, format!("{code} is no kind of a row"));
    let codes = rows.column(rows.num_columns() - 1).as_primitive::<Int8Type>().values();
    codes.iter().map(|code| RowKind::of_code(*code).ok_or_else(|| unknown(*code))).collect::<Result<_>>().map(Some)
}

/// The rows with their kinds as text.
///
/// # Errors
/// E0502 for a number that is no kind.
pub(crate) fn as_text(rows: &RecordBatch) -> Result<RecordBatch> {
    let kinds = of_rows(rows)?;
    let width = rows.num_columns() - usize::from(kinds.is_some());
    let text: ArrayRef = match kinds {
        Some(kinds) => Arc::new(StringArray::from_iter_values(kinds.into_iter().map(RowKind::short))),
        None => Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| RowKind::Insert.short()))),
    };
    let fields = rows.schema().fields().iter().take(width).cloned().collect::<Vec<_>>();
    let schema = with_column(&Arc::new(Schema::new(fields)));
    let columns = rows.columns().iter().take(width).cloned().chain([text]).collect();
    RecordBatch::try_new(schema, columns).map_err(|e| Error::internal(e.to_string()))
}
