//! The first rows to come of each partition, which stay for ever: of a partition no more is known than how many those are.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::TopNNode;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::ages::Ages;
use super::super::aside::{Aside, keys_of_bytes};
use super::super::emit::Emitter;
use super::super::evaluate::{evaluation_error, internal};
use super::super::keys::{key_type, keys_of};
use super::super::packer::PackedRows;
use super::super::slots::Slots;
use super::super::state_rows::StateRows;
use super::super::{Operator, OperatorContext, Output};

const TABLE: &str = "partitions";

pub struct FirstRows {
    node: TopNNode,
    context: OperatorContext,
    key_types: Vec<DataType>,
    slots: Slots,
    /// Rows of each partition that came, up to the limit, by slot.
    came: Vec<i64>,
    /// Slots whose number has changed since the last snapshot, and whether one is among them.
    unsaved: Vec<u32>,
    is_unsaved: Vec<bool>,
    /// Which partitions stand in the state.
    is_saved: Vec<bool>,
    ages: Ages,
    /// Rows with their key columns.
    aside: Aside<(RecordBatch, Vec<ArrayRef>)>,
    state: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
    found: Vec<u32>,
}

impl FirstRows {
    pub fn new(node: &TopNNode, context: OperatorContext) -> Result<Self> {
        let input = context.inputs.first().ok_or_else(|| Error::internal("a Top-N has one input"))?;
        let key_types: Vec<DataType> =
            node.partition_by.iter().map(|column| key_type(input.field(*column).data_type())).collect();
        let mut fields: Vec<Field> = key_types
            .iter()
            .enumerate()
            .map(|(at, data_type)| Field::new(format!("key_{at}"), data_type.clone(), true))
            .collect();
        if fields.is_empty() {
            // A table has a key; there is one partition.
            fields.push(Field::new("key_0", DataType::Int8, false));
        }
        fields.push(Field::new("rows", DataType::Int64, false));
        let entry = key_types.iter().cloned().chain([DataType::Int64]).collect();
        // Without a key there is nothing that could go.
        let aside = Aside::new(context.spills && !key_types.is_empty(), &[entry])?;
        Ok(Self {
            node: node.clone(),
            slots: Slots::new(&key_types).map_err(|e| evaluation_error(&context.name, &e))?,
            key_types,
            came: Vec::new(),
            unsaved: Vec::new(),
            is_unsaved: Vec::new(),
            is_saved: Vec::new(),
            ages: Ages::new(context.ttl_ms[0]),
            aside,
            state: StateRows::new(fields, context.key_groups),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            found: Vec::new(),
            context,
        })
    }

    fn find(&mut self, keys: &[ArrayRef], rows: usize, found: &mut Vec<u32>) -> Result<()> {
        let added = self.slots.find_or_add(keys, rows, found);
        added.map_err(|e| evaluation_error(&self.context.name, &e))?;
        self.came.resize(self.slots.len(), 0);
        self.is_unsaved.resize(self.slots.len(), false);
        self.is_saved.resize(self.slots.len(), false);
        self.aside.residence.grow(self.slots.len());
        self.aside.residence.touch(found.iter().copied());
        self.ages.touch(found);
        Ok(())
    }

    fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.slots.keys(slots).map_err(|e| evaluation_error(&self.context.name, &e))
    }

    fn take(&mut self, rows: RecordBatch, keys: &[ArrayRef], out: &mut Output) -> Result<()> {
        let mut found = std::mem::take(&mut self.found);
        self.find(keys, rows.num_rows(), &mut found)?;
        let (skip, limit) = (self.node.skip as i64, self.node.limit as i64);
        let (mut picked, mut ranks) = (Vec::new(), Vec::new());
        for (row, slot) in found.iter().enumerate() {
            let came = &mut self.came[*slot as usize];
            if *came == limit {
                continue;
            }
            *came += 1;
            if *came > skip {
                picked.push(row as u32);
                ranks.push(*came);
            }
            if !std::mem::replace(&mut self.is_unsaved[*slot as usize], true) {
                self.unsaved.push(*slot);
                self.aside.residence.change([*slot]);
            }
        }
        self.found = found;
        if picked.is_empty() {
            return Ok(());
        }
        let rows = match picked.len() == rows.num_rows() {
            true => rows,
            false => take_record_batch(&rows, &UInt32Array::from(picked)).map_err(internal)?,
        };
        let count = rows.num_rows();
        let mut columns = rows.columns().to_vec();
        if self.node.rank_column.is_some() {
            columns.push(Arc::new(Int64Array::from(ranks)));
        }
        self.counts.rows_out += self.emitter.emit(columns, count, out)?;
        Ok(())
    }

    /// Partitions that are saved, each with its number of rows.
    fn put_back(&mut self, keys: &[ArrayRef], came: &ArrayRef) -> Result<()> {
        let mut found = Vec::new();
        self.find(keys, came.len(), &mut found)?;
        for (slot, came) in found.iter().zip(came.as_primitive::<Int64Type>().values()) {
            self.came[*slot as usize] = *came;
            self.is_saved[*slot as usize] = true;
        }
        Ok(())
    }

    /// Key columns as the table has them, which has one at least.
    fn columns(keys: &[ArrayRef], rows: usize) -> Vec<ArrayRef> {
        if keys.is_empty() { vec![Arc::new(Int8Array::from_value(0, rows))] } else { keys.to_vec() }
    }
}

