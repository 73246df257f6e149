//! Columns of the rows between the two phases, and of the state table.
//!
//! ```text
//! partial rows: slice_end (BIGINT, ms)                  | key_0 … | state_0 …     window function
//!               window_start, window_end (TIMESTAMP(3)) | key_0 … | state_0 …     window on window
//! state rows:   key_group | slice_end | slice_start | key_0 … | piece | state_0 …      piece: if states grow
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, UInt32Type};
use qanat_executor_core::window::{Window, Windows};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{WindowAggregateNode, WindowSource};
use qanat_storage::state::TableSpec;

use super::super::emit::{batch_of, constant_time};
use super::super::event_time::milliseconds;
use super::calls::{Calls, States};

/// Name of the state table of a window aggregation over slices.
pub(crate) const SLICE_TABLE: &str = "slices";

/// Rows of one slice that stand one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) slice: Window,
    pub(crate) first: usize,
    pub(crate) rows: usize,
}

/// The columns of partial and of state rows of one node.
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) partial: SchemaRef,
    /// Columns in front of the keys in partial rows.
    window_columns: usize,
    keys: usize,
    /// Whether state rows say which piece of a state they are.
    has_pieces: bool,
    key_fields: Vec<Field>,
    state_fields: Vec<Field>,
}

/// A column by which state is spread over key groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartitionColumn {
    Key(usize),
    WindowStart,
    WindowEnd,
}

impl Layout {
    pub(crate) fn new(node: &WindowAggregateNode, calls: &Calls) -> Self {
        let key_types = calls.key_types.iter();
        let key_fields: Vec<Field> =
            key_types.enumerate().map(|(i, t)| Field::new(format!("key_{i}"), t.clone(), true)).collect();
        let state_fields: Vec<Field> = calls
            .state_fields
            .iter()
            .enumerate()
            .map(|(i, field)| Field::new(format!("state_{i}"), field.data_type().clone(), true))
            .collect();
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let window = match node.window {
            WindowSource::Function { .. } => vec![Field::new("slice_end", DataType::Int64, false)],
            WindowSource::Columns { .. } => {
                vec![Field::new("window_start", time.clone(), false), Field::new("window_end", time, false)]
            }
        };
        let window_columns = window.len();
        let partial = [window, key_fields.clone(), state_fields.clone()].concat();
        let keys = key_fields.len();
        let has_pieces = calls.states_grow;
        Self { partial: Arc::new(Schema::new(partial)), window_columns, keys, has_pieces, key_fields, state_fields }
    }

    /// Columns of partial rows by which they are spread: the keys, or else the window, if it is given by
    /// columns; else none.
    pub(crate) fn partial_partition(&self) -> Vec<usize> {
        match (self.keys, self.window_columns) {
            (0, 2) => vec![0, 1],
            (keys, window) => (window..window + keys).collect(),
        }
    }

    /// What a partition column of partial rows is.
    pub(crate) fn partial_column(&self, column: usize) -> Result<PartitionColumn> {
        match (column, self.window_columns) {
            (0, 2) => Ok(PartitionColumn::WindowStart),
            (1, 2) => Ok(PartitionColumn::WindowEnd),
            (column, window) if column >= window && column < window + self.keys => {
                Ok(PartitionColumn::Key(column - window))
            }
            _ => Err(Error::internal("partial rows are spread by a column that is no key")),
        }
    }

    pub(crate) fn partial_rows(&self, slice: Window, states: States) -> Result<RecordBatch> {
        let window: Vec<ArrayRef> = if self.window_columns == 1 {
            vec![Arc::new(Int64Array::from_value(slice.end, states.rows))]
        } else {
            vec![constant_time(slice.start, states.rows), constant_time(slice.end, states.rows)]
        };
        batch_of(&self.partial, [window, states.keys, states.states].concat(), states.rows)
    }

    /// Slices and states of partial rows.
    pub(crate) fn read_partial(&self, rows: &RecordBatch, windows: Option<&Windows>) -> Result<(Vec<Run>, States)> {
        let runs = match windows {
            Some(windows) if self.window_columns == 1 => {
                let ends = rows.column(0).as_primitive::<Int64Type>().values();
                let unit = windows.slice_length();
                runs(ends.len(), |i| Window { end: ends[i], start: ends[i] - unit })
            }
            _ => {
                let (starts, ends) = (milliseconds(rows.column(0))?, milliseconds(rows.column(1))?);
                let (starts, ends) = (starts.values(), ends.values());
                runs(ends.len(), |i| Window { end: ends[i], start: starts[i] })
            }
        };
        Ok((runs, self.states_from(rows, self.window_columns)))
    }

