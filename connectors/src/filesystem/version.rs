//! The versions of a table that is kept by its primary key: which files hold its rows.
//!
//! ```text
//! <path>/_table/<number>              one version: names of files, whole and never replaced
//! <path>/_data/part-<object>.parquet   the rows of one bucket, never replaced
//! ```
//! The highest number that was not withdrawn is the table. `docs/file-sink.md` has the promises to readers. Written by
//! the sink's commit ([`super::sink`]); read by it, by [`super::audit`] and by sources.

use std::io::ErrorKind;
use std::path::Path;

use arrow::datatypes::Schema;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_storage::env::{Disk, OpenMode};
use serde::{Deserialize, Serialize};

use super::committed::list;
use super::reread::Written;
use super::withdrawn::withdrawn_epochs;
use crate::encode::EncodeSpec;

/// Folder of versions.
pub(crate) const VERSIONS: &str = "_table";
/// Folder of their files.
pub(crate) const DATA: &str = "_data";

/// Version of the document.
const DOCUMENT_VERSION: u32 = 1;

/// A larger document is not one of ours: 300 bytes a bucket, and 65,535 of them.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// One version of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    pub version: u32,
    /// Rises with every version of this folder, whoever writes it.
    pub number: u64,
    pub job: JobId,
    pub operator: OperatorId,
    pub epoch: Epoch,
    /// The manifest whose claim allowed it.
    pub manifest_key: String,
    /// The version it was made from; none for the first.
    pub previous: Option<u64>,
    /// When it was written, ms since 1970 UTC; never less than that of the version before.
    pub written_ms: i64,
    /// How the files are written.
    pub encoding: EncodeSpec,
    pub columns: Schema,
    pub primary_key: Vec<String>,
    /// A row is in the bucket of its key's hash, as in a key group of so many.
    pub buckets: u16,
    /// By bucket; one that has no rows has no file.
    pub files: Vec<BucketFile>,
    /// Files that are in none of its buckets any more: they go when the version before it goes.
    pub replaced: Vec<String>,
    /// CRC32C of this document with this field 0, as `serde_json` writes it without spaces.
    pub crc32c: u32,
}

/// All rows of one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketFile {
    pub bucket: u16,
    /// Relative to the table's folder, with `/` between segments.
    pub path: String,
    pub rows: u64,
    pub hash: RowHash,
    pub bytes: u64,
    pub crc32c: u32,
}

impl BucketFile {
    pub fn sum(&self) -> RowSum {
        RowSum { rows: self.rows, hash: self.hash }
    }
}

