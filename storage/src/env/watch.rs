//! Being told that files of a folder changed, so that whoever follows another process need not poll.

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

/// Events of some folders (not of those below). Lives until the process ends: its thread waits in the
/// kernel.
pub struct Watch {
    changes: Receiver<()>,
}

impl Watch {
    /// Starts to watch for files that are created, written, renamed or removed.
    ///
    /// # Errors
    /// The code of the system, for example when a user watches too many folders.
    pub fn start<'a>(folders: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let descriptor = init(CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE;
        for folder in folders {
            add_watch(&descriptor, folder, flags)?;
        }
        let (sender, changes) = bounded(1);
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(descriptor, &mut buffer);
            loop {
                match reader.next() {
                    Ok(_) => {}
                    Err(error) if error == rustix::io::Errno::INTR => continue,
                    Err(_) => return,
                }
                // Full: one change is noted already. Disconnected: nobody asks any more.
                if let Err(crossbeam::channel::TrySendError::Disconnected(())) = sender.try_send(()) {
                    return;
                }
            }
        })?;
        Ok(Self { changes })
    }

    /// Waits for a change since the last call, at most `timeout`. Returns whether there was one.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.changes.recv_timeout(timeout).is_ok()
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
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
