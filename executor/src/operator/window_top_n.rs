//! The first rows of each (window, partition) in an order, emitted when the window closes.
//!
//! Rows are held per window with their number of arrival, which breaks ties. When a window's rows have
//! doubled since the last time, those that can no longer be among the first are thrown away, so that
//! memory follows the answer, not the input.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::DataFusionError;
use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{RankFunction, WindowTopNNode};
use qanat_proto::receipt::OperatorCounts;
use qanat_sql::expr;
use qanat_storage::state::{TableDelta, TableSpec};

use super::emit::{Emitter, batch_of};
use super::evaluate::{Expression, evaluate_or_bury, evaluation_error, internal, values};
use super::keys::{KeyIndex, key_type, normalized_float, normalized_key};
use super::state_rows::StateRows;
use super::window_rows::{Due, WindowClock, split_by_window};
use super::{Operator, OperatorContext, Output};

const TABLE: &str = "candidates";
/// Rows of a window before any are thrown away.
const PRUNE_ROWS_MIN: usize = 8_192;

pub struct WindowTopN {
    node: WindowTopNNode,
    context: OperatorContext,
    clock: WindowClock,
    ranking: Ranking,
    windows: BTreeMap<Window, Candidates>,
    /// Number of the next row.
    next_number: i64,
    /// What closes windows, while some are left to be closed.
    due: Option<Due>,
    /// Rows below this number are in a snapshot.
    saved_below: i64,
    closed: Option<i64>,
    state_rows: StateRows,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// How rows of a window are ranked.
struct Ranking {
    order: Vec<(Expression, SortOptions)>,
    partition_by: Vec<usize>,
    partition_types: Vec<DataType>,
    function: RankFunction,
    limit: usize,
    /// The input columns, then the number of arrival.
    numbered: SchemaRef,
}

/// The order of some rows.
struct RowOrder<'r> {
    keys: Option<&'r Rows>,
    numbers: &'r [i64],
}

impl RowOrder<'_> {
    /// By what they are ordered by.
    fn compare(&self, a: u32, b: u32) -> Ordering {
        self.keys.map_or(Ordering::Equal, |keys| keys.row(a as usize).cmp(&keys.row(b as usize)))
    }

    fn arrived(&self, a: u32, b: u32) -> Ordering {
        self.numbers[a as usize].cmp(&self.numbers[b as usize])
    }
}

/// The rows of one window that may still be among the first.
#[derive(Default)]
struct Candidates {
    batches: Vec<RecordBatch>,
    rows: usize,
    /// Rows that were left when last pruned.
    kept: usize,
    bytes: usize,
}

impl WindowTopN {
    pub fn new(node: &WindowTopNNode, context: OperatorContext) -> Result<Self> {
        let input = &context.inputs[0];
        let order = node
            .order_by
            .iter()
            .map(|key| {
                let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
                Ok((expr::physical(&key.expr, input)?, options))
            })
            .collect::<Result<Vec<_>>>()?;
        let partition_types =
            node.partition_by.iter().map(|column| key_type(input.field(*column).data_type())).collect();
        let fields = input.fields().iter().map(|f| f.as_ref().clone());
        let number = Field::new("arrival_number", DataType::Int64, false);
        let numbered = Arc::new(Schema::new(fields.chain([number]).collect::<Vec<_>>()));
        let mut state_fields: Vec<Field> = ["window_end", "window_start", "arrival_number"]
            .map(|name| Field::new(name, DataType::Int64, false))
            .to_vec();
        state_fields.extend(
            input.fields().iter().enumerate().map(|(i, f)| f.as_ref().clone().with_name(format!("column_{i}"))),
        );
        Ok(Self {
            clock: WindowClock::new(node.domain, node.allowed_lateness_ms),
            ranking: Ranking {
                order,
                partition_by: node.partition_by.clone(),
                partition_types,
                function: node.function,
                limit: node.limit,
                numbered,
            },
            node: node.clone(),
            windows: BTreeMap::new(),
            next_number: 0,
            due: None,
            saved_below: 0,
            closed: None,
            state_rows: StateRows::new(state_fields, context.key_groups),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
            context,
        })
    }

    fn error(&self, error: &DataFusionError) -> Error {
        evaluation_error(&self.context.name, error)
    }

    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        for (window, part) in split_by_window(rows, self.node.window)? {
            let count = part.num_rows() as i64;
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(self.next_number..self.next_number + count));
            self.next_number += count;
            self.hold(window, &part, numbers)?;
        }
        Ok(())
    }

    fn hold(&mut self, window: Window, rows: &RecordBatch, numbers: ArrayRef) -> Result<()> {
        let columns = rows.columns().iter().cloned().chain([numbers]).collect();
        let numbered = batch_of(&self.ranking.numbered, columns, rows.num_rows())?;
        let candidates = self.windows.entry(window).or_default();
        candidates.rows += numbered.num_rows();
        candidates.bytes += crate::memory::batch_bytes(&numbered);
        candidates.batches.push(numbered);
        if candidates.rows >= PRUNE_ROWS_MIN.max(candidates.kept * 2) {
            self.ranking.prune(candidates).map_err(|e| evaluation_error(&self.context.name, &e))?;
        }
        Ok(())
    }

    fn emit(&mut self, candidates: &Candidates, out: &mut Output) -> Result<()> {
        let rows = candidates.concat(&self.ranking.numbered)?;
        let (picked, ranks) = self.ranking.rank(&rows, self.node.skip).map_err(|e| self.error(&e))?;
        let rows = take_record_batch(&rows, &picked).map_err(internal)?;
        let mut columns = rows.columns()[..rows.num_columns() - 1].to_vec();
        if self.node.rank_column.is_some() {
            columns.push(Arc::new(ranks));
        }
        self.counts.rows_out += self.emitter.emit(columns, rows.num_rows(), out)?;
        Ok(())
    }
}

