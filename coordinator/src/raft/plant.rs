//! A command log that begins with a state.

use std::collections::BTreeMap;
use std::path::Path;

use openraft::vote::RaftLeaderId;
use openraft::{BasicNode, Membership};
use qanat_coordinator_core::State;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use qanat_storage::log::GroupCommit;

use super::journal::{Journal, Limits, Row};
use super::state_machine::{RunSummary, Snapshot};
use super::types::{LogId, MemberId, SnapshotMeta, StoredMembership, Vote};

/// Writes the log of one member of a new group that knows all of this from its first start on: a snapshot and nothing
/// else. Each of `members` must be given the same. The folder must not hold a log.
///
/// # Errors
/// E0501 if it holds one; the disk's.
pub fn plant(
    env: &Env,
    folder: &Path,
    members: &BTreeMap<MemberId, String>,
    state: State,
    runs: Vec<RunSummary>,
) -> Result<()> {
    let (mut journal, found) = Journal::open(env, folder, GroupCommit::inline(), Limits::default())?;
    if found.vote.is_some() || found.snapshot.is_some() || !found.entries.is_empty() {
        return Err(Error::new(Code::Usage, format!("`{}` holds a command log", folder.display())));
    }
    let first = members.keys().next().copied().unwrap_or_default();
    let vote = Vote::new(1, first);
    let id = LogId::new(vote.leader_id.to_committed(), 1);
    let nodes: BTreeMap<_, _> = members.iter().map(|(id, addr)| (*id, BasicNode { addr: addr.clone() })).collect();
    let group = Membership::new(vec![members.keys().copied().collect()], nodes)
        .map_err(|e| Error::new(Code::Usage, format!("these are no members of a group: {e}")))?;
    let meta = SnapshotMeta { last_log_id: Some(id), last_membership: StoredMembership::new(Some(id), group) };
    let machine = Snapshot::of(state, runs).text()?;
    journal.snapshot(Row::Snapshot { vote: Some(vote), meta, machine }, Vec::new())
}
