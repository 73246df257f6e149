//! Benchmarks of the engine against stated limits, both sides in one run.
//!
//! Each benchmark is a binary that prints one JSON object: the figures of both sides and their ratio.
//! `benchmarks/README.md` has the commands.

pub mod cluster;
pub mod decode;
pub mod exchange;
pub mod limit;
pub mod log;
pub mod measure;
pub mod raft;
pub mod scrape;
pub mod sink_probe;
pub mod windows;
