//! The commit of an epoch: names appear, then the record that makes them a consistent cut (P3).
//!
//! ```text
//! 0  a record of this epoch stands: it must say the same, and all is done
//! 1  the files of an INSERT OVERWRITE's list go (with the first epoch; of a partition, with the first epoch
//!    that writes to it), folders synced
//! 2  each staged file gets its final name by a link that never replaces
//! 3  every touched folder is synced, up to the table's
//! 4  staged names go, the staging folder is synced
//!    (of a table that is kept by its key: its version is written, put-if-absent, and versions go whose time is over)
//! 5  the record is written aside, synced, linked to its name, its folder synced
//! 6  partitions that are due are announced, if asked for
//! ```
//! A crash between any two steps leaves what the same commit, run again by any generation, completes. 4
//! comes before 5, because a reader may move a file once a record names it: from then on no late zombie
//! finds a staged name to publish again.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use qanat_proto::control::CommitPermit;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::names::Origin;
use qanat_storage::env::{Entropy, OpenMode, thread};

use super::announce::Pending;
use super::overwrite::{self, Overwritten, Removal};
use super::{FileSink, FileTable, HandleDetail, STAGED, folder, table};
use crate::contract::CommitScope;
use crate::filesystem::committed::{
    CommitRecord, CommittedFile, RECORD_VERSION, list, read_record, records_that_count,
};
use crate::filesystem::reread::file_checksum;
use crate::filesystem::sealed::Sealed;
use crate::filesystem::version::BucketFile;

/// One file to publish.
struct Publication<'a> {
    staged: &'a str,
    file: CommittedFile,
}

pub(super) fn commit(
    sink: &FileSink,
    scope: CommitScope,
    permit: &CommitPermit,
    handles: &[PreparedHandle],
) -> Result<()> {
    if let Some(stranger) = handles.iter().find(|handle| !permit.handles.contains(handle)) {
        return Err(Error::new(
            Code::Invariant,
            format!("the permit of epoch {} does not name {}", permit.epoch, stranger.name),
        ));
    }
    if handles.is_empty() {
        return Ok(());
    }
    let details = handles.iter().map(detail_of).collect::<Result<Vec<_>>>()?;
    let mut files = Vec::new();
    let mut listed: Option<&[Removal]> = None;
    let mut watermark = None;
    let mut made = table::Made::default();
    for (handle, detail) in handles.iter().zip(&details) {
        match detail {
            HandleDetail::File { path, staged, bytes, crc32c } => files.push(Publication {
                staged,
                file: CommittedFile {
                    path: path.clone(),
                    rows: handle.sum.rows,
                    hash: handle.sum.hash,
                    bytes: *bytes,
                    crc32c: *crc32c,
                },
            }),
            HandleDetail::Bucket { bucket, rows, hash, base, path, staged, bytes, crc32c } => {
                let (rows, hash, bytes, crc32c) = (*rows, *hash, *bytes, *crc32c);
                let taken =
                    CommittedFile { path: path.clone(), rows: handle.sum.rows, hash: handle.sum.hash, bytes, crc32c };
                files.push(Publication { staged, file: taken });
                made.buckets.push(BucketFile { bucket: *bucket, path: path.clone(), rows, hash, bytes, crc32c });
                made.bases.insert(*base);
            }
            HandleDetail::EmptyTable { empty_table } => {
                made.bases.insert(*empty_table);
                made.begins = true;
            }
            HandleDetail::Overwrite { overwrite } => listed = Some(overwrite),
            HandleDetail::Watermark { watermark: reported } => {
                watermark = [watermark, *reported].into_iter().flatten().min();
            }
        }
    }
    if files.is_empty() && listed.is_none() && made.bases.is_empty() {
        return announce(sink, scope, permit, &files, watermark);
    }
    files.sort_by(|a, b| a.file.path.cmp(&b.file.path));
    let table = sink.table.as_ref();
    let records = table.records_folder(permit.token.job, scope.operator);
    let removals = removals(sink, scope, permit, &records, listed.unwrap_or_default(), &files)?;
    let mut record = record_of(table, scope, permit, handles, &files, &removals)?;
    if !table.partition_columns.is_empty() {
        record.replaceable = listed.unwrap_or_default().to_vec();
    }
    let record_path = records.join(format!("{}.json", permit.epoch));
    if is_recorded(table, &record_path, &record)? {
        // The writer of the record may have died before its folder was synced, or before step 6.
        folder::sync_up_to(&table.env, &records, &table.root)?;
        if let Some(kept) = &table.kept {
            table::commit::show_again(table, kept)?;
        }
    } else {
        folder::create_root(&table.env, &table.root)?;
        overwrite::remove(&table.env, &table.root, &removals)?;
        if publish(table, &files, &record_path, &record)? == Published::Now {
            if let Some(kept) = &table.kept {
                table::commit::put_version(sink, kept, scope, permit, made)?;
            }
            record.previous = previous_epoch(sink, scope, permit)?;
            write_record(table, permit, &records, &record_path, &mut record)?;
        }
    }
    if record.generation < permit.token.generation {
        // A replay, perhaps by the last generation of the job: nobody else will sweep what the first try left.
        sweep_drafts(table, &records, permit.token)?;
    }
    announce(sink, scope, permit, &files, watermark)?;
    let mut recorded = thread::lock(&sink.recorded);
    let newest = recorded.entry((permit.token.job, scope.operator)).or_insert(permit.epoch);
    *newest = (*newest).max(permit.epoch);
    Ok(())
}

