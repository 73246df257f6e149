//! The operator: lists of all partitions, what was told of them, and what is to be saved.
//!
//! A partition that changes is *due* until it is told; the numbers of its rows as they were told before are taken aside
//! when it becomes due. Rows that leave a list are kept until then, since they may have to be taken back. It is told
//! before every barrier, so that what is saved has been told. What must never happen: a row that is taken back unlike it
//! was given, or a partition that is told and not saved.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::DataFusionError;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::changelog::{Changelog, RowKind, has_kinds, is_added, without_kinds};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{RankFunction, Ties, TopNNode};
use qanat_proto::receipt::OperatorCounts;
use qanat_sql::expr;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::ages::{Ages, earlier};
use super::super::aside::{Aside, keys_of_bytes};
use super::super::emit::{Emitter, batch_of};
use super::super::evaluate::{Expression, evaluate_or_bury, evaluation_error, internal, split_kinds, values};
use super::super::kept_rows::KeptRows;
use super::super::keys::{key_type, keys_of, normalized_float};
use super::super::mini_batch::MiniBatch;
use super::super::packer::PackedRows;
use super::super::slots::Slots;
use super::super::state_rows::StateRows;
use super::super::{Operator, OperatorContext, Output};
use super::list::{Key, List, Place};

const TABLE: &str = "rows";
/// Partitions that are due, or rows that left their lists, before all is told without waiting.
const DUE_MAX: usize = 1 << 16;
/// Rows that are told at once.
const TOLD_AT_ONCE: usize = 1 << 14;

pub struct TopN {
    node: TopNNode,
    context: OperatorContext,
    order: Vec<Expression>,
    converter: RowConverter,
    hasher: RowHasher,
    partition_types: Vec<DataType>,
    /// Whether rows may be taken back: then all are kept.
    retracts: bool,
    /// Whether what is told takes back what was told before.
    tells_before: bool,
    slots: Slots,
    /// By slot.
    lists: Vec<List>,
    is_due: Vec<bool>,
    /// Slots that are due, in order, with the numbers and ranks that were told of them.
    due: Vec<(u32, Vec<(i64, i64)>)>,
    rows: KeptRows,
    /// Rows that left their lists since something was told.
    left: Vec<i64>,
    /// Names of rows that are gone and stand in the state.
    gone: Vec<RecordBatch>,
    state: StateRows,
    lists_bytes: usize,
    mini_batch: MiniBatch,
    ages: Ages,
    aside: Aside<Arriving>,
    emitter: Emitter,
    counts: OperatorCounts,
    /// Slots of the rows of a batch.
    found: Vec<u32>,
}

/// What comes: a batch with what orders it, or rows of the state.
enum Arriving {
    Batch { rows: RecordBatch, kinds: Vec<i8>, order: Vec<ArrayRef> },
    State { names: Vec<i64>, rows: RecordBatch },
}

/// A partition with more rows stays in memory.
const ROWS_MAX: usize = 1 << 14;

/// Rows to tell of.
#[derive(Default)]
struct Told {
    numbers: Vec<Option<i64>>,
    ranks: Vec<i64>,
    kinds: Vec<i8>,
}

impl Told {
    fn push(&mut self, (number, rank): (i64, i64), kind: RowKind) {
        self.numbers.push(Some(number));
        self.ranks.push(rank);
        self.kinds.push(kind.code());
    }
}

impl TopN {
    pub fn new(node: &TopNNode, context: OperatorContext) -> Result<Self> {
        let input = context.inputs.first().ok_or_else(|| Error::internal("a Top-N has one input"))?;
        let schema = without_kinds(input);
        let (mut order, mut sorts) = (Vec::new(), Vec::new());
        for key in &node.order_by {
            let expression = expr::physical(&key.expr, input)?;
            let data_type = expression.data_type(input).map_err(|e| evaluation_error(&context.name, &e))?;
            let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
            sorts.push(SortField::new_with_options(data_type, options));
            order.push(expression);
        }
        let partition_types: Vec<DataType> =
            node.partition_by.iter().map(|column| key_type(schema.field(*column).data_type())).collect();
        let entry = [DataType::Int64].into_iter().chain(schema.fields().iter().map(|field| field.data_type().clone()));
        // Without a key there is nothing that could go.
        let aside = Aside::new(context.spills && !partition_types.is_empty(), &[entry.collect()])?;
        let mut fields = vec![Field::new("name", DataType::Int64, false)];
        let columns = schema.fields().iter().enumerate();
        fields.extend(columns.map(|(at, field)| field.as_ref().clone().with_name(format!("column_{at}"))));
        Ok(Self {
            node: node.clone(),
            order,
            converter: RowConverter::new(sorts).map_err(internal)?,
            hasher: RowHasher::default(),
            slots: Slots::new(&partition_types).map_err(|e| evaluation_error(&context.name, &e))?,
            partition_types,
            retracts: has_kinds(input),
            tells_before: matches!(context.changelog, Changelog::Retract),
            lists: Vec::new(),
            is_due: Vec::new(),
            due: Vec::new(),
            rows: KeptRows::new(schema),
            left: Vec::new(),
            gone: Vec::new(),
            state: StateRows::new(fields, context.key_groups),
            lists_bytes: 0,
            mini_batch: MiniBatch::new(node.mini_batch_ms),
            ages: Ages::new(context.ttl_ms[0]),
            aside,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            found: Vec::new(),
            context,
        })
    }

