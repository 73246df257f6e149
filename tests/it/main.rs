//! Tests of the `qanat` binary as a black box: scripts and input files in, committed files and receipts
//! out. Nothing here uses a crate of the workspace, so that what is expected never comes from what is
//! tested.
//!
//! - `slt`: the cases of `tests/slt`, one SQL file each, every one run four ways.
//! - `audit`: planted faults, found and named.
//! - `chaos`: faults to a cluster by its own command, and what comes of them.
//! - `dev`: a cluster on one machine, and what keeps it from starting.
//! - `hostile`: bad input and bad surroundings.
//! - `follow`: jobs without an end.
//! - `neighbours`: processes of another cluster, and requests that come twice or ask for too much.
//! - `look`: what a cluster holds, asked for by its clients.
//! - `membership`: a coordinator that leaves its group.
//! - `readmit`: dead letters written out again, with deaths in between.
//! - `nexmark`: the queries of a benchmark, each against a batch.
//! - `resume`: what a run may count on after kills, at another parallelism, with another script.
//! - `rollback`: savepoints, and what comes back after one.
//! - `secure`: a cluster with certificates and tokens, and who is refused.
//! - `spread`: a job whose subtasks share more than rows, on several executors.
//! - `starts`: where a job begins, decided once.
//! - `stdin`: what cannot be read again.
//! - `topics`: topics that clients of a cluster make and delete.
//! - `verbs`: what the commands about jobs take for a name, ask, tell and refuse.
//! - `property`: random tables and random window queries against a row-by-row oracle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod audit;
mod beyond_memory;
mod case;
mod chaos;
mod compare;
mod csv;
mod dev;
mod folder;
mod follow;
mod hostile;
mod look;
mod membership;
mod metrics;
mod neighbours;
mod nexmark;
mod process;
mod property;
mod readmit;
mod resume;
mod rng;
mod rollback;
mod secure;
mod sink;
mod slt;
mod spread;
mod starts;
mod stdin;
mod timestamp;
mod topics;
mod verbs;
mod ways;
