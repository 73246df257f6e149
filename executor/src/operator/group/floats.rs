//! `SUM` and `AVG` of doubles, from which rows can be taken back.
//!
//! A sum is kept as a double and what its additions lost (Neumaier, *Rundungsfehleranalyse einiger Verfahren zur
//! Summation endlicher Summen*, 1974), so that adding a value and taking it back leaves what there was but for the last
//! bits of the larger one. What is no finite number is counted and not added: one NaN must not stay when its row goes.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion_common::DataFusionError;

use super::super::slots::shared;
use super::accumulator::{Batch, GroupAccumulator};

pub(crate) struct FloatSum {
    is_average: bool,
    groups: Vec<Group>,
}

#[derive(Clone, Copy, Default)]
struct Group {
    /// Values that are not NULL.
    count: i64,
    sum: f64,
    /// What `sum` lacks.
    lost: f64,
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

impl Group {
    fn add(&mut self, value: f64, sign: i64) {
        self.count += sign;
        if value.is_nan() {
            self.nans += sign;
        } else if value == f64::INFINITY {
            self.infinities += sign;
        } else if value == f64::NEG_INFINITY {
            self.negative_infinities += sign;
        } else {
            let value = if sign > 0 { value } else { -value };
            let sum = self.sum + value;
            let lost = if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
            // Beyond the largest number nothing that was lost can be told.
            self.lost += if lost.is_finite() { lost } else { 0.0 };
            self.sum = sum;
        }
        if self.count == 0 {
            // Nothing is left, whatever was lost beyond the largest number.
            *self = Self::default();
        }
    }

    fn sum(&self) -> f64 {
        match (self.nans > 0, self.infinities > 0, self.negative_infinities > 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            // Only what has no finite values left is exactly nothing.
            _ => self.sum + self.lost,
        }
    }

    fn result(&self, is_average: bool) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        Some(if is_average { self.sum() / self.count as f64 } else { self.sum() })
    }
}

impl FloatSum {
    pub(crate) fn new(is_average: bool) -> Self {
        Self { is_average, groups: Vec::new() }
    }

    fn integers(&self, slots: &[u32], of: impl Fn(&Group) -> i64) -> ArrayRef {
        shared(Int64Array::from_iter_values(slots.iter().map(|slot| of(&self.groups[*slot as usize]))))
    }

    fn floats(&self, slots: &[u32], of: impl Fn(&Group) -> f64) -> ArrayRef {
        shared(Float64Array::from_iter_values(slots.iter().map(|slot| of(&self.groups[*slot as usize]))))
    }
}

impl GroupAccumulator for FloatSum {
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        self.groups.resize(slots, Group::default());
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        self.groups[slot as usize] = Group::default();
        Ok(())
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let column = values[0].as_primitive::<Float64Type>();
        let values = column.values();
        for (row, slot, sign) in batch.rows() {
            if column.is_valid(row) {
                self.groups[slot].add(values[row], sign);
            }
        }
        Ok(())
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        let results = slots.iter().map(|slot| self.groups[*slot as usize].result(self.is_average));
        Ok(shared(results.collect::<Float64Array>()))
    }

    fn state_types(&self) -> Vec<DataType> {
        let (whole, real) = (DataType::Int64, DataType::Float64);
        vec![whole.clone(), real.clone(), real, whole.clone(), whole.clone(), whole]
    }

    fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        Ok(vec![
            self.integers(slots, |group| group.count),
            self.floats(slots, |group| group.sum),
            self.floats(slots, |group| group.lost),
            self.integers(slots, |group| group.nans),
            self.integers(slots, |group| group.infinities),
            self.integers(slots, |group| group.negative_infinities),
        ])
    }

    fn restore(&mut self, slots: &[u32], states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let whole = |column: usize, row: usize| states[column].as_primitive::<Int64Type>().value(row);
        let real = |column: usize, row: usize| states[column].as_primitive::<Float64Type>().value(row);
        for (row, slot) in slots.iter().enumerate() {
            self.groups[*slot as usize] = Group {
                count: whole(0, row),
                sum: real(1, row),
                lost: real(2, row),
                nans: whole(3, row),
                infinities: whole(4, row),
                negative_infinities: whole(5, row),
            };
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Group>()
    }
}
