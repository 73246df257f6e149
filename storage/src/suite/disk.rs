//! What [`Disk`] and [`File`] promise while nothing fails.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::env::{Disk, File, OpenMode};

/// A part of the contract, and the folder it is tried in.
type Case = (&'static str, fn(&dyn Disk, &Path));

/// Puts a disk through its contract in `root`, an existing empty folder.
///
/// # Panics
/// If the contract does not hold.
pub fn disk(disk: &dyn Disk, root: &Path) {
    let cases: [Case; 8] = [
        ("open", opens),
        ("read", reads_and_writes),
        ("length", lengths),
        ("link", links),
        ("rename", renames),
        ("remove", removes),
        ("list", lists),
        ("lock", locks),
    ];
    for (name, case) in cases {
        let folder = root.join(name);
        disk.create_dir_all(&folder).expect("creates a folder");
        case(disk, &folder);
    }
    disk.sync_dir(root).expect("syncs a folder");
}

fn fails<T>(result: io::Result<T>, kind: io::ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what} succeeds, instead of {kind:?}"),
        Err(e) => assert_eq!(e.kind(), kind, "{what}"),
    }
}

fn create(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::CreateNew).expect("creates");
    file.write_all_at(bytes, 0).expect("writes");
    file
}

fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("opens");
    let mut bytes = vec![0; file.len().expect("has a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    bytes
}

fn opens(disk: &dyn Disk, folder: &Path) {
    let path = folder.join("a");
    for mode in [OpenMode::Read, OpenMode::Write] {
        fails(disk.open(&path, mode), io::ErrorKind::NotFound, "opening nothing");
    }
    create(disk, &path, b"x");
    fails(disk.open(&path, OpenMode::CreateNew), io::ErrorKind::AlreadyExists, "creating what is there");
    let file = disk.open(&path, OpenMode::OpenOrCreate).expect("opens");
    assert_eq!(file.len().expect("has a length"), 1, "opening does not truncate");
    disk.open(&folder.join("b"), OpenMode::OpenOrCreate).expect("creates");
    assert!(disk.exists(&folder.join("b")).expect("answers"));

    let reader = disk.open(&path, OpenMode::Read).expect("opens");
    assert!(reader.write_all_at(b"y", 0).is_err(), "writing to a file opened for reading");
    assert!(reader.set_len(0).is_err(), "cutting a file opened for reading");
    reader.sync_data().expect("syncing needs no right to write");

    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::OpenOrCreate] {
        fails(disk.open(folder, mode), io::ErrorKind::IsADirectory, "opening a folder");
    }
    fails(disk.open(&path.join("c"), OpenMode::CreateNew), io::ErrorKind::NotADirectory, "a name below a file");
    fails(disk.open(&folder.join("d/e"), OpenMode::CreateNew), io::ErrorKind::NotFound, "a name in no folder");
    fails(disk.sync_dir(&path), io::ErrorKind::NotADirectory, "syncing a file as a folder");
    fails(disk.sync_dir(&folder.join("d")), io::ErrorKind::NotFound, "syncing no folder");
}

fn reads_and_writes(disk: &dyn Disk, folder: &Path) {
    let file = create(disk, &folder.join("a"), b"0123456789");
    let mut buffer = [0; 4];
    assert_eq!(file.read_at(&mut buffer, 8).expect("reads"), 2, "only what is there");
    assert_eq!(&buffer[..2], b"89");
    assert_eq!(file.read_at(&mut buffer, 10).expect("reads"), 0, "the end");
    assert_eq!(file.read_at(&mut buffer, 1 << 40).expect("reads"), 0, "far behind the end");
    fails(file.read_exact_at(&mut buffer, 8), io::ErrorKind::UnexpectedEof, "reading over the end");

    file.write_all_at(b"ab", 4).expect("writes");
    file.write_all_at(b"z", 5000).expect("writes behind the end");
    file.write_all_at(b"", 9000).expect("writes nothing");
    assert_eq!(file.len().expect("has a length"), 5001);
    let bytes = read(disk, &folder.join("a"));
    assert_eq!(&bytes[..10], b"0123ab6789");
    assert!(bytes[10..5000].iter().all(|b| *b == 0), "a hole reads as zero");

    let other = disk.open(&folder.join("a"), OpenMode::Write).expect("opens");
    other.write_all_at(b"Q", 0).expect("writes");
    file.read_exact_at(&mut buffer, 0).expect("reads");
    assert_eq!(&buffer, b"Q123", "handles share the file");
    file.sync_data().expect("syncs");
    file.sync_all().expect("syncs");
    assert_eq!(read(disk, &folder.join("a"))[0], b'Q', "a sync changes nothing that is seen");
}

