//! SQL/JSON functions on text. The parser has turned their clauses into arguments (`parse/json_call.rs`).

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::ScalarUDF;
use serde_json::Value;

use super::json_write::write_value;
use crate::parse::ELEMENTS;
use crate::types::list_of;

use super::define::{Args, Column, Function, Kind, boolean_type, build_booleans, build_text, failed, text_type, wrong};

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Text};
    vec![
        Function::new("is_json", &[Text, Text], boolean_type, is_json).required(1).build(),
        Function::new("json_exists", &[Text, Text, Text], boolean_type, json_exists)
            .required(2)
            .literal(1, check_path)
            .build(),
        // Arguments from the third on: on empty, its default, on error, its default.
        Function::new("json_value", &[Text, Text, Text, Text, Text, Text], text_type, json_value)
            .required(2)
            .literal(1, check_path)
            .build(),
        // The third argument is the wrapper.
        Function::new("json_query", &[Text, Text, Text, Text, Text, Text, Text], text_type, json_query)
            .required(2)
            .literal(1, check_path)
            .build(),
        Function::new(ELEMENTS, &[Text], |_| Ok(list_of(DataType::Utf8)), json_elements).build(),
        Function::new("json_string", &[Any], text_type, json_string).coerce(json_types).build(),
        Function::new("json_quote", &[Text], text_type, json_quote).build(),
        // The first argument is the mode for NULL, and the places of values that are JSON themselves.
        Function::new("json_object", &[Any], text_type, json_object).variadic().coerce(json_types).build(),
        Function::new("json_array", &[Any], text_type, json_array).variadic().coerce(json_types).build(),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    All,
}

/// A path of the lax kind: `$`, `.name`, `['name']`, `[0]`, `[*]`, `.*`.
#[derive(Clone, Debug)]
struct Path {
    steps: Vec<Step>,
    is_strict: bool,
}

impl Path {
    fn compile(text: &str) -> Result<Self> {
        let bad =
            || DataFusionError::Execution(format!("`{text}` is no JSON path; write `$.name`, `$[0]` or `$.a[*].b`"));
        let trimmed = text.trim();
        let (is_strict, path) = match trimmed.strip_prefix("strict ") {
            Some(path) => (true, path),
            None => (false, trimmed.strip_prefix("lax ").unwrap_or(trimmed)),
        };
        let mut rest = path.trim_start().strip_prefix('$').ok_or_else(bad)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix('.').filter(|behind| !behind.starts_with('[')) {
                let end = behind.find(['.', '[']).unwrap_or(behind.len());
                let (name, behind) = behind.split_at_checked(end).ok_or_else(bad)?;
                let name = name.trim().trim_matches('"');
                if name.is_empty() {
                    return Err(bad());
                }
                steps.push(if name == "*" { Step::All } else { Step::Field(name.to_owned()) });
                rest = behind;
            } else if let Some(behind) = rest.trim_start_matches('.').strip_prefix('[') {
                let (inside, behind) = behind.split_once(']').ok_or_else(bad)?;
                let inside = inside.trim();
                let quoted = inside
                    .strip_prefix('\'')
                    .and_then(|inside| inside.strip_suffix('\''))
                    .or_else(|| inside.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')));
                steps.push(match quoted {
                    Some(name) => Step::Field(name.to_owned()),
                    None if inside == "*" => Step::All,
                    None => Step::Index(inside.parse().map_err(|_| bad())?),
                });
                rest = behind;
            } else {
                return Err(bad());
            }
        }
        Ok(Self { steps, is_strict })
    }

    /// Whether what it finds is a list, however many there are.
    fn finds_several(&self) -> bool {
        self.steps.contains(&Step::All)
    }

