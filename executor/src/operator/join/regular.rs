//! The join of two changelogs on equal keys, with a condition over both sides.
//!
//! A row that comes meets the rows that the other side has then; a row that is taken back is taken back from each of
//! them. A side whose rows are told without a match too (outer, semi, anti) has for each row how many matches it has:
//! where that becomes 0 or leaves it, what was told of the row changes.
//!
//! A batch is met in pieces, so that no call puts out more than a few batches, and is added to its own side when all
//! pieces are out. What must never happen: a pair that is told twice or not at all, or one that is taken back and was
//! not told.
//!
//! A key whose rows were put aside ([`super::aside`]) is brought back before a batch that has it is met.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion_common::DataFusionError;
use qanat_proto::changelog::{self, RowKind, has_kinds, without_kinds};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{JoinKind, JoinNode};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::spill::{Entries, Keys};
use qanat_storage::state::{TableDelta, TableSpec};
use xxhash_rust::xxh3::xxh3_64;

use super::super::ages::{RowAges, earlier};
use super::super::aside::Aside;
use super::super::emit::{Emitter, batch_of};
use super::super::evaluate::{evaluation_error, internal, split_kinds};
use super::super::kept_rows::{KeptRows, of_marks};
use super::super::keys::{any_null, key_type, keys_of, normalized_float};
use super::super::slots::Slots;
use super::super::state_rows::StateRows;
use super::super::{Operator, OperatorContext, Output};
use super::aside::{Arriving, tables};
use super::condition::{Condition, side_by_side};

const TABLES: [&str; 2] = ["left", "right"];
/// Pairs of one piece.
pub(super) const PAIRS_AT_ONCE: usize = 1 << 14;

pub struct Join {
    node: JoinNode,
    context: OperatorContext,
    key_types: Vec<DataType>,
    condition: Condition,
    /// Keys of both sides.
    pub(super) slots: Slots,
    pub(super) sides: [Side; 2],
    pub(super) meeting: Option<Meeting>,
    pub(super) aside: Aside<Arriving>,
    /// The state is being read back, and matches are not known.
    pub(super) is_restoring: bool,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// The rows of one side.
pub(super) struct Side {
    pub(super) rows: KeptRows,
    /// By slot.
    pub(super) lists: Vec<List>,
    /// Key columns.
    on: Vec<usize>,
    /// Rows are told of without a match, or because of one.
    pub(super) counts_matches: bool,
    pub(super) hasher: Hasher,
    /// Hash of each row that is kept, by its number, if rows may be taken back.
    pub(super) hashes: Option<BTreeMap<i64, u64>>,
    state: StateRows,
    partition: Vec<usize>,
    /// Names of rows that are gone and stand in the state.
    gone: Vec<RecordBatch>,
    pub(super) ages: RowAges,
    /// Matches may be gone by their age, and the state says of which rows ([`super::age`]).
    pub(super) marks_matched: bool,
    /// Rows of which it does not yet.
    pub(super) outlived: Vec<i64>,
    pub(super) lists_bytes: usize,
}

/// Numbers of the rows of a key.
#[derive(Clone, Default)]
pub(super) enum List {
    #[default]
    None,
    One(i64),
    Many(Vec<i64>),
}

impl List {
    pub(super) fn as_slice(&self) -> &[i64] {
        match self {
            Self::None => &[],
            Self::One(number) => std::slice::from_ref(number),
            Self::Many(numbers) => numbers,
        }
    }

    /// Returns the bytes that it takes beside its own.
    fn push(&mut self, number: i64) -> usize {
        match self {
            Self::None => *self = Self::One(number),
            Self::One(first) => *self = Self::Many(vec![*first, number]),
            Self::Many(numbers) => numbers.push(number),
        }
        self.bytes()
    }

