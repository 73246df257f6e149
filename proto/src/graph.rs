//! The job graph: the contract between the SQL planner, the coordinator and the executors.
//!
//! A graph is plain data. Expressions are encoded logical expressions (`qanat_sql::expr` encodes and
//! decodes them) over the *input schema* of the operator that holds them; the input schema of a
//! two-input operator is the left schema followed by the right one. Field names are unique within
//! every schema of a graph, so that an expression names a column by its bare name.
//!
//! Stages. A graph says nothing of parallelism or of chains: the executor derives both when a
//! generation is deployed, so the same graph runs at any parallelism and saved state finds its
//! operator by `OperatorId`.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::changelog::{Changelog, SourceChangelog};
use crate::connector::TableDescriptor;
use crate::error::nearest;
use crate::ids::OperatorId;
use crate::{Code, Error, Result};

/// Digits of an operator's id beside its name, as metrics show them.
const OPERATOR_DIGITS: usize = 8;
/// Operators that an error lists.
const OPERATORS_LISTED: usize = 20;

/// One connected dataflow. Operators stand in topological order: inputs before consumers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobGraph {
    pub operators: Vec<Operator>,
    pub edges: Vec<Edge>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    pub id: OperatorId,
    /// What EXPLAIN and metrics call it, for example `WindowAggregate(TUMBLE 10s)`.
    pub name: String,
    pub kind: OperatorKind,
    /// Schema of the rows it emits, with their kinds if they are a changelog. A sink's is the schema of the rows it
    /// takes.
    pub output: SchemaRef,
    /// What the rows that it emits say of those before them; of a sink, the rows that it takes.
    #[serde(default, skip_serializing_if = "Changelog::is_append")]
    pub changelog: Changelog,
    /// How long it keeps what came of each input and nobody touches, by the clock (`table.exec.state.ttl`, `STATE_TTL`).
    /// 0: for as long as the job lives. What has one input has the first.
    #[serde(default, skip_serializing_if = "is_forever")]
    pub ttl_ms: [u64; 2],
}

impl Operator {
    /// Whether it forgets anything that an event time does not end.
    pub fn has_ttl(&self) -> bool {
        !is_forever(&self.ttl_ms)
    }
}

fn is_forever(ttl_ms: &[u64; 2]) -> bool {
    *ttl_ms == [0; 2]
}

/// Rows of `from` go to input `port` of `to`. Several edges into one port are a union.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: OperatorId,
    pub to: OperatorId,
    /// 0, or 1 for the right side of a two-input operator.
    pub port: usize,
    pub partitioning: Partitioning,
}

/// How rows find the subtask of the consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioning {
    /// Subtask i to subtask i; the two are chained where the consumer has only this input.
    Forward,
    /// By the key group of these columns of the producer's output.
    Hash { columns: Vec<usize> },
    /// All rows to subtask 0.
    Single,
    /// Subtask i to subtask i modulo `subtasks`: fewer consumers than producers.
    Limited { subtasks: u32 },
}

/// An encoded logical expression with its text for EXPLAIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedExpr {
    #[serde(with = "hex_bytes")]
    pub bytes: Vec<u8>,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedExpr {
    pub name: String,
    pub expr: EncodedExpr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OperatorKind {
    Source(SourceNode),
    Changes(ChangesNode),
    LatestRows(LatestRowsNode),
    Calc(CalcNode),
    Unnest(UnnestNode),
    AssignWindow(AssignWindowNode),
    WindowAggregate(WindowAggregateNode),
    GroupAggregate(GroupAggregateNode),
    OverAggregate(OverAggregateNode),
    Join(JoinNode),
    IntervalJoin(IntervalJoinNode),
    TemporalJoin(TemporalJoinNode),
    WindowJoin(WindowJoinNode),
    WindowTopN(WindowTopNNode),
    TopN(TopNNode),
    LookupJoin(LookupJoinNode),
    Sink(SinkNode),
}

/// Reads a table. Output: `table.physical` columns in `projection` order, then `table.metadata`
/// columns that are used, filtered by nothing but `pushed_filter`.
/// Computed columns come from a `Calc` behind it. The watermark is computed per split and batch, on
/// the source's output rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceNode {
    pub table: TableDescriptor,
    /// Indexes into `table.physical`: the columns that are decoded.
    pub projection: Vec<usize>,
    /// Members of these columns that nobody reads: paths, the column first. NULL may stand in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Vec<String>>,
    /// Indexes into `table.metadata`: the metadata columns that are stamped.
    pub metadata: Vec<usize>,
    /// Rows for which this is not true may be left out, where that changes neither watermarks nor dead letters;
    /// the plan still filters.
    pub pushed_filter: Option<EncodedExpr>,
    pub watermark: Option<WatermarkNode>,
    /// Whether the read ends.
    pub bounded: bool,
    /// Whether a position can be read again. A job that has read from a source that cannot does not restart by
    /// itself: what it read since its last epoch is gone.
    #[serde(default = "yes")]
    pub replayable: bool,
    /// How its rows tell of changes.
    #[serde(default)]
    pub gives: SourceChangelog,
}