impl Candidates {
    fn concat(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        match self.batches.as_slice() {
            [only] => Ok(only.clone()),
            several => concat_batches(schema, several).map_err(internal),
        }
    }
}

impl Ranking {
    /// Throws away rows beyond the limit of their partition.
    fn prune(&self, candidates: &mut Candidates) -> Result<(), DataFusionError> {
        let rows = concat_batches(&self.numbered, &candidates.batches)?;
        // The order of arrival is kept, for batches that go into a snapshot as they stand.
        let mut picked = Vec::new();
        self.each_partition(&rows, |first, _| picked.extend_from_slice(first))?;
        picked.sort_unstable();
        let rows = take_record_batch(&rows, &UInt32Array::from(picked))?;
        *candidates = Candidates {
            rows: rows.num_rows(),
            kept: rows.num_rows(),
            bytes: crate::memory::batch_bytes(&rows),
            batches: vec![rows],
        };
        Ok(())
    }

    /// Rows with a rank in `(skip, limit]`, by partition and rank, and their ranks.
    fn rank(&self, rows: &RecordBatch, skip: usize) -> Result<(UInt32Array, Int64Array), DataFusionError> {
        let (mut picked, mut ranks) = (Vec::new(), Vec::new());
        self.each_partition(rows, |first, order| {
            first.sort_unstable_by(|a, b| order.compare(*a, *b).then_with(|| order.arrived(*a, *b)));
            let mut rank = 0;
            for (at, row) in first.iter().enumerate() {
                let is_equal = at > 0 && order.compare(first[at - 1], *row) == Ordering::Equal;
                rank = match self.function {
                    RankFunction::RowNumber => at + 1,
                    RankFunction::Rank if !is_equal => at + 1,
                    RankFunction::DenseRank if !is_equal => rank + 1,
                    RankFunction::Rank | RankFunction::DenseRank => rank,
                };
                if rank > skip {
                    picked.push(*row);
                    ranks.push(rank as i64);
                }
            }
        })?;
        Ok((picked.into(), ranks.into()))
    }

    /// The rows of each partition up to the limit, in no order. What is beyond it is selected away, not sorted.
    fn each_partition(
        &self,
        rows: &RecordBatch,
        mut each: impl FnMut(&mut [u32], &RowOrder<'_>),
    ) -> Result<(), DataFusionError> {
        let columns = self.order.iter().map(|(e, _)| Ok(normalized_float(&values(e, rows)?)));
        let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
        let fields = columns.iter().zip(&self.order);
        let fields = fields.map(|(c, (_, o))| SortField::new_with_options(c.data_type().clone(), *o)).collect();
        // Without an ORDER BY the order is that of arrival.
        let keys = match columns.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields)?.convert_columns(&columns)?),
        };
        let numbers = rows.column(rows.num_columns() - 1).as_primitive::<Int64Type>().values();
        let order = RowOrder { keys: keys.as_ref(), numbers };
        let (mut rows, starts) = self.by_partition(rows)?;
        for bounds in starts.windows(2) {
            let rows = &mut rows[bounds[0]..bounds[1]];
            let kept = self.up_to_limit(rows, &order);
            each(&mut rows[..kept], &order);
        }
        Ok(())
    }

    /// Puts the rows of a partition up to the limit to the front; their number.
    fn up_to_limit(&self, rows: &mut [u32], order: &RowOrder<'_>) -> usize {
        if rows.len() <= self.limit {
            return rows.len();
        }
        match self.function {
            RankFunction::RowNumber => {
                rows.select_nth_unstable_by(self.limit, |a, b| {
                    order.compare(*a, *b).then_with(|| order.arrived(*a, *b))
                });
                self.limit
            }
            RankFunction::Rank => {
                let (_, last, rest) = rows.select_nth_unstable_by(self.limit - 1, |a, b| order.compare(*a, *b));
                let last = *last;
                // Those that are equal to the last one have its rank.
                let mut kept = 0;
                for at in 0..rest.len() {
                    if order.compare(rest[at], last) == Ordering::Equal {
                        rest.swap(at, kept);
                        kept += 1;
                    }
                }
                self.limit + kept
            }
            RankFunction::DenseRank => {
                rows.sort_unstable_by(|a, b| order.compare(*a, *b));
                let different = rows.chunk_by(|a, b| order.compare(*a, *b) == Ordering::Equal);
                different.take(self.limit).map(<[u32]>::len).sum()
            }
        }
    }

    /// Row numbers by partition, and where each partition starts; its end is the last entry.
    fn by_partition(&self, rows: &RecordBatch) -> Result<(Vec<u32>, Vec<usize>), DataFusionError> {
        let count = rows.num_rows();
        let keys = self.partition_by.iter().map(|i| normalized_key(rows.column(*i))).collect::<Result<Vec<_>, _>>()?;
        let mut partitions = Vec::new();
        let mut index = KeyIndex::new(&self.partition_types)?;
        index.intern(&keys, count, &mut partitions)?;
        let mut starts = vec![0; index.len() + 1];
        for partition in &partitions {
            starts[partition + 1] += 1;
        }
        for partition in 0..index.len() {
            starts[partition + 1] += starts[partition];
        }
        let mut next = starts.clone();
        let mut order = vec![0; count];
        for (row, partition) in partitions.into_iter().enumerate() {
            order[next[partition]] = row as u32;
            next[partition] += 1;
        }
        Ok((order, starts))
    }
}

