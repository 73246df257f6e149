//! The outside world: sources, sinks and formats. One folder per connector, one line each in
//! [`registry`].

pub mod contract;
pub mod encode;
pub mod format;
mod generator;
pub mod options;
pub mod predicate;
pub mod registry;

pub mod blackhole;
pub mod datagen;
pub mod filesystem;
pub mod log;
pub mod nexmark;
pub mod print;
pub mod side;
pub mod stdin;
pub mod values;

#[cfg(test)]
mod suite;

pub use registry::{Catalog, Registry};
