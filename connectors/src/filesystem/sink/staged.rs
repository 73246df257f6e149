//! One staged file: bytes on their way to disk, with the checksum and length its handle will carry.

use std::io::{self, Write};
use std::sync::Arc;

use qanat_storage::env::File;

use crate::encode::Target;

/// Bytes gathered before a write: few calls, little memory per open file.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct StagedFile {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// Bytes that are in the file.
    flushed: u64,
    crc32c: u32,
}

impl StagedFile {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self { file, buffer: Vec::new(), flushed: 0, crc32c: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.flushed)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.flushed += bytes.len() as u64;
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            self.put(&buffer)?;
            self.buffer = buffer;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.drain()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            self.put(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Encoders flush at will; the file is written when the buffer is full or at `close`.
        Ok(())
    }
}

impl Target for StagedFile {
    fn written(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn close(mut self: Box<Self>) -> io::Result<(u64, u32)> {
        self.drain()?;
        Ok((self.flushed, self.crc32c))
    }
}
