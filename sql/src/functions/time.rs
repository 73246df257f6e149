//! Dates and times: Flink's names, Java's patterns, UTC.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, Int64Array, PrimitiveArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type, TimeUnit};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Timelike};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::clock;
use super::define::{
    Args, Function, Kind, bigint_type, build_numbers, build_text, failed, integer_type, text_type, wrong,
};
use super::pattern::{DatePattern, PatternCache};
use super::times::{DAY, Times};
use crate::types::{SESSION_ZONE, sql_name};

const TIMESTAMP_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";
const DATE_PATTERN: &str = "yyyy-MM-dd";

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Integer, Moment, Text, Time};
    let timestamp = |_: &[DataType]| Ok(DataType::Timestamp(TimeUnit::Millisecond, None));
    let zoned = |_: &[DataType]| Ok(DataType::Timestamp(TimeUnit::Millisecond, Some(SESSION_ZONE.into())));
    let date = |_: &[DataType]| Ok(DataType::Date32);
    let mut functions = vec![
        Function::new("date_format", &[Any, Text], text_type, date_format)
            .coerce(format_types)
            .literal(1, check_pattern)
            .build(),
        Function::new("to_timestamp", &[Text, Text], timestamp, to_timestamp)
            .required(1)
            .literal(1, check_pattern)
            .build(),
        Function::new("to_timestamp_ltz", &[Any, Any], zoned, to_timestamp_ltz).required(1).coerce(ltz_types).build(),
        Function::new("to_date", &[Text, Text], date, to_date).required(1).literal(1, check_pattern).build(),
        Function::new("from_unixtime", &[Integer, Text], text_type, from_unixtime)
            .required(1)
            .literal(1, check_pattern)
            .build(),
        Function::new("unix_timestamp", &[Text, Text], bigint_type, unix_timestamp)
            .required(0)
            .volatile()
            .literal(1, check_pattern)
            .build(),
        Function::new("timestampdiff", &[Text, Time, Time], integer_type, timestampdiff).literal(0, check_unit).build(),
        Function::new("timestampadd", &[Text, Integer, Moment], third_type, timestampadd)
            .literal_result(sum_type)
            .literal(0, check_unit)
            .build(),
        Function::new("convert_tz", &[Text, Text, Text], text_type, convert_tz).build(),
        Function::new("extract_unit", &[Text, Moment], bigint_type, extract_unit)
            .literal_result(part_type)
            .literal(0, check_unit)
            .build(),
        Function::new("ceil_to", &[Text, Moment], second_type, ceil_to)
            .literal_result(rounded_type)
            .literal(0, check_unit)
            .build(),
        Function::new("floor_to", &[Text, Moment], second_type, floor_to)
            .literal_result(rounded_type)
            .literal(0, check_unit)
            .build(),
    ];
    functions.extend(part_functions());
    functions
}