impl SourceNode {
    /// Whether its splits follow each other, by their names, and one subtask reads all of them: a change must not come
    /// before the one that it follows on.
    pub fn reads_in_order(&self) -> bool {
        matches!(self.gives, SourceChangelog::Envelope { .. })
    }

    /// Whether its splits follow each other in time, so that one is read after the other.
    pub fn splits_follow(&self) -> bool {
        self.reads_in_order() || self.table.option("scan.split-order").is_some_and(|order| order == "time")
    }
}

fn yes() -> bool {
    true
}

/// `WATERMARK FOR column AS expr`: over the source's output, a timestamp of milliseconds or finer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkNode {
    pub expr: EncodedExpr,
    /// A split whose polls return nothing for this long is idle. 0: never.
    pub idle_timeout_ms: u64,
    /// Splits that run ahead wait. None: they do not.
    pub alignment: Option<WatermarkAlignment>,
}

/// Splits ahead of the slowest by more than a bound are not read until it has come closer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkAlignment {
    /// Tables of one group wait for each other; without one, a table's splits wait for each other.
    pub group: Option<String>,
    pub max_drift_ms: i64,
}

/// Filter, then projection. Stateless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalcNode {
    pub filter: Option<EncodedExpr>,
    pub projection: Vec<NamedExpr>,
}

/// One row per element of the list (or map) in `column`; other columns repeat.
/// The output is the input with `column` replaced by its element (`key`, `value` of a map, the fields
/// of a struct element when `expand_struct`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnnestNode {
    pub column: usize,
    /// Keep a row with NULL for an empty or NULL list (`LEFT JOIN UNNEST … ON TRUE`).
    pub outer: bool,
    pub expand_struct: bool,
    /// Append a 1-based BIGINT position column (`WITH ORDINALITY`).
    pub ordinality: bool,
}

/// Makes rows with kinds of the changes that a source reads ([`crate::changelog::envelope`]): a change is the row as it
/// was, if there was one, and the row as it is, if there is one. What is no change is a dead letter. Stateless.
///
/// Input: the envelope in one column (`payload`) or three, then columns that belong to the record. Output: the columns of
/// the row, those of the record, kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesNode {
    pub is_wrapped: bool,
}

/// For each row aggregates over those before it, in the order of time. Output: the input columns, then the results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverAggregateNode {
    pub partition_by: Vec<usize>,
    /// The event time by which rows are in order; they are told of behind the watermark. None: as they arrive, at once.
    pub time_column: Option<usize>,
    /// The processing time of each row, where the frame is one of time and rows are told of as they arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_column: Option<usize>,
    pub frame: OverFrame,
    pub aggregates: Vec<AggregateCall>,
    pub allowed_lateness_ms: i64,
}

/// Which rows a result is over, besides the row that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OverFrame {
    /// All before it, as they stand in order.
    UnboundedRows,
    /// All before it, and all of the same time.
    UnboundedRange,
    /// So many before it, as they stand in order.
    Rows(u64),
    /// Those that are at most so many milliseconds older, and all of the same time.
    RangeMs(i64),
}