    /// None: a strict path does not fit the value.
    fn find<'a>(&self, value: &'a Value) -> Option<Vec<&'a Value>> {
        let mut found = vec![value];
        for step in &self.steps {
            let is_missing = |value: &&Value| match (step, value) {
                (Step::Field(name), Value::Object(fields)) => !fields.contains_key(name),
                (Step::Index(index), Value::Array(items)) => *index >= items.len(),
                (Step::All, Value::Array(_) | Value::Object(_)) => false,
                _ => true,
            };
            if self.is_strict && found.iter().any(is_missing) {
                return None;
            }
            found = found
                .into_iter()
                .flat_map(|value| -> Vec<&'a Value> {
                    match (step, value) {
                        (Step::Field(name), Value::Object(fields)) => fields.get(name).into_iter().collect(),
                        // Lax: a field of an array is that of each of its elements.
                        (Step::Field(name), Value::Array(items)) if !self.is_strict => {
                            items.iter().filter_map(|item| item.get(name)).collect()
                        }
                        (Step::Index(index), Value::Array(items)) => items.get(*index).into_iter().collect(),
                        (Step::Index(0), other) if !self.is_strict => vec![other],
                        (Step::All, Value::Array(items)) => items.iter().collect(),
                        (Step::All, Value::Object(fields)) => fields.values().collect(),
                        _ => Vec::new(),
                    }
                })
                .collect();
        }
        Some(found)
    }
}

/// The path of the last row.
#[derive(Default)]
struct PathCache {
    last: Option<(String, Path)>,
}

impl PathCache {
    fn get(&mut self, text: &str) -> Result<&Path> {
        if !matches!(&self.last, Some((last, _)) if last == text) {
            self.last = Some((text.to_owned(), Path::compile(text)?));
        }
        match &self.last {
            Some((_, path)) => Ok(path),
            None => failed("a path was not kept"),
        }
    }
}

/// `IS_JSON(text [, 'VALUE' | 'SCALAR' | 'ARRAY' | 'OBJECT'])`; NULL is not.
fn is_json(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let kind =
        if args.len() > 1 { args.literal_text(1)?.unwrap_or("VALUE").to_ascii_uppercase() } else { "VALUE".to_owned() };
    build_booleans(args.rows, |row| {
        let Some(text) = texts.get(row) else { return Ok(Some(false)) };
        if kind == "VALUE" {
            return Ok(Some(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()));
        }
        let value: Option<Value> = serde_json::from_str(text).ok();
        Ok(Some(match (kind.as_str(), value) {
            ("ARRAY", Some(value)) => value.is_array(),
            ("OBJECT", Some(value)) => value.is_object(),
            ("SCALAR", Some(value)) => !value.is_array() && !value.is_object(),
            _ => false,
        }))
    })
}

fn json_exists(args: &Args) -> Result<ArrayRef> {
    let (texts, paths) = (args.text(0)?, args.text(1)?);
    let on_error =
        if args.len() > 2 { args.literal_text(2)?.unwrap_or("FALSE").to_owned() } else { "FALSE".to_owned() };
    let mut cache = PathCache::default();
    build_booleans(args.rows, |row| {
        let (Some(text), Some(path)) = (texts.get(row), paths.get(row)) else { return Ok(None) };
        let path = cache.get(path)?;
        let value = serde_json::from_str::<Value>(text);
        match value.as_ref().ok().and_then(|value| path.find(value)) {
            Some(found) => Ok(Some(!found.is_empty())),
            None => match on_error.as_str() {
                "TRUE" => Ok(Some(true)),
                "UNKNOWN" => Ok(None),
                "ERROR" => failed("JSON_EXISTS: the text is no JSON, or its strict path does not fit it"),
                _ => Ok(Some(false)),
            },
        }
    })
}

/// What to give where there is no value, or no single one.
struct Behaviour<'a> {
    mode: String,
    default: Option<Column<&'a arrow::array::StringArray>>,
    what: &'static str,
}

