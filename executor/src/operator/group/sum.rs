//! `SUM` of whole numbers and decimals: as wide as the result, wrapping as DataFusion's does, so that what is taken back
//! leaves what there was before.

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Int64Type, UInt64Type};
use datafusion_common::DataFusionError;

use super::super::slots::shared;
use super::accumulator::{Batch, GroupAccumulator};

struct Sum<T: ArrowPrimitiveType> {
    data_type: DataType,
    /// Values that are not NULL: a sum of none is NULL.
    counts: Vec<i64>,
    sums: Vec<T::Native>,
}

/// None for types that are no whole numbers.
pub(crate) fn of_type(data_type: &DataType) -> Option<Box<dyn GroupAccumulator>> {
    match data_type {
        DataType::Int64 => Some(new::<Int64Type>(data_type)),
        DataType::UInt64 => Some(new::<UInt64Type>(data_type)),
        DataType::Decimal128(..) => Some(new::<Decimal128Type>(data_type)),
        DataType::Decimal256(..) => Some(new::<Decimal256Type>(data_type)),
        _ => None,
    }
}

fn new<T: ArrowPrimitiveType>(data_type: &DataType) -> Box<dyn GroupAccumulator> {
    Box::new(Sum::<T> { data_type: data_type.clone(), counts: Vec::new(), sums: Vec::new() })
}

impl<T: ArrowPrimitiveType> GroupAccumulator for Sum<T> {
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        self.counts.resize(slots, 0);
        self.sums.resize(slots, T::Native::ZERO);
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        (self.counts[slot as usize], self.sums[slot as usize]) = (0, T::Native::ZERO);
        Ok(())
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let column = values[0].as_primitive::<T>();
        let values = column.values();
        for (row, slot, sign) in batch.rows() {
            if column.is_null(row) {
                continue;
            }
            self.counts[slot] += sign;
            let sum = &mut self.sums[slot];
            *sum = if sign > 0 { sum.add_wrapping(values[row]) } else { sum.sub_wrapping(values[row]) };
        }
        Ok(())
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        let sums = slots.iter().map(|slot| *slot as usize);
        let sums = sums.map(|slot| (self.counts[slot] != 0).then_some(self.sums[slot]));
        Ok(shared(sums.collect::<PrimitiveArray<T>>().with_data_type(self.data_type.clone())))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64, self.data_type.clone()]
    }

    fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        let counts = Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize]));
        let sums = PrimitiveArray::<T>::from_iter_values(slots.iter().map(|slot| self.sums[*slot as usize]));
        Ok(vec![shared(counts), shared(sums.with_data_type(self.data_type.clone()))])
    }

    fn restore(&mut self, slots: &[u32], states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let (counts, sums) = (states[0].as_primitive::<Int64Type>(), states[1].as_primitive::<T>());
        for (row, slot) in slots.iter().enumerate() {
            (self.counts[*slot as usize], self.sums[*slot as usize]) = (counts.value(row), sums.value(row));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * 8 + self.sums.capacity() * size_of::<T::Native>()
    }
}