/// Keeps the row that each key has become, so that it can be taken back: for rows of [`Changelog::Upsert`], which do not
/// say what a key was. The output has the columns of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestRowsNode {
    pub key: Vec<usize>,
}

/// The shape of a window table function. All lengths in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowShape {
    Tumble {
        size: i64,
        offset: i64,
    },
    /// `size` is a multiple of `slide`.
    Hop {
        size: i64,
        slide: i64,
        offset: i64,
    },
    /// `max_size` is a multiple of `step`.
    Cumulate {
        max_size: i64,
        step: i64,
        offset: i64,
    },
    Session {
        gap: i64,
    },
}

impl WindowShape {
    /// Whether a row can be in more than one window.
    pub fn overlaps(&self) -> bool {
        match self {
            Self::Tumble { .. } | Self::Session { .. } => false,
            Self::Hop { size, slide, .. } => size > slide,
            Self::Cumulate { max_size, step, .. } => max_size > step,
        }
    }
}

/// Where the time of a window comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeDomain {
    Event,
    Processing,
}

/// How an operator gets the window of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowSource {
    /// A window function over a time column of the input (Timestamp, any unit).
    /// Rows whose time is NULL are dead letters with reason `null-time`.
    Function { shape: WindowShape, domain: TimeDomain, time_column: usize },
    /// The input already carries the window (window on window): columns of `window_start` and `window_end`.
    Columns { start: usize, end: usize, domain: TimeDomain },
}

/// When overlapping windows (HOP, CUMULATE) in event time fire. Others do not differ by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firing {
    /// Once every row that the window could hold would be late: each row is in all of its windows, or in
    /// the late table. Results come `size − slide` after the end of a HOP window, and at the end of the
    /// cycle of a CUMULATE.
    #[default]
    Complete,
    /// When the window closes. A row behind the watermark is missing in those of its windows that had
    /// closed, without being late.
    Eager,
}

/// Appends `window_start`, `window_end` (Timestamp ms, no zone) and `window_time`
/// (`window_end` − 1 ms) to each row, one row per window it belongs to. Stateless, except for
/// `Session`, which needs `partition_by` and is held until the session closes. Overlapping windows that
/// fire complete have late rows judged here, where a row is still one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignWindowNode {
    pub shape: WindowShape,
    pub domain: TimeDomain,
    pub time_column: usize,
    pub partition_by: Vec<usize>,
    pub allowed_lateness_ms: i64,
    pub firing: Firing,
}

/// Windowed aggregation. Output columns: `keys` in order, then `aggregates` in order, then those of
/// `window_start`, `window_end`, `window_time` that `window_columns` lists, in that order.
///
/// The executor runs it in two phases (partial before the shuffle, merge behind it) unless it runs at
/// parallelism 1 or for `Session`; late rows are judged in the first phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowAggregateNode {
    pub window: WindowSource,
    /// Grouping columns beside the window, as input column indexes (a `Calc` before computes them).
    pub keys: Vec<usize>,
    pub aggregates: Vec<AggregateCall>,
    pub window_columns: Vec<WindowColumn>,
    pub allowed_lateness_ms: i64,
    pub firing: Firing,
}

/// Aggregation without a window: a changelog of the groups there are. Output columns: `keys` in order, then
/// `aggregates` in order, then the kind. Without keys there is one group, from the first row on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAggregateNode {
    /// Grouping columns, as input column indexes (a `Calc` before computes them).
    pub keys: Vec<usize>,
    pub aggregates: Vec<AggregateCall>,
    /// Groups that changed are told at barriers, and at the latest after this long.
    pub mini_batch_ms: u64,
    /// The groups are those of windows that are told before they close, or corrected behind their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowTelling>,
}

/// When groups of windows are told: at the end of their window in any case, and when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowTelling {
    /// Which of the keys is the end of the window.
    pub end: usize,
    /// A window closes so long behind its end: rows that come then are late.
    pub allowed_lateness_ms: i64,
    /// Before the end, so long after a change. None: not before the end.
    pub early_ms: Option<u64>,
    /// Between the end and the close, so long after a change. None: not before the close.
    pub late_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowColumn {
    Start,
    End,
    Time,
}

