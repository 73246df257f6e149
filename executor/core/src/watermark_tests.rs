use proptest::prelude::*;

use super::*;

fn split(name: &str) -> SplitId {
    SplitId(name.to_owned())
}

#[test]
fn the_slowest_active_input_holds_all_back() {
    let mut combiner = Combiner::new(2, UNKNOWN);
    assert_eq!(combiner.status(), InputStatus::Active);
    assert_eq!(combiner.advance(0, 100).expect("exists"), Change::default());
    assert_eq!(combiner.advance(1, 50).expect("exists").watermark, Some(50));
    assert_eq!(combiner.advance(1, 40).expect("exists"), Change::default());
    assert_eq!(combiner.idle(1).expect("exists").watermark, Some(100));
}

#[test]
fn a_channel_that_wakes_adopts_the_receivers_watermark() {
    let mut combiner = Combiner::new(2, UNKNOWN);
    let _ = combiner.advance(0, 100).expect("exists");
    let _ = combiner.idle(1).expect("exists");
    assert_eq!(combiner.wake(1).expect("exists"), (100, Change::default()));
    assert_eq!(combiner.input(1), Some((100, InputStatus::Active)));
    assert_eq!(combiner.advance(0, 200).expect("exists"), Change::default());
    assert_eq!(combiner.advance(1, 120).expect("exists").watermark, Some(120));
}

#[test]
fn the_order_of_falling_idle_does_not_matter() {
    for order in [[0, 1], [1, 0]] {
        let mut combiner = Combiner::new(2, UNKNOWN);
        let _ = combiner.advance(0, 100).expect("exists");
        let _ = combiner.advance(1, 50).expect("exists");
        for input in order {
            let _ = combiner.idle(input).expect("exists");
        }
        assert_eq!((combiner.watermark(), combiner.status()), (100, InputStatus::Idle));
    }
}

#[test]
fn an_idle_input_is_not_an_ended_one() {
    let mut combiner = Combiner::new(2, UNKNOWN);
    let _ = combiner.advance(0, 100).expect("exists");
    let _ = combiner.idle(1).expect("exists");
    assert_eq!(combiner.end(0).expect("exists").status, Some(InputStatus::Idle));
    assert_eq!(combiner.watermark(), 100);
    let change = combiner.end(1).expect("exists");
    assert_eq!(change, Change { watermark: Some(ENDED), status: Some(InputStatus::Ended) });
    assert_eq!(combiner.advance(1, 7).expect("exists"), Change::default());
}

#[test]
fn a_restored_operator_starts_where_it_was() {
    let mut combiner = Combiner::new(2, 500);
    assert_eq!(combiner.watermark(), 500);
    assert_eq!(combiner.advance(0, 300).expect("exists"), Change::default());
    assert_eq!(combiner.input(0), Some((500, InputStatus::Active)));
    assert!(combiner.advance(2, 1).is_err());
}

#[test]
fn unopened_splits_hold_minus_infinity_unless_they_follow_in_time() {
    let mut strict = SplitWatermarks::new(UNKNOWN);
    let mut timed = SplitWatermarks::new(UNKNOWN);
    for name in ["a", "b"] {
        let _ = strict.add(split(name), false);
        let _ = timed.add(split(name), true);
    }
    for splits in [&mut strict, &mut timed] {
        let _ = splits.close();
        let _ = splits.open(&split("a"), None).expect("added");
        let _ = splits.advance(&split("a"), 10).expect("added");
    }
    assert_eq!((strict.watermark(), timed.watermark()), (UNKNOWN, 10));
    for splits in [&mut strict, &mut timed] {
        let _ = splits.finish(&split("a")).expect("added");
        assert_eq!(splits.status(), InputStatus::Active);
        let _ = splits.open(&split("b"), None).expect("added");
        let _ = splits.advance(&split("b"), 20).expect("added");
        assert_eq!(splits.watermark(), 20);
        assert_eq!(splits.finish(&split("b")).expect("added").watermark, Some(ENDED));
    }
}

