//! `qanat dev`: what keeps a cluster on one machine from starting is said, and nothing of it stays.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use crate::folder::Folder;
use crate::metrics::{Alive, start};
use crate::process::{Invocation, Outcome};

/// Until a process that is about to end has ended.
const PATIENCE: Duration = Duration::from_secs(90);

/// Fails to start, for this reason at this place.
#[track_caller]
fn fails(folder: &Folder, arguments: &[&str], code: &str, place: &str) -> Outcome {
    let fixed = ["-o", "json", "dev", "--coordinators", "1", "--executors", "1"];
    let outcome = Invocation::new(folder.path(), [&fixed[..], arguments].concat()).run().unwrap();
    let error = outcome.error().unwrap_or_else(|| panic!("no error: {}", outcome.describe()));
    assert_eq!(error["code"], code, "{}", outcome.describe());
    assert!(error["place"]["named"].as_str().unwrap().ends_with(place), "{}", outcome.describe());
    assert!(error["hint"].is_string(), "{}", outcome.describe());
    outcome
}

/// A free address of loopback, and what keeps it from being so.
fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// From now on its disk takes nothing more.
fn fills_disk(process: &Value) {
    let pid = process["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).unwrap();
    let limit = Rlimit { current: Some(1), ..getrlimit(Resource::Fsize) };
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

/// The line that begins so.
fn until_said(said: &Receiver<String>, beginning: &str) -> String {
    loop {
        let line = said.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("`{beginning}` is not said: {e}"));
        if line.starts_with(beginning) {
            return line;
        }
    }
}

#[test]
fn what_keeps_it_from_starting_is_said_and_the_next_start_succeeds() {
    let folder = Folder::new("dev");
    // An address that is taken is not written down for good.
    let (listener, api) = taken();
    let error = fails(&folder, &["--data", "dev", "--api", &api], "E0214", &api);
    assert_eq!(error.code, Some(1), "{}", error.describe());
    drop(listener);
    // A process that dies ends all, with its own error.
    let outcome = fails(&folder, &["--data", "dev", "--api", &api, "--files-root", "missing"], "E0206", "missing");
    assert!(outcome.stderr.contains("coordinator 1 has ended (exit status: 1)"), "{}", outcome.describe());
    // What is written down by now is the address; the group is founded all the same.
    let fixed = ["-o", "json", "dev", "--data", "dev", "--coordinators", "1", "--executors", "1", "--api", &api];
    let mut child = start(&folder, &fixed);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (saying, said) = channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| saying.send(line)));
    let mut alive = Alive(child);
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["api"], api.as_str(), "{told}");
    // One that dies later is told of with its error, and the others go on.
    fills_disk(&told["processes"][0]);
    let change = ["cluster", "drain", "executor-1", "--cluster", &api];
    let change = Alive(start(&folder, &change));
    let end = until_said(&said, "coordinator 1 has ended");
    assert!(end.starts_with("coordinator 1 has ended (exit status: 1): [E0305]"), "{end}");
    drop(change);
    assert!(alive.0.try_wait().unwrap().is_none(), "dev goes on");
    drop(alive);
    // The group knows it by that address, whether or not it is free.
    fails(&folder, &["--data", "dev", "--api", &taken().1], "E0302", "dev");
    let _listener = TcpListener::bind(&api).unwrap();
    fails(&folder, &["--data", "dev", "--api", &api], "E0214", &api);
}
