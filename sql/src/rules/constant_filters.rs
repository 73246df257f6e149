//! A filter that lets all rows pass is left out. DataFusion's own rule would also make an empty table of
//! the input of one that lets none pass, and a window over it would have no time to go by.

use std::sync::Arc;

use datafusion_common::tree_node::Transformed;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

#[derive(Debug)]
pub(crate) struct ConstantFilters;

impl OptimizerRule for ConstantFilters {
    fn name(&self) -> &str {
        "constant_filters"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter)
                if matches!(filter.predicate, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) =>
            {
                Ok(Transformed::yes(Arc::unwrap_or_clone(filter.input)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}
