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
use qanat_proto::receipt::RowSum;
use xxhash_rust::xxh3::xxh3_64;

use crate::canonical::{INTEGER, RowEncoder, integer};
use crate::receipt::RowHasher;

/// The key group of a key hash: the hash scaled to `0..key_groups`.
pub fn key_group(hash: u64, key_groups: u16) -> u16 {
    let scaled = (u128::from(hash) * u128::from(key_groups)) >> 64;
    u16::try_from(scaled).expect("a hash below 2^64 scales to less than key_groups")
}

/// Hashes keys, with buffers that it keeps between calls.
#[derive(Debug, Default)]
pub struct KeyHasher {
    encoder: RowEncoder,
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
                // A block at a time: to read bytes right after they were written in other steps stalls the processor.
                let mut block = [[0; INTEGER]; 64];
                for values in column.as_primitive::<Int64Type>().values().chunks(block.len()) {
                    block.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = integer(*value));
                    hashes.extend(block.iter().take(values.len()).map(|bytes| xxh3_64(bytes)));
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

    /// The rows of each subtask that gets any, by subtask, each in the order of the input. The parts share memory; a
    /// batch whose rows all go to one subtask is handed on as it is.
    ///
    /// # Errors
    /// E0102 for a key of a type without an encoding; E0503 for a column that is not there.
    pub fn partition(&mut self, batch: &RecordBatch) -> Result<Vec<(u32, RecordBatch)>> {
        self.aim(batch)?;
        self.cut(batch)
    }

    /// Like [`Partitioner::partition`], with the sum of each part's rows.
    ///
    /// # Errors
    /// As [`Partitioner::partition`]; E0102 for a column of a type without an encoding.
    pub fn partition_and_sum(
        &mut self,
        batch: &RecordBatch,
        hasher: &mut RowHasher,
    ) -> Result<Vec<(u32, RecordBatch, RowSum)>> {
        self.aim(batch)?;
        // Row hashes read the batch from front to back. What is then gathered here and there is near.
        let sums = hasher.sum_by_group(batch, &self.targets, self.parallelism as usize)?;
        let sum = |target: u32| sums.get(target as usize).copied().unwrap_or_default();
        Ok(self.cut(batch)?.into_iter().map(|(target, part)| (target, part, sum(target))).collect())
    }

    /// Finds the subtask of each row.
    fn aim(&mut self, batch: &RecordBatch) -> Result<()> {
        self.targets.clear();
        if self.parallelism == 1 {
            self.targets.resize(batch.num_rows(), 0);
            return Ok(());
        }
        let keys = self
            .columns
            .iter()
            .map(|index| batch.columns().get(*index).cloned())
            .collect::<Option<Vec<ArrayRef>>>()
            .ok_or_else(|| Error::internal("a key column is missing from a batch"))?;
        let hashes = self.hasher.hash(&keys, batch.num_rows())?;
        let (owners, key_groups) = (self.owners.as_slice(), self.key_groups);
        self.targets.extend(hashes.iter().map(|hash| owners[usize::from(key_group(*hash, key_groups))]));
        Ok(())
    }

    /// The rows of each subtask, as they were aimed.
    fn cut(&mut self, batch: &RecordBatch) -> Result<Vec<(u32, RecordBatch)>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        // Counting sort by target: count, turn counts into first positions, place.
        self.next.clear();
        self.next.resize(self.parallelism as usize, 0);
        self.targets.iter().for_each(|target| self.next[*target as usize] += 1);
        let counts = self.next.clone();
        if let Some(only) = counts.iter().position(|count| *count as usize == rows) {
            return Ok(vec![(only as u32, batch.clone())]);
        }
        let mut first = 0;
        for position in &mut self.next {
            first += std::mem::replace(position, first);
        }
        let mut order = vec![0_u32; rows];
        for (row, target) in (0..).zip(&self.targets) {
            let position = &mut self.next[*target as usize];
            order[*position as usize] = row;
            *position += 1;
        }
        let sorted = take_record_batch(batch, &UInt32Array::from(order))
            .map_err(|e| Error::internal(format!("could not partition a batch: {e}")))?;
        let mut parts = Vec::new();
        let mut start = 0;
        for (target, count) in (0..).zip(counts) {
            if count > 0 {
                parts.push((target, sorted.slice(start, count as usize)));
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
