//! The log connector over a simulated disk: conformance, reading, positions, schemas, crash points.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::control::CommitPermit;
use qanat_proto::error::{Code, Error};
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::names::Name;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::Env;
use qanat_storage::env::sim::{SimDisk, SimEnv};
use qanat_storage::log::{GroupCommit, Isolation, Retention, Start, TopicSpec, Topics};

use super::Log;
use crate::contract::{CommitScope, Context, ReadOutcome, ReadRequest, Sink, SourceBatch, Split, StopFlag};
use crate::registry::Connector;
use crate::suite::sink::{Subject, run};

const SCOPE: CommitScope = CommitScope { operator: OperatorId(7), channel: SinkChannel::Table };

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("carrier", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

fn rows(from: i64, to: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..to)),
        Arc::new((from..to).map(|i| (i % 3 != 0).then(|| format!("C{}", i % 5))).collect::<StringArray>()),
        Arc::new(TimestampMillisecondArray::from_iter_values((from..to).map(|i| i * 1000))),
    ];
    RecordBatch::try_new(schema(), columns).expect("a batch")
}

fn table(options: &[(&str, &str)]) -> TableDescriptor {
    let mut all =
        BTreeMap::from([("connector".to_owned(), "log".to_owned()), ("topic".to_owned(), "flights".to_owned())]);
    all.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    TableDescriptor {
        name: "t".to_owned(),
        connector: "log".to_owned(),
        options: all,
        physical: schema(),
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
    }
}

fn context(env: &Env) -> Context {
    let topics = Topics::open(env.clone(), "/topics", GroupCommit::inline()).expect("opens topics");
    Context { env: env.clone(), topics: Arc::new(topics), base: Path::new("/").to_owned() }
}

fn sink(context: &Context, table: &TableDescriptor) -> Result<Arc<dyn Sink>, Error> {
    Log.sink(context, &node(table.clone(), false), schema())
}

fn all_rows(context: &Context) -> Vec<RecordBatch> {
    let topic = context.topics.topic(&Name::new("flights").expect("a name")).expect("a topic");
    let mut found = Vec::new();
    for partition in 0..topic.partitions() {
        let mut reader = topic.read_to_latest(partition, Start::Earliest, Isolation::Committed).expect("reads");
        while let Some(batch) = reader.next().expect("rows") {
            found.push(batch.rows);
        }
    }
    found
}

fn visible(context: &Context) -> RowSum {
    let mut sum = RowSum::default();
    all_rows(context).iter().for_each(|rows| sum.add(RowHasher::default().sum(rows).expect("a sum")));
    sum
}

struct LogSubject {
    context: Context,
    table: TableDescriptor,
}

impl Subject for LogSubject {
    fn open(&self) -> Arc<dyn Sink> {
        sink(&self.context, &self.table).expect("a sink")
    }
    fn rows(&self, seed: u64) -> RecordBatch {
        let from = seed as i64 * 100;
        rows(from, from + 7)
    }
    fn visible(&self) -> RowSum {
        match self.context.topics.list().expect("lists").is_empty() {
            true => RowSum::default(),
            false => visible(&self.context),
        }
    }
}

#[test]
fn it_is_a_sink() {
    let routings: &[&[(&str, &str)]] = &[
        &[],
        &[("partitions", "3")],
        &[("partitions", "3"), ("key.fields", "carrier;id")],
        &[("partitions", "2"), ("sink.partitioner", "fixed"), ("sink.event-time", "at")],
    ];
    for options in routings {
        run(&LogSubject { context: context(&Env::sim(1).env), table: table(options) });
    }
}

fn token(generation: u64) -> Token {
    Token { job: JobId(0xabcd), generation: Generation(generation) }
}

fn prepared(sink: &dyn Sink, generation: u64, epoch: u64, from: i64) -> Vec<PreparedHandle> {
    let mut handles = Vec::new();
    for index in 0..2 {
        let subtask = SubtaskId { operator: SCOPE.operator, index };
        let mut writer = sink.writer(subtask, token(generation)).expect("a writer");
        let from = from + 10 * i64::from(index);
        writer.write(Epoch(epoch), &rows(from, from + 10)).expect("writes");
        handles.extend(writer.prepare(Epoch(epoch)).expect("prepares"));
    }
    handles
}

fn commit(sink: &dyn Sink, generation: u64, epoch: u64, handles: &[PreparedHandle]) {
    let permit = CommitPermit {
        token: token(generation),
        epoch: Epoch(epoch),
        manifest_key: format!("m{epoch}"),
        handles: handles.to_vec(),
    };
    sink.commit(SCOPE, &permit, handles).expect("commits");
}

