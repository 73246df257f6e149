//! States of groups at rest: columns in immutable runs, and an index that says where each group's state lies.
//!
//! The state of a group is one row of a run. States that grow with their rows (lists of values) may be in several
//! *pieces*, each row a piece: what is new becomes a piece of its own as long as the pieces before it are larger,
//! and is merged with those that are not, as a log-structured merge tree does. So a snapshot writes a value some
//! log n times, and not the whole list each time that it got longer.
//!
//! ```text
//! list of a group:   [piece 0: 8,000 values] [piece 1: 1,500] [piece 2: 300]
//! 500 values more:   [piece 0: 8,000 values] [piece 1: 1,500] [piece 2: 800]          300 < 2 x 500
//! 500 values more:   [piece 0: 8,000 values] [piece 1: 2,800]                         800 < 2 x 500, 1,500 < 2 x 1,300
//! ```

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, new_empty_array};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use datafusion_common::DataFusionError;

use super::super::keys::KeyIndex;
use super::calls::{Calls, States};
use crate::memory::array_bytes;

type Result<T> = std::result::Result<T, DataFusionError>;

/// A piece of so few bytes is never worth a row of its own.
const PIECE_BYTES_MIN: u64 = 256;
/// Runs of one table before they are put into one: each adds an array to every gather.
const RUNS_MAX: usize = 64;

/// A row of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    run: u32,
    row: u32,
}

/// Of a group that has no state.
const NOWHERE: Place = Place { run: u32::MAX, row: 0 };

pub(super) struct Settled {
    index: KeyIndex,
    /// Of each group, the last piece.
    last: Vec<Place>,
    /// Of groups in several pieces, those before the last, from the first on.
    before: BTreeMap<u32, Vec<Place>>,
    runs: Vec<Run>,
    /// Bytes of rows, and of those that are no longer any group's. Of states in pieces only.
    bytes: u64,
    dead_bytes: u64,
}

struct Run {
    states: States,
    /// Group of each row.
    groups: Vec<u32>,
    /// Piece of each row, and its bytes; empty: each row is the whole state of its group.
    pieces: Vec<u32>,
    sizes: Vec<u64>,
    /// Rows that are no longer any group's.
    dead: usize,
    /// Of `states`, counted once.
    bytes: usize,
}

impl Run {
    fn new(states: States, groups: Vec<u32>, pieces: Vec<u32>) -> Self {
        let bytes = states.bytes();
        let sizes = if pieces.is_empty() { Vec::new() } else { sizes(&states.states, states.rows) };
        Self { states, groups, pieces, sizes, dead: 0, bytes }
    }

    fn piece(&self, row: u32) -> u32 {
        self.pieces.get(row as usize).copied().unwrap_or(0)
    }

    fn size(&self, row: u32) -> u64 {
        self.sizes.get(row as usize).copied().unwrap_or(0)
    }
}

