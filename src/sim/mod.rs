//! The simulator: a whole cluster in one thread, under faults, as one function of a seed.
//!
//! Coordinators, executors, openraft, tonic and Flight are the real ones. Simulated are what they stand on: the network
//! ([turmoil](https://docs.rs/turmoil)), disks (`storage::env::sim`), clocks, and who runs when ([`threads`]). A seed
//! chooses the size of the cluster, the faults, when they come, and what a user does meanwhile; then the faults stop,
//! and all jobs must end within a bound. What their sinks hold is compared with what they hold without faults, and
//! audited.
//!
//! ```text
//!  campaign: a process per seed ──> seed: the loop of ticks ──> machine: a process that dies and comes back
//!      │                                 │                          └─ disk, clock, network, threads
//!      └─ compares with no faults        ├─ faults, links           user: submits, rescales, waits, audits
//!                                        └─ trace: equal for equal seeds
//! ```
//!
//! `docs/guide/simulation.md` is for users; ADR 29 says why it is made so.

mod campaign;
mod clock;
mod disk;
mod faults;
mod input;
mod links;
mod machine;
mod network;
mod raft_watch;
mod report;
mod seed;
mod threads;
mod trace;
mod user;
mod zoo;

pub(crate) use campaign::{Campaign, one};
pub(crate) use faults::FaultKind;
pub(crate) use report::Report;
pub(crate) use zoo::{bugs, look_for};
