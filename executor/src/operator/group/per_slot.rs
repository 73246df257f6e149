//! Any of DataFusion's functions, one accumulator for each group, where no row is taken back.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{Accumulator, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::super::aggregate::per_group::PerGroup;
use super::accumulator::{Batch, GroupAccumulator};

pub(crate) struct PerSlot {
    aggregate: Arc<AggregateFunctionExpr>,
    state_types: Vec<DataType>,
    groups: PerGroup,
    slots: usize,
    /// What a slot without a group takes.
    empty_bytes: usize,
}

impl PerSlot {
    pub(crate) fn new(aggregate: Arc<AggregateFunctionExpr>) -> Result<Self, DataFusionError> {
        let state_types = aggregate.state_fields()?.iter().map(|field| field.data_type().clone()).collect();
        let factory = Arc::clone(&aggregate);
        Ok(Self {
            groups: PerGroup::new(move || factory.create_accumulator()),
            aggregate,
            state_types,
            slots: 0,
            empty_bytes: 0,
        })
    }

    /// The state of a group, which stays as it is. DataFusion's accumulators may be empty once they gave theirs.
    fn state(&mut self, slot: u32) -> Result<Vec<ScalarValue>, DataFusionError> {
        let empty = self.aggregate.create_accumulator()?;
        // The counted size goes with the accumulator as it was before it gave its state.
        let mut accumulator = self.groups.replace(slot as usize, empty)?;
        let state = accumulator.state()?;
        let same = self.of_state(&state)?;
        self.groups.replace(slot as usize, same)?;
        Ok(state)
    }

    fn of_state(&self, state: &[ScalarValue]) -> Result<Box<dyn Accumulator>, DataFusionError> {
        let columns = state.iter().map(|value| value.to_array()).collect::<Result<Vec<_>, _>>()?;
        let mut accumulator = self.aggregate.create_accumulator()?;
        accumulator.merge_batch(&columns)?;
        Ok(accumulator)
    }
}

impl GroupAccumulator for PerSlot {
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        self.slots = slots;
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        let empty = self.aggregate.create_accumulator()?;
        self.empty_bytes = size_of_val(empty.as_ref()).max(empty.size()) + 20;
        self.groups.replace(slot as usize, empty).map(drop)
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let slots: Vec<usize> = batch.slots.iter().map(|slot| *slot as usize).collect();
        self.groups.update_batch(values, &slots, batch.filter, self.slots)
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        if slots.is_empty() {
            return Ok(arrow::array::new_empty_array(self.aggregate.field().data_type()));
        }
        let results = slots.iter().map(|slot| {
            let state = self.state(*slot)?;
            self.of_state(&state)?.evaluate()
        });
        ScalarValue::iter_to_array(results.collect::<Result<Vec<_>, DataFusionError>>()?)
    }

    fn state_types(&self) -> Vec<DataType> {
        self.state_types.clone()
    }

    fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(slots.len()); self.state_types.len()];
        for slot in slots {
            columns.iter_mut().zip(self.state(*slot)?).for_each(|(column, value)| column.push(value));
        }
        let arrays = columns.into_iter().zip(&self.state_types).map(|(column, data_type)| {
            if column.is_empty() {
                return Ok(arrow::array::new_empty_array(data_type));
            }
            ScalarValue::iter_to_array(column)
        });
        arrays.collect()
    }

    fn restore(&mut self, slots: &[u32], states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let slots: Vec<usize> = slots.iter().map(|slot| *slot as usize).collect();
        self.groups.merge_batch(states, &slots, self.slots)
    }

    fn bytes(&self) -> usize {
        self.groups.size()
    }

    fn free_bytes(&self) -> Option<usize> {
        Some(self.empty_bytes)
    }
}
