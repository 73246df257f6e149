//! Jobs without an end: files that grow, come and go; splits that fall silent and wake up; signals.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::process::Invocation;
use crate::sink;
use crate::timestamp;

const DEADLINE: Duration = Duration::from_secs(90);
const START: i64 = 1_357_000_000_000;

const SCRIPT: &str = "SET 'execution.checkpointing.interval' = '20 ms';
SET 'table.exec.source.idle-timeout' = '300 ms';
CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv', 'source.monitor-interval' = '10 ms');
CREATE TABLE o (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;
";

/// A job that runs until it is told to stop.
struct Running<'a> {
    folder: &'a Folder,
    child: Child,
}

impl<'a> Running<'a> {
    fn start(folder: &'a Folder, parallelism: &str) -> Self {
        let log = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qanat"));
        command.args(["run", "q.sql", "--data", "data", "--parallelism", parallelism]).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { folder, child }
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Waits for a sum of all counted rows.
    #[track_caller]
    fn until_counted(&mut self, rows: u64) {
        let begun = Instant::now();
        while counted(self.folder) != rows {
            let stderr = self.stderr();
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {stderr}");
            assert!(begun.elapsed() < DEADLINE, "{rows} rows expected, {} counted: {stderr}", counted(self.folder));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal and waits for the end; the exit status, if there is one.
    #[track_caller]
    fn end(mut self, signal: &str) -> Option<i32> {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked") && !stderr.contains("attempt failed"), "{stderr}");
        code
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows in all windows that have fired.
fn counted(folder: &Folder) -> u64 {
    // Between a look at the records and one at the files an epoch may come.
    let rows = sink::committed(&folder.path().join("out")).unwrap_or_default();
    rows.iter().filter_map(|row| row[1].as_ref()?.parse::<u64>().ok()).sum()
}

/// Rows in the late table; it can be read while the job runs.
fn late(folder: &Folder) -> usize {
    let list = Invocation::new(folder.path(), ["-o", "json", "late", "list", "q", "--data", "data"]).run().unwrap();
    list.json().ok().and_then(|lines| lines.as_array().map(Vec::len)).unwrap_or(0)
}

/// Splits that the newest epoch has as idle; 0 if it is not the newest any more.
fn idle_splits(folder: &Folder) -> usize {
    let checkpoints = |arguments: &[&str]| {
        let all = [["-o", "json", "checkpoints"].as_slice(), arguments, &["--data", "data"]].concat();
        Invocation::new(folder.path(), all).run().unwrap().json().unwrap_or_default()
    };
    let list = checkpoints(&["list", "q"]);
    let newest =
        list.as_array().and_then(|list| list.last()).map_or_else(String::new, |line| line["epoch"].to_string());
    let described = checkpoints(&["describe", "q", &newest]);
    let splits = described["sources"][0]["splits"].as_array().cloned().unwrap_or_default();
    splits.iter().filter(|split| split["idle"] == true).count()
}

fn append(folder: &Folder, name: &str, text: &str) {
    let path = folder.path().join("in").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// One row at a second after the start.
fn row(second: i64) -> String {
    format!("{second},{}\n", timestamp::format(START + second * 1_000))
}

#[test]
fn a_single_file_fires_windows_at_any_parallelism_and_grows_by_whole_lines() {
    let folder = Folder::new("follow");
    folder.write("q.sql", SCRIPT);
    append(&folder, "a.csv", "id,ts\n");
    (0..=10).for_each(|second| append(&folder, "a.csv", &row(second)));
    let mut job = Running::start(&folder, "4");
    // The row that pushes the watermark stays in its open window.
    job.until_counted(10);
    let (head, tail) = ("20,2013-01-01 0", "0:27:00.000\n");
    append(&folder, "a.csv", head);
    append(&folder, "b.csv", "id,ts\n");
    append(&folder, "a.csv", tail);
    job.until_counted(11);
    assert_eq!(job.end("-INT"), Some(0));
    // Gone while nobody looked: the job goes on with the rest.
    let (inside, outside) = (folder.path().join("in/a.csv"), folder.path().join("a.csv"));
    std::fs::rename(&inside, &outside).unwrap();
    append(&folder, "b.csv", "21,2013-01-01 00:30:00.000\n22,2013-01-01 00:40:00.000\n");
    let mut job = Running::start(&folder, "2");
    job.until_counted(13);
    // Back again, it is read on from where it was left, in this run and the next.
    std::fs::rename(&outside, &inside).unwrap();
    append(&folder, "a.csv", &format!("{}{}", row(3_000), row(3_100)));
    job.until_counted(15);
    assert_eq!(job.end("-KILL"), None);
    append(&folder, "a.csv", &row(3_200));
    let mut job = Running::start(&folder, "3");
    job.until_counted(16);
    assert_eq!(job.end("-TERM"), Some(0));
}

#[test]
fn a_savepoint_of_a_running_job_is_its_next_epoch() {
    let folder = Folder::new("follow-savepoint");
    folder.write("q.sql", SCRIPT);
    append(&folder, "a.csv", "id,ts\n");
    (0..=10).for_each(|second| append(&folder, "a.csv", &row(second)));
    let mut job = Running::start(&folder, "2");
    job.until_counted(10);
    let ask = |arguments: &[&str]| {
        let all = [["-o", "json", "job"].as_slice(), arguments, &["--data", "data"]].concat();
        let outcome = Invocation::new(folder.path(), all).run().unwrap();
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
        outcome.json().unwrap()
    };
    let made = ask(&["savepoint", "q", "--name", "here"]);
    assert!(made["epoch"].as_u64().is_some_and(|epoch| epoch > 0), "it is waited for: {made}");
    let listed = ask(&["savepoints", "q"]);
    assert_eq!(listed["savepoints"], serde_json::json!([{ "name": "here", "epoch": made["epoch"] }]));
    assert_eq!(job.end("-INT"), Some(0));
}

#[test]
fn splits_that_fall_idle_let_go_and_wake_up_behind_the_rest() {
    let folder = Folder::new("idle");
    folder.write("q.sql", SCRIPT);
    let names = ["a.csv", "b.csv", "c.csv", "d.csv"];
    for name in names {
        append(&folder, name, &format!("id,ts\n{}", row(0)));
    }
    // One that never had a row holds nothing back either, before the kill and behind it.
    append(&folder, "e.csv", "id,ts\n");
    let mut job = Running::start(&folder, "3");
    // Only one goes on; the others fall idle and hold nothing back.
    append(&folder, "a.csv", &format!("{}{}", row(1), row(100)));
    job.until_counted(5);
    // A kill does not make the idle ones hold it back again.
    assert_eq!(job.end("-KILL"), None);
    append(&folder, "a.csv", &format!("{}{}", row(101), row(200)));
    let mut job = Running::start(&folder, "3");
    job.until_counted(7);
    // Each wakes with a row far behind, which is late, and goes on in time.
    for name in &names[1..] {
        append(&folder, name, &format!("{}{}", row(50), row(300)));
    }
    let begun = Instant::now();
    while late(&folder) < 3 {
        assert!(begun.elapsed() < DEADLINE, "{} late: {}", late(&folder), job.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    append(&folder, "a.csv", &row(400));
    // 200 and the three at 300; 400 and what idleness lets go later stay open.
    job.until_counted(11);
    assert_eq!(job.end("-INT"), Some(0));
    assert_eq!(late(&folder), 3);
}

/// What came into all splits while the job was down is not late because one of them is read first.
#[test]
fn a_backlog_in_splits_that_were_idle_is_not_late() {
    let folder = Folder::new("backlog");
    folder.write("q.sql", SCRIPT);
    let names = ["a.csv", "b.csv", "c.csv", "d.csv"];
    let add = |seconds: std::ops::Range<i64>| {
        let rows: String = seconds.map(row).collect();
        names.iter().for_each(|name| append(&folder, name, &rows));
    };
    names.iter().for_each(|name| append(&folder, name, "id,ts\n"));
    add(0..20);
    let mut job = Running::start(&folder, "2");
    // All but what the last second holds: it has fallen idle with the others, and nothing pushes it on.
    job.until_counted(19 * 4);
    let begun = Instant::now();
    while idle_splits(&folder) < names.len() {
        assert!(begun.elapsed() < DEADLINE, "{} idle: {}", idle_splits(&folder), job.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(job.end("-INT"), Some(0));
    add(20..80);
    let mut job = Running::start(&folder, "3");
    job.until_counted(79 * 4);
    assert_eq!(job.end("-INT"), Some(0));
    assert_eq!(late(&folder), 0);
}

/// A job that is done is not begun anew because its neighbour in the script was stopped.
#[test]
fn a_finished_job_waits_for_its_neighbours() {
    let folder = Folder::new("neighbour");
    let once = "CREATE TABLE u (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'u.csv', 'format' = 'csv');
CREATE TABLE d (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'done', 'format' = 'csv');
INSERT INTO d SELECT id FROM u;
";
    folder.write("q.sql", format!("{SCRIPT}{once}"));
    folder.write("u.csv", "id\n1\n2\n3\n");
    let done = || sink::committed(&folder.path().join("done")).unwrap_or_default().len();
    for round in 0..2 {
        append(&folder, &format!("{round}.csv"), "id,ts\n");
        let seconds = round * 10..=round * 10 + 10;
        seconds.for_each(|second| append(&folder, &format!("{round}.csv"), &row(second)));
        let mut job = Running::start(&folder, "2");
        job.until_counted(if round == 0 { 10 } else { 21 });
        let begun = Instant::now();
        while done() == 0 && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(job.end("-INT"), Some(0));
        assert_eq!(done(), 3, "round {round}");
    }
}

/// A split that was ahead when the job was stopped does not hold back the others until it has more rows.
#[test]
fn splits_that_were_ahead_let_the_others_go_on_after_a_stop() {
    for parallelism in ["1", "2"] {
        let folder = Folder::new("ahead");
        folder.write("q.sql", SCRIPT.replace("SET 'table.exec.source.idle-timeout' = '300 ms';\n", ""));
        for (name, seconds) in [("a.csv", 100), ("b.csv", 10), ("c.csv", 100)] {
            let rows: String = (0..seconds).map(row).collect();
            append(&folder, name, &format!("id,ts\n{rows}"));
        }
        let mut job = Running::start(&folder, parallelism);
        job.until_counted(27);
        assert_eq!(job.end("-INT"), Some(0));
        append(&folder, "b.csv", &(10..100).map(row).collect::<String>());
        let mut job = Running::start(&folder, parallelism);
        job.until_counted(297);
        assert_eq!(job.end("-INT"), Some(0));
    }
}

/// `qanat run … | head`: rows that nobody sees are no reason to go on.
#[test]
fn a_job_that_only_prints_stops_when_nobody_reads() {
    let folder = Folder::new("closed-pipe");
    let script = "SET 'execution.checkpointing.interval' = '50 ms';
        CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'number-of-rows' = '60000');
        SELECT id FROM g;";
    folder.write("q.sql", script);
    let mut command = Command::new(env!("CARGO_BIN_EXE_qanat"));
    command.args(["run", "q.sql", "--data", "data"]).current_dir(folder.path()).env_remove("QANAT_DATA");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    // The pipe is closed behind the first line.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("+I["), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let listed = Invocation::new(folder.path(), ["-o", "json", "jobs", "list", "--data", "data"]).run().unwrap();
    assert_eq!(listed.json().unwrap()[0]["status"], "STOPPED", "{}", listed.describe());
}

/// A lookup table that cannot be read for a while does not end a job, and its rows are not lost.
#[test]
fn a_lookup_table_that_is_away_keeps_its_version() {
    let folder = Folder::new("lookup-away");
    let lookup =
        "CREATE TABLE d (k INT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'd.csv', 'format' = 'csv',
'lookup.full-cache.periodic-reload.interval' = '5 ms');
INSERT INTO o SELECT t.ts, COALESCE(d.n, 1000) FROM t LEFT JOIN d FOR SYSTEM_TIME AS OF t.p AS d ON d.k = t.id * 0;
";
    let script = SCRIPT.replace("WATERMARK FOR ts AS ts", "p AS PROCTIME()");
    let (tables, _) = script.split_once("INSERT").unwrap();
    folder.write("q.sql", format!("{tables}{lookup}"));
    folder.write("d.csv", "k,n\n0,1\n");
    append(&folder, "a.csv", &format!("id,ts\n{}", row(0)));
    let mut job = Running::start(&folder, "2");
    job.until_counted(1);
    std::fs::remove_file(folder.path().join("d.csv")).unwrap();
    let begun = Instant::now();
    while !job.stderr().contains("could not read a lookup table again") {
        assert!(begun.elapsed() < DEADLINE, "no warning: {}", job.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    append(&folder, "a.csv", &row(1));
    job.until_counted(2);
    folder.write("d.next", "k,n\n0,10\n");
    std::fs::rename(folder.path().join("d.next"), folder.path().join("d.csv")).unwrap();
    // Each row counts 1 until the new version is there, and 10 from then on.
    let mut rows = 2;
    while counted(&folder) == rows {
        assert!(begun.elapsed() < DEADLINE, "the old version stays: {}", job.stderr());
        append(&folder, "a.csv", &row(2));
        rows += 1;
        let ready = Instant::now();
        while counted(&folder) < rows {
            assert!(ready.elapsed() < DEADLINE, "{rows} rows expected: {}", job.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(job.end("-INT"), Some(0));
}

#[test]
fn a_topic_keeps_rows_until_every_reader_is_done_with_them() {
    let folder = Folder::new("consumed");
    let fill = |rows: u32| {
        let script = format!(
            "CREATE TABLE s (id BIGINT, pad STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}',
 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{rows}', 'fields.pad.length' = '1000');
CREATE TABLE c (id BIGINT, pad STRING) WITH ('connector' = 'log', 'topic' = 'c');
INSERT INTO c SELECT id, pad FROM s;\n"
        );
        folder.write("fill.sql", script);
        let outcome = Invocation::new(folder.path(), ["run", "fill.sql", "--data", "data"]).run().unwrap();
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    };
    let first_offset = || {
        let describe = ["-o", "json", "topics", "describe", "c", "--data", "data"];
        Invocation::new(folder.path(), describe).run().unwrap().json().unwrap()["partitions"][0]["first_offset"].clone()
    };
    let create = ["topics", "create", "c", "--retention-consumed", "--data", "data"];
    assert_eq!(Invocation::new(folder.path(), create).run().unwrap().code, Some(0));
    fill(20_000);
    assert_eq!(first_offset(), 0, "nobody reads it yet");
    let read = "SET 'execution.checkpointing.interval' = '20 ms';
CREATE TABLE c (id BIGINT, pad STRING) WITH ('connector' = 'log', 'topic' = 'c');
CREATE TABLE o (id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT id, 1 FROM c;\n";
    folder.write("q.sql", read);
    // This reader dies at its first epoch, and may be run again from its start.
    folder.write("slow.sql", read.replace("'out'", "'slow'"));
    let slow = Invocation::new(folder.path(), ["run", "slow.sql", "--data", "data"]);
    assert!(slow.failpoint(Some("claim.applied:1")).run().unwrap().aborted);
    let mut running = Running::start(&folder, "1");
    running.until_counted(20_000);
    assert_eq!(running.end("-INT"), Some(0));
    assert_eq!(first_offset(), 0, "the other reader needs it");
    std::fs::remove_dir_all(folder.path().join("data/jobs/slow")).unwrap();
    // This one reads all of it whenever it begins.
    folder.write(
        "lookup.sql",
        "CREATE TABLE s (id BIGINT, p AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
CREATE TABLE c (id BIGINT, pad STRING) WITH ('connector' = 'log', 'topic' = 'c', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE o (id BIGINT, pad STRING) WITH ('connector' = 'filesystem', 'path' = 'joined', 'format' = 'csv');
INSERT INTO o SELECT s.id, c.pad FROM s JOIN c FOR SYSTEM_TIME AS OF s.p ON s.id = c.id;\n",
    );
    let lookup = Invocation::new(folder.path(), ["run", "lookup.sql", "--data", "data"]);
    assert!(lookup.failpoint(Some("claim.applied:1")).run().unwrap().aborted);
    let mut rows = 20_000;
    let mut go_on = || {
        rows += 10;
        fill(10);
        let mut running = Running::start(&folder, "1");
        running.until_counted(rows);
        assert_eq!(running.end("-INT"), Some(0));
        first_offset()
    };
    // Checkpoints that may be resumed are kept until there are some more.
    for _ in 0..12 {
        assert_eq!(go_on(), 0, "the lookup needs it");
    }
    std::fs::remove_dir_all(folder.path().join("data/jobs/lookup")).unwrap();
    assert!((0..50).any(|_| go_on() != 0), "all readers are done with the first segment");
}
