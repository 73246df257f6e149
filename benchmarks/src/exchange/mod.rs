//! Rows from one process to another, through the engine's exchange and through bare Arrow Flight.
//!
//! Each contestant has a sending and a receiving process of its own: this program again, with the word [`SENDER`] or
//! [`RECEIVER`] as its argument. The receiving one says where it listens, takes one line for each run of the engine, and
//! answers when all rows of it have come.

mod bare;
mod helper;
mod receiving;
mod sending;
mod side;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use qanat_executor::exchange::{EdgeKey, Exchange, RowThreads};
use qanat_executor::node::Reporter;
use qanat_proto::ids::{Generation, JobId, OperatorId, StartId, Token};
use qanat_proto::rpc::dial::TcpDial;
use qanat_proto::{Error, Result, limits};
use tokio::runtime::Runtime;

pub use bare::BareClient;
pub use receiving::receive;
pub use sending::{Load, Run};
pub use side::{Contestant, SENDER, Side, send};

/// The argument that makes this program the receiving process.
pub const RECEIVER: &str = "receiver";
/// The process that sends.
const SENDING: StartId = StartId(1);
/// The key groups of every edge.
const KEY_GROUPS: u16 = limits::KEY_GROUPS_DEFAULT;

/// A key, two numbers, a time and 64 bytes of text: 100 bytes a row.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("name", DataType::Utf8, false),
    ]))
}

/// So many batches of the size that the engine aims at, with random keys.
///
/// # Errors
/// None that the sizes here can cause.
pub fn batches(count: usize) -> Result<Vec<RecordBatch>> {
    let schema = schema();
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut number = |below: u64| i64::try_from(next() % below).unwrap_or(0);
    (0..count)
        .map(|_| {
            let mut column = |below| (0..limits::BATCH_ROWS).map(|_| number(below)).collect::<Vec<_>>();
            let (k, a, b, ts) = (column(1 << 20), column(1_000), column(1 << 31), column(86_400_000));
            let name: StringArray = b.iter().map(|b| Some(format!("{b:064x}"))).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(k)),
                Arc::new(Int64Array::from(a)),
                Arc::new(Int64Array::from(b)),
                Arc::new(TimestampMillisecondArray::from(ts)),
                Arc::new(name),
            ];
            RecordBatch::try_new(schema.clone(), columns).map_err(|e| Error::internal(e.to_string()))
        })
        .collect()
}

fn edge() -> EdgeKey {
    EdgeKey { from: OperatorId(1), to: OperatorId(2), port: 0 }
}

/// A runtime for bare Flight.
fn runtime() -> Result<Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("io").enable_all().build();
    built.map_err(|e| Error::io("start a runtime", &e))
}

/// Threads for rows, as an executor has them.
fn row_threads() -> Result<RowThreads> {
    RowThreads::start(std::thread::available_parallelism().map_or(2, usize::from))
}

fn exchange(rows: &RowThreads, start: StartId) -> Exchange {
    Exchange {
        runtimes: rows.runtimes(),
        start,
        cluster: "benchmark".into(),
        dial: Arc::new(TcpDial),
        incoming: Arc::default(),
    }
}

/// Of one run. A failure of the engine ends the process: there is nobody to go on.
fn reporter(start: StartId, run: u64) -> Reporter {
    let (outbox, said) = crossbeam::channel::unbounded();
    std::thread::spawn(move || {
        for from in said {
            let from: qanat_proto::control::FromExecutor = from;
            if let qanat_proto::control::CoordinatorMessage::Failed { error, .. } = from.message {
                let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{error}\n").as_bytes());
                std::process::exit(1);
            }
        }
    });
    Reporter::new(start, Token { job: JobId(1), generation: Generation(run) }, outbox, tracing::Span::none())
}

#[cfg(test)]
mod tests {
    use qanat_executor::memory::batch_bytes;

    use super::*;

    #[test]
    fn rows_have_a_hundred_bytes() {
        let batches = batches(2).expect("sizes fit");
        assert_eq!(batches[0].num_rows(), limits::BATCH_ROWS);
        assert_eq!(batch_bytes(&batches[1]) / limits::BATCH_ROWS, 100);
    }
}
