//! Key groups: which subtask a row belongs to.
//!
//! The key hash is XXH3-64 with seed 0 over the canonical bytes of the key columns, in order
//! ([`crate::canonical`]). The key group is the hash scaled to the number of groups, that is
//! `floor(hash * key_groups / 2^64)`; groups map to subtasks by [`qanat_proto::ids::owner_of`].
//!
//! Equal keys have equal hashes whatever array holds them: plain, large, view and dictionary strings,
//! integers of any width, −0.0 and 0.0, all NaNs, timestamps of any unit, and a null equals a null.
//! Decimals are equal at equal scale. This is a durable format: saved state must find its group after
//! any upgrade, which the golden values below hold fast.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::owner_of;
use xxhash_rust::xxh3::xxh3_64;

use crate::canonical::{RowEncoder, integer, text_header};

/// The key group of a key hash: the hash scaled to `0..key_groups`.
pub fn key_group(hash: u64, key_groups: u16) -> u16 {
    let scaled = (u128::from(hash) * u128::from(key_groups)) >> 64;
    u16::try_from(scaled).expect("a hash below 2^64 scales to less than key_groups")
}

/// Hashes keys, with buffers that it keeps between calls.
#[derive(Debug, Default)]
pub struct KeyHasher {
    encoder: RowEncoder,
    buffer: Vec<u8>,
    hashes: Vec<u64>,
}

impl KeyHasher {
    /// One hash per row over `columns`, in order. No columns give every row the same hash.
    ///
    /// # Errors
    /// E0102 for a column of a type without an encoding.
    pub fn hash(&mut self, columns: &[ArrayRef], rows: usize) -> Result<&[u64]> {
        let hashes = &mut self.hashes;
        hashes.clear();
        hashes.reserve(rows);
        match columns {
            [column] if column.data_type() == &DataType::Int64 && column.null_count() == 0 => {
                let values = column.as_primitive::<Int64Type>().values();
                hashes.extend(values.iter().map(|value| xxh3_64(&integer(*value))));
            }
            [column] if column.data_type() == &DataType::Utf8 && column.null_count() == 0 => {
                let values = column.as_string::<i32>();
                for row in 0..rows {
                    let value = values.value(row);
                    self.buffer.clear();
                    self.buffer.extend_from_slice(&text_header(value.len()));
                    self.buffer.extend_from_slice(value.as_bytes());
                    hashes.push(xxh3_64(&self.buffer));
                }
            }
            [] => hashes.resize(rows, xxh3_64(&[])),
            _ => self.encoder.for_each_row(columns, rows, |bytes| hashes.push(xxh3_64(bytes)))?,
        }
        Ok(hashes)
    }

    /// The key group of each row: column 0 of a state table.
    ///
    /// # Errors
    /// E0102 for a column of a type without an encoding.
    pub fn key_groups(&mut self, columns: &[ArrayRef], rows: usize, key_groups: u16) -> Result<UInt16Array> {
        let hashes = self.hash(columns, rows)?;
        Ok(UInt16Array::from_iter_values(hashes.iter().map(|hash| key_group(*hash, key_groups))))
    }
}

/// Cuts batches into one batch per subtask of the consumer.
#[derive(Debug)]
pub struct Partitioner {
    columns: Vec<usize>,
    parallelism: u32,
    key_groups: u16,
    /// Subtask that owns each key group.
    owners: Vec<u32>,
    hasher: KeyHasher,
    /// Per row: its subtask.
    targets: Vec<u32>,
    /// Per subtask: where its next row goes in the sorted order.
    next: Vec<u32>,
}

impl Partitioner {
    /// By the key columns `columns` (indexes into the batches to come).
    ///
    /// # Errors
    /// E0503 if `parallelism` is 0 or larger than `key_groups`.
    pub fn new(columns: Vec<usize>, key_groups: u16, parallelism: u32) -> Result<Self> {
        if parallelism == 0 || parallelism > u32::from(key_groups) {
            return Err(Error::internal(format!("{parallelism} subtasks cannot share {key_groups} key groups")));
        }
        let owners = (0..key_groups).map(|group| owner_of(group, key_groups, parallelism)).collect();
        Ok(Self {
            columns,
            parallelism,
            key_groups,
            owners,
            hasher: KeyHasher::default(),
            targets: Vec::new(),
            next: Vec::new(),
        })
    }

    /// The rows of each subtask that gets any, by subtask, each in the order of the input. The parts
    /// share memory; a batch whose rows all go to one subtask is handed on as it is.
    ///
    /// # Errors
    /// E0102 for a key of a type without an encoding; E0503 for a column that is not there.
    pub fn partition(&mut self, batch: &RecordBatch) -> Result<Vec<(u32, RecordBatch)>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        if self.parallelism == 1 {
            return Ok(vec![(0, batch.clone())]);
        }
        let keys = self
            .columns
            .iter()
            .map(|index| batch.columns().get(*index).cloned())
            .collect::<Option<Vec<ArrayRef>>>()
            .ok_or_else(|| Error::internal("a key column is missing from a batch"))?;
        let hashes = self.hasher.hash(&keys, rows)?;

        // Counting sort by target: count, turn counts into first positions, place.
        self.next.clear();
        self.next.resize(self.parallelism as usize, 0);
        self.targets.clear();
        for hash in hashes {
            let target = self.owners[usize::from(key_group(*hash, self.key_groups))];
            self.targets.push(target);
            self.next[target as usize] += 1;
        }
        let counts = self.next.clone();
        if let Some(only) = counts.iter().position(|count| *count as usize == rows) {
            return Ok(vec![(only as u32, batch.clone())]);
        }
        let mut first = 0;
        for position in &mut self.next {
            first += std::mem::replace(position, first);
        }
        let mut order = vec![0_u32; rows];
        for (row, target) in self.targets.iter().enumerate() {
            let position = &mut self.next[*target as usize];
            order[*position as usize] = row as u32;
            *position += 1;
        }
        let sorted = take_record_batch(batch, &UInt32Array::from(order))
            .map_err(|e| Error::internal(format!("could not partition a batch: {e}")))?;
        let mut parts = Vec::new();
        let mut start = 0;
        for (target, count) in counts.into_iter().enumerate() {
            if count > 0 {
                parts.push((target as u32, sorted.slice(start, count as usize)));
                start += count as usize;
            }
        }
        Ok(parts)
    }
}

/// [`Partitioner::partition`] for a single batch.
///
/// # Errors
/// As [`Partitioner`].
pub fn partition_batch(
    batch: &RecordBatch,
    columns: &[usize],
    key_groups: u16,
    parallelism: u32,
) -> Result<Vec<(u32, RecordBatch)>> {
    Partitioner::new(columns.to_vec(), key_groups, parallelism)?.partition(batch)
}

/// A batch with its key group as column 0: the shape of a state table's rows.
///
/// # Errors
/// As [`KeyHasher::key_groups`]; E0503 if `schema` does not fit.
pub fn with_key_group(
    schema: &arrow::datatypes::SchemaRef,
    key_group: UInt16Array,
    columns: impl IntoIterator<Item = ArrayRef>,
) -> Result<RecordBatch> {
    let columns = std::iter::once(Arc::new(key_group) as ArrayRef).chain(columns).collect();
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|e| Error::internal(format!("state rows do not fit their table: {e}")))
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
