//! `dead-letters readmit`, killed between every two steps and called again: each entry goes out once.

use crate::folder::Folder;
use crate::look::{Dev, refused};
use crate::metrics::until;
use crate::process::{Invocation, Outcome};
use crate::topics::done;

/// Moments at which the command can die.
pub(crate) const MOMENTS: &[&str] = &["readmit.staged", "readmit.noted", "readmit.published", "readmit.done"];
const BAD: usize = 20;

const SCRIPT: &str = "CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv', 'csv.header' = 'false');
CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT id FROM t;
";

fn qanat(folder: &Folder, arguments: &[&str], failpoint: Option<&str>) -> Outcome {
    let mut all = vec!["-o", "json"];
    all.extend(arguments);
    all.extend(["--data", "data"]);
    Invocation::new(folder.path(), all).failpoint(failpoint).run().unwrap()
}

fn job_with_dead_letters(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("in/a.csv", (0..BAD).map(|n| format!("bad{n}\n{n}\n")).collect::<String>());
    folder.write("q.sql", SCRIPT);
    let outcome = qanat(&folder, &["run", "q.sql"], None);
    assert_eq!(outcome.json().unwrap()["dead_lettered"], BAD, "{}", outcome.describe());
    folder
}

/// The two entries of each moment are read again, with a death in the middle where builds have failpoints.
fn readmit(folder: &Folder, moment: usize, target: &[&str], between: impl Fn()) {
    let ids = format!("{}-{}", 2 * moment, 2 * moment + 1);
    let mut arguments = vec!["dead-letters", "readmit", "q", "--ids", &ids];
    arguments.extend(target);
    if cfg!(debug_assertions) {
        let died = qanat(folder, &arguments, Some(MOMENTS[moment]));
        assert!(died.aborted, "{}: {}", MOMENTS[moment], died.describe());
        between();
    }
    for _ in 0..2 {
        let outcome = qanat(folder, &arguments, None);
        assert_eq!(outcome.code, Some(0), "{}: {}", MOMENTS[moment], outcome.describe());
    }
}

#[test]
fn each_entry_goes_into_a_file_once() {
    let folder = job_with_dead_letters("readmit-file");
    let moved = folder.path().join("moved");
    std::fs::create_dir_all(&moved).unwrap();
    for moment in 0..MOMENTS.len() {
        let file = folder.path().join("mended.csv");
        // Whoever sees the file may take it away, whether the command that wrote it is done or not.
        let take = |number: usize| drop(std::fs::rename(&file, moved.join(format!("{moment}-{number}.csv"))));
        readmit(&folder, moment, &["--into-file", "mended.csv"], || take(0));
        take(1);
    }
    let outcome = qanat(&folder, &["dead-letters", "readmit", "q", "--into-file", "mended.csv"], None);
    assert_eq!(outcome.json().unwrap()["readmitted"], BAD - 2 * MOMENTS.len(), "{}", outcome.describe());
    let mut lines: Vec<String> = Vec::new();
    let files = std::fs::read_dir(&moved).unwrap().flatten().map(|entry| entry.path());
    for path in files.chain([folder.path().join("mended.csv")]) {
        lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
    }
    assert_eq!(sorted(lines), expected(1));
}

/// A table that is made anew counts its entries from 0 again: they are others.
#[test]
fn entries_of_a_deleted_table_are_not_taken_for_those_of_the_next() {
    let folder = job_with_dead_letters("readmit-anew");
    let readmit = |file: &str, count: usize| {
        let outcome = qanat(&folder, &["dead-letters", "readmit", "q", "--into-file", file], None);
        assert_eq!(outcome.json().unwrap()["readmitted"], count, "{}", outcome.describe());
    };
    readmit("first.csv", BAD);
    readmit("none.csv", 0);
    let deleted = qanat(&folder, &["topics", "delete", "q.dead-letters"], None);
    assert_eq!(deleted.code, Some(0), "{}", deleted.describe());
    readmit("none.csv", 0);
    let outcome = qanat(&folder, &["run", "q.sql"], None);
    assert_eq!(outcome.json().unwrap()["dead_lettered"], BAD, "{}", outcome.describe());
    readmit("second.csv", BAD);
    readmit("none.csv", 0);
}

