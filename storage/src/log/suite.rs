//! What the log promises, on any environment: run on the real disk and on the simulated one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, NullArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::Int32Type;
use qanat_proto::error::Code;
use qanat_proto::ids::{Generation, JobId, OperatorId};

use super::tests::{ids, name, open, origin, rows};
use super::*;
use crate::env::Env;
use crate::suite::Scratch;

const PLAIN: AppendOptions =
    AppendOptions { event_time: None, writer: WriterStamp::NONE, owner: None, begins_segment: false };

fn everywhere(test: impl Fn(&Env, &Path)) {
    let sim = Env::sim(1);
    test(&sim.env, Path::new("/topics"));
    let scratch = Scratch::new();
    test(scratch.env(), scratch.path());
}

fn timed(min: i64, max: i64) -> AppendOptions {
    AppendOptions { event_time: Some(EventTime { min, max }), ..PLAIN }
}

#[test]
fn what_is_appended_is_read_also_after_reopening() {
    everywhere(|env, folder| {
        let topics = open(env, folder);
        let topic = topics.create(&name("t"), TopicSpec::new(2)).expect("new");
        for i in 0..40 {
            let appended = topic.append(0, &rows(i * 3..i * 3 + 3), &PLAIN).expect("room");
            assert_eq!(appended.offsets, (i * 3) as u64..(i * 3 + 3) as u64);
        }
        topic.append(1, &rows([-1]), &PLAIN).expect("room");
        assert!(topic.partition(0).expect("open").segments() > 2, "segments roll");
        for topic in [topic, open(env, folder).topic(&name("t")).expect("there")] {
            assert_eq!(ids(&topic, 0).expect("sound"), (0..120).collect::<Vec<_>>());
            assert_eq!(ids(&topic, 1).expect("sound"), [-1]);
            let mut reader = topic.read_from(0, Start::Offset(61)).expect("held");
            let batch = reader.poll().expect("sound").expect("there");
            assert_eq!((batch.first_offset, batch.rows.num_rows()), (61, 2));
            assert_eq!(reader.next_offset(), 63);
        }
        let read_only = Topics::open_read_only(env.clone(), folder);
        let topic = read_only.topic(&name("t")).expect("there");
        assert_eq!(ids(&topic, 0).expect("sound").len(), 120);
        assert_eq!(topic.append(0, &rows([1]), &PLAIN).expect_err("read only").code(), Code::Usage);
    });
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    everywhere(|env, folder| {
        let topics = open(env, folder);
        let topic = topics.create(&name("orders"), TopicSpec::new(3)).expect("new");
        assert_eq!(topics.create(&name("orders"), TopicSpec::new(3)).err().map(|e| e.code()), Some(Code::Usage));
        topics.create(&name("a"), TopicSpec::new(1)).expect("new");
        assert!(topics.create(&name("b"), TopicSpec::new(0)).is_err());
        assert_eq!(topics.list().expect("listed"), [name("a"), name("orders")]);
        let missing = topics.topic(&name("order")).err().expect("none");
        assert_eq!(missing.code(), Code::UnknownTopic);
        assert_eq!(missing.hint_text(), Some("did you mean `orders`?"));
        topic.append(1, &rows([1, 2]), &PLAIN).expect("room");
        let description = topics.describe(&name("orders")).expect("described");
        assert_eq!(description.partitions.len(), 3);
        assert_eq!(description.partitions[1].end_offset, 2);
        assert!(description.partitions[1].bytes > 4096);
        assert_eq!(description.schema.expect("recorded").fields().len(), 2);
        topics.delete(&name("orders")).expect("there");
        assert_eq!(topic.append(1, &rows([3]), &PLAIN).expect_err("deleted").code(), Code::UnknownTopic);
        assert_eq!(topics.list().expect("listed"), [name("a")]);
        let again = topics.create(&name("orders"), TopicSpec::new(1)).expect("the name is free again");
        assert_eq!(again.partition(0).expect("open").end_offset(), 0);
    });
}

#[test]
fn a_topic_keeps_its_schema() {
    everywhere(|env, folder| {
        let topic = open(env, folder).create(&name("t"), TopicSpec::new(2)).expect("new");
        topic.append(0, &rows([1]), &PLAIN).expect("room");
        let other =
            RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).expect("fits");
        for topic in [topic, open(env, folder).topic(&name("t")).expect("there")] {
            let error = topic.append(1, &other, &PLAIN).expect_err("another schema");
            assert_eq!(error.code(), Code::SinkSchema);
            assert!(error.message().contains("id Int32") && error.message().contains("id Int64"), "{error}");
        }
    });
}

