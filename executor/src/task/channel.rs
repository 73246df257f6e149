//! A bounded queue from one subtask to another, to a lane, or to another executor and from one.
//!
//! One sender, one receiver. The bound is in batches and in bytes; a push that does not fit gives the
//! element back, and the sender is woken when there is room. What is queued counts against the job's
//! memory.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam::queue::ArrayQueue;
use qanat_proto::ids::Epoch;
use qanat_proto::limits;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::thread::Condvar;

use crate::memory::{JobMemory, batch_bytes};
use crate::task::pool::Waker;

/// What flows between subtasks.
#[derive(Clone, Debug)]
pub enum Element {
    /// Rows, with the sum that the sender counted: sender and receiver must agree (I13).
    Batch {
        rows: RecordBatch,
        sum: RowSum,
        /// What the rows take, measured once: it counts of each room that they come through.
        bytes: usize,
    },
    /// Milliseconds; `i64::MAX` when all input has ended.
    Watermark(i64),
    Idle,
    /// The sender is no longer idle.
    Active,
    Barrier(Epoch),
}

impl Element {
    pub fn batch(rows: RecordBatch, sum: RowSum) -> Self {
        let bytes = batch_bytes(&rows);
        Self::Batch { rows, sum, bytes }
    }

    /// What it counts of a channel's room: its rows.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Batch { bytes, .. } => *bytes,
            _ => 0,
        }
    }
}

/// The far sender of a channel whose rows come from another executor.
pub trait FarSender: Send + Sync {
    /// The next element in order was taken; it counted so many bytes.
    fn taken(&self, bytes: usize);

    /// The receiver's answer to an announcement; see [`Channel::adopted`].
    fn adopted(&self, watermark: i64);
}

pub struct Channel {
    queue: ArrayQueue<Element>,
    bytes: AtomicUsize,
    memory: Arc<JobMemory>,
    sender: OnceLock<Waker>,
    receiver: OnceLock<Waker>,
    /// In place of a receiver in this process: what sends the elements on.
    forwarder: OnceLock<Arc<dyn Fn() + Send + Sync>>,
    far_sender: OnceLock<Box<dyn FarSender>>,
    /// For a receiver that is a thread.
    parked: Mutex<()>,
    arrived: Condvar,
    closed: AtomicBool,
    /// The receiver's watermark when it took an `Active` marker; see [`Channel::adopted`].
    adopted: AtomicI64,
    has_adopted: AtomicBool,
}

impl Channel {
    pub fn new(memory: Arc<JobMemory>) -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(limits::CHANNEL_ELEMENTS),
            bytes: AtomicUsize::new(0),
            memory,
            sender: OnceLock::new(),
            receiver: OnceLock::new(),
            forwarder: OnceLock::new(),
            far_sender: OnceLock::new(),
            parked: Mutex::new(()),
            arrived: Condvar::new(),
            closed: AtomicBool::new(false),
            adopted: AtomicI64::new(i64::MIN),
            has_adopted: AtomicBool::new(false),
        })
    }

    /// Who is woken when there is room again. Set once, before the first push.
    pub fn set_sender(&self, waker: Waker) {
        let _ = self.sender.set(waker);
    }

    /// Who is woken when an element arrives. A receiving thread needs none.
    pub fn set_receiver(&self, waker: Waker) {
        let _ = self.receiver.set(waker);
    }

    /// What is called when an element arrives that another executor is to get. Set once, before the first push.
    pub fn set_forwarder(&self, forwarder: Arc<dyn Fn() + Send + Sync>) {
        let _ = self.forwarder.set(forwarder);
    }

    /// The other executor that this channel's elements come from. Set once, before the first push.
    pub fn set_far_sender(&self, sender: Box<dyn FarSender>) {
        let _ = self.far_sender.set(sender);
    }

    /// Pushes an element from another executor, which has credit for it.
    ///
    /// # Errors
    /// Gives the element back if the sender did not keep to its credit.
    pub fn push_from_afar(&self, element: Element) -> Result<(), Box<Element>> {
        let bytes = element.bytes();
        self.enqueue(element, bytes)
    }

    /// # Errors
    /// Gives the element back if the queue is full.
    pub fn push(&self, element: Element) -> Result<(), Box<Element>> {
        let bytes = element.bytes();
        let held = self.bytes.load(Ordering::Acquire);
        if bytes > 0 && held > 0 && held + bytes > limits::CHANNEL_BYTES {
            return Err(Box::new(element));
        }
        self.enqueue(element, bytes)
    }

    fn enqueue(&self, element: Element, bytes: usize) -> Result<(), Box<Element>> {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.memory.grow(bytes);
        if let Err(element) = self.queue.push(element) {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.memory.shrink(bytes);
            return Err(Box::new(element));
        }
        match (self.receiver.get(), self.forwarder.get()) {
            (Some(waker), _) => waker.wake(),
            (None, Some(forwarder)) => forwarder(),
            (None, None) => {
                drop(self.parked.lock().unwrap_or_else(PoisonError::into_inner));
                self.arrived.notify_one();
            }
        }
        Ok(())
    }

    pub fn pop(&self) -> Option<Element> {
        let element = self.queue.pop()?;
        let bytes = element.bytes();
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.memory.shrink(bytes);
        if let Some(waker) = self.sender.get() {
            waker.wake();
        }
        if let Some(sender) = self.far_sender.get() {
            sender.taken(bytes);
        }
        Some(element)
    }

    /// Elements and bytes that wait in it.
    pub fn fill(&self) -> (usize, usize) {
        (self.queue.len(), self.bytes.load(Ordering::Relaxed))
    }

    /// The sender is about to announce that it wakes up.
    pub fn begin_wake(&self) {
        self.has_adopted.store(false, Ordering::Release);
    }

    /// The receiver has taken the announcement; from now on its watermark does not pass the sender's.
    pub fn acknowledge_wake(&self, watermark: i64) {
        self.adopted.store(watermark, Ordering::Release);
        self.has_adopted.store(true, Ordering::Release);
        if let Some(waker) = self.sender.get() {
            waker.wake();
        }
        if let Some(sender) = self.far_sender.get() {
            sender.adopted(watermark);
        }
    }

    /// The watermark that the sender must adopt before it sends rows again; None while the receiver
    /// has not answered.
    pub fn adopted(&self) -> Option<i64> {
        self.has_adopted.load(Ordering::Acquire).then(|| self.adopted.load(Ordering::Acquire))
    }

    /// For a receiving thread: the next element, or None once the channel is closed.
    pub fn pop_blocking(&self) -> Option<Element> {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            if let Some(element) = self.pop() {
                return Some(element);
            }
            let guard = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
            if self.queue.is_empty() && !self.closed.load(Ordering::Acquire) {
                drop(self.arrived.wait_timeout(&self.parked, guard, Duration::from_millis(100)));
            }
        }
    }

    /// Ends a receiving thread; what is queued is dropped.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_all();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes.load(Ordering::Acquire));
    }
}
