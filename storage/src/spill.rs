//! State beside memory: bytes by key on the local disk, for as long as a process lives.
//!
//! What operators put aside here stands in the checkpoints too, so that nothing is made durable: a store begins empty and
//! ends with whoever opened it. Reads and writes block; operators do neither (`executor::spill` does both for them).
//!
//! Entries come by the thousand, are asked for by the thousand, and are never looked at in the order of their keys. So
//! each write is a *run*, a file of entries sorted by the hashes of their keys ([`run`]); in memory it has a Bloom filter
//! and the place of each block. A read asks the runs from the newest on, at most one block of each. Four runs of a tier
//! are merged into one of the next ([`merge`]), so that an entry is written once per tier and there are few runs: the
//! scheme of O'Neil et al., *The log-structured merge-tree* (1996), in tiers.

mod bloom;
mod entries;
mod merge;
mod run;
mod space;

pub use entries::{Entries, Keys};
pub use space::Space;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qanat_proto::error::{Error, Result};

use crate::env::Env;

/// A folder that the operators of one generation of a job share.
pub struct Store {
    folder: Arc<Folder>,
    next: AtomicU64,
}

/// Goes with the last of the store and its spaces.
struct Folder {
    env: Env,
    path: PathBuf,
}

impl Store {
    /// `folder`: nobody else's; it is made when it is needed, and removed when it is not.
    pub fn new(env: &Env, folder: impl Into<PathBuf>) -> Self {
        let folder = Folder { env: env.clone(), path: folder.into() };
        Self { folder: Arc::new(folder), next: AtomicU64::new(0) }
    }

    /// Removes what processes that died have left below `root`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clear(env: &Env, root: &Path) -> Result<()> {
        let failed = |e| Error::io(format!("empty `{}`", root.display()), &e);
        let entries = match env.disk.list(root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            if entry.is_dir {
                Self::clear(env, &entry.path)?;
                env.disk.remove_dir(&entry.path).map_err(failed)?;
            } else {
                env.disk.remove_file(&entry.path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Keys of their own for one operator of one subtask.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn space(&self) -> Result<Space> {
        let Folder { env, path } = self.folder.as_ref();
        env.disk.create_dir_all(path).map_err(|e| Error::io(format!("make `{}`", path.display()), &e))?;
        Ok(Space::new(Arc::clone(&self.folder), self.next.fetch_add(1, Ordering::AcqRel)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is removed by the next start.
        let _ = self.env.disk.remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests;
