use std::io;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::env::{Disk, File, OpenMode};

fn create(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).expect("creates");
    file.write_all_at(bytes, 0).expect("writes");
    file
}

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = match disk.open(Path::new(path), OpenMode::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        file => file.expect("opens"),
    };
    let mut bytes = vec![0; file.len().expect("has a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    Some(bytes)
}

fn sync_root(disk: &SimDisk) {
    disk.sync_dir(Path::new("/")).expect("syncs");
}

#[test]
fn synced_bytes_survive_every_crash() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "a", &[1; 2000]);
        file.sync_data().expect("syncs");
        sync_root(&disk);
        file.write_all_at(&[2; 3000], 2000).expect("writes");
        disk.crash_arbitrary();
        let bytes = read(&disk, "a").expect("the name was synced");
        assert_eq!(bytes[..2000], [1; 2000]);
        assert!(bytes.len() <= 5000 && bytes[2000..].iter().all(|b| *b == 2 || *b == 0));
    }
}

#[test]
fn unsynced_bytes_may_go_stay_or_tear() {
    let (mut lost, mut whole, mut torn, mut torn_in_sector) = (0, 0, 0, 0);
    for seed in 0..400 {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "a", &[1; 4096]);
        file.sync_data().expect("syncs");
        sync_root(&disk);
        file.write_all_at(&[2; 4000], 0).expect("writes");
        disk.crash_arbitrary();
        let bytes = read(&disk, "a").expect("the name was synced");
        let survived = bytes.iter().filter(|b| **b == 2).count();
        match survived {
            0 => lost += 1,
            4000 => whole += 1,
            _ => torn += 1,
        }
        for sector in bytes[..3584].chunks(SECTOR) {
            assert!(sector.iter().all(|b| b == &sector[0]), "only the last sector of a write tears within");
        }
        torn_in_sector += usize::from(bytes[3584] == 2 && bytes[3999] == 1);
    }
    assert!(lost > 20 && whole > 20 && torn > 20 && torn_in_sector > 0, "{lost} {whole} {torn} {torn_in_sector}");
}

#[test]
fn a_name_is_forgotten_unless_its_folder_was_synced() {
    let disk = SimDisk::new(1);
    create(&disk, "a", b"x").sync_all().expect("syncs");
    create(&disk, "b", b"y").sync_all().expect("syncs");
    disk.crash(&CrashPlan::Nothing);
    assert_eq!((read(&disk, "a"), read(&disk, "b")), (None, None));

    create(&disk, "a", b"x").sync_all().expect("syncs");
    sync_root(&disk);
    disk.rename(Path::new("a"), Path::new("b")).expect("renames");
    disk.crash(&CrashPlan::Nothing);
    assert_eq!((read(&disk, "a").as_deref(), read(&disk, "b")), (Some(&b"x"[..]), None));

    disk.remove_file(Path::new("a")).expect("removes");
    disk.crash(&CrashPlan::Nothing);
    assert_eq!(read(&disk, "a").as_deref(), Some(&b"x"[..]));

    disk.create_dir_all(Path::new("d/e")).expect("creates");
    disk.sync_dir(Path::new("d")).expect("syncs");
    disk.crash(&CrashPlan::Nothing);
    assert!(!disk.exists(Path::new("d")).expect("answers"), "only the inner name was synced");
}

#[test]
fn a_name_may_outlive_its_bytes() {
    let disk = SimDisk::new(1);
    create(&disk, "a", b"never synced");
    sync_root(&disk);
    disk.crash(&CrashPlan::Nothing);
    assert_eq!(read(&disk, "a"), Some(Vec::new()));
}

#[test]
fn a_rename_over_folders_is_two_changes() {
    let state = |synced: &str| {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("from")).expect("creates");
        disk.create_dir_all(Path::new("to")).expect("creates");
        create(&disk, "from/a", b"x").sync_all().expect("syncs");
        disk.sync_dir(Path::new("from")).expect("syncs");
        sync_root(&disk);
        disk.rename(Path::new("from/a"), Path::new("to/a")).expect("renames");
        disk.sync_dir(Path::new(synced)).expect("syncs");
        disk.crash(&CrashPlan::Nothing);
        (read(&disk, "from/a").is_some(), read(&disk, "to/a").is_some())
    };
    assert_eq!(state("from"), (false, false), "lost");
    assert_eq!(state("to"), (true, true), "doubled");
}

