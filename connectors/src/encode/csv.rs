//! CSV. A null is the bare null literal; a text equal to the literal is quoted, so that the two stay
//! different. A text is quoted when it holds the delimiter, a quote or a line end.

use std::io::Write as _;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{DataType, SchemaRef};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::compress::CompressedWriter;
use super::text::ColumnText;
use super::{ANY, Encoder, Target};
use crate::options::Options;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvOptions {
    /// `csv.field-delimiter`, one byte.
    pub delimiter: char,
    /// `csv.quote-character`, one byte; none with `csv.disable-quote-character`.
    pub quote: Option<char>,
    /// `csv.escape-character`: stands before a quote or itself within quotes.
    pub escape: Option<char>,
    /// `csv.null-literal`; empty unless said otherwise.
    pub null_literal: String,
    /// `csv.header`: the first line names the columns.
    pub header: bool,
    /// `csv.allow-comments`: readers pass over lines that begin with `#`.
    #[serde(default)]
    pub has_comments: bool,
    /// `csv.multiline` = `false`: readers take every line end for the end of a record.
    #[serde(default)]
    pub is_line_by_line: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: ',',
            quote: Some('"'),
            escape: None,
            null_literal: String::new(),
            header: true,
            has_comments: false,
            is_line_by_line: false,
        }
    }
}

impl CsvOptions {
    /// # Errors
    /// E0203 for characters that would make the file unreadable.
    pub fn of_table(table: &TableDescriptor) -> Result<Self> {
        let options = Options::check(table, &[crate::format::CSV, ANY])?;
        let character = |key: &str| options.character(key).map(char::from);
        let found = Self {
            delimiter: character("csv.field-delimiter").unwrap_or(','),
            quote: match options.boolean("csv.disable-quote-character") {
                Some(true) => None,
                _ => character("csv.quote-character"),
            },
            escape: character("csv.escape-character"),
            null_literal: options.text("csv.null-literal").unwrap_or_default().to_owned(),
            // `auto` is for reading; a file that is written gets a header unless it is refused.
            header: options.text("csv.header").is_none_or(|text| !text.eq_ignore_ascii_case("false")),
            has_comments: options.boolean("csv.allow-comments") == Some(true),
            is_line_by_line: options.boolean("csv.multiline") == Some(false),
        };
        if found.quote.is_none() && options.is_set("csv.quote-character") {
            return Err(options.bad("csv.quote-character", "quotes are disabled by `csv.disable-quote-character`"));
        }
        let is_line_end = |c: char| matches!(c, '\n' | '\r');
        let clash = Some(found.delimiter) == found.quote || Some(found.delimiter) == found.escape;
        if clash || is_line_end(found.delimiter) {
            return Err(options.bad("csv.field-delimiter", "the delimiter is also the quote, the escape or a line end"));
        }
        if found.quote.into_iter().chain(found.escape).any(is_line_end) {
            return Err(options.bad("csv.quote-character", "a line end cannot be the quote or the escape"));
        }
        let special = |c: char| c == found.delimiter || Some(c) == found.quote || is_line_end(c);
        if found.null_literal.contains(special) {
            return Err(options.bad("csv.null-literal", "the null literal holds a delimiter, a quote or a line end"));
        }
        Ok(found)
    }
}

pub(crate) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_supported(value),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => false,
        DataType::Duration(_) | DataType::Interval(_) => false,
        other => !other.is_nested(),
    }
}

pub(crate) struct CsvEncoder {
    writer: CompressedWriter,
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    null_literal: Vec<u8>,
    /// Bytes that force quotes, by value.
    special: [bool; 256],
    has_comments: bool,
    is_line_by_line: bool,
    /// Rows of the batch at hand; kept between batches.
    buffer: Vec<u8>,
}

