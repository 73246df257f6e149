//! `windows`: tumbling aggregation against a hash map by hand, hopping against tumbling. One core.
//!
//! Arguments, for a profile of one of them: `tumble` or `hop`, and a number of keys.

use std::io::Write;
use std::process::ExitCode;

use arrow::array::RecordBatch;
use qanat_benchmarks::measure::pair;
use qanat_benchmarks::windows::{SIZE_MS, aggregation, batches, by_hand, run};
use qanat_proto::Result;
use qanat_proto::graph::WindowShape;
use qanat_storage::env::Env;

const ROWS: usize = 10_000_000;
const ROUNDS: usize = 5;
const TUMBLE: WindowShape = WindowShape::Tumble { size: SIZE_MS, offset: 0 };
const HOP: WindowShape = WindowShape::Hop { size: SIZE_MS, slide: 1_000, offset: 0 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keys = arguments.get(1).and_then(|keys| keys.parse().ok());
    let report = match (arguments.first().map(String::as_str), keys) {
        (Some("tumble"), Some(keys)) => alone(TUMBLE, keys),
        (Some("hop"), Some(keys)) => alone(HOP, keys),
        _ => measure(),
    };
    match report {
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

fn ours(shape: WindowShape, data: &[RecordBatch]) -> Result<usize> {
    run(&mut aggregation(shape)?, data)
}

/// Our side only, for a profiler.
fn alone(shape: WindowShape, keys: i64) -> Result<serde_json::Value> {
    let data = batches(ROWS, keys)?;
    let mut rows = 0;
    for _ in 0..4 * ROUNDS {
        rows = ours(shape, &data)?;
    }
    Ok(serde_json::json!({ "rows": rows }))
}

fn measure() -> Result<serde_json::Value> {
    let clock = Env::real().clock;
    let (tumble, hop) = (TUMBLE, HOP);
    let mut report = serde_json::Map::new();
    for keys in [10_000, 1_000_000] {
        let data = batches(ROWS, keys)?;
        ours(tumble, &data)?;
        let engine = || drop(std::hint::black_box(ours(tumble, &data)));
        let limit = || _ = std::hint::black_box(by_hand(&data));
        let tumbling = pair(clock.as_ref(), ROUNDS, engine, limit);
        let hopping = pair(
            clock.as_ref(),
            ROUNDS,
            || drop(std::hint::black_box(ours(hop, &data))),
            || drop(std::hint::black_box(ours(tumble, &data))),
        );
        let millions = |time: std::time::Duration| ROWS as f64 / time.as_secs_f64() / 1e6;
        report.insert(
            format!("{keys} keys"),
            serde_json::json!({
                "tumble_mrows_per_s": millions(tumbling.ours),
                "by_hand_mrows_per_s": millions(tumbling.limit),
                "tumble_to_by_hand": tumbling.ratio(),
                "hop_mrows_per_s": millions(hopping.ours),
                "hop_to_tumble": hopping.ratio(),
            }),
        );
    }
    Ok(serde_json::Value::Object(report))
}
