//! A join of two streams whose times are near: `a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND b.ts`.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::{DFSchema, NullEquality, ScalarValue};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator};
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{IntervalJoinNode, JoinKind, OperatorKind};

use super::Lowering;
use super::graph::Port;
use super::join::{both, condition};
use super::relation::{Output, Relation, TimeAttribute, UniqueNames};

/// How far the times of two sides may be apart.
#[derive(Debug)]
pub(super) struct Interval {
    /// Event times of left and right, over the columns of the logical plan.
    times: (Expr, Expr),
    /// Of left less right.
    lower_ms: i64,
    upper_ms: i64,
}

/// The interval that a join of new rows sets between the event times of its sides; None if it sets none.
pub(super) fn interval_of(join: &Join, left: &Relation, right: &Relation) -> Option<Interval> {
    if left.is_changelog() || right.is_changelog() || join.null_equality != NullEquality::NullEqualsNothing {
        return None;
    }
    let sides = Sides { join, left, right };
    let mut bounds: Vec<Bound> = Vec::new();
    for conjunct in join.filter.iter().flat_map(|filter| split_conjunction(filter)) {
        match conjunct {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => bounds.extend(sides.bound(left, *op, right)),
            Expr::Between(Between { expr, negated: false, low, high }) => {
                bounds.extend(sides.bound(expr, Operator::GtEq, low));
                bounds.extend(sides.bound(expr, Operator::LtEq, high));
            }
            _ => {}
        }
    }
    for (left, right) in &join.on {
        bounds.extend(sides.bound(left, Operator::Eq, right));
    }
    // The first pair of columns that is bound on both ends.
    bounds.iter().find_map(|first| {
        let same = || bounds.iter().filter(|other| other.times == first.times);
        let lower_ms = same().filter_map(|bound| bound.lower_ms).max()?;
        let upper_ms = same().filter_map(|bound| bound.upper_ms).min()?;
        // Finer times are cut to milliseconds.
        let slack = if sides.are_fine(&first.times) { 1 } else { 0 };
        Some(Interval {
            times: first.times.clone(),
            lower_ms: lower_ms.saturating_sub(slack),
            upper_ms: upper_ms.saturating_add(slack),
        })
    })
}

/// What one comparison says of left less right.
struct Bound {
    times: (Expr, Expr),
    lower_ms: Option<i64>,
    upper_ms: Option<i64>,
}

struct Sides<'a> {
    join: &'a Join,
    left: &'a Relation,
    right: &'a Relation,
}

impl Sides<'_> {
    fn bound(&self, a: &Expr, op: Operator, b: &Expr) -> Option<Bound> {
        let (a, b) = (self.term(a)?, self.term(b)?);
        let (left, right, op) = match (a.is_left, b.is_left) {
            (true, false) => (a, b, op),
            (false, true) => (b, a, op.swap()?),
            _ => return None,
        };
        // left + its offset OP right + its offset
        let between = right.offset_ms.checked_sub(left.offset_ms)?;
        let (lower_ms, upper_ms) = match op {
            Operator::Eq => (Some(between), Some(between)),
            Operator::Lt | Operator::LtEq => (None, Some(between)),
            Operator::Gt | Operator::GtEq => (Some(between), None),
            _ => return None,
        };
        Some(Bound { times: (left.time, right.time), lower_ms, upper_ms })
    }

    /// An event time with something added to it.
    fn term(&self, expr: &Expr) -> Option<Term> {
        match expr {
            Expr::Column(column) => {
                let is_rowtime = |side: &Relation, schema: &DFSchema| {
                    schema.is_column_from_schema(column) && side.time_of(expr, schema) == TimeAttribute::Rowtime
                };
                let is_left = is_rowtime(self.left, self.join.left.schema());
                if !is_left && !is_rowtime(self.right, self.join.right.schema()) {
                    return None;
                }
                Some(Term { is_left, time: expr.clone(), offset_ms: 0 })
            }
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
                if let (Operator::Plus, Some(length)) = (op, literal_milliseconds(left)) {
                    return self.term(right)?.moved(length);
                }
                let length = literal_milliseconds(right)?;
                self.term(left)?.moved(if *op == Operator::Plus { length } else { length.checked_neg()? })
            }
            _ => None,
        }
    }

    fn are_fine(&self, (left, right): &(Expr, Expr)) -> bool {
        let is_fine = |expr: &Expr, schema: &DFSchema| {
            !matches!(expr.get_type(schema), Ok(DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Second, _)))
        };
        is_fine(left, self.join.left.schema()) || is_fine(right, self.join.right.schema())
    }
}

