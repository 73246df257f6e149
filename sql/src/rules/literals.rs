//! An integer literal is INT where it fits, as to Flink; DataFusion makes it a BIGINT.
//!
//! So `COALESCE(v, 0)`, `v + 1` and `CASE … THEN v ELSE 0 END` of an INT are INT. Arithmetic of literals
//! alone stays BIGINT: `86400 * 1000000` is no INT, and what fits a column is taken by it anyway
//! ([`implicit_cast`](super::implicit_cast)).
//!
//! The digits of `ROUND` are made a literal here too: the type of its result goes by them, and must not
//! become another one when constants are folded later.

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::logical_plan::Union;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

const ROUND: &str = "round";

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let node = match node {
            // Counts of rows, and tables that are written out.
            LogicalPlan::Limit(_) | LogicalPlan::Values(_) => Transformed::no(node),
            // Its columns have the types that its inputs had before.
            LogicalPlan::Union(union) => {
                return Union::try_new_with_loose_types(union.inputs).map(LogicalPlan::Union).map(Transformed::yes);
            }
            node => super::node_expressions(node, expression)?,
        };
        node.map_data(LogicalPlan::recompute_schema)
    })
    .map(|plan| plan.data)
}

/// The same for one expression.
pub(crate) fn expression(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { op, .. }) if is_arithmetic(op) && !expr.any_column_refs() => {
                Transformed::new(expr, false, TreeNodeRecursion::Jump)
            }
            Expr::ScalarFunction(mut function) if function.name() == ROUND => {
                let digits = function.args.get_mut(1).filter(|d| !d.any_column_refs() && d.as_literal().is_none());
                let changed = digits.is_some();
                if let Some(digits) = digits {
                    let folding = ExprSimplifier::new(SimplifyContext::default());
                    *digits = folding.simplify(std::mem::take(digits))?;
                }
                Transformed::new_transformed(Expr::ScalarFunction(function), changed)
            }
            // What else an aggregate is told, such as a place or a number of centroids, it takes as BIGINT.
            Expr::AggregateFunction(mut function) => {
                let mut changed = false;
                let params = &mut function.params;
                let orders = params.order_by.iter_mut().map(|sort| &mut sort.expr);
                for value in params.args.iter_mut().take(1).chain(params.filter.as_deref_mut()).chain(orders) {
                    let narrow = expression(std::mem::take(value))?;
                    changed |= narrow.transformed;
                    *value = narrow.data;
                }
                Transformed::new(Expr::AggregateFunction(function), changed, TreeNodeRecursion::Jump)
            }
            Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
                Ok(value) => Transformed::yes(Expr::Literal(ScalarValue::Int32(Some(value)), metadata)),
                Err(_) => Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata)),
            },
            other => Transformed::no(other),
        })
    })
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}
