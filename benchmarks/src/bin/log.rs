//! `log [FOLDER [CASE]]`: appends with group commit against raw `write` and `fdatasync` of the same frames in the
//! same groups; reading against reading the file and checking CRC32C. Files go into FOLDER (`target`); CASE
//! is a part of the names of those to run.

use std::process::ExitCode;

use qanat_benchmarks::log::{Load, ToRead, append, append_raw};
use qanat_benchmarks::measure::{Folder, Pair, arguments, pair, print};
use qanat_proto::Result;
use qanat_storage::env::Env;
use serde_json::{Map, Value, json};

const WRITERS: usize = 16;
const APPEND_ROUNDS: usize = 9;
const READ_ROUNDS: usize = 15;
/// Rows of an append, and appends of each writer: a small event at a time, and whole batches.
const LOADS: [(usize, usize); 3] = [(1, 400), (100, 400), (8_192, 16)];
/// Rows of a frame, and frames of the log that is read.
const READS: [(usize, usize); 2] = [(100, 60_000), (8_192, 800)];

fn main() -> ExitCode {
    print(measure())
}

fn measure() -> Result<Value> {
    let env = Env::real();
    let (parent, wanted) = arguments();
    let folder = Folder::new(&env, &parent)?;
    let mut report = Map::new();
    for (rows, appends) in LOADS {
        let name = format!("append, {rows} rows");
        if !name.contains(&wanted) {
            continue;
        }
        let load = Load { writers: WRITERS, appends, rows };
        let mut times = Vec::new();
        let (mut groups, mut bytes) = (0, 0);
        for round in 0..=APPEND_ROUNDS {
            let file = |side: &str| folder.path().join(format!("{side}-{rows}-{round}"));
            let (ours, written) = append(&env, &file("log"), load)?;
            let raw = append_raw(&env, &file("raw"), &written)?;
            if round > 0 {
                times.push((ours, raw));
                groups += written.groups.len();
                bytes = written.measured();
            }
        }
        let mut line = Pair::of(&times).report("appends/s", load.frames() as f64);
        line["frame_bytes"] = json!(bytes / load.frames());
        line["frames_per_group"] = json!((load.frames() * times.len()) as f64 / groups as f64);
        report.insert(name, line);
    }
    for (rows, frames) in READS {
        let log = ToRead::write(&env, &folder.path().join(format!("read-{rows}")), frames, rows)?;
        log.batches()?;
        let raw = || drop(std::hint::black_box(log.raw()));
        let frames = || drop(std::hint::black_box(log.frames()));
        let batches = || drop(std::hint::black_box(log.batches()));
        let sides: [(&str, &dyn Fn()); 2] = [("read frames", &frames), ("read and decode frames", &batches)];
        for (what, side) in sides {
            let name = format!("{what} of {rows} rows");
            if name.contains(&wanted) {
                let times = pair(env.clock.as_ref(), READ_ROUNDS, side, raw);
                report.insert(name, times.report("GB/s", log.bytes as f64 / 1e9));
            }
        }
    }
    Ok(Value::Object(report))
}
