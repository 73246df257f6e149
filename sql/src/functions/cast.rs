//! What a CAST gives where Arrow's own gives something else. [`crate::rules::conversions`] puts these
//! functions in the place of casts and around them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float32Array, Float64Array, ListArray, MapArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Datelike, Timelike};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_text, elements, failed, text_type, wrong};

/// The name of `CAST(… AS STRING)`.
pub(crate) const TEXT: &str = "cast_text";
/// The name of what cuts a time to so many digits of a second, downwards.
pub(crate) const CUT_FRACTION: &str = "cut_fraction";
/// The name of what leaves the fraction of a number's text away.
pub(crate) const WHOLE_PART: &str = "whole_part";
/// The name of what writes out the exponent of a number's text.
pub(crate) const WITHOUT_EXPONENT: &str = "without_exponent";
/// The name of what keeps a text from being a date whose year has a sign or more than four digits.
pub(crate) const FOUR_DIGIT_YEAR: &str = "four_digit_year";
/// Digits of the longest number that is written out: no DECIMAL has more on either side of its point.
const WRITTEN_OUT_MAX: i32 = 80;

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::new(TEXT, &[Kind::Any], text_type, cast_text).build(),
        Function::new(CUT_FRACTION, &[Kind::Any, Kind::Integer], time_type, cut_fraction).build(),
        Function::new(WHOLE_PART, &[Kind::Text], text_type, whole_part).build(),
        Function::new(FOUR_DIGIT_YEAR, &[Kind::Text], text_type, four_digit_year).build(),
        Function::new(WITHOUT_EXPONENT, &[Kind::Text], text_type, without_exponent).build(),
    ]
}

/// Whether Flink's text of a value is another than Arrow's.
pub(crate) fn has_own_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Float32
            | DataType::Float64
            | DataType::Binary
            | DataType::Timestamp(..)
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::List(_)
            | DataType::Struct(_)
            | DataType::Map(..)
    )
}

fn cast_text(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let texts = Texts::new(&array)?;
    build_text(args.rows, |row, out| {
        if array.is_null(row) {
            return Ok(None);
        }
        texts.write(row, out)?;
        Ok(Some(()))
    })
}

