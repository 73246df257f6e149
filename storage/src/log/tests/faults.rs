//! Disks that fail, fill up, and damage in the middle.

use super::*;
use crate::env::sim::CrashPlan;
use crate::log::{AppendOptions, OwnerToken, Retention, StagedHandle};
use qanat_proto::{Code, Error};

const PLAIN: fn() -> AppendOptions = AppendOptions::default;

/// A new topic with these rows, each appended alone.
fn filled(sim: &SimEnv, ids: std::ops::Range<i64>) -> Arc<Topic> {
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
    for id in ids {
        topic.append(0, &rows([id]), &PLAIN()).expect("room");
    }
    topic
}

#[test]
fn a_failed_sync_or_write_poisons_for_good() {
    for fails_sync in [true, false] {
        let sim = Env::sim(1);
        let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
        topic.append(0, &rows([1]), &PLAIN()).expect("room");
        if fails_sync {
            sim.disk.fail_sync(1)
        } else {
            sim.disk.fail_write(1)
        }
        assert_eq!(topic.append(0, &rows([2]), &PLAIN()).expect_err("failed").code(), Code::FsyncFailed);
        assert_eq!(topic.append(0, &rows([3]), &PLAIN()).expect_err("for good").code(), Code::FsyncFailed);
        assert_eq!(ids(&topic, 0).expect("sound"), [1], "readers see what was acknowledged, and no more");
        sim.disk.crash(&CrashPlan::Nothing);
        let topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there");
        let kept = ids(&topic, 0).expect("sound");
        assert!(kept == [1] || kept == [1, 2], "{kept:?}");
        topic.append(0, &rows([4]), &PLAIN()).expect("a new process goes on");
    }
}

#[test]
fn a_full_disk_is_refused_and_loses_nothing() {
    let sim = Env::sim(2);
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
    topic.append(0, &rows([1]), &PLAIN()).expect("room");
    sim.disk.set_capacity(Some(sim.disk.used()));
    let mut kept = vec![1];
    let error = loop {
        let id = kept.len() as i64 + 1;
        match topic.append(0, &rows([id]), &PLAIN()) {
            Ok(_) => kept.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::DiskFull);
    assert_eq!(ids(&topic, 0).expect("sound"), kept);
    sim.disk.set_capacity(None);
    let id = kept.len() as i64 + 1;
    topic.append(0, &rows([id]), &PLAIN()).expect("goes on once there is room");
    kept.push(id);
    let topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there");
    assert_eq!(ids(&topic, 0).expect("sound"), kept);
}

#[test]
fn a_damaged_middle_is_refused_and_never_cut() {
    let sim = Env::sim(3);
    let topic = filled(&sim, 0..3);
    let path = &segment_path(&topic.folder_of(0), 0);
    drop(topic);
    let before = sim.env.disk.metadata(path).expect("there").len;
    // A byte of the first frame, a whole block of zeros over it, and the last acknowledged frame.
    for (at, length) in [(4096 + 200, 1), (4096, 512), (4096 + 2 * 496 + 100, 1)] {
        let file = sim.env.disk.open(path, crate::env::OpenMode::Write).expect("there");
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).expect("whole");
        let bad: Vec<u8> = bytes.iter().map(|byte| if length == 1 { !byte } else { 0 }).collect();
        file.write_all_at(&bad, at).expect("room");
        let error = open(&sim.env, FOLDER).topic(&name("t")).and_then(|topic| ids(&topic, 0)).expect_err("damaged");
        assert_eq!(error.code(), Code::CorruptLog);
        assert!(error.to_string().contains("0000000000000000.log, byte"), "{error}");
        assert_eq!(sim.env.disk.metadata(path).expect("there").len, before, "nothing is cut");
        file.write_all_at(&bytes, at).expect("room");
    }
    let topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there");
    assert_eq!(ids(&topic, 0).expect("sound"), [0, 1, 2]);
}

