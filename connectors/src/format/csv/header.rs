//! Which column of a CSV file is which column of the table.

use memchr::memchr;
use qanat_proto::error::{Code, Error, Place, Result, nearest};

use super::super::reader::{DecodeRequest, stands_twice};
use super::CsvOptions;
use super::columns::{is_text, is_value};

/// Option `csv.header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The first record is a header if it looks like one.
    Auto,
    Yes,
    No,
}

impl Header {
    pub(super) fn of(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "true" => Self::Yes,
            "false" => Self::No,
            _ => Self::Auto,
        }
    }
}

pub(super) struct Mapping {
    /// Bytes before the first data record.
    pub(super) skip: usize,
    /// Fields of a record of the file.
    pub(super) width: usize,
    /// The file column of each projected column.
    pub(super) slots: Vec<usize>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A longer first record is no header: a thousand columns have names of a kilobyte each in it. Until the
/// record is whole all of it is looked at again with every read.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Reads the head of a file. None: `head` does not hold the whole first record yet.
///
/// # Errors
/// E0209 for a header that lacks declared columns, with their nearest names, or names one twice; E0211 for
/// an endless one.
pub(super) fn read(
    head: &[u8],
    at_end: bool,
    options: &CsvOptions,
    request: &DecodeRequest,
) -> Result<Option<Mapping>> {
    if head.len() < BYTE_ORDER_MARK.len() && !at_end {
        return Ok(None);
    }
    let mark = if head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let by_position =
        || Mapping { skip: mark, width: request.columns.fields().len(), slots: request.projection.clone() };
    if options.header == Header::No {
        return Ok(Some(by_position()));
    }
    let first = first_record(head, mark, at_end, options);
    let length = first.as_ref().map_or(head.len(), |first| first.as_ref().map_or(0, |(_, end)| *end));
    if length > HEADER_BYTES_MAX {
        if options.header == Header::Auto {
            return Ok(Some(by_position()));
        }
        let message = format!("the header of `{}` is larger than {HEADER_BYTES_MAX} bytes", request.origin);
        return Err(Error::new(Code::RecordTooLarge, message)
            .at(place(request))
            .hint("if the file has no header, set 'csv.header' = 'false'"));
    }
    let Some(first) = first else { return Ok(None) };
    let Some((names, end)) = first else {
        // Nothing but blank lines.
        return Ok(Some(by_position()));
    };
    let found: Vec<Option<usize>> =
        request.columns.fields().iter().map(|field| position(&names, field.name())).collect();
    let is_header = options.header == Header::Yes || looks_like_header(&names, &found, options, request);
    if !is_header {
        return Ok(Some(by_position()));
    }
    if found.iter().any(Option::is_none) {
        return Err(mismatch(&names, &found, options, request));
    }
    if let Some(twice) = request.columns.fields().iter().find(|field| stands_twice(&names, field.name())) {
        let message = format!("the header of `{}` has column `{}` twice", request.origin, twice.name());
        return Err(Error::new(Code::HeaderMismatch, message)
            .at(place(request))
            .hint("rename one of them in the file"));
    }
    let slots = request.projection.iter().filter_map(|column| found.get(*column).copied().flatten()).collect();
    Ok(Some(Mapping { skip: end, width: names.len(), slots }))
}

/// The place of a column in a header: by exact name, else without regard to case.
fn position(names: &[String], name: &str) -> Option<usize> {
    let exact = names.iter().position(|n| n == name);
    exact.or_else(|| names.iter().position(|n| n.eq_ignore_ascii_case(name)))
}

/// A header names at least half of the declared columns; or else it is no data: none of the fields
/// that should be numbers or times is one.
fn looks_like_header(names: &[String], found: &[Option<usize>], options: &CsvOptions, request: &DecodeRequest) -> bool {
    let hits = found.iter().flatten().count();
    if hits * 2 >= found.len() && hits > 0 {
        return true;
    }
    let is_distinct =
        names.iter().enumerate().all(|(i, name)| !name.is_empty() && !names.iter().take(i).any(|n| n == name));
    let typed: Vec<_> = request.columns.fields().iter().zip(names).filter(|(f, _)| !is_text(f.data_type())).collect();
    let is_no_data = typed.iter().all(|(field, text)| {
        options.null_literal.as_ref() != Some(*text) && !is_value(text, field.data_type(), options.array_delimiter)
    });
    names.len() >= found.len() && is_distinct && !typed.is_empty() && is_no_data
}

fn mismatch(names: &[String], found: &[Option<usize>], options: &CsvOptions, request: &DecodeRequest) -> Error {
    let fields = request.columns.fields();
    let missing: Vec<&str> =
        fields.iter().zip(found).filter(|(_, at)| at.is_none()).map(|(field, _)| field.name().as_str()).collect();
    let listed = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let plural = if missing.len() == 1 { "column" } else { "columns" };
    let message = format!("the header of `{}` lacks {plural} {listed}", request.origin);
    let guesses: Vec<String> = missing
        .iter()
        .filter_map(|name| {
            let near = nearest(name, names.iter().map(String::as_str))?;
            Some(format!("`{near}` instead of `{name}`"))
        })
        .collect();
    let mut hint = if guesses.is_empty() {
        format!("the header has: {}", names.join(", "))
    } else {
        format!("did you mean {}?", guesses.join(", "))
    };
    if options.header == Header::Auto {
        hint.push_str("; if the file has no header, set 'csv.header' = 'false'");
    }
    Error::new(Code::HeaderMismatch, message).at(place(request)).hint(hint)
}

fn place(request: &DecodeRequest) -> Place {
    Place::Origin { origin: request.origin.clone(), offset: Some(1), unit: "line".to_owned() }
}

/// The fields of the first record and where it ends. None: not whole yet. Some(None): there is none.
#[expect(clippy::option_option, reason = "not yet and never are two answers")]
fn first_record(head: &[u8], mark: usize, at_end: bool, options: &CsvOptions) -> Option<Option<(Vec<String>, usize)>> {
    let mut at = mark;
    loop {
        let rest = head.get(at..).unwrap_or_default();
        let line_end = memchr(b'\n', rest);
        let line = rest.get(..line_end.unwrap_or(rest.len())).unwrap_or_default();
        let is_comment = options.comment.is_some() && line.first().copied() == options.comment;
        if !line.trim_ascii().is_empty() && !is_comment {
            break;
        }
        match line_end {
            Some(end) => at += end + 1,
            None if at_end => return Some(None),
            None => return None,
        }
    }
    let mut names = Vec::new();
    let mut name: Vec<u8> = Vec::new();
    let mut is_open = false;
    let mut is_fresh = true;
    let mut bytes = head.iter().enumerate().skip(at).map(|(i, b)| (i, *b)).peekable();
    while let Some((i, byte)) = bytes.next() {
        if is_open {
            if options.escape == Some(byte) && options.escape != options.quote {
                name.extend(bytes.next().map(|(_, b)| b));
            } else if options.quote != Some(byte) || bytes.next_if(|(_, b)| *b == byte).is_some() {
                // Ordinary, or the first of two quotes.
                name.push(byte);
            } else {
                is_open = false;
            }
        } else if is_fresh && options.quote == Some(byte) {
            is_open = true;
            is_fresh = false;
        } else if byte == options.delimiter {
            names.push(text(&mut name));
            is_fresh = true;
        } else if byte == b'\n' {
            names.push(text(&mut name));
            return Some(Some((names, i + 1)));
        } else {
            name.push(byte);
            is_fresh = false;
        }
    }
    if !at_end {
        return None;
    }
    names.push(text(&mut name));
    Some(Some((names, head.len())))
}

fn text(name: &mut Vec<u8>) -> String {
    String::from_utf8_lossy(&std::mem::take(name)).trim().to_owned()
}
