//! openraft's own suite for stores, over a simulated disk.

use std::path::Path;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use qanat_storage::env::Env;
use qanat_storage::log::GroupCommit;

use super::journal::{Journal, Limits};
use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::types::Types;
use super::writer::JournalWriter;

struct OnSimulatedDisk;

impl StoreBuilder<Types, LogStore, StateMachine> for OnSimulatedDisk {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<Types>> {
        let sim = Env::sim(1);
        let opened = Journal::open(&sim.env, Path::new("/raft"), GroupCommit::inline(), Limits::default());
        let (journal, mut found) = opened.expect("a new journal");
        let log = LogStore::new(&mut found, JournalWriter::start(journal, || {}).expect("a thread"));
        let machine = StateMachine::new(found.snapshot, log.clone()).expect("empty");
        Ok(((), log, machine))
    }
}

#[tokio::test]
async fn the_store_passes_openrafts_suite() {
    Suite::test_all(OnSimulatedDisk).await.expect("conforms");
}
