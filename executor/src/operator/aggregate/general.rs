//! Groups of one slice for any key types and any aggregate, through DataFusion's accumulators.
//!
//! DataFusion's accumulators can only *move* their state out. So a table has two parts:
//! - *hot*: accumulators over the groups that rows touched since the last settling;
//! - *settled*: immutable runs of state columns, with an index that says which rows are the current state of
//!   each group ([`Settled`]).
//!
//! Settling (at a snapshot, or when the slice is shared between windows) moves the hot groups into a new run,
//! merged with the settled state of those that had one; of states that grow, with those pieces of it that are
//! small. The new run is exactly what changed since the last settling: an incremental snapshot. Runs are shared
//! by reference, never copied.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat, interleave, take};
use datafusion_common::DataFusionError;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use qanat_proto::error::Result;

use super::super::keys::KeyIndex;
use super::calls::{Calls, Inputs, States};
use super::settled::{Place, Settled, sizes};
use super::slice_table::{Changed, Results};
use crate::memory::array_bytes;

pub(crate) struct GeneralTable {
    calls: Arc<Calls>,
    hot: HotGroups,
    settled: Option<Settled>,
    unsaved: Unsaved,
}

/// What was settled since the last snapshot.
#[derive(Default)]
struct Unsaved {
    /// (group, piece): pieces that came, changed or went.
    pieces: Vec<(u32, u32)>,
    /// The run that holds exactly these, if it is one.
    run: Option<(States, Vec<u32>)>,
}

/// Accumulators and the keys of their groups.
struct HotGroups {
    keys: KeyIndex,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    groups: Vec<usize>,
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

    /// Takes rows of a snapshot back; `pieces` as in [`Changed`]. What is there already is merged.
    pub(crate) fn restore(&mut self, states: States, pieces: Vec<u32>) -> Result<()> {
        let calls = Arc::clone(&self.calls);
        let again = self.restore_new(states, pieces).map_err(|e| calls.error(&e))?;
        again.map_or(Ok(()), |states| self.merge(&states))
    }

    /// Settles the rows of pieces that are not there yet, and returns the others.
    fn restore_new(&mut self, states: States, pieces: Vec<u32>) -> Result<Option<States>, DataFusionError> {
        let calls = Arc::clone(&self.calls);
        let settled = self.settled_mut(&calls)?;
        let groups = settled.groups(&states.keys, states.rows)?;
        let piece = |row: usize| pieces.get(row).copied().unwrap_or(0);
        let mut seen = BTreeSet::new();
        let (new, again): (Vec<usize>, Vec<usize>) = (0..states.rows).partition(|row| {
            settled.place(groups[*row], piece(*row)).is_none() && seen.insert((groups[*row], piece(*row)))
        });
        if again.is_empty() {
            settled.push(states, groups, pieces);
            return Ok(None);
        }
        let rows = |rows: &[usize]| rows.iter().map(|row| *row as u32).collect::<UInt32Array>();
        let pieces = if pieces.is_empty() { pieces } else { new.iter().map(|row| piece(*row)).collect() };
        settled.push(states.take(&rows(&new))?, new.iter().map(|row| groups[*row]).collect(), pieces);
        states.take(&rows(&again)).map(Some)
    }

    /// Groups held. An upper bound while hot groups are also settled.
    pub(crate) fn len(&self) -> usize {
        self.hot.keys.len() + self.settled.as_ref().map_or(0, Settled::len)
    }

    pub(crate) fn bytes(&self) -> usize {
        let hot = self.hot.keys.bytes() + self.hot.accumulators.iter().map(|a| a.size()).sum::<usize>();
        let settled = self.settled.as_ref().map_or(0, Settled::bytes);
        hot + settled
    }

