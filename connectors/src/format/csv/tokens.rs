//! Cuts CSV bytes into records and fields, in one pass, eight bytes at a time.
//!
//! Rules: a record ends at `\n`, an `\r` before it is not data; blank lines are no records. A field
//! that begins with the quote runs to the quote that is not doubled (or escaped); behind that only blanks
//! may stand. A quote inside an unquoted field is an ordinary character. A quote that never closes, or that has
//! text behind it, makes the line in which its record begins bad, and no more than that line: a stray quote
//! does not take the lines up to the next one with it.

use memchr::{memchr, memchr2};
use qanat_proto::limits::RECORD_BYTES_MAX;

use super::super::reader::BadRecord;
use super::super::text::Scan;
use super::CsvOptions;

/// Marks a field that stood in quotes.
const QUOTED: u32 = 1 << 31;
/// Marks a field whose text needs unescaping; after [`Tokenizer::unescape`]: whose text is in scratch.
const ESCAPED: u32 = 1 << 31;
const OFFSET: u32 = !(1 << 31);
/// A file column that nobody asked for.
const UNUSED: u32 = u32::MAX;

/// Byte range of a field, with flags in the highest bits.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    /// And [`QUOTED`].
    start: u32,
    /// And [`ESCAPED`].
    end: u32,
}

/// Byte range of a record without its line end.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

pub(super) struct Tokenizer {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
    multiline: bool,
    batch_rows: usize,
    /// Fields of a record of the file.
    width: usize,
    /// Output column of each file column, or [`UNUSED`].
    slots: Vec<u32>,
    /// Output columns.
    stride: usize,
    /// `stride` fields per record.
    fields: Vec<Field>,
    spans: Vec<Span>,
    /// Records with the wrong shape, in order.
    failures: Vec<(usize, String)>,
    /// Where the next record begins.
    bytes: usize,
    /// Up to here no line end was found in the record that begins at `bytes`.
    searched: usize,
    has_escapes: bool,
    scratch: String,
}

/// How a record ended.
enum Ended {
    /// Behind its line end.
    At(usize),
    Incomplete,
    /// A quote opened and did not close.
    Unclosed,
    /// Text stands behind a quote that closed.
    Broken,
}

impl Tokenizer {
    pub(super) fn new(options: &CsvOptions, batch_rows: usize) -> Self {
        Self {
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            comment: options.comment,
            multiline: options.multiline,
            batch_rows: batch_rows.max(1),
            width: 0,
            slots: Vec::new(),
            stride: 0,
            fields: Vec::new(),
            spans: Vec::new(),
            failures: Vec::new(),
            bytes: 0,
            searched: 0,
            has_escapes: false,
            scratch: String::new(),
        }
    }

    /// `slots[i]`: the file column of output column i.
    pub(super) fn set_layout(&mut self, width: usize, slots: &[usize]) {
        self.width = width;
        self.stride = slots.len();
        self.slots = vec![UNUSED; width];
        for (output, column) in slots.iter().enumerate() {
            if let (Some(slot), Ok(output)) = (self.slots.get_mut(*column), u32::try_from(output)) {
                *slot = output;
            }
        }
    }

    pub(super) fn records(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take_failures(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.failures)
    }

    pub(super) fn reset(&mut self) {
        self.fields.clear();
        self.spans.clear();
        self.failures.clear();
        self.bytes = 0;
        self.searched = 0;
        self.has_escapes = false;
        self.scratch.clear();
    }

    pub(super) fn scan(&mut self, bytes: &[u8], at_end: bool, limit: usize) -> Scan {
        let mut is_full = false;
        while self.bytes < bytes.len() {
            if self.bytes > limit || self.spans.len() >= self.batch_rows {
                is_full = true;
                break;
            }
            match self.record(bytes, at_end) {
                Ended::At(next) => {
                    self.bytes = next;
                    self.searched = next;
                }
                Ended::Incomplete => break,
                Ended::Unclosed => {
                    let is_too_long = bytes.len() - self.bytes > RECORD_BYTES_MAX;
                    if !at_end && self.multiline && !is_too_long {
                        break;
                    }
                    self.bad_line(bytes, "a quoted field is not closed");
                }
                Ended::Broken => {
                    let rest = bytes.get(self.bytes..).unwrap_or_default();
                    if !at_end && memchr(b'\n', rest).is_none() {
                        break;
                    }
                    self.bad_line(bytes, "text stands behind a closing quote");
                }
            }
        }
        is_full |= self.spans.len() >= self.batch_rows;
        Scan { records: self.spans.len(), bytes: self.bytes, is_full }
    }

    /// Takes the first line of a record as a bad record.
    fn bad_line(&mut self, bytes: &[u8], reason: &str) {
        let rest = bytes.get(self.bytes..).unwrap_or_default();
        let (length, next) = match memchr(b'\n', rest) {
            Some(at) => (at, at + 1),
            None => (rest.len(), rest.len()),
        };
        self.failures.push((self.spans.len(), reason.to_owned()));
        let start = self.bytes;
        self.push_span(bytes, start, start + length);
        self.fields.resize(self.spans.len() * self.stride, Field::default());
        self.bytes = start + next;
        self.searched = self.bytes;
    }

