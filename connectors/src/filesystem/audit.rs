//! Proof that a folder holds exactly what its commit records say (I13), or the first place where not.
//!
//! Every committed file is read again: its length and CRC32C, and the rows themselves, decoded and hashed
//! anew. Files that carry the job's name but stand in no record are found too. Called by `qanat audit`,
//! which then compares the records with the receipts of the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use qanat_executor_core::receipt::RowHasher;
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::names::Origin;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::Disk;
use serde::Serialize;

use super::committed::{CommitRecord, CommittedFile, read_record, record_paths};
use super::reread::{file_checksum, read_rows};
use super::version::{BucketFile, VERSIONS, versions};
use crate::encode::EncodeSpec;

/// What is wrong with one file or record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A record names a file that is not there.
    MissingFile,
    /// A file carries the job's name, and no record names it.
    ExtraFile,
    /// Length or CRC32C of a file differ from its record.
    ChangedBytes,
    /// The rows of a file are not those of its record.
    WrongRows,
    /// A record cannot be read.
    DamagedRecord,
    /// A record names a predecessor that is not there.
    MissingRecord,
    /// Two records name one file.
    NamedTwice,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub fault: Fault,
    /// File or record, relative to the table's folder.
    pub path: String,
    pub operator: Option<OperatorId>,
    pub epoch: Option<Epoch>,
    pub message: String,
    /// Rows of the record that the file does not hold.
    pub lost: u64,
    /// Rows that a reader of the folder finds and no record, or a second one, stands for.
    pub surplus: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{} (epoch {epoch}): {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// What an audit of one job's files found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FolderAudit {
    /// Committed rows by operator and epoch, as the records say: to compare with receipts.
    pub epochs: Vec<AuditedEpoch>,
    pub files: u64,
    /// Rows read back.
    pub rows: u64,
    pub bytes: u64,
    /// Empty: the folder is as it should be.
    pub findings: Vec<Finding>,
}

/// One record, as an audit saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditedEpoch {
    pub operator: OperatorId,
    pub epoch: Epoch,
    pub manifest_key: String,
    pub files: Vec<CommittedFile>,
    /// What the files hold that are there: rows that could be read.
    pub read: RowSum,
    /// Rows of files that are what the record says, and of those that were replaced since.
    pub right: u64,
}

/// Audits what `job` committed into `folder`.
///
/// # Errors
/// The code of the disk; differences are findings, not errors.
pub fn audit(disk: &dyn Disk, folder: &Path, job: JobId) -> Result<FolderAudit> {
    let mut audit = FolderAudit::default();
    let own = own_records(disk, folder, job, &mut audit)?;
    let removed = removed_by_any(disk, folder)?;
    let buckets = buckets(disk, folder, &mut audit)?;
    let mut named: BTreeMap<&str, Epoch> = BTreeMap::new();
    for record in &own {
        let (mut read, mut right) = (RowSum::default(), 0);
        for file in &record.files {
            if let Some(first) = named.insert(&file.path, record.epoch) {
                let message = format!("it stands in epoch {first} too");
                audit.find(Fault::NamedTwice, &file.path, record, message, (0, file.rows));
                continue;
            }
            let found = if removed.contains(&file.path) {
                file.sum()
            } else if record.is_table {
                check_bucket(disk, folder, record, file, buckets.get(&file.path), &mut audit)?
            } else {
                check_file(disk, folder, record, file, &mut audit)?
            };
            read.add(found);
            right += if found == file.sum() { file.rows } else { 0 };
        }
        audit.epochs.push(AuditedEpoch {
            operator: record.operator,
            epoch: record.epoch,
            manifest_key: record.manifest_key.clone(),
            files: record.files.clone(),
            read,
            right,
        });
    }
    find_extra_files(disk, folder, job, &own, &named, &mut audit)?;
    Ok(audit)
}

impl FolderAudit {
    fn find(&mut self, fault: Fault, path: &str, record: &CommitRecord, message: String, (lost, surplus): (u64, u64)) {
        let (operator, epoch) = (Some(record.operator), Some(record.epoch));
        self.findings.push(Finding { fault, path: path.to_owned(), operator, epoch, message, lost, surplus });
    }
}

