//! Keys of a join that are put aside: the rows of both sides leave memory, and come back when a row with their key does.
//!
//! An entry has the rows of both sides with their names and how many matches each has. While the state is read back, the
//! rows of a key may be put aside before all of them are there: their matches are not known then, and are counted when
//! the key comes back.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, Schema, UInt32Type};
use qanat_proto::error::{Error, Result};
use qanat_storage::spill::Entries;

use super::super::Operator;
use super::super::aside::keys_of_bytes;
use super::super::emit::batch_of;
use super::super::kept_rows::KeptRows;
use super::super::packer::PackedRows;
use super::regular::{Join, List};

/// What comes: a batch without its kinds, or rows of the state.
pub(super) enum Arriving {
    Batch { port: usize, rows: RecordBatch, kinds: Vec<i8> },
    State { port: usize, names: Vec<i64>, rows: RecordBatch, matches: Vec<u32> },
}

/// A key with more rows stays in memory.
pub(super) const ROWS_MAX: usize = 1 << 14;
/// Columns of an entry's rows in front of those of the side.
const OWN_COLUMNS: usize = 2;

impl Arriving {
    pub(super) fn rows(&self) -> (usize, &RecordBatch) {
        match self {
            Self::Batch { port, rows, .. } | Self::State { port, rows, .. } => (*port, rows),
        }
    }
}

/// Columns of the rows of an entry, by side.
pub(super) fn tables(sides: [&Schema; 2]) -> [Vec<DataType>; 2] {
    sides.map(|side| {
        let own = [DataType::Int64, DataType::UInt32].into_iter();
        own.chain(side.fields().iter().map(|field| field.data_type().clone())).collect()
    })
}

/// The rows of keys as an entry has them. `lists`: by key, the numbers of its rows. Matches that are not known are NULL.
pub(super) fn packed<L: ExactSizeIterator<Item = i64>>(
    rows: &KeptRows,
    lists: impl Iterator<Item = L>,
    is_known: bool,
) -> Result<PackedRows> {
    let (mut numbers, mut counts) = (Vec::new(), Vec::new());
    for list in lists {
        counts.push(list.len() as u32);
        numbers.extend(list.map(Some));
    }
    let facts: Vec<(i64, u32)> = numbers.iter().flatten().filter_map(|number| rows.facts(*number)).collect();
    let names = Int64Array::from_iter_values(facts.iter().map(|(name, _)| *name));
    let matches: UInt32Array = facts.iter().map(|(_, matches)| is_known.then_some(*matches)).collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(matches)];
    columns.extend(rows.gather(&numbers)?);
    Ok(PackedRows { columns, counts })
}

/// Names, matches and rows of what [`packed`] gave.
pub(super) fn unpacked(kept: &KeptRows, mut table: PackedRows) -> Result<(Vec<i64>, UInt32Array, RecordBatch)> {
    let rows = table.columns.split_off(OWN_COLUMNS.min(table.columns.len()));
    let [names, matches] = table.columns.as_slice() else {
        return Err(Error::internal("rows that were put aside have no names"));
    };
    let names = names.as_primitive::<Int64Type>().values().to_vec();
    let rows = batch_of(kept.schema(), rows, names.len())?;
    Ok((names, matches.as_primitive::<UInt32Type>().clone(), rows))
}

impl Join {
    /// Rows come. What they need and was put aside is asked for at first.
    pub(super) fn arrive(&mut self, arriving: Arriving) -> Result<()> {
        if !self.aside.residence.is_any_away() {
            return self.take_in(arriving);
        }
        let (port, rows) = arriving.rows();
        let (keys, nulls) = self.keys_of(rows, port)?;
        let asked = self.aside.missing(&self.slots, &keys, nulls.as_ref()).map_err(|e| self.failed(&e))?;
        match self.aside.arrive(arriving, asked) {
            Some(arriving) => self.take_in(arriving),
            None => Ok(()),
        }
    }

    /// Takes keys out of memory that were not used of late.
    pub(super) fn pack(&mut self, bytes: usize) -> Result<Entries> {
        let mut entries = Entries::default();
        if self.meeting.is_some() || !self.aside.may_pack() {
            return Ok(entries);
        }
        let count = keys_of_bytes(bytes, self.state_bytes(), self.slots.used());
        let lists = self.sides.each_ref().map(|side| side.lists.as_slice());
        let rows_of = |slot: u32| lists.iter().map(|lists| lists[slot as usize].as_slice().len()).sum::<usize>();
        let may_go = |slot: u32| (1..=ROWS_MAX).contains(&rows_of(slot));
        self.aside.dropped.take(&mut entries);
        let residence = &mut self.aside.residence;
        let picked = residence.pick(count, may_go);
        let written: Vec<u32> = picked.iter().copied().filter(|slot| residence.leaves(*slot)).collect();
        let tables = self.sides.iter().map(|side| {
            let lists = written.iter().map(|slot| side.lists[*slot as usize].as_slice().iter().copied());
            packed(&side.rows, lists, !self.is_restoring)
        });
        let tables = tables.collect::<Result<Vec<_>>>()?;
        self.aside.pack(written.iter().map(|slot| self.slots.key(*slot)), &tables, &mut entries)?;
        for side in &mut self.sides {
            let mut gone = Vec::new();
            for slot in &picked {
                let list = std::mem::replace(&mut side.lists[*slot as usize], List::None);
                side.lists_bytes = side.lists_bytes.saturating_sub(list.bytes());
                gone.extend_from_slice(list.as_slice());
            }
            if let Some(hashes) = &mut side.hashes {
                gone.iter().for_each(|number| _ = hashes.remove(number));
            }
            // They stay in the state.
            side.rows.remove(&gone)?;
        }
        picked.iter().for_each(|slot| self.slots.remove(*slot));
        Ok(entries)
    }

    /// Puts keys back into memory.
    pub(super) fn unpack(&mut self, found: &Entries) -> Result<()> {
        let tables = self.aside.unpack(found.iter().filter_map(|(_, value)| value))?;
        let mut uncounted = [Vec::new(), Vec::new()];
        for (port, table) in tables.into_iter().enumerate() {
            let (names, matches, rows) = unpacked(&self.sides[port].rows, table)?;
            let first = self.sides[port].rows.next_number();
            let of_unknown = (first..).zip(&matches).filter(|(_, matches)| matches.is_none());
            uncounted[port] = of_unknown.map(|(number, _)| number).collect();
            let matches = matches.iter().map(Option::unwrap_or_default).collect();
            self.keep(port, names, rows, matches)?;
        }
        self.aside.came_back(found, &self.slots);
        if !self.is_restoring {
            self.count_again(uncounted)?;
        }
        Ok(())
    }
}