    fn remove(&mut self, number: i64) {
        match self {
            Self::One(only) if *only == number => *self = Self::None,
            Self::Many(numbers) => {
                if let Some(at) = numbers.iter().position(|other| *other == number) {
                    numbers.remove(at);
                }
                if numbers.is_empty() {
                    *self = Self::None;
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    /// Rows of lower numbers are gone.
    pub(super) fn drop_below(&mut self, number: i64) {
        match self {
            Self::One(only) if *only < number => *self = Self::None,
            Self::Many(numbers) => {
                numbers.retain(|other| *other >= number);
                if numbers.is_empty() {
                    *self = Self::None;
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(numbers) => numbers.capacity() * 8,
        }
    }
}

/// Hashes whole rows, for finding one that is taken back.
pub(super) struct Hasher(RowConverter);

impl Hasher {
    fn new(schema: &Schema) -> Result<Self> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(Self(RowConverter::new(fields.collect()).map_err(internal)?))
    }

    pub(super) fn hash(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        let columns: Vec<ArrayRef> = rows.columns().iter().map(normalized_float).collect();
        let rows = self.0.convert_columns(&columns).map_err(internal)?;
        Ok(rows.iter().map(|row| xxh3_64(row.data())).collect())
    }
}

/// A batch that meets the other side.
pub(super) struct Meeting {
    port: usize,
    /// Without kinds.
    rows: RecordBatch,
    kinds: Vec<i8>,
    /// Slot of each row; None: its key is NULL, and equals nothing.
    slots: Vec<Option<u32>>,
    /// Where it stands: a row, and a place in the list of its slot.
    row: usize,
    place: usize,
    /// Matches of each row so far.
    matches: Vec<u32>,
    /// Where rows may be gone by their age: the row that each one takes back.
    taken: Vec<Option<i64>>,
    /// Slots of rows that are not met, because they take back one that is gone.
    forgotten: Vec<u32>,
}

impl Meeting {
    pub(super) fn of(port: usize, rows: RecordBatch, kinds: Vec<i8>, slots: Vec<Option<u32>>) -> Self {
        let count = rows.num_rows();
        let (matches, taken) = (vec![0; count], vec![None; count]);
        Self { port, rows, kinds, slots, row: 0, place: 0, matches, taken, forgotten: Vec::new() }
    }

    pub(super) fn taking(self, taken: Vec<Option<i64>>, forgotten: Vec<u32>) -> Self {
        Self { taken, forgotten, ..self }
    }
}

/// What is told: a row of the batch, a row that is kept, or both, and whether it is there.
#[derive(Default)]
struct Told {
    own: Vec<Option<u32>>,
    other: Vec<Option<i64>>,
    kinds: Vec<i8>,
}

impl Told {
    fn push(&mut self, own: Option<u32>, other: Option<i64>, kind: RowKind) {
        self.own.push(own);
        self.other.push(other);
        self.kinds.push(kind.code());
    }
}

impl Join {
    pub fn new(node: &JoinNode, context: OperatorContext) -> Result<Self> {
        let [left, right] = context.inputs.as_slice() else {
            return Err(Error::internal("a join has two inputs"));
        };
        let (left, right) = (without_kinds(left), without_kinds(right));
        let condition = Condition::new(node.filter.as_ref(), &left, &right)?;
        let key_types: Vec<DataType> = node.on.iter().map(|(key, _)| key_type(left.field(*key).data_type())).collect();
        let slots = Slots::new(&key_types).map_err(|e| evaluation_error(&context.name, &e))?;
        let counted = match node.kind {
            JoinKind::Inner => [false, false],
            JoinKind::Left | JoinKind::LeftSemi | JoinKind::LeftAnti => [true, false],
            JoinKind::Right => [false, true],
            JoinKind::Full => [true, true],
        };
        let on = [node.on.iter().map(|on| on.0).collect(), node.on.iter().map(|on| on.1).collect()];
        let [left_on, right_on]: [Vec<usize>; 2] = on;
        let side = |port: usize, schema: SchemaRef, on: Vec<usize>| -> Result<Side> {
            let mut fields = vec![Field::new("name", DataType::Int64, false)];
            let columns = schema.fields().iter().enumerate();
            fields.extend(columns.map(|(at, field)| field.as_ref().clone().with_name(format!("column_{at}"))));
            let marks_matched = counted[port] && context.ttl_ms[1 - port] > 0;
            if marks_matched {
                fields.push(Field::new("was_matched", DataType::Boolean, false));
            }
            Ok(Side {
                lists: Vec::new(),
                on,
                counts_matches: counted[port],
                hasher: Hasher::new(&schema)?,
                hashes: has_kinds(&context.inputs[port]).then(BTreeMap::new),
                state: StateRows::new(fields, context.key_groups),
                partition: context.partition.get(port).cloned().unwrap_or_default(),
                gone: Vec::new(),
                ages: RowAges::new(context.ttl_ms[port]),
                marks_matched,
                outlived: Vec::new(),
                lists_bytes: 0,
                rows: KeptRows::new(schema),
            })
        };
        let sides = [side(0, left, left_on)?, side(1, right, right_on)?];
        // Without a key there is nothing that could go.
        let aside = Aside::new(
            context.spills && !node.on.is_empty(),
            &tables(sides.each_ref().map(|side| side.rows.schema().as_ref())),
        )?;
        Ok(Self {
            node: node.clone(),
            key_types,
            condition,
            slots,
            sides,
            meeting: None,
            aside,
            is_restoring: false,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    /// The key columns of rows, and where a key is NULL that equals nothing.
    pub(super) fn keys_of(&self, rows: &RecordBatch, port: usize) -> Result<(Vec<ArrayRef>, Option<NullBuffer>)> {
        let keys = keys_of(rows, &self.sides[port].on, &self.key_types);
        let keys = keys.map_err(|e| self.failed(&e))?;
        let nulls = if self.node.null_equals_null { None } else { any_null(&keys) };
        Ok((keys, nulls))
    }

    pub(super) fn failed(&self, error: &DataFusionError) -> Error {
        evaluation_error(&self.context.name, error)
    }

    /// Slot of each row; those whose key is NULL have none.
    pub(super) fn slots_of(&mut self, rows: &RecordBatch, port: usize) -> Result<Vec<Option<u32>>> {
        let (keys, nulls) = self.keys_of(rows, port)?;
        let mut slots = Vec::new();
        let found = self.slots.find_or_add(&keys, rows.num_rows(), &mut slots);
        found.map_err(|e| self.failed(&e))?;
        for side in &mut self.sides {
            side.lists.resize_with(self.slots.len(), List::default);
        }
        self.aside.residence.grow(self.slots.len());
        self.aside.residence.touch(slots.iter().copied());
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        (0..slots.len()).filter(|row| is_null(*row)).for_each(|row| self.free(slots[row]));
        Ok(slots.into_iter().enumerate().map(|(row, slot)| (!is_null(row)).then_some(slot)).collect())
    }

    /// One piece of a meeting; whether there may be more.
    fn meet(&mut self, meeting: &mut Meeting, out: &mut Output) -> Result<bool> {
        let (owns, others) = self.next_pairs(meeting);
        if owns.is_empty() {
            return Ok(false);
        }
        let (owns, others) = self.satisfying(meeting, (owns, others))?;
        let mut before = Told::default();
        let mut after = Told::default();
        self.count_matches(meeting, &owns, &others, &mut before, &mut after);
        if !matches!(self.node.kind, JoinKind::LeftSemi | JoinKind::LeftAnti) {
            for (own, number) in owns.iter().zip(&others) {
                before.push(Some(*own), Some(*number), of_pair(meeting.kinds[*own as usize]));
            }
        }
        self.tell(meeting, before, out)?;
        self.tell(meeting, after, out)?;
        Ok(true)
    }

    /// The next pairs of equal keys: a row of the batch and the number of one that is kept.
    pub(super) fn next_pairs(&self, meeting: &mut Meeting) -> (Vec<u32>, Vec<i64>) {
        let lists = &self.sides[1 - meeting.port].lists;
        let (mut owns, mut others) = (Vec::new(), Vec::new());
        while meeting.row < meeting.rows.num_rows() && owns.len() < PAIRS_AT_ONCE {
            let list = meeting.slots[meeting.row].map_or(&[][..], |slot| lists[slot as usize].as_slice());
            let rest = &list[meeting.place..];
            let taken = rest.len().min(PAIRS_AT_ONCE - owns.len());
            owns.extend(std::iter::repeat_n(meeting.row as u32, taken));
            others.extend_from_slice(&rest[..taken]);
            if taken == rest.len() {
                (meeting.row, meeting.place) = (meeting.row + 1, 0);
            } else {
                meeting.place += taken;
            }
        }
        (owns, others)
    }

    /// Pairs for which the condition holds.
    pub(super) fn satisfying(&self, meeting: &Meeting, pairs: (Vec<u32>, Vec<i64>)) -> Result<(Vec<u32>, Vec<i64>)> {
        let kept = &self.sides[1 - meeting.port].rows;
        self.condition.satisfying(&self.context.name, (meeting.port, &meeting.rows), kept, pairs)
    }

    /// Counts matches on both sides, and tells of rows that are kept whose first match comes or last one goes.
    fn count_matches(
        &mut self,
        meeting: &mut Meeting,
        owns: &[u32],
        others: &[i64],
        before: &mut Told,
        after: &mut Told,
    ) {
        if self.sides[meeting.port].counts_matches {
            owns.iter().for_each(|own| meeting.matches[*own as usize] += 1);
        }
        let other = &mut self.sides[1 - meeting.port];
        if !other.counts_matches {
            return;
        }
        let mut changes: BTreeMap<i64, i64> = BTreeMap::new();
        for (own, number) in owns.iter().zip(others) {
            let sign = if changelog::is_added(meeting.kinds[*own as usize]) { 1 } else { -1 };
            *changes.entry(*number).or_default() += sign;
        }
        for (number, by) in changes {
            let (was, is) = other.rows.change_matches(number, by);
            // Told without a match, and with one.
            let (lonely, matched) = told_by(self.node.kind);
            match (was > 0, is > 0) {
                (false, true) if lonely => before.push(None, Some(number), RowKind::Delete),
                (false, true) if matched => after.push(None, Some(number), RowKind::Insert),
                (true, false) if lonely => after.push(None, Some(number), RowKind::Insert),
                (true, false) if matched => before.push(None, Some(number), RowKind::Delete),
                _ => {}
            }
        }
    }

    /// Rows of the batch that are told without a match or because of one, once all pairs are known.
    fn tell_own(&mut self, meeting: &Meeting, out: &mut Output) -> Result<()> {
        if !self.sides[meeting.port].counts_matches {
            return Ok(());
        }
        let (lonely, matched) = told_by(self.node.kind);
        let mut told = Told::default();
        for (row, counted) in meeting.matches.iter().enumerate() {
            // One that is kept may have had more than there are.
            let kept = meeting.taken[row].and_then(|number| self.sides[meeting.port].rows.facts(number));
            let matches = kept.map_or(*counted, |(_, matches)| matches);
            if (lonely && matches == 0) || (matched && matches > 0) {
                told.push(Some(row as u32), None, of_pair(meeting.kinds[row]));
            }
        }
        self.tell(meeting, told, out)
    }

    fn tell(&mut self, meeting: &Meeting, told: Told, out: &mut Output) -> Result<()> {
        if told.kinds.is_empty() {
            return Ok(());
        }
        let rows = told.kinds.len();
        let picked = UInt32Array::from(told.own);
        let own = meeting.rows.columns().iter().map(|column| {
            // NULL row numbers need no row.
            if column.is_empty() {
                return Ok(arrow::array::new_null_array(column.data_type(), picked.len()));
            }
            take(column, &picked, None).map_err(internal)
        });
        let own = own.collect::<Result<Vec<_>>>()?;
        let other = self.sides[1 - meeting.port].rows.gather(&told.other)?;
        let mut columns = side_by_side(meeting.port, own, other);
        let changes = has_kinds(&self.emitter.schema);
        // Semi and anti joins give the left columns only.
        columns.truncate(self.emitter.schema.fields().len() - usize::from(changes));
        if changes {
            columns.push(Arc::new(Int8Array::from(told.kinds)));
        }
        self.counts.rows_out += self.emitter.emit(columns, rows, out)?;
        Ok(())
    }

    /// Adds the rows of a batch to their side, or takes them away.
    fn settle(&mut self, meeting: Meeting) -> Result<()> {
        let Meeting { port, rows, kinds, slots, matches, forgotten, .. } = meeting;
        self.aside.residence.change(slots.iter().copied().flatten());
        // A row whose key is NULL meets nothing, now or later, and is not asked for again.
        let added: Vec<u32> = (0..rows.num_rows())
            .filter(|row| changelog::is_added(kinds[*row]) && slots[*row].is_some())
            .map(|row| row as u32)
            .collect();
        let has_gone = kinds.iter().any(|kind| !changelog::is_added(*kind));
        let side = &mut self.sides[port];
        let new = match added.len() == rows.num_rows() {
            true => rows.clone(),
            false => take_record_batch(&rows, &UInt32Array::from(added.clone())).map_err(internal)?,
        };
        let hashes = match &side.hashes {
            Some(_) => side.hasher.hash(&rows)?,
            None => Vec::new(),
        };
        let first = side.rows.append(new, added.iter().map(|row| matches[*row as usize]).collect())?;
        // In the order of the batch: a row may come and go within it.
        let (mut number, mut gone, mut gone_rows) = (first, Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let Some(slot) = slots[row] else { continue };
            let list = &mut side.lists[slot as usize];
            let before = list.bytes();
            if changelog::is_added(kinds[row]) {
                side.lists_bytes += list.push(number) - before;
                if let Some(known) = &mut side.hashes {
                    known.insert(number, hashes[row]);
                }
                number += 1;
                continue;
            }
            let Some(known) = &mut side.hashes else { continue };
            let found = list.as_slice().iter().copied().find(|number| known.get(number) == Some(&hashes[row]));
            let Some(found) = found else { continue };
            known.remove(&found);
            list.remove(found);
            side.lists_bytes = (side.lists_bytes + list.bytes()).saturating_sub(before);
            gone.push(found);
            gone_rows.push(row as u32);
        }
        if has_gone {
            side.forget(&rows, &gone, &gone_rows)?;
            slots.into_iter().flatten().for_each(|slot| self.free(slot));
        }
        forgotten.into_iter().for_each(|slot| self.free(slot));
        Ok(())
    }

    /// A slot without rows is free.
    pub(super) fn free(&mut self, slot: u32) {
        if self.sides.iter().all(|side| matches!(side.lists[slot as usize], List::None)) {
            self.aside.gone(slot, &self.slots);
            self.slots.remove(slot);
        }
    }

    /// What was asked for is there: a batch meets the other side, rows of the state are kept.
    pub(super) fn take_in(&mut self, arriving: Arriving) -> Result<()> {
        match arriving {
            Arriving::Batch { port, rows, kinds } => {
                let slots = self.slots_of(&rows, port)?;
                self.meeting = Some(self.known(port, rows, kinds, slots)?);
                Ok(())
            }
            Arriving::State { port, names, rows, matches } => {
                let slots = self.keep(port, names, rows, matches)?;
                self.aside.residence.change(slots);
                Ok(())
            }
        }
    }

    /// Puts back rows of the state, and gives their slots.
    pub(super) fn keep(
        &mut self,
        port: usize,
        names: Vec<i64>,
        rows: RecordBatch,
        matches: Vec<u32>,
    ) -> Result<Vec<u32>> {
        let slots = self.slots_of(&rows, port)?;
        let side = &mut self.sides[port];
        let hashes = if side.hashes.is_some() { side.hasher.hash(&rows)? } else { Vec::new() };
        let first = side.rows.bring_back(names, rows, matches)?;
        let kept = slots.iter().copied().flatten().collect();
        for ((slot, row), number) in slots.into_iter().zip(0..).zip(first..) {
            let Some(slot) = slot else { continue };
            let list = &mut side.lists[slot as usize];
            let before = list.bytes();
            side.lists_bytes += list.push(number) - before;
            if let Some(known) = &mut side.hashes {
                known.insert(number, hashes[row]);
            }
        }
        Ok(kept)
    }

    /// Matches of rows that are kept, which no state holds: all their pairs once more. `numbers`: by side.
    pub(super) fn count_again(&mut self, numbers: [Vec<i64>; 2]) -> Result<()> {
        for (port, numbers) in numbers.into_iter().enumerate() {
            if !self.sides[port].counts_matches {
                continue;
            }
            for chunk in numbers.chunks(self.context.batch_rows.max(1)) {
                let wanted: Vec<Option<i64>> = chunk.iter().map(|number| Some(*number)).collect();
                let columns = self.sides[port].rows.gather(&wanted)?;
                let schema = Arc::clone(self.sides[port].rows.schema());
                let rows = batch_of(&schema, columns, chunk.len())?;
                let slots = self.slots_of(&rows, port)?;
                let count = rows.num_rows();
                let kinds = vec![RowKind::Insert.code(); count];
                let mut meeting = Meeting::of(port, rows, kinds, slots);
                loop {
                    let (owns, others) = self.next_pairs(&mut meeting);
                    if owns.is_empty() {
                        break;
                    }
                    let (owns, _) = self.satisfying(&meeting, (owns, others))?;
                    owns.iter().for_each(|own| meeting.matches[*own as usize] += 1);
                }
                for (number, matches) in chunk.iter().zip(&meeting.matches) {
                    self.sides[port].rows.change_matches(*number, i64::from(*matches));
                }
            }
        }
        Ok(())
    }
}

impl Side {
    /// Rows of these numbers are gone; `picked`: the rows of the batch that took them back, which are equal.
    pub(super) fn forget(&mut self, rows: &RecordBatch, gone: &[i64], picked: &[u32]) -> Result<()> {
        let names = self.rows.remove(gone)?;
        let saved = names.into_iter().zip(picked).filter_map(|(name, row)| Some((name?, *row)));
        let (names, picked): (Vec<i64>, Vec<u32>) = saved.unzip();
        let picked = UInt32Array::from(picked);
        if names.is_empty() {
            return Ok(());
        }
        let by = self.partition.iter().map(|column| take(rows.column(*column), &picked, None).map_err(internal));
        let by = by.collect::<Result<Vec<_>>>()?;
        let count = names.len();
        self.gone.push(self.state.keys(&by, vec![Arc::new(Int64Array::from(names))], count)?);
        Ok(())
    }

    fn spec(&self, table: &str) -> TableSpec {
        TableSpec {
            name: table.to_owned(),
            schema: Arc::clone(self.state.schema()),
            key_columns: 1,
            time_column: None,
            // Rows that nobody takes back stay as they are.
            append_only: self.hashes.is_none() && !self.ages.is_on() && !self.marks_matched,
        }
    }

    fn snapshot(&mut self, table: &str) -> Result<TableDelta> {
        let outlived = self.take_outlived()?.map(|(names, rows, marks)| (Int64Array::from(names), rows, marks));
        let unsaved = self.rows.take_unsaved_marked()?;
        let mut upserts = Vec::new();
        for (names, rows, marks) in outlived.into_iter().chain(unsaved) {
            let count = rows.num_rows();
            let by: Vec<ArrayRef> = self.partition.iter().map(|column| Arc::clone(rows.column(*column))).collect();
            let mut columns = vec![Arc::new(names) as ArrayRef];
            columns.extend(rows.columns().iter().cloned());
            if self.marks_matched {
                columns.push(Arc::new(marks));
            }
            upserts.push(self.state.batch(&by, columns, count)?);
        }
        Ok(TableDelta { table: table.to_owned(), upserts, deletes: std::mem::take(&mut self.gone), closed: None })
    }

    /// `slots`: those of both sides.
    fn bytes(&self, slots: &Slots) -> usize {
        // A node of the map holds several entries, and is two thirds full.
        let hashes = self.hashes.as_ref().map_or(0, |hashes| hashes.len() * 24);
        let lists = slots.share(self.lists.capacity() * size_of::<List>());
        self.rows.bytes() + lists + self.lists_bytes + hashes
    }
}

impl Operator for Join {
    fn process(&mut self, port: usize, rows: RecordBatch, _out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        self.counts.accumulated += rows.num_rows() as u64;
        let (rows, kinds) = split_kinds(&rows)?;
        self.arrive(Arriving::Batch { port, rows, kinds })
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        if self.meeting.is_some() {
            return Ok(());
        }
        for port in [0, 1] {
            let side = &mut self.sides[port];
            if let Some(below) = side.ages.too_old(now_ms, side.rows.next_number()) {
                self.expire(port, below)?;
            }
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        earlier(self.sides[0].ages.next_timer(), self.sides[1].ages.next_timer())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if let Some(arriving) = self.aside.arrived() {
            self.take_in(arriving)?;
            return Ok(true);
        }
        let Some(mut meeting) = self.meeting.take() else { return Ok(false) };
        if self.meet(&mut meeting, out)? {
            self.meeting = Some(meeting);
        } else {
            self.tell_own(&meeting, out)?;
            self.settle(meeting)?;
        }
        Ok(true)
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.sides.iter().zip(TABLES).map(|(side, table)| side.spec(table)).collect()
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        self.sides.iter_mut().zip(TABLES).map(|(side, table)| side.snapshot(table)).collect()
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let port = TABLES.iter().position(|name| *name == table);
        let port = port.ok_or_else(|| Error::internal(format!("a join has no state table `{table}`")))?;
        let side = &mut self.sides[port];
        let names = rows.column(1).as_primitive::<Int64Type>().values().to_vec();
        let matches = match side.marks_matched {
            true => rows.columns().last().map_or_else(Vec::new, |marks| of_marks(marks.as_boolean())),
            false => vec![0; names.len()],
        };
        let width = side.rows.schema().fields().len();
        let rows = batch_of(side.rows.schema(), rows.columns()[2..2 + width].to_vec(), rows.num_rows())?;
        self.is_restoring = true;
        self.arrive(Arriving::State { port, names, rows, matches })
    }

    fn restored(&mut self, _watermark: Option<i64>) -> Result<()> {
        self.is_restoring = false;
        self.count_again(self.sides.each_ref().map(|side| side.rows.numbers()))
    }

    fn wanted(&mut self) -> Option<Keys> {
        self.aside.wanted()
    }

    fn bring_back(&mut self, found: &Entries) -> Result<()> {
        self.unpack(found)
    }

    fn put_aside(&mut self, bytes: usize) -> Result<Entries> {
        self.pack(bytes)
    }

    fn state_bytes(&self) -> usize {
        let sides: usize = self.sides.iter().map(|side| side.bytes(&self.slots)).sum();
        self.slots.used_bytes() + sides + self.aside.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Whether rows of a side that counts matches are told without one, and because of one.
fn told_by(kind: JoinKind) -> (bool, bool) {
    match kind {
        JoinKind::Left | JoinKind::Right | JoinKind::Full | JoinKind::LeftAnti => (true, false),
        JoinKind::LeftSemi => (false, true),
        JoinKind::Inner => (false, false),
    }
}

/// A row that joins what is there already is new, whatever it was to its table.
fn of_pair(kind: i8) -> RowKind {
    if changelog::is_added(kind) { RowKind::Insert } else { RowKind::Delete }
}
