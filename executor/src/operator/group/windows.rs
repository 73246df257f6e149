//! Groups of windows that are told before they close: which of them are due when, and what was told of those that wait.
//!
//! ```text
//!   before the end        some time after a change (early), or not at all
//!   at the end            what has changed since
//!   between end and close some time after a late row, or not at all
//!   at the close          what has changed since; the group goes, and rows behind it are late
//! ```
//! Other groups are told before every barrier. Those of an open window may wait longer, so what was told of them last
//! is part of the state: a table of its own, of the groups that wait at a barrier.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field};
use qanat_executor_core::window::is_closed;
use qanat_proto::error::Result;
use qanat_proto::graph::WindowTelling;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::evaluate::internal;
use super::super::event_time::milliseconds;
use super::super::mini_batch::MiniBatch;
use super::super::state_rows::StateRows;
use super::accumulator::state_fields;

/// What was told last of groups that wait.
pub(super) const TOLD_TABLE: &str = "told";

pub(super) struct Windows {
    node: WindowTelling,
    /// `i64::MIN`: none yet.
    pub(super) watermark: i64,
    /// The ends up to which windows have been told.
    ended: i64,
    /// Whether the watermark has risen, and what is due by it is not all told.
    is_due: bool,
    /// By slot; `i64::MIN` for a slot without a group.
    ends: Vec<i64>,
    /// Slots of groups that are open, by the ends of their windows.
    open: BTreeMap<i64, Vec<u32>>,
    early: Option<MiniBatch>,
    late: Option<MiniBatch>,
    /// Slots of groups that have been told since what was told of them before was saved.
    told_since: Vec<u32>,
    state: StateRows,
    key_columns: usize,
    /// Rows of the restore point.
    pub(super) restored: Vec<RecordBatch>,
    /// Groups that wait are those of the restore point: no clock knows of them.
    has_restored: bool,
}

/// Which groups are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Of windows that are not at their end.
    Early,
    /// Of windows that are past their end, for late rows.
    Late,
    /// By the watermark.
    Ended,
}

impl Windows {
    /// `results`: types of what is told of a group.
    pub(super) fn new(node: WindowTelling, key_types: &[DataType], results: &[DataType], key_groups: u16) -> Self {
        let mut fields = state_fields("key", key_types);
        fields.push(Field::new("is_told", DataType::Boolean, false));
        fields.extend(state_fields("result", results).into_iter().map(|field| field.with_nullable(true)));
        Self {
            node,
            watermark: i64::MIN,
            ended: i64::MIN,
            is_due: false,
            ends: Vec::new(),
            open: BTreeMap::new(),
            early: node.early_ms.map(MiniBatch::new),
            late: node.late_ms.map(MiniBatch::new),
            told_since: Vec::new(),
            state: StateRows::new(fields, key_groups),
            key_columns: key_types.len(),
            restored: Vec::new(),
            has_restored: false,
        }
    }

    pub(super) fn end_key(&self) -> usize {
        self.node.end
    }

    /// Whether rows of a window come too late.
    pub(super) fn is_closed(&self, end: i64) -> bool {
        is_closed(end, self.node.allowed_lateness_ms, self.watermark)
    }

    /// Rows of groups have come. `keys`: of these rows.
    pub(super) fn touch(&mut self, slots: &[u32], keys: &[ArrayRef]) -> Result<()> {
        let ends = milliseconds(&keys[self.node.end])?;
        let (mut is_open, mut is_late) = (false, false);
        for (slot, end) in slots.iter().zip(ends.values()) {
            let at = *slot as usize;
            if self.ends.len() <= at {
                self.ends.resize(at + 1, i64::MIN);
            }
            if self.ends[at] == i64::MIN {
                self.ends[at] = *end;
                self.open.entry(*end).or_default().push(*slot);
            }
            if *end > self.watermark { is_open = true } else { is_late = true }
        }
        if let Some(early) = self.early.as_mut().filter(|_| is_open) {
            early.begin();
        }
        if let Some(late) = self.late.as_mut().filter(|_| is_late) {
            late.begin();
        }
        Ok(())
    }

    pub(super) fn on_watermark(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        self.is_due = true;
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Which groups are due at a processing time.
    pub(super) fn due_at(&mut self, now_ms: i64) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let begins = std::mem::take(&mut self.has_restored);
        // Both are asked: they keep the time.
        if self.early.as_mut().is_some_and(|early| early.is_due(now_ms)) {
            wanted.push(Wanted::Early);
        }
        if self.late.as_mut().is_some_and(|late| late.is_due(now_ms)) {
            wanted.push(Wanted::Late);
        }
        if begins {
            [&mut self.early, &mut self.late].into_iter().flatten().for_each(MiniBatch::begin);
        }
        wanted
    }

