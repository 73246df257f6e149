//! Windowed aggregation over slices: TUMBLE, HOP, CUMULATE, and windows that rows already carry.
//!
//! ```text
//!   Partial:  rows -> judge late -> accumulate per slice -> states of each slice      (before the shuffle)
//!   Final:    states -> merge per slice -> merge the slices of a window -> result     (behind it)
//!   Whole:    both in one
//! ```
//! A partial phase holds nothing across a barrier: it flushes, so only `Whole` and `Final` have state.
//! What must never happen: a row that reaches a slice whose windows have all fired (it would be lost),
//! or a window that fires twice (P13). Rows are judged by the operator's own watermark before they are
//! accumulated; a partial phase sends its states of a slice before the watermark that closes it, so that
//! a final phase never meets a late one.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion_common::DataFusionError;
use datafusion_expr::GroupsAccumulator;
use qanat_executor_core::window::{Window, Windows, is_closed};
use qanat_proto::check;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{Firing, TimeDomain, WindowAggregateNode, WindowColumn, WindowSource};
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::state::{TableDelta, TableSpec};

use super::super::emit::{Emitter, constant_time};
use super::super::evaluate::{evaluate_or_bury, internal};
use super::super::event_time::{milliseconds, split_late, split_times};
use super::super::state_rows::StateRows;
use super::super::window_rows::PROCESSING_GRACE_MS;
use super::super::{Operator, OperatorContext, Output};
use super::calls::{Calls, Inputs, States};
use super::emission::{Emission, Groups};
use super::layout::{Layout, PartitionColumn, Run, SLICE_TABLE, regroup, runs};
use super::shared::Shared;
use super::slice_table::{Changed, Results, SliceTable, TableFactory};
use super::slices::Slices;
use qanat_proto::physical::Phase;

/// Batches of a fired window that one call puts out.
const BATCHES_AT_ONCE: usize = 4;
/// Groups that a partial phase holds before it sends them on.
const PARTIAL_GROUPS_MAX: usize = 1 << 20;
/// Rows after which a partial phase asks whether it still pays.
const PARTIAL_PROBE_ROWS: u64 = 100_000;
/// Rows sent on unaggregated before it tries again.
const PASS_THROUGH_ROWS: u64 = 20 * PARTIAL_PROBE_ROWS;

pub struct WindowAggregate {
    node: WindowAggregateNode,
    context: OperatorContext,
    phase: Phase,
    /// None: windows are given by columns.
    windows: Option<Windows>,
    factory: TableFactory,
    layout: Layout,
    partition: Vec<PartitionColumn>,
    /// By slice; in processing time by window. There slices cannot be shared: which of its windows have
    /// fired is told by the clock of a process, not by a watermark, and is not known after a restart.
    slices: Slices,
    shared: Shared,
    /// `i64::MIN`: none yet.
    watermark: i64,
    processing_time: i64,
    /// Slices that end at or before this have been dropped since the last snapshot.
    closed: Option<i64>,
    /// What is still to be fired.
    due: Option<Due>,
    /// What is being put out.
    emission: Option<Emission>,
    state_rows: StateRows,
    emitter: Emitter,
    thinning: Thinning,
    counts: OperatorCounts,
}

/// Windows to be fired, one at a time.
struct Due {
    to: i64,
    grace: i64,
    /// Of windows that are given by a function: the end of the next one.
    next: i64,
}

/// Whether a partial phase still makes fewer rows of many.
struct Thinning {
    /// Makes single-row states; None if that would be slow.
    converters: Option<Vec<Box<dyn GroupsAccumulator>>>,
    /// Rows taken since the last flush.
    rows: u64,
    /// Rows still to be passed through.
    pass_through: u64,
}

