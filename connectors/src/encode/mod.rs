//! Rows to bytes: CSV, JSON lines, Parquet and Arrow IPC files, plain or compressed.
//!
//! The file sink opens one [`Encoder`] per staged file; the side tables and `print` use the row text of
//! [`json`] and [`text`]. What an encoder writes, [`crate::filesystem::reread`] reads back to equal rows:
//! `audit` stands on that, so nothing here may lose a value (a null and an empty text stay different in
//! CSV, a NaN stays a NaN in JSON). A value that cannot be written is E0217, never something near it.

pub mod arrow;
pub mod compress;
pub(crate) mod conform;
pub mod csv;
pub(crate) mod debezium;
pub mod json;
pub(crate) mod kinds;
pub mod parquet;
#[cfg(test)]
mod tests;
pub mod text;
mod zone;

use std::io::Write;

use crate::format::DEBEZIUM;
use crate::format::reader::type_name;
use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{DataType, SchemaRef};
use ::arrow::error::ArrowError;
use qanat_proto::connector::{OptionKind, OptionSpec, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result};
use serde::{Deserialize, Serialize};

pub use compress::Compression;
pub(crate) use conform::conform;
pub(crate) use zone::{utc_rows, utc_schema};

/// Where an encoder puts its bytes, with the count that rolling by size goes by.
pub trait Target: Write + Send {
    /// Bytes written so far.
    fn written(&self) -> u64;

    /// Hands everything to the file (no sync) and tells its length and CRC32C.
    fn close(self: Box<Self>) -> std::io::Result<(u64, u32)>;
}

/// Writes batches of one schema to one file.
pub trait Encoder: Send {
    /// # Errors
    /// E0217 for a value that the format cannot hold, the code of the disk for a failed write.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Bytes the file has by now, those still in memory estimated.
    fn bytes(&self) -> u64;

    /// Bytes held in memory until `flush` or `finish`.
    fn buffered(&self) -> usize {
        0
    }

    /// Moves what is buffered to the target where the format can be cut (a Parquet row group).
    ///
    /// # Errors
    /// The code of the disk for a failed write.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes what ends the file and gives the target back. Nothing is synced.
    ///
    /// # Errors
    /// The code of the disk for a failed write.
    fn finish(self: Box<Self>) -> Result<Box<dyn Target>>;
}

/// How rows of one table become the bytes of a file. Kept in commit records, so that `audit` reads
/// files by what they were written with and not by what the script says today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EncodeSpec {
    Csv {
        #[serde(flatten)]
        options: csv::CsvOptions,
        compression: Compression,
    },
    Json {
        #[serde(flatten)]
        options: json::JsonOptions,
        compression: Compression,
    },
    /// The last column is the kinds of the rows.
    Debezium {
        #[serde(flatten)]
        options: json::JsonOptions,
        compression: Compression,
    },
    Parquet(parquet::ParquetOptions),
    Arrow(arrow::ArrowOptions),
}

