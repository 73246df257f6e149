//! What a cluster's topics and jobs hold, as its clients are shown it: the same as whoever looks into the storage.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::folder::Folder;
use crate::metrics::{Alive, start, start_armed, until};
use crate::process::{Invocation, Outcome};

/// A cluster of real processes that ends with the test.
pub(crate) struct Dev {
    pub(crate) folder: Folder,
    api: String,
    coordinators: Vec<String>,
    /// As `qanat dev` tells them: role, id, pid, command.
    pub(crate) processes: Vec<Value>,
    _alive: Alive,
}

impl Dev {
    pub(crate) fn start(name: &str, coordinators: &str) -> Self {
        Self::armed(name, coordinators, None)
    }

    /// Its processes abort at a failpoint, each once.
    pub(crate) fn armed(name: &str, coordinators: &str, failpoint: Option<&str>) -> Self {
        let folder = Folder::new(name);
        let fixed = ["-o", "json", "dev", "--data", "dev", "--executors", "2", "--slots", "1", "--coordinators"];
        let mut child = start_armed(&folder, &[&fixed[..], &[coordinators]].concat(), failpoint);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let alive = Alive(child);
        let told: Value = serde_json::from_str(&line).unwrap();
        let coordinators = told["coordinators"].as_array().unwrap().iter();
        let coordinators = coordinators.map(|address| address.as_str().unwrap().to_owned()).collect();
        let processes = told["processes"].as_array().unwrap().clone();
        Self { folder, api: told["api"].as_str().unwrap().to_owned(), coordinators, processes, _alive: alive }
    }

    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    pub(crate) fn run(&self, arguments: &[&str], place: &[&str]) -> Outcome {
        Invocation::new(self.folder.path(), [&["-o", "json"], arguments, place].concat()).run().unwrap()
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Outcome {
        self.run(arguments, &["--cluster", &self.api])
    }

    /// What the cluster shows is what a look into its storage shows.
    #[track_caller]
    pub(crate) fn same(&self, arguments: &[&str]) -> Outcome {
        let (cluster, folder) = (self.ask(arguments), self.run(arguments, &["--data", "dev/storage"]));
        assert_eq!(cluster.code, Some(0), "{arguments:?}: {}", cluster.describe());
        assert_eq!(cluster.stdout, folder.stdout, "{arguments:?}: {}", folder.describe());
        cluster
    }

    /// Both say the same of what is not there.
    #[track_caller]
    pub(crate) fn neither(&self, arguments: &[&str], code: &str) {
        refused(&self.ask(arguments), code);
        refused(&self.run(arguments, &["--data", "dev/storage"]), code);
    }
}

#[track_caller]
pub(crate) fn refused(outcome: &Outcome, code: &str) {
    let error = outcome.error().unwrap_or_else(|| panic!("no error: {}", outcome.describe()));
    assert_eq!(error["code"], code, "{}", outcome.describe());
    assert!(error["hint"].is_string(), "{}", outcome.describe());
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// More than one batch: a row is late when the watermark of those before it has come.
const ROWS: usize = 9_000;

/// A job with a topic, files, late rows and dead letters.
fn script(root: &str) -> String {
    let file = "'connector' = 'filesystem', 'format' = 'csv', 'path' = '";
    format!(
        "CREATE TABLE i (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ({file}{root}/in.csv');
CREATE TABLE t (id BIGINT) WITH ('connector' = 'log', 'topic' = 'ids');
CREATE TABLE o (s TIMESTAMP(3), c BIGINT) WITH ({file}{root}/out');
INSERT INTO t SELECT id FROM i;
INSERT INTO o SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE i, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;
"
    )
}

#[test]
fn a_cluster_shows_what_its_storage_holds() {
    let dev = Dev::start("look-storage", "3");
    let root = dev.folder.path().display().to_string();
    let row = |n: usize| format!("{n},2013-01-01 {:02}:{:02}:{:02}\n", n / 3_600, n / 60 % 60, n % 60);
    let late = "1000,2013-01-01 00:00:00\n";
    let input: String = (0..ROWS).map(row).chain([late.to_owned(), "no,number\n".to_owned()]).collect();
    dev.folder.write("in.csv", format!("id,ts\n{input}"));
    dev.folder.write("q.sql", script(&root));
    let submitted = dev.ask(&["submit", "q.sql", "--wait"]);
    assert_eq!(submitted.code, Some(0), "{}", submitted.describe());
    let id = submitted.json().unwrap()["jobs"][0]["job"].as_str().unwrap().to_owned();

    let listed = dev.same(&["topics", "list"]).json().unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"ids"), "{names:?}");
    let described = dev.same(&["topics", "describe", "ids"]).json().unwrap();
    assert_eq!((&described["rows"], &described["columns"][0]["name"]), (&(ROWS + 1).into(), &"id".into()));
    let all = dev.same(&["tail", "ids", "--to-latest"]);
    assert_eq!(all.stdout.lines().count(), ROWS + 1);
    let few = dev.ask(&["tail", "ids", "--from", "earliest", "--limit", "7"]);
    assert_eq!(lines(&few).len(), 7, "{}", few.describe());
    assert!(lines(&few).iter().all(|line| line["row"]["id"].is_u64()), "{}", few.describe());
    for coordinator in &dev.coordinators {
        let one = dev.run(&["tail", "ids", "--from", "3", "--limit", "1"], &["--cluster", coordinator]);
        assert_eq!(lines(&one)[0]["offset"], 3, "{}", one.describe());
        let audited = dev.run(&["audit", "q"], &["--cluster", coordinator]);
        assert_eq!(audited.code, Some(0), "a follower leads to the leader: {}", audited.describe());
    }

    let late = dev.same(&["late", "list", "q"]).json().unwrap();
    assert_eq!((late[0]["job"].as_str(), late.as_array().unwrap().len()), (Some(id.as_str()), 1), "{late}");
    let dead = dev.same(&["dead-letters", "list", "q"]).json().unwrap();
    assert_eq!((dead[0]["text"].as_str(), dead.as_array().unwrap().len()), (Some("no,number"), 1), "{dead}");
    let by_id = dev.ask(&["late", "list", &id]).json().unwrap();
    assert_eq!(by_id, late);

    let epochs = dev.ask(&["checkpoints", "list", "q"]).json().unwrap();
    let last = epochs.as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["is_final"], &last["status"]), (&true.into(), &"committed".into()), "{epochs}");
    let newest = dev.ask(&["checkpoints", "list", &id, "--limit", "1"]).json().unwrap();
    assert_eq!(newest, serde_json::json!([last]));
    let number = last["epoch"].to_string();
    let epoch = dev.ask(&["checkpoints", "describe", "q", &number]).json().unwrap();
    assert_eq!(epoch["epoch"], last);
    assert!(epoch["sources"][0]["splits"].is_array() && epoch["receipt"]["sinks"].is_array(), "{epoch}");

    let audit = dev.ask(&["audit", "q"]).json().unwrap();
    assert_eq!((&audit["verdict"], &audit["totals"]["late"]), (&"pass".into(), &1.into()), "{audit}");
    assert_eq!(audit["totals"]["dead_lettered"], 1, "{audit}");
    let committed = crate::sink::visible(&dev.folder.path().join("out"));
    let file = committed.first().unwrap();
    std::fs::remove_file(dev.folder.path().join("out").join(file)).unwrap();
    let broken = dev.ask(&["audit", "q"]);
    assert_eq!(broken.error().map(|error| error["code"].clone()), Some("E0406".into()), "{}", broken.describe());

    dev.neither(&["topics", "describe", "nope"], "E0308");
    dev.neither(&["tail", "nope"], "E0308");
    dev.neither(&["tail", "nope/i"], "E0309");
    dev.neither(&["late", "list", "nope"], "E0309");
    dev.neither(&["dead-letters", "list", "nope"], "E0309");
    dev.neither(&["checkpoints", "list", "nope"], "E0309");
    dev.neither(&["audit", "nope"], "E0309");
    dev.neither(&["tail", "ids", "--partition", "9"], "E0501");
    dev.neither(&["tail", "ids", "--isolation", "uncommitted"], "E0501");
    refused(&dev.ask(&["tail", "q/nope"]), "E0311");
    refused(&dev.ask(&["checkpoints", "describe", "q", "999"]), "E0501");
    refused(&dev.ask(&["late", "list", "q", "--run", "0000000000"]), "E0309");
    readmitted(&dev, &root);
}

