//! Jobs that go on: what a run may count on after kills, at another parallelism, with another script.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::folder::{Folder, rows_folder};
use crate::process::{Invocation, Outcome};
use crate::sink;
use crate::timestamp;

fn run(folder: &Folder, parallelism: u32, failpoint: Option<&str>) -> Outcome {
    let settings = [("execution.checkpointing.interval".to_owned(), "10 ms".to_owned())];
    Invocation::job(folder.path(), "q.sql", parallelism, &settings).failpoint(failpoint).run().unwrap()
}

#[track_caller]
fn dies(folder: &Folder, parallelism: u32, failpoint: &str) {
    let outcome = run(folder, parallelism, Some(failpoint));
    assert!(outcome.aborted, "{failpoint}: {}", outcome.describe());
}

#[track_caller]
fn finishes(folder: &Folder, parallelism: u32) -> serde_json::Value {
    let outcome = run(folder, parallelism, None);
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    outcome.json().unwrap()
}

const LOOKUP: &str = "CREATE TABLE g (id BIGINT, p AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '6000', 'rows-per-second' = '6000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '5999');
CREATE TABLE d (k BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = 'd.csv', 'format' = 'csv'REFRESH);
CREATE TABLE o (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT g.id, d.v FROM g LEFT JOIN d FOR SYSTEM_TIME AS OF g.p ON g.id % 20 = d.k;
";

/// Twenty keys, of every third version five.
fn write_version(folder: &Folder, version: u64) {
    let keys = if version.is_multiple_of(3) { 5 } else { 20 };
    let rows: String = (0..keys).map(|key| format!("{key},{version}\n")).collect();
    folder.write("d.next", format!("k,v\n{rows}"));
    std::fs::rename(folder.path().join("d.next"), folder.path().join("d.csv")).unwrap();
}

/// The table is part of the checkpoint: restored again and again, it neither changes nor grows.
#[test]
fn a_lookup_table_stays_what_it_was_through_many_restores() {
    if !cfg!(debug_assertions) {
        return;
    }
    let folder = Folder::new("lookup-restored");
    folder.write("q.sql", LOOKUP.replace("REFRESH", ""));
    write_version(&folder, 1);
    for parallelism in [2, 1, 3, 2] {
        dies(&folder, parallelism, "committed.applied:3");
        write_version(&folder, 2);
    }
    finishes(&folder, 2);
    let rows = sink::committed(&folder.path().join("out")).unwrap();
    let ids: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!((rows.len(), ids.len()), (6_000, 6_000), "rows, and different ones");
    assert!(rows.iter().all(|row| row[1].as_deref() == Some("1")), "the version changed");
}

/// Behind the generation: ids are hexadecimal, and may begin with an `e` too.
fn epoch_of(name: &str) -> u64 {
    let parts: Vec<&str> = name.split('-').collect();
    let generation = parts.iter().position(|part| part.starts_with('g')).expect("a generation");
    parts[generation + 1].strip_prefix('e').expect("an epoch").parse().expect("a number")
}

/// A table that is read again takes effect at a barrier: all rows of an epoch are joined with one version,
/// whatever dies, and later epochs never with an older one.
#[test]
fn every_epoch_is_joined_with_one_version_of_a_refreshed_table() {
    let folder = Folder::new("lookup-refreshed");
    folder.write("q.sql", LOOKUP.replace("REFRESH", ", 'lookup.full-cache.periodic-reload.interval' = '5 ms'"));
    write_version(&folder, 1);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut version = 1;
            while !is_done.load(Ordering::Acquire) {
                version += 1;
                write_version(&folder, version);
                std::thread::yield_now();
            }
        });
        if cfg!(debug_assertions) {
            for (parallelism, failpoint) in [(3, "commit.done:4"), (2, "claim.applied:3"), (1, "state.stored:3")] {
                let outcome = run(&folder, parallelism, Some(failpoint));
                if !outcome.aborted {
                    is_done.store(true, Ordering::Release);
                    panic!("{failpoint}: {}", outcome.describe());
                }
            }
        }
        let outcome = run(&folder, 3, None);
        is_done.store(true, Ordering::Release);
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    });
    let out = folder.path().join("out");
    assert_eq!(sink::committed(&out).unwrap().len(), 6_000);
    let mut versions: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for name in sink::visible(&out) {
        let epoch = epoch_of(&name);
        for line in std::fs::read_to_string(out.join(&name)).unwrap().lines().skip(1) {
            let (id, version) = line.split_once(',').unwrap();
            let Ok(version) = version.parse::<u64>() else { continue };
            assert!(version % 3 != 0 || id.parse::<u64>().unwrap() % 20 < 5, "{line}: a row of an older version");
            versions.entry(epoch).or_default().insert(version);
        }
    }
    assert!(versions.values().all(|of_epoch| of_epoch.len() == 1), "{versions:?}");
    let in_order: Vec<u64> = versions.values().flatten().copied().collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    assert!(in_order.first() < in_order.last(), "it was never read again: {in_order:?}");
}

