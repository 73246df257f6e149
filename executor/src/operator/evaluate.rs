//! Evaluation of expressions over a batch, and the policy for rows on which it fails.
//!
//! A batch is evaluated whole. Only when that fails is it cut in halves until the rows at fault stand
//! alone: those become dead letters with reason `evaluation`, and the others go on as if the batch had
//! never held them. The cost is paid by bad data only.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use qanat_proto::error::{Code, Error, Place, Result};

use super::{DeadRows, Output};

/// Reason of dead letters on which an expression failed.
pub const REASON_EVALUATION: &str = "evaluation";
/// Reason of dead letters whose event time is NULL.
pub const REASON_NULL_TIME: &str = "null-time";
/// Reason of dead letters whose event time is too far from 1970 for window arithmetic.
pub const REASON_TIME_RANGE: &str = "time-out-of-range";

/// An expression of a plan, ready to run.
pub(crate) type Expression = Arc<dyn PhysicalExpr>;

/// The value of `expr` for each row of `rows`.
pub(crate) fn values(expr: &Expression, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    expr.evaluate(rows)?.into_array(rows.num_rows())
}

/// Where `expr` is true: NULL counts as false, and the result has no NULLs.
pub(crate) fn mask(expr: &Expression, rows: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let result = values(expr, rows)?;
    let Some(result) = result.as_boolean_opt() else {
        return Err(DataFusionError::Internal(format!("a filter gives {}, not BOOLEAN", result.data_type())));
    };
    Ok(if result.null_count() == 0 { result.clone() } else { prep_null_mask_filter(result) })
}

/// The error for an evaluation or accumulation that failed in operator `name`.
pub(crate) fn evaluation_error(name: &str, error: &DataFusionError) -> Error {
    let code = match error {
        DataFusionError::Internal(_) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => Code::Internal,
        DataFusionError::NotImplemented(_) => Code::SqlUnsupported,
        DataFusionError::ResourcesExhausted(_) => Code::MemoryLimit,
        _ => Code::Evaluation,
    };
    Error::new(code, format!("could not evaluate: {}", error.strip_backtrace())).at(Place::Named(name.to_owned()))
}

/// Rows of `rows` that `evaluate` accepts, with its result; the others are put into `out.dead`.
/// Returns `None` if no row is left.
pub(crate) fn evaluate_or_bury<T>(
    name: &str,
    rows: RecordBatch,
    out: &mut Output,
    evaluate: impl Fn(&RecordBatch) -> Result<T, DataFusionError>,
) -> Result<Option<(RecordBatch, T)>> {
    match evaluate(&rows) {
        Ok(result) => return Ok(Some((rows, result))),
        Err(error) => {
            let error = evaluation_error(name, &error);
            if error.code() != Code::Evaluation {
                return Err(error);
            }
        }
    }
    let mut good = vec![true; rows.num_rows()];
    find_bad(&rows, 0, rows.num_rows(), &mut good, &|slice| evaluate(slice).is_ok());
    let good = BooleanArray::new(BooleanBuffer::from(good), None);
    let bad = arrow::compute::not(&good).map_err(internal)?;
    out.dead.push(DeadRows { rows: filter_record_batch(&rows, &bad).map_err(internal)?, reason: REASON_EVALUATION });
    let rows = filter_record_batch(&rows, &good).map_err(internal)?;
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let result = evaluate(&rows).map_err(|e| evaluation_error(name, &e))?;
    Ok(Some((rows, result)))
}

/// Clears `good` for each single row of `[start, start + length)` that fails alone.
fn find_bad(
    rows: &RecordBatch,
    start: usize,
    length: usize,
    good: &mut [bool],
    accepts: &dyn Fn(&RecordBatch) -> bool,
) {
    if length == 0 || accepts(&rows.slice(start, length)) {
        return;
    }
    if length == 1 {
        good[start] = false;
        return;
    }
    let half = length / 2;
    find_bad(rows, start, half, good, accepts);
    find_bad(rows, start + half, length - half, good, accepts);
}

/// An arrow error that good input cannot cause.
pub(crate) fn internal(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
}
