//! The coordinators' consensus: one log of commands, kept by openraft on the embedded log.
//!
//! ```text
//!  driver ── propose ──> Member ── openraft ──> LogStore ── JournalWriter ── Journal (embedded log)
//!                          ^           │
//!                          │           └──> StateMachine: `State::apply`, the only decision
//!                          └── answer ──────────┘
//! ```
//!
//! `qanat run` is a group of one member: the same code, and no network.
//!
//! What must never happen: an answer to a vote or an append before it is on the disk; a start that knows less
//! than what was acknowledged; two replicas with equal applied index and unequal states (I6). Tests: openraft's own
//! suite for stores, `crash_tests.rs` (every crash point of a journal), `group_tests.rs` (three members).

mod change;
mod follow;
mod hand_over;
mod journal;
mod log_store;
mod look;
mod member;
mod network;
mod plant;
mod removal;
mod reread;
mod runtime;
mod state_machine;
mod types;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod log_store_tests;
#[cfg(test)]
mod suite_tests;

pub use look::{EVERYTHING, Entry, Reach, folder_to_watch, look};
pub(crate) use member::not_leader;
pub use member::{Decision, Leadership, Member, MemberConfig, MemberStatus, RaftStatus};
pub use plant::plant;
#[doc(hidden)]
pub use reread::{reread, samples};
pub use state_machine::{RunSummary, Snapshot};
pub use types::MemberId;

pub(crate) use network::SnapshotHead;
pub(crate) use removal::removed;
pub(crate) use types::{Types, Vote};
