//! Counters that show a running job's progress. They decide nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::memory::JobMemory;

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

/// Counters of one running job.
#[derive(Debug)]
pub struct JobMetrics {
    /// By source table, summed over subtasks.
    pub sources: Vec<(String, Arc<SourceMetrics>)>,
    pub memory: Arc<JobMemory>,
}
