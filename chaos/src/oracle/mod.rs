//! Independent readers and the checks they make.
//!
//! Everything here is written from `docs/file-sink.md` and `docs/log-format.md`.

pub mod expected;
pub mod folder;
pub mod ids;
pub mod record;
pub mod topic;

/// What a reader found wrong: where, and what was expected.
pub type Violation = String;