#[test]
fn a_missing_or_cut_segment_is_refused() {
    let sim = Env::sim(4);
    let topic = filled(&sim, 0..40);
    let folder = topic.folder_of(0);
    let path = &segment_path(&folder, 1);
    drop(topic);
    let file = sim.env.disk.open(path, crate::env::OpenMode::Write).expect("there");
    let length = file.len().expect("known");
    file.set_len(length - 1).expect("cut");
    let error = open(&sim.env, FOLDER).topic(&name("t")).and_then(|topic| ids(&topic, 0)).expect_err("cut");
    assert_eq!(error.code(), Code::CorruptLog);
    file.set_len(length).expect("long again");
    let refuse_without = |number: u64| {
        let path = segment_path(&folder, number);
        let kept = path.with_extension("kept");
        sim.env.disk.rename(&path, &kept).expect("there");
        let error = open(&sim.env, FOLDER).topic(&name("t")).and_then(|topic| ids(&topic, 0)).expect_err("missing");
        assert_eq!(error.code(), Code::CorruptLog);
        sim.env.disk.rename(&kept, &path).expect("there");
    };
    // The first one too: it was not removed by retention. Once some were, the first that stays.
    [0, 1].into_iter().for_each(refuse_without);
    let topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there");
    let partition = topic.partition(0).expect("open");
    let removed = partition.remove_before(partition.segment_offsets()[2]).expect("removes");
    assert!(removed > 0 && partition.segments() > 1);
    drop((topic, partition));
    refuse_without(removed as u64);
    assert_eq!(ids(&open(&sim.env, FOLDER).topic(&name("t")).expect("there"), 0).expect("sound").last(), Some(&39));
}

/// It is what makes room.
#[test]
fn retention_goes_on_while_the_disk_is_full() {
    let sim = Env::sim(8);
    let topic = filled(&sim, 0..40);
    sim.disk.set_capacity(Some(sim.disk.used()));
    while topic.append(0, &rows([1]), &PLAIN()).is_ok() {}
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    assert!(topic.partition(0).expect("open").retain(&retention).expect("removes") > 1);
    topic.append(0, &rows([2]), &PLAIN()).expect("there is room again");
}

/// The newest segment has none behind it that would tell of it.
#[test]
fn a_partition_that_lost_what_was_committed_is_refused() {
    let sim = Env::sim(5);
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(2)).expect("new");
    let mut length = Vec::new();
    let path = &segment_path(&topic.folder_of(1), 0);
    for epoch in 1..4 {
        let mut staging = topic.stage(origin(1, epoch, 0), 0);
        staging.write(1, &rows([1, 2, 3]), None).expect("room");
        let handle = staging.prepare().expect("durable");
        topic.commit(std::slice::from_ref(&handle)).expect("commits");
        topic.commit(&[handle]).expect("again");
        length.push(topic.partition(1).expect("open").bytes());
    }
    drop(topic);
    let look = |topics: Topics| topics.topic(&name("t")).and_then(|topic| ids(&topic, 1)).map(|ids| ids.len());
    let read_only = || Topics::open_read_only(sim.env.clone(), FOLDER);
    assert_eq!(look(read_only()).expect("whole"), 9);
    assert_eq!(look(open(&sim.env, FOLDER)).expect("whole"), 9);
    let refused = |topics| {
        let error = look(topics).expect_err("rows are gone");
        assert_eq!(error.code(), Code::CorruptLog);
        assert!(error.to_string().contains("/p00001"), "{error}");
    };
    let file = sim.env.disk.open(path, OpenMode::Write).expect("there");
    for length in [length[1], length[0], 4096] {
        file.set_len(length).expect("cut");
        refused(read_only());
        refused(open(&sim.env, FOLDER));
        assert_eq!(file.len().expect("known"), length, "nothing is mended");
    }
    sim.env.disk.remove_file(path).expect("there");
    refused(read_only());
    refused(open(&sim.env, FOLDER));
}

#[test]
fn rows_without_a_description_are_kept_and_those_of_a_deletion_are_not() {
    let sim = Env::sim(7);
    let filled = || {
        let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
        topic.append(0, &rows([1]), &PLAIN()).expect("room");
    };
    filled();
    let at = |name: &str| Path::new("/topics/t").join(name);
    let moved = |from: &str, to: &str| sim.env.disk.rename(&at(from), &at(to)).expect("there");
    moved("topic", "elsewhere");
    let error = open(&sim.env, FOLDER).get_or_create(&name("t"), TopicSpec::new(1)).err().expect("rows are there");
    assert_eq!(error.code(), Code::CorruptLog);
    moved("elsewhere", "topic");
    assert_eq!(ids(&open(&sim.env, FOLDER).topic(&name("t")).expect("there"), 0).expect("kept"), [1]);
    // A deletion that stopped after its first step.
    moved("topic", ".deleted");
    filled();
    open(&sim.env, FOLDER).delete(&name("t")).expect("deleted");
    filled();
}