impl EncodeSpec {
    /// Reads `format`, `compression` and the format's own options of a table.
    ///
    /// # Errors
    /// E0203, E0204 or E0205 for options that do not fit.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        let Some(format) = table.option("format") else {
            return Err(Error::new(Code::MissingOption, format!("table `{}` needs the option `format`", table.name))
                .hint("formats are csv, json, parquet, arrow and debezium-json"));
        };
        // `auto` is for reading: a written file is plain unless something is asked for.
        let compression = match table.option("compression") {
            None => None,
            Some(text) if text.eq_ignore_ascii_case("auto") => None,
            Some(text) => Some(Compression::parse(text)?),
        };
        match format.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv {
                options: csv::CsvOptions::of_table(table)?,
                compression: compression.unwrap_or_default(),
            }),
            "json" => Ok(Self::Json {
                options: json::JsonOptions::of_table(table, "json")?,
                compression: compression.unwrap_or_default(),
            }),
            DEBEZIUM => Ok(Self::Debezium {
                options: json::JsonOptions::of_table(table, DEBEZIUM)?,
                compression: compression.unwrap_or_default(),
            }),
            "parquet" | "arrow" if compression.is_some_and(|c| c != Compression::None) => {
                Err(Error::new(Code::BadOption, format!("`compression` does not go with the format {format}"))
                    .at(Place::Named(format!("table {}", table.name)))
                    .hint(format!("{format} compresses inside its file: use `{format}.compression`")))
            }
            "parquet" => Ok(Self::Parquet(parquet::ParquetOptions::of_table(table)?)),
            "arrow" => Ok(Self::Arrow(arrow::ArrowOptions::of_table(table)?)),
            other => Err(Error::new(Code::BadRole, format!("the format `{other}` cannot be written"))
                .hint("formats are csv, json, parquet, arrow and debezium-json")),
        }
    }

    /// Whether the kinds of rows are told in the format: else an update is a row that is gone and one that is new.
    pub fn tells_updates(&self) -> bool {
        !matches!(self, Self::Debezium { .. })
    }

    /// The file name's ending, without the leading dot.
    pub fn extension(&self) -> String {
        match self {
            Self::Csv { compression, .. } => format!("csv{}", compression.suffix()),
            Self::Json { compression, .. } | Self::Debezium { compression, .. } => {
                format!("json{}", compression.suffix())
            }
            Self::Parquet(_) => "parquet".to_owned(),
            Self::Arrow(_) => "arrow".to_owned(),
        }
    }

    /// Checks that every column can be written and read back.
    ///
    /// # Errors
    /// E0217 naming the first column that cannot.
    pub fn check_columns(&self, columns: &SchemaRef) -> Result<()> {
        for field in columns.fields() {
            let fits = match self {
                Self::Csv { .. } => csv::is_supported(field.data_type()),
                Self::Json { .. } | Self::Debezium { .. } => json::is_supported(field.data_type()),
                Self::Parquet(_) => parquet::is_supported(field.data_type()),
                Self::Arrow(_) => true,
            };
            if !fits {
                let name = match self {
                    Self::Csv { .. } => "csv",
                    Self::Json { .. } => "json",
                    Self::Debezium { .. } => DEBEZIUM,
                    Self::Parquet(_) => "parquet",
                    Self::Arrow(_) => "arrow",
                };
                let message = format!(
                    "column `{}` of type {} cannot be written as {name}",
                    field.name(),
                    type_name(field.data_type())
                );
                return Err(Error::new(Code::Encode, message).hint(if is_nested(field.data_type()) {
                    "use json, parquet or arrow for nested columns, or cast the column to STRING"
                } else {
                    "cast the column to another type"
                }));
            }
        }
        Ok(())
    }

    /// Starts a file.
    ///
    /// # Errors
    /// E0217 or the code of the disk.
    pub fn encoder(&self, columns: &SchemaRef, target: Box<dyn Target>) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Self::Csv { options, compression } => {
                Box::new(csv::CsvEncoder::new(options, columns, compression.writer(target)?)?)
            }
            Self::Json { options, compression } => {
                Box::new(json::JsonEncoder::new(options, columns, compression.writer(target)?))
            }
            Self::Debezium { options, compression } => {
                Box::new(debezium::DebeziumEncoder::new(options, columns, compression.writer(target)?)?)
            }
            Self::Parquet(options) => Box::new(parquet::ParquetEncoder::new(*options, columns, target)?),
            Self::Arrow(options) => Box::new(arrow::ArrowEncoder::new(*options, columns, target)?),
        })
    }
}

/// Lets a format read its own options of a table whose others are checked elsewhere.
const ANY: &[OptionSpec] =
    &[OptionSpec { key: "*", kind: OptionKind::Text, default: None, required: false, doc: "Any other option." }];

/// Reads a `true`/`false` option.
pub(crate) fn boolean_option(table: &TableDescriptor, key: &str, default: bool) -> Result<bool> {
    match table.option(key) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(bad_option(key, text, "true or false")),
    }
}

pub(crate) fn bad_option(key: &str, value: &str, wanted: &str) -> Error {
    Error::new(Code::BadOption, format!("`{value}` is not a value for `{key}`")).hint(format!("it takes {wanted}"))
}

fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested()
}

/// An encoding failure of the arrow crates; a failed write inside it keeps the disk's own code.
pub(crate) fn encode_error(format: &str, error: &ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, io) => Error::io(format!("write {format} file"), io),
        other => Error::new(Code::Encode, format!("could not encode rows as {format}: {other}")),
    }
}
