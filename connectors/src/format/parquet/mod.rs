//! Parquet: read by row groups, only the columns that are asked for. A position is a row number.
//!
//! Row groups of which the pushed filter wants no row are not decoded ([`prune`]): their rows are counted as
//! read, so that positions and offsets do not change, and where there is a watermark its columns are read
//! all the same.

mod int96;
mod prune;

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{ChunkReader, Length};
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use qanat_proto::error::{Code, Error, Result};
use qanat_storage::env::File;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::prune::Statistics;
use super::columnar::Layout;
use super::guard::guarded;
use super::reader::{BadRecord, Chunk, DecodeRequest, FormatReader, Read};
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
    let file = ParquetFile::open(input)?;
    guarded(input, || ParquetRecordBatchReaderBuilder::try_new(file))
}

/// Runs of row groups of about `part_bytes` each.
pub(super) fn parts(input: &FileInput, part_bytes: u64) -> Result<Vec<(u64, u64)>> {
    let builder = builder(input)?;
    let groups = builder.metadata().row_groups();
    let mut parts = Vec::new();
    let (mut from, mut bytes) = (0, 0_u64);
    for (index, group) in (0_u64..).zip(groups) {
        bytes = bytes.saturating_add(u64::try_from(group.compressed_size()).unwrap_or(0));
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
    Ok(groups.map(|(_, g)| u64::try_from(g.num_rows()).unwrap_or(0)).fold(0, u64::saturating_add))
}

/// Opens a file, or the row groups of `part`.
pub(super) fn open(
    input: &FileInput,
    part: Option<(u64, u64)>,
    position: Position,
    request: DecodeRequest,
) -> Result<Box<dyn FormatReader>> {
    let file = ParquetFile::open(input)?;
    let metadata = guarded(input, || {
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
        match int96::schema(&metadata, &request.columns) {
            Some(schema) => ArrowReaderMetadata::try_new(
                Arc::clone(metadata.metadata()),
                ArrowReaderOptions::new().with_schema(schema),
            ),
            None => Ok(metadata),
        }
    })?;
    let layout = Layout::new(metadata.schema(), &request)?;
    let runs = guarded(input, || Ok::<_, ParquetError>(runs(&metadata, part, &layout, &request)))?;
    let hidden = match request.filter.as_ref().and_then(|filter| filter.watermark.as_ref()) {
        Some(columns) => Some(Hidden::new(&metadata, columns, &request)?),
        None => None,
    };
    let reader = ParquetReader {
        input: input.clone(),
        metadata,
        request,
        layout,
        hidden,
        runs,
        current: None,
        row: position.row,
    };
    Ok(Box::new(reader))
}

/// Row groups that follow each other and are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    groups: Vec<usize>,
    /// Number of the first row within the split.
    first: u64,
    rows: u64,
    /// The filter wants none of the rows.
    is_unwanted: bool,
}

impl Run {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.rows)
    }
}

fn runs(
    metadata: &ArrowReaderMetadata,
    part: Option<(u64, u64)>,
    layout: &Layout,
    request: &DecodeRequest,
) -> VecDeque<Run> {
    let groups = metadata.metadata().row_groups();
    let (from, to) = part.unwrap_or((0, groups.len() as u64));
    let filter = request.filter.as_ref().map(|filter| (filter, Statistics::new(metadata, layout, request)));
    let mut runs: VecDeque<Run> = VecDeque::new();
    for (index, group) in groups.iter().enumerate().filter(|(index, _)| (from..to).contains(&(*index as u64))) {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let is_unwanted = filter.as_ref().is_some_and(|(filter, statistics)| statistics.rule_out(index, filter));
        match runs.back_mut() {
            Some(run) if run.is_unwanted == is_unwanted => {
                run.groups.push(index);
                run.rows = run.rows.saturating_add(rows);
            }
            last => {
                let first = last.map_or(0, |run| run.end());
                runs.push_back(Run { groups: vec![index], first, rows, is_unwanted });
            }
        }
    }
    runs
}

/// How the rows of unwanted groups reach the watermark: only its columns are decoded.
struct Hidden {
    layout: Layout,
    /// For each projected column, its place among the decoded ones.
    places: Vec<Option<usize>>,
    schema: SchemaRef,
}

