//! Calls that need the values of a group one by one: `DISTINCT`, and whatever cannot take a row back otherwise.
//!
//! The values of a group stand in their order, each with how many rows have it. `MIN` and `MAX` are read
//! off; any other function is computed anew from the values when its group is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulator::{Batch, Changed, GroupAccumulator, ValuesOf};

pub(crate) struct Values {
    kind: Kind,
    is_distinct: bool,
    aggregate: Arc<AggregateFunctionExpr>,
    types: Vec<DataType>,
    converter: RowConverter,
    groups: Vec<Group>,
    /// Values whose numbers have changed since they were last saved.
    changed: Vec<(u32, Box<[u8]>)>,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Min,
    Max,
    Anew,
}

#[derive(Default)]
struct Group {
    values: BTreeMap<Box<[u8]>, Number>,
}

#[derive(Default)]
struct Number {
    rows: i64,
    has_changed: bool,
}

/// What a value takes beside its own bytes.
const VALUE_BYTES: usize = 48;

impl Values {
    pub(crate) fn new(
        function: &str,
        is_distinct: bool,
        types: &[DataType],
        aggregate: Arc<AggregateFunctionExpr>,
    ) -> Result<Self, DataFusionError> {
        let kind = match (function, types.len()) {
            ("min", 1) => Kind::Min,
            ("max", 1) => Kind::Max,
            _ => Kind::Anew,
        };
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let types = types.to_vec();
        Ok(Self { kind, is_distinct, aggregate, types, converter, groups: Vec::new(), changed: Vec::new(), bytes: 0 })
    }

    fn add(&mut self, slot: usize, value: &[u8], number: i64, is_saved: bool) {
        let group = &mut self.groups[slot];
        let known = match group.values.get_mut(value) {
            Some(known) => known,
            None => {
                self.bytes += value.len() + VALUE_BYTES;
                group.values.entry(value.into()).or_default()
            }
        };
        known.rows += number;
        if !is_saved && !known.has_changed {
            known.has_changed = true;
            self.changed.push((slot as u32, value.into()));
        }
    }

    fn columns<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, DataFusionError> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(values.map(|value| parser.parse(value)))?)
    }

    /// The least and the greatest value of each group that some row has.
    fn extremes(&self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        let mut found: Vec<&[u8]> = Vec::with_capacity(slots.len());
        let mut places: Vec<Option<u32>> = Vec::with_capacity(slots.len());
        for slot in slots {
            let there = self.groups[*slot as usize].values.iter().filter(|(_, number)| number.rows > 0);
            let mut values = there.map(|(value, _)| value.as_ref());
            let value = if self.kind == Kind::Max { values.next_back() } else { values.next() };
            places.push(value.map(|_| found.len() as u32));
            found.extend(value);
        }
        let column = match self.columns(found.into_iter())?.pop() {
            Some(column) if !column.is_empty() => column,
            _ => return Ok(arrow::array::new_null_array(&self.types[0], slots.len())),
        };
        Ok(take(&column, &arrow::array::UInt32Array::from(places), None)?)
    }

    fn anew(&self, slot: u32) -> Result<ScalarValue, DataFusionError> {
        let mut values: Vec<&[u8]> = Vec::new();
        for (value, number) in self.groups[slot as usize].values.iter().filter(|(_, number)| number.rows > 0) {
            let times = if self.is_distinct { 1 } else { usize::try_from(number.rows).unwrap_or(0) };
            values.extend(std::iter::repeat_n(value.as_ref(), times));
        }
        let mut accumulator = self.aggregate.create_accumulator()?;
        if !values.is_empty() {
            accumulator.update_batch(&self.columns(values.into_iter())?)?;
        }
        accumulator.evaluate()
    }
}

impl GroupAccumulator for Values {
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError> {
        self.groups.resize_with(slots, Group::default);
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError> {
        let group = std::mem::take(&mut self.groups[slot as usize]);
        let freed: usize = group.values.keys().map(|value| value.len() + VALUE_BYTES).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        Ok(())
    }

    /// Its values go with the next snapshot, which tells of it.
    fn forget(&mut self, slots: &[u32]) -> Result<(), DataFusionError> {
        for slot in slots {
            for (value, number) in &mut self.groups[*slot as usize].values {
                number.rows = 0;
                if !std::mem::replace(&mut number.has_changed, true) {
                    self.changed.push((*slot, value.clone()));
                }
            }
        }
        Ok(())
    }

    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        // A NULL is no value to these, and a row of its own to others.
        let nulls = if self.kind == Kind::Anew { None } else { values.first().and_then(|v| v.logical_nulls()) };
        let rows = self.converter.convert_columns(values)?;
        for (row, slot, sign) in batch.rows() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                self.add(slot, rows.row(row).data(), sign, false);
            }
        }
        Ok(())
    }

    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        match self.kind {
            Kind::Min | Kind::Max => self.extremes(slots),
            Kind::Anew if slots.is_empty() => Ok(arrow::array::new_empty_array(self.aggregate.field().data_type())),
            Kind::Anew => {
                let results = slots.iter().map(|slot| self.anew(*slot)).collect::<Result<Vec<_>, _>>()?;
                ScalarValue::iter_to_array(results)
            }
        }
    }

    fn bytes(&self) -> usize {
        let changed: usize = self.changed.iter().map(|(_, value)| value.len() + 24).sum();
        self.bytes + self.groups.capacity() * size_of::<Group>() + changed
    }

    fn free_bytes(&self) -> Option<usize> {
        Some(size_of::<Group>())
    }

    fn values_of(&mut self, slots: &[u32]) -> Result<Option<ValuesOf>, DataFusionError> {
        let groups = slots.iter().map(|slot| &self.groups[*slot as usize].values);
        let counts = groups.clone().map(|values| values.len() as u32).collect();
        let numbers = groups.clone().flat_map(|values| values.values().map(|number| number.rows)).collect();
        let values = self.columns(groups.flat_map(|values| values.keys().map(AsRef::as_ref)))?;
        Ok(Some(ValuesOf { counts, values, numbers }))
    }

    fn value_types(&self) -> Option<Vec<DataType>> {
        Some(self.types.clone())
    }

    fn take_changed(&mut self) -> Result<Changed, DataFusionError> {
        let changed = std::mem::take(&mut self.changed);
        let values = self.columns(changed.iter().map(|(_, value)| value.as_ref()))?;
        let (mut slots, mut numbers) = (Vec::with_capacity(changed.len()), Vec::with_capacity(changed.len()));
        for (slot, value) in &changed {
            let group = &mut self.groups[*slot as usize];
            let number = group.values.get_mut(value).map_or(0, |number| {
                number.has_changed = false;
                number.rows
            });
            if number == 0 && group.values.remove(value).is_some() {
                self.bytes = self.bytes.saturating_sub(value.len() + VALUE_BYTES);
            }
            slots.push(*slot);
            numbers.push(number);
        }
        Ok(Changed { slots, values, numbers: vec![numbers] })
    }

    fn restore_values(
        &mut self,
        slots: &[u32],
        values: &[ArrayRef],
        numbers: &[&[i64]],
    ) -> Result<(), DataFusionError> {
        let rows = self.converter.convert_columns(values)?;
        for (row, (slot, number)) in slots.iter().zip(numbers.iter().copied().flatten()).enumerate() {
            self.add(*slot as usize, rows.row(row).data(), *number, true);
        }
        Ok(())
    }
}