impl Settled {
    pub(super) fn new(calls: &Calls) -> Result<Self> {
        let index = KeyIndex::new(&calls.key_types)?;
        Ok(Self { index, last: Vec::new(), before: BTreeMap::new(), runs: Vec::new(), bytes: 0, dead_bytes: 0 })
    }

    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let of_run = |run: &Run| run.bytes + (run.groups.capacity() + run.pieces.capacity() * 3) * 4;
        let runs: usize = self.runs.iter().map(of_run).sum();
        let before: usize = self.before.values().map(|places| 64 + places.capacity() * size_of::<Place>()).sum();
        runs + before + self.index.bytes() + self.last.capacity() * size_of::<Place>()
    }

    /// The groups of keys; those that are new have no state yet.
    pub(super) fn groups(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut groups = Vec::new();
        self.index.intern(keys, rows, &mut groups)?;
        self.last.resize(self.index.len(), NOWHERE);
        Ok(groups.into_iter().map(|group| group as u32).collect())
    }

    /// Where a piece of a group lies.
    pub(super) fn place(&self, group: u32, piece: u32) -> Option<Place> {
        let last = self.last_of(group)?;
        if self.run(last).piece(last.row) == piece {
            return Some(last);
        }
        let before = self.before.get(&group)?;
        before.iter().copied().find(|place| self.run(*place).piece(place.row) == piece)
    }

    /// Takes the last pieces of a group away for as long as they are no larger than twice what is behind them,
    /// at first `size`. They are added to `taken`, the last first; returns the number of pieces that are left.
    pub(super) fn take_small(&mut self, group: u32, mut size: u64, taken: &mut Vec<Place>) -> u32 {
        while let Some(place) = self.last_of(group) {
            let own = self.run(place).size(place.row);
            if own > size.saturating_mul(2).max(PIECE_BYTES_MIN) {
                return self.piece(place) + 1;
            }
            size += own;
            taken.push(place);
            self.dead_bytes += own;
            self.runs[place.run as usize].dead += 1;
            let before = self.before.get_mut(&group);
            self.last[group as usize] = before.and_then(Vec::pop).unwrap_or(NOWHERE);
        }
        0
    }

    /// Which piece of its group a row is, or was.
    pub(super) fn piece(&self, place: Place) -> u32 {
        self.run(place).piece(place.row)
    }

    /// Adds rows. `pieces`: which piece of its group each is, one that the group does not have; empty: each is
    /// the whole state of a group without one.
    pub(super) fn push(&mut self, states: States, groups: Vec<u32>, pieces: Vec<u32>) {
        let number = self.runs.len() as u32;
        let run = Run::new(states, groups, pieces);
        self.bytes += run.sizes.iter().sum::<u64>();
        self.runs.push(run);
        for row in 0..self.runs[number as usize].groups.len() as u32 {
            let place = Place { run: number, row };
            let (group, piece) = (self.run(place).groups[row as usize], self.run(place).piece(row));
            let Some(last) = self.last_of(group) else {
                self.last[group as usize] = place;
                continue;
            };
            let is_behind = self.run(last).piece(last.row) < piece;
            let inner = if is_behind { std::mem::replace(&mut self.last[group as usize], place) } else { place };
            let runs = &self.runs;
            let piece_of = |place: &Place| runs[place.run as usize].piece(place.row);
            let before = self.before.entry(group).or_default();
            // A restore brings pieces in any order.
            let position = before.partition_point(|other| piece_of(other) < piece_of(&inner));
            before.insert(position, inner);
        }
    }

    /// Forgets rows that are no longer any group's, if they are many, and puts runs into one that are.
    pub(super) fn compact(&mut self, calls: &Calls) -> Result<()> {
        self.before.retain(|_, places| !places.is_empty());
        for run in &mut self.runs {
            if run.dead > 0 && run.dead == run.states.rows {
                self.bytes -= run.sizes.iter().sum::<u64>();
                self.dead_bytes -= run.sizes.iter().sum::<u64>();
                // It keeps its number.
                let empty = |columns: &[ArrayRef]| columns.iter().map(|c| new_empty_array(c.data_type())).collect();
                let states = States { keys: empty(&run.states.keys), states: empty(&run.states.states), rows: 0 };
                *run = Run::new(states, Vec::new(), Vec::new());
            }
        }
        let rows: usize = self.runs.iter().map(|run| run.states.rows).sum();
        let dead: usize = self.runs.iter().map(|run| run.dead).sum();
        let is_small = self.dead_bytes * 2 <= self.bytes && (self.bytes > 0 || dead <= rows / 2);
        if is_small && self.runs.len() < RUNS_MAX {
            return Ok(());
        }
        let live: Vec<Place> = self.live_places().collect();
        let states = self.states_at(calls, &live)?;
        let groups: Vec<u32> = live.iter().map(|place| self.run(*place).groups[place.row as usize]).collect();
        let is_pieces = self.runs.iter().any(|run| !run.pieces.is_empty());
        let pieces: Vec<u32> = live.iter().filter(|_| is_pieces).map(|place| self.piece(*place)).collect();
        self.runs.clear();
        self.before.clear();
        self.last.fill(NOWHERE);
        (self.bytes, self.dead_bytes) = (0, 0);
        self.push(states, groups, pieces);
        Ok(())
    }

    /// The keys and states of rows.
    pub(super) fn states_at(&self, calls: &Calls, places: &[Place]) -> Result<States> {
        let keys = self.keys_at(calls, places)?;
        let states = self.gather(calls.state_fields.len(), places, |run, column| &run.states[column])?;
        Ok(States { keys, states, rows: places.len() })
    }

    /// The keys of rows.
    pub(super) fn keys_at(&self, calls: &Calls, places: &[Place]) -> Result<Vec<ArrayRef>> {
        self.gather(calls.key_count(), places, |run, column| &run.keys[column])
    }

    /// The states of rows.
    pub(super) fn accumulated_at(&self, calls: &Calls, places: &[Place]) -> Result<Vec<ArrayRef>> {
        self.gather(calls.state_fields.len(), places, |run, column| &run.states[column])
    }

    /// All states, the pieces of a group in their order.
    pub(super) fn contents(&self, calls: &Calls) -> Result<Vec<States>> {
        if self.before.is_empty() {
            return self.whole_states();
        }
        let mut by_piece: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        for place in self.live_places() {
            by_piece.entry(self.piece(place)).or_default().push(place);
        }
        by_piece.values().map(|places| self.states_at(calls, places)).collect()
    }

    /// All states, each group in one piece; runs of which nothing is dead are shared.
    fn whole_states(&self) -> Result<Vec<States>> {
        let mut live = Vec::with_capacity(self.runs.len());
        for (number, run) in (0..).zip(&self.runs) {
            if run.dead == run.states.rows {
                continue;
            }
            if run.dead == 0 {
                live.push(run.states.clone());
                continue;
            }
            let is_live = |row: &u32| self.is_live(Place { run: number, row: *row });
            let rows: UInt32Array = (0..run.states.rows as u32).filter(is_live).collect();
            live.push(run.states.take(&rows)?);
        }
        Ok(live)
    }

    /// In the order in which they were settled.
    fn live_places(&self) -> impl Iterator<Item = Place> {
        let rows = |(run, number): (&Run, u32)| (0..run.states.rows as u32).map(move |row| Place { run: number, row });
        self.runs.iter().zip(0..).flat_map(rows).filter(|place| self.is_live(*place))
    }

    fn is_live(&self, place: Place) -> bool {
        let group = self.run(place).groups[place.row as usize];
        self.last[group as usize] == place || self.before.get(&group).is_some_and(|before| before.contains(&place))
    }

    /// Where the last piece of a group lies.
    pub(super) fn last_of(&self, group: u32) -> Option<Place> {
        self.last.get(group as usize).copied().filter(|place| *place != NOWHERE)
    }

    fn run(&self, place: Place) -> &Run {
        &self.runs[place.run as usize]
    }

    fn gather(
        &self,
        columns: usize,
        places: &[Place],
        column_of: impl for<'a> Fn(&'a States, usize) -> &'a ArrayRef,
    ) -> Result<Vec<ArrayRef>> {
        let positions: Vec<(usize, usize)> = places.iter().map(|p| (p.run as usize, p.row as usize)).collect();
        (0..columns)
            .map(|column| {
                let runs: Vec<&dyn Array> =
                    self.runs.iter().map(|run| column_of(&run.states, column).as_ref()).collect();
                Ok(interleave(&runs, &positions)?)
            })
            .collect()
    }
}

/// About the bytes of each row.
pub(super) fn sizes(states: &[ArrayRef], rows: usize) -> Vec<u64> {
    let mut sizes = vec![0; rows];
    let mut add = |each: usize, lengths: &mut dyn Iterator<Item = usize>| {
        sizes.iter_mut().zip(lengths).for_each(|(size, length)| *size += (8 + each * length) as u64);
    };
    for column in states {
        match column.data_type() {
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let each = array_bytes(list.values()) / list.values().len().max(1);
                add(each.max(1), &mut list.offsets().lengths());
            }
            DataType::Utf8 => add(1, &mut column.as_string::<i32>().offsets().lengths()),
            DataType::LargeUtf8 => add(1, &mut column.as_string::<i64>().offsets().lengths()),
            _ => add(0, &mut std::iter::repeat_n(0, rows)),
        }
    }
    sizes
}