/// The old files that go with this epoch: all that are listed, or of a partitioned table those of the
/// partitions it is the first to write to.
fn removals(
    sink: &FileSink,
    scope: CommitScope,
    permit: &CommitPermit,
    records: &Path,
    listed: &[Removal],
    files: &[Publication<'_>],
) -> Result<Vec<Removal>> {
    let table = sink.table.as_ref();
    if !table.overwrite || table.partition_columns.is_empty() {
        return Ok(listed.to_vec());
    }
    let mut all = thread::lock(&sink.overwritten);
    let overwritten = match all.entry((permit.token.job, scope.operator)) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(Overwritten::load(&table.env, records, table.emptied.clone())?),
    };
    overwritten.add(permit.epoch, listed, files.iter().map(|publication| publication.file.path.as_str()));
    Ok(overwritten.removals(permit.epoch))
}

fn detail_of(handle: &PreparedHandle) -> Result<HandleDetail> {
    serde_json::from_value(handle.detail.clone())
        .map_err(|e| Error::new(Code::UnknownVersion, format!("handle {} is not one of a file sink: {e}", handle.name)))
}

/// The record this commit will write; `previous` and the checksum are filled in when it is written.
fn record_of(
    table: &FileTable,
    scope: CommitScope,
    permit: &CommitPermit,
    handles: &[PreparedHandle],
    files: &[Publication<'_>],
    removals: &[Removal],
) -> Result<CommitRecord> {
    // The generation that staged the files, not the one that commits: whoever writes the record, it is the same.
    let generation = handles
        .first()
        .and_then(|handle| Origin::parse_object(&handle.name))
        .map(|(origin, _)| origin.token.generation)
        .ok_or_else(|| Error::internal("a handle of the file sink has no object name"))?;
    Ok(CommitRecord {
        version: RECORD_VERSION,
        job: permit.token.job,
        generation,
        epoch: permit.epoch,
        operator: scope.operator,
        manifest_key: permit.manifest_key.clone(),
        previous: None,
        encoding: table.spec.clone(),
        columns: table.columns.as_ref().clone(),
        partitioned_by: table.partition_names.clone(),
        files: files.iter().map(|publication| publication.file.clone()).collect(),
        removed: removals.iter().map(|removal| removal.path.clone()).collect(),
        replaceable: Vec::new(),
        is_table: table.kept.is_some(),
        record_crc32c: 0,
    })
}

/// Whether the record of this epoch stands and says the same.
fn is_recorded(table: &FileTable, path: &Path, wanted: &CommitRecord) -> Result<bool> {
    match read_record(table.env.disk.as_ref(), path)? {
        None => Ok(false),
        Some(found) if found.says_the_same_as(wanted) => Ok(true),
        Some(found) => {
            let message = format!(
                "epoch {} of this folder is already recorded with other files, under manifest {}",
                wanted.epoch, found.manifest_key
            );
            Err(Error::new(Code::SinkConflict, message)
                .at(Place::Named(path.display().to_string()))
                .hint("two jobs share this job id and folder; let each write to a folder of its own"))
        }
    }
}

#[derive(PartialEq, Eq)]
enum Published {
    Now,
    /// Another generation recorded the epoch while this one was at it.
    ByAnother,
}

fn publish(
    table: &FileTable,
    files: &[Publication<'_>],
    record_path: &Path,
    record: &CommitRecord,
) -> Result<Published> {
    let env = &table.env;
    let staging = table.staged_folder();
    let mut folders = BTreeSet::new();
    for publication in files {
        let target = inside(&table.root, &publication.file.path)?;
        let staged = inside(&staging, publication.staged)?;
        let target_folder = folder::parent(&target);
        if folders.insert(target_folder.clone()) && target_folder != table.root {
            env.disk
                .create_dir_all(&target_folder)
                .map_err(|e| Error::io(format!("create folder {}", target_folder.display()), &e))?;
        }
        // What was cut while it waited is not what was claimed.
        if let Ok(found) = env.disk.metadata(&staged)
            && found.len != publication.file.bytes
        {
            let message = format!(
                "staged file {} has {} bytes, and {} were claimed",
                publication.staged, found.len, publication.file.bytes
            );
            return Err(Error::new(Code::SourceChanged, message)
                .at(Place::Named(publication.file.path.clone()))
                .hint("something outside Qanat changed it before it was published; put it back"));
        }
        let linked = match env.disk.link(&staged, &target) {
            // A file system without hard links; the rename never replaces either.
            Err(e) if e.kind() == ErrorKind::Unsupported => env.disk.rename_no_replace(&staged, &target),
            other => other,
        };
        match linked {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
                if !is_published(table, &target, &publication.file)? {
                    if is_recorded(table, record_path, record)? {
                        return Ok(Published::ByAnother);
                    }
                    return Err(missing(&publication.file.path));
                }
            }
            Err(e) => return Err(Error::io(format!("publish {}", publication.file.path), &e)),
        }
    }
    for target_folder in &folders {
        folder::sync_up_to(env, target_folder, &table.root)?;
    }
    for publication in files {
        folder::remove_if_there(env, &inside(&staging, publication.staged)?)?;
    }
    if env.disk.exists(&staging).map_err(|e| Error::io(format!("look at {STAGED}"), &e))? {
        folder::sync(env, &staging)?;
    }
    Ok(Published::Now)
}

fn missing(path: &str) -> Error {
    Error::new(Code::SourceChanged, format!("a claimed file is neither staged nor published: {path}"))
        .at(Place::Named(path.to_owned()))
        .hint("something outside Qanat removed it from the folder before its commit record was written; put it back")
}

/// Whether the final name holds exactly the claimed bytes (P3). Other bytes are a conflict.
fn is_published(table: &FileTable, target: &Path, claimed: &CommittedFile) -> Result<bool> {
    let found = match file_checksum(table.env.disk.as_ref(), target) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io(format!("read {}", target.display()), &e)),
    };
    if found == (claimed.bytes, claimed.crc32c) {
        return Ok(true);
    }
    Err(Error::new(Code::SinkConflict, format!("`{}` holds other bytes than this epoch's", claimed.path))
        .at(Place::Named(target.display().to_string()))
        .hint("a file was placed or changed by something else; move it away and run the job again"))
}

