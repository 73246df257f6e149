//! JSON lines: one object per line, decoded by the arrow crate's tape decoder.
//!
//! The wanted values of each line go into the decoder as they are found, without the names and the other values.
//! Where a batch does not decode, its lines are decoded as they are, and halved until the bad ones stand alone, so
//! that the good ones keep their speed. Who reads: `super::text::TextReader`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::json::reader::Decoder;
use arrow::json::{ReaderBuilder, StructMode};
use memchr::{memchr, memchr2_iter};
use qanat_proto::error::{Error, Result};
use serde::de::IgnoredAny;

use super::json_leaves::{self, Leaves};
use super::json_line::Lines;
use super::json_text;
use super::json_wanted::Wanted;
use super::reader::{BadRecord, DecodeRequest, Policy};
use super::text::{Decoded, RecordDecoder, Scan};
use super::textual;
use crate::options::Options;

/// The options of the format, read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    pub fail_on_missing_field: bool,
}

impl JsonOptions {
    pub fn of(options: &Options<'_>) -> Self {
        Self { fail_on_missing_field: options.boolean("json.fail-on-missing-field") == Some(true) }
    }
}

/// Deeper values are bad records: the arrow crate's messages about a value walk it recursively.
const NESTING_MAX: usize = 1_000;

/// Decodes JSON lines into the projected columns.
pub struct JsonDecoder {
    options: JsonOptions,
    request: DecodeRequest,
    /// What is asked for.
    schema: SchemaRef,
    /// The same without the members of rows that nobody reads.
    kept: SchemaRef,
    /// As the arrow crate decodes it: with texts for BYTES, decimals and times. A number or boolean is a text too,
    /// as in Flink.
    read: SchemaRef,
    /// Some column has values that `json_text` rewrites, or such of them as the arrow crate refuses.
    is_rewritten: bool,
    may_be_refused: bool,
    /// Lines found that are not blank, without their ends.
    lines: Vec<(usize, usize)>,
    /// Those that nest too deep.
    deep: Vec<usize>,
    /// Those that may be no JSON although the arrow crate takes them.
    suspect: Vec<usize>,
    finder: Lines,
    leaves: Leaves,
    wanted: Wanted,
    /// Where the next line begins, and up to where no line end was found.
    bytes: usize,
    searched: usize,
    /// Goes from batch to batch: a new one costs megabytes of fresh memory.
    decoder: Option<Decoder>,
    /// Up to here the lines are in the decoder.
    fed: usize,
    /// The lines are not decoded in one piece.
    is_refused: bool,
}

/// Lines to decode: those that were read, or rewritten.
struct Rewritten<'a> {
    text: Cow<'a, [u8]>,
    at: Cow<'a, [(usize, usize)]>,
}

impl JsonDecoder {
    pub fn new(options: JsonOptions, request: DecodeRequest) -> Self {
        let schema = request.output();
        let kept = Arc::new(Schema::new(json_leaves::without(schema.fields(), &request.unread)));
        let read = Arc::new(Schema::new(kept.fields().iter().map(textual::as_text).collect::<Vec<_>>()));
        let leaves = Leaves::of(&read);
        Self {
            options,
            request,
            is_rewritten: json_text::applies(kept.fields()),
            may_be_refused: json_text::may_be_refused(kept.fields()),
            schema,
            kept,
            lines: Vec::new(),
            deep: Vec::new(),
            suspect: Vec::new(),
            finder: Lines::new(read.fields()),
            wanted: Wanted::of(leaves.schema.fields()),
            leaves,
            bytes: 0,
            searched: 0,
            decoder: None,
            fed: 0,
            is_refused: options.fail_on_missing_field,
            read,
        }
    }

    /// A decoder for at most so many records.
    fn decoder(&self, schema: &SchemaRef, records: usize, mode: StructMode) -> Result<Decoder, String> {
        ReaderBuilder::new(Arc::clone(schema))
            .with_struct_mode(mode)
            .with_batch_size(records.max(1))
            .with_coerce_primitive(true)
            .with_ignore_type_conflicts(self.request.policy == Policy::Null)
            .build_decoder()
            .map_err(|e| e.to_string())
    }

