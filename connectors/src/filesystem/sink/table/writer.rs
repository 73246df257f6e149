//! One subtask's buckets: their changes are gathered, and a bucket that changed is written anew with each epoch.
//!
//! A bucket is written from its file before, published or still staged (the commit of the epoch before may be under
//! way), and its changes. Nobody else writes it: the rows of a key group come to one subtask.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use qanat_executor_core::canonical::RowEncoder;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, SubtaskId, Token};
use qanat_proto::limits::{BATCH_ROWS, SINK_PLAIN_FILE_BYTES_MAX};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::names::Origin;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::{File, OpenMode, thread};

use super::changes::{Changes, sliced_bytes};
use super::{KeptTable, Start};
use crate::contract::SinkWriter;
use crate::encode::{Encoder, conform, kinds};
use crate::filesystem::reread::{checksum, read_file};
use crate::filesystem::sink::staged::StagedFile;
use crate::filesystem::sink::{FileTable, HandleDetail, STAGED, detail_json, folder};
use crate::filesystem::version::{BucketFile, DATA};

/// Changes that are held in memory; past it their buckets are written, and perhaps once more in the same epoch.
const CHANGES_BYTES_MAX: usize = 64 << 20;

/// Rows of a plain file in memory: compressed they may be many times what it has on disk.
const PLAIN_ROWS_BYTES_MAX: usize = 512 << 20;

pub(in crate::filesystem::sink) struct TableWriter {
    table: Arc<FileTable>,
    kept: KeptTable,
    subtask: SubtaskId,
    token: Token,
    /// Counts up for the life of the writer: no two files share a name.
    sequence: u64,
    /// The epoch that is open, once it has rows.
    epoch: Option<Epoch>,
    changes: Changes,
    encoder: RowEncoder,
    hasher: RowHasher,
    /// What this generation goes on from; known once it has rows, when the commit before it was made again (P5).
    start: Option<Start>,
    /// What this generation has made of buckets.
    written: BTreeMap<u16, WrittenBucket>,
    /// Buckets of the open epoch that are on disk, with the changes they took.
    sealed: BTreeMap<u16, RowSum>,
    /// Whether what an overwrite begins with has been said.
    has_begun: bool,
    /// A failed write or sync leaves unknown bytes: nothing more is prepared (S15).
    is_poisoned: bool,
}

struct WrittenBucket {
    object: String,
    staged: String,
    file: BucketFile,
}

impl TableWriter {
    pub(in crate::filesystem::sink) fn new(
        table: Arc<FileTable>,
        kept: KeptTable,
        subtask: SubtaskId,
        token: Token,
    ) -> Self {
        let changes = Changes::new(kept.key.clone(), kept.buckets);
        let has_begun = !table.overwrite || subtask.index != 0;
        Self {
            table,
            kept,
            subtask,
            token,
            sequence: 0,
            epoch: None,
            changes,
            encoder: RowEncoder::default(),
            hasher: RowHasher::default(),
            start: None,
            written: BTreeMap::new(),
            sealed: BTreeMap::new(),
            has_begun,
            is_poisoned: false,
        }
    }

    fn next_object(&mut self, epoch: Epoch) -> String {
        let object = Origin { token: self.token, epoch, subtask: self.subtask }.object(self.sequence);
        self.sequence += 1;
        object
    }

    fn start(&mut self) -> Result<&Start> {
        match self.start.take() {
            Some(start) => Ok(self.start.insert(start)),
            None => Ok(self.start.insert(Start::of(&self.table, &self.kept, (self.token.job, self.subtask.operator))?)),
        }
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.is_poisoned {
            return Err(Error::new(Code::Io, "this writer failed before and takes no more rows")
                .at(Place::Named(self.table.name.clone())));
        }
        act(self).map_err(|error| {
            self.is_poisoned = true;
            error.or_at(|| Place::Named(self.table.name.clone()))
        })
    }

    fn try_write(&mut self, epoch: Epoch, rows: &RecordBatch) -> Result<()> {
        match self.epoch {
            Some(open) if open != epoch => {
                return Err(Error::internal(format!("rows of epoch {epoch} arrive while {open} is open")));
            }
            Some(_) => {}
            None => self.epoch = Some(epoch),
        }
        let row_kinds = kinds::of_rows(rows)?;
        let told = conform(&self.table.name, &kinds::with_column(&self.table.columns), &kinds::as_text(rows, true)?)?;
        self.changes.take(&told, row_kinds.as_deref())?;
        if self.changes.bytes() > CHANGES_BYTES_MAX { self.flush(epoch) } else { Ok(()) }
    }

