//! `COUNT(DISTINCT x)` of all groups in one table of (group, value).
//!
//! DataFusion's own keeps a set for each group, which takes 8 KB before its first text. A pair here takes its
//! own bytes and some 30 more. The state of a group is the list of its values, as DataFusion's is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array, UInt64Array};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};

use crate::operator::keys::KeyIndex;

pub(crate) struct DistinctCount {
    /// Of the lists that are the state.
    element: FieldRef,
    pairs: KeyIndex,
    /// Group of each pair, by its number in the index.
    groups: Vec<u32>,
    /// By group.
    counts: Vec<i64>,
    /// For each row of a batch, its pair.
    found: Vec<usize>,
}

/// A pair that is not counted yet.
const UNKNOWN: u32 = u32::MAX;

impl DistinctCount {
    /// `state`: the type of the list of values.
    pub(crate) fn new(state: &DataType) -> Result<Self> {
        let DataType::List(element) = state else {
            return internal_err!("the state of COUNT(DISTINCT) is {state}, no list");
        };
        let pairs = KeyIndex::new(&[DataType::UInt64, element.data_type().clone()])?;
        Ok(Self { element: Arc::clone(element), pairs, groups: Vec::new(), counts: Vec::new(), found: Vec::new() })
    }

    /// Counts the pairs that are new. No value is NULL.
    fn add(&mut self, groups: UInt64Array, values: ArrayRef) -> Result<()> {
        let (rows, numbers) = (groups.len(), groups.values().clone());
        self.pairs.intern(&[Arc::new(groups), values], rows, &mut self.found)?;
        self.groups.resize(self.pairs.len(), UNKNOWN);
        for (pair, group) in self.found.iter().zip(numbers.iter()) {
            let known = &mut self.groups[*pair];
            if *known == UNKNOWN {
                *known = *group as u32;
                self.counts[*group as usize] += 1;
            }
        }
        Ok(())
    }

    /// The values of the first `groups` groups as lists; what is left is counted from 0 again.
    fn lists(&mut self, emit_to: EmitTo) -> Result<ListArray> {
        let emitted = match emit_to {
            EmitTo::All => self.counts.len(),
            EmitTo::First(groups) => groups.min(self.counts.len()),
        };
        let pairs = self.pairs.take()?;
        let of_pairs = std::mem::take(&mut self.groups);
        let counts = std::mem::take(&mut self.counts);
        let Some(values) = pairs.get(1) else { return internal_err!("pairs without values") };
        // Sorted by group, by counting.
        let mut next: Vec<usize> = counts
            .iter()
            .scan(0, |next, count| {
                let start = *next;
                *next += usize::try_from(*count).unwrap_or(0);
                Some(start)
            })
            .collect();
        let mut order = vec![0_u32; of_pairs.len()];
        for (pair, group) in of_pairs.iter().enumerate() {
            let place = &mut next[*group as usize];
            order[*place] = pair as u32;
            *place += 1;
        }
        let ends = next;
        let sorted = take(values, &UInt32Array::from(order), None)?;
        let kept = emitted.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0);
        if emitted < counts.len() {
            self.counts = vec![0; counts.len() - emitted];
            let rest = counts.iter().skip(emitted).enumerate();
            let numbers = rest.flat_map(|(group, count)| (0..*count).map(move |_| group as u64));
            self.add(numbers.collect(), sorted.slice(kept, sorted.len() - kept))?;
        }
        let lengths = counts.iter().take(emitted).map(|count| usize::try_from(*count).unwrap_or(0));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(ListArray::try_new(Arc::clone(&self.element), offsets, sorted.slice(0, kept), None)?)
    }
}

/// Rows that count: not NULL, and let through by the filter. None: all.
fn counted(values: &ArrayRef, filter: Option<&BooleanArray>) -> Option<BooleanBuffer> {
    let present = values.logical_nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.into_inner());
    let wanted = filter.map(|filter| match filter.nulls() {
        Some(nulls) => filter.values() & nulls.inner(),
        None => filter.values().clone(),
    });
    match (present, wanted) {
        (Some(present), Some(wanted)) => Some(&present & &wanted),
        (one, other) => one.or(other),
    }
}