/// How the values of an array are written.
enum Texts<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    Single(&'a Float32Array),
    Double(&'a Float64Array),
    Bytes(&'a arrow::array::BinaryArray),
    /// Nanoseconds since 1970, or since midnight, and the digits to write.
    Time(Moment<'a>),
    List(&'a ListArray, Box<Texts<'a>>),
    Row(&'a StructArray, Vec<Texts<'a>>),
    Map(&'a MapArray, Box<(Texts<'a>, Texts<'a>)>),
    Other(ArrayFormatter<'a>),
}

/// A column of times: units of the column per second, and how each is written.
struct Moment<'a> {
    array: &'a dyn Array,
    value: fn(&dyn Array, usize) -> i64,
    /// Digits behind the second.
    digits: u32,
    has_date: bool,
}

impl<'a> Moment<'a> {
    fn new<T: ArrowPrimitiveType>(array: &'a ArrayRef, digits: u32, has_date: bool) -> Self
    where
        T::Native: Into<i64>,
    {
        let value = |array: &dyn Array, row: usize| array.as_primitive::<T>().value(row).into();
        Self { array, value, digits, has_date }
    }

    fn write(&self, row: usize, out: &mut String) -> Result<()> {
        let value = (self.value)(self.array, row);
        let per_second = 10_i64.pow(self.digits);
        let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
        let Some(time) = DateTime::from_timestamp(seconds, 0) else {
            return failed(format!("{value} is no time that has a text"));
        };
        if self.has_date {
            write(out, format_args!("{:04}-{:02}-{:02} ", time.year(), time.month(), time.day()))?;
        }
        write(out, format_args!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second()))?;
        match self.digits {
            0 => Ok(()),
            digits => write(out, format_args!(".{fraction:0width$}", width = digits as usize)),
        }
    }
}

impl<'a> Texts<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Float32 => Self::Single(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>()),
            DataType::Timestamp(unit, _) => Self::Time(match unit {
                TimeUnit::Second => Moment::new::<TimestampSecondType>(array, 0, true),
                TimeUnit::Millisecond => Moment::new::<TimestampMillisecondType>(array, 3, true),
                TimeUnit::Microsecond => Moment::new::<TimestampMicrosecondType>(array, 6, true),
                TimeUnit::Nanosecond => Moment::new::<TimestampNanosecondType>(array, 9, true),
            }),
            DataType::Time32(TimeUnit::Millisecond) => {
                Self::Time(Moment::new::<Time32MillisecondType>(array, 3, false))
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                Self::Time(Moment::new::<Time64MicrosecondType>(array, 6, false))
            }
            DataType::Time64(TimeUnit::Nanosecond) => Self::Time(Moment::new::<Time64NanosecondType>(array, 9, false)),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list, Box::new(Self::new(list.values())?))
            }
            DataType::Struct(_) => {
                let row = array.as_struct();
                Self::Row(row, row.columns().iter().map(Self::new).collect::<Result<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Self::Map(map, Box::new((Self::new(map.keys())?, Self::new(map.values())?)))
            }
            _ => Self::Other(ArrayFormatter::try_new(array.as_ref(), PLAIN)?),
        })
    }

    /// The text of a value that is not NULL.
    fn write(&self, row: usize, out: &mut String) -> Result<()> {
        match self {
            Self::Boolean(array) => out.push_str(if array.value(row) { "TRUE" } else { "FALSE" }),
            Self::Single(array) => {
                let value = array.value(row);
                write_float(f64::from(value), format_args!("{value}"), format_args!("{value:e}"), out)?;
            }
            Self::Double(array) => {
                let value = array.value(row);
                write_float(value, format_args!("{value}"), format_args!("{value:e}"), out)?;
            }
            Self::Bytes(array) => out.push_str(&String::from_utf8_lossy(array.value(row))),
            Self::Time(moment) => moment.write(row, out)?,
            Self::List(list, items) => {
                out.push('[');
                for (position, item) in elements(list.value_offsets(), row).enumerate() {
                    separate(position, out);
                    items.write_or_null(list.values(), item, out)?;
                }
                out.push(']');
            }
            Self::Row(row_of, fields) => {
                out.push('(');
                for (position, (field, column)) in fields.iter().zip(row_of.columns()).enumerate() {
                    separate(position, out);
                    field.write_or_null(column, row, out)?;
                }
                out.push(')');
            }
            Self::Map(map, entries) => {
                let (keys, values) = entries.as_ref();
                out.push('{');
                for (position, entry) in elements(map.value_offsets(), row).enumerate() {
                    separate(position, out);
                    keys.write_or_null(map.keys(), entry, out)?;
                    out.push('=');
                    values.write_or_null(map.values(), entry, out)?;
                }
                out.push('}');
            }
            Self::Other(formatter) => write(out, format_args!("{}", formatter.value(row)))?,
        }
        Ok(())
    }

    fn write_or_null(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        if array.is_null(row) {
            out.push_str("NULL");
            return Ok(());
        }
        self.write(row, out)
    }
}

const PLAIN: &FormatOptions<'static> = &FormatOptions::new();

fn separate(position: usize, out: &mut String) {
    if position > 0 {
        out.push_str(", ");
    }
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) -> Result<()> {
    out.write_fmt(text).map_err(|_| DataFusionError::Internal("a text could not be written".to_owned()))
}

/// The text of `Double.toString`: plain from 0.001 to 10,000,000, with an exponent beyond.
fn write_float(
    value: f64,
    plain: std::fmt::Arguments<'_>,
    exponential: std::fmt::Arguments<'_>,
    out: &mut String,
) -> Result<()> {
    if value.is_nan() {
        out.push_str("NaN");
        return Ok(());
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
        return Ok(());
    }
    let start = out.len();
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        write(out, plain)?;
        if !out.get(start..).unwrap_or_default().contains('.') {
            out.push_str(".0");
        }
        return Ok(());
    }
    let text = exponential.to_string();
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    write(out, format_args!("{digits}{point}E{exponent}"))
}

fn time_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(data_type @ (DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_))) => {
            Ok(data_type.clone())
        }
        _ => wrong("only a time has a fraction of a second"),
    }
}

