//! Schedules of `docs/protocol.md` that one coordinator can meet, straight against `apply`.

use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::{Command, GroupJob, Outcome, Refusal};
use qanat_coordinator_core::state::{JobStatus, State};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, StartId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::receipt::{OperatorCounts, OperatorReceipt, RowSum};
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Error, Place};

const JOB: JobId = JobId(1);

fn token(generation: u64) -> Token {
    Token { job: JOB, generation: Generation(generation) }
}

fn created() -> State {
    let mut state = State::default();
    let command = Command::CreateJob {
        job: JOB,
        name: "job".into(),
        script_digest: "digest".into(),
        manifest_key: "m0".into(),
        checksum: "c0".into(),
        run_with: None,
    };
    state.apply(&command).expect("a new job");
    state
}

fn open(expected: u64) -> Command {
    Command::OpenGeneration {
        job: JOB,
        expected: Generation(expected),
        placement: vec![StartId(7)],
        parallelism: 2,
        settings: JobSettings::default(),
    }
}

fn running() -> State {
    let mut state = created();
    state.apply(&open(0)).expect("the first generation");
    state
}

fn handle(name: &str) -> PreparedHandle {
    PreparedHandle {
        subtask: SubtaskId { operator: OperatorId(3), index: 0 },
        channel: SinkChannel::Table,
        name: name.into(),
        sum: RowSum::default(),
        detail: serde_json::Value::Null,
    }
}

fn claim(generation: u64, epoch: u64) -> Command {
    claim_as(generation, epoch, false)
}

fn claim_as(generation: u64, epoch: u64, is_final: bool) -> Command {
    Command::Claim {
        token: token(generation),
        epoch: Epoch(epoch),
        manifest_key: format!("m{generation}-{epoch}"),
        checksum: "c".into(),
        handles: vec![handle(&format!("h{generation}-{epoch}"))],
        is_final,
        receipt: Box::default(),
    }
}

fn committed(by: u64, generation: u64, epoch: u64) -> Command {
    Command::Committed {
        token: token(by),
        epoch: Epoch(epoch),
        manifest_key: format!("m{generation}-{epoch}"),
        handle_names: vec![format!("h{generation}-{epoch}")],
    }
}

fn failure(generation: u64, text: &str) -> Command {
    let error = Error::new(Code::BadRecord, text).at(Place::Named("split a, row 5".into()));
    Command::RecordFailure { token: token(generation), error, is_last: false }
}

/// P4: e = highest ever claimed + 1, and only after the commit before is recorded.
#[test]
fn p4_claims_go_up_by_one_after_the_commit_before() {
    let mut state = running();
    assert_eq!(state.apply(&claim(1, 2)), Err(Refusal::NotNext { next: Epoch(1) }));
    assert!(matches!(state.apply(&claim(1, 1)), Ok(Applied::Permit(_))));
    assert_eq!(state.apply(&claim(1, 2)), Err(Refusal::CommitPending { epoch: Epoch(1) }));
    state.apply(&committed(1, 1, 1)).expect("its commit");
    assert!(matches!(state.apply(&claim(1, 2)), Ok(Applied::Permit(_))));
    assert_eq!(state.apply(&claim(1, 2)), Err(Refusal::NotNext { next: Epoch(3) }), "an epoch is claimed once");
}

/// P2: the permit names exactly the handles of the claim; a commit of anything else is refused.
#[test]
fn p2_permits_and_commits_name_the_manifest_and_its_handles() {
    let mut state = running();
    let Ok(Applied::Permit(permit)) = state.apply(&claim(1, 1)) else { panic!("claimed") };
    assert_eq!(permit.handles, vec![handle("h1-1")]);
    assert_eq!(permit.token, token(1));
    let other = Command::Committed {
        token: token(1),
        epoch: Epoch(1),
        manifest_key: "m0-1".into(),
        handle_names: vec!["h1-1".into()],
    };
    assert_eq!(state.apply(&other), Err(Refusal::WrongCommit));
    let missing =
        Command::Committed { token: token(1), epoch: Epoch(1), manifest_key: "m1-1".into(), handle_names: vec![] };
    assert_eq!(state.apply(&missing), Err(Refusal::WrongCommit));
}

