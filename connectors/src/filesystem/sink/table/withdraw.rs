//! A rollback of a table: the newest version that is not of a withdrawn epoch is the table again.

use std::path::Path;

use qanat_proto::control::Withdrawal;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::{Epoch, JobId};
use qanat_storage::env::Disk;

use super::{KeptTable, plain};
use crate::contract::{CommitScope, MadeVisible};
use crate::filesystem::sink::options::{Keeps, SinkOptions};
use crate::filesystem::sink::{FileTable, commit, folder, withdraw::move_aside};
use crate::filesystem::version::{TableVersion, VERSIONS, numbers, read_version, versions};
use crate::filesystem::withdrawn::{WITHDRAWN, tombstone_name};

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

/// Whether the table can be given back as it was before the epochs of a withdrawal. Where it cannot, its newest version
/// stays, and with it the rows of these epochs: a table without rows would be worse than one with some too many.
pub(in crate::filesystem::sink) fn can_give_back(
    table: &FileTable,
    scope: CommitScope,
    job: JobId,
    withdrawal: &Withdrawal,
) -> Result<bool> {
    let disk = table.env.disk.as_ref();
    let aside = table.root.join(WITHDRAWN).join(job.to_string()).join(scope.operator.to_string());
    let tombstone = aside.join(tombstone_name(withdrawal.first, withdrawal.last));
    // Once begun it is gone on with.
    if disk.exists(&tombstone).map_err(|e| Error::io(format!("look at {}", tombstone.display()), &e))? {
        return Ok(true);
    }
    let rows = MadeVisible { job, operator: scope.operator, after: Epoch(withdrawal.first.0.saturating_sub(1)) };
    match before(disk, &table.root, rows)? {
        Before::Gone(why) => {
            tracing::error!("epochs {} to {} of {} stay: {why}", withdrawal.first, withdrawal.last, table.name);
            Ok(false)
        }
        Before::Nothing | Before::Version { .. } => Ok(true),
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
    let Keeps::Table(options) = SinkOptions::of_table(&node.table)?.keeps else { return Ok(None) };
    Ok(match before(disk, folder, rows)? {
        Before::Gone(why) => Some(why),
        Before::Nothing if node.overwrite && options.is_plain => {
            Some("a file that INSERT OVERWRITE replaced does not come back".to_owned())
        }
        Before::Nothing => None,
        // Epochs may be committed until the rollback is decided, and each lets versions go: half of the retention is left
        // for that.
        Before::Version { replaced_ms, newest_ms } => {
            let is_young = replaced_ms > newest_ms.saturating_sub(options.retention_ms / 2);
            let why = || {
                "the version of the table to go back to may be gone before it is done: only half of \
                          `sink.table.retention` is gone back for sure"
                    .to_owned()
            };
            (!is_young).then(why)
        }
    })
}

/// What a table was before an operator of a job made the epochs after one.
enum Before {
    /// It made none of its versions, or the first of all.
    Nothing,
    /// A version that is there, which gave way then; and when the newest was written.
    Version { replaced_ms: i64, newest_ms: i64 },
    /// It cannot be given back, and why.
    Gone(String),
}

fn before(disk: &dyn Disk, folder: &Path, rows: MadeVisible) -> Result<Before> {
    let MadeVisible { job, operator, after } = rows;
    let is_after = |version: &TableVersion| version.job == job && version.operator == operator && version.epoch > after;
    let found = versions(disk, folder)?;
    if let Some((_, error)) = found.damaged.into_iter().next() {
        return Err(error);
    }
    let versions = found.counting;
    let Some(first) = versions.iter().find(|version| is_after(version)) else { return Ok(Before::Nothing) };
    let newest_ms = versions.last().map_or(first.written_ms, |newest| newest.written_ms);
    if let Some(other) = versions.iter().find(|version| version.number > first.number && !is_after(version)) {
        return Ok(Before::Gone(format!("job {} has gone on with the table, in version {}", other.job, other.number)));
    }
    let Some(previous) = first.previous else { return Ok(Before::Nothing) };
    let gone = || format!("version {previous} of the table is gone: `sink.table.retention` says how long one stays");
    let target = versions.iter().rev().find(|version| !is_after(version));
    let Some(target) = target.filter(|target| target.number == previous) else { return Ok(Before::Gone(gone())) };
    for file in &target.files {
        let path = commit::inside(folder, &file.path)?;
        if !disk.exists(&path).map_err(|e| Error::io(format!("look at {}", path.display()), &e))? {
            return Ok(Before::Gone(gone()));
        }
    }
    Ok(Before::Version { replaced_ms: first.written_ms, newest_ms })
}
