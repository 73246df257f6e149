//! From decoded file columns to the rows that a source gives: partition values and metadata columns
//! put in their places.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray, UInt64Array,
    new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use qanat_proto::connector::MetadataKind;
use qanat_proto::error::{Error, Result};

use super::partition::PartitionValues;
use crate::contract::ReadRequest;
use crate::format::reader::Chunk;
use crate::predicate::Binding;

/// Where each output column comes from.
#[derive(Clone)]
pub(crate) struct Output {
    schema: SchemaRef,
    columns: Vec<Column>,
}

#[derive(Clone)]
enum Column {
    /// Index into the decoded rows, and into the columns of the files.
    File {
        decoded: usize,
        column: usize,
    },
    /// A partition column, by name.
    Partition(String),
    Metadata(MetadataKind),
    /// The same value in every row: an array of length 1.
    Constant(ArrayRef),
}

impl Output {
    /// For a request over `physical`, of which the files hold `file_columns`.
    pub(crate) fn new(physical: &Schema, file_columns: &Schema, request: &ReadRequest) -> Result<Self> {
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut columns = Vec::new();
        let mut decoded = 0;
        for index in &request.projection {
            let field = physical.fields().get(*index).ok_or_else(|| {
                Error::internal(format!("projection names column {index} of {}", physical.fields().len()))
            })?;
            columns.push(match file_columns.index_of(field.name()) {
                Ok(column) => {
                    decoded += 1;
                    Column::File { decoded: decoded - 1, column }
                }
                Err(_) => Column::Partition(field.name().clone()),
            });
            fields.push(Arc::clone(field));
        }
        for (name, kind) in &request.metadata {
            fields.push(Arc::new(Field::new(name, kind.data_type(), true)));
            columns.push(Column::Metadata(*kind));
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns })
    }

    /// The columns of the files to decode, in order.
    pub(crate) fn file_projection(&self) -> Vec<usize> {
        let columns = self.columns.iter();
        columns.filter_map(|c| if let Column::File { column, .. } = c { Some(*column) } else { None }).collect()
    }

    /// For one file: partition values, origin and the time of its last change are known.
    pub(super) fn with_constants(&self, partitions: &PartitionValues, origin: &str, modified_ms: i64) -> Result<Self> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(match column {
                Column::Partition(name) => {
                    let value = partitions.get(name);
                    let value =
                        value.ok_or_else(|| Error::internal(format!("no value of partition column `{name}`")))?;
                    Column::Constant(Arc::clone(value))
                }
                Column::Metadata(MetadataKind::Origin) => Column::Constant(Arc::new(StringArray::from(vec![origin]))),
                Column::Metadata(MetadataKind::Timestamp) => {
                    Column::Constant(Arc::new(TimestampMillisecondArray::from(vec![modified_ms])))
                }
                other => other.clone(),
            });
        }
        Ok(Self { schema: Arc::clone(&self.schema), columns })
    }

    /// For an origin that is always the same.
    pub(crate) fn with_origin(mut self, origin: &str) -> Self {
        for column in &mut self.columns {
            if matches!(column, Column::Metadata(MetadataKind::Origin)) {
                *column = Column::Constant(Arc::new(StringArray::from(vec![origin])));
            }
        }
        self
    }

    /// Whether rows are numbered.
    pub(crate) fn wants_offsets(&self) -> bool {
        self.columns.iter().any(|c| matches!(c, Column::Metadata(MetadataKind::Offset)))
    }

    /// Where an output column is found, once the file is known.
    pub(super) fn binding(&self, column: usize) -> Binding {
        match self.columns.get(column) {
            Some(Column::File { decoded, .. }) => Binding::Column(*decoded),
            Some(Column::Constant(value)) => Binding::Constant(Arc::clone(value)),
            Some(Column::Partition(_) | Column::Metadata(_)) | None => Binding::Unknown,
        }
    }

    /// The rows of a chunk whose first record is number `first_row` of its origin.
    pub(crate) fn rows(&self, chunk: &Chunk, first_row: u64, now_ms: i64) -> Result<RecordBatch> {
        let arrays = self.arrays(chunk, &chunk.rows, first_row, now_ms)?;
        batch(&self.schema, arrays, chunk.rows.num_rows())
    }

    /// The records of a chunk that only the watermark reads.
    pub(crate) fn hidden(&self, chunk: &Chunk, first_row: u64, now_ms: i64) -> Result<Option<RecordBatch>> {
        let Some(hidden) = &chunk.hidden else { return Ok(None) };
        let arrays = self.arrays(chunk, hidden, first_row, now_ms)?;
        // What is not read is NULL, whatever the table declares.
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        batch(&schema, arrays, hidden.num_rows()).map(Some)
    }

    fn arrays(&self, chunk: &Chunk, decoded_rows: &RecordBatch, first_row: u64, now_ms: i64) -> Result<Vec<ArrayRef>> {
        let count = decoded_rows.num_rows();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            arrays.push(match column {
                Column::File { decoded, .. } => Arc::clone(decoded_rows.column(*decoded)),
                Column::Constant(value) => repeat(value, count)?,
                Column::Metadata(MetadataKind::Offset) => Arc::new(offsets(chunk, first_row, count)),
                Column::Metadata(MetadataKind::IngestTime) => {
                    Arc::new(TimestampMillisecondArray::from_value(now_ms, count))
                }
                Column::Metadata(_) | Column::Partition(_) => new_null_array(field.data_type(), count),
            });
        }
        Ok(arrays)
    }
}

fn batch(schema: &SchemaRef, arrays: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|e| Error::internal(format!("could not put a source's columns together: {e}")))
}

fn repeat(value: &ArrayRef, count: usize) -> Result<ArrayRef> {
    if value.is_null(0) {
        return Ok(new_null_array(value.data_type(), count));
    }
    let indexes = UInt64Array::from_value(0, count);
    take(value, &indexes, None).map_err(|e| Error::internal(format!("could not repeat a value: {e}")))
}

/// Numbers of the good records; a chunk of hidden ones has no rows.
fn offsets(chunk: &Chunk, first_row: u64, count: usize) -> Int64Array {
    let mut bad = chunk.bad.iter().map(|b| b.record as u64).peekable();
    let rows = (0..chunk.records).filter(|record| bad.next_if_eq(record).is_none()).take(count);
    rows.map(|record| i64::try_from(first_row + record).unwrap_or(i64::MAX)).collect::<Vec<_>>().into()
}