    /// Cuts the record that begins at `self.bytes`. Blank lines and comments end without a record.
    fn record(&mut self, bytes: &[u8], at_end: bool) -> Ended {
        let start = self.bytes;
        let first = bytes.get(start).copied();
        if !at_end {
            // A record needs a line end: without a new one, there is nothing to cut again.
            let from = self.searched.max(start);
            let fresh = bytes.get(from..).unwrap_or_default();
            if (from > start || fresh.len() < 4096) && memchr(b'\n', fresh).is_none() {
                self.searched = bytes.len();
                return Ended::Incomplete;
            }
        }
        match first {
            Some(b'\n') => return Ended::At(start + 1),
            Some(b'\r') if bytes.get(start + 1) == Some(&b'\n') => return Ended::At(start + 2),
            Some(b'\r') if at_end && start + 1 == bytes.len() => return Ended::At(start + 1),
            Some(byte) if Some(byte) == self.comment => {
                let rest = bytes.get(start..).unwrap_or_default();
                return match memchr(b'\n', rest) {
                    Some(at) => Ended::At(start + at + 1),
                    None if at_end => Ended::At(bytes.len()),
                    None => Ended::Incomplete,
                };
            }
            _ => {}
        }
        let base = self.fields.len();
        self.fields.resize(base + self.stride, Field::default());
        let ended = self.fields_of(bytes, start, base, at_end);
        if !matches!(ended, Ended::At(_)) {
            self.fields.truncate(base);
        }
        if matches!(ended, Ended::Incomplete) {
            self.searched = bytes.len();
        }
        ended
    }

    fn fields_of(&mut self, bytes: &[u8], start: usize, base: usize, at_end: bool) -> Ended {
        let mut at = start;
        let mut column = 0;
        loop {
            let mut field = Field { start: offset(at), end: 0 };
            let mut is_quoted = false;
            let mut search_from = at;
            if let (Some(quote), Some(byte)) = (self.quote, bytes.get(at))
                && quote == *byte
            {
                let Some((close, escapes)) = self.closing_quote(bytes, at + 1, quote) else {
                    let is_cut =
                        !self.multiline && !at_end && memchr(b'\n', bytes.get(at..).unwrap_or_default()).is_none();
                    return if is_cut { Ended::Incomplete } else { Ended::Unclosed };
                };
                is_quoted = true;
                search_from = close + 1;
                while bytes.get(search_from).is_some_and(|b| matches!(b, b' ' | b'\t') && *b != self.delimiter) {
                    search_from += 1;
                }
                let is_over = match bytes.get(search_from) {
                    None => true,
                    Some(b'\r') => bytes.get(search_from + 1).is_none_or(|b| *b == b'\n'),
                    Some(byte) => *byte == self.delimiter || *byte == b'\n',
                };
                if !is_over {
                    return Ended::Broken;
                }
                if escapes {
                    // Kept with its quotes until `unescape`.
                    field = Field { start: offset(at) | QUOTED, end: offset(close) | ESCAPED };
                    self.has_escapes = true;
                } else {
                    field = Field { start: offset(at + 1) | QUOTED, end: offset(close) };
                }
            }
            let stop = find_either(bytes, search_from, self.delimiter, b'\n');
            let (end, next, is_last) = match stop {
                Some(at) if bytes.get(at) == Some(&self.delimiter) => (at, at + 1, false),
                Some(at) => (without_return(bytes, search_from, at), at + 1, true),
                None if at_end => (without_return(bytes, search_from, bytes.len()), bytes.len(), true),
                None => return Ended::Incomplete,
            };
            if !is_quoted {
                field.end = offset(end);
            }
            if let Some(slot) = self.slots.get(column)
                && *slot != UNUSED
                && let Some(target) = self.fields.get_mut(base + *slot as usize)
            {
                *target = field;
            }
            column += 1;
            if is_last {
                self.push_span(bytes, start, end);
                if column != self.width {
                    let reason = format!("expected {} fields, found {column}", self.width);
                    self.failures.push((self.spans.len() - 1, reason));
                    if let Some(fields) = self.fields.get_mut(base..) {
                        fields.fill(Field::default());
                    }
                }
                return Ended::At(next);
            }
            at = next;
        }
    }

    /// Where the quoted text that begins at `from` closes, and whether anything in it is escaped.
    fn closing_quote(&self, bytes: &[u8], from: usize, quote: u8) -> Option<(usize, bool)> {
        let mut at = from;
        let mut escapes = false;
        let line_end = if self.multiline { None } else { memchr(b'\n', bytes.get(from..)?).map(|n| from + n) };
        let bytes = bytes.get(..line_end.unwrap_or(bytes.len()))?;
        loop {
            let rest = bytes.get(at..)?;
            let found = at
                + match self.escape {
                    Some(escape) if escape != quote => memchr2(quote, escape, rest)?,
                    _ => memchr(quote, rest)?,
                };
            if bytes.get(found) != Some(&quote) || bytes.get(found + 1) == Some(&quote) {
                escapes = true;
                at = found + 2;
                continue;
            }
            return Some((found, escapes));
        }
    }

