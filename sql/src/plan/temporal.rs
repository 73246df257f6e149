//! `t FOR SYSTEM_TIME AS OF a.time` as a marker over the scan of `t`: the join above it is a lookup, or of versions.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use datafusion_common::{DFSchemaRef, DataFusionError, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Temporal {
    pub(crate) input: LogicalPlan,
    /// The identifier after `AS OF`, part by part; empty for `PROCTIME()`.
    pub(crate) time: Vec<String>,
    /// 1-based line and column of it.
    pub(crate) place: (u64, u64),
    /// The time is an event time: of each key the version that holds then.
    pub(crate) is_event: bool,
}

impl PartialOrd for Temporal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Temporal {
    fn name(&self) -> &'static str {
        "Temporal"
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

    /// A filter of the table's own rows is applied while it is loaded. Of versions it is asked of the one that holds: one
    /// that does not pass still ends the one before.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        if self.is_event { self.schema().fields().iter().map(|f| f.name().clone()).collect() } else { HashSet::new() }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Temporal: as of {} time", if self.is_event { "event" } else { "processing" })
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input =
            inputs.pop().ok_or_else(|| DataFusionError::Internal("a temporal table lost its input".to_owned()))?;
        Ok(Self { input, ..self.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
