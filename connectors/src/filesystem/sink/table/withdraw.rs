//! A rollback of a table: the newest version that is not of a withdrawn epoch is the table again.

use std::path::Path;

use qanat_proto::control::Withdrawal;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::JobId;
use qanat_storage::env::Disk;

use super::{KeptTable, plain};
use crate::contract::{CommitScope, MadeVisible};
use crate::filesystem::sink::{FileTable, commit, folder, withdraw::move_aside};
use crate::filesystem::version::{TableVersion, VERSIONS, numbers, read_version, versions};
use crate::filesystem::withdrawn::WITHDRAWN;

/// Moves the versions of withdrawn epochs aside, for readers who only look for the highest number: the tombstone, which
/// stands by now, outranks them anyway. Then a plain file becomes what it was.
pub(in crate::filesystem::sink) fn withdraw(
    table: &FileTable,
    kept: &KeptTable,
    scope: CommitScope,
    job: JobId,
    withdrawal: &Withdrawal,
) -> Result<()> {
    let disk = table.env.disk.as_ref();
    let aside = table.root.join(WITHDRAWN).join(job.to_string()).join(scope.operator.to_string()).join(VERSIONS);
    for number in numbers(disk, &table.root)? {
        let Some(version) = read_version(disk, &table.root, number)? else { continue };
        let is_own = version.job == job && version.operator == scope.operator;
        if is_own && (withdrawal.first..=withdrawal.last).contains(&version.epoch) {
            let name = number.to_string();
            move_aside(table, &table.root.join(VERSIONS).join(&name), &aside.join(&name))?;
        }
    }
    for folder in [&table.root.join(VERSIONS), &aside] {
        if disk.exists(folder).map_err(|e| Error::io(format!("look at {}", folder.display()), &e))? {
            folder::sync_up_to(&table.env, folder, &table.root)?;
        }
    }
    match &kept.plain {
        Some(path) => plain::show(table, path),
        None => Ok(()),
    }
}

/// Why a rollback of the table to an epoch would not give it back. None: it would.
///
/// # Errors
/// E0301 for a damaged version, the code of the disk otherwise.
pub(in crate::filesystem) fn keeps(
    disk: &dyn Disk,
    folder: &Path,
    node: &SinkNode,
    rows: MadeVisible,
) -> Result<Option<String>> {
    let MadeVisible { job, operator, after } = rows;
    let is_after = |version: &TableVersion| version.job == job && version.operator == operator && version.epoch > after;
    let versions = versions(disk, folder)?;
    let Some(first) = versions.iter().find(|version| is_after(version)) else { return Ok(None) };
    let Some(previous) = first.previous else {
        let replaced = || "a file that INSERT OVERWRITE replaced does not come back".to_owned();
        return Ok((node.overwrite && node.buckets == Some(1)).then(replaced));
    };
    let gone = || format!("version {previous} of the table is gone: `sink.table.retention` says how long one stays");
    let target = versions.iter().rev().find(|version| !is_after(version));
    let Some(target) = target.filter(|target| target.number == previous) else { return Ok(Some(gone())) };
    for file in &target.files {
        let path = commit::inside(folder, &file.path)?;
        if !disk.exists(&path).map_err(|e| Error::io(format!("look at {}", path.display()), &e))? {
            return Ok(Some(gone()));
        }
    }
    Ok(None)
}