/// `YEAR(t)` and the like.
fn part_functions() -> Vec<ScalarUDF> {
    macro_rules! part {
        ($name:literal, $unit:expr) => {
            part!($name, $unit, Kind::Time)
        };
        ($name:literal, $unit:expr, $kind:expr) => {
            Function::new($name, &[$kind], bigint_type, |args| parts(args, 0, $unit)).build()
        };
    }
    vec![
        part!("year", Unit::Year),
        part!("quarter", Unit::Quarter),
        part!("month", Unit::Month),
        part!("week", Unit::Week),
        part!("dayofyear", Unit::DayOfYear),
        part!("dayofmonth", Unit::Day),
        part!("dayofweek", Unit::DayOfWeek),
        part!("hour", Unit::Hour, Kind::Moment),
        part!("minute", Unit::Minute, Kind::Moment),
        part!("second", Unit::Second, Kind::Moment),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    /// Sunday is 1.
    DayOfWeek,
    /// Monday is 1.
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
}

impl Unit {
    /// Upper case and singular, as the parser leaves it; a user's own spelling works too.
    fn from_text(text: &str) -> Result<Self> {
        let text = text.trim().to_ascii_uppercase();
        Ok(match text.strip_suffix('S').unwrap_or(&text) {
            "MILLENNIUM" => Self::Millennium,
            "CENTURY" => Self::Century,
            "DECADE" => Self::Decade,
            "YEAR" => Self::Year,
            "ISOYEAR" => Self::IsoYear,
            "QUARTER" => Self::Quarter,
            "MONTH" => Self::Month,
            "WEEK" => Self::Week,
            "DAY" => Self::Day,
            "DOY" | "DAYOFYEAR" => Self::DayOfYear,
            "DOW" | "DAYOFWEEK" => Self::DayOfWeek,
            "ISODOW" => Self::IsoDayOfWeek,
            "HOUR" => Self::Hour,
            "MINUTE" => Self::Minute,
            "SECOND" => Self::Second,
            "MILLISECOND" => Self::Millisecond,
            "MICROSECOND" | "FRAC_SECOND" => Self::Microsecond,
            "NANOSECOND" => Self::Nanosecond,
            "EPOCH" => Self::Epoch,
            _ => return wrong(format!("`{text}` is no unit of time")),
        })
    }

    fn of(self, time: NaiveDateTime) -> i64 {
        let week = || time.iso_week();
        match self {
            Self::Millennium => i64::from(time.year() - 1).div_euclid(1_000) + 1,
            Self::Century => i64::from(time.year() - 1).div_euclid(100) + 1,
            Self::Decade => i64::from(time.year()).div_euclid(10),
            Self::Year => i64::from(time.year()),
            Self::IsoYear => i64::from(week().year()),
            Self::Quarter => i64::from(time.month0() / 3 + 1),
            Self::Month => i64::from(time.month()),
            Self::Week => i64::from(week().week()),
            Self::Day => i64::from(time.day()),
            Self::DayOfYear => i64::from(time.ordinal()),
            Self::DayOfWeek => i64::from(time.weekday().number_from_sunday()),
            Self::IsoDayOfWeek => i64::from(time.weekday().number_from_monday()),
            Self::Hour => i64::from(time.hour()),
            Self::Minute => i64::from(time.minute()),
            Self::Second => i64::from(time.second()),
            // Within the minute, as Calcite has it.
            Self::Millisecond => i64::from(time.nanosecond()) / 1_000_000,
            Self::Microsecond => i64::from(time.nanosecond()) / 1_000,
            Self::Nanosecond => i64::from(time.nanosecond()),
            Self::Epoch => time.and_utc().timestamp(),
        }
    }

    /// Nanoseconds of a unit of fixed length.
    fn nanoseconds(self) -> Option<i128> {
        Some(match self {
            Self::Week => 604_800_000_000_000,
            Self::Day | Self::DayOfYear => 86_400_000_000_000,
            Self::Hour => 3_600_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            Self::Microsecond => 1_000,
            Self::Nanosecond => 1,
            _ => return None,
        })
    }

    fn months(self) -> Option<i64> {
        Some(match self {
            Self::Millennium => 12_000,
            Self::Century => 1_200,
            Self::Decade => 120,
            Self::Year | Self::IsoYear => 12,
            Self::Quarter => 3,
            Self::Month => 1,
            _ => return None,
        })
    }
}

fn second_type(types: &[DataType]) -> Result<DataType> {
    types.get(1).cloned().map_or_else(|| wrong("an argument is missing"), Ok)
}

fn check_unit(unit: &str) -> Result<()> {
    Unit::from_text(unit).map(drop)
}

fn check_pattern(pattern: &str) -> Result<()> {
    DatePattern::compile(pattern).map(drop)
}

fn third_type(types: &[DataType]) -> Result<DataType> {
    types.get(2).cloned().map_or_else(|| wrong("an argument is missing"), Ok)
}

/// A time as it is; a text is read, and gives NULL if it is no time.
fn format_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let [time, pattern] = types else { return wrong("DATE_FORMAT takes a time and a pattern") };
    if !is_text(pattern) && !pattern.is_null() {
        return wrong(format!("argument 2 of DATE_FORMAT is {}, not text: DATE_FORMAT(time, text)", sql_name(pattern)));
    }
    let time = match time {
        DataType::Timestamp(..) => time.clone(),
        DataType::Date32 => DataType::Timestamp(TimeUnit::Millisecond, None),
        text if is_text(text) || text.is_null() => DataType::Utf8,
        other => {
            return wrong(format!(
                "argument 1 of DATE_FORMAT is {}, no time: DATE_FORMAT(time, text)",
                sql_name(other)
            ));
        }
    };
    Ok(vec![time, DataType::Utf8])
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn date_format(args: &Args) -> Result<ArrayRef> {
    let patterns = args.text(1)?;
    let (texts, times) = match args.raw(0)?.0.data_type() {
        DataType::Utf8 => (Some(args.text(0)?), None),
        _ => (None, Some(Times::of(args, 0)?)),
    };
    let time = |row| match (&texts, &times) {
        (Some(texts), _) => texts.get(row).and_then(parse_timestamp),
        (None, times) => times.as_ref()?.get(row),
    };
    let mut cache = PatternCache::default();
    build_text(args.rows, |row, out| {
        let (Some(time), Some(pattern)) = (time(row), patterns.get(row)) else { return Ok(None) };
        cache.get(pattern)?.format(time, out);
        Ok(Some(()))
    })
}

/// Reads each text by the pattern of its row, or by the default; text that does not fit is NULL.
fn read_times<T>(args: &Args, standard: &str, mut each: impl FnMut(Option<NaiveDateTime>) -> T) -> Result<Vec<T>> {
    let texts = args.text(0)?;
    let patterns = if args.len() > 1 { Some(args.text(1)?) } else { None };
    let mut cache = PatternCache::default();
    let mut out = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        let pattern = match &patterns {
            None => Some(None),
            Some(patterns) => patterns.get(row).map(Some),
        };
        let time = match (texts.get(row), pattern) {
            (Some(text), Some(Some(pattern))) => cache.get(pattern)?.parse(text),
            (Some(text), Some(None)) if standard == DATE_PATTERN => parse_date(text),
            (Some(text), Some(None)) => parse_timestamp(text),
            _ => None,
        };
        out.push(each(time));
    }
    Ok(out)
}

