//! Casts give what Flink's give: texts of times, floats, bytes and collections, fractions of a second that
//! are cut and not rounded towards 1970, integers from texts with a fraction.
//!
//! Runs after type coercion, so that the casts it inserted are meant too.

use arrow::compute::can_cast_types;
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Cast, Expr, ExprSchemable, LogicalPlan};
use qanat_proto::{Code, Error};

use crate::functions::cast::{CUT_FRACTION, FOUR_DIGIT_YEAR, TEXT, WHOLE_PART, WITHOUT_EXPONENT, has_own_text};
use crate::functions::registry;
use crate::functions::row_names::{RENAMED, other_names};
use crate::types::{digits, sql_name};

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, expression)
}

/// The same for one expression over `schema`.
pub(crate) fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        let (inner, to) = match &mut expr {
            Expr::Cast(cast) => (&mut cast.expr, cast.field.data_type()),
            Expr::TryCast(cast) => (&mut cast.expr, cast.field.data_type()),
            _ => return Ok(Transformed::no(expr)),
        };
        let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
        if from == DataType::Boolean && matches!(to, DataType::Decimal128(..)) {
            // 1 or 0, by way of an integer.
            let value = std::mem::take(inner.as_mut());
            **inner = Expr::Cast(Cast::new(Box::new(value), DataType::Int32));
            return Ok(Transformed::yes(expr));
        }
        let renamed = other_names(&from, to);
        if renamed.is_none() {
            refuse(&from, to)?;
        }
        if let (Some(names), Some(func)) = (renamed, registry().scalar(RENAMED)) {
            let names = Expr::Literal(ScalarValue::Utf8(Some(names)), None);
            let value = func.call(vec![names, std::mem::take(inner.as_mut())]);
            refuse(&value.get_type(schema)?, to)?;
            **inner = value;
            return Ok(Transformed::yes(expr));
        }
        let wrap = match (&from, to) {
            (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) if has_own_text(&from) => call(TEXT, None),
            (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) if digits(*to) < digits(*from) => {
                call(CUT_FRACTION, Some(digits(*to)))
            }
            (
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64,
            ) => call(WHOLE_PART, None),
            (
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
                DataType::Decimal128(..) | DataType::Decimal256(..),
            ) => call(WITHOUT_EXPONENT, None),
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::Date32) => {
                call(FOUR_DIGIT_YEAR, None)
            }
            _ => None,
        };
        let Some(mut wrap) = wrap else { return Ok(Transformed::no(expr)) };
        let value = std::mem::take(inner.as_mut());
        // The functions take texts as they are in columns.
        let value = match from {
            DataType::LargeUtf8 | DataType::Utf8View => value.cast_to(&DataType::Utf8, schema)?,
            _ => value,
        };
        wrap.args.insert(0, value);
        let wrapped = Expr::ScalarFunction(wrap);
        if *to == DataType::Utf8 {
            return Ok(Transformed::yes(wrapped));
        }
        **inner = wrapped;
        Ok(Transformed::yes(expr))
    })
}

/// Casts that would give the numbers by which a machine holds a value, and those that nobody can do.
fn refuse(from: &DataType, to: &DataType) -> Result<()> {
    let is_number = |data_type: &DataType| data_type.is_numeric();
    let is_moment = |data_type: &DataType| data_type.is_temporal() && !matches!(data_type, DataType::Interval(_));
    let is_bytes =
        |data_type: &DataType| matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let hint = if is_number(from) && is_moment(to) {
        "TO_TIMESTAMP_LTZ makes a time of a number"
    } else if is_moment(from) && is_number(to) {
        "UNIX_TIMESTAMP makes a number of a time, EXTRACT of a part of one"
    } else if is_number(from) && is_bytes(to) {
        "cast to STRING first"
    } else if has_own_text(from) && matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        || can_cast_types(from, to)
    {
        return Ok(());
    } else {
        "cast to STRING and from there"
    };
    let error = Error::new(Code::TypeMismatch, format!("{} cannot be cast to {}", sql_name(from), sql_name(to)));
    Err(DataFusionError::External(Box::new(error.hint(hint))))
}

/// A call that lacks its first argument.
fn call(name: &str, digits: Option<u8>) -> Option<ScalarFunction> {
    let func = registry().scalar(name)?;
    let digits = digits.map(|digits| Expr::Literal(ScalarValue::Int64(Some(digits.into())), None));
    Some(ScalarFunction { func, args: digits.into_iter().collect() })
}
