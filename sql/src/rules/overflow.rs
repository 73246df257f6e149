//! A decimal of more than 38 digits fails its row: Arrow only notices when 128 bits are too few.
//!
//! Runs after type coercion, when both sides of an operator are decimals.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use crate::functions::decimal::CHECKED;
use crate::functions::registry;

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, expression)
}

/// The same for one expression over `schema`.
pub(crate) fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let Expr::BinaryExpr(BinaryExpr { op: Operator::Plus | Operator::Minus | Operator::Multiply, .. }) = &expr
        else {
            return Ok(Transformed::no(expr));
        };
        // A narrower result has room for one more digit than either side.
        match (expr.get_type(schema), registry().scalar(CHECKED)) {
            (Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, _)), Some(func)) => {
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: vec![expr] })))
            }
            _ => Ok(Transformed::no(expr)),
        }
    })
}
