//! The suites on the real and the simulated disk, and the one compared with the other.

use std::io;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::env::OpenMode;
use crate::object::DirectoryStore;

#[test]
fn real_disk_keeps_its_contract() {
    let scratch = Scratch::new();
    disk(scratch.env().disk.as_ref(), scratch.path());
}

#[test]
fn simulated_disk_keeps_its_contract() {
    disk(Env::sim(1).env.disk.as_ref(), Path::new("/"));
}

#[test]
fn directory_store_keeps_its_contract_on_the_real_disk() {
    let scratch = Scratch::new();
    object_store(Arc::new(DirectoryStore::open(scratch.env(), &scratch.path().join("store")).expect("opens")));
}

#[test]
fn directory_store_keeps_its_contract_on_the_simulated_disk() {
    object_store(Arc::new(DirectoryStore::open(&Env::sim(1).env, Path::new("/store")).expect("opens")));
}

#[test]
fn directory_store_survives_every_crash() {
    object_store_crashes(|env| Arc::new(DirectoryStore::open(env, Path::new("/data/store")).expect("opens")));
}

/// One call, with paths and sizes small enough that calls meet.
#[derive(Clone, Debug)]
enum Call {
    Open { path: &'static str, mode: OpenMode },
    Write { handle: usize, offset: u64, len: usize, byte: u8 },
    Read { handle: usize, offset: u64, len: usize },
    SetLen { handle: usize, len: u64 },
    Allocate { handle: usize, len: u64 },
    Sync { handle: usize },
    Lock { handle: usize },
    Close { handle: usize },
    CreateDir(&'static str),
    Link(&'static str, &'static str),
    Rename(&'static str, &'static str),
    RenameNoReplace(&'static str, &'static str),
    RemoveFile(&'static str),
    RemoveDir(&'static str),
    SyncDir(&'static str),
    List(&'static str),
    Metadata(&'static str),
}

fn call() -> impl Strategy<Value = Call> {
    let path = || prop::sample::select(vec!["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a"]);
    let mode = prop::sample::select(vec![
        OpenMode::Read,
        OpenMode::Write,
        OpenMode::CreateNew,
        OpenMode::OpenOrCreate,
        OpenMode::OpenOrCreate,
    ]);
    let handle = || 0..4usize;
    prop_oneof![
        4 => (path(), mode).prop_map(|(path, mode)| Call::Open { path, mode }),
        4 => (handle(), 0..9000u64, 0..6000usize, any::<u8>())
            .prop_map(|(handle, offset, len, byte)| Call::Write { handle, offset, len, byte }),
        3 => (handle(), 0..9000u64, 0..9000usize).prop_map(|(handle, offset, len)| Call::Read { handle, offset, len }),
        1 => (handle(), 0..9000u64).prop_map(|(handle, len)| Call::SetLen { handle, len }),
        1 => (handle(), 0..9000u64).prop_map(|(handle, len)| Call::Allocate { handle, len }),
        1 => handle().prop_map(|handle| Call::Sync { handle }),
        1 => handle().prop_map(|handle| Call::Lock { handle }),
        1 => handle().prop_map(|handle| Call::Close { handle }),
        2 => path().prop_map(Call::CreateDir),
        2 => (path(), path()).prop_map(|(from, to)| Call::Link(from, to)),
        3 => (path(), path()).prop_map(|(from, to)| Call::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Call::RenameNoReplace(from, to)),
        2 => path().prop_map(Call::RemoveFile),
        2 => path().prop_map(Call::RemoveDir),
        1 => path().prop_map(Call::SyncDir),
        2 => path().prop_map(Call::List),
        2 => path().prop_map(Call::Metadata),
    ]
}

/// A disk under test: its root, and the handles it has given out.
struct Subject {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    handles: Vec<Arc<dyn crate::env::File>>,
}

impl Subject {
    /// What the call answers, without what may differ between disks (paths above the root, times).
    fn answer(&mut self, call: &Call) -> Result<String, io::ErrorKind> {
        let handle = |index: &usize| self.handles.get(*index).cloned().ok_or(io::ErrorKind::Other);
        let at = |path: &str| self.root.join(path);
        let seen = |entry: crate::env::Entry| {
            format!("{:?} {} {}", entry.path.strip_prefix(&self.root), entry.is_dir, entry.len)
        };
        let answer = match call {
            Call::Open { path, mode } => self.disk.open(&at(path), *mode).map(|file| {
                self.handles.push(file);
                String::new()
            }),
            Call::Write { handle: index, offset, len, byte } => {
                handle(index)?.write_all_at(&vec![*byte; *len], *offset).map(|()| String::new())
            }
            Call::Read { handle: index, offset, len } => {
                let mut bytes = vec![0; *len];
                handle(index)?.read_at(&mut bytes, *offset).map(|n| format!("{n} {:?}", &bytes[..n]))
            }
            Call::SetLen { handle: index, len } => {
                let file = handle(index)?;
                file.set_len(*len).and_then(|()| file.len()).map(|len| len.to_string())
            }
            Call::Allocate { handle: index, len } => {
                let file = handle(index)?;
                file.allocate(*len).and_then(|()| file.len()).map(|len| len.to_string())
            }
            Call::Sync { handle: index } => handle(index)?.sync_data().map(|()| String::new()),
            Call::Lock { handle: index } => handle(index)?.try_lock().map(|()| String::new()),
            Call::Close { handle: index } => {
                handle(index)?;
                self.handles.remove(*index);
                Ok(String::new())
            }
            Call::CreateDir(path) => self.disk.create_dir_all(&at(path)).map(|()| String::new()),
            Call::Link(from, to) => self.disk.link(&at(from), &at(to)).map(|()| String::new()),
            Call::Rename(from, to) => self.disk.rename(&at(from), &at(to)).map(|()| String::new()),
            Call::RenameNoReplace(from, to) => self.disk.rename_no_replace(&at(from), &at(to)).map(|()| String::new()),
            Call::RemoveFile(path) => self.disk.remove_file(&at(path)).map(|()| String::new()),
            Call::RemoveDir(path) => self.disk.remove_dir(&at(path)).map(|()| String::new()),
            Call::SyncDir(path) => self.disk.sync_dir(&at(path)).map(|()| String::new()),
            Call::List(path) => {
                self.disk.list(&at(path)).map(|entries| entries.into_iter().map(seen).collect::<Vec<_>>().join(", "))
            }
            Call::Metadata(path) => self.disk.metadata(&at(path)).map(seen),
        };
        answer.map_err(|e| e.kind())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: RngSeed::Fixed(0x5EED), failure_persistence: None, ..ProptestConfig::default() })]

    /// The operating system is the oracle: while nothing fails, the simulated disk answers as it does.
    #[test]
    fn simulated_disk_answers_as_the_real_one(calls in prop::collection::vec(call(), 1..60)) {
        let scratch = Scratch::new();
        let mut real =
            Subject { disk: scratch.env().disk.clone(), root: scratch.path().into(), handles: Vec::new() };
        let mut simulated = Subject { disk: Env::sim(1).env.disk, root: "/".into(), handles: Vec::new() };
        for (index, call) in calls.iter().enumerate() {
            prop_assert_eq!(real.answer(call), simulated.answer(call), "call {}: {:?}", index, call);
        }
    }
}