/// P5: a claim that was in flight is part of the restore point, or it is refused: nothing in between.
#[test]
fn p5_the_restore_point_is_decided_when_the_generation_opens() {
    let mut before = running();
    before.apply(&claim(1, 1)).expect("claimed first");
    assert_eq!(before.apply(&open(1)), Ok(Applied::Opened { token: token(2), restore: Epoch(1) }));
    assert_eq!(before.apply(&claim(2, 2)), Err(Refusal::CommitPending { epoch: Epoch(1) }), "its commit is replayed");

    let mut after = running();
    after.apply(&open(1)).expect("opened first");
    assert_eq!(after.apply(&claim(1, 1)), Err(Refusal::OldGeneration));
}

/// P1: a repeated proposal opens one generation.
#[test]
fn p1_a_generation_opens_once() {
    let mut state = created();
    state.apply(&open(0)).expect("opened");
    assert_eq!(state.apply(&open(0)), Err(Refusal::OldGeneration));
    assert_eq!(state.jobs[&JOB].generation, Generation(1));
}

/// P7: a failing job whose last claim is not committed is closing, not FAILED; only replays may run.
#[test]
fn p7_failed_waits_for_the_commit() {
    let mut state = running();
    for generation in 1..=2 {
        state.apply(&failure(generation, "bad")).expect("recorded");
        state.apply(&open(generation)).expect("restarted");
    }
    state.apply(&claim(3, 1)).expect("claimed; the count of failures starts again");
    for generation in 3..=5 {
        state.apply(&failure(generation, "bad")).expect("recorded");
        if generation < 5 {
            state.apply(&open(generation)).expect("restarted");
        }
    }
    let job = &state.jobs[&JOB];
    assert!(matches!(job.closing, Some(Outcome::Failed(_))), "three failures in a row close the job");
    assert_eq!(job.status, JobStatus::Restarting, "but epoch 1 is not committed yet");
    state.apply(&open(5)).expect("a generation to replay the commit");
    assert_eq!(state.apply(&claim(6, 2)), Err(Refusal::Closing));
    state.apply(&committed(6, 3, 1)).expect("replayed under the new token");
    assert!(matches!(state.jobs[&JOB].status, JobStatus::Failed { .. }));
}

/// P7: a stop is recorded before its trigger; the next claim is the last.
#[test]
fn p7_the_claim_of_a_savepoint_forbids_later_claims() {
    let mut state = running();
    state.apply(&Command::StopWithSavepoint { job: JOB }).expect("asked");
    state.apply(&claim(1, 1)).expect("the savepoint");
    assert_eq!(state.apply(&claim(1, 2)), Err(Refusal::Closing));
    state.apply(&committed(1, 1, 1)).expect("its commit");
    assert_eq!(state.jobs[&JOB].status, JobStatus::Stopped);
    state.apply(&Command::Resume { job: JOB }).expect("a stopped job resumes");
    state.apply(&open(1)).expect("its next generation");
    assert!(state.apply(&claim(2, 2)).is_ok(), "epoch numbers go on");
}

/// P7: a stop lasts until its claim, and not beyond the process that asked for it.
#[test]
fn p7_a_stop_that_did_not_come_about_is_taken_back_by_the_next_run() {
    let mut state = running();
    state.apply(&Command::StopWithSavepoint { job: JOB }).expect("a stop");
    // The process dies before the savepoint is claimed, and the job is run again.
    state.apply(&Command::Resume { job: JOB }).expect("it runs again");
    state.apply(&open(1)).expect("a new generation");
    state.apply(&claim(2, 1)).expect("an epoch");
    assert_eq!(state.job(JOB).and_then(|job| job.closing.clone()), None);
    // Once its savepoint is claimed a stop is no longer taken back.
    let mut state = running();
    state.apply(&Command::StopWithSavepoint { job: JOB }).expect("a stop");
    state.apply(&claim(1, 1)).expect("the savepoint");
    assert_eq!(state.apply(&Command::Resume { job: JOB }), Err(Refusal::WrongStatus));
}