/// One file in order is one split: at no parallelism is a row of it late. A sink with a parallelism of its
/// own, and a union, make tasks behind a part of the senders: what such a task knew is no other's.
#[test]
fn rows_in_time_are_not_late_at_another_parallelism() {
    const ROWS: i64 = 20_000;
    const SINK: &str = "CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
CREATE TABLE o (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
CREATE TABLE p (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'copy', 'format' = 'csv', 'sink.parallelism' = '2');
INSERT INTO p SELECT id FROM t;
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
";
    if !cfg!(debug_assertions) {
        return;
    }
    let rows: String = (0..ROWS).map(|n| format!("{n},{}\n", timestamp::format(1_357_000_000_000 + n * 10))).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(format!("id,ts\n{rows}").as_bytes()).unwrap();
    let file = encoder.finish().unwrap();
    // The name decides which subtask reads it.
    for name in ["a", "b", "c", "d"] {
        let folder = Folder::new("rescaled-in-time");
        folder.write(&format!("in/{name}.csv.gz"), &file);
        folder.write("q.sql", SINK);
        dies(&folder, 2, "commit.done:1");
        let receipt = finishes(&folder, 3);
        assert_eq!((&receipt["late"], &receipt["sources"]["t"]), (&0.into(), &ROWS.into()), "{name}: {receipt}");
    }
}

/// A receipt is shown, then the job is done: a kill in between shows it again and runs nothing twice.
#[test]
fn a_kill_behind_the_receipt_repeats_the_receipt_and_not_the_run() {
    if !cfg!(debug_assertions) {
        return;
    }
    let folder = Folder::new("receipt");
    folder.write("in/a.csv", "id\n1\n2\n");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT INTO o SELECT id FROM t;",
    );
    let mut killed = run(&folder, 1, Some("receipt.shown"));
    assert!(killed.aborted, "{}", killed.describe());
    for _ in 0..2 {
        let first = killed.json().unwrap();
        killed = run(&folder, 1, Some("receipt.shown"));
        let again = killed.json().unwrap();
        assert_eq!((&again["job"], &again["sinks"]), (&first["job"], &first["sinks"]));
    }
    finishes(&folder, 1);
    assert_eq!(sink::committed(&folder.path().join("out")).unwrap().len(), 2);
    // Seen to the end: now it starts anew, and appends.
    finishes(&folder, 1);
    assert_eq!(sink::committed(&folder.path().join("out")).unwrap().len(), 4);
}

