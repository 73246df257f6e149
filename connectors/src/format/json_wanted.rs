//! Lines of JSON with only what is asked for: the names and the other values need not be decoded.

use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::json::StructMode;

use super::json_line::Span;
use super::json_text;

/// What the decoder gets of the lines.
pub(super) struct Wanted {
    pub(super) text: Vec<u8>,
    /// Lists say which value is whose by the order, nested ones too: where rows are nested, names stand before the
    /// values.
    pub(super) mode: StructMode,
    names: Vec<String>,
    /// Of each column that holds integers.
    integers: Vec<Option<DataType>>,
}

impl Wanted {
    pub(super) fn of(columns: &Fields) -> Self {
        let mode =
            if columns.iter().any(|c| has_rows(c.data_type())) { StructMode::ObjectOnly } else { StructMode::ListOnly };
        let name = |column: &FieldRef| match mode {
            StructMode::ObjectOnly => format!("{}:", serde_json::Value::from(column.name().as_str())),
            StructMode::ListOnly => String::new(),
        };
        let integers = |column: &FieldRef| {
            json_text::holds(column, &DataType::is_signed_integer).then(|| column.data_type().clone())
        };
        Self {
            text: Vec::new(),
            mode,
            names: columns.iter().map(name).collect(),
            integers: columns.iter().map(integers).collect(),
        }
    }

    /// Of one line.
    pub(super) fn push(&mut self, line: &[u8], values: &[Span]) {
        let (open, close) = match self.mode {
            StructMode::ObjectOnly => (b'{', b'}'),
            StructMode::ListOnly => (b'[', b']'),
        };
        let mut before = open;
        for (((from, to), name), integers) in values.iter().zip(&self.names).zip(&self.integers) {
            self.text.push(before);
            self.text.extend_from_slice(name.as_bytes());
            match line.get(*from..*to) {
                Some(value) if !value.is_empty() => {
                    let exact = integers.as_ref().and_then(|data_type| json_text::exact(value, data_type));
                    self.text.extend_from_slice(exact.as_deref().unwrap_or(value));
                }
                _ => self.text.extend_from_slice(b"null"),
            }
            before = b',';
        }
        if values.is_empty() {
            self.text.push(open);
        }
        self.text.extend_from_slice(&[close, b'\n']);
    }
}

/// Whether values of a type hold rows.
fn has_rows(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(element) => has_rows(element.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().any(|field| has_rows(field.data_type())),
            _ => false,
        },
        _ => false,
    }
}