impl WindowAggregate {
    /// `context.inputs[0]`: the node's input, or for [`Phase::Final`] the partial schema.
    /// `raw_input`: the node's input in any case.
    pub fn new(
        node: &WindowAggregateNode,
        phase: Phase,
        context: OperatorContext,
        raw_input: &arrow::datatypes::SchemaRef,
    ) -> Result<Self> {
        let calls = Calls::new(&context.name, &node.keys, &node.aggregates, raw_input)?;
        let layout = Layout::new(node, &calls);
        let windows = match node.window {
            WindowSource::Function { shape, domain: TimeDomain::Event, .. } => {
                Some(Windows::new(shape, node.allowed_lateness_ms, node.firing)?)
            }
            // No row is behind the clock.
            WindowSource::Function { shape, domain: TimeDomain::Processing, .. } => {
                Some(Windows::new(shape, 0, Firing::Eager)?)
            }
            WindowSource::Columns { .. } => None,
        };
        let partition = partition_of(node, phase, &layout, &context)?;
        let types = calls.input_types(raw_input)?;
        let converters = match phase {
            Phase::Partial if calls.convert_quickly() => Some(calls.accumulators()?),
            Phase::Partial | Phase::Final | Phase::Whole => None,
        };
        let emitter = match phase {
            Phase::Partial => Emitter::new(Arc::clone(&layout.partial), context.batch_rows),
            Phase::Final | Phase::Whole => Emitter::new(Arc::clone(&context.output), context.batch_rows),
        };
        let factory = TableFactory::new(calls, &types, phase != Phase::Partial);
        Ok(Self {
            node: node.clone(),
            phase,
            windows,
            shared: factory.shared(windows.map_or(1, |windows| windows.windows_per_slice())),
            factory,
            partition,
            slices: Slices::default(),
            watermark: i64::MIN,
            processing_time: i64::MIN,
            closed: None,
            due: None,
            emission: None,
            state_rows: StateRows::new(layout.table_fields(), context.key_groups),
            layout,
            emitter,
            thinning: Thinning { converters, rows: 0, pass_through: 0 },
            counts: OperatorCounts::default(),
            context,
        })
    }

    /// Without the fast path: for tests that compare the two.
    #[cfg(test)]
    pub(crate) fn general_only(mut self) -> Self {
        self.factory.disable_fast_path();
        self.shared = self.factory.shared(self.windows.map_or(1, |windows| windows.windows_per_slice()));
        self
    }

    #[cfg(test)]
    pub(crate) fn has_fast_path(&self) -> bool {
        self.factory.has_fast_path()
    }

    fn domain(&self) -> TimeDomain {
        match self.node.window {
            WindowSource::Function { domain, .. } | WindowSource::Columns { domain, .. } => domain,
        }
    }

    /// Rows of a first phase: judged, evaluated, and cut by slice.
    fn accumulate(&mut self, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows();
        let (late, dead) = (out.late.len(), out.dead.len());
        let prepared = self.prepare(rows, out)?;
        let late: usize = out.late[late..].iter().map(|late| late.rows.num_rows()).sum();
        let dead: usize = out.dead[dead..].iter().map(|dead| dead.rows.num_rows()).sum();
        self.counts.late += late as u64;
        self.counts.dead_lettered += dead as u64;
        self.counts.accumulated += (taken - late - dead) as u64;
        let Some((runs, inputs)) = prepared else { return Ok(()) };
        if self.thinning.pass_through > 0 {
            return self.pass_through(&runs, &inputs, out);
        }
        self.thinning.rows += inputs.rows as u64;
        match regroup(&runs, inputs.rows) {
            None => self.update(&runs, &inputs)?,
            Some((runs, order)) => {
                let columns = inputs.columns.iter().map(|c| take(c, &order, None)).collect::<Result<_, _>>();
                let inputs = Inputs { columns: columns.map_err(internal)?, rows: inputs.rows };
                self.update(&runs, &inputs)?;
            }
        }
        if self.phase == Phase::Partial {
            self.thin(out)?;
        }
        Ok(())
    }

    fn update(&mut self, runs: &[Run], inputs: &Inputs) -> Result<()> {
        for run in runs {
            if let (Some(windows), TimeDomain::Processing) = (self.windows, self.domain()) {
                // Rows of one batch have one time.
                for window in windows.windows_of_slice(run.slice.end) {
                    self.slices.change(window, &self.factory, |table| table.update(inputs))?;
                }
                continue;
            }
            self.touch(run.slice);
            self.slices.change(run.slice, &self.factory, |table| {
                if run.rows == inputs.rows {
                    table.update(inputs)
                } else {
                    table.update(&inputs.slice(run.first, run.rows))
                }
            })?;
        }
        Ok(())
    }

    /// Rows are added to this slice.
    fn touch(&mut self, slice: Window) {
        if self.shared.holds(slice.end) {
            self.shared.forget();
        }
    }

