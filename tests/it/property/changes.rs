//! Random trees of aggregations, joins, first rows and sets over each other, against the same evaluated row by row.
//!
//! Their tables are files of rows, or of changes that come to the rows by ways of their own. Each job writes down what it
//! has read of them, too, so that the answer of every epoch is held against the tables as they were at its barriers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tree::{Tree, Values};
use crate::compare::{self, Cell, Row, Rules};
use crate::folder::Folder;
use crate::rng::Rng;
use crate::sink::{applied, committed, committed_by_epoch};
use crate::slt::in_parallel;
use crate::ways::{self, Attempt, Way};

const QUERIES: usize = 8;
/// Rows of one file of a table: a batch of its own, behind which an epoch may end.
const FILE_ROWS: usize = 3;
/// Bytes after which a source asks for an epoch. It reads no more behind twice as many.
const EPOCH_BYTES: usize = 65_536;
/// What each row has in a column that no query reads, of one group in so many: a few rows are an epoch.
const PADDING_BYTES: usize = EPOCH_BYTES / 4;
const PADDED: u64 = 3;
/// Epochs of a query that are looked at.
const EPOCHS_MAX: usize = 12;
/// Answers that were held against the tables of their epoch.
static CHECKED: AtomicUsize = AtomicUsize::new(0);
/// Runs that a failing case is made smaller with, at most.
const SHRINK_RUNS: usize = 80;

#[test]
fn random_trees_over_rows_that_change_answer_as_the_oracle() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first = number("QANAT_PROPERTY_SEED", 1);
    let groups = number("QANAT_PROPERTY_TREES", 504).div_ceil(QUERIES as u64);
    let seeds: Vec<u64> = (first..first + groups).collect();
    let failures = in_parallel(&seeds, |seed| group(*seed));
    assert!(failures.is_empty(), "{} of {groups} groups failed:\n{}", failures.len(), failures.join("\n"));
    let checked = CHECKED.load(Ordering::Relaxed);
    assert!(checked as u64 > groups * QUERIES as u64 / PADDED, "only {checked} answers before the last");
}

/// Some queries over the same tables, in one script.
struct Case {
    tables: Vec<Vec<Values>>,
    /// Of each table that tells of changes, the seed of its ways.
    changes: Vec<Option<u64>>,
    /// Bytes by which each row is longer.
    padding: usize,
    widths: Vec<usize>,
    queries: Vec<Tree>,
}

fn group(seed: u64) -> Result<(), String> {
    let mut rng = Rng::named(seed, "changes");
    let widths: Vec<usize> = (0..2).map(|_| usize::try_from(rng.range(2, 4)).unwrap()).collect();
    let tables = widths.iter().map(|width| table(&mut rng, *width)).collect::<Vec<_>>();
    let changes = tables.iter().map(|_| rng.chance(70).then(|| rng.below(1 << 30))).collect();
    let mut queries = Vec::new();
    while queries.len() < QUERIES {
        let depth = 2 + rng.below(3);
        let tree = Tree::random(&mut rng, depth, &widths);
        if tree.rows(&tables, &widths).is_some() {
            queries.push(tree);
        }
    }
    let way = [Way::Straight, Way::Killed, Way::Rescaled, Way::Seeded][usize::try_from(seed % 4).unwrap()];
    let parallelism = u32::try_from(1 + rng.below(3)).unwrap();
    let attempts = way.attempts(&mut rng, parallelism);
    let padding = if seed.is_multiple_of(PADDED) { PADDING_BYTES } else { 0 };
    let case = Case { tables, changes, padding, widths, queries };
    case.run(&format!("changes-{seed}"), &attempts).map_err(|(failure, query)| {
        let small = query.and_then(|query| case.shrunk(&case.queries[query]));
        format!(
            "seed {seed} ({way:?} {attempts:?}): {failure}\n  again: QANAT_PROPERTY_SEED={seed} \
             QANAT_PROPERTY_TREES={QUERIES} cargo test --test it random_trees\n{}",
            small.unwrap_or_else(|| "  straight it does not fail alone".to_owned())
        )
    })
}