/// One aggregate, by the registry name of a DataFusion aggregate function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateCall {
    /// Output column name.
    pub name: String,
    /// Registry name, for example `sum`; `count` with no arguments is `count(*)`.
    pub function: String,
    /// Arguments over the input schema; already coerced to the types the function takes.
    pub args: Vec<EncodedExpr>,
    pub distinct: bool,
    pub filter: Option<EncodedExpr>,
    pub order_by: Vec<SortKey>,
    pub ignore_nulls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortKey {
    pub expr: EncodedExpr,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    LeftSemi,
    LeftAnti,
}

/// Joins rows of the same key, whenever they come: both sides are kept. Output: left columns then right columns (left
/// only for semi and anti), without their kinds; then the kind, unless both sides are new rows alone and the join is an
/// inner one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinNode {
    pub kind: JoinKind,
    /// (left column, right column) pairs that must be equal.
    pub on: Vec<(usize, usize)>,
    /// Of these, NULL is equal to NULL (`IS NOT DISTINCT FROM`, INTERSECT); else it equals nothing.
    pub null_equals_null: bool,
    /// Over left ++ right columns.
    pub filter: Option<EncodedExpr>,
}

/// Joins rows of the same key whose times are near: `lower_ms <= left time - right time <= upper_ms`. Both inputs are new
/// rows alone; so is the output: left columns then right columns (left only for semi and anti).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalJoinNode {
    pub kind: JoinKind,
    /// (left column, right column) pairs that must be equal. NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// The event times of both sides.
    pub times: (usize, usize),
    pub lower_ms: i64,
    pub upper_ms: i64,
    /// The whole condition but for `on`, over left ++ right columns.
    pub filter: Option<EncodedExpr>,
    pub allowed_lateness_ms: i64,
}

/// Joins rows with the version of a table that holds at their event time: of the rows of the key on the right side the
/// one of the latest time that is not later. The left side is new rows alone; so is the output: left columns then right
/// columns, without their kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemporalJoinNode {
    /// Inner or left.
    pub kind: JoinKind,
    /// (left column, right column) pairs that must be equal: those on the right are the table's primary key. NULL equals
    /// nothing.
    pub on: Vec<(usize, usize)>,
    /// The event times of both sides.
    pub times: (usize, usize),
    /// What else must hold of the version, over left ++ right columns.
    pub filter: Option<EncodedExpr>,
    /// A row of the right side that is gone has its key alone, and no time: it ends the newest version of its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends_by_key: bool,
}

/// Joins rows of the same window and key. Both inputs carry their window as columns. Output: left
/// columns then right columns (left only for semi and anti).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowJoinNode {
    pub kind: JoinKind,
    /// (left column, right column) pairs that must be equal, beside the window. NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// Over left ++ right columns.
    pub filter: Option<EncodedExpr>,
    /// (window_start, window_end) column of each side.
    pub left_window: (usize, usize),
    pub right_window: (usize, usize),
    pub domain: TimeDomain,
    pub allowed_lateness_ms: i64,
}

/// First `limit` rows of each (window, partition) in order. Emitted when the window closes. Output:
/// the input columns, then the row number as BIGINT if `rank_column`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowTopNNode {
    pub window: (usize, usize),
    pub domain: TimeDomain,
    #[serde(default)]
    pub function: RankFunction,
    pub partition_by: Vec<usize>,
    pub order_by: Vec<SortKey>,
    pub limit: usize,
    /// Rows before this rank are skipped (`WHERE rn > 1 AND rn <= 3`): 0 for none.
    pub skip: usize,
    pub rank_column: Option<String>,
    pub allowed_lateness_ms: i64,
}

/// How rows of a partition are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankFunction {
    /// Each row has a number of its own.
    #[default]
    RowNumber,
    /// Equal ones have the number of the first of them.
    Rank,
    /// As many numbers as there are different ones.
    DenseRank,
}

