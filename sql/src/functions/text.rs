//! Text. Positions count characters from 1, as in SQL.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, MapBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{
    Args, Function, Kind, bigint_type, boolean_type, build_booleans, build_bytes, build_numbers, build_slices,
    build_text, failed, integer_type, text_type, wrong,
};
use super::pattern::RegexCache;
use crate::types::{list_of, map_of};

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Bytes, Integer, Text};
    let list = |_: &[DataType]| Ok(list_of(DataType::Utf8));
    let map = |_: &[DataType]| Ok(map_of(DataType::Utf8, DataType::Utf8));
    vec![
        Function::new("split_index", &[Text, Any, Integer], text_type, split_index).coerce(split_types).build(),
        Function::new("split", &[Text, Text], list, split).build(),
        Function::new("substring", &[Text, Integer, Integer], text_type, substring).required(2).alias("substr").build(),
        Function::new("char_length", &[Text], integer_type, char_length)
            .alias("character_length")
            .alias("length")
            .build(),
        Function::new("locate", &[Text, Text, Integer], integer_type, locate).required(2).alias("position").build(),
        Function::new("instr", &[Text, Text], integer_type, instr).build(),
        Function::new("left", &[Text, Integer], text_type, left).build(),
        Function::new("right", &[Text, Integer], text_type, right).build(),
        Function::new("lpad", &[Text, Integer, Text], text_type, |args| pad(args, true)).required(2).build(),
        Function::new("rpad", &[Text, Integer, Text], text_type, |args| pad(args, false)).required(2).build(),
        Function::new("repeat", &[Text, Integer], text_type, repeat).build(),
        Function::new("overlay", &[Text, Text, Integer, Integer], text_type, overlay).required(3).build(),
        Function::new("concat", &[Text], text_type, concat).variadic().coerce(concat_types).build(),
        Function::new("elt", &[Integer, Text], text_type, elt).variadic().required(2).build(),
        Function::new("str_to_map", &[Text, Text, Text], map, str_to_map).required(1).build(),
        Function::new("is_alpha", &[Text], boolean_type, |args| every(args, char::is_alphabetic)).build(),
        Function::new("is_digit", &[Text], boolean_type, |args| every(args, char::is_numeric)).build(),
        Function::new("is_decimal", &[Text], boolean_type, is_decimal).build(),
        Function::new("ascii", &[Text], integer_type, ascii).build(),
        Function::new("chr", &[Integer], text_type, chr).build(),
        Function::new("translate", &[Text, Text, Text], text_type, translate).build(),
        Function::new("to_base64", &[Bytes], text_type, to_base64).build(),
        Function::new("from_base64", &[Text], text_type, from_base64).build(),
        Function::new("encode", &[Any, Text], encoded_type, encode).coerce(coded_types).build(),
        Function::new("decode", &[Any, Text], encoded_type, decode).coerce(coded_types).build(),
        Function::new("count_char", &[Text, Text], bigint_type, count_char).build(),
    ]
}

/// The delimiter may be the code of a character.
fn split_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let delimiter = match types.get(1) {
        Some(given) if given.is_integer() => DataType::Int64,
        _ => DataType::Utf8,
    };
    Ok(vec![DataType::Utf8, delimiter, DataType::Int64])
}

