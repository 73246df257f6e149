//! Rewrites that give queries Flink's value semantics, one rule per file.
//!
//! They run on the plan before type coercion and optimisation, some of them between these. `docs/guide/dialect.md` lists them.

use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Expr, LogicalPlan, Operator};

pub(crate) mod aggregate_types;
pub(crate) mod casting;
pub(crate) mod casts;
pub(crate) mod checks;
pub(crate) mod common_types;
pub(crate) mod constant_filters;
pub(crate) mod constant_keys;
pub(crate) mod conversions;
pub(crate) mod decimals;
pub(crate) mod embedded_subqueries;
pub(crate) mod filtered;
pub(crate) mod grouping_sets;
pub(crate) mod hidden;
pub(crate) mod implicit_cast;
pub(crate) mod json_operators;
pub(crate) mod keys_apart;
pub(crate) mod lateral;
pub(crate) mod lists;
pub(crate) mod literals;
pub(crate) mod map_access;
pub(crate) mod names;
pub(crate) mod overflow;
pub(crate) mod patterns;
pub(crate) mod row_number;
pub(crate) mod scalar_subqueries;
pub(crate) mod temporal;
pub(crate) mod types;

/// Rewrites every expression of a plan by a rule, which is told what the expression is over. Columns keep
/// their names.
fn each_expression(
    plan: LogicalPlan,
    rule: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let schema = scope(&node);
        let node = node_expressions(node, |expr| rule(expr, &schema))?;
        if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })
    .map(|plan| plan.data)
}

/// The same for the expressions of one node, whose schema is not made anew.
fn node_expressions(
    node: LogicalPlan,
    rule: impl Fn(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = rule(expr)?;
        Ok(if rewritten.transformed { rewritten.update_data(|expr| name.restore(expr)) } else { rewritten })
    })
}

/// What the expressions of a node are over.
fn scope(node: &LogicalPlan) -> DFSchema {
    let inputs = node.inputs();
    if inputs.is_empty() { node.schema().as_ref().clone() } else { merge_schema(&inputs) }
}

/// Whether an operator compares two values.
pub(crate) fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}