/// Entries go into files where jobs may write, and nowhere else.
fn readmitted(dev: &Dev, root: &str) {
    let file = format!("{root}/late.json");
    let into = |file: &str| dev.ask(&["late", "readmit", "q", "--into-file", file]);
    refused(&into("late.json"), "E0207");
    refused(&into("/late.json"), "E0207");
    for (arguments, code) in [
        (&["late", "readmit", "nope", "--into-file", &file][..], "E0309"),
        (&["late", "readmit", "q", "--into-file", &file, "--run", "0000000000"][..], "E0309"),
        (&["late", "readmit", "q", "--into-file", &file, "--ids", "7"][..], "E0501"),
        (&["late", "readmit", "q", "--into-topic", "nope"][..], "E0308"),
    ] {
        refused(&dev.ask(arguments), code);
    }
    let told = into(&file).json().unwrap();
    let expected = serde_json::json!({ "readmitted": 1, "into": file, "ids": "0", "completed": 0 });
    assert_eq!(told, expected);
    let rows = std::fs::read_to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&rows).unwrap()["id"], 1_000, "{rows}");
    let told = into(&format!("{root}/more.json")).json().unwrap();
    let nothing = serde_json::json!({ "readmitted": 0, "into": null, "ids": "", "completed": 0 });
    assert_eq!(told, nothing);
    refused(&dev.ask(&["dead-letters", "readmit", "q", "--into-file", &file]), "E0216");
}