    /// The rows that count, by slice. Late rows and dead letters are put out.
    fn prepare(&self, rows: RecordBatch, out: &mut Output) -> Result<Option<(Vec<Run>, Inputs)>> {
        let rows = match self.node.window {
            WindowSource::Function { domain: TimeDomain::Processing, .. } => rows,
            WindowSource::Function { domain: TimeDomain::Event, time_column, .. } => {
                let (rows, times) = split_times(rows, time_column, out)?;
                let windows = self.windows.as_ref().ok_or_else(|| Error::internal("a window function has no shape"))?;
                let bound = windows.late_below(self.watermark);
                split_late(rows, time_column, &times, |t| t < bound, self.watermark, out)?
            }
            WindowSource::Columns { start, end, domain } => {
                let (rows, _) = split_times(rows, start, out)?;
                let (rows, ends) = split_times(rows, end, out)?;
                let lateness = self.node.allowed_lateness_ms;
                let is_late = |t: i64| domain == TimeDomain::Event && is_closed(t, lateness, self.watermark);
                split_late(rows, end, &ends, is_late, self.watermark, out)?
            }
        };
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let calls = &self.factory.calls;
        let Some((rows, inputs)) = evaluate_or_bury(&self.context.name, rows, out, |rows| calls.evaluate(rows))? else {
            return Ok(None);
        };
        Ok(Some((self.runs_of(&rows)?, inputs)))
    }

    fn runs_of(&self, rows: &RecordBatch) -> Result<Vec<Run>> {
        match (&self.node.window, &self.windows) {
            (WindowSource::Function { domain: TimeDomain::Processing, .. }, Some(windows)) => {
                let end = windows.slice_end(self.processing_time);
                let slice = Window { end, start: end - windows.slice_length() };
                Ok(vec![Run { slice, first: 0, rows: rows.num_rows() }])
            }
            (WindowSource::Function { time_column, .. }, Some(windows)) => {
                let times = milliseconds(rows.column(*time_column))?;
                let unit = windows.slice_length();
                let runs = windows.slice_runs(times.values()).map(|run| Run {
                    slice: Window { end: run.slice_end, start: run.slice_end - unit },
                    first: run.first,
                    rows: run.rows,
                });
                Ok(runs.collect())
            }
            (WindowSource::Columns { start, end, .. }, _) => {
                let (starts, ends) = (milliseconds(rows.column(*start))?, milliseconds(rows.column(*end))?);
                let (starts, ends) = (starts.values(), ends.values());
                Ok(runs(rows.num_rows(), |i| Window { end: ends[i], start: starts[i] }))
            }
            (WindowSource::Function { .. }, None) => Err(Error::internal("a window function has no shape")),
        }
    }

    /// States of a first phase.
    fn merge(&mut self, rows: &RecordBatch) -> Result<()> {
        let taken = rows.num_rows() as u64;
        let (runs, states) = self.layout.read_partial(rows, self.windows.as_ref())?;
        for run in &runs {
            let is_needed = self.domain() == TimeDomain::Processing || !self.is_dead(run.slice);
            let name = &self.context.name;
            check!(I13, is_needed, "{name}: partial rows of {:?} at watermark {}", run.slice, self.watermark)?;
        }
        match regroup(&runs, states.rows) {
            None => self.merge_runs(&runs, &states)?,
            Some((runs, order)) => {
                let states = states.take(&order).map_err(|e| self.factory.calls.error(&e))?;
                self.merge_runs(&runs, &states)?;
            }
        }
        self.counts.accumulated += taken;
        Ok(())
    }

    fn merge_runs(&mut self, runs: &[Run], states: &States) -> Result<()> {
        for run in runs {
            self.touch(run.slice);
            self.slices.change(run.slice, &self.factory, |table| {
                if run.rows == states.rows {
                    table.merge(states)
                } else {
                    table.merge(&states.slice(run.first, run.rows))
                }
            })?;
        }
        Ok(())
    }

    /// Whether all windows of a slice have fired.
    fn is_dead(&self, slice: Window) -> bool {
        match &self.windows {
            Some(windows) => windows.is_dead(slice.end, self.watermark),
            None => is_closed(slice.end, self.node.allowed_lateness_ms, self.watermark),
        }
    }