/// In which order rows stand that are equal in the columns that they are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// By the canonical hash of all their columns: the same rows always come to the same answer, however they came.
    Contents,
    /// As they arrived.
    Oldest,
    /// The last one to arrive is the first.
    Newest,
}

/// The rows of each partition whose number is above `skip` and up to `limit`, as they change. Output: the input columns,
/// then the number as BIGINT if `rank_column`, and the kinds of rows if one may leave again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopNNode {
    pub function: RankFunction,
    pub partition_by: Vec<usize>,
    pub order_by: Vec<SortKey>,
    pub ties: Ties,
    pub limit: usize,
    pub skip: usize,
    pub rank_column: Option<String>,
    /// How long changes may wait to be told together.
    pub mini_batch_ms: u64,
}

impl TopNNode {
    /// Whether a number is taken by one row at a time, and is known to those who read: what was told of it is replaced.
    pub fn tells_by_rank(&self) -> bool {
        self.function == RankFunction::RowNumber && (self.rank_column.is_some() || self.limit == self.skip + 1)
    }

    /// Whether rows that came stay for ever, if none of the input is ever taken back.
    pub fn is_final(&self) -> bool {
        self.function == RankFunction::RowNumber && self.order_by.is_empty() && self.ties == Ties::Oldest
    }
}

/// Joins each row with a bounded table held whole in memory. Output: input columns then table columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupJoinNode {
    pub table: TableDescriptor,
    /// Columns of `table.physical` that are loaded, in order: the right-hand schema before `computed`.
    pub projection: Vec<usize>,
    /// Filter and projection of the loaded rows; the right-hand columns are its output.
    pub calc: Option<CalcNode>,
    pub right: SchemaRef,
    /// Inner or Left.
    pub kind: JoinKind,
    /// (input column, right column) pairs that must be equal. NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// Over input ++ right columns.
    pub filter: Option<EncodedExpr>,
    /// Reload after this long, taking effect at a barrier. None: loaded once.
    pub refresh_ms: Option<u64>,
}

/// Writes into a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkNode {
    pub table: TableDescriptor,
    /// `INSERT OVERWRITE`.
    pub overwrite: bool,
    /// The one partition that `INSERT … PARTITION (k = literal)` writes to, if it names every partition
    /// column: values as texts, NULL as none. An overwrite empties it, rows or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<(String, Option<String>)>,
    /// Of a table that is kept by its primary key: into how many buckets, by the hash of the key as key groups are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<u16>,
}

impl SinkNode {
    /// `INSERT INTO` a whole table that takes rows one by one.
    pub fn of_table(table: TableDescriptor) -> Self {
        Self { table, overwrite: false, partition: Vec::new(), buckets: None }
    }
}

impl Operator {
    /// The table that it reads or writes.
    fn table(&self) -> Option<&str> {
        match &self.kind {
            OperatorKind::Source(node) => Some(&node.table.name),
            OperatorKind::Sink(node) => Some(&node.table.name),
            _ => None,
        }
    }
}

impl JobGraph {
    pub fn operator(&self, id: OperatorId) -> Option<&Operator> {
        self.operators.iter().find(|o| o.id == id)
    }

