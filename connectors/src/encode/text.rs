//! The text of single values: for CSV cells, partition folders, `print` and row text of side tables.
//!
//! Timestamps and dates are written by our own code, with exactly the digits of the type's precision
//! ('2013-01-01 10:00:00.000' for TIMESTAMP(3)), because they are in nearly every row; everything else
//! goes through the arrow crate's display. Nothing here allocates per value.

use std::fmt::{self, Write as _};

use ::arrow::array::cast::AsArray;
use ::arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use ::arrow::array::{Array, PrimitiveArray};
use ::arrow::datatypes::{DataType, TimeUnit};
use ::arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::engine::general_purpose::STANDARD;
use qanat_proto::error::{Code, Error, Result};

use crate::format::CALENDAR_DAYS;

/// Writes values of one column as text.
pub struct ColumnText<'a> {
    array: &'a dyn Array,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Texts: may hold any character.
    Utf8(&'a ::arrow::array::StringArray),
    LargeUtf8(&'a ::arrow::array::LargeStringArray),
    Utf8View(&'a ::arrow::array::StringViewArray),
    Integer(Integer<'a>),
    Timestamp {
        values: &'a [i64],
        unit: TimeUnit,
        /// TIMESTAMP_LTZ: ends in `Z`.
        zoned: bool,
    },
    Date(&'a [i32]),
    /// Written as base64.
    Binary(&'a ::arrow::array::BinaryArray),
    Other(ArrayFormatter<'a>),
}

enum Integer<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

const DISPLAY: FormatOptions<'static> = FormatOptions::new().with_display_error(false).with_null("null");

impl<'a> ColumnText<'a> {
    /// # Errors
    /// E0217 for a type that has no text.
    pub fn new(array: &'a dyn Array) -> Result<Self> {
        let kind = match array.data_type() {
            DataType::Utf8 => Kind::Utf8(array.as_string()),
            DataType::LargeUtf8 => Kind::LargeUtf8(array.as_string()),
            DataType::Utf8View => Kind::Utf8View(array.as_string_view()),
            DataType::Binary => Kind::Binary(array.as_binary()),
            DataType::Int8 => Kind::Integer(Integer::I8(values::<Int8Type>(array))),
            DataType::Int16 => Kind::Integer(Integer::I16(values::<Int16Type>(array))),
            DataType::Int32 => Kind::Integer(Integer::I32(values::<Int32Type>(array))),
            DataType::Int64 => Kind::Integer(Integer::I64(values::<Int64Type>(array))),
            DataType::UInt8 => Kind::Integer(Integer::U8(values::<UInt8Type>(array))),
            DataType::UInt16 => Kind::Integer(Integer::U16(values::<UInt16Type>(array))),
            DataType::UInt32 => Kind::Integer(Integer::U32(values::<UInt32Type>(array))),
            DataType::UInt64 => Kind::Integer(Integer::U64(values::<UInt64Type>(array))),
            DataType::Timestamp(unit, zone) => Kind::Timestamp {
                values: match unit {
                    TimeUnit::Second => values::<TimestampSecondType>(array),
                    TimeUnit::Millisecond => values::<TimestampMillisecondType>(array),
                    TimeUnit::Microsecond => values::<TimestampMicrosecondType>(array),
                    TimeUnit::Nanosecond => values::<TimestampNanosecondType>(array),
                },
                unit: *unit,
                zoned: zone.is_some(),
            },
            DataType::Date32 => Kind::Date(values::<Date32Type>(array)),
            _ => Kind::Other(
                ArrayFormatter::try_new(array, &DISPLAY)
                    .map_err(|e| Error::new(Code::Encode, format!("no text for {}: {e}", array.data_type())))?,
            ),
        };
        Ok(Self { array, kind })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    /// Whether the text of a value can be empty.
    pub fn can_be_empty(&self) -> bool {
        matches!(self.kind, Kind::Utf8(_) | Kind::LargeUtf8(_) | Kind::Utf8View(_) | Kind::Binary(_))
    }

    /// The text itself, if the column holds text: the only values that may need quoting.
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match &self.kind {
            Kind::Utf8(array) => Some(array.value(row)),
            Kind::LargeUtf8(array) => Some(array.value(row)),
            Kind::Utf8View(array) => Some(array.value(row)),
            Kind::Integer(_) | Kind::Timestamp { .. } | Kind::Date(_) | Kind::Binary(_) | Kind::Other(_) => None,
        }
    }

    /// Appends the text of a value that is not null.
    ///
    /// # Errors
    /// E0217 for a value outside what can be written (a date beyond the calendar).
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if let Some(text) = self.text(row) {
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        match &self.kind {
            Kind::Integer(integer) => integer.write(row, out),
            Kind::Timestamp { values, unit, zoned } => write_timestamp(values[row], *unit, b' ', *zoned, out)?,
            Kind::Date(values) => write_date(i64::from(values[row]), out)?,
            Kind::Binary(array) => {
                let text = base64::display::Base64Display::new(array.value(row), &STANDARD);
                write!(Utf8Writer(out), "{text}").map_err(|_| Error::internal("base64 is text"))?;
            }
            Kind::Other(formatter) => write!(Utf8Writer(out), "{}", formatter.value(row))
                .map_err(|_| Error::new(Code::Encode, format!("a {} value has no text", self.array.data_type())))?,
            Kind::Utf8(_) | Kind::LargeUtf8(_) | Kind::Utf8View(_) => {}
        }
        Ok(())
    }
}

fn values<T: ArrowPrimitiveType>(array: &dyn Array) -> &[T::Native] {
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.values()
}

impl Integer<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::I8(v) => write_signed(i64::from(v[row]), out),
            Self::I16(v) => write_signed(i64::from(v[row]), out),
            Self::I32(v) => write_signed(i64::from(v[row]), out),
            Self::I64(v) => write_signed(v[row], out),
            Self::U8(v) => write_unsigned(u64::from(v[row]), out),
            Self::U16(v) => write_unsigned(u64::from(v[row]), out),
            Self::U32(v) => write_unsigned(u64::from(v[row]), out),
            Self::U64(v) => write_unsigned(v[row], out),
        }
    }
}

fn write_signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_unsigned(value.unsigned_abs(), out);
}

fn write_unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Digits padded with zeros to `width`.
fn write_padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while value > 0 {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[first.min(digits.len() - width)..]);
}

/// `2013-01-01 10:00:00.000`, with `separator` between date and time and as many digits as the unit has.
pub fn write_timestamp(value: i64, unit: TimeUnit, separator: u8, zoned: bool, out: &mut Vec<u8>) -> Result<()> {
    let (per_second, digits) = match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    };
    let seconds = value.div_euclid(per_second);
    let fraction = value.rem_euclid(per_second).unsigned_abs();
    write_date(seconds.div_euclid(86_400), out)?;
    out.push(separator);
    let second = seconds.rem_euclid(86_400).unsigned_abs();
    write_padded(second / 3_600, 2, out);
    out.push(b':');
    write_padded(second / 60 % 60, 2, out);
    out.push(b':');
    write_padded(second % 60, 2, out);
    if digits > 0 {
        out.push(b'.');
        write_padded(fraction, digits, out);
    }
    if zoned {
        out.push(b'Z');
    }
    Ok(())
}

