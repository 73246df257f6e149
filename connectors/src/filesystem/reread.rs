//! Reads back what the file sink wrote, by what its commit record says.
//!
//! `audit` recomputes row hashes with this. It shares no code with the sources' decoders: a mistake there
//! cannot hide one here. Nothing read is trusted: a file that cannot be read is E0208.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use qanat_proto::changelog::envelope;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::limits::BATCH_ROWS;
use qanat_storage::env::{Disk, File, OpenMode};

use super::sink::parse_folder;
use crate::encode::csv::CsvOptions;
use crate::encode::{Compression, EncodeSpec, debezium, utc_schema};
use crate::format::textual;

/// Bytes of texts in one batch, about.
const BATCH_BYTES: usize = 64 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// Length and CRC32C of a file.
///
/// # Errors
/// Those of the disk.
pub(crate) fn file_checksum(disk: &dyn Disk, path: &Path) -> io::Result<(u64, u32)> {
    checksum(disk.open(path, OpenMode::Read)?.as_ref())
}

/// Length and CRC32C of an open file.
///
/// # Errors
/// Those of the disk.
pub(crate) fn checksum(file: &dyn File) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; READ_BYTES];
    let (mut offset, mut crc) = (0, 0);
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return Ok((offset, crc));
        }
        crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
        offset += read as u64;
    }
}

/// What one wrote files by, and reads them back by.
#[derive(Clone, Copy, Debug)]
pub struct Written<'w> {
    pub encoding: &'w EncodeSpec,
    /// The columns of the table in order, partition columns included.
    pub columns: &'w Schema,
    pub partitioned_by: &'w [String],
}

/// Reads the rows of one committed file, with all columns of the table in order. `path` is relative to `folder`.
///
/// # Errors
/// E0208 if the bytes are not what the encoding would have written.
pub fn read_rows(
    disk: &dyn Disk,
    folder: &Path,
    written: Written<'_>,
    path: &str,
    each: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let failed = |e| Error::io(format!("read {path}"), &e).at(Place::Named(path.to_owned()));
    read_file(disk.open(&folder.join(path), OpenMode::Read).map_err(failed)?, written, path, each)
}

/// As [`read_rows`], of an open file.
///
/// # Errors
/// E0208 if the bytes are not what the encoding would have written.
pub(crate) fn read_file(
    file: Arc<dyn File>,
    written: Written<'_>,
    path: &str,
    mut each: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let place = || Place::Named(path.to_owned());
    let table = match written.encoding {
        EncodeSpec::Csv { .. } | EncodeSpec::Json { .. } | EncodeSpec::Debezium { .. } => utc_schema(written.columns),
        EncodeSpec::Parquet(_) | EncodeSpec::Arrow(_) => Arc::new(written.columns.clone()),
    };
    let inside = file_schema(&table, written.partitioned_by);
    let folders = partition_values(&table, written.partitioned_by, path).map_err(|e| e.or_at(place))?;
    let mut give = |rows: RecordBatch| each(&with_partitions(&table, &rows, &folders)?);
    let result = match written.encoding {
        EncodeSpec::Csv { options, compression } => {
            read_csv(decompressed(DiskReader::new(file), *compression)?, options, &inside, &mut give)
        }
        EncodeSpec::Json { compression, .. } => {
            read_json(decompressed(DiskReader::new(file), *compression)?, &inside, &mut give)
        }
        EncodeSpec::Debezium { compression, .. } => {
            let columns: Fields =
                inside.fields().iter().take(inside.fields().len().saturating_sub(1)).cloned().collect();
            let records = Arc::new(Schema::new(envelope(&columns, false)));
            let mut give = |records: RecordBatch| give(debezium::rows_of(&records, &inside)?);
            read_json(decompressed(DiskReader::new(file), *compression)?, &records, &mut give)
        }
        EncodeSpec::Parquet(_) => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(DiskFile(file))
                .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
            each_batch(reader.map_err(|e| damaged(&e)), &mut give)
        }
        EncodeSpec::Arrow(_) => {
            let reader = arrow::ipc::reader::FileReader::try_new(BufReader::new(DiskReader::new(file)), None);
            each_batch(reader.map_err(|e| damaged(&e)), &mut give)
        }
    };
    result.map_err(|e| e.or_at(place))
}

