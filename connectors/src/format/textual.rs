//! Values that text formats hand over as texts, and that are read here: BYTES, base64 as Flink writes them;
//! decimals, which the arrow crate would cut off where Flink rounds; and dates and times, which csv and json are
//! to take alike, and for which it takes numbers of no stated unit.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, Decimal128Builder, ListArray, MapArray,
    NullBufferBuilder, PrimitiveArray, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::decimal::parse_decimal;
use super::reader::type_name;
use super::time::{parse_date, parse_time, parse_timestamp};

/// The bytes that `text` stands for, appended to `out`. None: it is not base64.
pub(crate) fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    STANDARD.decode_vec(text, out).ok()
}

/// Whether a value of this type itself is handed over as a text.
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::Decimal128(_, _)) || data_type.is_temporal()
}

/// Whether a type has values in it that are handed over as texts.
pub(crate) fn is_read_here(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => is_read_here(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_read_here(field.data_type())),
        other => is_text(other),
    }
}

/// The field with texts for what is read here.
pub(crate) fn as_text(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        own if is_text(own) => DataType::Utf8,
        DataType::List(element) => DataType::List(as_text(element)),
        DataType::Map(entries, sorted) => DataType::Map(as_text(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_text).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// `array`, decoded with [`as_text`], as `wanted`. `lenient`: a text that stands for no such value is NULL.
///
/// # Errors
/// A text that stands for none.
pub(crate) fn from_text(array: &ArrayRef, wanted: &DataType, lenient: bool) -> Result<ArrayRef, ArrowError> {
    if !is_read_here(wanted) {
        return Ok(Arc::clone(array));
    }
    match wanted {
        DataType::Binary => binary(array, lenient),
        DataType::Decimal128(precision, scale) => decimals(array, *precision, *scale, lenient),
        DataType::List(element) => {
            let list = array.as_list::<i32>();
            let values = from_text(list.values(), element.data_type(), lenient)?;
            let list = ListArray::try_new(Arc::clone(element), list.offsets().clone(), values, list.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let pairs: ArrayRef = Arc::new(map.entries().clone());
            let pairs = from_text(&pairs, entries.data_type(), lenient)?.as_struct().clone();
            let nulls = map.nulls().cloned();
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), map.offsets().clone(), pairs, nulls, *sorted)?))
        }
        DataType::Struct(fields) => {
            let structs = array.as_struct();
            let columns = structs.columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| from_text(column, field.data_type(), lenient));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let nulls = structs.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, structs.len())?))
        }
        _ => times(array, wanted, lenient),
    }
}

/// Dates, times of day and timestamps.
fn times(texts: &ArrayRef, wanted: &DataType, lenient: bool) -> Result<ArrayRef, ArrowError> {
    macro_rules! as_type {
        ($type:ty, $parse:expr) => {
            primitives::<$type>(texts, wanted, lenient, $parse)
        };
    }
    let fit = |value: i64| i32::try_from(value).ok();
    match wanted {
        DataType::Date32 => as_type!(Date32Type, parse_date),
        DataType::Time32(TimeUnit::Second) => as_type!(Time32SecondType, |t| fit(parse_time(t)? / 1_000_000_000)),
        DataType::Time32(_) => as_type!(Time32MillisecondType, |t| fit(parse_time(t)? / 1_000_000)),
        DataType::Time64(TimeUnit::Microsecond) => as_type!(Time64MicrosecondType, |t| Some(parse_time(t)? / 1_000)),
        DataType::Time64(_) => as_type!(Time64NanosecondType, parse_time),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => as_type!(TimestampSecondType, |t| parse_timestamp(t, *unit)),
            TimeUnit::Millisecond => as_type!(TimestampMillisecondType, |t| parse_timestamp(t, *unit)),
            TimeUnit::Microsecond => as_type!(TimestampMicrosecondType, |t| parse_timestamp(t, *unit)),
            TimeUnit::Nanosecond => as_type!(TimestampNanosecondType, |t| parse_timestamp(t, *unit)),
        },
        _ => Ok(Arc::clone(texts)),
    }
}

fn primitives<T: ArrowPrimitiveType>(
    texts: &ArrayRef,
    wanted: &DataType,
    lenient: bool,
    parse: impl Fn(&[u8]) -> Option<T::Native>,
) -> Result<ArrayRef, ArrowError> {
    let texts = texts.as_string::<i32>();
    let mut values = Vec::with_capacity(texts.len());
    let mut nulls = NullBufferBuilder::new(texts.len());
    for text in texts {
        match text.map(|text| (text, parse(text.trim().as_bytes()))) {
            Some((_, Some(value))) => {
                values.push(value);
                nulls.append_non_null();
            }
            Some((text, None)) if !lenient => return Err(is_no(text, &type_name(wanted))),
            Some((_, None)) | None => {
                values.push(T::default_value());
                nulls.append_null();
            }
        }
    }
    let array = PrimitiveArray::<T>::try_new(values.into(), nulls.finish())?;
    Ok(Arc::new(array.with_data_type(wanted.clone())))
}

fn is_no(text: &str, what: &str) -> ArrowError {
    let shown: String = text.chars().take(64).collect();
    ArrowError::JsonError(format!("`{shown}` is not {what}"))
}

fn decimals(texts: &ArrayRef, precision: u8, scale: i8, lenient: bool) -> Result<ArrayRef, ArrowError> {
    let texts = texts.as_string::<i32>();
    let mut builder = Decimal128Builder::with_capacity(texts.len()).with_precision_and_scale(precision, scale)?;
    for text in texts {
        match text.map(|text| (text, parse_decimal(text.trim(), precision, scale))) {
            Some((_, Some(value))) => builder.append_value(value),
            Some((text, None)) if !lenient => return Err(is_no(text, &format!("DECIMAL({precision}, {scale})"))),
            Some((_, None)) | None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn binary(texts: &ArrayRef, lenient: bool) -> Result<ArrayRef, ArrowError> {
    let texts = texts.as_string::<i32>();
    let mut builder = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut bytes = Vec::new();
    for text in texts {
        bytes.clear();
        match text.map(|text| (text, decode(text, &mut bytes))) {
            Some((_, Some(()))) => builder.append_value(&bytes),
            Some((text, None)) if !lenient => return Err(is_no(text, "base64")),
            Some((_, None)) | None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}