#[test]
fn a_failed_sync_loses_bytes_that_a_second_one_does_not_bring_back() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "a", b"");
        sync_root(&disk);
        for i in 0..4u8 {
            file.write_all_at(&[i + 1; SECTOR], u64::from(i) * SECTOR as u64).expect("writes");
        }
        disk.fail_sync(2);
        disk.sync_dir(Path::new("/")).expect("the first one from now succeeds");
        let error = file.sync_data().expect_err("the second one fails");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
        file.sync_data().expect("the kernel has forgotten that anything was wrong");
        let seen = read(&disk, "a").expect("is there");
        assert_eq!(seen.len(), 4 * SECTOR, "reads come from the page cache");
        disk.crash(&CrashPlan::Everything);
        assert_ne!(read(&disk, "a").expect("is there"), seen, "seed {seed}");
    }
}

#[test]
fn a_failed_write_keeps_a_part() {
    let disk = SimDisk::new(3);
    let file = create(&disk, "a", b"");
    disk.fail_write(2);
    file.write_all_at(&[1; 100], 0).expect("the first one succeeds");
    file.write_all_at(&[2; 100], 100).expect_err("the second one fails");
    let len = file.len().expect("has a length");
    assert!((100..200).contains(&len), "{len}");
    file.write_all_at(&[3; 100], 100).expect("the third one succeeds");
}

#[test]
fn capacity_counts_what_is_written_or_allocated() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(4 * 4096));
    let file = create(&disk, "a", &[1; 100]);
    file.set_len(1 << 40).expect("a hole takes no space");
    file.write_all_at(&[1], 1 << 39).expect("one page far out");
    assert_eq!(disk.used(), 2 * 4096);
    let other = create(&disk, "b", b"");
    let full = other.write_all_at(&[1; 3 * 4096], 0).expect_err("only two pages are left");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(other.len().expect("has a length"), 2 * 4096, "what fits is kept");
    file.write_all_at(&[2; 100], 0).expect("a page that is there can be written again");
    assert_eq!(file.allocate(3 * 4096).expect_err("no page is left").kind(), io::ErrorKind::StorageFull);
    disk.remove_file(Path::new("b")).expect("removes");
    assert_eq!(disk.used(), 4 * 4096, "an open file keeps its space");
    drop(other);
    assert_eq!(disk.used(), 2 * 4096);
    file.allocate(3 * 4096).expect("there is room again");
    file.write_all_at(&[1; 3 * 4096], 0).expect("what is allocated can be written");
}

#[test]
fn handles_and_locks_die_in_a_crash() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a", b"x");
    file.sync_all().expect("syncs");
    sync_root(&disk);
    file.try_lock().expect("is free");
    file.try_lock().expect("is ours");
    let other = disk.open(Path::new("a"), OpenMode::Write).expect("opens");
    assert_eq!(other.try_lock().expect_err("is held").kind(), io::ErrorKind::WouldBlock);
    disk.crash(&CrashPlan::Everything);
    assert!(file.write_all_at(b"y", 0).is_err() && file.len().is_err() && file.sync_data().is_err());
    let file_after = disk.open(Path::new("a"), OpenMode::Write).expect("opens");
    file_after.try_lock().expect("is free again");
    drop(file);
    drop(other);
    let next = disk.open(Path::new("a"), OpenMode::Write).expect("opens");
    assert!(next.try_lock().is_err(), "a dead handle does not release a living one's lock");
    drop(file_after);
    next.try_lock().expect("is free");
}

#[test]
fn rot_denial_and_power_cuts() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "d", &[0; 10]);
    file.sync_all().expect("syncs");
    sync_root(&disk);
    disk.flip_bit(Path::new("d"), 9).expect("flips");
    assert_eq!(read(&disk, "d").expect("is there")[1], 2);
    assert!(disk.flip_bit(Path::new("d"), 80).is_err());
    disk.crash(&CrashPlan::Nothing);
    assert_eq!(read(&disk, "d").expect("is there")[1], 2);

    disk.deny(Path::new("/d"));
    let error = disk.open(Path::new("d"), OpenMode::Read).map(|_| ()).expect_err("is denied");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    disk.allow(Path::new("d"));

    let file = disk.open(Path::new("d"), OpenMode::Write).expect("opens");
    disk.cut_power_after(2);
    file.write_all_at(b"1", 0).expect("the first");
    file.sync_data().expect("the second");
    file.write_all_at(b"2", 0).expect_err("no power");
    disk.metadata(Path::new("d")).expect_err("no power");
    disk.crash(&CrashPlan::Everything);
    assert_eq!(read(&disk, "d").expect("is there")[0], b'1');
}

