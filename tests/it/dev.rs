//! `qanat dev`: what keeps a cluster on one machine from starting is said, and nothing of it stays.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use serde_json::Value;

use crate::folder::Folder;
use crate::metrics::{Alive, start};
use crate::process::{Invocation, Outcome};

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
    let alive = Alive(child);
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["api"], api.as_str(), "{told}");
    drop(alive);
    // The group knows it by that address, whether or not it is free.
    fails(&folder, &["--data", "dev", "--api", &taken().1], "E0302", "dev");
    let _listener = TcpListener::bind(&api).unwrap();
    fails(&folder, &["--data", "dev", "--api", &api], "E0214", &api);
}