    fn states_from(&self, rows: &RecordBatch, first: usize) -> States {
        let columns = &rows.columns()[first..];
        let (keys, states) = columns.split_at(self.keys);
        States { keys: keys.to_vec(), states: states.to_vec(), rows: rows.num_rows() }
    }

    /// Fields of the state table behind the key group.
    pub(crate) fn table_fields(&self) -> Vec<Field> {
        let window = ["slice_end", "slice_start"].map(|name| Field::new(name, DataType::Int64, false)).to_vec();
        let piece = self.has_pieces.then(|| Field::new("piece", DataType::UInt32, false)).into_iter().collect();
        [window, self.key_fields.clone(), piece, self.state_fields.clone()].concat()
    }

    pub(crate) fn table_spec(&self, schema: &SchemaRef) -> TableSpec {
        TableSpec {
            name: SLICE_TABLE.to_owned(),
            schema: Arc::clone(schema),
            key_columns: 2 + self.keys + usize::from(self.has_pieces),
            time_column: Some(1),
            append_only: false,
        }
    }

    /// State columns behind the key group.
    pub(crate) fn table_columns(&self, slice: Window, states: &States, pieces: &[u32]) -> Vec<ArrayRef> {
        let mut columns = self.table_keys(slice, &states.keys, pieces, states.rows);
        columns.extend(states.states.iter().cloned());
        columns
    }

    /// Key columns of state rows behind the key group.
    pub(crate) fn table_keys(&self, slice: Window, keys: &[ArrayRef], pieces: &[u32], rows: usize) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_value(slice.end, rows)),
            Arc::new(Int64Array::from_value(slice.start, rows)),
        ];
        columns.extend(keys.iter().cloned());
        if self.has_pieces {
            columns.push(Arc::new(UInt32Array::from(pieces.to_vec())));
        }
        columns
    }

    /// The columns by whose hash the key group of state rows is found.
    pub(crate) fn partition_columns(
        &self,
        partition: &[PartitionColumn],
        slice: Window,
        keys: &[ArrayRef],
        rows: usize,
    ) -> Vec<ArrayRef> {
        let column = |part: &PartitionColumn| match part {
            PartitionColumn::Key(i) => Arc::clone(&keys[*i]),
            PartitionColumn::WindowStart => constant_time(slice.start, rows),
            PartitionColumn::WindowEnd => constant_time(slice.end, rows),
        };
        partition.iter().map(column).collect()
    }

    /// Slices, states and pieces of rows of the state table.
    pub(crate) fn read_table(&self, rows: &RecordBatch) -> (Vec<Run>, States, Option<UInt32Array>) {
        let ends = rows.column(1).as_primitive::<Int64Type>().values();
        let starts = rows.column(2).as_primitive::<Int64Type>().values();
        let runs = runs(rows.num_rows(), |i| Window { end: ends[i], start: starts[i] });
        let mut columns = rows.columns()[3..].to_vec();
        let piece = self.has_pieces.then(|| columns.remove(self.keys));
        let states = columns.split_off(self.keys);
        let pieces = piece.map(|piece| piece.as_primitive::<UInt32Type>().clone());
        (runs, States { keys: columns, states, rows: rows.num_rows() }, pieces)
    }
}

/// Cuts rows into runs of the same slice.
pub(crate) fn runs(rows: usize, slice_of: impl Fn(usize) -> Window) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for row in 0..rows {
        let slice = slice_of(row);
        match runs.last_mut() {
            Some(run) if run.slice == slice => run.rows += 1,
            _ => runs.push(Run { slice, first: row, rows: 1 }),
        }
    }
    runs
}

/// Rows grouped by slice: runs of each slice, the rows picked in that order. `None`: the runs as they
/// are do well, being few or long.
pub(crate) fn regroup(runs: &[Run], rows: usize) -> Option<(Vec<Run>, arrow::array::UInt32Array)> {
    const SHORT_RUN_ROWS: usize = 64;
    if runs.len() < 8 || rows / runs.len() >= SHORT_RUN_ROWS {
        return None;
    }
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by_key(|run| run.slice);
    let mut order: Vec<u32> = Vec::with_capacity(rows);
    let mut grouped: Vec<Run> = Vec::new();
    for run in sorted {
        match grouped.last_mut() {
            Some(last) if last.slice == run.slice => last.rows += run.rows,
            _ => grouped.push(Run { slice: run.slice, first: order.len(), rows: run.rows }),
        }
        order.extend(run.first as u32..(run.first + run.rows) as u32);
    }
    Some((grouped, order.into()))
}
