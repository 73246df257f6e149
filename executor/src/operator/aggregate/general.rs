//! Groups of one slice for any key types and any aggregate, through DataFusion's accumulators.
//!
//! DataFusion's accumulators can only *move* their state out. So a table has two parts:
//! - *hot*: accumulators over the groups that rows touched since the last settling;
//! - *settled*: immutable runs of state columns, with an index that says which row of which run is the
//!   current state of each group.
//!
//! Settling (at a snapshot, or when the slice is shared between windows) moves the hot groups into a new
//! run, merged with the settled state of those that had one. The new run is exactly what changed since
//! the last settling: an incremental snapshot. Runs are shared by reference, never copied.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat, interleave, take};
use datafusion_common::DataFusionError;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use qanat_proto::error::Result;

use super::super::keys::KeyIndex;
use super::calls::{Calls, Inputs, States};
use super::slice_table::Results;
use crate::memory::array_bytes;

pub(crate) struct GeneralTable {
    calls: Arc<Calls>,
    hot: HotGroups,
    settled: Option<Settled>,
    unsaved: Unsaved,
}

/// Groups that were settled since the last snapshot.
#[derive(Default)]
struct Unsaved {
    groups: Vec<u32>,
    /// The run that holds exactly these groups, if it is one.
    run: Option<States>,
}

/// Accumulators and the keys of their groups.
struct HotGroups {
    keys: KeyIndex,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    groups: Vec<usize>,
}

/// State columns of groups, with the position of each group's current state.
struct Settled {
    index: KeyIndex,
    /// (run, row) by group.
    positions: Vec<(u32, u32)>,
    runs: Vec<Run>,
}

struct Run {
    states: States,
    /// Group of each row.
    groups: Vec<u32>,
    /// Rows that a later run has replaced.
    replaced: usize,
    /// Of `states`, counted once.
    bytes: usize,
}

impl Run {
    fn new(states: States, groups: Vec<u32>) -> Self {
        let bytes = states.bytes();
        Self { states, groups, replaced: 0, bytes }
    }
}

impl GeneralTable {
    pub(crate) fn new(calls: &Arc<Calls>) -> Result<Self> {
        let hot = HotGroups::new(calls)?;
        Ok(Self { calls: Arc::clone(calls), hot, settled: None, unsaved: Unsaved::default() })
    }

    pub(crate) fn update(&mut self, inputs: &Inputs) -> Result<()> {
        let calls = Arc::clone(&self.calls);
        self.hot.update(&calls, inputs).map_err(|e| calls.error(&e))
    }

    pub(crate) fn merge(&mut self, states: &States) -> Result<()> {
        let calls = Arc::clone(&self.calls);
        self.hot.merge(&calls, states).map_err(|e| calls.error(&e))
    }

    /// Takes states of a snapshot back. Groups that are there already are merged.
    pub(crate) fn restore(&mut self, states: States) -> Result<()> {
        let calls = Arc::clone(&self.calls);
        let settled = self.settled_mut()?;
        let before = settled.index.len();
        let mut groups = Vec::new();
        settled.index.intern(&states.keys, states.rows, &mut groups).map_err(|e| calls.error(&e))?;
        let all_new = settled.index.len() == before + states.rows;
        if all_new {
            settled.push(states, &groups);
            return Ok(());
        }
        // A key twice: what was interned without a position gets a state of its own by merging.
        self.rebuild_index()?;
        self.merge(&states)
    }

    /// Groups held. An upper bound while hot groups are also settled.
    pub(crate) fn len(&self) -> usize {
        self.hot.keys.len() + self.settled.as_ref().map_or(0, |settled| settled.positions.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        let hot = self.hot.keys.bytes() + self.hot.accumulators.iter().map(|a| a.size()).sum::<usize>();
        let settled = self.settled.as_ref().map_or(0, Settled::bytes);
        hot + settled
    }

    /// States that changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Result<Vec<States>> {
        self.settle()?;
        let unsaved = std::mem::take(&mut self.unsaved);
        let Some(settled) = &self.settled else { return Ok(Vec::new()) };
        if let Some(run) = unsaved.run {
            return Ok(vec![run]);
        }
        let mut groups = unsaved.groups;
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let states = settled.states_of(&self.calls, &groups).map_err(|e| self.calls.error(&e))?;
        Ok(vec![states])
    }

