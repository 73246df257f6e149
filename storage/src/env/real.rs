//! The production environment: the operating system's disk, clocks and entropy.
//!
//! `main` builds it once ([`Env::real`]) and hands it down. Every durable effect of Qanat ends in one
//! of the calls of this file, so nothing here may retry a failed sync or report one as done.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, Disk, Entropy, Entry, Env, File, OpenMode};

impl Env {
    /// The operating system's disk, clocks and entropy.
    pub fn real() -> Self {
        Self { disk: Arc::new(RealDisk), clock: Arc::new(RealClock::default()), entropy: Arc::new(RealEntropy) }
    }
}

/// The file systems of this machine. Relative paths count from the working directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::CreatePrivate => {
                options.write(true).create_new(true).mode(0o600);
            }
            OpenMode::OpenOrCreate => {
                options.write(true).create(true).truncate(false);
            }
        }
        // A pipe would wait for a writer, a device may never end. What is not there is for `open` to say.
        if mode == OpenMode::Read && fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is a pipe or a device, not a file"));
        }
        let file = options.open(path)?;
        // Unix opens a folder for reading without complaint; the contract says a file.
        if mode == OpenMode::Read && file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rename_exclusive(from, to) {
            Some(result) => result,
            // The file system cannot: a link never replaces either, and a crash between the two steps
            // leaves both names, which is what a crash before the sync of the folder may leave anyway.
            None => {
                if fs::metadata(from)?.is_dir() {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let folder = fs::File::open(path)?;
        if !folder.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        folder.sync_all()
    }

    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        Ok(entry(path.to_path_buf(), &fs::metadata(path)?))
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(path)? {
            let path = found?.path();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() || metadata.is_dir() => entries.push(entry(path, &metadata)),
                // Pipes, sockets and devices hold nothing.
                Ok(_) => {}
                // Removed since the folder was read, or a symbolic link to nothing or to itself: not there.
                Err(e) if e.kind() == io::ErrorKind::NotFound || is_loop(&e) => {}
                Err(e) => return Err(e),
            }
        }
        entries.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
        Ok(entries)
    }
}

/// Whether symbolic links lead to each other.
fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Renames without replacing in one step. `None` if the file system or the kernel has no such call.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_exclusive(from: &Path, to: &Path) -> Option<io::Result<()>> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Some(Ok(())),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => None,
        Err(e) => Some(Err(e.into())),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_exclusive(_from: &Path, _to: &Path) -> Option<io::Result<()>> {
    None
}

fn entry(path: PathBuf, metadata: &fs::Metadata) -> Entry {
    let is_dir = metadata.is_dir();
    Entry {
        path,
        is_dir,
        // What a folder's own length means differs between file systems; nobody may lean on it.
        len: if is_dir { 0 } else { metadata.len() },
        modified_ms: metadata.modified().map_or(0, unix_ms),
    }
}

/// An open file of the operating system.
#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(self.0.metadata()?.modified().map_or(0, unix_ms))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        reserve(&self.0, len)
    }

    fn try_lock(&self) -> io::Result<()> {
        self.0.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            fs::TryLockError::Error(e) => e,
        })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        // The file system cannot reserve: the contract allows to do nothing.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_file: &fs::File, _len: u64) -> io::Result<()> {
    Ok(())
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    start: Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        unix_ms(SystemTime::now())
    }

    /// Since this clock was made. `Instant` never goes back.
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Milliseconds since 1970 UTC, negative before it.
fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealEntropy;

impl Entropy for RealEntropy {
    /// # Panics
    /// If the operating system has no random source at all. Identifiers and fencing tokens rest on it,
    /// so going on with anything weaker would be worse.
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(e) = getrandom::fill(buffer) {
            panic!("the operating system has no random source: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_and_entropy_are_plausible() {
        let env = Env::real();
        assert!(env.clock.now_ms() > 1_600_000_000_000);
        let first = env.clock.monotonic();
        assert!(env.clock.monotonic() >= first);
        assert_ne!(env.entropy.u128(), env.entropy.u128());
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_millis(5)), -5);
        assert_eq!(unix_ms(UNIX_EPOCH + Duration::from_millis(5)), 5);
    }
}
