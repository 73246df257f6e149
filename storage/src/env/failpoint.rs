//! Failpoints: named moments at which a test may end the process.
//!
//! `QANAT_FAILPOINT=name` aborts the process the first time it passes `name`, `name:3` the third time;
//! nothing is flushed or unwound, as with a kill. Only debug builds look at the variable.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    left: AtomicU64,
}

/// Passes the failpoint `name`.
pub fn failpoint(name: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("QANAT_FAILPOINT").ok()?;
        let (name, count) = text.rsplit_once(':').unwrap_or((&text, "1"));
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(count.parse().unwrap_or(1)) })
    });
    if let Some(armed) = armed
        && armed.name == name
        && armed.left.fetch_sub(1, Ordering::AcqRel) == 1
    {
        std::process::abort();
    }
}

/// Every failpoint there is, in the order in which an epoch passes them. A test hits each one.
pub const FAILPOINTS: &[&str] = &[
    "source.barrier",
    "sink.write",
    "sink.prepare",
    "sink.prepared",
    "state.store",
    "state.stored",
    "state.merge",
    "state.merged",
    "report.send",
    "manifest.write",
    "manifest.written",
    "claim.propose",
    "claim.applied",
    "commit.start",
    "commit.sink",
    "commit.done",
    "committed.propose",
    "committed.applied",
    "retire.applied",
    "collect.done",
    "generation.open",
    "deploy.built",
    "abort.done",
    "receipt.shown",
];

/// That of a submit to a cluster: epoch 0 of one more job of the script is durable, and nothing is decided yet.
pub const SUBMIT_FAILPOINT: &str = "submit.written";

/// Those of `qanat late readmit` and `qanat dead-letters readmit`.
pub const READMIT_FAILPOINTS: &[&str] = &["readmit.staged", "readmit.noted", "readmit.published", "readmit.done"];

/// Those that the first run after a rollback passes.
pub const ROLLBACK_FAILPOINTS: &[&str] = &["withdraw.start", "withdraw.sink", "withdraw.done"];
