//! Values of a JSON line that Flink takes and the arrow crate refuses: an object or array for a STRING is its
//! text without blanks, and the text `"true"` or `"false"` is a BOOLEAN. And numbers that the arrow crate cuts: one
//! with a point or an exponent is an integer by all of its digits, or it is none.
//!
//! `super::json` calls [`rewrite`] for lines that do not decode as they are, [`exact`] for values that would decode to
//! something else. Everything else stays byte for byte.

use arrow::datatypes::{DataType, Field, Fields};
use serde::de::IgnoredAny;

/// Whether columns hold a type whose values [`rewrite`] may change.
pub(super) fn applies(fields: &Fields) -> bool {
    may_be_refused(fields) || fields.iter().any(|field| holds(field, &DataType::is_signed_integer))
}

/// Whether columns hold a type of whose values the arrow crate refuses some that [`rewrite`] changes.
pub(super) fn may_be_refused(fields: &Fields) -> bool {
    fields.iter().any(|field| holds(field, &|data_type| matches!(data_type, DataType::Utf8 | DataType::Boolean)))
}

/// Whether a column has values that `is_meant`, or holds some.
pub(super) fn holds(field: &Field, is_meant: &impl Fn(&DataType) -> bool) -> bool {
    match field.data_type() {
        DataType::List(inner) | DataType::Map(inner, _) => holds(inner, is_meant),
        DataType::Struct(fields) => fields.iter().any(|field| holds(field, is_meant)),
        data_type => is_meant(data_type),
    }
}

/// A value of a column that holds integers, as the arrow crate takes it. None: as it stands.
pub(super) fn exact(value: &[u8], data_type: &DataType) -> Option<Vec<u8>> {
    // Most have neither a point nor an exponent.
    memchr::memchr3(b'.', b'e', b'E', value)?;
    let mut rewriter = Rewriter { text: value, at: 0, out: Vec::with_capacity(value.len()) };
    rewriter.value(Some(data_type));
    Some(rewriter.out)
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
            (Some(data_type), Some(b'-' | b'0'..=b'9')) if data_type.is_signed_integer() => {
                let number = self.take();
                match integer(number) {
                    Some(digits) => self.out.extend_from_slice(digits.as_bytes()),
                    // A text is a bad value, where a number would be cut.
                    None => self.out.extend([b"\"", number, b"\""].concat()),
                }
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

/// The integer that a number is. None: it has a fraction, or more digits than any type of column.
fn integer(number: &[u8]) -> Option<String> {
    const DIGITS_MAX: usize = 20;
    let text = std::str::from_utf8(number).ok()?;
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // Zeros behind the last digit that is none, as many as the point stands behind it.
    let behind =
        i64::try_from(fraction.len()).ok()? - i64::try_from(digits.len() - digits.trim_end_matches('0').len()).ok()?;
    let zeros = usize::try_from(exponent.parse::<i64>().ok()?.checked_sub(behind)?).ok()?;
    let is_short = significant.len().checked_add(zeros).is_some_and(|digits| digits <= DIGITS_MAX);
    is_short.then(|| format!("{sign}{significant}{}", "0".repeat(zeros)))
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
    fn a_number_is_an_integer_by_its_digits() {
        for (number, expected) in [
            ("1", Some("1")),
            ("-120", Some("-120")),
            ("1.0", Some("1")),
            ("9007199254740993.000", Some("9007199254740993")),
            ("-9223372036854775808.0", Some("-9223372036854775808")),
            ("1e3", Some("1000")),
            ("1.25E+2", Some("125")),
            ("1200e-2", Some("12")),
            ("0.0", Some("0")),
            ("-0.0e5", Some("0")),
            ("0e999999999999999999999", Some("0")),
            ("1.5", None),
            ("1.25e1", None),
            ("1e-1", None),
            ("1e20", None),
            ("1e999999999999999999999", None),
        ] {
            assert_eq!(integer(number.as_bytes()).as_deref(), expected, "{number}");
        }
        let list = DataType::List(Field::new("item", DataType::Int64, true).into());
        for (data_type, value, expected) in [
            (DataType::Int32, "7", None),
            (DataType::Int32, "7.0", Some("7")),
            (DataType::Int32, "7.5", Some(r#""7.5""#)),
            (DataType::Int32, r#""7e0""#, Some(r#""7e0""#)),
            (list, "[1, 2.0,null ,3.5]", Some(r#"[1,2,null,"3.5"]"#)),
        ] {
            let found = exact(value.as_bytes(), &data_type).map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
            assert_eq!(found.as_deref(), expected, "{value}");
        }
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
