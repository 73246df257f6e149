//! A time and an interval of fixed length, as most watermarks have: added as one number to another. An interval by its months,
//! days and nanoseconds goes through the calendar for each row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal};

const DAY_NS: i64 = 86_400_000_000_000;

/// `expr` over `schema` with such intervals as durations in the unit of the time they stand beside.
pub(super) fn shorten(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let shortened = expr.transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        if !matches!(binary.op(), Operator::Plus | Operator::Minus) {
            return Ok(Transformed::no(expr));
        }
        // A day is no fixed number of hours in a zone.
        let DataType::Timestamp(unit, None) = binary.left().data_type(schema)? else {
            return Ok(Transformed::no(expr));
        };
        let length = binary.right().downcast_ref::<Literal>().and_then(|literal| in_unit(literal.value(), unit));
        let Some(length) = length else { return Ok(Transformed::no(expr)) };
        let length = Arc::new(Literal::new(length));
        Ok(Transformed::yes(Arc::new(BinaryExpr::new(Arc::clone(binary.left()), *binary.op(), length)) as _))
    });
    shortened.map(|expr| expr.data)
}

/// None: the interval has months, or parts of a unit.
fn in_unit(interval: &ScalarValue, unit: TimeUnit) -> Option<ScalarValue> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else { return None };
    let length = i64::from(interval.days).checked_mul(DAY_NS)?.checked_add(interval.nanoseconds)?;
    let in_units = |nanoseconds: i64| (length % nanoseconds == 0).then_some(Some(length / nanoseconds));
    if interval.months != 0 {
        return None;
    }
    Some(match unit {
        TimeUnit::Second => ScalarValue::DurationSecond(in_units(1_000_000_000)?),
        TimeUnit::Millisecond => ScalarValue::DurationMillisecond(in_units(1_000_000)?),
        TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(in_units(1_000)?),
        TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(in_units(1)?),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
    use arrow::datatypes::{Field, IntervalMonthDayNano};
    use datafusion_physical_expr::expressions::col;

    use super::*;

    #[test]
    fn a_fixed_length_moves_times_as_the_interval_does() {
        let data_type = DataType::Timestamp(TimeUnit::Millisecond, None);
        let schema = Arc::new(Schema::new(vec![Field::new("ts", data_type, true)]));
        let times: ArrayRef =
            Arc::new(TimestampMillisecondArray::from(vec![Some(0), None, Some(-1), Some(1_709_164_800_123)]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![times]).expect("a batch");
        for (months, days, nanoseconds, is_shortened) in [
            (0, 0, 4_000_000_000, true),
            (0, 0, -1_000_000, true),
            (0, 2, 3_000_000, true),
            (0, -31, 0, true),
            (1, 0, 0, false),
            (0, 0, 1, false),
            (0, i32::MAX, 0, false),
        ] {
            for op in [Operator::Plus, Operator::Minus] {
                let interval =
                    ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }));
                let ts = col("ts", &schema).expect("a column");
                let expr: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(ts, op, Arc::new(Literal::new(interval))));
                let short = shorten(Arc::clone(&expr), &schema).expect("an expression");
                assert_eq!(short.as_ref() != expr.as_ref(), is_shortened, "{expr}");
                assert_eq!(short.data_type(&schema).expect("typed"), expr.data_type(&schema).expect("typed"));
                let values = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&rows).and_then(|v| v.into_array(4)).ok();
                assert_eq!(values(&short), values(&expr), "{expr}");
            }
        }
    }
}
