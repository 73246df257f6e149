//! The data plane's shell: runs subtasks, moves batches, keeps memory bounded, reports epochs.

pub mod attach;
pub mod checkpoint;
pub mod deploy;
pub mod exchange;
pub mod lookup;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod operator;
mod pushdown;
pub mod spill;
pub mod tap;
pub mod task;
