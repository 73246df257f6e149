//! The vocabulary that every plane of Qanat shares: identifiers, the job graph, connector
//! descriptors, control messages, receipts, limits, error codes and invariants.
//!
//! Nothing here does IO, is asynchronous, or reads a clock; [`rpc`] alone holds what is generated for the wire.
//! Every other crate depends on this one.

pub mod access;
pub mod address;
pub mod audit;
pub mod changelog;
pub mod checkpoint;
pub mod connector;
pub mod control;
pub mod epoch_ranges;
pub mod error;
pub mod exposition;
pub mod graph;
pub mod ids;
pub mod invariant;
pub mod ipc;
pub mod job_choice;
pub mod limits;
pub mod manifest;
pub mod names;
pub mod owner;
pub mod physical;
pub mod receipt;
pub mod rows;
pub mod rpc;
pub mod settings;
pub mod trace;
pub mod zoo;

pub use epoch_ranges::EpochRanges;
pub use error::{Code, Error, Place, Result};