fn lengths(disk: &dyn Disk, folder: &Path) {
    let file = create(disk, &folder.join("a"), &[7; 6000]);
    file.set_len(100).expect("cuts");
    file.set_len(6000).expect("grows");
    let bytes = read(disk, &folder.join("a"));
    assert!(bytes[..100].iter().all(|b| *b == 7) && bytes[100..].iter().all(|b| *b == 0), "what was cut is zero");
    file.set_len(0).expect("cuts");
    assert!(file.is_empty().expect("has a length"));

    let file = create(disk, &folder.join("b"), &[7; 10]);
    file.allocate(0).expect("reserves nothing");
    file.allocate(9000).expect("reserves");
    let len = file.len().expect("has a length");
    assert!(len == 9000 || len == 10, "allocating sets the length or does nothing: {len}");
    let bytes = read(disk, &folder.join("b"));
    assert!(bytes[..10].iter().all(|b| *b == 7) && bytes[10..].iter().all(|b| *b == 0));
    file.allocate(5).expect("reserves less");
    assert_eq!(file.len().expect("has a length"), len, "allocating never shortens");
}

fn links(disk: &dyn Disk, folder: &Path) {
    let (a, b) = (folder.join("a"), folder.join("b"));
    fails(disk.link(&a, &b), io::ErrorKind::NotFound, "linking nothing");
    let file = create(disk, &a, b"1");
    disk.link(&a, &b).expect("links");
    file.write_all_at(b"2", 0).expect("writes");
    assert_eq!(read(disk, &b), b"2", "two names of one file");
    create(disk, &folder.join("c"), b"3");
    fails(disk.link(&a, &folder.join("c")), io::ErrorKind::AlreadyExists, "linking over a file");
    fails(disk.link(&a, &b), io::ErrorKind::AlreadyExists, "linking over itself");
    assert_eq!(read(disk, &folder.join("c")), b"3");
    disk.remove_file(&a).expect("removes");
    assert_eq!(read(disk, &b), b"2", "the other name keeps the file");
}

fn renames(disk: &dyn Disk, folder: &Path) {
    let (a, b) = (folder.join("a"), folder.join("b"));
    fails(disk.rename(&a, &b), io::ErrorKind::NotFound, "renaming nothing");
    fails(disk.rename_no_replace(&a, &b), io::ErrorKind::NotFound, "renaming nothing");
    create(disk, &a, b"1");
    disk.rename(&a, &b).expect("renames");
    assert!(!disk.exists(&a).expect("answers"));
    create(disk, &a, b"2");
    fails(disk.rename_no_replace(&a, &b), io::ErrorKind::AlreadyExists, "renaming over a file");
    assert_eq!((read(disk, &a), read(disk, &b)), (b"2".to_vec(), b"1".to_vec()), "both stay as they were");
    let reader = disk.open(&b, OpenMode::Read).expect("opens");
    disk.rename(&a, &b).expect("replaces");
    assert_eq!(read(disk, &b), b"2");
    let mut byte = [0];
    reader.read_exact_at(&mut byte, 0).expect("reads");
    assert_eq!(byte, *b"1", "an open file outlives its name");
    disk.rename_no_replace(&b, &a).expect("renames to a free name");
    assert!(disk.exists(&a).expect("answers") && !disk.exists(&b).expect("answers"));

    let inner = folder.join("folder");
    disk.create_dir_all(&inner).expect("creates");
    fails(disk.rename(&a, &inner), io::ErrorKind::IsADirectory, "renaming a file over a folder");
    fails(disk.rename(&inner, &a), io::ErrorKind::NotADirectory, "renaming a folder over a file");
    disk.rename(&a, &inner.join("a")).expect("renames into another folder");
    disk.rename(&inner, &folder.join("moved")).expect("renames a folder");
    assert_eq!(read(disk, &folder.join("moved/a")), b"2");
}

