//! CSV: delimited text with quotes.
//!
//! [`tokens`] cuts bytes into records and fields in one pass, [`columns`] turns the fields of a batch
//! into arrays column by column, [`header`] maps columns by name or by position. A bad field costs
//! nothing but its own record. Who reads: `super::text::TextReader`.

mod columns;
mod header;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use qanat_proto::error::{Error, Result};

use self::columns::Cells;
pub use self::columns::{can_decode, is_text, parse_one};
pub use self::header::Header;
use self::tokens::Tokenizer;
use super::reader::{BadRecord, DecodeRequest, Policy};
use super::text::{Decoded, RecordDecoder, Scan};
use crate::options::Options;

/// The options of the format, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    pub null_literal: Option<String>,
    pub array_delimiter: u8,
    pub header: Header,
    /// Quoted fields may hold line breaks.
    pub multiline: bool,
}

impl CsvOptions {
    /// # Errors
    /// E0203 where two characters are the same.
    pub fn of(options: &Options<'_>) -> Result<Self> {
        let is = |key: &str| options.boolean(key) == Some(true);
        let read = Self {
            delimiter: options.character("csv.field-delimiter").unwrap_or(b','),
            quote: (!is("csv.disable-quote-character"))
                .then(|| options.character("csv.quote-character").unwrap_or(b'"')),
            escape: options.character("csv.escape-character"),
            comment: is("csv.allow-comments").then_some(b'#'),
            null_literal: options.text("csv.null-literal").map(str::to_owned),
            array_delimiter: options.character("csv.array-element-delimiter").unwrap_or(b';'),
            header: Header::of(options.text("csv.header").unwrap_or("auto")),
            multiline: is("csv.multiline"),
        };
        if is("csv.disable-quote-character") && options.is_set("csv.quote-character") {
            return Err(options.bad("csv.quote-character", "quotes are disabled by `csv.disable-quote-character`"));
        }
        if matches!(read.delimiter, b'\n' | b'\r') {
            return Err(options.bad("csv.field-delimiter", "a line break cannot stand between fields"));
        }
        if read.quote == Some(read.delimiter) {
            return Err(options.bad("csv.quote-character", "the quote and the delimiter are the same character"));
        }
        for (key, character) in [("csv.field-delimiter", Some(read.delimiter)), ("csv.quote-character", read.quote)] {
            if read.comment.is_some() && read.comment == character {
                return Err(options.bad(key, "`csv.allow-comments` takes a line that begins with it for a comment"));
            }
        }
        Ok(read)
    }
}

/// Decodes CSV records into the projected columns.
pub struct CsvDecoder {
    options: CsvOptions,
    request: DecodeRequest,
    schema: SchemaRef,
    tokenizer: Tokenizer,
}

impl CsvDecoder {
    pub fn new(options: CsvOptions, request: DecodeRequest) -> Self {
        let schema = request.output();
        let tokenizer = Tokenizer::new(&options, request.batch_rows);
        Self { options, request, schema, tokenizer }
    }

    /// The batch of all records scanned; failed fields are reported in `failures`.
    fn columns(&mut self, text: &str, failures: &mut Vec<(usize, String)>) -> Result<Vec<ArrayRef>> {
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for (slot, field) in self.schema.fields().iter().enumerate() {
            let cells = Cells::new(&self.tokenizer, text, slot, self.options.null_literal.as_deref());
            let mut failed = Vec::new();
            let array = columns::parse(&cells, field.data_type(), self.options.array_delimiter, &mut failed)?;
            if self.request.policy != Policy::Null {
                let name = field.name();
                failures.extend(failed.iter().map(|(row, reason)| (*row, format!("column `{name}`: {reason}"))));
            }
            if !field.is_nullable() && array.null_count() > 0 {
                let nulls = (0..array.len()).filter(|row| array.is_null(*row));
                failures
                    .extend(nulls.map(|row| (row, format!("column `{}` is NULL but declared NOT NULL", field.name()))));
            }
            arrays.push(array);
        }
        Ok(arrays)
    }
}

impl RecordDecoder for CsvDecoder {
    fn begin(&mut self, head: &[u8], at_end: bool) -> Result<Option<usize>> {
        let Some(mapping) = header::read(head, at_end, &self.options, &self.request)? else { return Ok(None) };
        self.tokenizer.set_layout(mapping.width, &mapping.slots);
        Ok(Some(mapping.skip))
    }

    fn scan(&mut self, bytes: &[u8], at_end: bool, limit: usize) -> Scan {
        self.tokenizer.scan(bytes, at_end, limit)
    }

    fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded> {
        let records = self.tokenizer.records();
        let scanned = bytes.get_mut(..self.tokenizer.bytes()).unwrap_or_default();
        let mut bad: Vec<BadRecord> = Vec::new();
        let mut failures: Vec<(usize, String)> = self.tokenizer.take_failures();
        self.tokenizer.blank_invalid_utf8(scanned, &mut bad);
        let text = std::str::from_utf8(scanned).map_err(|_| Error::internal("invalid UTF-8 was not blanked"))?;
        self.tokenizer.unescape(text);
        let mut arrays = self.columns(text, &mut failures)?;
        if !failures.is_empty() || !bad.is_empty() {
            // The first reason of a record is the one that is told.
            failures.sort_by_key(|(record, _)| *record);
            failures.dedup_by_key(|(record, _)| *record);
            let known: BTreeSet<usize> = bad.iter().map(|b| b.record).collect();
            for (record, reason) in failures {
                if !known.contains(&record) {
                    bad.push(BadRecord::new(record, reason, self.tokenizer.raw(scanned, record)));
                }
            }
            bad.sort_by_key(|b| b.record);
            let mut keep = vec![true; records];
            for record in &bad {
                if let Some(flag) = keep.get_mut(record.record) {
                    *flag = false;
                }
            }
            let keep = BooleanArray::from(keep);
            arrays = arrays.iter().map(|a| filter(a, &keep)).collect::<Result<_, _>>().map_err(arrow_error)?;
        }
        self.tokenizer.reset();
        let options = RecordBatchOptions::new().with_row_count(Some(records - bad.len()));
        let rows =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(arrow_error)?;
        Ok(Decoded { rows, bad })
    }

    fn reset(&mut self) {
        self.tokenizer.reset();
    }
}

fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("could not build decoded columns: {error}"))
}
