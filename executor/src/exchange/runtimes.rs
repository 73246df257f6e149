//! The threads that move rows to and from other executors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qanat_proto::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that do nothing else, so that moving rows never delays a heartbeat. Outlives what runs on them.
pub struct RowThreads(Vec<Runtime>);

impl RowThreads {
    /// Half as many as there are processors: they move rows while the others make them.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(processors: usize) -> Result<Self> {
        let one = |_| Builder::new_multi_thread().worker_threads(1).thread_name("io").enable_all().build();
        let started = (0..(processors / 2).max(1)).map(one).collect::<std::io::Result<_>>();
        started.map(Self).map_err(|e| Error::io("start the threads of the exchange", &e))
    }

    /// To be handed on.
    pub fn runtimes(&self) -> Runtimes {
        Runtimes::new(self.0.iter().map(|runtime| runtime.handle().clone()).collect())
    }
}

/// Runtimes for rows, of one thread each. A link stays on one of them, with its connection: a message passes through
/// several tasks, and to wake another processor for each of them takes longer than what they do.
#[derive(Clone)]
pub struct Runtimes {
    handles: Arc<[Handle]>,
    taken: Arc<AtomicUsize>,
}

impl Runtimes {
    /// At least one.
    pub fn new(handles: Vec<Handle>) -> Self {
        Self { handles: handles.into(), taken: Arc::default() }
    }

    /// One after the other.
    pub(super) fn next(&self) -> &Handle {
        &self.handles[self.taken.fetch_add(1, Ordering::Relaxed) % self.handles.len()]
    }

    pub(super) fn all(&self) -> &[Handle] {
        &self.handles
    }
}
