//! `PRINTF(format, …)`: Java's `Formatter` in the locale US, as far as SQL's types go.
//!
//! What Java would refuse (an unknown conversion, a missing argument, one of the wrong type, flags that
//! contradict each other) gives NULL, as in Flink; a NULL argument is the text `null`. Dates and hash codes
//! (`%t`, `%h`) and hexadecimal floats (`%a`) are refused like that too.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_text, text_type};

/// Widths and precisions beyond this are refused: the text would be padding alone.
const WIDTH_MAX: usize = 1 << 16;
/// Digits that a number has before its fraction, at most.
const DIGITS_MAX: usize = 400;

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![Function::new("printf", &[Kind::Text, Kind::Any], text_type, printf).required(1).variadic().build()]
}

fn printf(args: &Args) -> Result<ArrayRef> {
    let formats = args.text(0)?;
    let values = (1..args.len()).map(|index| Values::new(args.raw(index)?)).collect::<Result<Vec<_>>>()?;
    build_text(args.rows, |row, out| {
        let Some(format) = formats.get(row) else { return Ok(None) };
        let values: Vec<Value> = values.iter().map(|values| values.get(row)).collect();
        Ok(write(format, &values, out))
    })
}

/// One argument, by its kind.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Boolean(bool),
    /// With the bits of its type: a negative number in hexadecimal is its two's complement.
    Integer(i64, u32),
    Number(Number),
    /// A float that is no number, by its sign.
    NotFinite {
        is_nan: bool,
        is_negative: bool,
    },
    Text(String),
}

/// Digits before and behind the point.
#[derive(Clone, Debug, PartialEq)]
struct Number {
    is_negative: bool,
    /// Without a point; the first may be 0.
    digits: Vec<u8>,
    /// Digits before the point: may be negative, or more than there are.
    point: i32,
    is_float: bool,
    /// As `%s` shows it.
    text: String,
}

struct Values {
    array: ArrayRef,
    texts: ArrayRef,
    is_literal: bool,
}

impl Values {
    fn new((array, is_literal): (&ArrayRef, bool)) -> Result<Self> {
        let texts = cast(array, &DataType::Utf8)?;
        Ok(Self { array: array.clone(), texts, is_literal })
    }

    fn get(&self, row: usize) -> Value {
        let row = if self.is_literal { 0 } else { row };
        if row >= self.array.len() || self.array.is_null(row) || self.texts.is_null(row) {
            return Value::Null;
        }
        let text = self.texts.as_string::<i32>().value(row).to_owned();
        let integer = |bits| {
            let value = cast(&self.array.slice(row, 1), &DataType::Int64).ok()?;
            Some(Value::Integer(value.as_primitive::<Int64Type>().value(0), bits))
        };
        let float = |value: f64, shortest: String| match value.is_finite() {
            true => Value::Number(Number::of(&shortest, true, java_float(value, &shortest))),
            false => Value::NotFinite { is_nan: value.is_nan(), is_negative: value < 0.0 },
        };
        let value = match self.array.data_type() {
            DataType::Boolean => Some(Value::Boolean(self.array.as_boolean().value(row))),
            DataType::Int8 => integer(8),
            DataType::Int16 => integer(16),
            DataType::Int32 => integer(32),
            DataType::Int64 => integer(64),
            DataType::Float32 => {
                let value = self.array.as_primitive::<Float32Type>().value(row);
                Some(float(f64::from(value), format!("{value:e}")))
            }
            DataType::Float64 => {
                let value = self.array.as_primitive::<Float64Type>().value(row);
                Some(float(value, format!("{value:e}")))
            }
            DataType::Decimal128(_, scale) => {
                let value = self.array.as_primitive::<Decimal128Type>().value(row);
                Some(Value::Number(Number::of(&format!("{value}e{}", -i32::from(*scale)), false, text.clone())))
            }
            _ => None,
        };
        value.unwrap_or(Value::Text(text))
    }
}

