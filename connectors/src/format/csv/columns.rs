//! Fields of a batch into arrays, one column at a time.
//!
//! A field that cannot be decoded is NULL in the array and named in `failures`; the caller decides
//! what becomes of its record.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, LargeStringBuilder, ListArray, PrimitiveArray, StringBuilder,
    StringViewBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::kernels::cast_utils::{self, Parser};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use qanat_proto::error::{Code, Error, Result};

use super::super::decimal::parse_decimal;
use super::super::reader::type_name;
use super::super::time::{parse_date, parse_time, parse_timestamp};
use super::tokens::Tokenizer;

/// Characters of a bad field that its reason quotes.
const QUOTED_CHARACTERS: usize = 64;

/// Texts to parse, by index.
pub(super) trait Texts {
    fn len(&self) -> usize;
    /// Text and whether it stood in quotes.
    fn get(&self, index: usize) -> (&str, bool);
    fn null_literal(&self) -> Option<&str>;
}

/// One column of the records in a tokenizer.
pub(super) struct Cells<'a> {
    tokenizer: &'a Tokenizer,
    text: &'a str,
    slot: usize,
    null_literal: Option<&'a str>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, text: &'a str, slot: usize, null_literal: Option<&'a str>) -> Self {
        Self { tokenizer, text, slot, null_literal }
    }
}

impl Texts for Cells<'_> {
    fn len(&self) -> usize {
        self.tokenizer.records()
    }

    #[inline]
    fn get(&self, index: usize) -> (&str, bool) {
        self.tokenizer.cell(self.text, index, self.slot)
    }

    fn null_literal(&self) -> Option<&str> {
        self.null_literal
    }
}

/// Elements of arrays.
struct Elements<'a> {
    texts: Vec<&'a str>,
    null_literal: Option<&'a str>,
}

impl Texts for Elements<'_> {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn get(&self, index: usize) -> (&str, bool) {
        (self.texts.get(index).copied().unwrap_or_default(), false)
    }

    fn null_literal(&self) -> Option<&str> {
        self.null_literal
    }
}

/// Whether CSV can carry a column of this type.
pub fn can_decode(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(element) => !matches!(element.data_type(), DataType::List(_)) && can_decode(element.data_type()),
        DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond)
        | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => true,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(_, _) => true,
        _ => false,
    }
}

/// Whether columns of this type hold text.
pub fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether `text` alone decodes to a value of `data_type`.
pub(super) fn is_value(text: &str, data_type: &DataType, array_delimiter: u8) -> bool {
    let mut failures = Vec::new();
    let texts = Elements { texts: vec![text], null_literal: None };
    parse(&texts, data_type, array_delimiter, &mut failures).is_ok() && failures.is_empty()
}

