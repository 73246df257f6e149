//! Late rows, strictly: the answer is the batch answer over the input minus the rows that `late list`
//! shows, and a row stands there only if all of its windows had closed and it was behind its own split.
//!
//! One query per script, over enough rows for many batches: which rows are late depends on how far the
//! watermark is when they come, so nothing is expected beforehand but that rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::oracle;
use super::query::{self, Window};
use crate::compare::{self, Row, Rules};
use crate::folder::Folder;
use crate::process::Invocation;
use crate::rng::Rng;
use crate::sink;
use crate::slt::{in_parallel, total};
use crate::timestamp;
use crate::ways::{self, WAYS};

const RUNS: u64 = 48;
const KEYS: i64 = 5;

struct Record {
    id: i64,
    key: i64,
    time: i64,
    /// No watermark of its own split that the row can have met is higher.
    split_watermark: i64,
}

#[test]
fn the_answer_is_that_of_the_input_minus_the_late_table() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first = number("QANAT_LATE_SEED", 1);
    let seeds: Vec<u64> = (first..first + number("QANAT_LATE_CASES", RUNS)).collect();
    let failures = in_parallel(&seeds, |seed| run(*seed));
    assert!(failures.is_empty(), "{} of {} runs failed:\n{}", failures.len(), seeds.len(), failures.join("\n"));
}

fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::named(seed, "late");
    let way = *rng.pick(&WAYS);
    let parallelism = *rng.pick(&[1, 2, 3]);
    let attempts = way.attempts(&mut rng, parallelism);
    let window =
        if rng.chance(20) { Window::Session { gap: *rng.pick(&[50, 500]) } } else { query::window(&mut rng, true) };
    let jitter = *rng.pick(&[0, 500, 4_000, 20_000]);
    // Every third table promises no more than it keeps: nothing of it may be late.
    let is_clean = rng.chance(35);
    let slack = if is_clean { jitter } else { *rng.pick(&[0, jitter / 10]) };
    let order = if is_clean { "none" } else { *rng.pick(&["none", "time"]) };
    let files = files(&mut rng, jitter, slack);
    let mut folder = Folder::new(&format!("late-{seed}"));
    for (index, rows) in files.iter().enumerate() {
        folder.write(&format!("t/{index}.csv"), csv(rows));
    }
    folder.write("q.sql", script(window, slack, order));
    let check = || -> Result<(), String> {
        let receipt = ways::run(folder.path(), "q.sql", &attempts, &[], &["out".to_owned()])?;
        let late = late(&folder)?;
        if total(&receipt, "late") != late.len() as u64 {
            return Err(format!("{} late rows counted, {} listed", total(&receipt, "late"), late.len()));
        }
        if is_clean && !late.is_empty() {
            return Err(format!("no row is behind its split's watermark, and {} are late", late.len()));
        }
        let rows: Vec<&Record> = files.iter().flatten().collect();
        let found = sink::committed(&folder.path().join("out"))?;
        for row in &rows {
            if let Some(watermark) = late.get(&row.id) {
                is_late(window, row, *watermark, &found)?;
                // Files that are said to follow each other may come too early for the one before.
                if order == "none" && row.time >= row.split_watermark {
                    return Err(format!("row {} is late and not behind its own split", row.id));
                }
            }
        }
        let expected = batch(window, rows.into_iter().filter(|row| !late.contains_key(&row.id)));
        compare::difference(&expected, &found, Rules::default())
            .map_err(|difference| format!("{} late; {difference}", late.len()))
    };
    check().map_err(|failure| {
        folder.keep();
        format!(
            "seed {seed} ({way:?} {attempts:?}, {window:?}): {failure}\n  folder: {}\n  again: QANAT_LATE_SEED={seed} \
             QANAT_LATE_CASES=1 cargo test --test it minus_the_late_table",
            folder.path().display(),
        )
    })
}

fn files(rng: &mut Rng, jitter: i64, slack: i64) -> Vec<Vec<Record>> {
    let (mut id, mut clock) = (0, 1_357_000_000_000);
    let mut files = Vec::new();
    for _ in 0..rng.range(1, 5) {
        let mut rows = Vec::new();
        let mut highest = i64::MIN;
        for _ in 0..rng.range(0, 18_000) {
            clock += rng.range(0, 4);
            let time = clock - if rng.chance(50) { rng.range(0, jitter) } else { 0 };
            rows.push(Record { id, key: rng.range(0, KEYS - 1), time, split_watermark: highest });
            highest = highest.max(time - slack);
            id += 1;
        }
        files.push(rows);
    }
    files
}