/// `2013-01-01`, `2013-01-01 10:00`, `2013-01-01T10:00:00.123456`.
pub(super) fn parse_timestamp(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    let (date, clock) = text.split_once([' ', 'T']).map_or((text, None), |(date, clock)| (date, Some(clock)));
    let date = date_of(date)?;
    let Some(clock) = clock else { return date.and_hms_opt(0, 0, 0) };
    let (clock, fraction) = clock.split_once('.').map_or((clock, ""), |(clock, fraction)| (clock, fraction));
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 1, 2)?;
    let minute = digits(parts.next()?, 1, 2)?;
    let second = parts.next().map_or(Some(0), |part| digits(part, 1, 2))?;
    if parts.next().is_some() {
        return None;
    }
    let nanos = if fraction.is_empty() {
        0
    } else {
        digits(fraction, 1, 9)? * 10_u32.pow(9 - u32::try_from(fraction.len()).ok()?)
    };
    date.and_hms_nano_opt(hour, minute, second, nanos)
}

fn parse_date(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    date_of(text.split_once([' ', 'T']).map_or(text, |(date, _)| date))?.and_hms_opt(0, 0, 0)
}

fn date_of(text: &str) -> Option<NaiveDate> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let year = i32::try_from(digits(year, 4, 4)?).ok()?;
    NaiveDate::from_ymd_opt(year, digits(month, 1, 2)?, digits(day, 1, 2)?)
}

/// An unsigned number of so many digits.
fn digits(text: &str, least: usize, most: usize) -> Option<u32> {
    let ok = (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok())?
}

fn to_timestamp(args: &Args) -> Result<ArrayRef> {
    let values = read_times(args, TIMESTAMP_PATTERN, |time| time.map(|time| time.and_utc().timestamp_millis()))?;
    Ok(Arc::new(TimestampMillisecondArray::from(values)))
}

fn to_date(args: &Args) -> Result<ArrayRef> {
    let values = read_times(args, DATE_PATTERN, |time| time.map(|time| Date32Type::from_naive_date(time.date())))?;
    Ok(Arc::new(Date32Array::from(values)))
}

