//! A table under a `STATE_TTL` hint as a marker over its plan: what is kept of its rows has a time to live of its own.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use datafusion_common::{DFSchemaRef, DataFusionError, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateTtl {
    pub(crate) input: LogicalPlan,
    /// What its SELECT calls it.
    pub(crate) table: String,
    /// 0: for as long as the job lives.
    pub(crate) ttl_ms: u64,
}

impl PartialOrd for StateTtl {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StateTtl {
    fn name(&self) -> &'static str {
        "StateTtl"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// The rows are those of the input.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTtl: {} ms", self.ttl_ms)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.pop().ok_or_else(|| DataFusionError::Internal("a hint lost its table".to_owned()))?;
        Ok(Self { input, ..self.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