    /// The current states of all groups, each group once, without taking them.
    pub(crate) fn contents(&mut self) -> Result<Vec<States>> {
        self.settle()?;
        let Some(settled) = &self.settled else { return Ok(Vec::new()) };
        settled.live().map_err(|e| self.calls.error(&e))
    }

    /// All states; the table is empty afterwards and has nothing left to save.
    pub(crate) fn take_states(&mut self) -> Result<Vec<States>> {
        if self.settled.is_some() {
            let contents = self.contents()?;
            *self = Self::new(&self.calls)?;
            return Ok(contents);
        }
        if self.hot.keys.len() == 0 {
            return Ok(Vec::new());
        }
        let calls = Arc::clone(&self.calls);
        self.hot.take(&calls).map(|states| vec![states]).map_err(|e| calls.error(&e))
    }

    /// Keys and results of all groups.
    pub(crate) fn finish(mut self) -> Result<Results> {
        let calls = Arc::clone(&self.calls);
        let mut hot = if self.settled.is_none() {
            self.hot
        } else {
            let mut merged = HotGroups::new(&calls)?;
            for states in self.contents()? {
                merged.merge(&calls, &states).map_err(|e| calls.error(&e))?;
            }
            merged
        };
        let (keys, values, rows) = hot.finish().map_err(|e| calls.error(&e))?;
        Ok(Results { keys, values, rows })
    }

    fn settled_mut(&mut self) -> Result<&mut Settled> {
        if self.settled.is_none() {
            let index = KeyIndex::new(&self.calls.key_types).map_err(|e| self.calls.error(&e))?;
            self.settled = Some(Settled { index, positions: Vec::new(), runs: Vec::new() });
        }
        Ok(self.settled.as_mut().expect("set above"))
    }

    /// Interns the live rows anew, for an index that holds groups without a position.
    fn rebuild_index(&mut self) -> Result<()> {
        let Some(settled) = self.settled.take() else { return Ok(()) };
        let live = settled.live().map_err(|e| self.calls.error(&e))?;
        for states in live {
            let calls = Arc::clone(&self.calls);
            let settled = self.settled_mut()?;
            let mut groups = Vec::new();
            settled.index.intern(&states.keys, states.rows, &mut groups).map_err(|e| calls.error(&e))?;
            settled.push(states, &groups);
        }
        Ok(())
    }

    /// Moves the hot groups into a new run.
    fn settle(&mut self) -> Result<()> {
        if self.hot.keys.len() == 0 {
            return Ok(());
        }
        let calls = Arc::clone(&self.calls);
        let (groups, run) = self.settle_hot().map_err(|e| calls.error(&e))?;
        self.unsaved.run = self.unsaved.groups.is_empty().then_some(run);
        self.unsaved.groups.extend(groups.iter().map(|group| *group as u32));
        Ok(())
    }

    fn settle_hot(&mut self) -> Result<(Vec<usize>, States), DataFusionError> {
        let calls = Arc::clone(&self.calls);
        if self.settled.is_none() {
            let index = KeyIndex::new(&calls.key_types)?;
            self.settled = Some(Settled { index, positions: Vec::new(), runs: Vec::new() });
        }
        let settled = self.settled.as_mut().expect("set above");
        let rows = self.hot.keys.len();
        let keys = self.hot.keys.take()?;
        let known = settled.index.len();
        let mut groups = Vec::new();
        settled.index.intern(&keys, rows, &mut groups)?;
        let old: Vec<usize> = (0..rows).filter(|i| groups[*i] < known).collect();
        if !old.is_empty() {
            let positions = settled.positions_of(old.iter().map(|i| groups[*i]));
            let states = settled.gather(calls.state_fields.len(), &positions, |run, column| &run.states[column])?;
            self.hot.merge_before(&calls, &states, &old, rows)?;
        }
        let states = States { keys, states: self.hot.take_accumulated(&calls)?, rows };
        settled.push(states.clone(), &groups);
        settled.compact(&calls)?;
        Ok((groups, states))
    }
}

impl HotGroups {
    fn new(calls: &Calls) -> Result<Self> {
        let keys = KeyIndex::new(&calls.key_types).map_err(|e| calls.error(&e))?;
        Ok(Self { keys, accumulators: calls.accumulators()?, groups: Vec::new() })
    }