    /// Decodes what was found since the last call, while it is in the processor's cache.
    fn feed(&mut self, bytes: &[u8]) {
        let found = bytes.get(self.fed..self.bytes).unwrap_or_default();
        if self.is_refused || found.is_empty() {
            return;
        }
        let kept = self.decoder.take();
        let decoder = || self.decoder(&self.leaves.schema, self.request.batch_rows, self.wanted.mode);
        let decoder = kept.map_or_else(decoder, Ok);
        let wanted = std::mem::take(&mut self.wanted.text);
        self.decoder = decoder.ok().and_then(|mut decoder| {
            // The decoder looks at the texts that it is given.
            let is_text = std::str::from_utf8(found).is_ok();
            let is_taken = is_text && decoder.decode(&wanted).is_ok_and(|taken| taken == wanted.len());
            is_taken.then_some(decoder)
        });
        self.wanted.text = wanted;
        self.wanted.text.clear();
        self.fed = self.bytes;
        self.is_refused = self.decoder.is_none();
    }

    /// The batch of all lines, if each is one object.
    fn fed(&mut self) -> Option<RecordBatch> {
        let mut decoder = self.decoder.take()?;
        let batch = if self.is_refused { None } else { decoder.flush().ok()? };
        let batch = batch.filter(|batch| batch.num_rows() == self.lines.len())?;
        let batch = self.leaves.together(&batch).and_then(|batch| self.finished(batch)).ok()?;
        self.decoder = Some(decoder);
        self.fed = 0;
        Some(batch)
    }

    /// The lines of `bytes` as one batch; `records` of them are expected.
    fn decode_lines(&self, bytes: &[u8], records: usize) -> Result<RecordBatch, String> {
        let mut decoder = self.decoder(&self.read, records, StructMode::ObjectOnly)?;
        let taken = decoder.decode(bytes).map_err(|e| reason(&e))?;
        if !bytes.get(taken..).unwrap_or_default().trim_ascii().is_empty() {
            return Err("more than one JSON value on a line".to_owned());
        }
        if decoder.has_partial_record() {
            return Err("the JSON value is not complete".to_owned());
        }
        let batch = decoder.flush().map_err(|e| reason(&e))?;
        match batch {
            Some(batch) if batch.num_rows() == records => self.finished(batch).map_err(|e| reason(&e)),
            _ => Err("not one JSON object per line".to_owned()),
        }
    }

    /// BYTES, decimals and times made of their texts, and NULL of what nobody reads.
    fn finished(&self, batch: RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        if self.read == self.schema {
            return Ok(batch);
        }
        let lenient = self.request.policy == Policy::Null;
        let arrays = batch.columns().iter().zip(self.kept.fields().iter().zip(self.schema.fields()));
        let arrays = arrays.map(|(array, (kept, field))| {
            json_leaves::whole(&textual::from_text(array, kept.data_type(), lenient)?, field.data_type())
        });
        RecordBatch::try_new(Arc::clone(&self.schema), arrays.collect::<Result<_, _>>()?)
    }

    /// Whether a line decodes to something else after `json_text` rewrote it. What does not decode is
    /// rewritten anyway; where type conflicts are NULL, nothing would fail.
    fn may_hide(&self, line: &[u8]) -> bool {
        self.may_be_refused
            && self.request.policy == Policy::Null
            && (memchr2_iter(b'{', b'[', line).nth(1).is_some()
                || self.kept.fields().iter().any(|field| field.data_type() == &DataType::Boolean))
    }