impl GroupsAccumulator for DistinctCount {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_num_groups, 0);
        let [values, ..] = values else { return internal_err!("COUNT(DISTINCT) without a value") };
        match counted(values, opt_filter) {
            None => self.add(group_indices.iter().map(|group| *group as u64).collect(), Arc::clone(values)),
            Some(rows) => {
                let rows: UInt32Array = rows.set_indices().map(|row| row as u32).collect();
                let groups = rows.values().iter().map(|row| group_indices[*row as usize] as u64).collect();
                self.add(groups, take(values, &rows, None)?)
            }
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if matches!(emit_to, EmitTo::All) {
            drop(self.pairs.take()?);
            self.groups = Vec::new();
            return Ok(Arc::new(Int64Array::from(std::mem::take(&mut self.counts))));
        }
        let lists = self.lists(emit_to)?;
        Ok(Arc::new(lists.offsets().lengths().map(|length| length as i64).collect::<Int64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.lists(emit_to)?)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.counts.resize(total_num_groups, 0);
        let Some(lists) = values.first().and_then(|state| state.as_list_opt::<i32>()) else {
            return internal_err!("the state of COUNT(DISTINCT) is no list");
        };
        if lists.null_count() > 0 {
            return internal_err!("a state of COUNT(DISTINCT) is NULL");
        }
        let lengths = lists.offsets().lengths().zip(group_indices);
        let groups = lengths.flat_map(|(length, group)| std::iter::repeat_n(*group as u64, length)).collect();
        let (first, last) = match (lists.offsets().first(), lists.offsets().last()) {
            (Some(first), Some(last)) => (*first as usize, *last as usize),
            _ => (0, 0),
        };
        self.add(groups, lists.values().slice(first, last - first))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let [values, ..] = values else { return internal_err!("COUNT(DISTINCT) without a value") };
        let rows = counted(values, opt_filter);
        let is_counted = |row: usize| rows.as_ref().is_none_or(|rows| rows.value(row));
        let offsets = OffsetBuffer::from_lengths((0..values.len()).map(|row| usize::from(is_counted(row))));
        let kept: UInt32Array = (0..values.len()).filter(|row| is_counted(*row)).map(|row| row as u32).collect();
        let values = take(values, &kept, None)?;
        Ok(vec![Arc::new(ListArray::try_new(Arc::clone(&self.element), offsets, values, None)?)])
    }

    fn size(&self) -> usize {
        let vectors = self.groups.capacity() * 4 + self.counts.capacity() * 8 + self.found.capacity() * 8;
        size_of::<Self>() + self.pairs.bytes() + vectors
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use arrow::array::StringArray;
    use arrow::datatypes::Field;

    use super::*;

    type Truth = BTreeMap<usize, BTreeSet<String>>;

    fn new() -> DistinctCount {
        let element = Field::new_list_field(DataType::Utf8, true);
        DistinctCount::new(&DataType::List(Arc::new(element))).expect("a list")
    }

    /// Rows by a simple generator, some NULL, some left out by the filter.
    fn batch(seed: u64, rows: u64, groups: u64) -> (ArrayRef, Vec<usize>, BooleanArray) {
        let number = |row: u64, salt: u64| (seed * 7_919 + row * 104_729 + salt * 1_299_709) % 10_007;
        let values = (0..rows).map(|row| (number(row, 1) % 9 > 0).then(|| format!("text {}", number(row, 2) % 23)));
        let numbers = (0..rows).map(|row| (number(row, 3) % groups) as usize);
        let wanted = (0..rows).map(|row| (number(row, 4) % 7 > 0).then_some(number(row, 5) % 5 > 0));
        (Arc::new(values.collect::<StringArray>()), numbers.collect(), wanted.collect())
    }

    fn note(truth: &mut Truth, values: &ArrayRef, groups: &[usize], wanted: Option<&BooleanArray>) {
        for (row, (value, group)) in values.as_string::<i32>().iter().zip(groups).enumerate() {
            let is_wanted = wanted.is_none_or(|wanted| wanted.is_valid(row) && wanted.value(row));
            if let Some(value) = value.filter(|_| is_wanted) {
                truth.entry(*group).or_default().insert(value.to_owned());
            }
        }
    }

    fn counts(truth: &Truth, groups: std::ops::Range<usize>) -> Vec<i64> {
        groups.map(|group| truth.get(&group).map_or(0, |values| values.len() as i64)).collect()
    }

    #[test]
    fn counts_are_those_of_sets() {
        for seed in 0..20 {
            let (mut ours, mut truth) = (new(), Truth::new());
            for part in 0..4 {
                let (values, groups, wanted) = batch(seed * 10 + part, 500, 40);
                let wanted = Some(&wanted).filter(|_| part % 2 == 0);
                note(&mut truth, &values, &groups, wanted);
                ours.update_batch(std::slice::from_ref(&values), &groups, wanted, 40).expect("counts");
            }
            // Half of the groups leave as state, and come back into another table behind rows of its own.
            let mut other = new();
            let (values, groups, _) = batch(seed * 10 + 9, 300, 20);
            other.update_batch(std::slice::from_ref(&values), &groups, None, 20).expect("counts");
            let states = ours.state(EmitTo::First(20)).expect("state");
            other.merge_batch(&states, &(0..20).collect::<Vec<_>>(), 20).expect("merges");
            let rest = ours.evaluate(EmitTo::First(15)).expect("counts");
            assert_eq!(rest.as_primitive::<arrow::datatypes::Int64Type>().values(), &counts(&truth, 20..35)[..]);
            let rest = ours.evaluate(EmitTo::All).expect("counts");
            assert_eq!(rest.as_primitive::<arrow::datatypes::Int64Type>().values(), &counts(&truth, 35..40)[..]);
            note(&mut truth, &values, &groups, None);
            let all = other.evaluate(EmitTo::All).expect("counts");
            assert_eq!(all.as_primitive::<arrow::datatypes::Int64Type>().values(), &counts(&truth, 0..20)[..]);
        }
    }

    #[test]
    fn rows_that_pass_through_are_states() {
        let (values, groups, wanted) = batch(3, 400, 10);
        let mut truth = Truth::new();
        note(&mut truth, &values, &groups, Some(&wanted));
        let mut ours = new();
        let states = ours.convert_to_state(&[values], Some(&wanted)).expect("states");
        ours.merge_batch(&states, &groups, 10).expect("merges");
        let all = ours.evaluate(EmitTo::All).expect("counts");
        assert_eq!(all.as_primitive::<arrow::datatypes::Int64Type>().values(), &counts(&truth, 0..10)[..]);
    }

    #[test]
    fn a_group_takes_little() {
        let mut ours = new();
        let values: ArrayRef = Arc::new(StringArray::from_iter_values((0..100_000).map(|n| format!("text {n}"))));
        ours.update_batch(&[values], &(0..100_000).collect::<Vec<_>>(), None, 100_000).expect("counts");
        assert!(ours.size() < 100_000 * 150, "{}", ours.size());
    }
}
