//! `/` and `*` of decimals are Flink's: a quotient's scale follows both sides, a product of more than 38 digits has
//! less behind the point, and both round half up.
//!
//! Two integers, and anything with a float, are left to DataFusion, which divides them as Flink does; and so are
//! products that have room for all of their digits.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};

use crate::functions::decimal::{DIVIDE, MULTIPLY, as_decimal, is_long};
use crate::functions::registry;

/// One expression over `schema`, whose parts are done.
pub(crate) fn node(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Multiply), right }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let types = (left.get_type(schema), right.get_type(schema));
    let (Ok(a), Ok(b)) = types else { return Ok(Transformed::no(expr)) };
    let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
    let exact = match (as_decimal(&a), as_decimal(&b)) {
        (Some(left), Some(right)) if is_decimal(&a) || is_decimal(&b) => [left, right],
        _ => return Ok(Transformed::no(expr)),
    };
    let name = if *op == Operator::Divide { DIVIDE } else { MULTIPLY };
    let args = vec![as_int(left.as_ref()), as_int(right.as_ref())];
    let func = registry().scalar(name).filter(|_| *op == Operator::Divide || is_long(&exact));
    let Some(func) = func else { return Ok(Transformed::no(expr)) };
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
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