impl<'a> Behaviour<'a> {
    fn of(args: &'a Args, index: usize, what: &'static str) -> Result<Self> {
        let mode =
            if args.len() > index { args.literal_text(index)?.unwrap_or("NULL").to_owned() } else { "NULL".to_owned() };
        let default = if args.len() > index + 1 { Some(args.text(index + 1)?) } else { None };
        Ok(Self { mode, default, what })
    }

    fn apply(&self, row: usize, out: &mut String) -> Result<Option<()>> {
        match self.mode.as_str() {
            "DEFAULT" => Ok(self.default.as_ref().and_then(|default| default.get(row)).map(|text| out.push_str(text))),
            "EMPTY ARRAY" => {
                out.push_str("[]");
                Ok(Some(()))
            }
            "EMPTY OBJECT" => {
                out.push_str("{}");
                Ok(Some(()))
            }
            "ERROR" => failed(format!("a JSON path {}", self.what)),
            _ => Ok(None),
        }
    }
}

/// A scalar as text. Objects, arrays and several values are errors, as `ON ERROR` decides.
fn json_value(args: &Args) -> Result<ArrayRef> {
    let (texts, paths) = (args.text(0)?, args.text(1)?);
    let on_empty = Behaviour::of(args, 2, "finds nothing")?;
    let on_error = Behaviour::of(args, 4, "finds no scalar, or the text is no JSON")?;
    let mut cache = PathCache::default();
    build_text(args.rows, |row, out| {
        let (Some(text), Some(path)) = (texts.get(row), paths.get(row)) else { return Ok(None) };
        let path = cache.get(path)?;
        let Ok(value) = serde_json::from_str::<Value>(text) else { return on_error.apply(row, out) };
        let Some(found) = path.find(&value) else { return on_error.apply(row, out) };
        match found.as_slice() {
            [] => on_empty.apply(row, out),
            [Value::Null] => Ok(None),
            [Value::String(text)] => {
                out.push_str(text);
                Ok(Some(()))
            }
            [scalar @ (Value::Bool(_) | Value::Number(_))] => {
                out.push_str(&scalar.to_string());
                Ok(Some(()))
            }
            _ => on_error.apply(row, out),
        }
    })
}

/// Objects and arrays as JSON text; scalars only with a wrapper. Several values are an array of them.
fn json_query(args: &Args) -> Result<ArrayRef> {
    let (texts, paths) = (args.text(0)?, args.text(1)?);
    let wrapper =
        if args.len() > 2 { args.literal_text(2)?.unwrap_or("WITHOUT").to_owned() } else { "WITHOUT".to_owned() };
    let on_empty = Behaviour::of(args, 3, "finds nothing")?;
    let on_error = Behaviour::of(args, 5, "finds no array or object, or the text is no JSON")?;
    let mut cache = PathCache::default();
    build_text(args.rows, |row, out| {
        let (Some(text), Some(path)) = (texts.get(row), paths.get(row)) else { return Ok(None) };
        let path = cache.get(path)?;
        let Ok(value) = serde_json::from_str::<Value>(text) else { return on_error.apply(row, out) };
        let Some(found) = path.find(&value) else { return on_error.apply(row, out) };
        let (is_array, found) = match found.as_slice() {
            [value] if !path.finds_several() => match value {
                Value::Null => return on_empty.apply(row, out),
                Value::Array(_) => (true, value.to_string()),
                Value::Object(_) => (false, value.to_string()),
                scalar if wrapper != "WITHOUT" => (false, scalar.to_string()),
                _ if path.is_strict => return on_error.apply(row, out),
                _ => return on_empty.apply(row, out),
            },
            [] if !path.finds_several() => return on_empty.apply(row, out),
            several => (true, Value::Array(several.iter().map(|value| (*value).clone()).collect()).to_string()),
        };
        let wraps = wrapper == "UNCONDITIONAL" || (wrapper == "CONDITIONAL" && !is_array);
        if wraps {
            out.push('[');
        }
        out.push_str(&found);
        if wraps {
            out.push(']');
        }
        Ok(Some(()))
    })
}

