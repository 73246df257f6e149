//! `audit` against planted faults, in every format, behind joins, sessions and Top-N: it fails, names the
//! place and never panics.

use std::path::{Path, PathBuf};

use crate::folder::{Folder, rows_folder};
use crate::process::{Invocation, Outcome};
use crate::sink;
use crate::timestamp;

const SCRIPT: &str = "CREATE TABLE t (id BIGINT, k BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
CREATE TABLE d (k BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = 'd.csv', 'format' = 'csv');
CREATE TABLE a (id BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = 'csv', 'format' = 'csv');
CREATE TABLE b (e TIMESTAMP(3), n BIGINT, k BIGINT) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'path' = 'json', 'format' = 'json');
CREATE TABLE c (id BIGINT, rn BIGINT, k BIGINT) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'path' = 'parquet', 'format' = 'parquet');
CREATE TABLE e (id BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = 'arrow', 'format' = 'arrow');
CREATE TABLE f (id BIGINT) WITH ('connector' = 'log', 'topic' = 'ids');
INSERT INTO a SELECT t.id, d.name FROM t JOIN d FOR SYSTEM_TIME AS OF t.p ON t.k = d.k;
INSERT INTO b SELECT window_end, COUNT(*), k FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, k;
INSERT INTO c SELECT id, rn, k FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY id) AS rn FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE rn <= 2;
INSERT INTO e SELECT t.id, d.name FROM t JOIN d FOR SYSTEM_TIME AS OF t.p ON t.k = d.k;
INSERT INTO f SELECT id FROM t;
";

fn audit(folder: &Folder) -> Outcome {
    Invocation::new(folder.path(), ["-o", "json", "audit", "q", "--data", "data"]).run().unwrap()
}

/// The audit fails and says where.
#[track_caller]
fn names(folder: &Folder, place: &str, what: &str) {
    let outcome = audit(folder);
    let said = format!("{what}: {}", outcome.describe());
    assert_eq!(outcome.code, Some(1), "{said}");
    let is_named = outcome.stdout.contains(place) || outcome.stderr.contains(place);
    assert!(is_named, "{place} is not named; {said}");
    assert!(!outcome.stderr.contains("panicked"), "{said}");
}

fn doubled_line(bytes: &[u8]) -> Vec<u8> {
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    [bytes, &bytes[last..]].concat()
}

#[test]
fn every_planted_fault_is_found_and_named() {
    let folder = Folder::new("audit");
    let row = |n: i64| format!("{n},{},{}\n", n % 3, timestamp::format(1_357_000_000_000 + n * 50));
    folder.write("in/a.csv", format!("id,k,ts\n{}", (0..2_000).map(row).collect::<String>()));
    folder.write("d.csv", "k,name\n0,zero\n1,one\n2,two\n");
    folder.write("q.sql", SCRIPT);
    let outcome = Invocation::job(folder.path(), "q.sql", 2, &[]).run().unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    assert_eq!(audit(&folder).code, Some(0));
    for format in ["csv", "json", "parquet", "arrow"] {
        let table = folder.path().join(format);
        let name = sink::visible(&table).pop_first().unwrap();
        let path = table.join(&name);
        let whole = std::fs::read(&path).unwrap();
        let plant = |bytes: &[u8], what: &str| {
            std::fs::write(&path, bytes).unwrap();
            names(&folder, &name, &format!("{format}, {what}"));
        };
        // Offsets inside a file are everywhere in it.
        for part in 0..8 {
            let mut changed = whole.clone();
            let at = (whole.len() - 1) * part / 7;
            changed[at] ^= 0x81;
            plant(&changed, &format!("byte {at} changed"));
        }
        plant(&whole[..whole.len() - 1], "cut");
        plant(&doubled_line(&whole), "something doubled");
        std::fs::remove_file(&path).unwrap();
        names(&folder, &name, &format!("{format}, gone"));
        std::fs::write(&path, &whole).unwrap();
        let (object, _) = name.rsplit_once('-').unwrap();
        let surplus = format!("{object}-77.{format}");
        std::fs::copy(&path, table.join(&surplus)).unwrap();
        names(&folder, &surplus, &format!("{format}, a file too many"));
        std::fs::remove_file(table.join(&surplus)).unwrap();
    }
    let segment = only_file(&rows_folder(&folder.path().join("data/topics/ids")).join("p00000"), "log");
    let whole = std::fs::read(&segment).unwrap();
    let mut changed = whole.clone();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap();
    changed[written / 2] ^= 1;
    std::fs::write(&segment, &changed).unwrap();
    names(&folder, "ids", "a byte of a topic");
    std::fs::write(&segment, &whole).unwrap();
    assert_eq!(audit(&folder).code, Some(0));
}

fn only_file(folder: &Path, extension: &str) -> PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}
