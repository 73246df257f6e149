//! Rollback of files, at every crash point and with a zombie at every operation.

use std::path::Path;
use std::sync::Arc;

use qanat_proto::control::{Withdrawal, WithdrawnObjects};
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::PreparedHandle;
use qanat_storage::env::sim::{Interrupt, SimEnv};
use qanat_storage::env::{Disk, Env};

use super::FileSink;
use super::tests::{
    JOB, ROOT, SCOPE, clean_audit, clean_records, commit, committed_sum, open, prepared, rows, sum_of, table, token,
    visible_text,
};
use crate::contract::{MadeVisible, Sink};
use crate::filesystem::withdrawn::{path_of, published_after};

fn withdrawal(handles: &[PreparedHandle]) -> Withdrawal {
    let names = handles.iter().filter_map(path_of).collect();
    let objects = vec![WithdrawnObjects { operator: SCOPE.operator, names }];
    Withdrawal { first: Epoch(2), last: Epoch(2), objects }
}

fn withdraw(sink: &FileSink, handles: &[PreparedHandle]) {
    sink.withdraw(SCOPE, JOB, &withdrawal(handles)).expect("withdraws");
}

/// Epoch 1 is committed; epoch 2 is staged, and published if told so.
fn begun(env: &Env, is_published: bool) -> (Vec<PreparedHandle>, Vec<PreparedHandle>) {
    let sink = open(env, &table(&[], &["carrier"]), false);
    let first = prepared(&sink, 1, 1, 100);
    commit(&sink, 1, 1, &first).expect("commits");
    let second = prepared(&sink, 1, 2, 200);
    if is_published {
        commit(&sink, 1, 2, &second).expect("commits");
    }
    (first, second)
}

/// The next generation goes on from epoch 1, with epoch 3: nobody sees anything of epoch 2.
fn goes_on(env: &Env, first: &[PreparedHandle], context: &str) {
    let disk = env.disk.as_ref();
    assert_eq!(committed_sum(disk), sum_of(&[rows(100, 120)]), "{context}");
    assert_eq!(visible_text(disk).len(), 20, "{context}");
    let sink = open(env, &table(&[], &["carrier"]), false);
    sink.abort_lower(SCOPE, token(2), first).expect("aborts");
    let third = prepared(&sink, 2, 3, 300);
    commit(&sink, 2, 3, &third).expect("commits");
    assert_eq!(committed_sum(disk), sum_of(&[rows(100, 120), rows(300, 320)]), "{context}");
    assert_eq!(visible_text(disk).len(), 40, "{context}");
    clean_audit(disk);
    let staged = disk.list(&Path::new(ROOT).join(".staged")).expect("lists");
    assert!(staged.is_empty(), "{context}: {staged:?}");
}

#[test]
fn a_withdrawal_survives_every_power_failure() {
    for is_published in [true, false] {
        let SimEnv { env, disk, .. } = Env::sim(31);
        disk.record();
        let (first, second) = begun(&env, is_published);
        disk.mark(1);
        withdraw(&open(&env, &table(&[], &["carrier"]), false), &second);
        disk.mark(2);
        let trace = disk.take_trace();
        let mut states = 0;
        let begun = trace.crash_states().chain(trace.random_crash_states(7, 2));
        for state in begun.filter(|state| state.last_mark().is_some()) {
            let here = Env { disk: Arc::new(state.disk.clone()), ..Env::sim(9).env };
            let shown = committed_sum(&state.disk);
            if shown == sum_of(&[rows(100, 120), rows(200, 220)]) {
                // Before the tombstone stands nothing has gone.
                clean_records(&state.disk, &state.to_string());
            } else {
                assert_eq!(shown, sum_of(&[rows(100, 120)]), "{state}");
            }
            withdraw(&open(&here, &table(&[], &["carrier"]), false), &second);
            goes_on(&here, &first, &state.to_string());
            states += 1;
        }
        assert!(states > 50, "{states}");
    }
}

#[test]
fn what_a_rollback_would_take_back_is_read_from_records() {
    let SimEnv { env, disk, .. } = Env::sim(32);
    let (_, second) = begun(&env, true);
    let mut paths: Vec<String> = second.iter().filter_map(path_of).collect();
    paths.sort();
    let published = |after| {
        let rows = MadeVisible { job: JOB, operator: SCOPE.operator, after: Epoch(after) };
        published_after(&disk, Path::new(ROOT), rows).expect("reads")
    };
    assert_eq!((published(1).paths, published(1).lost), (paths, None));
    assert_eq!(published(0).paths.len(), 2 * published(1).paths.len());
    assert_eq!(published(2).paths, Vec::<String>::new());
    // A lost record hides files.
    let sink = open(&env, &table(&[], &["carrier"]), false);
    let third = prepared(&sink, 1, 3, 300);
    commit(&sink, 1, 3, &third).expect("commits");
    let record = Path::new(ROOT).join(format!("_commits/{JOB}/{}/2.json", SCOPE.operator));
    disk.remove_file(&record).expect("removes");
    assert_eq!(published(1).lost, Some(Epoch(2)));
    assert_eq!(published(2).lost, None);
}

#[test]
fn only_what_is_listed_goes() {
    let SimEnv { env, disk, .. } = Env::sim(33);
    let (_, second) = begun(&env, true);
    let sink = open(&env, &table(&[], &["carrier"]), false);
    let third = prepared(&sink, 2, 3, 300);
    commit(&sink, 2, 3, &third).expect("commits");
    // A withdrawal that was paused wakes up after the job went on.
    withdraw(&sink, &second);
    withdraw(&sink, &second);
    assert_eq!(committed_sum(&disk), sum_of(&[rows(100, 120), rows(300, 320)]));
    let mut hostile = withdrawal(&second);
    hostile.objects[0].names.push("../../etc/passwd".to_owned());
    assert!(sink.withdraw(SCOPE, JOB, &hostile).is_err());
}

/// A zombie with an old permit is interrupted by the whole withdrawal, and the withdrawal by the whole zombie, before
/// each of their operations.
#[test]
fn a_zombie_brings_nothing_back() {
    for zombie_first in [true, false] {
        let mut at = 1;
        loop {
            let sim = Env::sim(34);
            let (first, second) = begun(&sim.env, false);
            let (plain, handles) = (sim.env.clone(), second.clone());
            let interrupt = Arc::<Interrupt>::default();
            interrupt.arm(at, move || {
                let sink = open(&plain, &table(&[], &["carrier"]), false);
                if zombie_first {
                    withdraw(&sink, &handles);
                } else {
                    // It may fail: then it has done no harm.
                    let _ = commit(&sink, 1, 2, &handles);
                }
            });
            let env = interrupt.env(&sim.env);
            let sink = open(&env, &table(&[], &["carrier"]), false);
            if zombie_first {
                let _ = commit(&sink, 1, 2, &second);
            } else {
                withdraw(&sink, &second);
            }
            if !interrupt.disarm() {
                assert!(at > 10, "{at} operations");
                break;
            }
            goes_on(&sim.env, &first, &format!("zombie first: {zombie_first}, interrupted before operation {at}"));
            at += 1;
        }
    }
}