/// The piece at a 0-based index; NULL if there is none.
fn split_index(args: &Args) -> Result<ArrayRef> {
    let (texts, indexes) = (args.text(0)?, args.integer(2)?);
    let codes = if *args.raw(1)?.0.data_type() == DataType::Int64 { Some(args.integer(1)?) } else { None };
    let delimiters = if codes.is_none() { Some(args.text(1)?) } else { None };
    let mut buffer = [0_u8; 4];
    build_slices(args.rows, |row| {
        let (Some(text), Some(index)) = (texts.get(row), indexes.get(row)) else { return Ok(None) };
        let Ok(index) = usize::try_from(index) else { return Ok(None) };
        let delimiter: &str = match (&codes, &delimiters) {
            (Some(codes), _) => {
                let code = codes.get(row).and_then(|code| u8::try_from(code).ok()).filter(|c| *c > 0).map(char::from);
                let Some(code) = code else { return Ok(None) };
                code.encode_utf8(&mut buffer)
            }
            (None, Some(delimiters)) => match delimiters.get(row) {
                Some(delimiter) => delimiter,
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        if text.is_empty() {
            return Ok(None);
        }
        if delimiter.is_empty() {
            return Ok(text.char_indices().nth(index).and_then(|(at, c)| text.get(at..at + c.len_utf8())));
        }
        Ok(text.split(delimiter).nth(index))
    })
}

fn split(args: &Args) -> Result<ArrayRef> {
    let (texts, delimiters) = (args.text(0)?, args.text(1)?);
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..args.rows {
        let (Some(text), Some(delimiter)) = (texts.get(row), delimiters.get(row)) else {
            lists.append_null();
            continue;
        };
        if delimiter.is_empty() {
            let mut buffer = [0_u8; 4];
            for c in text.chars() {
                lists.values().append_value(c.encode_utf8(&mut buffer));
            }
        } else {
            for piece in text.split(delimiter) {
                lists.values().append_value(piece);
            }
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// Characters of `text` from 0-based `start`, `length` of them or all.
fn slice(text: &str, start: usize, length: Option<usize>) -> &str {
    if text.is_ascii() {
        let start = start.min(text.len());
        let end = length.map_or(text.len(), |length| start.saturating_add(length).min(text.len()));
        return text.get(start..end).unwrap_or_default();
    }
    let from = text.char_indices().nth(start).map_or(text.len(), |(at, _)| at);
    let rest = text.get(from..).unwrap_or_default();
    let end = length.and_then(|length| rest.char_indices().nth(length)).map_or(rest.len(), |(at, _)| at);
    rest.get(..end).unwrap_or_default()
}

fn characters(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// `SUBSTRING(s, start [, length])`: a negative start counts from the end, 0 is 1.
fn substring(args: &Args) -> Result<ArrayRef> {
    let (texts, starts) = (args.text(0)?, args.integer(1)?);
    let lengths = if args.len() > 2 { Some(args.integer(2)?) } else { None };
    build_slices(args.rows, |row| {
        let (Some(text), Some(start)) = (texts.get(row), starts.get(row)) else { return Ok(None) };
        let length = match &lengths {
            None => None,
            Some(lengths) => match lengths.get(row) {
                None => return Ok(None),
                Some(length) => match usize::try_from(length) {
                    Ok(length) => Some(length),
                    Err(_) => return Ok(None),
                },
            },
        };
        let start = match start {
            1.. => usize::try_from(start - 1).unwrap_or(usize::MAX),
            0 => 0,
            _ => {
                let back = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
                match characters(text).checked_sub(back) {
                    Some(start) => start,
                    None => return Ok(Some("")),
                }
            }
        };
        Ok(Some(slice(text, start, length)))
    })
}

fn char_length(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    build_numbers::<Int32Type>(args.rows, |row| {
        Ok(texts.get(row).and_then(|text| i32::try_from(characters(text)).ok()))
    })
}

/// 1-based position of `needle` in `text` from 1-based `start`; 0 if it is not there.
fn position(needle: &str, text: &str, start: i64) -> i32 {
    let Ok(start) = usize::try_from(start - 1) else { return 0 };
    if start > characters(text) {
        return 0;
    }
    let rest = slice(text, start, None);
    rest.find(needle).map_or(0, |at| {
        let before = start + characters(rest.get(..at).unwrap_or_default());
        i32::try_from(before + 1).unwrap_or(i32::MAX)
    })
}

fn locate(args: &Args) -> Result<ArrayRef> {
    let (needles, texts) = (args.text(0)?, args.text(1)?);
    let starts = if args.len() > 2 { Some(args.integer(2)?) } else { None };
    build_numbers::<Int32Type>(args.rows, |row| {
        let start = match &starts {
            None => Some(1),
            Some(starts) => starts.get(row),
        };
        let (Some(needle), Some(text), Some(start)) = (needles.get(row), texts.get(row), start) else {
            return Ok(None);
        };
        Ok(Some(position(needle, text, start)))
    })
}

fn instr(args: &Args) -> Result<ArrayRef> {
    let (texts, needles) = (args.text(0)?, args.text(1)?);
    build_numbers::<Int32Type>(args.rows, |row| {
        let (Some(text), Some(needle)) = (texts.get(row), needles.get(row)) else { return Ok(None) };
        Ok(Some(position(needle, text, 1)))
    })
}

fn left(args: &Args) -> Result<ArrayRef> {
    let (texts, counts) = (args.text(0)?, args.integer(1)?);
    build_slices(args.rows, |row| {
        let (Some(text), Some(count)) = (texts.get(row), counts.get(row)) else { return Ok(None) };
        Ok(Some(slice(text, 0, Some(usize::try_from(count).unwrap_or(0)))))
    })
}

fn right(args: &Args) -> Result<ArrayRef> {
    let (texts, counts) = (args.text(0)?, args.integer(1)?);
    build_slices(args.rows, |row| {
        let (Some(text), Some(count)) = (texts.get(row), counts.get(row)) else { return Ok(None) };
        let count = usize::try_from(count).unwrap_or(0);
        Ok(Some(slice(text, characters(text).saturating_sub(count), None)))
    })
}

/// Longest text that a function may make of a short one.
const MADE_TEXT_MAX: i64 = 1 << 24;

/// Pads or cuts to a length; NULL for a negative length or nothing to pad with.
fn pad(args: &Args, on_left: bool) -> Result<ArrayRef> {
    let (texts, lengths) = (args.text(0)?, args.integer(1)?);
    let pads = if args.len() > 2 { Some(args.text(2)?) } else { None };
    build_text(args.rows, |row, out| {
        let pad = match &pads {
            None => Some(" "),
            Some(pads) => pads.get(row),
        };
        let (Some(text), Some(length), Some(pad)) = (texts.get(row), lengths.get(row), pad) else { return Ok(None) };
        if length > MADE_TEXT_MAX {
            return failed(format!("LPAD and RPAD make at most {MADE_TEXT_MAX} characters"));
        }
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        let missing = length.saturating_sub(characters(text));
        if pad.is_empty() {
            return Ok(None);
        }
        if on_left {
            out.extend(pad.chars().cycle().take(missing));
        }
        out.push_str(slice(text, 0, Some(length)));
        if !on_left {
            out.extend(pad.chars().cycle().take(missing));
        }
        Ok(Some(()))
    })
}

/// An empty text for less than one.
fn repeat(args: &Args) -> Result<ArrayRef> {
    let (texts, counts) = (args.text(0)?, args.integer(1)?);
    build_text(args.rows, |row, out| {
        let (Some(text), Some(count)) = (texts.get(row), counts.get(row)) else { return Ok(None) };
        let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
        if count.saturating_mul(length) > MADE_TEXT_MAX {
            return failed(format!("REPEAT makes at most {MADE_TEXT_MAX} bytes"));
        }
        if !text.is_empty() {
            (0..count).for_each(|_| out.push_str(text));
        }
        Ok(Some(()))
    })
}

/// `OVERLAY(s PLACING new FROM start [FOR length])`; a start outside the text leaves it as it is.
fn overlay(args: &Args) -> Result<ArrayRef> {
    let (texts, news, starts) = (args.text(0)?, args.text(1)?, args.integer(2)?);
    let lengths = if args.len() > 3 { Some(args.integer(3)?) } else { None };
    build_text(args.rows, |row, out| {
        let (Some(text), Some(new), Some(start)) = (texts.get(row), news.get(row), starts.get(row)) else {
            return Ok(None);
        };
        let length = match &lengths {
            None => i64::try_from(characters(new)).unwrap_or(i64::MAX),
            Some(lengths) => match lengths.get(row) {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        let total = characters(text);
        match usize::try_from(start - 1).ok().filter(|start| *start < total) {
            None => out.push_str(text),
            Some(start) => {
                out.push_str(slice(text, 0, Some(start)));
                out.push_str(new);
                let length = usize::try_from(length).unwrap_or(total);
                out.push_str(slice(text, start.saturating_add(length), None));
            }
        }
        Ok(Some(()))
    })
}

/// Numbers and booleans are written as CAST writes them.
fn concat_types(types: &[DataType]) -> Result<Vec<DataType>> {
    Ok(vec![DataType::Utf8; types.len()])
}

/// NULL if any argument is.
fn concat(args: &Args) -> Result<ArrayRef> {
    let columns = (0..args.len()).map(|index| args.text(index)).collect::<Result<Vec<_>>>()?;
    build_text(args.rows, |row, out| {
        for column in &columns {
            match column.get(row) {
                Some(text) => out.push_str(text),
                None => return Ok(None),
            }
        }
        Ok(Some(()))
    })
}

/// Each character of the second text becomes that at its place in the third, or goes.
fn translate(args: &Args) -> Result<ArrayRef> {
    let (texts, from, to) = (args.text(0)?, args.text(1)?, args.text(2)?);
    build_text(args.rows, |row, out| {
        let Some(text) = texts.get(row) else { return Ok(None) };
        let (from, to) = (from.get(row).unwrap_or_default(), to.get(row).unwrap_or_default());
        for character in text.chars() {
            match from.chars().position(|c| c == character) {
                None => out.push(character),
                Some(place) => out.extend(to.chars().nth(place)),
            }
        }
        Ok(Some(()))
    })
}

fn elt(args: &Args) -> Result<ArrayRef> {
    let indexes = args.integer(0)?;
    let columns = (1..args.len()).map(|index| args.text(index)).collect::<Result<Vec<_>>>()?;
    build_slices(args.rows, |row| {
        let index = indexes.get(row).and_then(|index| usize::try_from(index - 1).ok());
        Ok(index.and_then(|index| columns.get(index)).and_then(|column| column.get(row)))
    })
}

/// Pairs are parted by `,`, key and value by `=`, or by the regular expressions that are given.
fn str_to_map(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let pairs = if args.len() > 1 { Some(args.text(1)?) } else { None };
    let values = if args.len() > 2 { Some(args.text(2)?) } else { None };
    let DataType::Map(entries, _) = map_of(DataType::Utf8, DataType::Utf8) else { return wrong("no map") };
    let DataType::Struct(fields) = entries.data_type() else { return wrong("no map") };
    let (Some(key_field), Some(value_field)) = (fields.first(), fields.get(1)) else { return wrong("no map") };
    let names =
        arrow::array::MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Arc::clone(key_field))
        .with_values_field(Arc::clone(value_field));
    let (mut pair_cache, mut between_cache) = (RegexCache::default(), RegexCache::default());
    for row in 0..args.rows {
        let pair = pairs.as_ref().map_or(Some(","), |pairs| pairs.get(row));
        let between = values.as_ref().map_or(Some("="), |values| values.get(row));
        let (Some(text), Some(pair), Some(between)) = (texts.get(row), pair, between) else {
            maps.append(false)?;
            continue;
        };
        if pair.is_empty() || between.is_empty() {
            return failed("STR_TO_MAP takes delimiters that are not empty");
        }
        let (Some(pair), Some(between)) = (pair_cache.get(pair), between_cache.get(between)) else {
            return failed("a delimiter of STR_TO_MAP is no regular expression");
        };
        let mut pieces: Vec<&str> = if text.is_empty() { Vec::new() } else { pair.split(text).collect() };
        // As Java's `split`: nothing at the end is nothing.
        while pieces.last().is_some_and(|piece| piece.is_empty()) {
            pieces.pop();
        }
        let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for piece in pieces {
            let mut parts = between.splitn(piece, 2);
            let (key, value) = (parts.next().unwrap_or_default(), parts.next());
            let place = *places.entry(key).or_insert(entries.len());
            // The last of equal keys counts.
            match entries.get_mut(place) {
                Some(known) => known.1 = value,
                None => entries.push((key, value)),
            }
        }
        for (key, value) in entries {
            maps.keys().append_value(key);
            maps.values().append_option(value);
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

/// Whether the text has characters and all pass; NULL is not.
fn every(args: &Args, test: fn(char) -> bool) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    build_booleans(args.rows, |row| {
        Ok(Some(texts.get(row).is_some_and(|text| !text.is_empty() && text.chars().all(test))))
    })
}

/// Whether the text can be read as a number; NULL cannot.
fn is_decimal(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let is_number = |text: &str| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        (!whole.is_empty() || !fraction.is_empty()) && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    };
    build_booleans(args.rows, |row| Ok(Some(texts.get(row).is_some_and(is_number))))
}

fn ascii(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    build_numbers::<Int32Type>(args.rows, |row| {
        Ok(texts.get(row).map(|text| i32::from(text.bytes().next().unwrap_or(0))))
    })
}

/// The character of a code modulo 256; empty below 0.
fn chr(args: &Args) -> Result<ArrayRef> {
    let codes = args.integer(0)?;
    build_text(args.rows, |row, out| {
        let Some(code) = codes.get(row) else { return Ok(None) };
        if code >= 0 {
            out.extend(u8::try_from(code & 0xff).map(char::from));
        }
        Ok(Some(()))
    })
}

fn to_base64(args: &Args) -> Result<ArrayRef> {
    let values = args.bytes(0)?;
    build_text(args.rows, |row, out| Ok(values.get(row).map(|bytes| STANDARD.encode_string(bytes, out))))
}

/// NULL if the text is not base64, or what it holds is no text.
fn from_base64(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    let mut bytes = Vec::new();
    build_text(args.rows, |row, out| {
        let Some(text) = texts.get(row) else { return Ok(None) };
        bytes.clear();
        let (mut word, mut bits) = (0_u32, 0);
        for byte in text.trim_end_matches('=').bytes() {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return Ok(None),
            };
            word = word << 6 | u32::from(digit);
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((word >> bits & 0xff) as u8);
            }
        }
        Ok(std::str::from_utf8(&bytes).ok().map(|text| out.push_str(text)))
    })
}

/// `ENCODE(text, charset)` gives BYTES and `DECODE(bytes, charset)` a text, as in Flink; with the types the
/// other way round they are Postgres': `encode(bytes, 'hex')`, `decode(text, 'base64')`.
fn coded_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.first() {
        Some(DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => {
            Ok(vec![DataType::Binary, DataType::Utf8])
        }
        Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null) => {
            Ok(vec![DataType::Utf8, DataType::Utf8])
        }
        _ => wrong("ENCODE takes a text and a charset, DECODE takes BYTES and a charset"),
    }
}

fn encoded_type(types: &[DataType]) -> Result<DataType> {
    Ok(if types.first() == Some(&DataType::Binary) { DataType::Utf8 } else { DataType::Binary })
}

fn encode(args: &Args) -> Result<ArrayRef> {
    let codes = args.text(1)?;
    if *args.raw(0)?.0.data_type() == DataType::Binary {
        let values = args.bytes(0)?;
        return build_text(args.rows, |row, out| {
            let (Some(bytes), Some(code)) = (values.get(row), codes.get(row)) else { return Ok(None) };
            match code.to_ascii_lowercase().as_str() {
                "base64" => STANDARD.encode_string(bytes, out),
                "hex" => bytes.iter().for_each(|byte| out.push_str(&format!("{byte:02x}"))),
                _ => return failed(format!("ENCODE of BYTES takes 'hex' or 'base64', not `{code}`")),
            }
            Ok(Some(()))
        });
    }
    let texts = args.text(0)?;
    build_bytes(args.rows, |row| {
        let (Some(text), Some(code)) = (texts.get(row), codes.get(row)) else { return Ok(None) };
        let wide = |pair: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(pair).collect::<Vec<u8>>();
        Ok(Some(match code.to_ascii_uppercase().as_str() {
            "UTF-8" => text.as_bytes().to_vec(),
            "US-ASCII" => text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect(),
            "ISO-8859-1" => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
            "UTF-16BE" => wide(u16::to_be_bytes),
            "UTF-16LE" => wide(u16::to_le_bytes),
            "UTF-16" => [vec![0xfe, 0xff], wide(u16::to_be_bytes)].concat(),
            _ => return failed(unknown_charset(code)),
        }))
    })
}

fn decode(args: &Args) -> Result<ArrayRef> {
    let codes = args.text(1)?;
    if *args.raw(0)?.0.data_type() == DataType::Utf8 {
        let texts = args.text(0)?;
        return build_bytes(args.rows, |row| {
            let (Some(text), Some(code)) = (texts.get(row), codes.get(row)) else { return Ok(None) };
            Ok(match code.to_ascii_lowercase().as_str() {
                "base64" => STANDARD.decode(text).ok(),
                "hex" => super::math::from_hex(text),
                _ => return failed(format!("DECODE of a text takes 'hex' or 'base64', not `{code}`")),
            })
        });
    }
    let values = args.bytes(0)?;
    build_text(args.rows, |row, out| {
        let (Some(bytes), Some(code)) = (values.get(row), codes.get(row)) else { return Ok(None) };
        let wide = |bytes: &[u8], pair: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.chunks_exact(2).filter_map(|c| c.try_into().ok()).map(pair).collect();
            String::from_utf16_lossy(&units)
        };
        match code.to_ascii_uppercase().as_str() {
            "UTF-8" => out.push_str(&String::from_utf8_lossy(bytes)),
            "US-ASCII" => out.extend(bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '\u{fffd}' })),
            "ISO-8859-1" => out.extend(bytes.iter().map(|b| char::from(*b))),
            "UTF-16LE" => out.push_str(&wide(bytes, u16::from_le_bytes)),
            "UTF-16BE" => out.push_str(&wide(bytes, u16::from_be_bytes)),
            "UTF-16" => match bytes {
                [0xff, 0xfe, rest @ ..] => out.push_str(&wide(rest, u16::from_le_bytes)),
                [0xfe, 0xff, rest @ ..] | rest => out.push_str(&wide(rest, u16::from_be_bytes)),
            },
            _ => return failed(unknown_charset(code)),
        }
        Ok(Some(()))
    })
}

fn unknown_charset(code: &str) -> String {
    format!("no charset `{code}`: there are US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE, UTF-16")
}

/// How often a character stands in a text: the benchmark's own function.
fn count_char(args: &Args) -> Result<ArrayRef> {
    let (texts, wanted) = (args.text(0)?, args.text(1)?);
    build_numbers::<Int64Type>(args.rows, |row| {
        let (Some(text), Some(wanted)) = (texts.get(row), wanted.get(row)) else { return Ok(None) };
        let Some(wanted) = wanted.chars().next() else { return Ok(Some(0)) };
        Ok(i64::try_from(text.matches(wanted).count()).ok())
    })
}
