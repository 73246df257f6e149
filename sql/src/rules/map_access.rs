//! `m[k]` of a map where `k` is no literal: DataFusion's `get_field` takes it at planning and fails at every row.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};

use crate::functions::{MAP_VALUE, registry};

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, expression)
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
