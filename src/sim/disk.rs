//! What a simulated process sees of disks: its machine's own, and the storage that all machines share.
//!
//! Paths below [`OWN`] lie on the machine's own disk, all others in the shared storage, as behind a mount. When the
//! process dies its files are closed and its locks are gone, though its threads still hold them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use qanat_storage::env::sim::SimDisk;
use qanat_storage::env::thread::{self, Thread};
use qanat_storage::env::{Disk, Entry, File, OpenMode};

/// Where a machine's own disk is mounted.
pub(super) const OWN: &str = "/.sim/own";

/// One of the two.
#[derive(Default)]
struct Mount {
    /// Each sync takes so long, in ms.
    sync_takes_ms: AtomicU64,
    /// Calls that failed: for want of room, and by themselves.
    full: AtomicU64,
    broken: AtomicU64,
    slow: AtomicU64,
}

impl Mount {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::StorageFull, _) => drop(self.full.fetch_add(1, Ordering::Relaxed)),
                // EIO
                (_, Some(5)) => drop(self.broken.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        result
    }

    fn rest(&self) {
        let takes = self.sync_takes_ms.load(Ordering::Relaxed);
        if takes > 0 && matches!(thread::current(), Thread::Simulated(_)) {
            self.slow.fetch_add(1, Ordering::Relaxed);
            thread::rest(Duration::from_millis(takes));
        }
    }
}

/// How the disks of one process behave, until it dies.
#[derive(Default)]
pub(super) struct Life {
    is_over: AtomicBool,
    open: Mutex<Vec<Weak<Slot>>>,
    own: Mount,
    shared: Mount,
}

/// An open file, until the process dies.
type Slot = Mutex<Option<Arc<dyn File>>>;

/// What went wrong on the disks of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Troubles {
    pub(super) full: u64,
    pub(super) broken: u64,
    pub(super) slow: u64,
}

impl Life {
    /// The process is dead: nothing it does reaches a disk any more.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for slot in open.iter().filter_map(Weak::upgrade) {
            // Without the lock: to close a file locks the disk.
            let file = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(file);
        }
    }

    fn mount(&self, is_own: bool) -> &Mount {
        if is_own { &self.own } else { &self.shared }
    }

    pub(super) fn slow_down(&self, is_own: bool, sync_takes_ms: u64) {
        self.mount(is_own).sync_takes_ms.store(sync_takes_ms, Ordering::Relaxed);
    }

    pub(super) fn troubles(&self, is_own: bool) -> Troubles {
        let mount = self.mount(is_own);
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Troubles { full: of(&mount.full), broken: of(&mount.broken), slow: of(&mount.slow) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_over.load(Ordering::Relaxed) { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }
}

/// Both disks, as the process sees them.
pub(super) struct ProcessDisk {
    pub(super) own: SimDisk,
    pub(super) shared: SimDisk,
    pub(super) life: Arc<Life>,
}

impl ProcessDisk {
    fn at<T>(&self, path: &Path, act: impl FnOnce(&SimDisk) -> io::Result<T>) -> io::Result<T> {
        self.life.alive()?;
        let is_own = path.starts_with(OWN);
        let disk = if is_own { &self.own } else { &self.shared };
        self.life.mount(is_own).note(act(disk))
    }

    /// Both on one disk.
    fn at_both<T>(&self, from: &Path, to: &Path, act: impl FnOnce(&SimDisk) -> io::Result<T>) -> io::Result<T> {
        match from.starts_with(OWN) == to.starts_with(OWN) {
            true => self.at(to, act),
            false => Err(io::ErrorKind::CrossesDevices.into()),
        }
    }
}

impl Disk for ProcessDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.at(path, |disk| disk.open(path, mode))?;
        let slot = Arc::new(Slot::new(Some(file)));
        let mut open = self.life.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= 1_000 && open.len().is_power_of_two() {
            open.retain(|slot| slot.strong_count() > 0);
        }
        open.push(Arc::downgrade(&slot));
        Ok(Arc::new(ProcessFile { slot, life: self.life.clone(), is_own: path.starts_with(OWN) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.at(path, |disk| disk.create_dir_all(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at_both(from, to, |disk| disk.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at_both(from, to, |disk| disk.rename(from, to))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at_both(from, to, |disk| disk.rename_no_replace(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.at(path, |disk| disk.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.at(path, |disk| disk.remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.life.mount(path.starts_with(OWN)).rest();
        self.at(path, |disk| disk.sync_dir(path))
    }

    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.at(path, |disk| disk.metadata(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.at(path, |disk| disk.list(path))
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        self.at(path, |disk| disk.metadata(path).map(|entry| entry.path))
    }
}

struct ProcessFile {
    slot: Arc<Slot>,
    life: Arc<Life>,
    is_own: bool,
}

impl ProcessFile {
    fn with<T>(&self, act: impl FnOnce(&dyn File) -> io::Result<T>) -> io::Result<T> {
        self.life.alive()?;
        let file = self.slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let file = file.ok_or_else(|| io::Error::other("the process is dead"))?;
        self.life.mount(self.is_own).note(act(file.as_ref()))
    }

    fn sync(&self, act: impl FnOnce(&dyn File) -> io::Result<()>) -> io::Result<()> {
        self.life.mount(self.is_own).rest();
        self.with(act)
    }
}

impl File for ProcessFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| file.read_at(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|file| file.write_all_at(bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|file| file.sync_all())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.with(|file| file.modified_ms())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.allocate(len))
    }

    fn try_lock(&self) -> io::Result<()> {
        self.with(|file| file.try_lock())
    }
}
