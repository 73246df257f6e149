//! Real processes: the `qanat` binary started, killed and started again while an independent reader looks.

pub mod binary;
pub mod campaign;
pub mod cluster;
pub mod cluster_report;
pub mod damage;
pub mod fault;
pub mod history;
pub mod inject;
pub mod ledger;
pub mod link;
pub mod logs;
pub mod members;
pub mod moment;
pub mod namespaces;
pub mod network;
pub mod operator;
pub mod process;
pub mod report;
pub mod rolling;
pub mod scrape;
pub mod server;
pub mod shim;
pub mod watch;
pub mod weather;
pub mod workload;