#[test]
fn a_commit_whose_rows_are_gone_or_changed_is_refused() {
    let sim = Env::sim(6);
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
    let stage = |index| {
        let mut staging = topic.stage(origin(1, 1, index), 0);
        staging.write(0, &rows([1, 2, 3]), None).expect("room");
        staging.prepare().expect("durable")
    };
    let (gone, changed) = (stage(0), stage(1));
    let folder = topic.folder_of(0).join(".staged");
    sim.env.disk.remove_file(&folder.join(&gone.name)).expect("there");
    sim.disk.flip_bit(&folder.join(&changed.name), 4096 * 8 + 3000).expect("inside");
    assert_eq!(topic.commit(&[gone]).expect_err("gone").code(), Code::CorruptLog);
    assert_eq!(topic.commit(&[changed]).expect_err("changed").code(), Code::CorruptLog);
    assert!(ids(&topic, 0).expect("sound").is_empty());
}

/// The writer remembers what it was about to append. Whether that is durable, nobody knows.
#[test]
fn a_commit_whose_sync_failed_is_not_done() {
    let staged = |topic: &Arc<Topic>| {
        let mut staging = topic.stage(origin(1, 1, 0), 0);
        staging.write(0, &rows([1, 2, 3]), None).expect("room");
        staging.prepare().expect("durable")
    };
    for survives in [CrashPlan::Nothing, CrashPlan::Everything] {
        let sim = Env::sim(9);
        let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
        topic.append(0, &rows([0]), &PLAIN()).expect("room");
        let handle = [staged(&topic)];
        sim.disk.fail_sync(1);
        for _ in 0..3 {
            assert_eq!(topic.commit(&handle).expect_err("not done").code(), Code::FsyncFailed);
        }
        assert!(topic.newest_commit(JobId(7), None).is_err());
        sim.disk.crash(&survives);
        let topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there");
        topic.commit(&handle).expect("a new process goes on");
        assert_eq!(ids(&topic, 0).expect("sound"), [0, 1, 2, 3]);
    }
}

/// An owner among several processes goes on once its disk does: what it could not make sure of, it finds out.
#[test]
fn an_owner_takes_over_from_itself_after_a_failed_sync() {
    let mut failed = 0;
    for fails in 1..10 {
        let sim = Env::sim(10);
        let process = || process_with(&sim.env, SMALL);
        let (topic, other) = (process(), process());
        let handles: Vec<StagedHandle> = (1..4)
            .map(|epoch| {
                let mut staging = topic.stage(origin(1, epoch, 0), 0);
                staging.write(0, &rows(epoch as i64 * 100..epoch as i64 * 100 + 40), None).expect("room");
                staging.prepare().expect("durable")
            })
            .collect();
        let commit = |topic: &Topic, at: usize, owner| topic.commit_owned(&handles[at..=at], OwnerToken(owner));
        commit(&topic, 0, 5).expect("it owns the log");
        // Of the commit, or of the owner's coming, if that is a takeover.
        let (owner, which) = if fails % 2 == 0 { (6, &other) } else { (5, &topic) };
        sim.disk.fail_file_sync(fails);
        for at in [1, 2] {
            let again = |error: Error| {
                assert_eq!(error.code(), Code::FsyncFailed);
                failed += 1;
                // As a new generation does before it has the next commit done.
                assert!(which.newest_commit(JobId(7), None).expect("it can be seen") >= Some(Epoch(at as u64)));
                commit(which, at, owner)
            };
            commit(which, at, owner).or_else(again).unwrap_or_else(|e| panic!("sync {fails}, commit {at}: {e}"));
        }
        sim.disk.mend();
        sim.disk.crash(&CrashPlan::Nothing);
        let all: Vec<i64> = (1..4).flat_map(|epoch| epoch * 100..epoch * 100 + 40).collect();
        assert_eq!(ids(&process(), 0).expect("sound"), all, "sync {fails}");
    }
    assert!(failed > 4, "{failed}");
}

/// That nothing below it counts is durable before anything below it goes, however often the disk fails.
#[test]
fn a_removal_whose_record_is_not_durable_takes_nothing() {
    for fails in 1..10 {
        let sim = Env::sim(11);
        let topic = filled(&sim, 0..40);
        let partition = topic.partition(0).expect("open");
        let offsets = partition.segment_offsets();
        sim.disk.fail_sync(fails);
        let _ = partition.remove_before(offsets[1]);
        let _ = partition.remove_before(offsets[2]);
        drop((topic, partition));
        sim.disk.mend();
        // Another process sweeps what it finds; then the machine dies.
        let look = || open(&sim.env, FOLDER).topic(&name("t")).and_then(|topic| ids(&topic, 0));
        look().unwrap_or_else(|e| panic!("sync {fails}: {e}"));
        sim.disk.crash(&CrashPlan::Nothing);
        let kept = look().unwrap_or_else(|e| panic!("sync {fails}: {e}"));
        assert!((kept[0]..40).eq(kept.iter().copied()) && kept[0] <= offsets[2] as i64, "sync {fails}: {kept:?}");
    }
}
