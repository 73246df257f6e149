//! What the decoders of all formats share: how a reader is asked, and what it answers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use qanat_proto::error::Result;
use qanat_proto::limits::{DEAD_LETTER_BYTES_MAX, RECORD_BYTES_MAX};
use serde_json::Value;

use super::cast::digits;
use crate::contract::StopFlag;
use crate::options::Options;
use crate::predicate::PushedFilter;

/// Reads one split of one file. Positions are those of the format.
pub trait FormatReader: Send {
    /// As [`crate::contract::SplitReader::next`].
    fn next(&mut self, stop: &StopFlag) -> Result<Read>;
}

pub enum Read {
    Chunk(Chunk),
    Pending,
    End,
}

/// Decoded records in a row.
pub struct Chunk {
    /// The projected columns of the file; bad records are not in it.
    pub rows: RecordBatch,
    /// Number of the first record within the split, 0-based.
    pub first: u64,
    /// Good and bad records: `rows.num_rows() + bad.len()`.
    pub records: u64,
    /// In order of `record`.
    pub bad: Vec<BadRecord>,
    /// Raw bytes consumed, after decompression.
    pub bytes: u64,
    /// Resuming here gives exactly the records after this chunk.
    pub position: Value,
    /// Records that the filter does not want, for the watermark: of the projected columns only those that it
    /// reads are filled. `rows` is empty then.
    pub hidden: Option<RecordBatch>,
}

/// A record that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Index among the records of its chunk.
    pub record: usize,
    pub reason: String,
    /// At most `DEAD_LETTER_BYTES_MAX`.
    pub raw: Vec<u8>,
    pub is_too_large: bool,
}

impl BadRecord {
    pub fn new(record: usize, mut reason: String, raw: &[u8]) -> Self {
        let kept = raw.get(..DEAD_LETTER_BYTES_MAX).unwrap_or(raw);
        if kept.len() < raw.len() {
            reason.push_str(&format!(" (the first {} of {} bytes are kept)", kept.len(), raw.len()));
        }
        Self { record, reason, raw: kept.to_vec(), is_too_large: false }
    }
}

/// The bad record for one that passed `RECORD_BYTES_MAX`; `raw` is its beginning.
pub fn too_large(record: usize, raw: Vec<u8>) -> BadRecord {
    let reason = format!("record is larger than {} bytes (its first {} bytes are kept)", RECORD_BYTES_MAX, raw.len());
    BadRecord { record, reason, raw, is_too_large: true }
}

/// What becomes of records that cannot be decoded: option `dead-letter.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    DeadLetter,
    Fail,
    /// A field that cannot be decoded is NULL; a record without fields is still a dead letter.
    Null,
}

impl Policy {
    /// `<format>.ignore-parse-errors` = `true` means `null`.
    ///
    /// # Errors
    /// E0203 if `dead-letter.policy` says something else.
    pub fn of(options: &Options<'_>, format: &str) -> Result<Self> {
        let policy = match options.text("dead-letter.policy").unwrap_or_default().to_ascii_lowercase().as_str() {
            "fail" => Self::Fail,
            "null" => Self::Null,
            _ => Self::DeadLetter,
        };
        let ignores = format!("{format}.ignore-parse-errors");
        if options.boolean(&ignores) != Some(true) {
            return Ok(policy);
        }
        if options.is_set("dead-letter.policy") && policy != Self::Null {
            return Err(options.bad(&ignores, "'dead-letter.policy' says otherwise"));
        }
        Ok(Self::Null)
    }
}

/// What a format's reader is told about the rows.
#[derive(Clone, Debug)]
pub struct DecodeRequest {
    /// Columns of the files in declaration order (partition columns are not in files).
    pub columns: SchemaRef,
    /// Indexes into `columns`, in output order.
    pub projection: Vec<usize>,
    /// As [`crate::contract::ReadRequest::unread`].
    pub unread: Vec<Vec<String>>,
    pub batch_rows: usize,
    pub policy: Policy,
    /// For messages.
    pub origin: String,
    /// Over the projected columns. Records that it does not let pass need not be decoded.
    pub filter: Option<PushedFilter>,
}

impl DecodeRequest {
    /// The schema of the rows that the reader gives.
    pub fn output(&self) -> SchemaRef {
        let fields: Vec<_> = self.projection.iter().filter_map(|i| self.columns.fields().get(*i).cloned()).collect();
        Arc::new(arrow::datatypes::Schema::new(fields))
    }
}

/// Whether names leave open which column is meant.
pub(super) fn stands_twice(names: &[impl AsRef<str>], name: &str) -> bool {
    let exact = names.iter().filter(|n| n.as_ref() == name).count();
    exact > 1 || (exact == 0 && names.iter().filter(|n| n.as_ref().eq_ignore_ascii_case(name)).count() > 1)
}

/// What SQL calls a type, for messages.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => format!("DECIMAL({p}, {s})"),
        DataType::Timestamp(unit, zone) => {
            let name = if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" };
            format!("{name}({})", digits(*unit))
        }
        DataType::List(field) | DataType::LargeList(field) => format!("ARRAY<{}>", type_name(field.data_type())),
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| format!("{} {}", field.name(), type_name(field.data_type()));
            format!("ROW<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => {
                let types: Vec<String> = pair.iter().map(|field| type_name(field.data_type())).collect();
                format!("MAP<{}>", types.join(", "))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}