/// `2013-01-01` from days since 1970. Years outside 0000 to 9999 are refused: readers disagree on them.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) -> Result<()> {
    if !CALENDAR_DAYS.contains(&days) {
        let message = format!("a date {days} days from 1970-01-01 is outside the years 0000 to 9999");
        return Err(Error::new(Code::Encode, message).hint(
            "leave such rows out with WHERE (a window may end in another year than its rows), or write parquet or arrow",
        ));
    }
    let (year, month, day) = civil_from_days(days);
    write_padded(year, 4, out);
    out.push(b'-');
    write_padded(month, 2, out);
    out.push(b'-');
    write_padded(day, 2, out);
    Ok(())
}

/// The Gregorian date of a day count within years 0 to 9999, by 400-year cycles that begin in March, so
/// that the leap day is the last of a year.
fn civil_from_days(days: i64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs())
}

/// Lets `fmt` write into bytes.
struct Utf8Writer<'a>(&'a mut Vec<u8>);

impl fmt::Write for Utf8Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timestamp(value: i64, unit: TimeUnit) -> String {
        let mut out = Vec::new();
        write_timestamp(value, unit, b' ', false, &mut out).expect("within the calendar");
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn timestamps_have_the_digits_of_their_type() {
        assert_eq!(timestamp(1_357_034_400_000, TimeUnit::Millisecond), "2013-01-01 10:00:00.000");
        assert_eq!(timestamp(1_357_034_400, TimeUnit::Second), "2013-01-01 10:00:00");
        assert_eq!(timestamp(-1, TimeUnit::Microsecond), "1969-12-31 23:59:59.999999");
        assert!(write_timestamp(i64::MAX, TimeUnit::Second, b' ', false, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn timestamps_are_chronos(value in -62_167_219_200_000_i64..253_402_300_800_000) {
            let expected = chrono::DateTime::from_timestamp_millis(value).expect("in range");
            prop_assert_eq!(timestamp(value, TimeUnit::Millisecond), expected.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
        }

        #[test]
        fn integers_are_stds(value: i64) {
            let mut out = Vec::new();
            write_signed(value, &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("ASCII"), value.to_string());
        }
    }
}