/// As they are; what JSON has no form for is refused.
fn json_types(types: &[DataType]) -> Result<Vec<DataType>> {
    types.iter().try_for_each(json_type)?;
    Ok(types.to_vec())
}

fn json_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::List(inner) | DataType::Map(inner, _) => json_type(inner.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| json_type(field.data_type())),
        DataType::Boolean
        | DataType::Null
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Time32(_)
        | DataType::Time64(_) => Ok(()),
        data_type if data_type.is_numeric() => Ok(()),
        other => wrong(format!("{} cannot be written as JSON", crate::types::sql_name(other))),
    }
}

fn check_path(text: &str) -> Result<()> {
    Path::compile(text).map(drop)
}

/// The elements of an array as texts: those of scalars as they are, those of objects and arrays as JSON.
/// What is no array gives NULL.
fn json_elements(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..args.rows {
        match texts.get(row).and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(Value::Array(items)) => {
                for item in items {
                    match item {
                        Value::Null => lists.values().append_null(),
                        Value::String(text) => lists.values().append_value(text),
                        other => lists.values().append_value(other.to_string()),
                    }
                }
                lists.append(true);
            }
            _ => lists.append(false),
        }
    }
    Ok(Arc::new(lists.finish()))
}

/// The mode for NULL, and the places of values that are JSON themselves.
struct Making {
    leaves_out: bool,
    raw: Vec<usize>,
}

impl Making {
    fn of(args: &Args) -> Result<Self> {
        let mut words = args.literal_text(0)?.unwrap_or_default().split(' ');
        let leaves_out = words.next() == Some("ABSENT");
        Ok(Self { leaves_out, raw: words.filter_map(|place| place.parse().ok()).collect() })
    }

    fn write(&self, args: &Args, index: usize, row: usize, out: &mut String) -> Result<bool> {
        if !self.raw.contains(&index) {
            return write_json(args, index, row, out);
        }
        Ok(args.text(index)?.get(row).map(|json| out.push_str(json)).is_some())
    }
}

fn json_quote(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    build_text(args.rows, |row, out| Ok(texts.get(row).map(|text| out.push_str(&Value::from(text).to_string()))))
}

/// Writes row `row` of an argument as JSON. `false`: it is NULL, and nothing was written.
fn write_json(args: &Args, index: usize, row: usize, out: &mut String) -> Result<bool> {
    let (array, literal) = args.raw(index)?;
    write_value(array, if literal { 0 } else { row }, out)
}

fn json_string(args: &Args) -> Result<ArrayRef> {
    build_text(args.rows, |row, out| Ok(write_json(args, 0, row, out)?.then_some(())))
}

fn json_object(args: &Args) -> Result<ArrayRef> {
    let making = Making::of(args)?;
    build_text(args.rows, |row, out| {
        out.push('{');
        for index in (1..args.len()).step_by(2) {
            let before = out.len();
            if before > 1 {
                out.push(',');
            }
            if !write_json(args, index, row, out)? {
                return failed("a key of JSON_OBJECT is NULL");
            }
            out.push(':');
            if !making.write(args, index + 1, row, out)? {
                if making.leaves_out {
                    out.truncate(before);
                } else {
                    out.push_str("null");
                }
            }
        }
        out.push('}');
        Ok(Some(()))
    })
}

fn json_array(args: &Args) -> Result<ArrayRef> {
    let making = Making::of(args)?;
    build_text(args.rows, |row, out| {
        out.push('[');
        for index in 1..args.len() {
            let before = out.len();
            if before > 1 {
                out.push(',');
            }
            if !making.write(args, index, row, out)? {
                if making.leaves_out {
                    out.truncate(before);
                } else {
                    out.push_str("null");
                }
            }
        }
        out.push(']');
        Ok(Some(()))
    })
}
