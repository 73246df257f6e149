//! What `INSERT OVERWRITE` takes away: a list fixed before the first claim, never what is there later (P10).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qanat_proto::error::{Error, Result};
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::names::Origin;
use qanat_storage::env::Env;
use serde::{Deserialize, Serialize};

use super::folder;
use crate::filesystem::committed::read_record;

/// One file that stood in the folder when the job began. It is removed only if it is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Relative to the table's folder, with `/` between segments.
    pub path: String,
    pub bytes: u64,
    pub modified_ms: i64,
}

/// What an overwrite of a partitioned table has done so far: a partition's old files go with the first
/// epoch that writes to it.
#[derive(Debug, Default)]
pub(super) struct Overwritten {
    /// The files that stood in the folder when the job began.
    listed: Vec<Removal>,
    /// The first epoch that wrote to a partition.
    first: BTreeMap<String, Epoch>,
    /// The partition that goes with the first epoch of all.
    emptied: Option<String>,
}

impl Overwritten {
    /// From the records of earlier epochs.
    pub(super) fn load(env: &Env, records: &Path, emptied: Option<String>) -> Result<Self> {
        let mut overwritten = Self { emptied, ..Self::default() };
        let entries = match env.disk.list(records) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(overwritten),
            Err(e) => return Err(Error::io(format!("list {}", records.display()), &e)),
        };
        for entry in entries.iter().filter(|entry| super::commit::record_epoch(&entry.path).is_some()) {
            let Some(record) = read_record(env.disk.as_ref(), &entry.path)? else { continue };
            overwritten.add(record.epoch, &record.replaceable, record.files.iter().map(|file| file.path.as_str()));
        }
        Ok(overwritten)
    }

    /// Notes what an epoch brings.
    pub(super) fn add<'f>(&mut self, epoch: Epoch, listed: &[Removal], files: impl Iterator<Item = &'f str>) {
        if !listed.is_empty() {
            self.listed = listed.to_vec();
        }
        // The list comes with the first epoch.
        let emptied = self.emptied.clone().filter(|_| !listed.is_empty());
        for partition in files.map(|file| partition_of(file).to_owned()).chain(emptied) {
            let first = self.first.entry(partition).or_insert(epoch);
            *first = (*first).min(epoch);
        }
    }

    /// The listed files of the partitions that `epoch` is the first to write to.
    pub(super) fn removals(&self, epoch: Epoch) -> Vec<Removal> {
        let goes = |removal: &&Removal| self.first.get(partition_of(&removal.path)) == Some(&epoch);
        self.listed.iter().filter(goes).cloned().collect()
    }
}

fn partition_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(partition, _)| partition)
}

/// The data files of a folder and of the folders in it, those of `job` itself excepted. Of a folder that is a
/// link, only the link belongs to the table, unless it is a partition.
pub(super) fn list(env: &Env, root: &Path, job: JobId, is_partitioned: bool) -> Result<Vec<Removal>> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        let entries = env.disk.list(&path).map_err(|e| Error::io(format!("list {}", path.display()), &e))?;
        for entry in entries {
            let Some(name) = entry.path.file_name().and_then(|n| n.to_str()) else { continue };
            let own =
                name.strip_prefix("part-").and_then(Origin::parse_object).is_some_and(|(o, _)| o.token.job == job);
            if name.starts_with(['.', '_']) || own {
                continue;
            }
            let relative = format!("{prefix}{name}");
            let is_partition = is_partitioned && name.contains('=');
            if entry.is_dir && (is_partition || !is_link(env, &entry.path)?) {
                folders.push((entry.path.clone(), format!("{relative}/")));
            } else {
                found.push(Removal { path: relative, bytes: entry.len, modified_ms: entry.modified_ms });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Whether the last name of a path is a symbolic link.
fn is_link(env: &Env, path: &Path) -> Result<bool> {
    let real = |path: &Path| env.disk.real_path(path).map_err(|e| Error::io(format!("look at {}", path.display()), &e));
    let name = path.file_name().unwrap_or_default();
    Ok(real(path)? != real(&folder::parent(path))?.join(name))
}

/// Removes what is still as the list says, and makes that durable.
pub(super) fn remove(env: &Env, root: &Path, removals: &[Removal]) -> Result<()> {
    let mut touched: Vec<PathBuf> = Vec::new();
    for removal in removals {
        let path = super::commit::inside(root, &removal.path)?;
        let unchanged = match env.disk.metadata(&path) {
            Ok(entry) => entry.len == removal.bytes && entry.modified_ms == removal.modified_ms,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(format!("look at {}", path.display()), &e)),
        };
        if unchanged {
            folder::remove_if_there(env, &path)?;
        }
        // Synced even if it was gone: the removal may be a dead predecessor's.
        let parent = folder::parent(&path);
        if !touched.contains(&parent) && env.disk.exists(&parent).unwrap_or(false) {
            touched.push(parent);
        }
    }
    touched.iter().try_for_each(|folder| folder::sync(env, folder))
}
