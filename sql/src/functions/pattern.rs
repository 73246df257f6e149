//! Patterns: Java's date patterns, and regular expressions with Java's replacement texts.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use regex::Regex;

use super::define::{
    Args, Function, Kind, boolean_type, build_booleans, build_numbers, build_slices, build_text, failed, integer_type,
    text_type,
};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(String),
    /// A pattern letter and how often it stands.
    Field(char, usize),
}

/// A compiled pattern of Java's `DateTimeFormatter`.
#[derive(Clone, Debug)]
pub(super) struct DatePattern {
    items: Vec<Item>,
}

/// The pattern of the last row: a pattern is nearly always the same for all rows.
#[derive(Default)]
pub(super) struct PatternCache {
    last: Option<(String, DatePattern)>,
}

impl PatternCache {
    pub(super) fn get(&mut self, pattern: &str) -> Result<&DatePattern> {
        if !matches!(&self.last, Some((last, _)) if last == pattern) {
            self.last = Some((pattern.to_owned(), DatePattern::compile(pattern)?));
        }
        match &self.last {
            Some((_, compiled)) => Ok(compiled),
            None => failed("a pattern was not kept"),
        }
    }
}

impl DatePattern {
    pub(super) fn compile(pattern: &str) -> Result<Self> {
        let mut items: Vec<Item> = Vec::new();
        let mut literal = String::new();
        let mut characters = pattern.chars().peekable();
        while let Some(c) = characters.next() {
            if c == '\'' {
                if characters.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match characters.next() {
                        Some('\'') if characters.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(other) => literal.push(other),
                        None => return failed(format!("the date pattern `{pattern}` has an open quote")),
                    }
                }
            } else if c.is_ascii_alphabetic() {
                if !"yuMLdDHhkmsSnaEeQwXZzK".contains(c) {
                    return failed(format!(
                        "the date pattern `{pattern}` has the letter `{c}`, which is not supported"
                    ));
                }
                let mut count = 1;
                while characters.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if !literal.is_empty() {
                    items.push(Item::Literal(std::mem::take(&mut literal)));
                }
                items.push(Item::Field(c, count));
            } else {
                literal.push(c);
            }
        }
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Ok(Self { items })
    }

    pub(super) fn format(&self, time: NaiveDateTime, out: &mut String) {
        for item in &self.items {
            // Writing into a String cannot fail.
            let _ = match item {
                Item::Literal(text) => out.write_str(text),
                Item::Field(letter, count) => format_field(*letter, *count, time, out),
            };
        }
    }

    /// `None` if the text does not fit the pattern or is no time that exists.
    pub(super) fn parse(&self, text: &str) -> Option<NaiveDateTime> {
        let mut rest = text;
        let mut parts = Parts::default();
        for (index, item) in self.items.iter().enumerate() {
            match item {
                Item::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Field(letter, count) => {
                    let is_adjacent = matches!(self.items.get(index + 1), Some(Item::Field(..)));
                    rest = parts.take(*letter, *count, is_adjacent, rest)?;
                }
            }
        }
        if rest.is_empty() { parts.finish() } else { None }
    }
}