/// `TO_TIMESTAMP_LTZ(number, precision)` or `TO_TIMESTAMP_LTZ(text [, pattern])`.
fn ltz_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let Some(first) = types.first() else { return wrong("TO_TIMESTAMP_LTZ takes a number or a text") };
    let first = if is_text(first) {
        DataType::Utf8
    } else if first.is_floating() || matches!(first, DataType::Decimal128(..)) {
        DataType::Float64
    } else if first.is_integer() || *first == DataType::Null {
        DataType::Int64
    } else {
        return wrong("TO_TIMESTAMP_LTZ takes a number of seconds or milliseconds, or a text");
    };
    let second = if first == DataType::Utf8 { DataType::Utf8 } else { DataType::Int64 };
    Ok(std::iter::once(first).chain(types.get(1).map(|_| second)).collect())
}

/// The years 0000 to 9999, in ms: beyond, Flink gives NULL.
const EPOCH_MS: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

fn to_timestamp_ltz(args: &Args) -> Result<ArrayRef> {
    let (first, _) = args.raw(0)?;
    let values: TimestampMillisecondArray = match first.data_type() {
        DataType::Utf8 => read_times(args, TIMESTAMP_PATTERN, |t| t.map(|t| t.and_utc().timestamp_millis()))?.into(),
        data_type => {
            let is_double = *data_type == DataType::Float64;
            let mut values = Vec::with_capacity(args.rows);
            for row in 0..args.rows {
                let precision = if args.len() > 1 { args.integer(1)?.get(row) } else { Some(3) };
                let factor = match precision {
                    Some(0) => 1_000,
                    Some(3) => 1,
                    None => {
                        values.push(None);
                        continue;
                    }
                    Some(other) => return failed(format!("the precision of TO_TIMESTAMP_LTZ is 0 or 3, not {other}")),
                };
                let moment = if is_double {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_precision_loss,
                        reason = "checked to be in range"
                    )]
                    let ms = args
                        .double(0)?
                        .get(row)
                        .map(|n| (n * factor as f64).round())
                        .filter(|ms| ms.abs() < 9e15)
                        .map(|ms| ms as i64);
                    ms
                } else {
                    args.integer(0)?.get(row).and_then(|n| n.checked_mul(factor))
                };
                values.push(moment.filter(|ms| EPOCH_MS.contains(ms)));
            }
            values.into()
        }
    };
    Ok(Arc::new(values.with_timezone(SESSION_ZONE)))
}

fn from_unixtime(args: &Args) -> Result<ArrayRef> {
    let seconds = args.integer(0)?;
    let patterns = if args.len() > 1 { Some(args.text(1)?) } else { None };
    let mut cache = PatternCache::default();
    build_text(args.rows, |row, out| {
        let pattern = match &patterns {
            None => Some(TIMESTAMP_PATTERN),
            Some(patterns) => patterns.get(row),
        };
        let time = seconds.get(row).and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let (Some(time), Some(pattern)) = (time, pattern) else { return Ok(None) };
        cache.get(pattern)?.format(time.naive_utc(), out);
        Ok(Some(()))
    })
}

fn unix_timestamp(args: &Args) -> Result<ArrayRef> {
    if args.len() == 0 {
        return clock::unix_now(args);
    }
    let values = read_times(args, TIMESTAMP_PATTERN, |time| time.map(|time| time.and_utc().timestamp()))?;
    Ok(Arc::new(Int64Array::from(values)))
}

/// A time of day has no date and no weeks.
fn rounded_type(types: &[DataType], unit: Option<&str>) -> Result<DataType> {
    let given = second_type(types)?;
    let of_day = matches!(given, DataType::Time32(_) | DataType::Time64(_));
    if let Some(unit) = unit.filter(|_| of_day)
        && Unit::from_text(unit)?.nanoseconds().is_none_or(|length| length >= DAY)
    {
        return wrong(format!("a TIME has no {}", unit.to_uppercase()));
    }
    Ok(given)
}

fn part_type(types: &[DataType], unit: Option<&str>) -> Result<DataType> {
    rounded_type(types, unit)?;
    bigint_type(types)
}

fn unit_of(args: &Args) -> Result<Option<Unit>> {
    args.literal_text(0)?.map(Unit::from_text).transpose()
}

