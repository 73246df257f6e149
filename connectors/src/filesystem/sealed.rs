//! Small JSON documents of a folder that carry their version and their own checksum.

use std::io::ErrorKind;
use std::path::Path;

use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::env::{Disk, OpenMode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A document with fields `version` and a CRC32C, which is taken over the document as `serde_json` writes it without
/// spaces and with this field 0.
pub(super) trait Sealed: Clone + Serialize + DeserializeOwned {
    /// What it is, for errors.
    const WHAT: &'static str;
    const VERSION: u32;
    /// A larger one is not ours.
    const BYTES_MAX: u64;

    fn crc32c(&mut self) -> &mut u32;

    /// Fills in the checksum and gives the document.
    fn sealed_bytes(&mut self) -> Result<Vec<u8>> {
        *self.crc32c() = self.checksum()?;
        let mut bytes = bytes_of(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn checksum(&self) -> Result<u32> {
        let mut blank = self.clone();
        *blank.crc32c() = 0;
        Ok(crc32c::crc32c(&bytes_of(&blank)?))
    }

    /// Reads one; `None` if it is not there.
    ///
    /// # Errors
    /// E0301 if it is damaged, E0307 if a newer release wrote it.
    fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Self>> {
        let place = || Place::Named(path.display().to_string());
        let io = |e: &std::io::Error| Error::io(format!("read {}", path.display()), e);
        let file = match disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(&e)),
        };
        let what = Self::WHAT;
        let corrupt =
            |why: String| Error::new(Code::CorruptCheckpoint, format!("{what} is damaged: {why}")).at(place());
        let length = file.len().map_err(|e| io(&e))?;
        if length > Self::BYTES_MAX {
            return Err(corrupt(format!("it has {length} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(|e| io(&e))?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if version != Self::VERSION {
            let message = format!("{what} has version {version}, this is {}", Self::VERSION);
            return Err(Error::new(Code::UnknownVersion, message).at(place()));
        }
        let mut document: Self = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if document.checksum()? != *document.crc32c() {
            return Err(corrupt("its checksum is wrong".to_owned()));
        }
        Ok(Some(document))
    }
}

fn bytes_of(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::internal(format!("write a document: {e}")))
}
