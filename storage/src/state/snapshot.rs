//! From the changes of a table to the bytes of one state file.
//!
//! Called by [`super::Table`] in the background after a barrier.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::KeyGroupRange;

use super::file::{FileWriter, SectionKind, encode_error};
use super::{TableDelta, TableSpec};

/// A state file before it is stored.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: u64,
    /// As in [`qanat_proto::manifest::StateFile`]. A file without rows of its own expires at once.
    pub(crate) expires_after: Option<i64>,
}

impl TableSpec {
    /// Schema of the rows that name deleted keys: column 0 and the key columns.
    pub fn delete_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.schema.fields().iter().take(self.key_columns + 1).cloned().collect::<Vec<_>>()))
    }

    /// The key group and the key of rows.
    pub(super) fn keys_of(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        rows.project(&(0..=self.key_columns).collect::<Vec<_>>()).map_err(|e| encode_error(&e))
    }

    /// The time of each row, if the table has one.
    pub(super) fn times<'a>(&self, rows: &'a RecordBatch) -> Result<Option<&'a [i64]>> {
        let Some(index) = self.time_column else { return Ok(None) };
        let column = rows.columns().get(index).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let column = column
            .filter(|column| arrow::array::Array::null_count(*column) == 0)
            .ok_or_else(|| Error::internal(format!("column {index} of state table `{}` is no time", self.name)))?;
        Ok(Some(column.values()))
    }
}

/// Encodes a delta. `closed` is the table's closed time after it. Upserts that it kills become deletes:
/// their keys are gone, whatever older versions say.
pub(super) fn encode_delta(
    spec: &TableSpec,
    object: &str,
    range: KeyGroupRange,
    delta: &TableDelta,
    closed: Option<i64>,
) -> Result<Encoded> {
    let mut upserts = Vec::with_capacity(delta.upserts.len());
    let mut deletes = delta.deletes.clone();
    for batch in &delta.upserts {
        let dead: Option<BooleanArray> = match (spec.times(batch)?, closed) {
            (Some(times), Some(closed)) if times.iter().any(|time| *time <= closed) => {
                Some(times.iter().map(|time| Some(*time <= closed)).collect())
            }
            _ => None,
        };
        let Some(dead) = dead else {
            upserts.push(batch.clone());
            continue;
        };
        let alive = not(&dead).map_err(|e| encode_error(&e))?;
        upserts.push(filter_record_batch(batch, &alive).map_err(|e| encode_error(&e))?);
        if !spec.append_only {
            let gone = filter_record_batch(batch, &dead).map_err(|e| encode_error(&e))?;
            deletes.push(spec.keys_of(&gone)?);
        }
    }
    encode(spec, object, range, &upserts, &deletes, closed.map(|time| (range, time)).into_iter().collect())
}

/// Encodes rows and deleted keys as they are.
pub(super) fn encode(
    spec: &TableSpec,
    object: &str,
    range: KeyGroupRange,
    upserts: &[RecordBatch],
    deletes: &[RecordBatch],
    closed: Vec<(KeyGroupRange, i64)>,
) -> Result<Encoded> {
    let mut expires_after = spec.time_column.map(|_| i64::MIN);
    for batch in upserts {
        if let Some(times) = spec.times(batch)? {
            expires_after = expires_after.max(times.iter().copied().max());
        }
    }
    let mut writer = FileWriter::new(object, &spec.name, closed);
    writer.add(SectionKind::Upserts, &spec.schema, upserts, range)?;
    writer.add(SectionKind::Deletes, &spec.delete_schema(), deletes, range)?;
    let (bytes, rows) = writer.finish()?;
    Ok(Encoded { bytes, rows, expires_after })
}
