//! What Parquet and Arrow files share: columns found by name and given their declared types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use qanat_proto::error::{Code, Error, Place, Result, nearest};

use super::cast::{can_conform, conform};
use super::reader::{BadRecord, DecodeRequest, Policy, stands_twice, type_name};
use super::stream::FileInput;
use crate::encode::json::rows_as_text;

/// How a file's columns become the projected ones.
pub(super) struct Layout {
    /// Indexes of the file's columns to read: ascending, each once.
    pub(super) read: Vec<usize>,
    /// For each output column, the index into `read`.
    from: Vec<usize>,
    output: SchemaRef,
    policy: Policy,
}

impl Layout {
    /// # Errors
    /// E0209 for a declared column that the file lacks, has twice, or has with a type that does not fit.
    pub(super) fn new(file: &Schema, request: &DecodeRequest) -> Result<Self> {
        let place = || Place::Origin { origin: request.origin.clone(), offset: None, unit: String::new() };
        let names: Vec<&str> = file.fields().iter().map(|f| f.name().as_str()).collect();
        let mut found = Vec::with_capacity(request.columns.fields().len());
        for field in request.columns.fields() {
            let exact = names.iter().position(|n| n == field.name());
            let Some(at) = exact.or_else(|| names.iter().position(|n| n.eq_ignore_ascii_case(field.name()))) else {
                let message = format!("`{}` lacks column `{}`", request.origin, field.name());
                let error = Error::new(Code::HeaderMismatch, message).at(place());
                return Err(match nearest(field.name(), names.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!("the file has: {}", names.join(", "))),
                });
            };
            if stands_twice(&names, field.name()) {
                let message = format!("`{}` has column `{}` twice", request.origin, field.name());
                return Err(Error::new(Code::HeaderMismatch, message).at(place()));
            }
            let there = file.field(at).data_type();
            if !can_conform(there, field.data_type()) {
                let message = format!(
                    "column `{}` of `{}` is {}, but {} in the table",
                    field.name(),
                    request.origin,
                    type_name(there),
                    type_name(field.data_type())
                );
                let hint = match there {
                    // What has more digits than a DECIMAL is a bad value then.
                    DataType::Decimal256(38.., scale) => format!("declare it as DECIMAL(38, {scale})"),
                    DataType::Duration(_) | DataType::Interval(_) | DataType::Union(..) => {
                        "no type of a table holds it: leave the column away".to_owned()
                    }
                    _ => format!("declare it as {} and CAST it in the query", type_name(there)),
                };
                return Err(Error::new(Code::HeaderMismatch, message).at(place()).hint(hint));
            }
            found.push(at);
        }
        let wanted: Vec<usize> = request.projection.iter().filter_map(|i| found.get(*i).copied()).collect();
        let mut read = wanted.clone();
        read.sort_unstable();
        read.dedup();
        let from = wanted.iter().filter_map(|column| read.binary_search(column).ok()).collect();
        Ok(Self { read, from, output: request.output(), policy: request.policy })
    }

    /// For each projected column, the index of the file's column.
    pub(super) fn file_columns(&self) -> impl Iterator<Item = usize> {
        self.from.iter().filter_map(|from| self.read.get(*from).copied())
    }

    /// The projected columns of a batch that holds the columns of `read`. Rows with values that do not
    /// fit are bad.
    pub(super) fn rows(&self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<BadRecord>)> {
        let mut bad: Vec<BadRecord> = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.from.len());
        for (from, field) in self.from.iter().zip(self.output.fields()) {
            let array = batch.column(*from);
            let array = match conform(array, field.data_type()) {
                Ok(array) => array,
                Err(_) => {
                    let (array, misfits) =
                        fitting(array, field.data_type()).map_err(|e| bad_value(field.name(), &e))?;
                    for row in misfits.into_iter().filter(|_| self.policy != Policy::Null) {
                        let reason =
                            format!("column `{}`: value is not {}", field.name(), type_name(field.data_type()));
                        bad.push(BadRecord::new(row, reason, &row_text(batch, row)));
                    }
                    array
                }
            };
            if !field.is_nullable() && array.null_count() > 0 {
                for row in (0..array.len()).filter(|row| array.is_null(*row)) {
                    let reason = format!("column `{}` is NULL but declared NOT NULL", field.name());
                    bad.push(BadRecord::new(row, reason, &row_text(batch, row)));
                }
            }
            arrays.push(array);
        }
        bad.sort_by_key(|b| b.record);
        bad.dedup_by_key(|b| b.record);
        if !bad.is_empty() {
            let mut keep = vec![true; batch.num_rows()];
            for record in &bad {
                if let Some(flag) = keep.get_mut(record.record) {
                    *flag = false;
                }
            }
            let keep = BooleanArray::from(keep);
            arrays = arrays.iter().map(|a| filter(a, &keep)).collect::<Result<_, _>>().map_err(|e| internal(&e))?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows() - bad.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.output), arrays, &options);
        Ok((rows.map_err(|e| internal(&e))?, bad))
    }
}

