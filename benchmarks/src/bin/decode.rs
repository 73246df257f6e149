//! `decode [FOLDER [CASE]]`: the filesystem source against the arrow crate's readers, on the examples' data repeated to
//! 100 MB. Files go into FOLDER (`target`); CASE is a part of the names of those to run. Run it from the repository's root.

use std::path::Path;
use std::process::ExitCode;

use qanat_benchmarks::decode::{Case, flights, weather};
use qanat_benchmarks::measure::{Folder, arguments, pair, print};
use qanat_proto::Result;
use qanat_storage::env::Env;
use serde_json::{Map, Value};

const BYTES: usize = 100_000_000;
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    print(measure())
}

fn measure() -> Result<Value> {
    let env = Env::real();
    let (parent, wanted) = arguments();
    let folder = Folder::new(&env, &parent)?;
    let examples = Path::new("examples/data");
    let flights = flights(examples, folder.path(), BYTES)?;
    let weather = weather(examples, folder.path(), BYTES)?;
    let few = "carrier origin dep_delay";
    let timed = "tailnum origin dep_delay time_hour";
    let cases = [
        ("csv, flights, all 19 columns", flights.csv_case("")),
        ("csv, flights, all 19 columns, blank for NULL", flights.blank_csv_case("")),
        ("csv, flights, 3 columns", flights.csv_case(few)),
        ("csv, flights, 3 columns, blank for NULL", flights.blank_csv_case(few)),
        ("csv, flights, 4 columns with the time", flights.csv_case(timed)),
        ("csv, weather, all 15 columns", weather.csv_case("")),
        ("csv, weather, all 15 columns, blank for NULL", weather.blank_csv_case("")),
        ("json, flights, all 19 columns", flights.json_case("")),
        ("json, flights, 3 columns", flights.json_case(few)),
        ("json, flights, 4 columns with the time", flights.json_case(timed)),
        ("json, weather, all 15 columns", weather.json_case("")),
        ("json, weather, 3 columns", weather.json_case("origin temp time_hour")),
    ];
    let mut report = Map::new();
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        report.insert(name.to_owned(), compare(&env, &case)?);
    }
    Ok(Value::Object(report))
}

fn compare(env: &Env, case: &Case) -> Result<Value> {
    case.agree()?;
    let ours = || drop(std::hint::black_box(case.by_source(|batch| keep(&batch))));
    let limit = || drop(std::hint::black_box(case.by_arrow(|batch| keep(&batch))));
    Ok(pair(env.clock.as_ref(), ROUNDS, ours, limit).report("MB/s", case.bytes()? as f64 / 1e6))
}

fn keep(batch: &arrow::array::RecordBatch) -> Result<()> {
    std::hint::black_box(batch);
    Ok(())
}
