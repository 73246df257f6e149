//! Receipts: what an epoch read, moved and wrote, so that an outsider can prove conservation (I13).
//!
//! The hash of a set of rows is the sum modulo 2^128 of a hash per row; both the row encoding and the
//! row hash are documented in `docs/receipts.md` and implemented in `qanat_executor_core::receipt`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{Epoch, Generation, JobId, OperatorId, SplitId};

/// Number of rows and the sum modulo 2^128 of their hashes. The order of rows does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSum {
    pub rows: u64,
    pub hash: RowHash,
}

impl RowSum {
    pub fn add(&mut self, other: RowSum) {
        self.rows += other.rows;
        self.hash.0 = self.hash.0.wrapping_add(other.hash.0);
    }
}

/// A 128-bit sum of row hashes, written as 32 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RowHash(pub u128);

impl fmt::Display for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for RowHash {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}
impl Serialize for RowHash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for RowHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The sums of all receipts of a job so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub epochs: u64,
    /// Records read, by table.
    pub sources: BTreeMap<String, u64>,
    /// Rows committed, by table.
    pub sinks: BTreeMap<String, RowSum>,
    /// Files or runs committed, by table.
    pub objects: BTreeMap<String, u64>,
    pub late: u64,
    pub dead_lettered: u64,
}

impl Totals {
    pub fn add(&mut self, receipt: &Receipt) {
        self.epochs += 1;
        for source in &receipt.sources {
            *self.sources.entry(source.table.clone()).or_default() += source.splits.iter().map(|s| s.rows).sum::<u64>();
        }
        for sink in &receipt.sinks {
            let rows = self.sinks.entry(sink.table.clone()).or_default();
            sink.objects.iter().for_each(|object| rows.add(object.sum));
            *self.objects.entry(sink.table.clone()).or_default() += sink.objects.len() as u64;
        }
        for operator in &receipt.operators {
            self.late += operator.counts.late;
            self.dead_lettered += operator.counts.dead_lettered;
        }
    }
}

/// The receipt of one epoch of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub job: JobId,
    pub generation: Generation,
    pub epoch: Epoch,
    pub sources: Vec<SourceReceipt>,
    pub operators: Vec<OperatorReceipt>,
    pub edges: Vec<EdgeReceipt>,
    pub sinks: Vec<SinkReceipt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReceipt {
    pub operator: OperatorId,
    pub table: String,
    pub splits: Vec<SplitReceipt>,
}

/// What one split gave in this epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReceipt {
    pub id: SplitId,
    /// Positions as the connector writes them.
    pub from: Arc<serde_json::Value>,
    pub to: Arc<serde_json::Value>,
    /// Records read between the two, dead letters included.
    pub rows: u64,
}

/// What an operator did with its rows in this epoch, summed over its subtasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCounts {
    pub rows_in: u64,
    pub rows_out: u64,
    /// Rows dropped by a filter.
    pub filtered: u64,
    /// Rows judged late, kept in the late table.
    pub late: u64,
    /// Rows that could not be processed, kept in the dead-letter table.
    pub dead_lettered: u64,
    /// Rows taken into state (windowed operators).
    pub accumulated: u64,
    /// Rows made beyond one per input row (expanding operators).
    pub expanded: u64,
}

impl OperatorCounts {
    pub fn add(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.filtered += other.filtered;
        self.late += other.late;
        self.dead_lettered += other.dead_lettered;
        self.accumulated += other.accumulated;
        self.expanded += other.expanded;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorReceipt {
    pub operator: OperatorId,
    pub name: String,
    /// `source`, `stateless`, `expanding`, `windowed` or `sink`: which equation must balance.
    pub role: String,
    #[serde(flatten)]
    pub counts: OperatorCounts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReceipt {
    pub from: OperatorId,
    pub to: OperatorId,
    pub port: usize,
    pub sent: RowSum,
    pub received: RowSum,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkReceipt {
    pub operator: OperatorId,
    pub table: String,
    pub objects: Vec<SinkObject>,
}

/// One committed file or run of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkObject {
    pub name: String,
    #[serde(flatten)]
    pub sum: RowSum,
}
