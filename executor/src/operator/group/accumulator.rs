//! What a call keeps of each group, and the kinds of it there are.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field};
use datafusion_common::DataFusionError;

use super::super::aggregate::calls::Call;
use super::super::slots::Slots;
use super::count::Count;
use super::distinct::DistinctCount;
use super::extreme;
use super::floats::FloatSum;
use super::per_slot::PerSlot;
use super::sum;
use super::values::Values;

/// Rows of a batch for one call.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    /// The slot of each row's group.
    pub(crate) slots: &'a [u32],
    /// Rows that are taken back; None: none is.
    pub(crate) retracted: Option<&'a BooleanArray>,
    /// Rows that count, without NULLs; None: all.
    pub(crate) filter: Option<&'a BooleanArray>,
}

impl Batch<'_> {
    /// Number of each row that counts, its slot, and +1 or −1.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, usize, i64)> + '_ {
        let counts = |row: &usize| self.filter.is_none_or(|filter| filter.value(*row));
        (0..self.slots.len()).filter(counts).map(|row| (row, self.slots[row] as usize, self.sign(row)))
    }

    pub(crate) fn sign(&self, row: usize) -> i64 {
        match self.retracted {
            Some(retracted) if retracted.value(row) => -1,
            _ => 1,
        }
    }
}

/// The accumulators of one call, by slot. A new slot, and one that is cleared, is that of a group without rows.
pub(crate) trait GroupAccumulator: Send {
    /// There are so many slots now.
    fn grow(&mut self, slots: usize) -> Result<(), DataFusionError>;

    /// Another group gets this slot.
    fn clear(&mut self, slot: u32) -> Result<(), DataFusionError>;

    /// These groups are no more, whatever rows they had.
    fn forget(&mut self, slots: &[u32]) -> Result<(), DataFusionError> {
        slots.iter().try_for_each(|slot| self.clear(*slot))
    }

    /// Adds rows, or takes them back. `values`: the call's arguments.
    fn update(&mut self, batch: Batch<'_>, values: &[ArrayRef]) -> Result<(), DataFusionError>;

    /// The call's result for these groups.
    fn results(&mut self, slots: &[u32]) -> Result<ArrayRef, DataFusionError>;

    /// Columns of [`Self::states`]; none for a call that keeps values one by one.
    fn state_types(&self) -> Vec<DataType> {
        Vec::new()
    }

    /// All that is known of these groups.
    fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        let _ = slots;
        Ok(Vec::new())
    }

    /// Puts back what [`Self::states`] gave, into slots without rows.
    fn restore(&mut self, slots: &[u32], states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let _ = (slots, states);
        Ok(())
    }

    fn bytes(&self) -> usize;

    /// What a slot without a group takes. None: as much as every other one.
    fn free_bytes(&self) -> Option<usize> {
        None
    }

    /// Of a call that keeps values of each group one by one: their columns. These are saved in a table of their own,
    /// each with its number.
    fn value_types(&self) -> Option<Vec<DataType>> {
        None
    }

    /// How many numbers each value has, one for each call that shares the values.
    fn value_numbers(&self) -> usize {
        1
    }

    /// Whether a value that is there never changes or goes, unless its group does.
    fn values_stay(&self) -> bool {
        false
    }

    /// Values whose numbers have changed since the last call. All numbers 0: it is gone.
    fn take_changed(&mut self) -> Result<Changed, DataFusionError> {
        Ok(Changed::default())
    }

    /// Puts back values with their numbers.
    fn restore_values(
        &mut self,
        slots: &[u32],
        values: &[ArrayRef],
        numbers: &[&[i64]],
    ) -> Result<(), DataFusionError> {
        let _ = (slots, values, numbers);
        Ok(())
    }

    /// Of a call that keeps values with their group: how many each of these groups has, the values and their numbers.
    fn values_of(&mut self, slots: &[u32]) -> Result<Option<ValuesOf>, DataFusionError> {
        let _ = slots;
        Ok(None)
    }

    /// The values of calls that keep them apart from their group: those of the first one of them.
    fn distinct(&mut self) -> Option<&mut DistinctCount> {
        None
    }

    /// What is known of these groups beside states and values; as many columns as `counter_columns`.
    fn counters(&self, slots: &[u32]) -> Vec<Vec<i64>> {
        let _ = slots;
        Vec::new()
    }

