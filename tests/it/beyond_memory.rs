//! Jobs whose state is several times their memory: the answer is that of all rows, whatever dies and wherever they go on.

use std::collections::{BTreeMap, BTreeSet};

use crate::folder::Folder;
use crate::process::{Invocation, Outcome};
use crate::sink;

const ROWS: u64 = 60_000;
const KEYS: u64 = 15_000;

const TABLES: &str = "SET 'job.memory' = '16 mb';
CREATE TABLE t (id BIGINT, k BIGINT, v BIGINT, pad STRING, p AS PROCTIME(), ts AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
CREATE TABLE pairs (a BIGINT, b BIGINT) WITH ('connector' = 'filesystem', 'path' = 'pairs', 'format' = 'csv');
CREATE TABLE lonely (a BIGINT, b BIGINT) WITH ('connector' = 'filesystem', 'path' = 'lonely', 'format' = 'csv', 'sink.changelog' = 'log');
CREATE TABLE by_key (k BIGINT, n BIGINT, d BIGINT, most STRING) WITH ('connector' = 'filesystem', 'path' = 'by_key', 'format' = 'csv', 'sink.changelog' = 'log');
CREATE TABLE total (n BIGINT, d BIGINT) WITH ('connector' = 'filesystem', 'path' = 'total', 'format' = 'csv', 'sink.changelog' = 'log');
CREATE TABLE newest (k BIGINT, id BIGINT, pad STRING) WITH ('connector' = 'filesystem', 'path' = 'newest', 'format' = 'csv', 'sink.changelog' = 'log');
CREATE TABLE earliest (k BIGINT) WITH ('connector' = 'filesystem', 'path' = 'earliest', 'format' = 'csv');
CREATE TABLE near (a BIGINT, b BIGINT) WITH ('connector' = 'filesystem', 'path' = 'near', 'format' = 'csv');
CREATE TABLE running (id BIGINT, n BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'path' = 'running', 'format' = 'csv');
CREATE VIEW even AS SELECT id, k, v, ts FROM t WHERE id % 2 = 0;
CREATE VIEW odd AS SELECT id, k, v, ts FROM t WHERE id % 2 = 1;
INSERT INTO pairs SELECT a.id, b.id FROM even a JOIN odd b ON a.k = b.k;
INSERT INTO lonely SELECT a.id, b.id FROM even a LEFT JOIN (SELECT DISTINCT id, k, v FROM odd) b ON a.k = b.k AND a.v < b.v;
INSERT INTO by_key SELECT k, COUNT(*), COUNT(DISTINCT v), MAX(pad) FROM t GROUP BY k;
INSERT INTO total SELECT COUNT(*), COUNT(DISTINCT pad) FROM t;
INSERT INTO newest SELECT k, id, pad FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id DESC) AS rn FROM t) WHERE rn = 1;
INSERT INTO near SELECT a.id, b.id FROM even a LEFT JOIN odd b ON a.k = b.k AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '20' SECOND;
INSERT INTO running SELECT id, COUNT(*) OVER w, SUM(v) OVER w FROM t WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '15' SECOND PRECEDING AND CURRENT ROW);
INSERT INTO earliest SELECT k FROM (SELECT k, ROW_NUMBER() OVER (PARTITION BY k ORDER BY p) AS rn FROM t) WHERE rn = 1;
";

struct Row {
    id: u64,
    k: u64,
    v: u64,
}

fn rows() -> Vec<Row> {
    let mut random = 11_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    (0..ROWS).map(|id| Row { id, k: draw(KEYS), v: draw(5) }).collect()
}

fn pad(row: &Row) -> String {
    format!("text of a row with number {:06}", row.id)
}

fn run(folder: &Folder, parallelism: u32, failpoint: Option<&str>) -> Outcome {
    let settings = [("execution.checkpointing.interval".to_owned(), "50 ms".to_owned())];
    Invocation::job(folder.path(), "q.sql", parallelism, &settings).failpoint(failpoint).run().unwrap()
}

fn line(cells: &[String]) -> String {
    cells.join("|")
}

fn found(folder: &Folder, table: &str, is_log: bool) -> Vec<String> {
    let rows = sink::committed(&folder.path().join(table)).unwrap();
    let rows = if is_log { sink::applied(rows).unwrap() } else { rows };
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    let mut lines: Vec<String> =
        rows.into_iter().map(|row| line(&row.into_iter().map(cell).collect::<Vec<_>>())).collect();
    lines.sort();
    lines
}