fn format_field(letter: char, count: usize, time: NaiveDateTime, out: &mut String) -> std::fmt::Result {
    let hour = time.hour();
    let name = |names: &[&'static str], index: u32| names.get(index as usize).copied().unwrap_or_default();
    let cut = |text: &'static str| if count < 4 { text.get(..3).unwrap_or(text) } else { text };
    match letter {
        'y' | 'u' if count == 2 => write!(out, "{:02}", time.year().rem_euclid(100)),
        'y' | 'u' => write!(out, "{:0count$}", time.year()),
        'M' | 'L' if count >= 3 => out.write_str(cut(name(&MONTHS, time.month0()))),
        'M' | 'L' => write!(out, "{:0count$}", time.month()),
        'd' => write!(out, "{:0count$}", time.day()),
        'D' => write!(out, "{:0count$}", time.ordinal()),
        'H' => write!(out, "{hour:0count$}"),
        'k' => write!(out, "{:0count$}", if hour == 0 { 24 } else { hour }),
        'h' => write!(out, "{:0count$}", if hour.is_multiple_of(12) { 12 } else { hour % 12 }),
        'K' => write!(out, "{:0count$}", hour % 12),
        'm' => write!(out, "{:0count$}", time.minute()),
        's' => write!(out, "{:0count$}", time.second()),
        'S' => {
            let nanos = format!("{:09}", time.nanosecond());
            write!(out, "{:0<count$}", nanos.get(..count.min(9)).unwrap_or_default())
        }
        'n' => write!(out, "{:0count$}", time.nanosecond()),
        'a' => out.write_str(if hour < 12 { "AM" } else { "PM" }),
        'E' => out.write_str(cut(name(&DAYS, time.weekday().num_days_from_monday()))),
        'e' => write!(out, "{:0count$}", time.weekday().number_from_sunday()),
        'Q' => write!(out, "{:0count$}", time.month0() / 3 + 1),
        'w' => write!(out, "{:0count$}", time.iso_week().week()),
        'X' => out.write_str("Z"),
        'Z' => out.write_str("+0000"),
        _ => out.write_str("UTC"),
    }
}

/// What a text gave so far.
#[derive(Default)]
struct Parts {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    half: Option<u32>,
    half_hour: Option<u32>,
    minute: u32,
    second: u32,
    nanosecond: u32,
    offset_seconds: i64,
}

impl Parts {
    /// Takes one field off the text and gives the rest.
    fn take<'a>(&mut self, letter: char, count: usize, is_adjacent: bool, text: &'a str) -> Option<&'a str> {
        match letter {
            'M' | 'L' if count >= 3 => {
                let (index, rest) = take_name(&MONTHS, count, text)?;
                self.month = Some(index + 1);
                return Some(rest);
            }
            'E' => return take_name(&DAYS, count, text).map(|(_, rest)| rest),
            'a' => {
                let half = text.get(..2)?;
                self.half = Some(if half.eq_ignore_ascii_case("PM") {
                    12
                } else if half.eq_ignore_ascii_case("AM") {
                    0
                } else {
                    return None;
                });
                return text.get(2..);
            }
            'X' | 'Z' | 'z' => return self.take_zone(text),
            _ => {}
        }
        // One letter takes as many digits as there are; several take exactly that many.
        let most = match (count, letter) {
            (1, 'y' | 'u' | 'S' | 'n') => 9,
            (1, 'D') => 3,
            (1, _) => 2,
            (_, 'S') => count.min(9),
            _ => count,
        };
        let most = if is_adjacent { count } else { most };
        let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if digits < count.min(most) || digits == 0 {
            return None;
        }
        let number: u32 = text.get(..digits)?.parse().ok()?;
        match letter {
            'y' | 'u' => {
                let year = i32::try_from(number).ok()?;
                self.year = Some(if count == 2 { 2_000 + year } else { year });
            }
            'M' | 'L' => self.month = Some(number),
            'd' => self.day = Some(number),
            'D' => self.day_of_year = Some(number),
            'H' => self.hour = Some(number),
            'k' => self.hour = Some(number % 24),
            'h' | 'K' => self.half_hour = Some(number % 12),
            'm' => self.minute = number,
            's' => self.second = number,
            'S' => self.nanosecond = number.checked_mul(10_u32.checked_pow(9 - u32::try_from(digits).ok()?)?)?,
            'n' => self.nanosecond = number,
            _ => return None,
        }
        text.get(digits..)
    }

    /// `Z`, `UTC`, `GMT`, `+08:00`, `+0800` or `+08`.
    fn take_zone<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        for name in ["UTC", "GMT", "Z"] {
            if let Some(rest) = text.strip_prefix(name) {
                return Some(rest);
            }
        }
        let sign = match text.chars().next()? {
            '+' => 1,
            '-' => -1,
            _ => return None,
        };
        let hours: i64 = text.get(1..3)?.parse().ok()?;
        let rest = text.get(3..)?;
        let behind = rest.strip_prefix(':').unwrap_or(rest);
        let minutes = behind.get(..2).and_then(|minutes| minutes.parse::<i64>().ok());
        self.offset_seconds = sign * (hours * 3_600 + minutes.unwrap_or(0) * 60);
        if minutes.is_some() { behind.get(2..) } else { Some(rest) }
    }

    fn finish(&self) -> Option<NaiveDateTime> {
        let year = self.year.unwrap_or(1970);
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, day)?,
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + self.half.unwrap_or(0),
            (None, None) => 0,
        };
        let time = NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanosecond)?;
        date.and_time(time).checked_sub_signed(chrono::TimeDelta::try_seconds(self.offset_seconds)?)
    }
}

