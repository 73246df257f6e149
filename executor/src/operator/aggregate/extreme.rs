//! `MIN` and `MAX` of floats, with NaN above all other values, as comparisons and sorts have it.
//!
//! DataFusion's own let a NaN replace what was there and the next value replace the NaN, so that their
//! answer depends on the order of the rows.

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_expr::GroupsAccumulator;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// `a < b`, where a NaN is greater than anything but a NaN.
#[inline]
pub(crate) fn is_less<T: PartialOrd>(a: T, b: T) -> bool {
    a < b || (is_nan(&b) && !is_nan(&a))
}

fn is_nan<T: PartialOrd>(value: &T) -> bool {
    value.partial_cmp(value).is_none()
}

/// The accumulator of `function` over `data_type`; None if DataFusion's own serves.
pub(crate) fn accumulator(function: &str, data_type: &DataType) -> Option<Box<dyn GroupsAccumulator>> {
    match (function, data_type) {
        ("min", DataType::Float64) => Some(min::<Float64Type>(f64::NAN)),
        ("min", DataType::Float32) => Some(min::<Float32Type>(f32::NAN)),
        ("max", DataType::Float64) => Some(max::<Float64Type>(f64::NEG_INFINITY)),
        ("max", DataType::Float32) => Some(max::<Float32Type>(f32::NEG_INFINITY)),
        _ => None,
    }
}

fn min<T: ArrowPrimitiveType + Send>(greatest: T::Native) -> Box<dyn GroupsAccumulator> {
    let take = |min: &mut T::Native, value: T::Native| {
        if is_less(value, *min) {
            *min = value;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(&T::DATA_TYPE, take).with_starting_value(greatest))
}

fn max<T: ArrowPrimitiveType + Send>(least: T::Native) -> Box<dyn GroupsAccumulator> {
    let take = |max: &mut T::Native, value: T::Native| {
        if is_less(*max, value) {
            *max = value;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(&T::DATA_TYPE, take).with_starting_value(least))
}