fn read_json(
    reader: Box<dyn BufRead>,
    schema: &SchemaRef,
    give: &mut impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let texts = schema.fields().iter().map(textual::as_text).collect::<Vec<_>>();
    let reader = arrow::json::ReaderBuilder::new(Arc::new(Schema::new(texts)))
        .with_batch_size(BATCH_ROWS)
        .with_coerce_primitive(true)
        .build(reader);
    let mut give = |rows: RecordBatch| {
        let columns = rows.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| textual::from_text(column, field.data_type(), false));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| damaged(&e))?;
        give(RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| damaged(&e))?)
    };
    each_batch(reader.map_err(|e| damaged(&e)), &mut give)
}

fn each_batch<E: std::fmt::Display>(
    reader: Result<impl Iterator<Item = Result<RecordBatch, E>>>,
    give: &mut impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    for rows in reader? {
        give(rows.map_err(|e| damaged(&e))?)?;
    }
    Ok(())
}

fn damaged(error: &impl std::fmt::Display) -> Error {
    Error::new(Code::CorruptInput, format!("the file cannot be read back: {error}"))
}

/// The columns that stand inside the files.
fn file_schema(table: &SchemaRef, partitioned_by: &[String]) -> SchemaRef {
    let kept = table.fields().iter().filter(|f| !partitioned_by.contains(f.name()));
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

/// One row of partition columns, from the folders of a path.
fn partition_values(table: &SchemaRef, names: &[String], path: &str) -> Result<Vec<(String, ArrayRef)>> {
    let found = parse_folder(path);
    let value = |name: &String| {
        let Some((_, text)) = found.iter().find(|(key, _)| key == name) else {
            return Err(Error::new(
                Code::CorruptInput,
                format!("the path names no value of partition column `{name}`"),
            ));
        };
        let field = table.field_with_name(name).map_err(|e| damaged(&e))?;
        let text: ArrayRef = Arc::new(StringArray::from(vec![text.as_deref()]));
        Ok((name.clone(), cast_strictly(&text, field.data_type())?))
    };
    names.iter().map(value).collect()
}

/// Puts file columns and partition values together, in the table's order.
fn with_partitions(table: &SchemaRef, rows: &RecordBatch, folders: &[(String, ArrayRef)]) -> Result<RecordBatch> {
    let first = UInt64Array::from(vec![0_u64; rows.num_rows()]);
    let column = |field: &Arc<Field>| match folders.iter().find(|(name, _)| name == field.name()) {
        Some((_, value)) => take(value.as_ref(), &first, None).map_err(|e| damaged(&e)),
        None => match rows.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => cast_strictly(column, field.data_type()),
            None => Err(Error::new(Code::CorruptInput, format!("the file has no column `{}`", field.name()))),
        },
    };
    let columns = table.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(table.clone(), columns).map_err(|e| damaged(&e))
}

fn cast_strictly(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    cast_with_options(array, to, &options).map_err(|e: ArrowError| damaged(&e))
}

fn decompressed(reader: DiskReader, compression: Compression) -> Result<Box<dyn BufRead>> {
    let raw = BufReader::with_capacity(READ_BYTES, reader);
    Ok(match compression {
        Compression::None => Box::new(raw),
        Compression::Gzip => Box::new(BufReader::with_capacity(READ_BYTES, flate2::bufread::GzDecoder::new(raw))),
        Compression::Zstd => Box::new(BufReader::with_capacity(
            READ_BYTES,
            zstd::stream::read::Decoder::with_buffer(raw).map_err(|e| damaged(&e))?,
        )),
    })
}

/// Texts of the rows at hand, by column.
struct CsvRows {
    columns: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
}

