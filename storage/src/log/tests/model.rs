//! Random operations against a plain vector.

use proptest::prelude::*;

use super::*;
use crate::log::{AppendOptions, OwnerToken, Retention, StagedHandle, TopicSpec};

#[derive(Clone, Debug)]
enum Step {
    /// Appends in one group, of these many rows each.
    Append(Vec<usize>),
    /// Stage and commit under the next epoch.
    Commit(usize),
    /// Commit any earlier handle again.
    Replay(prop::sample::Index),
    Reopen,
    /// Kill the power with arbitrary survivals, and start again.
    Crash,
    TakeOver,
    Retain(u64),
    /// Read from any offset still there.
    Read(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(1..40_usize, 1..4).prop_map(Step::Append),
        3 => (1..60_usize).prop_map(Step::Commit),
        1 => any::<prop::sample::Index>().prop_map(Step::Replay),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => Just(Step::TakeOver),
        1 => (4_000..40_000_u64).prop_map(Step::Retain),
        2 => any::<prop::sample::Index>().prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_vector(steps in prop::collection::vec(step(), 1..40), seed in any::<u64>()) {
        let sim = Env::sim(seed);
        let mut topic = open(&sim.env, FOLDER).create(&name("t"), TopicSpec::new(1)).expect("new");
        let mut model: Vec<i64> = Vec::new();
        let mut handles: Vec<StagedHandle> = Vec::new();
        let mut owner = 1;
        for step in steps {
            let from = model.len() as i64;
            match step {
                Step::Append(counts) => {
                    let mut pending = Vec::new();
                    for count in counts {
                        let from = model.len() as i64;
                        let batch = rows(from..from + count as i64);
                        pending.push((from as u64, topic.append_later(0, &batch, &AppendOptions::default()).expect("queued")));
                        model.extend(from..from + count as i64);
                    }
                    for (from, pending) in pending {
                        prop_assert_eq!(pending.wait().expect("room").offsets.start, from);
                    }
                }
                Step::Commit(count) => {
                    let mut staging = topic.stage(origin(1, handles.len() as u64 + 1, 0), 0);
                    let ids: Vec<i64> = (from..from + count as i64).collect();
                    for piece in ids.chunks(7) {
                        staging.write(0, &rows(piece.iter().copied()), None).expect("room");
                    }
                    let handle = staging.prepare().expect("durable");
                    let done = topic.commit(std::slice::from_ref(&handle)).expect("committed");
                    prop_assert!(!done[0].appended.was_done);
                    handles.push(handle);
                    model.extend(ids);
                }
                Step::Replay(index) => {
                    if !handles.is_empty() {
                        let handle = index.get(&handles).clone();
                        prop_assert!(topic.commit(&[handle]).expect("replayed")[0].appended.was_done);
                    }
                }
                Step::Reopen => topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there"),
                Step::Crash => {
                    sim.disk.crash_arbitrary();
                    topic = open(&sim.env, FOLDER).topic(&name("t")).expect("there");
                }
                Step::TakeOver => {
                    owner += 1;
                    let takeover = topic.partition(0).expect("open").take_over(OwnerToken(owner)).expect("newer");
                    prop_assert_eq!(takeover.end_offset, model.len() as u64);
                }
                Step::Retain(bytes) => {
                    let retention = Retention { bytes: Some(bytes), ..Retention::default() };
                    topic.partition(0).expect("open").retain(&retention).expect("removed");
                }
                Step::Read(index) => {
                    let partition = topic.partition(0).expect("open");
                    let (first, end) = (partition.first_offset(), partition.end_offset());
                    let offset = first + index.index((end - first) as usize + 1) as u64;
                    let mut reader = partition.read_from(offset).expect("held");
                    let mut found: Vec<i64> = Vec::new();
                    while let Some(batch) = reader.poll().expect("sound") {
                        found.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
                    }
                    prop_assert_eq!(found.as_slice(), &model[offset as usize..]);
                }
            }
            let partition = topic.partition(0).expect("sound");
            prop_assert_eq!(partition.end_offset(), model.len() as u64);
        }
        let first = topic.partition(0).expect("open").first_offset() as usize;
        let found = ids(&topic, 0).expect("sound");
        prop_assert_eq!(found.as_slice(), &model[first..]);
    }
}