/// A script that gets a second job while its first is not done would leave that one behind under its old
/// name, and write its rows again under a new one.
#[test]
fn a_script_with_another_number_of_jobs_waits_for_those_of_before() {
    if !cfg!(debug_assertions) {
        return;
    }
    let folder = Folder::new("jobs");
    let one = "CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '2000',
                 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '1999');
               CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
               INSERT INTO o SELECT id FROM t;";
    let two = format!(
        "{one}\nCREATE TABLE u (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
         CREATE TABLE p (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'other', 'format' = 'csv');
         INSERT INTO p SELECT id FROM u;"
    );
    folder.write("q.sql", one);
    dies(&folder, 2, "committed.applied:2");
    folder.write("q.sql", &two);
    folder.write("in/a.csv", "id\n1\n");
    let refused = run(&folder, 2, None);
    assert_eq!(refused.error().unwrap()["code"], "E0302", "{}", refused.describe());
    folder.write("q.sql", one);
    finishes(&folder, 2);
    assert_eq!(sink::committed(&folder.path().join("out")).unwrap().len(), 2_000);
    // The second job cannot start: the first does not either, and nothing is left of it that is in the way.
    std::fs::remove_dir_all(folder.path().join("in")).unwrap();
    folder.write("q.sql", &two);
    let refused = run(&folder, 2, None);
    assert_eq!(refused.error().unwrap()["code"], "E0206", "{}", refused.describe());
    folder.write("in/a.csv", "id\n1\n");
    folder.write("q.sql", two.replace("SELECT id FROM t", "SELECT id + 1 FROM t"));
    finishes(&folder, 2);
    assert_eq!(sink::committed(&folder.path().join("out")).unwrap().len(), 4_000);
    assert_eq!(sink::committed(&folder.path().join("other")).unwrap().len(), 1);
}

/// What stood in the way of the first epoch may be mended in the script: nothing was read or written by then.
#[test]
fn a_script_that_got_nowhere_can_be_mended() {
    let folder = Folder::new("mended");
    let script = |path: &str| {
        format!(
            "CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '10', 'fields.id.kind' = 'sequence',
               'fields.id.start' = '0', 'fields.id.end' = '9');
             CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv');
             INSERT INTO o SELECT id FROM t;"
        )
    };
    folder.write("a.file", "in the way");
    folder.write("q.sql", script("a.file/out"));
    let failed = run(&folder, 1, None);
    assert!(failed.error().is_some(), "{}", failed.describe());
    folder.write("q.sql", script("out"));
    finishes(&folder, 1);
    assert_eq!(sink::committed(&folder.path().join("out")).unwrap().len(), 10);
    // One that was killed before it had an epoch.
    dies(&folder, 1, "claim.propose:1");
    folder.write("q.sql", script("elsewhere"));
    finishes(&folder, 1);
    assert_eq!(sink::committed(&folder.path().join("elsewhere")).unwrap().len(), 10);
}

