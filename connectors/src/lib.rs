//! The outside world: sources, sinks and formats. One folder per connector, one line each in
//! [`registry`].

pub mod contract;
pub mod encode;
pub mod format;
pub mod options;
pub mod registry;

pub mod datagen;
pub mod filesystem;
pub mod nexmark;
pub mod stdin;

#[cfg(test)]
mod suite;

pub use registry::{Catalog, Registry};
