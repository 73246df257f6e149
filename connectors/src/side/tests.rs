//! Side tables through the sink contract.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::control::CommitPermit;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::Env;
use qanat_storage::log::{GroupCommit, Topics};

use super::*;
use crate::contract::{CommitScope, DeadLetter};
use crate::suite::sink::{Subject, run};

const JOB: JobId = JobId(0xfeed);

fn topics() -> Arc<Topics> {
    Arc::new(Topics::open(Env::sim(1).env, "/topics", GroupCommit::inline()).expect("opens"))
}

fn origin(epoch: u64) -> SideOrigin<'static> {
    SideOrigin { job: JOB, epoch: Epoch(epoch), operator: "delays" }
}

fn late_batch() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("carrier", Arc::new(StringArray::from(vec![Some("AA"), None])) as ArrayRef),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1_357_034_400_000, 1_357_034_400_001])) as ArrayRef),
        ("delay", Arc::new(Float64Array::from(vec![1.5, f64::NAN])) as ArrayRef),
    ])
    .expect("a batch")
}

fn commit(topics: &Arc<Topics>, channel: SinkChannel, epoch: u64, rows: &RecordBatch) {
    let sink = sink(topics, "hourly", channel).expect("a sink");
    let token = Token { job: JOB, generation: Generation(1) };
    let operator = OperatorId(3);
    let mut writer = sink.writer(SubtaskId { operator, index: 0 }, token).expect("a writer");
    writer.write(Epoch(epoch), rows).expect("writes");
    let handles = writer.prepare(Epoch(epoch)).expect("prepares");
    assert!(handles.iter().all(|handle| handle.channel == channel));
    let permit = CommitPermit { token, epoch: Epoch(epoch), manifest_key: "m".to_owned(), handles: handles.clone() };
    sink.commit(CommitScope { operator, channel }, &permit, &handles).expect("commits");
}

#[test]
fn late_rows_come_back_as_they_were() {
    let topics = topics();
    assert_eq!(late_rows_of(&topics, "hourly").expect("reads"), vec![], "a job without late rows has none");
    let rows = late_rows(origin(4), &late_batch(), 1, 1_357_040_000_000).expect("rows");
    commit(&topics, SinkChannel::Late, 4, &rows);
    let found = late_rows_of(&topics, "hourly").expect("reads");
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[1],
        LateEntry {
            id: 1,
            job: JOB.to_string(),
            epoch: 4,
            operator: "delays".to_owned(),
            event_time_ms: Some(1_357_034_400_001),
            watermark_ms: Some(1_357_040_000_000),
            row: r#"{"carrier":null,"at":"2013-01-01 10:00:00.001","delay":"NaN"}"#.to_owned(),
        }
    );
    let ended = late_rows(origin(5), &late_batch(), 1, i64::MAX).expect("rows");
    commit(&topics, SinkChannel::Late, 5, &ended);
    assert_eq!(late_rows_of(&topics, "hourly").expect("reads")[3].watermark_ms, None);
}

#[test]
fn dead_letters_keep_their_bytes() {
    let topics = topics();
    let letter =
        DeadLetter { origin: "in.csv".to_owned(), offset: 12, reason: "no number".to_owned(), raw: b"x,\xff".to_vec() };
    commit(&topics, SinkChannel::DeadLetters, 1, &dead_letters(origin(1), &[letter]).expect("rows"));
    commit(
        &topics,
        SinkChannel::DeadLetters,
        2,
        &dead_rows(origin(2), &late_batch(), "division by zero").expect("rows"),
    );
    let found = dead_letters_of(&topics, "hourly").expect("reads");
    assert_eq!(found.len(), 3);
    assert_eq!((found[0].offset, found[0].raw.as_deref()), (Some(12), Some(b"x,\xff".as_slice())));
    assert_eq!(found[0].text.as_deref(), Some("x,\u{fffd}"));
    assert_eq!(
        (found[1].reason.as_str(), found[1].raw.as_ref(), found[1].origin.as_ref()),
        ("division by zero", None, None)
    );
    assert!(found[2].text.as_deref().expect("a row").contains("\"NaN\""));
}

struct Side {
    topics: Arc<Topics>,
}

impl Subject for Side {
    fn open(&self) -> Arc<dyn Sink> {
        sink(&self.topics, "hourly", SinkChannel::Late).expect("a sink")
    }
    fn rows(&self, seed: u64) -> RecordBatch {
        late_rows(origin(seed), &late_batch(), 1, 0).expect("rows")
    }
    fn visible(&self) -> RowSum {
        let mut reader = SideReader::open(&self.topics, "hourly", SinkChannel::Late, 0).expect("opens");
        let mut sum = RowSum::default();
        while let Some((_, rows)) = reader.next_batch().expect("reads") {
            sum.add(RowHasher::default().sum(&rows).expect("a sum"));
        }
        sum
    }
}

#[test]
fn they_are_written_by_a_sink_like_any_other() {
    run(&Side { topics: topics() });
}

/// Several tasks stage side rows, each under an id of its own; the executor aborts and asks for all of them.
#[test]
fn rows_of_every_task_are_swept_and_counted() {
    let topics = topics();
    let token = |generation| Token { job: JOB, generation: Generation(generation) };
    let all = CommitScope { operator: OperatorId(0), channel: SinkChannel::Late };
    let sink = sink(&topics, "hourly", SinkChannel::Late).expect("a sink");
    let mut staged = Vec::new();
    for operator in [3, 4] {
        let subtask = SubtaskId { operator: OperatorId(operator), index: 0 };
        for generation in [1, 2] {
            let mut writer = sink.writer(subtask, token(generation)).expect("a writer");
            writer.write(Epoch(1), &late_rows(origin(1), &late_batch(), 1, 0).expect("rows")).expect("writes");
            staged.extend(writer.prepare(Epoch(1)).expect("prepares"));
        }
    }
    let topic = topics.topic(&topic_name("hourly", SinkChannel::Late).expect("a name")).expect("a topic");
    let count = || topic.staged_rows(0).expect("looks").len();
    assert_eq!(count(), 4);
    sink.abort_lower(all, token(2), &staged[..1]).expect("aborts");
    assert_eq!(count(), 3, "what the manifest names stays, what it does not name goes");
    assert_eq!(sink.newest_commit(all, JOB).expect("looks"), None);
    let handles = vec![staged.remove(0)];
    let permit = CommitPermit { token: token(2), epoch: Epoch(1), manifest_key: "m".to_owned(), handles };
    let scope = CommitScope { operator: OperatorId(3), channel: SinkChannel::Late };
    sink.commit(scope, &permit, &permit.handles).expect("commits");
    assert_eq!(sink.newest_commit(all, JOB).expect("looks"), Some(Epoch(1)));
}
