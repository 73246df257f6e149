//! Aggregation over session windows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion_common::DataFusionError;
use datafusion_expr::EmitTo;
use qanat_executor_core::session::SessionRule;
use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{TimeDomain, WindowAggregateNode, WindowColumn};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::super::emit::Emitter;
use super::super::super::evaluate::{evaluate_or_bury, internal};
use super::super::super::state_rows::StateRows;
use super::super::super::{Operator, OperatorContext, Output};
use super::super::calls::{Calls, Inputs};
use super::book::{Closed, SessionId};
use super::keyed::{KeyedSessions, SessionPlan, key_fields};
use super::parts::{Part, PartRuns};

const TABLE: &str = "sessions";
/// Parts that a session gathers before they are merged into one.
const PARTS_MAX: usize = 16;

pub struct SessionAggregate {
    node: WindowAggregateNode,
    context: OperatorContext,
    calls: Calls,
    keyed: KeyedSessions,
    /// State columns.
    states: PartRuns,
    rows: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
}

impl SessionAggregate {
    pub fn new(
        node: &WindowAggregateNode,
        gap: i64,
        time_column: usize,
        domain: TimeDomain,
        context: OperatorContext,
    ) -> Result<Self> {
        let calls = Calls::new(&context.name, &node.keys, &node.aggregates, &context.inputs[0])?;
        let plan = SessionPlan {
            rule: SessionRule::new(gap, node.allowed_lateness_ms)?,
            domain,
            time_column,
            keys: node.keys.clone(),
            key_types: calls.key_types.clone(),
        };
        let mut fields: Vec<Field> = key_fields(&calls.key_types).collect();
        fields.extend(["session_start", "session_end"].map(|name| Field::new(name, DataType::Int64, false)));
        let states = calls.state_fields.iter().enumerate();
        fields.extend(states.map(|(i, f)| Field::new(format!("state_{i}"), f.data_type().clone(), true)));
        Ok(Self {
            node: node.clone(),
            keyed: KeyedSessions::new(plan, &context)?,
            states: PartRuns::new(calls.state_fields.len()),
            rows: StateRows::new(fields, context.key_groups),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            calls,
            context,
        })
    }

    fn error(&self, error: &DataFusionError) -> Error {
        self.calls.error(error)
    }

    /// Puts rows into sessions and accumulates one part per session they touch.
    fn add(&mut self, rows: RecordBatch, inputs: Inputs, out: &mut Output) -> Result<u64> {
        let placed = self.keyed.place(&rows, &inputs.columns[..self.calls.key_count()], out)?;
        let kept = placed.kept;
        let mut groups: HashMap<SessionId, usize> = HashMap::new();
        let mut sessions: Vec<SessionId> = Vec::new();
        let mut group_of: Vec<usize> = Vec::with_capacity(kept);
        for id in placed.sessions {
            group_of.push(*groups.entry(id).or_insert_with(|| {
                sessions.push(id);
                sessions.len() - 1
            }));
        }
        if kept == 0 {
            return Ok(0);
        }
        let inputs = if kept == inputs.rows { inputs } else { keep(&inputs, placed.in_time)? };
        let states = self.accumulate(&inputs, &group_of, sessions.len()).map_err(|e| self.error(&e))?;
        let run = self.states.push(states, sessions.len());
        for (row, id) in sessions.into_iter().enumerate() {
            self.keyed.book.add_part(id, (run, row as u32));
            if self.keyed.book.sessions.get(&id).is_some_and(|session| session.parts.len() >= PARTS_MAX) {
                self.merge_sessions(&[id])?;
            }
        }
        Ok(kept as u64)
    }

    fn accumulate(&self, inputs: &Inputs, groups: &[usize], total: usize) -> Result<Vec<ArrayRef>, DataFusionError> {
        let mut accumulators = self.calls.accumulators().map_err(|e| DataFusionError::External(Box::new(e)))?;
        let mut states = Vec::with_capacity(self.calls.state_fields.len());
        for (call, accumulator) in self.calls.calls.iter().zip(&mut accumulators) {
            call.update(accumulator.as_mut(), inputs, groups, total)?;
            states.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(states)
    }

    /// Accumulators with the merged parts of several sessions: one group each.
    fn merged(&self, parts: &[&[Part]]) -> Result<Vec<Box<dyn datafusion_expr::GroupsAccumulator>>, DataFusionError> {
        let flat: Vec<Part> = parts.iter().flat_map(|parts| parts.iter().copied()).collect();
        let groups: Vec<usize> =
            parts.iter().enumerate().flat_map(|(group, parts)| std::iter::repeat_n(group, parts.len())).collect();
        let states = self.states.gather(&flat)?;
        let mut accumulators = self.calls.accumulators().map_err(|e| DataFusionError::External(Box::new(e)))?;
        for (call, accumulator) in self.calls.calls.iter().zip(&mut accumulators) {
            accumulator.merge_batch(&states[call.states.clone()], &groups, parts.len())?;
        }
        Ok(accumulators)
    }

    /// Makes one part of the parts of each of these sessions. Returns their states, one row each.
    fn merge_sessions(&mut self, ids: &[SessionId]) -> Result<Vec<ArrayRef>> {
        let parts: Vec<&[Part]> = ids
            .iter()
            .map(|id| self.keyed.book.sessions.get(id).map(|s| s.parts.as_slice()).unwrap_or_default())
            .collect();
        let mut states = Vec::with_capacity(self.calls.state_fields.len());
        for mut accumulator in self.merged(&parts).map_err(|e| self.error(&e))? {
            states.extend(accumulator.state(EmitTo::All).map_err(|e| self.error(&e))?);
        }
        let run = self.states.push(states.clone(), ids.len());
        for (row, id) in ids.iter().enumerate() {
            if let Some(session) = self.keyed.book.sessions.get_mut(id) {
                let old = std::mem::replace(&mut session.parts, vec![(run, row as u32)]);
                self.states.release(&old);
            }
        }
        Ok(states)
    }

    fn emit(&mut self, closed: &[Closed], out: &mut Output) -> Result<()> {
        let parts: Vec<&[Part]> = closed.iter().map(|closed| closed.parts.as_slice()).collect();
        let mut columns = self.keyed.book.key_values(closed.iter().map(|closed| closed.key))?;
        for mut accumulator in self.merged(&parts).map_err(|e| self.error(&e))? {
            columns.push(accumulator.evaluate(EmitTo::All).map_err(|e| self.error(&e))?);
        }
        for column in &self.node.window_columns {
            let time = |window: &Window| match column {
                WindowColumn::Start => window.start,
                WindowColumn::End => window.end,
                WindowColumn::Time => window.end - 1,
            };
            let times = closed.iter().map(|closed| time(&closed.window));
            columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(times)));
        }
        for closed in closed {
            self.states.release(&closed.parts);
        }
        self.counts.rows_out += self.emitter.emit(columns, closed.len(), out)?;
        Ok(())
    }

    fn state_batch(&mut self, ids: &[SessionId], ends: Vec<i64>, states: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut columns = self.keyed.book.key_values(ids.iter().map(|id| id.0))?;
        let partition = self.keyed.partition(&columns);
        columns.push(Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id.1))));
        columns.push(Arc::new(Int64Array::from(ends)));
        columns.extend(states);
        self.rows.batch(&partition, columns, ids.len())
    }
}