fn removes(disk: &dyn Disk, folder: &Path) {
    let (a, inner) = (folder.join("a"), folder.join("x/y"));
    fails(disk.remove_file(&a), io::ErrorKind::NotFound, "removing nothing");
    fails(disk.remove_dir(&a), io::ErrorKind::NotFound, "removing nothing");
    let file = create(disk, &a, b"1");
    fails(disk.remove_dir(&a), io::ErrorKind::NotADirectory, "removing a file as a folder");
    disk.remove_file(&a).expect("removes");
    fails(disk.metadata(&a), io::ErrorKind::NotFound, "looking at what was removed");
    file.write_all_at(b"2", 0).expect("an open file outlives its name");
    create(disk, &a, b"3");
    assert_eq!(read(disk, &a), b"3", "the new file is another one");

    disk.create_dir_all(&inner).expect("creates");
    disk.create_dir_all(&inner).expect("creates again");
    fails(disk.create_dir_all(&a), io::ErrorKind::AlreadyExists, "a folder where a file is");
    fails(disk.create_dir_all(&a.join("b")), io::ErrorKind::NotADirectory, "a folder below a file");
    fails(disk.remove_dir(&folder.join("x")), io::ErrorKind::DirectoryNotEmpty, "removing a full folder");
    assert!(disk.remove_file(&inner).is_err(), "removing a folder as a file");
    disk.remove_dir(&inner).expect("removes");
    disk.remove_dir(&folder.join("x")).expect("removes");
}

fn lists(disk: &dyn Disk, folder: &Path) {
    fails(disk.list(&folder.join("none")), io::ErrorKind::NotFound, "listing nothing");
    assert!(disk.list(folder).expect("lists").is_empty());
    for name in ["b", "a10", "a2", ".hidden", "Z"] {
        create(disk, &folder.join(name), name.as_bytes());
    }
    disk.create_dir_all(&folder.join("c/d")).expect("creates");
    fails(disk.list(&folder.join("b")), io::ErrorKind::NotADirectory, "listing a file");
    let entries = disk.list(folder).expect("lists");
    let names: Vec<_> = entries.iter().map(|entry| (entry.path.clone(), entry.is_dir, entry.len)).collect();
    let expected =
        [(".hidden", false, 7), ("Z", false, 1), ("a10", false, 3), ("a2", false, 2), ("b", false, 1), ("c", true, 0)];
    let expected: Vec<_> = expected.map(|(name, is_dir, len)| (folder.join(name), is_dir, len)).into();
    assert_eq!(names, expected, "sorted by name, this level only");
    for entry in entries {
        assert_eq!(disk.metadata(&entry.path).expect("is there"), entry, "one entry, asked for in two ways");
    }
}

fn locks(disk: &dyn Disk, folder: &Path) {
    let path = folder.join("lock");
    let first = create(disk, &path, b"");
    let second = disk.open(&path, OpenMode::Write).expect("opens");
    first.try_lock().expect("is free");
    first.try_lock().expect("is ours already");
    fails(second.try_lock(), io::ErrorKind::WouldBlock, "locking what is locked");
    drop(first);
    second.try_lock().expect("a closed handle has let go");
}
