//! `ROW_NUMBER`, `RANK` or `DENSE_RANK` with an outer filter on the number: a Top-N, in each window if it is partitioned
//! by one, else of all rows there are, as they change.

use std::sync::Arc;

use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::Sort as SortExpr;
use datafusion_expr::expr::WindowFunctionParams;
use datafusion_expr::logical_plan::{FetchType, Limit, SkipType, Window};
use datafusion_expr::{Between, Expr, LogicalPlan, Operator};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{RankFunction, Ties};

use super::refuse::{place_of, placed};
use super::relation::{Output, Pending, PendingRank, Relation, TimeAttribute, UniqueNames, column};
use super::source::proctime_of;
use super::{Lowering, with_fields};

const TOP_N_HINT: &str = "supported are ROW_NUMBER, RANK and DENSE_RANK() OVER (PARTITION BY … ORDER BY …) in a \
                          subquery, with `WHERE row_number <= n` around it";

/// A row number that nothing bounds.
pub(super) fn unbounded_rank() -> Error {
    Error::new(Code::UnboundedState, "a row number without a bound keeps every row")
        .hint("filter by it in an outer query: `WHERE row_number <= n`")
}

impl Lowering<'_> {
    pub(super) fn window(&mut self, window: &Window) -> Result<Relation> {
        if super::over::is_over(&window.window_expr) {
            return self.over(window);
        }
        let schema = window.input.schema();
        let refused = |code: Code, message: String| {
            Err(placed(Error::new(code, message).hint(TOP_N_HINT), place_of(&window.window_expr)))
        };
        let expr = match window.window_expr.as_slice() {
            [expr] => unaliased(expr),
            _ => {
                return refused(
                    Code::SqlUnsupported,
                    "several OVER clauses in one query are not supported yet".to_owned(),
                );
            }
        };
        let function = match expr {
            Expr::WindowFunction(function) => function,
            other => return Err(Error::internal(format!("`{other}` is no window function"))),
        };
        let ranks = match function.fun.name() {
            "row_number" => RankFunction::RowNumber,
            "rank" => RankFunction::Rank,
            "dense_rank" => RankFunction::DenseRank,
            name => return refused(Code::UnboundedState, format!("`{name}` OVER a stream is not supported yet")),
        };
        let WindowFunctionParams { partition_by, order_by, .. } = &function.params;
        let relation = self.lower(&window.input)?;
        let mut exprs: Vec<Expr> = partition_by.clone();
        exprs.extend(order_by.iter().map(|sort| sort.expr.clone()));
        let relation = if relation.must_materialise(&exprs, schema)? { self.materialise(relation)? } else { relation };
        let relation = self.materialise_plain(relation)?;

        let (mut start, mut end, mut keys) = (None, None, Vec::new());
        for key in partition_by {
            match relation.time_of(key, schema) {
                TimeAttribute::WindowStart(spec) if start.is_none() => start = Some((key, spec)),
                TimeAttribute::WindowEnd(spec) if end.is_none() => end = Some((key, spec)),
                _ => keys.push(key),
            }
        }
        let in_window = match (start, end) {
            (Some((start, spec)), Some((end, other))) if spec == other => Some((spec, [start, end])),
            (None, None) => None,
            _ => {
                return refused(
                    Code::TimeAttribute,
                    "a Top-N in a window partitions by both `window_start` and `window_end`".to_owned(),
                );
            }
        };
        if in_window.is_some() {
            super::refuse::changelog(&relation, "a Top-N in a window", place_of(&window.window_expr))?;
        }
        let (order_by, ties) = match in_window {
            Some(_) => (&order_by[..], Ties::Oldest),
            None => order_of(order_by, &relation, schema, place_of(&window.window_expr))?,
        };
        // Partition keys that are expressions get columns of their own.
        let width = relation.columns.len();
        let mut relation = relation;
        let keys = in_window.into_iter().flat_map(|(_, bounds)| bounds).chain(keys);
        let positions = relation.columns_of(keys, schema, "partition_key")?;
        let order: Vec<(Expr, bool, bool)> =
            order_by.iter().map(|sort| (sort.expr.clone(), !sort.asc, sort.nulls_first)).collect();
        let mut relation = self.materialise(relation)?;
        let indexes = positions
            .iter()
            .map(|position| {
                relation.base_index(*position).ok_or_else(|| Error::internal("a partition key is no column"))
            })
            .collect::<Result<Vec<_>>>()?;
        let order_by = order
            .iter()
            .map(|(expr, descending, nulls_first)| Ok((relation.translate(expr, schema)?, *descending, *nulls_first)))
            .collect::<Result<Vec<_>>>()?;
        relation.columns.truncate(width);
        let (in_window, partition_by) = match (in_window, indexes.as_slice()) {
            (Some((spec, _)), [start, end, keys @ ..]) => (Some((spec, (*start, *end))), keys.to_vec()),
            (None, keys) => (None, keys.to_vec()),
            (Some(_), _) => return Err(Error::internal("a window without its bounds")),
        };
        let name = UniqueNames::of(&relation.base).take("row_number");
        let logical = window.schema.fields().last().ok_or_else(|| Error::internal("a row number without a column"))?;
        // To DataFusion the row number may be UInt64; the operator gives BIGINT.
        let expr = match logical.data_type() {
            arrow::datatypes::DataType::Int64 => column(&name),
            other => Expr::Cast(datafusion_expr::Cast::new(Box::new(column(&name)), other.clone())),
        };
        relation.columns.push(Output { expr, field: Arc::clone(logical), time: TimeAttribute::None });
        relation.forget_rowtime();
        let rank = PendingRank { function: ranks, window: in_window, partition_by, order_by, ties, name };
        Ok(Relation { pending: Pending::Rank(rank), ..relation })
    }

    /// `LIMIT`, with or without the `ORDER BY` that it is of.
    pub(super) fn limit(&mut self, limit: &Limit, plan: &LogicalPlan) -> Result<Relation> {
        let (skip, fetch) = match (limit.get_skip_type(), limit.get_fetch_type()) {
            (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(Some(fetch)))) => (skip, fetch),
            _ => return Err(super::refuse::limit(plan)),
        };
        match self.first_of_sort(&limit.input, (skip, fetch))? {
            Some(relation) => Ok(relation),
            None => self.first_rows(&[], &limit.input, (skip, fetch), plan),
        }
    }

    /// The first rows of an `ORDER BY` that stands below nothing but projections; None if there is none.
    fn first_of_sort(&mut self, plan: &LogicalPlan, bounds: (usize, usize)) -> Result<Option<Relation>> {
        match plan {
            LogicalPlan::Sort(sort) => self.first_rows(&sort.expr, &sort.input, bounds, plan).map(Some),
            LogicalPlan::Projection(projection) => match self.first_of_sort(&projection.input, bounds)? {
                Some(relation) => {
                    let relation = self.project(relation, &projection.expr, &projection.input)?;
                    Ok(Some(with_fields(relation, plan)))
                }
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The rows of `ORDER BY … LIMIT`, as they change: a Top-N without a partition. `bounds`: rows that are skipped, and
    /// rows behind them.
    pub(super) fn first_rows(
        &mut self,
        order_by: &[SortExpr],
        input: &LogicalPlan,
        (skip, fetch): (usize, usize),
        plan: &LogicalPlan,
    ) -> Result<Relation> {
        let schema = input.schema();
        let limit = skip.checked_add(fetch).filter(|_| fetch > 0).ok_or_else(|| super::refuse::limit(plan))?;
        let relation = self.lower(input)?;
        let exprs: Vec<Expr> = order_by.iter().map(|sort| sort.expr.clone()).collect();
        let relation = if relation.must_materialise(&exprs, schema)? { self.materialise(relation)? } else { relation };
        let mut relation = self.materialise_plain(relation)?;
        let (order_by, ties) = order_of(order_by, &relation, schema, place_of(&exprs))?;
        let order_by = order_by
            .iter()
            .map(|sort| Ok((relation.translate(&sort.expr, schema)?, !sort.asc, sort.nulls_first)))
            .collect::<Result<_>>()?;
        relation.forget_rowtime();
        let name = UniqueNames::of(&relation.base).take("row_number");
        let function = RankFunction::RowNumber;
        let rank = PendingRank { function, window: None, partition_by: Vec::new(), order_by, ties, name };
        self.append_rank(relation, &rank, skip, limit)
    }

    /// A filter over a pending row number: its bounds make the Top-N, the rest filters behind it.
    pub(super) fn filter_rank(
        &mut self,
        mut relation: Relation,
        rank: &PendingRank,
        conjuncts: Vec<Expr>,
    ) -> Result<Relation> {
        let (mut low, mut high) = (1_i64, None::<i64>);
        let mut rest = Vec::new();
        for conjunct in conjuncts {
            match bounds(&conjunct, &rank.name) {
                Some((from, to)) => {
                    low = from.map_or(low, |from| low.max(from));
                    high = to.map(|to| high.map_or(to, |high| high.min(to))).or(high);
                }
                None => rest.push(conjunct),
            }
        }
        let high = high.ok_or_else(unbounded_rank)?;
        let empty = high < low;
        let limit = usize::try_from(high.max(1)).map_err(|_| unbounded_rank())?;
        let skip = usize::try_from(low.clamp(1, high.max(1)) - 1).unwrap_or(0);
        if empty {
            rest.push(Expr::Literal(ScalarValue::Boolean(Some(false)), None));
        }
        let before = std::mem::replace(&mut relation.filter, rest);
        if !before.is_empty() {
            return Err(Error::internal("a filter below a row number"));
        }
        self.append_rank(relation, rank, skip, limit)
    }
}

/// What rows are ordered by, and then. Whoever comes later in processing time is later than all there are: behind that
/// nothing is left to compare.
///
/// # Errors
/// E0102 for an expression without one value; E0115 for the order of arrival of rows that may be taken back.
fn order_of<'e>(
    order_by: &'e [SortExpr],
    relation: &Relation,
    schema: &DFSchema,
    place: Option<Place>,
) -> Result<(&'e [SortExpr], Ties)> {
    let time_of = |expr: &Expr| proctime_of(expr, relation.time_of(expr, schema));
    let arrival = order_by.iter().enumerate().find(|(_, sort)| time_of(&sort.expr) == TimeAttribute::Proctime);
    let (order_by, ties) = match arrival {
        Some((at, sort)) => {
            (order_by.get(..at).unwrap_or_default(), if sort.asc { Ties::Oldest } else { Ties::Newest })
        }
        None if order_by.is_empty() => (order_by, Ties::Oldest),
        None => (order_by, Ties::Contents),
    };
    if let Some(sort) = order_by.iter().find(|sort| sort.expr.is_volatile()) {
        let message = format!("`{}` is another one each time it is asked for, and orders nothing", sort.expr);
        return Err(placed(Error::new(Code::SqlUnsupported, message).hint("order by a column"), place));
    }
    if ties != Ties::Contents {
        super::refuse::changelog(relation, "the order of arrival", place)?;
    }
    Ok((order_by, ties))
}

pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The inclusive bounds that `expr` sets to the row number, if that is all it says.
fn bounds(expr: &Expr, rank: &str) -> Option<(Option<i64>, Option<i64>)> {
    match expr {
        Expr::BinaryExpr(binary) => {
            let (op, value) = if is_rank(&binary.left, rank) {
                (binary.op, integer(&binary.right)?)
            } else if is_rank(&binary.right, rank) {
                (binary.op.swap()?, integer(&binary.left)?)
            } else {
                return None;
            };
            match op {
                Operator::Eq => Some((Some(value), Some(value))),
                Operator::LtEq => Some((None, Some(value))),
                Operator::Lt => Some((None, Some(value.checked_sub(1)?))),
                Operator::GtEq => Some((Some(value), None)),
                Operator::Gt => Some((Some(value.checked_add(1)?), None)),
                _ => None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_rank(expr, rank) => {
            Some((Some(integer(low)?), Some(integer(high)?)))
        }
        _ => None,
    }
}

fn is_rank(expr: &Expr, rank: &str) -> bool {
    match expr {
        Expr::Column(c) => c.name == rank,
        Expr::Cast(cast) => is_rank(&cast.expr, rank),
        _ => false,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => {
            match value.cast_to(&arrow::datatypes::DataType::Int64).ok()? {
                ScalarValue::Int64(value) => value,
                _ => None,
            }
        }
        Expr::Cast(cast) => integer(&cast.expr),
        _ => None,
    }
}
