//! `MIN` and `MAX` of numbers and times where no row is taken back.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, downcast_primitive};
use arrow::datatypes::{ArrowNativeType, DataType};
use datafusion_common::DataFusionError;

use super::super::aggregate::extreme::is_less;
use super::super::slots::shared;
use super::accumulator::{Batch, GroupAccumulator};

struct Extreme<T: ArrowPrimitiveType> {
    data_type: DataType,
    is_max: bool,
    /// Whether there was a value.
    known: Vec<bool>,
    values: Vec<T::Native>,
}

/// None for other functions and types.
pub(crate) fn of_call(function: &str, data_type: &DataType) -> Option<Box<dyn GroupAccumulator>> {
    let is_max = match function {
        "min" => false,
        "max" => true,
        _ => return None,
    };
    macro_rules! typed {
        ($t:ty, $data_type:expr, $is_max:expr) => {
            Some(new::<$t>($data_type, $is_max))
        };
    }
    downcast_primitive! {
        data_type => (typed, data_type, is_max),
        _ => None
    }
}

fn new<T: ArrowPrimitiveType>(data_type: &DataType, is_max: bool) -> Box<dyn GroupAccumulator>
where
    T::Native: PartialOrd,
{
    Box::new(Extreme::<T> { data_type: data_type.clone(), is_max, known: Vec::new(), values: Vec::new() })
}

impl<T: ArrowPrimitiveType> GroupAccumulator for Extreme<T>
where
    T::Native: PartialOrd,
{
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        self.known.resize(slots, false);
        self.values.resize(slots, T::Native::usize_as(0));
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        self.known[slot as usize] = false;
        Ok(())
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let column = values[0].as_primitive::<T>();
        let values = column.values();
        for (row, slot, _) in batch.rows() {
            if column.is_null(row) {
                continue;
            }
            let (value, best) = (values[row], &mut self.values[slot]);
            let is_better = if self.is_max { is_less(*best, value) } else { is_less(value, *best) };
            if is_better || !self.known[slot] {
                *best = value;
                self.known[slot] = true;
            }
        }
        Ok(())
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        let values = slots.iter().map(|slot| self.known[*slot as usize].then_some(self.values[*slot as usize]));
        Ok(shared(values.collect::<PrimitiveArray<T>>().with_data_type(self.data_type.clone())))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.data_type.clone()]
    }

    fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        Ok(vec![self.results(slots)?])
    }

    fn restore(&mut self, slots: &[u32], states: &[ArrayRef]) -> Result<(), DataFusionError> {
        self.update(Batch { slots, retracted: None::<&BooleanArray>, filter: None }, states)
    }

    fn bytes(&self) -> usize {
        self.known.capacity() + self.values.capacity() * size_of::<T::Native>()
    }
}
