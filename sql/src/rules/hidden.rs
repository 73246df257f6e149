//! What DataFusion's optimizer must not see, since it would make something else of it: each such expression passes it
//! in the wrapping of [`super::casts`].
//!
//! - A cast that may lose something: it would compare with what stands before the cast, and make `d = 1.00` of
//!   `CAST(d AS INT) = 1`.
//! - A computed argument of an aggregate: it would make `SUM(x) + 0.5 * COUNT(x)` of `SUM(x + 0.5)`, with the count in
//!   the type of the literal.
//! - The second of two lists of one value under AND or OR: of `x IN (1) AND x IN (2)` it would make FALSE, where NULL is
//!   neither in nor out.
//! - The conditions of filters where one can fail: it would look at those without calls first, and at
//!   `CAST(s AS DATE)` before the `REGEXP` that guards it.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result};
use datafusion_expr::logical_plan::Filter;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::casts::kept;
use crate::types::exact_digits;

/// The plan, and whether a condition of it can fail.
pub(crate) fn hide(plan: LogicalPlan) -> Result<(LogicalPlan, bool)> {
    let plan = super::each_expression(plan, expression)?;
    let is_unsafe = is_unsafe(&plan)?;
    Ok((if is_unsafe { in_order(plan)? } else { plan }, is_unsafe))
}

/// Wraps the conditions of all filters.
fn in_order(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let conditions = split_conjunction_owned(filter.predicate).into_iter();
        let conditions =
            conditions.map(|condition| if is_for_a_join(&condition) { condition } else { kept(condition) });
        let Some(predicate) = conjunction(conditions) else {
            return Err(DataFusionError::Internal("a filter lost its condition".to_owned()));
        };
        Filter::try_new(predicate, filter.input).map(LogicalPlan::Filter).map(Transformed::yes)
    })
    .map(|plan| plan.data)
}

/// Whether a condition of a plan can fail.
fn is_unsafe(plan: &LogicalPlan) -> Result<bool> {
    let mut is_unsafe = false;
    plan.apply_with_subqueries(|node| {
        let condition = match node {
            LogicalPlan::Filter(filter) => Some(&filter.predicate),
            LogicalPlan::Join(join) => join.filter.as_ref(),
            _ => None,
        };
        is_unsafe |= condition.is_some_and(can_fail);
        Ok(if is_unsafe { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(is_unsafe)
}

/// Whether there may be rows in which an expression has no value: casts and calls may fail.
pub(crate) fn can_fail(expr: &Expr) -> bool {
    expr.exists(|part| Ok(!is_safe(part))).unwrap_or(true)
}

/// Whether this part of an expression has a value whatever its parts are.
fn is_safe(part: &Expr) -> bool {
    match part {
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Alias(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::InList(_) => true,
        Expr::Like(like) => matches!(like.pattern.as_ref(), Expr::Literal(..)),
        Expr::BinaryExpr(binary) => super::compares(binary.op) || binary.op.is_logic_operator(),
        _ => false,
    }
}

/// Conditions that other rules look for: equal columns, and subqueries.
fn is_for_a_join(condition: &Expr) -> bool {
    let are_columns = |a: &Expr, b: &Expr| matches!((a, b), (Expr::Column(_), Expr::Column(_)));
    if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition
        && are_columns(left, right)
    {
        return true;
    }
    let is_subquery = |part: &Expr| {
        Ok(matches!(
            part,
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..)
        ))
    };
    condition.exists(is_subquery).unwrap_or(true)
}

/// One expression over `schema`.
pub(crate) fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let expr = match expr {
            Expr::AggregateFunction(mut function) => {
                let computed = function.params.args.iter_mut().filter(|arg| matches!(arg, Expr::BinaryExpr(_)));
                let changed = computed.map(|arg| *arg = kept(std::mem::take(arg))).count() > 0;
                return Ok(Transformed::new_transformed(Expr::AggregateFunction(function), changed));
            }
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let right = lists_apart(&left, *right, op)?;
                let both = BinaryExpr { left, op, right: Box::new(right.data) };
                return Ok(Transformed::new_transformed(Expr::BinaryExpr(both), right.transformed));
            }
            other => other,
        };
        let (inner, to) = match &expr {
            Expr::Cast(cast) => (&cast.expr, &cast.field),
            Expr::TryCast(cast) => (&cast.expr, &cast.field),
            _ => return Ok(Transformed::no(expr)),
        };
        if !inner.get_type(schema).is_ok_and(|from| loses(&from, to.data_type())) {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(kept(expr)))
    })
}

/// Wraps lists in `right` of what has one in `left` too, where the simplifier might intersect the two. It only unites
/// those that hold under OR, and those that do not under AND.
fn lists_apart(left: &Expr, right: Expr, op: Operator) -> Result<Transformed<Expr>> {
    let is_not = |part: &Expr| Ok(matches!(part, Expr::Not(_)));
    let may_turn = left.exists(is_not)? || right.exists(is_not)?;
    let mut in_left = HashSet::new();
    left.apply(|part| {
        in_left.extend(listed(part));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let united = (op == Operator::And, op == Operator::And);
    let is_in_left = |value: &Expr, negated: bool| {
        [false, true]
            .into_iter()
            .any(|other| in_left.contains(&(value, other)) && (may_turn || (negated, other) != united))
    };
    right.transform_down(|part| {
        let is_in_both = match listed(&part) {
            Some((value, negated)) => is_in_left(value, negated),
            None => false,
        };
        Ok(if is_in_both { Transformed::new(kept(part), true, TreeNodeRecursion::Jump) } else { Transformed::no(part) })
    })
}

/// What a list is one of, and whether it is one of what is left out. `x = 1 OR …` is the begin of one.
fn listed(expr: &Expr) -> Option<(&Expr, bool)> {
    match expr {
        Expr::InList(list) => Some((&list.expr, list.negated)),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
            let value = match (left.any_column_refs(), right.any_column_refs()) {
                (true, false) => left,
                (false, true) => right,
                _ => return None,
            };
            Some((value, *op == Operator::NotEq))
        }
        _ => None,
    }
}

/// Whether two values may come out of a cast as one, or one as none.
fn loses(from: &DataType, to: &DataType) -> bool {
    match (exact_digits(from), exact_digits(to)) {
        (Some((whole, fraction)), Some((to_whole, to_fraction))) => to_whole < whole || to_fraction < fraction,
        // The simplifier cuts the literal to the digits of the column.
        _ => matches!((from, to), (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) if from != to),
    }
}
