//! The state of groups: a row for each, and tables of values for calls that keep these one by one.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion_common::DataFusionError;
use qanat_proto::error::{Error, Result};
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::aggregate::calls::Calls;
use super::super::evaluate::internal;
use super::super::slots::Slots;
use super::super::state_rows::StateRows;
use super::accumulator::{GroupAccumulator, state_fields};

const GROUPS: &str = "groups";

/// The tables of the state and how their rows are made.
pub(crate) struct StateTables {
    groups: StateRows,
    values: Vec<ValueTable>,
    key_columns: usize,
}

/// A table of values of a call, each with as many numbers as calls share them.
struct ValueTable {
    name: String,
    call: usize,
    numbers: usize,
    append_only: bool,
    rows: StateRows,
}

/// The groups of an operator, by slot.
pub(crate) struct Groups<'a> {
    pub(crate) slots: &'a Slots,
    pub(crate) accumulators: &'a mut [Box<dyn GroupAccumulator>],
    pub(crate) calls: &'a Calls,
}

impl StateTables {
    /// `forgets`: groups may go although none of their rows is taken back.
    pub(crate) fn new(
        key_types: &[DataType],
        accumulators: &[Box<dyn GroupAccumulator>],
        key_groups: u16,
        forgets: bool,
    ) -> Self {
        let mut keys = state_fields("key", key_types);
        if keys.is_empty() {
            // A table has a key; there is one group.
            keys.push(Field::new("key_0", DataType::Int8, false));
        }
        let mut groups = keys.clone();
        groups.push(Field::new("rows", DataType::Int64, false));
        let mut values = Vec::new();
        for (call, accumulator) in accumulators.iter().enumerate() {
            groups.extend(state_fields(&format!("call_{call}"), &accumulator.state_types()));
            if let Some(types) = accumulator.value_types() {
                let mut fields = keys.clone();
                fields.extend(state_fields("value", &types));
                let (name, numbers) = match accumulator.value_numbers() {
                    1 => (format!("values_{call}"), vec!["rows".to_owned()]),
                    calls => (format!("shared_values_{call}"), (0..calls).map(|call| format!("rows_{call}")).collect()),
                };
                fields.extend(numbers.iter().map(|number| Field::new(number, DataType::Int64, false)));
                values.push(ValueTable {
                    name,
                    call,
                    numbers: numbers.len(),
                    append_only: accumulator.values_stay() && !forgets,
                    rows: StateRows::new(fields, key_groups),
                });
            }
        }
        Self { groups: StateRows::new(groups, key_groups), values, key_columns: keys.len() }
    }

    /// Key columns as tables have them.
    fn keys(keys: Vec<ArrayRef>, rows: usize) -> Vec<ArrayRef> {
        if keys.is_empty() { vec![Arc::new(Int8Array::from_value(0, rows))] } else { keys }
    }

    /// What has changed of the groups. `there`: those to be saved, each with the number that is known of it; `gone`: those
    /// that were saved and are no more.
    pub(crate) fn snapshot(&mut self, of: Groups<'_>, there: &[(u32, i64)], gone: &[u32]) -> Result<Vec<TableDelta>> {
        let Groups { slots, accumulators, calls } = of;
        let failed = |e: DataFusionError| calls.error(&e);
        let mut deltas = Vec::new();
        for table in &mut self.values {
            let changed = accumulators[table.call].take_changed().map_err(failed)?;
            let keys = slots.keys(&changed.slots).map_err(failed)?;
            deltas.push(values_delta(&table.name, &mut table.rows, keys, changed)?);
        }
        let (found, numbers): (Vec<u32>, Vec<i64>) = there.iter().copied().unzip();
        let keys = slots.keys(&found).map_err(failed)?;
        let mut columns = Self::keys(keys.clone(), found.len());
        columns.push(Arc::new(Int64Array::from(numbers)));
        for accumulator in accumulators {
            columns.extend(accumulator.states(&found).map_err(failed)?);
        }
        let upserts = vec![self.groups.batch(&keys, columns, found.len())?];
        let keys = slots.keys(gone).map_err(failed)?;
        let deletes = vec![self.groups.keys(&keys, Self::keys(keys.clone(), gone.len()), gone.len())?];
        deltas.push(TableDelta { table: GROUPS.to_owned(), upserts, deletes, closed: None });
        Ok(deltas)
    }