#[test]
fn operators_of_a_running_job_are_followed_through_its_generations() {
    let dev = Dev::start("look-operators", "1");
    let out = dev.folder.path().join("out");
    dev.folder.write("q.sql", crate::metrics::script(&out));
    let submitted = dev.ask(&["submit", "q.sql", "--parallelism", "2"]);
    assert_eq!(submitted.code, Some(0), "{}", submitted.describe());
    // A source, a sink, and what stands between them under the name that an error tells.
    let source = dev.ask(&["tail", "q/g", "--limit", "50"]);
    let rows = lines(&source);
    assert_eq!((rows.len(), source.code), (50, Some(0)), "{}", source.describe());
    assert!(rows.iter().all(|row| row["row"]["n"].is_i64() && row["generation"].is_u64()), "{}", source.describe());
    let sink = dev.ask(&["tail", "q/o", "--limit", "20"]);
    assert!(lines(&sink).iter().all(|row| row["row"]["c"].is_u64()), "{}", sink.describe());
    let subtasks: std::collections::BTreeSet<_> = lines(&sink).iter().map(|row| row["subtask"].as_u64()).collect();
    assert!(!subtasks.is_empty(), "{}", sink.describe());
    let unknown = dev.ask(&["tail", "q/there-is-no-operator-of-this-name"]);
    refused(&unknown, "E0311");
    let error = unknown.error().unwrap();
    let hint = error["hint"].as_str().unwrap().trim_start_matches("its operators are ");
    for name in hint.split(", ") {
        let one = dev.ask(&["tail", &format!("q/{name}"), "--limit", "1"]);
        assert_eq!(lines(&one).len(), 1, "{name}: {}", one.describe());
    }
    // One reader sees the rows of both generations.
    let followed = ["-o", "json", "tail", "q/g", "--cluster", &dev.api];
    let mut child = start(&dev.folder, &followed);
    let mut rows = BufReader::new(child.stdout.take().unwrap()).lines();
    let alive = Alive(child);
    let mut generation = || {
        let line = rows.next().unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["generation"].as_u64().unwrap()
    };
    let first = generation();
    let rescaled = dev.ask(&["job", "rescale", "q", "--parallelism", "1"]);
    assert_eq!(rescaled.code, Some(0), "{}", rescaled.describe());
    until("rows of the next generation come", || generation() > first);
    // Nobody reads on: the job does.
    until("the job goes on", || {
        let job = dev.ask(&["job", "describe", "q"]).json().unwrap();
        job["status"] == "RUNNING" && job["generation"].as_u64() > Some(first)
    });
    drop(alive);
    let stopped = dev.ask(&["job", "stop", "q"]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.describe());
    let ended = dev.ask(&["tail", "q/g"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "it ends with the job: {}", ended.describe());
    let audit = dev.ask(&["audit", "q"]).json().unwrap();
    assert_eq!(audit["verdict"], "pass", "{audit}");
}
