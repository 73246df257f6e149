//! `COUNT`.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::DataFusionError;

use super::super::slots::shared;
use super::accumulator::{Batch, GroupAccumulator};

pub(crate) struct Count {
    /// The argument is a constant.
    counts_rows: bool,
    counts: Vec<i64>,
}

impl Count {
    pub(crate) fn new(counts_rows: bool) -> Self {
        Self { counts_rows, counts: Vec::new() }
    }
}

impl GroupAccumulator for Count {
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        self.counts.resize(slots, 0);
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        self.counts[slot as usize] = 0;
        Ok(())
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let nulls = if self.counts_rows { None } else { values.first().and_then(|v| v.logical_nulls()) };
        let counts = &mut self.counts;
        if nulls.is_none() && batch.retracted.is_none() && batch.filter.is_none() {
            batch.slots.iter().for_each(|slot| counts[*slot as usize] += 1);
            return Ok(());
        }
        for (row, slot, sign) in batch.rows() {
            let is_there = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            counts[slot] += sign * i64::from(is_there);
        }
        Ok(())
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        Ok(shared(Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize]))))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        Ok(vec![self.results(slots)?])
    }

    fn restore(&mut self, slots: &[u32], states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let counts = states[0].as_primitive::<Int64Type>().values();
        slots.iter().zip(counts).for_each(|(slot, count)| self.counts[*slot as usize] = *count);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * 8
    }
}
