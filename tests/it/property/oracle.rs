//! The answer of a query, worked out one row and one window at a time: slow, short and without any of
//! the engine's ideas (no slices, no partial aggregates, no watermarks but the one a row is judged by).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::query::{Aggregate, Function, Literal, Predicate, Query, Window};
use super::table::{Datum, Record, Table};
use crate::compare::{Cell, Row};
use crate::timestamp;

/// Groups: window start and end, and keys as text (so that they sort; NULL is `None`).
type Groups<'a> = BTreeMap<(i64, i64, Vec<Cell>), Vec<&'a Record>>;

/// Expected rows, and how many rows of the table are late for this query.
pub(super) fn answer(query: &Query, table: &Table) -> (Vec<Row>, u64) {
    let key = |row: &Record| -> Vec<Cell> { query.keys.iter().map(|column| cell(&row.values[*column])).collect() };
    let mut groups: Groups<'_> = BTreeMap::new();
    let mut late = 0;
    if let Window::Session { gap } = query.window {
        // A session is made by all rows of its key; WHERE stands behind the window function.
        let mut keyed: BTreeMap<Vec<Cell>, Vec<&Record>> = BTreeMap::new();
        table.rows().for_each(|row| keyed.entry(key(row)).or_default().push(row));
        for (key, mut rows) in keyed {
            rows.sort_by_key(|row| row.time);
            for session in rows.chunk_by(|a, b| b.time - a.time <= gap) {
                let (first, last) = (session[0].time, session[session.len() - 1].time);
                groups.insert((first, last + gap, key.clone()), session.to_vec());
            }
        }
    } else {
        for row in table.rows() {
            // In all of its windows if one of them is open, else in none.
            let mut taking = windows(query.window, row.time);
            if taking.iter().all(|(_, end)| *end <= row.watermark) {
                taking.clear();
            }
            late += u64::from(taking.is_empty());
            for (start, end) in taking {
                groups.entry((start, end, key(row))).or_default().push(row);
            }
        }
    }
    let mut answer = Vec::new();
    for ((start, end, keys), mut rows) in groups {
        if let Some(filter) = &query.filter {
            rows.retain(|row| holds(filter, row) == Some(true));
        }
        if rows.is_empty() {
            continue;
        }
        let results: Vec<Datum> = query.aggregates.iter().map(|aggregate| evaluate(aggregate, &rows)).collect();
        if let Some(having) = &query.having
            && compare(&results[having.aggregate], &Datum::Int(having.above)) != Some(Ordering::Greater)
        {
            continue;
        }
        let mut row = vec![Some(timestamp::format(start)), Some(timestamp::format(end))];
        row.extend(keys);
        row.extend(results.iter().map(cell));
        answer.push(row);
    }
    (answer, late)
}

/// All windows that hold `time`, tried one by one.
pub(super) fn windows(window: Window, time: i64) -> Vec<(i64, i64)> {
    match window {
        Window::Tumble { size, offset } => {
            let start = (time - offset).div_euclid(size) * size + offset;
            vec![(start, start + size)]
        }
        Window::Hop { slide, size } => {
            let last = time.div_euclid(slide) * slide;
            (0..)
                .map(|n| last - n * slide)
                .take_while(|start| start + size > time)
                .map(|start| (start, start + size))
                .collect()
        }
        Window::Cumulate { step, size } => {
            let start = time.div_euclid(size) * size;
            (1..=size / step).map(|n| (start, start + n * step)).filter(|(_, end)| *end > time).collect()
        }
        Window::Session { .. } => Vec::new(),
    }
}

fn evaluate(aggregate: &Aggregate, rows: &[&Record]) -> Datum {
    let rows =
        rows.iter().filter(|row| aggregate.filter.as_ref().is_none_or(|filter| holds(filter, row) == Some(true)));
    if aggregate.function == Function::CountAll {
        return Datum::Int(i64::try_from(rows.count()).unwrap_or(i64::MAX));
    }
    let values: Vec<&Datum> =
        rows.map(|row| &row.values[aggregate.column]).filter(|value| **value != Datum::Null).collect();
    let count = i64::try_from(values.len()).unwrap_or(i64::MAX);
    let integers = values.iter().all(|value| matches!(value, Datum::Int(_)));
    let integer_sum = || values.iter().map(|value| if let Datum::Int(n) = value { *n } else { 0 }).sum::<i64>();
    let double_sum = || values.iter().map(|value| if let Datum::Double(x) = value { *x } else { 0.0 }).sum::<f64>();
    let extreme = |wanted: Ordering| {
        let mut best: Option<&Datum> = None;
        for value in &values {
            if best.is_none_or(|best| compare(value, best) == Some(wanted)) {
                best = Some(value);
            }
        }
        best.cloned().unwrap_or(Datum::Null)
    };
    match aggregate.function {
        Function::CountAll | Function::Count => Datum::Int(count),
        Function::Min => extreme(Ordering::Less),
        Function::Max => extreme(Ordering::Greater),
        _ if count == 0 && aggregate.function != Function::CountDistinct => Datum::Null,
        Function::Sum if integers => Datum::Int(integer_sum()),
        Function::Sum => Datum::Double(double_sum()),
        Function::Avg if integers => Datum::Int(integer_sum() / count),
        Function::Avg => Datum::Double(double_sum() / count as f64),
        Function::CountDistinct => {
            let mut seen: Vec<&Datum> = Vec::new();
            for value in values {
                if !seen.contains(&value) {
                    seen.push(value);
                }
            }
            Datum::Int(i64::try_from(seen.len()).unwrap_or(i64::MAX))
        }
    }
}

/// SQL's three values: `None` is unknown.
fn holds(predicate: &Predicate, row: &Record) -> Option<bool> {
    match predicate {
        Predicate::IsNull { column, negated } => Some((row.values[*column] == Datum::Null) != *negated),
        Predicate::Not(inner) => holds(inner, row).map(|value| !value),
        Predicate::And(a, b) => match (holds(a, row), holds(b, row)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Predicate::Or(a, b) => match (holds(a, row), holds(b, row)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        Predicate::Compare { column, op, literal } => {
            let literal = match literal {
                Literal::Number(number) => Datum::Int(*number),
                Literal::Text(text) => Datum::Text((*text).to_owned()),
            };
            let order = compare(&row.values[*column], &literal)?;
            Some(match *op {
                "<" => order == Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                ">=" => order != Ordering::Less,
                "=" => order == Ordering::Equal,
                _ => order != Ordering::Equal,
            })
        }
    }
}

/// Numbers by value, texts by bytes; unknown with NULL.
fn compare(a: &Datum, b: &Datum) -> Option<Ordering> {
    let number = |datum: &Datum| match datum {
        Datum::Int(n) => Some(*n as f64),
        Datum::Double(x) => Some(*x),
        _ => None,
    };
    match (a, b) {
        (Datum::Text(a), Datum::Text(b)) => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

fn cell(datum: &Datum) -> Cell {
    match datum {
        Datum::Null => None,
        Datum::Int(n) => Some(n.to_string()),
        Datum::Double(x) => Some(format!("{x:?}")),
        Datum::Text(text) => Some(text.clone()),
    }
}