    fn try_prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        if let Some(open) = self.epoch.take()
            && open != epoch
        {
            return Err(Error::internal(format!("epoch {epoch} is prepared while {open} is open")));
        }
        let mut handles = Vec::new();
        if !self.has_begun {
            self.has_begun = true;
            let begins = self.start()?.begins;
            if begins && self.kept.plain.is_some() {
                // A plain file is there whether it gets rows or not.
                self.write_bucket(epoch, 0, RowSum::default(), &[])?;
            }
            if begins {
                handles.push(PreparedHandle {
                    subtask: self.subtask,
                    channel: SinkChannel::Table,
                    name: self.next_object(epoch),
                    sum: RowSum::default(),
                    detail: detail_json(&HandleDetail::EmptyTable { empty_table: self.start()?.number })?,
                });
            }
        }
        self.flush(epoch)?;
        let base = self.start.as_ref().map_or(0, |start| start.number);
        for (bucket, sum) in std::mem::take(&mut self.sealed) {
            let Some(written) = self.written.get(&bucket) else { continue };
            let BucketFile { path, rows, hash, bytes, crc32c, .. } = written.file.clone();
            let staged = written.staged.clone();
            handles.push(PreparedHandle {
                subtask: self.subtask,
                channel: SinkChannel::Table,
                name: written.object.clone(),
                sum,
                detail: detail_json(&HandleDetail::Bucket { bucket, rows, hash, base, path, staged, bytes, crc32c })?,
            });
        }
        if !handles.is_empty() {
            folder::sync(&self.table.env, &self.table.staged_folder())?;
        }
        Ok(handles)
    }

    /// Writes the buckets that have changes.
    fn flush(&mut self, epoch: Epoch) -> Result<()> {
        let mut rows = self.changes.by_bucket();
        for (bucket, sum) in self.changes.touched() {
            self.write_bucket(epoch, bucket, sum, &rows.remove(&bucket).unwrap_or_default())?;
        }
        self.changes.clear();
        Ok(())
    }

    /// Writes a bucket: what it held and has not changed, then the rows of `changed`.
    fn write_bucket(&mut self, epoch: Epoch, bucket: u16, sum: RowSum, changed: &[(usize, usize)]) -> Result<()> {
        let object = self.next_object(epoch);
        let staged = format!("{object}.{}", self.table.spec.extension());
        let path = self.table.staged_folder().join(&staged);
        let env = self.table.env.clone();
        let create = env.disk.open(&path, OpenMode::CreateNew);
        let file = create.map_err(|e| Error::io(format!("create {}", path.display()), &e))?;
        let encoder = self.table.spec.encoder(&self.table.columns, Box::new(StagedFile::new(file.clone())))?;
        let sorted = self.kept.plain.as_ref().map(|_| Vec::new());
        let mut out = BucketOut { encoder, sum: RowSum::default(), sorted, sorted_bytes: 0 };
        self.copy_unchanged(bucket, &mut out)?;
        for places in changed.chunks(BATCH_ROWS) {
            out.write(&mut self.hasher, &self.changes.batch(places)?)?;
        }
        if let Some(rows) = out.sorted.take() {
            in_order(&self.table.columns, &self.kept.key, &rows)?
                .iter()
                .try_for_each(|rows| out.encoder.write(rows))?;
        }
        let target = out.encoder.finish()?;
        let (bytes, crc32c) = target.close().map_err(|e| Error::io(format!("write {staged}"), &e))?;
        file.sync_all().map_err(|e| folder::sync_error(&path, &e))?;
        if self.kept.plain.is_some() && bytes > SINK_PLAIN_FILE_BYTES_MAX {
            return Err(too_large(bytes));
        }
        let file = BucketFile {
            bucket,
            path: format!("{DATA}/part-{staged}"),
            rows: out.sum.rows,
            hash: out.sum.hash,
            bytes,
            crc32c,
        };
        if let Some(before) = self.written.insert(bucket, WrittenBucket { object, staged, file })
            && self.sealed.contains_key(&bucket)
        {
            // Of this epoch too: no handle will name it.
            folder::remove_if_there(&self.table.env, &self.table.staged_folder().join(&before.staged))?;
        }
        self.sealed.entry(bucket).or_default().add(sum);
        Ok(())
    }

    /// Writes the rows of a bucket's file whose keys have not changed.
    fn copy_unchanged(&mut self, bucket: u16, out: &mut BucketOut) -> Result<()> {
        self.start()?;
        let written = self.written.get(&bucket);
        let before = written.map(|written| &written.file);
        let Some(before) = before.or_else(|| self.start.as_ref()?.files.get(&bucket)) else { return Ok(()) };
        let file = self.open(before, written.map(|written| written.staged.as_str()))?;
        let found = checksum(file.as_ref()).map_err(|e| Error::io(format!("read {}", before.path), &e))?;
        if found != (before.bytes, before.crc32c) {
            let message = format!(
                "`{}` has {} bytes with CRC32C {:08x}, and {} with {:08x} were written",
                before.path, found.0, found.1, before.bytes, before.crc32c
            );
            return Err(Error::new(Code::SourceChanged, message)
                .hint("something outside Qanat changed a file of the table; put it back"));
        }
        let Self { table, kept, changes, encoder, hasher, .. } = self;
        read_file(file, table.written(), &before.path, |rows| {
            let key: Vec<_> = kept.key.iter().filter_map(|column| rows.columns().get(*column)).cloned().collect();
            let mut stays = Vec::with_capacity(rows.num_rows());
            encoder.for_each_row(&key, rows.num_rows(), |bytes| stays.push(!changes.has(bytes)))?;
            // As it was read, a column may be of another type that holds the same.
            let rows = conform(&table.name, &table.columns, rows)?;
            if stays.iter().all(|stays| *stays) {
                return out.write(hasher, &rows);
            }
            let rest = filter_record_batch(&rows, &BooleanArray::from(stays));
            out.write(hasher, &rest.map_err(|e| Error::internal(e.to_string()))?)
        })
    }

    /// Opens a bucket's file, whether its epoch is committed or not.
    fn open(&self, file: &BucketFile, staged: Option<&str>) -> Result<Arc<dyn File>> {
        let table = &self.table;
        let published = super::super::commit::inside(&table.root, &file.path)?;
        let disk = table.env.disk.as_ref();
        let failed = |e| Error::io(format!("read {}", file.path), &e);
        match disk.open(&published, OpenMode::Read) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            other => return other.map_err(failed),
        }
        let staged = staged.map(|name| table.root.join(STAGED).join(name));
        match staged.map(|path| disk.open(&path, OpenMode::Read)) {
            Some(Err(e)) if e.kind() != ErrorKind::NotFound => Err(failed(e)),
            Some(Ok(file)) => Ok(file),
            // Published in between: it gets its final name before it loses the staged one.
            Some(Err(_)) | None => disk.open(&published, OpenMode::Read).map_err(failed),
        }
    }
}

