//! Parquet: read by row groups, only the columns that are asked for. A position is a row number.

use std::io::{self, BufReader};
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;
use qanat_proto::error::Result;
use qanat_storage::env::File;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::columnar::{Layout, corrupt};
use super::reader::{Chunk, DecodeRequest, FormatReader, Read};
use super::stream::{DiskReader, FileInput};
use crate::contract::StopFlag;

/// Where a split stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Rows of the split before the next one.
    pub row: u64,
}

/// A file of `storage::env` as the parquet crate reads it.
struct ParquetFile {
    file: Arc<dyn File>,
    len: u64,
}

impl ParquetFile {
    fn open(input: &FileInput) -> Result<Self> {
        let file = input.open()?;
        let len = file.len().map_err(|e| input.io_error("read", &e))?;
        Ok(Self { file, len })
    }
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for ParquetFile {
    type T = BufReader<DiskReader>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(DiskReader::at(Arc::clone(&self.file), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        // A damaged footer may ask for any length: nothing is allocated that the file cannot hold.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF("a part lies behind the end of the file".to_owned()));
        }
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, start).map_err(|e: io::Error| ParquetError::External(Box::new(e)))?;
        Ok(buffer.into())
    }
}

fn builder(input: &FileInput) -> Result<ParquetRecordBatchReaderBuilder<ParquetFile>> {
    ParquetRecordBatchReaderBuilder::try_new(ParquetFile::open(input)?).map_err(|e| corrupt(input, &e))
}

/// Runs of row groups of about `part_bytes` each.
pub(super) fn parts(input: &FileInput, part_bytes: u64) -> Result<Vec<(u64, u64)>> {
    let builder = builder(input)?;
    let groups = builder.metadata().row_groups();
    let mut parts = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (index, group) in (0_u64..).zip(groups) {
        bytes += u64::try_from(group.compressed_size()).unwrap_or(0);
        if bytes >= part_bytes {
            parts.push((from, index + 1));
            (from, bytes) = (index + 1, 0);
        }
    }
    if from < groups.len() as u64 {
        parts.push((from, groups.len() as u64));
    }
    Ok(parts)
}

/// Rows in the row groups before `group`.
pub(super) fn rows_before(input: &FileInput, group: u64) -> Result<u64> {
    let builder = builder(input)?;
    let groups = (0..group).zip(builder.metadata().row_groups());
    Ok(groups.map(|(_, g)| u64::try_from(g.num_rows()).unwrap_or(0)).sum())
}

/// Opens a file, or the row groups of `part`.
pub(super) fn open(
    input: &FileInput,
    part: Option<(u64, u64)>,
    position: Position,
    request: DecodeRequest,
) -> Result<Box<dyn FormatReader>> {
    let builder = builder(input)?;
    let layout = Layout::new(builder.schema(), &request)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), layout.read.iter().copied());
    let groups = builder.metadata().num_row_groups();
    let (from, to) = part.unwrap_or((0, groups as u64));
    let groups = (0..groups).filter(|g| (from..to).contains(&(*g as u64))).collect();
    let reader = builder
        .with_row_groups(groups)
        .with_projection(mask)
        .with_batch_size(request.batch_rows.max(1))
        .with_offset(usize::try_from(position.row).unwrap_or(usize::MAX))
        .build()
        .map_err(|e| corrupt(input, &e))?;
    Ok(Box::new(ParquetReader { input: input.clone(), reader, layout, row: position.row }))
}

struct ParquetReader {
    input: FileInput,
    reader: ParquetRecordBatchReader,
    layout: Layout,
    row: u64,
}

impl FormatReader for ParquetReader {
    fn next(&mut self, stop: &StopFlag) -> Result<Read> {
        if stop.is_set() {
            return Ok(Read::Pending);
        }
        let batch = match self.reader.next() {
            None => return Ok(Read::End),
            Some(batch) => batch.map_err(|e| corrupt(&self.input, &e))?,
        };
        let first = self.row;
        let records = batch.num_rows() as u64;
        self.row += records;
        let (rows, bad) = self.layout.rows(&batch).map_err(|e| e.or_at(|| self.input.place()))?;
        Ok(Read::Chunk(Chunk {
            rows,
            first,
            records,
            bad,
            bytes: batch.get_array_memory_size() as u64,
            position: json!(Position { row: self.row }),
        }))
    }
}
