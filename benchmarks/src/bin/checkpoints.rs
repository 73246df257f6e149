//! `checkpoints`: what a checkpoint each second costs the tumbling job, against one checkpoint at the end.
//!
//! Whole jobs, as a user runs them: the binary reads generated rows, aggregates them and drops the answer.
//! `cargo run --release -p qanat-benchmarks --bin checkpoints -- target/release/qanat`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use qanat_benchmarks::measure::{Pair, pair};
use qanat_storage::env::Env;
use serde_json::{Value, json};

const ROUNDS: usize = 11;
/// Keys, and rows of a run: so many that one takes several seconds, and with them several checkpoints.
const RUNS: [(u64, u64); 2] = [(10_000, 100_000_000), (1_000_000, 60_000_000)];

fn main() -> ExitCode {
    let binary = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/release/qanat"), PathBuf::from);
    match measure(&binary) {
        Ok(report) => {
            let _ = writeln!(std::io::stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(binary: &Path) -> Result<Value, String> {
    let clock = Env::real().clock;
    let folder = std::env::temp_dir().join(format!("qanat-checkpoints-{}", std::process::id()));
    let mut report = serde_json::Map::new();
    for (keys, rows) in RUNS {
        let mut epochs = (0, 0);
        let mut failed = None;
        let mut go = |interval: &str, epochs: &mut u64| match run(binary, &folder, keys, rows, interval) {
            Ok(count) => *epochs = count,
            Err(error) => failed = Some(error),
        };
        let go = std::cell::RefCell::new(&mut go);
        let times = pair(
            clock.as_ref(),
            ROUNDS,
            || (go.borrow_mut())("1 s", &mut epochs.0),
            || (go.borrow_mut())("1 h", &mut epochs.1),
        );
        if let Some(error) = failed {
            return Err(error);
        }
        report.insert(format!("{keys} keys"), line(rows, times, epochs));
    }
    let _ = std::fs::remove_dir_all(&folder);
    Ok(Value::Object(report))
}

fn line(rows: u64, times: Pair, (each_second, at_the_end): (u64, u64)) -> Value {
    let millions = |time: Duration| rows as f64 / time.as_secs_f64() / 1e6;
    json!({
        "mrows_per_s_with_a_checkpoint_each_second": millions(times.ours),
        "mrows_per_s_with_one_at_the_end": millions(times.limit),
        "checkpoints": each_second,
        "checkpoints_of_the_other": at_the_end,
        "cost": 1.0 - times.ratio(),
        "quartiles_of_the_cost": [1.0 - times.ratios[2], 1.0 - times.ratios[0]],
    })
}

/// Runs the job to its end, from nothing; returns the number of its epochs.
fn run(binary: &Path, folder: &Path, keys: u64, rows: u64, interval: &str) -> Result<u64, String> {
    let text = |e: std::io::Error| format!("{}: {e}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(text)?;
    }
    std::fs::create_dir_all(folder).map_err(text)?;
    let script = folder.join("tumble.sql");
    // One window a second of event time at a million rows a second: as many open groups as keys.
    let sql = format!(
        "CREATE TABLE numbers (id BIGINT, k BIGINT, ts AS TO_TIMESTAMP_LTZ(id / 1000, 3), WATERMARK FOR ts AS ts) WITH (
  'connector' = 'datagen', 'number-of-rows' = '{rows}', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
  'fields.id.end' = '{}', 'fields.k.min' = '0', 'fields.k.max' = '{}');
CREATE TABLE o (k BIGINT, n BIGINT, s BIGINT, w TIMESTAMP(3)) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT k, COUNT(*), SUM(id), window_end FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, k;
",
        rows - 1,
        keys - 1,
    );
    std::fs::write(&script, sql).map_err(text)?;
    let output = Command::new(binary)
        .args(["run", "-o", "json", "--parallelism", "1", "--set"])
        .arg(format!("execution.checkpointing.interval={interval}"))
        .arg("--data")
        .arg(folder.join("data"))
        .arg(&script)
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| format!("{}: {e}", binary.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let receipt: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("no receipt: {e}"))?;
    epochs(&receipt).ok_or_else(|| format!("no epochs in the receipt {receipt}"))
}

/// The receipt's number of epochs, wherever the script's only job stands in it.
fn epochs(receipt: &Value) -> Option<u64> {
    match receipt {
        Value::Object(fields) => {
            fields.get("epochs").and_then(Value::as_u64).or_else(|| fields.values().find_map(epochs))
        }
        Value::Array(items) => items.iter().find_map(epochs),
        _ => None,
    }
}
