//! Folders made and emptied so that a power failure undoes nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use qanat_proto::error::{Code, Error, Result, is_out_of_files};
use qanat_storage::env::Env;

/// The path that an option names: a plain path or a `file:` URL.
pub(super) fn local_path(text: &str) -> Result<PathBuf> {
    let path = match text.split_once("://") {
        None => text.strip_prefix("file:").unwrap_or(text),
        Some(("file", rest)) => rest,
        Some((scheme, _)) => {
            return Err(Error::new(
                Code::BadOption,
                format!("`{scheme}://` is not a place that files can be written to"),
            )
            .hint("`path` takes a local folder"));
        }
    };
    if path.is_empty() || path.contains('\0') {
        return Err(Error::new(Code::BadOption, "`path` is empty").hint("`path` takes a local folder"));
    }
    Ok(PathBuf::from(path))
}

/// Creates the table's folder and makes its name durable, whether or not it was there: an earlier
/// process may have made it and died before its sync.
pub(super) fn create_root(env: &Env, root: &Path) -> Result<()> {
    let first_missing = first_missing(env, root)?;
    env.disk.create_dir_all(root).map_err(|e| Error::io(format!("create folder {}", root.display()), &e))?;
    let mut folder = parent(root);
    loop {
        match env.disk.sync_dir(&folder) {
            Ok(()) => {}
            // A folder that may not be read cannot be synced; it is only ours to sync where we made a name in it.
            Err(e) if e.kind() == ErrorKind::PermissionDenied && first_missing.is_none() => {}
            Err(e) => return Err(sync_error(&folder, &e)),
        }
        match &first_missing {
            Some(missing) if folder != parent(missing) && folder.starts_with(parent(missing)) => {
                folder = parent(&folder)
            }
            _ => return Ok(()),
        }
    }
}

/// Creates a folder inside the table's folder; its name is durable when this returns.
pub(super) fn create_synced(env: &Env, path: &Path) -> Result<()> {
    env.disk.create_dir_all(path).map_err(|e| Error::io(format!("create folder {}", path.display()), &e))?;
    sync(env, &parent(path))
}

/// Syncs `folder` and the folders above it up to and including `root`.
pub(super) fn sync_up_to(env: &Env, folder: &Path, root: &Path) -> Result<()> {
    let mut at = folder.to_owned();
    loop {
        sync(env, &at)?;
        if at == root || !at.starts_with(root) {
            return Ok(());
        }
        at = parent(&at);
    }
}

pub(super) fn sync(env: &Env, folder: &Path) -> Result<()> {
    env.disk.sync_dir(folder).map_err(|e| sync_error(folder, &e))
}

/// A failed sync: nothing may be assumed about what is on disk, so it is never retried (S15). A full
/// disk is told as such: the staged file is given up with its generation.
pub(super) fn sync_error(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::PermissionDenied | ErrorKind::NotFound => {
            Error::io(format!("sync {}", path.display()), error)
        }
        // The folder could not even be opened.
        _ if is_out_of_files(error) => Error::io(format!("sync {}", path.display()), error),
        _ => Error::new(Code::FsyncFailed, format!("could not sync {}: {error}", path.display())),
    }
}

/// Removes the files of a folder whose names satisfy `condemned`, and makes that durable. A folder that
/// is not there holds none.
pub(super) fn remove_where(env: &Env, folder: &Path, condemned: impl Fn(&str) -> bool) -> Result<()> {
    let entries = match env.disk.list(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(format!("list {}", folder.display()), &e)),
    };
    let mut removed = false;
    for entry in entries.iter().filter(|e| !e.is_dir) {
        if entry.path.file_name().and_then(|n| n.to_str()).is_some_and(&condemned) {
            remove_if_there(env, &entry.path)?;
            removed = true;
        }
    }
    if removed { sync(env, folder) } else { Ok(()) }
}

pub(super) fn remove_if_there(env: &Env, path: &Path) -> Result<()> {
    match env.disk.remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("remove {}", path.display()), &e)),
    }
}

pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// The highest folder on the way to `path` that is not there yet.
fn first_missing(env: &Env, path: &Path) -> Result<Option<PathBuf>> {
    let mut missing = None;
    for ancestor in path.ancestors().filter(|a| !a.as_os_str().is_empty()) {
        match env.disk.exists(ancestor) {
            Ok(true) => break,
            Ok(false) => missing = Some(ancestor.to_owned()),
            Err(e) => return Err(Error::io(format!("look at {}", ancestor.display()), &e)),
        }
    }
    Ok(missing)
}