#[test]
fn crash_states_cover_order_and_tearing() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a", b"");
    sync_root(&disk);
    disk.record();
    file.write_all_at(&[1; SECTOR], 0).expect("writes");
    file.write_all_at(&[2; 2 * SECTOR], SECTOR as u64).expect("writes");
    file.sync_data().expect("syncs");
    disk.mark(7);
    let trace = disk.take_trace();
    assert_eq!(trace.operations().len(), 4);

    let found: std::collections::BTreeSet<Vec<u8>> =
        trace.crash_states().map(|state| read(&state.disk, "a").expect("is there")).collect();
    let bytes = |parts: &[u8]| parts.iter().flat_map(|part| [*part; SECTOR]).collect::<Vec<u8>>();
    for expected in [&[][..], &[1], &[0, 2, 2], &[1, 2, 2], &[1, 2], &[1, 0, 2]] {
        assert!(found.contains(&bytes(expected)), "{expected:?}");
    }
    let mut half = bytes(&[1, 2]);
    half.extend([2; SECTOR / 2]);
    assert!(found.contains(&half));
    for state in trace.crash_states() {
        if state.last_mark() == Some(7) {
            assert_eq!(read(&state.disk, "a"), Some(bytes(&[1, 2, 2])), "{state}");
        }
    }
    assert_eq!(trace.random_crash_states(1, 3).count(), 5 * 3);
}

#[test]
fn long_writes_and_many_changes_keep_the_number_of_states_bounded() {
    let disk = SimDisk::new(1);
    disk.record();
    let file = create(&disk, "a", &vec![1; 1 << 20]);
    for i in 0..100 {
        file.write_all_at(b"x", i).expect("writes");
    }
    let states = disk.take_trace().crash_states().count();
    assert!(states <= 103 * (2 + 2 * ALONE_MAX + 4 * TORN_MAX + 1), "{states}");
}

#[test]
fn a_replayed_trace_gives_the_same_disk_even_over_a_crash() {
    let disk = SimDisk::new(9);
    disk.record();
    let file = create(&disk, "a", &[1; 3000]);
    disk.fail_sync(1);
    let _ = file.sync_data();
    sync_root(&disk);
    disk.crash_arbitrary();
    create(&disk, "b", &[2; 3000]);
    disk.rename(Path::new("b"), Path::new("c")).expect("renames");
    let last = disk.take_trace().crash_states().filter(|state| state.plan == CrashPlan::Everything).last();
    let replayed = last.expect("the whole trace is a prefix").disk;
    for path in ["a", "b", "c"] {
        assert_eq!(read(&replayed, path), read(&disk, path), "{path}");
    }
}

#[test]
fn forgotten_files_are_dropped() {
    let disk = SimDisk::new(1);
    for _ in 0..1000 {
        create(&disk, "a", &[1; 100]).sync_data().expect("syncs");
        disk.remove_file(Path::new("a")).expect("removes");
        sync_root(&disk);
    }
    let trace = disk.take_trace();
    assert!(trace.start.node_count() < 600, "{}", trace.start.node_count());
}

#[test]
fn clock_and_entropy_follow_their_handles() {
    let sim = Env::sim(5);
    let (wall, start) = (sim.env.clock.now_ms(), sim.env.clock.monotonic());
    sim.clock.advance(Duration::from_micros(600));
    sim.clock.advance(Duration::from_micros(600));
    assert_eq!(sim.env.clock.now_ms(), wall + 1);
    sim.clock.jump_wall(5);
    assert_eq!(sim.env.clock.now_ms(), 5);
    assert_eq!(sim.env.clock.monotonic() - start, Duration::from_micros(1200));
    assert_eq!(sim.env.entropy.u128(), Env::sim(5).env.entropy.u128());
    assert_ne!(Env::sim(5).env.entropy.u64(), Env::sim(6).env.entropy.u64());
    create(&sim.disk, "a", b"x");
    assert_eq!(sim.disk.metadata(Path::new("a")).expect("is there").modified_ms, 5);
}