    fn error(&self, error: &DataFusionError) -> Error {
        evaluation_error(&self.context.name, error)
    }

    /// Slot of each row's partition into `found`.
    fn find_partitions(&mut self, rows: &RecordBatch, found: &mut Vec<u32>) -> Result<()> {
        let keys = keys_of(rows, &self.node.partition_by, &self.partition_types).map_err(|e| self.error(&e))?;
        self.slots.find_or_add(&keys, rows.num_rows(), found).map_err(|e| evaluation_error(&self.context.name, &e))?;
        self.lists.resize_with(self.slots.len(), List::default);
        self.is_due.resize(self.slots.len(), false);
        self.aside.residence.grow(self.slots.len());
        self.aside.residence.touch(found.iter().copied());
        self.ages.touch(found);
        Ok(())
    }

    /// What rows are ordered by; None if by nothing but their ties.
    fn keys(&self, order: &[ArrayRef]) -> Result<Option<Rows>> {
        if order.is_empty() {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = order.iter().map(normalized_float).collect();
        self.converter.convert_columns(&columns).map(Some).map_err(internal)
    }

    /// What orders rows of equal keys. `names`: of the rows.
    fn ties(&mut self, rows: &RecordBatch, names: impl Iterator<Item = i64>) -> Result<Vec<u64>> {
        Ok(match self.node.ties {
            Ties::Oldest => names.take(rows.num_rows()).map(i64::cast_unsigned).collect(),
            Ties::Newest => names.take(rows.num_rows()).map(|name| !name.cast_unsigned()).collect(),
            Ties::Contents => {
                let groups: Vec<u32> = (0..rows.num_rows() as u32).collect();
                let sums = self.hasher.sum_by_group(rows, &groups, groups.len())?;
                sums.into_iter().map(|sum| sum.hash.0 as u64).collect()
            }
        })
    }

    /// A partition is about to change.
    fn touch(&mut self, slot: u32) {
        if std::mem::replace(&mut self.is_due[slot as usize], true) {
            return;
        }
        self.aside.residence.change([slot]);
        let TopNNode { function, skip, limit, .. } = self.node;
        self.due.push((slot, self.lists[slot as usize].ranked(function, skip, limit)));
    }

    fn put(&mut self, slot: u32, place: Place) {
        self.touch(slot);
        let TopNNode { function, limit, .. } = self.node;
        let list = &mut self.lists[slot as usize];
        let before = list.bytes();
        if self.retracts {
            list.insert(place);
        } else if limit == 1 && function == RankFunction::RowNumber {
            self.left.extend(list.keep_first(place));
        } else {
            list.insert(place);
            list.cut(function, limit, &mut self.left);
        }
        self.lists_bytes = (self.lists_bytes + list.bytes()).saturating_sub(before);
    }

    /// Rows that are all new: only those that may be among the first are kept.
    fn add(&mut self, rows: &RecordBatch, keys: Option<&Rows>, found: &[u32]) -> Result<()> {
        let TopNNode { function, limit, .. } = self.node;
        let bytes = |row: usize| keys.map_or(&[][..], |keys| keys.row(row).data());
        // Of equal ones as many are kept as there are different ones.
        let drops = function != RankFunction::DenseRank;
        let is_last = self.node.ties == Ties::Oldest && function == RankFunction::RowNumber;
        let is_beyond = |row: &usize| self.lists[found[*row] as usize].is_beyond(bytes(*row), is_last, limit);
        let candidates = (0..rows.num_rows()).filter(|row| !(drops && is_beyond(row)));
        let candidates: Vec<u32> = candidates.map(|row| row as u32).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let kept = match candidates.len() == rows.num_rows() {
            true => rows.clone(),
            false => take_record_batch(rows, &UInt32Array::from(candidates.clone())).map_err(internal)?,
        };
        let ties = self.ties(&kept, self.rows.next_name()..i64::MAX)?;
        let first = self.rows.append(kept, vec![0; candidates.len()])?;
        for ((row, tie), number) in candidates.into_iter().zip(ties).zip(first..) {
            let key = Key::new(bytes(row as usize));
            self.put(found[row as usize], Place { key, tie, number });
        }
        Ok(())
    }

    /// Rows that are new or taken back, in their order.
    fn change(&mut self, rows: &RecordBatch, kinds: &[i8], keys: Option<&Rows>, found: &[u32]) -> Result<()> {
        let added: Vec<u32> = (0..rows.num_rows() as u32).filter(|row| is_added(kinds[*row as usize])).collect();
        let new = match added.len() == rows.num_rows() {
            true => rows.clone(),
            false => take_record_batch(rows, &UInt32Array::from(added.clone())).map_err(internal)?,
        };
        let ties = self.ties(rows, std::iter::empty())?;
        let mut number = self.rows.append(new, vec![0; added.len()])?;
        for row in 0..rows.num_rows() {
            let key = Key::new(keys.map_or(&[], |keys| keys.row(row).data()));
            let (slot, tie) = (found[row], ties[row]);
            if is_added(kinds[row]) {
                self.put(slot, Place { key, tie, number });
                number += 1;
                continue;
            }
            self.touch(slot);
            let list = &mut self.lists[slot as usize];
            let before = list.bytes();
            self.left.extend(list.remove(&key, tie));
            self.lists_bytes = (self.lists_bytes + list.bytes()).saturating_sub(before);
        }
        Ok(())
    }

    /// Tells of all partitions that are due.
    fn tell(&mut self, out: &mut Output) -> Result<()> {
        self.mini_batch.end();
        let mut told = Told::default();
        for (slot, before) in std::mem::take(&mut self.due) {
            self.is_due[slot as usize] = false;
            let TopNNode { function, skip, limit, .. } = self.node;
            let list = &self.lists[slot as usize];
            self.compare(&before, &list.ranked(function, skip, limit), &mut told);
            if list.is_empty() {
                self.aside.gone(slot, &self.slots);
                self.slots.remove(slot);
                self.ages.gone(slot);
            }
            if told.kinds.len() >= TOLD_AT_ONCE {
                self.emit(std::mem::take(&mut told), out)?;
            }
        }
        self.emit(told, out)?;
        self.forget()
    }

    /// What is to be told of a partition.
    fn compare(&self, before: &[(i64, i64)], now: &[(i64, i64)], told: &mut Told) {
        if self.node.tells_by_rank() {
            for at in 0..before.len().max(now.len()) {
                match (before.get(at), now.get(at)) {
                    (Some(old), Some(new)) if old == new => {}
                    (Some(old), Some(new)) => {
                        if self.tells_before {
                            told.push(*old, RowKind::UpdateBefore);
                        }
                        told.push(*new, RowKind::UpdateAfter);
                    }
                    (Some(old), None) => told.push(*old, RowKind::Delete),
                    (None, Some(new)) => told.push(*new, RowKind::Insert),
                    (None, None) => {}
                }
            }
            return;
        }
        let has_rank = self.node.rank_column.is_some();
        let of = |row: &(i64, i64)| (row.0, if has_rank { row.1 } else { 0 });
        let rows = |rows: &[(i64, i64)]| rows.iter().map(of).collect::<HashSet<_>>();
        let (old, new) = (rows(before), rows(now));
        before.iter().filter(|row| !new.contains(&of(row))).for_each(|row| told.push(*row, RowKind::Delete));
        now.iter().filter(|row| !old.contains(&of(row))).for_each(|row| told.push(*row, RowKind::Insert));
    }

    fn emit(&mut self, told: Told, out: &mut Output) -> Result<()> {
        let rows = told.kinds.len();
        if rows == 0 {
            return Ok(());
        }
        let mut columns = self.rows.gather(&told.numbers)?;
        if self.node.rank_column.is_some() {
            columns.push(Arc::new(Int64Array::from(told.ranks)));
        }
        if has_kinds(&self.emitter.schema) {
            columns.push(Arc::new(Int8Array::from(told.kinds)));
        }
        self.counts.rows_out += self.emitter.emit(columns, rows, out)?;
        Ok(())
    }

    /// Partitions are too old; what was told of them stays.
    fn expire(&mut self, old: &[u32]) -> Result<()> {
        let (due, old): (Vec<u32>, Vec<u32>) = old.iter().partition(|slot| self.is_due[**slot as usize]);
        self.ages.touch(&due);
        if old.is_empty() {
            return Ok(());
        }
        // Rows that others have to take back yet stay.
        let waiting = std::mem::take(&mut self.left);
        for slot in old {
            let list = std::mem::take(&mut self.lists[slot as usize]);
            self.lists_bytes = self.lists_bytes.saturating_sub(list.bytes());
            self.left.extend(list.numbers());
            self.slots.remove(slot);
        }
        self.forget()?;
        self.left = waiting;
        Ok(())
    }

    /// Rows come. What they need and was put aside is asked for at first.
    fn arrive(&mut self, arriving: Arriving, out: Option<&mut Output>) -> Result<()> {
        if !self.aside.residence.is_any_away() {
            return self.take_in(arriving, out);
        }
        let (Arriving::Batch { rows, .. } | Arriving::State { rows, .. }) = &arriving;
        let keys = keys_of(rows, &self.node.partition_by, &self.partition_types).map_err(|e| self.error(&e))?;
        let asked = self.aside.missing(&self.slots, &keys, None).map_err(|e| self.error(&e))?;
        match self.aside.arrive(arriving, asked) {
            Some(arriving) => self.take_in(arriving, out),
            None => Ok(()),
        }
    }

    /// What was asked for is there. `out`: of a batch.
    fn take_in(&mut self, arriving: Arriving, out: Option<&mut Output>) -> Result<()> {
        match (arriving, out) {
            (Arriving::State { names, rows }, _) => {
                let found = self.put_back(names, rows)?;
                self.aside.residence.change(found);
                Ok(())
            }
            (Arriving::Batch { rows, kinds, order }, Some(out)) => self.update(&rows, &kinds, &order, out),
            (Arriving::Batch { .. }, None) => Err(Error::internal("rows of a batch came from the state")),
        }
    }

    fn update(&mut self, rows: &RecordBatch, kinds: &[i8], order: &[ArrayRef], out: &mut Output) -> Result<()> {
        let mut found = std::mem::take(&mut self.found);
        self.find_partitions(rows, &mut found)?;
        let keys = self.keys(order)?;
        match self.retracts {
            true => self.change(rows, kinds, keys.as_ref(), &found)?,
            false => self.add(rows, keys.as_ref(), &found)?,
        }
        self.found = found;
        if self.due.len().max(self.left.len()) >= DUE_MAX {
            return self.tell(out);
        }
        if !self.due.is_empty() {
            self.mini_batch.begin();
        }
        Ok(())
    }

    /// Rows of the state with their names. Returns their slots.
    fn put_back(&mut self, names: Vec<i64>, rows: RecordBatch) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        self.find_partitions(&rows, &mut found)?;
        let order = self.order.iter().map(|e| values(e, &rows)).collect::<Result<Vec<_>, _>>();
        let keys = self.keys(&order.map_err(|e| self.error(&e))?)?;
        let ties = self.ties(&rows, names.iter().copied())?;
        let first = self.rows.restore(names, rows)?;
        for (((row, slot), tie), number) in found.iter().enumerate().zip(ties).zip(first..) {
            let key = Key::new(keys.as_ref().map_or(&[], |keys| keys.row(row).data()));
            let list = &mut self.lists[*slot as usize];
            let before = list.bytes();
            list.insert(Place { key, tie, number });
            self.lists_bytes = (self.lists_bytes + list.bytes()).saturating_sub(before);
        }
        Ok(found)
    }