/// A double as Java's `toString` writes it: `1.0E10` from ten million on and below a thousandth.
fn java_float(value: f64, shortest: &str) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) {
        let number = Number::of(shortest, true, String::new());
        let digits = i32::try_from(number.digits.len()).unwrap_or(0);
        return number.fixed(usize::try_from((digits - number.point).max(1)).unwrap_or(1), false);
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}

impl Number {
    /// Of a text such as `-12.5e-3`.
    fn of(scientific: &str, is_float: bool, text: String) -> Self {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        let is_negative = mantissa.starts_with('-');
        let mantissa = mantissa.trim_start_matches('-');
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.bytes().chain(fraction.bytes()).map(|digit| digit.wrapping_sub(b'0')).collect();
        let point = exponent.parse::<i32>().unwrap_or(0) + i32::try_from(whole.len()).unwrap_or(0);
        Self { is_negative, digits, point, is_float, text }
    }

    /// The digit so many places before the point (0 is the ones).
    fn digit(&self, place: i32) -> u8 {
        usize::try_from(self.point - 1 - place).ok().and_then(|at| self.digits.get(at)).copied().unwrap_or(0)
    }

    /// The exponent of the first digit that is not 0.
    fn exponent(&self) -> i32 {
        match self.digits.iter().position(|digit| *digit != 0) {
            Some(at) => self.point - 1 - i32::try_from(at).unwrap_or(0),
            None => 0,
        }
    }

    /// Rounded half up to so many places behind the point, or before it.
    fn rounded(&self, places: i32) -> Self {
        let highest = self.point.max(1);
        let mut digits: Vec<u8> = (-places..=highest).rev().map(|place| self.digit(place)).collect();
        if self.digit(-places - 1) >= 5 {
            for digit in digits.iter_mut().rev() {
                if *digit < 9 {
                    *digit += 1;
                    break;
                }
                *digit = 0;
            }
        }
        Self { digits, point: highest + 1, ..self.clone() }
    }

    /// Without its sign: `12.50`.
    fn fixed(&self, places: usize, has_groups: bool) -> String {
        let places = i32::try_from(places).unwrap_or(0);
        let rounded = self.rounded(places);
        let whole: String = (0..rounded.point).rev().map(|place| char::from(b'0' + rounded.digit(place))).collect();
        let whole = whole.trim_start_matches('0');
        let mut text = if has_groups { grouped(whole) } else { whole.to_owned() };
        if text.is_empty() {
            text.push('0');
        }
        if places > 0 {
            text.push('.');
            text.extend((1..=places).map(|place| char::from(b'0' + rounded.digit(-place))));
        }
        if self.is_float && self.text.is_empty() && self.is_negative { format!("-{text}") } else { text }
    }

