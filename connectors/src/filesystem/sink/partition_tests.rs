//! Partitions: when they are announced, and whose old files an overwrite takes.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::CommitPermit;
use qanat_proto::error::Code;
use qanat_proto::ids::{Epoch, Generation, JobId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_storage::env::sim::SimEnv;
use qanat_storage::env::{Disk, Env};

use super::tests::{ROOT, SCOPE, clean_audit, commit, open, rows, schema, subtask, table, token, two_epochs, visible};
use crate::contract::Sink;
use crate::filesystem::audit::audit;
use crate::filesystem::committed::records;

fn is_announced(disk: &dyn Disk, folder: &str) -> bool {
    disk.exists(&Path::new(ROOT).join(folder).join("_SUCCESS")).expect("looks")
}

/// Rows of two days, `2024-01-01` and `2024-01-02`, in the partition column.
fn days(from: i64, to: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..to)),
        Arc::new((from..to).map(|i| Some(format!("2024-01-0{}", 1 + i % 2))).collect::<StringArray>()),
        Arc::new(TimestampMillisecondArray::from_iter_values(from..to)),
    ];
    RecordBatch::try_new(schema(), columns).expect("a batch")
}

const DAY_MS: i64 = 86_400_000;
/// 2024-01-01.
const FIRST_DAY_MS: i64 = 1_704_067_200_000;

/// Epoch 1 writes both days, epoch 2 nothing; event time comes to `watermarks`.
fn epochs_until(env: &Env, table: &TableDescriptor, watermarks: [i64; 2]) -> Vec<Vec<PreparedHandle>> {
    let sink = open(env, table, false);
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    writer.write(Epoch(1), &days(0, 6)).expect("writes");
    let mut all = Vec::new();
    for (epoch, watermark) in (1..).zip(watermarks) {
        writer.watermark(watermark);
        let handles = writer.prepare(Epoch(epoch)).expect("prepares");
        commit(&sink, 1, epoch, &handles).expect("commits");
        all.push(handles);
    }
    all
}

#[test]
fn partitions_wait_for_their_time() {
    let options = [
        ("sink.partition-commit.policy.kind", "success-file"),
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 d"),
        ("partition.time-extractor.timestamp-pattern", "$carrier 00:00:00"),
    ];
    let table = table(&options, &["carrier"]);
    let SimEnv { env, disk, .. } = Env::sim(15);
    epochs_until(&env, &table, [FIRST_DAY_MS + DAY_MS - 1, FIRST_DAY_MS + DAY_MS]);
    assert!(is_announced(&disk, "carrier=2024-01-01"), "its day has passed, in an epoch without rows");
    assert!(!is_announced(&disk, "carrier=2024-01-02"));
    assert_eq!(records(&disk, Path::new(ROOT), None).expect("records").len(), 1, "news of time makes no record");
    // A later generation finds what is still to be announced; the end of the input announces all.
    let sink = open(&env, &table, false);
    let mut writer = sink.writer(subtask(0), token(2)).expect("a writer");
    writer.watermark(i64::MAX);
    let handles = writer.prepare(Epoch(3)).expect("prepares");
    commit(&sink, 2, 3, &handles).expect("commits");
    assert!(is_announced(&disk, "carrier=2024-01-02"));
    clean_audit(&disk);
    // The slowest subtask counts.
    let SimEnv { env, disk, .. } = Env::sim(16);
    let sink = open(&env, &table, false);
    let mut handles = Vec::new();
    for (index, watermark) in [(0, i64::MAX), (1, FIRST_DAY_MS)] {
        let mut writer = sink.writer(subtask(index), token(1)).expect("a writer");
        writer.write(Epoch(1), &days(0, 2)).expect("writes");
        writer.watermark(watermark);
        handles.extend(writer.prepare(Epoch(1)).expect("prepares"));
    }
    commit(&sink, 1, 1, &handles).expect("commits");
    assert!(!is_announced(&disk, "carrier=2024-01-01"));
    // One that is idle does not.
    let mut handles = Vec::new();
    for index in 0..2 {
        let mut writer = sink.writer(subtask(index), token(1)).expect("a writer");
        writer.watermark(if index == 0 { FIRST_DAY_MS + DAY_MS } else { FIRST_DAY_MS });
        if index == 1 {
            writer.idle();
        }
        handles.extend(writer.prepare(Epoch(2)).expect("prepares"));
    }
    commit(&sink, 1, 2, &handles).expect("commits");
    assert!(is_announced(&disk, "carrier=2024-01-01") && !is_announced(&disk, "carrier=2024-01-02"));
    // A value without a time is refused before it is staged.
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    assert_eq!(writer.write(Epoch(3), &rows(0, 4)).expect_err("no time").code(), Code::Encode);
}

