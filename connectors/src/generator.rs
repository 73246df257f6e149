//! What `datagen` and `nexmark` share: rows that are a pure function of their number, dealt to a fixed
//! number of splits, as fast as possible or at a rate.
//!
//! Row i belongs to split i mod n, so that event time moves on evenly in all splits. The number of
//! splits is fixed when a job starts and kept with its positions; parallelism never changes the rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray, new_null_array,
};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::SplitId;
use qanat_storage::env::{Clock, Env};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::{ReadOutcome, ReadRequest, Source, SourceBatch, Split, SplitReader, StopFlag};

/// At a rate, the rows of a split are gathered for so long: a batch costs more than a row, on its way through the job
/// too, and there are many splits.
const LINGER: Duration = Duration::from_millis(20);
/// Splits of a generator when nothing else is said: enough for the parallelism of one machine.
pub(crate) const SPLITS_DEFAULT: &str = "16";

/// Rows as a function of their numbers.
pub(crate) trait Rows: Send + Sync {
    /// The projected columns of these rows. `base_ms` is the job's base time, fixed at its start.
    fn columns(&self, rows: &[u64], base_ms: i64) -> Result<Vec<ArrayRef>>;
}

pub(crate) struct GeneratorSource {
    rows: Arc<dyn Rows>,
    name: &'static str,
    splits: u64,
    /// Rows of the whole job. None: no end.
    limit: Option<u64>,
    /// Rows per second of the whole job. None: as fast as possible.
    rate: Option<f64>,
    base_ms: i64,
    schema: SchemaRef,
    request: ReadRequest,
    clock: Arc<dyn Clock>,
}

/// What a generator is told beside its rows.
pub(crate) struct Plan {
    pub(crate) splits: u64,
    pub(crate) limit: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) base_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Detail {
    split: u64,
    of: u64,
    base_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Rows of the split before the next one.
    row: u64,
}

impl GeneratorSource {
    pub(crate) fn new(
        env: &Env,
        name: &'static str,
        table: &TableDescriptor,
        request: ReadRequest,
        plan: &Plan,
        rows: Arc<dyn Rows>,
    ) -> Self {
        let physical = request.projection.iter().filter_map(|i| table.physical.fields().get(*i).cloned());
        let metadata = request.metadata.iter().map(|(n, kind)| Arc::new(Field::new(n, kind.data_type(), true)));
        let fields: Vec<FieldRef> = physical.chain(metadata).collect();
        Self {
            rows,
            name,
            splits: plan.splits.max(1),
            limit: plan.limit,
            rate: plan.rate,
            base_ms: plan.base_ms.unwrap_or_else(|| env.clock.now_ms()),
            schema: Arc::new(Schema::new(fields)),
            request,
            clock: Arc::clone(&env.clock),
        }
    }
}

impl Source for GeneratorSource {
    fn discover(&self) -> Result<Vec<Split>> {
        let split = |split| Split {
            id: SplitId(format!("{}-{split}", self.name)),
            detail: json!(Detail { split, of: self.splits, base_ms: self.base_ms }),
            start: json!(Position::default()),
        };
        Ok((0..self.splits).map(split).collect())
    }

    fn is_growing(&self) -> bool {
        false
    }

    fn open(&self, split: &Split, position: &Value) -> Result<Box<dyn SplitReader>> {
        let bad = |e: serde_json::Error| Error::internal(format!("split `{}` cannot be opened: {e}", split.id));
        let detail: Detail = serde_json::from_value(split.detail.clone()).map_err(bad)?;
        let position: Position = serde_json::from_value(position.clone()).map_err(bad)?;
        Ok(Box::new(GeneratorReader {
            rows: Arc::clone(&self.rows),
            name: self.name,
            detail,
            next: position.row,
            end: self.limit.map(|limit| limit.saturating_sub(detail.split).div_ceil(detail.of)),
            rate: self.rate,
            given: None,
            opened: self.clock.monotonic(),
            opened_at: position.row,
            schema: Arc::clone(&self.schema),
            request: self.request.clone(),
            clock: Arc::clone(&self.clock),
        }))
    }
}

struct GeneratorReader {
    rows: Arc<dyn Rows>,
    name: &'static str,
    detail: Detail,
    next: u64,
    /// Rows of this split.
    end: Option<u64>,
    /// Rows per second of all splits.
    rate: Option<f64>,
    /// When it gave rows last.
    given: Option<Duration>,
    opened: Duration,
    opened_at: u64,
    schema: SchemaRef,
    request: ReadRequest,
    clock: Arc<dyn Clock>,
}

impl GeneratorReader {
    /// Rows that may be given now.
    fn due(&self) -> u64 {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.next));
        let Some(rate) = self.rate else { return left };
        let elapsed = self.clock.monotonic().saturating_sub(self.opened).as_secs_f64();
        // The first row of all is due at once, and the splits take turns from there.
        let earned = ((elapsed * rate) as u64).saturating_add(1).saturating_sub(self.detail.split);
        let earned = self.opened_at.saturating_add(earned.div_ceil(self.detail.of.max(1)));
        left.min(earned.saturating_sub(self.next))
    }

    /// Whether it is too early to give rows again.
    fn lingers(&self) -> bool {
        let since = |given: Duration| self.clock.monotonic().saturating_sub(given);
        self.rate.is_some() && self.given.is_some_and(|given| since(given) < LINGER)
    }

    fn batch(&self, rows: &[u64]) -> Result<RecordBatch> {
        let mut arrays = self.rows.columns(rows, self.detail.base_ms)?;
        for (_, kind) in &self.request.metadata {
            arrays.push(match kind {
                MetadataKind::Origin => Arc::new(StringArray::from_iter_values(rows.iter().map(|_| self.name))),
                MetadataKind::Offset => {
                    Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| i64::try_from(*r).unwrap_or(i64::MAX))))
                }
                MetadataKind::IngestTime => {
                    Arc::new(TimestampMillisecondArray::from_value(self.clock.now_ms(), rows.len()))
                }
                MetadataKind::Timestamp => new_null_array(&kind.data_type(), rows.len()),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|e| Error::internal(format!("could not build generated rows: {e}")))
    }
}

impl SplitReader for GeneratorReader {
    fn next(&mut self, stop: &StopFlag) -> Result<ReadOutcome> {
        if self.end.is_some_and(|end| self.next >= end) {
            return Ok(ReadOutcome::End);
        }
        let count = self.due().min(self.request.batch_rows.max(1) as u64);
        if count == 0 || stop.is_set() || count < self.request.batch_rows as u64 && self.lingers() {
            return Ok(ReadOutcome::Pending);
        }
        self.given = Some(self.clock.monotonic());
        let rows: Vec<u64> = (self.next..self.next + count).map(|j| self.detail.split + j * self.detail.of).collect();
        let batch = self.batch(&rows)?;
        self.next += count;
        Ok(ReadOutcome::Batch(SourceBatch {
            bytes: batch.get_array_memory_size() as u64,
            rows: batch,
            dead_letters: Vec::new(),
            position: json!(Position { row: self.next }),
            records: count,
            hidden: None,
        }))
    }
}

/// A well-mixed 64-bit function of a seed, a stream (a column) and a row (SplitMix64's finaliser).
#[inline]
pub(crate) fn mix(seed: u64, stream: u64, row: u64) -> u64 {
    let mut z = seed
        .wrapping_add(stream.wrapping_mul(0xd134_2543_de82_ef95))
        .wrapping_add(row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `random` scaled to `0..bound`, without a division.
#[inline]
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// `random` scaled to `0.0..1.0`.
#[inline]
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