    /// The lines as they are decoded.
    fn rewritten(&self, bytes: &[u8]) -> Option<Rewritten<'static>> {
        if !self.is_rewritten {
            return None;
        }
        let (mut text, mut at) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(self.lines.len()));
        for (start, end) in &self.lines {
            let line = bytes.get(*start..*end).unwrap_or_default();
            let from = text.len();
            match json_text::rewrite(line, self.kept.fields()) {
                Some(line) => text.extend_from_slice(&line),
                None => text.extend_from_slice(line),
            }
            at.push((from, text.len()));
            text.push(b'\n');
        }
        Some(Rewritten { text: Cow::Owned(text), at: Cow::Owned(at) })
    }

    /// Decodes lines `from..to`, in pieces, halving those that do not decode. `bytes` are the lines as they came.
    fn isolate(
        &self,
        (bytes, all): (&[u8], &Rewritten<'_>),
        (from, to): (usize, usize),
        good: &mut Vec<RecordBatch>,
        bad: &mut Vec<BadRecord>,
    ) {
        let Some(lines @ [(start, _), .., (_, end)] | lines @ [(start, end)]) = all.at.get(from..to) else {
            return;
        };
        if lines.len() > PIECE_LINES {
            // They did not decode in one piece: each bad line costs a piece, not all of them.
            for first in (from..to).step_by(PIECE_LINES) {
                self.isolate((bytes, all), (first, to.min(first + PIECE_LINES)), good, bad);
            }
            return;
        }
        let text = all.text.get(*start..*end).unwrap_or_default();
        let is_one = lines.len() == 1;
        let suspect = self.suspect.partition_point(|line| *line < from);
        let is_suspect = self.suspect.get(suspect).is_some_and(|line| *line < to);
        let decoded = if is_one || !is_suspect && lines.iter().all(|(start, end)| is_braced(&all.text, *start, *end)) {
            let decoded = self.decode_lines(text, lines.len());
            decoded.and_then(|batch| if is_suspect { no_json(text).map_or(Ok(batch), Err) } else { Ok(batch) })
        } else {
            Err(String::new())
        };
        match decoded {
            Ok(batch) => good.push(batch),
            Err(reason) if is_one => {
                let (start, end) = self.lines.get(from).copied().unwrap_or_default();
                let text = bytes.get(start..end).unwrap_or_default();
                let reason = match std::str::from_utf8(text) {
                    Err(error) => format!("invalid UTF-8 at byte {} of the record", error.valid_up_to()),
                    Ok(_) => reason,
                };
                bad.push(BadRecord::new(from, reason, text));
            }
            Err(_) => {
                let middle = from + (to - from) / 2;
                self.isolate((bytes, all), (from, middle), good, bad);
                self.isolate((bytes, all), (middle, to), good, bad);
            }
        }
    }

    /// Lines without one of the declared columns (`json.fail-on-missing-field`).
    fn missing(&self, bytes: &[u8]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (record, (start, end)) in self.lines.iter().enumerate() {
            let text = bytes.get(*start..*end).unwrap_or_default();
            // A line that is no object is found by the decoder.
            let Ok(object) = serde_json::from_slice::<HashMap<String, IgnoredAny>>(text) else { continue };
            let missing = self.request.columns.fields().iter().find(|f| !object.contains_key(f.name()));
            if let Some(field) = missing {
                found.push((record, format!("field `{}` is missing", field.name())));
            }
        }
        found
    }

    fn decode_all(&mut self, bytes: &[u8]) -> Result<(Vec<RecordBatch>, Vec<BadRecord>)> {
        if let Some(batch) = self.fed() {
            return Ok((vec![batch], Vec::new()));
        }
        let mut good = Vec::new();
        let mut bad = Vec::new();
        let mut refused = if self.options.fail_on_missing_field { self.missing(bytes) } else { Vec::new() };
        let reason = format!("nested deeper than {NESTING_MAX} levels");
        refused.extend(self.deep.iter().map(|record| (*record, reason.clone())));
        refused.sort_by_key(|(record, _)| *record);
        refused.dedup_by_key(|(record, _)| *record);
        let lines = self.rewritten(bytes);
        let lines = lines.unwrap_or(Rewritten { text: Cow::Borrowed(bytes), at: Cow::Borrowed(&self.lines) });
        let mut from = 0;
        for (record, reason) in refused {
            self.isolate((bytes, &lines), (from, record), &mut good, &mut bad);
            let (start, end) = self.lines.get(record).copied().unwrap_or_default();
            bad.push(BadRecord::new(record, reason, bytes.get(start..end).unwrap_or_default()));
            from = record + 1;
        }
        self.isolate((bytes, &lines), (from, self.lines.len()), &mut good, &mut bad);
        Ok((good, bad))
    }
}

