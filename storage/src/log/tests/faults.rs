//! Disks that fail, fill up, and damage in the middle.

use super::*;
use crate::env::sim::CrashPlan;
use crate::log::{AppendOptions, TopicSpec};
use qanat_proto::Code;

const PLAIN: fn() -> AppendOptions = AppendOptions::default;

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
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
    for id in 0..3 {
        topic.append(0, &rows([id]), &PLAIN()).expect("room");
    }
    drop(topic);
    let path = Path::new("/topics/t/p00000/0000000000000000.log");
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
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
    for id in 0..40 {
        topic.append(0, &rows([id]), &PLAIN()).expect("room");
    }
    drop(topic);
    let path = Path::new("/topics/t/p00000/0000000000000001.log");
    let file = sim.env.disk.open(path, crate::env::OpenMode::Write).expect("there");
    let length = file.len().expect("known");
    file.set_len(length - 1).expect("cut");
    let error = open(&sim.env, FOLDER).topic(&name("t")).and_then(|topic| ids(&topic, 0)).expect_err("cut");
    assert_eq!(error.code(), Code::CorruptLog);
    sim.env.disk.remove_file(path).expect("there");
    let error = open(&sim.env, FOLDER).topic(&name("t")).and_then(|topic| ids(&topic, 0)).expect_err("missing");
    assert_eq!(error.code(), Code::CorruptLog);
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
    let folder = Path::new("/topics/t/p00000/.staged");
    sim.env.disk.remove_file(&folder.join(&gone.name)).expect("there");
    sim.disk.flip_bit(&folder.join(&changed.name), 4096 * 8 + 3000).expect("inside");
    assert_eq!(topic.commit(&[gone]).expect_err("gone").code(), Code::CorruptLog);
    assert_eq!(topic.commit(&[changed]).expect_err("changed").code(), Code::CorruptLog);
    assert!(ids(&topic, 0).expect("sound").is_empty());
}
