//! `ROW_NUMBER()` is BIGINT.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_common::tree_node::Transformed;
use datafusion_expr::{Cast, Expr, LogicalPlan, Projection};

/// Casts unsigned row numbers right above the node that makes them.
pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let node = node.recompute_schema()?;
        let LogicalPlan::Window(window) = &node else { return Ok(Transformed::yes(node)) };
        if window.schema.fields().iter().all(|f| f.data_type() != &DataType::UInt64) {
            return Ok(Transformed::yes(node));
        }
        let width = window.input.schema().fields().len();
        let exprs = window.schema.iter().enumerate().map(|(index, (qualifier, field))| {
            let column = Expr::from((qualifier, field));
            if index >= width && field.data_type() == &DataType::UInt64 {
                Expr::Cast(Cast::new(Box::new(column), DataType::Int64))
                    .alias_qualified(qualifier.cloned(), field.name())
            } else {
                column
            }
        });
        let exprs = exprs.collect();
        Projection::try_new(exprs, Arc::new(node)).map(LogicalPlan::Projection).map(Transformed::yes)
    })
    .map(|t| t.data)
}
