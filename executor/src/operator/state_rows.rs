//! Rows of state tables: key group first, as `TableSpec` wants them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use qanat_executor_core::partition::{KeyHasher, with_key_group};
use qanat_proto::error::Result;

use super::evaluate::internal;

/// Makes rows of one state table.
pub(crate) struct StateRows {
    schema: SchemaRef,
    key_groups: u16,
    hasher: KeyHasher,
}

impl StateRows {
    /// `fields`: the table's columns behind the key group.
    pub(crate) fn new(fields: Vec<Field>, key_groups: u16) -> Self {
        let group = Field::new("key_group", DataType::UInt16, false);
        let schema = Arc::new(Schema::new(std::iter::once(group).chain(fields).collect::<Vec<_>>()));
        Self { schema, key_groups, hasher: KeyHasher::default() }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows whose key group is that of `partition`, the columns by which the operator's input was
    /// spread; group 0 if it was not.
    pub(crate) fn batch(&mut self, partition: &[ArrayRef], columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let groups = self.groups(partition, rows)?;
        with_key_group(&self.schema, groups, columns)
    }

    /// Keys alone, for deletes.
    pub(crate) fn keys(&mut self, partition: &[ArrayRef], keys: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let groups = self.groups(partition, rows)?;
        let width: Vec<usize> = (0..=keys.len()).collect();
        let schema = Arc::new(self.schema.project(&width).map_err(internal)?);
        with_key_group(&schema, groups, keys)
    }

    /// The key group of each row.
    fn groups(&mut self, partition: &[ArrayRef], rows: usize) -> Result<UInt16Array> {
        if partition.is_empty() {
            return Ok(UInt16Array::from_value(0, rows));
        }
        self.hasher.key_groups(partition, rows, self.key_groups)
    }
}
