//! Metrics over HTTP, and `top`: of a job in one process, and of a cluster of real processes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::Folder;
use crate::process::Invocation;

const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) fn script(out: &Path) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
CREATE TABLE g (n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'rows-per-second' = '2000', 'splits' = '4');
CREATE TABLE o (s TIMESTAMP(3), k BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{}');
INSERT INTO o SELECT window_start, n % 8, COUNT(*)
FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, n % 8;
",
        out.display()
    )
}

/// A process that ends with the test.
pub(crate) struct Alive(pub(crate) Child);

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(folder: &Folder, arguments: &[&str]) -> Child {
    start_armed(folder, arguments, None)
}

/// A process that aborts at a failpoint.
pub(crate) fn start_armed(folder: &Folder, arguments: &[&str], failpoint: Option<&str>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qanat"));
    command.args(arguments).current_dir(folder.path()).env_remove("QANAT_DATA").env_remove("QANAT_CLUSTER");
    command.env("QANAT_LOG", "warn,qanat=info,qanat_executor=info,qanat_coordinator=info,openraft=off");
    command.env("QANAT_LOG_FORMAT", "json");
    match failpoint {
        Some(failpoint) => command.env("QANAT_FAILPOINT", failpoint),
        None => command.env_remove("QANAT_FAILPOINT"),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// All samples of a page, by series. Every line must be one, and every series stand there once.
fn scrape(address: &str) -> BTreeMap<String, f64> {
    let host = address.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let mut samples = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && samples.insert(series.to_owned(), value).is_none(), "{line}");
    }
    samples
}

/// The sum of all series of a name whose labels hold `part`.
fn sum(samples: &BTreeMap<String, f64>, name: &str, part: &str) -> f64 {
    let is_of =
        |series: &str| series.strip_prefix(name).is_some_and(|labels| labels.starts_with('{') || labels.is_empty());
    samples.iter().filter(|(series, _)| is_of(series) && series.contains(part)).map(|(_, value)| value).sum()
}

