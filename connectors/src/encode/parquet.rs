//! Parquet, through the parquet crate's arrow writer.

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{DataType, SchemaRef};
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression as Codec, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::{Encoder, Target, bad_option, encode_error};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParquetOptions {
    /// `parquet.compression`.
    pub compression: ParquetCompression,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParquetCompression {
    Uncompressed,
    /// What Flink and most writers default to: every reader has it.
    #[default]
    Snappy,
    Zstd,
}

impl ParquetOptions {
    /// # Errors
    /// E0203 for another codec.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        const KEY: &str = "parquet.compression";
        let compression = match table.option(KEY).map(str::to_ascii_lowercase).as_deref() {
            None => ParquetCompression::default(),
            Some("none" | "uncompressed") => ParquetCompression::Uncompressed,
            Some("snappy") => ParquetCompression::Snappy,
            Some("zstd") => ParquetCompression::Zstd,
            Some(text) => return Err(bad_option(KEY, text, "none, snappy or zstd")),
        };
        Ok(Self { compression })
    }
}

/// A row group is written out when it holds this much in memory: large enough to scan well, small
/// enough that a subtask with several open files stays within bounds.
const ROW_GROUP_BYTES: usize = 32 << 20;

pub(crate) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) | DataType::Union(_, _) => false,
        // Parquet cannot hold a struct without fields.
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|f| is_supported(f.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            is_supported(field.data_type())
        }
        _ => true,
    }
}

pub(crate) struct ParquetEncoder {
    writer: ArrowWriter<Box<dyn Target>>,
}

impl ParquetEncoder {
    pub(crate) fn new(options: ParquetOptions, columns: &SchemaRef, target: Box<dyn Target>) -> Result<Self> {
        let codec = match options.compression {
            ParquetCompression::Uncompressed => Codec::UNCOMPRESSED,
            ParquetCompression::Snappy => Codec::SNAPPY,
            ParquetCompression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        };
        let properties = WriterProperties::builder().set_compression(codec).set_created_by("qanat".to_owned()).build();
        let writer = ArrowWriter::try_new(target, columns.clone(), Some(properties)).map_err(|e| parquet_error(&e))?;
        Ok(Self { writer })
    }
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).map_err(|e| parquet_error(&e))?;
        if self.writer.memory_size() >= ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64 + self.writer.in_progress_size() as u64
    }

    fn buffered(&self) -> usize {
        self.writer.memory_size()
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| parquet_error(&e))
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Target>> {
        self.writer.into_inner().map_err(|e| parquet_error(&e))
    }
}

/// A failed write inside keeps the code of the disk.
fn parquet_error(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast_ref::<std::io::Error>() {
            Some(io) => Error::io("write parquet file", io),
            None => Error::new(Code::Encode, format!("could not encode rows as parquet: {inner}")),
        },
        ParquetError::ArrowError(_) | ParquetError::General(_) => {
            Error::new(Code::Encode, format!("could not encode rows as parquet: {error}"))
        }
        other => encode_error("parquet", &::arrow::error::ArrowError::ParquetError(other.to_string())),
    }
}
