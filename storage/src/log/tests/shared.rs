//! Several processes that share the topics of a cluster: one owns a partition, and the next one takes it over (P11).

use std::time::Duration;

use qanat_proto::Code;

use super::*;
use crate::log::{OwnerToken, Retention, StagedHandle, TopicSpec};

/// One process: what it knows of the topic is its own.
fn process(env: &Env) -> Arc<Topic> {
    process_with(env, LogOptions::default())
}

fn process_with(env: &Env, options: LogOptions) -> Arc<Topic> {
    let folder = Path::new(FOLDER);
    let topics = Topics::open_shared_with(env.clone(), folder, GroupCommit::inline(), options).expect("opens");
    topics.get_or_create(&name("t"), TopicSpec::new(1)).expect("there")
}

/// Rows staged by a subtask of some job, ready for whoever owns the log.
fn staged(topic: &Arc<Topic>, epoch: u64, ids: std::ops::Range<i64>) -> StagedHandle {
    let mut staging = topic.stage(origin(1, epoch, 0), 0);
    staging.write(0, &rows(ids), None).expect("room");
    staging.prepare().expect("durable")
}

fn all(topic: &Topic) -> Vec<i64> {
    topic.partition(0).expect("there").refresh().expect("whole");
    ids(topic, 0).expect("whole")
}

#[test]
fn the_next_owner_takes_over_and_the_one_before_appends_nothing_more() {
    let sim = Env::sim(3);
    let (stager, first, second) = (process(&sim.env), process(&sim.env), process(&sim.env));
    let one = staged(&stager, 1, 0..10);
    first.commit_owned(std::slice::from_ref(&one), OwnerToken(5)).expect("it owns the log");
    assert_eq!(all(&stager), (0..10).collect::<Vec<_>>());
    let two = staged(&stager, 2, 10..20);
    second.commit_owned(std::slice::from_ref(&two), OwnerToken(9)).expect("it takes over");
    // A zombie with a permit that was answered already, and with one that was not.
    let three = staged(&stager, 3, 20..30);
    for handle in [&two, &three] {
        let fenced = first.commit_owned(std::slice::from_ref(handle), OwnerToken(5)).expect_err("fenced");
        assert_eq!(fenced.code(), Code::Fenced);
    }
    // Whoever is told again finds it done, and nothing twice.
    second.commit_owned(std::slice::from_ref(&one), OwnerToken(9)).expect("done before");
    second.commit_owned(std::slice::from_ref(&two), OwnerToken(9)).expect("done before");
    second.commit_owned(std::slice::from_ref(&three), OwnerToken(9)).expect("new");
    for topic in [&stager, &first, &second, &process(&sim.env)] {
        assert_eq!(all(topic), (0..30).collect::<Vec<_>>());
    }
    // The owner that was, again: as a newer one.
    let four = staged(&stager, 4, 30..40);
    first.commit_owned(std::slice::from_ref(&four), OwnerToken(12)).expect("it takes over");
    assert_eq!(all(&second), (0..40).collect::<Vec<_>>());
}

/// The marker that tells it of its end goes with the segment.
#[test]
fn p11_an_owner_whose_segment_was_removed_acknowledges_nothing() {
    let sim = Env::sim(6);
    let (first, second) = (process(&sim.env), process(&sim.env));
    let handles = [staged(&first, 1, 0..10), staged(&first, 2, 10..20), staged(&first, 3, 20..30)];
    first.commit_owned(&handles[..1], OwnerToken(5)).expect("it owns the log");
    second.commit_owned(&handles[1..2], OwnerToken(9)).expect("it takes over");
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    assert!(second.partition(0).expect("there").retain(&retention).expect("removes") > 0);
    assert_eq!(all(&process(&sim.env)), (10..20).collect::<Vec<_>>());
    let late = first.commit_owned(&handles[2..], OwnerToken(5)).expect_err("it was replaced long ago");
    assert_eq!(late.code(), Code::Fenced);
    assert_eq!(all(&second), (10..20).collect::<Vec<_>>());
    second.commit_owned(&handles[2..], OwnerToken(9)).expect("new");
    assert_eq!(all(&process(&sim.env)), (10..30).collect::<Vec<_>>());
}

/// The number of the segment that it would begin next may be free again.
#[test]
fn p11_an_owner_whose_successors_segments_were_removed_begins_none() {
    let sim = Env::sim(8);
    let small = || process_with(&sim.env, SMALL);
    let (first, second) = (small(), small());
    // From the third on, none fits behind another one.
    let ids_of = |epoch: i64| epoch * 1_000..epoch * 1_000 + if epoch > 2 { 150 } else { 20 };
    let handles: Vec<StagedHandle> = (1..9).map(|epoch| staged(&first, epoch as u64, ids_of(epoch))).collect();
    let (of_first, others) = handles.split_at(2);
    let (of_second, late) = others.split_at(5);
    of_first.iter().for_each(|h| drop(first.commit_owned(std::slice::from_ref(h), OwnerToken(5)).expect("it owns it")));
    of_second
        .iter()
        .for_each(|h| drop(second.commit_owned(std::slice::from_ref(h), OwnerToken(9)).expect("it owns it")));
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    assert!(second.partition(0).expect("there").retain(&retention).expect("removes") > 3);
    let kept = all(&small());
    let error = first.commit_owned(late, OwnerToken(5)).expect_err("it was replaced long ago");
    assert_eq!(error.code(), Code::Fenced);
    assert_eq!(all(&small()), kept);
    second.commit_owned(late, OwnerToken(9)).expect("new");
    assert_eq!(all(&small()), [kept, ids_of(8).collect()].concat());
}