#[test]
fn columns_of_every_shape_come_back() {
    everywhere(|env, folder| {
        let topics = open(env, folder);
        let dictionary: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let views = StringViewArray::from_iter_values((0..3).map(|i| format!("a text too long to be inlined {i}")));
        let shapes: [(&str, ArrayRef); 4] = [
            ("dictionary", Arc::new(dictionary)),
            ("views", Arc::new(views)),
            ("nulls", Arc::new(NullArray::new(3))),
            ("strings", Arc::new(StringArray::from(vec![Some("x"), None, Some("")]))),
        ];
        for (title, column) in shapes {
            let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).expect("one column");
            let topic = topics.create(&name(title), TopicSpec::new(1)).expect("new");
            for _ in 0..3 {
                topic.append(0, &batch, &PLAIN).expect("room");
                topic.append(0, &batch.slice(1, 2), &PLAIN).expect("room");
            }
            let mut reader = topic.read_from(0, Start::Earliest).expect("open");
            for i in 0..6 {
                let read = reader.poll().expect("sound").expect("there");
                let expected = if i % 2 == 0 { batch.clone() } else { batch.slice(1, 2) };
                assert_eq!(read.rows, expected, "{title} {i}");
            }
        }
    });
}

#[test]
fn a_commit_happens_once_whoever_repeats_it() {
    everywhere(|env, folder| {
        let topics = open(env, folder);
        let topic = topics.create(&name("t"), TopicSpec::new(2)).expect("new");
        let mut staging = topic.stage(origin(1, 5, 0), 0);
        staging.write(0, &rows(0..10), None).expect("room");
        staging.write(1, &rows(100..103), None).expect("room");
        staging.write(0, &rows(10..20), None).expect("room");
        let first = staging.prepare().expect("durable");
        let mut staging = topic.stage(origin(1, 5, 1), 0);
        staging.write(0, &rows(20..25), None).expect("room");
        let second = staging.prepare().expect("durable");
        assert_eq!(ids(&topic, 0).expect("sound"), [0_i64; 0], "staged rows are not visible");

        let mut uncommitted = topic.read_to_latest(0, Start::Earliest, Isolation::Uncommitted).expect("open");
        let mut staged = 0;
        while let Some(batch) = uncommitted.next().expect("sound") {
            assert!(batch.staged.is_some());
            staged += batch.rows.num_rows();
        }
        assert_eq!(staged, 25);
        let mut committed = topic.read_to_latest(0, Start::Earliest, Isolation::Committed).expect("open");
        assert!(committed.next().expect("sound").is_none());

        let done = topic.commit(std::slice::from_ref(&first)).expect("committed");
        assert_eq!(done[0].appended, Appended { offsets: 0..20, was_done: false });
        for topic in [topic, open(env, folder).topic(&name("t")).expect("there")] {
            let done = topic.commit(&[first.clone(), second.clone()]).expect("committed");
            assert!(done[0].appended.was_done && done[1].appended.was_done);
            assert_eq!(ids(&topic, 0).expect("sound"), (0..25).collect::<Vec<_>>());
            assert_eq!(ids(&topic, 1).expect("sound"), (100..103).collect::<Vec<_>>());
            assert!(topic.staged_rows(0).expect("listed").is_empty());
        }
        // A higher epoch makes lower ones done for ever, even unknown handles; after rolls too.
        let topic = open(env, folder).topic(&name("t")).expect("there");
        let mut staging = topic.stage(origin(2, 6, 0), 0);
        staging.write(0, &rows(25..30), None).expect("room");
        let third = staging.prepare().expect("durable");
        topic.commit(std::slice::from_ref(&third)).expect("committed");
        for i in 0..60 {
            topic.append(0, &rows([1000 + i]), &PLAIN).expect("room");
        }
        topic
            .partition(0)
            .expect("open")
            .retain(&Retention { bytes: Some(1), ..Retention::default() })
            .expect("removed");
        let topic = open(env, folder).topic(&name("t")).expect("there");
        assert!(
            topic.commit(&[first.clone(), second, third]).expect("replayed").iter().all(|done| done.appended.was_done)
        );
        // Only dropping the job forgets. The rows are gone then, so a replay is refused, not done twice.
        topic.forget_job(JobId(7)).expect("forgotten");
        for topic in [topic, open(env, folder).topic(&name("t")).expect("there")] {
            assert_eq!(topic.commit(std::slice::from_ref(&first)).expect_err("no rows").code(), Code::CorruptLog);
        }
    });
}

