//! Filter, then projection. Stateless.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::FilterBuilder;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::ScalarFunctionExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
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
    /// Members of rows that the projection reads, over the input: taken out of their rows first, they are all of the rows
    /// that has to be filtered.
    members: Vec<Expression>,
    /// What the projection reads of the input's columns and, behind these, of `members`: only this is filtered.
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
        let mut members = Vec::new();
        let projection = if filter.is_some() { taken_out(projection, input, &mut members)? } else { projection };
        let mut used: Vec<usize> =
            projection.iter().flat_map(collect_columns).map(|column: Column| column.index()).collect();
        used.sort_unstable();
        used.dedup();
        let mut fields = input.fields().to_vec();
        for (at, member) in members.iter().enumerate() {
            let field = member.return_field(input).map_err(|e| evaluation_error(name, &e))?;
            fields.push(Arc::new(field.as_ref().clone().with_name(member_name(at))));
        }
        let used_schema = Arc::new(Schema::new(fields).project(&used).map_err(super::evaluate::internal)?);
        let projection = projection
            .into_iter()
            .map(|expr| reassign_expr_columns(expr, &used_schema))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| evaluation_error(name, &e))?;
        Ok(Self { filter, members, used, used_schema, projection })
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
        let columns = self.used.iter().map(|i| match rows.columns().get(*i) {
            Some(column) => Ok(Arc::clone(column)),
            None => values(&self.members[i - rows.num_columns()], rows),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let kept = kept.map(|kept| (kept, kept.true_count())).filter(|(kept, count)| *count < kept.len());
        let (columns, count) = match kept {
            None => (columns, rows.num_rows()),
            Some((kept, count)) => {
                let mut predicate = FilterBuilder::new(kept);
                if self.used.len() > 1 {
                    predicate = predicate.optimize();
                }
                let predicate = predicate.build();
                (columns.iter().map(|c| predicate.filter(c)).collect::<Result<Vec<_>, _>>()?, count)
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.used_schema), columns, &options)?)
    }
}

/// The projection with columns behind the input's for the members of rows that it reads.
fn taken_out(projection: Vec<Expression>, input: &SchemaRef, members: &mut Vec<Expression>) -> Result<Vec<Expression>> {
    let mut take_out = |expr: Expression| {
        if !is_member(&expr, input) {
            return Ok(Transformed::no(expr));
        }
        let at = members.iter().position(|member| member.as_ref() == expr.as_ref()).unwrap_or(members.len());
        if at == members.len() {
            members.push(expr);
        }
        let column: Expression = Arc::new(Column::new(&member_name(at), input.fields().len() + at));
        Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
    };
    projection
        .into_iter()
        .map(|expr| Ok(expr.transform_down(&mut take_out).map_err(|e| evaluation_error("calc", &e))?.data))
        .collect()
}

/// No column of a query has such a name.
fn member_name(at: usize) -> String {
    format!("\0{at}")
}

/// Whether an expression is a member of a row of the input, or a member of such a member.
fn is_member(expr: &Expression, input: &SchemaRef) -> bool {
    let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() else { return false };
    let [row, names @ ..] = function.args() else { return false };
    let of_row = matches!(row.data_type(input), Ok(DataType::Struct(_)));
    let named = names.iter().all(|name| name.downcast_ref::<Literal>().is_some());
    function.name() == "get_field"
        && of_row
        && named
        && (row.downcast_ref::<Column>().is_some() || is_member(row, input))
}
