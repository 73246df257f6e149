//! Topics that clients of a cluster make and delete, and what becomes of them.

use serde_json::Value;

use crate::look::{Dev, refused};
use crate::metrics::{Alive, start, until};
use crate::process::Outcome;

#[track_caller]
pub(crate) fn done(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    outcome.json().unwrap()
}

/// A job that writes numbers to a topic, for ever.
fn numbers(topic: &str, column: &str) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
CREATE TABLE g (n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'splits' = '2');
CREATE TABLE t ({column} BIGINT) WITH ('connector' = 'log', 'topic' = '{topic}');
INSERT INTO t SELECT n FROM g;
"
    )
}

impl Dev {
    fn has_rows(&self, topic: &str) -> bool {
        self.ask(&["topics", "describe", topic]).json().is_ok_and(|topic| topic["rows"].as_u64() > Some(0))
    }

    fn stop(&self, job: &str) {
        done(&self.ask(&["job", "stop", job]));
        until("the job has ended", || self.ask(&["job", "describe", job]).json().unwrap()["status"] == "STOPPED");
    }

    fn signal_executor(&self, id: &str, signal: &str) {
        let pid = self.processes.iter().find(|p| p["role"] == "executor" && p["id"] == id).unwrap()["pid"].to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Starts both executors anew, on the same folders and without what the first ones were armed with.
    pub(crate) fn start_executors(&self) -> Vec<Alive> {
        let executors = self.processes.iter().filter(|process| process["role"] == "executor");
        let start = |process: &Value| {
            let command: Vec<&str> =
                process["command"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
            let mut child = start(&self.folder, &command[1..]);
            let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
            std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
            Alive(child)
        };
        executors.map(start).collect()
    }

    pub(crate) fn attached(&self) -> usize {
        let status = self.ask(&["cluster", "status"]).json().unwrap();
        status["executors"].as_array().unwrap().iter().filter(|executor| executor["attached"] == true).count()
    }
}

#[test]
fn topics_are_made_and_deleted_as_in_one_process() {
    let dev = Dev::start("topics-cluster", "3");
    let options = ["--partitions", "2", "--retention-bytes", "1mb", "--retention-age", "7d", "--retention-consumed"];
    let create = [&["topics", "create", "numbers"][..], &options].concat();
    let made = dev.ask(&create);
    let alone = dev.run(&create, &["--data", "alone"]);
    assert_eq!((made.code, &made.stdout), (Some(0), &alone.stdout), "{}", made.describe());
    dev.same(&["topics", "describe", "numbers"]);
    for (arguments, code) in [
        (&create[..], "E0501"),
        (&["topics", "create", "none", "--partitions", "0"][..], "E0501"),
        (&["topics", "create", "many", "--partitions", "1001"][..], "E0501"),
        (&["topics", "create", ".hidden"][..], "E0501"),
        (&["topics", "delete", "numbrs"][..], "E0308"),
    ] {
        refused(&dev.ask(arguments), code);
    }
    // Nothing goes while a job uses it: not what it writes, nor its side tables.
    dev.folder.write("q.sql", numbers("numbers", "n"));
    done(&dev.ask(&["submit", "q.sql"]));
    until("rows are there", || dev.has_rows("numbers"));
    for topic in ["numbers", "q.late", "q.dead-letters"] {
        refused(&dev.ask(&["topics", "delete", topic]), "E0312");
    }
    dev.stop("q");
    let deleted = dev.ask(&["topics", "delete", "numbers"]);
    let alone = dev.run(&["topics", "delete", "numbers"], &["--data", "alone"]);
    assert_eq!((deleted.code, &deleted.stdout), (Some(0), &alone.stdout), "{}", deleted.describe());
    dev.neither(&["topics", "describe", "numbers"], "E0308");
    refused(&dev.ask(&["topics", "delete", "numbers"]), "E0308");
    // Another one of the name, with other columns, in processes that knew the one before.
    done(&dev.ask(&["topics", "create", "numbers"]));
    dev.folder.write("r.sql", numbers("numbers", "m"));
    done(&dev.ask(&["submit", "r.sql"]));
    until("rows are there", || dev.has_rows("numbers"));
    dev.stop("r");
    let described = done(&dev.same(&["topics", "describe", "numbers"]));
    assert_eq!((&described["columns"][0]["name"], described["partitions"].as_array().unwrap().len()), (&"m".into(), 1));
    let log = done(&dev.ask(&["cluster", "audit-log"]));
    let entries = log["entries"].as_array().unwrap().iter().filter(|entry| entry["object"] == "topic numbers");
    let told: Vec<_> = entries.map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["Data.CreateTopic", "Data.DeleteTopic", "Data.CreateTopic"], "{log}");
}

/// The owner of the log is paused with what it was told, or will be: another one does it, and what the first one does
/// when it wakes up changes nothing.
#[test]
fn a_paused_owner_is_no_obstacle_and_does_no_harm_later() {
    let dev = Dev::start("topics-paused", "1");
    for id in ["executor-1", "executor-2"] {
        dev.signal_executor(id, "-STOP");
        done(&dev.ask(&["topics", "create", "a"]));
        done(&dev.ask(&["topics", "create", "b"]));
        done(&dev.ask(&["topics", "delete", "a"]));
        dev.signal_executor(id, "-CONT");
        until("it is back", || dev.attached() == 2);
        dev.neither(&["topics", "describe", "a"], "E0308");
        dev.same(&["topics", "describe", "b"]);
        done(&dev.ask(&["topics", "delete", "b"]));
    }
    for id in ["executor-1", "executor-2"] {
        dev.signal_executor(id, "-KILL");
    }
    refused(&dev.ask(&["topics", "create", "a"]), "E0603");
}

/// Rows of a topic stay for the one reader that has read nothing, and go when the others are past them.
#[test]
fn a_cluster_keeps_rows_until_every_reader_is_done_with_them() {
    const ROWS: u64 = 20_000;
    let dev = Dev::start("topics-consumed", "1");
    let root = dev.folder.path().display().to_string();
    done(&dev.ask(&["topics", "create", "c", "--retention-consumed"]));
    let fill = |name: &str, rows: u64| {
        let script = format!(
            "CREATE TABLE s (id BIGINT, pad STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}',
 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{rows}', 'fields.pad.length' = '1000');
CREATE TABLE c (id BIGINT, pad STRING) WITH ('connector' = 'log', 'topic' = 'c');
INSERT INTO c SELECT id, pad FROM s;
"
        );
        dev.folder.write("fill.sql", script);
        done(&dev.ask(&["submit", "fill.sql", "--wait", "--name", name, "--parallelism", "1"]));
    };
    let read = |name: &str, interval: &str| {
        let script = format!(
            "SET 'execution.checkpointing.interval' = '{interval}';
CREATE TABLE c (id BIGINT, pad STRING) WITH ('connector' = 'log', 'topic' = 'c');
CREATE TABLE o (id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{root}/{name}', 'format' = 'csv');
INSERT INTO o SELECT id, 1 FROM c;
"
        );
        dev.folder.write("read.sql", script);
        done(&dev.ask(&["submit", "read.sql", "--name", name, "--parallelism", "1"]));
    };
    let first_offset = || done(&dev.ask(&["topics", "describe", "c"]))["partitions"][0]["first_offset"].as_u64();
    // Rows that a job has written, in all of its epochs.
    let written = |name: &str| {
        let list = done(&dev.ask(&["checkpoints", "list", name]));
        list.as_array().unwrap().iter().map(|epoch| epoch["written"].as_u64().unwrap()).sum::<u64>()
    };
    // A segment that is large enough ends where the next rows come: until then it is the last one, which stays.
    fill("first", ROWS - 10);
    fill("second", 10);
    read("slow", "10 min");
    read("fast", "100 ms");
    until("all is read", || written("fast") >= ROWS);
    assert_eq!(first_offset(), Some(0), "one reader may begin with all of it");
    done(&dev.ask(&["job", "stop", "slow", "--no-savepoint"]));
    until("it has ended", || done(&dev.ask(&["job", "describe", "slow"]))["status"] == "STOPPED");
    // Stopped, it may be resumed from there.
    assert_eq!(first_offset(), Some(0), "a stopped reader counts");
    done(&dev.ask(&["job", "drop", "slow"]));
    until("rows go", || first_offset() > Some(0));
    // What goes on reads on, and what begins takes what is there.
    dev.stop("fast");
    fill("third", 10);
    done(&dev.ask(&["job", "resume", "fast"]));
    until("the rest is read", || written("fast") >= ROWS + 10);
    read("new", "100 ms");
    let left = ROWS + 10 - first_offset().unwrap();
    until("what is left is read", || written("new") >= left);
    dev.stop("fast");
    assert_eq!(done(&dev.ask(&["audit", "fast"]))["verdict"], "pass");
}
