//! One process that stops in the middle of an operation while another one acts, or dies there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::env::{Disk, Entry, Env, File, OpenMode};

type Act = Box<dyn FnOnce() + Send>;

/// Runs something else just before the n-th operation on a disk or a file, or lets nothing be done from one on.
#[derive(Default)]
pub struct Interrupt {
    done: AtomicU64,
    /// The last operation that is done; 0: there is none.
    last: AtomicU64,
    acts: Mutex<Vec<(u64, Act)>>,
}

impl Interrupt {
    /// The environment of the process that is interrupted.
    pub fn env(self: &Arc<Self>, env: &Env) -> Env {
        let disk = Arc::new(Interrupted { inner: env.disk.clone(), interrupt: self.clone() });
        Env { disk, ..env.clone() }
    }

    /// Something to do before the operation of this number, counted from 1 and from now on; one after the other if there
    /// are several.
    pub fn arm(&self, at: u64, act: impl FnOnce() + Send + 'static) {
        self.acts().push((self.done.load(Ordering::SeqCst) + at, Box::new(act)));
    }

    /// The process is dead after so many operations from now on: whatever it would do behind them comes to nothing.
    pub fn die_after(&self, operations: u64) {
        self.last.store(self.done.load(Ordering::SeqCst) + operations.max(1), Ordering::SeqCst);
    }

    /// Whether it came to that.
    pub fn is_dead(&self) -> bool {
        let last = self.last.load(Ordering::SeqCst);
        last > 0 && self.done.load(Ordering::SeqCst) > last
    }

    /// No interruption from now on. Whether all have come to pass.
    pub fn disarm(&self) -> bool {
        std::mem::take(&mut *self.acts()).is_empty()
    }

    fn acts(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Act)>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self) -> io::Result<()> {
        let now = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        let last = self.last.load(Ordering::SeqCst);
        if last > 0 && now > last {
            return Err(io::Error::other("the process is dead"));
        }
        let due: Vec<(u64, Act)> = self.acts().extract_if(.., |(at, _)| *at <= now).collect();
        for (_, act) in due {
            act();
        }
        Ok(())
    }
}

struct Interrupted {
    inner: Arc<dyn Disk>,
    interrupt: Arc<Interrupt>,
}

impl Interrupted {
    fn disk(&self) -> io::Result<&dyn Disk> {
        self.interrupt.operation()?;
        Ok(self.inner.as_ref())
    }
}

struct Handle {
    inner: Arc<dyn File>,
    interrupt: Arc<Interrupt>,
}

impl Handle {
    fn file(&self) -> io::Result<&dyn File> {
        self.interrupt.operation()?;
        Ok(self.inner.as_ref())
    }
}

impl Disk for Interrupted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.disk()?.open(path, mode)?;
        Ok(Arc::new(Handle { inner, interrupt: self.interrupt.clone() }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk()?.create_dir_all(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk()?.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk()?.rename(from, to)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk()?.rename_no_replace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk()?.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk()?.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk()?.sync_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.disk()?.metadata(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        // Names, and then what each of them leads to, as on a real disk.
        let mut entries = self.disk()?.list(path)?;
        entries.retain(|entry| self.disk().and_then(|disk| disk.metadata(&entry.path)).is_ok());
        Ok(entries)
    }
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk()?.real_path(path)
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file()?.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file()?.write_all_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file()?.sync_all()
    }
    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.file()?.modified_ms()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file()?.allocate(len)
    }
    fn try_lock(&self) -> io::Result<()> {
        self.file()?.try_lock()
    }
}
