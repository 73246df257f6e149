//! The control plane's shell: the group of coordinators and its log, the jobs' drivers, the executors' links.

pub mod caller;
mod decisions;
pub mod driver;
pub mod figures;
pub mod metrics;
pub mod nodes;
pub mod owner;
pub mod raft;
mod retention;
pub mod rollback;
pub mod service;
mod store_thread;
mod tap;
mod topics;

pub use driver::{Coordinator, CoordinatorConfig, ExecutorLink, Executors, JobEvent, NewJob};
