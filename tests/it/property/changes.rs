//! Random trees of aggregations, joins, first rows and sets over each other, against the same evaluated row by row.
//!
//! Their tables are files of rows, or of changes that come to the rows by ways of their own.

use super::tree::{Tree, Values};
use crate::compare::{self, Row, Rules};
use crate::folder::Folder;
use crate::rng::Rng;
use crate::sink::{applied, committed};
use crate::slt::in_parallel;
use crate::ways::{self, Attempt, Way};

const QUERIES: usize = 8;
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
}

/// Some queries over the same tables, in one script.
struct Case {
    tables: Vec<Vec<Values>>,
    /// Of each table that tells of changes, the seed of its ways.
    changes: Vec<Option<u64>>,
    widths: Vec<usize>,
    queries: Vec<Tree>,
}

fn group(seed: u64) -> Result<(), String> {
    let mut rng = Rng::named(seed, "changes");
    let widths: Vec<usize> = (0..2).map(|_| usize::try_from(rng.range(2, 4)).unwrap()).collect();
    let tables = widths.iter().map(|width| table(&mut rng, *width)).collect::<Vec<_>>();
    let changes = tables.iter().map(|_| rng.chance(50).then(|| rng.below(1 << 30))).collect();
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
    let case = Case { tables, changes, widths, queries };
    case.run(&format!("changes-{seed}"), &attempts).map_err(|(failure, query)| {
        let small = query.and_then(|query| case.shrunk(&case.queries[query]));
        format!(
            "seed {seed} ({way:?} {attempts:?}): {failure}\n  again: QANAT_PROPERTY_SEED={seed} \
             QANAT_PROPERTY_TREES={QUERIES} cargo test --test it random_trees\n{}",
            small.unwrap_or_else(|| "  straight it does not fail alone".to_owned())
        )
    })
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
        let mut script = String::new();
        for (table, (rows, width)) in self.tables.iter().zip(&self.widths).enumerate() {
            let columns: Vec<String> = (0..*width).map(|at| format!("c{at} BIGINT")).collect();
            let (options, text) = match self.changes[table] {
                Some(seed) => ("'format' = 'debezium-json'", records(rows, *width, seed)),
                None => ("'format' = 'csv', 'csv.null-literal' = 'NULL'", csv(rows, *width)),
            };
            script += &format!(
                "CREATE TABLE t{table} ({}) WITH ('connector' = 'filesystem', 'path' = 't{table}.txt', {options});\n",
                columns.join(", ")
            );
            folder.write(&format!("t{table}.txt"), text);
        }
        let mut sinks = Vec::new();
        for (number, query) in self.queries.iter().enumerate() {
            let columns: Vec<String> = (0..query.width(&self.widths)).map(|at| format!("c{at} BIGINT")).collect();
            script += &format!(
                "CREATE TABLE out{number} ({}) WITH ('connector' = 'filesystem', 'path' = 'out{number}', \
                 'format' = 'csv', 'csv.null-literal' = 'NULL', 'sink.changelog' = 'log');\n",
                columns.join(", ")
            );
            sinks.push(format!("out{number}"));
        }
        script += "EXECUTE STATEMENT SET BEGIN\n";
        for (number, query) in self.queries.iter().enumerate() {
            script += &format!("  INSERT INTO out{number} {};\n", query.sql(&self.widths));
        }
        script += "END;\n";
        folder.write("q.sql", &script);
        ways::run(folder.path(), "q.sql", attempts, &[], &sinks).map_err(|failure| (failure, None))?;
        for (number, query) in self.queries.iter().enumerate() {
            let wrong = |what: String| (format!("{}\n  {what}", query.sql(&self.widths)), Some(number));
            let found = committed(&folder.path().join(format!("out{number}"))).and_then(applied).map_err(wrong)?;
            let expected = query.rows(&self.tables, &self.widths).unwrap_or_default();
            compare::difference(&shown(&expected), &found, Rules::default()).map_err(wrong)?;
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
            let case = Case { tables, changes, widths, queries: vec![query.clone()] };
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
        let rows: Vec<String> =
            tables.iter().zip(&self.widths).map(|(rows, width)| csv(rows, *width).replace('\n', "; ")).collect();
        Some(format!("  smaller: {failure}\n  tables: {} (ways of changes: {:?})", rows.join(" | "), self.changes))
    }
}

fn csv(rows: &[Values], width: usize) -> String {
    let mut text = (0..width).map(|at| format!("c{at}")).collect::<Vec<_>>().join(",") + "\n";
    for row in shown(rows) {
        text += &row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join(",");
        text.push('\n');
    }
    text
}

/// Changes that come to `rows`: some of them were others first, some there are no more, and all in any order.
fn records(rows: &[Values], width: usize, seed: u64) -> String {
    let mut rng = Rng::named(seed, "records");
    let other = |rng: &mut Rng| -> Values { (0..width).map(|_| (!rng.chance(10)).then(|| rng.range(-2, 8))).collect() };
    // What happens to each row, in this order.
    let mut lives: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let mut life = Vec::new();
        let mut before: Option<Values> = None;
        for _ in 0..rng.below(3) {
            let row = other(&mut rng);
            life.push(record(before.as_ref(), Some(&row)));
            before = Some(row);
        }
        life.push(record(before.as_ref(), Some(row)));
        lives.push(life);
    }
    for _ in 0..rng.below(20) {
        let row = other(&mut rng);
        lives.push(vec![record(None, Some(&row)), record(Some(&row), None)]);
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

fn record(before: Option<&Values>, after: Option<&Values>) -> String {
    let row = |values: &Values| {
        let cell = |(at, value): (usize, &Option<i64>)| {
            format!("\"c{at}\": {}", value.map_or_else(|| "null".to_owned(), |value| value.to_string()))
        };
        format!("{{{}}}", values.iter().enumerate().map(cell).collect::<Vec<_>>().join(", "))
    };
    let op = match (before, after) {
        (None, _) => "c",
        (_, None) => "d",
        _ => "u",
    };
    let shown = |values: Option<&Values>| values.map_or_else(|| "null".to_owned(), row);
    format!("{{\"before\": {}, \"after\": {}, \"op\": \"{op}\"}}\n", shown(before), shown(after))
}

fn shown(rows: &[Values]) -> Vec<Row> {
    rows.iter().map(|row| row.iter().map(|value| value.map(|value| value.to_string())).collect()).collect()
}
