//! Filter, then projection. Stateless.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::FilterBuilder;
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::{collect_columns, reassign_expr_columns};
use qanat_proto::error::Result;
use qanat_proto::graph::CalcNode;
use qanat_proto::receipt::OperatorCounts;
use qanat_sql::expr;

use super::emit::batch_of;
use super::evaluate::{Expression, evaluate_or_bury, evaluation_error, mask, values};
use super::{Operator, OperatorContext, Output};

/// Keeps the rows for which the filter is true and computes the projection over them.
pub struct Calc {
    program: CalcProgram,
    context: OperatorContext,
    counts: OperatorCounts,
}

impl Calc {
    pub fn new(node: &CalcNode, context: OperatorContext) -> Result<Self> {
        let program = CalcProgram::new(node, &context.inputs[0], &context.name)?;
        Ok(Self { program, context, counts: OperatorCounts::default() })
    }
}

impl Operator for Calc {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        let name = &self.context.name;
        let Some((rows, (kept, columns))) = evaluate_or_bury(name, rows, out, |rows| self.program.run(rows))? else {
            return Ok(());
        };
        self.counts.filtered += (rows.num_rows() - kept) as u64;
        self.counts.rows_out += kept as u64;
        out.emit(batch_of(&self.context.output, columns, kept)?);
        Ok(())
    }

    fn take_counts(&mut self) -> OperatorCounts {
        // Dead letters are what is missing: nothing else leaves a calc.
        let mut counts = std::mem::take(&mut self.counts);
        counts.dead_lettered = counts.rows_in - counts.rows_out - counts.filtered;
        counts
    }
}

/// A filter and a projection over one schema, compiled.
pub(crate) struct CalcProgram {
    filter: Option<Expression>,
    /// Input columns that the projection reads: only these are filtered.
    used: Vec<usize>,
    used_schema: SchemaRef,
    /// Over `used_schema`.
    projection: Vec<Expression>,
}

impl CalcProgram {
    pub(crate) fn new(node: &CalcNode, input: &SchemaRef, name: &str) -> Result<Self> {
        let filter = node.filter.as_ref().map(|filter| expr::physical(filter, input)).transpose()?;
        let projection =
            node.projection.iter().map(|named| expr::physical(&named.expr, input)).collect::<Result<Vec<_>>>()?;
        let mut used: Vec<usize> =
            projection.iter().flat_map(collect_columns).map(|column: Column| column.index()).collect();
        used.sort_unstable();
        used.dedup();
        let used_schema = Arc::new(input.project(&used).map_err(super::evaluate::internal)?);
        let projection = projection
            .into_iter()
            .map(|expr| reassign_expr_columns(expr, &used_schema))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| evaluation_error(name, &e))?;
        Ok(Self { filter, used, used_schema, projection })
    }

    /// Number of rows kept, and the projected columns of those rows.
    pub(crate) fn run(&self, rows: &RecordBatch) -> Result<(usize, Vec<ArrayRef>), DataFusionError> {
        let kept = match &self.filter {
            Some(filter) => Some(mask(filter, rows)?),
            None => None,
        };
        let input = self.used_rows(rows, kept.as_ref())?;
        if input.num_rows() == 0 {
            // A constant would be computed all the same, and may fail: no row asks for it.
            let types = self.projection.iter().map(|expr| expr.data_type(&self.used_schema));
            let columns =
                types.map(|data_type| Ok(new_empty_array(&data_type?))).collect::<Result<_, DataFusionError>>();
            return Ok((0, columns?));
        }
        let columns = self.projection.iter().map(|expr| values(expr, &input)).collect::<Result<Vec<_>, _>>()?;
        Ok((input.num_rows(), columns))
    }

    fn used_rows(&self, rows: &RecordBatch, kept: Option<&BooleanArray>) -> Result<RecordBatch, DataFusionError> {
        let columns = self.used.iter().map(|i| Arc::clone(rows.column(*i)));
        let kept = kept.map(|kept| (kept, kept.true_count())).filter(|(kept, count)| *count < kept.len());
        let (columns, count) = match kept {
            None => (columns.collect(), rows.num_rows()),
            Some((kept, count)) => {
                let mut predicate = FilterBuilder::new(kept);
                if self.used.len() > 1 {
                    predicate = predicate.optimize();
                }
                let predicate = predicate.build();
                (columns.map(|c| predicate.filter(&c)).collect::<Result<Vec<_>, _>>()?, count)
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.used_schema), columns, &options)?)
    }
}