    fn update(&mut self, calls: &Calls, inputs: &Inputs) -> Result<(), DataFusionError> {
        self.keys.intern(&inputs.columns[..calls.key_count()], inputs.rows, &mut self.groups)?;
        let total = self.keys.len();
        for (call, accumulator) in calls.calls.iter().zip(&mut self.accumulators) {
            call.update(accumulator.as_mut(), inputs, &self.groups, total)?;
        }
        Ok(())
    }

    fn merge(&mut self, calls: &Calls, states: &States) -> Result<(), DataFusionError> {
        self.keys.intern(&states.keys, states.rows, &mut self.groups)?;
        let total = self.keys.len();
        for (call, accumulator) in calls.calls.iter().zip(&mut self.accumulators) {
            accumulator.merge_batch(&states.states[call.states.clone()], &self.groups, total)?;
        }
        Ok(())
    }

    /// Merges older states into groups `groups` of `total`.
    fn merge_before(
        &mut self,
        calls: &Calls,
        older: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> Result<(), DataFusionError> {
        if calls.depend_on_order {
            // What came first must be merged first. In one batch: accumulators take it that of `total` groups
            // those that are new occur in the batch, and would hold the others for groups with a value.
            let newer = self.take_accumulated(calls)?;
            let all: Vec<usize> = groups.iter().copied().chain(0..total).collect();
            let both = older.iter().zip(&newer).map(|(older, newer)| concat(&[older.as_ref(), newer.as_ref()]));
            let both = both.collect::<Result<Vec<_>, _>>()?;
            for (call, accumulator) in calls.calls.iter().zip(&mut self.accumulators) {
                accumulator.merge_batch(&both[call.states.clone()], &all, total)?;
            }
            return Ok(());
        }
        for (call, accumulator) in calls.calls.iter().zip(&mut self.accumulators) {
            accumulator.merge_batch(&older[call.states.clone()], groups, total)?;
        }
        Ok(())
    }

    /// The states of all groups; the accumulators are new afterwards.
    fn take_accumulated(&mut self, calls: &Calls) -> Result<Vec<ArrayRef>, DataFusionError> {
        let mut states = Vec::with_capacity(calls.state_fields.len());
        for accumulator in &mut self.accumulators {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        self.accumulators = calls.accumulators().map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(states)
    }

    fn take(&mut self, calls: &Calls) -> Result<States, DataFusionError> {
        let rows = self.keys.len();
        Ok(States { keys: self.keys.take()?, states: self.take_accumulated(calls)?, rows })
    }

    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize), DataFusionError> {
        let rows = self.keys.len();
        if rows == 0 {
            return Ok((Vec::new(), Vec::new(), 0));
        }
        let keys = self.keys.take()?;
        let results = self.accumulators.iter_mut().map(|a| a.evaluate(EmitTo::All)).collect::<Result<Vec<_>, _>>()?;
        Ok((keys, results, rows))
    }
}

impl Settled {
    /// Makes `states` the current state of `groups`.
    fn push(&mut self, states: States, groups: &[usize]) {
        let run = self.runs.len() as u32;
        self.positions.resize(self.index.len(), (u32::MAX, 0));
        for (row, group) in groups.iter().enumerate() {
            let position = &mut self.positions[*group];
            if let Some(replaced) = self.runs.get_mut(position.0 as usize) {
                replaced.replaced += 1;
            }
            *position = (run, row as u32);
        }
        self.runs.push(Run::new(states, groups.iter().map(|g| *g as u32).collect()));
    }

    /// (run, row) of groups.
    fn positions_of(&self, groups: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
        groups.map(|group| self.positions[group]).map(|(run, row)| (run as usize, row as usize)).collect()
    }

    /// `columns` columns of the rows at `positions`.
    fn gather(
        &self,
        columns: usize,
        positions: &[(usize, usize)],
        column_of: impl for<'a> Fn(&'a States, usize) -> &'a ArrayRef,
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        (0..columns)
            .map(|column| {
                let runs: Vec<&dyn arrow::array::Array> =
                    self.runs.iter().map(|run| column_of(&run.states, column).as_ref()).collect();
                Ok(interleave(&runs, positions)?)
            })
            .collect()
    }