/// A column of text, by the builder of its layout.
macro_rules! strings {
    ($builder:expr, $texts:expr) => {{
        let mut builder = $builder;
        let null_literal = $texts.null_literal();
        for row in 0..$texts.len() {
            let (text, is_quoted) = $texts.get(row);
            if is_null(text, is_quoted, null_literal) {
                builder.append_null();
            } else {
                builder.append_value(text);
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

/// One value as an array of length 1; NULL for None. None: it is not a value of the type.
pub fn parse_one(text: Option<&str>, data_type: &DataType) -> Option<ArrayRef> {
    let Some(text) = text else { return Some(arrow::array::new_null_array(data_type, 1)) };
    let mut failures = Vec::new();
    let array = parse(&Elements { texts: vec![text], null_literal: None }, data_type, b';', &mut failures).ok()?;
    failures.is_empty().then_some(array)
}

/// Parses all texts as `data_type`.
///
/// # Errors
/// Only for a type that [`can_decode`] refuses.
pub(super) fn parse(
    texts: &impl Texts,
    data_type: &DataType,
    array_delimiter: u8,
    failures: &mut Vec<(usize, String)>,
) -> Result<ArrayRef> {
    use DataType as T;
    macro_rules! numbers {
        ($type:ty, $parse:expr) => {
            Arc::new(primitive::<$type>(texts, data_type, failures, $parse)) as ArrayRef
        };
    }
    macro_rules! timestamps {
        ($type:ty, $unit:expr) => {
            numbers!($type, |text| parse_timestamp(text.as_bytes(), $unit))
        };
    }
    Ok(match data_type {
        T::Int8 => numbers!(Int8Type, |t| i8::try_from(parse_integer(t)?).ok()),
        T::Int16 => numbers!(Int16Type, |t| i16::try_from(parse_integer(t)?).ok()),
        T::Int32 => numbers!(Int32Type, |t| i32::try_from(parse_integer(t)?).ok()),
        T::Int64 => numbers!(Int64Type, parse_integer),
        T::UInt8 => numbers!(UInt8Type, |t| u8::try_from(parse_integer(t)?).ok()),
        T::UInt16 => numbers!(UInt16Type, |t| u16::try_from(parse_integer(t)?).ok()),
        T::UInt32 => numbers!(UInt32Type, |t| u32::try_from(parse_integer(t)?).ok()),
        T::UInt64 => numbers!(UInt64Type, |t| t.parse().ok()),
        T::Float32 => numbers!(Float32Type, <Float32Type as Parser>::parse),
        T::Float64 => numbers!(Float64Type, <Float64Type as Parser>::parse),
        T::Date32 => numbers!(Date32Type, |t| parse_date(t.as_bytes())),
        T::Time32(TimeUnit::Second) => {
            numbers!(Time32SecondType, |t| i32::try_from(parse_time(t.as_bytes())? / 1_000_000_000).ok())
        }
        T::Time32(TimeUnit::Millisecond) => {
            numbers!(Time32MillisecondType, |t| i32::try_from(parse_time(t.as_bytes())? / 1_000_000).ok())
        }
        T::Time64(TimeUnit::Microsecond) => {
            numbers!(Time64MicrosecondType, |t| parse_time(t.as_bytes()).map(|n| n / 1_000))
        }
        T::Time64(TimeUnit::Nanosecond) => numbers!(Time64NanosecondType, |t| parse_time(t.as_bytes())),
        T::Timestamp(TimeUnit::Second, _) => timestamps!(TimestampSecondType, TimeUnit::Second),
        T::Timestamp(TimeUnit::Millisecond, _) => timestamps!(TimestampMillisecondType, TimeUnit::Millisecond),
        T::Timestamp(TimeUnit::Microsecond, _) => timestamps!(TimestampMicrosecondType, TimeUnit::Microsecond),
        T::Timestamp(TimeUnit::Nanosecond, _) => timestamps!(TimestampNanosecondType, TimeUnit::Nanosecond),
        T::Decimal128(precision, scale) => {
            numbers!(Decimal128Type, |t| parse_decimal(t, *precision, *scale))
        }
        T::Decimal256(precision, scale) => {
            numbers!(Decimal256Type, |t| cast_utils::parse_decimal::<Decimal256Type>(t, *precision, *scale).ok())
        }
        T::Boolean => booleans(texts, failures),
        T::Binary => binary(texts, failures),
        T::Utf8 => strings!(StringBuilder::with_capacity(texts.len(), texts.len() * 16), texts),
        T::LargeUtf8 => strings!(LargeStringBuilder::with_capacity(texts.len(), texts.len() * 16), texts),
        T::Utf8View => strings!(StringViewBuilder::with_capacity(texts.len()), texts),
        T::List(element) => {
            let mut offsets = Vec::with_capacity(texts.len() + 1);
            offsets.push(0_usize);
            let mut nulls = NullBufferBuilder::new(texts.len());
            let mut elements = Elements { texts: Vec::new(), null_literal: texts.null_literal() };
            let mut owners = Vec::new();
            for row in 0..texts.len() {
                let (text, is_quoted) = texts.get(row);
                let is_null = is_null(text, is_quoted, texts.null_literal()) || (text.is_empty() && !is_quoted);
                nulls.append(!is_null);
                if !is_null && !text.is_empty() {
                    elements.texts.extend(text.split(char::from(array_delimiter)));
                    owners.resize(elements.texts.len(), row);
                }
                offsets.push(elements.texts.len());
            }
            let mut failed = Vec::new();
            let values = parse(&elements, element.data_type(), array_delimiter, &mut failed)?;
            failures.extend(failed.into_iter().map(|(at, reason)| (owners.get(at).copied().unwrap_or(0), reason)));
            let lengths = offsets.windows(2).map(|pair| match pair {
                [from, to] => to - from,
                _ => 0,
            });
            let list =
                ListArray::try_new(Arc::clone(element), OffsetBuffer::from_lengths(lengths), values, nulls.finish());
            Arc::new(list.map_err(|e| Error::internal(format!("could not build a list: {e}")))?)
        }
        other => {
            let message = format!("CSV cannot carry a column of type {}", type_name(other));
            return Err(Error::new(Code::BadRole, message));
        }
    })
}

/// Whether a field is the null literal. In quotes it is text.
#[inline]
fn is_null(text: &str, is_quoted: bool, null_literal: Option<&str>) -> bool {
    !is_quoted && null_literal == Some(text)
}

/// Numbers, dates and times. Blank fields and the null literal, quoted or not, are NULL.
fn primitive<T: ArrowPrimitiveType>(
    texts: &impl Texts,
    data_type: &DataType,
    failures: &mut Vec<(usize, String)>,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    let rows = texts.len();
    let mut values = Vec::with_capacity(rows);
    let mut nulls = NullBufferBuilder::new(rows);
    let null_literal = texts.null_literal();
    for row in 0..rows {
        let (text, _) = texts.get(row);
        let text = trim(text);
        if text.is_empty() || null_literal == Some(text) {
            values.push(T::Native::default());
            nulls.append_null();
        } else if let Some(value) = parse(text) {
            values.push(value);
            nulls.append_non_null();
        } else {
            values.push(T::Native::default());
            nulls.append_null();
            failures.push((row, refusal(text, data_type)));
        }
    }
    PrimitiveArray::<T>::new(values.into(), nulls.finish()).with_data_type(data_type.clone())
}

fn booleans(texts: &impl Texts, failures: &mut Vec<(usize, String)>) -> ArrayRef {
    let mut builder = BooleanBuilder::with_capacity(texts.len());
    for row in 0..texts.len() {
        let (text, _) = texts.get(row);
        let text = trim(text);
        if text.is_empty() || texts.null_literal() == Some(text) {
            builder.append_null();
        } else if text.eq_ignore_ascii_case("true") || text == "1" {
            builder.append_value(true);
        } else if text.eq_ignore_ascii_case("false") || text == "0" {
            builder.append_value(false);
        } else {
            builder.append_null();
            failures.push((row, refusal(text, &DataType::Boolean)));
        }
    }
    Arc::new(builder.finish())
}

/// Base64. Unlike text, a blank field is NULL.
fn binary(texts: &impl Texts, failures: &mut Vec<(usize, String)>) -> ArrayRef {
    let mut builder = BinaryBuilder::with_capacity(texts.len(), texts.len() * 16);
    let mut bytes = Vec::new();
    for row in 0..texts.len() {
        let (text, is_quoted) = texts.get(row);
        bytes.clear();
        if (text.is_empty() && !is_quoted) || texts.null_literal() == Some(text) {
            builder.append_null();
        } else if super::super::textual::decode(trim(text), &mut bytes).is_some() {
            builder.append_value(&bytes);
        } else {
            builder.append_null();
            failures.push((row, format!("{}: BYTES are base64", refusal(text, &DataType::Binary))));
        }
    }
    Arc::new(builder.finish())
}

/// Without ASCII blanks at both ends; most fields have none.
#[inline]
fn trim(text: &str) -> &str {
    match (text.as_bytes().first(), text.as_bytes().last()) {
        (Some(first), Some(last)) if *first > b' ' && *last > b' ' => text,
        _ => text.trim_matches(|c: char| c.is_ascii_whitespace()),
    }
}

#[inline]
fn parse_integer(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return text.parse().ok();
    }
    let mut value = 0_i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if is_negative { -value } else { value })
}

fn refusal(text: &str, data_type: &DataType) -> String {
    let shown: String = text.chars().take(QUOTED_CHARACTERS).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("`{shown}{dots}` is not {}", type_name(data_type))
}