fn csv(rows: &[Record]) -> String {
    let mut text = "id,k,ts\n".to_owned();
    for row in rows {
        let _ = writeln!(text, "{},{},{}", row.id, row.key, timestamp::format(row.time));
    }
    text
}

fn script(window: Window, slack: i64, order: &str) -> String {
    format!(
        "CREATE TABLE t (id BIGINT, k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '{}.{:03}' SECOND) WITH \
         ('connector' = 'filesystem', 'path' = 't', 'format' = 'csv', 'scan.split-order' = '{order}');\n\
         CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k INT, n BIGINT, ids BIGINT, low BIGINT, high BIGINT) WITH \
         ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');\n\
         INSERT INTO o SELECT window_start, window_end, k, COUNT(*), SUM(id), MIN(id), MAX(id) FROM TABLE({}) GROUP BY \
         window_start, window_end, k;\n",
        slack / 1_000,
        slack % 1_000,
        window.sql("t", &["k".to_owned()]),
    )
}

/// The rows of the late table, by id, with the watermark they were judged by.
fn late(folder: &Folder) -> Result<BTreeMap<i64, i64>, String> {
    let listed = Invocation::new(folder.path(), ["-o", "json", "late", "list", "q", "--data", "data"]).run()?;
    let mut late = BTreeMap::new();
    for line in listed.json()?.as_array().ok_or("the late table is no list")? {
        let id = line["row"]["id"].as_i64().ok_or_else(|| format!("a late row without its id: {line}"))?;
        let watermark = line["watermark"].as_str().and_then(timestamp::parse);
        let watermark = watermark.ok_or_else(|| format!("a late row without a watermark: {line}"))?;
        if late.insert(id, watermark).is_some() {
            return Err(format!("row {id} is late twice"));
        }
    }
    Ok(late)
}

/// That the row may stand in the late table, judged by `watermark`: the last of its windows had closed.
fn is_late(window: Window, row: &Record, watermark: i64, found: &[Row]) -> Result<(), String> {
    let closed = match window {
        // It would have gone on a session that had fired.
        Window::Session { gap } => {
            let time = |cell: &compare::Cell| cell.as_deref().and_then(timestamp::parse).unwrap_or(i64::MIN);
            let touches = |(start, end): (i64, i64)| start - gap <= row.time && row.time <= end && end < watermark;
            let of_key = |other: &&Row| other[2] == Some(row.key.to_string());
            row.time + gap < watermark || found.iter().filter(of_key).any(|r| touches((time(&r[0]), time(&r[1]))))
        }
        _ => oracle::windows(window, row.time).iter().all(|(_, end)| *end <= watermark),
    };
    if closed { Ok(()) } else { Err(format!("row {} is late by {watermark}, and a window of it was open", row.id)) }
}

/// The answer over `rows`, one window at a time.
fn batch<'a>(window: Window, rows: impl Iterator<Item = &'a Record>) -> Vec<Row> {
    let mut groups: BTreeMap<(i64, i64, i64), Vec<&Record>> = BTreeMap::new();
    if let Window::Session { gap } = window {
        let mut keyed: BTreeMap<i64, Vec<&Record>> = BTreeMap::new();
        rows.for_each(|row| keyed.entry(row.key).or_default().push(row));
        for (key, mut rows) in keyed {
            rows.sort_by_key(|row| row.time);
            for session in rows.chunk_by(|a, b| b.time - a.time <= gap) {
                let (first, last) = (session[0].time, session[session.len() - 1].time);
                groups.insert((first, last + gap, key), session.to_vec());
            }
        }
    } else {
        for row in rows {
            for (start, end) in oracle::windows(window, row.time) {
                groups.entry((start, end, row.key)).or_default().push(row);
            }
        }
    }
    let row = |((start, end, key), rows): ((i64, i64, i64), Vec<&Record>)| -> Row {
        let ids: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
        let numbers = [key, rows.len() as i64, ids.iter().sum(), *ids.first().unwrap(), *ids.last().unwrap()];
        let times = [start, end].map(timestamp::format).into_iter();
        times.chain(numbers.iter().map(i64::to_string)).map(Some).collect()
    };
    groups.into_iter().map(row).collect()
}
