//! Row hashes: what receipts count rows by (I13).
//!
//! The hash of a row is XXH3 with a 128-bit result and seed 0 (xxHash's specification) over the row's canonical
//! bytes ([`crate::canonical`]); the hash of a set of rows is the sum of theirs modulo 2^128, so it
//! does not depend on order or on how rows are cut into batches. `docs/receipts.md` documents both and
//! holds a program that recomputes them without this code.
//!
//! Called at both ends of every edge and where sinks stage rows.

use arrow::array::{ArrayRef, RecordBatch};
use qanat_proto::error::{Error, Result};
use qanat_proto::receipt::{RowHash, RowSum};
use xxhash_rust::xxh3::xxh3_128;

use crate::canonical::RowEncoder;

/// Sums row hashes, with buffers that it keeps between calls.
#[derive(Debug, Default)]
pub struct RowHasher {
    encoder: RowEncoder,
}

impl RowHasher {
    /// Count and hash sum of the rows of a batch, over all its columns in order.
    ///
    /// # Errors
    /// E0102 for a column of a type without an encoding.
    pub fn sum(&mut self, batch: &RecordBatch) -> Result<RowSum> {
        self.sum_columns(batch.columns(), batch.num_rows())
    }

    /// Like [`RowHasher::sum`], by group: `groups` has one of `0..count` for each row. One sum per group.
    ///
    /// # Errors
    /// E0102 for a column of a type without an encoding; E0503 for a row of no group.
    pub fn sum_by_group(&mut self, batch: &RecordBatch, groups: &[u32], count: usize) -> Result<Vec<RowSum>> {
        let mut sums = vec![RowSum::default(); count];
        let mut unmet = groups.len().abs_diff(batch.num_rows());
        let mut groups = groups.iter();
        self.encoder.for_each_row(batch.columns(), batch.num_rows(), |bytes| {
            match groups.next().and_then(|group| sums.get_mut(*group as usize)) {
                Some(sum) => sum.add(RowSum { rows: 1, hash: RowHash(hash_bytes(bytes)) }),
                None => unmet += 1,
            }
        })?;
        if unmet > 0 {
            return Err(Error::internal(format!("{unmet} rows are of no group")));
        }
        Ok(sums)
    }

    /// Like [`RowHasher::sum`], over some columns.
    ///
    /// # Errors
    /// E0102 for a column of a type without an encoding.
    pub fn sum_columns(&mut self, columns: &[ArrayRef], rows: usize) -> Result<RowSum> {
        let mut hash = 0_u128;
        self.encoder.for_each_row(columns, rows, |bytes| hash = hash.wrapping_add(hash_bytes(bytes)))?;
        Ok(RowSum { rows: rows as u64, hash: RowHash(hash) })
    }
}

/// Row hash of canonical bytes.
pub fn hash_bytes(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
mod tests;
