//! Comparing rows as multisets, numbers with a fraction within 1e-9.

use std::collections::HashMap;

use serde_json::Value;

use crate::timestamp;

/// A value as text; `None` is NULL.
pub(crate) type Cell = Option<String>;
pub(crate) type Row = Vec<Cell>;

/// How rows are compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Elements of arrays may come in any order.
    pub(crate) unordered_arrays: bool,
}

/// What is missing and what is too many.
pub(crate) fn difference(expected: &[Row], actual: &[Row], rules: Rules) -> Result<(), String> {
    // Rows that are the same text cancel out first; what is left is few, and compared pair by pair.
    let mut counts: HashMap<&Row, i64> = HashMap::new();
    actual.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    let mut missing = Vec::new();
    for row in expected {
        match counts.get_mut(row) {
            Some(count) if *count > 0 => *count -= 1,
            _ => missing.push(row),
        }
    }
    let mut extra: Vec<&Row> = Vec::new();
    for (row, count) in counts {
        extra.extend(std::iter::repeat_n(row, usize::try_from(count).unwrap_or(0)));
    }
    missing.retain(|row| match extra.iter().position(|other| same_row(row, other, rules)) {
        Some(index) => {
            extra.swap_remove(index);
            false
        }
        None => true,
    });
    if missing.is_empty() && extra.is_empty() {
        return Ok(());
    }
    extra.sort();
    let show =
        |rows: &[&Row]| rows.iter().take(12).map(|row| format!("    {}", text(row))).collect::<Vec<_>>().join("\n");
    Err(format!(
        "{} rows expected, {} found; {} missing:\n{}\n  {} too many:\n{}",
        expected.len(),
        actual.len(),
        missing.len(),
        show(&missing),
        extra.len(),
        show(&extra),
    ))
}

/// A row as the case files write it.
pub(crate) fn text(row: &Row) -> String {
    let cell = |cell: &Cell| match cell.as_deref() {
        None => "NULL".to_owned(),
        Some("") => "''".to_owned(),
        Some(text) => text.to_owned(),
    };
    row.iter().map(cell).collect::<Vec<_>>().join(" | ")
}

fn same_row(a: &Row, b: &Row, rules: Rules) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_cell(a, b, rules))
}

fn same_cell(a: &Cell, b: &Cell, rules: Rules) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => true,
        (Some(a), Some(b)) => {
            let nested = |text: &str| text.starts_with(['[', '{']).then(|| serde_json::from_str(text).ok()).flatten();
            match (nested(a), nested(b)) {
                (Some(a), Some(b)) => same_json(&a, &b, rules),
                _ => same_number(a, b) || timestamp::normal(a) == timestamp::normal(b),
            }
        }
        _ => false,
    }
}

/// Integers are compared as text, before; here at least one has a fraction or an exponent.
fn same_number(a: &str, b: &str) -> bool {
    let fraction = |text: &str| text.contains(['.', 'e', 'E']);
    if !fraction(a) && !fraction(b) {
        return false;
    }
    matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if close(a, b))
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

fn same_json(a: &Value, b: &Value, rules: Rules) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) if rules.unordered_arrays && a.len() == b.len() => {
            let mut left: Vec<&Value> = b.iter().collect();
            a.iter().all(|item| match left.iter().position(|other| same_json(item, other, rules)) {
                Some(index) => {
                    left.swap_remove(index);
                    true
                }
                None => false,
            })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b, rules))
        }
        (Value::Object(a), Value::Object(b)) => {
            let get = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
            a.keys().chain(b.keys()).all(|key| same_json(&get(a, key), &get(b, key), rules))
        }
        (Value::Number(a), Value::Number(b)) => {
            a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if close(a, b))
        }
        (Value::String(a), Value::String(b)) => timestamp::normal(a) == timestamp::normal(b),
        _ => a == b,
    }
}

#[test]
fn rows_are_multisets() {
    let row = |text: &str| vec![Some(text.to_owned()), None];
    let rules = Rules::default();
    assert!(difference(&[row("1.5"), row("x")], &[row("x"), row("1.5000000000001")], rules).is_ok());
    assert!(difference(&[row("x"), row("x")], &[row("x")], rules).is_err());
    assert!(difference(&[row("10")], &[row("11")], rules).is_err());
    assert!(difference(&[row("[1,2]")], &[row("[2,1]")], rules).is_err());
    assert!(difference(&[row("[1,2]")], &[row("[2,1]")], Rules { unordered_arrays: true }).is_ok());
}
