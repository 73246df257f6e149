//! Whole files that appear at once or not at all, whatever fails. The only place that publishes them.
//!
//! Every file that must be whole when it is seen (objects of the checkpoint store, a sink's final files,
//! small records) goes the same way:
//!
//! ```text
//! create draft -> write -> sync file -> rename to its name -> sync folder -> tell the caller
//!     .tmp-…                            (with or without replacing)
//! ```
//!
//! A crash before the rename leaves a draft, whose hidden name no reader looks at and which [`sweep`]
//! removes; a crash after it leaves the whole file, because its contents were synced before its name
//! existed. What must never happen: a name that leads to a part of the bytes, and an `Ok` for a file that
//! a power failure can take back (I7). A failed sync is never tried again (the second one would succeed without the
//! data). Of a file that has no name yet it is [`Error::Draft`]: the file is given up, and nobody else is concerned. Of
//! names it is [`Error::Sync`]: the caller stops writing.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qanat_proto::Code;
use qanat_proto::error::is_out_of_files;
use qanat_proto::zoo::{Bug, planted};

use crate::env::{Disk, Env, File, OpenMode};

/// How the names of drafts begin. Readers of a folder skip them, as every other hidden name.
pub const DRAFT_PREFIX: &str = ".tmp-";

/// Names tried for a draft. A taken one means the same 128 random bits as a leftover, which only a
/// replayed seed can bring about.
const NAME_TRIES: usize = 16;

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken, durably, by a file of someone else or of an earlier attempt.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// What is on disk is unknown from here on. Never retry.
    #[error("could not sync {}: {source}", path.display())]
    Sync { path: PathBuf, source: io::Error },
    /// A file that has no name yet could not be synced: it is given up.
    #[error("could not sync {}: {source}", path.display())]
    Draft { path: PathBuf, source: io::Error },
    #[error("could not {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}