/// The readable records of the job; unreadable ones and gaps in their chain are findings.
fn own_records(disk: &dyn Disk, folder: &Path, job: JobId, audit: &mut FolderAudit) -> Result<Vec<CommitRecord>> {
    let mut records: Vec<CommitRecord> = Vec::new();
    let mut damaged = BTreeSet::new();
    for path in record_paths(disk, folder, Some(job))? {
        match read_record(disk, &path) {
            Ok(Some(record)) => records.push(record),
            Ok(None) => {}
            Err(error) => {
                let relative = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                let epoch = super::sink::record_epoch(&path);
                damaged.extend(epoch);
                audit.findings.push(Finding {
                    fault: Fault::DamagedRecord,
                    path: relative,
                    operator: None,
                    epoch,
                    message: error.message().to_owned(),
                    // Of what it names, the receipts know: that is missed there.
                    lost: 0,
                    surplus: 0,
                });
            }
        }
    }
    let known: BTreeSet<(OperatorId, Epoch)> = records.iter().map(|r| (r.operator, r.epoch)).collect();
    for record in &records {
        if let Some(previous) = record.previous
            && !known.contains(&(record.operator, previous))
            && !damaged.contains(&previous)
        {
            let path = format!("{}/{}/{}/{previous}.json", super::sink::COMMITS, record.job, record.operator);
            let message = format!("the record of epoch {previous} is gone: epoch {} follows it", record.epoch);
            audit.findings.push(Finding {
                fault: Fault::MissingRecord,
                path,
                operator: Some(record.operator),
                epoch: Some(previous),
                message,
                lost: 0,
                surplus: 0,
            });
        }
    }
    Ok(records)
}

/// What an `INSERT OVERWRITE` of any job took away. Records that cannot be read are other audits' findings.
pub(super) fn removed_by_any(disk: &dyn Disk, folder: &Path) -> Result<BTreeSet<String>> {
    let mut removed = BTreeSet::new();
    for path in record_paths(disk, folder, None)? {
        if let Ok(Some(record)) = read_record(disk, &path) {
            removed.extend(record.removed);
        }
    }
    Ok(removed)
}

/// A bucket of a table, as the versions say that are there.
struct Bucket {
    file: BucketFile,
    /// The newest version has it.
    is_shown: bool,
}

fn buckets(disk: &dyn Disk, folder: &Path, audit: &mut FolderAudit) -> Result<BTreeMap<String, Bucket>> {
    let mut buckets = BTreeMap::new();
    let versions = versions(disk, folder)?;
    audit.findings.extend(versions.damaged.into_iter().map(|(number, error)| Finding {
        fault: Fault::DamagedRecord,
        path: format!("{VERSIONS}/{number}"),
        operator: None,
        epoch: None,
        message: error.message().to_owned(),
        lost: 0,
        surplus: 0,
    }));
    // In order: the newest is the last.
    for version in versions.counting {
        buckets.values_mut().for_each(|bucket: &mut Bucket| bucket.is_shown = false);
        buckets.extend(version.files.into_iter().map(|file| (file.path.clone(), Bucket { file, is_shown: true })));
    }
    Ok(buckets)
}

/// Returns the changes that made the bucket, if its file holds the rows that its versions say, or has had its time.
fn check_bucket(
    disk: &dyn Disk,
    folder: &Path,
    record: &CommitRecord,
    taken: &CommittedFile,
    bucket: Option<&Bucket>,
    audit: &mut FolderAudit,
) -> Result<RowSum> {
    let Some(bucket) = bucket else { return Ok(taken.sum()) };
    let path = folder.join(&taken.path);
    let is_there = disk.exists(&path).map_err(|e| Error::io(format!("look at {}", path.display()), &e))?;
    if !is_there && !bucket.is_shown {
        return Ok(taken.sum());
    }
    let BucketFile { path, rows, hash, bytes, crc32c, .. } = bucket.file.clone();
    let held = CommittedFile { path, rows, hash, bytes, crc32c };
    let found = check_file(disk, folder, record, &held, audit)?;
    Ok(if found == held.sum() { taken.sum() } else { RowSum::default() })
}

