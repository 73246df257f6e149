//! The row that each key has become, kept so that it can be taken back.
//!
//! Rows of an upsert changelog say what a key is, and not what it was. What must never happen: a row that is taken back
//! unlike it was given.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take_record_batch};
use arrow::datatypes::{DataType, Field};
use qanat_proto::changelog::{self, Changelog, RowKind, without_kinds};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::LatestRowsNode;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

use super::ages::Ages;
use super::aside::{Aside, keys_of_bytes};
use super::emit::{Emitter, batch_of};
use super::evaluate::{evaluation_error, internal, split_kinds};
use super::kept_rows::KeptRows;
use super::keys::{any_different, key_type, keys_of};
use super::packer::PackedRows;
use super::slots::Slots;
use super::state_rows::StateRows;
use super::{Operator, OperatorContext, Output};

const ROWS: &str = "rows";

/// Key has changed since it was saved.
const UNSAVED: u8 = 1;
/// Key stands in the state.
const SAVED: u8 = 2;

pub struct LatestRows {
    node: LatestRowsNode,
    context: OperatorContext,
    key_types: Vec<DataType>,
    /// Whether what is told takes back what was told before.
    tells_before: bool,
    slots: Slots,
    rows: KeptRows,
    /// By slot: the number of its row. None: there is none.
    latest: Vec<Option<i64>>,
    flags: Vec<u8>,
    unsaved: Vec<u32>,
    ages: Ages,
    aside: Aside<Arriving>,
    state: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
    /// By slot, while a batch is taken: its last row there.
    last: Vec<u32>,
}

/// Rows without their kinds, with their key columns.
struct Arriving {
    rows: RecordBatch,
    kinds: Vec<i8>,
    keys: Vec<ArrayRef>,
}

/// No row of the batch.
const NONE: u32 = u32::MAX;

impl LatestRows {
    pub fn new(node: &LatestRowsNode, context: OperatorContext) -> Result<Self> {
        let input = context.inputs.first().ok_or_else(|| Error::internal("rows of keys have one input"))?;
        let columns = without_kinds(input);
        let key_types: Vec<DataType> = node.key.iter().map(|key| key_type(columns.field(*key).data_type())).collect();
        let entry = key_types.iter().cloned().chain(columns.fields().iter().map(|field| field.data_type().clone()));
        let aside = Aside::new(context.spills && !node.key.is_empty(), &[entry.collect()])?;
        let keys = key_types.iter().enumerate().map(|(at, of)| Field::new(format!("key_{at}"), of.clone(), true));
        let fields = columns.fields().iter().enumerate();
        let fields = fields.map(|(at, field)| field.as_ref().clone().with_name(format!("column_{at}")));
        Ok(Self {
            node: node.clone(),
            tells_before: matches!(context.changelog, Changelog::Retract),
            slots: Slots::new(&key_types).map_err(|e| evaluation_error(&context.name, &e))?,
            rows: KeptRows::new(Arc::clone(&columns)),
            latest: Vec::new(),
            flags: Vec::new(),
            unsaved: Vec::new(),
            ages: Ages::new(context.ttl_ms[0]),
            aside,
            state: StateRows::new(keys.chain(fields).collect(), context.key_groups),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            last: Vec::new(),
            key_types,
            context,
        })
    }

    fn slots_of(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        self.slots.find_or_add(keys, rows, &mut found).map_err(|e| evaluation_error(&self.context.name, &e))?;
        self.latest.resize(self.slots.len(), None);
        self.flags.resize(self.slots.len(), 0);
        self.last.resize(self.slots.len(), NONE);
        self.aside.residence.grow(self.slots.len());
        self.aside.residence.touch(found.iter().copied());
        self.ages.touch(&found);
        Ok(found)
    }

    fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.slots.keys(slots).map_err(|e| evaluation_error(&self.context.name, &e))
    }

    /// Takes the last row of each key of the batch; those before it were never seen.
    fn take(&mut self, arriving: &Arriving, out: &mut Output) -> Result<()> {
        let Arriving { rows, kinds, keys } = arriving;
        let found = self.slots_of(keys, rows.num_rows())?;
        let mut touched = Vec::new();
        for (row, slot) in found.iter().enumerate() {
            if std::mem::replace(&mut self.last[*slot as usize], row as u32) == NONE {
                touched.push(*slot);
            }
        }
        let fates: Vec<u32> =
            touched.iter().map(|slot| std::mem::replace(&mut self.last[*slot as usize], NONE)).collect();
        let befores: Vec<Option<i64>> = touched.iter().map(|slot| self.latest[*slot as usize]).collect();
        // Rows that are there, as they were and as they come.
        let old = self.rows.gather(&befores)?;
        let new = take_record_batch(rows, &UInt32Array::from(fates.clone())).map_err(internal)?;
        let mut differs = vec![false; touched.len()];
        for (old, new) in old.iter().zip(new.columns()) {
            let different = any_different(old, new).map_err(|e| evaluation_error(&self.context.name, &e))?;
            differs.iter_mut().zip(&different).for_each(|(any, differs)| *any |= differs);
        }
        let (mut places, mut told) = (Vec::new(), Vec::new());
        let (mut gone, mut kept, mut keepers) = (Vec::new(), Vec::new(), Vec::new());
        for (at, slot) in touched.iter().enumerate() {
            let is_added = changelog::is_added(kinds[fates[at] as usize]);
            let before = befores[at];
            if before.is_some() && is_added && !differs[at] {
                continue;
            }
            self.touch(*slot);
            self.latest[*slot as usize] = None;
            if before.is_some() && (self.tells_before || !is_added) {
                places.push((0, at));
                told.push(if is_added { RowKind::UpdateBefore } else { RowKind::Delete }.code());
            }
            gone.extend(before);
            if is_added {
                places.push((1, at));
                told.push(if before.is_some() { RowKind::UpdateAfter } else { RowKind::Insert }.code());
                kept.push(at as u32);
                keepers.push(*slot);
            }
        }
        let columns = old.iter().zip(new.columns());
        let columns = columns.map(|(old, new)| interleave(&[old.as_ref(), new.as_ref()], &places));
        let mut columns = columns.collect::<Result<Vec<_>, _>>().map_err(internal)?;
        columns.push(Arc::new(Int8Array::from(told)));
        self.counts.rows_out += self.emitter.emit(columns, places.len(), out)?;
        self.rows.remove(&gone)?;
        self.keep(&new, kept, &keepers)
    }

    fn touch(&mut self, slot: u32) {
        let flags = &mut self.flags[slot as usize];
        if *flags & UNSAVED == 0 {
            *flags |= UNSAVED;
            self.unsaved.push(slot);
        }
        self.aside.residence.change([slot]);
    }

    /// Rows of keys that are saved.
    fn put_back(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        let (keys, columns) = columns.split_at(self.key_types.len());
        let found = self.slots_of(keys, rows)?;
        let kept = batch_of(self.rows.schema(), columns.to_vec(), rows)?;
        self.keep(&kept, (0..rows as u32).collect(), &found)?;
        found.iter().for_each(|slot| self.flags[*slot as usize] = SAVED);
        Ok(())
    }

    fn keep(&mut self, rows: &RecordBatch, kept: Vec<u32>, slots: &[u32]) -> Result<()> {
        let rows = take_record_batch(rows, &UInt32Array::from(kept)).map_err(internal)?;
        let count = rows.num_rows();
        let first = self.rows.append(rows, vec![0; count])?;
        for (slot, number) in slots.iter().zip(first..) {
            self.latest[*slot as usize] = Some(number);
        }
        Ok(())
    }
}

