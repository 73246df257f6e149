use std::path::{Path, PathBuf};

use super::*;
use crate::checkpoint::fixture::{JOB, ROOT, file, files_of, manifest, origin, range, store};
use crate::env::{Disk, Env};
use crate::state::{Table, testing};

/// Two epochs of a table and the manifest over them.
fn write_checkpoint(store: &CheckpointStore) -> (String, String) {
    let mut table = Table::new(testing::spec(false), range(0, 8));
    for epoch in 1..=2 {
        let mut writer = StateWriter::new(store, origin(JOB, 1, epoch, 0));
        let rows = [(1, 10, epoch as i64), (2, 20, 5), (epoch as u8 + 3, 30, 7)];
        table.write(&testing::delta(&rows, &[2], None), &mut writer).expect("writes");
    }
    store.put_manifest(&manifest(JOB, 1, 2, table.files().to_vec()), 9).expect("writes")
}

fn restore(store: &CheckpointStore, key: &str, checksum: &str) -> Result<usize> {
    let manifest = store.read_manifest(key, checksum)?;
    let mut rows = 0;
    let mut table = Table::restored(testing::spec(false), range(0, 8), files_of(&manifest));
    table.read(store, &mut |batch| {
        rows += batch.num_rows();
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn manifests_round_trip_and_repeats_succeed() {
    let sim = Env::sim(1);
    let store = store(&sim.env);
    let first = manifest(JOB, 3, 12, vec![file("state/x")]);
    let (key, checksum) = store.put_manifest(&first, 255).expect("writes");
    assert_eq!(key, format!("manifests/{JOB}/000000000012-3-00000000000000ff"));
    assert_eq!(store.put_manifest(&first, 255).expect("a repeat"), (key.clone(), checksum.clone()));
    assert_eq!(store.read_manifest(&key, &checksum).expect("reads"), first);
    assert_eq!(store.inspect_manifest(&key).expect("reads"), (first, checksum));
    let other = manifest(JOB, 3, 12, vec![]);
    assert_eq!(store.put_manifest(&other, 255).expect_err("taken").code(), Code::Invariant);
    let (_, attempt) = store.put_manifest(&other, 256).expect("another attempt");
    assert_eq!(store.read_manifest(&key, &attempt).expect_err("not claimed").code(), Code::CorruptCheckpoint);
    assert_eq!(store.list_manifests(JOB).expect("lists").len(), 2);
    assert!(store.list_manifests(JobId(8)).expect("lists").is_empty());
}

/// Manifests of before could name a savepoint, which the command log does now.
#[test]
fn manifests_of_before_are_read() {
    let manifest = manifest(JOB, 1, 2, vec![]);
    for named in [serde_json::Value::Null, "before".into()] {
        let mut stored = serde_json::to_value(&manifest).expect("encodes");
        stored["savepoint"] = named;
        assert_eq!(serde_json::from_value::<Manifest>(stored).expect("decodes"), manifest);
    }
}

#[test]
fn names_that_are_no_manifests_are_refused() {
    let sim = Env::sim(2);
    let store = store(&sim.env);
    for bad in ["manifests/x", "state/y", &format!("manifests/{JOB}/12-3-00000000000000ff"), ""] {
        assert_eq!(store.read_manifest(bad, "").expect_err("refused").code(), Code::CorruptCheckpoint, "{bad}");
    }
    let missing = ManifestKey { job: JOB, epoch: Epoch(1), generation: Generation(1), attempt: 0 }.to_string();
    assert_eq!(store.read_manifest(&missing, "").expect_err("missing").code(), Code::CorruptCheckpoint);
}

/// I7: after a crash at any point a manifest that is there is whole, with all its objects; and a manifest
/// whose put was acknowledged is there.
#[test]
fn every_crash_state_of_a_checkpoint_is_whole_or_absent() {
    let sim = Env::sim(3);
    let before = store(&sim.env);
    sim.disk.record();
    let (key, checksum) = write_checkpoint(&before);
    sim.disk.mark(1);
    let trace = sim.disk.take_trace();
    let (mut states, mut whole) = (0, 0);
    for state in trace.crash_states().chain(trace.random_crash_states(5, 10)) {
        states += 1;
        let env = Env { disk: std::sync::Arc::new(state.disk.clone()), ..sim.env.clone() };
        let after = store(&env);
        let listed = after.list_manifests(JOB).expect("lists");
        assert!(state.last_mark().is_none() || listed.len() == 1, "acknowledged, and lost: {state}");
        match restore(&after, &key, &checksum) {
            Ok(rows) => {
                assert_eq!(rows, 4, "{state}");
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), Code::CorruptCheckpoint);
                assert!(listed.is_empty(), "{error}: {state}");
            }
        }
    }
    assert!(states > 200 && whole > 5, "{states} states, {whole} whole");
}

/// I9: no flipped bit of a checkpoint goes unnoticed.
#[test]
fn every_flipped_bit_is_detected() {
    let sim = Env::sim(4);
    let store = store(&sim.env);
    let (key, checksum) = write_checkpoint(&store);
    assert_eq!(restore(&store, &key, &checksum).expect("whole"), 4);
    let manifest = store.read_manifest(&key, &checksum).expect("whole");
    let mut objects = vec![key.clone()];
    objects.extend(files_of(&manifest).iter().map(|file| file.object.clone()));
    assert_eq!(objects.len(), 3);
    for object in objects {
        let path: PathBuf = Path::new(ROOT).join(&object);
        let bits = sim.disk.metadata(&path).expect("is there").len * 8;
        for bit in 0..bits {
            sim.disk.flip_bit(&path, bit).expect("flips");
            let error = restore(&store, &key, &checksum).expect_err("a flipped bit");
            assert!(matches!(error.code(), Code::CorruptCheckpoint | Code::UnknownVersion), "{object} {bit}: {error}");
            if object == key {
                assert!(store.inspect_manifest(&key).is_err(), "{object} {bit}");
            }
            sim.disk.flip_bit(&path, bit).expect("flips back");
        }
    }
    assert_eq!(restore(&store, &key, &checksum).expect("whole again"), 4);
}

#[test]
fn truncated_missing_and_misplaced_objects_are_detected() {
    let sim = Env::sim(5);
    let store = store(&sim.env);
    let (key, checksum) = write_checkpoint(&store);
    let manifest = store.read_manifest(&key, &checksum).expect("whole");
    let paths: Vec<PathBuf> = files_of(&manifest).iter().map(|file| Path::new(ROOT).join(&file.object)).collect();
    let refused = |what: &str| {
        let error = restore(&store, &key, &checksum).expect_err(what);
        assert_eq!(error.code(), Code::CorruptCheckpoint, "{what}: {error}");
    };
    let aside = Path::new(ROOT).join("aside");
    sim.disk.rename(&paths[0], &aside).expect("renames");
    refused("a missing object");
    sim.disk.link(&paths[1], &paths[0]).expect("links");
    refused("an object in the place of another");
    sim.disk.rename(&aside, &paths[0]).expect("renames");
    assert_eq!(restore(&store, &key, &checksum).expect("whole again"), 4);
    for len in [0, 1, 20, 100] {
        let file = sim.disk.open(&paths[1], crate::env::OpenMode::Write).expect("opens");
        file.set_len(len).expect("cuts");
        refused("a truncated object");
    }
}
