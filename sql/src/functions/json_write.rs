//! A value of any type as JSON: arrays, rows and maps by their parts, bytes in base64, times as ISO 8601.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, MapArray, StructArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion_common::Result;
use serde_json::Value;

use super::define::failed;

/// Times as Flink writes them into JSON: `1990-06-02T13:37:42.001`, `…Z` with a zone.
const TIMES: FormatOptions<'_> = FormatOptions::new();

/// Writes one value. `false`: it is NULL, and nothing was written.
pub(super) fn write_value(array: &ArrayRef, row: usize, out: &mut String) -> Result<bool> {
    // An array of type NULL has no bitmap to ask.
    if array.is_null(row) || array.data_type().is_null() {
        return Ok(false);
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Utf8 => write_text(array.as_string::<i32>().value(row), out),
        DataType::LargeUtf8 => write_text(array.as_string::<i64>().value(row), out),
        DataType::Utf8View => write_text(array.as_string_view().value(row), out),
        DataType::Binary => write_text(&STANDARD.encode(array.as_binary::<i32>().value(row)), out),
        DataType::Float64 | DataType::Float32 => write_float(array, row, out)?,
        DataType::List(_) => {
            out.push('[');
            let items = array.as_list::<i32>().value(row);
            for index in 0..items.len() {
                separate(index, out);
                write_or_null(&items, index, out)?;
            }
            out.push(']');
        }
        DataType::Struct(_) => write_row(array.as_struct(), row, out)?,
        DataType::Map(..) => write_map(array.as_map(), row, out)?,
        data_type => {
            let text = ArrayFormatter::try_new(array, &TIMES)?.value(row).to_string();
            let is_number = data_type.is_numeric();
            if is_number { out.push_str(&text) } else { write_text(&text, out) }
        }
    }
    Ok(true)
}

fn write_or_null(array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
    if !write_value(array, row, out)? {
        out.push_str("null");
    }
    Ok(())
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

fn write_float(array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
    let any = array.as_any();
    let (value, text) = match (any.downcast_ref::<Float64Array>(), any.downcast_ref::<Float32Array>()) {
        (Some(doubles), _) => (doubles.value(row), Value::from(doubles.value(row)).to_string()),
        (_, Some(floats)) => (f64::from(floats.value(row)), shortest(floats.value(row))),
        _ => return failed("no floating-point number"),
    };
    if !value.is_finite() {
        return failed(format!("{value} cannot be written as JSON"));
    }
    out.push_str(&text);
    Ok(())
}

fn write_row(rows: &StructArray, row: usize, out: &mut String) -> Result<()> {
    out.push('{');
    for (index, (field, column)) in rows.fields().iter().zip(rows.columns()).enumerate() {
        separate(index, out);
        write_text(field.name(), out);
        out.push(':');
        write_or_null(column, row, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_map(maps: &MapArray, row: usize, out: &mut String) -> Result<()> {
    let entries = maps.value(row);
    let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else {
        return failed("a map without entries");
    };
    out.push('{');
    for index in 0..entries.len() {
        separate(index, out);
        let mut key = String::new();
        write_or_null(keys, index, &mut key)?;
        // A key of JSON is a text.
        if key.starts_with('"') {
            out.push_str(&key)
        } else {
            write_text(&key, out)
        }
        out.push(':');
        write_or_null(values, index, out)?;
    }
    out.push('}');
    Ok(())
}

/// The shortest text that reads back as this FLOAT.
fn shortest(value: f32) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}
