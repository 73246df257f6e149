//! The simulated disk: [`Disk`] over a [`Volume`], with the faults a test asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::contents::{Contents, PAGE};
use super::trace::{Operation, Step, Trace};
use super::volume::{Body, Change, CrashPlan, Effect, Node, ROOT, Unit, Volume};
use super::{Random, SimClock};
use crate::env::{Clock, Disk, Entry, File, OpenMode};

/// An in-memory disk that lies in every way a disk can. A clone is another handle to the same disk.
///
/// All paths start at its root, relative ones too. There are no symbolic links.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

impl SimDisk {
    /// An empty disk. `seed` decides what faults destroy.
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, Arc::new(SimClock::default()))
    }

    /// An empty disk whose files are dated by `clock`.
    pub fn with_clock(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(State::new(Volume::default(), seed)) }) }
    }

    pub(super) fn from_volume(volume: Volume, seed: u64) -> Self {
        let clock = Arc::new(SimClock::default());
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(State::new(volume, seed)) }) }
    }

    /// The machine loses power and starts again: unsynced changes survive as `plan` says, locks are gone,
    /// and every open handle returns errors for ever.
    pub fn crash(&self, plan: &CrashPlan) {
        let mut state = self.shared.lock();
        state.boot += 1;
        state.powered = true;
        state.power_left = None;
        state.locks.clear();
        state.handles.clear();
        state.open.clear();
        state.perform(Operation::Crash(plan.clone()), vec![Effect::Crash(plan.clone())]);
    }

    /// Like [`SimDisk::crash`] with an arbitrary plan drawn from the disk's own seed, which is returned.
    pub fn crash_arbitrary(&self) -> CrashPlan {
        let plan = CrashPlan::Arbitrary { seed: self.shared.lock().random.draw() };
        self.crash(&plan);
        plan
    }

    /// Lets the next `operations` changes and syncs happen; after them every call fails, until
    /// [`SimDisk::crash`].
    pub fn cut_power_after(&self, operations: u64) {
        let mut state = self.shared.lock();
        state.power_left = Some(operations);
        state.powered = operations > 0;
    }

    /// Rot: one bit of a file's durable bytes flips (`bit / 8` is the byte). `InvalidInput` past the end.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut state = self.shared.lock();
        let node = state.find(path)?;
        if bit / 8 >= state.contents(node)?.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        state.perform(Operation::FlipBit { path: path.into(), bit }, vec![Effect::FlipBit { node, bit }]);
        Ok(())
    }

    /// Bytes the disk holds, `None` for no limit. Space is taken in pages of 4096 bytes by what was
    /// written or allocated, however far out in a sparse file; a write beyond it keeps the bytes that fit
    /// and returns `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes;
    }

    /// Bytes taken, as capacity counts them.
    pub fn used(&self) -> u64 {
        let state = self.shared.lock();
        state.volume.page_count(&state.open) * PAGE
    }

    /// The `k`-th sync from now (1 is the next; files and folders count alike) returns EIO. As on Linux,
    /// the changes it covered count as clean afterwards: some of them are durable, at least one is not
    /// and never will be, reads still see all of them, and a second sync returns `Ok`; another handle that was open
    /// already gets the error at its next sync, once (`errseq_t`).
    pub fn fail_sync(&self, k: u64) {
        let mut state = self.shared.lock();
        let sync = state.syncs + k;
        state.failing_syncs.insert(sync);
    }

    /// As [`SimDisk::fail_sync`], counting the syncs of files alone. A file system whose folder could not be synced takes
    /// no more changes as a rule; one that lost a file's bytes goes on.
    pub fn fail_file_sync(&self, k: u64) {
        let mut state = self.shared.lock();
        let sync = state.file_syncs + k;
        state.failing_file_syncs.insert(sync);
    }

    /// The `k`-th write from now (1 is the next) keeps only some of its first bytes and returns EIO.
    pub fn fail_write(&self, k: u64) {
        let mut state = self.shared.lock();
        let write = state.writes + k;
        state.failing_writes.insert(write);
    }

    /// Takes back the failures of syncs and writes that are still to come.
    pub fn mend(&self) {
        let mut state = self.shared.lock();
        state.failing_syncs.clear();
        state.failing_file_syncs.clear();
        state.failing_writes.clear();
    }

    /// Syncs asked for so far, of files and folders, failed ones included.
    pub fn sync_count(&self) -> u64 {
        self.shared.lock().syncs
    }

    /// Every call that names `path` or something below it returns `PermissionDenied`. Open handles go on.
    pub fn deny(&self, path: &Path) {
        self.shared.lock().denied.insert(components(path));
    }

    /// Takes back [`SimDisk::deny`].
    pub fn allow(&self, path: &Path) {
        self.shared.lock().denied.remove(&components(path));
    }

    /// Starts recording; an earlier recording is dropped.
    pub fn record(&self) {
        let mut state = self.shared.lock();
        let start = state.volume.clone();
        state.recording = Some(Trace { start, seed: state.seed, steps: Vec::new() });
    }

    /// Notes in the recording that the caller was told something (an append acknowledged, say), to compare
    /// with what crash states hold.
    pub fn mark(&self, mark: u64) {
        if let Some(trace) = &mut self.shared.lock().recording {
            trace.steps.push(Step { operation: Operation::Mark(mark), effects: Vec::new() });
        }
    }

    /// Ends recording. An empty trace of the present state if nothing was being recorded.
    pub fn take_trace(&self) -> Trace {
        let mut state = self.shared.lock();
        let recording = state.recording.take();
        recording.unwrap_or_else(|| Trace { start: state.volume.clone(), seed: state.seed, steps: Vec::new() })
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("seed", &self.shared.lock().seed).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.lock();
        let (folder, name) = match state.parent(path)? {
            Some(place) => place,
            None if matches!(mode, OpenMode::CreateNew | OpenMode::CreatePrivate) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            None => return Err(io::ErrorKind::IsADirectory.into()),
        };
        let node = match (state.names(folder)?.get(&name).copied(), mode) {
            (Some(_), OpenMode::CreateNew | OpenMode::CreatePrivate) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(node), OpenMode::Read | OpenMode::Write | OpenMode::OpenOrCreate) => {
                if state.volume.file(node).is_none() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                node
            }
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew | OpenMode::CreatePrivate | OpenMode::OpenOrCreate) => {
                let node = state.volume.next_node();
                let named = set_names(folder, vec![(name, Some(node))]);
                let effects = vec![Effect::NewFile(node), self.shared.touch(node), named];
                state.perform(Operation::Create { path: path.into() }, effects);
                node
            }
        };
        state.handles_opened += 1;
        let id = state.handles_opened;
        state.handles.insert(id, node);
        state.open.insert(node);
        let boot = state.boot;
        let writable = mode != OpenMode::Read;
        let heard = AtomicU64::new(state.failed_syncs.get(&node).copied().unwrap_or(0));
        Ok(Arc::new(SimFile { shared: self.shared.clone(), path: path.into(), node, id, boot, writable, heard }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.check(path)?;
        let all = components(path);
        let mut folder = ROOT;
        for (index, name) in all.iter().enumerate() {
            let last = index + 1 == all.len();
            match state.names(folder)?.get(name).copied() {
                Some(node) if last && state.volume.file(node).is_some() => {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Some(node) => folder = node,
                None => {
                    let node = state.volume.next_node();
                    let named = set_names(folder, vec![(name.clone(), Some(node))]);
                    let made = all.iter().take(index + 1).collect();
                    let effects = vec![Effect::NewFolder(node), self.shared.touch(node), named];
                    state.perform(Operation::CreateDir { path: made }, effects);
                    folder = node;
                }
            }
            state.powered()?;
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        let node = state.find(from)?;
        let (folder, name) = state.parent(to)?.ok_or(io::ErrorKind::AlreadyExists)?;
        if state.names(folder)?.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.volume.file(node).is_none() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let effects = vec![set_names(folder, vec![(name, Some(node))])];
        state.perform(Operation::Link { from: from.into(), to: to.into() }, effects);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.lock().rename(from, to, true)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.lock().rename(from, to, false)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        let (folder, name) = state.parent(path)?.ok_or(io::ErrorKind::IsADirectory)?;
        let node = state.names(folder)?.get(&name).copied().ok_or(io::ErrorKind::NotFound)?;
        if state.volume.file(node).is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.perform(Operation::Remove { path: path.into() }, vec![set_names(folder, vec![(name, None)])]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        let (folder, name) = state.parent(path)?.ok_or(io::ErrorKind::ResourceBusy)?;
        let node = state.names(folder)?.get(&name).copied().ok_or(io::ErrorKind::NotFound)?;
        if !state.names(node)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.perform(Operation::RemoveDir { path: path.into() }, vec![set_names(folder, vec![(name, None)])]);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        let node = state.find(path)?;
        state.names(node)?;
        state.sync(node, path, Operation::SyncDir { path: path.into() })
    }

    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        let state = self.shared.lock();
        let node = state.find(path)?;
        Ok(state.entry(path.into(), node))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.shared.lock();
        let node = state.find(path)?;
        let names = state.names(node)?;
        Ok(names.iter().map(|(name, node)| state.entry(path.join(name), *node)).collect())
    }
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, node: Node) -> Effect {
        Effect::Touch { node, modified_ms: self.clock.now_ms() }
    }
}

struct State {
    volume: Volume,
    seed: u64,
    random: Random,
    /// Goes up with every crash; a handle of an earlier one is dead.
    boot: u64,
    powered: bool,
    power_left: Option<u64>,
    handles_opened: u64,
    handles: BTreeMap<u64, Node>,
    open: BTreeSet<Node>,
    /// The handle that holds the lock of a file.
    locks: BTreeMap<Node, u64>,
    capacity: Option<u64>,
    syncs: u64,
    failing_syncs: BTreeSet<u64>,
    file_syncs: u64,
    failing_file_syncs: BTreeSet<u64>,
    /// Syncs of a file that failed: whoever had it open hears of each, once.
    failed_syncs: BTreeMap<Node, u64>,
    writes: u64,
    failing_writes: BTreeSet<u64>,
    denied: BTreeSet<Vec<OsString>>,
    recording: Option<Trace>,
}

impl State {
    fn new(volume: Volume, seed: u64) -> Self {
        Self {
            volume,
            seed,
            random: Random::new(seed),
            boot: 0,
            powered: true,
            power_left: None,
            handles_opened: 0,
            handles: BTreeMap::new(),
            open: BTreeSet::new(),
            locks: BTreeMap::new(),
            capacity: None,
            syncs: 0,
            failing_syncs: BTreeSet::new(),
            file_syncs: 0,
            failing_file_syncs: BTreeSet::new(),
            failed_syncs: BTreeMap::new(),
            writes: 0,
            failing_writes: BTreeSet::new(),
            denied: BTreeSet::new(),
            recording: None,
        }
    }

    fn perform(&mut self, operation: Operation, effects: Vec<Effect>) {
        for effect in &effects {
            self.volume.apply(effect, &self.open);
        }
        if let Some(left) = &mut self.power_left {
            *left = left.saturating_sub(1);
            self.powered = *left > 0;
        }
        if let Some(trace) = &mut self.recording {
            trace.steps.push(Step { operation, effects });
        }
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(io::Error::other("the simulated machine has no power")) }
    }

    /// Whether a path may be used at all.
    fn check(&self, path: &Path) -> io::Result<()> {
        self.powered()?;
        let path = components(path);
        if self.denied.iter().any(|denied| path.starts_with(denied)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        match self.parent(path)? {
            None => Ok(ROOT),
            Some((folder, name)) => {
                self.names(folder)?.get(&name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// The folder of a path and its last name; `None` for the root.
    fn parent(&self, path: &Path) -> io::Result<Option<(Node, OsString)>> {
        self.check(path)?;
        let mut names = components(path);
        let Some(last) = names.pop() else { return Ok(None) };
        let mut folder = ROOT;
        for name in &names {
            folder = self.names(folder)?.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        }
        self.names(folder)?;
        Ok(Some((folder, last)))
    }

    /// The names in a folder; `NotADirectory` if it is a file.
    fn names(&self, node: Node) -> io::Result<&BTreeMap<OsString, Node>> {
        match self.volume.body(node) {
            Some(Body::Folder(names)) => Ok(names),
            Some(Body::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn contents(&self, node: Node) -> io::Result<&Contents> {
        self.volume.file(node).ok_or_else(|| io::ErrorKind::IsADirectory.into())
    }

    fn entry(&self, path: PathBuf, node: Node) -> Entry {
        let file = self.volume.file(node);
        Entry {
            path,
            is_dir: file.is_none(),
            len: file.map_or(0, Contents::len),
            modified_ms: self.volume.modified_ms(node),
        }
    }

    fn free_pages(&self) -> u64 {
        match self.capacity {
            Some(bytes) => (bytes / PAGE).saturating_sub(self.volume.page_count(&self.open)),
            None => u64::MAX,
        }
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let (from_folder, from_name) = self.parent(from)?.ok_or(io::ErrorKind::ResourceBusy)?;
        let (to_folder, to_name) = self.parent(to)?.ok_or(io::ErrorKind::ResourceBusy)?;
        let node = self.names(from_folder)?.get(&from_name).copied().ok_or(io::ErrorKind::NotFound)?;
        let target = self.names(to_folder)?.get(&to_name).copied();
        if target.is_some() && !replace {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // POSIX: two names of one file stay as they are.
        if target == Some(node) {
            return Ok(());
        }
        let (from_names, to_names) = (components(from), components(to));
        if to_names.starts_with(&from_names) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Some(target) = target {
            if from_names.starts_with(&to_names) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            match (self.volume.file(node), self.volume.file(target)) {
                (Some(_), Some(_)) => {}
                (Some(_), None) => return Err(io::ErrorKind::IsADirectory.into()),
                (None, Some(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                (None, None) if !self.names(target)?.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (None, None) => {}
            }
        }
        let (gone, set) = ((from_name, None), (to_name, Some(node)));
        let effects = if from_folder == to_folder {
            vec![set_names(from_folder, vec![gone, set])]
        } else {
            vec![set_names(to_folder, vec![set]), set_names(from_folder, vec![gone])]
        };
        self.perform(Operation::Rename { from: from.into(), to: to.into() }, effects);
        Ok(())
    }

    fn sync(&mut self, node: Node, path: &Path, operation: Operation) -> io::Result<()> {
        self.syncs += 1;
        let mut is_failing = self.failing_syncs.remove(&self.syncs);
        if let Operation::Sync { .. } = operation {
            self.file_syncs += 1;
            is_failing |= self.failing_file_syncs.remove(&self.file_syncs);
        }
        if !is_failing {
            self.perform(operation, vec![Effect::Sync(node)]);
            return Ok(());
        }
        *self.failed_syncs.entry(node).or_default() += 1;
        let mut lost: Vec<bool> = (0..self.volume.pending_of(node)).map(|_| self.random.coin()).collect();
        if let Some(last) = lost.last_mut() {
            *last |= true;
        }
        self.perform(Operation::FailedSync { path: path.into() }, vec![Effect::FailedSync { node, lost }]);
        Err(Errno::IO.into())
    }
}

fn set_names(folder: Node, names: Vec<(OsString, Option<Node>)>) -> Effect {
    Effect::Change(Unit { node: folder, change: Change::Names(names) })
}

/// The names a path leads through from the root. `..` goes back, as there are no symbolic links.
fn components(path: &Path) -> Vec<OsString> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_os_string()),
            Component::ParentDir => {
                names.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}

struct SimFile {
    shared: Arc<Shared>,
    path: PathBuf,
    node: Node,
    id: u64,
    boot: u64,
    writable: bool,
    /// Failed syncs of the file that it has heard of.
    heard: AtomicU64,
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.shared.lock();
        state.powered()?;
        if state.boot != self.boot {
            return Err(io::Error::other("the file was open when the simulated machine crashed"));
        }
        Ok(state)
    }

    fn change(&self, state: &mut State, operation: Operation, change: Change) {
        let unit = Unit { node: self.node, change };
        state.perform(operation, vec![Effect::Change(unit), self.shared.touch(self.node)]);
    }

    fn write(&self, state: &mut State, bytes: &[u8], offset: u64) {
        if !bytes.is_empty() {
            let operation = Operation::Write { path: self.path.clone(), offset, len: bytes.len() as u64 };
            self.change(state, operation, Change::Write { offset, bytes: bytes.into() });
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.lock()?.contents(self.node)?.read(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        if i64::try_from(offset.saturating_add(bytes.len() as u64)).is_err() {
            return Err(Errno::INVAL.into());
        }
        state.writes += 1;
        let write = state.writes;
        if state.failing_writes.remove(&write) {
            let kept = state.random.index(bytes.len());
            self.write(&mut state, bytes.get(..kept).unwrap_or_default(), offset);
            return Err(Errno::IO.into());
        }
        let fitting = state.contents(self.node)?.fitting(offset, bytes.len(), state.free_pages());
        self.write(&mut state, bytes.get(..fitting).unwrap_or_default(), offset);
        if fitting < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock()?;
        let synced = state.sync(self.node, &self.path, Operation::Sync { path: self.path.clone() });
        let failed = state.failed_syncs.get(&self.node).copied().unwrap_or(0);
        if self.heard.swap(failed, Ordering::Relaxed) < failed { Err(Errno::IO.into()) } else { synced }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.lock()?.contents(self.node)?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(self.lock()?.volume.modified_ms(self.node))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        if !self.writable || i64::try_from(len).is_err() {
            return Err(Errno::INVAL.into());
        }
        self.change(&mut state, Operation::SetLen { path: self.path.clone(), len }, Change::Resize(len));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        if len == 0 {
            return Ok(());
        }
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        if i64::try_from(len).is_err() {
            return Err(Errno::FBIG.into());
        }
        if state.contents(self.node)?.pages_to_reserve(len) > state.free_pages() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(&mut state, Operation::Allocate { path: self.path.clone(), len }, Change::Reserve(len));
        Ok(())
    }

    fn try_lock(&self) -> io::Result<()> {
        let mut state = self.lock()?;
        match state.locks.get(&self.node) {
            Some(holder) if *holder != self.id => Err(io::ErrorKind::WouldBlock.into()),
            Some(_) => Ok(()),
            None => {
                state.locks.insert(self.node, self.id);
                Ok(())
            }
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.boot != self.boot {
            return;
        }
        if state.locks.get(&self.node) == Some(&self.id) {
            state.locks.remove(&self.node);
        }
        state.handles.remove(&self.id);
        if !state.handles.values().any(|node| *node == self.node) {
            state.open.remove(&self.node);
        }
    }
}
