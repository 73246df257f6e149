//! Indexes that are kept between two runs: used, dropped with their segments, and done without.

use super::*;
use crate::log::{AppendOptions, IndexCache, Retention, TopicSpec};
use crate::suite::Scratch;

const ROWS: i64 = 600;

fn filled(env: &Env, folder: &Path, indexes: IndexCache) -> Arc<Topic> {
    let topic = open(env, folder).with_indexes(indexes).create(&name("t"), TopicSpec::new(1)).expect("new");
    for id in (0..ROWS).step_by(3) {
        topic.append(0, &rows(id..id + 3), &AppendOptions::default()).expect("room");
    }
    assert!(topic.partition(0).expect("open").segments() > 8);
    topic
}

fn reopened(env: &Env, folder: &Path, indexes: &IndexCache) -> Arc<Topic> {
    open(env, folder).with_indexes(indexes.clone()).topic(&name("t")).expect("there")
}

/// The first id at an offset: found through the index of the segment.
fn at(topic: &Topic, offset: u64) -> qanat_proto::Result<i64> {
    let batch = topic.read_from(0, Start::Offset(offset))?.poll()?.expect("a row");
    Ok(batch.rows.column(0).as_primitive::<Int64Type>().value(0))
}

/// Damages the header of the last frame of the second segment: whoever looks for its first rows does not need
/// it, and a scan of the segment does not get past it.
fn block_scans(sim: &SimEnv, topic: &Topic) {
    let path = topic.folder_of(0).join("0000000000000001.log");
    let file = sim.disk.open(&path, OpenMode::Read).expect("opens");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    let last = bytes.windows(4).rposition(|window| window == b"QFRM").expect("a frame");
    sim.disk.flip_bit(&path, (last as u64 + 40) * 8).expect("flips");
}

#[test]
fn a_kept_index_saves_the_scan_and_a_lost_one_is_made_anew() {
    let sim = Env::sim(1);
    let kept = IndexCache::in_memory();
    let topic = filled(&sim.env, Path::new(FOLDER), kept.clone());
    let second = topic.partition(0).expect("open").segment_offsets()[1];
    drop(topic);
    for indexes in [IndexCache::none(), IndexCache::in_memory(), kept.clone()] {
        let topic = reopened(&sim.env, Path::new(FOLDER), &indexes);
        for offset in (0..ROWS as u64).step_by(7) {
            assert_eq!(at(&topic, offset).expect("sound"), offset as i64);
        }
        assert_eq!(topic.resolve(0, Start::Time(0)).expect("found"), 0);
    }
    block_scans(&sim, &reopened(&sim.env, Path::new(FOLDER), &kept));
    let wanted = second + 4;
    assert!(
        at(&reopened(&sim.env, Path::new(FOLDER), &IndexCache::none()), wanted).is_err(),
        "a scan meets the damage"
    );
    assert_eq!(at(&reopened(&sim.env, Path::new(FOLDER), &kept), wanted).expect("no scan"), wanted as i64);
}

#[test]
fn indexes_go_with_their_segments() {
    let sim = Env::sim(2);
    let kept = IndexCache::in_memory();
    let topic = filled(&sim.env, Path::new(FOLDER), kept.clone());
    let partition = topic.partition(0).expect("open");
    assert_eq!(kept.len(), partition.segments() - 1, "of every sealed segment");
    partition.retain(&Retention { bytes: Some(30 << 10), ..Retention::default() }).expect("removed");
    for id in (ROWS..2 * ROWS).step_by(3) {
        topic.append(0, &rows(id..id + 3), &AppendOptions::default()).expect("room");
    }
    assert_eq!(kept.len(), partition.segments() - 1);
}

/// Sled's folder, whatever happened to it, changes no answer.
#[test]
fn a_damaged_or_deleted_folder_is_made_anew() {
    let scratch = Scratch::new();
    let (env, folder) = (scratch.env(), scratch.path().join("topics"));
    let index = scratch.path().join("index");
    let indexes = || IndexCache::in_folder(env, &index);
    drop(filled(env, &folder, indexes()));
    let check = |what: &str| {
        let indexes = indexes();
        let topic = reopened(env, &folder, &indexes);
        for offset in (0..ROWS as u64).step_by(11) {
            assert_eq!(at(&topic, offset).unwrap_or_else(|e| panic!("{what}: {e}")), offset as i64, "{what}");
        }
        assert!(indexes.len() > 8, "{what}: {}", indexes.len());
    };
    check("as it was left");
    for how in ["flip", "cut", "zeros", "gone"] {
        for path in files(env, &index) {
            let file = env.disk.open(&path, OpenMode::Write).expect("opens");
            let length = file.len().expect("a length");
            match how {
                "flip" if length > 0 => {
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, length / 2).expect("reads");
                    file.write_all_at(&[byte[0] ^ 0x40], length / 2).expect("writes");
                }
                "cut" => file.set_len(length / 2).expect("cuts"),
                "zeros" => file.write_all_at(&vec![0; length as usize], 0).expect("writes"),
                _ => {}
            }
            if how == "gone" && env.disk.exists(&path).expect("looks") {
                env.disk.remove_file(&path).expect("removes");
            }
        }
        check(how);
    }
    // Nobody may write there: it is done without.
    let nowhere = IndexCache::in_folder(env, "/proc/no/such/place");
    assert_eq!(at(&reopened(env, &folder, &nowhere), 77).expect("sound"), 77);
}

fn files(env: &Env, folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in env.disk.list(folder).expect("lists") {
        if entry.is_dir {
            found.extend(files(env, &entry.path));
        } else {
            found.push(entry.path);
        }
    }
    found
}
