//! Printing: tables for people, JSON and YAML for programs.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

use qanat_proto::Error;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

impl Format {
    /// What a command line asks for that cannot be read as a whole.
    pub(crate) fn asked_for(arguments: impl Iterator<Item = String>) -> Self {
        let mut format = Self::Table;
        let mut is_next = false;
        for argument in arguments {
            let value = match argument.as_str() {
                value if is_next => Some(value),
                value => value.strip_prefix("--output=").or_else(|| value.strip_prefix("-o")),
            };
            is_next = !is_next && matches!(argument.as_str(), "-o" | "--output");
            match value {
                Some("json") => format = Self::Json,
                Some("yaml") => format = Self::Yaml,
                _ => {}
            }
        }
        format
    }
}

/// Prints an error where people and programs find it: on stderr, the code first.
pub(crate) fn print_error(error: &Error, format: Format) {
    let mut stderr = std::io::stderr().lock();
    let object = || serde_json::json!({ "error": error });
    match format {
        Format::Table => {}
        Format::Json => {
            let _ = writeln!(stderr, "{}", object());
            return;
        }
        Format::Yaml => {
            let mut text = String::new();
            yaml(&object().to_string(), 0, &mut text);
            let _ = write!(stderr, "{text}");
            return;
        }
    }
    let _ = writeln!(stderr, "error[{}]: {}", error.code(), error.message());
    if let Some(place) = error.place() {
        let _ = writeln!(stderr, "  at: {place}");
    }
    if let Some(hint) = error.hint_text() {
        let _ = writeln!(stderr, "\nhint: {hint}");
    }
}

/// Prints one object: `table` gives the lines for people.
pub(crate) fn print_object<T: Serialize>(value: &T, format: Format, table: impl FnOnce() -> String) {
    let text = match format {
        Format::Table => table(),
        Format::Json => serde_json::to_string(value).unwrap_or_default(),
        Format::Yaml => {
            let mut text = String::new();
            yaml(&serde_json::to_string(value).unwrap_or_default(), 0, &mut text);
            text
        }
    };
    print_text(text.trim_end());
}

/// Prints text and a line end on stdout. A closed pipe is no error; any other is kept for [`check`].
pub(crate) fn print_text(text: &str) {
    print_line(text);
}

/// The first failure of standard output, such as a full disk behind it.
static FAILURE: OnceLock<Error> = OnceLock::new();

/// # Errors
/// If something could not be printed that somebody waits for.
pub(crate) fn check() -> qanat_proto::Result<()> {
    FAILURE.get().map_or(Ok(()), |error| Err(error.clone()))
}

/// Prints text and a line end on stderr, where it is in nobody's way.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints one line of a stream of rows. False once nobody reads any more: the stream may end.
pub(crate) fn print_line(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Err(e) = &written
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = FAILURE.set(Error::io("write to standard output", e));
    }
    written.is_ok()
}

/// One element of a YAML list that is printed row by row: a JSON value.
pub(crate) fn yaml_item(json: &str) -> String {
    let mut text = String::new();
    yaml_items(&[json], 0, &mut text);
    text.trim_end().to_owned()
}

/// A time in ms since 1970, as ISO 8601 in UTC.
pub(crate) fn time(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => ms.to_string(),
    }
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = count as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{count} {name}") } else { format!("{value:.1} {name}") }
}

/// A number of things: `1 executor`, `2 executors`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A length of time for people: three digits or so.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// Without what would move the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// Rows as a table with aligned columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Block-style YAML of JSON: strings are quoted as JSON, which YAML reads, and numbers keep their digits, which
/// a parser into doubles would not.
fn yaml(json: &str, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match Parts::of(json) {
        Parts::Object(entries) => {
            for (key, value) in entries {
                text.push_str(&format!("{pad}{key}:"));
                match Parts::of(value) {
                    Parts::Plain => text.push_str(&format!(" {value}\n")),
                    Parts::Object(_) | Parts::Array(_) => {
                        text.push('\n');
                        yaml(value, indent + 2, text);
                    }
                }
            }
        }
        Parts::Array(items) => yaml_items(&items, indent, text),
        Parts::Plain => text.push_str(&format!("{pad}{json}\n")),
    }
}

fn yaml_items(items: &[&str], indent: usize, text: &mut String) {
    for item in items {
        let mut inner = String::new();
        yaml(item, indent + 2, &mut inner);
        text.push_str(&format!("{}- {}", " ".repeat(indent), inner.trim_start()));
    }
}

/// A JSON value, one level of it.
enum Parts<'a> {
    /// Keys as YAML writes them.
    Object(Vec<(String, &'a str)>),
    Array(Vec<&'a str>),
    /// No parts: a number, a string, something empty.
    Plain,
}

impl<'a> Parts<'a> {
    fn of(json: &'a str) -> Self {
        let entries = json.starts_with('{').then(|| serde_json::from_str::<Entries<'a>>(json).ok()).flatten();
        let items = json.starts_with('[').then(|| serde_json::from_str::<Vec<&'a RawValue>>(json).ok()).flatten();
        match (entries, items) {
            (Some(Entries(entries)), _) if !entries.is_empty() => Self::Object(entries),
            (_, Some(items)) if !items.is_empty() => Self::Array(items.into_iter().map(RawValue::get).collect()),
            _ => Self::Plain,
        }
    }
}

/// The entries of an object in their order.
struct Entries<'a>(Vec<(String, &'a str)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push((key_text(&key), value.get()));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// A key that is no plain word is quoted.
fn key_text(key: &str) -> String {
    let is_word = key.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '$'));
    let means_something =
        ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].iter().any(|w| key.eq_ignore_ascii_case(w));
    if is_word && !means_something { key.to_owned() } else { serde_json::Value::from(key).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_nests() {
        let mut text = String::new();
        yaml(r#"{"b": 1.50, "a c": [{"c": "x", "d": []}, 20000000000000000000000001]}"#, 0, &mut text);
        assert_eq!(text, "b: 1.50\n\"a c\":\n  - c: \"x\"\n    d: []\n  - 20000000000000000000000001\n");
    }

    #[test]
    fn the_format_of_a_broken_command_line() {
        let asked = |text: &str| Format::asked_for(text.split(' ').map(str::to_owned));
        assert_eq!(asked("qanat -o json bogus"), Format::Json);
        assert_eq!(asked("qanat run --output=yaml"), Format::Yaml);
        assert_eq!(asked("qanat run -ojson"), Format::Json);
        assert_eq!(asked("qanat run json"), Format::Table);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(1_357_016_400_123), "2013-01-01T05:00:00.123Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn durations_are_short() {
        let texts = [0, 999, 1_500, 90_000, 7_260_000, 200_000_000].map(duration);
        assert_eq!(texts, ["0 ms", "999 ms", "1.5 s", "1 min 30 s", "2 h 1 min", "2 d 7 h"]);
    }

    #[test]
    fn one_thing_is_not_several() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "entry", "entries")), ["0 entries", "1 entry", "2 entries"]);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn yaml_items_make_a_list() {
        assert_eq!(yaml_item(r#"{"a":1,"b":"x"}"#), "- a: 1\n  b: \"x\"");
    }

    #[test]
    fn tables_align() {
        let text = table(&["name", "rows"], &[vec!["a".into(), "10".into()], vec!["longer".into(), "2".into()]]);
        assert_eq!(text, "name    rows\na       10\nlonger  2\n");
    }
}
