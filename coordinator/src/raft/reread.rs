//! The bodies of the members' messages, read and written again: their types are openraft's, filled in here, and whoever
//! tests the decoders from outside sees none of them.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use qanat_coordinator_core::command::{Command, Proposal};
use qanat_proto::ids::JobId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::network::SnapshotHead;
use super::types::{LogId, MemberId, RaftEntry, SnapshotMeta, Types, Vote};

/// The body of a message of this name as it is written again. None if no message has the name.
#[doc(hidden)]
pub fn reread(name: &str, body: &[u8]) -> Option<serde_json::Result<Vec<u8>>> {
    fn again<T: Serialize + DeserializeOwned>(body: &[u8]) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&serde_json::from_slice::<T>(body)?)
    }
    Some(match name {
        "append_entries" => again::<AppendEntriesRequest<Types>>(body),
        "append_entries_answer" => again::<AppendEntriesResponse<Types>>(body),
        "vote" => again::<VoteRequest<Types>>(body),
        "vote_answer" => again::<VoteResponse<Types>>(body),
        "transfer_leader" => again::<TransferLeaderRequest<Types>>(body),
        "transfer_leader_answer" => again::<TransferLeaderResponse<Types>>(body),
        "snapshot" => again::<SnapshotHead>(body),
        "snapshot_answer" => again::<SnapshotResponse<Types>>(body),
        "follow" => again::<Option<MemberId>>(body),
        _ => return None,
    })
}

/// A body of each request, by the names of [`reread`].
#[doc(hidden)]
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let vote = Vote::new(3, 1);
    let id = |index| LogId::new(vote.leader_id.to_committed(), index);
    let command = Command::Resume { job: JobId(7) };
    let proposal = Proposal { at_ms: 1_704_067_200_000, command, caller: None };
    let entries = vec![
        RaftEntry { log_id: id(5), payload: openraft::EntryPayload::Blank },
        RaftEntry { log_id: id(6), payload: openraft::EntryPayload::Normal(proposal) },
    ];
    let append = AppendEntriesRequest::<Types> { vote, prev_log_id: Some(id(4)), entries, leader_commit: Some(id(4)) };
    let head = SnapshotHead { vote, meta: SnapshotMeta { last_log_id: Some(id(4)), ..SnapshotMeta::default() } };
    let body = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    vec![
        ("append_entries", body(serde_json::to_vec(&append))),
        ("append_entries_answer", body(serde_json::to_vec(&AppendEntriesResponse::<Types>::Success))),
        ("vote", body(serde_json::to_vec(&VoteRequest::<Types>::new(vote, Some(id(6)))))),
        ("vote_answer", body(serde_json::to_vec(&VoteResponse::<Types>::new(vote, Some(id(6)), true)))),
        ("transfer_leader", body(serde_json::to_vec(&TransferLeaderRequest::<Types>::new(vote, 2, Some(id(6)))))),
        ("snapshot", body(serde_json::to_vec(&head))),
        ("snapshot_answer", body(serde_json::to_vec(&SnapshotResponse::<Types>::new(vote)))),
        ("follow", body(serde_json::to_vec(&Some(2_u64)))),
    ]
}