/// A machine that dies while it removes a segment may keep the marker: nobody needs it, and it goes with the next
/// takeover.
#[test]
fn a_marker_without_a_segment_is_swept() {
    let sim = Env::sim(7);
    let (first, second) = (process(&sim.env), process(&sim.env));
    for (epoch, owner) in [(1, 5), (2, 9)] {
        let handle = staged(&first, epoch, 0..10);
        second.commit_owned(&[handle], OwnerToken(owner)).expect("it owns the log");
    }
    let of_kind = |kind: &str| -> Vec<std::path::PathBuf> {
        let entries = sim.env.disk.list(&second.folder_of(0)).expect("there");
        entries.into_iter().map(|entry| entry.path).filter(|path| path.extension().is_some_and(|k| k == kind)).collect()
    };
    let markers = of_kind("seal");
    assert_eq!(markers.len(), 1, "the second has sealed what the first wrote");
    let segments = of_kind("log");
    for segment in &segments[..segments.len() - 1] {
        sim.env.disk.remove_file(segment).expect("there");
    }
    let handle = staged(&first, 3, 10..20);
    process(&sim.env).commit_owned(&[handle], OwnerToken(12)).expect("it takes over");
    assert!(!of_kind("seal").contains(&markers[0]));
}

#[test]
fn the_owner_alone_applies_the_retention() {
    let sim = Env::sim(5);
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    let process = || {
        let topics = Topics::open_shared(sim.env.clone(), Path::new(FOLDER), GroupCommit::inline()).expect("opens");
        let topic = topics.get_or_create(&name("t"), TopicSpec { partitions: 1, retention }).expect("there");
        (topics, topic)
    };
    let ((first, of_first), (second, of_second)) = (process(), process());
    let (bystander, of_bystander) = process();
    let handles = [staged(&of_bystander, 1, 0..10), staged(&of_bystander, 2, 10..20)];
    of_first.commit_owned(&handles[..1], OwnerToken(5)).expect("it owns the log");
    // A takeover begins a segment of its own.
    of_second.commit_owned(&handles[1..], OwnerToken(9)).expect("it takes over");
    assert_eq!(first.retain_owned().expect("it has heard"), 0, "it does not own it any more");
    assert_eq!(bystander.retain_owned().expect("nothing to do"), 0);
    assert_eq!(all(&of_first), (0..20).collect::<Vec<_>>());
    assert!(second.retain_owned().expect("removes") > 0);
    let (_, of_another) = process();
    assert_eq!(all(&of_another), (10..20).collect::<Vec<_>>());
    // What was committed is known still: a zombie's permit appends nothing twice.
    of_second.commit_owned(&handles[..1], OwnerToken(9)).expect("done before");
    assert_eq!(all(&of_another), (10..20).collect::<Vec<_>>());
}

#[test]
fn readers_hear_of_what_another_process_appends() {
    let sim = Env::sim(4);
    let (reader, owner) = (process(&sim.env), process(&sim.env));
    let mut following = reader.read_from(0, Start::Earliest).expect("there");
    for epoch in 1..5 {
        let from = i64::try_from(epoch).expect("few") * 10;
        let handle = staged(&reader, epoch, from..from + 10);
        // Each epoch by another owner.
        owner.commit_owned(&[handle], OwnerToken(epoch + 1)).expect("it owns the log");
        let batch = following.next(Duration::from_secs(1), &|| false).expect("whole").expect("rows");
        assert_eq!((batch.rows.num_rows(), batch.first_offset), (10, (epoch - 1) * 10));
    }
}

/// A process that owns a partition again hears late of what it was told as an earlier owner.
#[test]
fn an_old_token_ends_nothing_of_a_newer_one_in_the_same_process() {
    let sim = Env::sim(5);
    let topic = process(&sim.env);
    let handles = [staged(&topic, 1, 0..10), staged(&topic, 2, 10..20), staged(&topic, 3, 20..30)];
    topic.commit_owned(&handles[..1], OwnerToken(9)).expect("it owns the log");
    let late = topic.commit_owned(&handles[1..2], OwnerToken(5)).expect_err("fenced");
    assert_eq!(late.code(), Code::Fenced);
    assert_eq!(topic.own(0, OwnerToken(5)).map(drop).expect_err("fenced").code(), Code::Fenced);
    topic.commit_owned(&handles[1..], OwnerToken(9)).expect("it owns it still");
    assert_eq!(all(&topic), (0..30).collect::<Vec<_>>());
}

#[test]
fn what_can_be_removed_ends_where_a_segment_does() {
    let sim = Env::sim(6);
    let topic = process(&sim.env);
    let handles = [staged(&topic, 1, 0..10), staged(&topic, 2, 10..20)];
    topic.commit_owned(&handles[..1], OwnerToken(5)).expect("it owns the log");
    // A takeover begins a segment of its own.
    topic.commit_owned(&handles[1..], OwnerToken(9)).expect("it takes over");
    let partition = topic.own(0, OwnerToken(9)).expect("its own");
    let other = process(&sim.env);
    assert_eq!(all(&other), (0..20).collect::<Vec<_>>());
    let removable = [0, 9, 10, 15, 20].map(|offset| partition.removable(offset));
    assert_eq!(removable, [None, None, Some(10), Some(10), Some(10)]);
    assert!(partition.remove_before(10).expect("removes") > 0);
    assert_eq!((partition.first_offset(), partition.removable(20)), (10, None));
    assert_eq!(all(&other), (10..20).collect::<Vec<_>>(), "it sees what is gone");
}