/// P7: after the final claim generations only replay its commit.
#[test]
fn p7_finished_comes_with_the_commit_of_the_final_epoch() {
    let mut state = running();
    state.apply(&claim_as(1, 1, true)).expect("the final epoch");
    state.apply(&failure(1, "lost")).expect("the process dies before the commit");
    state.apply(&open(1)).expect("a generation to replay the commit");
    assert_eq!(state.apply(&claim(2, 2)), Err(Refusal::Closing));
    state.apply(&committed(2, 1, 1)).expect("replayed");
    assert_eq!(state.jobs[&JOB].status, JobStatus::Finished);
    assert_eq!(state.apply(&open(2)), Err(Refusal::WrongStatus));
    assert_eq!(state.apply(&Command::Resume { job: JOB }), Err(Refusal::WrongStatus));
}

/// P14: the last claim and an unclaimed generation's restore point are not retired.
#[test]
fn p14_what_may_be_restored_is_not_retired() {
    let mut state = running();
    for epoch in 1..=3 {
        state.apply(&claim(1, epoch)).expect("claimed");
        state.apply(&committed(1, 1, epoch)).expect("committed");
    }
    let retire = |epochs: &[u64]| Command::Retire { job: JOB, epochs: epochs.iter().map(|e| Epoch(*e)).collect() };
    assert_eq!(state.apply(&retire(&[1, 3])), Err(Refusal::StillNeeded { epoch: Epoch(3) }));
    assert!(state.jobs[&JOB].claims.contains_key(&Epoch(1)), "refused as a whole");
    state.apply(&retire(&[0, 1])).expect("older ones go");
    state.apply(&open(1)).expect("restores epoch 3");
    assert_eq!(state.jobs[&JOB].restore_point, Epoch(3));
    assert!(state.apply(&retire(&[3])).is_err());
}

/// I6: equal logs give equal states, refused commands included.
#[test]
fn equal_logs_give_equal_digests() {
    let commands = [open(0), claim(1, 1), claim(1, 1), committed(1, 1, 1), failure(1, "x"), open(1)];
    let mut states = [created(), created()];
    for state in &mut states {
        for command in &commands {
            let _ = state.apply(command);
        }
    }
    assert_eq!(states[0].digest(), states[1].digest());
    let text = serde_json::to_string(&commands[1]).expect("commands are JSON");
    assert_eq!(serde_json::from_str::<Command>(&text).expect("and back"), commands[1]);
}

/// I10: an id makes one job, an active name one job.
#[test]
fn a_submit_makes_one_job() {
    let mut state = created();
    let again = |job| Command::CreateJob {
        job,
        name: "job".into(),
        script_digest: "digest".into(),
        manifest_key: "m0".into(),
        checksum: "c0".into(),
        run_with: None,
    };
    assert_eq!(state.apply(&again(JOB)), Err(Refusal::DuplicateJob));
    assert_eq!(state.apply(&again(JobId(2))), Err(Refusal::NameTaken));
}

