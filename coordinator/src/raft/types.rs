//! openraft's types, filled in.

use std::fmt;

use qanat_coordinator_core::Refusal;
use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::Proposal;
use serde::{Deserialize, Serialize};

use super::state_machine::StateMachine;

/// A coordinator within its group. Never given to another process with an empty disk.
pub type MemberId = u64;

/// What `apply` said. None for entries of openraft's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer(pub(crate) Option<Result<Applied, Refusal>>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("nothing"),
            Some(Ok(_)) => f.write_str("applied"),
            Some(Err(refusal)) => write!(f, "refused: {refusal}"),
        }
    }
}

openraft::declare_raft_types!(
    /// One type for each of openraft's open places. One leader a term, as in the paper: by default the library lets
    /// another member of a higher number lead in the same one, and what is named by the term would have two owners.
    pub(crate) Types:
        D = Proposal,
        R = Answer,
        NodeId = MemberId,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, MemberId>,
        Node = openraft::BasicNode,
        AsyncRuntime = super::runtime::RaftRuntime,
);

pub(crate) type Raft = openraft::Raft<Types, StateMachine>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type RaftEntry = openraft::alias::EntryOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type RaftSnapshot = openraft::alias::SnapshotOf<Types, SnapshotBytes>;

/// The machine's part of a snapshot, as JSON. Shared, because openraft keeps and sends it.
pub(crate) type SnapshotBytes = std::sync::Arc<str>;
