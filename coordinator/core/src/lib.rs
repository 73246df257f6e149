//! Control-plane decisions as pure functions: what is claimed, committed, restored, retired.
//!
//! Nothing here does IO, reads a clock or draws a random number. [`state::State::apply`] is the only
//! way a durable fact changes; [`job::JobDriver::step`] turns events into commands and messages, and
//! everything it needs after a restart it derives again from the state. The rules P1 to P15 in
//! `docs/protocol.md` are enforced in `apply`, whatever the driver does.

pub mod access;
pub mod apply;
pub mod audit;
pub mod checkpoint;
pub mod command;
pub mod job;
pub mod membership;
pub mod placement;
pub mod retention;
mod rollback;
mod savepoint;
pub mod state;
mod topic_changes;
pub mod topics;

pub use command::{Command, Refusal};
pub use placement::Executor;
pub use state::{Claimed, Job, JobStatus, State};
