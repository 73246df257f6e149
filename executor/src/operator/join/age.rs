//! Rows of a join that get too old: they leave the state, and what was told of them stays.
//!
//! A row whose match leaves in this way was told with it, and is never told without one any more. Matches are counted anew
//! from the rows that there are when the state is read back, so such a row says so in the state itself. A row that is taken
//! back and was forgotten takes nothing back: of its pairs some may never have been told.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use qanat_proto::changelog;
use qanat_proto::error::Result;

use super::super::emit::batch_of;
use super::super::evaluate::internal;
use super::regular::{Join, Meeting, PAIRS_AT_ONCE};

impl Join {
    /// A batch that is to meet the other side, without rows that are taken back and are kept no more.
    pub(super) fn known(
        &self,
        port: usize,
        rows: RecordBatch,
        kinds: Vec<i8>,
        slots: Vec<Option<u32>>,
    ) -> Result<Meeting> {
        let side = &self.sides[port];
        let may_be_gone = self.sides.iter().any(|side| side.ages.is_on());
        let has_gone = kinds.iter().any(|kind| !changelog::is_added(*kind));
        let Some(kept) = side.hashes.as_ref().filter(|_| may_be_gone && has_gone) else {
            return Ok(Meeting::of(port, rows, kinds, slots));
        };
        let hashes = side.hasher.hash(&rows)?;
        let (mut taken, mut forgotten) = (vec![None; rows.num_rows()], vec![false; rows.num_rows()]);
        // As they are taken when the batch is added to its side: the oldest first, then those of the batch itself.
        let mut claimed: BTreeSet<i64> = BTreeSet::new();
        let mut fresh: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let Some(slot) = slots[row] else { continue };
            if changelog::is_added(kinds[row]) {
                *fresh.entry((slot, hashes[row])).or_default() += 1;
                continue;
            }
            let is_it = |number: &i64| !claimed.contains(number) && kept.get(number) == Some(&hashes[row]);
            let found = side.lists[slot as usize].as_slice().iter().copied().find(is_it);
            claimed.extend(found);
            taken[row] = found;
            if found.is_none() {
                match fresh.get_mut(&(slot, hashes[row])).filter(|count| **count > 0) {
                    Some(count) => *count -= 1,
                    None => forgotten[row] = true,
                }
            }
        }
        let left: Vec<u32> = (0..rows.num_rows() as u32).filter(|row| !forgotten[*row as usize]).collect();
        let free = (0..slots.len()).filter(|row| forgotten[*row]).filter_map(|row| slots[row]).collect();
        if left.len() == rows.num_rows() {
            return Ok(Meeting::of(port, rows, kinds, slots).taking(taken, Vec::new()));
        }
        let rows = take_record_batch(&rows, &UInt32Array::from(left.clone())).map_err(internal)?;
        let picked = |row: &u32| *row as usize;
        let kinds = left.iter().map(|row| kinds[picked(row)]).collect();
        let slots = left.iter().map(|row| slots[picked(row)]).collect();
        let taken = left.iter().map(|row| taken[picked(row)]).collect();
        Ok(Meeting::of(port, rows, kinds, slots).taking(taken, free))
    }

    /// Rows below a number are too old; what was told of them stays.
    pub(super) fn expire(&mut self, port: usize, below: i64) -> Result<()> {
        let old = self.sides[port].rows.numbers_below(below);
        if let Some(known) = &mut self.sides[port].hashes {
            *known = known.split_off(&below);
        }
        for numbers in old.chunks(PAIRS_AT_ONCE) {
            let wanted: Vec<Option<i64>> = numbers.iter().map(|number| Some(*number)).collect();
            let side = &self.sides[port];
            let rows = batch_of(side.rows.schema(), side.rows.gather(&wanted)?, wanted.len())?;
            let slots = self.slots_of(&rows, port)?;
            if self.sides[1 - port].marks_matched {
                self.outlive(port, &rows, &slots)?;
            }
            let side = &mut self.sides[port];
            let mut distinct: Vec<u32> = slots.iter().copied().flatten().collect();
            distinct.sort_unstable();
            distinct.dedup();
            for slot in distinct {
                let list = &mut side.lists[slot as usize];
                let before = list.bytes();
                list.drop_below(below);
                side.lists_bytes = (side.lists_bytes + list.bytes()).saturating_sub(before);
            }
            side.forget(&rows, numbers, &(0..numbers.len() as u32).collect::<Vec<_>>())?;
            slots.into_iter().flatten().for_each(|slot| self.free(slot));
        }
        Ok(())
    }

    /// Rows leave that are too old: their matches on the other side stay matched.
    fn outlive(&mut self, port: usize, rows: &RecordBatch, slots: &[Option<u32>]) -> Result<()> {
        let kinds = vec![changelog::RowKind::Delete.code(); rows.num_rows()];
        let mut meeting = Meeting::of(port, rows.clone(), kinds, slots.to_vec());
        loop {
            let (owns, others) = self.next_pairs(&mut meeting);
            if owns.is_empty() {
                return Ok(());
            }
            let (_, others) = self.satisfying(&meeting, (owns, others))?;
            let other = &mut self.sides[1 - port];
            for number in others {
                if other.rows.outlive_match(number) {
                    other.outlived.push(number);
                }
            }
        }
    }
}

impl super::regular::Side {
    /// Rows of the state that have lost a match since they were saved: names, rows, and that they have.
    pub(super) fn take_outlived(&mut self) -> Result<Option<(Vec<i64>, RecordBatch, BooleanArray)>> {
        let outlived = std::mem::take(&mut self.outlived);
        let saved = outlived.into_iter().filter(|number| self.rows.is_saved(*number));
        let (numbers, names): (Vec<Option<i64>>, Vec<i64>) =
            saved.filter_map(|number| self.rows.name(number).map(|name| (Some(number), name))).unzip();
        if names.is_empty() {
            return Ok(None);
        }
        let rows = batch_of(self.rows.schema(), self.rows.gather(&numbers)?, names.len())?;
        let marks = BooleanArray::from(vec![true; names.len()]);
        Ok(Some((names, rows, marks)))
    }
}
