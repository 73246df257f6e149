//! `j -> 'key'`, `j -> 0`, `j ->> 'key'` as Postgres has them for its type `json`: a piece of the text as
//! it stands, so that numbers keep their digits and objects the order of their fields. `JSON_UNQUOTE`.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use serde::de::IgnoredAny;

use super::define::{Args, Function, Kind, build_text, text_type, wrong};
use crate::types::sql_name;

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Text};
    vec![
        Function::new("json_get", &[Text, Any], text_type, |args| get(args, false)).coerce(types).build(),
        Function::new("json_get_text", &[Text, Any], text_type, |args| get(args, true)).coerce(types).build(),
        Function::new("json_unquote", &[Text], text_type, unquote).build(),
    ]
}

/// JSON text, and a key or an index.
fn types(types: &[DataType]) -> Result<Vec<DataType>> {
    let is_text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    match types {
        [json, key] if is_text(json) && is_text(key) => Ok(vec![DataType::Utf8, DataType::Utf8]),
        [json, key] if is_text(json) && key.is_integer() => Ok(vec![DataType::Utf8, DataType::Int64]),
        [json, key] => wrong(format!(
            "-> and ->> take a JSON text and a key or an index, not {} and {}",
            sql_name(json),
            sql_name(key)
        )),
        _ => wrong("-> and ->> take two operands"),
    }
}

/// NULL for what is not there and for a text that is no JSON.
fn get(args: &Args, as_text: bool) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let by_index = *args.raw(1)?.0.data_type() == DataType::Int64;
    let (keys, indexes) = if by_index { (None, Some(args.integer(1)?)) } else { (Some(args.text(1)?), None) };
    build_text(args.rows, |row, out| {
        let Some(text) = texts.get(row) else { return Ok(None) };
        if !is_json(text) {
            return Ok(None);
        }
        let found = match (&keys, &indexes) {
            (Some(keys), _) => keys.get(row).and_then(|key| field(text, key)),
            (None, Some(indexes)) => indexes.get(row).and_then(|index| element(text, index)),
            (None, None) => None,
        };
        Ok(match found {
            None => None,
            Some("null") if as_text => None,
            Some(quoted) if as_text && quoted.starts_with('"') => {
                serde_json::from_str::<String>(quoted).ok().map(|text| out.push_str(&text))
            }
            Some(piece) => {
                out.push_str(piece);
                Some(())
            }
        })
    })
}

/// A JSON string without its quotes; anything else as it is.
fn unquote(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    build_text(args.rows, |row, out| {
        Ok(texts.get(row).map(|text| match serde_json::from_str::<String>(text) {
            Ok(bare) => out.push_str(&bare),
            Err(_) => out.push_str(text),
        }))
    })
}

pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The last field of this name: of two, JSON readers take the last.
pub(super) fn field<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let is_key = |name: &str| {
        let plain = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
        plain == key || (plain.contains('\\') && serde_json::from_str::<String>(name).is_ok_and(|name| name == key))
    };
    fields(json).filter(|(name, _)| is_key(name)).map(|(_, value)| value).last()
}

/// The fields of an object: names in their quotes, and values.
pub(super) fn fields(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = json.trim_start().strip_prefix('{');
    std::iter::from_fn(move || {
        let text = rest?.trim_start_matches(BETWEEN);
        if text.is_empty() || text.starts_with('}') {
            return None;
        }
        let (name, behind) = piece(text)?;
        let (value, behind) = piece(behind.trim_start().strip_prefix(':')?.trim_start())?;
        rest = Some(behind);
        Some((name, value))
    })
}

/// The elements of an array.
pub(super) fn elements(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json.trim_start().strip_prefix('[');
    std::iter::from_fn(move || {
        let text = rest?.trim_start_matches(BETWEEN);
        if text.is_empty() || text.starts_with(']') {
            return None;
        }
        let (value, behind) = piece(text)?;
        rest = Some(behind);
        Some(value)
    })
}

/// What stands between two pieces.
const BETWEEN: [char; 5] = [' ', '\t', '\n', '\r', ','];

/// An element from the front, or from the end by a negative index.
fn element(json: &str, index: i64) -> Option<&str> {
    if let Ok(position) = usize::try_from(index) {
        return elements(json).nth(position);
    }
    let pieces: Vec<&str> = elements(json).collect();
    let position = i64::try_from(pieces.len()).ok()?.checked_add(index)?;
    pieces.get(usize::try_from(position).ok()?).copied()
}

/// The value at the start of `text`, which is JSON, and what follows it.
fn piece(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    in_text = false;
                    if depth == 0 {
                        return text.split_at_checked(at + 1);
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' if depth == 1 => return text.split_at_checked(at + 1),
            b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return text.split_at_checked(at),
            _ => {}
        }
    }
    Some((text, ""))
}