    pub(super) fn next_timer(&self) -> Option<i64> {
        let timers = [&self.early, &self.late].into_iter().flatten().filter_map(MiniBatch::next_timer);
        // What was read back waits from now on, whether or not a row comes.
        if self.has_restored { Some(0) } else { timers.min() }
    }

    pub(super) fn is_wanted(&self, slot: u32, wanted: Wanted) -> bool {
        let end = self.ends.get(slot as usize).copied().unwrap_or(i64::MIN);
        let has_ended = end <= self.watermark;
        match wanted {
            Wanted::Early => !has_ended,
            Wanted::Late => has_ended && self.late.is_some(),
            Wanted::Ended => has_ended && (self.late.is_some() || end > self.ended || self.is_closed(end)),
        }
    }

    /// All of these are told.
    pub(super) fn end(&mut self, wanted: Wanted) {
        let clocks = match wanted {
            Wanted::Early => [self.early.as_mut(), None],
            Wanted::Late | Wanted::Ended => [None, self.late.as_mut()],
        };
        clocks.into_iter().flatten().for_each(MiniBatch::end);
    }

    /// Slots of the windows that have closed, all of which are told.
    pub(super) fn close(&mut self) -> Vec<u32> {
        (self.ended, self.is_due) = (self.watermark, false);
        let mut closed = Vec::new();
        while let Some(entry) = self
            .open
            .first_entry()
            .filter(|entry| is_closed(*entry.key(), self.node.allowed_lateness_ms, self.watermark))
        {
            closed.extend(entry.remove());
        }
        closed
    }

    /// A slot has no group any more.
    pub(super) fn free(&mut self, slot: u32) {
        let Some(end) = self.ends.get_mut(slot as usize) else { return };
        if let Some(slots) = self.open.get_mut(end) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.open.remove(end);
            }
        }
        *end = i64::MIN;
    }

    /// A group whose last results are saved is told anew.
    pub(super) fn tells(&mut self, slot: u32) {
        self.told_since.push(slot);
    }

    pub(super) fn take_told_since(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.told_since)
    }

    pub(super) fn spec(&self) -> TableSpec {
        TableSpec {
            name: TOLD_TABLE.to_owned(),
            schema: Arc::clone(self.state.schema()),
            key_columns: self.key_columns,
            time_column: None,
            append_only: false,
        }
    }

    /// `waiting`: keys of groups that wait, whether they have been told, and their results as they were told, where they
    /// were; `told`: keys of those that wait no more.
    pub(super) fn delta(&mut self, waiting: Waiting, told: &[ArrayRef]) -> Result<TableDelta> {
        let rows = waiting.is_told.len();
        let mut columns = waiting.keys.clone();
        columns.push(Arc::new(BooleanArray::from(waiting.is_told)));
        columns.extend(waiting.results);
        let upserts = vec![self.state.batch(&waiting.keys, columns, rows)?];
        let gone = told.first().map_or(0, |column| column.len());
        let deletes = vec![self.state.keys(told, told.to_vec(), gone)?];
        Ok(TableDelta { table: TOLD_TABLE.to_owned(), upserts, deletes, closed: None })
    }

    /// Keys of rows of the table, whether they were told, and their results.
    pub(super) fn read<'r>(&self, rows: &'r RecordBatch) -> (&'r [ArrayRef], &'r BooleanArray, &'r [ArrayRef]) {
        let (keys, rest) = rows.columns()[1..].split_at(self.key_columns);
        (keys, rest[0].as_boolean(), &rest[1..])
    }

    /// The watermark of the restore point: what is due by it was told.
    pub(super) fn restore(&mut self, watermark: i64) {
        (self.watermark, self.ended, self.has_restored) = (watermark, watermark, true);
    }

    pub(super) fn bytes(&self) -> usize {
        self.ends.capacity() * 8 + self.open.values().map(|slots| 48 + slots.capacity() * 4).sum::<usize>()
    }
}

/// Groups that wait.
pub(super) struct Waiting {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) is_told: Vec<bool>,
    pub(super) results: Vec<ArrayRef>,
}

/// Values at places of pieces that stand one behind the other; NULLs where there is no place.
pub(super) fn pick(pieces: &[ArrayRef], data_type: &DataType, places: &[Option<usize>]) -> Result<ArrayRef> {
    let nulls = new_null_array(data_type, 1);
    let mut starts = Vec::with_capacity(pieces.len());
    let mut length = 0;
    for piece in pieces {
        starts.push(length);
        length += piece.len();
    }
    let place = |place: &Option<usize>| match place {
        None => (0, 0),
        Some(at) => {
            let piece = starts.partition_point(|start| *start <= *at) - 1;
            (piece + 1, at - starts[piece])
        }
    };
    let places: Vec<(usize, usize)> = places.iter().map(place).collect();
    let arrays: Vec<&dyn Array> =
        std::iter::once(nulls.as_ref()).chain(pieces.iter().map(|piece| piece.as_ref())).collect();
    interleave(&arrays, &places).map_err(internal)
}
