//! Topics made and deleted because a group decided so, told to several processes, some of them late.

use qanat_proto::Code;
use qanat_proto::owner::{NewTopic, TopicChange};

use super::*;
use crate::log::{Changed, OwnerToken};

fn process(env: &Env) -> Topics {
    Topics::open_shared(env.clone(), Path::new(FOLDER), GroupCommit::inline()).expect("opens")
}

fn make(id: u64, partitions: u32) -> TopicChange {
    TopicChange::Create(NewTopic { id, partitions, bytes: Some(1 << 20), age_ms: None, consumed: true })
}

fn known(topics: &Topics) -> Option<(u64, u32)> {
    topics.find(&name("t")).expect("whole").map(|topic| (topic.id(), topic.partitions()))
}

#[test]
fn a_late_change_comes_about_no_more() {
    let sim = Env::sim(1);
    let (first, second) = (process(&sim.env), process(&sim.env));
    let made = |topics: &Topics, number, change: &TopicChange| topics.change(&name("t"), number, change).expect("made");
    assert_eq!(made(&first, 3, &make(70, 2)), Changed::Made);
    assert_eq!(made(&second, 3, &make(70, 2)), Changed::Made, "told again");
    assert_eq!((known(&first), known(&second)), (Some((70, 2)), Some((70, 2))));
    let spec = first.find(&name("t")).expect("whole").expect("there").spec().clone();
    assert_eq!((spec.retention.bytes, spec.retention.consumed), (Some(1 << 20), true));
    let exists = second.change(&name("t"), 4, &make(71, 1)).expect_err("another one");
    assert_eq!(exists.code(), Code::Usage);
    // One that is about another topic of the name removes nothing.
    assert_eq!(made(&second, 5, &TopicChange::Delete { id: 71 }), Changed::Made);
    assert_eq!(known(&second), Some((70, 2)));
    assert_eq!(made(&second, 6, &TopicChange::Delete { id: 70 }), Changed::Made);
    assert_eq!((known(&first), known(&second)), (None, None));
    // A zombie wakes up, and so does a client that did not hear that it was made.
    assert_eq!(made(&first, 3, &make(70, 2)), Changed::Outdated);
    assert_eq!(made(&first, 7, &make(70, 2)), Changed::Made);
    assert_eq!(known(&first), None);
    assert_eq!(made(&second, 8, &make(72, 1)), Changed::Made);
    assert_eq!(made(&first, 6, &TopicChange::Delete { id: 72 }), Changed::Outdated);
    assert_eq!(known(&first), Some((72, 1)), "it sees the new one");
    assert_eq!(first.list().expect("listed"), [name("t")]);
}

/// What a process knew of a topic is not what it knows of the next one of its name.
#[test]
fn the_next_topic_of_a_name_is_another_for_every_process() {
    let sim = Env::sim(2);
    let (owner, other) = (process(&sim.env), process(&sim.env));
    let change = |number, change: &TopicChange| owner.change(&name("t"), number, change).expect("made");
    let stage = |rows: &RecordBatch, epoch| {
        let mut staging = other.topic(&name("t")).expect("there").stage(origin(1, epoch, 0), 0);
        staging.write(0, rows, None).expect("fits");
        staging.prepare().expect("durable")
    };
    change(1, &make(70, 1));
    let handle = stage(&rows(0..10), 1);
    owner.topic(&name("t")).expect("there").commit_owned(&[handle], OwnerToken(5)).expect("appended");
    change(2, &TopicChange::Delete { id: 70 });
    change(3, &make(71, 1));
    // Its columns are others.
    let column: arrow::array::ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let handle = stage(&RecordBatch::try_from_iter([("text", column)]).expect("a batch"), 2);
    let topic = owner.topic(&name("t")).expect("there");
    topic.commit_owned(&[handle], OwnerToken(5)).expect("appended");
    assert_eq!(topic.partition(0).expect("there").end_offset(), 1);
}

/// Whatever dies in the middle, told again it is made.
#[test]
fn a_change_that_died_is_made_when_it_is_told_again() {
    let changes = [(1, make(70, 2), Some((70, 2))), (2, TopicChange::Delete { id: 70 }, None)];
    for (index, (number, change, after)) in changes.iter().enumerate() {
        let sim = Env::sim(3);
        sim.disk.record();
        let topics = process(&sim.env);
        for (number, change, _) in &changes[..=index] {
            topics.change(&name("t"), *number, change).expect("made");
        }
        for state in sim.disk.take_trace().crash_states() {
            let topics = process(&reboot(&sim, &state));
            // What came before was answered, or the number was not given yet.
            for (number, change, _) in &changes[..index] {
                topics.change(&name("t"), *number, change).expect("known");
            }
            assert_eq!(topics.change(&name("t"), *number, change).expect("made"), Changed::Made);
            assert_eq!(known(&topics), *after);
        }
    }
}
