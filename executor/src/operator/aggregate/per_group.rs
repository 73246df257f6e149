//! An accumulator of its own for each group, for functions that DataFusion cannot accumulate group-wise.
//!
//! A batch costs what its rows cost: only the groups that occur in it are visited. (DataFusion's own
//! adapter looks at every group there is, for each batch.)

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{filter, take};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{Accumulator, EmitTo, GroupsAccumulator};

type Factory = dyn Fn() -> Result<Box<dyn Accumulator>> + Send;

pub(crate) struct PerGroup {
    factory: Box<Factory>,
    groups: Vec<Box<dyn Accumulator>>,
    /// By group: its place among those that occur in a batch; `ABSENT` between batches.
    places: Vec<u32>,
    bytes: usize,
}

const ABSENT: u32 = u32::MAX;

/// The rows of a batch, by group.
struct Grouped {
    /// Row numbers; those of one group stand together, in their order.
    order: Vec<u32>,
    groups: Vec<(usize, Range<usize>)>,
}

impl PerGroup {
    pub(crate) fn new(factory: impl Fn() -> Result<Box<dyn Accumulator>> + Send + 'static) -> Self {
        Self { factory: Box::new(factory), groups: Vec::new(), places: Vec::new(), bytes: 0 }
    }

    fn grow(&mut self, total: usize) -> Result<()> {
        while self.groups.len() < total {
            let accumulator = (self.factory)()?;
            self.bytes += accumulator.size();
            self.groups.push(accumulator);
        }
        self.places.resize(self.groups.len(), ABSENT);
        Ok(())
    }

    /// The accumulator of a group, new if there were no rows of it.
    pub(crate) fn accumulator(&mut self, group: usize) -> Result<&mut Box<dyn Accumulator>> {
        self.grow(group + 1)?;
        Ok(&mut self.groups[group])
    }

    /// A group gets another accumulator; the one that it had.
    pub(crate) fn replace(&mut self, group: usize, other: Box<dyn Accumulator>) -> Result<Box<dyn Accumulator>> {
        let own = self.accumulator(group)?;
        let bytes = other.size();
        let before = std::mem::replace(own, other);
        self.bytes = (self.bytes + bytes).saturating_sub(before.size());
        Ok(before)
    }

    /// Sorts rows by group, by counting.
    fn grouped(&mut self, groups: &[usize]) -> Grouped {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for group in groups {
            if self.places[*group] == ABSENT {
                self.places[*group] = found.len() as u32;
                found.push((*group, 0));
            }
            found[self.places[*group] as usize].1 += 1;
        }
        let starts = found.iter().scan(0, |next, (_, rows)| {
            let start = *next;
            *next += rows;
            Some(start)
        });
        let mut next: Vec<usize> = starts.collect();
        let mut order = vec![0; groups.len()];
        for (row, group) in groups.iter().enumerate() {
            let place = &mut next[self.places[*group] as usize];
            order[*place] = row as u32;
            *place += 1;
        }
        let groups = found.into_iter().zip(next).map(|((group, rows), end)| (group, end - rows..end)).collect();
        Grouped { order, groups }
    }