impl Operator for WindowTopN {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        let (late, dead) = (out.late.len(), out.dead.len());
        let rows = self.clock.admit(rows, self.node.window, out)?;
        // Rows that cannot be ordered are found now, where they can still be put aside.
        let order = &self.ranking.order;
        let check = |rows: &RecordBatch| order.iter().try_for_each(|(e, _)| values(e, rows).map(|_| ()));
        let kept = evaluate_or_bury(&self.context.name, rows, out, check)?;
        self.counts.rows_in += taken;
        self.counts.late += out.late[late..].iter().map(|late| late.rows.num_rows() as u64).sum::<u64>();
        self.counts.dead_lettered += out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum::<u64>();
        let Some((rows, ())) = kept else { return Ok(()) };
        self.counts.accumulated += rows.num_rows() as u64;
        self.add(&rows)
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
        let Some(due) = self.due else { return Ok(false) };
        match self.windows.first_entry().filter(|entry| due.closes(entry.key().end)) {
            Some(entry) => {
                let (window, candidates) = entry.remove_entry();
                self.closed = Some(window.end);
                self.emit(&candidates, out)?;
                Ok(true)
            }
            None => {
                self.due = None;
                Ok(false)
            }
        }
    }

    fn next_timer(&self) -> Option<i64> {
        self.clock.next_timer(self.windows.keys().next().map(|window| window.end))
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec {
            name: TABLE.to_owned(),
            schema: Arc::clone(self.state_rows.schema()),
            key_columns: 3,
            time_column: Some(1),
            append_only: true,
        }]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let saved_below = std::mem::replace(&mut self.saved_below, self.next_number);
        let mut upserts = Vec::new();
        for (window, candidates) in &self.windows {
            for batch in &candidates.batches {
                let number_column = batch.num_columns() - 1;
                let numbers = batch.column(number_column).as_primitive::<Int64Type>();
                let is_new = numbers.iter().map(|number| number.map(|number| number >= saved_below)).collect();
                let rows = filter_record_batch(batch, &is_new).map_err(internal)?;
                let count = rows.num_rows();
                if count == 0 {
                    continue;
                }
                let partition = self.context.partition.first().into_iter().flatten();
                let partition: Vec<ArrayRef> = partition.map(|i| Arc::clone(rows.column(*i))).collect();
                let mut columns: Vec<ArrayRef> = vec![
                    Arc::new(Int64Array::from_value(window.end, count)),
                    Arc::new(Int64Array::from_value(window.start, count)),
                    Arc::clone(rows.column(number_column)),
                ];
                columns.extend(rows.columns()[..number_column].iter().cloned());
                upserts.push(self.state_rows.batch(&partition, columns, count)?);
            }
        }
        Ok(vec![TableDelta { table: TABLE.to_owned(), upserts, deletes: Vec::new(), closed: self.closed.take() }])
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        if table != TABLE {
            return Err(Error::internal(format!("a window top-n has no state table `{table}`")));
        }
        let ends = rows.column(1).as_primitive::<Int64Type>().values();
        let starts = rows.column(2).as_primitive::<Int64Type>().values();
        let numbers = rows.column(3).as_primitive::<Int64Type>().values();
        self.next_number = numbers.iter().fold(self.next_number, |next, number| next.max(number + 1));
        self.saved_below = self.next_number;
        let mut by_window: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            by_window.entry(Window { end: ends[row], start: starts[row] }).or_default().push(row as u32);
        }
        for (window, picked) in by_window {
            let part = take_record_batch(&rows, &arrow::array::UInt32Array::from(picked)).map_err(internal)?;
            let input = batch_of(&self.context.inputs[0], part.columns()[4..].to_vec(), part.num_rows())?;
            self.hold(window, &input, Arc::clone(part.column(3)))?;
        }
        Ok(())
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.clock.watermark = watermark.unwrap_or(i64::MIN);
        let clock = self.clock;
        self.windows.retain(|window, _| !clock.is_late(window.end));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.windows.values().map(|candidates| candidates.bytes).sum()
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