impl Operator for SessionAggregate {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        self.counts.rows_in += taken;
        let (late, dead) = (out.late.len(), out.dead.len());
        let rows = self.keyed.usable(rows, out)?;
        let calls = &self.calls;
        if let Some((rows, inputs)) = evaluate_or_bury(&self.context.name, rows, out, |rows| calls.evaluate(rows))? {
            self.counts.accumulated += self.add(rows, inputs, out)?;
        }
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.counts.dead_lettered += out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum::<u64>();
        self.keyed.book.compact_keys()
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<i64> {
        Ok(self.keyed.on_watermark(watermark))
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        self.keyed.on_processing_time(now_ms);
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let Some(closed) = self.keyed.take_closed(self.emitter.batch_rows, |_| 1) else { return Ok(false) };
        self.emit(&closed, out)?;
        Ok(true)
    }

    fn next_timer(&self) -> Option<i64> {
        self.keyed.next_timer()
    }

    fn tables(&self) -> Vec<TableSpec> {
        let sessions = TableSpec {
            name: TABLE.to_owned(),
            schema: Arc::clone(self.rows.schema()),
            key_columns: self.calls.key_count() + 1,
            time_column: None,
            append_only: false,
        };
        vec![sessions, self.keyed.bounds_spec()]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let changed: Vec<(SessionId, i64)> =
            self.keyed.book.sessions.iter().filter(|(_, s)| s.is_changed).map(|(id, s)| (*id, s.end)).collect();
        let (ids, ends): (Vec<SessionId>, Vec<i64>) = changed.into_iter().unzip();
        let mut upserts = Vec::new();
        if !ids.is_empty() {
            let states = self.merge_sessions(&ids)?;
            for id in &ids {
                if let Some(session) = self.keyed.book.sessions.get_mut(id) {
                    session.is_changed = false;
                }
            }
            upserts.push(self.state_batch(&ids, ends, states)?);
        }
        let gone: Vec<SessionId> = std::mem::take(&mut self.keyed.book.gone).into_iter().collect();
        let mut deletes = Vec::new();
        if !gone.is_empty() {
            let mut columns = self.keyed.book.key_values(gone.iter().map(|id| id.0))?;
            let partition = self.keyed.partition(&columns);
            columns.push(Arc::new(Int64Array::from_iter_values(gone.iter().map(|id| id.1))));
            deletes.push(self.rows.keys(&partition, columns, gone.len())?);
        }
        let bounds = self.keyed.bounds_delta()?;
        if self.states.is_sparse() {
            self.keyed.compact(&mut self.states)?;
        }
        Ok(vec![TableDelta { table: TABLE.to_owned(), upserts, deletes, closed: None }, bounds])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        let key_count = self.calls.key_count();
        if table != TABLE {
            return self.keyed.restore_bounds(table, &rows);
        }
        let numbers = self.keyed.book.keys(&rows.columns()[1..=key_count], rows.num_rows(), i64::MIN)?;
        let starts = rows.column(key_count + 1).as_primitive::<Int64Type>();
        let ends = rows.column(key_count + 2).as_primitive::<Int64Type>();
        let run = self.states.push(rows.columns()[key_count + 3..].to_vec(), rows.num_rows());
        for (row, key) in numbers.into_iter().enumerate() {
            let window = Window { end: ends.value(row), start: starts.value(row) };
            self.keyed.book.restore_session(key as u32, window, vec![(run, row as u32)]);
        }
        self.keyed.book.compact_keys()
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.keyed.restored(watermark);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keyed.book.bytes() + self.states.bytes()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

/// The rows of `inputs` for which `wanted` holds.
fn keep(inputs: &Inputs, wanted: Vec<bool>) -> Result<Inputs> {
    let wanted = BooleanArray::new(BooleanBuffer::from(wanted), None);
    let columns = inputs.columns.iter().map(|column| filter(column, &wanted)).collect::<Result<_, _>>();
    Ok(Inputs { columns: columns.map_err(internal)?, rows: wanted.true_count() })
}