    /// An operator by its name, a source or sink by its table, any by `NAME-ID` with the first digits of its id, or by
    /// its id.
    ///
    /// # Errors
    /// E0311 if there is none, or several have the name.
    pub fn find(&self, wanted: &str) -> Result<&Operator> {
        let has_name = |o: &&Operator| o.name == wanted || o.table() == Some(wanted);
        let has_id = |o: &&Operator| {
            let id = o.id.to_string();
            let digits = wanted.strip_prefix(o.name.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(wanted);
            digits.len() >= OPERATOR_DIGITS && id.starts_with(digits)
        };
        if let Some(operator) = self.operators.iter().find(has_id) {
            return Ok(operator);
        }
        let named: Vec<&Operator> = self.operators.iter().filter(has_name).collect();
        let shown =
            |o: &Operator| format!("{}-{}", o.name, o.id.to_string().get(..OPERATOR_DIGITS).unwrap_or_default());
        let listed =
            |operators: &mut dyn Iterator<Item = &Operator>| operators.map(shown).collect::<Vec<_>>().join(", ");
        match named.as_slice() {
            [operator] => Ok(operator),
            [] => {
                let error = Error::new(Code::UnknownOperator, format!("the job has no operator `{wanted}`"));
                let names = self.operators.iter().flat_map(|o| o.table().into_iter().chain([o.name.as_str()]));
                let hint = match nearest(wanted, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        // A list that nobody reads to its end helps nobody.
                        let more = if self.operators.len() > OPERATORS_LISTED { ", ..." } else { "" };
                        format!("its operators are {}{more}", listed(&mut self.operators.iter().take(OPERATORS_LISTED)))
                    }
                };
                Err(error.hint(hint))
            }
            several => {
                let message = format!("the job has {} operators `{wanted}`", several.len());
                let hint = format!("name one of {}", listed(&mut several.iter().copied().take(OPERATORS_LISTED)));
                Err(Error::new(Code::UnknownOperator, message).hint(hint))
            }
        }
    }

    /// The subtasks that its widest sink asks for (`sink.parallelism`).
    pub fn sink_parallelism(&self) -> u32 {
        let limits = self.edges.iter().map(|edge| match edge.partitioning {
            Partitioning::Limited { subtasks } => subtasks,
            _ => 0,
        });
        limits.max().unwrap_or(0)
    }

    /// Edges into `id`, ordered by port.
    pub fn inputs(&self, id: OperatorId) -> Vec<&Edge> {
        let mut edges: Vec<_> = self.edges.iter().filter(|e| e.to == id).collect();
        edges.sort_by_key(|e| e.port);
        edges
    }

    pub fn outputs(&self, id: OperatorId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.from == id)
    }

    pub fn sources(&self) -> impl Iterator<Item = (&Operator, &SourceNode)> {
        self.operators.iter().filter_map(|o| match &o.kind {
            OperatorKind::Source(node) => Some((o, node)),
            _ => None,
        })
    }

    pub fn sinks(&self) -> impl Iterator<Item = (&Operator, &SinkNode)> {
        self.operators.iter().filter_map(|o| match &o.kind {
            OperatorKind::Sink(node) => Some((o, node)),
            _ => None,
        })
    }

    /// A job is bounded when each of its sources ends.
    pub fn is_bounded(&self) -> bool {
        self.sources().all(|(_, s)| s.bounded)
    }

    /// Whether every source can be read again from an epoch's positions.
    pub fn is_replayable(&self) -> bool {
        self.sources().all(|(_, s)| s.replayable)
    }
}

impl Operator {
    pub fn output_schema(&self) -> &Arc<Schema> {
        &self.output
    }

    /// What `OperatorKind` it is, in one word.
    pub fn kind_name(&self) -> &'static str {
        self.kind.name()
    }
}

impl OperatorKind {
    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Source(_) => "Source",
            Self::Changes(_) => "Changes",
            Self::LatestRows(_) => "LatestRows",
            Self::Calc(_) => "Calc",
            Self::Unnest(_) => "Unnest",
            Self::AssignWindow(_) => "AssignWindow",
            Self::WindowAggregate(_) => "WindowAggregate",
            Self::GroupAggregate(_) => "GroupAggregate",
            Self::OverAggregate(_) => "OverAggregate",
            Self::Join(_) => "Join",
            Self::IntervalJoin(_) => "IntervalJoin",
            Self::TemporalJoin(_) => "TemporalJoin",
            Self::WindowJoin(_) => "WindowJoin",
            Self::WindowTopN(_) => "WindowTopN",
            Self::TopN(_) => "TopN",
            Self::LookupJoin(_) => "LookupJoin",
            Self::Sink(_) => "Sink",
        }
    }
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        s.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let bad = || serde::de::Error::custom("not an even number of hex digits");
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let digits = digits.ok_or_else(bad)?;
        if digits.len() % 2 != 0 {
            return Err(bad());
        }
        Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |acc, d| acc << 4 | d)).collect())
    }
}
