//! Counters that show a running job's progress. They decide nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::memory::JobMemory;

/// What the subtasks of one source have read.
#[derive(Debug)]
pub struct SourceMetrics {
    records: AtomicU64,
    bytes: AtomicU64,
    watermark: AtomicI64,
}

impl Default for SourceMetrics {
    fn default() -> Self {
        Self { records: AtomicU64::new(0), bytes: AtomicU64::new(0), watermark: AtomicI64::new(i64::MIN) }
    }
}

impl SourceMetrics {
    pub fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn watermark(&self, watermark: i64) {
        self.watermark.fetch_max(watermark, Ordering::Relaxed);
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// ms; None before the first.
    pub fn watermark_ms(&self) -> Option<i64> {
        Some(self.watermark.load(Ordering::Relaxed)).filter(|w| *w > i64::MIN)
    }
}

/// Counters of one running job.
#[derive(Debug)]
pub struct JobMetrics {
    /// By source table, summed over subtasks.
    pub sources: Vec<(String, Arc<SourceMetrics>)>,
    pub memory: Arc<JobMemory>,
}