    /// Keys and states of some groups.
    fn states_of(&self, calls: &Calls, groups: &[u32]) -> Result<States, DataFusionError> {
        let positions = self.positions_of(groups.iter().map(|group| *group as usize));
        let keys = self.gather(calls.key_count(), &positions, |run, column| &run.keys[column])?;
        let states = self.gather(calls.state_fields.len(), &positions, |run, column| &run.states[column])?;
        Ok(States { keys, states, rows: groups.len() })
    }

    /// The current states, in runs, each group once.
    fn live(&self) -> Result<Vec<States>, DataFusionError> {
        let mut live = Vec::with_capacity(self.runs.len());
        for (number, run) in self.runs.iter().enumerate() {
            if run.replaced == 0 {
                live.push(run.states.clone());
            } else if run.replaced < run.states.rows {
                let rows: UInt32Array = (0..run.states.rows as u32)
                    .filter(|row| self.positions[run.groups[*row as usize] as usize] == (number as u32, *row))
                    .collect();
                live.push(run.states.take(&rows)?);
            }
        }
        Ok(live)
    }

    /// Puts all runs into one when most of their rows are replaced or when they are many.
    fn compact(&mut self, calls: &Calls) -> Result<(), DataFusionError> {
        let rows: usize = self.runs.iter().map(|run| run.states.rows).sum();
        if rows <= 2 * self.positions.len() && self.runs.len() < RUNS_MAX {
            return Ok(());
        }
        let mut groups = Vec::with_capacity(self.positions.len());
        for (number, run) in self.runs.iter().enumerate() {
            let live = run.groups.iter().enumerate();
            let live = live.filter(|(row, g)| self.positions[**g as usize] == (number as u32, *row as u32));
            groups.extend(live.map(|(_, group)| *group));
        }
        let live = self.live()?;
        let states = States::concat(&live, calls.key_count(), calls.state_fields.len())?;
        for (row, group) in groups.iter().enumerate() {
            self.positions[*group as usize] = (0, row as u32);
        }
        self.runs = vec![Run::new(states, groups)];
        Ok(())
    }

    fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.bytes + run.groups.capacity() * 4).sum();
        runs + self.index.bytes() + self.positions.capacity() * size_of::<(u32, u32)>()
    }
}

/// Runs of one table before they are put into one: each adds an array to every gather.
const RUNS_MAX: usize = 64;

impl States {
    pub(crate) fn take(&self, rows: &UInt32Array) -> Result<Self, DataFusionError> {
        let pick = |columns: &[ArrayRef]| columns.iter().map(|c| take(c, rows, None)).collect::<Result<Vec<_>, _>>();
        Ok(Self { keys: pick(&self.keys)?, states: pick(&self.states)?, rows: rows.values().len() })
    }

    pub(crate) fn slice(&self, start: usize, rows: usize) -> Self {
        let cut = |columns: &[ArrayRef]| columns.iter().map(|c| c.slice(start, rows)).collect();
        Self { keys: cut(&self.keys), states: cut(&self.states), rows }
    }

    pub(crate) fn concat(parts: &[Self], keys: usize, states: usize) -> Result<Self, DataFusionError> {
        let join = |column: &dyn Fn(&Self) -> ArrayRef| {
            let arrays: Vec<ArrayRef> = parts.iter().map(column).collect();
            let arrays: Vec<&dyn arrow::array::Array> = arrays.iter().map(AsRef::as_ref).collect();
            concat(&arrays)
        };
        Ok(Self {
            keys: (0..keys).map(|i| join(&|p| Arc::clone(&p.keys[i]))).collect::<Result<_, _>>()?,
            states: (0..states).map(|i| join(&|p| Arc::clone(&p.states[i]))).collect::<Result<_, _>>()?,
            rows: parts.iter().map(|p| p.rows).sum(),
        })
    }

    /// What a restore cuts out of one file shares its buffers: of them only the own part counts.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.states).map(array_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn slices_of_one_state_count_their_own_part() {
        let keys = StringArray::from_iter_values((0..10_000).map(|n| format!("key {n}")));
        let states = Int64Array::from_iter_values(0..10_000);
        let whole = States { keys: vec![Arc::new(keys)], states: vec![Arc::new(states)], rows: 10_000 };
        let parts: usize = (0..1_000).map(|part| whole.slice(part * 10, 10).bytes()).sum();
        assert!(parts < 2 * whole.bytes(), "{parts} for {}", whole.bytes());
    }
}
