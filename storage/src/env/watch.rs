//! Being told that files of a folder changed, so that whoever follows another process need not poll.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init, remove_watch};

/// Events of some folders (not of those below).
pub struct Watch {
    changes: Receiver<()>,
    descriptor: Arc<OwnedFd>,
    /// The kernel's numbers of the folders.
    folders: Vec<i32>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    /// Starts to watch for files that are created, written, renamed or removed.
    ///
    /// # Errors
    /// The code of the system, for example when a user watches too many folders.
    pub fn start<'a>(folders: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let descriptor = Arc::new(init(CreateFlags::CLOEXEC)?);
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE;
        let mut watched = Vec::new();
        for folder in folders {
            watched.push(add_watch(&descriptor, folder, flags)?);
        }
        let (sender, changes) = bounded(1);
        let is_over = Arc::<AtomicBool>::default();
        let watch = Self { changes, descriptor: descriptor.clone(), folders: watched, is_over: is_over.clone() };
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(descriptor, &mut buffer);
            loop {
                match reader.next() {
                    Ok(_) => {}
                    Err(error) if error == rustix::io::Errno::INTR => continue,
                    Err(_) => return,
                }
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // Full: one change is noted already. Disconnected: nobody asks any more.
                if let Err(crossbeam::channel::TrySendError::Disconnected(())) = sender.try_send(()) {
                    return;
                }
            }
        })?;
        Ok(watch)
    }

    /// Waits for a change since the last call, at most `timeout`. Returns whether there was one.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.changes.recv_timeout(timeout).is_ok()
    }
}

impl Drop for Watch {
    /// The thread waits in the kernel: a folder that is given up is an event, too.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        for folder in &self.folders {
            // Gone if the folder is.
            let _ = remove_watch(&self.descriptor, *folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_wakes() {
        let folder = std::env::temp_dir().join(format!("qanat-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let watch = Watch::start([folder.as_path()]).expect("a watch");
        assert!(!watch.wait(Duration::ZERO));
        std::fs::write(folder.join("a"), "x").expect("a file");
        assert!(watch.wait(Duration::from_secs(30)));
        let descriptor = Arc::downgrade(&watch.descriptor);
        drop(watch);
        let ended = std::time::Instant::now() + Duration::from_secs(30);
        while descriptor.upgrade().is_some() {
            assert!(std::time::Instant::now() < ended, "its thread lives");
            std::thread::yield_now();
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
