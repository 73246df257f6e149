//! The embedded log: partitioned, append-only, segmented, durable when it says so.
//!
//! It serves topics (`'connector' = 'log'`), the buffers behind push sources, dead letters, late rows,
//! and whatever else needs an ordered record. `docs/log-format.md` is its format, complete enough to
//! write a reader from.
//!
//! ```text
//! Topics ── Topic ── Partition ── Segment, Segment, ... (files; the last one grows)
//!               │        ├─ Writer      under the log writer's group commit ([`GroupCommit`])
//!               │        └─ LogReader   any number, woken when rows arrive
//!               └─ Staging              rows that wait for their epoch's claim (P11, P12)
//! ```
//!
//! What must never happen: an acknowledgement before the sync (I8); an acknowledged row cut, or a torn
//! one served (I8); a damaged byte used (I9); half of a run seen; a commit replayed twice (P12); an
//! append by an owner that was replaced (I4).
//!
//! Tests: `suite.rs` (any environment), `tests/` (every crash point, every flipped bit, a model, many
//! threads).

mod answer;
mod changes;
mod codec;
mod document;
mod ends;
mod frame;
mod group;
mod index;
mod index_cache;
mod listing;
mod partition;
mod payload;
mod reader;
mod replay;
mod retention;
mod scan;
mod segment;
mod staging;
#[cfg(test)]
mod suite;
mod takeover;
#[cfg(test)]
mod tests;
mod topic;
mod topics;
mod writer;

use std::sync::{Mutex, MutexGuard};

use crate::env::{Env, thread};

pub use changes::Changed;
pub use frame::{EventTime, WriterStamp};
pub use group::{GroupCommit, Pending};
pub use index_cache::IndexCache;
pub use partition::{LogOptions, Partition};
pub use reader::{LogBatch, LogFrame, LogReader};
pub use retention::Retention;
pub use staging::{Committed, StagedHandle, StagedPartition, Staging};
pub use takeover::{SealedSegment, Takeover};
pub use topic::{
    AppendOptions, Isolation, PARTITIONS_MAX, PartitionDescription, Start, ToLatest, Topic, TopicDescription, TopicSpec,
};
pub use topics::Topics;
pub use writer::{Appended, OwnerToken};

/// What everything in one folder of topics is opened with.
#[derive(Clone)]
struct Setup {
    env: Env,
    options: LogOptions,
    commit: GroupCommit,
    access: partition::Access,
    indexes: IndexCache,
}

/// Locks, also after a panic elsewhere: what the locks here guard is changed in single steps, and the
/// one exception, the writer, refuses to go on by itself ([`writer::Writer::poison`]).
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    thread::lock(mutex)
}
