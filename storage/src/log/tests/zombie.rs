//! Takeover against an owner that lives (P11): each of the two is interrupted by all of the other, before each of its
//! operations.

use std::sync::Mutex;

use qanat_proto::{Code, Result};

use super::*;
use crate::env::sim::Interrupt;
use crate::log::{Retention, StagedHandle};

/// The owner that is replaced: fenced, or done before it was.
fn is_done(result: Result<()>, context: &str) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), Code::Fenced, "{context}: {error}");
            false
        }
    }
}

/// `is_same`: both have the same commit to do, as when it is said again to the next owner.
fn play(takes_over_first: bool, is_same: bool) {
    let mut at = 1;
    loop {
        let context = format!("takeover first: {takes_over_first}, the same: {is_same}, before operation {at}");
        let sim = Env::sim(41);
        let interrupt = Arc::<Interrupt>::default();
        let slow = interrupt.env(&sim.env);
        let (old_env, new_env) = if takes_over_first { (&sim.env, &slow) } else { (&slow, &sim.env) };
        let (old, new) = (process(old_env), process(new_env));
        let begun = staged_by(&old, 1, 0..10);
        commit_as_owner(&old, &begun, 5).expect("it owns the log");
        let of_old = staged_by(&old, 2, 10..20);
        let of_new = if is_same { of_old.clone() } else { staged_by(&old, 3, 20..30) };
        let old_result = Arc::<Mutex<Option<Result<()>>>>::default();
        if takes_over_first {
            let (old, handle, result) = (old.clone(), of_old.clone(), old_result.clone());
            let act = move || *result.lock().expect("no panic") = Some(commit_as_owner(&old, &handle, 5));
            interrupt.arm(at, act);
            commit_as_owner(&new, &of_new, 9).unwrap_or_else(|e| panic!("{context}: {e}"));
        } else {
            let (new, handle, told) = (new.clone(), of_new.clone(), context.clone());
            let act = move || commit_as_owner(&new, &handle, 9).unwrap_or_else(|e| panic!("{told}: {e}"));
            interrupt.arm(at, act);
            *old_result.lock().expect("no panic") = Some(commit_as_owner(&old, &of_old, 5));
        }
        if !interrupt.disarm() {
            assert!(at > 20, "{at} operations");
            return;
        }
        let result = old_result.lock().expect("no panic").take().expect("it was tried");
        let was_done = is_done(result, &context);
        let whole: Vec<i64> = (0..if is_same { 20 } else { 30 }).collect();
        let of_old_rows = |id: &i64| !is_same && (10..20).contains(id);
        let least: Vec<i64> = whole.iter().copied().filter(|id| was_done || !of_old_rows(id)).collect();
        let all = |topic: &Arc<Topic>| {
            topic.partition(0).expect("there").refresh().unwrap_or_else(|e| panic!("{context}: {e}"));
            let mut all = ids(topic, 0).unwrap_or_else(|e| panic!("{context}: {e}"));
            all.sort_unstable();
            all
        };
        let reader = process(&sim.env);
        // Everything that was acknowledged. What was refused may stand there, whole, for the next owner to find.
        let found = all(&reader);
        assert!(found == least || found == whole, "{context}: done {was_done}, {found:?}");
        // What was refused is done by the next owner, and what was done is not done again.
        for handle in [&begun, &of_old, &of_new] {
            commit_as_owner(&new, handle, 9).unwrap_or_else(|e| panic!("{context}: {e}"));
        }
        assert_eq!(all(&reader), whole, "{context}");
        let late = staged_by(&old, 4, 90..91);
        assert_eq!(commit_as_owner(&old, &late, 5).expect_err("it is over").code(), Code::Fenced, "{context}");
        assert_eq!(all(&reader), whole, "{context}");
        at += 1;
    }
}

#[test]
fn p11_an_owner_is_replaced_at_every_moment_of_its_commit() {
    play(false, true);
    play(false, false);
}

#[test]
fn p11_an_owner_that_lives_commits_at_every_moment_of_its_replacement() {
    play(true, true);
    play(true, false);
}