impl Operator for LatestRows {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let (rows, kinds) = split_kinds(&rows)?;
        self.counts.rows_in += rows.num_rows() as u64;
        self.counts.accumulated += rows.num_rows() as u64;
        let keys = keys_of(&rows, &self.node.key, &self.key_types);
        let keys = keys.map_err(|e| evaluation_error(&self.context.name, &e))?;
        let asked = self.aside.missing(&self.slots, &keys, None);
        let asked = asked.map_err(|e| evaluation_error(&self.context.name, &e))?;
        match self.aside.arrive(Arriving { rows, kinds, keys }, asked) {
            Some(arriving) => self.take(&arriving, out),
            None => Ok(()),
        }
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(arriving) = self.aside.arrived() else { return Ok(false) };
        self.take(&arriving, out)?;
        Ok(false)
    }

    /// Keys that are too old go; what was told of them stays.
    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        let old = self.ages.too_old(now_ms);
        let gone: Vec<i64> = old.iter().filter_map(|slot| self.latest[*slot as usize].take()).collect();
        old.into_iter().for_each(|slot| self.touch(slot));
        self.rows.remove(&gone).map(drop)
    }

    fn next_timer(&self) -> Option<i64> {
        self.ages.next_timer()
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec {
            name: ROWS.to_owned(),
            schema: Arc::clone(self.state.schema()),
            key_columns: self.key_types.len(),
            time_column: None,
            append_only: false,
        }]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let (there, gone): (Vec<u32>, Vec<u32>) =
            unsaved.into_iter().partition(|slot| self.latest[*slot as usize].is_some());
        let keys = self.keys(&there)?;
        let numbers: Vec<Option<i64>> = there.iter().map(|slot| self.latest[*slot as usize]).collect();
        let columns = keys.iter().cloned().chain(self.rows.gather(&numbers)?).collect();
        let upserts = self.state.batch(&keys, columns, there.len())?;
        let saved: Vec<u32> = gone.iter().filter(|slot| self.flags[**slot as usize] & SAVED != 0).copied().collect();
        let keys = self.keys(&saved)?;
        let deletes = self.state.keys(&keys, keys.clone(), saved.len())?;
        for slot in there {
            self.flags[slot as usize] = SAVED;
        }
        for slot in gone {
            self.flags[slot as usize] = 0;
            self.aside.gone(slot, &self.slots);
            self.slots.remove(slot);
            self.ages.gone(slot);
        }
        let (upserts, deletes) = (vec![upserts], vec![deletes]);
        Ok(vec![TableDelta { table: ROWS.to_owned(), upserts, deletes, closed: None }])
    }

    fn restore(&mut self, _table: &str, rows: RecordBatch) -> Result<()> {
        // Behind the key group.
        self.put_back(&rows.columns()[1..], rows.num_rows())
    }

    fn wanted(&mut self) -> Option<Keys> {
        self.aside.wanted()
    }

    fn bring_back(&mut self, found: &Entries) -> Result<()> {
        for PackedRows { columns, counts } in self.aside.unpack(found.iter().filter_map(|(_, value)| value))? {
            self.put_back(&columns, counts.len())?;
        }
        self.aside.came_back(found, &self.slots);
        Ok(())
    }

    fn put_aside(&mut self, bytes: usize) -> Result<Entries> {
        let mut entries = Entries::default();
        if !self.aside.may_pack() {
            return Ok(entries);
        }
        self.aside.dropped.take(&mut entries);
        let count = keys_of_bytes(bytes, self.state_bytes(), self.slots.used());
        let flags = &self.flags;
        let picked = self.aside.residence.pick(count, |slot| flags[slot as usize] == SAVED);
        let written: Vec<u32> = picked.iter().copied().filter(|slot| self.aside.residence.leaves(*slot)).collect();
        let numbers: Vec<Option<i64>> = written.iter().map(|slot| self.latest[*slot as usize]).collect();
        let columns = self.keys(&written)?.into_iter().chain(self.rows.gather(&numbers)?).collect();
        let rows = PackedRows { columns, counts: vec![1; written.len()] };
        self.aside.pack(written.iter().map(|slot| self.slots.key(*slot)), &[rows], &mut entries)?;
        let gone: Vec<i64> = picked.iter().filter_map(|slot| self.latest[*slot as usize].take()).collect();
        self.rows.remove(&gone)?;
        for slot in picked {
            self.flags[slot as usize] = 0;
            self.slots.remove(slot);
        }
        Ok(entries)
    }

    fn state_bytes(&self) -> usize {
        let by_slot = self.latest.capacity() * 16 + self.flags.capacity() * 5;
        let keys = self.slots.used_bytes() + self.slots.share(by_slot);
        self.rows.bytes() + keys + self.ages.bytes() + self.aside.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