fn read_csv(
    mut reader: Box<dyn BufRead>,
    options: &CsvOptions,
    schema: &SchemaRef,
    give: &mut impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let width = schema.fields().len();
    let mut record = Vec::new();
    if options.header {
        if !next_record(&mut reader, options, &mut record)? {
            return Err(damaged(&"the header is missing"));
        }
        let names = record.iter().map(|(cell, _)| String::from_utf8_lossy(cell));
        if record.len() != width || names.zip(schema.fields()).any(|(name, field)| name != *field.name()) {
            return Err(damaged(&"the header does not name the columns"));
        }
    }
    let mut rows = CsvRows { columns: (0..width).map(|_| StringBuilder::new()).collect(), rows: 0, bytes: 0 };
    while next_record(&mut reader, options, &mut record)? {
        if record.len() != width {
            return Err(damaged(&format!("a line has {} cells, not {width}", record.len())));
        }
        for ((builder, (cell, is_quoted)), field) in rows.columns.iter_mut().zip(&record).zip(schema.fields()) {
            // A lone null among texts or bytes cannot be written; among others it is a pair of quotes.
            let can_be_empty = field.data_type().is_string() || matches!(field.data_type(), DataType::Binary);
            let is_null = (!is_quoted && cell == options.null_literal.as_bytes())
                || (*is_quoted && cell.is_empty() && !can_be_empty);
            if is_null {
                builder.append_null();
            } else {
                builder.append_value(std::str::from_utf8(cell).map_err(|e| damaged(&e))?);
            }
        }
        rows.rows += 1;
        rows.bytes += record.iter().map(|(cell, _)| cell.len()).sum::<usize>();
        if rows.rows == BATCH_ROWS || rows.bytes > BATCH_BYTES {
            give(rows.take(schema)?)?;
        }
    }
    if rows.rows > 0 { give(rows.take(schema)?) } else { Ok(()) }
}

impl CsvRows {
    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        let cast = |(builder, field): (&mut StringBuilder, &Arc<Field>)| {
            let texts: ArrayRef = Arc::new(builder.finish());
            if textual::is_read_here(field.data_type()) {
                return textual::from_text(&texts, field.data_type(), false).map_err(|e| damaged(&e));
            }
            cast_strictly(&texts, field.data_type())
        };
        let columns = self.columns.iter_mut().zip(schema.fields()).map(cast).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(schema.clone(), columns).map_err(|e| damaged(&e))
    }
}

/// Reads the cells of one line, with whether each was quoted. False at the end of the file.
fn next_record(reader: &mut dyn BufRead, options: &CsvOptions, cells: &mut Vec<(Vec<u8>, bool)>) -> Result<bool> {
    let (delimiter, quote, escape) =
        (options.delimiter as u8, options.quote.map(|q| q as u8), options.escape.map(|e| e as u8));
    cells.clear();
    let mut line = Vec::new();
    let (mut cell, mut was_quoted, mut in_quotes) = (Vec::new(), false, false);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|e| damaged(&e))?;
        if read == 0 {
            return if cells.is_empty() && !in_quotes && cell.is_empty() && !was_quoted {
                Ok(false)
            } else {
                Err(damaged(&"the last line is cut off"))
            };
        }
        let mut bytes = line.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if in_quotes {
                if Some(byte) == escape && escape != quote {
                    cell.extend(bytes.next());
                } else if Some(byte) == quote {
                    if bytes.peek() == Some(&byte) {
                        cell.extend(bytes.next());
                    } else {
                        in_quotes = false;
                    }
                } else {
                    cell.push(byte);
                }
            } else if Some(byte) == quote && cell.is_empty() && !was_quoted {
                (in_quotes, was_quoted) = (true, true);
            } else if byte == delimiter {
                cells.push((std::mem::take(&mut cell), was_quoted));
                was_quoted = false;
            } else if byte == b'\n' {
                cells.push((cell, was_quoted));
                return Ok(true);
            } else {
                cell.push(byte);
            }
        }
        if !in_quotes {
            return Err(damaged(&"the last line is cut off"));
        }
    }
}

/// A file as a stream.
pub(crate) struct DiskReader {
    file: Arc<dyn File>,
    position: u64,
}

impl DiskReader {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for DiskReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for DiskReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.len()?.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// A file as the parquet crate reads it.
struct DiskFile(Arc<dyn File>);

impl Length for DiskFile {
    fn len(&self) -> u64 {
        // An unreadable length shows as an empty file, which is refused.
        self.0.len().unwrap_or(0)
    }
}

impl ChunkReader for DiskFile {
    type T = BufReader<DiskReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(DiskReader { file: self.0.clone(), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64).ok_or_else(|| ParquetError::EOF("offset overflow".to_owned()))?;
        if end > Length::len(self) {
            return Err(ParquetError::EOF(format!("bytes {start} to {end} are past the end of the file")));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}