/// A job's state has one owner, whatever data folder it is used with.
#[test]
fn a_state_folder_has_one_owner() {
    let folder = Folder::new("state");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT INTO o SELECT id FROM t;",
    );
    let mut first = Command::new(env!("CARGO_BIN_EXE_qanat"))
        .args(["run", "q.sql", "--data", "data", "--state", "state"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while sink::visible(&folder.path().join("out")).is_empty() {
        assert!(begun.elapsed().as_secs() < 60 && first.try_wait().unwrap().is_none(), "no row within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    let arguments = ["-o", "json", "run", "q.sql", "--data", "other", "--state", "state"];
    let second = Invocation::new(folder.path(), arguments).run();
    first.kill().unwrap();
    first.wait().unwrap();
    let second = second.unwrap();
    assert_eq!(second.error().unwrap()["code"], "E0303", "{}", second.describe());
}

/// A job's topics lie in its data folder: its state is of no use with another one.
#[test]
fn a_state_folder_belongs_to_its_data_folder() {
    let folder = Folder::new("bound");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'log', 'topic' = 'lg');
         INSERT INTO o SELECT id FROM t;",
    );
    folder.write("in/a.csv", "id\n1\n2\n");
    let run = |data: &str, state: &str| {
        let arguments = ["-o", "json", "run", "q.sql", "--data", data, "--state", state];
        Invocation::new(folder.path(), arguments).run().unwrap()
    };
    assert_eq!(run("a", "s").code, Some(0));
    let inside = Invocation::new(folder.path(), ["run", "q.sql", "--data", "c"]).run().unwrap();
    assert_eq!(inside.code, Some(0), "{}", inside.describe());
    for state in ["s", "c/jobs/q"] {
        let refused = run("b", state);
        assert_eq!(refused.error().unwrap()["code"], "E0302", "{}", refused.describe());
    }
    let audit = |data: &str| {
        Invocation::new(folder.path(), ["-o", "json", "audit", "q", "--data", data, "--state", "s"]).run().unwrap()
    };
    assert_eq!(audit("a").code, Some(0));
    for data in ["c", "nowhere"] {
        assert_eq!(audit(data).error().unwrap()["code"], "E0302", "{}", audit(data).describe());
    }
    for (from, to) in [("a", "moved"), ("s", "moved-state")] {
        std::fs::rename(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    let outcome = run("moved", "moved-state");
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    std::fs::write(folder.path().join("moved/.id"), "0123").unwrap();
    let refused = run("moved", "moved-state");
    assert_eq!(refused.error().unwrap()["code"], "E0304", "{}", refused.describe());
}

/// What a topic has lost between two runs is not taken for something that never was.
#[test]
fn a_topic_that_lost_committed_rows_is_refused() {
    if !cfg!(debug_assertions) {
        return;
    }
    let folder = Folder::new("lost-topic");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '2000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '1999');
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'log', 'topic' = 'lg');
         INSERT INTO o SELECT id FROM t;",
    );
    dies(&folder, 1, "claim.applied:3");
    let topic = folder.path().join("data/topics/lg");
    let segment = rows_folder(&topic).join("p00000/0000000000000000.log");
    let bytes = std::fs::read(&segment).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let is_refused = || {
        let refused = run(&folder, 1, None);
        assert_eq!(refused.error().unwrap()["code"], "E0304", "{}", refused.describe());
    };
    std::fs::write(&segment, &bytes[..4096 + (written - 4096) / 2]).unwrap();
    is_refused();
    let audited = Invocation::new(folder.path(), ["audit", "q", "--data", "data"]).run().unwrap();
    assert!(audited.code == Some(1) && audited.describe().contains("/p00000"), "{}", audited.describe());
    std::fs::remove_file(&segment).unwrap();
    is_refused();
    let copy = folder.path().join("copy");
    std::fs::rename(&topic, &copy).unwrap();
    is_refused();
    std::fs::remove_dir_all(&topic).unwrap();
    std::fs::rename(&copy, &topic).unwrap();
    std::fs::write(&segment, &bytes).unwrap();
    let receipt = finishes(&folder, 1);
    assert_eq!(receipt["sinks"]["o"]["rows"], 2_000);
    let tailed =
        Invocation::new(folder.path(), ["tail", "lg", "--to-latest", "--data", "data", "-o", "json"]).run().unwrap();
    assert_eq!(tailed.stdout.lines().count(), 2_000);
}

/// A folder that lost its commit records is not filled with the rest, nor is another one.
#[test]
fn a_folder_that_lost_committed_rows_is_refused() {
    if !cfg!(debug_assertions) {
        return;
    }
    let folder = Folder::new("lost-folder");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '2000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '1999');
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT INTO o SELECT id FROM t;",
    );
    dies(&folder, 1, "committed.applied:3");
    let (out, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
    std::fs::rename(&out, &elsewhere).unwrap();
    let refused = run(&folder, 1, None);
    assert_eq!(refused.error().unwrap()["code"], "E0304", "{}", refused.describe());
    let _ = std::fs::remove_dir_all(&out);
    std::fs::rename(&elsewhere, &out).unwrap();
    assert_eq!(finishes(&folder, 1)["sinks"]["o"]["rows"], 2_000);
}

/// The receipt of a job that is done is shown, whatever becomes of the other jobs of its script.
#[test]
fn a_finished_neighbour_of_a_failed_job_shows_its_receipt() {
    let folder = Folder::new("neighbours");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
         CREATE TABLE u (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'csv', 'dead-letter.policy' = 'fail');
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         CREATE TABLE p (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'other', 'format' = 'csv');
         INSERT INTO o SELECT id FROM t;
         INSERT INTO p SELECT id FROM u;",
    );
    folder.write("in/a.csv", "id\n1\n");
    folder.write("bad/a.csv", "id\nx\n");
    let outcome = run(&folder, 1, None);
    assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
    assert!(outcome.error().is_some(), "{}", outcome.describe());
    let receipt = outcome.json().unwrap();
    let status: Vec<_> = receipt["jobs"].as_array().unwrap().iter().map(|job| job["status"].clone()).collect();
    assert_eq!(status, ["FINISHED", "FAILED"]);
}