impl Operator for FirstRows {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        self.counts.accumulated += rows.num_rows() as u64;
        let keys = keys_of(&rows, &self.node.partition_by, &self.key_types);
        let keys = keys.map_err(|e| evaluation_error(&self.context.name, &e))?;
        let asked = self.aside.missing(&self.slots, &keys, None);
        let asked = asked.map_err(|e| evaluation_error(&self.context.name, &e))?;
        match self.aside.arrive((rows, keys), asked) {
            Some((rows, keys)) => self.take(rows, &keys, out),
            None => Ok(()),
        }
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some((rows, keys)) = self.aside.arrived() else { return Ok(false) };
        self.take(rows, &keys, out)?;
        Ok(false)
    }

    /// Partitions that are too old begin anew.
    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        for slot in self.ages.too_old(now_ms) {
            self.came[slot as usize] = 0;
            if !std::mem::replace(&mut self.is_unsaved[slot as usize], true) {
                self.unsaved.push(slot);
            }
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        self.ages.next_timer()
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec {
            name: TABLE.to_owned(),
            schema: Arc::clone(self.state.schema()),
            key_columns: self.key_types.len().max(1),
            time_column: None,
            append_only: false,
        }]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let unsaved = std::mem::take(&mut self.unsaved);
        unsaved.iter().for_each(|slot| self.is_unsaved[*slot as usize] = false);
        let (there, gone): (Vec<u32>, Vec<u32>) = unsaved.into_iter().partition(|slot| self.came[*slot as usize] > 0);
        let keys = self.keys(&there)?;
        let mut columns = Self::columns(&keys, there.len());
        columns.push(Arc::new(Int64Array::from_iter_values(there.iter().map(|slot| self.came[*slot as usize]))));
        let upserts = vec![self.state.batch(&keys, columns, there.len())?];
        let saved: Vec<u32> = gone.iter().copied().filter(|slot| self.is_saved[*slot as usize]).collect();
        let keys = self.keys(&saved)?;
        let deletes = vec![self.state.keys(&keys, Self::columns(&keys, saved.len()), saved.len())?];
        there.iter().for_each(|slot| self.is_saved[*slot as usize] = true);
        for slot in gone {
            self.is_saved[slot as usize] = false;
            self.aside.gone(slot, &self.slots);
            self.slots.remove(slot);
            self.ages.gone(slot);
        }
        Ok(vec![TableDelta { table: TABLE.to_owned(), upserts, deletes, closed: None }])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if table != TABLE {
            return Err(Error::internal(format!("first rows have no state table `{table}`")));
        }
        self.put_back(&rows.columns()[1..=self.key_types.len()], rows.column(rows.num_columns() - 1))
    }

    fn wanted(&mut self) -> Option<Keys> {
        self.aside.wanted()
    }

    fn bring_back(&mut self, found: &Entries) -> Result<()> {
        for PackedRows { mut columns, .. } in self.aside.unpack(found.iter().filter_map(|(_, value)| value))? {
            if let Some(came) = columns.pop() {
                self.put_back(&columns, &came)?;
            }
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
        let (came, is_unsaved) = (&self.came, &self.is_unsaved);
        let may_go = |slot: u32| came[slot as usize] > 0 && !is_unsaved[slot as usize];
        let picked = self.aside.residence.pick(count, may_go);
        let written: Vec<u32> = picked.iter().copied().filter(|slot| self.aside.residence.leaves(*slot)).collect();
        let mut columns = self.keys(&written)?;
        columns.push(Arc::new(Int64Array::from_iter_values(written.iter().map(|slot| self.came[*slot as usize]))));
        let rows = PackedRows { columns, counts: vec![1; written.len()] };
        self.aside.pack(written.iter().map(|slot| self.slots.key(*slot)), &[rows], &mut entries)?;
        for slot in picked {
            self.came[slot as usize] = 0;
            self.is_saved[slot as usize] = false;
            self.slots.remove(slot);
        }
        Ok(entries)
    }

    fn state_bytes(&self) -> usize {
        let by_slot = self.slots.share(self.came.capacity() * 10);
        self.slots.used_bytes() + by_slot + self.unsaved.capacity() * 4 + self.ages.bytes() + self.aside.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
