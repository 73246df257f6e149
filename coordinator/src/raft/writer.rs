//! The one writer of a journal: a thread that takes votes, entries, truncations and snapshots in order.
//!
//! What waits while a sync is under way is written together by the next one, so that the number of commands per
//! second does not depend on how long a sync takes.

use std::io;

use crossbeam::channel::{Receiver, Sender, unbounded};
use qanat_proto::{Error, Result};
use qanat_storage::env::thread::{self, JoinHandle};

use super::journal::{Journal, Row};

/// Is told once the rows are on the disk, or that they are not.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

pub(super) enum Write {
    Rows {
        rows: Vec<String>,
        done: Done,
    },
    /// A row that is encoded by the thread: it may be large.
    Snapshot {
        snapshot: Row,
        behind: Vec<String>,
        done: Done,
    },
}

/// Handle of the writer. Dropping it ends the thread once everything is written.
pub(super) struct JournalWriter {
    queue: Option<Sender<Write>>,
    thread: Option<JoinHandle<()>>,
}

impl JournalWriter {
    /// Starts the thread. `on_large` is called when a snapshot is due.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub(super) fn start(journal: Journal, on_large: impl Fn() + Send + 'static) -> Result<Self> {
        let (sender, queue) = unbounded();
        let thread = thread::spawn("journal", move || run(journal, &queue, &on_large))
            .map_err(|e| Error::io("start the journal's thread", &e))?;
        Ok(Self { queue: Some(sender), thread: Some(thread) })
    }

    pub(super) fn send(&self, write: Write) {
        if let Some(queue) = &self.queue {
            // The thread lives as long as this handle.
            let _ = queue.send(write);
        }
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(mut journal: Journal, queue: &Receiver<Write>, on_large: &dyn Fn()) {
    // After a write that failed nobody knows what is on the disk: all that come after it fail alike.
    let mut failure: Option<Error> = None;
    while let Ok(first) = thread::recv(queue) {
        let mut next = Some(first);
        while let Some(write) = next.take() {
            let mut waiting = Vec::new();
            let result = match (&failure, write) {
                (Some(error), Write::Rows { done, .. } | Write::Snapshot { done, .. }) => {
                    waiting.push(done);
                    Err(error.clone())
                }
                (None, Write::Rows { mut rows, done }) => {
                    waiting.push(done);
                    for write in queue.try_iter() {
                        match write {
                            Write::Rows { rows: more, done } => {
                                rows.extend(more);
                                waiting.push(done);
                            }
                            Write::Snapshot { .. } => {
                                next = Some(write);
                                break;
                            }
                        }
                    }
                    journal.append(rows)
                }
                (None, Write::Snapshot { snapshot, behind, done }) => {
                    waiting.push(done);
                    journal.snapshot(snapshot, behind)
                }
            };
            if let Err(error) = &result {
                failure.get_or_insert_with(|| error.clone());
            }
            for done in waiting {
                done(result.as_ref().map_err(|error| io::Error::other(error.clone())).copied());
            }
            if result.is_ok() && journal.is_large() {
                on_large();
            }
        }
    }
}
