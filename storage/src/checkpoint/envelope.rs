//! The checksummed envelope of a manifest.
//!
//! ```text
//! magic "QanManif" | version u32 | payload length u64 | CRC32C of payload u32 | XXH3-128 of payload | payload
//! ```
//!
//! All numbers are little-endian. Anything that does not fit is refused: unknown bytes are never taken
//! for an empty manifest (I7, I9).

use bytes::Bytes;
use qanat_proto::error::{Code, Error, Place, Result};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 8] = b"QanManif";
const VERSION: u32 = 1;
const HEADER: usize = 40;

/// Wraps a payload.
pub(super) fn seal(payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    bytes.extend_from_slice(&xxh3_128(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    Bytes::from(bytes)
}

/// The payload of an envelope.
///
/// # Errors
/// E0301 for anything that is not whole, E0307 for another version.
pub(super) fn unseal<'a>(bytes: &'a [u8], name: &str) -> Result<&'a [u8]> {
    let field = |from: usize, to: usize| bytes.get(from..to).ok_or_else(|| damaged(name, "it is too short"));
    let number = |from: usize, to: usize| -> Result<u128> {
        Ok(field(from, to)?.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    };
    if field(0, 8)? != MAGIC {
        return Err(damaged(name, "it is no manifest"));
    }
    let version = number(8, 12)?;
    let payload = field(HEADER, bytes.len())?;
    let is_whole = number(12, 20)? == payload.len() as u128
        && number(20, 24)? == u128::from(crc32c::crc32c(payload))
        && number(24, HEADER)? == xxh3_128(payload);
    if version != u128::from(VERSION) {
        return Err(Error::new(Code::UnknownVersion, format!("manifest `{name}` has the unknown version {version}"))
            .at(Place::Named(name.to_owned()))
            .hint("use the version of qanat that wrote it, or a newer one"));
    }
    if is_whole { Ok(payload) } else { Err(damaged(name, "its checksum is wrong")) }
}

/// The error for a manifest that is not what was claimed.
pub(super) fn damaged(name: &str, why: &str) -> Error {
    Error::new(Code::CorruptCheckpoint, format!("manifest `{name}` is damaged: {why}"))
        .at(Place::Named(name.to_owned()))
        .hint("restore from an older checkpoint (`qanat checkpoints`), and look at the disk's health")
}