#[track_caller]
fn is(folder: &Folder, table: &str, is_log: bool, wanted: impl IntoIterator<Item = Vec<String>>) {
    let mut wanted: Vec<String> = wanted.into_iter().map(|cells| line(&cells)).collect();
    wanted.sort();
    let found = found(folder, table, is_log);
    let first = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    assert!(found == wanted, "{table}: {} rows for {}, first {first:?}", found.len(), wanted.len());
}

#[test]
fn state_that_has_no_room_is_put_aside_and_answers_are_exact() {
    let folder = Folder::new("beyond-memory");
    let rows = rows();
    for (part, rows) in rows.chunks(ROWS as usize / 3).enumerate() {
        let lines: String = rows.iter().map(|row| format!("{},{},{},{}\n", row.id, row.k, row.v, pad(row))).collect();
        folder.write(&format!("in/{part}.csv"), format!("id,k,v,pad\n{lines}"));
    }
    folder.write("q.sql", TABLES);
    if cfg!(debug_assertions) {
        for (parallelism, failpoint) in [(2, "committed.applied:1"), (3, "state.stored:12"), (1, "commit.done:1")] {
            let outcome = run(&folder, parallelism, Some(failpoint));
            assert!(outcome.aborted, "{failpoint}: {}", outcome.describe());
            let spilled = std::fs::read_dir(folder.path().join("data/spill")).into_iter().flatten().count();
            assert!(spilled > 0, "nothing was put aside before {failpoint}");
        }
    }
    let outcome = run(&folder, 2, None);
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    let spill = folder.path().join("data/spill");
    let left = std::fs::read_dir(spill).into_iter().flatten().flatten();
    let left = left.flat_map(|entry| std::fs::read_dir(entry.path()).into_iter().flatten()).count();
    assert_eq!(left, 0, "what was put aside is left behind");

    let mut keys: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        keys.entry(row.k).or_default().push(row);
    }
    let text = |number: u64| number.to_string();
    let (mut pairs, mut lonely, mut near, mut running) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for of_key in keys.values() {
        for a in of_key.iter().filter(|row| row.id % 2 == 0) {
            let others = || of_key.iter().filter(|row| row.id % 2 == 1);
            pairs.extend(others().map(|b| vec![text(a.id), text(b.id)]));
            let soon = others().filter(|b| (b.id..=b.id + 20_000).contains(&a.id));
            let soon: Vec<_> = soon.map(|b| vec![text(a.id), text(b.id)]).collect();
            match soon.is_empty() {
                true => near.push(vec![text(a.id), "-".to_owned()]),
                false => near.extend(soon),
            }
            let larger: Vec<_> = others().filter(|b| a.v < b.v).map(|b| vec![text(a.id), text(b.id)]).collect();
            match larger.is_empty() {
                true => lonely.push(vec![text(a.id), "-".to_owned()]),
                false => lonely.extend(larger),
            }
        }
        for row in of_key {
            let frame: Vec<u64> =
                of_key.iter().filter(|b| (b.id..=b.id + 15_000).contains(&row.id)).map(|b| b.v).collect();
            running.push(vec![text(row.id), text(frame.len() as u64), text(frame.iter().sum())]);
        }
    }
    is(&folder, "near", false, near);
    is(&folder, "running", false, running);
    is(&folder, "pairs", false, pairs);
    is(&folder, "lonely", true, lonely);
    let by_key = keys.iter().map(|(k, of_key)| {
        let different: BTreeSet<u64> = of_key.iter().map(|row| row.v).collect();
        let most = of_key.iter().map(|row| pad(row)).max().unwrap_or_default();
        vec![text(*k), text(of_key.len() as u64), text(different.len() as u64), most]
    });
    is(&folder, "by_key", true, by_key);
    is(&folder, "total", true, [vec![text(ROWS), text(ROWS)]]);
    let newest = keys.iter().filter_map(|(k, of_key)| of_key.last().map(|row| vec![text(*k), text(row.id), pad(row)]));
    is(&folder, "newest", true, newest);
    is(&folder, "earliest", false, keys.keys().map(|k| vec![text(*k)]));
}
