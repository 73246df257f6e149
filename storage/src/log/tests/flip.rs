//! Rot: every single bit of a small log flips, and no wrong row is ever served (I9).

use super::*;
use crate::env::OpenMode;
use crate::env::sim::Trace;
use crate::log::segment::{SEGMENT_MAGIC, SegmentHeader};
use crate::log::{AppendOptions, TopicSpec};
use qanat_proto::Code;

/// A small log at rest: two segments, a committed run, an end mark, preallocated zeros.
fn small_log() -> (SimEnv, Vec<i64>) {
    let sim = Env::sim(5);
    let topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
    topic.append(0, &rows(0..3), &AppendOptions::default()).expect("room");
    let mut staging = topic.stage(origin(1, 1, 0), 0);
    staging.write(0, &rows([3]), None).expect("room");
    staging.write(0, &rows([4]), None).expect("room");
    let handle = staging.prepare().expect("durable");
    topic.commit(&[handle]).expect("committed");
    topic.partition(0).expect("open").take_over(crate::log::OwnerToken(2)).expect("newer");
    topic.append(0, &rows([5]), &AppendOptions::default()).expect("room");
    topic.append(0, &rows([6, 7]), &AppendOptions::default()).expect("room");
    (sim, (0..8).collect())
}

/// Files of the log, with their lengths.
fn files(env: &Env, folder: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in env.disk.list(folder).expect("listed") {
        if entry.is_dir {
            found.extend(files(env, &entry.path));
        } else {
            found.push((entry.path, entry.len));
        }
    }
    found
}

/// Flips one bit of a copy and reads everything, recovering or not.
fn read_flipped(sim: &SimEnv, trace: &Trace, path: &Path, bit: u64) -> Vec<qanat_proto::Result<Vec<i64>>> {
    let read = |topics: Topics| topics.topic(&name("t")).and_then(|topic| ids(&topic, 0));
    let copy = || {
        let state = trace.crash_states().next().expect("the state at rest");
        state.disk.flip_bit(path, bit).expect("inside the file");
        reboot(sim, &state)
    };
    vec![read(open(&copy(), FOLDER)), read(Topics::open_read_only(copy(), FOLDER))]
}

#[test]
fn no_flipped_bit_is_served() {
    let (sim, expected) = small_log();
    // Everything at rest is durable.
    for (path, _) in files(&sim.env, Path::new(FOLDER)) {
        sim.env.disk.open(&path, OpenMode::Write).and_then(|file| file.sync_all()).expect("synced");
    }
    sim.disk.record();
    let trace = sim.disk.take_trace();
    let (mut detected, mut harmless) = (0, 0);
    for (path, length) in files(&sim.env, Path::new(FOLDER)) {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let file = sim.env.disk.open(&path, OpenMode::Read).expect("there");
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).expect("whole");
        for bit in 0..length * 8 {
            // Runs of zeros (padding of headers, preallocated space) are tried at every 61st bit here,
            // and at every bit of a header in the test below.
            let around = &bytes[(bit / 8).saturating_sub(16) as usize..(bit / 8 + 16).min(length) as usize];
            if around.iter().all(|byte| *byte == 0) && bit % 61 != 0 {
                continue;
            }
            for result in read_flipped(&sim, &trace, &path, bit) {
                match result {
                    Ok(found) => {
                        assert_eq!(found, expected, "bit {bit} of {}", path.display());
                        harmless += 1;
                    }
                    Err(error) => {
                        let is_known = matches!(error.code(), Code::CorruptLog | Code::UnknownVersion);
                        assert!(is_known && error.place().is_some(), "bit {bit} of {}: {error}", path.display());
                        detected += 1;
                    }
                }
            }
        }
        assert!(!is_log || length > 4096);
    }
    assert!(detected > 10_000 && harmless > 0, "{detected} detected, {harmless} harmless");
}

#[test]
fn every_bit_of_a_segment_header_counts() {
    let (sim, _) = small_log();
    let path = &segment_path(&open(&sim.env, FOLDER).topic(&name("t")).expect("there").folder_of(0), 1);
    let file = sim.env.disk.open(path, OpenMode::Write).expect("there");
    SegmentHeader::read(file.as_ref(), path, SEGMENT_MAGIC).expect("sound");
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, 0).expect("whole");
    for bit in 0..4096 * 8 {
        let (at, flip) = (bit / 8, 1_u8 << (bit % 8));
        file.write_all_at(&[bytes[at] ^ flip], at as u64).expect("room");
        assert!(SegmentHeader::read(file.as_ref(), path, SEGMENT_MAGIC).is_err(), "bit {bit}");
        file.write_all_at(&[bytes[at]], at as u64).expect("room");
    }
}
