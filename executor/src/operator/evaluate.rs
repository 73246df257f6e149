//! Evaluation of expressions over a batch, and the policy for rows on which it fails.
//!
//! A batch is evaluated whole. Only when that fails is it cut in halves until the rows at fault stand
//! alone: those become dead letters with reason `evaluation: …`, and the others go on as if the batch had
//! never held them. The cost is paid by bad data only.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take_record_batch};
use arrow::datatypes::Int8Type;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use qanat_proto::changelog::{RowKind, has_kinds};
use qanat_proto::error::{Code, Error, Place, Result};

use super::{DeadRows, Output};

/// How the reason of dead letters begins on which an expression failed; what failed follows.
pub const REASON_EVALUATION: &str = "evaluation";
/// Reason of dead letters whose event time is NULL.
pub const REASON_NULL_TIME: &str = "null-time";
/// Reason of dead letters whose event time is too far from 1970 for window arithmetic.
pub const REASON_TIME_RANGE: &str = "time-out-of-range";

/// Dead letters of one batch are told apart by so many reasons at most.
const REASONS_MAX: usize = 64;
/// Characters of what failed: it may quote a value.
const REASON_CHARACTERS_MAX: usize = 200;

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
    let whole = match evaluate(&rows) {
        Ok(result) => return Ok(Some((rows, result))),
        Err(error) => evaluation_error(name, &error),
    };
    if !matches!(whole.code(), Code::Evaluation | Code::Internal) {
        return Err(whole);
    }
    let mut bad: BTreeMap<usize, String> = BTreeMap::new();
    find_bad(&rows, 0, rows.num_rows(), &mut bad, &|slice| evaluate(slice).map(drop));
    if whole.code() == Code::Internal && bad.len() == rows.num_rows() {
        // DataFusion calls a bug what a value is to blame for, too; what fails on every row is one.
        return Err(whole);
    }
    let good: Vec<bool> = (0..rows.num_rows()).map(|row| !bad.contains_key(&row)).collect();
    let good = BooleanArray::new(BooleanBuffer::from(good), None);
    let mut reasons: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (row, reason) in bad {
        let is_known = reasons.len() < REASONS_MAX || reasons.contains_key(&reason);
        let reason = if is_known { reason } else { REASON_EVALUATION.to_owned() };
        reasons.entry(reason).or_default().push(row as u64);
    }
    for (reason, dead) in reasons {
        let rows = take_record_batch(&rows, &UInt64Array::from(dead)).map_err(internal)?;
        out.dead.push(DeadRows { rows, reason });
    }
    let rows = filter_record_batch(&rows, &good).map_err(internal)?;
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let result = evaluate(&rows).map_err(|e| evaluation_error(name, &e))?;
    Ok(Some((rows, result)))
}

/// Finds each single row of `[start, start + length)` that fails alone, with what failed.
fn find_bad(
    rows: &RecordBatch,
    start: usize,
    length: usize,
    bad: &mut BTreeMap<usize, String>,
    evaluate: &dyn Fn(&RecordBatch) -> Result<(), DataFusionError>,
) {
    if length == 0 {
        return;
    }
    let Err(error) = evaluate(&rows.slice(start, length)) else { return };
    if length == 1 {
        let text = error.strip_backtrace();
        let text: String = text.lines().next().unwrap_or_default().chars().take(REASON_CHARACTERS_MAX).collect();
        bad.insert(start, format!("{REASON_EVALUATION}: {text}"));
        return;
    }
    let half = length / 2;
    find_bad(rows, start, half, bad, evaluate);
    find_bad(rows, start + half, length - half, bad, evaluate);
}

/// Rows without their kinds, and these.
pub(crate) fn split_kinds(rows: &RecordBatch) -> Result<(RecordBatch, Vec<i8>)> {
    if !has_kinds(rows.schema_ref()) {
        return Ok((rows.clone(), vec![RowKind::Insert.code(); rows.num_rows()]));
    }
    let width = rows.num_columns() - 1;
    let kinds = rows.column(width).as_primitive::<Int8Type>().values().to_vec();
    Ok((rows.project(&(0..width).collect::<Vec<_>>()).map_err(internal)?, kinds))
}

/// An arrow error that good input cannot cause.
pub(crate) fn internal(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
}