impl TableVersion {
    /// What its files have in common.
    pub fn written(&self) -> Written<'_> {
        Written { encoding: &self.encoding, columns: &self.columns, partitioned_by: &[] }
    }

    /// All rows of the table.
    pub fn sum(&self) -> RowSum {
        let mut sum = RowSum::default();
        self.files.iter().for_each(|file| sum.add(file.sum()));
        sum
    }

    /// Fills in version and checksum, and gives the document.
    pub(crate) fn sealed_bytes(&mut self) -> Result<Vec<u8>> {
        self.version = DOCUMENT_VERSION;
        self.crc32c = self.checksum()?;
        let mut bytes =
            serde_json::to_vec(self).map_err(|e| Error::internal(format!("write a table's version: {e}")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn checksum(&self) -> Result<u32> {
        let blank = Self { crc32c: 0, ..self.clone() };
        let bytes = serde_json::to_vec(&blank).map_err(|e| Error::internal(format!("write a table's version: {e}")))?;
        Ok(crc32c::crc32c(&bytes))
    }
}

/// Whether a table is kept in a folder: there are versions of it, whether they count or not.
///
/// # Errors
/// The code of the disk.
pub(super) fn is_table(disk: &dyn Disk, folder: &Path) -> Result<bool> {
    Ok(!numbers(disk, folder)?.is_empty())
}

/// The numbers of the versions that are there, withdrawn or not, in order.
///
/// # Errors
/// The code of the disk.
pub(super) fn numbers(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    let entries = list(disk, &folder.join(VERSIONS))?;
    let number = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        if name.bytes().all(|b| b.is_ascii_digit()) { name.parse().ok() } else { None }
    };
    let mut numbers: Vec<u64> = entries.iter().filter(|e| !e.is_dir).filter_map(|e| number(&e.path)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads one version; `None` if it is not there.
///
/// # Errors
/// E0301 if it is damaged, E0307 if a newer release wrote it.
pub fn read_version(disk: &dyn Disk, folder: &Path, number: u64) -> Result<Option<TableVersion>> {
    let path = folder.join(VERSIONS).join(number.to_string());
    let place = || Place::Named(path.display().to_string());
    let io = |e: &std::io::Error| Error::io(format!("read {}", path.display()), e);
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(&e)),
    };
    let corrupt =
        |why: String| Error::new(Code::CorruptCheckpoint, format!("a table's version is damaged: {why}")).at(place());
    let length = file.len().map_err(|e| io(&e))?;
    if length > DOCUMENT_BYTES_MAX {
        return Err(corrupt(format!("it has {length} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(|e| io(&e))?;
    decode(&bytes, number)
        .map_err(|error| match error {
            DecodeError::Damaged(why) => corrupt(why),
            DecodeError::Newer(found) => {
                let message = format!("a table's version is of format {found}, this is {DOCUMENT_VERSION}");
                Error::new(Code::UnknownVersion, message).at(place())
            }
        })
        .map(Some)
}

enum DecodeError {
    Damaged(String),
    Newer(u32),
}

fn decode(bytes: &[u8], number: u64) -> std::result::Result<TableVersion, DecodeError> {
    #[derive(Deserialize)]
    struct Format {
        version: u32,
    }
    let damaged = |e: serde_json::Error| DecodeError::Damaged(e.to_string());
    let format: Format = serde_json::from_slice(bytes).map_err(damaged)?;
    if format.version != DOCUMENT_VERSION {
        return Err(DecodeError::Newer(format.version));
    }
    let version: TableVersion = serde_json::from_slice(bytes).map_err(damaged)?;
    match version.checksum() {
        Ok(checksum) if checksum == version.crc32c && version.number == number => Ok(version),
        Ok(checksum) if checksum == version.crc32c => {
            Err(DecodeError::Damaged(format!("it says that it is version {}", version.number)))
        }
        _ => Err(DecodeError::Damaged("its checksum is wrong".to_owned())),
    }
}

/// How often versions are listed again because one that was listed has gone.
const LISTS_MAX: usize = 1_000;

/// The newest version whose epoch was not withdrawn: the table. `None` if there is none.
///
/// # Errors
/// Those of [`read_version`]; E0214 if versions come and go faster than they can be read.
pub fn newest_version(disk: &dyn Disk, folder: &Path) -> Result<Option<TableVersion>> {
    'list: for _ in 0..LISTS_MAX {
        for number in numbers(disk, folder)?.into_iter().rev() {
            match version_that_counts(disk, folder, number)? {
                Found::Counts(version) => return Ok(Some(*version)),
                Found::Withdrawn => {}
                // It has had its time since, and a newer one has come.
                Found::Gone => continue 'list,
            }
        }
        return Ok(None);
    }
    Err(Error::new(Code::Io, "versions of the table come and go faster than they can be read")
        .at(Place::Named(folder.display().to_string())))
}

/// All versions that are there and whose epochs were not withdrawn, in order of their numbers.
///
/// # Errors
/// Those of [`read_version`].
pub(super) fn versions(disk: &dyn Disk, folder: &Path) -> Result<Vec<TableVersion>> {
    let mut versions = Vec::new();
    for number in numbers(disk, folder)? {
        if let Found::Counts(version) = version_that_counts(disk, folder, number)? {
            versions.push(*version);
        }
    }
    Ok(versions)
}

enum Found {
    Counts(Box<TableVersion>),
    Withdrawn,
    Gone,
}

fn version_that_counts(disk: &dyn Disk, folder: &Path, number: u64) -> Result<Found> {
    let Some(version) = read_version(disk, folder, number)? else { return Ok(Found::Gone) };
    Ok(if is_withdrawn(disk, folder, &version)? { Found::Withdrawn } else { Found::Counts(Box::new(version)) })
}

/// Whether a rollback took the epoch of a version back. Looked for after the version was read: a tombstone stands before
/// the first file goes.
///
/// # Errors
/// The code of the disk.
pub(super) fn is_withdrawn(disk: &dyn Disk, folder: &Path, version: &TableVersion) -> Result<bool> {
    let withdrawn = withdrawn_epochs(disk, folder, &version.job.to_string(), &version.operator.to_string())?;
    Ok(withdrawn.contains(version.epoch))
}
