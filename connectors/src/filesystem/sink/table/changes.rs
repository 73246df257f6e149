//! The latest change of each key since the last time that files were written.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use hashbrown::HashTable;
use qanat_executor_core::canonical::RowEncoder;
use qanat_executor_core::partition::key_group;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::changelog::RowKind;
use qanat_proto::error::{Error, Result};
use qanat_proto::limits::BATCH_ROWS;
use qanat_proto::receipt::RowSum;
use xxhash_rust::xxh3::xxh3_64;

/// Rows that were replaced since are let go of when they are more than those that count, and so many.
const REPLACED_ROWS_MAX: usize = 1 << 16;

/// Shapes: `rows` are batches of the table's columns; a change is a place in them, or none for a row that is gone.
pub(super) struct Changes {
    /// Columns of the primary key.
    key: Vec<usize>,
    buckets: u16,
    encoder: RowEncoder,
    hasher: RowHasher,
    rows: Vec<RecordBatch>,
    stored: usize,
    bytes: usize,
    /// Canonical bytes of all keys, one behind the other.
    keys: Vec<u8>,
    changes: Vec<Change>,
    /// Places in `changes`.
    index: HashTable<usize>,
    /// Changes that came, with their kinds, by bucket.
    sums: BTreeMap<u16, RowSum>,
}

struct Change {
    hash: u64,
    key: Range<usize>,
    /// Batch and row; None: it is gone.
    row: Option<(usize, usize)>,
}

impl Changes {
    pub(super) fn new(key: Vec<usize>, buckets: u16) -> Self {
        Self {
            key,
            buckets,
            encoder: RowEncoder::default(),
            hasher: RowHasher::default(),
            rows: Vec::new(),
            stored: 0,
            bytes: 0,
            keys: Vec::new(),
            changes: Vec::new(),
            index: HashTable::new(),
            sums: BTreeMap::new(),
        }
    }

    /// Bytes that are held, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.keys.capacity() + self.changes.capacity() * size_of::<Change>()
    }

    /// Takes rows of the table's columns behind which their kinds stand as text; `kinds` if not all are new.
    ///
    /// # Errors
    /// E0102 for a key of a type without an encoding.
    pub(super) fn take(&mut self, told: &RecordBatch, kinds: Option<&[RowKind]>) -> Result<()> {
        let columns: Vec<usize> = (0..told.num_columns().saturating_sub(1)).collect();
        let rows = told.project(&columns).map_err(|e| Error::internal(e.to_string()))?;
        let key: Vec<ArrayRef> = self.key.iter().filter_map(|column| rows.columns().get(*column)).cloned().collect();
        let batch = self.rows.len();
        let mut groups = Vec::with_capacity(rows.num_rows());
        let Self { encoder, keys, changes, index, buckets, .. } = self;
        let mut at = 0;
        encoder.for_each_row(&key, rows.num_rows(), |bytes| {
            let hash = xxh3_64(bytes);
            groups.push(u32::from(key_group(hash, *buckets)));
            let is_gone = kinds.and_then(|kinds| kinds.get(at)).is_some_and(|kind| !kind.is_added());
            let row = (!is_gone).then_some((batch, at));
            at += 1;
            let is_same = |place: &usize| is_key(changes, keys, *place, hash, bytes);
            match index.find(hash, is_same) {
                Some(place) => {
                    if let Some(change) = changes.get_mut(*place) {
                        change.row = row;
                    }
                }
                None => {
                    let start = keys.len();
                    keys.extend_from_slice(bytes);
                    changes.push(Change { hash, key: start..keys.len(), row });
                    let rehash = |place: &usize| changes.get(*place).map_or(0, |change| change.hash);
                    index.insert_unique(hash, changes.len() - 1, rehash);
                }
            }
        })?;
        let sums = self.hasher.sum_by_group(told, &groups, usize::from(self.buckets))?;
        for (bucket, sum) in (0..self.buckets).zip(sums).filter(|(_, sum)| sum.rows > 0) {
            self.sums.entry(bucket).or_default().add(sum);
        }
        self.stored += rows.num_rows();
        self.bytes += sliced_bytes(&rows);
        self.rows.push(rows);
        if self.stored > self.changes.len() * 2 + REPLACED_ROWS_MAX {
            self.compact()?;
        }
        Ok(())
    }

    /// Whether a key has changed.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        let hash = xxh3_64(key);
        self.index.find(hash, |place| is_key(&self.changes, &self.keys, *place, hash, key)).is_some()
    }

    /// The buckets that have changes, each with the changes that came.
    pub(super) fn touched(&self) -> Vec<(u16, RowSum)> {
        self.sums.iter().map(|(bucket, sum)| (*bucket, *sum)).collect()
    }

    /// The rows there are now of each bucket that has any, as places of [`Changes::batch`].
    pub(super) fn by_bucket(&self) -> BTreeMap<u16, Vec<(usize, usize)>> {
        let mut buckets: BTreeMap<u16, Vec<(usize, usize)>> = BTreeMap::new();
        for change in &self.changes {
            if let Some(row) = change.row {
                buckets.entry(key_group(change.hash, self.buckets)).or_default().push(row);
            }
        }
        buckets
    }

    /// The rows at some places, [`BATCH_ROWS`] at most.
    ///
    /// # Errors
    /// E0503 for a place that is none.
    pub(super) fn batch(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        // Few batches of many: an array of references for each call would cost more than the rows.
        let mut used: Vec<usize> = places.iter().map(|(batch, _)| *batch).collect();
        used.sort_unstable();
        used.dedup();
        let batches: Vec<&RecordBatch> = used.iter().filter_map(|batch| self.rows.get(*batch)).collect();
        let at = |(batch, row): &(usize, usize)| (used.binary_search(batch).unwrap_or(usize::MAX), *row);
        let places: Vec<(usize, usize)> = places.iter().map(at).collect();
        interleave_record_batch(&batches, &places).map_err(|e| Error::internal(format!("gather rows: {e}")))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(std::mem::take(&mut self.key), self.buckets);
    }

    /// Lets go of rows that were replaced since.
    fn compact(&mut self) -> Result<()> {
        let live: Vec<(usize, usize)> = self.changes.iter().filter_map(|change| change.row).collect();
        let mut rows = Vec::new();
        for places in live.chunks(BATCH_ROWS) {
            rows.push(self.batch(places)?);
        }
        let changes = self.changes.iter_mut().filter(|change| change.row.is_some());
        for (number, change) in changes.enumerate() {
            change.row = Some((number / BATCH_ROWS, number % BATCH_ROWS));
        }
        self.stored = live.len();
        self.bytes = rows.iter().map(sliced_bytes).sum();
        self.rows = rows;
        Ok(())
    }
}

/// Bytes of the rows of a batch, without those that only share its buffers.
pub(super) fn sliced_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

fn is_key(changes: &[Change], keys: &[u8], place: usize, hash: u64, key: &[u8]) -> bool {
    changes.get(place).is_some_and(|change| change.hash == hash && keys.get(change.key.clone()) == Some(key))
}
