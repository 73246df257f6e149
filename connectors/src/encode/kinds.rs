//! The kinds of rows as users read them: a last column `row_kind` with `+I`, `-U`, `+U` or `-D`.

use std::sync::Arc;

use ::arrow::array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch, StringArray};
use ::arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use qanat_proto::changelog::{RowKind, has_kinds};
use qanat_proto::error::{Code, Error, Result};

/// Name of the column.
pub(crate) const ROW_KIND: &str = "row_kind";

pub(crate) fn field() -> Field {
    Field::new(ROW_KIND, DataType::Utf8, false)
}

/// Columns of a table, then that of the kinds.
pub(crate) fn with_column(columns: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(columns.fields().iter().cloned().chain([Arc::new(field())]).collect::<Vec<_>>()))
}

/// The kinds that a column of texts says.
///
/// # Errors
/// What stands there that is none.
pub(crate) fn of_text(column: &ArrayRef) -> std::result::Result<ArrayRef, String> {
    let texts = column.as_string_opt::<i32>().ok_or_else(|| format!("it is {}", column.data_type()))?;
    let kind = |text: Option<&str>| {
        let text = text.ok_or_else(|| "it is NULL".to_owned())?;
        let kind = RowKind::ALL.into_iter().find(|kind| kind.short() == text);
        kind.map(RowKind::code).ok_or_else(|| format!("`{text}` is no kind of a row"))
    };
    let codes = texts.iter().map(kind).collect::<std::result::Result<Vec<i8>, _>>()?;
    Ok(Arc::new(Int8Array::from(codes)))
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

/// The rows with their kinds as text. Without `tells_updates`, what a row was is gone, and what it is is new.
///
/// # Errors
/// E0502 for a number that is no kind.
pub(crate) fn as_text(rows: &RecordBatch, tells_updates: bool) -> Result<RecordBatch> {
    let told = |kind: RowKind| match kind {
        RowKind::UpdateBefore if !tells_updates => RowKind::Delete,
        RowKind::UpdateAfter if !tells_updates => RowKind::Insert,
        kind => kind,
    };
    let kinds = of_rows(rows)?;
    let width = rows.num_columns() - usize::from(kinds.is_some());
    let text: ArrayRef = match kinds {
        Some(kinds) => Arc::new(StringArray::from_iter_values(kinds.into_iter().map(|kind| told(kind).short()))),
        None => Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| RowKind::Insert.short()))),
    };
    let fields = rows.schema().fields().iter().take(width).cloned().collect::<Vec<_>>();
    let schema = with_column(&Arc::new(Schema::new(fields)));
    let columns = rows.columns().iter().take(width).cloned().chain([text]).collect();
    RecordBatch::try_new(schema, columns).map_err(|e| Error::internal(e.to_string()))
}
