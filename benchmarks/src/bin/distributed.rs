//! `distributed [BINARY [ROUNDS]]`: one job whose rows all go through a shuffle, by `qanat run` in one process and by a
//! cluster of a coordinator and two executors, in turn: rows per processor second of all its processes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qanat_benchmarks::cluster::DevCluster;
use qanat_benchmarks::measure::{Folder, Pair, ended_processor_time, print, processor_time};
use qanat_storage::env::Env;
use serde_json::{Value, json};

const ROUNDS: usize = 5;
const ROWS: u64 = 20_000_000;
const PARALLELISM: &str = "4";
/// Rows per processor second of the cluster, of those of one process.
const AT_LEAST: f64 = 0.6;

fn main() -> ExitCode {
    print(measure())
}

fn measure() -> Result<Value> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().unwrap_or_else(|| "target/release/qanat".to_owned());
    let binary = PathBuf::from(&binary).canonicalize().context("find the binary")?;
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let env = Env::real();
    let folder = Folder::new(&env, &std::env::temp_dir())?;
    let cluster = DevCluster::start(&binary, folder.path(), 1, 2)?;
    let mut times = Vec::new();
    let mut walls = Vec::new();
    for round in 0..=rounds {
        let (clock, mut ran) = (env.clock.as_ref(), [Duration::ZERO; 4]);
        for side in [round % 2, (round + 1) % 2] {
            let name = format!("job_{round}_{side}");
            let script = script(folder.path(), &name)?;
            let begun = clock.monotonic();
            let used = if side == 0 {
                in_cluster(&cluster, &binary, folder.path(), &script)?
            } else {
                alone(&binary, folder.path(), &script)?
            };
            if let Some([wall, processor]) = ran.get_mut(side * 2..side * 2 + 2) {
                (*wall, *processor) = (clock.monotonic().saturating_sub(begun), used);
            }
        }
        if round > 0 {
            times.push((ran[1], ran[3]));
            walls.push((ran[0], ran[2]));
        }
    }
    let processor = Pair::of(&times);
    let mut report = processor.report("rows per CPU second", ROWS as f64);
    report["ratio_at_least"] = json!(AT_LEAST);
    report["holds"] = json!(processor.ratio() >= AT_LEAST);
    report["wall"] = Pair::of(&walls).report("rows/s", ROWS as f64);
    Ok(report)
}

/// Windows of 100,000 rows with a million possible keys: hardly two rows of a window have one, so that what is
/// aggregated before the shuffle is as many rows as came.
fn script(folder: &Path, name: &str) -> Result<PathBuf> {
    let sql = format!(
        "CREATE TABLE numbers (id BIGINT, k BIGINT, ts AS TO_TIMESTAMP_LTZ(id / 100, 3), WATERMARK FOR ts AS ts) WITH (
  'connector' = 'datagen', 'number-of-rows' = '{ROWS}', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
  'fields.id.end' = '{}', 'fields.k.min' = '0', 'fields.k.max' = '999999');
CREATE TABLE o (k BIGINT, n BIGINT, s BIGINT, w TIMESTAMP(3)) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT k, COUNT(*), SUM(id), window_end FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, k;
",
        ROWS - 1
    );
    let path = folder.join(format!("{name}.sql"));
    std::fs::write(&path, sql).context("write the script")?;
    Ok(path)
}

/// Runs a command to its end; what it used of the processors.
fn ended(command: &mut Command) -> Result<Duration> {
    let before = ended_processor_time()?;
    let output = command.stdin(Stdio::null()).output().context("start the binary")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(ended_processor_time()?.saturating_sub(before))
}

fn alone(binary: &Path, folder: &Path, script: &Path) -> Result<Duration> {
    let mut command = Command::new(binary);
    command.args(["run", "-o", "json", "--parallelism", PARALLELISM, "--data"]).arg(folder.join("data")).arg(script);
    ended(&mut command)
}

/// What all processes of a cluster have used of the processors.
fn used(cluster: &DevCluster) -> Result<Duration> {
    Ok(cluster.processes.iter().map(|process| processor_time(process.pid())).sum::<qanat_proto::Result<_>>()?)
}

fn in_cluster(cluster: &DevCluster, binary: &Path, folder: &Path, script: &Path) -> Result<Duration> {
    let before = used(cluster)?;
    let mut command = Command::new(binary);
    command.current_dir(folder).args(["submit", "-o", "json", "--wait", "--parallelism", PARALLELISM]);
    command.args(["--cluster", &cluster.addresses.join(",")]).arg(script);
    let client = ended(&mut command)?;
    Ok(used(cluster)?.saturating_sub(before) + client)
}
