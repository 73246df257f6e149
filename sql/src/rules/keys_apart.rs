//! DataFusion asks a condition on a join's key of the other side too. Where it can fail, it would fail for rows that
//! have no partner, and that what guards it does not guard: keys in a wrapping are no columns to it.

use datafusion_common::Result;
use datafusion_common::tree_node::Transformed;
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::casts::kept;

/// The rule: for plans with conditions that can fail.
#[derive(Debug)]
pub(crate) struct KeysApart;

impl OptimizerRule for KeysApart {
    fn name(&self) -> &'static str {
        "keys_apart"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        let is_open = |(left, right): &(Expr, Expr)| matches!((left, right), (Expr::Column(_), Expr::Column(_)));
        if !join.on.iter().any(is_open) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let on = join.on.into_iter().map(|pair| if is_open(&pair) { (kept(pair.0), pair.1) } else { pair }).collect();
        Ok(Transformed::yes(LogicalPlan::Join(Join { on, ..join })))
    }
}