#[test]
fn each_entry_goes_into_a_topic_once() {
    let folder = job_with_dead_letters("readmit-topic");
    assert_eq!(qanat(&folder, &["topics", "create", "again", "--partitions", "2"], None).code, Some(0));
    for moment in 0..MOMENTS.len() {
        readmit(&folder, moment, &["--into-topic", "again"], || {});
    }
    let all = &["dead-letters", "readmit", "q", "--into-topic", "again"];
    let outcome = qanat(&folder, all, None);
    assert_eq!(outcome.json().unwrap()["readmitted"], BAD - 2 * MOMENTS.len(), "{}", outcome.describe());
    assert_eq!(sorted(topic(&folder)), expected(1));
    // Who deletes the memory wants all of them once more.
    assert_eq!(qanat(&folder, &["topics", "delete", "q.readmitted"], None).code, Some(0));
    let outcome = qanat(&folder, all, None);
    assert_eq!(outcome.json().unwrap()["readmitted"], BAD, "{}", outcome.describe());
    assert_eq!(sorted(topic(&folder)), expected(2));
}

/// A topic that is deleted between the note and its rows takes nothing with it: the next call goes on, and the entries
/// go where they are sent by name.
#[test]
fn entries_whose_topic_was_deleted_stand_in_nobodys_way() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let folder = job_with_dead_letters("readmit-nowhere");
    for is_made_anew in [false, true] {
        assert_eq!(qanat(&folder, &["topics", "create", "again"], None).code, Some(0));
        let into = |ids: &[&str], failpoint| {
            qanat(&folder, &[&["dead-letters", "readmit", "q", "--into-topic", "again"], ids].concat(), failpoint)
        };
        let ids = if is_made_anew { ["--ids", "4-5"] } else { ["--ids", "0-1"] };
        assert!(into(&ids, Some("readmit.noted")).aborted);
        assert_eq!(qanat(&folder, &["topics", "delete", "again"], None).code, Some(0));
        if is_made_anew {
            assert_eq!(qanat(&folder, &["topics", "create", "again"], None).code, Some(0));
        } else {
            let refused = into(&["--ids", "2"], None);
            assert!(refused.stderr.contains("E0308") && refused.stderr.contains("--ids"), "{}", refused.describe());
            assert_eq!(qanat(&folder, &["topics", "create", "again"], None).code, Some(0));
        }
        for (ids, expected) in [(&ids[..], 2), (&ids[..], 0)] {
            let outcome = into(ids, None);
            assert_eq!(outcome.json().unwrap()["readmitted"], expected, "{}", outcome.describe());
        }
        assert_eq!(topic(&folder).len(), 2);
        assert_eq!(qanat(&folder, &["topics", "delete", "again"], None).code, Some(0));
    }
    let rest = ["dead-letters", "readmit", "q", "--into-file", "rest.csv"];
    assert_eq!(qanat(&folder, &rest, None).json().unwrap()["readmitted"], BAD - 4);
}

/// The owner of a cluster's log dies between every two steps. Another one completes what was noted, and the client
/// hears of it; what was not noted is nobody's.
#[test]
fn a_cluster_writes_each_entry_once_whichever_owner_dies() {
    for moment in MOMENTS {
        let armed = cfg!(debug_assertions).then_some(*moment);
        let dev = Dev::armed(&format!("cluster-{moment}"), "1", armed);
        let root = dev.folder.path().display().to_string();
        dev.folder.write("in/a.csv", (0..BAD).map(|n| format!("bad{n}\n{n}\n")).collect::<String>());
        dev.folder
            .write("q.sql", SCRIPT.replace("'in'", &format!("'{root}/in'")).replace("'out'", &format!("'{root}/out'")));
        done(&dev.ask(&["submit", "q.sql", "--wait"]));
        done(&dev.ask(&["topics", "create", "again", "--partitions", "2"]));
        let readmit = || dev.ask(&["dead-letters", "readmit", "q", "--into-topic", "again"]);
        let first = readmit();
        // Both owners die before the note, or before they note the end, and nobody is left.
        let is_lost = matches!(armed, Some("readmit.staged" | "readmit.published"));
        let _executors = if is_lost {
            refused(&first, "E0603");
            let executors = dev.start_executors();
            until("they are back", || dev.attached() > 0);
            let told = done(&readmit());
            let expected = if armed == Some("readmit.staged") { (BAD, 0) } else { (0, 1) };
            assert_eq!((&told["readmitted"], &told["completed"]), (&expected.0.into(), &expected.1.into()), "{moment}");
            executors
        } else {
            let told = done(&first);
            assert_eq!((&told["readmitted"], &told["into"]), (&BAD.into(), &"again".into()), "{moment}: {told}");
            Vec::new()
        };
        assert_eq!(done(&readmit())["readmitted"], 0, "{moment}");
        assert_eq!(sorted(records(&dev.ask(&["tail", "again", "--from", "earliest", "--to-latest"]))), expected(1));
    }
}

