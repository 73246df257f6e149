//! A pair of join keys of which one became a constant is a condition like any other: rules behind would take it for a
//! pair that is none, and drop it.

use datafusion_common::tree_node::Transformed;
use datafusion_common::{NullEquality, Result};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, LogicalPlan, Operator, binary_expr};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(crate) struct ConstantKeys;

impl OptimizerRule for ConstantKeys {
    fn name(&self) -> &'static str {
        "constant_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        let (on, constant): (Vec<_>, Vec<_>) =
            join.on.iter().cloned().partition(|(left, right)| left.any_column_refs() && right.any_column_refs());
        if constant.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let equal = match join.null_equality {
            NullEquality::NullEqualsNothing => Operator::Eq,
            NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
        };
        let conditions = constant.into_iter().map(|(left, right)| binary_expr(left, equal, right));
        let filter = join.filter.clone().into_iter().chain(conditions).reduce(Expr::and);
        Ok(Transformed::yes(LogicalPlan::Join(Join { on, filter, ..join })))
    }
}
