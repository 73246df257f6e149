//! Gives every expression its type, from the inside out and from the sources on: what an operator or an aggregate
//! makes of its arguments goes by the types that these have in the end, after all branches of a CASE and all inputs
//! of a UNION ALL have been brought to one.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRewriter};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::logical_plan::Union;
use datafusion_expr::{Expr, LogicalPlan, Projection};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;

use super::{aggregate_types, common_types, decimals, map_access, node_expressions, scope};

/// All but the aggregates' own arguments, which DataFusion's type coercion is left to cast.
pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let node = match node {
            // Its inputs are brought to one type below.
            LogicalPlan::Union(union) => LogicalPlan::Union(Union::try_new_with_loose_types(union.inputs)?),
            other => other.recompute_schema()?,
        };
        let schema = scope(&node);
        let node = node_expressions(node, |expr| expression(expr, &schema))?.data;
        let node = match node {
            LogicalPlan::Join(join) => LogicalPlan::Join(common_types::even_keys(join, &schema)),
            LogicalPlan::Union(union) => match common_types::even_inputs(union)? {
                LogicalPlan::Union(union) => TypeCoercionRewriter::coerce_union(union)?,
                other => other,
            },
            LogicalPlan::Aggregate(aggregate) => results(aggregate_types::retype(aggregate)?)?,
            LogicalPlan::Window(window) => results(aggregate_types::retype_over(window)?)?,
            other => other,
        };
        Ok(Transformed::yes(node.recompute_schema()?))
    })
    .map(|plan| plan.data)
}

/// The types of what is made of sums and counts.
fn results(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(results) = plan else { return Ok(plan) };
    let input = results.input.schema();
    let exprs = results.expr.into_iter().map(|expr| Ok(expression(expr, input)?.data));
    let exprs = exprs.collect::<Result<_>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&results.input))?))
}

/// The same for one expression over `schema`.
pub(crate) fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut coercion = TypeCoercionRewriter::new(schema);
    expr.transform_up(|expr| {
        let accessed = map_access::node(expr, schema)?;
        let exact = decimals::node(accessed.data, schema)?;
        let even = common_types::node(exact.data, schema)?;
        let changed = accessed.transformed || exact.transformed || even.transformed;
        let coerced = match even.data {
            call @ (Expr::AggregateFunction(_) | Expr::WindowFunction(_)) => Transformed::no(call),
            other => coercion.f_up(other)?,
        };
        Ok(Transformed::new_transformed(coerced.data, changed || coerced.transformed))
    })
}