fn take_name<'a>(names: &[&str], count: usize, text: &'a str) -> Option<(u32, &'a str)> {
    for (index, name) in names.iter().enumerate() {
        let name = if count < 4 { name.get(..3).unwrap_or(name) } else { name };
        if text.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return Some((u32::try_from(index).ok()?, text.get(name.len()..)?));
        }
    }
    None
}

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Integer, Text};
    vec![
        Function::new("regexp_extract_all", &[Text, Text, Integer], texts_type, regexp_extract_all)
            .required(2)
            .literal(1, |pattern| compile(pattern).map(drop))
            .build(),
        Function::new("regexp_extract", &[Text, Text, Integer], text_type, regexp_extract)
            .required(2)
            .literal(1, |pattern| compile(pattern).map(drop))
            .build(),
        Function::new("regexp_replace", &[Text, Text, Text], text_type, regexp_replace)
            .literal(1, |pattern| compile(pattern).map(drop))
            .build(),
        Function::new("regexp", &[Text, Text], boolean_type, regexp)
            .alias("rlike")
            .literal(1, |pattern| compile(pattern).map(drop))
            .build(),
        Function::new("regexp_count", &[Text, Text], integer_type, regexp_count)
            .literal(1, |pattern| compile(pattern).map(drop))
            .build(),
        Function::new("regexp_substr", &[Text, Text], text_type, regexp_substr)
            .literal(1, |pattern| compile(pattern).map(drop))
            .build(),
    ]
}

fn compile(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).or_else(|error| failed(format!("`{pattern}` is no regular expression: {error}")))
}

/// The expression of the last row.
#[derive(Default)]
pub(super) struct RegexCache {
    last: Option<(String, Option<Regex>)>,
}

impl RegexCache {
    /// None for what is no expression: only one from a column gets here, and its row gets NULL.
    pub(super) fn get(&mut self, pattern: &str) -> Option<&Regex> {
        if !matches!(&self.last, Some((last, _)) if last == pattern) {
            self.last = Some((pattern.to_owned(), compile(pattern).ok()));
        }
        self.last.as_ref().and_then(|(_, compiled)| compiled.as_ref())
    }
}

/// All matches as Java finds them: the next search begins where the last match ended, so that the empty text
/// right behind a match may match too.
fn matches<'t>(regex: &Regex, text: &'t str) -> impl Iterator<Item = regex::Match<'t>> {
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let found = regex.find_at(text, at?)?;
        at = behind(text, found.end(), found.is_empty());
        Some(found)
    })
}

/// Where the next search begins; none behind the end of the text.
fn behind(text: &str, end: usize, was_empty: bool) -> Option<usize> {
    if !was_empty {
        return Some(end);
    }
    text.get(end..)?.chars().next().map(|character| end + character.len_utf8())
}

fn texts_type(_: &[DataType]) -> Result<DataType> {
    Ok(crate::types::list_of(DataType::Utf8))
}

