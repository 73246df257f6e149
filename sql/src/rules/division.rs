//! `/` of decimals is Flink's: its scale follows both sides, and it rounds half up.
//!
//! Two integers, and anything with a float, are left to DataFusion, which divides them as Flink does.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};

use crate::functions::decimal::{DIVIDE, as_decimal};
use crate::functions::registry;

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, expression)
}

/// The same for one expression over `schema`.
pub(crate) fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let types = (left.get_type(schema), right.get_type(schema));
        let (Ok(a), Ok(b)) = types else { return Ok(Transformed::no(expr)) };
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
        if !(is_decimal(&a) || is_decimal(&b)) || as_decimal(&a).is_none() || as_decimal(&b).is_none() {
            return Ok(Transformed::no(expr));
        }
        let Some(func) = registry().scalar(DIVIDE) else { return Ok(Transformed::no(expr)) };
        let args = vec![as_int(left.as_ref()), as_int(right.as_ref())];
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
    })
}

/// A literal integer is an INT to Flink where it fits one.
fn as_int(expr: &Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) if i32::try_from(*value).is_ok() => {
            let int = DataType::Decimal128(10, 0);
            Expr::Cast(Cast::new(Box::new(expr.clone()), int))
        }
        other => other.clone(),
    }
}
