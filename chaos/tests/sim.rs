//! Level S: whole clusters in simulated time, by the dozen, and the same again for the same seed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qanat_chaos::live::binary;
use serde_json::Value;

const SCRIPTS: [&str; 5] = ["rows", "windows", "joins", "changes", "tables"];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(format!("{name}.sql"))
}

/// What `qanat sim` says, and whether its exit status is 0.
fn sim(arguments: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(binary::locate(None)?).args(["-o", "json", "sim"]).args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(!text.is_empty(), "it says nothing: {}", String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

fn passes(name: &str, first: u64, seeds: u64) -> Result<Value> {
    let path = script(name);
    let path = path.to_str().context("a path")?;
    // The planner cannot know that a window has no two rows that are equal in their order.
    let (is_pass, text) = sim(&[path, "--seed", &first.to_string(), "--seeds", &seeds.to_string(), "--deterministic"])?;
    let report: Value = serde_json::from_str(&text)?;
    ensure!(is_pass && report["verdict"] == "pass", "{name}: {text}");
    ensure!(report["unproved"].as_array().is_some_and(Vec::is_empty), "{text}");
    ensure!(report["seeds"] == seeds && report["reconciled"].as_u64() > Some(0), "{text}");
    Ok(report)
}

#[test]
fn fifty_clusters_lose_and_double_nothing() -> Result<()> {
    let mut kinds = std::collections::BTreeSet::new();
    for (name, first, seeds) in
        [("rows", 1, 13), ("windows", 101, 10), ("joins", 201, 9), ("changes", 301, 9), ("tables", 401, 9)]
    {
        let report = passes(name, first, seeds)?;
        let faults = report["faults"].as_object().context("faults")?;
        kinds.extend(faults.keys().cloned());
    }
    ensure!(kinds.len() >= 17, "only {kinds:?} came about");
    Ok(())
}

/// A seed that gives two traces proves nothing, and no failure of it can be looked into.
#[test]
fn the_same_seed_does_the_same_again() -> Result<()> {
    for (name, seed) in SCRIPTS.into_iter().zip(["3", "104", "209", "302", "403"]) {
        let path = script(name);
        let path = path.to_str().context("a path")?;
        let [first, second] = [(); 2].map(|()| sim(&[path, "--seed", seed, "--trace"]));
        let (first, second) = (first?.1, second?.1);
        ensure!(first.lines().count() > 50, "{name}: {first}");
        let differs = first.lines().zip(second.lines()).find(|(first, second)| first != second);
        ensure!(differs.is_none() && first.len() == second.len(), "{name}, seed {seed}: {differs:?}");
    }
    Ok(())
}

/// Seeds that failed once, for ever.
#[test]
fn seeds_that_failed_once_pass() -> Result<()> {
    let list = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/sim.txt"))?;
    for line in list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').context("SCRIPT SEED [FAULTS]")?;
        let path = script(name);
        let mut arguments = vec![path.to_str().context("a path")?, "--deterministic", "--seeds", "1", "--seed"];
        arguments.extend(rest.split_whitespace());
        let (is_pass, text) = sim(&arguments)?;
        ensure!(is_pass, "{line}: {text}");
    }
    Ok(())
}

#[test]
fn what_never_came_about_is_no_pass() -> Result<()> {
    let path = script("rows");
    let path = path.to_str().context("a path")?;
    let (is_pass, text) = sim(&[path, "--seeds", "1", "--faults", "none"])?;
    ensure!(is_pass, "{text}");
    // A small campaign has not every kind that there is.
    let (is_pass, text) = sim(&[path, "--seed", "3", "--seeds", "1", "--faults", "disk-lost,kill-executor"])?;
    let report: Value = serde_json::from_str(&text)?;
    ensure!(!is_pass && report["verdict"] == "unknown" && report["faults_missing"][0] == "disk-lost", "{text}");
    let folder = std::env::temp_dir().join(format!("qanat-sim-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let empty = folder.join("empty.sql");
    let text = std::fs::read_to_string(path)?.replace("WHERE amount > 300", "WHERE amount > 3000");
    std::fs::write(&empty, text.replace("WHERE amount <= 300", "WHERE amount > 3000"))?;
    let (is_pass, text) = sim(&[empty.to_str().context("a path")?, "--seeds", "1"])?;
    std::fs::remove_dir_all(&folder)?;
    ensure!(!is_pass && text.contains("\"verdict\":\"unknown\""), "no row was compared: {text}");
    Ok(())
}
