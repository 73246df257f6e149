//! The versions of a table that is kept by its primary key: which files hold its rows.
//!
//! ```text
//! <path>/_table/<number>              one version: names of files, whole and never replaced
//! <path>/_data/part-<object>.parquet   the rows of one bucket, never replaced
//! ```
//! The highest number that was not withdrawn is the table. `docs/file-sink.md` has the promises to readers. Written by
//! the sink's commit ([`super::sink`]); read by it, by [`super::audit`] and by sources.

use std::path::Path;

use arrow::datatypes::Schema;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_storage::env::Disk;
use serde::{Deserialize, Serialize};

use super::committed::list;
use super::reread::Written;
use super::sealed::Sealed;
use super::withdrawn::withdrawn_epochs;
use crate::encode::EncodeSpec;

/// Folder of versions.
pub(crate) const VERSIONS: &str = "_table";
/// Folder of their files.
pub(crate) const DATA: &str = "_data";

/// Version of the document.
pub(super) const DOCUMENT_VERSION: u32 = 1;

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
}

impl Sealed for TableVersion {
    const WHAT: &'static str = "a table's version";
    const VERSION: u32 = DOCUMENT_VERSION;
    /// 300 bytes a bucket, and 65,535 of them.
    const BYTES_MAX: u64 = 64 << 20;

    fn crc32c(&mut self) -> &mut u32 {
        &mut self.crc32c
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
    match TableVersion::read(disk, &path)? {
        Some(version) if version.number != number => {
            let message = format!("a table's version is damaged: it says that it is version {}", version.number);
            Err(Error::new(Code::CorruptCheckpoint, message).at(Place::Named(path.display().to_string())))
        }
        found => Ok(found),
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

/// The versions that are there, in order of their numbers.
#[derive(Default)]
pub(super) struct Versions {
    /// Those whose epochs were not withdrawn.
    pub(super) counting: Vec<TableVersion>,
    /// Those that cannot be read, and why.
    pub(super) damaged: Vec<(u64, Error)>,
}

/// # Errors
/// The code of the disk; E0307 for a version that a newer release wrote.
pub(super) fn versions(disk: &dyn Disk, folder: &Path) -> Result<Versions> {
    let mut versions = Versions::default();
    for number in numbers(disk, folder)? {
        match version_that_counts(disk, folder, number) {
            Ok(Found::Counts(version)) => versions.counting.push(*version),
            Ok(Found::Withdrawn | Found::Gone) => {}
            Err(error) if error.code() == Code::CorruptCheckpoint => versions.damaged.push((number, error)),
            Err(error) => return Err(error),
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