    fn push_span(&mut self, bytes: &[u8], start: usize, end: usize) {
        let end = without_return(bytes, start, end);
        self.spans.push(Span { start: offset(start), end: offset(end) });
    }

    /// The raw bytes of a record.
    pub(super) fn raw<'a>(&self, bytes: &'a [u8], record: usize) -> &'a [u8] {
        let span = self.spans.get(record).copied().unwrap_or_default();
        bytes.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Makes `bytes` valid UTF-8: records that are not become bad, and their bytes spaces.
    pub(super) fn blank_invalid_utf8(&self, bytes: &mut [u8], bad: &mut Vec<BadRecord>) {
        if std::str::from_utf8(bytes).is_ok() {
            return;
        }
        for record in 0..self.spans.len() {
            let raw = self.raw(bytes, record);
            if let Err(error) = std::str::from_utf8(raw) {
                let reason = format!("invalid UTF-8 at byte {} of the record", error.valid_up_to());
                bad.push(BadRecord::new(record, reason, raw));
            }
        }
        for record in bad.iter() {
            if let Some(span) = self.spans.get(record.record)
                && let Some(raw) = bytes.get_mut(span.start as usize..span.end as usize)
            {
                raw.fill(b' ');
            }
        }
        // What is left stands in comments.
        while let Err(error) = std::str::from_utf8(bytes) {
            let from = error.valid_up_to();
            let length = error.error_len().unwrap_or(bytes.len() - from);
            if let Some(invalid) = bytes.get_mut(from..from + length) {
                invalid.fill(b' ');
            }
        }
    }

    /// Rewrites fields with doubled quotes and escapes; [`Tokenizer::cell`] is right only after it.
    pub(super) fn unescape(&mut self, text: &str) {
        if !self.has_escapes {
            return;
        }
        let Some(quote) = self.quote.map(char::from) else { return };
        let escape = self.escape.map(char::from).filter(|e| *e != quote);
        for field in &mut self.fields {
            if field.end & ESCAPED == 0 {
                continue;
            }
            let range = (field.start & OFFSET) as usize..(field.end & OFFSET) as usize;
            let from = self.scratch.len();
            let mut characters = text.get(range).unwrap_or_default().chars().skip(1).peekable();
            while let Some(character) = characters.next() {
                if character == quote {
                    // Of two: one that is alone closes the field, and is not in it.
                    self.scratch.extend(characters.next_if_eq(&quote));
                } else if Some(character) == escape {
                    self.scratch.extend(characters.next());
                } else {
                    self.scratch.push(character);
                }
            }
            field.start = offset(from) | QUOTED;
            field.end = offset(self.scratch.len()) | ESCAPED;
        }
    }

    /// Text of a field, and whether it stood in quotes.
    #[inline]
    pub(super) fn cell<'a>(&'a self, text: &'a str, record: usize, slot: usize) -> (&'a str, bool) {
        let Some(field) = self.fields.get(record * self.stride + slot) else { return ("", false) };
        let range = (field.start & OFFSET) as usize..(field.end & OFFSET) as usize;
        let source = if field.end & ESCAPED == 0 { text } else { &self.scratch };
        (source.get(range).unwrap_or_default(), field.start & QUOTED != 0)
    }
}

/// Offsets within a batch fit 31 bits: `RECORD_BYTES_MAX` and the batch's own bytes bound them.
#[inline]
fn offset(at: usize) -> u32 {
    at as u32 & OFFSET
}

const _: () = assert!(RECORD_BYTES_MAX < (1 << 30));

/// `end`, without an `\r` just before it.
#[inline]
fn without_return(bytes: &[u8], start: usize, end: usize) -> usize {
    if end > start && bytes.get(end - 1) == Some(&b'\r') { end - 1 } else { end }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The first place from `at` on that holds `a` or `b`.
#[inline]
fn find_either(bytes: &[u8], mut at: usize, a: u8, b: u8) -> Option<usize> {
    let (spread_a, spread_b) = (LOW * u64::from(a), LOW * u64::from(b));
    while let Some(word) = bytes.get(at..at + 8).and_then(|w| <[u8; 8]>::try_from(w).ok()) {
        let word = u64::from_le_bytes(word);
        // A byte of `x` is zero where `word` holds the character; the lowest marked byte is exact.
        let (x, y) = (word ^ spread_a, word ^ spread_b);
        let found = ((x.wrapping_sub(LOW) & !x) | (y.wrapping_sub(LOW) & !y)) & HIGH;
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|c| *c == a || *c == b).map(|n| at + n)
}
