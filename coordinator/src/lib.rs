//! The control plane's shell: keeps the command log, applies it, drives jobs, talks to executors.

pub mod command_log;
pub mod driver;

pub use driver::{Coordinator, CoordinatorConfig, ExecutorLink, JobEvent, NewJob};