    /// The windows that are due when time moves from `from` to `to`. `grace`: how long windows given by
    /// columns stay open beyond their end.
    fn close(&mut self, from: i64, to: i64, grace: i64) {
        let next = match (&self.windows, self.slices.first()) {
            (Some(windows), Some(first)) if from > i64::MIN => first.end.max(windows.first_unfired(from)),
            (_, first) => first.map_or(i64::MAX, |first| first.end),
        };
        self.due = Some(Due { to, grace, next });
    }

    /// Fires the next window that is due; false if there is none.
    fn fire(&mut self, due: &mut Due) -> Result<bool> {
        let Some(first) = self.slices.first() else { return Ok(false) };
        let Some(windows) = self.windows.filter(|_| self.domain() == TimeDomain::Event) else {
            if !is_closed(first.end, due.grace, due.to) {
                return Ok(false);
            }
            self.fire_alone(first)?;
            return Ok(true);
        };
        due.next = due.next.max(first.end);
        if !windows.has_fired(due.next, due.to) {
            return Ok(false);
        }
        let window = windows.windows_of_slice(due.next).next();
        let window = window.ok_or_else(|| Error::internal("a slice belongs to no window"))?;
        if windows.windows_per_slice() == 1 {
            self.fire_alone(window)?;
        } else {
            match self.shared.window(window, &mut self.slices, &self.factory)? {
                Some(groups) => self.emission = Some(Emission::new(window, groups)),
                None => self.drop_behind(window)?,
            }
        }
        due.next += windows.slice_length();
        Ok(true)
    }

    /// Fires a window that is a slice of its own.
    fn fire_alone(&mut self, window: Window) -> Result<()> {
        if let Some(table) = self.slices.remove(window) {
            self.drop_until(window.end);
            self.emission = Some(Emission::new(window, Groups::of(table)?));
        }
        Ok(())
    }

    /// Drops slices that no window behind this one needs.
    fn drop_behind(&mut self, window: Window) -> Result<()> {
        let Some(windows) = self.windows else { return Ok(()) };
        let mut gone = Vec::new();
        while let Some(slice) = self.slices.first()
            && windows.last_window_end(slice.start) <= window.end
        {
            gone.extend(self.slices.remove(slice).map(|table| (slice, table)));
        }
        if let Some((last, _)) = gone.last() {
            self.drop_until(last.end);
        }
        self.shared.leave(&gone)
    }

    /// A partial phase sends what the final one holds back.
    fn watermark_behind(&self) -> i64 {
        match (&self.windows, self.phase) {
            (Some(windows), Phase::Whole | Phase::Final) => windows.held_back(self.watermark),
            (Some(_), Phase::Partial) | (None, _) => self.watermark,
        }
    }

    fn drop_until(&mut self, end: i64) {
        self.closed = Some(self.closed.map_or(end, |closed| closed.max(end)));
    }

    /// Puts out a few batches of the window that has fired; false if there is none.
    fn emit(&mut self, out: &mut Output) -> Result<bool> {
        let Some(mut emission) = self.emission.take() else { return Ok(false) };
        for _ in 0..BATCHES_AT_ONCE {
            let Some(results) = emission.next(self.emitter.batch_rows, &self.shared, &self.factory.calls)? else {
                self.drop_behind(emission.window)?;
                return Ok(true);
            };
            self.emit_results(emission.window, results, out)?;
        }
        self.emission = Some(emission);
        Ok(true)
    }

    fn emit_results(&mut self, window: Window, results: Results, out: &mut Output) -> Result<()> {
        let mut columns: Vec<ArrayRef> = results.keys;
        columns.extend(results.values);
        for column in &self.node.window_columns {
            let time = match column {
                WindowColumn::Start => window.start,
                WindowColumn::End => window.end,
                WindowColumn::Time => window.end - 1,
            };
            columns.push(constant_time(time, results.rows));
        }
        self.counts.rows_out += self.emitter.emit(columns, results.rows, out)?;
        Ok(())
    }

    /// Sends on the states of slices for which `wanted` holds.
    fn send(&mut self, wanted: impl Fn(&Window) -> bool, out: &mut Output) -> Result<()> {
        let slices: Vec<Window> = self.slices.all().filter(|slice| wanted(slice)).collect();
        for slice in slices {
            let Some(mut table) = self.slices.remove(slice) else { continue };
            for states in table.take_states()? {
                self.send_states(slice, states, out)?;
            }
        }
        Ok(())
    }

