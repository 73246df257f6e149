//! The threads that move rows to and from other executors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

/// Runtimes for rows, of one thread each. A link stays on one of them, with its connection: a message passes through
/// several tasks, and to wake another processor for each of them takes longer than what they do.
#[derive(Clone)]
pub struct Runtimes {
    handles: Arc<[Handle]>,
    taken: Arc<AtomicUsize>,
}

impl Runtimes {
    /// Those that do nothing else: moving rows never delays a heartbeat.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(handles: impl Into<Arc<[Handle]>>) -> Self {
        let handles = handles.into();
        assert!(!handles.is_empty(), "rows are moved by somebody");
        Self { handles, taken: Arc::default() }
    }

    /// Of so many processors: half of them could move rows while the others make them.
    pub fn count(processors: usize) -> usize {
        (processors / 2).max(1)
    }

    /// One after the other.
    pub(super) fn next(&self) -> &Handle {
        &self.handles[self.taken.fetch_add(1, Ordering::Relaxed) % self.handles.len()]
    }

    pub(super) fn all(&self) -> &[Handle] {
        &self.handles
    }
}