impl RecordDecoder for JsonDecoder {
    fn begin(&mut self, head: &[u8], at_end: bool) -> Result<Option<usize>> {
        if head.len() < 3 && !at_end {
            return Ok(None);
        }
        Ok(Some(if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }))
    }

    fn scan(&mut self, bytes: &[u8], at_end: bool, limit: usize) -> Scan {
        let batch_rows = self.request.batch_rows.max(1);
        let mut is_full = false;
        while self.bytes < bytes.len() {
            if self.lines.len() >= batch_rows || self.bytes > limit {
                is_full = true;
                break;
            }
            let from = self.searched.max(self.bytes);
            let end = memchr(b'\n', bytes.get(from..).unwrap_or_default()).map(|at| from + at);
            let (end, next) = match end {
                Some(end) => (end, end + 1),
                None if at_end => (bytes.len(), bytes.len()),
                None => {
                    self.searched = bytes.len();
                    break;
                }
            };
            let line = bytes.get(self.bytes..end).unwrap_or_default();
            let length = line.trim_ascii_end().len();
            if length > 0 {
                self.is_refused |= self.may_hide(line);
                match self.finder.values(line) {
                    Some(found) if found.has_conflict => self.is_refused = true,
                    Some(found) if !self.is_refused => {
                        self.wanted.push(line, &found.values);
                        self.leaves.push(&found.rows);
                    }
                    Some(_) => {}
                    None => {
                        self.is_refused = true;
                        let kind = if nests_too_deep(line) { &mut self.deep } else { &mut self.suspect };
                        kind.push(self.lines.len());
                    }
                }
                self.lines.push((self.bytes, self.bytes + length));
            }
            self.bytes = next;
            self.searched = next;
        }
        is_full |= self.lines.len() >= batch_rows;
        self.feed(bytes);
        Scan { records: self.lines.len(), bytes: self.bytes, is_full }
    }

    fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded> {
        let (good, bad) = self.decode_all(bytes)?;
        let rows = match good.as_slice() {
            [] => RecordBatch::new_empty(Arc::clone(&self.schema)),
            [one] => one.clone(),
            many if self.schema.fields().is_empty() => {
                let rows = many.iter().map(RecordBatch::num_rows).sum();
                empty_columns(&self.schema, rows)?
            }
            many => concat_batches(&self.schema, many).map_err(|e| internal(&e))?,
        };
        self.reset();
        Ok(Decoded { rows, bad })
    }

    fn reset(&mut self) {
        self.lines.clear();
        self.deep.clear();
        self.suspect.clear();
        self.bytes = 0;
        self.searched = 0;
        if self.fed > 0 {
            self.decoder = None;
        }
        self.fed = 0;
        self.wanted.text.clear();
        self.leaves.clear();
        self.is_refused = self.options.fail_on_missing_field;
    }
}

/// Lines that are decoded together where not all of a batch decode.
const PIECE_LINES: usize = 64;

/// Why a line is no JSON. None: it is.
fn no_json(line: &[u8]) -> Option<String> {
    let error = serde_json::from_slice::<IgnoredAny>(line).err()?;
    Some(format!(
        "no JSON at byte {}: {}",
        error.column(),
        error.to_string().split(" at line").next().unwrap_or_default()
    ))
}

/// Whether a line begins and ends as an object does. Without this, objects that go on in the next line
/// could make up the right number.
fn is_braced(bytes: &[u8], start: usize, end: usize) -> bool {
    let line = bytes.get(start..end).unwrap_or_default();
    line.trim_ascii_start().first() == Some(&b'{') && line.last() == Some(&b'}')
}

/// Whether the arrow crate should not see a JSON text: it would not survive what it says about it.
fn nests_too_deep(text: &[u8]) -> bool {
    // Most lines are shorter, or have fewer brackets in all.
    if text.len() <= NESTING_MAX || memchr2_iter(b'{', b'[', text).nth(NESTING_MAX).is_none() {
        return false;
    }
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

fn empty_columns(schema: &SchemaRef, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), Vec::new(), &options).map_err(|e| internal(&e))
}

/// The arrow crate's message without its wrapping.
fn reason(error: &arrow::error::ArrowError) -> String {
    let text = error.to_string();
    let name =
        text.split_once("non-nullable StructArray child: Field { \"").and_then(|(_, field)| field.split_once('"'));
    if let Some((name, _)) = name {
        return format!("column `{name}` is NULL but declared NOT NULL");
    }
    text.trim_start_matches("Json error: ").trim_start_matches("Parser error: ").to_owned()
}

fn internal(error: &arrow::error::ArrowError) -> Error {
    Error::internal(format!("could not build decoded columns: {error}"))
}

/// Whether JSON can carry a column of this type.
pub fn can_decode(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) => can_decode(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| can_decode(f.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match fields.as_ref() {
                [key, value] => super::csv::is_text(key.data_type()) && can_decode(value.data_type()),
                _ => false,
            },
            _ => false,
        },
        other => !matches!(other, DataType::List(_)) && super::csv::can_decode(other),
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
