//! `j -> 'key'` and `j ->> 'key'` are calls of [`json_access`](crate::functions).

use datafusion_common::{DFSchema, Result};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(crate) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let access = match expr.op {
            BinaryOperator::Arrow => Some("json_get"),
            BinaryOperator::LongArrow => Some("json_get_text"),
            _ => None,
        };
        Ok(match access.and_then(|name| crate::functions::registry().scalar(name)) {
            Some(function) => PlannerResult::Planned(function.call(vec![expr.left, expr.right])),
            None => PlannerResult::Original(expr),
        })
    }
}
