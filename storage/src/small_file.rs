//! Small files that are read whole, and texts whose last line is the CRC32C of all lines before it.

use std::path::Path;

use crate::env::{Env, OpenMode};
use qanat_proto::{Code, Error, Place, Result};

/// What a file holds, the first `bytes_max` bytes of it. None if there is none.
///
/// # Errors
/// E0214 if it cannot be read.
pub fn read(env: &Env, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    let failed = |e: &std::io::Error| Error::io(format!("read `{}`", path.display()), e);
    let file = match env.disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let length = file.len().map_err(|e| failed(&e))?.min(bytes_max);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0).map_err(|e| failed(&e))?;
    Ok(Some(bytes))
}

/// The lines of a file of [`sealed`] ones; `damaged` is what is told of one that is not whole. None if there is none.
///
/// # Errors
/// E0214 if it cannot be read; E0304 if it is damaged.
pub fn read_sealed(env: &Env, path: &Path, bytes_max: u64, damaged: &str) -> Result<Option<String>> {
    let Some(bytes) = read(env, path, bytes_max)? else { return Ok(None) };
    let lines = unsealed(&bytes).map(|lines| Some(lines.to_owned()));
    lines.ok_or_else(|| Error::new(Code::CorruptLog, damaged).at(Place::Named(path.display().to_string())))
}

/// `lines`, each with its end, and their checksum.
pub fn sealed(lines: &str) -> Vec<u8> {
    format!("{lines}{:08x}\n", crc32c::crc32c(lines.as_bytes())).into_bytes()
}

/// The lines of [`sealed`]. None if the bytes are not whole.
pub fn unsealed(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let end = text.strip_suffix('\n')?.rfind('\n').map_or(0, |end| end + 1);
    let lines = text.get(..end)?;
    (sealed(lines) == bytes).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_every_flipped_bit_is_found() {
        for lines in ["", "7\n", "7\n8\n"] {
            let bytes = sealed(lines);
            assert_eq!(unsealed(&bytes), Some(lines));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                if let Some(byte) = flipped.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                assert_eq!(unsealed(&flipped), None, "bit {bit}");
            }
            for end in 0..bytes.len() {
                assert_eq!(unsealed(&bytes[..end]), None, "cut at {end}");
            }
        }
    }
}
