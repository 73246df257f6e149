//! Joins rows of the same window and key when the window closes.
//!
//! Rows of both sides are held per window (append-only state). At the end both sides' keys are numbered
//! by one index, which turns the join into a walk over lists of row numbers, whatever the key types.
//! NULL keys match nothing. What must never happen: a row that joins twice, or a window that fires twice.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, filter, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{JoinKind, WindowJoinNode};
use qanat_proto::receipt::OperatorCounts;
use qanat_sql::expr;
use qanat_storage::state::{TableDelta, TableSpec};

use super::emit::{Emitter, batch_of};
use super::evaluate::{Expression, evaluation_error, internal, mask};
use super::keys::{KeyIndex, any_null, key_type, normalized_key};
use super::window_rows::{Due, WindowClock, WindowRows};
use super::{Operator, OperatorContext, Output};

const TABLES: [&str; 2] = ["left", "right"];

pub struct WindowJoin {
    node: WindowJoinNode,
    context: OperatorContext,
    clock: WindowClock,
    sides: [WindowRows; 2],
    key_types: Vec<DataType>,
    filter: Option<Expression>,
    /// Left columns, then right columns.
    joined: SchemaRef,
    /// What closes windows, while some are left to be closed.
    due: Option<Due>,
    joining: Option<Joining>,
    closed: Option<i64>,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// A closed window whose rows go out in pieces.
struct Joining {
    left: RecordBatch,
    right: RecordBatch,
    matches: Matches,
    cursor: Cursor,
    left_matched: Vec<bool>,
    right_matched: Vec<bool>,
    /// Row numbers of both sides that are given after the pairs; None while there are pairs.
    rest: Option<VecDeque<(UInt32Array, UInt32Array)>>,
}

impl WindowJoin {
    pub fn new(node: &WindowJoinNode, context: OperatorContext) -> Result<Self> {
        let [left, right] = context.inputs.as_slice() else {
            return Err(Error::internal("a window join has two inputs"));
        };
        let fields: Vec<_> = left.fields().iter().chain(right.fields()).cloned().collect();
        let joined = Arc::new(Schema::new(fields));
        let filter = node.filter.as_ref().map(|filter| expr::physical(filter, &joined)).transpose()?;
        let key_types = node.on.iter().map(|(key, _)| key_type(left.field(*key).data_type())).collect();
        let side = |port: usize| {
            let partition = context.partition.get(port).cloned().unwrap_or_default();
            WindowRows::new(TABLES[port], Arc::clone(&context.inputs[port]), partition, context.key_groups)
        };
        Ok(Self {
            clock: WindowClock::new(node.domain, node.allowed_lateness_ms),
            sides: [side(0), side(1)],
            node: node.clone(),
            key_types,
            filter,
            joined,
            due: None,
            joining: None,
            closed: None,
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    fn first(&self) -> Option<Window> {
        self.sides.iter().filter_map(WindowRows::first).min()
    }

    /// The next window that is due.
    fn close(&mut self) -> Result<Option<Joining>> {
        let Some(due) = self.due else { return Ok(None) };
        let Some(window) = self.first().filter(|window| due.closes(window.end)) else {
            self.due = None;
            return Ok(None);
        };
        let (left, right) = (self.sides[0].take(window)?, self.sides[1].take(window)?);
        self.closed = Some(window.end);
        Ok(Some(Joining {
            matches: Matches::new(self, &left, &right)?,
            cursor: Cursor::default(),
            left_matched: vec![false; left.num_rows()],
            right_matched: vec![false; right.num_rows()],
            left,
            right,
            rest: None,
        }))
    }

    /// Puts out the next piece of a window; whether there may be more.
    fn join(&mut self, joining: &mut Joining, out: &mut Output) -> Result<bool> {
        let size = self.emitter.batch_rows;
        let Joining { left, right, matches, cursor, left_matched, right_matched, rest } = joining;
        let Some(rest) = rest else {
            let asks_whether = matches!(self.node.kind, JoinKind::LeftSemi | JoinKind::LeftAnti);
            let pairs = match asks_whether {
                true => matches.next_unmatched(cursor, size, left_matched),
                false => matches.next_pairs(cursor, size),
            };
            let Some((lefts, rights)) = pairs else {
                *rest = Some(self.rest(left_matched, right_matched));
                return Ok(true);
            };
            let (lefts, rights) = self.satisfying(left, right, lefts, rights)?;
            for (l, r) in lefts.values().iter().zip(rights.values()) {
                left_matched[*l as usize] = true;
                right_matched[*r as usize] = true;
            }
            if !asks_whether {
                self.emit_rows(left, right, &lefts, &rights, out)?;
            }
            return Ok(true);
        };
        let Some((lefts, rights)) = rest.pop_front() else { return Ok(false) };
        self.emit_rows(left, right, &lefts, &rights, out)?;
        Ok(true)
    }

    /// What follows the pairs, by the kind of join: rows that matched nothing, or those that did.
    fn rest(&self, left_matched: &[bool], right_matched: &[bool]) -> VecDeque<(UInt32Array, UInt32Array)> {
        let (lefts, rights) = match self.node.kind {
            JoinKind::Inner => (None, None),
            JoinKind::Left | JoinKind::LeftAnti => (Some(false), None),
            JoinKind::LeftSemi => (Some(true), None),
            JoinKind::Right => (None, Some(false)),
            JoinKind::Full => (Some(false), Some(false)),
        };
        let rows_where = |matched: &[bool], wanted: Option<bool>| -> Vec<u32> {
            let rows = matched.iter().enumerate().filter(|(_, m)| Some(**m) == wanted);
            rows.map(|(row, _)| row as u32).collect()
        };
        let size = self.emitter.batch_rows;
        let mut rest = VecDeque::new();
        for rows in rows_where(left_matched, lefts).chunks(size) {
            rest.push_back((rows.to_vec().into(), UInt32Array::new_null(rows.len())));
        }
        for rows in rows_where(right_matched, rights).chunks(size) {
            rest.push_back((UInt32Array::new_null(rows.len()), rows.to_vec().into()));
        }
        rest
    }

    /// Pairs for which the residual filter holds.
    fn satisfying(
        &self,
        left: &RecordBatch,
        right: &RecordBatch,
        lefts: UInt32Array,
        rights: UInt32Array,
    ) -> Result<(UInt32Array, UInt32Array)> {
        let Some(condition) = &self.filter else { return Ok((lefts, rights)) };
        let rows = batch_of(&self.joined, columns_at(left, right, &lefts, &rights)?, lefts.len())?;
        let holds: BooleanArray = mask(condition, &rows).map_err(|e| evaluation_error(&self.context.name, &e))?;
        let kept = |rows: &UInt32Array| -> Result<UInt32Array> {
            let rows = filter(rows, &holds).map_err(internal)?;
            Ok(arrow::array::AsArray::as_primitive::<arrow::datatypes::UInt32Type>(&rows).clone())
        };
        Ok((kept(&lefts)?, kept(&rights)?))
    }

    fn emit_rows(
        &mut self,
        left: &RecordBatch,
        right: &RecordBatch,
        lefts: &UInt32Array,
        rights: &UInt32Array,
        out: &mut Output,
    ) -> Result<()> {
        let mut columns = columns_at(left, right, lefts, rights)?;
        // Semi and anti joins give the left columns only.
        columns.truncate(self.emitter.schema.fields().len());
        self.counts.rows_out += self.emitter.emit(columns, lefts.len(), out)?;
        Ok(())
    }

    fn keys(&self, rows: &RecordBatch, columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
        let error = |e| evaluation_error(&self.context.name, &e);
        columns
            .zip(&self.key_types)
            .map(|(column, key_type)| {
                let key = normalized_key(rows.column(column)).map_err(error)?;
                if key.data_type() == key_type { Ok(key) } else { cast(&key, key_type).map_err(internal) }
            })
            .collect()
    }
}

impl Operator for WindowJoin {
    fn process(&mut self, port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        let window = if port == 0 { self.node.left_window } else { self.node.right_window };
        let (late, dead) = (out.late.len(), out.dead.len());
        let rows = self.clock.admit(rows, window, out)?;
        self.counts.rows_in += taken;
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.counts.dead_lettered += out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum::<u64>();
        self.counts.accumulated += rows.num_rows() as u64;
        self.sides[port].add(&rows, window)
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        self.due = self.clock.on_watermark(watermark);
        Ok(self.clock.watermark)
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        self.due = self.clock.on_processing_time(now_ms);
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let joining = match self.joining.take() {
            Some(joining) => Some(joining),
            None => self.close()?,
        };
        let Some(mut joining) = joining else { return Ok(false) };
        if self.join(&mut joining, out)? {
            self.joining = Some(joining);
        }
        Ok(true)
    }

    fn next_timer(&self) -> Option<i64> {
        self.clock.next_timer(self.first().map(|window| window.end))
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.sides.iter().map(WindowRows::spec).collect()
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let closed = self.closed.take();
        self.sides.iter_mut().map(|side| side.snapshot(closed)).collect()
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let port = TABLES.iter().position(|name| *name == table);
        let port = port.ok_or_else(|| Error::internal(format!("a window join has no state table `{table}`")))?;
        self.sides[port].restore(&rows)
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.clock.watermark = watermark.unwrap_or(i64::MIN);
        let clock = self.clock;
        for side in &mut self.sides {
            side.drop_windows(|window| clock.is_late(window.end))?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(WindowRows::bytes).sum()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Columns of left rows and right rows side by side; NULL row numbers give NULLs.
fn columns_at(
    left: &RecordBatch,
    right: &RecordBatch,
    lefts: &UInt32Array,
    rights: &UInt32Array,
) -> Result<Vec<ArrayRef>> {
    let lefts = left.columns().iter().map(|column| take_or_null(column, lefts));
    let rights = right.columns().iter().map(|column| take_or_null(column, rights));
    lefts.chain(rights).collect()
}

fn take_or_null(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    // An empty side has no row to take, not even for NULL row numbers.
    if column.is_empty() || rows.null_count() == rows.len() {
        return Ok(arrow::array::new_null_array(column.data_type(), rows.len()));
    }
    take(column, rows, None).map_err(internal)
}

/// Rows of both sides by key number.
struct Matches {
    /// Key number of each left row; `u32::MAX`: matches nothing.
    left_keys: Vec<u32>,
    /// Right rows in order of key number, and where those of each key begin.
    right_rows: Vec<u32>,
    right_starts: Vec<u32>,
}

/// Where a walk over pairs stands.
struct Cursor {
    left: usize,
    /// Among the right rows of the left row's key.
    right: usize,
    /// Of a walk in rounds: the right rows of each left row that this round looks at.
    round: Range<usize>,
    /// Some left row has right rows behind the round.
    has_more: bool,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { left: 0, right: 0, round: 0..1, has_more: false }
    }
}

const NO_KEY: u32 = u32::MAX;

impl Matches {
    fn new(join: &WindowJoin, left: &RecordBatch, right: &RecordBatch) -> Result<Self> {
        let error = |e| evaluation_error(&join.context.name, &e);
        let mut index = KeyIndex::new(&join.key_types).map_err(error)?;
        let mut number = |keys: Vec<ArrayRef>, rows: usize| -> Result<Vec<u32>> {
            let mut groups = Vec::new();
            index.intern(&keys, rows, &mut groups).map_err(error)?;
            let nulls = any_null(&keys);
            let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            Ok(groups.iter().enumerate().map(|(row, g)| if is_null(row) { NO_KEY } else { *g as u32 }).collect())
        };
        let left_keys = number(join.keys(left, join.node.on.iter().map(|on| on.0))?, left.num_rows())?;
        let right_keys = number(join.keys(right, join.node.on.iter().map(|on| on.1))?, right.num_rows())?;
        let keys = index.len();
        let mut right_starts = vec![0_u32; keys + 1];
        for key in right_keys.iter().filter(|key| **key != NO_KEY) {
            right_starts[*key as usize + 1] += 1;
        }
        for key in 0..keys {
            right_starts[key + 1] += right_starts[key];
        }
        let mut next = right_starts.clone();
        let mut right_rows = vec![0; right_starts[keys] as usize];
        for (row, key) in right_keys.iter().enumerate().filter(|(_, key)| **key != NO_KEY) {
            let position = &mut next[*key as usize];
            right_rows[*position as usize] = row as u32;
            *position += 1;
        }
        Ok(Self { left_keys, right_rows, right_starts })
    }

    /// Up to `limit` pairs from `cursor` on. None: there are no more.
    fn next_pairs(&self, cursor: &mut Cursor, limit: usize) -> Option<(UInt32Array, UInt32Array)> {
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        while cursor.left < self.left_keys.len() && lefts.len() < limit {
            let rest = &self.partners(cursor.left)[cursor.right..];
            let taken = rest.len().min(limit - lefts.len());
            lefts.resize(lefts.len() + taken, cursor.left as u32);
            rights.extend_from_slice(&rest[..taken]);
            if taken == rest.len() {
                (cursor.left, cursor.right) = (cursor.left + 1, 0);
            } else {
                cursor.right += taken;
            }
        }
        (!lefts.is_empty()).then(|| (lefts.into(), rights.into()))
    }

    /// Up to `limit` pairs whose left row has none yet, in rounds: the first right row of each, then the next two,
    /// the next four, … A left row that soon finds one does not look at all the others of its key.
    fn next_unmatched(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        matched: &[bool],
    ) -> Option<(UInt32Array, UInt32Array)> {
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        loop {
            while cursor.left < self.left_keys.len() && lefts.len() < limit {
                let partners = if matched[cursor.left] { &[] } else { self.partners(cursor.left) };
                let end = cursor.round.end.min(partners.len());
                let from = cursor.right.max(cursor.round.start).min(end);
                let taken = (end - from).min(limit - lefts.len());
                lefts.resize(lefts.len() + taken, cursor.left as u32);
                rights.extend_from_slice(&partners[from..from + taken]);
                if from + taken < end {
                    cursor.right = from + taken;
                } else {
                    cursor.has_more |= end < partners.len();
                    (cursor.left, cursor.right) = (cursor.left + 1, 0);
                }
            }
            if !lefts.is_empty() {
                return Some((lefts.into(), rights.into()));
            }
            if !cursor.has_more {
                return None;
            }
            let round = cursor.round.end..cursor.round.end * 2 + 1;
            *cursor = Cursor { round, ..Cursor::default() };
        }
    }

    /// The right rows of a left row's key.
    fn partners(&self, left: usize) -> &[u32] {
        let key = self.left_keys[left];
        if key == NO_KEY {
            return &[];
        }
        let (from, to) = (self.right_starts[key as usize], self.right_starts[key as usize + 1]);
        &self.right_rows[from as usize..to as usize]
    }
}
