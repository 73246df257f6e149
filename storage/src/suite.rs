//! The contracts of this crate's traits, as tests that any implementation can be put through.
//!
//! A `#[test]` beside each implementation calls the function of its trait; a violated contract is a panic
//! with what was expected. [`disk`] and [`object_store`] run on the real and on the simulated disk alike,
//! so what the simulator proves holds on the machine too.

mod disk;
mod object_store;
#[cfg(test)]
mod tests;

pub use disk::disk;
pub use object_store::{object_store, object_store_crashes};

use std::path::{Path, PathBuf};

use crate::env::{Disk, Env};

/// A folder for one test on the real disk, removed when dropped.
pub struct Scratch {
    env: Env,
    path: PathBuf,
}

impl Scratch {
    /// A new, empty folder below the system's folder for temporary files.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn new() -> Self {
        let env = Env::real();
        let path = std::env::temp_dir().join(format!("qanat-test-{:032x}", env.entropy.u128()));
        env.disk.create_dir_all(&path).expect("the folder for temporary files is writable");
        Self { env, path }
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_all(self.env.disk.as_ref(), &self.path);
    }
}

/// Best effort: what cannot be removed stays among the system's temporary files.
fn remove_all(disk: &dyn Disk, folder: &Path) {
    for entry in disk.list(folder).unwrap_or_default() {
        if entry.is_dir {
            remove_all(disk, &entry.path);
        } else {
            let _ = disk.remove_file(&entry.path);
        }
    }
    let _ = disk.remove_dir(folder);
}
