//! Reading a folder by its commit records: the consistent cut that the file sink promises.
//!
//! Each record names the files of one epoch of one operator. An epoch without files has no record;
//! `previous` names the record before, so that a reader tells an empty epoch from a lost record. The
//! format is documented in `docs/file-sink.md`.
//!
//! Called by the sink (which writes records), by [`super::audit`] and by whoever wants the cut.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use arrow::datatypes::Schema;
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId};
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_storage::env::{Disk, Entry};
use serde::{Deserialize, Serialize};

use super::reread::Written;
use super::sealed::Sealed;
use super::sink::{COMMITS, Removal};
use super::withdrawn::withdrawn_epochs;
use crate::encode::EncodeSpec;

/// Version of the record format.
pub const RECORD_VERSION: u32 = 1;

/// What one operator made visible in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    pub version: u32,
    pub job: JobId,
    /// The generation that wrote the files.
    pub generation: Generation,
    pub epoch: Epoch,
    pub operator: OperatorId,
    pub manifest_key: String,
    /// The epoch of the operator's record before this one; none for the first.
    pub previous: Option<Epoch>,
    /// How the files are written.
    pub encoding: EncodeSpec,
    /// The table's columns in order, partition columns included: what row hashes are taken over.
    pub columns: Schema,
    pub partitioned_by: Vec<String>,
    pub files: Vec<CommittedFile>,
    /// Files that an `INSERT OVERWRITE` took away with this epoch.
    pub removed: Vec<String>,
    /// Files that an `INSERT OVERWRITE` of a partitioned table will take away with the first epoch that writes
    /// to their partition; in the first record alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaceable: Vec<Removal>,
    /// The table is kept by its key, and `files` count the changes that were taken: how its buckets came to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_table: bool,
    /// CRC32C of this document with this field 0, as `serde_json` writes it without spaces.
    pub record_crc32c: u32,
}

/// One published file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedFile {
    /// Relative to the table's folder, with `/` between segments.
    pub path: String,
    pub rows: u64,
    pub hash: RowHash,
    pub bytes: u64,
    pub crc32c: u32,
}

impl CommittedFile {
    pub fn sum(&self) -> RowSum {
        RowSum { rows: self.rows, hash: self.hash }
    }
}

impl CommitRecord {
    /// What its files have in common.
    pub fn written(&self) -> Written<'_> {
        Written { encoding: &self.encoding, columns: &self.columns, partitioned_by: &self.partitioned_by }
    }

    /// P3: "done" holds only if manifest key, files, lengths and hashes match.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        self.job == other.job
            && self.epoch == other.epoch
            && self.operator == other.operator
            && self.manifest_key == other.manifest_key
            && self.files == other.files
            && self.removed == other.removed
            && self.replaceable == other.replaceable
    }
}

impl Sealed for CommitRecord {
    const WHAT: &'static str = "commit record";
    const VERSION: u32 = RECORD_VERSION;
    /// 100 bytes a file, and a million files.
    const BYTES_MAX: u64 = 256 << 20;

    fn crc32c(&mut self) -> &mut u32 {
        &mut self.record_crc32c
    }
}

/// Reads one record; `None` if it is not there.
///
/// # Errors
/// E0301 if it is damaged, E0307 if a newer version wrote it.
pub fn read_record(disk: &dyn Disk, path: &Path) -> Result<Option<CommitRecord>> {
    CommitRecord::read(disk, path)
}

/// The paths of all records of a folder, or of one job, in order of job, operator and epoch, those of withdrawn
/// epochs left out. A folder without records has none.
///
/// # Errors
/// The code of the disk.
pub fn record_paths(disk: &dyn Disk, folder: &Path, job: Option<JobId>) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let jobs = match job {
        Some(job) => vec![folder.join(COMMITS).join(job.to_string())],
        None => folders_of(disk, &folder.join(COMMITS))?,
    };
    for job in jobs {
        for operator in folders_of(disk, &job)? {
            let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let records = records_that_count(disk, folder, &name(&job), &name(&operator))?;
            found.extend(records.into_iter().map(|(_, entry)| entry.path));
        }
    }
    Ok(found)
}

/// The records of one operator of a job by epoch, those of withdrawn epochs left out. The ids are given as the folders
/// are named.
///
/// # Errors
/// The code of the disk.
pub(super) fn records_that_count(
    disk: &dyn Disk,
    folder: &Path,
    job: &str,
    operator: &str,
) -> Result<Vec<(Epoch, Entry)>> {
    let entries = list(disk, &folder.join(COMMITS).join(job).join(operator))?;
    // Looked for after the records: a tombstone stands before the first file goes.
    let withdrawn = withdrawn_epochs(disk, folder, job, operator)?;
    let recorded = entries.into_iter().filter_map(|e| super::sink::record_epoch(&e.path).map(|epoch| (epoch, e)));
    let mut records: Vec<_> = recorded.filter(|(epoch, _)| !withdrawn.contains(*epoch)).collect();
    records.sort_unstable_by_key(|(epoch, _)| *epoch);
    Ok(records)
}

/// All records of a folder, or of one job, in order of job, operator and epoch.
///
/// # Errors
/// E0301 for a damaged record, the code of the disk otherwise.
pub fn records(disk: &dyn Disk, folder: &Path, job: Option<JobId>) -> Result<Vec<CommitRecord>> {
    let paths = record_paths(disk, folder, job)?;
    // A record listed and then gone was archived by a reader while this one looked.
    paths.iter().filter_map(|path| read_record(disk, path).transpose()).collect()
}

/// The committed files of a folder: those that records name and no `INSERT OVERWRITE` took away.
///
/// # Errors
/// Those of [`records`].
pub fn committed_files(disk: &dyn Disk, folder: &Path) -> Result<Vec<(Epoch, CommittedFile)>> {
    let records = records(disk, folder, None)?;
    let removed: BTreeSet<&str> = records.iter().flat_map(|r| r.removed.iter().map(String::as_str)).collect();
    let named = records.iter().flat_map(|r| r.files.iter().map(|file| (r.epoch, file)));
    Ok(named.filter(|(_, f)| !removed.contains(f.path.as_str())).map(|(e, f)| (e, f.clone())).collect())
}

fn folders_of(disk: &dyn Disk, folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    Ok(list(disk, folder)?.into_iter().filter(|e| e.is_dir).map(|e| e.path).collect())
}

/// What is in a folder; nothing if it is not there.
pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<Entry>> {
    match disk.list(folder) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(format!("list {}", folder.display()), &e)),
    }
}