/// The epoch of the newest record below this one that was not withdrawn. Every earlier epoch is recorded by now (P4),
/// so that whoever asks gets the same answer.
fn previous_epoch(sink: &FileSink, scope: CommitScope, permit: &CommitPermit) -> Result<Option<Epoch>> {
    let key = (permit.token.job, scope.operator);
    let known = thread::lock(&sink.recorded).get(&key).copied();
    if let Some(epoch) = known.filter(|epoch| *epoch < permit.epoch) {
        return Ok(Some(epoch));
    }
    let (table, job, operator) = (&sink.table, key.0.to_string(), key.1.to_string());
    let records = records_that_count(table.env.disk.as_ref(), &table.root, &job, &operator)?;
    Ok(records.into_iter().map(|(epoch, _)| epoch).filter(|epoch| *epoch < permit.epoch).max())
}

/// The newest epoch with a commit record, withdrawn or not: proof of its claim.
pub(super) fn newest_record(table: &FileTable, job: JobId, operator: OperatorId) -> Result<Option<Epoch>> {
    let records = list(table.env.disk.as_ref(), &table.records_folder(job, operator))?;
    Ok(records.iter().filter_map(|entry| record_epoch(&entry.path)).max())
}

/// Put-if-absent: written whole under a hidden name of its own, synced, then linked.
fn write_record(
    table: &FileTable,
    permit: &CommitPermit,
    records: &Path,
    path: &Path,
    record: &mut CommitRecord,
) -> Result<()> {
    let env = &table.env;
    let io = |what: &str, path: &Path, e: &std::io::Error| Error::io(format!("{what} {}", path.display()), e);
    env.disk.create_dir_all(records).map_err(|e| io("create folder", records, &e))?;
    let bytes = record.sealed_bytes()?;
    let unique = Entropy::u64(env.entropy.as_ref());
    let temporary = records.join(format!(".{}-g{}-{unique:016x}.tmp", permit.epoch, permit.token.generation));
    let file = env.disk.open(&temporary, OpenMode::CreateNew).map_err(|e| io("create", &temporary, &e))?;
    file.write_all_at(&bytes, 0).map_err(|e| io("write", &temporary, &e))?;
    file.sync_all().map_err(|e| folder::sync_error(&temporary, &e))?;
    let linked = match env.disk.link(&temporary, path) {
        Err(e) if e.kind() == ErrorKind::Unsupported => env.disk.rename_no_replace(&temporary, path),
        other => other,
    };
    match linked {
        Ok(()) => {}
        // Another generation was faster; its record must say the same.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if !is_recorded(table, path, record)? {
                return Err(
                    Error::new(Code::Io, "a commit record came and went").at(Place::Named(path.display().to_string()))
                );
            }
        }
        Err(e) => return Err(io("link", path, &e)),
    }
    folder::remove_if_there(env, &temporary)?;
    folder::sync_up_to(env, records, &table.root)
}

