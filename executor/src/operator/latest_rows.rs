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
use qanat_storage::state::{TableDelta, TableSpec};

use super::ages::Ages;
use super::emit::{Emitter, batch_of};
use super::evaluate::{evaluation_error, internal, split_kinds};
use super::kept_rows::KeptRows;
use super::keys::{any_different, key_type, keys_of};
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
    state: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
    /// By slot, while a batch is taken: its last row there.
    last: Vec<u32>,
}

/// No row of the batch.
const NONE: u32 = u32::MAX;

impl LatestRows {
    pub fn new(node: &LatestRowsNode, context: OperatorContext) -> Result<Self> {
        let input = context.inputs.first().ok_or_else(|| Error::internal("rows of keys have one input"))?;
        let columns = without_kinds(input);
        let key_types: Vec<DataType> = node.key.iter().map(|key| key_type(columns.field(*key).data_type())).collect();
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
            ages: Ages::new(context.ttl_ms),
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
        Ok(found)
    }

    fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.slots.keys(slots).map_err(|e| evaluation_error(&self.context.name, &e))
    }

    /// Takes the last row of each key of the batch; those before it were never seen.
    fn take(&mut self, rows: &RecordBatch, kinds: &[i8], found: &[u32], out: &mut Output) -> Result<()> {
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
        let found = self.slots_of(&keys, rows.num_rows())?;
        self.ages.touch(&found);
        self.take(&rows, &kinds, &found, out)
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
            self.slots.remove(slot);
            self.ages.gone(slot);
        }
        let (upserts, deletes) = (vec![upserts], vec![deletes]);
        Ok(vec![TableDelta { table: ROWS.to_owned(), upserts, deletes, closed: None }])
    }

    fn restore(&mut self, _table: &str, rows: RecordBatch) -> Result<()> {
        // Behind the key group.
        let (keys, columns) = rows.columns()[1..].split_at(self.key_types.len());
        let found = self.slots_of(keys, rows.num_rows())?;
        self.ages.touch(&found);
        let kept = batch_of(self.rows.schema(), columns.to_vec(), rows.num_rows())?;
        let all = (0..rows.num_rows() as u32).collect();
        self.keep(&kept, all, &found)?;
        found.iter().for_each(|slot| self.flags[*slot as usize] = SAVED);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
            + self.slots.bytes()
            + self.latest.capacity() * 16
            + self.flags.capacity() * 5
            + self.ages.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