#[test]
fn a_subtask_without_splits_is_idle_until_it_is_closed() {
    let mut splits = SplitWatermarks::new(UNKNOWN);
    assert_eq!((splits.watermark(), splits.status()), (UNKNOWN, InputStatus::Idle));
    assert_eq!(splits.add(split("late"), false).status, Some(InputStatus::Active));
    let _ = splits.open(&split("late"), Some(5)).expect("added");
    assert_eq!(splits.finish(&split("late")).expect("added").status, Some(InputStatus::Idle));
    assert_eq!(splits.watermark(), 5);
    assert_eq!(splits.close().watermark, Some(ENDED));
}

#[test]
fn what_has_no_keys_goes_on_with_the_lowest_watermark() {
    let range = |start, end| KeyGroupRange { start, end };
    assert_eq!(restored_lowest(&[(range(0, 8), Some(7)), (range(8, 16), Some(5))]), Some(5));
    assert_eq!(restored_lowest(&[(range(0, 8), Some(7)), (range(8, 16), None)]), None);
    assert_eq!(restored_lowest(&[]), None);
}

#[test]
fn a_restored_watermark_is_the_highest_of_the_former_owners() {
    let range = |start, end| KeyGroupRange { start, end };
    let saved = [(range(0, 4), Some(5)), (range(4, 8), Some(9)), (range(8, 12), None)];
    assert_eq!(restored_watermark(&saved, range(0, 4)), Some(5));
    assert_eq!(restored_watermark(&saved, range(2, 6)), Some(9));
    assert_eq!(restored_watermark(&saved, range(8, 12)), None);
}

#[test]
fn a_split_that_was_idle_at_the_restore_point_holds_nobody_back_when_it_opens() {
    let mut splits = SplitWatermarks::new(UNKNOWN);
    for (name, watermark) in [("a", 100), ("b", 20)] {
        let _ = splits.add(split(name), false);
        let _ = splits.open(&split(name), Some(watermark)).expect("added");
    }
    let _ = splits.idle(&split("b")).expect("added");
    assert_eq!(splits.open(&split("b"), Some(20)).expect("added"), Change::default());
    assert_eq!(splits.advance(&split("a"), 200).expect("added").watermark, Some(200));
}

#[derive(Clone, Debug)]
enum Step {
    Advance(usize, i64),
    Idle(usize),
    Wake(usize),
    End(usize),
}

fn step(inputs: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..inputs, -50_i64..50).prop_map(|(i, w)| Step::Advance(i, w)),
        2 => (0..inputs).prop_map(Step::Idle),
        2 => (0..inputs).prop_map(Step::Wake),
        1 => (0..inputs).prop_map(Step::End),
    ]
}

proptest! {
    /// Against the definition, written over plain vectors.
    #[test]
    fn the_combiner_agrees_with_its_definition(steps in prop::collection::vec(step(4), 0..80)) {
        let mut combiner = Combiner::new(4, UNKNOWN);
        let mut marks = [UNKNOWN; 4];
        let mut status = [InputStatus::Active; 4];
        let mut combined = UNKNOWN;
        for step in steps {
            let change = match step {
                Step::Advance(i, w) => {
                    marks[i] = marks[i].max(w);
                    if status[i] != InputStatus::Ended { status[i] = InputStatus::Active; }
                    combiner.advance(i, w)
                }
                Step::Idle(i) => {
                    if status[i] != InputStatus::Ended { status[i] = InputStatus::Idle; }
                    combiner.idle(i)
                }
                Step::Wake(i) => {
                    marks[i] = marks[i].max(combined);
                    if status[i] != InputStatus::Ended { status[i] = InputStatus::Active; }
                    combiner.wake(i).map(|(_, change)| change)
                }
                Step::End(i) => { status[i] = InputStatus::Ended; combiner.end(i) }
            }.expect("the input exists");
            let active = (0..4).filter(|i| status[*i] == InputStatus::Active).map(|i| marks[i]).min();
            let candidate = if let Some(slowest) = active {
                slowest
            } else if status.iter().all(|s| *s == InputStatus::Ended) {
                ENDED
            } else {
                marks.into_iter().max().expect("four inputs")
            };
            let before = combined;
            combined = combined.max(candidate);
            prop_assert_eq!(combiner.watermark(), combined);
            prop_assert_eq!(change.watermark, (combined > before).then_some(combined));
        }
    }
}
