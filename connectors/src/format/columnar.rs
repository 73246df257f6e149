//! What Parquet and Arrow files share: columns found by name and given their declared types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter, is_null};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use qanat_proto::error::{Code, Error, Place, Result, nearest};

use super::cast::{can_conform, conform};
use super::reader::{BadRecord, DecodeRequest, Policy, stands_twice, type_name};
use super::stream::FileInput;

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
                let hint = format!("declare it as {} and CAST it in the query", type_name(there));
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
                Err(error) => {
                    // Some value does not fit: a lenient cast makes it NULL and shows which.
                    let lenient = cast(array, field.data_type()).map_err(|_| bad_value(field.name(), &error))?;
                    let before = is_null(array).map_err(|e| internal(&e))?;
                    for row in (0..lenient.len()).filter(|row| lenient.is_null(*row) && !before.value(*row)) {
                        if self.policy != Policy::Null {
                            let reason =
                                format!("column `{}`: value is not {}", field.name(), type_name(field.data_type()));
                            bad.push(BadRecord::new(row, reason, b""));
                        }
                    }
                    lenient
                }
            };
            if !field.is_nullable() && array.null_count() > 0 {
                for row in (0..array.len()).filter(|row| array.is_null(*row)) {
                    let reason = format!("column `{}` is NULL but declared NOT NULL", field.name());
                    bad.push(BadRecord::new(row, reason, b""));
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
