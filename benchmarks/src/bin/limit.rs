//! `limit`: queries of the Nexmark benchmark by hand, over the events of a folder of JSON lines. One core.
//!
//! Arguments: the folder, and the names of queries with commas between them (all that there are, if none is given). Prints a
//! line of JSON for each: events per second of the processor, in the median of three rounds, and the number of rows of the
//! answer. `decode` is what the arrow crate's reader takes to make columns of the same lines.

use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qanat_benchmarks::limit::events::{self, Batch};
use qanat_benchmarks::limit::{Out, QUERIES, query};
use qanat_benchmarks::measure::{median, time};
use qanat_storage::env::Env;
use serde_json::json;

const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("the folder with the events is missing")?;
    let names = arguments.next().unwrap_or_else(|| QUERIES.join(","));
    let clock = Env::real().clock;
    let decoding = Cell::new(Duration::ZERO);
    let mut count = 0;
    let columns = events::read(Path::new(&folder), |next| {
        let (took, batch) = time(clock.as_ref(), next);
        decoding.set(decoding.get() + took);
        count += batch.as_ref().ok().and_then(Option::as_ref).map_or(0, |batch| batch.num_rows());
        batch
    })?;
    let rate = |took: Duration| (count as f64 / took.as_secs_f64()).round();
    say(&json!({ "query": "decode", "events": count, "events_per_cpu_s": rate(decoding.get()) }))?;
    let batches: Vec<Batch<'_>> = columns.iter().map(events::Columns::batch).collect::<Result<_>>()?;
    for name in names.split(',') {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let Some(mut query) = query(name, &batches) else { bail!("there is no loop for `{name}`") };
            let mut out = Out::default();
            let (took, ()) = time(clock.as_ref(), || {
                for (at, batch) in (0..).zip(&batches) {
                    query.batch(at, batch, &mut out);
                    out.flush();
                }
                query.end(&mut out);
                out.flush();
            });
            times.push(took);
            rows = query.rows().unwrap_or_else(|| out.rows());
        }
        say(&json!({ "query": name, "events_per_cpu_s": rate(median(times.into_iter())), "rows": rows }))?;
    }
    Ok(())
}

fn say(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
