use std::path::Path as FilePath;

use super::*;
use crate::env::sim::CrashPlan;
use crate::env::{Disk, OpenMode};

const ROOT: &str = "/store";

fn objects(env: &Env) -> Objects {
    Objects::in_directory(env, FilePath::new(ROOT)).expect("opens")
}

#[test]
fn an_object_that_cannot_be_synced_concerns_no_other() {
    let sim = Env::sim(2);
    let store = objects(&sim.env);
    assert_eq!(store.put_new("a", Bytes::from_static(b"1")).expect("puts"), Put::Written);
    sim.disk.fail_sync(1);
    let error = store.put_new("b", Bytes::from_static(b"2")).expect_err("its sync fails");
    assert_eq!(error.code(), Code::FsyncFailed);
    assert_eq!(store.put_new("b", Bytes::from_static(b"3")).expect("puts another one"), Put::Written);
    assert!(store.poisoned().is_none());
    sim.disk.crash(&CrashPlan::Nothing);
    assert_eq!(store.get("b").expect("is there"), "3");
}

#[test]
fn names_that_cannot_be_synced_poison_the_store() {
    let sim = Env::sim(2);
    let store = objects(&sim.env);
    assert_eq!(store.put_new("a", Bytes::from_static(b"1")).expect("puts"), Put::Written);
    // The file is synced early, and once more before it gets its name.
    sim.disk.fail_sync(3);
    let error = store.put_new("b", Bytes::from_static(b"2")).expect_err("the folder's sync fails");
    assert_eq!(error.code(), Code::FsyncFailed);
    assert_eq!(store.poisoned().map(|error| error.code()), Some(Code::FsyncFailed));
    for error in [
        store.put_new("b", Bytes::from_static(b"2")).expect_err("is poisoned"),
        store.replace("a", Bytes::from_static(b"2")).expect_err("is poisoned"),
        store.delete("a").expect_err("is poisoned"),
    ] {
        assert_eq!(error.code(), Code::FsyncFailed);
    }
    assert_eq!(store.get("a").expect("reads go on"), "1");
}

#[test]
fn errors_have_their_codes() {
    let sim = Env::sim(3);
    let store = objects(&sim.env);
    assert_eq!(store.get("none").expect_err("is missing").code(), Code::CorruptCheckpoint);
    assert!(!store.delete("none").expect("answers"));
    sim.disk.set_capacity(Some(8192));
    let full = store.put_new("a", Bytes::from(vec![1; 20_000])).expect_err("the disk is full");
    assert_eq!(full.code(), Code::DiskFull);
    sim.disk.set_capacity(None);
    assert_eq!(store.put_new("a", Bytes::from_static(b"123")).expect("puts"), Put::Written);
    assert_eq!(store.get_range("a", 1..3).expect("reads"), "23");
    assert_eq!(store.get_range("a", 1..4).expect_err("is short").code(), Code::CorruptCheckpoint);
    assert_eq!(store.get_range("a", 7..9).expect_err("is short").code(), Code::CorruptCheckpoint);
    sim.disk.deny(FilePath::new("/store/a"));
    assert_eq!(store.get("a").expect_err("is denied").code(), Code::PermissionDenied);
}

#[test]
fn keys_cannot_leave_the_folder_or_hide() {
    let sim = Env::sim(4);
    let store = objects(&sim.env);
    for key in ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a/.tmp-1", "a\\b", "a\u{7}"] {
        let error = store.put_new(key, Bytes::from_static(b"x")).expect_err(key);
        assert_eq!(error.code(), Code::Internal, "{key}");
    }
    assert!(sim.disk.list(FilePath::new(ROOT)).expect("lists").is_empty());
    let long = "k".repeat(256);
    store.put_new(&long, Bytes::new()).expect_err("is too long");
}

#[test]
fn leftovers_are_not_listed_and_are_swept() {
    let sim = Env::sim(5);
    let store = DirectoryStore::open(&sim.env, FilePath::new(ROOT)).expect("opens");
    let objects = Objects::new(Arc::new(store.clone()));
    assert_eq!(objects.put_new("a/b", Bytes::from_static(b"1")).expect("puts"), Put::Written);
    assert_eq!(objects.put_new("c/d", Bytes::from_static(b"1")).expect("puts"), Put::Written);
    assert!(objects.delete("c/d").expect("deletes"));
    sim.disk.open(FilePath::new("/store/a/.tmp-0"), OpenMode::CreateNew).expect("creates");
    let keys = |prefix: &str| -> Vec<String> {
        objects.list(prefix).expect("lists").into_iter().map(|listed| listed.key).collect()
    };
    assert_eq!(keys(""), ["a/b"]);
    let level = block_on(store.list_with_delimiter(None)).expect("lists");
    assert_eq!(level.common_prefixes, [Path::from("a")]);
    assert_eq!(store.sweep().expect("sweeps"), 1);
    let folders = sim.disk.list(FilePath::new(ROOT)).expect("lists");
    assert_eq!(folders.len(), 1, "the empty folder is gone: {folders:?}");
    assert_eq!(objects.put_new("c/d", Bytes::from_static(b"2")).expect("the folder is made again"), Put::Written);
    sim.disk.crash(&CrashPlan::Nothing);
    assert_eq!(objects.get("c/d").expect("reads"), "2");
}