    /// Without its sign: `1.25e+01`.
    fn scientific(&self, precision: usize) -> String {
        let places = i32::try_from(precision).unwrap_or(0);
        // Rounding may carry into a new digit.
        let rounded = self.rounded(places - self.exponent());
        let exponent = rounded.exponent();
        let mut text = char::from(b'0' + rounded.digit(exponent)).to_string();
        if places > 0 {
            text.push('.');
            text.extend((1..=places).map(|place| char::from(b'0' + rounded.digit(exponent - place))));
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{text}e{sign}{:02}", exponent.unsigned_abs())
    }

    fn general(&self, precision: usize, has_groups: bool) -> String {
        let precision = precision.max(1);
        let digits = i32::try_from(precision).unwrap_or(1);
        let rounded = self.rounded(digits - 1 - self.exponent());
        let exponent = rounded.exponent();
        let is_zero = rounded.digits.iter().all(|digit| *digit == 0);
        if is_zero || (-4..digits).contains(&exponent) {
            let exponent = if is_zero { 0 } else { exponent };
            return self.fixed(usize::try_from(digits - 1 - exponent).unwrap_or(0), has_groups);
        }
        self.scientific(precision - 1)
    }
}

/// Thousands apart: `1,234,567`.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `%[argument$][flags][width][.precision]conversion`.
#[derive(Debug, Default)]
struct Specifier {
    argument: Option<usize>,
    is_left: bool,
    has_sign: bool,
    has_space: bool,
    has_zeros: bool,
    has_groups: bool,
    has_parentheses: bool,
    is_alternate: bool,
    is_previous: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Appends the formatted text; None where Java would throw.
fn write(format: &str, values: &[Value], out: &mut String) -> Option<()> {
    let mut rest = format;
    let mut next = 0;
    let mut previous: Option<usize> = None;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at)?);
        let (specifier, conversion, after) = parse(rest.get(at + 1..)?)?;
        rest = after;
        match conversion {
            'n' if specifier.width.is_none() && specifier.precision.is_none() => out.push('\n'),
            '%' if specifier.precision.is_none() => pad(&specifier, "%", out)?,
            'n' | '%' => return None,
            _ => {
                let index = match specifier.argument {
                    Some(index) => index.checked_sub(1)?,
                    None if specifier.is_previous => previous?,
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                previous = Some(index);
                let text = convert(&specifier, conversion, values.get(index)?)?;
                pad(&specifier, &text, out)?;
            }
        }
    }
    out.push_str(rest);
    Some(())
}

fn parse(text: &str) -> Option<(Specifier, char, &str)> {
    let mut specifier = Specifier::default();
    let number = |text: &str| {
        let length = text.bytes().take_while(u8::is_ascii_digit).count();
        let value = text.get(..length).and_then(|digits| digits.parse::<usize>().ok());
        (value, length)
    };
    let mut rest = text;
    if let (Some(index), length) = number(rest)
        && rest.get(length..)?.starts_with('$')
    {
        specifier.argument = Some(index);
        rest = rest.get(length + 1..)?;
    }
    loop {
        let flag = match rest.chars().next()? {
            '-' => &mut specifier.is_left,
            '+' => &mut specifier.has_sign,
            ' ' => &mut specifier.has_space,
            '0' => &mut specifier.has_zeros,
            ',' => &mut specifier.has_groups,
            '(' => &mut specifier.has_parentheses,
            '#' => &mut specifier.is_alternate,
            '<' => &mut specifier.is_previous,
            _ => break,
        };
        // A flag may be given once.
        if std::mem::replace(flag, true) {
            return None;
        }
        rest = rest.get(1..)?;
    }
    if let (Some(width), length) = number(rest) {
        specifier.width = Some(width).filter(|width| *width <= WIDTH_MAX);
        specifier.width?;
        rest = rest.get(length..)?;
    }
    if let Some(behind) = rest.strip_prefix('.') {
        let (precision, length) = number(behind);
        specifier.precision = Some(precision.filter(|precision| *precision <= WIDTH_MAX)?);
        rest = behind.get(length..)?;
    }
    let needs_width = specifier.is_left || specifier.has_zeros;
    let contradicts = (specifier.is_left && specifier.has_zeros) || (specifier.has_sign && specifier.has_space);
    if contradicts || (needs_width && specifier.width.is_none()) {
        return None;
    }
    let conversion = rest.chars().next()?;
    Some((specifier, conversion, rest.get(conversion.len_utf8()..)?))
}

fn pad(specifier: &Specifier, text: &str, out: &mut String) -> Option<()> {
    let missing = specifier.width.unwrap_or(0).saturating_sub(text.chars().count());
    if specifier.is_left {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(text);
    }
    Some(())
}