    /// Key columns of rows of one of the tables.
    pub(crate) fn keys_of<'r>(&self, rows: &'r RecordBatch, calls: &Calls) -> &'r [ArrayRef] {
        &rows.columns()[1..=calls.key_count()]
    }

    /// Puts back rows of a table, whose groups have these slots. Returns the numbers that are known of the groups, if it
    /// is their table.
    pub(crate) fn restore(
        &self,
        table: &str,
        rows: &RecordBatch,
        found: &[u32],
        accumulators: &mut [Box<dyn GroupAccumulator>],
        calls: &Calls,
    ) -> Result<Option<Vec<i64>>> {
        let failed = |e: DataFusionError| calls.error(&e);
        let mut columns = rows.columns()[1 + self.key_columns..].iter();
        if table == GROUPS {
            let numbers = columns.next().ok_or_else(|| Error::internal("a group without its number"))?;
            for accumulator in accumulators {
                let width = accumulator.state_types().len();
                let states: Vec<ArrayRef> = columns.by_ref().take(width).cloned().collect();
                accumulator.restore(found, &states).map_err(failed)?;
            }
            return Ok(Some(numbers.as_primitive::<Int64Type>().values().to_vec()));
        }
        let Some(ValueTable { call, numbers, .. }) = self.values.iter().find(|values| values.name == table) else {
            return Err(Error::internal(format!("groups have no state table `{table}`")));
        };
        let values: Vec<ArrayRef> = columns.cloned().collect();
        let width = values.len().checked_sub(*numbers);
        let split = width.and_then(|width| values.split_at_checked(width));
        let (values, numbers) = split.ok_or_else(|| Error::internal("a value without its numbers"))?;
        let numbers: Vec<&[i64]> =
            numbers.iter().map(|numbers| numbers.as_primitive::<Int64Type>().values().as_ref()).collect();
        accumulators[*call].restore_values(found, values, &numbers).map_err(failed)?;
        Ok(None)
    }

    pub(crate) fn specs(&self) -> Vec<TableSpec> {
        let spec = |name: &str, rows: &StateRows, key_columns: usize, append_only: bool| TableSpec {
            name: name.to_owned(),
            schema: Arc::clone(rows.schema()),
            key_columns,
            time_column: None,
            append_only,
        };
        let values = self.values.iter().map(|table| {
            // All but the key group and the numbers.
            spec(&table.name, &table.rows, table.rows.schema().fields().len() - 1 - table.numbers, table.append_only)
        });
        std::iter::once(spec(GROUPS, &self.groups, self.key_columns, false)).chain(values).collect()
    }
}

/// Values that are there with their numbers, and those that are gone.
fn values_delta(
    table: &str,
    state: &mut StateRows,
    keys: Vec<ArrayRef>,
    changed: super::accumulator::Changed,
) -> Result<TableDelta> {
    let pick = |is_there: bool| -> UInt32Array {
        let is_any = |row: usize| changed.numbers.iter().any(|numbers| numbers[row] != 0);
        (0..changed.slots.len()).filter(|row| is_any(*row) == is_there).map(|row| row as u32).collect()
    };
    let numbers = changed.numbers.iter().map(|numbers| Arc::new(Int64Array::from(numbers.clone())) as ArrayRef);
    let numbers: Vec<ArrayRef> = numbers.collect();
    let of = |columns: &[ArrayRef], rows: &UInt32Array| -> Result<Vec<ArrayRef>> {
        columns.iter().map(|column| take(column, rows, None).map_err(internal)).collect()
    };
    let there = pick(true);
    let own = of(&keys, &there)?;
    let mut columns = StateTables::keys(own.clone(), there.len());
    columns.extend(of(&changed.values, &there)?);
    columns.extend(of(&numbers, &there)?);
    let upserts = state.batch(&own, columns, there.len())?;
    let gone = pick(false);
    let own = of(&keys, &gone)?;
    let mut columns = StateTables::keys(own.clone(), gone.len());
    columns.extend(of(&changed.values, &gone)?);
    let deletes = state.keys(&own, columns, gone.len())?;
    Ok(TableDelta { table: table.to_owned(), upserts: vec![upserts], deletes: vec![deletes], closed: None })
}
