//! Integer arithmetic that leaves its type fails the row. DataFusion's operators wrap round without a word.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};

/// Makes each `+`, `-` and `*` of integers, and each sign before one, checked.
pub(super) fn check(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let checked = expr.transform_up(|expr| {
        let is_integer = |expr: &Arc<dyn PhysicalExpr>| expr.data_type(schema).is_ok_and(|t| t.is_integer());
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
            && is_integer(&expr)
        {
            let checked = binary.clone().with_fail_on_overflow(true);
            return Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>));
        }
        if let Some(negative) = expr.downcast_ref::<NegativeExpr>()
            && is_integer(&expr)
        {
            let zero = Arc::new(Literal::new(ScalarValue::new_zero(&expr.data_type(schema)?)?));
            let difference = BinaryExpr::new(zero, Operator::Minus, Arc::clone(negative.arg()));
            let checked = difference.with_fail_on_overflow(true);
            return Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>));
        }
        Ok(Transformed::no(expr))
    })?;
    Ok(checked.data)
}
