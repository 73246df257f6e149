//! Printing: tables for people, JSON and YAML for programs.

use std::io::Write;

use qanat_proto::Error;
use serde::Serialize;
use serde_json::Value;

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
            yaml(&object(), 0, &mut text);
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
            yaml(&serde_json::to_value(value).unwrap_or_default(), 0, &mut text);
            text
        }
    };
    print_text(text.trim_end());
}

/// Prints text and a line end on stdout. A closed pipe is no error.
pub(crate) fn print_text(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints text and a line end on stderr, where it is in nobody's way.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints one line of a stream of rows. False once nobody reads any more: the stream may end.
pub(crate) fn print_line(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}

/// One element of a YAML list that is printed row by row.
pub(crate) fn yaml_item(value: &Value) -> String {
    let mut text = String::new();
    yaml(&Value::Array(vec![value.clone()]), 0, &mut text);
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

/// Block-style YAML of a JSON value: strings are quoted as JSON, which YAML reads.
fn yaml(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&format!("{pad}{key}:"));
                yaml_value(value, indent, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                yaml(item, indent + 2, &mut inner);
                text.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
        }
        other => text.push_str(&format!("{pad}{other}\n")),
    }
}

fn yaml_value(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            yaml(value, indent + 2, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            yaml(value, indent + 2, text);
        }
        other => text.push_str(&format!(" {other}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_nests() {
        let mut text = String::new();
        yaml(&serde_json::json!({"a": 1, "b": [{"c": "x", "d": []}, 2]}), 0, &mut text);
        assert_eq!(text, "a: 1\nb:\n  - c: \"x\"\n    d: []\n  - 2\n");
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
    fn bytes_are_readable() {
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn yaml_items_make_a_list() {
        assert_eq!(yaml_item(&serde_json::json!({"a": 1, "b": "x"})), "- a: 1\n  b: \"x\"");
    }

    #[test]
    fn tables_align() {
        let text = table(&["name", "rows"], &[vec!["a".into(), "10".into()], vec!["longer".into(), "2".into()]]);
        assert_eq!(text, "name    rows\na       10\nlonger  2\n");
    }
}
