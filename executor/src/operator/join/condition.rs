//! The condition of a join over both sides.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use qanat_proto::error::Result;
use qanat_proto::graph::EncodedExpr;
use qanat_sql::expr;

use super::super::emit::batch_of;
use super::super::evaluate::{Expression, evaluation_error, internal, mask};
use super::super::kept_rows::KeptRows;

/// What has to hold of a pair beside equal keys.
pub(super) struct Condition {
    holds: Option<Expression>,
    /// Left columns, then right columns, without kinds.
    joined: SchemaRef,
}

impl Condition {
    pub(super) fn new(filter: Option<&EncodedExpr>, left: &Schema, right: &Schema) -> Result<Self> {
        let fields: Vec<_> = left.fields().iter().chain(right.fields()).cloned().collect();
        let joined = Arc::new(Schema::new(fields));
        let holds = filter.map(|filter| expr::physical(filter, &joined)).transpose()?;
        Ok(Self { holds, joined })
    }

    /// Pairs for which it holds, of rows of a batch that came on `port` and numbers of rows that the other side keeps.
    /// `name`: of the operator.
    pub(super) fn satisfying(
        &self,
        name: &str,
        (port, batch): (usize, &RecordBatch),
        kept: &KeptRows,
        (owns, others): (Vec<u32>, Vec<i64>),
    ) -> Result<(Vec<u32>, Vec<i64>)> {
        let Some(condition) = &self.holds else { return Ok((owns, others)) };
        let wanted: Vec<Option<i64>> = others.iter().map(|number| Some(*number)).collect();
        let columns = side_by_side(port, taken(batch, &UInt32Array::from(owns.clone()))?, kept.gather(&wanted)?);
        let rows = batch_of(&self.joined, columns, owns.len())?;
        let holds = mask(condition, &rows).map_err(|e| evaluation_error(name, &e))?;
        let pairs = owns.into_iter().zip(others).zip(holds.values()).filter(|(_, holds)| *holds);
        Ok(pairs.map(|(pair, _)| pair).unzip())
    }
}

/// Columns of some rows.
pub(super) fn taken(rows: &RecordBatch, picked: &UInt32Array) -> Result<Vec<ArrayRef>> {
    rows.columns().iter().map(|column| take(column, picked, None).map_err(internal)).collect()
}

/// Left columns, then right columns. `port`: of those that are `own`.
pub(super) fn side_by_side(port: usize, own: Vec<ArrayRef>, other: Vec<ArrayRef>) -> Vec<ArrayRef> {
    if port == 0 { [own, other].concat() } else { [other, own].concat() }
}
