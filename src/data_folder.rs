//! The data folder: topics and jobs of one process.
//!
//! ```text
//! <data>/.lock            held while a process owns the folder
//! <data>/topics/          the embedded log's topics
//! <data>/jobs/<name>/     commands/ (the command log), checkpoints/ (manifests and state)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qanat_coordinator::command_log::CommandLog;
use qanat_coordinator_core::State;
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::{Env, File, OpenMode};
use qanat_storage::log::{GroupCommit, Topics};
use qanat_storage::object::Objects;

/// An owned data folder.
pub(crate) struct DataFolder {
    pub(crate) env: Env,
    pub(crate) root: PathBuf,
    pub(crate) topics: Arc<Topics>,
    _lock: Arc<dyn File>,
}

impl DataFolder {
    /// Creates what is missing and takes the lock.
    ///
    /// # Errors
    /// E0303 if another process owns the folder.
    pub(crate) fn open(env: &Env, root: &Path) -> Result<Self> {
        let lock = lock(env, root)?;
        let topics = Arc::new(Topics::open(env.clone(), root.join("topics"), GroupCommit::spawn()?)?);
        Ok(Self { env: env.clone(), root: root.to_owned(), topics, _lock: lock })
    }

    pub(crate) fn job_folder(&self, name: &Name) -> PathBuf {
        self.root.join("jobs").join(name.as_str())
    }
}

/// The durable part of a job (or of the jobs of one script).
pub(crate) struct JobFolder {
    pub(crate) log: CommandLog,
    pub(crate) state: State,
    pub(crate) checkpoints: Arc<CheckpointStore>,
}

impl JobFolder {
    /// Opens or creates the folder and reads the command log.
    ///
    /// # Errors
    /// E0304 for a damaged log, E0307 for one of another version.
    pub(crate) fn open(env: &Env, path: &Path) -> Result<Self> {
        make_dir(env, path)?;
        let (log, commands) = CommandLog::open(env, &path.join("commands"))?;
        let mut state = State::default();
        for command in &commands {
            // A refused command is part of history and changes nothing.
            let _ = state.apply(command);
        }
        let checkpoints = Arc::new(CheckpointStore::new(Objects::in_directory(env, &path.join("checkpoints"))?));
        Ok(Self { log, state, checkpoints })
    }
}

fn lock(env: &Env, folder: &Path) -> Result<Arc<dyn File>> {
    make_dir(env, folder)?;
    let path = folder.join(".lock");
    let failed = |e: std::io::Error| Error::io(format!("open `{}`", path.display()), &e);
    let file = env.disk.open(&path, OpenMode::OpenOrCreate).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Error::new(Code::DataFolderLocked, "another process owns this data folder")
                .at(Place::Named(folder.display().to_string()))
                .hint("stop it, or use another folder with --data"))
        }
        Err(e) => Err(failed(e)),
    }
}

/// Creates a folder durably.
pub(crate) fn make_dir(env: &Env, path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(format!("create folder `{}`", path.display()), &e);
    if env.disk.exists(path).map_err(failed)? {
        return Ok(());
    }
    env.disk.create_dir_all(path).map_err(failed)?;
    let mut parent = path.parent();
    while let Some(folder) = parent.filter(|folder| !folder.as_os_str().is_empty()) {
        env.disk.sync_dir(folder).map_err(failed)?;
        parent = folder.parent();
    }
    Ok(())
}
