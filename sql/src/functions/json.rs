//! SQL/JSON functions on text. The parser has turned their clauses into arguments (`parse/json_call.rs`).

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::ScalarUDF;
use serde_json::Value;

use super::json_access::{elements, field, fields, is_json as is_json_text};
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

    /// The pieces of a JSON text as they stand in it, so that numbers keep their digits. None: a strict path does
    /// not fit the text.
    fn find<'a>(&self, json: &'a str) -> Option<Vec<&'a str>> {
        let mut found = vec![json.trim()];
        for step in &self.steps {
            let is_missing = |json: &&str| match (step, Kinds::of(json)) {
                (Step::Field(name), Kinds::Object) => field(json, name).is_none(),
                (Step::Index(index), Kinds::Array) => elements(json).nth(*index).is_none(),
                (Step::All, Kinds::Array | Kinds::Object) => false,
                _ => true,
            };
            if self.is_strict && found.iter().any(is_missing) {
                return None;
            }
            found = found
                .into_iter()
                .flat_map(|json| -> Vec<&'a str> {
                    match (step, Kinds::of(json)) {
                        (Step::Field(name), Kinds::Object) => field(json, name).into_iter().collect(),
                        // Lax: a field of an array is that of each of its elements.
                        (Step::Field(name), Kinds::Array) if !self.is_strict => {
                            elements(json).filter_map(|item| field(item, name)).collect()
                        }
                        (Step::Index(index), Kinds::Array) => elements(json).nth(*index).into_iter().collect(),
                        (Step::Index(0), _) if !self.is_strict => vec![json],
                        (Step::All, Kinds::Array) => elements(json).collect(),
                        (Step::All, Kinds::Object) => fields(json).map(|(_, value)| value).collect(),
                        _ => Vec::new(),
                    }
                })
                .collect();
        }
        Some(found)
    }
}

/// What a JSON value is, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinds {
    Object,
    Array,
    Text,
    Null,
    /// A number, `true` or `false`.
    Plain,
}

impl Kinds {
    fn of(json: &str) -> Self {
        match json.trim_start().bytes().next() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::Text,
            Some(b'n') => Self::Null,
            _ => Self::Plain,
        }
    }
}

/// Without the blanks between its parts.
fn push_compact(json: &str, out: &mut String) {
    let (mut in_text, mut escaped) = (false, false);
    for character in json.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            ' ' | '\t' | '\n' | '\r' if !in_text => continue,
            _ => {}
        }
        out.push(character);
    }
}

/// The text that a JSON string is.
fn unquoted(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_default()
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
        Ok(Some(
            is_json_text(text)
                && match (kind.as_str(), Kinds::of(text)) {
                    ("VALUE", _) | ("ARRAY", Kinds::Array) | ("OBJECT", Kinds::Object) => true,
                    ("SCALAR", found) => !matches!(found, Kinds::Array | Kinds::Object),
                    _ => false,
                },
        ))
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
        match is_json_text(text).then(|| path.find(text)).flatten() {
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
        let found = is_json_text(text).then(|| path.find(text)).flatten();
        match found.as_deref() {
            Some([]) => on_empty.apply(row, out),
            Some([one]) => match Kinds::of(one) {
                Kinds::Null => Ok(None),
                Kinds::Text => {
                    out.push_str(&unquoted(one));
                    Ok(Some(()))
                }
                Kinds::Plain => {
                    out.push_str(one);
                    Ok(Some(()))
                }
                Kinds::Object | Kinds::Array => on_error.apply(row, out),
            },
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
        let Some(found) = is_json_text(text).then(|| path.find(text)).flatten() else {
            return on_error.apply(row, out);
        };
        let is_list = path.finds_several() || found.len() > 1;
        let is_array = is_list || found.first().is_some_and(|json| Kinds::of(json) == Kinds::Array);
        if !is_list {
            match found.first().map(|json| Kinds::of(json)) {
                None | Some(Kinds::Null) => return on_empty.apply(row, out),
                Some(Kinds::Text | Kinds::Plain) if wrapper == "WITHOUT" => {
                    return if path.is_strict { on_error.apply(row, out) } else { on_empty.apply(row, out) };
                }
                Some(_) => {}
            }
        }
        let wraps = wrapper == "UNCONDITIONAL" || (wrapper == "CONDITIONAL" && !is_array);
        let brackets = usize::from(wraps) + usize::from(is_list);
        out.extend(std::iter::repeat_n('[', brackets));
        for (index, json) in found.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_compact(json, out);
        }
        out.extend(std::iter::repeat_n(']', brackets));
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
        let array = texts.get(row).filter(|text| is_json_text(text) && Kinds::of(text) == Kinds::Array);
        for item in array.into_iter().flat_map(elements) {
            match Kinds::of(item) {
                Kinds::Null => lists.values().append_null(),
                Kinds::Text => lists.values().append_value(unquoted(item)),
                Kinds::Plain => lists.values().append_value(item),
                Kinds::Object | Kinds::Array => {
                    let mut text = String::new();
                    push_compact(item, &mut text);
                    lists.values().append_value(text);
                }
            }
        }
        lists.append(array.is_some());
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
