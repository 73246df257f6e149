//! What the commands about jobs take for a name, ask, tell and refuse.

use serde_json::Value;

use crate::folder::Folder;
use crate::look::{Dev, refused};
use crate::metrics::until;
use crate::process::{Invocation, Outcome};
use crate::topics::done;

/// Files that are read to their end.
fn finite(root: &str) -> String {
    let file = "'connector' = 'filesystem', 'format' = 'csv', 'dead-letter.policy' = 'fail'";
    format!(
        "CREATE TABLE i (id BIGINT) WITH ({file}, 'path' = '{root}/in.csv');
CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{root}/out');
INSERT INTO o SELECT id FROM i;
"
    )
}

/// Rows without an end, into a topic.
const ENDLESS: &str = "SET 'execution.checkpointing.interval' = '100 ms';
CREATE TABLE g (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100', 'splits' = '2');
CREATE TABLE t (n BIGINT) WITH ('connector' = 'log', 'topic' = 'numbers');
INSERT INTO t SELECT n FROM g;
";

impl Dev {
    /// What a command prints for people.
    fn tell(&self, arguments: &[&str]) -> Outcome {
        let cluster = ["--cluster", self.api()];
        Invocation::new(self.folder.path(), [arguments, &cluster].concat()).run().unwrap()
    }

    fn describe(&self, arguments: &[&str]) -> Value {
        done(&self.ask(&[&["job", "describe"], arguments].concat()))
    }

    fn is_committed(&self, job: &str) -> bool {
        self.describe(&[job])["committed_epoch"].as_u64() > Some(1)
    }
}

fn id_of(submitted: &Outcome) -> String {
    done(submitted)["jobs"][0]["job"].as_str().unwrap().to_owned()
}

#[test]
fn a_cluster_hears_what_is_said_of_a_job() {
    let dev = Dev::start("verbs", "1");
    let root = dev.folder.path().display().to_string();
    dev.folder.write("in.csv", "id\n1\n2\n3\n");
    dev.folder.write("once.sql", finite(&root));
    let first = id_of(&dev.ask(&["submit", "once.sql", "--name", "q", "--wait"]));
    dev.folder.write("endless.sql", ENDLESS);
    let second = id_of(&dev.ask(&["submit", "endless.sql", "--name", "q", "--parallelism", "1"]));
    until("it runs", || dev.is_committed("q"));

    // Every verb hears which run is meant.
    let run = ["--run", &first[..8]];
    assert_eq!(dev.describe(&["q"])["job"], second.as_str());
    assert_eq!(dev.describe(&[&["q"], &run[..]].concat())["job"], first.as_str());
    let made = done(&dev.ask(&[&["job", "savepoint", "q", "--name", "end"], &run[..]].concat()));
    let listed = done(&dev.ask(&[&["job", "savepoints", "q"], &run[..]].concat()));
    assert_eq!(listed["savepoints"], serde_json::json!([{ "name": "end", "epoch": made["epoch"] }]));
    assert_eq!(done(&dev.ask(&["job", "savepoints", "q"]))["savepoints"], serde_json::json!([]));
    let dry = done(&dev.ask(&[&["job", "rollback", "q", "--to", "end", "--dry-run"], &run[..]].concat()));
    assert_eq!((&dry["to"], &dry["withdrawn"]), (&made["epoch"], &Value::Null));
    let stopped = done(&dev.ask(&[&["job", "stop", "q"], &run[..]].concat()));
    assert_eq!((&stopped["job"], &stopped["status"]), (&first.as_str().into(), &"FINISHED".into()));
    let still = dev.describe(&["q"]);
    assert_eq!((&still["status"], &still["stopping"]), (&"RUNNING".into(), &false.into()), "{still}");
    refused(&dev.ask(&["job", "stop", "q", "--run", "00"]), "E0309");

    // The digits that tables print name a job, too.
    assert_eq!(dev.describe(&[&second[..8]])["job"], second.as_str());
    assert!(!done(&dev.ask(&["checkpoints", "list", &first[..8]])).as_array().unwrap().is_empty());
    assert_eq!(done(&dev.ask(&["audit", &first[..8]]))["verdict"], "pass");

    // All that is known, for people and for programs.
    let told = dev.tell(&["job", "describe", &first]).stdout;
    for line in ["status       FINISHED", "read         3 records of i", "written      3 rows into o"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let told = dev.tell(&["job", "describe", "q"]).stdout;
    for start in ["status       RUNNING", "generation   1", "checkpoint   the last took", "failures     0"] {
        assert!(told.contains(start), "{start}: {told}");
    }
    assert_eq!(dev.describe(&[&first])["totals"]["sources"]["i"], 3);

    rescaled(&dev, &first);
    listed_until_finished(&dev, &first, &second);
    errors_are_whole(&dev, &root);
}

/// A rescale says what comes, costs nothing where nothing changes, and is refused where nothing runs again.
fn rescaled(dev: &Dev, finished: &str) {
    let generation = |what: &str| dev.describe(&["q"])[what].as_u64().unwrap();
    let same = dev.tell(&["job", "rescale", "q", "--parallelism", "1"]);
    assert!(same.stdout.contains("has parallelism 1 already"), "{}", same.describe());
    // A generation that had ended would have taken the next epoch with it.
    done(&dev.ask(&["job", "savepoint", "q", "--name", "same"]));
    assert_eq!(generation("generation"), 1);
    let more = dev.tell(&["job", "rescale", "q", "--parallelism", "2"]);
    assert!(more.stdout.contains("goes on with parallelism 2, 1 before"), "{}", more.describe());
    until("it has more subtasks", || generation("parallelism") == 2);
    refused(&dev.ask(&["job", "rescale", finished, "--parallelism", "2"]), "E0501");
    refused(&dev.ask(&["job", "rescale", "q", "--parallelism", "100000"]), "E0501");
}

/// A list shows a job that was stopped, and one that has finished only if it is asked to.
fn listed_until_finished(dev: &Dev, finished: &str, endless: &str) {
    let jobs = |arguments: &[&str]| -> Vec<(String, String)> {
        let listed = done(&dev.ask(&[&["jobs", "list"], arguments].concat()));
        let line = |job: &Value| (job["job"].as_str().unwrap().to_owned(), job["status"].as_str().unwrap().to_owned());
        listed.as_array().unwrap().iter().map(line).collect()
    };
    done(&dev.ask(&["job", "stop", "q"]));
    let stopped = (endless.to_owned(), "STOPPED".to_owned());
    assert_eq!(jobs(&[]), std::slice::from_ref(&stopped));
    assert_eq!(jobs(&["--all"]), [(finished.to_owned(), "FINISHED".to_owned()), stopped]);
    let rescaled = dev.tell(&["job", "rescale", "q", "--parallelism", "1"]);
    assert!(rescaled.stdout.contains("when it is resumed"), "{}", rescaled.describe());
    // What came after a topic's epoch stays there: the hint names a command that has the options it speaks of.
    let first = done(&dev.ask(&["job", "savepoints", "q"]))["restorable"][0].to_string();
    let refusal = dev.ask(&["job", "resume", "q", "--from", &first]);
    refused(&refusal, "E0409");
    assert!(
        refusal.error().unwrap()["hint"].as_str().unwrap().contains("`qanat job rollback`"),
        "{}",
        refusal.describe()
    );
}

/// An error says where it lies and what to do, wherever it is shown.
fn errors_are_whole(dev: &Dev, root: &str) {
    dev.folder.write("in.csv", "id\n1\nno number\n");
    let script = finite(root).replace("/out", "/other");
    dev.folder.write("bad.sql", script);
    let failed = dev.ask(&["submit", "bad.sql", "--wait"]);
    let error = failed.error().unwrap_or_else(|| panic!("no error: {}", failed.describe()));
    let origin = &error["place"]["origin"];
    assert!(origin["origin"].as_str().is_some_and(|file| file.ends_with("/in.csv")), "{error}");
    assert_eq!(dev.describe(&["bad"])["error"], error);
    let told = dev.tell(&["job", "describe", "bad"]).stdout;
    assert!(told.contains("  at         ") && told.contains("/in.csv"), "{told}");

    dev.folder.write("select.sql", "CREATE TABLE g (n BIGINT) WITH ('connector' = 'datagen');\nSELECT n FROM g;");
    let select = dev.ask(&["submit", "select.sql"]);
    refused(&select, "E0205");
    assert!(select.error().unwrap()["hint"].as_str().unwrap().contains("INSERT INTO"), "{}", select.describe());

    let beyond = dev.ask(&["tail", "numbers", "--from", "1000000000"]);
    refused(&beyond, "E0501");
    assert!(beyond.stderr.contains("whose next row gets "), "{}", beyond.describe());
    let nowhere = dev.ask(&["late", "readmit", "q"]);
    refused(&nowhere, "E0501");
    assert!(
        nowhere.stderr.contains("--into-file") && nowhere.stderr.contains("--into-topic"),
        "{}",
        nowhere.describe()
    );
}

#[test]
fn the_command_line_comes_before_the_environment() {
    let folder = Folder::new("verbs-target");
    folder.write("in.csv", "id\n1\n");
    folder.write("q.sql", finite("."));
    let run = Invocation::job(folder.path(), "q.sql", 1, &[]).run().unwrap();
    let id = done(&run)["job"].as_str().unwrap().to_owned();
    let list = |more: &[&str], cluster: &str| {
        let arguments = [&["-o", "json", "jobs", "list"], more].concat();
        Invocation::new(folder.path(), arguments).variable("QANAT_CLUSTER", cluster).run().unwrap()
    };
    for cluster in ["", "no-such-host:1"] {
        let listed = done(&list(&["--data", "data"], cluster));
        assert_eq!(listed[0]["job"], id.as_str(), "QANAT_CLUSTER={cluster}");
    }
    // An empty variable is none: the default folder is not there.
    refused(&list(&[], ""), "E0206");
    let mistyped = list(&[], "localhost");
    refused(&mistyped, "E0501");
    assert!(mistyped.error().unwrap()["place"]["named"] == "QANAT_CLUSTER", "{}", mistyped.describe());
    let both = list(&["--data", "data", "--cluster", "localhost:1"], "");
    refused(&both, "E0501");
    assert_eq!(both.code, Some(2), "{}", both.describe());
    // A port that was free a moment ago: nobody is waited for half a minute.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let begun = std::time::Instant::now();
    let nobody = list(&[], &free);
    refused(&nobody, "E0602");
    assert!(nobody.stderr.contains(&format!("nobody answers at {free}")), "{}", nobody.describe());
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    // Digits of an id name a job of a folder, too.
    let described = ["-o", "json", "job", "describe", &id[..8], "--data", "data"];
    assert_eq!(done(&Invocation::new(folder.path(), described).run().unwrap())["job"], id.as_str());
}