fn convert(specifier: &Specifier, conversion: char, value: &Value) -> Option<String> {
    let has_number_flags = specifier.has_sign
        || specifier.has_space
        || specifier.has_zeros
        || specifier.has_groups
        || specifier.has_parentheses;
    let cut = |text: String| match specifier.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    };
    let text = match conversion.to_ascii_lowercase() {
        's' | 'b' | 'c' if has_number_flags || specifier.is_alternate => return None,
        's' => cut(match value {
            Value::Null => "null".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value, _) => value.to_string(),
            Value::Number(number) => number.text.clone(),
            Value::NotFinite { is_nan, is_negative } => not_finite(*is_nan, *is_negative),
            Value::Text(text) => text.clone(),
        }),
        'b' => cut(match value {
            Value::Null => "false".to_owned(),
            Value::Boolean(value) => value.to_string(),
            _ => "true".to_owned(),
        }),
        'c' if specifier.precision.is_some() => return None,
        'c' => match value {
            Value::Null => "null".to_owned(),
            Value::Integer(code, 8 | 16 | 32) => char::from_u32(u32::try_from(*code).ok()?)?.to_string(),
            _ => return None,
        },
        'd' | 'o' | 'x' => integer(specifier, conversion, value)?,
        'e' | 'f' | 'g' => number(specifier, conversion, value)?,
        _ => return None,
    };
    // `%D` and `%F` do not exist.
    match conversion {
        'S' | 'B' | 'C' | 'X' | 'E' | 'G' => Some(text.to_uppercase()),
        upper if upper.is_ascii_uppercase() => None,
        _ => Some(text),
    }
}

fn integer(specifier: &Specifier, conversion: char, value: &Value) -> Option<String> {
    if specifier.precision.is_some() {
        return None;
    }
    let (value, bits) = match value {
        Value::Null => return Some("null".to_owned()),
        Value::Integer(value, bits) => (*value, *bits),
        _ => return None,
    };
    if conversion == 'd' {
        if specifier.is_alternate {
            return None;
        }
        let digits = value.unsigned_abs().to_string();
        let digits = if specifier.has_groups { grouped(&digits) } else { digits };
        return Some(signed(specifier, value < 0, &digits));
    }
    if specifier.has_sign || specifier.has_space || specifier.has_groups || specifier.has_parentheses {
        return None;
    }
    let pattern = value.cast_unsigned() & (u64::MAX >> (64 - bits));
    let (prefix, digits) = match conversion {
        'o' => ("0", format!("{pattern:o}")),
        _ => ("0x", format!("{pattern:x}")),
    };
    let prefix = if specifier.is_alternate { prefix } else { "" };
    Some(zeros(specifier, prefix, &digits, ""))
}

fn number(specifier: &Specifier, conversion: char, value: &Value) -> Option<String> {
    let lower = conversion.to_ascii_lowercase();
    if specifier.is_alternate || (lower == 'e' && specifier.has_groups) {
        return None;
    }
    let number = match value {
        Value::Null => return Some("null".to_owned()),
        Value::Number(number) => number,
        Value::NotFinite { is_nan: true, .. } => return Some("NaN".to_owned()),
        Value::NotFinite { is_negative, .. } => {
            let plain = Specifier {
                has_sign: specifier.has_sign,
                has_space: specifier.has_space,
                has_parentheses: specifier.has_parentheses,
                ..Specifier::default()
            };
            return Some(signed(&plain, *is_negative, "Infinity"));
        }
        _ => return None,
    };
    let precision = specifier.precision.unwrap_or(6);
    if number.point > i32::try_from(DIGITS_MAX).unwrap_or(0) {
        return None;
    }
    let digits = match lower {
        'f' => number.fixed(precision, specifier.has_groups),
        'e' => number.scientific(precision),
        _ => number.general(precision, specifier.has_groups),
    };
    Some(signed(specifier, number.is_negative, &digits))
}

/// A number's digits with its sign, and with zeros up to the width if asked for.
fn signed(specifier: &Specifier, is_negative: bool, digits: &str) -> String {
    let (before, behind) = match is_negative {
        true if specifier.has_parentheses => ("(", ")"),
        true => ("-", ""),
        false if specifier.has_sign => ("+", ""),
        false if specifier.has_space => (" ", ""),
        false => ("", ""),
    };
    zeros(specifier, before, digits, behind)
}