impl Hidden {
    fn new(metadata: &ArrowReaderMetadata, columns: &[usize], request: &DecodeRequest) -> Result<Self> {
        let projection = columns.iter().filter_map(|column| request.projection.get(*column).copied()).collect();
        let layout = Layout::new(metadata.schema(), &DecodeRequest { projection, ..request.clone() })?;
        let place = |column: usize| columns.iter().position(|wanted| *wanted == column);
        let fields =
            request.output().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        Ok(Self {
            layout,
            places: (0..request.projection.len()).map(place).collect(),
            schema: Arc::new(Schema::new(fields)),
        })
    }

    fn rows(&self, decoded: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.places.iter().zip(self.schema.fields()).map(|(place, field)| match place {
            Some(place) => Arc::clone(decoded.column(*place)),
            None => new_null_array(field.data_type(), decoded.num_rows()),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(decoded.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)
            .map_err(|e| Error::internal(format!("could not put the watermark's columns together: {e}")))
    }
}

struct ParquetReader {
    input: FileInput,
    metadata: ArrowReaderMetadata,
    request: DecodeRequest,
    layout: Layout,
    /// None: there is no watermark, and unwanted groups are passed over.
    hidden: Option<Hidden>,
    /// What is still to be read; the first is the one that `current` reads.
    runs: VecDeque<Run>,
    current: Option<ParquetRecordBatchReader>,
    /// Rows of the split that are done.
    row: u64,
}

impl ParquetReader {
    fn reader(&self, run: &Run, layout: &Layout) -> Result<ParquetRecordBatchReader> {
        let file = ParquetFile::open(&self.input)?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), layout.read.iter().copied());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(run.groups.clone())
            .with_projection(mask)
            .with_batch_size(self.request.batch_rows.max(1))
            .with_offset(usize::try_from(self.row.saturating_sub(run.first)).unwrap_or(usize::MAX));
        guarded(&self.input, || builder.build())
    }

    fn chunk(&mut self, records: u64, rows: RecordBatch, bad: Vec<BadRecord>, bytes: usize) -> Chunk {
        let first = self.row;
        self.row += records;
        let position = json!(Position { row: self.row });
        Chunk { rows, first, records, bad, bytes: bytes as u64, position, hidden: None }
    }

    /// The next rows of `run`; None at its end.
    fn next_of(&mut self, run: &Run) -> Result<Option<Chunk>> {
        if run.is_unwanted && self.hidden.is_none() {
            let rows = RecordBatch::new_empty(self.request.output());
            return Ok(Some(self.chunk(run.end() - self.row, rows, Vec::new(), 0)));
        }
        let layout = match &self.hidden {
            Some(hidden) if run.is_unwanted => &hidden.layout,
            _ => &self.layout,
        };
        let mut reader = match self.current.take() {
            Some(reader) => reader,
            None => self.reader(run, layout)?,
        };
        let Some(batch) = guarded(&self.input, || reader.next().transpose())? else { return Ok(None) };
        let (rows, bad) = layout.rows(&batch).map_err(|e| e.or_at(|| self.input.place()))?;
        self.current = Some(reader);
        let (records, bytes) = (batch.num_rows() as u64, batch.get_array_memory_size());
        let Some(hidden) = self.hidden.as_ref().filter(|_| run.is_unwanted) else {
            return Ok(Some(self.chunk(records, rows, bad, bytes)));
        };
        if let Some(bad) = bad.first() {
            let row = self.row + bad.record as u64;
            let message = format!("`{}`: row {row} is not what the file's statistics say", self.input.origin);
            return Err(Error::new(Code::CorruptInput, message).at(self.input.place()));
        }
        let hidden = hidden.rows(&rows)?;
        let nothing = RecordBatch::new_empty(self.request.output());
        Ok(Some(Chunk { hidden: Some(hidden), ..self.chunk(records, nothing, Vec::new(), bytes) }))
    }
}

impl FormatReader for ParquetReader {
    fn next(&mut self, stop: &StopFlag) -> Result<Read> {
        if stop.is_set() {
            return Ok(Read::Pending);
        }
        while let Some(run) = self.runs.pop_front() {
            if self.row < run.end()
                && let Some(chunk) = self.next_of(&run)?
            {
                self.runs.push_front(run);
                return Ok(Read::Chunk(chunk));
            }
            self.current = None;
        }
        Ok(Read::End)
    }
}
