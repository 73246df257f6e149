//! One door to the decoders of all formats, for connectors that read files.

use arrow::datatypes::DataType;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Place, Result};
use serde_json::{Value, json};

use super::csv::{CsvDecoder, CsvOptions};
use super::json::{JsonDecoder, JsonOptions};
use super::reader::{DecodeRequest, FormatReader, type_name};
use super::stream::{Compression, FileInput};
use super::text::{RecordDecoder, Start, TextPosition, TextReader};
use super::{arrow_ipc, parquet};
use crate::options::Options;

/// The options of a table's format, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatOptions {
    Csv(CsvOptions),
    Json(JsonOptions),
    /// Its columns are those of the records ([`qanat_proto::changelog::envelope`]), in their order.
    Debezium,
    Parquet,
    Arrow,
}

/// What of a file is to be read, and from where.
pub struct TextSplit {
    /// From and to, in the format's unit; None: all of it.
    pub part: Option<(u64, u64)>,
    /// As [`FormatOptions::start`] or a chunk gave it.
    pub position: Value,
}

impl FormatOptions {
    /// # Errors
    /// E0203 for options that contradict each other; E0204 and E0205 for a missing or unknown format.
    pub fn of(options: &Options<'_>) -> Result<Self> {
        Ok(match super::of_table(options.table(), super::NAMES)?.name {
            "csv" => Self::Csv(CsvOptions::of(options)?),
            "json" => Self::Json(JsonOptions::of(options)),
            super::DEBEZIUM => Self::Debezium,
            "parquet" => Self::Parquet,
            _ => Self::Arrow,
        })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Json(_) => "json",
            Self::Debezium => super::DEBEZIUM,
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Whether the format can hold a column of this type.
    pub fn can_decode(&self, data_type: &DataType) -> bool {
        match self {
            Self::Csv(_) => super::csv::can_decode(data_type),
            Self::Json(_) | Self::Debezium => super::json::can_decode(data_type),
            Self::Parquet | Self::Arrow => true,
        }
    }

    /// Refuses columns that the format cannot hold. Partition columns are not in files: any type that
    /// CSV could hold will do.
    ///
    /// # Errors
    /// E0205, naming the column.
    pub fn check_columns(&self, table: &TableDescriptor) -> Result<()> {
        for field in table.physical.fields() {
            let is_partition = table.partitioned_by.contains(field.name());
            let (is_good, holder) = if is_partition {
                (super::csv::can_decode(field.data_type()), "a folder name")
            } else {
                (self.can_decode(field.data_type()), self.name())
            };
            if !is_good {
                let of_type = type_name(field.data_type());
                let message = format!("column `{}`: {holder} cannot hold a value of type {of_type}", field.name());
                return Err(Error::new(Code::BadRole, message).at(Place::Named(table.name.clone())));
            }
        }
        Ok(())
    }

    /// How a text format cuts records. None: not a text format.
    pub fn record_decoder(&self, request: DecodeRequest) -> Option<Box<dyn RecordDecoder>> {
        match self {
            Self::Csv(options) => Some(Box::new(CsvDecoder::new(options.clone(), request))),
            Self::Json(options) => Some(Box::new(JsonDecoder::new(*options, request))),
            Self::Debezium => Some(Box::new(JsonDecoder::new(JsonOptions::default(), request))),
            Self::Parquet | Self::Arrow => None,
        }
    }

    /// The parts into which a file of `length` bytes may be cut: empty where that is not safe.
    pub fn parts(&self, input: &FileInput, length: u64, part_bytes: u64) -> Result<Vec<(u64, u64)>> {
        match self {
            Self::Csv(options) if options.multiline => Ok(Vec::new()),
            Self::Csv(_) | Self::Json(_) => {
                let count = length.div_ceil(part_bytes);
                Ok((0..count).map(|i| (i * part_bytes, ((i + 1) * part_bytes).min(length))).collect())
            }
            Self::Parquet => parquet::parts(input, part_bytes),
            // Changes are read in their order.
            Self::Debezium | Self::Arrow => Ok(Vec::new()),
        }
    }

    /// The position before the first record of a part that begins at `from`.
    pub fn start(&self, from: Option<u64>) -> Value {
        match self {
            Self::Csv(_) | Self::Json(_) | Self::Debezium => {
                json!(TextPosition { byte: from.unwrap_or(0), ..TextPosition::default() })
            }
            Self::Parquet => json!(parquet::Position::default()),
            Self::Arrow => json!(arrow_ipc::Position::default()),
        }
    }

    /// Records of the file before unit `from`, where the format knows without reading them.
    pub fn rows_before(&self, input: &FileInput, from: u64) -> Result<Option<u64>> {
        match self {
            Self::Parquet => parquet::rows_before(input, from).map(Some),
            Self::Csv(_) | Self::Json(_) | Self::Debezium | Self::Arrow => Ok(None),
        }
    }

    /// Whether a file of the format may grow while it is read.
    pub fn can_grow(&self) -> bool {
        matches!(self, Self::Csv(_) | Self::Json(_) | Self::Debezium)
    }

    /// Opens a file, or a part of it.
    pub fn open(&self, input: &FileInput, split: &TextSplit, request: DecodeRequest) -> Result<Box<dyn FormatReader>> {
        match self {
            Self::Parquet => parquet::open(input, split.part, parse(&split.position)?, request),
            Self::Arrow => arrow_ipc::open(input, parse(&split.position)?, request),
            Self::Csv(_) | Self::Json(_) | Self::Debezium => {
                let mut position: TextPosition = parse(&split.position)?;
                let is_plain = input.compression == Compression::None;
                let from = split.part.map_or(0, |(from, _)| from);
                if position.byte == from {
                    (position.since, position.crc) = (from, Some(0));
                } else if let Some(crc) = position.crc.filter(|_| is_plain) {
                    input.check(input.open()?, position.since, position.byte, crc)?;
                }
                let decoder = self.record_decoder(request).ok_or_else(|| Error::internal("not a text format"))?;
                let start = if position.byte == 0 {
                    Start::FileStart
                } else if position.byte == from {
                    Start::Range(input.stream(0, None)?)
                } else {
                    Start::Record(input.stream(0, None)?)
                };
                let stream = input.stream(position.byte, position.crc)?;
                let end = split.part.map(|(_, to)| to);
                let reader = TextReader::new(stream, decoder, start, position, end);
                Ok(Box::new(if is_plain { reader.windowed() } else { reader }))
            }
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(position: &Value) -> Result<T> {
    serde_json::from_value(position.clone()).map_err(|e| Error::internal(format!("bad position {position}: {e}")))
}
