//! Operators that DataFusion plans otherwise, or not at all.
//!
//! `j -> 'key'` and `j ->> 'key'` are calls of [`json_access`](crate::functions).
//! An integer literal is INT to Flink and BIGINT to DataFusion: `a + 1` of an INT column stays INT.
//!
//! Applied while expressions are made, so that names derived from them agree everywhere.

use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(crate) struct Literals;

impl ExprPlanner for Literals {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let access = match expr.op {
            BinaryOperator::Arrow => Some("json_get"),
            BinaryOperator::LongArrow => Some("json_get_text"),
            _ => None,
        };
        if let Some(function) = access.and_then(|name| crate::functions::registry().scalar(name)) {
            return Ok(PlannerResult::Planned(function.call(vec![expr.left, expr.right])));
        }
        let arithmetic = matches!(
            expr.op,
            BinaryOperator::Plus
                | BinaryOperator::Minus
                | BinaryOperator::Multiply
                | BinaryOperator::Divide
                | BinaryOperator::Modulo
        );
        if arithmetic {
            if is_narrow(&expr.left, schema) {
                narrow(&mut expr.right);
            } else if is_narrow(&expr.right, schema) {
                narrow(&mut expr.left);
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Whether `expr` is of an integer type below BIGINT.
fn is_narrow(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Int8 | DataType::Int16 | DataType::Int32))
}

fn narrow(expr: &mut Expr) {
    if let Expr::Literal(ScalarValue::Int64(Some(value)), metadata) = expr
        && let Ok(value) = i32::try_from(*value)
    {
        *expr = Expr::Literal(ScalarValue::Int32(Some(value)), metadata.take());
    }
}
