//! Rows between executors: Arrow Flight's `DoExchange`, one per edge and pair of executors in each generation.
//!
//! ```text
//!  sending executor                                        receiving executor
//!  task ──> Channel ──> Outgoing ═══ batches, markers ═══> Server ──> Channel ──> task
//!               ^            ^  <═══ credit, adopted  ════    │           │
//!               └── room ────┘                                └── taken ──┘
//! ```
//!
//! A channel's credit counts elements and bytes: what is on its way always has room at its end, so that the reader of
//! a connection never waits, and one slow subtask stops only those that send to it.
//!
//! What must never happen: rows of a generation that is over in one that runs (I4); a batch of another schema; an
//! element lost, doubled or out of order within its channel. A link that breaks ends the generation.

mod asked;
#[cfg(test)]
mod guard_tests;
mod incoming;
mod link;
mod message;
mod outgoing;
mod owner;
mod pieces;
mod runtimes;
mod server;
mod taps;

use std::sync::Arc;

use qanat_proto::ids::{OperatorId, StartId};
use qanat_proto::rpc::dial::Dial;

#[doc(hidden)]
pub use asked::Asked;
pub use incoming::{Incoming, IncomingEdge, Opening};
#[doc(hidden)]
pub use link::{elements, messages};
pub use outgoing::{LinkHandles, OutgoingEdge};
pub use owner::PerformTask;
pub use runtimes::{RowThreads, Runtimes};
pub use server::{router, serve};

/// What moves rows to and from other executors.
#[derive(Clone)]
pub struct Exchange {
    pub runtimes: Runtimes,
    pub start: StartId,
    pub cluster: Arc<str>,
    pub dial: Arc<dyn Dial>,
    pub incoming: Arc<Incoming>,
}

/// An edge between two operators of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeKey {
    pub from: OperatorId,
    pub to: OperatorId,
    pub port: usize,
}

/// The two subtasks of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    pub sender: u32,
    pub receiver: u32,
}
