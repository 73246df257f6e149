//! The cases of `tests/slt`, each run four ways.
//!
//! `QANAT_CASE=text` runs only cases whose name has the text in it; `QANAT_SEED=n` chooses other kills.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::case::{Case, Refusal};
use crate::compare;
use crate::folder::Folder;
use crate::process::{Invocation, Outcome};
use crate::rng::Rng;
use crate::sink;
use crate::ways::{self, WAYS, Way};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")
}

pub(crate) fn seed() -> u64 {
    std::env::var("QANAT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn cases() -> Result<Vec<Case>, String> {
    let mut paths = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| e.to_string())?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let wanted = std::env::var("QANAT_CASE").unwrap_or_default();
    let mut cases = Vec::new();
    for path in paths {
        let case = Case::read(&root(), &path)?;
        if case.name.contains(&wanted) {
            cases.push(case);
        }
    }
    Ok(cases)
}

#[test]
fn every_case_four_ways() {
    let cases = cases().unwrap();
    assert!(!cases.is_empty(), "no case fits QANAT_CASE");
    let mut work = Vec::new();
    for case in &cases {
        match &case.error {
            Some(refusal) => work.push((case, Way::Straight, Some(refusal))),
            None => WAYS.iter().for_each(|way| work.push((case, *way, None))),
        }
    }
    let failures = in_parallel(&work, |(case, way, refusal)| match refusal {
        Some(refusal) => refused(case, refusal),
        None => answered(case, *way),
    });
    assert!(failures.is_empty(), "{} of {} runs failed:\n{}", failures.len(), work.len(), failures.join("\n"));
}

/// Runs `check` over all items on a few threads (they wait for processes most of the time) and gives
/// the failures.
pub(crate) fn in_parallel<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = check(item) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    failures
}

fn prepare(case: &Case, way: &str) -> Result<Folder, String> {
    let folder = Folder::new(&format!("{}-{way}", case.name));
    for (name, lines) in &case.inputs {
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        let bytes = if name.ends_with(".gz") {
            use std::io::Write;
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).map_err(|e| e.to_string())?;
            encoder.finish().map_err(|e| e.to_string())?
        } else {
            text.into_bytes()
        };
        folder.write(name, bytes);
    }
    for (index, script) in case.scripts.iter().enumerate() {
        folder.write(&format!("step{index}.sql"), script);
    }
    Ok(folder)
}

fn answered(case: &Case, way: Way) -> Result<(), String> {
    let mut folder = prepare(case, &format!("{way:?}"))?;
    let mut rng = Rng::named(seed(), &format!("{} {way:?}", case.name));
    let mut told = Vec::new();
    let mut check = || -> Result<(), String> {
        let sinks: Vec<String> = case.expected.iter().map(|(sink, _)| sink.clone()).collect();
        let (mut late, mut dead) = (0, 0);
        let mut late_rows = Vec::new();
        for index in 0..case.scripts.len() {
            let mut attempts = way.attempts(&mut rng, case.parallelism);
            if case.late.is_some_and(|late| late > 0) {
                // Which rows are late depends on how splits are spread over subtasks.
                attempts.iter_mut().for_each(|attempt| attempt.parallelism = case.parallelism);
            }
            told.push(format!("{attempts:?}"));
            let receipt = ways::run(folder.path(), &format!("step{index}.sql"), &attempts, &case.settings, &sinks)?;
            late += total(&receipt, "late");
            late_rows.extend(listed(&folder, &format!("step{index}"), total(&receipt, "late"))?);
            dead += total(&receipt, "dead_lettered");
        }
        for (sink, expected) in &case.expected {
            let mut rows = sink::committed(&folder.path().join(sink))?;
            if case.changes.contains(sink) {
                rows = sink::applied(rows).map_err(|e| format!("`{sink}`: {e}"))?;
            }
            compare::difference(expected, &rows, case.rules).map_err(|e| format!("`{sink}`: {e}"))?;
        }
        count("late rows", case.late.unwrap_or(0), late)?;
        compare_late(&case.late_rows, late_rows)?;
        count("dead letters", case.dead_letters.unwrap_or(0), dead)
    };
    check().map_err(|failure| {
        folder.keep();
        format!(
            "{} {way:?}: {failure}\n  ran: {}\n  folder: {}\n  again: QANAT_SEED={} QANAT_CASE={} cargo test --test it slt",
            case.name,
            told.join("; "),
            folder.path().display(),
            seed(),
            case.name,
        )
    })
}

