//! The outside world: sources, sinks and formats. One folder per connector, one registry line each.

pub mod contract;