#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_job_in_one_process_shows_what_it_does() {
    let folder = Folder::new("metrics-run");
    folder.write("q.sql", script(Path::new("out")));
    let fixed = ["run", "q.sql", "--data", "data", "--parallelism", "2", "--metrics", "127.0.0.1:0"];
    let mut child = start(&folder, &fixed);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let alive = Alive(child);
    let mut address = String::new();
    let mut line = String::new();
    while address.is_empty() && stderr.read_line(&mut line).unwrap() > 0 {
        if let Some(found) = line.trim().strip_prefix("metrics at ") {
            address = found.to_owned();
        }
        line.clear();
    }
    let drained = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>());
    let committed = "qanat_job_epochs_committed_total{job=\"q\"}";
    until("windows come out", || {
        let samples = scrape(&address);
        samples.get(committed).is_some_and(|count| *count >= 3.0)
            && sum(&samples, "qanat_subtask_sink_rows_total", "job=\"q\"") >= 16.0
    });
    let samples = scrape(&address);
    let of_job = |name: &str| sum(&samples, name, "job=\"q\"");
    let read = of_job("qanat_source_rows_total");
    assert!(read >= 2_000.0, "{samples:#?}");
    // Between the two, only the sources' task goes on.
    assert!(of_job("qanat_subtask_rows_in_total") >= read, "{samples:#?}");
    for name in [
        "qanat_subtask_bytes_in_total",
        "qanat_subtask_batches_in_total",
        "qanat_subtask_rows_out_total",
        "qanat_subtask_bytes_out_total",
        "qanat_subtask_busy_seconds_total",
        "qanat_subtask_idle_seconds_total",
        "qanat_job_memory_limit_bytes",
        "qanat_checkpoint_seconds_count",
        "qanat_job_end_to_end_latency_seconds_count",
        "qanat_job_generations_total",
    ] {
        assert!(of_job(name) > 0.0, "{name}: {samples:#?}");
    }
    let phases = ["reports", "manifest", "claim", "commit"];
    for phase in phases {
        let count = sum(&samples, "qanat_checkpoint_phase_seconds_count", &format!("phase=\"{phase}\""));
        assert!(count >= 3.0, "{phase}: {samples:#?}");
    }
    // The parts are the whole, but for what happens between the leader's own steps.
    let parts = of_job("qanat_checkpoint_phase_seconds_sum");
    assert!(parts <= of_job("qanat_checkpoint_seconds_sum") * 1.5 + 0.5, "{samples:#?}");
    let at =
        |quantile: &str| sum(&samples, "qanat_job_end_to_end_latency_seconds", &format!("quantile=\"{quantile}\""));
    assert!(at("0.5") > 0.0 && at("0.5") <= at("0.99") && at("0.99") <= at("0.999"), "{samples:#?}");
    assert!(samples["qanat_raft_role{role=\"leader\"}"] == 1.0 && samples["qanat_raft_applied_index"] > 0.0);
    assert_eq!(sum(&samples, "qanat_fenced_total", ""), 0.0);
    assert!(samples["qanat_process_resident_memory_bytes"] > 1e6 && sum(&samples, "qanat_build_info", "") == 1.0);
    drop(alive);
    // Every line of the log is an object; what else stands on stderr is no log.
    for line in drained.join().unwrap().iter().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["target"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn a_cluster_shows_its_jobs_and_top_sums_them_up() {
    let folder = Folder::new("metrics-cluster");
    folder.write("q.sql", script(&folder.path().join("out")));
    let fixed = ["-o", "json", "dev", "--data", "dev", "--coordinators", "1", "--executors", "2", "--slots", "1"];
    let mut child = start(&folder, &fixed);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let logs = Arc::new(Mutex::new(Vec::new()));
    let kept = logs.clone();
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
    let _alive = Alive(child);
    let told: Value = serde_json::from_str(&line).unwrap();
    let api = told["api"].as_str().unwrap().to_owned();
    let metrics = |role: &str| -> Vec<String> {
        let processes = told["processes"].as_array().unwrap().iter().filter(|process| process["role"] == role);
        processes.map(|process| process["metrics"].as_str().unwrap().to_owned()).collect()
    };
    let ask = |arguments: &[&str]| {
        let arguments = [&["-o", "json"], arguments, &["--cluster", &api]].concat();
        let outcome = Invocation::new(folder.path(), arguments).run().unwrap();
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
        outcome.json().unwrap()
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    ask(&["submit", "q.sql", "--parallelism", "2", "--traceparent", &traceparent]);
    let mut shown = Value::Null;
    until("top shows the job", || {
        shown = ask(&["top", "--once"]);
        let job = &shown["jobs"][0];
        job["rows_per_second"].as_f64().is_some_and(|rate| rate > 100.0)
            && job["sink_rows_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
            && job["checkpoint_p99_ms"].is_u64()
            && job["watermark_lag_ms"].is_u64()
    });
    let job = &shown["jobs"][0];
    assert_eq!((&job["name"], &job["parallelism"]), (&"q".into(), &2.into()), "{shown}");
    assert!(job["latency_p99_ms"].as_u64() >= job["checkpoint_ms"].as_u64().map(|_| 1), "{shown}");
    assert!(job["memory_bytes"].is_u64() && job["busiest"].is_string(), "{shown}");
    assert_eq!(shown["executors"].as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!(shown["leader"], api, "{shown}");
    let executors = metrics("executor");
    let pages: Vec<_> = executors.iter().map(|address| scrape(address)).collect();
    for page in &pages {
        assert!(sum(page, "qanat_subtask_busy_seconds_total", "job=\"q\"") > 0.0, "{page:#?}");
        assert!(sum(page, "qanat_exchange_credit_bytes", "job=\"q\"") > 0.0, "{page:#?}");
        assert!(!page.keys().any(|series| series.starts_with("qanat_checkpoint")), "{page:#?}");
    }
    let read: f64 = pages.iter().map(|page| sum(page, "qanat_source_rows_total", "job=\"q\"")).sum();
    assert!(read > 0.0, "{pages:#?}");
    let leader = scrape(&metrics("coordinator")[0]);
    assert!(leader["qanat_job_epochs_committed_total{job=\"q\"}"] >= 1.0, "{leader:#?}");
    assert_eq!(leader["qanat_executors{state=\"attached\"}"], 2.0);
    assert_eq!(leader["qanat_raft_members{votes=\"true\"}"], 1.0);
    // One trace leads through the logs of all processes.
    let has_said = |target: &str, message: &str| {
        let logs = logs.lock().unwrap();
        let mut lines = logs.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.any(|line| {
            let spans = line["spans"].as_array().map_or(&[][..], Vec::as_slice);
            line["target"].as_str().is_some_and(|found| found.starts_with(target))
                && line["message"] == message
                && spans.iter().any(|span| span["trace_id"] == trace)
        })
    };
    for (target, message) in [
        ("qanat_coordinator", "submitted"),
        ("qanat_coordinator", "an epoch is committed"),
        ("qanat_executor", "deploys from an epoch on"),
        ("qanat_executor", "committed"),
    ] {
        until(message, || has_said(target, message));
    }
    ask(&["job", "stop", "q"]);
    until("its series are gone", || {
        executors
            .iter()
            .chain(&metrics("coordinator"))
            .all(|address| scrape(address).keys().all(|series| !series.contains("job=\"q\"")))
    });
    // One that dies is missed until it is back, and `dev` says so.
    let dies = told["processes"].as_array().unwrap().iter().find(|process| process["id"] == "executor-1").unwrap();
    assert!(Command::new("kill").args(["-KILL", &dies["pid"].to_string()]).status().unwrap().success());
    let page = || scrape(&metrics("coordinator")[0]);
    let away = "qanat_executors{state=\"away\"}";
    until("it counts as away, and the lease is over", || {
        page()[away] == 1.0 && page()["qanat_executors{state=\"attached\"}"] == 1.0
    });
    let shown = ask(&["top", "--once"]);
    let executors = shown["executors"].as_array().unwrap().iter();
    let states: Vec<_> = executors.map(|executor| (executor["node"].as_str(), executor["attached"] == true)).collect();
    assert_eq!(states, [(Some("executor-1"), false), (Some("executor-2"), true)], "{shown}");
    assert_eq!(shown["coordinators"][0]["up"], true, "{shown}");
    until("dev tells of its end", || {
        let said = "executor executor-1 has ended (signal: 9 (SIGKILL))";
        logs.lock().unwrap().iter().any(|line| line.starts_with(said))
    });
    let command = dies["command"].as_array().unwrap().iter().skip(1).map(|word| word.as_str().unwrap());
    let _again = Alive(start(&folder, &command.collect::<Vec<_>>()));
    until("it is back", || page()[away] == 0.0 && page()["qanat_executors{state=\"attached\"}"] == 2.0);
}
