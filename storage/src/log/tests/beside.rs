//! Looking at a log that another process writes: it grows, is cut, sealed and shortened under the reader.

use std::sync::atomic::{AtomicBool, Ordering};

use qanat_proto::Code;

use super::*;
use crate::log::{AppendOptions, TopicSpec};

const APPENDS: i64 = 1_500;

/// Calls `look` again and again while rows are appended, and once when all are there.
fn beside(retain: bool, mut look: impl FnMut(&Env)) {
    let sim = Env::sim(11);
    let topics = Topics::open_with(sim.env.clone(), Path::new(FOLDER), GroupCommit::spawn().expect("a thread"), SMALL)
        .expect("an empty disk");
    let topic = topics.create(&name("t"), TopicSpec::new(1)).expect("new");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..APPENDS {
                let pending = topic.append_later(0, &rows([id]), &AppendOptions::default()).expect("room");
                // Some share a group, which is then half written when it is looked at.
                if id % 3 == 0 {
                    pending.wait().expect("durable");
                }
                let partition = topic.partition(0).expect("there");
                if retain && id % 100 == 0 && partition.segments() > 4 {
                    let gone = partition.segment_offsets()[2];
                    partition.remove_before(gone).expect("removes");
                }
            }
            topic.append(0, &rows([APPENDS]), &AppendOptions::default()).expect("durable");
            is_done.store(true, Ordering::Release);
        });
        while !is_done.load(Ordering::Acquire) {
            look(&sim.env);
        }
    });
    look(&sim.env);
}

#[test]
fn a_reader_follows_a_log_that_another_process_writes() {
    let mut following = None;
    let mut next = 0;
    beside(false, |env| {
        let (topic, reader) = following.get_or_insert_with(|| {
            let topic = Topics::open_read_only(env.clone(), Path::new(FOLDER)).topic(&name("t")).expect("there");
            let reader = topic.read_from(0, Start::Earliest).expect("there");
            (topic, reader)
        });
        topic.partition(0).expect("there").refresh().expect("whole");
        while let Some(batch) = reader.poll().expect("whole") {
            assert_eq!(batch.first_offset, next, "rows follow each other");
            next += batch.rows.num_rows() as u64;
        }
    });
    assert_eq!(next, APPENDS as u64 + 1);
}

#[test]
fn a_log_that_another_process_writes_is_opened_at_any_moment() {
    let mut most = 0;
    beside(false, |env| {
        let topic = Topics::open_read_only(env.clone(), Path::new(FOLDER)).topic(&name("t")).expect("whole");
        let end = topic.partition(0).expect("whole").end_offset();
        assert!(end >= most, "{end} rows after {most}");
        most = end;
    });
    assert_eq!(most, APPENDS as u64 + 1);
}

#[test]
fn what_retention_takes_is_gone_and_not_damaged() {
    beside(true, |env| {
        let read = || -> qanat_proto::Result<()> {
            let topic = Topics::open_read_only(env.clone(), Path::new(FOLDER)).topic(&name("t"))?;
            let mut reader = topic.read_from(0, Start::Earliest)?;
            while reader.poll()?.is_some() {}
            Ok(())
        };
        if let Err(error) = read() {
            assert_eq!(error.code(), Code::OffsetGone, "{error}");
        }
    });
}