#[test]
fn aborting_removes_lower_generations_only() {
    everywhere(|env, folder| {
        let topic = open(env, folder).create(&name("t"), TopicSpec::new(2)).expect("new");
        let stage = |origin, partition| {
            let mut staging = topic.stage(origin, 0);
            staging.write(partition, &rows([1]), None).expect("room");
            staging.prepare().expect("durable")
        };
        let old = stage(origin(1, 5, 0), 0);
        let claimed = stage(origin(1, 4, 0), 1);
        let current = stage(origin(2, 5, 0), 0);
        let keep = BTreeSet::from([claimed.name.clone()]);
        let other = topic.abort_lower(JobId(7), Generation(2), Some(OperatorId(99)), &keep).expect("swept");
        assert!(other.is_empty(), "another operator's files");
        assert!(topic.abort_lower(JobId(8), Generation(2), None, &keep).expect("swept").is_empty());
        let removed = topic.abort_lower(JobId(7), Generation(2), None, &keep).expect("swept");
        assert_eq!(removed, BTreeSet::from([old.name.clone()]));
        assert_eq!(topic.commit(&[old]).expect_err("aborted").code(), Code::CorruptLog);
        topic.commit(&[claimed]).expect("kept");
        topic.commit(&[current]).expect("kept");
    });
}

