//! Small files beside the segments: a document in an envelope that detects any damage.
//!
//! `"QANATDOC"`, version (u32), length of the document (u32), CRC32C of version, length and document
//! (u32), document. A document is JSON, but for a topic's schema, which is an Arrow IPC message.

use std::path::Path;

use qanat_proto::error::{Code, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::u32_at;
use super::segment::{damaged, place, read_exact};
use crate::env::{Disk, OpenMode};

const MAGIC: &[u8; 8] = b"QANATDOC";
const VERSION: u32 = 1;
const HEAD: usize = 20;
/// A topic's description, a schema of a thousand columns: far below this.
const BYTES_MAX: u64 = 16 << 20;

pub(super) fn to_bytes(document: &impl Serialize) -> Vec<u8> {
    wrap(&serde_json::to_vec(document).expect("plain structs of strings and numbers always serialize"))
}

pub(super) fn wrap(json: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD + json.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(VERSION, length, json).to_le_bytes());
    bytes.extend_from_slice(json);
    bytes
}

/// Reads a document. None if there is no such file.
///
/// # Errors
/// E0304 if it is damaged, E0307 if its version is unknown.
pub(super) fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<Option<T>> {
    let Some(json) = read_bytes(disk, path)? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|e| damaged(path, 20, &format!("it cannot be understood: {e}")))
}

/// [`read`], whatever the document is.
pub(super) fn read_bytes(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>> {
    let failing = |e: &std::io::Error| Error::io(format!("read {}", path.display()), e);
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failing(&e)),
    };
    let length = file.len().map_err(|e| failing(&e))?;
    if length > BYTES_MAX {
        return Err(damaged(path, BYTES_MAX, "it is far larger than it can be"));
    }
    let mut bytes = vec![0; super::codec::short(length)];
    read_exact(file.as_ref(), path, &mut bytes, 0)?;
    if bytes.get(..8) != Some(MAGIC.as_slice()) {
        return Err(damaged(path, 0, "it does not begin with its magic"));
    }
    let (version, length) = (u32_at(&bytes, 8), u32_at(&bytes, 12));
    let json = bytes.get(HEAD..).unwrap_or_default();
    if json.len() != length as usize || checksum(version, length, json) != u32_at(&bytes, 16) {
        return Err(damaged(path, 8, "it does not match its checksum"));
    }
    if version != VERSION {
        return Err(Error::new(Code::UnknownVersion, format!("document of version {version}, known is {VERSION}"))
            .at(place(path, 8)));
    }
    bytes.drain(..HEAD);
    Ok(Some(bytes))
}

fn checksum(version: u32, length: u32, json: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&version.to_le_bytes()), &length.to_le_bytes());
    crc32c::crc32c_append(head, json)
}