#[test]
fn partitions_wait_for_the_clock() {
    let options = [("sink.partition-commit.policy.kind", "success-file"), ("sink.partition-commit.delay", "10 min")];
    let table = table(&options, &["carrier"]);
    let SimEnv { env, disk, clock, .. } = Env::sim(17);
    let sink = open(&env, &table, false);
    let mut writer = sink.writer(subtask(0), token(1)).expect("a writer");
    writer.write(Epoch(1), &days(0, 6)).expect("writes");
    for (epoch, minutes) in [(1, 9), (2, 2), (3, 0)] {
        let handles = writer.prepare(Epoch(epoch)).expect("prepares");
        assert!(!is_announced(&disk, "carrier=2024-01-01") || epoch == 3);
        commit(&sink, 1, epoch, &handles).expect("commits");
        clock.advance(std::time::Duration::from_secs(60 * minutes));
    }
    assert!(is_announced(&disk, "carrier=2024-01-01") && is_announced(&disk, "carrier=2024-01-02"));
}

#[test]
fn an_announcement_survives_every_power_failure_and_never_comes_first() {
    let options =
        [("sink.partition-commit.policy.kind", "success-file"), ("sink.partition-commit.trigger", "partition-time")];
    let table = table(&options, &["carrier"]);
    let SimEnv { env, disk, .. } = Env::sim(18);
    disk.record();
    let handles = epochs_until(&env, &table, [FIRST_DAY_MS, i64::MAX]);
    let trace = disk.take_trace();
    let mut states = 0;
    for state in trace.crash_states() {
        let recorded = records(&state.disk, Path::new(ROOT), None).expect("records").len();
        for folder in ["carrier=2024-01-01", "carrier=2024-01-02"] {
            assert!(!is_announced(&state.disk, folder) || recorded == 1, "{state}: {folder} is announced too early");
        }
        if recorded == 0 {
            continue;
        }
        // Both epochs are claimed: whoever replays them announces what is left.
        let here = Env { disk: Arc::new(state.disk.clone()), ..Env::sim(19).env };
        let sink = open(&here, &table, false);
        for (epoch, handles) in (1..).zip(&handles) {
            commit(&sink, 2, epoch, handles).expect("commits");
        }
        for folder in ["carrier=2024-01-01", "carrier=2024-01-02"] {
            assert!(is_announced(&state.disk, folder), "{state}: {folder}");
        }
        clean_audit(&state.disk);
        states += 1;
    }
    assert!(states > 5, "{states}");
}

#[test]
fn overwrite_takes_the_old_files_of_the_partitions_that_get_rows() {
    let SimEnv { env, disk, .. } = Env::sim(20);
    let table = table(&[], &["carrier"]);
    two_epochs(&env, &table, |_| {});
    let in_folder =
        |folder: &str| visible(&disk).iter().filter(|p| p.starts_with(Path::new(ROOT).join(folder))).count();
    let before = in_folder("carrier=AA");
    assert!(before > 0 && before == in_folder("carrier=B%2FB"));
    let sink = open(&env, &table, true);
    let run = Token { job: JobId(0xef), generation: Generation(1) };
    let permit = |epoch: u64, handles: &[PreparedHandle]| CommitPermit {
        token: run,
        epoch: Epoch(epoch),
        manifest_key: format!("o-{epoch}"),
        handles: handles.to_vec(),
    };
    let only = |carrier: i64| rows(carrier, carrier + 1);
    let mut writers = [0, 1].map(|index| sink.writer(subtask(index), run).expect("a writer"));
    let mut all = Vec::new();
    for (epoch, carrier, writer) in [(1, 0, 0), (2, 1, 1), (3, 0, 1)] {
        writers[writer].write(Epoch(epoch), &only(carrier)).expect("writes");
        let mut handles = Vec::new();
        for writer in &mut writers {
            handles.extend(writer.prepare(Epoch(epoch)).expect("prepares"));
        }
        sink.commit(SCOPE, &permit(epoch, &handles), &handles).expect("commits");
        all.push(handles);
        match epoch {
            1 => assert_eq!((in_folder("carrier=AA"), in_folder("carrier=B%2FB")), (1, before)),
            2 => assert_eq!((in_folder("carrier=AA"), in_folder("carrier=B%2FB")), (1, 1)),
            _ => assert_eq!((in_folder("carrier=AA"), in_folder("carrier=B%2FB")), (2, 1)),
        }
    }
    assert_eq!(in_folder("carrier="), before, "a partition without new rows stays");
    // Replays by another process change nothing.
    let again = open(&env, &table, true);
    for (epoch, handles) in (1..).zip(&all) {
        again.commit(SCOPE, &permit(epoch, handles), handles).expect("commits");
    }
    assert_eq!((in_folder("carrier=AA"), in_folder("carrier=B%2FB")), (2, 1));
    clean_audit(&disk);
    assert!(audit(&disk, Path::new(ROOT), JobId(0xef)).expect("an audit").findings.is_empty());
}
