//! Takeover against an owner that lives (P11): each of the two is interrupted by all of the other, before each of its
//! operations.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use qanat_proto::{Code, Result};

use super::*;
use crate::env::{Entry, File};
use crate::log::{OwnerToken, StagedHandle, TopicSpec};

type Act = Box<dyn FnOnce() + Send>;

/// Runs something else just before the n-th operation on a disk or a file.
#[derive(Default)]
struct Interrupt {
    left: AtomicU64,
    act: Mutex<Option<Act>>,
}

impl Interrupt {
    fn arm(&self, at: u64, act: Act) {
        *self.act.lock().expect("no panic") = Some(act);
        self.left.store(at, Ordering::SeqCst);
    }

    /// Whether the act has come to pass.
    fn has_come(&self) -> bool {
        self.act.lock().expect("no panic").take().is_none()
    }

    fn operation(&self) {
        let is_due = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) == Ok(1);
        let act = is_due.then(|| self.act.lock().expect("no panic").take()).flatten();
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

/// One process: what it knows of the topic is its own.
fn process(env: &Env) -> Arc<Topic> {
    let topics = Topics::open_shared(env.clone(), Path::new(FOLDER), GroupCommit::inline()).expect("opens");
    topics.get_or_create(&name("t"), TopicSpec::new(1)).expect("there")
}

/// Rows that a job staged. Jobs do not wait for each other's commits.
fn staged(topic: &Arc<Topic>, job: u128, rows_of: std::ops::Range<i64>) -> StagedHandle {
    let mut origin = origin(1, 2, 0);
    origin.token.job = JobId(job);
    let mut staging = topic.stage(origin, 0);
    staging.write(0, &rows(rows_of), None).expect("room");
    staging.prepare().expect("durable")
}

fn commit(topic: &Arc<Topic>, handle: &StagedHandle, owner: u64) -> Result<()> {
    topic.commit_owned(std::slice::from_ref(handle), OwnerToken(owner)).map(drop)
}

/// The owner that is replaced: fenced, or done before it was.
fn is_done(result: Result<()>, context: &str) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), Code::Fenced, "{context}: {error}");
            false
        }
    }
}

/// `is_same`: both have the same commit to do, as when it is said again to the next owner.
fn play(takes_over_first: bool, is_same: bool) {
    let mut at = 1;
    loop {
        let context = format!("takeover first: {takes_over_first}, the same: {is_same}, before operation {at}");
        let sim = Env::sim(41);
        let interrupt = Arc::<Interrupt>::default();
        let inner: Arc<dyn Disk> = Arc::new(sim.disk.clone());
        let disk: Arc<dyn Disk> = Arc::new(Interrupted { inner, interrupt: interrupt.clone() });
        let slow = Env { disk, ..sim.env.clone() };
        let (old_env, new_env) = if takes_over_first { (&sim.env, &slow) } else { (&slow, &sim.env) };
        let (old, new) = (process(old_env), process(new_env));
        let begun = staged(&old, 1, 0..10);
        commit(&old, &begun, 5).expect("it owns the log");
        let of_old = staged(&old, 2, 10..20);
        let of_new = if is_same { of_old.clone() } else { staged(&old, 3, 20..30) };
        let old_result = Arc::<Mutex<Option<Result<()>>>>::default();
        if takes_over_first {
            let (old, handle, result) = (old.clone(), of_old.clone(), old_result.clone());
            let act = move || *result.lock().expect("no panic") = Some(commit(&old, &handle, 5));
            interrupt.arm(at, Box::new(act));
            commit(&new, &of_new, 9).unwrap_or_else(|e| panic!("{context}: {e}"));
        } else {
            let (new, handle, told) = (new.clone(), of_new.clone(), context.clone());
            let act = move || commit(&new, &handle, 9).unwrap_or_else(|e| panic!("{told}: {e}"));
            interrupt.arm(at, Box::new(act));
            *old_result.lock().expect("no panic") = Some(commit(&old, &of_old, 5));
        }
        if !interrupt.has_come() {
            assert!(at > 20, "{at} operations");
            return;
        }
        let result = old_result.lock().expect("no panic").take().expect("it was tried");
        let was_done = is_done(result, &context);
        let whole: Vec<i64> = (0..if is_same { 20 } else { 30 }).collect();
        let of_old_rows = |id: &i64| !is_same && (10..20).contains(id);
        let least: Vec<i64> = whole.iter().copied().filter(|id| was_done || !of_old_rows(id)).collect();
        let all = |topic: &Arc<Topic>| {
            topic.partition(0).expect("there").refresh().unwrap_or_else(|e| panic!("{context}: {e}"));
            let mut all = ids(topic, 0).unwrap_or_else(|e| panic!("{context}: {e}"));
            all.sort_unstable();
            all
        };
        let reader = process(&sim.env);
        // Everything that was acknowledged. What was refused may stand there, whole, for the next owner to find.
        let found = all(&reader);
        assert!(found == least || found == whole, "{context}: done {was_done}, {found:?}");
        // What was refused is done by the next owner, and what was done is not done again.
        for handle in [&begun, &of_old, &of_new] {
            commit(&new, handle, 9).unwrap_or_else(|e| panic!("{context}: {e}"));
        }
        assert_eq!(all(&reader), whole, "{context}");
        let late = staged(&old, 4, 90..91);
        assert_eq!(commit(&old, &late, 5).expect_err("it is over").code(), Code::Fenced, "{context}");
        assert_eq!(all(&reader), whole, "{context}");
        at += 1;
    }
}

#[test]
fn p11_an_owner_is_replaced_at_every_moment_of_its_commit() {
    play(false, true);
    play(false, false);
}

#[test]
fn p11_an_owner_that_lives_commits_at_every_moment_of_its_replacement() {
    play(true, true);
    play(true, false);
}
