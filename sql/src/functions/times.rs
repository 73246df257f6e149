//! A column of points in time: timestamps of any unit, dates, times of day.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, NaiveDateTime};
use datafusion_common::Result;

use super::define::{Args, failed, wrong};

/// Nanoseconds.
pub(super) const DAY: i128 = 86_400_000_000_000;

pub(super) struct Times {
    array: ArrayRef,
    values: ScalarBuffer<i64>,
    literal: bool,
    /// Nanoseconds of one.
    scale: i64,
}

impl Times {
    pub(super) fn of(args: &Args, index: usize) -> Result<Self> {
        let (array, literal) = args.raw(index)?;
        let Some(scale) = scale_of(array.data_type()) else {
            return wrong(format!("{} is no time", array.data_type()));
        };
        let numbers = match array.data_type() {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(array, &DataType::Int64)?,
        };
        let values = numbers.as_primitive::<Int64Type>().values().clone();
        Ok(Self { array: Arc::clone(array), values, literal, scale })
    }

    pub(super) fn data_type(&self) -> &DataType {
        self.array.data_type()
    }

    /// NULL beyond the years that a calendar has; a time of day lies in the first day of 1970.
    pub(super) fn get(&self, row: usize) -> Option<NaiveDateTime> {
        let nanoseconds = self.nanoseconds(row)?;
        let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
        let rest = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
        Some(DateTime::from_timestamp(seconds, rest)?.naive_utc())
    }

    /// Since 1970, or since midnight.
    pub(super) fn nanoseconds(&self, row: usize) -> Option<i128> {
        let row = if self.literal { 0 } else { row };
        let value = self.values.get(row)?;
        self.array.is_valid(row).then(|| i128::from(*value) * i128::from(self.scale))
    }

    /// An array of a type that [`Self::of`] takes, from nanoseconds. What is finer is cut off; a time of day
    /// begins anew at midnight.
    pub(super) fn build(
        to: &DataType,
        rows: usize,
        mut value: impl FnMut(usize) -> Result<Option<i128>>,
    ) -> Result<ArrayRef> {
        let Some(scale) = scale_of(to) else { return wrong(format!("{to} is no time")) };
        let of_day = matches!(to, DataType::Time32(_) | DataType::Time64(_));
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let nanoseconds = value(row)?.map(|nanos| if of_day { nanos.rem_euclid(DAY) } else { nanos });
            values.push(match nanoseconds.map(|nanos| i64::try_from(nanos.div_euclid(i128::from(scale)))) {
                None => None,
                Some(Ok(value)) => Some(value),
                Some(Err(_)) => return failed("the time is out of range"),
            });
        }
        if *to == DataType::Date32 {
            let days = values.into_iter().map(|days| match days.map(i32::try_from) {
                None => Ok(None),
                Some(Ok(days)) => Ok(Some(days)),
                Some(Err(_)) => failed("the date is out of range"),
            });
            return Ok(Arc::new(days.collect::<Result<Date32Array>>()?));
        }
        let numbers: ArrayRef = Arc::new(Int64Array::from(values));
        Ok(match to {
            DataType::Time32(_) => cast(&cast(&numbers, &DataType::Int32)?, to)?,
            _ => cast(&numbers, to)?,
        })
    }
}

/// Nanoseconds of one.
fn scale_of(data_type: &DataType) -> Option<i64> {
    Some(match data_type {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        },
        _ => return None,
    })
}
