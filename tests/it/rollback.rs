//! Savepoints and rollback of a job of one process: its files go, come again, and each row is there once.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::folder::Folder;
use crate::process::{Invocation, Outcome};
use crate::sink;

/// Moments at which a process can die while it takes files back.
pub(crate) const MOMENTS: &[&str] = &["withdraw.start", "withdraw.sink", "withdraw.done"];

const SCRIPT: &str =
    "CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '4000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '1999');
CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
CREATE TABLE t (id BIGINT) WITH ('connector' = 'log', 'topic' = 'ids');
";

fn folder(name: &str, insert: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("q.sql", format!("{SCRIPT}{insert}"));
    folder
}

fn run(folder: &Folder, failpoint: Option<&str>) -> Outcome {
    // No epoch is let go of, however many a slow machine makes.
    let settings = [("interval", "50 ms"), ("num-retained", "1000")];
    let settings = settings.map(|(key, value)| (format!("execution.checkpointing.{key}"), value.to_owned()));
    Invocation::job(folder.path(), "q.sql", 2, &settings).failpoint(failpoint).run().unwrap()
}

fn job(folder: &Folder, arguments: &[&str]) -> Outcome {
    let arguments = [&["-o", "json", "job"][..], arguments, &["--data", "data"][..]].concat();
    Invocation::new(folder.path(), arguments).run().unwrap()
}

#[track_caller]
fn done(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    outcome.json().unwrap()
}

#[track_caller]
fn refused(outcome: &Outcome, code: &str) {
    assert_eq!(outcome.error().map(|error| error["code"].clone()), Some(code.into()), "{}", outcome.describe());
}

/// All rows, each once.
#[track_caller]
fn is_whole(folder: &Folder) {
    let rows = sink::committed(&folder.path().join("out")).unwrap();
    let ids: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!((rows.len(), ids.len()), (2_000, 2_000), "rows, and different ones");
    let audit = Invocation::new(folder.path(), ["-o", "json", "audit", "q", "--data", "data"]).run().unwrap();
    assert_eq!(audit.code, Some(0), "{}", audit.describe());
}

#[test]
fn a_job_goes_back_and_writes_every_row_once() {
    let folder = folder("rollback", "INSERT INTO o SELECT id FROM g;");
    done(&run(&folder, None));
    is_whole(&folder);
    let end = done(&job(&folder, &["savepoint", "q", "--name", "end"]))["epoch"].as_u64().unwrap();
    refused(&job(&folder, &["savepoint", "q", "--name", "end"]), "E0501");
    refused(&job(&folder, &["savepoint", "q", "--name", "7"]), "E0501");
    let listed = done(&job(&folder, &["savepoints", "q"]));
    assert_eq!(listed["savepoints"][0]["name"], "end");
    let epochs: Vec<u64> = listed["restorable"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(epochs.last(), Some(&end));
    let to = epochs[epochs.len() / 2].to_string();
    let before = sink::visible(&folder.path().join("out"));
    let dry = done(&job(&folder, &["rollback", "q", "--to", &to, "--dry-run"]));
    assert!(dry["sinks"][0]["files"].as_u64().unwrap() > 0, "{dry}");
    assert_eq!(sink::visible(&folder.path().join("out")), before);
    let said = done(&job(&folder, &["rollback", "q", "--to", &to]));
    assert_eq!((&said["withdrawn"], &said["sinks"]), (&dry["withdrawn"], &dry["sinks"]));
    // The savepoint was of an epoch that is withdrawn, and so is for ever.
    refused(&job(&folder, &["rollback", "q", "--to", "end"]), "E0310");
    refused(&job(&folder, &["rollback", "q", "--to", &end.to_string()]), "E0310");
    if cfg!(debug_assertions) {
        for failpoint in MOMENTS {
            let outcome = run(&folder, Some(&format!("{failpoint}:1")));
            assert!(outcome.aborted, "{failpoint}: {}", outcome.describe());
        }
    }
    let receipt = done(&run(&folder, None));
    assert!(receipt["epoch"].as_u64().unwrap() > end, "numbers keep rising: {receipt}");
    is_whole(&folder);
}

#[test]
fn a_topic_is_rolled_back_only_if_told_so() {
    let folder = folder("rollback-topic", "INSERT INTO t SELECT id FROM g;");
    done(&run(&folder, None));
    refused(&job(&folder, &["rollback", "q", "--to", "0"]), "E0409");
    let dry = done(&job(&folder, &["rollback", "q", "--to", "0", "--dry-run"]));
    assert!(dry["sinks"][0]["keeps"].is_string(), "{dry}");
    done(&job(&folder, &["rollback", "q", "--to", "0", "--allow-duplicates"]));
    done(&run(&folder, None));
    let topic = ["-o", "json", "topics", "describe", "ids", "--data", "data"];
    let described = Invocation::new(folder.path(), topic).run().unwrap();
    assert!(described.stdout.contains("4000"), "{}", described.describe());
}