/// The group of the first match; NULL without a match or group. Group 0 is the whole match.
fn regexp_extract(args: &Args) -> Result<ArrayRef> {
    let (texts, patterns) = (args.text(0)?, args.text(1)?);
    let groups = if args.len() > 2 { Some(args.integer(2)?) } else { None };
    let mut cache = RegexCache::default();
    build_slices(args.rows, |row| {
        let group = match &groups {
            None => Some(0),
            Some(groups) => groups.get(row),
        };
        let (Some(text), Some(pattern), Some(group)) = (texts.get(row), patterns.get(row), group) else {
            return Ok(None);
        };
        let Ok(group) = usize::try_from(group) else { return Ok(None) };
        let Some(regex) = cache.get(pattern) else { return Ok(None) };
        if group == 0 {
            return Ok(regex.find(text).map(|found| found.as_str()));
        }
        Ok(regex.captures(text).and_then(|captures| captures.get(group)).map(|found| found.as_str()))
    })
}

/// The group (the first if none is named) of every match; NULL for a group that there is not.
fn regexp_extract_all(args: &Args) -> Result<ArrayRef> {
    let (texts, patterns) = (args.text(0)?, args.text(1)?);
    let groups = if args.len() > 2 { Some(args.integer(2)?) } else { None };
    let mut cache = RegexCache::default();
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    for row in 0..args.rows {
        let group = groups.as_ref().map_or(Some(1), |groups| groups.get(row));
        let (Some(text), Some(pattern), Some(group)) = (texts.get(row), patterns.get(row), group) else {
            lists.append(false);
            continue;
        };
        let regex = cache.get(pattern);
        let group = usize::try_from(group).ok().filter(|group| regex.is_some_and(|r| *group < r.captures_len()));
        let (Some(regex), Some(group)) = (regex, group) else {
            lists.append(false);
            continue;
        };
        let mut at = Some(0);
        while let Some(captures) = at.and_then(|at| regex.captures_at(text, at)) {
            lists.values().append_option(captures.get(group).map(|found| found.as_str()));
            at = captures.get(0).and_then(|whole| behind(text, whole.end(), whole.is_empty()));
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// Replaces all matches; the replacement stands as it is.
fn regexp_replace(args: &Args) -> Result<ArrayRef> {
    let (texts, patterns, replacements) = (args.text(0)?, args.text(1)?, args.text(2)?);
    let mut cache = RegexCache::default();
    build_text(args.rows, |row, out| {
        let (Some(text), Some(pattern), Some(replacement)) = (texts.get(row), patterns.get(row), replacements.get(row))
        else {
            return Ok(None);
        };
        let Some(regex) = cache.get(pattern) else { return Ok(None) };
        let mut end = 0;
        for found in matches(regex, text) {
            out.push_str(text.get(end..found.start()).unwrap_or_default());
            out.push_str(replacement);
            end = found.end();
        }
        out.push_str(text.get(end..).unwrap_or_default());
        Ok(Some(()))
    })
}

/// Whether the expression is found anywhere in the text.
fn regexp(args: &Args) -> Result<ArrayRef> {
    let (texts, patterns) = (args.text(0)?, args.text(1)?);
    let mut cache = RegexCache::default();
    build_booleans(args.rows, |row| {
        let (Some(text), Some(pattern)) = (texts.get(row), patterns.get(row)) else { return Ok(None) };
        Ok(Some(cache.get(pattern).is_some_and(|regex| regex.is_match(text))))
    })
}

fn regexp_substr(args: &Args) -> Result<ArrayRef> {
    let (texts, patterns) = (args.text(0)?, args.text(1)?);
    let mut cache = RegexCache::default();
    build_slices(args.rows, |row| {
        let (Some(text), Some(pattern)) = (texts.get(row), patterns.get(row)) else { return Ok(None) };
        Ok(cache.get(pattern).and_then(|regex| regex.find(text)).map(|found| found.as_str()))
    })
}

fn regexp_count(args: &Args) -> Result<ArrayRef> {
    let (texts, patterns) = (args.text(0)?, args.text(1)?);
    let mut cache = RegexCache::default();
    build_numbers::<Int32Type>(args.rows, |row| {
        let (Some(text), Some(pattern)) = (texts.get(row), patterns.get(row)) else { return Ok(None) };
        Ok(cache.get(pattern).and_then(|regex| i32::try_from(matches(regex, text).count()).ok()))
    })
}