/// The topic's owner is another one than that of the notes, or has another token: it writes them, and stays the owner.
#[test]
fn a_cluster_writes_entries_into_a_topic_of_a_job() {
    let dev = Dev::start("readmit-owned", "1");
    let root = dev.folder.path().display().to_string();
    dev.folder.write("in/a.csv", (0..BAD).map(|n| format!("bad{n}\n{n}\n")).collect::<String>());
    dev.folder
        .write("q.sql", SCRIPT.replace("'in'", &format!("'{root}/in'")).replace("'out'", &format!("'{root}/out'")));
    done(&dev.ask(&["submit", "q.sql", "--wait"]));
    let writer = "CREATE TABLE v (record STRING) WITH ('connector' = 'log', 'topic' = 'again');
INSERT INTO v SELECT 'bad' || CAST(n AS STRING) FROM (VALUES (0), (1)) AS t (n);
";
    for name in ["w1.sql", "w2.sql"] {
        dev.folder.write(name, writer);
        done(&dev.ask(&["submit", name, "--wait"]));
        let readmit = || done(&dev.ask(&["dead-letters", "readmit", "q", "--into-topic", "again"]));
        assert_eq!(readmit()["readmitted"], if name == "w1.sql" { BAD } else { 0 });
    }
    let found = sorted(records(&dev.ask(&["tail", "again", "--from", "earliest", "--to-latest"])));
    assert_eq!(found, sorted([expected(1), vec!["bad0".into(); 2], vec!["bad1".into(); 2]].concat()));
}

fn topic(folder: &Folder) -> Vec<String> {
    records(&qanat(folder, &["tail", "again", "--from", "earliest", "--to-latest"], None))
}

fn records(tail: &Outcome) -> Vec<String> {
    assert_eq!(tail.code, Some(0), "{}", tail.describe());
    let text = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row.pointer("/row/record").or_else(|| row.get("record")).and_then(|v| v.as_str()).unwrap().to_owned()
    };
    tail.stdout.lines().map(text).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn expected(times: usize) -> Vec<String> {
    sorted((0..BAD * times).map(|n| format!("bad{}", n % BAD)).collect())
}

/// A mistyped run or id is not a run or an entry that there is nothing left of.
#[test]
fn unknown_runs_and_ids_are_refused() {
    let folder = job_with_dead_letters("readmit-unknown");
    let refused = |arguments: &[&str], code: &str| {
        let outcome = qanat(&folder, arguments, None);
        assert!(outcome.stderr.contains(code), "{arguments:?}: {}", outcome.describe());
        assert_ne!(outcome.code, Some(0), "{arguments:?}");
    };
    let into = ["--into-file", "x.csv"];
    let readmit = |rest: [&'static str; 2]| [&["dead-letters", "readmit", "q"][..], &into, &rest].concat();
    refused(&readmit(["--run", "zzz"]), "E0309");
    refused(&readmit(["--ids", "7,20"]), "E0501");
    refused(&["dead-letters", "list", "q", "--run", "zzz"], "E0309");
    refused(&["late", "list", "q", "--run", "zzz"], "E0309");
    assert_eq!(qanat(&folder, &readmit(["--ids", "7,19"]), None).json().unwrap()["readmitted"], 2);
}

/// A topic takes what a table of format json takes: bytes in base64, a number as a text, digits beyond a double.
#[test]
fn a_topic_reads_records_as_a_table_does() {
    let folder = Folder::new("readmit-json");
    folder.write("in/a.json", "{\"id\":\"bad\",\"s\":5.50,\"b\":\"abcd\",\"d\":12345678901234567890.5}\n");
    folder.write(
        "q.sql",
        "CREATE TABLE t (id INT, s STRING, b BYTES) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
CREATE TABLE o (id INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT id FROM t;
",
    );
    folder.write(
        "topic.sql",
        "CREATE TABLE v (id STRING, s STRING, b BYTES, d DECIMAL(38, 1)) WITH ('connector' = 'log', 'topic' = 'again');
INSERT INTO v VALUES ('first', '', CAST('' AS BYTES), 0.0);
",
    );
    for script in ["q.sql", "topic.sql"] {
        let outcome = qanat(&folder, &["run", script], None);
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    }
    let outcome = qanat(&folder, &["dead-letters", "readmit", "q", "--into-topic", "again"], None);
    assert_eq!(outcome.json().unwrap()["readmitted"], 1, "{}", outcome.describe());
    let tail = qanat(&folder, &["tail", "again", "--from", "earliest", "--to-latest"], None);
    let wanted = r#"{"id":"bad","s":"5.50","b":"abcd","d":12345678901234567890.5}"#;
    assert!(tail.stdout.contains(wanted), "{}", tail.describe());
    let arguments = ["-o", "yaml", "tail", "again", "--from", "earliest", "--to-latest", "--data", "data"];
    let yaml = Invocation::new(folder.path(), arguments.to_vec()).run().unwrap();
    assert!(yaml.stdout.contains("d: 12345678901234567890.5\n"), "{}", yaml.describe());
}