/// I10: of a script all jobs are made or none, and a repeat makes none.
#[test]
fn a_group_is_made_as_a_whole() {
    let mut state = created();
    let member = |id: u128, name: &str| GroupJob {
        job: JobId(id),
        name: name.into(),
        script_digest: "digest".into(),
        manifest_key: format!("m{id}"),
        checksum: "c0".into(),
        run_with: None,
    };
    let group = |jobs: &[(u128, &str)]| Command::CreateGroup {
        group: "script".into(),
        jobs: jobs.iter().map(|(id, name)| member(*id, name)).collect(),
    };
    let before = state.jobs.clone();
    let refused = [
        (group(&[(8, "script-1"), (9, "job")]), Refusal::NameTaken),
        (group(&[(8, "script-1"), (1, "script-2")]), Refusal::DuplicateJob),
        (group(&[(8, "script-1"), (8, "script-2")]), Refusal::NameTaken),
        (group(&[(8, "script-1"), (9, "script-1")]), Refusal::NameTaken),
    ];
    for (command, refusal) in refused {
        assert_eq!(state.apply(&command), Err(refusal));
        assert_eq!(state.jobs, before, "the one that could have been made was not");
    }
    // Ids come in any order; the script's order is kept.
    let command = group(&[(9, "script-1"), (8, "script-2")]);
    state.apply(&command).expect("new jobs");
    assert_eq!(state.apply(&command), Err(Refusal::DuplicateJob), "a repeat");
    let mut jobs: Vec<_> = state.jobs.values().collect();
    jobs.sort_by_key(|job| job.order());
    let shown = jobs.iter().map(|job| (job.name.as_str(), job.group.as_ref().map(|group| group.name.as_str())));
    let expected = [("job", None), ("script-1", Some("script")), ("script-2", Some("script"))];
    assert!(shown.eq(expected), "{jobs:?}");
    let text = serde_json::to_string(&command).expect("commands are JSON");
    assert_eq!(serde_json::from_str::<Command>(&text).expect("and back"), command);
}

/// I10: a job that has ended does not come back beside another one that took its name.
#[test]
fn a_resume_does_not_make_two_jobs_of_one_name() {
    let mut state = running();
    state.apply(&Command::Close { job: JOB, outcome: Outcome::Stopped }).expect("stopped");
    let other = JobId(2);
    let create = Command::CreateJob {
        job: other,
        name: "job".into(),
        script_digest: "another".into(),
        manifest_key: "m0".into(),
        checksum: "c0".into(),
        run_with: None,
    };
    state.apply(&create).expect("the name is free");
    let before = state.jobs.clone();
    assert_eq!(state.apply(&Command::Resume { job: JOB }), Err(Refusal::NameTaken));
    assert_eq!(state.jobs, before);
    state.apply(&Command::Close { job: other, outcome: Outcome::Stopped }).expect("it ends");
    state.apply(&Command::Resume { job: JOB }).expect("the name is free again");
}

/// The same record failing three times fails the job, even though epochs without it are claimed meanwhile, and
/// so does a budget that is too small; a claim forgives any other failure.
#[test]
fn a_record_that_fails_each_time_fails_the_job() {
    let at_record = || {
        let place = Place::Origin { origin: "a.csv".into(), offset: Some(5), unit: "row".into() };
        Error::new(Code::BadRecord, "bad").at(place)
    };
    let over_budget = Error::new(Code::MemoryLimit, "too much state");
    for (error, fails) in [(at_record(), true), (over_budget, true), (Error::new(Code::Io, "flaky"), false)] {
        let mut state = running();
        for round in 1..=3 {
            state.apply(&claim(round, round)).expect("an epoch in between");
            state.apply(&committed(round, round, round)).expect("committed");
            state
                .apply(&Command::RecordFailure { token: token(round), error: error.clone(), is_last: false })
                .expect("recorded");
            if round < 3 {
                state.apply(&open(round)).expect("restarted");
            }
        }
        assert_eq!(matches!(state.jobs[&JOB].status, JobStatus::Failed { .. }), fails, "{error}");
    }
}

/// Of records in splits that are read side by side, each attempt meets another first.
#[test]
fn records_that_fail_in_turn_fail_the_job() {
    let mut state = running();
    for round in 1..=3 {
        let place = Place::Origin { origin: format!("{}.csv", round % 2), offset: Some(round), unit: "row".into() };
        let error = Error::new(Code::BadRecord, "bad").at(place);
        state.apply(&Command::RecordFailure { token: token(round), error, is_last: false }).expect("recorded");
        if round < 3 {
            state.apply(&open(round)).expect("restarted");
        }
    }
    assert!(matches!(state.jobs[&JOB].status, JobStatus::Failed { .. }));
}