/// One handle of each job, which has the rows from ten times its number on.
fn ten_rows_each(topic: &Arc<Topic>, jobs: std::ops::Range<u128>) -> Vec<StagedHandle> {
    jobs.map(|job| staged_by(topic, job, job as i64 * 10..job as i64 * 10 + 10)).collect()
}

/// What a process reads once it has looked again.
fn read_anew(topic: &Arc<Topic>, context: &str) -> Vec<i64> {
    topic.partition(0).expect("there").refresh().unwrap_or_else(|e| panic!("{context}: {e}"));
    ids(topic, 0).unwrap_or_else(|e| panic!("{context}: {e}"))
}

/// Segments so small that each commit begins one, so that the numbers of a former owner's next ones are used and, once
/// retention has removed them, free again.
fn small(env: &Env) -> Arc<Topic> {
    process_with(env, SMALL)
}

/// At every moment of what `slow` does with `of_slow` as `owner`, another owner comes, fills segments and removes all
/// but the last.
fn sleep_past_a_successor(is_takeover: bool) {
    let mut at = 1;
    loop {
        let context = format!("takeover: {is_takeover}, before operation {at}");
        let sim = Env::sim(43);
        let interrupt = Arc::<Interrupt>::default();
        let (slow, next) = (small(&interrupt.env(&sim.env)), small(&sim.env));
        let handles: Vec<StagedHandle> =
            (1..9).map(|job| staged_by(&slow, job, job as i64 * 1_000..job as i64 * 1_000 + 150)).collect();
        commit_as_owner(if is_takeover { &next } else { &slow }, &handles[0], 5).expect("it owns the log");
        let successor = if is_takeover { small(&sim.env) } else { next };
        let (of_next, acting, told) = (handles[2..7].to_vec(), successor.clone(), context.clone());
        interrupt.arm(at, move || {
            of_next.iter().for_each(|h| commit_as_owner(&acting, h, 9).unwrap_or_else(|e| panic!("{told}: {e}")));
            let retention = Retention { bytes: Some(1), ..Retention::default() };
            let removed = acting.partition(0).expect("open").retain(&retention).expect("removes");
            assert!(removed > 3, "{told}: {removed}");
        });
        let was_done = is_done(commit_as_owner(&slow, &handles[1], if is_takeover { 7 } else { 5 }), &context);
        if !interrupt.disarm() {
            assert!(at > 20, "{at} operations");
            return;
        }
        let read = |topic: &Arc<Topic>| read_anew(topic, &context);
        let kept = read(&small(&sim.env));
        // All but its last segment is gone.
        assert_eq!(kept, (7_000..7_150).collect::<Vec<_>>(), "{context}");
        assert_eq!(read(&successor), kept, "{context}");
        let late = commit_as_owner(&slow, &handles[7], if is_takeover { 7 } else { 5 }).expect_err("it was replaced");
        assert_eq!(late.code(), Code::Fenced, "{context}");
        assert_eq!(read(&small(&sim.env)), kept, "{context}");
        // What was done is not done again, though its rows are gone; what was not is, by whoever owns the log then.
        commit_as_owner(&small(&sim.env), &handles[1], 12).unwrap_or_else(|e| panic!("{context}: {e}"));
        let now = read(&small(&sim.env));
        // Refused, it may stand among what was removed, found by the successor.
        assert!(now == kept || (!was_done && now == [kept, (2_000..2_150).collect()].concat()), "{context}: {now:?}");
        at += 1;
    }
}

#[test]
fn p11_an_owner_sleeps_past_its_successor_and_the_removal_of_what_it_wrote() {
    sleep_past_a_successor(false);
}

#[test]
fn p11_a_taker_sleeps_past_its_successor_and_the_removal_of_what_it_wrote() {
    sleep_past_a_successor(true);
}

/// How far two moments are apart. All pairs take minutes.
const APART: [u64; 6] = [0, 1, 2, 5, 12, 30];

