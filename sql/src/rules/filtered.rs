//! `SUM(1 / x) FILTER (WHERE x <> 0)`: what is summed is only looked at where the filter holds, so that a
//! row that it leaves out cannot fail.

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::Case;
use datafusion_expr::{Expr, LogicalPlan};

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, |expr, _| {
        expr.transform_up(|expr| {
            let Expr::AggregateFunction(mut function) = expr else { return Ok(Transformed::no(expr)) };
            let mut changed = false;
            if let Some(filter) = &function.params.filter {
                for argument in &mut function.params.args {
                    if !matches!(argument, Expr::Column(_) | Expr::Literal(..)) {
                        let then = Box::new(std::mem::take(argument));
                        *argument = Expr::Case(Case::new(None, vec![(filter.clone(), then)], None));
                        changed = true;
                    }
                }
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(function), changed))
        })
    })
}
