//! How much of the log goes to another member at once.

use std::path::Path;

use openraft::EntryPayload;
use openraft::storage::RaftLogReader;
use qanat_coordinator_core::Command;
use qanat_coordinator_core::command::Proposal;
use qanat_proto::ids::JobId;
use qanat_proto::limits::RAFT_BATCH_BYTES;
use qanat_storage::env::Env;
use qanat_storage::log::GroupCommit;

use super::journal::{Journal, Limits};
use super::log_store::LogStore;
use super::types::{RaftEntry, Types};
use super::writer::JournalWriter;

fn entry(index: u64, bytes: usize) -> RaftEntry {
    let command = Command::CreateJob {
        job: JobId(u128::from(index)),
        name: String::new(),
        script_digest: "0".repeat(bytes),
        manifest_key: String::new(),
        checksum: String::new(),
        run_with: None,
    };
    let payload = EntryPayload::Normal(Proposal { at_ms: 0, command, caller: None });
    RaftEntry { log_id: openraft::testing::log_id::<Types>(1, 1, index), payload }
}

/// Entries `1..=sizes.len()` of these sizes.
fn log_of(sizes: &[usize]) -> LogStore {
    let env = Env::sim(1).env;
    let opened = Journal::open(&env, Path::new("/raft"), GroupCommit::inline(), Limits::default());
    let (journal, mut found) = opened.expect("a new journal");
    found.entries = (1..).zip(sizes).map(|(index, bytes)| (index, entry(index, *bytes))).collect();
    LogStore::new(&mut found, JournalWriter::start(journal, || {}).expect("a thread"))
}

#[tokio::test]
async fn a_batch_holds_no_more_than_its_bytes_and_at_least_one_entry() {
    const END: u64 = 107;
    let mut sizes = vec![RAFT_BATCH_BYTES / 3; 5];
    sizes.push(3 * RAFT_BATCH_BYTES);
    sizes.extend([10; 100]);
    let mut log = log_of(&sizes);
    let mut batches = Vec::new();
    let mut next = 1;
    while next < END {
        let batch = log.limited_get_log_entries(next, END).await.expect("reads");
        let indexes: Vec<u64> = batch.iter().map(|entry| entry.log_id.index).collect();
        assert_eq!(indexes, (next..next + batch.len() as u64).collect::<Vec<_>>(), "without a gap");
        next += batch.len() as u64;
        batches.push(batch.len());
    }
    assert_eq!(batches, [2, 2, 1, 1, 100]);
    assert_eq!(log.limited_get_log_entries(6, 7).await.expect("reads"), [entry(6, sizes[5])]);
}
