//! Arrow IPC files (`.arrow`, the random-access form), optionally with compressed buffers.

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use ::arrow::ipc::CompressionType;
use ::arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::Result;
use serde::{Deserialize, Serialize};

use super::{Encoder, Target, bad_option, encode_error};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrowOptions {
    /// `arrow.compression`.
    pub compression: ArrowCompression,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrowCompression {
    #[default]
    None,
    Lz4,
    Zstd,
}

impl ArrowOptions {
    /// # Errors
    /// E0203 for another codec.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        const KEY: &str = "arrow.compression";
        let compression = match table.option(KEY).map(str::to_ascii_lowercase).as_deref() {
            None | Some("none") => ArrowCompression::None,
            Some("lz4") => ArrowCompression::Lz4,
            Some("zstd") => ArrowCompression::Zstd,
            Some(text) => return Err(bad_option(KEY, text, "none, lz4 or zstd")),
        };
        Ok(Self { compression })
    }
}

pub(crate) struct ArrowEncoder {
    writer: FileWriter<Box<dyn Target>>,
}

impl ArrowEncoder {
    pub(crate) fn new(options: ArrowOptions, columns: &SchemaRef, target: Box<dyn Target>) -> Result<Self> {
        let codec = match options.compression {
            ArrowCompression::None => None,
            ArrowCompression::Lz4 => Some(CompressionType::LZ4_FRAME),
            ArrowCompression::Zstd => Some(CompressionType::ZSTD),
        };
        let writer = IpcWriteOptions::default()
            .try_with_compression(codec)
            .and_then(|options| FileWriter::try_new_with_options(target, columns, options))
            .map_err(|e| encode_error("arrow", &e))?;
        Ok(Self { writer })
    }
}

impl Encoder for ArrowEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).map_err(|e| encode_error("arrow", &e))
    }

    fn bytes(&self) -> u64 {
        self.writer.get_ref().written()
    }

    fn finish(mut self: Box<Self>) -> Result<Box<dyn Target>> {
        self.writer.finish().map_err(|e| encode_error("arrow", &e))?;
        self.writer.into_inner().map_err(|e| encode_error("arrow", &e))
    }
}