    /// Calls each accumulator that has rows with its part of `values`.
    fn visit(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        wanted: Option<&BooleanArray>,
        total: usize,
        call: impl Fn(&mut dyn Accumulator, &[ArrayRef]) -> Result<()>,
    ) -> Result<()> {
        self.grow(total)?;
        let Grouped { order, groups } = self.grouped(groups);
        let order = UInt32Array::from(order);
        let values = values.iter().map(|column| take(column, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let wanted = wanted.map(|wanted| take(wanted, &order, None)).transpose()?;
        for (group, rows) in groups {
            self.places[group] = ABSENT;
            let mut part: Vec<ArrayRef> = values.iter().map(|c| c.slice(rows.start, rows.len())).collect();
            if let Some(wanted) = &wanted {
                let wanted = wanted.as_boolean().slice(rows.start, rows.len());
                part = part.iter().map(|column| filter(column, &wanted)).collect::<Result<_, _>>()?;
            }
            let accumulator = &mut self.groups[group];
            let before = accumulator.size();
            call(accumulator.as_mut(), &part)?;
            self.bytes = (self.bytes + accumulator.size()).saturating_sub(before);
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Box<dyn Accumulator>> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.places.truncate(self.groups.len());
        let bytes: usize = taken.iter().map(|accumulator| accumulator.size()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}

impl GroupsAccumulator for PerGroup {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.visit(values, group_indices, opt_filter, total_num_groups, |group, values| group.update_batch(values))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.visit(values, group_indices, None, total_num_groups, |group, values| group.merge_batch(values))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let results = self.take(emit_to).into_iter().map(|mut group| group.evaluate());
        ScalarValue::iter_to_array(results.collect::<Result<Vec<_>>>()?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<Vec<ScalarValue>> = Vec::new();
        for mut group in self.take(emit_to) {
            let state = group.state()?;
            columns.resize_with(state.len(), Vec::new);
            for (column, value) in columns.iter_mut().zip(state) {
                column.push(value);
            }
        }
        columns.into_iter().map(ScalarValue::iter_to_array).collect()
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        // Rows of such functions are not passed through: see `Calls::convert_quickly`.
        Err(DataFusionError::NotImplemented("states of single rows".to_owned()))
    }

    fn size(&self) -> usize {
        self.bytes + self.places.capacity() * 4 + self.groups.capacity() * size_of::<Box<dyn Accumulator>>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion_expr::utils::AggregateOrderSensitivity;
    use datafusion_physical_expr::GroupsAccumulatorAdapter;
    use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
    use datafusion_physical_expr::expressions::col;
    use proptest::prelude::*;

    use super::*;

    /// `COUNT(DISTINCT text)`, which has no accumulator over groups.
    fn distinct_texts() -> Arc<AggregateFunctionExpr> {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        let function = qanat_sql::expr::aggregate("count").expect("a function");
        let call = AggregateExprBuilder::new(function, vec![col("text", &schema).expect("a column")])
            .schema(schema)
            .alias("n")
            .with_distinct(true)
            .build()
            .expect("a call");
        assert!(!call.groups_accumulator_supported());
        assert_eq!(call.order_sensitivity(), AggregateOrderSensitivity::Insensitive);
        Arc::new(call)
    }

    type Batch = Vec<(usize, Option<u8>, Option<bool>)>;

    fn feed(accumulator: &mut dyn GroupsAccumulator, batches: &[Batch], total: usize) {
        for batch in batches {
            let texts: ArrayRef =
                Arc::new(batch.iter().map(|row| row.1.map(|v| format!("text-{v}"))).collect::<StringArray>());
            let wanted: BooleanArray = batch.iter().map(|row| row.2).collect();
            let groups: Vec<usize> = batch.iter().map(|row| row.0).collect();
            accumulator.update_batch(&[texts], &groups, Some(&wanted), total).expect("accumulates");
        }
    }

    proptest! {
        /// The same results and states as DataFusion's adapter gives.
        #[test]
        fn it_agrees_with_the_adapter(
            batches in prop::collection::vec(
                prop::collection::vec((0_usize..9, prop::option::of(0_u8..5), prop::option::of(any::<bool>())), 1..30),
                1..5,
            ),
            first in 1_usize..9,
        ) {
            let call = distinct_texts();
            let (one, other) = (Arc::clone(&call), Arc::clone(&call));
            let mut ours = PerGroup::new(move || one.create_accumulator());
            let mut theirs = GroupsAccumulatorAdapter::new(move || other.create_accumulator());
            feed(&mut ours, &batches, 9);
            feed(&mut theirs, &batches, 9);
            let states = ours.state(EmitTo::First(first)).expect("states");
            drop(theirs.state(EmitTo::First(first)).expect("states"));
            let left = 9 - first;
            if left > 0 {
                prop_assert_eq!(
                    &ours.evaluate(EmitTo::First(left)).expect("results"),
                    &theirs.evaluate(EmitTo::First(left)).expect("results")
                );
            }
            // The states merge to what the rows of their groups come to.
            let groups: Vec<usize> = (0..first).rev().collect();
            ours.merge_batch(&states, &groups, first).expect("merges");
            let counts = ours.evaluate(EmitTo::All).expect("results");
            let expected: Int64Array = (0..first).rev().map(|group| {
                let rows = batches.iter().flatten().filter(|row| row.0 == group && row.2 == Some(true));
                let texts: std::collections::BTreeSet<u8> = rows.filter_map(|row| row.1).collect();
                Some(texts.len() as i64)
            }).collect();
            prop_assert_eq!(counts.as_ref(), &expected as &dyn Array);
            prop_assert!(ours.places.iter().all(|place| *place == ABSENT));
        }
    }
}
