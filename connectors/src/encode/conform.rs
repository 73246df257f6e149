//! Rows brought into the shape of the table they are written to.

use ::arrow::array::{Array, ArrayRef, RecordBatch};
use ::arrow::compute::cast;
use ::arrow::datatypes::SchemaRef;
use qanat_proto::error::{Code, Error, Place, Result};

/// The rows with exactly `columns`: same order, types cast where they differ.
///
/// # Errors
/// E0114 for another number of columns, E0217 for a value that does not fit its column.
pub(crate) fn conform(table: &str, columns: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    if rows.schema_ref() == columns {
        return Ok(rows.clone());
    }
    let place = || Place::Named(table.to_owned());
    if rows.num_columns() != columns.fields().len() {
        let message = format!("{} columns arrive where the table has {}", rows.num_columns(), columns.fields().len());
        return Err(Error::new(Code::SinkSchema, message).at(place()));
    }
    let cells = rows.columns().iter().zip(columns.fields()).map(|(column, field)| {
        let refuse = |why: &str| {
            Error::new(Code::Encode, format!("column `{}` cannot be written: {why}", field.name())).at(place())
        };
        let column = if column.data_type() == field.data_type() {
            column.clone()
        } else {
            cast(column, field.data_type()).map_err(|e| refuse(&e.to_string()))?
        };
        Ok(column)
    });
    let cells = cells.collect::<Result<Vec<_>>>()?;
    refuse_nulls(table, columns, &cells)?;
    RecordBatch::try_new(columns.clone(), cells).map_err(|e| Error::internal(e.to_string()))
}

/// # Errors
/// E0217 for a NULL in a column that is NOT NULL.
pub(crate) fn refuse_nulls(table: &str, columns: &SchemaRef, cells: &[ArrayRef]) -> Result<()> {
    for (field, column) in columns.fields().iter().zip(cells) {
        if !field.is_nullable() && column.logical_null_count() > 0 {
            let message = format!("column `{}` cannot be written: it is NOT NULL and a row holds NULL", field.name());
            return Err(Error::new(Code::Encode, message).at(Place::Named(table.to_owned())));
        }
    }
    Ok(())
}