impl From<Error> for qanat_proto::Error {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for qanat_proto::Error {
    fn from(error: &Error) -> Self {
        match error {
            Error::Exists(_) => Self::new(Code::Io, error.to_string()),
            // A folder that could not be opened to be synced: whoever tries again syncs it first.
            Error::Sync { path, source } if is_out_of_files(source) => {
                Self::io(format!("sync {}", path.display()), source)
            }
            Error::Sync { .. } | Error::Draft { .. } => Self::new(Code::FsyncFailed, error.to_string())
                .hint("look at the disk's health and the kernel log, then start again from the last checkpoint"),
            Error::Io { what, path, source } => Self::io(format!("{what} {}", path.display()), source),
        }
    }
}

/// Writes a new file. Never replaces: [`Error::Exists`] if the name is taken, and then the present file
/// is durable under it, so that a caller may compare it with what it wanted to write.
pub fn write_new(env: &Env, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut draft = Draft::create(env, folder_of(path))?;
    draft.write(bytes)?;
    draft.publish_new(path)
}

/// As [`write_new`], for a secret: nobody but its owner may ever read it.
pub fn write_new_private(env: &Env, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut draft = Draft::private_for(env, path)?;
    draft.write(bytes)?;
    draft.publish_new(path)
}

/// Writes a file, replacing what was there: readers and crashes find the old bytes or the new ones.
pub fn replace(env: &Env, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut draft = Draft::create(env, folder_of(path))?;
    draft.write(bytes)?;
    draft.publish_replacing(path)
}

/// Gives a file of [`write_new`] or [`replace`] a second name, without copying: such files never change.
/// [`Error::Exists`] as in [`write_new`]; `Error::Io` with `NotFound` if there is no such file.
pub fn copy_new(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Error> {
    match disk.link(from, to) {
        Ok(()) => sync_folder(disk, folder_of(to)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            sync_folder(disk, folder_of(to))?;
            Err(Error::Exists(to.into()))
        }
        Err(source) => Err(Error::Io { what: "copy", path: from.into(), source }),
    }
}

/// Like [`copy_new`], replacing what was at `to`.
pub fn copy_replacing(env: &Env, from: &Path, to: &Path) -> Result<(), Error> {
    let disk = env.disk.as_ref();
    let draft = folder_of(to).join(format!("{DRAFT_PREFIX}{:032x}", env.entropy.u128()));
    disk.link(from, &draft).map_err(Error::io("copy", from))?;
    let renamed = disk.rename(&draft, to).map_err(Error::io("publish", to));
    // Renaming a name onto another one of the same file leaves both. A failure is swept later.
    let _ = disk.remove_file(&draft);
    renamed?;
    sync_folder(disk, folder_of(to))
}

/// Gives a file another name in its folder, replacing what has that name.
pub fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Error> {
    disk.rename(from, to).map_err(Error::io("rename", from))?;
    sync_folder(disk, folder_of(to))
}

/// Removes a file for good. `Error::Io` with `NotFound` if it is not there.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    disk.remove_file(path).map_err(Error::io("remove", path))?;
    sync_folder(disk, folder_of(path))
}

/// Creates a folder and its missing parents, durably. A folder that is there already gets its own name
/// synced too: who made it may have been killed before that.
pub fn create_folder(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    let mut missing = Vec::new();
    let mut at = path;
    while !disk.exists(at).map_err(Error::io("look for", at))? {
        missing.push(at);
        at = folder_of(at);
    }
    disk.create_dir_all(path).map_err(Error::io("create folder", path))?;
    for folder in missing.iter().rev() {
        sync_folder(disk, folder_of(folder))?;
    }
    if missing.is_empty() && path.file_name().is_some() {
        match sync_folder(disk, folder_of(path)) {
            // The folder was given to us inside one we may not open; its name is its giver's matter.
            Err(Error::Sync { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    Ok(())
}

/// Removes the drafts that crashes left in a folder; returns how many. Only while nobody writes there.
pub fn sweep(disk: &dyn Disk, folder: &Path) -> Result<usize, Error> {
    let mut swept = 0;
    for entry in disk.list(folder).map_err(Error::io("list", folder))? {
        if !entry.is_dir && entry.path.file_name().is_some_and(is_draft) {
            match disk.remove_file(&entry.path) {
                Ok(()) => swept += 1,
                // Its owner has published it, or another process was faster.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { what: "remove", path: entry.path, source }),
            }
        }
    }
    Ok(swept)
}

/// Whether a name is one that [`Draft`] gives.
pub fn is_draft(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(DRAFT_PREFIX.as_bytes())
}

/// The folder that holds a path's name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// A file being written under a hidden name. Dropping it unpublished removes it (as far as possible).
pub struct Draft {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    path: PathBuf,
    len: u64,
    /// A write failed: what the file holds is not what was written.
    failed: bool,
    /// The hidden name is gone: nothing is left to clean up.
    published: bool,
}

impl Draft {
    /// Starts a draft in the folder where it will be published (a rename over two folders would need both
    /// to be synced and is not atomic).
    pub fn create(env: &Env, folder: &Path) -> Result<Self, Error> {
        Self::create_as(env, folder, OpenMode::CreateNew)
    }

    /// As [`Draft::create`], for a secret that is to be published at `path`: nobody but its owner may ever read it.
    pub fn private_for(env: &Env, path: &Path) -> Result<Self, Error> {
        Self::create_as(env, folder_of(path), OpenMode::CreatePrivate)
    }

    fn create_as(env: &Env, folder: &Path, mode: OpenMode) -> Result<Self, Error> {
        for _ in 0..NAME_TRIES {
            let path = folder.join(format!("{DRAFT_PREFIX}{:032x}", env.entropy.u128()));
            match env.disk.open(&path, mode) {
                Ok(file) => {
                    return Ok(Self { disk: env.disk.clone(), file, path, len: 0, failed: false, published: false });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::Io { what: "create", path, source }),
            }
        }
        Err(Error::Exists(folder.join(DRAFT_PREFIX)))
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let offset = self.len;
        self.len += bytes.len() as u64;
        self.write_at(bytes, offset)
    }

    /// Writes at a place of the caller's choice.
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.len = self.len.max(offset.saturating_add(bytes.len() as u64));
        self.file.write_all_at(bytes, offset).map_err(|source| {
            self.failed = true;
            Error::Io { what: "write", path: self.path.clone(), source }
        })
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes the contents durable. Publishing does so too; sync earlier to keep that step short.
    pub fn sync(&self) -> Result<(), Error> {
        if self.failed {
            let source = io::Error::other("an earlier write of this file failed");
            return Err(Error::Io { what: "publish", path: self.path.clone(), source });
        }
        self.file.sync_all().map_err(|source| Error::Draft { path: self.path.clone(), source })
    }

    /// Gives the file its name, which must lie in the draft's folder and be free.
    pub fn publish_new(mut self, path: &Path) -> Result<(), Error> {
        self.sync()?;
        match self.disk.rename_no_replace(&self.path, path) {
            Ok(()) => self.published = true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.published = self.disk.remove_file(&self.path).is_ok();
                // Whoever took the name may not have synced it yet, and the caller will rely on it.
                sync_folder(self.disk.as_ref(), folder_of(path))?;
                return Err(Error::Exists(path.into()));
            }
            Err(source) => return Err(Error::Io { what: "publish", path: path.into(), source }),
        }
        sync_folder(self.disk.as_ref(), folder_of(path))
    }

    /// Gives the file its name, which must lie in the draft's folder, replacing a file that has it.
    pub fn publish_replacing(mut self, path: &Path) -> Result<(), Error> {
        self.sync()?;
        self.disk.rename(&self.path, path).map_err(Error::io("publish", path))?;
        self.published = true;
        sync_folder(self.disk.as_ref(), folder_of(path))
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is swept at the next start.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    if planted(Bug::SkipFolderSync) {
        return Ok(());
    }
    disk.sync_dir(folder).map_err(|source| Error::Sync { path: folder.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::{CrashPlan, Operation};

    fn read(disk: &dyn Disk, path: &str) -> Option<Vec<u8>> {
        let file = match disk.open(Path::new(path), OpenMode::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            file => file.expect("opens"),
        };
        let mut bytes = vec![0; file.len().expect("has a length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("reads");
        Some(bytes)
    }

    #[test]
    fn every_crash_state_of_a_new_file_is_all_or_nothing() {
        let sim = Env::sim(1);
        create_folder(&sim.disk, Path::new("/store/deep")).expect("creates");
        let contents: Vec<u8> = (0..3000u32).map(|i| (i % 251) as u8 + 1).collect();
        sim.disk.record();
        write_new(&sim.env, Path::new("/store/deep/a"), &contents).expect("writes");
        sim.disk.mark(1);
        replace(&sim.env, Path::new("/store/deep/a"), b"second").expect("replaces");
        sim.disk.mark(2);
        remove(&sim.disk, Path::new("/store/deep/a")).expect("removes");
        sim.disk.mark(3);

        let trace = sim.disk.take_trace();
        let mut states = 0;
        for state in trace.crash_states().chain(trace.random_crash_states(9, 20)) {
            states += 1;
            let found = read(&state.disk, "/store/deep/a");
            let (first, second) = (Some(contents.clone()), Some(b"second".to_vec()));
            let allowed = match state.last_mark() {
                None => [None, first],
                Some(1) => [first, second],
                Some(2) => [second, None],
                Some(_) => [None, None],
            };
            assert!(allowed.contains(&found), "{state}");
            sweep(&state.disk, Path::new("/store/deep")).expect("sweeps");
            let left = state.disk.list(Path::new("/store/deep")).expect("lists").len();
            assert_eq!(left, usize::from(found.is_some()), "{state}");
        }
        assert!(states > 100, "{states}");
    }

    #[test]
    fn contents_are_synced_before_the_name_and_the_folder_after() {
        let sim = Env::sim(2);
        sim.disk.record();
        write_new(&sim.env, Path::new("/a"), b"x").expect("writes");
        let trace = sim.disk.take_trace();
        let kinds: Vec<&str> = trace
            .operations()
            .map(|operation| match operation {
                Operation::Create { .. } => "create",
                Operation::Write { .. } => "write",
                Operation::Sync { .. } => "sync",
                Operation::Rename { .. } => "rename",
                Operation::SyncDir { .. } => "sync folder",
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["create", "write", "sync", "rename", "sync folder"]);
    }

    #[test]
    fn a_taken_name_is_durable_and_never_replaced() {
        let sim = Env::sim(3);
        let path = Path::new("/a");
        let file = sim.disk.open(path, OpenMode::CreateNew).expect("creates");
        file.write_all_at(b"first", 0).expect("writes");
        file.sync_all().expect("syncs");
        assert!(matches!(write_new(&sim.env, path, b"second"), Err(Error::Exists(_))));
        sim.disk.crash(&CrashPlan::Nothing);
        assert_eq!(read(&sim.disk, "/a").as_deref(), Some(&b"first"[..]));
        assert_eq!(sim.disk.list(Path::new("/")).expect("lists").len(), 1);
    }

    #[test]
    fn folders_survive_once_created() {
        let sim = Env::sim(4);
        create_folder(&sim.disk, Path::new("/a/b/c")).expect("creates");
        sim.disk.crash(&CrashPlan::Nothing);
        assert!(sim.disk.metadata(Path::new("/a/b/c")).expect("is there").is_dir);

        // Made by someone who was killed before syncing it.
        sim.disk.create_dir_all(Path::new("/d")).expect("creates");
        create_folder(&sim.disk, Path::new("/d")).expect("creates");
        sim.disk.crash(&CrashPlan::Nothing);
        assert!(sim.disk.metadata(Path::new("/d")).expect("is there").is_dir);
    }

    #[test]
    fn failures_have_their_codes_and_leave_no_draft() {
        let sim = Env::sim(5);
        let code = |error: Error| qanat_proto::Error::from(error).code();
        sim.disk.fail_sync(1);
        let error = write_new(&sim.env, Path::new("/a"), b"x").expect_err("the sync fails");
        assert_eq!(code(error), Code::FsyncFailed);
        sim.disk.fail_sync(2);
        let error = write_new(&sim.env, Path::new("/a"), b"x").expect_err("the folder's sync fails");
        assert_eq!(code(error), Code::FsyncFailed);
        sim.disk.set_capacity(Some(4096));
        let error = write_new(&sim.env, Path::new("/b"), &[1; 9000]).expect_err("the disk is full");
        assert_eq!(code(error), Code::DiskFull);
        sim.disk.set_capacity(None);
        sim.disk.fail_write(1);
        let error = write_new(&sim.env, Path::new("/b"), b"x").expect_err("the write fails");
        assert_eq!(code(error), Code::Io);
        sim.disk.deny(Path::new("/"));
        let error = write_new(&sim.env, Path::new("/b"), b"x").expect_err("nothing may be written");
        assert_eq!(code(error), Code::PermissionDenied);
        sim.disk.allow(Path::new("/"));
        let names = sim.disk.list(Path::new("/")).expect("lists");
        assert!(names.iter().all(|entry| !entry.path.file_name().is_some_and(is_draft)), "{names:?}");
    }
}
