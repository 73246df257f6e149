//! Reading what another process writes, up to what is synced and no further (P11).

use std::time::Duration;

use super::*;
use crate::env::sim::{CrashPlan, Interrupt};
use crate::log::{AppendOptions, LogReader, OwnerToken, Retention};

/// A process that reads on.
struct Follower {
    topic: Arc<Topic>,
    reader: LogReader,
    read: Vec<i64>,
}

impl Follower {
    fn new(env: &Env) -> Self {
        let topic = process(env);
        let reader = topic.read_from(0, Start::Earliest).expect("there");
        Self { topic, reader, read: Vec::new() }
    }

    fn read_on(&mut self, context: &str) {
        self.topic.partition(0).expect("there").refresh().unwrap_or_else(|e| panic!("{context}: {e}"));
        while let Some(batch) = self.reader.poll().unwrap_or_else(|e| panic!("{context}: {e}")) {
            self.read.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
        }
    }
}

#[test]
fn p11_a_reader_takes_nothing_that_is_not_synced() {
    for at in 1.. {
        let context = format!("before operation {at}");
        let sim = Env::sim(71);
        let interrupt = Arc::<Interrupt>::default();
        let owner = process(&interrupt.env(&sim.env));
        commit_as_owner(&owner, &staged_by(&owner, 1, 0..10), 5).expect("it owns the log");
        let next = staged_by(&owner, 2, 10..20);
        let read = Arc::new(std::sync::Mutex::new(Follower::new(&sim.env)));
        let (follower, place) = (read.clone(), context.clone());
        interrupt.arm(at, move || follower.lock().expect("no panic").read_on(&place));
        let disk = sim.disk.clone();
        interrupt.arm(at, move || disk.cut_power_after(0));
        let done = commit_as_owner(&owner, &next, 5);
        if !interrupt.disarm() {
            assert!(at > 8 && done.is_ok(), "{at} operations");
            return;
        }
        sim.disk.crash(&CrashPlan::Nothing);
        let read = std::mem::take(&mut read.lock().expect("no panic").read);
        let recovered = process(&sim.env);
        recovered.partition(0).expect("there").take_over(OwnerToken(9)).expect("it takes over");
        let found = ids(&recovered, 0).expect("whole");
        assert!(found.starts_with(&read), "{context}: {read:?} was read, {found:?} is there");
    }
}

/// Between the reader's look at the folder and its look at the segment another one takes over, and the former owner, who
/// has not noticed, writes behind what that one found.
#[test]
fn p11_a_reader_takes_nothing_that_a_former_owner_writes_behind_the_end() {
    let mut ways = 0;
    for reads in 1.. {
        for writes in 1.. {
            let context = format!("before operation {writes} of the owner, before operation {reads} of the reader");
            let sim = Env::sim(72);
            let (slow, slow_reader) = (Arc::<Interrupt>::default(), Arc::<Interrupt>::default());
            let (old, new) = (process(&slow.env(&sim.env)), process(&sim.env));
            commit_as_owner(&old, &staged_by(&old, 1, 0..10), 5).expect("it owns the log");
            let mut follower = Follower::new(&slow_reader.env(&sim.env));
            follower.read_on(&context);
            let (of_old, of_new) = (staged_by(&old, 2, 10..20), staged_by(&old, 3, 20..30));
            let has_written = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let (written, interrupt) = (has_written.clone(), slow.clone());
            slow_reader.arm(reads, move || {
                interrupt.arm(writes, move || commit_as_owner(&new, &of_new, 9).expect("it takes over"));
                let _ = commit_as_owner(&old, &of_old, 5);
                written.store(interrupt.disarm(), std::sync::atomic::Ordering::Relaxed);
            });
            follower.read_on(&context);
            let is_over = !slow_reader.disarm();
            if is_over || !has_written.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(!is_over || reads > 3, "{reads} operations of the reader");
                if is_over {
                    assert!(ways > 60, "{ways}");
                    return;
                }
                break;
            }
            ways += 1;
            follower.read_on(&context);
            assert_eq!(follower.read, ids(&process(&sim.env), 0).expect("whole"), "{context}");
        }
    }
}

/// Its owner died before it said that it was synced, and nobody comes after it.
#[test]
fn what_a_dead_owner_wrote_is_read_after_a_while() {
    for at in 1.. {
        let sim = Env::sim(73);
        let interrupt = Arc::<Interrupt>::default();
        let owner = process(&interrupt.env(&sim.env));
        commit_as_owner(&owner, &staged_by(&owner, 1, 0..10), 5).expect("it owns the log");
        interrupt.die_after(at);
        let appended = owner.append(0, &rows(10..20), &AppendOptions::default());
        let mut follower = Follower::new(&sim.env);
        follower.read_on("at once");
        let at_once = follower.read.len();
        sim.clock.advance(Duration::from_secs(2));
        follower.read_on("later");
        // What nobody was told of may be there or not.
        let whole = follower.read == (0..20).collect::<Vec<_>>();
        assert!(whole || (appended.is_err() && follower.read == (0..10).collect::<Vec<_>>()), "{:?}", follower.read);
        if !interrupt.is_dead() {
            assert!(at > 3 && at_once == 20, "{at} operations");
            return;
        }
    }
}

/// Rows were read, and the power failed before it was known to everyone that they are synced: a reader that goes on
/// behind them waits until the next owner knows.
#[test]
fn a_reader_goes_on_behind_what_is_not_known_to_be_synced() {
    let sim = Env::sim(74);
    let owner = process(&sim.env);
    commit_as_owner(&owner, &staged_by(&owner, 1, 0..10), 5).expect("it owns the log");
    owner.append(0, &rows(10..20), &AppendOptions::default()).expect("durable");
    let mut follower = Follower::new(&sim.env);
    follower.read_on("marked");
    assert_eq!(follower.read.len(), 20);
    sim.disk.crash(&CrashPlan::Nothing);
    let (reading, next) = (process(&sim.env), process(&sim.env));
    let mut reader = reading.read_from(0, Start::Offset(20)).expect("the rows are there");
    assert!(reader.poll().expect("nothing yet").is_none());
    commit_as_owner(&next, &staged_by(&next, 2, 20..30), 9).expect("it takes over");
    reading.partition(0).expect("there").refresh().expect("whole");
    let batch = reader.poll().expect("whole").expect("the next rows");
    assert_eq!((batch.first_offset, batch.rows.num_rows()), (20, 10));
}

/// The segment that it stands in was sealed and removed before this process heard of either.
#[test]
fn a_reader_whose_segment_went_goes_on_in_the_next() {
    let sim = Env::sim(75);
    let (first, second) = (process(&sim.env), process(&sim.env));
    commit_as_owner(&first, &staged_by(&first, 1, 0..10), 5).expect("it owns the log");
    let mut follower = Follower::new(&sim.env);
    follower.read_on("the first segment");
    commit_as_owner(&second, &staged_by(&second, 2, 10..500), 9).expect("it takes over");
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    assert!(second.partition(0).expect("there").retain(&retention).expect("removes") > 0);
    follower.read_on("the second segment");
    assert_eq!(follower.read, (0..500).collect::<Vec<_>>());
}