    fn send_states(&mut self, slice: Window, states: States, out: &mut Output) -> Result<()> {
        let rows = states.rows;
        let batch = self.layout.partial_rows(slice, states)?;
        self.counts.rows_out += self.emitter.emit(batch.columns().to_vec(), rows, out)?;
        Ok(())
    }

    /// Decides whether partial aggregation pays: if nearly every row is a group of its own, rows are
    /// better sent on as they are.
    fn thin(&mut self, out: &mut Output) -> Result<()> {
        let Some(_) = self.thinning.converters else {
            return if self.slices.groups() > PARTIAL_GROUPS_MAX { self.send_all(out) } else { Ok(()) };
        };
        if self.thinning.rows < PARTIAL_PROBE_ROWS {
            return Ok(());
        }
        let groups = self.slices.groups();
        let is_useless = groups as u64 > self.thinning.rows / 4 * 3;
        if is_useless || groups > PARTIAL_GROUPS_MAX {
            self.send_all(out)?;
            self.thinning.pass_through = if is_useless { PASS_THROUGH_ROWS } else { 0 };
        }
        Ok(())
    }

    fn send_all(&mut self, out: &mut Output) -> Result<()> {
        self.thinning.rows = 0;
        self.send(|_| true, out)
    }

    /// Sends rows on as states of one row each.
    fn pass_through(&mut self, runs: &[Run], inputs: &Inputs, out: &mut Output) -> Result<()> {
        self.thinning.pass_through = self.thinning.pass_through.saturating_sub(inputs.rows as u64);
        let states = self.single_row_states(inputs).map_err(|e| self.factory.calls.error(&e))?;
        for run in runs {
            self.send_states(run.slice, states.slice(run.first, run.rows), out)?;
        }
        Ok(())
    }

    fn single_row_states(&self, inputs: &Inputs) -> Result<States, DataFusionError> {
        let calls = &self.factory.calls;
        let mut states = Vec::with_capacity(calls.state_fields.len());
        for (call, converter) in calls.calls.iter().zip(self.thinning.converters.iter().flatten()) {
            states.extend(converter.convert_to_state(&call.arguments(inputs), call.filter(inputs))?);
        }
        Ok(States { keys: inputs.columns[..calls.key_count()].to_vec(), states, rows: inputs.rows })
    }
}

impl Operator for WindowAggregate {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        match self.phase {
            Phase::Final => self.merge(&rows),
            Phase::Partial | Phase::Whole => self.accumulate(rows, out),
        }
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<i64> {
        if watermark <= self.watermark {
            return Ok(self.watermark_behind());
        }
        let from = std::mem::replace(&mut self.watermark, watermark);
        let lateness = self.node.allowed_lateness_ms;
        let is_last = watermark == i64::MAX;
        match (self.phase, self.domain()) {
            // States of a slice go before the watermark that lets one of its windows fire.
            (Phase::Partial, _) => {
                let windows = self.windows;
                let is_due = |slice: &Window| match &windows {
                    Some(windows) => windows.has_fired(slice.end, watermark),
                    None => is_closed(slice.end, lateness, watermark),
                };
                self.send(|slice| is_last || is_due(slice), out)?;
            }
            (Phase::Whole | Phase::Final, TimeDomain::Event) => self.close(from, watermark, lateness),
            (Phase::Whole | Phase::Final, TimeDomain::Processing) if is_last => {
                self.close(self.processing_time, i64::MAX, 0);
            }
            (Phase::Whole | Phase::Final, TimeDomain::Processing) => {}
        }
        Ok(self.watermark_behind())
    }

    fn on_processing_time(&mut self, now_ms: i64, _out: &mut Output) -> Result<()> {
        if self.domain() == TimeDomain::Event || now_ms <= self.processing_time {
            return Ok(());
        }
        let from = std::mem::replace(&mut self.processing_time, now_ms);
        let grace = if self.windows.is_some() { 0 } else { PROCESSING_GRACE_MS };
        self.close(from, now_ms, grace);
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        if self.emit(out)? {
            return Ok(true);
        }
        let Some(mut due) = self.due.take() else { return Ok(false) };
        let has_fired = self.fire(&mut due)?;
        self.due = has_fired.then_some(due);
        Ok(has_fired)
    }

