//! Where a job begins is decided once (P9), whatever dies before its first epoch.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::process::Invocation;
use crate::sink;

const PATIENCE: Duration = Duration::from_secs(90);

/// Writes the numbers of a range into the topic.
fn fill(folder: &Folder, name: &str, from: u64, to: u64) {
    folder.write(
        name,
        format!(
            "CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', \
             'fields.id.start' = '{from}', 'fields.id.end' = '{}');\n\
             CREATE TABLE t (id BIGINT) WITH ('connector' = 'log', 'topic' = 't');\n\
             INSERT INTO t SELECT id FROM g;\n",
            to - 1
        ),
    );
    let outcome = Invocation::job(folder.path(), name, 1, &[]).run().unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
}

/// `latest-offset` is 100 when the job is first run. It dies before it has claimed anything, the topic grows, and the
/// next run goes on from there and from nowhere else.
#[test]
fn p9_a_start_is_resolved_once() {
    if !cfg!(debug_assertions) {
        // Release builds have no failpoints.
        return;
    }
    let folder = Folder::new("start-once");
    fill(&folder, "before.sql", 0, 100);
    folder.write(
        "q.sql",
        "SET 'execution.checkpointing.interval' = '20 ms';\n\
         CREATE TABLE t (id BIGINT) WITH ('connector' = 'log', 'topic' = 't', 'scan.startup.mode' = 'latest-offset');\n\
         CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');\n\
         INSERT INTO o SELECT id FROM t;\n",
    );
    let died = Invocation::job(folder.path(), "q.sql", 1, &[]).failpoint(Some("claim.propose:1")).run().unwrap();
    assert!(died.aborted, "{}", died.describe());
    fill(&folder, "between.sql", 100, 500);
    let mut child = Command::new(env!("CARGO_BIN_EXE_qanat"))
        .args(["run", "q.sql", "--data", "data", "--parallelism", "1"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = folder.path().join("out");
    let begun = Instant::now();
    // Between a look at the records and one at the files an epoch may come.
    while sink::committed(&out).map_or(0, |rows| rows.len()) < 400 {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "rows are missing");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0), "SIGTERM takes a last checkpoint");
    let rows = sink::committed(&out).unwrap();
    let mut ids: Vec<u64> = rows.into_iter().filter_map(|mut row| row.remove(0)?.parse().ok()).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(100..500), "{} ids", ids.len());
}