#[test]
fn a_power_failure_at_any_point_is_survived() {
    let SimEnv { env, disk, .. } = Env::sim(3);
    let table = table(&[("partitions", "2"), ("key.fields", "id")]);
    let before = context(&env);
    let sink_before = sink(&before, &table).expect("a sink");
    disk.record();
    let mut handles = Vec::new();
    for epoch in 1..=2 {
        let of_epoch = prepared(sink_before.as_ref(), 1, epoch, epoch as i64 * 100);
        disk.mark(epoch * 10);
        commit(sink_before.as_ref(), 1, epoch, &of_epoch);
        disk.mark(epoch * 10 + 1);
        handles.push(of_epoch);
    }
    let trace = disk.take_trace();
    for (number, state) in trace.random_crash_states(7, 3).enumerate() {
        let (least, most) = match state.last_mark() {
            None => (0, 0),
            Some(10) => (0, 1),
            Some(11) => (1, 1),
            Some(20) => (1, 2),
            _ => (2, 2),
        };
        let here = context(&Env { disk: Arc::new(SimDisk::clone(&state.disk)), ..Env::sim(4).env });
        let sink = sink(&here, &table).expect("a sink");
        let shown = visible(&here).rows;
        assert!(shown <= 20 * most && shown >= 20 * least, "{state}: {shown} rows");
        let claimed = if shown > 20 * least || number % 2 == 0 { most } else { least };
        let mut keep = Vec::new();
        if claimed > 0 {
            keep = handles[claimed as usize - 1].clone();
            commit(sink.as_ref(), 2, claimed, &keep);
        }
        sink.abort_lower(SCOPE, token(2), &keep).expect("aborts");
        for epoch in claimed + 1..=2 {
            let again = prepared(sink.as_ref(), 2, epoch, epoch as i64 * 100);
            commit(sink.as_ref(), 2, epoch, &again);
        }
        let mut ids: Vec<i64> =
            all_rows(&here).iter().flat_map(|r| r.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (100..120).chain(200..220).collect::<Vec<i64>>(), "{state}");
    }
}

/// No sweep comes between the epochs of a fast job.
#[test]
fn a_size_is_kept_by_the_commits() {
    let sim = Env::sim(1);
    let context = context(&sim.env);
    let retention = Retention { bytes: Some(1 << 20), ..Retention::default() };
    let name = Name::new("flights").expect("a name");
    let topic = context.topics.create(&name, TopicSpec { retention, ..TopicSpec::new(1) }).expect("new");
    let sink = sink(&context, &table(&[])).expect("a sink");
    let mut most = 0;
    for epoch in 1..=60 {
        let subtask = SubtaskId { operator: SCOPE.operator, index: 0 };
        let mut writer = sink.writer(subtask, token(1)).expect("a writer");
        writer.write(Epoch(epoch), &rows(0, 8_000)).expect("writes");
        let handles: Vec<_> = writer.prepare(Epoch(epoch)).expect("prepares").into_iter().collect();
        commit(sink.as_ref(), 1, epoch, &handles);
        most = most.max(topic.partition(0).expect("open").bytes());
    }
    assert!(((1 << 19)..(3 << 19)).contains(&most), "{most}");
}

fn node(table: TableDescriptor, overwrite: bool) -> SinkNode {
    SinkNode { overwrite, ..SinkNode::of_table(table) }
}

fn request(metadata: &[(&str, MetadataKind)], batch_rows: usize) -> ReadRequest {
    ReadRequest {
        projection: vec![0, 1],
        unread: Vec::new(),
        metadata: metadata.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
        batch_rows,
        bounded: false,
        filter: None,
    }
}

/// Reads a split from a position; the batches and whether it ended.
fn read(
    context: &Context,
    table: &TableDescriptor,
    split: &Split,
    position: &serde_json::Value,
) -> (Vec<SourceBatch>, bool) {
    let source = Log.source(context, table, request(&[("at_offset", MetadataKind::Offset)], 4)).expect("a source");
    let mut reader = source.open(split, position).expect("a reader");
    let stop = StopFlag::default();
    stop.set();
    let mut batches = Vec::new();
    loop {
        match reader.next(&stop).expect("reads") {
            ReadOutcome::Batch(batch) => batches.push(batch),
            ReadOutcome::Pending => return (batches, false),
            ReadOutcome::Away | ReadOutcome::End => return (batches, true),
        }
    }
}