/// Whole units from the second argument to the third, towards zero.
fn timestampdiff(args: &Args) -> Result<ArrayRef> {
    let (from, to) = (Times::of(args, 1)?, Times::of(args, 2)?);
    let unit = unit_of(args)?;
    build_numbers::<Int32Type>(args.rows, |row| {
        let (Some(unit), Some(a), Some(b)) = (unit, from.nanoseconds(row), to.nanoseconds(row)) else {
            return Ok(None);
        };
        let count = if let Some(length) = unit.nanoseconds() {
            (b - a) / length
        } else if let (Some(length), Some(a), Some(b)) = (unit.months(), from.get(row), to.get(row)) {
            i128::from(months_between(a, b) / length)
        } else {
            return wrong("TIMESTAMPDIFF does not count this unit");
        };
        match i32::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => failed(format!("TIMESTAMPDIFF gives {count}, which is no INT; use a larger unit")),
        }
    })
}

/// Whole months from `a` to `b`, towards zero.
fn months_between(a: NaiveDateTime, b: NaiveDateTime) -> i64 {
    let index = |t: NaiveDateTime| i64::from(t.year()) * 12 + i64::from(t.month0());
    let rest = |t: NaiveDateTime| (t.day(), t.time());
    let months = index(b) - index(a);
    match months {
        1.. if rest(b) < rest(a) => months - 1,
        ..=-1 if rest(b) > rest(a) => months + 1,
        _ => months,
    }
}

/// A date to which hours are added is a timestamp.
fn sum_type(types: &[DataType], unit: Option<&str>) -> Result<DataType> {
    match (third_type(types)?, unit.map(Unit::from_text).transpose()?) {
        (DataType::Date32, Some(unit)) if unit.nanoseconds().is_some_and(|length| length < DAY) => {
            Ok(DataType::Timestamp(TimeUnit::Millisecond, None))
        }
        (given, _) => Ok(given),
    }
}

fn timestampadd(args: &Args) -> Result<ArrayRef> {
    let (counts, times) = (args.integer(1)?, Times::of(args, 2)?);
    let unit = unit_of(args)?;
    let to = sum_type(&[DataType::Utf8, DataType::Int64, times.data_type().clone()], args.literal_text(0)?)?;
    Times::build(&to, args.rows, |row| {
        let (Some(unit), Some(count), Some(nanos)) = (unit, counts.get(row), times.nanoseconds(row)) else {
            return Ok(None);
        };
        if let Some(length) = unit.nanoseconds() {
            return match length.checked_mul(i128::from(count)).and_then(|add| nanos.checked_add(add)) {
                Some(sum) => Ok(Some(sum)),
                None => failed("the timestamp is out of range"),
            };
        }
        let (Some(length), Some(time)) = (unit.months(), times.get(row)) else {
            return wrong("TIMESTAMPADD does not count this unit");
        };
        let moved = length.checked_mul(count).and_then(|months| add_months(time, months));
        match moved {
            Some(moved) => Ok(Some(nanoseconds_of(moved))),
            None => failed("the timestamp is out of range"),
        }
    })
}

fn add_months(time: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let step = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { time.checked_sub_months(step) } else { time.checked_add_months(step) }
}

fn nanoseconds_of(time: NaiveDateTime) -> i128 {
    let utc = time.and_utc();
    i128::from(utc.timestamp()) * 1_000_000_000 + i128::from(utc.timestamp_subsec_nanos())
}

fn extract_unit(args: &Args) -> Result<ArrayRef> {
    match unit_of(args)? {
        Some(unit) => parts(args, 1, unit),
        None => Ok(Arc::new(Int64Array::new_null(args.rows))),
    }
}

fn parts(args: &Args, index: usize, unit: Unit) -> Result<ArrayRef> {
    let times = Times::of(args, index)?;
    let values = (0..args.rows).map(|row| times.get(row).map(|time| unit.of(time)));
    Ok(Arc::new(values.collect::<PrimitiveArray<Int64Type>>()))
}