    /// Rows that left their lists are gone.
    fn forget(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.left);
        let saved: Vec<Option<i64>> =
            left.iter().filter(|row| self.rows.is_saved(**row)).map(|row| Some(*row)).collect();
        // As they are spread, for the key groups of their names.
        let columns = if saved.is_empty() { Vec::new() } else { self.rows.gather(&saved)? };
        let names: Vec<i64> = self.rows.remove(&left)?.into_iter().flatten().collect();
        if names.is_empty() {
            return Ok(());
        }
        let by = self.context.partition.first().into_iter().flatten();
        let by: Vec<ArrayRef> = by.map(|column| Arc::clone(&columns[*column])).collect();
        let count = names.len();
        self.gone.push(self.state.keys(&by, vec![Arc::new(Int64Array::from(names))], count)?);
        Ok(())
    }
}

impl Operator for TopN {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        let dead = out.dead.len();
        let order = &self.order;
        let evaluate = |rows: &RecordBatch| order.iter().map(|e| values(e, rows)).collect::<Result<Vec<_>, _>>();
        let evaluated = evaluate_or_bury(&self.context.name, rows, out, evaluate)?;
        let buried: u64 = out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum();
        self.counts.rows_in += taken;
        self.counts.dead_lettered += buried;
        self.counts.accumulated += taken - buried;
        let Some((rows, order)) = evaluated else { return Ok(()) };
        let (rows, kinds) = split_kinds(&rows)?;
        self.arrive(Arriving::Batch { rows, kinds, order }, Some(out))
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(arriving) = self.aside.arrived() else { return Ok(false) };
        self.take_in(arriving, Some(out))?;
        Ok(false)
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<()> {
        let old = self.ages.too_old(now_ms);
        self.expire(&old)?;
        if self.mini_batch.is_due(now_ms) { self.tell(out) } else { Ok(()) }
    }

