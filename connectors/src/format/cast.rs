//! Gives decoded arrays the types that a table declares, where no information is lost.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNumericType, AsArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StructArray,
    make_array,
};
use arrow::compute::{CastOptions, cast, cast_with_options, max, min, nullif};
use arrow::datatypes::{
    DataType, Date32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

/// 0000-01-01 to 9999-12-31 in days since 1970: readers disagree on other years.
pub(crate) const CALENDAR_DAYS: Range<i64> = -719_528..2_932_897;

/// Whether two types hold the same values: they are equal, or both are texts, or both are bytes.
pub(crate) fn are_alike(a: &DataType, b: &DataType) -> bool {
    use DataType as T;
    let is_text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let is_bytes = |t: &T| matches!(t, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
    a == b || (is_text(a) && is_text(b)) || (is_bytes(a) && is_bytes(b))
}

/// Whether [`conform`] can make `wanted` of `found`, single values that overflow aside.
pub(crate) fn can_conform(found: &DataType, wanted: &DataType) -> bool {
    use DataType as T;
    if are_alike(found, wanted) {
        return true;
    }
    match (found, wanted) {
        (T::Null, _) => true,
        (T::Dictionary(_, values), _) => can_conform(values, wanted),
        (T::Timestamp(_, _), T::Timestamp(_, _)) => true,
        (T::Date64, T::Date32) | (T::Date32, T::Timestamp(_, _)) => true,
        (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Float16, T::Float32 | T::Float64) | (T::Float32, T::Float64) => true,
        (T::Int8 | T::Int16 | T::UInt8 | T::UInt16, T::Float32 | T::Float64) => true,
        (T::Int32 | T::UInt32, T::Float64) => true,
        (from, to) if from.is_integer() && to.is_integer() => true,
        (from, T::Decimal128(_, _) | T::Decimal256(_, _)) if from.is_integer() => true,
        (
            T::Decimal32(_, from) | T::Decimal64(_, from) | T::Decimal128(_, from) | T::Decimal256(_, from),
            T::Decimal128(_, to) | T::Decimal256(_, to),
        ) => from <= to,
        (T::List(from) | T::LargeList(from) | T::FixedSizeList(from, _), T::List(to)) => {
            can_conform(from.data_type(), to.data_type())
        }
        (T::Struct(from), T::Struct(to)) => to.iter().all(|field| {
            from.iter().any(|f| f.name() == field.name() && can_conform(f.data_type(), field.data_type()))
        }),
        (T::Map(from, _), T::Map(to, _)) => match (from.data_type(), to.data_type()) {
            (T::Struct(from), T::Struct(to)) => {
                from.len() == to.len() && from.iter().zip(to).all(|(f, t)| can_conform(f.data_type(), t.data_type()))
            }
            _ => false,
        },
        _ => false,
    }
}

/// `array` as `wanted`, which [`can_conform`] allows. Timestamps keep their instants: finer digits are
/// cut, zones are only names.
///
/// # Errors
/// A value that does not fit, or a time that has no text.
pub(crate) fn conform(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == wanted && !holds_times(wanted) {
        return Ok(Arc::clone(array));
    }
    // Before the cast: it wraps round.
    within_a_day(array)?;
    let conformed = converted(array, wanted)?;
    within_the_calendar(&conformed)?;
    Ok(conformed)
}

fn holds_times(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => holds_times(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_times(field.data_type())),
        other => other.is_temporal(),
    }
}

/// Times of day from midnight to midnight: writers take 24:00:00 too, and what is beyond.
fn within_a_day(array: &ArrayRef) -> Result<(), ArrowError> {
    const SECONDS: i64 = 86_400;
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => within(array.as_primitive::<Time32SecondType>(), 0..SECONDS),
        DataType::Time32(_) => within(array.as_primitive::<Time32MillisecondType>(), 0..SECONDS * 1_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            within(array.as_primitive::<Time64MicrosecondType>(), 0..SECONDS * 1_000_000)
        }
        DataType::Time64(_) => within(array.as_primitive::<Time64NanosecondType>(), 0..SECONDS * 1_000_000_000),
        _ => Ok(()),
    }
}

