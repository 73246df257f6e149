//! Checkpoints: immutable manifests and state objects, stored, verified and collected.
//!
//! The coordinator writes and reads manifests through [`CheckpointStore`]; executors write state through
//! [`StateWriter`] and read it back through [`crate::state`]. What a manifest is stands in
//! [`qanat_proto::manifest`]; what makes it count is the claim on its key and checksum.
//!
//! ```text
//! manifests/<job>/<epoch>-<generation>-<attempt>    one checksummed JSON document
//! state/<job>-g<generation>-e<epoch>-<operator>-<subtask>-<sequence>    one state file
//! ```

mod envelope;
#[cfg(test)]
pub(crate) mod fixture;
pub mod gc;
#[cfg(test)]
mod merge_tests;
mod store;

pub use store::{CheckpointStore, ManifestKey, StateWriter};