/// `array` as `wanted`, with NULL in the rows that do not fit, at whatever depth; and those rows.
fn fitting(array: &ArrayRef, wanted: &DataType) -> Result<(ArrayRef, Vec<usize>), ArrowError> {
    let mut misfits = Vec::new();
    let mut parts = Vec::new();
    halve(array, wanted, 0, &mut parts, &mut misfits)?;
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok((concat(&parts)?, misfits))
}

/// Conforms what fits in one piece, and halves what does not until the rows that do not fit stand alone.
fn halve(
    array: &ArrayRef,
    wanted: &DataType,
    first: usize,
    parts: &mut Vec<ArrayRef>,
    misfits: &mut Vec<usize>,
) -> Result<(), ArrowError> {
    match conform(array, wanted) {
        Ok(part) => parts.push(part),
        Err(_) if array.len() == 1 => {
            misfits.push(first);
            parts.push(new_null_array(wanted, 1));
        }
        Err(error) if array.is_empty() => return Err(error),
        Err(_) => {
            let middle = array.len() / 2;
            for (from, to) in [(0, middle), (middle, array.len())] {
                // A slice of a list would still have the elements of all rows.
                let rows: UInt64Array = (from as u64..to as u64).collect();
                halve(&take(array, &rows, None)?, wanted, first + from, parts, misfits)?;
            }
        }
    }
    Ok(())
}

/// A record has no bytes of its own here: its columns as JSON, as far as they are read.
fn row_text(batch: &RecordBatch, row: usize) -> Vec<u8> {
    let text = rows_as_text(&batch.slice(row, 1)).unwrap_or_default();
    text.into_iter().next().unwrap_or_default().into_bytes()
}

fn bad_value(column: &str, error: &ArrowError) -> Error {
    Error::new(Code::BadRecord, format!("column `{column}`: {error}"))
}

fn internal(error: &ArrowError) -> Error {
    Error::internal(format!("could not build decoded columns: {error}"))
}

/// E0208 for a file that its reader refuses; errors of the operating system stay what they are.
pub(super) fn corrupt(input: &FileInput, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.raw_os_error().is_some()
        {
            return input.io_error("read", io);
        }
        cause = inner.source();
    }
    let text = error.to_string();
    let codec = text.split_once("Disabled feature at compile time: ").map(|(_, codec)| codec);
    let codec = codec.or_else(|| text.split_once("The codec type ")?.1.strip_suffix(" is not supported yet"));
    if let Some(codec) = codec {
        let message = format!("`{}` is compressed with {}, which is not supported", input.origin, codec.to_lowercase());
        let hint = "write the file with zstd, snappy, gzip or lz4, or uncompressed";
        return Error::new(Code::CorruptInput, message).hint(hint).at(input.place());
    }
    Error::new(Code::CorruptInput, format!("`{}` is damaged or not of its format: {text}", input.origin))
        .at(input.place())
}