/// The rows in the late table of a job that counted `late` of them.
fn listed(folder: &Folder, job: &str, late: u64) -> Result<Vec<Value>, String> {
    if late == 0 {
        return Ok(Vec::new());
    }
    let listed = Invocation::new(folder.path(), ["-o", "json", "late", "list", job, "--data", "data"]).run()?.json()?;
    Ok(listed.as_array().into_iter().flatten().map(|line| line["row"].clone()).collect())
}

/// Each expected row is one of the late rows, in the columns that it names.
fn compare_late(expected: &[Value], mut found: Vec<Value>) -> Result<(), String> {
    for row in expected {
        let columns = row.as_object().ok_or_else(|| format!("a late row is an object, not {row}"))?;
        let fits = |late: &Value| columns.iter().all(|(name, value)| late.get(name) == Some(value));
        match found.iter().position(fits) {
            Some(place) => found.swap_remove(place),
            None => return Err(format!("{row} is not among the late rows {found:?}")),
        };
    }
    Ok(())
}

/// A total of a receipt; a script of several jobs has a receipt for each.
pub(crate) fn total(receipt: &Value, key: &str) -> u64 {
    match receipt["jobs"].as_array() {
        Some(jobs) => jobs.iter().map(|job| total(job, key)).sum(),
        None => receipt[key].as_u64().unwrap_or(0),
    }
}

fn count(what: &str, expected: u64, found: u64) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: {expected} expected, {found} counted")) }
}

/// All scripts but the last run; the last is refused as the case says, and nothing is written.
fn refused(case: &Case, refusal: &Refusal) -> Result<(), String> {
    let mut folder = prepare(case, "refused")?;
    let check = || -> Result<(), String> {
        let last = case.scripts.len() - 1;
        for index in 0..last {
            let attempts = Way::Straight.attempts(&mut Rng::new(0), 1);
            ways::run(folder.path(), &format!("step{index}.sql"), &attempts, &case.settings, &[])?;
        }
        let script = format!("step{last}.sql");
        let outcome = Invocation::job(folder.path(), &script, case.parallelism, &case.settings).run()?;
        compare_refusal(refusal, &outcome)?;
        for (sink, expected) in &case.expected {
            let rows = sink::committed(&folder.path().join(sink))?;
            compare::difference(expected, &rows, case.rules).map_err(|e| format!("`{sink}`: {e}"))?;
        }
        Ok(())
    };
    check().map_err(|failure| {
        folder.keep();
        let again = format!("QANAT_CASE={} cargo test --test it slt", case.name);
        format!("{}: {failure}\n  folder: {}\n  again: {again}", case.name, folder.path().display())
    })
}

fn compare_refusal(refusal: &Refusal, outcome: &Outcome) -> Result<(), String> {
    let describe = || outcome.describe();
    if outcome.code != Some(1) {
        return Err(format!("exit status 1 expected: {}", describe()));
    }
    let error = outcome.error().ok_or_else(|| format!("no error: {}", describe()))?;
    let place = match &error["place"] {
        Value::Null => None,
        place if place["sql"].is_object() => Some(format!("{}:{}", place["sql"]["line"], place["sql"]["column"])),
        place if place["named"].is_string() => place["named"].as_str().map(str::to_owned),
        place => place["origin"]["origin"].as_str().map(str::to_owned),
    };
    let has = |key: &str, part: &String| error[key].as_str().is_some_and(|text| text.contains(part.as_str()));
    let fits = error["code"].as_str() == Some(&refusal.code)
        && (refusal.place.is_none() || refusal.place == place)
        && refusal.hints.iter().all(|hint| has("hint", hint))
        && refusal.messages.iter().all(|message| has("message", message));
    if fits { Ok(()) } else { Err(format!("{refusal:?} expected, got place {place:?} in {error}")) }
}
