//! Values that text formats hand over as texts, and that are read here: BYTES, base64 as Flink writes them, and
//! decimals, which the arrow crate would cut off where Flink rounds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Decimal128Builder, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::decimal::parse_decimal;

/// The bytes that `text` stands for, appended to `out`. None: it is not base64.
pub(crate) fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    STANDARD.decode_vec(text, out).ok()
}

/// Whether BYTES or decimals stand in a type.
pub(crate) fn is_read_here(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::Decimal128(_, _) => true,
        DataType::List(field) | DataType::Map(field, _) => is_read_here(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_read_here(field.data_type())),
        _ => false,
    }
}

/// The field with texts for BYTES and decimals.
pub(crate) fn as_text(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Binary | DataType::Decimal128(_, _) => DataType::Utf8,
        DataType::List(element) => DataType::List(as_text(element)),
        DataType::Map(entries, sorted) => DataType::Map(as_text(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_text).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// `array`, decoded with [`as_text`], with bytes and decimals where `wanted` has them. `lenient`: a text that is
/// none is NULL.
///
/// # Errors
/// A text that is none.
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
        _ => Ok(Arc::clone(array)),
    }
}

fn decimals(texts: &ArrayRef, precision: u8, scale: i8, lenient: bool) -> Result<ArrayRef, ArrowError> {
    let texts = texts.as_string::<i32>();
    let mut builder = Decimal128Builder::with_capacity(texts.len()).with_precision_and_scale(precision, scale)?;
    for text in texts {
        match text.map(|text| (text, parse_decimal(text.trim(), precision, scale))) {
            Some((_, Some(value))) => builder.append_value(value),
            Some((text, None)) if !lenient => {
                let shown: String = text.chars().take(64).collect();
                return Err(ArrowError::JsonError(format!("`{shown}` is not DECIMAL({precision}, {scale})")));
            }
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
            Some((text, None)) if !lenient => {
                let shown: String = text.chars().take(64).collect();
                return Err(ArrowError::JsonError(format!("`{shown}` is not base64")));
            }
            Some((_, None)) | None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}
