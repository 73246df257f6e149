//! The storage that all processes of a cluster reach: checkpoints and topics.
//!
//! ```text
//! <storage>/.cluster       the id of the cluster that owns it
//! <storage>/checkpoints/   manifests and state of all jobs
//! <storage>/topics/        the embedded log's topics
//! ```

use std::path::Path;
use std::sync::Arc;

use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::crash_safe;
use qanat_storage::env::Env;
use qanat_storage::log::{GroupCommit, Topics};
use qanat_storage::object::Objects;

use crate::data_folder::make_dir;
use qanat_storage::small_file;

/// An opened storage folder.
pub(crate) struct Storage {
    pub(crate) checkpoints: Arc<CheckpointStore>,
    pub(crate) topics: Arc<Topics>,
}

impl Storage {
    /// Opens the folder for a cluster, and makes it that cluster's if it is new.
    ///
    /// # Errors
    /// E0302 if it belongs to another cluster.
    pub(crate) fn open(env: &Env, root: &Path, cluster: &str) -> Result<Self> {
        make_dir(env, root)?;
        bind(env, root, cluster)?;
        let checkpoints = CheckpointStore::new(Objects::in_directory(env, &root.join("checkpoints"))?);
        let topics = Topics::open_shared(env.clone(), root.join("topics"), GroupCommit::spawn()?)?;
        Ok(Self { checkpoints: Arc::new(checkpoints), topics: Arc::new(topics) })
    }
}

/// Makes a folder the cluster's own, or checks that it is.
pub(crate) fn bind(env: &Env, root: &Path, cluster: &str) -> Result<()> {
    let path = root.join(".cluster");
    let line = format!("{cluster}\n");
    let known = read(env, &path)?;
    let known = match known {
        Some(known) => known,
        // Of several processes that start at once one is first; the others read what it wrote.
        None => match crash_safe::write_new(env, &path, &small_file::sealed(&line)) {
            Ok(()) => line.clone(),
            Err(error) => read(env, &path)?.ok_or_else(|| Error::from(error))?,
        },
    };
    if known == line {
        return Ok(());
    }
    Err(Error::new(Code::ForeignState, "this folder belongs to another cluster")
        .at(Place::Named(root.display().to_string()))
        .hint("give each cluster folders of its own"))
}

fn read(env: &Env, path: &Path) -> Result<Option<String>> {
    const BYTES_MAX: u64 = 256;
    small_file::read_sealed(env, path, BYTES_MAX, "the id of a cluster's folder is damaged")
}