/// At two moments of a takeover a newer owner takes over and commits, or the old one commits first.
#[test]
fn p11_a_taker_that_is_overtaken_touches_nothing_of_its_successor() {
    // Who commits at the earlier moment. At the later one the newer owner does.
    for early in [5, 9] {
        let mut operations = None;
        for (first, second) in (1..).flat_map(|first| APART.map(|apart| (first, first + apart))) {
            if operations.is_some_and(|operations| first > operations) {
                break;
            }
            let context = format!("owner {early} before operation {first}, 9 before operation {second}");
            let sim = Env::sim(44);
            let interrupt = Arc::<Interrupt>::default();
            let (old, newer, slow) = (process(&sim.env), process(&sim.env), process(&interrupt.env(&sim.env)));
            let handles = ten_rows_each(&old, 1..7);
            commit_as_owner(&old, &handles[0], 5).expect("it owns the log");
            let done = Arc::<Mutex<Vec<i64>>>::default();
            for (owner, at, job) in [(early, first, 2), (9, second, 3)] {
                let topic = if owner == 5 { old.clone() } else { newer.clone() };
                let (handle, done, told) = (handles[job - 1].clone(), done.clone(), context.clone());
                interrupt.arm(at, move || {
                    if is_done(commit_as_owner(&topic, &handle, owner), &told) {
                        done.lock().expect("no panic").push(job as i64);
                    }
                });
            }
            if is_done(commit_as_owner(&slow, &handles[3], 7), &context) {
                done.lock().expect("no panic").push(4);
            }
            let all_came = interrupt.disarm();
            if is_done(commit_as_owner(&newer, &handles[4], 9), &context) {
                done.lock().expect("no panic").push(5);
            }
            let done = std::mem::take(&mut *done.lock().expect("no panic"));
            let found = read_anew(&process(&sim.env), &context);
            let is_there = |job: &i64| found.contains(&(job * 10));
            assert!(done.iter().all(is_there), "{context}: {done:?} were done, there is {found:?}");
            assert_eq!(found.len() % 10, 0, "{context}: {found:?}");
            // Everyone who asks again sees the same, and the next owner does what is left, once.
            handles
                .iter()
                .for_each(|handle| commit_as_owner(&newer, handle, 12).unwrap_or_else(|e| panic!("{context}: {e}")));
            let mut all = read_anew(&newer, &context);
            all.sort_unstable();
            assert_eq!(all, (10..70).collect::<Vec<_>>(), "{context}");
            if !all_came && first == second {
                operations = Some(first);
            }
        }
        assert!(operations > Some(20), "{operations:?}");
    }
}

/// Nothing is taken for done that a panic has cut short, and the owner goes on: it may have been about to take over, or to
/// commit.
#[test]
fn an_owner_that_panics_at_any_moment_finds_out_what_it_has_done() {
    for was_owner in [false, true] {
        let mut at = 1;
        loop {
            let context = format!("owner already: {was_owner}, before operation {at}");
            let sim = Env::sim(45);
            let interrupt = Arc::<Interrupt>::default();
            let (owner, before) = (process(&interrupt.env(&sim.env)), process(&sim.env));
            let handles = ten_rows_each(&owner, 1..4);
            commit_as_owner(if was_owner { &owner } else { &before }, &handles[0], if was_owner { 5 } else { 3 })
                .expect("it owns it");
            interrupt.arm(at, || std::panic::resume_unwind(Box::new("a bug")));
            let attempt = std::panic::AssertUnwindSafe(|| commit_as_owner(&owner, &handles[1], 5));
            let has_panicked = std::panic::catch_unwind(attempt).is_err();
            if !interrupt.disarm() {
                assert!(at > 10, "{at} operations");
                break;
            }
            assert!(has_panicked, "{context}");
            handles
                .iter()
                .for_each(|handle| commit_as_owner(&owner, handle, 5).unwrap_or_else(|e| panic!("{context}: {e}")));
            sim.disk.crash(&crate::env::sim::CrashPlan::Nothing);
            assert_eq!(ids(&process(&sim.env), 0).expect("sound"), (10..40).collect::<Vec<_>>(), "{context}");
            at += 1;
        }
    }
}
