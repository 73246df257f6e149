//! `m[k]` of a map where `k` is no literal: DataFusion's `get_field` takes it at planning and fails at every row.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};

use arrow::datatypes::DataType;

use crate::functions::{MAP_VALUE, registry};

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let inputs = node.inputs();
        let schema = if inputs.is_empty() { node.schema().as_ref().clone() } else { merge_schema(&inputs) };
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let looked_up = expression(expr, &schema)?;
            Ok(if looked_up.transformed { looked_up.update_data(|expr| name.restore(expr)) } else { looked_up })
        })?;
        if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })
    .map(|plan| plan.data)
}

/// The same for one expression over `schema`.
pub(crate) fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        let Expr::ScalarFunction(function) = &mut expr else { return Ok(Transformed::no(expr)) };
        let is_lookup = function.name() == "get_field"
            && matches!(function.args.as_slice(), [map, key] if !matches!(key, Expr::Literal(..))
                && matches!(map.get_type(schema), Ok(DataType::Map(..))));
        match registry().scalar(MAP_VALUE) {
            Some(lookup) if is_lookup => function.func = lookup,
            _ => return Ok(Transformed::no(expr)),
        }
        Ok(Transformed::yes(expr))
    })
}