    fn next_timer(&self) -> Option<i64> {
        earlier(self.mini_batch.next_timer(), self.ages.next_timer())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.tell(out)
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec {
            name: TABLE.to_owned(),
            schema: Arc::clone(self.state.schema()),
            key_columns: 1,
            time_column: None,
            append_only: false,
        }]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let mut upserts = Vec::new();
        for (names, rows) in self.rows.take_unsaved()? {
            let count = rows.num_rows();
            let by = self.context.partition.first().into_iter().flatten();
            let by: Vec<ArrayRef> = by.map(|column| Arc::clone(rows.column(*column))).collect();
            let columns = std::iter::once(Arc::new(names) as ArrayRef).chain(rows.columns().iter().cloned());
            upserts.push(self.state.batch(&by, columns.collect(), count)?);
        }
        let deletes = std::mem::take(&mut self.gone);
        Ok(vec![TableDelta { table: TABLE.to_owned(), upserts, deletes, closed: None }])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if table != TABLE {
            return Err(Error::internal(format!("a Top-N has no state table `{table}`")));
        }
        let names = rows.column(1).as_primitive::<Int64Type>().values().to_vec();
        let rows = batch_of(self.rows.schema(), rows.columns()[2..].to_vec(), rows.num_rows())?;
        self.arrive(Arriving::State { names, rows }, None)
    }

    fn wanted(&mut self) -> Option<Keys> {
        self.aside.wanted()
    }

    fn bring_back(&mut self, found: &Entries) -> Result<()> {
        for PackedRows { mut columns, .. } in self.aside.unpack(found.iter().filter_map(|(_, value)| value))? {
            let rows = columns.split_off(1);
            let names = columns.first().map(|names| names.as_primitive::<Int64Type>().values().to_vec());
            let names = names.unwrap_or_default();
            let rows = batch_of(self.rows.schema(), rows, names.len())?;
            self.put_back(names, rows)?;
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
        let (lists, is_due) = (&self.lists, &self.is_due);
        let may_go = |slot: u32| !is_due[slot as usize] && (1..=ROWS_MAX).contains(&lists[slot as usize].len());
        let picked = self.aside.residence.pick(count, may_go);
        let (mut counts, mut numbers, mut gone, mut written) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for slot in &picked {
            let list = std::mem::take(&mut self.lists[*slot as usize]);
            self.lists_bytes = self.lists_bytes.saturating_sub(list.bytes());
            let of_list = list.numbers();
            if self.aside.residence.leaves(*slot) {
                written.push(*slot);
                counts.push(of_list.len() as u32);
                numbers.extend(of_list.iter().map(|number| Some(*number)));
            }
            gone.extend(of_list);
        }
        let names = numbers.iter().flatten().filter_map(|number| self.rows.name(*number));
        let names: ArrayRef = Arc::new(Int64Array::from_iter_values(names));
        let columns = std::iter::once(names).chain(self.rows.gather(&numbers)?).collect();
        let keys = written.iter().map(|slot| self.slots.key(*slot));
        self.aside.pack(keys, &[PackedRows { columns, counts }], &mut entries)?;
        // They stay in the state.
        self.rows.remove(&gone)?;
        picked.iter().for_each(|slot| self.slots.remove(*slot));
        Ok(entries)
    }

    fn state_bytes(&self) -> usize {
        let due: usize = self.due.iter().map(|(_, before)| 32 + before.capacity() * 16).sum();
        let by_slot = self.slots.share(self.lists.capacity() * (size_of::<List>() + 1));
        let keys = self.slots.used_bytes() + by_slot + self.lists_bytes + self.aside.bytes();
        keys + self.rows.bytes() + due + self.left.capacity() * 8 + self.ages.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