/// Returns what rows the file holds.
fn check_file(
    disk: &dyn Disk,
    folder: &Path,
    record: &CommitRecord,
    file: &CommittedFile,
    audit: &mut FolderAudit,
) -> Result<RowSum> {
    let (bytes, crc) = match file_checksum(disk, &folder.join(&file.path)) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let message = format!("the file with {} rows is gone", file.rows);
            audit.find(Fault::MissingFile, &file.path, record, message, (file.rows, 0));
            return Ok(RowSum::default());
        }
        Err(e) => return Err(Error::io(format!("read {}", file.path), &e)),
    };
    audit.files += 1;
    audit.bytes += bytes;
    if (bytes, crc) != (file.bytes, file.crc32c) {
        let message = format!(
            "it has {bytes} bytes with CRC32C {crc:08x}; the record says {} bytes with {:08x}",
            file.bytes, file.crc32c
        );
        audit.find(Fault::ChangedBytes, &file.path, record, message, (0, 0));
        // The readers of these formats follow offsets inside the file, and may panic on wrong ones.
        if follows_offsets(record) {
            return Ok(RowSum::default());
        }
    }
    let mut hasher = RowHasher::default();
    let mut sum = RowSum::default();
    let read = read_rows(disk, folder, record.written(), &file.path, |rows| {
        sum.add(hasher.sum(rows)?);
        Ok(())
    });
    audit.rows += sum.rows;
    match read {
        Err(error) => {
            let message = format!("its rows cannot be read: {}", error.message());
            // How many rows would have followed nobody knows.
            audit.find(Fault::WrongRows, &file.path, record, message, (0, 0));
        }
        Ok(()) if sum != file.sum() => {
            let message = format!(
                "it holds {} rows with hash {}; the record says {} rows with {}",
                sum.rows, sum.hash, file.rows, file.hash
            );
            let differs = (file.rows.saturating_sub(sum.rows), sum.rows.saturating_sub(file.rows));
            audit.find(Fault::WrongRows, &file.path, record, message, differs);
        }
        Ok(()) => {}
    }
    Ok(sum)
}

fn follows_offsets(record: &CommitRecord) -> bool {
    matches!(record.encoding, EncodeSpec::Parquet(_) | EncodeSpec::Arrow(_))
}

/// The rows of a file that no record names, as far as they can be read like those of the job's other files: a reader
/// of the folder takes them for data. One that may hold anything is not followed into where its offsets lead.
fn rows_of_stranger(disk: &dyn Disk, folder: &Path, like: Option<&CommitRecord>, path: &str) -> u64 {
    let Some(like) = like.filter(|record| !follows_offsets(record)) else { return 0 };
    let mut rows = 0;
    // What cannot be read is found all the same, without a number.
    let _ = read_rows(disk, folder, like.written(), path, |batch| {
        rows += batch.num_rows() as u64;
        Ok(())
    });
    rows
}

/// Files of the job, by name, that no record names. Hidden folders and foreign files are not looked at.
fn find_extra_files(
    disk: &dyn Disk,
    folder: &Path,
    job: JobId,
    own: &[CommitRecord],
    named: &BTreeMap<&str, Epoch>,
    audit: &mut FolderAudit,
) -> Result<()> {
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        let entries = match disk.list(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(format!("list {}", path.display()), &e)),
        };
        for entry in entries {
            let Some(name) = entry.path.file_name().and_then(|n| n.to_str()) else { continue };
            if name.starts_with(['.', '_']) {
                continue;
            }
            let relative = format!("{prefix}{name}");
            if entry.is_dir {
                folders.push((entry.path, format!("{relative}/")));
                continue;
            }
            // A copy may have got another ending or number: whatever begins like a part of this job counts.
            let part = name.strip_prefix("part-");
            let is_own = part.is_some_and(|part| part.starts_with(&job.to_string()));
            if is_own && !named.contains_key(relative.as_str()) {
                let origin = part.and_then(Origin::parse_object).map(|(origin, _)| origin);
                let operator = origin.map(|o| o.subtask.operator);
                let like = own.iter().find(|record| Some(record.operator) == operator);
                let surplus = rows_of_stranger(disk, folder, like, &relative);
                audit.findings.push(Finding {
                    fault: Fault::ExtraFile,
                    path: relative,
                    operator,
                    epoch: origin.map(|o| o.epoch),
                    lost: 0,
                    surplus,
                    message: "it carries the job's name, and no commit record names it".to_owned(),
                });
            }
        }
    }
    Ok(())
}