fn cut_fraction(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let Some(digits) = args.integer(1)?.get(0).and_then(|digits| u32::try_from(digits).ok()) else {
        return wrong("a number of digits is missing");
    };
    macro_rules! cut {
        ($type:ty, $unit_digits:literal) => {{
            let times = array.as_primitive::<$type>();
            let step = 10_i64.pow(u32::saturating_sub($unit_digits, digits));
            cut::<$type>(times, step)
        }};
    }
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            let cut = cut!(TimestampMillisecondType, 3);
            Arc::new(cut.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let cut = cut!(TimestampMicrosecondType, 6);
            Arc::new(cut.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let cut = cut!(TimestampNanosecondType, 9);
            Arc::new(cut.with_timezone_opt(zone.clone()))
        }
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(cut!(Time64MicrosecondType, 6)),
        DataType::Time64(TimeUnit::Nanosecond) => Arc::new(cut!(Time64NanosecondType, 9)),
        DataType::Time32(TimeUnit::Millisecond) => {
            let step = 10_i32.pow(3_u32.saturating_sub(digits));
            Arc::new(
                array
                    .as_primitive::<Time32MillisecondType>()
                    .unary::<_, Time32MillisecondType>(|t| t - t.rem_euclid(step)),
            )
        }
        _ => array,
    })
}

/// Rounds down to a multiple of `step`. The least times keep their fraction: there is nothing below them.
fn cut<T: ArrowPrimitiveType<Native = i64>>(times: &PrimitiveArray<T>, step: i64) -> PrimitiveArray<T> {
    times.unary(|time| time.checked_sub(time.rem_euclid(step)).unwrap_or(time))
}

/// `12` of `12.5`; other texts as they are.
fn whole_part(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let texts = array.as_string::<i32>();
    let has_fraction =
        |text: &str| matches!(text.split_once('.'), Some((_, digits)) if digits.bytes().all(|b| b.is_ascii_digit()));
    if !texts.iter().flatten().any(has_fraction) {
        return Ok(array);
    }
    let whole = |text| match str::split_once(text, '.') {
        Some((whole, _)) if has_fraction(text) && whole.ends_with(|c: char| c.is_ascii_digit()) => whole,
        _ => text,
    };
    Ok(Arc::new(texts.iter().map(|text| text.map(whole)).collect::<StringArray>()))
}

/// A text without blanks around it; one that Arrow reads as a date outside the years 0000 to 9999 in quotes, which
/// is none.
fn four_digit_year(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let texts = array.as_string::<i32>();
    let is_far = |text: &str| text.starts_with(['+', '-']) || text.bytes().take_while(u8::is_ascii_digit).count() > 4;
    if !texts.iter().flatten().any(|text| text.trim() != text || is_far(text)) {
        return Ok(array);
    }
    let plain = |text: &str| match text.trim() {
        far if is_far(far) => format!("'{far}'"),
        text => text.to_owned(),
    };
    Ok(Arc::new(texts.iter().map(|text| text.map(plain)).collect::<StringArray>()))
}

/// `0.0015` of `1.5e-3`; other texts as they are.
fn without_exponent(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let texts = array.as_string::<i32>();
    if !texts.iter().flatten().any(|text| text.contains(['e', 'E'])) {
        return Ok(array);
    }
    let plain = |text| written_out(text).map_or(Cow::Borrowed(text), Cow::Owned);
    Ok(Arc::new(texts.iter().map(|text| text.map(plain)).collect::<StringArray>()))
}

/// None: the text is no number with an exponent, or one that no DECIMAL holds.
fn written_out(text: &str) -> Option<String> {
    let (number, exponent) = text.trim().split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Where the point comes to stand among the digits.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let length = i32::try_from(digits.len()).ok()?;
    if point.abs() > WRITTEN_OUT_MAX || length > WRITTEN_OUT_MAX {
        // Digits that are all zeros are a number however far they are moved.
        return digits.bytes().all(|b| b == b'0').then(|| "0".to_owned());
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if point <= 0 {
        return Some(format!("{sign}0.{}{digits}", zeros(-point)));
    }
    let (whole, fraction) = digits.split_at_checked(usize::try_from(point).ok()?).unwrap_or((&digits, ""));
    Some(format!("{sign}{whole}{}.{fraction}", zeros(point - length)))
}

#[cfg(test)]
mod tests {
    use super::written_out;

    #[test]
    fn exponents_are_written_out() {
        for (text, plain) in [
            ("1e-8", "0.00000001"),
            ("1.5E2", "150."),
            ("-12.345e1", "-123.45"),
            ("+12.345e-1", "1.2345"),
            ("0e999", "0"),
            (" 7e0 ", "7."),
            (".5e1", "5."),
        ] {
            assert_eq!(written_out(text).as_deref(), Some(plain), "{text}");
        }
        for text in ["1", "e5", "1e", "1e1.5", "-e1", "abcde1", "1e100", "1e99999999999"] {
            assert_eq!(written_out(text), None, "{text}");
        }
    }
}