fn ids(batches: &[SourceBatch]) -> Vec<i64> {
    batches.iter().flat_map(|b| b.rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn a_split_resumes_at_every_position() {
    let context = context(&Env::sim(5).env);
    let bounded = table(&[("scan.bounded.mode", "latest-offset")]);
    let writer = sink(&context, &bounded).expect("a sink");
    for epoch in 1..=3 {
        let handles = prepared(writer.as_ref(), 1, epoch, epoch as i64 * 20);
        commit(writer.as_ref(), 1, epoch, &handles);
    }
    let source = Log.source(&context, &bounded, request(&[], 4)).expect("a source");
    let splits = source.discover().expect("splits");
    assert_eq!((splits.len(), splits[0].id.0.as_str()), (1, "flights/0"));
    // What comes after the submit is not part of a bounded read.
    let later = prepared(writer.as_ref(), 1, 4, 900);
    commit(writer.as_ref(), 1, 4, &later);
    let (batches, ended) = read(&context, &bounded, &splits[0], &splits[0].start);
    assert!(ended);
    assert_eq!(ids(&batches), (20..80).collect::<Vec<i64>>());
    assert!(batches.iter().all(|b| b.rows.num_rows() <= 4 && b.records == b.rows.num_rows() as u64));
    let offsets: Vec<i64> =
        batches.iter().flat_map(|b| b.rows.column(2).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(offsets, (0..60).collect::<Vec<i64>>());
    let mut done = 0;
    for batch in &batches {
        done += batch.rows.num_rows();
        let (rest, _) = read(&context, &bounded, &splits[0], &batch.position);
        assert_eq!(ids(&rest), (20 + done as i64..80).collect::<Vec<i64>>(), "exactly the records after it");
    }
    let (all, ended) = read(
        &context,
        &table(&[]),
        &Split { detail: serde_json::json!({"topic": "flights", "partition": 0, "end": null}), ..splits[0].clone() },
        &splits[0].start,
    );
    assert!(!ended && ids(&all).len() == 80);
}

#[test]
fn a_topic_that_was_made_anew_is_not_read_on() {
    let context = context(&Env::sim(8).env);
    let fill = |generation| {
        let writer = sink(&context, &table(&[])).expect("a sink");
        let handles = prepared(writer.as_ref(), generation, 1, 0);
        commit(writer.as_ref(), generation, 1, &handles);
    };
    let source = || Log.source(&context, &table(&[]), request(&[], 8)).expect("a source");
    fill(1);
    let split = source().discover().expect("splits").remove(0);
    let position = serde_json::json!({"offset": 7});
    assert!(source().open(&split, &position).is_ok());
    context.topics.delete(&Name::new("flights").expect("a name")).expect("deleted");
    fill(2);
    let error = source().open(&split, &position).err().expect("refused");
    assert_eq!(error.code(), Code::OffsetGone, "{error}");
}

#[test]
fn startup_modes() {
    let context = context(&Env::sim(6).env);
    let timed = table(&[("sink.event-time", "at")]);
    let writer = sink(&context, &timed).expect("a sink");
    let handles = prepared(writer.as_ref(), 1, 1, 0);
    commit(writer.as_ref(), 1, 1, &handles);
    let start = |options: &[(&str, &str)]| {
        let source = Log.source(&context, &table(options), request(&[], 8))?;
        Ok::<_, Error>(source.discover()?[0].start["offset"].as_u64().expect("an offset"))
    };
    assert_eq!(start(&[]).expect("starts"), 0);
    assert_eq!(start(&[("scan.startup.mode", "latest-offset")]).expect("starts"), 20);
    assert_eq!(
        start(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "12000")]).expect("starts"),
        10
    );
    let specific =
        |text: &str| start(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", text)]);
    assert_eq!(specific("partition:0,offset:7").expect("starts"), 7);
    assert_eq!(specific("partition:0,offset:21").expect_err("past the end").code(), Code::OffsetGone);
    assert_eq!(specific("partition:1,offset:0").expect_err("no such partition").code(), Code::BadOption);
    assert_eq!(specific("0:7").expect_err("bad form").code(), Code::BadOption);
    assert_eq!(start(&[("scan.startup.mode", "timestamp")]).expect_err("no time").code(), Code::MissingOption);
}

#[test]
fn what_does_not_fit_is_refused() {
    let context = context(&Env::sim(7).env);
    let error = Log.source(&context, &table(&[]), request(&[], 8)).err().expect("refused");
    assert_eq!(error.code(), Code::UnknownTopic);
    sink(&context, &table(&[("partitions", "2")])).expect("a sink");
    assert_eq!(sink(&context, &table(&[("partitions", "3")])).err().expect("refused").code(), Code::BadOption);
    let mut other = table(&[]);
    other.physical =
        Arc::new(Schema::new(vec![Field::new("idd", DataType::Int64, true), Field::new("x", DataType::Utf8, true)]));
    let error = Log.source(&context, &other, request(&[], 8)).err().expect("refused");
    assert_eq!((error.code(), error.hint_text()), (Code::UnknownColumn, Some("did you mean `id`?")));
    assert_eq!(sink(&context, &other).err().expect("refused").code(), Code::SinkSchema);
    assert_eq!(Log.sink(&context, &node(table(&[]), true), schema()).err().expect("refused").code(), Code::BadRole);
    assert_eq!(
        super::LogOptions::of_table(&table(&[("key.fields", "carier")])).expect_err("refused").hint_text(),
        Some("did you mean `carrier`?")
    );
}
