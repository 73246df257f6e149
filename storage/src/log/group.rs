//! Group commit: one writer thread per disk, a bounded queue in front of it.
//!
//! Appenders of all partitions put their frames into one queue. The thread takes everything that
//! waits, writes it with one call and one `fdatasync` per file, and only then answers. While it syncs,
//! the next group gathers: throughput does not depend on how long a sync takes.
//!
//! [`GroupCommit::inline`] is the same without the thread: whoever waits for an answer runs the next
//! group himself, or a test calls [`GroupCommit::step`]. The simulator and the crash tests use it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use qanat_proto::error::{Error, Result};
use qanat_proto::limits::LOG_QUEUE_LENGTH;

use crate::env::thread::{self, JoinHandle};

use super::answer::{Answer, Reply, pair};
use super::lock;
use super::partition::Partition;
use super::writer::{Appended, Work};

/// Bytes of one group: more would only make the first of them wait longer.
const GROUP_BYTES: u64 = 16 << 20;

pub(super) struct Request {
    pub partition: Arc<Partition>,
    pub work: Work,
    pub reply: Reply,
}

/// The writer of one disk. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct GroupCommit(Arc<Queue>);

enum Queue {
    Inline(Mutex<VecDeque<Request>>),
    Thread { sender: Option<Sender<Request>>, thread: Option<JoinHandle<()>> },
}

impl GroupCommit {
    /// Starts the writer thread of a disk.
    ///
    /// # Errors
    /// E0214 if the system gives no thread.
    pub fn spawn() -> Result<Self> {
        let (sender, receiver) = bounded(LOG_QUEUE_LENGTH);
        let thread =
            thread::spawn("log-writer", move || run(&receiver)).map_err(|e| Error::io("start the log writer", &e))?;
        Ok(Self(Arc::new(Queue::Thread { sender: Some(sender), thread: Some(thread) })))
    }

    /// Without a thread: whoever waits does the work.
    pub fn inline() -> Self {
        Self(Arc::new(Queue::Inline(Mutex::new(VecDeque::new()))))
    }

    /// Writes and syncs one group of everything that waits. Returns whether there was anything. Does
    /// nothing if there is a thread.
    pub fn step(&self) -> bool {
        let Queue::Inline(queue) = self.0.as_ref() else { return false };
        let group: Vec<Request> = lock(queue).drain(..).collect();
        let was_busy = !group.is_empty();
        commit(group).iter().for_each(|partition| partition.mark_end());
        was_busy
    }

    /// Queues an append; waits while the queue is full. Offsets are given in queue order.
    pub(super) fn submit(&self, partition: &Arc<Partition>, work: Work) -> Pending {
        let (reply, answer) = pair();
        let request = Request { partition: Arc::clone(partition), work, reply };
        match self.0.as_ref() {
            Queue::Inline(queue) => lock(queue).push_back(request),
            // A thread that is gone drops the request, and with it the reply: `wait` says so.
            Queue::Thread { sender, .. } => {
                if let Some(sender) = sender {
                    let _ = thread::send(sender, request);
                }
            }
        }
        Pending { answer, queue: self.clone() }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Self::Thread { sender, thread } = self {
            drop(sender.take());
            if let Some(thread) = thread.take()
                && !thread.thread().is_current()
            {
                // A panic of the writer was already an error to everyone who waited for it.
                let _ = thread.join();
            }
        }
    }
}

/// An append whose answer is not there yet. Dropping it does not take the append back.
#[must_use = "an append is durable only once `wait` has returned"]
pub struct Pending {
    answer: Answer,
    queue: GroupCommit,
}

impl Pending {
    /// An answer that is there at once.
    pub(super) fn ready(appended: Appended) -> Self {
        let (reply, answer) = pair();
        reply.send(Ok(appended));
        Self { answer, queue: GroupCommit::inline() }
    }

    /// Waits until the rows are synced.
    ///
    /// # Errors
    /// E0305 if the write or the sync failed, E0306 if the partition has a newer owner, E0215 if the
    /// disk is full. After E0305 it is not known whether the rows are in the log.
    pub fn wait(self) -> Result<Appended> {
        loop {
            match self.answer.take() {
                Some(answer) => return answer,
                None if self.queue.step() => {}
                None => return self.answer.wait(),
            }
        }
    }
}

/// The thread: gathers what waits, up to a bound, and commits it.
fn run(queue: &Receiver<Request>) {
    // Partitions whose ends are to be marked when nobody waits: a next group would write over the mark.
    let mut unmarked: Vec<Arc<Partition>> = Vec::new();
    loop {
        let first = match queue.try_recv() {
            Ok(first) => first,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                unmarked.drain(..).for_each(|partition| partition.mark_end());
                match thread::recv(queue) {
                    Ok(first) => first,
                    Err(_) => return,
                }
            }
        };
        let mut bytes = first.work.bytes();
        let mut group = vec![first];
        while bytes < GROUP_BYTES && group.len() < LOG_QUEUE_LENGTH {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.work.bytes();
            group.push(next);
        }
        // A panic ends the group: who waits for it hears so, its writer takes nothing any more, others go on.
        let committed = catch_unwind(AssertUnwindSafe(|| commit(group))).unwrap_or_default();
        for partition in committed {
            if !unmarked.iter().any(|known| Arc::ptr_eq(known, &partition)) {
                unmarked.push(partition);
            }
        }
    }
}

/// Commits a group, partition by partition, each in queue order. Returns the partitions.
fn commit(group: Vec<Request>) -> Vec<Arc<Partition>> {
    let mut partitions: Vec<(Arc<Partition>, Vec<Request>)> = Vec::new();
    for request in group {
        match partitions.iter_mut().find(|(partition, _)| Arc::ptr_eq(partition, &request.partition)) {
            Some((_, requests)) => requests.push(request),
            None => partitions.push((Arc::clone(&request.partition), vec![request])),
        }
    }
    let committed = partitions.into_iter().map(|(partition, requests)| {
        partition.write_group(requests);
        partition
    });
    committed.collect()
}
