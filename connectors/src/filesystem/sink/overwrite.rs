//! What `INSERT OVERWRITE` takes away: a list fixed before the first claim, never what is there later (P10).

use std::path::{Path, PathBuf};

use qanat_proto::error::{Error, Result};
use qanat_proto::ids::JobId;
use qanat_proto::names::Origin;
use qanat_storage::env::Env;
use serde::{Deserialize, Serialize};

use super::folder;

/// One file that stood in the folder when the job began. It is removed only if it is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removal {
    /// Relative to the table's folder, with `/` between segments.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ms: i64,
}

/// The data files of a folder and of the folders in it, those of `job` itself excepted.
pub(super) fn list(env: &Env, root: &Path, job: JobId) -> Result<Vec<Removal>> {
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
            if entry.is_dir {
                folders.push((entry.path.clone(), format!("{relative}/")));
            } else {
                found.push(Removal { path: relative, bytes: entry.len, modified_ms: entry.modified_ms });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
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
