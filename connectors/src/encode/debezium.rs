//! Changes as Debezium tells them: `{"before": …, "after": …, "op": …}`, one to a line.
//!
//! As in Flink a row that is there is `c` and a row that is gone `d`; what replaces a row is one of each. So every reader
//! of the format comes to the same table, those that want a row as it was before it is replaced too.

use std::sync::Arc;

use ::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray};
use ::arrow::buffer::{BooleanBuffer, NullBuffer};
use ::arrow::compute::interleave;
use ::arrow::datatypes::{Fields, Schema, SchemaRef};
use qanat_proto::changelog::{RowKind, envelope};
use qanat_proto::error::{Code, Error, Result};

use super::compress::CompressedWriter;
use super::json::{JsonEncoder, JsonOptions};
use super::{Encoder, Target};

/// What is done to a row, as the format says it.
const CREATE: &str = "c";
const DELETE: &str = "d";

pub(crate) struct DebeziumEncoder {
    rows: JsonEncoder,
    columns: Fields,
    records: SchemaRef,
}

impl DebeziumEncoder {
    /// `columns`: those of the rows, then their kinds as text.
    pub(crate) fn new(options: &JsonOptions, columns: &SchemaRef, writer: CompressedWriter) -> Result<Self> {
        let (_, columns) = columns.fields().split_last().ok_or_else(no_kinds)?;
        let columns: Fields = columns.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let records = Arc::new(Schema::new(envelope(&columns, false)));
        Ok(Self { rows: JsonEncoder::new(options, &records, writer), columns, records })
    }
}

impl Encoder for DebeziumEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let (kinds, columns) = rows.columns().split_last().ok_or_else(no_kinds)?;
        let kinds = kinds.as_string_opt::<i32>().ok_or_else(no_kinds)?;
        let is_there: BooleanBuffer = (0..kinds.len()).map(|row| kinds.value(row).starts_with('+')).collect();
        let row = |is_filled: BooleanBuffer| -> ArrayRef {
            Arc::new(StructArray::new(self.columns.clone(), columns.to_vec(), Some(NullBuffer::new(is_filled))))
        };
        let ops = is_there.iter().map(|is_there| if is_there { CREATE } else { DELETE });
        let ops: ArrayRef = Arc::new(StringArray::from_iter_values(ops));
        let fields = vec![row(!&is_there), row(is_there), ops];
        let records = RecordBatch::try_new(Arc::clone(&self.records), fields);
        self.rows.write(&records.map_err(|e| Error::internal(e.to_string()))?)
    }

    fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Target>> {
        Box::new(self.rows).finish()
    }
}

/// The rows that records came from, of the columns `rows`, of which the kinds are the last.
///
/// # Errors
/// E0208 for what this encoder would not have written.
pub(crate) fn rows_of(records: &RecordBatch, rows: &SchemaRef) -> Result<RecordBatch> {
    let damaged = |what: &str| Error::new(Code::CorruptInput, format!("a record of changes {what}"));
    let [before, after, op] = records.columns() else { return Err(damaged("has other fields")) };
    let (Some(before), Some(after), Some(op)) =
        (before.as_struct_opt(), after.as_struct_opt(), op.as_string_opt::<i32>())
    else {
        return Err(damaged("has fields of other types"));
    };
    let mut kinds = Vec::with_capacity(records.num_rows());
    for record in 0..records.num_rows() {
        let op = if op.is_valid(record) { op.value(record) } else { "" };
        kinds.push(match (op, before.is_valid(record), after.is_valid(record)) {
            (CREATE, false, true) => RowKind::Insert,
            (DELETE, true, false) => RowKind::Delete,
            _ => return Err(damaged("tells neither of a new row nor of one that is gone")),
        });
    }
    let places: Vec<(usize, usize)> =
        kinds.iter().enumerate().map(|(record, kind)| (usize::from(kind.is_added()), record)).collect();
    let columns = before.columns().iter().zip(after.columns());
    let columns = columns.map(|(before, after)| {
        interleave(&[before.as_ref(), after.as_ref()], &places).map_err(|e| damaged(&e.to_string()))
    });
    let mut columns = columns.collect::<Result<Vec<_>>>()?;
    columns.push(Arc::new(StringArray::from_iter_values(kinds.into_iter().map(RowKind::short))));
    RecordBatch::try_new(Arc::clone(rows), columns).map_err(|e| damaged(&e.to_string()))
}

fn no_kinds() -> Error {
    Error::internal("rows of a log of changes without kinds")
}
