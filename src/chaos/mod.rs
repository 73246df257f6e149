//! `qanat chaos`: faults done to a running test cluster of the user's own while their jobs run, and the proof that
//! nothing was lost or doubled by them.
//!
//! Called by `cli/chaos.rs`, on Linux: elsewhere nobody tells which process listens where. It is a client of the cluster like any other, and besides sends signals to those of its
//! processes that run on this machine. What must never happen: a process is signalled that is no node of this cluster,
//! a majority of the coordinators is away at once, or something stays paused, killed, drained or rescaled when the
//! command ends, however that is. Tests: `tests/it/chaos.rs`, and below the files.

mod inject;
mod kind;
mod machine;
mod node;
mod plan;
mod process;
mod report;
mod subject;
mod trial;

pub(crate) use kind::Kind;
pub(crate) use trial::{ChaosOptions, Trial};
