//! The queries of the Nexmark benchmark against what another engine answers in one go over all events
//! (`benchmarks/nexmark/oracle.py`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::compare::Row;
use crate::folder::Folder;
use crate::process::Invocation;
use crate::sink::{applied, committed};
use crate::slt::in_parallel;

#[test]
fn every_query_gives_the_answer_of_a_batch() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks/nexmark");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(home.join("golden.json")).unwrap()).unwrap();
    let answers: Vec<(&String, &Value)> = golden["answers"].as_object().unwrap().iter().collect();
    assert_eq!(answers.len(), 23);
    let failures = in_parallel(&answers, |(name, answer)| {
        check(&home, name, answer, golden["source"].as_str().unwrap()).map_err(|why| format!("{name}: {why}"))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(home: &Path, name: &str, answer: &Value, source: &str) -> Result<(), String> {
    let mut folder = Folder::new(&format!("nexmark_{name}"));
    let read = |path: &str| std::fs::read_to_string(home.join(path)).map_err(|e| format!("{path}: {e}"));
    folder.write("script.sql", read("tables.sql")? + &read(&format!("queries/{name}.sql"))?);
    folder.write("side_input.txt", (0..10_000).map(|key| format!("{key},value {key}\n")).collect::<String>());
    let sink = format!("'connector' = 'filesystem', 'path' = '{name}', 'format' = 'csv', 'sink.changelog' = 'log'");
    let variables = [("SOURCE", source), ("SINK", &sink), ("DIR", folder.path().to_str().unwrap())];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let outcome = Invocation::job(folder.path(), "script.sql", 2, &variables).run()?;
    if outcome.code != Some(0) {
        return Err(outcome.describe());
    }
    let rows = committed(&folder.path().join(name))?;
    // The files of q10 are its own, of rows that are final.
    let rows = if name == "q10" { rows } else { applied(rows)? };
    let (count, digest) = digest(what_no_tie_decides(name, rows));
    if answer["rows"] != count || answer["sha256"] != digest {
        folder.keep();
        return Err(format!("{count} rows ({digest}), and {} ({}) in a batch", answer["rows"], answer["sha256"]));
    }
    Ok(())
}

/// The columns that are compared.
fn what_no_tie_decides(name: &str, rows: Vec<Row>) -> Vec<Row> {
    let kept: &[usize] = match name {
        "q9" => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13],
        "q18" => &[0, 1, 5],
        "q19" => &[0, 2, 7],
        "q12" => {
            let mut bids: BTreeMap<String, u64> = BTreeMap::new();
            for row in rows {
                let cell = |at: usize| row[at].clone().unwrap_or_default();
                *bids.entry(cell(0)).or_default() += cell(1).parse::<u64>().unwrap();
            }
            return bids.into_iter().map(|(bidder, bids)| vec![Some(bidder), Some(bids.to_string())]).collect();
        }
        _ => return rows,
    };
    rows.into_iter().map(|row| kept.iter().map(|at| row[*at].clone()).collect()).collect()
}

/// Number of rows, and SHA-256 of them in their order.
fn digest(rows: Vec<Row>) -> (u64, String) {
    let cells = |row: Row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "\\N".to_owned())).collect::<Vec<_>>();
    let mut lines: Vec<String> = rows.into_iter().map(|row| cells(row).join("\x1f") + "\n").collect();
    lines.sort_unstable();
    let mut hash = Sha256::new();
    lines.iter().for_each(|line| hash.update(line));
    let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    (lines.len() as u64, digest)
}