    fn next_timer(&self) -> Option<i64> {
        if self.domain() == TimeDomain::Event {
            return None;
        }
        let Some(first) = self.slices.first() else { return Some(i64::MAX) };
        Some(match &self.windows {
            Some(_) => first.end,
            None => first.end.saturating_add(PROCESSING_GRACE_MS),
        })
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.phase == Phase::Partial { self.send_all(out) } else { Ok(()) }
    }

    fn tables(&self) -> Vec<TableSpec> {
        match self.phase {
            Phase::Partial => Vec::new(),
            Phase::Whole | Phase::Final => vec![self.layout.table_spec(self.state_rows.schema())],
        }
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        if self.phase == Phase::Partial {
            return Ok(Vec::new());
        }
        let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
        let slices: Vec<Window> = self.slices.all().collect();
        for slice in slices {
            for changed in self.slices.change(slice, &self.factory, SliceTable::take_changed)? {
                let Changed { states, pieces, gone } = changed;
                let partition = self.layout.partition_columns(&self.partition, slice, &states.keys, states.rows);
                let columns = self.layout.table_columns(slice, &states, &pieces);
                upserts.push(self.state_rows.batch(&partition, columns, states.rows)?);
                if let Some((keys, pieces)) = gone {
                    let rows = pieces.len();
                    let partition = self.layout.partition_columns(&self.partition, slice, &keys, rows);
                    let keys = self.layout.table_keys(slice, &keys, &pieces, rows);
                    deletes.push(self.state_rows.keys(&partition, keys, rows)?);
                }
            }
        }
        let table = SLICE_TABLE.to_owned();
        Ok(vec![TableDelta { table, upserts, deletes, closed: self.closed.take() }])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if table != SLICE_TABLE {
            return Err(Error::internal(format!("{} has no state table `{table}`", self.context.name)));
        }
        let (mut runs, mut states, mut pieces) = self.layout.read_table(&rows);
        if let Some((grouped, order)) = regroup(&runs, states.rows) {
            runs = grouped;
            states = states.take(&order).map_err(|e| self.factory.calls.error(&e))?;
            pieces = pieces.map(|pieces| order.values().iter().map(|row| pieces.value(*row as usize)).collect());
        }
        for run in &runs {
            let states = states.slice(run.first, run.rows);
            let pieces = pieces.as_ref().map_or_else(Vec::new, |all| all.slice(run.first, run.rows).values().to_vec());
            self.slices.change(run.slice, &self.factory, |table| table.restore(states, pieces))?;
        }
        Ok(())
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.watermark = watermark.unwrap_or(i64::MIN);
        if self.domain() == TimeDomain::Event {
            let dead: Vec<Window> = self.slices.all().filter(|slice| self.is_dead(*slice)).collect();
            for slice in dead {
                self.slices.remove(slice);
                self.drop_until(slice.end);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let emitted = self.emission.as_ref().map_or(0, Emission::bytes);
        self.slices.bytes() + self.shared.bytes() + emitted
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

/// What the partition columns of the operator's input are in terms of its state.
fn partition_of(
    node: &WindowAggregateNode,
    phase: Phase,
    layout: &Layout,
    context: &OperatorContext,
) -> Result<Vec<PartitionColumn>> {
    let columns = context.partition.first().map(Vec::as_slice).unwrap_or_default();
    let raw = |column: &usize| {
        let key = node.keys.iter().position(|key| key == column).map(PartitionColumn::Key);
        let window = match node.window {
            WindowSource::Columns { start, .. } if start == *column => Some(PartitionColumn::WindowStart),
            WindowSource::Columns { end, .. } if end == *column => Some(PartitionColumn::WindowEnd),
            WindowSource::Columns { .. } | WindowSource::Function { .. } => None,
        };
        key.or(window).ok_or_else(|| Error::internal("rows are spread by a column that is no key of the aggregation"))
    };
    match phase {
        Phase::Partial => Ok(Vec::new()),
        Phase::Whole => columns.iter().map(raw).collect(),
        Phase::Final => columns.iter().map(|column| layout.partial_column(*column)).collect(),
    }
}

impl Calls {
    /// Types of the columns of [`Inputs`].
    pub(crate) fn input_types(&self, input: &arrow::datatypes::SchemaRef) -> Result<Vec<DataType>> {
        self.types(input).map_err(|e| self.error(&e))
    }
}
