//! `exchange [ROUNDS [CASE]]`: rows from one process to another over loopback, through the engine's exchange and
//! through bare Arrow Flight, in turn. CASE is a part of the names of those to run.

use std::process::ExitCode;

use qanat_benchmarks::exchange::{Contestant, Load, RECEIVER, Run, SENDER, Side, batches, receive, send};
use qanat_benchmarks::measure::{Pair, print};
use qanat_executor::memory::batch_bytes;
use qanat_proto::{Result, limits};
use qanat_storage::env::Env;
use serde_json::{Map, Value, json};

const ROUNDS: usize = 7;
/// Different batches, and how many are sent in a round: some 1.6 GB.
const DIFFERENT: usize = 32;
const SENT: usize = 2_000;
/// What must hold: speed of the exchange alone, processor time with a shuffle, and rows of a batch behind one.
const SPEED_AT_LEAST: f64 = 0.8;
const PROCESSOR_AT_MOST: f64 = 1.5;
const ROWS_AT_LEAST: f64 = 4_096.0;
const CASES: [(&str, Load); 3] =
    [("forward", Load::Forward), ("shuffle to 4", Load::Shuffle(4)), ("shuffle to 16", Load::Shuffle(16))];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(RECEIVER) => print_nothing(receive()),
        Some(SENDER) => print_nothing(send(&Env::real(), DIFFERENT, SENT)),
        _ => print(measure()),
    }
}

fn print_nothing(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print(Err(error)),
    }
}

fn measure() -> Result<Value> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let wanted = arguments.next().unwrap_or_default();
    let batches = batches(DIFFERENT)?;
    let bytes: usize = (0..SENT).filter_map(|index| batches.get(index % DIFFERENT)).map(batch_bytes).sum();
    let mut report = Map::new();
    for (name, load) in CASES.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let (mut engine, mut bare) = (Side::start()?, Side::start()?);
        let mut runs = Vec::new();
        for round in 0..=rounds {
            let pair = if round % 2 == 0 {
                let ours = engine.run(Contestant::Engine(load))?;
                (ours, bare.run(Contestant::Bare)?)
            } else {
                let bare = bare.run(Contestant::Bare)?;
                (engine.run(Contestant::Engine(load))?, bare)
            };
            if round > 0 {
                runs.push(pair);
            }
        }
        report.insert(name.to_owned(), line(load, &runs, bytes));
    }
    Ok(json!({
        "rows_of_a_batch_sent": limits::BATCH_ROWS,
        "gb_of_a_round": bytes as f64 / 1e9,
        "cases": report,
    }))
}

fn line(load: Load, runs: &[(Run, Run)], bytes: usize) -> Value {
    let speed = Pair::of(&runs.iter().map(|(ours, bare)| (ours.took, bare.took)).collect::<Vec<_>>());
    let processor = Pair::of(&runs.iter().map(|(ours, bare)| (ours.processor, bare.processor)).collect::<Vec<_>>());
    let gb = bytes as f64 / 1e9;
    let mut rows: Vec<f64> = runs.iter().map(|(ours, _)| ours.rows_per_batch).collect();
    rows.sort_unstable_by(f64::total_cmp);
    let rows = rows.get(rows.len() / 2).copied().unwrap_or_default();
    let mut report = json!({
        "mb_per_s": speed.report("MB/s", bytes as f64 / 1e6),
        "cpu_s_per_gb": {
            "ours": processor.ours.as_secs_f64() / gb,
            "bare": processor.limit.as_secs_f64() / gb,
            "ratio": 1.0 / processor.ratio(),
            "quartiles": [1.0 / processor.ratios[2], 1.0 / processor.ratios[0]],
        },
        "rows_per_batch": rows,
    });
    match load {
        Load::Forward => {
            report["speed_at_least"] = json!(SPEED_AT_LEAST);
            report["holds"] = json!(speed.ratio() >= SPEED_AT_LEAST);
        }
        Load::Shuffle(parallelism) => {
            report["cpu_at_most"] = json!(PROCESSOR_AT_MOST);
            report["holds"] = json!(1.0 / processor.ratio() <= PROCESSOR_AT_MOST);
            if parallelism >= 16 {
                report["rows_at_least"] = json!(ROWS_AT_LEAST);
                report["rows_hold"] = json!(rows >= ROWS_AT_LEAST);
            }
        }
    }
    report
}