#[test]
fn retention_keeps_what_readers_hold() {
    everywhere(|env, folder| {
        let topics = open(env, folder);
        let topic = topics.create(&name("t"), TopicSpec::new(1)).expect("new");
        for i in 0..60 {
            topic.append(0, &rows([i]), &PLAIN).expect("room");
        }
        let partition = topic.partition(0).expect("open");
        let mut slow = partition.read_from(0).expect("held");
        slow.poll().expect("sound").expect("there");
        let consumed = Retention { consumed: true, ..Retention::default() };
        assert_eq!(partition.retain(&consumed).expect("nothing"), 0, "without holds nothing is consumed");
        partition.hold("job", 30);
        partition.hold("savepoint", 20);
        partition.retain(&consumed).expect("removed");
        let first = partition.first_offset();
        assert!(first > 0 && first <= 20, "{first}");
        let late = partition.read_from(first - 1).err().expect("gone");
        assert_eq!(late.code(), Code::OffsetGone);
        // A reader below may finish the segment it holds open, and then fails rather than skip.
        let error = loop {
            match slow.poll() {
                Ok(Some(batch)) => assert!(batch.first_offset < first),
                Ok(None) => panic!("the reader skips what is gone"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), Code::OffsetGone);
        partition.release("savepoint");
        partition.retain(&Retention { bytes: Some(1), ..Retention::default() }).expect("removed");
        assert!(partition.first_offset() > 30, "size forces past holds");
        let kept = ids(&topic, 0).expect("sound");
        assert_eq!(kept, (partition.first_offset() as i64..60).collect::<Vec<_>>());
        let topic = open(env, folder).topic(&name("t")).expect("there");
        assert_eq!(ids(&topic, 0).expect("sound"), kept);
    });
}

#[test]
fn rows_are_found_by_time() {
    everywhere(|env, folder| {
        let topic = open(env, folder).create(&name("t"), TopicSpec::new(1)).expect("new");
        for i in 0..50 {
            topic.append(0, &rows([i, i]), &timed(i * 100, i * 100 + 50)).expect("room");
        }
        for topic in [topic, open(env, folder).topic(&name("t")).expect("there")] {
            assert_eq!(topic.resolve(0, Start::Time(-5)).expect("found"), 0);
            assert_eq!(topic.resolve(0, Start::Time(2_010)).expect("found"), 40);
            assert_eq!(topic.resolve(0, Start::Time(2_060)).expect("found"), 42);
            assert_eq!(topic.resolve(0, Start::Time(1 << 40)).expect("found"), 100);
        }
        assert_eq!("latest".parse::<Start>().expect("known"), Start::Latest);
        assert_eq!("17".parse::<Start>().expect("an offset"), Start::Offset(17));
        for time in ["1970-01-02", "1970-01-02 00:00:00", "1970-01-02T01:00:00+01:00"] {
            assert_eq!(time.parse::<Start>().expect("a time"), Start::Time(86_400_000), "{time}");
        }
        assert!("-1".parse::<Start>().is_err() && "".parse::<Start>().is_err());
        assert!("committed".parse::<Isolation>().is_ok() && "dirty".parse::<Isolation>().is_err());
    });
}

#[test]
fn a_new_owner_shuts_the_old_one_out() {
    everywhere(|env, folder| {
        let old = open(env, folder).create(&name("t"), TopicSpec::new(1)).expect("new");
        old.append(0, &rows([1, 2]), &PLAIN).expect("room");
        let token = old.partition(0).expect("open").owner().expect("writable");
        let new = open(env, folder).topic(&name("t")).expect("there");
        let partition = new.partition(0).expect("open");
        old.append(0, &rows([3]), &PLAIN).expect("still the owner");
        let takeover = partition.take_over(OwnerToken(9)).expect("newer");
        assert_eq!((takeover.owner, takeover.end_offset), (OwnerToken(9), 3));
        assert_eq!(old.append(0, &rows([4]), &PLAIN).expect_err("fenced").code(), Code::Fenced);
        assert_eq!(old.append(0, &rows([5]), &PLAIN).expect_err("for good").code(), Code::Fenced);
        let stale = AppendOptions { owner: Some(token), ..PLAIN };
        assert_eq!(new.append(0, &rows([6]), &stale).expect_err("fenced").code(), Code::Fenced);
        let fresh = AppendOptions { owner: Some(OwnerToken(9)), ..PLAIN };
        assert_eq!(new.append(0, &rows([7]), &fresh).expect("the owner").offsets, 3..4);
        assert_eq!(partition.take_over(OwnerToken(9)).expect_err("not newer").code(), Code::Fenced);
        assert_eq!(partition.take_over(OwnerToken(8)).expect_err("older").code(), Code::Fenced);
        for topic in [new, open(env, folder).topic(&name("t")).expect("there")] {
            assert_eq!(ids(&topic, 0).expect("sound"), [1, 2, 3, 7]);
            assert_eq!(topic.partition(0).expect("open").owner(), Some(OwnerToken(9)));
        }
    });
}

#[test]
fn readers_are_woken() {
    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    everywhere(|env, folder| {
        let topic = open(env, folder).create(&name("t"), TopicSpec::new(1)).expect("new");
        let mut reader = topic.read_from(0, Start::Latest).expect("open");
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        assert!(reader.poll().expect("sound").is_none());
        reader.register(&waker);
        reader.register(&waker);
        assert_eq!(counter.0.load(Ordering::SeqCst), 0);
        topic.append(0, &rows([1]), &PLAIN).expect("room");
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        reader.register(&waker);
        assert_eq!(counter.0.load(Ordering::SeqCst), 2, "at once if rows are there");
        let batch = reader.next(Duration::from_secs(60), &|| false).expect("sound").expect("there");
        assert_eq!(batch.rows.num_rows(), 1);
        assert!(reader.next(Duration::from_secs(60), &|| true).expect("sound").is_none(), "stops when told");
    });
}

#[test]
fn a_batch_too_large_for_a_frame_is_one_run_of_several() {
    let sim = Env::sim(3);
    let topic = open(&sim.env, "/topics").create(&name("t"), TopicSpec::new(1)).expect("new");
    let text = "x".repeat(9 << 20);
    let texts = StringArray::from_iter_values((0..10).map(|_| text.as_str()));
    let batch = RecordBatch::try_from_iter([("c", Arc::new(texts) as ArrayRef)]).expect("one column");
    assert_eq!(topic.append(0, &batch, &PLAIN).expect("room").offsets, 0..10);
    let mut reader = topic.read_from(0, Start::Earliest).expect("open");
    let mut frames = 0;
    let mut count = 0;
    while let Some(read) = reader.poll().expect("sound") {
        frames += 1;
        count += read.rows.num_rows();
    }
    assert!(frames >= 2 && count == 10, "{frames} frames, {count} rows");
    let huge = StringArray::from_iter_values(["y".repeat(65 << 20)]);
    let batch = RecordBatch::try_from_iter([("c", Arc::new(huge) as ArrayRef)]).expect("one column");
    assert_eq!(topic.append(0, &batch, &PLAIN).expect_err("one row of 65 MiB").code(), Code::RecordTooLarge);
}