    /// What changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Result<Vec<Changed>> {
        self.settle()?;
        let calls = Arc::clone(&self.calls);
        let unsaved = std::mem::take(&mut self.unsaved);
        let Some(settled) = &self.settled else { return Ok(Vec::new()) };
        if let Some((states, pieces)) = unsaved.run {
            return Ok(vec![Changed { states, pieces, gone: None }]);
        }
        let mut touched = unsaved.pieces;
        touched.sort_unstable();
        touched.dedup();
        if touched.is_empty() {
            return Ok(Vec::new());
        }
        changed(settled, &calls, &touched).map(|changed| vec![changed]).map_err(|e| calls.error(&e))
    }

    /// The current states of all groups without taking them; those of a group in several pieces one after the
    /// other.
    pub(crate) fn contents(&mut self) -> Result<Vec<States>> {
        self.settle()?;
        let Some(settled) = &self.settled else { return Ok(Vec::new()) };
        settled.contents(&self.calls).map_err(|e| self.calls.error(&e))
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

    fn settled_mut(&mut self, calls: &Calls) -> Result<&mut Settled, DataFusionError> {
        if self.settled.is_none() {
            self.settled = Some(Settled::new(calls)?);
        }
        Ok(self.settled.as_mut().expect("set above"))
    }

    /// Moves the hot groups into a new run.
    fn settle(&mut self) -> Result<()> {
        if self.hot.keys.len() == 0 {
            return Ok(());
        }
        let calls = Arc::clone(&self.calls);
        self.settle_hot(&calls).map_err(|e| calls.error(&e))
    }

    fn settle_hot(&mut self, calls: &Calls) -> Result<(), DataFusionError> {
        self.settled_mut(calls)?;
        let settled = self.settled.as_mut().expect("set above");
        let rows = self.hot.keys.len();
        let keys = self.hot.keys.take()?;
        let groups = settled.groups(&keys, rows)?;
        let mut newer = if calls.states_grow { Some(self.hot.take_accumulated(calls)?) } else { None };
        let row_sizes = newer.as_ref().map_or(Vec::new(), |newer| sizes(newer, rows));
        // Older pieces that are merged with the hot state, and the rows that they belong to.
        let (mut older, mut of_rows): (Vec<Place>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut pieces = Vec::new();
        let is_first = self.unsaved.pieces.is_empty();
        let mut is_whole = true;
        for (row, group) in groups.iter().enumerate() {
            let first = older.len();
            let piece = settled.take_small(*group, row_sizes.get(row).copied().unwrap_or(0), &mut older);
            of_rows.resize(older.len(), row);
            self.unsaved.pieces.push((*group, piece));
            if newer.is_some() {
                pieces.push(piece);
                // What came first is merged first.
                older[first..].reverse();
                let gone = older[first..].iter().map(|place| (*group, settled.piece(*place)));
                let known = self.unsaved.pieces.len();
                self.unsaved.pieces.extend(gone.filter(|(_, old)| *old > piece));
                is_whole &= self.unsaved.pieces.len() == known;
            }
        }
        let states = if older.is_empty() {
            newer.map_or_else(|| self.hot.take_accumulated(calls), Ok)?
        } else {
            let older = settled.accumulated_at(calls, &older)?;
            match &mut newer {
                Some(newer) => self.hot.merge_pieces(calls, &older, &of_rows, newer)?,
                None => {
                    self.hot.merge_before(calls, &older, &of_rows, rows)?;
                    self.hot.take_accumulated(calls)?
                }
            }
        };
        let states = States { keys, states, rows };
        self.unsaved.run = (is_first && is_whole).then(|| (states.clone(), pieces.clone()));
        settled.push(states, groups, pieces);
        settled.compact(calls)
    }
}

/// Rows to write and keys to delete for pieces that came, changed or went.
fn changed(settled: &Settled, calls: &Calls, touched: &[(u32, u32)]) -> Result<Changed, DataFusionError> {
    let (mut places, mut pieces) = (Vec::new(), Vec::new());
    let (mut gone, mut gone_pieces) = (Vec::new(), Vec::new());
    for (group, piece) in touched {
        match (settled.place(*group, *piece), settled.last_of(*group)) {
            (Some(place), _) => {
                places.push(place);
                pieces.push(*piece);
            }
            // Its key stands in any piece that is left.
            (None, Some(other)) => {
                gone.push(other);
                gone_pieces.push(*piece);
            }
            (None, None) => {}
        }
    }
    let states = settled.states_at(calls, &places)?;
    let gone = if gone.is_empty() { None } else { Some((settled.keys_at(calls, &gone)?, gone_pieces)) };
    Ok(Changed { states, pieces: if calls.states_grow { pieces } else { Vec::new() }, gone })
}

/// Columns of older rows and behind them those of newer ones.
fn behind(older: &[ArrayRef], newer: &[ArrayRef]) -> Result<Vec<ArrayRef>, DataFusionError> {
    let both = older.iter().zip(newer).map(|(older, newer)| Ok(concat(&[older.as_ref(), newer.as_ref()])?));
    both.collect()
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
        let groups = std::mem::take(&mut self.groups);
        let merged = self.accumulate(calls, &states.states, &groups, self.keys.len());
        // Its space is used again.
        self.groups = groups;
        merged
    }

    /// Merges rows of states, each into its group of `total`.
    fn accumulate(
        &mut self,
        calls: &Calls,
        states: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> Result<(), DataFusionError> {
        for (call, accumulator) in calls.calls.iter().zip(&mut self.accumulators) {
            accumulator.merge_batch(&states[call.states.clone()], groups, total)?;
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
            return self.accumulate(calls, &behind(older, &newer)?, &all, total);
        }
        self.accumulate(calls, older, groups, total)
    }

    /// The states of all groups, which are `newer` but for those that have older pieces: those are merged.
    fn merge_pieces(
        &mut self,
        calls: &Calls,
        older: &[ArrayRef],
        of_rows: &[usize],
        newer: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        let mut merged = of_rows.to_vec();
        merged.dedup();
        let place = |row: &usize| merged.binary_search(row).unwrap_or_default();
        let groups: Vec<usize> = of_rows.iter().map(place).chain(0..merged.len()).collect();
        let rows: UInt32Array = merged.iter().map(|row| *row as u32).collect();
        let of_merged = newer.iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.accumulate(calls, &behind(older, &of_merged)?, &groups, merged.len())?;
        let states = self.take_accumulated(calls)?;
        let total = newer.first().map_or(0, |column| column.len());
        let mut positions: Vec<(usize, usize)> = (0..total).map(|row| (0, row)).collect();
        merged.iter().enumerate().for_each(|(index, row)| positions[*row] = (1, index));
        let columns = newer.iter().zip(&states);
        columns.map(|(newer, merged)| Ok(interleave(&[newer.as_ref(), merged.as_ref()], &positions)?)).collect()
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

impl States {
    pub(crate) fn take(&self, rows: &UInt32Array) -> Result<Self, DataFusionError> {
        let pick = |columns: &[ArrayRef]| columns.iter().map(|c| take(c, rows, None)).collect::<Result<Vec<_>, _>>();
        Ok(Self { keys: pick(&self.keys)?, states: pick(&self.states)?, rows: rows.values().len() })
    }

    pub(crate) fn slice(&self, start: usize, rows: usize) -> Self {
        let cut = |columns: &[ArrayRef]| columns.iter().map(|c| c.slice(start, rows)).collect();
        Self { keys: cut(&self.keys), states: cut(&self.states), rows }
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
