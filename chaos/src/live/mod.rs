//! Real processes: the `qanat` binary started, killed and started again while an independent reader looks.

pub mod binary;
pub mod campaign;
pub mod cluster;
pub mod fault;
pub mod link;
pub mod members;
pub mod moment;
pub mod process;
pub mod report;
pub mod rolling;
pub mod scrape;
pub mod watch;
pub mod workload;
