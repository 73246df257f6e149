//! The container of a state file: sections of rows, an index of their key groups, checksums.
//!
//! ```text
//! section 0 .. section n-1   one Arrow IPC stream each, one behind the other, rows sorted by key group
//! footer                     JSON: object, table, closed, sections [{kind, start, length, crc, rows, groups}]
//! trailer (20 bytes, LE)     footer length u32 | CRC32C of the footer u32 | version u32 | magic "QanState"
//! ```
//!
//! A reader that wants few key groups reads trailer and footer, then only the sections that hold them.
//! Every byte is under a checksum, and the footer names its own object, so that neither a flipped bit nor
//! a misdirected file passes (I9). Written by `snapshot` and `compact`, read by `restore`.

use std::ops::Range;

use arrow::array::cast::AsArray;
use arrow::array::{Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{SchemaRef, UInt16Type};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::KeyGroupRange;
use qanat_proto::ipc;
use qanat_proto::limits::BATCH_ROWS;
use qanat_proto::manifest::StateFile;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"QanState";
const VERSION: u32 = 1;
const TRAILER: usize = 20;

/// Tail that is read at first: it holds the footer of all but very large files.
const TAIL_BYTES: u64 = 64 << 10;

/// Files up to this size are read whole: one request instead of several. A merge holds what it has read of many.
const READ_WHOLE_BYTES: u64 = 128 << 10;

/// What a section's rows say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SectionKind {
    /// Versions of rows, in the table's schema.
    Upserts,
    /// Keys that are gone: column 0 and the key columns.
    Deletes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) kind: SectionKind,
    start: u64,
    length: u64,
    crc: u32,
    rows: u64,
    /// Key groups that occur in it.
    pub(super) groups: KeyGroupRange,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Footer {
    object: String,
    table: String,
    /// Rows of these key groups with a time up to this are gone, in this file and in older ones.
    pub(super) closed: Vec<(KeyGroupRange, i64)>,
    pub(super) sections: Vec<Section>,
}

impl Section {
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// Where bytes of a state file come from: the checkpoint store.
pub trait StateBytes {
    /// Bytes `range` of an object, exactly.
    ///
    /// # Errors
    /// E0301 if the object is missing or shorter.
    fn read(&self, object: &str, range: Range<u64>) -> Result<Bytes>;
}

/// Builds a state file in memory.
pub(super) struct FileWriter {
    bytes: Vec<u8>,
    footer: Footer,
    rows: u64,
}

impl FileWriter {
    pub(super) fn new(object: &str, table: &str, closed: Vec<(KeyGroupRange, i64)>) -> Self {
        let footer = Footer { object: object.to_owned(), table: table.to_owned(), closed, sections: Vec::new() };
        Self { bytes: Vec::new(), footer, rows: 0 }
    }

    /// Adds rows in any order. Column 0 is their key group, which must lie in `range`.
    pub(super) fn add(
        &mut self,
        kind: SectionKind,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        range: KeyGroupRange,
    ) -> Result<()> {
        let order = order_by_group(batches, range)?;
        let columns = batches.iter().flat_map(RecordBatch::columns);
        self.bytes.reserve(columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum());
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        // Section by section: the rows are never there a second time as a whole.
        for places in order.chunks(BATCH_ROWS) {
            let rows = interleave_record_batch(&batches, places).map_err(|e| encode_error(&e))?;
            let (low, high) = match group_column(&rows)? {
                [low, .., high] => (*low, *high),
                [only] => (*only, *only),
                [] => return Err(Error::internal("a state section has no key groups")),
            };
            let start = self.bytes.len();
            let mut writer = StreamWriter::try_new(&mut self.bytes, schema).map_err(|e| encode_error(&e))?;
            writer.write(&rows).map_err(|e| encode_error(&e))?;
            writer.finish().map_err(|e| encode_error(&e))?;
            drop(writer);
            let rows = rows.num_rows();
            let section = self.bytes.get(start..).unwrap_or_default();
            self.footer.sections.push(Section {
                kind,
                start: start as u64,
                length: section.len() as u64,
                crc: crc32c::crc32c(section),
                rows: rows as u64,
                groups: KeyGroupRange { start: low, end: high + 1 },
            });
            self.rows += rows as u64;
        }
        Ok(())
    }

    /// The file's bytes and the number of rows in it, deletes included.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, u64)> {
        let footer = serde_json::to_vec(&self.footer)
            .map_err(|e| Error::internal(format!("could not encode a state footer: {e}")))?;
        let length = u32::try_from(footer.len()).map_err(|_| Error::internal("a state footer is too long"))?;
        self.bytes.extend_from_slice(&footer);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        self.bytes.extend_from_slice(&VERSION.to_le_bytes());
        self.bytes.extend_from_slice(MAGIC);
        Ok((self.bytes, self.rows))
    }
}

/// A state file opened for reading: its footer is checked.
pub(super) struct OpenFile<'a> {
    file: &'a StateFile,
    source: &'a dyn StateBytes,
    pub(super) footer: Footer,
    /// The tail that was read, and where it begins.
    tail: (u64, Bytes),
}

