//! Counters that show a running job's progress. They decide nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qanat_proto::ids::Token;
use qanat_proto::limits;

use crate::memory::JobMemory;

mod figures;
mod page;
mod subtask;

pub(crate) use figures::figures;
pub use page::FAMILIES;
pub(crate) use page::{show_fenced, show_job};
pub use subtask::{Activity, Flow, Spent, SubtaskMetrics, label};

/// What the subtasks of one source have read.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    records: AtomicU64,
    bytes: AtomicU64,
    /// Of each subtask: its watermark in ms, and whether it holds back what is behind it.
    watermarks: Mutex<BTreeMap<u32, (i64, bool)>>,
}

impl SourceMetrics {
    pub fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How far a subtask has come (None: as far as before); one that is idle or has ended holds nothing back.
    pub fn watermark(&self, subtask: u32, watermark: Option<i64>, holds_back: bool) {
        let mut watermarks = self.watermarks.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = watermarks.entry(subtask).or_insert((i64::MIN, holds_back));
        *shown = (watermark.unwrap_or(shown.0), holds_back);
    }

    /// The highest watermark of a subtask, in ms.
    pub fn reached(&self) -> i64 {
        let watermarks = self.watermarks.lock().unwrap_or_else(PoisonError::into_inner);
        watermarks.values().map(|(watermark, _)| *watermark).max().unwrap_or(i64::MIN)
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The lowest of the subtasks that hold others back, else the highest of all; ms. None before the first.
    pub fn watermark_ms(&self) -> Option<i64> {
        let lowest = {
            let watermarks = self.watermarks.lock().unwrap_or_else(PoisonError::into_inner);
            watermarks.values().filter(|(_, holds_back)| *holds_back).map(|(watermark, _)| *watermark).min()
        };
        Some(lowest.unwrap_or_else(|| self.reached())).filter(|watermark| *watermark > i64::MIN)
    }
}

/// Counters of one generation of a job, in this process.
#[derive(Debug)]
pub struct JobMetrics {
    pub token: Token,
    /// Name of the job.
    pub name: String,
    /// By source table, summed over subtasks.
    pub sources: Vec<(String, Arc<SourceMetrics>)>,
    pub memory: Arc<JobMemory>,
    subtasks: Mutex<Vec<Arc<SubtaskMetrics>>>,
    /// By the operator that sends.
    links: Mutex<Vec<(String, Arc<LinkMetrics>)>>,
}

impl JobMetrics {
    pub fn new(token: Token, name: String, sources: Vec<(String, Arc<SourceMetrics>)>, memory: Arc<JobMemory>) -> Self {
        Self { token, name, sources, memory, subtasks: Mutex::default(), links: Mutex::default() }
    }

    pub(crate) fn add_subtask(&self, subtask: Arc<SubtaskMetrics>) {
        self.subtasks().push(subtask);
    }

    pub(crate) fn add_link(&self, operator: String, link: Arc<LinkMetrics>) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push((operator, link));
    }

    /// Those that run in this process.
    pub(crate) fn subtasks(&self) -> MutexGuard<'_, Vec<Arc<SubtaskMetrics>>> {
        self.subtasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By the operator that sends to other executors: bytes that they have not taken yet, and bytes that may follow.
    pub(crate) fn credit(&self) -> BTreeMap<String, (u64, u64)> {
        let mut credit: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (operator, link) in self.links.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let in_flight = link.in_flight.load(Ordering::Relaxed);
            let sum = credit.entry(operator.clone()).or_default();
            *sum = (sum.0 + in_flight, sum.1 + link.room.saturating_sub(in_flight));
        }
        credit
    }
}

/// One edge to another executor.
#[derive(Debug)]
pub struct LinkMetrics {
    in_flight: AtomicU64,
    /// Bytes that all its channels together may have in flight.
    room: u64,
}

impl LinkMetrics {
    /// Of an edge with so many channels to that executor.
    pub fn new(channels: usize) -> Self {
        Self { in_flight: AtomicU64::new(0), room: (channels * limits::CHANNEL_BYTES) as u64 }
    }

    pub(crate) fn set_in_flight(&self, bytes: u64) {
        self.in_flight.store(bytes, Ordering::Relaxed);
    }
}

/// What a node refused because its token was an older one (I4).
#[derive(Debug, Default)]
pub struct Fenced {
    control: AtomicU64,
    log: AtomicU64,
}

impl Fenced {
    /// A control message for an older generation, or for an earlier start of the process.
    pub(crate) fn refuse_control(&self) {
        self.control.fetch_add(1, Ordering::Relaxed);
    }

    /// An append to the log or a commit that its sink refused.
    pub(crate) fn refuse_log(&self) {
        self.log.fetch_add(1, Ordering::Relaxed);
    }

    pub fn control(&self) -> u64 {
        self.control.load(Ordering::Relaxed)
    }

    pub fn log(&self) -> u64 {
        self.log.load(Ordering::Relaxed)
    }
}
