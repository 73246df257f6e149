//! What is printed, when, and how often.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use qanat_proto::control::CommitPermit;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_storage::env::{Disk, Env};

use super::sink::{INLINE_BYTES_MAX, PrintSink};
use super::{Stream, set_output, write_rows};
use crate::contract::{CommitScope, Sink};

const SCOPE: CommitScope = CommitScope { operator: OperatorId(4), channel: SinkChannel::Table };

/// The process has one output: the one test that sets it looks at everything in order.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8(bytes).expect("UTF-8")
    }
}

fn token(generation: u64) -> Token {
    Token { job: JobId(0x99), generation: Generation(generation) }
}

fn prepared(sink: &PrintSink, epoch: u64, rows: &RecordBatch) -> Vec<PreparedHandle> {
    let mut writer = sink.writer(SubtaskId { operator: SCOPE.operator, index: 0 }, token(1)).expect("a writer");
    writer.write(Epoch(epoch), rows).expect("writes");
    writer.prepare(Epoch(epoch)).expect("prepares")
}

fn commit(sink: &PrintSink, generation: u64, epoch: u64, handles: &[PreparedHandle]) {
    let permit = CommitPermit {
        token: token(generation),
        epoch: Epoch(epoch),
        manifest_key: "m".to_owned(),
        handles: handles.to_vec(),
    };
    sink.commit(SCOPE, &permit, handles).expect("commits");
}

#[test]
fn rows_look_as_flink_prints_them() {
    let rows = RecordBatch::try_from_iter([
        ("a", Arc::new(StringArray::from(vec![Some("two\nlines"), None])) as ArrayRef),
        ("b", Arc::new(TimestampMillisecondArray::from(vec![1_357_034_400_000, 0])) as ArrayRef),
        ("c", Arc::new(Float64Array::from(vec![1.0, -2.5])) as ArrayRef),
    ])
    .expect("a batch");
    let mut out = Vec::new();
    write_rows(&rows, "x> ", &mut out).expect("writes");
    assert_eq!(
        String::from_utf8(out).expect("UTF-8"),
        "x> +I[two\\nlines, 2013-01-01 10:00:00.000, 1.0]\nx> +I[null, 1970-01-01 00:00:00.000, -2.5]\n"
    );
}

#[test]
fn rows_show_once_claimed_and_once_per_process() {
    let output = Captured::default();
    set_output(Box::new(output.clone()));
    let sim = Env::sim(1);
    sim.env.disk.create_dir_all(Path::new("/work")).expect("a folder");
    let open = || {
        let columns = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        PrintSink::new(sim.env.clone(), Path::new("/work"), "t", columns, String::new(), Stream::Output)
    };
    let few = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).expect("a batch");
    let first = prepared(&open(), 1, &few);
    assert_eq!(output.take(), "", "nothing shows before its claim");
    // Another generation, as after a crash: the text is in the handle.
    commit(&open(), 2, 1, &first);
    assert_eq!(output.take(), "+I[1]\n+I[2]\n");
    commit(&open(), 3, 1, &first);
    assert_eq!(output.take(), "", "a replay within the process prints nothing");

    let count = INLINE_BYTES_MAX as i64 / 4;
    let many = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef)])
        .expect("a batch");
    let lost = prepared(&open(), 2, &many);
    let staged = Path::new("/work/.qanat-print");
    assert_eq!(sim.disk.list(staged).expect("lists").len(), 1, "a long text waits in a file");
    open().abort_lower(SCOPE, token(2), &lost).expect("keeps what the manifest names");
    commit(&open(), 2, 2, &lost);
    assert_eq!(output.take().lines().count() as i64, count);
    assert!(!sim.disk.exists(staged).expect("looks"));
    prepared(&open(), 3, &many);
    open().abort_lower(SCOPE, token(2), &[]).expect("aborts");
    assert!(!sim.disk.exists(staged).expect("looks"));
}
