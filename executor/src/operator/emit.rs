//! Puts finished columns into the output as batches of the operator's schema and size.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use qanat_proto::error::{Error, Result};

use super::Output;
use super::evaluate::internal;

/// The shape of an operator's output batches.
#[derive(Clone, Debug)]
pub(crate) struct Emitter {
    pub(crate) schema: SchemaRef,
    /// Rows of a batch at most; at least 1.
    pub(crate) batch_rows: usize,
}

impl Emitter {
    pub(crate) fn new(schema: SchemaRef, batch_rows: usize) -> Self {
        Self { schema, batch_rows: batch_rows.max(1) }
    }

    /// Emits `rows` rows, cut to size. Returns how many rows that were.
    pub(crate) fn emit(&self, columns: Vec<ArrayRef>, rows: usize, out: &mut Output) -> Result<u64> {
        if rows == 0 {
            return Ok(0);
        }
        let batch = batch_of(&self.schema, columns, rows)?;
        if rows <= self.batch_rows {
            out.emit(batch);
        } else {
            for start in (0..rows).step_by(self.batch_rows) {
                out.emit(batch.slice(start, self.batch_rows.min(rows - start)));
            }
        }
        Ok(rows as u64)
    }
}

/// A batch of `schema`; columns of another type (a dictionary, another timestamp unit) are cast.
pub(crate) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    if columns.len() != schema.fields().len() {
        let (found, wanted) = (columns.len(), schema.fields().len());
        return Err(Error::internal(format!("an operator made {found} columns for a schema of {wanted}")));
    }
    let columns = columns
        .into_iter()
        .zip(schema.fields())
        .map(
            |(column, field)| {
                if column.data_type() == field.data_type() { Ok(column) } else { cast(&column, field.data_type()) }
            },
        )
        .collect::<Result<Vec<_>, _>>()
        .map_err(internal)?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(internal)
}

/// A column of `rows` equal times (ms).
pub(crate) fn constant_time(value_ms: i64, rows: usize) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_value(value_ms, rows))
}
