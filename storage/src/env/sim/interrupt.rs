//! One process that stops in the middle of an operation while another one acts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::env::{Disk, Entry, Env, File, OpenMode};

type Act = Box<dyn FnOnce() + Send>;

/// Runs something else just before the n-th operation on a disk or a file.
#[derive(Default)]
pub struct Interrupt {
    left: AtomicU64,
    act: Mutex<Option<Act>>,
}

impl Interrupt {
    /// The environment of the process that is interrupted.
    pub fn env(self: &Arc<Self>, env: &Env) -> Env {
        let disk = Arc::new(Interrupted { inner: env.disk.clone(), interrupt: self.clone() });
        Env { disk, ..env.clone() }
    }

    /// Something to do before the operation of this number, counted from 1 and from now on.
    pub fn arm(&self, at: u64, act: impl FnOnce() + Send + 'static) {
        *self.act() = Some(Box::new(act));
        self.left.store(at, Ordering::SeqCst);
    }

    /// No interruption from now on. Whether it has come to pass.
    pub fn disarm(&self) -> bool {
        self.left.store(0, Ordering::SeqCst);
        self.act().take().is_none()
    }

    fn act(&self) -> std::sync::MutexGuard<'_, Option<Act>> {
        self.act.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self) {
        let is_due = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) == Ok(1);
        let act = is_due.then(|| self.act().take()).flatten();
        if let Some(act) = act {
            act();
        }
    }
}

struct Interrupted {
    inner: Arc<dyn Disk>,
    interrupt: Arc<Interrupt>,
}

impl Interrupted {
    fn disk(&self) -> &dyn Disk {
        self.interrupt.operation();
        self.inner.as_ref()
    }
}

struct Handle {
    inner: Arc<dyn File>,
    interrupt: Arc<Interrupt>,
}

impl Handle {
    fn file(&self) -> &dyn File {
        self.interrupt.operation();
        self.inner.as_ref()
    }
}

impl Disk for Interrupted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.disk().open(path, mode)?;
        Ok(Arc::new(Handle { inner, interrupt: self.interrupt.clone() }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk().create_dir_all(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename_no_replace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk().remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk().remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk().sync_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.disk().metadata(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk().list(path)
    }
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk().real_path(path)
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file().read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file().write_all_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file().sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file().sync_all()
    }
    fn len(&self) -> io::Result<u64> {
        self.file().len()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.file().modified_ms()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file().set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file().allocate(len)
    }
    fn try_lock(&self) -> io::Result<()> {
        self.file().try_lock()
    }
}