/// Holds the table of the first query's keys against the rows of its answer.
fn check_kept(folder: &Folder, answer: &[Row]) -> Result<(), String> {
    let mut counts: BTreeMap<Cell, u64> = BTreeMap::new();
    let none = || "-9".to_owned();
    let keys = answer.iter().filter_map(|row| row.first()).map(|key| Some(key.clone().unwrap_or_else(none)));
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    let wanted: Vec<Row> = counts.into_iter().map(|(key, count)| vec![key, Some(count.to_string())]).collect();
    let path = folder.path().join("kept");
    let found = if path.join("_table").exists() { committed(&path)? } else { Vec::new() };
    compare::difference(&wanted, &found, Rules::default()).map_err(|failure| format!("as a kept table: {failure}"))
}

fn table(rng: &mut Rng, width: usize) -> Vec<Values> {
    let nulls = *rng.pick(&[0, 5, 25]);
    let most = *rng.pick(&[3, 8, 30]);
    let value = |rng: &mut Rng| (!rng.chance(nulls)).then(|| rng.range(-2, most));
    (0..rng.range(0, 60)).map(|_| (0..width).map(|_| value(rng)).collect()).collect()
}

impl Case {
    /// The first query that answers otherwise than it should, and how.
    fn run(&self, name: &str, attempts: &[Attempt]) -> Result<(), (String, Option<usize>)> {
        let folder = Folder::new(name);
        let mut script = format!(
            "SET 'execution.checkpointing.max-size' = '{EPOCH_BYTES}';\n\
             CREATE TABLE padding (p STRING) WITH ('connector' = 'blackhole');\n"
        );
        for (table, (rows, width)) in self.tables.iter().zip(&self.widths).enumerate() {
            let columns: Vec<String> = (0..*width).map(|at| format!("c{at} BIGINT")).collect();
            let (options, text) = match self.changes[table] {
                Some(seed) => ("'format' = 'debezium-json'", records(rows, *width, seed, self.padding)),
                None => ("'format' = 'csv', 'csv.null-literal' = 'NULL'", csv(rows, *width, self.padding)),
            };
            script += &format!(
                "CREATE TABLE t{table} ({0}, p STRING) WITH ('connector' = 'filesystem', 'path' = 't{table}', {options});\n\
                 CREATE TABLE seen{table} ({0}) WITH ('connector' = 'filesystem', 'path' = 'seen{table}', 'format' = 'csv', \
                 'csv.null-literal' = 'NULL', 'sink.changelog' = 'log');\n",
                columns.join(", ")
            );
            let header = if self.changes[table].is_some() { 0 } else { 1 };
            let lines: Vec<&str> = text.lines().collect();
            let (header, lines) = lines.split_at(header);
            for (number, lines) in lines.chunks(FILE_ROWS).enumerate() {
                let lines = header.iter().chain(lines).map(|line| format!("{line}\n")).collect::<String>();
                folder.write(&format!("t{table}/{number:03}.txt"), lines);
            }
            if lines.is_empty() {
                folder.write(&format!("t{table}/000.txt"), header.concat());
            }
        }
        let mut sinks: Vec<String> = (0..self.tables.len()).map(|table| format!("seen{table}")).collect();
        for (number, query) in self.queries.iter().enumerate() {
            let columns: Vec<String> = (0..query.width(&self.widths)).map(|at| format!("c{at} BIGINT")).collect();
            script += &format!(
                "CREATE TABLE out{number} ({}) WITH ('connector' = 'filesystem', 'path' = 'out{number}', \
                 'format' = 'csv', 'csv.null-literal' = 'NULL', 'sink.changelog' = 'log');\n",
                columns.join(", ")
            );
            sinks.push(format!("out{number}"));
        }
        // What the first one tells comes to a table that is kept by its key.
        script += "CREATE TABLE kept (k BIGINT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'filesystem', \
                   'path' = 'kept', 'format' = 'csv', 'csv.null-literal' = 'NULL', 'sink.changelog' = 'table');\n";
        sinks.push("kept".to_owned());
        script += "EXECUTE STATEMENT SET BEGIN\n";
        for table in 0..self.tables.len() {
            let columns: Vec<String> = (0..self.widths[table]).map(|at| format!("c{at}")).collect();
            script += &format!("  INSERT INTO seen{table} SELECT {} FROM t{table};\n", columns.join(", "));
            script += &format!("  INSERT INTO padding SELECT p FROM t{table} WHERE p = 'none';\n");
        }
        for (number, query) in self.queries.iter().enumerate() {
            script += &format!("  INSERT INTO out{number} {};\n", query.sql(&self.widths));
        }
        if let Some(query) = self.queries.first() {
            let sql = query.sql(&self.widths);
            script += &format!(
                "  INSERT INTO kept SELECT COALESCE(c0, -9), COUNT(*) FROM ({sql}) AS q GROUP BY COALESCE(c0, -9);\n"
            );
        }
        script += "END;\n";
        folder.write("q.sql", &script);
        ways::run(folder.path(), "q.sql", attempts, &[], &sinks).map_err(|failure| (failure, None))?;
        for (number, query) in self.queries.iter().enumerate() {
            let wrong = |what: String| (format!("{}\n  {what}", query.sql(&self.widths)), Some(number));
            let found = committed(&folder.path().join(format!("out{number}"))).and_then(applied).map_err(wrong)?;
            let expected = query.rows(&self.tables, &self.widths).unwrap_or_default();
            compare::difference(&shown(&expected), &found, Rules::default()).map_err(wrong)?;
            self.check_epochs(&folder, number).map_err(wrong)?;
            if number == 0 {
                check_kept(&folder, &shown(&expected)).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Holds what a query had told by each epoch against its answer over what its tables were then.
    fn check_epochs(&self, folder: &Folder, number: usize) -> Result<(), String> {
        // A table of new rows may be looked up in: then it is there as a whole from the first row on.
        let sql = self.queries[number].sql(&self.widths);
        let is_joined = ["JOIN", " IN (", "EXISTS", "INTERSECT", "EXCEPT"].iter().any(|word| sql.contains(word));
        if is_joined && self.changes.contains(&None) {
            return Ok(());
        }
        let told = committed_by_epoch(&folder.path().join(format!("out{number}")))?;
        let seen = (0..self.tables.len()).map(|table| committed_by_epoch(&folder.path().join(format!("seen{table}"))));
        let seen = seen.collect::<Result<Vec<_>, _>>()?;
        for (job, epochs) in told {
            // The last one is held against all that there is.
            for epoch in epochs.keys().rev().skip(1).take(EPOCHS_MAX) {
                let until = |epochs: &BTreeMap<u64, Vec<Row>>| {
                    applied(epochs.range(..=epoch).flat_map(|(_, rows)| rows.iter().cloned()).collect())
                };
                let tables = seen.iter().map(|seen| seen.get(&job).map_or_else(|| Ok(Vec::new()), until));
                let tables = tables.map(|rows| Ok(values(&rows?))).collect::<Result<Vec<_>, String>>()?;
                let Some(expected) = self.queries[number].rows(&tables, &self.widths) else { continue };
                compare::difference(&shown(&expected), &until(&epochs)?, Rules::default())
                    .map_err(|failure| format!("by epoch {epoch}: {failure}"))?;
                CHECKED.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The smallest case that still fails, of those that parts of the query and fewer rows make.
    fn shrunk(&self, query: &Tree) -> Option<String> {
        let straight = [Attempt { parallelism: 1, failpoint: None }];
        let mut runs = 0;
        let mut fails = |tables: &[Vec<Values>], query: &Tree| {
            runs += 1;
            let (tables, changes, widths) = (tables.to_vec(), self.changes.clone(), self.widths.clone());
            let (padding, queries) = (self.padding, vec![query.clone()]);
            let case = Case { tables, changes, padding, widths, queries };
            (runs <= SHRINK_RUNS).then(|| case.run("changes-small", &straight).err().map(|failure| failure.0)).flatten()
        };
        let (mut tables, mut query) = (self.tables.clone(), query.clone());
        let mut failure = fails(&tables, &query)?;
        while let Some((part, told)) =
            query.inputs().into_iter().find_map(|part| fails(&tables, part).map(|told| (part.clone(), told)))
        {
            (query, failure) = (part, told);
        }
        for table in 0..tables.len() {
            let mut size = tables[table].len().div_ceil(2);
            while size > 0 {
                let mut at = 0;
                while at < tables[table].len() {
                    let mut fewer = tables.clone();
                    fewer[table].drain(at..(at + size).min(tables[table].len()));
                    match fails(&fewer, &query) {
                        Some(told) => (tables, failure) = (fewer, told),
                        None => at += size,
                    }
                }
                size /= 2;
            }
        }
        let rows: Vec<String> = tables.iter().map(|rows| format!("{:?}", shown(rows))).collect();
        Some(format!("  smaller: {failure}\n  tables: {} (ways of changes: {:?})", rows.join(" | "), self.changes))
    }
}

fn csv(rows: &[Values], width: usize, padding: usize) -> String {
    let mut text = (0..width).map(|at| format!("c{at}")).collect::<Vec<_>>().join(",") + ",p\n";
    for row in shown(rows) {
        text += &row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join(",");
        text += &format!(",{}\n", "p".repeat(padding));
    }
    text
}

/// Changes that come to `rows`: some of them were others first, some there are no more, and all in any order.
fn records(rows: &[Values], width: usize, seed: u64, padding: usize) -> String {
    let mut rng = Rng::named(seed, "records");
    let other = |rng: &mut Rng| -> Values { (0..width).map(|_| (!rng.chance(10)).then(|| rng.range(-2, 8))).collect() };
    // What happens to each row, in this order.
    let mut lives: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let mut life = Vec::new();
        let mut before: Option<Values> = None;
        for _ in 0..rng.below(3) {
            let row = other(&mut rng);
            life.push(record(before.as_ref(), Some(&row), padding));
            before = Some(row);
        }
        life.push(record(before.as_ref(), Some(row), padding));
        lives.push(life);
    }
    for _ in 0..rng.below(20) {
        let row = other(&mut rng);
        lives.push(vec![record(None, Some(&row), padding), record(Some(&row), None, padding)]);
    }
    lives.iter_mut().for_each(|life| life.reverse());
    let mut text = String::new();
    while !lives.is_empty() {
        let at = usize::try_from(rng.below(lives.len() as u64)).unwrap();
        match lives[at].pop() {
            Some(record) => text += &record,
            None => drop(lives.swap_remove(at)),
        }
    }
    text
}

fn record(before: Option<&Values>, after: Option<&Values>, padding: usize) -> String {
    let row = |values: &Values| {
        let cell = |(at, value): (usize, &Option<i64>)| {
            format!("\"c{at}\": {}", value.map_or_else(|| "null".to_owned(), |value| value.to_string()))
        };
        let cells = values.iter().enumerate().map(cell).collect::<Vec<_>>().join(", ");
        format!("{{{cells}, \"p\": \"{}\"}}", "p".repeat(padding))
    };
    let op = match (before, after) {
        (None, _) => "c",
        (_, None) => "d",
        _ => "u",
    };
    let shown = |values: Option<&Values>| values.map_or_else(|| "null".to_owned(), row);
    format!("{{\"before\": {}, \"after\": {}, \"op\": \"{op}\"}}\n", shown(before), shown(after))
}

fn values(rows: &[Row]) -> Vec<Values> {
    let value = |cell: &Option<String>| cell.as_ref().map(|text| text.parse().unwrap());
    rows.iter().map(|row| row.iter().map(value).collect()).collect()
}

fn shown(rows: &[Values]) -> Vec<Row> {
    rows.iter().map(|row| row.iter().map(|value| value.map(|value| value.to_string())).collect()).collect()
}