struct Term {
    is_left: bool,
    time: Expr,
    offset_ms: i64,
}

impl Term {
    fn moved(self, by_ms: i64) -> Option<Self> {
        Some(Self { offset_ms: self.offset_ms.checked_add(by_ms)?, ..self })
    }
}

/// The length of a literal interval without months.
fn literal_milliseconds(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) => milliseconds(value),
        _ => None,
    }
}

/// The length of an interval without months.
pub(super) fn milliseconds(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(length)) if length.months == 0 => {
            let days = i64::from(length.days).checked_mul(86_400_000)?;
            // Towards what keeps more: a part of a millisecond is one.
            let rest = length.nanoseconds;
            days.checked_add(rest.div_euclid(1_000_000) + i64::from(rest.rem_euclid(1_000_000) > 0))
        }
        ScalarValue::IntervalDayTime(Some(length)) => {
            i64::from(length.days).checked_mul(86_400_000)?.checked_add(i64::from(length.milliseconds))
        }
        ScalarValue::DurationMillisecond(Some(length)) => Some(*length),
        _ => None,
    }
}

impl Lowering<'_> {
    pub(super) fn interval_join(
        &mut self,
        join: &Join,
        kind: JoinKind,
        left: Relation,
        right: Relation,
        interval: &Interval,
    ) -> Result<Relation> {
        let (left_keys, right_keys): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(l, r)| (l, r)).unzip();
        let left_exprs: Vec<&Expr> = std::iter::once(&interval.times.0).chain(left_keys).collect();
        let right_exprs: Vec<&Expr> = std::iter::once(&interval.times.1).chain(right_keys).collect();
        let mut names = UniqueNames::default();
        let (left, left_columns) = self.join_side(left, &left_exprs, join.left.schema(), &mut names)?;
        let (right, right_columns) = self.join_side(right, &right_exprs, join.right.schema(), &mut names)?;
        let ([left_time, left_keys @ ..], [right_time, right_keys @ ..]) =
            (left_columns.as_slice(), right_columns.as_slice())
        else {
            return Err(Error::internal("an interval join without times"));
        };
        let filter = condition(join, &left, &right)?;
        let output = both(&left.base, &right.base, kind)?;
        let ports = vec![Port::hash(&left.inputs, left_keys.to_vec()), Port::hash(&right.inputs, right_keys.to_vec())];
        let node = IntervalJoinNode {
            kind,
            on: left_keys.iter().copied().zip(right_keys.iter().copied()).collect(),
            times: (*left_time, *right_time),
            lower_ms: interval.lower_ms,
            upper_ms: interval.upper_ms,
            filter,
            allowed_lateness_ms: self.allowed_lateness_ms,
        };
        let name = format!("IntervalJoin({kind:?})");
        let id = self.graph.add(name, OperatorKind::IntervalJoin(node), Arc::clone(&output), ports)?;
        let mut columns = left.columns;
        if !matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti) {
            columns.extend(right.columns);
        }
        let mut columns: Vec<Output> = columns;
        for (out, field) in columns.iter_mut().zip(join.schema.fields()) {
            out.field = Arc::clone(field);
            // The watermark waits for the times that were joined, and for no others; of a padded side they may be NULL.
            let is_padded =
                field.is_nullable() && !matches!(kind, JoinKind::Inner | JoinKind::LeftSemi | JoinKind::LeftAnti);
            if is_padded || out.time != TimeAttribute::Rowtime {
                out.time = TimeAttribute::None;
            }
        }
        Ok(Relation::of(id, output, columns))
    }
}