impl CsvEncoder {
    pub(crate) fn new(options: &CsvOptions, columns: &SchemaRef, writer: CompressedWriter) -> Result<Self> {
        // Options are checked to be ASCII.
        let byte = |c: char| c as u8;
        let (delimiter, quote, escape) = (byte(options.delimiter), options.quote.map(byte), options.escape.map(byte));
        let mut special = [false; 256];
        for byte in [delimiter, b'\n', b'\r'].into_iter().chain(quote).chain(escape) {
            special[usize::from(byte)] = true;
        }
        let null_literal = options.null_literal.clone().into_bytes();
        let mut encoder = Self {
            writer,
            delimiter,
            quote,
            escape,
            null_literal,
            special,
            has_comments: options.has_comments,
            is_line_by_line: options.is_line_by_line,
            buffer: Vec::new(),
        };
        if options.header {
            for (i, field) in columns.fields().iter().enumerate() {
                if i > 0 {
                    encoder.buffer.push(delimiter);
                }
                encoder.push_text(field.name().as_bytes())?;
            }
            encoder.buffer.push(b'\n');
            encoder.drain()?;
        }
        Ok(encoder)
    }

    /// A text, quoted where it must be. Outer blanks are quoted too, because readers like to trim them.
    fn push_text(&mut self, text: &[u8]) -> Result<()> {
        let bare = !text.is_empty()
            && text != self.null_literal
            && !text.iter().any(|b| self.special[usize::from(*b)])
            && text.first() != Some(&b' ')
            && (text.first() != Some(&b'#') || !self.has_comments)
            && text.last() != Some(&b' ');
        if bare {
            self.buffer.extend_from_slice(text);
            return Ok(());
        }
        if self.is_line_by_line && text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Err(Error::new(Code::Encode, "a text holds a line end, and `csv.multiline` is `false`")
                .hint("leave `csv.multiline` out, or replace the line ends in the query"));
        }
        let Some(quote) = self.quote else {
            return Err(Error::new(Code::Encode, "a text needs quotes, and `csv.disable-quote-character` is set")
                .hint("allow quotes, or use another delimiter or null literal"));
        };
        let escape = self.escape.unwrap_or(quote);
        self.buffer.push(quote);
        for byte in text {
            if *byte == quote || *byte == escape {
                self.buffer.push(escape);
            }
            self.buffer.push(*byte);
        }
        self.buffer.push(quote);
        Ok(())
    }

    /// The null literal. An empty one would leave a line of a single column blank, and readers skip blank
    /// lines: there a pair of quotes stands for it, where no empty value can be meant.
    fn push_null(&mut self, is_lone: bool, can_be_empty: bool) -> Result<()> {
        self.buffer.extend_from_slice(&self.null_literal);
        if !is_lone || !self.null_literal.is_empty() {
            return Ok(());
        }
        match self.quote {
            Some(quote) if !can_be_empty => {
                self.buffer.extend_from_slice(&[quote, quote]);
                Ok(())
            }
            _ => Err(Error::new(Code::Encode, "a NULL in a csv file of one column would be a blank line")
                .hint("set `csv.null-literal`, for example to `NULL`")),
        }
    }

    fn drain(&mut self) -> Result<()> {
        self.writer.write_all(&self.buffer).map_err(|e| Error::io("write csv file", &e))?;
        self.buffer.clear();
        Ok(())
    }
}

/// The error with the column that it is about.
fn in_column(name: &str, error: Error) -> Error {
    let named = Error::new(error.code(), format!("column `{name}` cannot be written: {}", error.message()));
    match error.hint_text() {
        Some(hint) => named.hint(hint),
        None => named,
    }
}

impl Encoder for CsvEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows.columns().iter().map(|c| ColumnText::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let is_lone = columns.len() == 1;
        for row in 0..rows.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    self.buffer.push(self.delimiter);
                }
                let of_column = |error: Error| in_column(rows.schema_ref().field(i).name(), error);
                if column.is_null(row) {
                    self.push_null(is_lone, column.can_be_empty()).map_err(of_column)?;
                } else if let Some(text) = column.text(row) {
                    self.push_text(text.as_bytes()).map_err(of_column)?;
                } else {
                    let start = self.buffer.len();
                    column.write(row, &mut self.buffer)?;
                    // A number collides with delimiter or literal only under odd options; only BYTES can be empty.
                    let cell = &self.buffer[start..];
                    if cell.is_empty()
                        || cell == self.null_literal
                        || cell.iter().any(|b| self.special[usize::from(*b)])
                    {
                        let text = self.buffer.split_off(start);
                        self.push_text(&text).map_err(of_column)?;
                    }
                }
            }
            self.buffer.push(b'\n');
        }
        self.drain()
    }

    fn bytes(&self) -> u64 {
        self.writer.written()
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn Target>> {
        self.writer.finish().map_err(|e| Error::io("write csv file", &e))
    }
}
