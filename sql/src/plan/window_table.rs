//! `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), …))` as a node of the logical plan: the input's columns, then
//! `window_start`, `window_end` and `window_time`.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use qanat_proto::graph::WindowShape;

/// Names of the columns that a window table function appends, in order.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowTable {
    pub(crate) input: LogicalPlan,
    pub(crate) shape: WindowShape,
    /// The time attribute: a column of `input`.
    pub(crate) time: Column,
    /// `PARTITION BY` of `SESSION`.
    pub(crate) partition_by: Vec<Column>,
    schema: DFSchemaRef,
}

impl WindowTable {
    /// # Errors
    /// If the input already has a column of one of the window's names.
    pub(crate) fn try_new(
        input: LogicalPlan,
        shape: WindowShape,
        time: Column,
        partition_by: Vec<Column>,
    ) -> Result<Self> {
        let mut fields: Vec<_> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for name in WINDOW_COLUMNS {
            let data_type = DataType::Timestamp(TimeUnit::Millisecond, None);
            fields.push((None, Arc::new(Field::new(name, data_type, false))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, shape, time, partition_by, schema })
    }
}

impl PartialOrd for WindowTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowTable {
    fn name(&self) -> &'static str {
        "WindowTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition_by).cloned().map(Expr::Column).collect()
    }

    /// A filter on other columns commutes with windows that look at one row alone. A session is made of
    /// the rows that are there: only a filter on its partition keys removes whole sessions.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        match self.shape {
            WindowShape::Session { .. } => {
                let keys: HashSet<&str> = self.partition_by.iter().map(|c| c.name.as_str()).collect();
                let names = self.schema.fields().iter().map(|f| f.name());
                names.filter(|name| !keys.contains(name.as_str())).cloned().collect()
            }
            WindowShape::Tumble { .. } | WindowShape::Hop { .. } | WindowShape::Cumulate { .. } => {
                WINDOW_COLUMNS.iter().map(|name| (*name).to_owned()).collect()
            }
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowTable: {}, time={}", shape_text(&self.shape), self.time.name)?;
        if !self.partition_by.is_empty() {
            let keys: Vec<&str> = self.partition_by.iter().map(|c| c.name.as_str()).collect();
            write!(f, ", partition by=[{}]", keys.join(", "))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut columns = exprs.into_iter().map(|expr| match expr {
            Expr::Column(column) => Ok(column),
            other => Err(DataFusionError::Internal(format!("a window's time became `{other}`"))),
        });
        let missing = || DataFusionError::Internal("a window table lost its input".to_owned());
        let time = columns.next().ok_or_else(missing)??;
        let partition_by = columns.collect::<Result<Vec<_>>>()?;
        Self::try_new(inputs.pop().ok_or_else(missing)?, self.shape, time, partition_by)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|index| *index < width).collect()])
    }
}

/// `TUMBLE 10s`, `HOP 10s/2s`, `CUMULATE 1d/1h`, `SESSION 10s`, as operator names and EXPLAIN show it.
pub(crate) fn shape_text(shape: &WindowShape) -> String {
    let shifted = |text: String, offset: i64| {
        if offset == 0 { text } else { format!("{text} offset {}", duration_text(offset)) }
    };
    match *shape {
        WindowShape::Tumble { size, offset } => shifted(format!("TUMBLE {}", duration_text(size)), offset),
        WindowShape::Hop { size, slide, offset } => {
            shifted(format!("HOP {}/{}", duration_text(size), duration_text(slide)), offset)
        }
        WindowShape::Cumulate { max_size, step, offset } => {
            shifted(format!("CUMULATE {}/{}", duration_text(max_size), duration_text(step)), offset)
        }
        WindowShape::Session { gap } => format!("SESSION {}", duration_text(gap)),
    }
}

/// A length in the largest unit that divides it.
pub(crate) fn duration_text(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    for (unit, name) in UNITS {
        if ms != 0 && ms % unit == 0 {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}
