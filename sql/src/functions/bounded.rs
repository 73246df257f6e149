//! DataFusion's functions that make long arrays of short arguments, with a limit on what a call makes.
//!
//! Without it one row (`generate_series(1, 9000000000000)`) would take all memory of the process.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion_common::Result;
use datafusion_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion_functions_nested::{range, repeat, resize};

use super::define::failed;

/// Elements that one call makes for all rows of a batch, each of 16 bytes or a part of them.
const ELEMENTS_MAX: i128 = 1 << 24;

const DAY_NANOS: i128 = 86_400_000_000_000;

pub(super) fn functions() -> Vec<ScalarUDF> {
    let bounded = |inner: Arc<ScalarUDF>, count: Count| ScalarUDF::new_from_impl(Bounded { inner, count });
    vec![
        bounded(range::range_udf(), series),
        bounded(range::gen_series_udf(), series),
        bounded(repeat::array_repeat_udf(), repeated),
        bounded(resize::array_resize_udf(), resized),
    ]
}

/// How many elements a call with these arguments makes.
type Count = fn(&[ArrayRef]) -> Result<i128>;

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    count: Count,
}

// A name stands for one function, so it is its identity.
impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows =
            if args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_))) { args.number_rows } else { 1 };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        if (self.count)(&arrays)? > ELEMENTS_MAX {
            return failed(format!("{} makes at most {ELEMENTS_MAX} elements", self.name().to_uppercase()));
        }
        self.inner.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// `(stop)`, `(start, stop)` or `(start, stop, step)` of numbers, dates or timestamps.
fn series(args: &[ArrayRef]) -> Result<i128> {
    let (start, stop, step) = match args {
        [stop] => (None, places(stop)?, None),
        [start, stop] => (Some(places(start)?), places(stop)?, None),
        [start, stop, step, ..] => (Some(places(start)?), places(stop)?, Some(places(step)?)),
        [] => return Ok(0),
    };
    let at = |places: &Option<Vec<i128>>, row: usize, default: i128| {
        places.as_ref().map_or(default, |places| places.get(row).copied().unwrap_or(default))
    };
    let rows = stop.iter().enumerate().map(|(row, stop)| {
        let (start, step) = (at(&start, row, 0), at(&step, row, 1));
        // Backwards, or with a step of nothing: the function has an answer to that.
        if step == 0 { 0 } else { ((stop - start) / step).max(0) + 1 }
    });
    Ok(rows.sum())
}

/// Numbers as they are, times in nanoseconds; 0 for NULL and for what a series does not take.
fn places(array: &ArrayRef) -> Result<Vec<i128>> {
    let (unit, numbers) = match array.data_type() {
        DataType::Interval(_) => {
            let intervals = array.as_primitive_opt::<IntervalMonthDayNanoType>();
            let nanos = |i: arrow::datatypes::IntervalMonthDayNano| {
                (i128::from(i.months) * 30 + i128::from(i.days)) * DAY_NANOS + i128::from(i.nanoseconds)
            };
            return Ok(intervals.map_or_else(Vec::new, |i| i.iter().map(|v| v.map_or(0, nanos)).collect()));
        }
        DataType::Date32 => (DAY_NANOS, cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?),
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => (1_000_000, cast(array, &DataType::Int64)?),
        DataType::Timestamp(TimeUnit::Second, _) => (1_000_000_000, cast(array, &DataType::Int64)?),
        DataType::Timestamp(TimeUnit::Microsecond, _) => (1_000, cast(array, &DataType::Int64)?),
        DataType::Null => return Ok(vec![0; array.len()]),
        _ => (1, cast(array, &DataType::Int64)?),
    };
    Ok(numbers.as_primitive::<Int64Type>().iter().map(|v| i128::from(v.unwrap_or(0)) * unit).collect())
}

/// `(element, count)`; long elements count for several.
fn repeated(args: &[ArrayRef]) -> Result<i128> {
    let [element, count] = args else { return Ok(0) };
    let bytes = element.to_data().get_slice_memory_size()?;
    let weight = i128::try_from(bytes / element.len().max(1) / 16).unwrap_or(i128::MAX) + 1;
    Ok(places(count)?.into_iter().map(|count| count.max(0) * weight).sum())
}

/// `(array, size[, value])`.
fn resized(args: &[ArrayRef]) -> Result<i128> {
    let [_, size, ..] = args else { return Ok(0) };
    let sizes = places(size)?;
    if sizes.iter().any(|size| *size < 0) {
        return failed("an array cannot have a negative size");
    }
    Ok(sizes.into_iter().sum())
}
