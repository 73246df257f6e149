//! The version that an epoch makes of the one before.

use std::collections::BTreeMap;
use std::path::Path;

use qanat_proto::control::CommitPermit;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::crash_safe;

use super::{KeptTable, Made, plain};
use crate::contract::CommitScope;
use crate::filesystem::sealed::Sealed;
use crate::filesystem::sink::{FileSink, FileTable, folder, withdraw::move_aside};
use crate::filesystem::version::{
    BucketFile, DOCUMENT_VERSION, TableVersion, VERSIONS, is_withdrawn, newest_version, read_version,
};
use crate::filesystem::withdrawn::WITHDRAWN;

/// Writes the version of this epoch, whose files are published. Done again, by any generation, it changes nothing.
///
/// # Errors
/// E0216 if another job has changed the table meanwhile.
pub(in crate::filesystem::sink) fn put_version(
    sink: &FileSink,
    kept: &KeptTable,
    scope: CommitScope,
    permit: &CommitPermit,
    made: Made,
) -> Result<()> {
    let table = sink.table.as_ref();
    let disk = table.env.disk.as_ref();
    let folder = table.root.join(VERSIONS);
    folder::create_synced(&table.env, &folder)?;
    let is_own = |version: &TableVersion| version.job == permit.token.job && version.operator == scope.operator;
    let newest = newest_version(disk, &table.root)?;
    if let Some(newest) = newest.as_ref().filter(|newest| is_own(newest) && newest.epoch >= permit.epoch) {
        // This epoch's, by a generation that died before its record; or one of a successor, who recorded this epoch first.
        return show(sink, kept, newest);
    }
    let conflict = |with: &TableVersion| {
        let message = format!(
            "job {} has made version {} of this table while epoch {} was written",
            with.job, with.number, permit.epoch
        );
        Error::new(Code::SinkConflict, message)
            .at(Place::Named(folder.display().to_string()))
            .hint("two jobs keep one table; let each write to a folder of its own")
    };
    if let Some(newest) = newest.as_ref().filter(|newest| !is_own(newest))
        && made.bases.iter().any(|base| *base != newest.number)
    {
        return Err(conflict(newest));
    }
    let mut version = next_version(table, kept, scope, permit, newest.as_ref(), made);
    let path = folder.join(version.number.to_string());
    match crash_safe::write_new(&table.env, &path, &version.sealed_bytes()?) {
        Ok(()) => {}
        // A zombie or a successor was faster.
        Err(crash_safe::Error::Exists(_)) => match read_version(disk, &table.root, version.number)? {
            Some(found) if is_own(&found) && found.manifest_key == version.manifest_key => version = found,
            // Written behind a rollback by a process that slept over it: it counts for nobody, and goes where it belongs.
            Some(found) if is_withdrawn(disk, &table.root, &found)? => {
                let aside = table.root.join(WITHDRAWN).join(found.job.to_string()).join(found.operator.to_string());
                move_aside(table, &path, &aside.join(VERSIONS).join(version.number.to_string()))?;
                return Err(again(&path));
            }
            Some(found) => return Err(conflict(&found)),
            None => return Err(again(&path)),
        },
        Err(error) => return Err(error.into()),
    }
    show(sink, kept, &version)
}

/// The next try finds another state.
fn again(path: &Path) -> Error {
    Error::new(Code::Io, "a version of a table came and went").at(Place::Named(path.display().to_string()))
}

/// What a commit may not have come to behind its record: a plain file is what its table is.
pub(in crate::filesystem::sink) fn show_again(table: &FileTable, kept: &KeptTable) -> Result<()> {
    kept.plain.as_ref().map_or(Ok(()), |path| plain::show(table, path))
}

/// Makes a plain file what its table is, and lets go of versions that have had their time.
fn show(sink: &FileSink, kept: &KeptTable, version: &TableVersion) -> Result<()> {
    show_again(&sink.table, kept)?;
    sink.versions.expire(&sink.table, kept, version)
}

fn next_version(
    table: &FileTable,
    kept: &KeptTable,
    scope: CommitScope,
    permit: &CommitPermit,
    newest: Option<&TableVersion>,
    made: Made,
) -> TableVersion {
    let is_own = newest.is_some_and(|newest| newest.job == permit.token.job && newest.operator == scope.operator);
    let mut files: BTreeMap<u16, BucketFile> = match newest {
        Some(newest) if !made.begins => newest.files.iter().map(|file| (file.bucket, file.clone())).collect(),
        _ => BTreeMap::new(),
    };
    let before = newest.map_or(0, |newest| newest.number);
    // By the epoch, so that every try of this commit comes to the same number, and none to a withdrawn one's.
    let number = match newest {
        Some(newest) if is_own => before + (permit.epoch.0 - newest.epoch.0),
        _ => before + permit.epoch.0,
    };
    let mut gone: Vec<String> = Vec::new();
    for bucket in made.buckets {
        if bucket.rows == 0 && kept.plain.is_none() {
            files.remove(&bucket.bucket);
            gone.push(bucket.path);
        } else {
            files.insert(bucket.bucket, bucket);
        }
    }
    let stays = |file: &BucketFile| files.get(&file.bucket).is_some_and(|kept| kept.path == file.path);
    let replaced = newest.into_iter().flat_map(|newest| &newest.files).filter(|file| !stays(file));
    gone.extend(replaced.map(|file| file.path.clone()));
    TableVersion {
        version: DOCUMENT_VERSION,
        number,
        job: permit.token.job,
        operator: scope.operator,
        epoch: permit.epoch,
        manifest_key: permit.manifest_key.clone(),
        previous: newest.map(|newest| newest.number),
        written_ms: table.env.clock.now_ms().max(newest.map_or(i64::MIN, |newest| newest.written_ms)),
        encoding: table.spec.clone(),
        columns: table.columns.as_ref().clone(),
        primary_key: kept.names.clone(),
        buckets: kept.buckets,
        files: files.into_values().collect(),
        replaced: gone,
        crc32c: 0,
    }
}
