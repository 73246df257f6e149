//! `ROW_NUMBER() OVER (PARTITION BY window_start, window_end, … ORDER BY …)` with an outer filter on the
//! row number: a Top-N in each window.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::expr::WindowFunctionParams;
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{Between, Expr, Operator};
use qanat_proto::error::{Code, Error, Result};

use super::Lowering;
use super::refuse::{place_of, placed};
use super::relation::{Output, Pending, PendingRank, Relation, TimeAttribute, UniqueNames, column};

const TOP_N_HINT: &str = "supported is ROW_NUMBER() OVER (PARTITION BY window_start, window_end, … ORDER BY …) \
                          in a subquery, with `WHERE row_number <= n` around it; other OVER queries come with changelogs";

/// A row number that nothing bounds.
pub(super) fn unbounded_rank() -> Error {
    Error::new(Code::UnboundedState, "ROW_NUMBER without a bound keeps every row of its window")
        .hint("filter by it in an outer query: `WHERE row_number <= n`")
}

impl Lowering<'_> {
    pub(super) fn window(&mut self, window: &Window) -> Result<Relation> {
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
        let name = function.fun.name();
        if name != "row_number" {
            return refused(Code::UnboundedState, format!("`{name}` OVER a stream is not supported yet"));
        }
        let WindowFunctionParams { partition_by, order_by, .. } = &function.params;
        let relation = self.lower(&window.input)?;
        super::refuse::changelog(&relation, "OVER", place_of(&window.window_expr))?;
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
        let (start, end, spec) = match (start, end) {
            (Some((start, spec)), Some((end, other))) if spec == other => (start, end, spec),
            (None, None) => {
                return refused(
                    Code::UnboundedState,
                    "ROW_NUMBER over a whole stream needs unlimited state".to_owned(),
                );
            }
            _ => {
                return refused(
                    Code::TimeAttribute,
                    "a Top-N in a window partitions by both `window_start` and `window_end`".to_owned(),
                );
            }
        };
        // Partition keys that are expressions get columns of their own.
        let width = relation.columns.len();
        let mut relation = relation;
        let mut positions = Vec::new();
        for key in [start, end].into_iter().chain(keys) {
            let translated = relation.translate(key, schema)?;
            let known = relation.columns.iter().position(|out| out.expr == translated);
            positions.push(known.unwrap_or(relation.columns.len()));
            if known.is_none() {
                let (_, field) =
                    datafusion_expr::ExprSchemable::to_field(key, schema).map_err(|e| super::relation::internal(&e))?;
                let field = Arc::new(field.as_ref().clone().with_name("partition_key"));
                relation.columns.push(Output { expr: translated, field, time: TimeAttribute::None });
            }
        }
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
        let (window_columns, partition_by) = match indexes.as_slice() {
            [start, end, keys @ ..] => ((*start, *end), keys.to_vec()),
            _ => return Err(Error::internal("a Top-N without a window")),
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
        let rank = PendingRank { spec, window: window_columns, partition_by, order_by, name };
        Ok(Relation { pending: Pending::Rank(rank), ..relation })
    }

    /// A filter over a pending row number: its bounds make the Top-N, the rest filters behind it.
    pub(super) fn filter_rank(
        &mut self,
        relation: Relation,
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
        let mut relation = self.append_rank(relation, rank, skip, limit)?;
        if empty {
            rest.push(Expr::Literal(ScalarValue::Boolean(Some(false)), None));
        }
        relation.filter.extend(rest);
        Ok(relation)
    }
}

fn unaliased(expr: &Expr) -> &Expr {
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