impl<'a> OpenFile<'a> {
    pub(super) fn open(source: &'a dyn StateBytes, file: &'a StateFile, table: &str) -> Result<Self> {
        let whole = file.bytes <= READ_WHOLE_BYTES;
        let first = if whole { 0 } else { file.bytes - TAIL_BYTES };
        let mut start = first;
        let mut tail = source.read(&file.object, first..file.bytes)?;
        if whole && crc32c::crc32c(&tail) != file.crc {
            return Err(corrupt(file, "its checksum is wrong"));
        }
        let trailer = tail.len().checked_sub(TRAILER).and_then(|at| tail.get(at..));
        let trailer = trailer.ok_or_else(|| corrupt(file, "it is too short"))?;
        let word = |at: usize| {
            let bytes = trailer.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        if trailer.get(12..) != Some(MAGIC) {
            return Err(corrupt(file, "it is no state file"));
        }
        if word(8) != VERSION {
            return Err(Error::new(Code::UnknownVersion, format!("a state file has the unknown version {}", word(8)))
                .at(Place::Named(file.object.clone()))
                .hint("use the version of qanat that wrote it, or a newer one"));
        }
        let (length, crc) = (u64::from(word(0)), word(4));
        let footer_end = file.bytes - TRAILER as u64;
        let footer_start = footer_end.checked_sub(length).ok_or_else(|| corrupt(file, "its footer is too long"))?;
        if footer_start < start {
            start = footer_start;
            tail = source.read(&file.object, start..file.bytes)?;
        }
        let bytes = slice(&tail, start, footer_start..footer_end).unwrap_or_default();
        if crc32c::crc32c(&bytes) != crc {
            return Err(corrupt(file, "the checksum of its footer is wrong"));
        }
        let footer: Footer =
            serde_json::from_slice(&bytes).map_err(|e| corrupt(file, &format!("its footer cannot be read: {e}")))?;
        if footer.object != file.object || footer.table != table {
            return Err(corrupt(file, &format!("it holds `{}` of table `{}`", footer.object, footer.table)));
        }
        let mut next = 0;
        for section in &footer.sections {
            if section.start != next {
                return Err(corrupt(file, "its sections do not follow each other"));
            }
            next = next.saturating_add(section.length);
        }
        if next != footer_start || footer.sections.iter().map(|s| s.rows).sum::<u64>() != file.rows {
            return Err(corrupt(file, "its sections do not fill it"));
        }
        Ok(Self { file, source, footer, tail: (start, tail) })
    }

    /// Key groups for which this file counts.
    pub(super) fn scope(&self) -> KeyGroupRange {
        self.file.key_groups
    }

    /// The rows of a section, in `schema`.
    pub(super) fn rows(&self, section: &Section, schema: &SchemaRef) -> Result<RecordBatch> {
        let range = section.start..section.start + section.length;
        let bytes = match slice(&self.tail.1, self.tail.0, range.clone()) {
            Some(bytes) => bytes,
            None => self.source.read(&self.file.object, range)?,
        };
        if crc32c::crc32c(&bytes) != section.crc {
            return Err(corrupt(self.file, "the checksum of a section is wrong"));
        }
        let bad = |e: &dyn std::fmt::Display| corrupt(self.file, &format!("a section cannot be read: {e}"));
        let batch = ipc::batches(&bytes).map_err(|e| bad(&e))?.into_iter().next().ok_or_else(|| bad(&"it is empty"))?;
        if batch.num_rows() as u64 != section.rows {
            return Err(bad(&"it has another number of rows"));
        }
        RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|_| {
            Error::new(
                Code::UnknownVersion,
                format!("the rows of state table `{}` have another shape than the job keeps now", self.footer.table),
            )
            .at(Place::Named(self.file.object.clone()))
            .hint("resume with the version of qanat that wrote it, or start the job anew")
        })
    }
}

/// The error for a state file that is not what its manifest says.
pub(super) fn corrupt(file: &StateFile, why: &str) -> Error {
    Error::new(Code::CorruptCheckpoint, format!("state file `{}` is damaged: {why}", file.object))
        .at(Place::Named(file.object.clone()))
        .hint("restore from an older checkpoint (`qanat checkpoints`), and look at the disk's health")
}

pub(super) fn encode_error(error: &arrow::error::ArrowError) -> Error {
    Error::internal(format!("could not encode state rows: {error}"))
}

/// Key groups of a batch's rows: column 0.
pub(super) fn group_column(batch: &RecordBatch) -> Result<&[u16]> {
    let column = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt16Type>());
    let column = column.filter(|column| arrow::array::Array::null_count(*column) == 0);
    let column = column.ok_or_else(|| Error::internal("column 0 of state rows is no key group"))?;
    Ok(column.values())
}

fn slice(tail: &Bytes, tail_start: u64, range: Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(range.start.checked_sub(tail_start)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(tail_start)?).ok()?;
    (start <= end && end <= tail.len()).then(|| tail.slice(start..end))
}

/// Batch and place of each row, by key group; those of one group stay as they came. A counting sort.
fn order_by_group(batches: &[RecordBatch], range: KeyGroupRange) -> Result<Vec<(usize, usize)>> {
    let columns = batches.iter().map(group_column).collect::<Result<Vec<_>>>()?;
    let mut next = vec![0_usize; usize::from(range.end - range.start) + 1];
    let slot = |group: u16| usize::from(group - range.start);
    for group in columns.iter().copied().flatten() {
        if !range.contains(*group) {
            return Err(Error::new(
                Code::Invariant,
                format!("invariant I4 does not hold: state of key group {group} was written by the owner of {range:?}"),
            ));
        }
        if let Some(count) = next.get_mut(slot(*group) + 1) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for first in &mut next {
        sum += *first;
        *first = sum;
    }
    let mut order = vec![(0, 0); sum];
    for (batch, groups) in columns.iter().enumerate() {
        for (row, group) in groups.iter().enumerate() {
            if let Some(position) = next.get_mut(slot(*group)) {
                if let Some(entry) = order.get_mut(*position) {
                    *entry = (batch, row);
                }
                *position += 1;
            }
        }
    }
    Ok(order)
}
