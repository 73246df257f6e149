//! `spill`: jobs whose state is ten times their memory, against the same jobs with memory enough.
//!
//! Whole jobs, as a user runs them, over the same file; their answers must be equal. A join of two tables of new rows keeps
//! all of them: 90 in 100 of its probes ask for the newest tenth of the keys (`hot`), or all keys are asked for alike
//! (`uniform`). `COUNT(DISTINCT)` keeps every value.
//! `cargo run --release -p qanat-benchmarks --bin spill -- target/release/qanat [events [job.memory]]`

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use qanat_benchmarks::measure::{Folder, print, processor_time};
use qanat_storage::env::{Clock, Env};
use serde_json::{Value, json};

const ROUNDS: usize = 3;
/// With these the state of the join is ten times the budget.
const EVENTS: u64 = 4_000_000;
const BUDGET: &str = "64 mb";
const ENOUGH: &str = "16 gb";

const JOIN: &str = "INSERT INTO o SELECT COUNT(*), SUM(l.v * 3 + r.v), MAX(r.pad)
FROM (SELECT * FROM events WHERE side = 1) l JOIN (SELECT * FROM events WHERE side = 0) r ON l.k = r.k;";
const DISTINCT: &str = "INSERT INTO o SELECT COUNT(*), COUNT(DISTINCT pad), MAX(pad) FROM events;";
/// Keeps nothing worth mentioning: what a process takes by itself.
const NOTHING: &str = "INSERT INTO o SELECT COUNT(*), SUM(v), MAX(pad) FROM events;";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let binary = PathBuf::from(arguments.next().unwrap_or_else(|| "target/release/qanat".to_owned()));
    let events = arguments.next().map_or(Ok(EVENTS), |events| events.parse());
    let budget = arguments.next().unwrap_or_else(|| BUDGET.to_owned());
    let report = events.map_err(|e| format!("events: {e}")).and_then(|events| measure(&binary, events, &budget));
    print(report)
}

fn measure(binary: &Path, events: u64, budget: &str) -> Result<Value, String> {
    let env = Env::real();
    let folder = Folder::new(&env, Path::new("target")).map_err(|e| e.to_string())?;
    let mut report = serde_json::Map::new();
    let text = |e: std::io::Error| e.to_string();
    for (case, hot, query, limit) in
        [("join, hot", 90, JOIN, 0.2), ("join, uniform", 0, JOIN, 0.05), ("distinct", 0, DISTINCT, 0.2)]
    {
        let input = folder.path().join("events.csv");
        generate(&input, events, hot).map_err(text)?;
        let run = |query: &str, memory: &str| run(env.clock.as_ref(), binary, folder.path(), query, memory);
        let own = run(NOTHING, budget)?.peak;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (spilling, other) = (run(query, budget)?, run(query, ENOUGH)?);
            if spilling.answer != other.answer {
                return Err(format!("{case}: {} with too little memory, {}", spilling.answer, other.answer));
            }
            rounds.push((spilling, other));
        }
        let ratio = |of: fn(&Run) -> f64| median(rounds.iter().map(|(ours, other)| of(other) / of(ours)));
        let mega = |bytes: u64| bytes / 1_000_000;
        let most = |of: fn(&(Run, Run)) -> u64| rounds.iter().map(of).max().unwrap_or_default();
        let seconds = |of: fn(&(Run, Run)) -> &Run| median(rounds.iter().map(|round| of(round).wall.as_secs_f64()));
        report.insert(
            case.to_owned(),
            json!({
                "events": events,
                "budget": budget,
                "krows_per_s": events as f64 / seconds(|round| &round.0) / 1e3,
                "krows_per_s_in_memory": events as f64 / seconds(|round| &round.1) / 1e3,
                "of_the_speed_in_memory": ratio(|run| run.wall.as_secs_f64()),
                "of_the_rows_per_cpu_second": ratio(|run| run.processor.as_secs_f64()),
                "at_least": limit,
                "peak_mb": mega(most(|round| round.0.peak)),
                "peak_mb_in_memory": mega(most(|round| round.1.peak)),
                "peak_mb_of_a_process_without_state": mega(own),
            }),
        );
    }
    Ok(Value::Object(report))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Every other row makes a key; the others ask for one that is there: one of the newest tenth, `hot` in 100 times.
fn generate(path: &Path, events: u64, hot: u64) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let mut random = 42_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below.max(1)
    };
    writeln!(file, "i,side,k,v,pad")?;
    let mut line = String::new();
    for i in 0..events {
        let newest = i / 2;
        let key = match (i % 2, draw(100) < hot) {
            (0, _) => newest,
            (_, true) => newest - draw(newest / 10),
            (_, false) => draw(newest + 1),
        };
        line.clear();
        let scattered = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let written = writeln!(
            line,
            "{i},{},{key},{},{scattered:016x}{:016x}{:032x}",
            i % 2,
            i * 7_919 % 1_000_003,
            scattered.rotate_left(17),
            u128::from(scattered) * u128::from(scattered | 1),
        );
        written.map_err(std::io::Error::other)?;
        file.write_all(line.as_bytes())?;
    }
    file.flush()
}

/// What a run took, and its last answer.
struct Run {
    wall: Duration,
    processor: Duration,
    /// Bytes of memory, without the page cache.
    peak: u64,
    answer: String,
}

fn run(clock: &dyn Clock, binary: &Path, folder: &Path, query: &str, memory: &str) -> Result<Run, String> {
    let text = |e: std::io::Error| format!("{}: {e}", binary.display());
    let data = folder.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).map_err(text)?;
    }
    let script = folder.join("spill.sql");
    // The two sides read one file and stay side by side.
    let sql = format!(
        "CREATE TABLE events (i BIGINT, side BIGINT, k BIGINT, v BIGINT, pad STRING, ts AS TO_TIMESTAMP_LTZ(i, 3),
  WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
CREATE TABLE o (n BIGINT, s BIGINT, pad STRING) WITH ('connector' = 'print');
{query}
",
        folder.join("events.csv").display(),
    );
    std::fs::write(&script, sql).map_err(text)?;
    let begin = clock.monotonic();
    let mut child = Command::new(binary)
        .args(["run", "--parallelism", "1", "--set"])
        .arg(format!("job.memory={memory}"))
        .arg("--data")
        .arg(&data)
        .arg(&script)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let process = child.id();
    // What it says is read beside, so that it never waits for that.
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut said).map(|_| said)
    });
    let (mut peak, mut processor) = (0, Duration::ZERO);
    while child.try_wait().map_err(text)?.is_none() {
        peak = peak.max(high_water(process));
        processor = processor.max(processor_time(process).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    }
    let wall = clock.monotonic().saturating_sub(begin);
    let said = said.join().map_err(|_| "a reader panicked")?.map_err(text)?;
    let answer = said.lines().rfind(|line| line.starts_with('+')).unwrap_or_default().replacen("+I", "+U", 1);
    if !said.contains("FINISHED") {
        return Err(format!("it did not finish: {said}"));
    }
    Ok(Run { wall, processor, peak, answer })
}

/// The most memory that a process held so far; 0 if it is gone.
fn high_water(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1_024
}