    /// Puts back counters.
    fn set_counters(&mut self, slots: &[u32], counters: &[&[i64]]) {
        let _ = (slots, counters);
    }

    fn counter_columns(&self) -> usize {
        0
    }
}

/// Bytes that a call takes for the slots that are in use.
pub(crate) fn call_bytes(call: &dyn GroupAccumulator, slots: &Slots) -> usize {
    match call.free_bytes() {
        None => slots.share(call.bytes()),
        Some(bytes) => call.bytes().saturating_sub((slots.len() - slots.used()) * bytes),
    }
}

/// See [`GroupAccumulator::values_of`].
pub(crate) struct ValuesOf {
    pub(crate) counts: Vec<u32>,
    pub(crate) values: Vec<ArrayRef>,
    pub(crate) numbers: Vec<i64>,
}

/// Values of groups, with how many rows have them.
#[derive(Default)]
pub(crate) struct Changed {
    pub(crate) slots: Vec<u32>,
    pub(crate) values: Vec<ArrayRef>,
    /// By call that shares the values.
    pub(crate) numbers: Vec<Vec<i64>>,
}

/// What serves each call. `types`: of the columns that calls take; `retracts`: rows may be taken back.
pub(crate) fn of_calls(
    calls: &[Call],
    types: &[DataType],
    retracts: bool,
) -> Result<Vec<Box<dyn GroupAccumulator>>, DataFusionError> {
    let counts_distinct =
        |call: &Call| call.function == "count" && call.aggregate.is_distinct() && call.arguments.len() == 1;
    let mut served: Vec<Option<Box<dyn GroupAccumulator>>> = calls.iter().map(|_| None).collect();
    for (at, call) in calls.iter().enumerate() {
        if served[at].is_some() {
            continue;
        }
        if !counts_distinct(call) {
            let arguments: Vec<DataType> = call.arguments.iter().map(|slot| types[*slot].clone()).collect();
            served[at] = Some(of_call(call, &arguments, retracts)?);
            continue;
        }
        let alike = |other: &&usize| counts_distinct(&calls[**other]) && calls[**other].arguments == call.arguments;
        let rest: Vec<usize> = (at..calls.len()).collect();
        let mut sharing: Vec<usize> = rest.iter().filter(alike).copied().collect();
        // What they share has the values of all rows: not without one that takes all.
        if sharing.iter().all(|call| calls[*call].filter.is_some()) {
            sharing.truncate(1);
        }
        let counts = DistinctCount::of(&types[call.arguments[0]], retracts, sharing.len())?;
        for (at, count) in sharing.into_iter().zip(counts) {
            served[at] = Some(Box::new(count));
        }
    }
    Ok(served.into_iter().flatten().collect())
}

/// What serves a call. `retracts`: rows may be taken back.
fn of_call(call: &Call, arguments: &[DataType], retracts: bool) -> Result<Box<dyn GroupAccumulator>, DataFusionError> {
    let result = call.aggregate.field().data_type().clone();
    let is_distinct = call.aggregate.is_distinct();
    let argument = arguments.first();
    if call.function == "count" && !is_distinct && arguments.len() == 1 {
        return Ok(Box::new(Count::new(call.counts_rows)));
    }
    if call.function == "sum"
        && !is_distinct
        && let Some(sum) = sum::of_type(&result).filter(|_| argument == Some(&result))
    {
        return Ok(sum);
    }
    if matches!(call.function.as_str(), "sum" | "avg")
        && !is_distinct
        && (argument, &result) == (Some(&DataType::Float64), &DataType::Float64)
    {
        return Ok(Box::new(FloatSum::new(call.function == "avg")));
    }
    if !retracts
        && !is_distinct
        && let Some(extreme) = extreme::of_call(&call.function, &result).filter(|_| argument == Some(&result))
    {
        return Ok(extreme);
    }
    let aggregate = Arc::clone(&call.aggregate);
    if retracts || is_distinct {
        return Ok(Box::new(Values::new(&call.function, is_distinct, arguments, aggregate)?));
    }
    Ok(Box::new(PerSlot::new(aggregate)?))
}

/// Fields of state columns: `name_0`, `name_1`, …
pub(crate) fn state_fields(name: &str, types: &[DataType]) -> Vec<Field> {
    let field =
        |(number, data_type): (usize, &DataType)| Field::new(format!("{name}_{number}"), data_type.clone(), true);
    types.iter().enumerate().map(field).collect()
}
