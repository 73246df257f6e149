//! The data plane's shell: runs subtasks, moves batches, keeps memory bounded, reports epochs.

pub mod operator;