/// The start of the unit in which a time lies. Weeks begin on Sunday, as Calcite has it.
fn floor_time(time: NaiveDateTime, unit: Unit) -> Option<NaiveDateTime> {
    let date = time.date();
    let at = |date: NaiveDate| date.and_hms_opt(0, 0, 0);
    let first_of = |year: i32, month: u32| NaiveDate::from_ymd_opt(year, month, 1).and_then(at);
    match unit {
        Unit::Millennium => first_of((date.year() - 1).div_euclid(1_000) * 1_000 + 1, 1),
        Unit::Century => first_of((date.year() - 1).div_euclid(100) * 100 + 1, 1),
        Unit::Decade => first_of(date.year().div_euclid(10) * 10, 1),
        Unit::Year | Unit::IsoYear => first_of(date.year(), 1),
        Unit::Quarter => first_of(date.year(), date.month0() / 3 * 3 + 1),
        Unit::Month => first_of(date.year(), date.month()),
        Unit::Week => at(date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_sunday())))?),
        Unit::Day | Unit::DayOfYear | Unit::DayOfWeek | Unit::IsoDayOfWeek => at(date),
        Unit::Hour => date.and_hms_opt(time.hour(), 0, 0),
        Unit::Minute => date.and_hms_opt(time.hour(), time.minute(), 0),
        Unit::Second | Unit::Epoch => time.with_nanosecond(0),
        Unit::Millisecond => time.with_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000),
        Unit::Microsecond => time.with_nanosecond(time.nanosecond() / 1_000 * 1_000),
        Unit::Nanosecond => Some(time),
    }
}

fn floor_to(args: &Args) -> Result<ArrayRef> {
    let (unit, times) = (unit_of(args)?, Times::of(args, 1)?);
    Times::build(times.data_type(), args.rows, |row| {
        let (Some(unit), Some(time)) = (unit, times.get(row)) else { return Ok(None) };
        Ok(floor_time(time, unit).map(nanoseconds_of))
    })
}

fn ceil_to(args: &Args) -> Result<ArrayRef> {
    let (unit, times) = (unit_of(args)?, Times::of(args, 1)?);
    Times::build(times.data_type(), args.rows, |row| {
        let (Some(unit), Some(time)) = (unit, times.get(row)) else { return Ok(None) };
        let Some(floor) = floor_time(time, unit) else { return Ok(None) };
        if floor == time {
            return Ok(Some(nanoseconds_of(time)));
        }
        let next = match (unit.months(), unit.nanoseconds()) {
            (Some(months), _) => add_months(floor, months).map(nanoseconds_of),
            (None, Some(length)) => Some(nanoseconds_of(floor) + length),
            (None, None) => return wrong("CEIL does not round to this unit"),
        };
        Ok(next)
    })
}

/// `CONVERT_TZ(text, from, to)`: zones of the tz database, `UTC`, or offsets such as `GMT+08:00`.
fn convert_tz(args: &Args) -> Result<ArrayRef> {
    use arrow::array::timezone::Tz;
    use chrono::{MappedLocalTime, TimeDelta, TimeZone};
    let (texts, froms, tos) = (args.text(0)?, args.text(1)?, args.text(2)?);
    let zone = |name: &str| -> Result<Tz> {
        let plain = name.strip_prefix("GMT").or_else(|| name.strip_prefix("UTC")).unwrap_or(name);
        let plain = if plain.is_empty() { "+00:00" } else { plain };
        plain.parse().or_else(|_| name.parse()).or_else(|_| failed(format!("no time zone `{name}`")))
    };
    let mut known: Option<((String, Tz), (String, Tz))> = None;
    let standard = DatePattern::compile(TIMESTAMP_PATTERN)?;
    build_text(args.rows, |row, out| {
        let (Some(text), Some(from), Some(to)) = (texts.get(row), froms.get(row), tos.get(row)) else {
            return Ok(None);
        };
        let (from, to) = match &known {
            Some(((f, from_zone), (t, to_zone))) if f == from && t == to => (*from_zone, *to_zone),
            _ => {
                let (from_zone, to_zone) = (zone(from)?, zone(to)?);
                known = Some(((from.to_owned(), from_zone), (to.to_owned(), to_zone)));
                (from_zone, to_zone)
            }
        };
        let moved = parse_timestamp(text)
            .and_then(|time| match from.from_local_datetime(&time) {
                MappedLocalTime::Single(found) => Some(found),
                // A clock that is put back shows it twice: the second time is standard time.
                MappedLocalTime::Ambiguous(_, second) => Some(second),
                // A clock that is put forward never shows it: as if it had not been.
                MappedLocalTime::None => {
                    let before = from.from_local_datetime(&time.checked_sub_signed(TimeDelta::hours(3))?).latest()?;
                    before.checked_add_signed(TimeDelta::hours(3))
                }
            })
            .map(|time| time.with_timezone(&to).naive_local());
        Ok(moved.map(|time| standard.format(time, out)))
    })
}
