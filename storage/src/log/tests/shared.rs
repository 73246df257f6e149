//! Several processes that share the topics of a cluster: one owns a partition, and the next one takes it over (P11).

use std::time::Duration;

use qanat_proto::Code;

use super::*;
use crate::log::segment::parse_sequence;
use crate::log::staging::STAGED_FOLDER;
use crate::log::{AppendOptions, OwnerToken, Retention, StagedHandle, TopicSpec};

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

/// A process that wakes up behind its successor begins files that no later generation may come to take away.
#[test]
fn what_was_not_prepared_goes_with_its_writer() {
    let sim = Env::sim(4);
    let topic = process(&sim.env);
    let kept = staged(&topic, 1, 0..10);
    let count = || sim.env.disk.list(&topic.folder_of(0).join(STAGED_FOLDER)).expect("a folder").len();
    assert_eq!(count(), 1);
    let mut staging = topic.stage(origin(1, 2, 0), 0);
    staging.write(0, &rows(10..20), None).expect("room");
    assert_eq!(count(), 2);
    drop(staging);
    assert_eq!(count(), 1, "what is prepared stays");
    commit_as_owner(&topic, &kept, 5).expect("it owns the log");
    assert_eq!(all(&topic), (0..10).collect::<Vec<_>>());
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

/// What another process has appended may not be durable yet.
#[test]
fn p11_whoever_does_not_own_the_log_says_of_no_commit_that_it_is_done() {
    let sim = Env::sim(10);
    let (owner, former) = (process(&sim.env), process(&sim.env));
    let handles = [staged(&owner, 1, 0..10), staged(&owner, 2, 10..20)];
    former.commit_owned(&handles[..1], OwnerToken(5)).expect("it owns the log");
    owner.commit_owned(&handles[1..], OwnerToken(9)).expect("it takes over");
    for asked in [5, 9] {
        // As a commit that goes on after its process has heard of the new owner.
        former.partition(0).expect("open").disown(OwnerToken(asked));
        let error = former.commit_as(&handles[1..], Some(OwnerToken(asked))).expect_err("it cannot know");
        assert_eq!(error.code(), Code::Fenced);
    }
    assert_eq!(all(&former), (0..20).collect::<Vec<_>>());
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

/// A machine that dies while it removes segments leaves some of them: they go with the next takeover.
#[test]
fn what_a_removal_left_is_no_part_of_the_log_and_is_swept() {
    let sim = Env::sim(7);
    let (first, second) = (process(&sim.env), process(&sim.env));
    let commit = |epoch: u64, owner| {
        let handle = staged(&first, epoch, epoch as i64 * 10..epoch as i64 * 10 + 10);
        process(&sim.env).commit_owned(&[handle], OwnerToken(owner)).expect("it owns the log");
    };
    (1..5).for_each(|epoch| commit(epoch, epoch + 4));
    let numbers = |kind: &str| -> Vec<u64> {
        let entries = sim.env.disk.list(&second.folder_of(0)).expect("there");
        entries.iter().filter_map(|entry| parse_sequence(&entry.path, kind)).collect()
    };
    let (segments, markers) = (numbers("log"), numbers("seal"));
    assert!(markers.len() >= 3, "each has sealed what the one before wrote: {markers:?}");
    assert_eq!(all(&second), (10..50).collect::<Vec<_>>());
    // The first two and their markers go, and the machine dies when the second of the four is gone.
    let (begin, record) = (segments[0], second.folder_of(0).join(format!("{:016}.first", segments[3])));
    crate::crash_safe::write_new(&sim.env, &record, &[]).expect("new");
    crate::crash_safe::remove(&sim.disk, &segment_path(&second.folder_of(0), begin + 1)).expect("there");
    let kept = all(&process(&sim.env));
    assert!(kept.len() < 40 && (kept[0]..50).eq(kept.iter().copied()), "{kept:?}");
    assert_eq!(all(&second), kept, "whoever has seen them does not read them again");
    commit(5, 12);
    assert!([numbers("log"), numbers("seal")].concat().iter().all(|number| *number >= segments[3]));
    assert_eq!(all(&process(&sim.env)), [kept, (50..60).collect()].concat());
}

/// It may have been asleep for as long as the topic was deleted and made anew.
#[test]
fn a_former_owner_removes_nothing_of_another_topic() {
    let sim = Env::sim(9);
    let open =
        || Topics::open_shared_with(sim.env.clone(), Path::new(FOLDER), GroupCommit::inline(), SMALL).expect("opens");
    let fill = |topics: &Topics, owner: u64, ids: std::ops::Range<i64>| {
        let topic = topics.get_or_create(&name("t"), TopicSpec::new(1)).expect("there");
        for (epoch, id) in (1..).zip(ids) {
            let handle = staged(&topic, epoch, id * 1_000..id * 1_000 + 150);
            topic.commit_owned(&[handle], OwnerToken(owner)).expect("it owns the log");
        }
        topic
    };
    let (asleep, awake) = (open(), open());
    let before = fill(&asleep, 5, 0..6);
    awake.delete(&name("t")).expect("there");
    let after = fill(&awake, 9, 10..14);
    let whole = all(&after);
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    let _ = before.partition(0).expect("open").retain(&retention);
    assert_eq!(all(&after), whole);
    // Nor does it append anything, whether it goes on in its segment or begins one.
    for of_asleep in [4_000..4_010, 4_000..4_150] {
        let error = before.append(0, &rows(of_asleep), &AppendOptions::default()).expect_err("it is no topic any more");
        assert!(matches!(error.code(), Code::Fenced | Code::PathNotFound), "{error}");
        assert_eq!(all(&after), whole);
    }
    assert_eq!(all(&process(&sim.env)), whole);
    // Nor does an old view take back what its successor has removed.
    let partition = after.partition(0).expect("open");
    let (late, offset) = (process_with(&sim.env, SMALL), partition.segment_offsets()[2]);
    let handle = staged(&after, 9, 90_000..90_150);
    late.commit_owned(std::slice::from_ref(&handle), OwnerToken(12)).expect("it takes over");
    late.partition(0).expect("open").remove_before(partition.segment_offsets()[4]).expect("removes");
    let kept = all(&late);
    let _ = partition.remove_before(offset);
    assert_eq!(all(&process(&sim.env)), kept);
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