fn zeros(specifier: &Specifier, before: &str, digits: &str, behind: &str) -> String {
    let length = before.len() + digits.len() + behind.len();
    let missing = if specifier.has_zeros { specifier.width.unwrap_or(0).saturating_sub(length) } else { 0 };
    format!("{before}{}{digits}{behind}", "0".repeat(missing))
}

fn not_finite(is_nan: bool, is_negative: bool) -> String {
    match (is_nan, is_negative) {
        (true, _) => "NaN",
        (_, true) => "-Infinity",
        (_, false) => "Infinity",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> Value {
        let shortest = format!("{value:e}");
        Value::Number(Number::of(&shortest, true, java_float(value, &shortest)))
    }

    fn decimal(unscaled: i64, scale: i32, text: &str) -> Value {
        Value::Number(Number::of(&format!("{unscaled}e{}", -scale), false, text.to_owned()))
    }

    fn printf(format: &str, values: &[Value]) -> String {
        let mut out = String::new();
        write(format, values, &mut out).map_or_else(|| "NULL".to_owned(), |()| out)
    }

    #[test]
    fn formats_are_javas() {
        let int = |value| Value::Integer(value, 32);
        let text = |text: &str| Value::Text(text.to_owned());
        for (format, value, expected) in [
            ("Hello %s!", text("World"), "Hello World!"),
            ("%10s|", text("ab"), "        ab|"),
            ("%-5s|", text("ab"), "ab   |"),
            ("%.1S", text("éa"), "É"),
            ("%s", Value::Null, "null"),
            ("%d", Value::Null, "null"),
            ("%b", Value::Null, "false"),
            ("%05d", int(-42), "-0042"),
            ("%+d", int(7), "+7"),
            ("%,d", int(1_234_567), "1,234,567"),
            ("%(d", int(-3), "(3)"),
            ("%x", int(-10), "fffffff6"),
            ("%#X", int(255), "0XFF"),
            ("%c", int(97), "a"),
            ("100%%%n", int(1), "100%\n"),
            ("%1$d %1$s", int(5), "5 5"),
            ("%d %<s", int(5), "5 5"),
            ("%.2f", double(1.005), "1.01"),
            ("%.1f", double(0.25), "0.3"),
            ("%.0f", double(9.5), "10"),
            ("%f", double(-0.0), "-0.000000"),
            ("%,.1f", double(12_345.67), "12,345.7"),
            ("%e", double(12.5), "1.250000e+01"),
            ("%.2E", double(0.009_999), "1.00E-02"),
            ("%.3g", double(0.000_123_456), "0.000123"),
            ("%.3g", double(1_234.0), "1.23e+03"),
            ("%s", double(1.0), "1.0"),
            ("%s", double(1e10), "1.0E10"),
            ("%s", double(-0.25), "-0.25"),
            ("%.1f", decimal(-125, 2, "-1.25"), "-1.3"),
            ("%s", decimal(100, 2, "1.00"), "1.00"),
            ("%f", Value::NotFinite { is_nan: true, is_negative: false }, "NaN"),
            ("%+f", Value::NotFinite { is_nan: false, is_negative: false }, "+Infinity"),
            // What Java throws.
            ("%d", text("x"), "NULL"),
            ("%d", double(1.0), "NULL"),
            ("%f", int(1), "NULL"),
            ("%q", int(1), "NULL"),
            ("%", int(1), "NULL"),
            ("%s %s", int(1), "NULL"),
            ("%-d", int(1), "NULL"),
            ("%--5d", int(1), "NULL"),
            ("%.2d", int(1), "NULL"),
        ] {
            assert_eq!(printf(format, std::slice::from_ref(&value)), expected, "{format} of {value:?}");
        }
    }
}
