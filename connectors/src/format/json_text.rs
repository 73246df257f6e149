//! Values of a JSON line that Flink takes and the arrow crate refuses: an object or array for a STRING is its
//! text without blanks, and the text `"true"` or `"false"` is a BOOLEAN.
//!
//! `super::json` calls [`rewrite`] for lines that do not decode as they are. Everything else stays byte for byte.

use arrow::datatypes::{DataType, Field, Fields};
use serde::de::IgnoredAny;

/// Whether columns hold a type whose values [`rewrite`] may change.
pub(super) fn applies(fields: &Fields) -> bool {
    fields.iter().any(|field| is_or_holds(field))
}

fn is_or_holds(field: &Field) -> bool {
    match field.data_type() {
        DataType::Utf8 | DataType::Boolean => true,
        DataType::List(inner) | DataType::Map(inner, _) => is_or_holds(inner),
        DataType::Struct(fields) => applies(fields),
        _ => false,
    }
}

/// The object of a line as the arrow crate takes it. None: the line is no JSON.
pub(super) fn rewrite(line: &[u8], fields: &Fields) -> Option<Vec<u8>> {
    serde_json::from_slice::<IgnoredAny>(line).ok()?;
    let mut rewriter = Rewriter { text: line, at: 0, out: Vec::with_capacity(line.len() + line.len() / 8) };
    rewriter.structure(fields);
    Some(rewriter.out)
}

/// Walks a text that is known to be JSON, no deeper than the columns' types.
struct Rewriter<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl<'a> Rewriter<'a> {
    /// The next byte that is no blank; None at the end.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes a byte over.
    fn copy(&mut self, byte: u8) {
        self.out.push(byte);
        self.at += 1;
    }

    /// The next value or name, passed over.
    fn take(&mut self) -> &'a [u8] {
        self.peek();
        let from = self.at;
        self.at = value_end(self.text, from);
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn value(&mut self, wanted: Option<&DataType>) {
        match (wanted, self.peek()) {
            (Some(DataType::Utf8), Some(b'{' | b'[')) => {
                let text = String::from_utf8_lossy(&without_blanks(self.take())).into_owned();
                self.out.extend_from_slice(serde_json::Value::String(text).to_string().as_bytes());
            }
            (Some(DataType::Boolean), Some(b'"')) => {
                let quoted = self.take();
                let word = serde_json::from_slice::<String>(quoted).unwrap_or_default();
                self.out.extend_from_slice(match word.trim().to_ascii_lowercase().as_str() {
                    "true" => b"true",
                    "false" => b"false",
                    _ => quoted,
                });
            }
            (Some(DataType::Struct(fields)), Some(b'{')) => self.structure(fields),
            (Some(DataType::Map(entries, _)), Some(b'{')) => {
                let value = match entries.data_type() {
                    DataType::Struct(fields) => fields.get(1).map(|field| field.data_type()),
                    _ => None,
                };
                self.members(|_| value);
            }
            (Some(DataType::List(element)), Some(b'[')) => {
                self.copy(b'[');
                while let Some(next) = self.peek() {
                    match next {
                        b']' => {
                            self.copy(next);
                            break;
                        }
                        b',' => self.copy(next),
                        _ => self.value(Some(element.data_type())),
                    }
                }
            }
            _ => {
                let value = self.take();
                self.out.extend_from_slice(value);
            }
        }
    }

    fn structure(&mut self, fields: &Fields) {
        self.members(|name| fields.iter().find(|field| field.name() == name).map(|field| field.data_type()));
    }

    /// An object whose values have the types that their names have.
    fn members<'t>(&mut self, type_of: impl Fn(&str) -> Option<&'t DataType>) {
        if self.peek() != Some(b'{') {
            return self.value(None);
        }
        self.copy(b'{');
        while let Some(next) = self.peek() {
            match next {
                b'}' => {
                    self.copy(next);
                    break;
                }
                b',' => self.copy(next),
                _ => {
                    let name = self.take();
                    self.out.extend_from_slice(name);
                    if let Some(colon) = self.peek() {
                        self.copy(colon);
                    }
                    let name = serde_json::from_slice::<String>(name).unwrap_or_default();
                    self.value(type_of(&name));
                }
            }
        }
    }
}

/// Where the value ends that begins at `from`: always behind `from`.
fn value_end(text: &[u8], from: usize) -> usize {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate().skip(from) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => {
                in_text = !in_text;
                if !in_text && depth == 0 {
                    return at + 1;
                }
            }
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' if depth == 1 => return at + 1,
            b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 && at > from => return at,
            _ => {}
        }
    }
    text.len().max(from + 1)
}

fn without_blanks(value: &[u8]) -> Vec<u8> {
    let (mut in_text, mut is_escaped) = (false, false);
    let kept = value.iter().copied().filter(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            _ => {}
        }
        in_text || !byte.is_ascii_whitespace()
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str, data_type: DataType) -> Option<String> {
        let fields = Fields::from(vec![Field::new("a", data_type, true), Field::new("n", DataType::Int32, true)]);
        rewrite(line.as_bytes(), &fields).map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
    }

    #[test]
    fn only_what_the_types_ask_for_changes() {
        let list = DataType::List(Field::new("item", DataType::Utf8, true).into());
        for (data_type, line, expected) in [
            (
                DataType::Utf8,
                r#" { "a" : { "x" : [ 1, "b \" }" ] } , "n" : {"y": 1} } "#,
                r#"{"a":"{\"x\":[1,\"b \\\" }\"]}","n":{"y": 1}}"#,
            ),
            (DataType::Utf8, r#"{"a":"t","b":[ 1 ]}"#, r#"{"a":"t","b":[ 1 ]}"#),
            (DataType::Utf8, r#"{"\u0061":[]}"#, r#"{"\u0061":"[]"}"#),
            (DataType::Boolean, r#"{"a":" TRUE ","n":"true"}"#, r#"{"a":true,"n":"true"}"#),
            (DataType::Boolean, r#"{"a":"yes"}"#, r#"{"a":"yes"}"#),
            (list, r#"{"a":[ {"q": 1.50}, null , "s"]}"#, r#"{"a":["{\"q\":1.50}",null,"s"]}"#),
        ] {
            assert_eq!(rewritten(line, data_type).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(rewritten(r#"{"a":[}"#, DataType::Utf8), None);
        assert_eq!(rewritten("[1]", DataType::Utf8).as_deref(), Some("[1]"));
        assert_eq!(rewritten("1", DataType::Utf8).as_deref(), Some("1"));
    }
}