/// An epoch of nothing forgives no failure: what fails on the next row has not met it yet. Many of them do.
#[test]
fn an_epoch_of_nothing_is_no_progress() {
    let error = Error::new(Code::Encode, "a NULL in a column that is NOT NULL").at(Place::Named("o".into()));
    for (epochs, rows, fails) in [(1, 0, true), (1, 5, false), (10, 0, false)] {
        let mut state = running();
        let mut epoch = 0;
        for round in 1..=3 {
            for _ in 0..epochs {
                epoch += 1;
                let mut claim = claim(round, epoch);
                if let Command::Claim { receipt, .. } = &mut claim {
                    let counts = OperatorCounts { rows_in: rows, ..OperatorCounts::default() };
                    let (name, role) = ("t".to_owned(), "source".to_owned());
                    receipt.operators.push(OperatorReceipt { operator: OperatorId(1), name, role, counts });
                }
                state.apply(&claim).expect("an epoch in between");
                state.apply(&committed(round, round, epoch)).expect("committed");
            }
            let failure = Command::RecordFailure { token: token(round), error: error.clone(), is_last: false };
            state.apply(&failure).expect("recorded");
            if round < 3 {
                state.apply(&open(round)).expect("restarted");
            }
        }
        assert_eq!(matches!(state.jobs[&JOB].status, JobStatus::Failed { .. }), fails, "{epochs} of {rows} rows");
    }
}

/// A failure of the world outside never ends a job: it stays resumable. A full disk is counted as one
/// failure, wherever it shows, so that somebody hears of it.
#[test]
fn external_failures_do_not_fail_the_job() {
    let mut state = running();
    for round in 1..=5 {
        let error = Error::new(Code::DiskFull, "full").at(Place::Named(format!("manifest {round}")));
        state.apply(&Command::RecordFailure { token: token(round), error, is_last: false }).expect("recorded");
        assert_eq!(state.jobs[&JOB].status, JobStatus::Restarting);
        assert_eq!(state.jobs[&JOB].last_failure.as_ref().map(|(_, count)| u64::from(*count)), Some(round));
        state.apply(&open(round)).expect("restarted");
    }
}

/// A log that is damaged or gone does not come back by itself, wherever it is read next.
#[test]
fn a_damaged_log_fails_the_job() {
    let mut state = running();
    for round in 1..=3 {
        assert!(!state.jobs[&JOB].status.is_ended());
        let error = Error::new(Code::CorruptLog, "gone").at(Place::Named(format!("partition {round}")));
        state.apply(&Command::RecordFailure { token: token(round), error, is_last: false }).expect("recorded");
        if round < 3 {
            state.apply(&open(round)).expect("restarted");
        }
    }
    assert!(matches!(state.jobs[&JOB].status, JobStatus::Failed { .. }));
    state.apply(&Command::Resume { job: JOB }).expect("a failed job resumes once the log is back");
    // Rows that are owed to it are tried for as long as it takes.
    let mut state = running();
    state.apply(&claim(1, 1)).expect("an epoch");
    for round in 1..=5 {
        let error = Error::new(Code::CorruptLog, "gone");
        state.apply(&Command::RecordFailure { token: token(round), error, is_last: false }).expect("recorded");
        state.apply(&open(round)).expect("restarted");
    }
    assert_eq!((&state.jobs[&JOB].status, &state.jobs[&JOB].closing), (&JobStatus::Running, &None));
}

/// What cannot be read again is not tried again, whatever failed.
#[test]
fn the_last_failure_ends_the_job() {
    for error in [Error::new(Code::BadRecord, "bad"), Error::new(Code::DiskFull, "full")] {
        let mut state = running();
        state.apply(&claim(1, 1)).expect("an epoch");
        state
            .apply(&Command::RecordFailure { token: token(1), error: error.clone(), is_last: true })
            .expect("recorded");
        state.apply(&committed(1, 1, 1)).expect("the commit that is owed");
        assert!(matches!(state.jobs[&JOB].status, JobStatus::Failed { .. }), "{error}");
    }
}
