//! Many appenders on one writer thread: few syncs, nobody lost.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::*;
use crate::env::{Disk, Entry, File, OpenMode};
use crate::log::{AppendOptions, TopicSpec};

const APPENDERS: usize = 16;
const APPENDS: usize = 40;

/// Counts appenders that wait for an answer, so that a sync can take as long as it takes them to queue.
#[derive(Default)]
struct Gate {
    /// (running, waiting)
    state: Mutex<(usize, usize)>,
    changed: Condvar,
    syncs: AtomicU64,
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut (usize, usize))) {
        change(&mut self.state.lock().expect("no panic"));
        self.changed.notify_all();
    }

    /// A slow disk: returns once every running appender waits.
    fn sync(&self) {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let state = self.state.lock().expect("no panic");
        drop(self.changed.wait_while(state, |(running, waiting)| *waiting < *running).expect("no panic"));
    }
}

struct GatedDisk(Arc<dyn Disk>, Arc<Gate>);
struct GatedFile(Arc<dyn File>, Arc<Gate>);

impl File for GatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.sync();
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.0.modified_ms()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn try_lock(&self) -> io::Result<()> {
        self.0.try_lock()
    }
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.0.open(path, mode)?, Arc::clone(&self.1))))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_no_replace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.0.metadata(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(path)
    }
}

#[test]
fn sixteen_appenders_share_syncs() {
    let sim = Env::sim(1);
    let gate = Arc::new(Gate::default());
    let env = Env { disk: Arc::new(GatedDisk(Arc::clone(&sim.env.disk), Arc::clone(&gate))), ..sim.env.clone() };
    let options = LogOptions { segment_bytes: 64 << 10, allocate_bytes: 4 << 10, roll_after_ms: None };
    let commit = GroupCommit::spawn().expect("a thread");
    let topics = Topics::open_with(env, PathBuf::from(FOLDER), commit, options).expect("opens");
    let topic = topics.create(&name("t"), TopicSpec::new(1)).expect("new");
    topic.append(0, &rows([-1]), &AppendOptions::default()).expect("room");
    let mut tail = topic.read_from(0, Start::Offset(1)).expect("open");
    let before = gate.syncs.load(Ordering::SeqCst);
    gate.change(|state| state.0 = APPENDERS);
    let total = APPENDERS * APPENDS;
    let seen = std::thread::scope(|scope| {
        for appender in 0..APPENDERS {
            let (topic, gate) = (&topic, &gate);
            scope.spawn(move || {
                for i in 0..APPENDS {
                    let id = (appender * APPENDS + i) as i64;
                    let pending = topic.append_later(0, &rows([id]), &AppendOptions::default()).expect("queued");
                    gate.change(|state| state.1 += 1);
                    let appended = pending.wait().expect("room");
                    gate.change(|state| state.1 -= 1);
                    assert_eq!(appended.offsets.end - appended.offsets.start, 1);
                }
                gate.change(|state| state.0 -= 1);
            });
        }
        // A reader that follows meanwhile sees each row once, in offset order.
        let mut seen = Vec::new();
        while seen.len() < total {
            let batch = tail.next(Duration::from_secs(60), &|| false).expect("sound").expect("more to come");
            assert_eq!(batch.first_offset, seen.len() as u64 + 1);
            seen.extend(batch.rows.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
        seen
    });
    let syncs = gate.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs * 2 < total as u64, "{syncs} syncs for {total} appends");
    let mut sorted = seen;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..total as i64).collect::<Vec<_>>());
}