/// Puts the success file into partitions that are due, after the record that names their files.
fn announce(
    sink: &FileSink,
    scope: CommitScope,
    permit: &CommitPermit,
    files: &[Publication<'_>],
    watermark: Option<i64>,
) -> Result<()> {
    let table = sink.table.as_ref();
    let Some(commit) = &table.options.partition_commit else { return Ok(()) };
    let mut all = thread::lock(&sink.pending);
    let pending = match all.entry((permit.token.job, scope.operator)) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let records = table.records_folder(permit.token.job, scope.operator);
            new.insert(Pending::load(table, commit, &records)?)
        }
    };
    for publication in files {
        pending.add(table, commit, &publication.file.path, table.env.clock.now_ms())?;
    }
    pending.announce(table, commit, watermark)
}

/// A path inside `root` from segments that cannot leave it: handles come from a manifest, and a manifest
/// is bytes from a disk.
pub(super) fn inside(root: &Path, relative: &str) -> Result<PathBuf> {
    let is_inside = !relative.is_empty() && Path::new(relative).components().all(|c| matches!(c, Component::Normal(_)));
    if is_inside {
        Ok(root.join(relative))
    } else {
        Err(Error::new(Code::CorruptCheckpoint, format!("`{relative}` is no path inside the table's folder")))
    }
}

/// The epoch of a record's path, `<epoch>.json`.
pub(crate) fn record_epoch(path: &Path) -> Option<Epoch> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".json")?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok().map(Epoch) } else { None }
}

/// Removes the records that lower generations of the same job and operator wrote aside and did not link (P6):
/// `records` is theirs alone.
pub(super) fn sweep_drafts(table: &FileTable, records: &Path, token: Token) -> Result<()> {
    folder::remove_where(&table.env, records, |name| {
        temporary_generation(name).is_some_and(|generation| generation < token.generation)
    })
}

/// The generation in the name of a record that was never linked, `.<epoch>-g<generation>-<random>.tmp`.
fn temporary_generation(name: &str) -> Option<Generation> {
    let stem = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    stem.split('-').nth(1)?.strip_prefix('g')?.parse().ok().map(Generation)
}
