//! `qanat chaos` against a cluster of real processes: what passes, what fails, what is unknown, and that nothing of it
//! stays behind.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::look::{Dev, refused};
use crate::metrics::{start, until};
use crate::process::{Invocation, Outcome};
use crate::sink;

/// Rows as they are, into a table with these options.
fn script(options: &str) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
CREATE TABLE g (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000', 'splits' = '4');
CREATE TABLE o (n BIGINT) WITH ({options});
INSERT INTO o SELECT n FROM g;
"
    )
}

/// A cluster with a job that runs.
fn cluster(name: &str, coordinators: &str) -> Dev {
    let dev = Dev::start(name, coordinators);
    let out = dev.folder.path().join("out");
    let files = format!("'connector' = 'filesystem', 'format' = 'csv', 'path' = '{}'", out.display());
    dev.folder.write("q.sql", script(&files));
    let submitted = dev.ask(&["submit", "q.sql", "--parallelism", "2"]);
    assert_eq!(submitted.code, Some(0), "{}", submitted.describe());
    dev
}

/// The common report, with what each of its readers counts on.
#[track_caller]
fn proof(outcome: &Outcome, verdict: &str, code: i32) -> Value {
    let proof = outcome.json().unwrap();
    assert_eq!((proof["verdict"].as_str(), outcome.code), (Some(verdict), Some(code)), "{}", outcome.describe());
    for count in ["epochs_checked", "reconciled", "lost", "duplicated"] {
        assert!(proof[count].is_u64(), "{count}: {proof}");
    }
    for list in ["subject", "faults_missing", "violations", "unproved", "unseen"] {
        assert!(proof[list].is_array(), "{list}: {proof}");
    }
    assert!(proof["faults"].is_object() && proof["seconds"].is_f64() && proof["replay"].is_string(), "{proof}");
    assert_eq!(proof["subject"], serde_json::json!(["q"]));
    proof
}

/// All are there, take work, and the job is as wide as it was.
#[track_caller]
fn is_as_before(dev: &Dev) {
    let status = dev.ask(&["cluster", "status"]).json().unwrap();
    let all = |list: &str, is_so: fn(&Value) -> bool| status[list].as_array().unwrap().iter().all(is_so);
    assert!(all("coordinators", |node| node["up"] == true), "{status}");
    assert!(all("executors", |node| node["attached"] == true && node["draining"] == false), "{status}");
    let job = dev.ask(&["job", "describe", "q"]).json().unwrap();
    assert!(job["parallelism_wanted"].is_null() || job["parallelism_wanted"] == 2, "{job}");
    let savepoints = dev.ask(&["job", "savepoints", "q"]).json().unwrap();
    assert_eq!(savepoints["savepoints"], serde_json::json!([]));
}

#[test]
fn a_cluster_survives_its_faults_and_they_leave_nothing_behind() {
    let dev = cluster("chaos", "3");
    // Nothing is touched before somebody says that it may be.
    let asked = dev.ask(&["chaos", "--for", "10s"]);
    refused(&asked, "E0501");
    assert_eq!((asked.code, asked.stdout.as_str()), (Some(2), ""), "{}", asked.describe());
    for process in &dev.processes {
        let told = format!("process {}: {} {} (", process["pid"], words(process, "role"), words(process, "id"));
        assert!(asked.stderr.contains(&told), "{told}: {}", asked.stderr);
    }
    let outcome = dev.ask(&["chaos", "--for", "10s", "--seed", "7", "--yes"]);
    let proof = proof(&outcome, "pass", 0);
    let faults: u64 = proof["faults"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert!(faults > 0 && proof["reconciled"].as_u64() > Some(1_000), "{proof}");
    assert_eq!(proof["touched"].as_array().unwrap().len(), dev.processes.len(), "{proof}");
    assert!(words(&proof, "replay").contains("--seed 7"), "{proof}");
    is_as_before(&dev);
    // Who was started again ends with `dev`, like everybody else.
    let api = dev.api().to_owned();
    drop(dev);
    until("nobody serves any more", || TcpStream::connect(&api).is_err());
}

#[test]
fn what_is_too_little_is_unknown_and_what_is_damaged_fails() {
    let dev = cluster("chaos-verdicts", "1");
    // The only coordinator is its own majority.
    let few = dev.ask(&["chaos", "--for", "2s", "--kinds", "kill-leader,savepoint", "--yes"]);
    let proof_of_few = proof(&few, "unknown", 1);
    assert_eq!(proof_of_few["faults_missing"], serde_json::json!(["kill-leader"]));
    refused(&few, "E0411");
    is_as_before(&dev);
    interrupted(&dev);
    is_as_before(&dev);
    // A row goes from a file that is committed.
    let out = dev.folder.path().join("out");
    let name = sink::visible(&out).pop_first().unwrap();
    let rows = std::fs::read_to_string(out.join(&name)).unwrap();
    let (kept, _) = rows.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(out.join(&name), format!("{kept}\n")).unwrap();
    let damaged = dev.ask(&["chaos", "--for", "1s", "--kinds", "savepoint", "--job", "q", "--yes"]);
    let found = proof(&damaged, "fail", 1);
    assert_eq!((&found["lost"], &found["duplicated"]), (&1.into(), &0.into()), "{found}");
    assert!(found["violations"].to_string().contains(&name), "{found}");
    refused(&damaged, "E0410");
    // The audit says the same in the same words, besides its own.
    let audited = dev.ask(&["audit", "q"]);
    let found = proof(&audited, "fail", 1);
    assert_eq!(found["lost"], 1, "{found}");
    assert!(found["differences"].as_array().unwrap().iter().any(|found| found["lost"] == 1), "{found}");
    assert_eq!(audited.error().unwrap()["code"], "E0406");
    let table = Invocation::new(dev.folder.path(), ["audit", "q", "--cluster", dev.api()]).run().unwrap();
    assert!(table.stdout.contains("\nverdict     FAIL\n"), "{}", table.stdout);
    // Nothing is kept of what goes nowhere.
    dev.folder.write("n.sql", script("'connector' = 'blackhole'"));
    assert_eq!(dev.ask(&["submit", "n.sql"]).code, Some(0));
    refused(&dev.ask(&["audit", "n"]), "E0411");
    assert_eq!(dev.ask(&["job", "stop", "q", "--no-savepoint"]).code, Some(0));
    assert_eq!(dev.ask(&["job", "stop", "n", "--no-savepoint"]).code, Some(0));
    until("no job runs", || dev.ask(&["chaos", "--for", "1s", "--yes"]).error().is_some_and(|e| e["code"] == "E0501"));
}

/// A pause that Ctrl-C cuts short is over all the same.
fn interrupted(dev: &Dev) {
    let all = ["-o", "json", "chaos", "--for", "60s", "--kinds", "pause-executor", "--yes", "--cluster", dev.api()];
    let mut child = start(&dev.folder, &all);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("s  pause-executor: executor")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    let output = child.wait_with_output().unwrap();
    let outcome = Outcome {
        code: output.status.code(),
        aborted: false,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: rest.join().unwrap(),
    };
    let found = proof(&outcome, "unknown", 1);
    assert!(found["unseen"].to_string().contains("a signal ended it"), "{found}");
}

fn words<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}