struct BucketOut {
    encoder: Box<dyn Encoder>,
    sum: RowSum,
    /// Rows of a plain file, which wait until they can be put in order.
    sorted: Option<Vec<RecordBatch>>,
    sorted_bytes: usize,
}

impl BucketOut {
    fn write(&mut self, hasher: &mut RowHasher, rows: &RecordBatch) -> Result<()> {
        self.sum.add(hasher.sum(rows)?);
        match &mut self.sorted {
            Some(waiting) => {
                waiting.push(rows.clone());
                self.sorted_bytes += sliced_bytes(rows);
                if self.sorted_bytes > PLAIN_ROWS_BYTES_MAX { Err(too_large(self.sorted_bytes as u64)) } else { Ok(()) }
            }
            None => self.encoder.write(rows),
        }
    }
}

fn too_large(bytes: u64) -> Error {
    let message = format!("a table that is kept as one plain file has {bytes} bytes by now");
    Error::new(Code::BadOption, message).hint(format!(
        "one plain file holds {} MiB at most; a path that ends with `/` is a folder of files, which has no such limit",
        SINK_PLAIN_FILE_BYTES_MAX >> 20
    ))
}

/// Rows in the order of their keys, in batches; as they are if their keys have no order.
fn in_order(columns: &SchemaRef, key: &[usize], rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let failed = |e: ArrowError| Error::internal(format!("sort rows: {e}"));
    let rows = concat_batches(columns, rows).map_err(failed)?;
    let keys: Vec<ArrayRef> = key.iter().filter_map(|column| rows.columns().get(*column)).cloned().collect();
    let fields: Vec<SortField> = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    if !RowConverter::supports_fields(&fields) {
        return Ok(vec![rows]);
    }
    let converter = RowConverter::new(fields);
    let keys = converter.and_then(|converter| converter.convert_columns(&keys)).map_err(failed)?;
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    let batches = order.chunks(BATCH_ROWS).map(|order| take_record_batch(&rows, &UInt32Array::from(order.to_vec())));
    batches.collect::<std::result::Result<_, _>>().map_err(failed)
}

/// What was not handed over is nobody's, as of the other writer.
impl Drop for TableWriter {
    fn drop(&mut self) {
        // A process that is killed does not tidy up either.
        if thread::is_ending() {
            return;
        }
        for written in self.sealed.keys().filter_map(|bucket| self.written.get(bucket)) {
            // If it cannot be removed it stays hidden, for the next generation's abort.
            let _ = self.table.env.disk.remove_file(&self.table.staged_folder().join(&written.staged));
        }
    }
}

impl SinkWriter for TableWriter {
    fn write(&mut self, epoch: Epoch, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.guarded(|writer| writer.try_write(epoch, rows))
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        self.guarded(|writer| writer.try_prepare(epoch))
    }
}
