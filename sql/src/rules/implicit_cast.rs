//! Which types a query's column may have for a sink's column without a CAST: Flink's implicit casts.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::Expr;

/// Whether a value of `from` may be written into a column of `to` by itself.
pub(crate) fn is_implicit(from: &DataType, to: &DataType) -> bool {
    if from == to || from.is_null() {
        return true;
    }
    match to {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            width(from).is_some_and(|from| width(to).is_some_and(|to| from <= to))
        }
        DataType::Float32 => width(from).is_some() || is_decimal(from),
        DataType::Float64 => width(from).is_some() || is_decimal(from) || from == &DataType::Float32,
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            width(from).is_some() || is_decimal(from) || matches!(from, DataType::Float32 | DataType::Float64)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            matches!(from, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        }
        DataType::Timestamp(..) => matches!(from, DataType::Timestamp(..)),
        DataType::Date32 => matches!(from, DataType::Timestamp(..) | DataType::Date64),
        DataType::Time32(_) | DataType::Time64(_) => {
            matches!(from, DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..))
        }
        DataType::List(to) | DataType::LargeList(to) => match from {
            DataType::List(from) | DataType::LargeList(from) => is_implicit(from.data_type(), to.data_type()),
            _ => false,
        },
        DataType::Struct(to) => match from {
            DataType::Struct(from) => {
                // By position: names do not matter.
                from.len() == to.len() && from.iter().zip(to).all(|(f, t)| is_implicit(f.data_type(), t.data_type()))
            }
            _ => false,
        },
        DataType::Map(to, _) => match from {
            DataType::Map(from, _) => is_implicit_entry(from.data_type(), to.data_type()),
            _ => false,
        },
        _ => false,
    }
}

/// Entries of a map: the names of key and value do not matter.
fn is_implicit_entry(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(f, t)| is_implicit(f.data_type(), t.data_type()))
        }
        _ => false,
    }
}

/// Whether `expr` is made of integer literals that `to` can hold: `1`, `CASE WHEN … THEN 1 ELSE 0 END`,
/// `ARRAY[1, 2]`, `MAP['k', 1]`.
/// A literal is INT here, or BIGINT where it is a result of arithmetic; a column may be narrower.
pub(crate) fn literal_fits(expr: &Expr, to: &DataType) -> bool {
    match expr {
        Expr::Literal(value, _) if value.is_null() => true,
        Expr::Literal(value @ (ScalarValue::Int32(_) | ScalarValue::Int64(_)), _) => {
            is_narrower(&value.data_type(), to) && value.cast_to(to).is_ok()
        }
        Expr::Alias(alias) => literal_fits(&alias.expr, to),
        Expr::Case(case) => {
            let mut results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            results.all(|result| literal_fits(result, to))
        }
        Expr::Literal(value @ (ScalarValue::List(_) | ScalarValue::Map(_)), _) => {
            is_narrower(&value.data_type(), to) && value.cast_to(to).is_ok()
        }
        _ => false,
    }
}

/// Whether `to` is the same collection of values or of narrower integers.
fn is_narrower(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Int32 | DataType::Int64, DataType::Int8 | DataType::Int16 | DataType::Int32) => true,
        (DataType::List(from), DataType::List(to)) | (DataType::Map(from, _), DataType::Map(to, _)) => {
            is_narrower(from.data_type(), to.data_type())
        }
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(f, t)| is_narrower(f.data_type(), t.data_type()))
        }
        _ => is_implicit(from, to),
    }
}

/// Bytes of an integer type. Unsigned types come from functions alone; the cast checks their range.
fn width(data_type: &DataType) -> Option<u8> {
    Some(match data_type {
        DataType::Int8 => 1,
        DataType::Int16 | DataType::UInt8 => 2,
        DataType::Int32 | DataType::UInt16 => 4,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => 8,
        _ => return None,
    })
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_widen_and_never_narrow() {
        assert!(is_implicit(&DataType::Int32, &DataType::Int64));
        assert!(!is_implicit(&DataType::Int64, &DataType::Int32));
        assert!(is_implicit(&DataType::Int64, &DataType::Float64));
        assert!(!is_implicit(&DataType::Float64, &DataType::Int64));
    }

    #[test]
    fn text_takes_text_only() {
        assert!(is_implicit(&DataType::Utf8View, &DataType::Utf8));
        assert!(!is_implicit(&DataType::Int64, &DataType::Utf8));
        assert!(!is_implicit(&DataType::Utf8, &DataType::Int64));
    }
}
