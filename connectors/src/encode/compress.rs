//! Gzip and Zstandard around a text format. One stream per file, finished before the file is sealed.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use qanat_proto::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::Target;

/// The `compression` option of text formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

/// Level 3 is the library's own default: past it, time grows faster than files shrink.
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// # Errors
    /// E0203 for another name.
    pub fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            "gzip" | "gz" => Ok(Self::Gzip),
            "zstd" | "zst" => Ok(Self::Zstd),
            _ => Err(Error::new(Code::BadOption, format!("`{text}` is not a compression"))
                .hint("`compression` takes none, gzip or zstd")),
        }
    }

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    pub(crate) fn writer(self, target: Box<dyn Target>) -> Result<CompressedWriter> {
        Ok(match self {
            Self::None => CompressedWriter::Plain(target),
            // The default header holds no time and no name: equal rows give equal bytes.
            Self::Gzip => CompressedWriter::Gzip(GzEncoder::new(target, flate2::Compression::default())),
            Self::Zstd => CompressedWriter::Zstd(
                zstd::stream::write::Encoder::new(target, ZSTD_LEVEL)
                    .map_err(|e| Error::io("start a zstd stream", &e))?,
            ),
        })
    }
}

/// A target behind an optional compressor.
pub(crate) enum CompressedWriter {
    Plain(Box<dyn Target>),
    Gzip(GzEncoder<Box<dyn Target>>),
    Zstd(zstd::stream::write::Encoder<'static, Box<dyn Target>>),
}

impl CompressedWriter {
    /// Compressed bytes that left for the file so far.
    pub(crate) fn written(&self) -> u64 {
        match self {
            Self::Plain(target) => target.written(),
            Self::Gzip(encoder) => encoder.get_ref().written(),
            Self::Zstd(encoder) => encoder.get_ref().written(),
        }
    }

    pub(crate) fn finish(self) -> io::Result<Box<dyn Target>> {
        match self {
            Self::Plain(target) => Ok(target),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for CompressedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(target) => target.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A flush inside a compressed stream only makes it larger; `finish` empties it.
        Ok(())
    }
}