/// Dates and timestamps that have a text, as in the text formats.
fn within_the_calendar(array: &ArrayRef) -> Result<(), ArrowError> {
    const FIRST: i64 = CALENDAR_DAYS.start * 86_400;
    const END: i64 = CALENDAR_DAYS.end * 86_400;
    match array.data_type() {
        DataType::Date32 => within(array.as_primitive::<Date32Type>(), CALENDAR_DAYS),
        DataType::Timestamp(TimeUnit::Second, _) => within(array.as_primitive::<TimestampSecondType>(), FIRST..END),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            within(array.as_primitive::<TimestampMillisecondType>(), FIRST * 1_000..END * 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            within(array.as_primitive::<TimestampMicrosecondType>(), FIRST * 1_000_000..END * 1_000_000)
        }
        // Nanoseconds reach from 1677 to 2262.
        _ => Ok(()),
    }
}

fn within<T: ArrowNumericType>(array: &PrimitiveArray<T>, range: Range<i64>) -> Result<(), ArrowError>
where
    T::Native: Into<i64>,
{
    let is_within = |value: Option<T::Native>| value.is_none_or(|value| range.contains(&value.into()));
    if is_within(min(array)) && is_within(max(array)) {
        return Ok(());
    }
    Err(ArrowError::CastError(format!("a value is outside {range:?}")))
}

fn converted(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), wanted) {
        (from, to) if from == to && !from.is_nested() => Ok(Arc::clone(array)),
        // Value by value: what is in the dictionary need not be in any row.
        (DataType::Dictionary(_, values), _) => conform(&cast(array, values)?, wanted),
        (DataType::LargeList(field) | DataType::FixedSizeList(field, _), DataType::List(_)) => {
            conform(&cast(array, &DataType::List(Arc::clone(field)))?, wanted)
        }
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = conform(list.values(), field.data_type())?;
            let nulls = list.nulls().cloned();
            Ok(Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, nulls)?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let structs = array.as_struct();
            // A row that is NULL may have values behind it.
            let hidden = structs.nulls().filter(|nulls| nulls.null_count() > 0);
            let hidden = hidden.map(|nulls| BooleanArray::new(!nulls.inner(), None));
            let columns = fields.iter().map(|field| match structs.column_by_name(field.name()) {
                Some(column) => match &hidden {
                    Some(hidden) => conform(&nullif(column, hidden)?, field.data_type()),
                    None => conform(column, field.data_type()),
                },
                None => Err(ArrowError::CastError(format!("no field `{}`", field.name()))),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let nulls = structs.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, structs.len())?))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(ArrowError::CastError("a map has no entries".to_owned()));
            };
            // By position: writers call keys and values by different names.
            let pairs = map.entries().columns().iter().zip(fields).map(|(c, f)| conform(c, f.data_type()));
            let pairs = StructArray::try_new(fields.clone(), pairs.collect::<Result<Vec<_>, _>>()?, None)?;
            let nulls = map.nulls().cloned();
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), map.offsets().clone(), pairs, nulls, *sorted)?))
        }
        (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) => {
            let (from_digits, to_digits) = (digits(*from), digits(*to));
            if to_digits < from_digits {
                // The arrow crate cuts towards 1970.
                let unit = 10_i64.pow(from_digits - to_digits);
                let times = renamed(array, DataType::Int64)?;
                let times: ArrayRef =
                    Arc::new(times.as_primitive::<Int64Type>().unary::<_, Int64Type>(|t| t.div_euclid(unit)));
                return renamed(&times, wanted.clone());
            }
            let plain = renamed(array, DataType::Timestamp(*from, None))?;
            let plain = strictly(&plain, &DataType::Timestamp(*to, None))?;
            renamed(&plain, wanted.clone())
        }
        (DataType::Date32, DataType::Timestamp(to, _)) => {
            renamed(&strictly(array, &DataType::Timestamp(*to, None))?, wanted.clone())
        }
        _ => strictly(array, wanted),
    }
}

/// Digits of a second.
pub(crate) fn digits(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The same values under a type of the same layout: a zone is only a name.
fn renamed(array: &ArrayRef, data_type: DataType) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(array.to_data().into_builder().data_type(data_type).build()?))
}

fn strictly(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
}
