//! A rollback takes files back (P10): the list was fixed when it was decided, never what is there when this runs.
//!
//! ```text
//! 1  the tombstone is written whole, synced, linked to its name: from here on no reader of records sees the epochs
//! 2  staged names go aside, the staging folder is synced: no late zombie finds one to publish
//! 3  final names go aside, every touched folder is synced
//! ```
//! Between any two steps the same withdrawal, run again by any generation, goes on. A zombie that publishes between 2
//! and 3 is caught by 3; one that writes its record is outranked by the tombstone.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use qanat_proto::control::Withdrawal;
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::JobId;
use qanat_storage::crash_safe;
use serde::Serialize;

use super::commit::inside;
use super::{FileTable, folder};
use crate::contract::CommitScope;
use crate::filesystem::withdrawn::{WITHDRAWN, tombstone_name};

/// What a tombstone says, for people: its name alone counts.
#[derive(Serialize)]
struct Tombstone<'a> {
    version: u32,
    job: JobId,
    operator: qanat_proto::ids::OperatorId,
    first: qanat_proto::ids::Epoch,
    last: qanat_proto::ids::Epoch,
    files: &'a [&'a str],
}

pub(super) fn withdraw(table: &FileTable, scope: CommitScope, job: JobId, withdrawal: &Withdrawal) -> Result<()> {
    let env = &table.env;
    let names: Vec<&str> = withdrawal.names(scope.operator).collect();
    folder::create_root(env, &table.root)?;
    let aside = table.root.join(WITHDRAWN).join(job.to_string()).join(scope.operator.to_string());
    write_tombstone(table, scope, job, withdrawal, &names, &aside)?;
    let staging = table.staged_folder();
    for (folder, is_staged) in [(&staging, true), (&table.root, false)] {
        let mut from = BTreeSet::new();
        let mut to = BTreeSet::new();
        for name in &names {
            let target = inside(&aside, name)?;
            let source = match is_staged {
                true => inside(folder, staged_of(name))?,
                false => inside(folder, name)?,
            };
            move_aside(table, &source, &target)?;
            from.insert(folder::parent(&source));
            to.insert(folder::parent(&target));
        }
        // Synced even if nothing was there: the move may be a dead predecessor's.
        for folder in to.iter().chain(&from) {
            if env.disk.exists(folder).map_err(|e| Error::io(format!("look at {}", folder.display()), &e))? {
                folder::sync_up_to(env, folder, &table.root)?;
            }
        }
    }
    Ok(())
}

fn write_tombstone(
    table: &FileTable,
    scope: CommitScope,
    job: JobId,
    withdrawal: &Withdrawal,
    files: &[&str],
    aside: &Path,
) -> Result<()> {
    let env = &table.env;
    let (first, last) = (withdrawal.first, withdrawal.last);
    let tombstone = Tombstone { version: 1, job, operator: scope.operator, first, last, files };
    let mut bytes = serde_json::to_vec(&tombstone).map_err(|e| Error::internal(format!("write a tombstone: {e}")))?;
    bytes.push(b'\n');
    crash_safe::create_folder(env.disk.as_ref(), aside)?;
    match crash_safe::write_new(env, &aside.join(tombstone_name(first, last)), &bytes) {
        // Of two withdrawals of one job the epochs differ: this one was begun before.
        Ok(()) | Err(crash_safe::Error::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    crash_safe::sweep(env.disk.as_ref(), aside)?;
    Ok(())
}

/// `carrier=AA/part-<object>.csv` was staged as `<object>.csv`.
fn staged_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_prefix("part-").unwrap_or(name)
}

/// What is not there was never published, or went before.
pub(super) fn move_aside(table: &FileTable, from: &Path, to: &Path) -> Result<()> {
    let disk = table.env.disk.as_ref();
    let failed = |e: &std::io::Error| Error::io(format!("withdraw {}", from.display()), e);
    if !disk.exists(from).map_err(|e| failed(&e))? {
        return Ok(());
    }
    let folder = folder::parent(to);
    disk.create_dir_all(&folder).map_err(|e| failed(&e))?;
    match disk.rename_no_replace(from, to) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // Its other name went first: the names are unique for ever, so these are the same rows.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => folder::remove_if_there(&table.env, from),
        Err(e) => Err(failed(&e)),
    }
}
