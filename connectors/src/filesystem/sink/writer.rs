//! One subtask's output: at most one open file per partition, sealed by size and by every epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, SubtaskId, Token};
use qanat_proto::limits::SINK_OPEN_FILES_MAX;
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::names::Origin;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::{File, OpenMode, thread};

use super::options::Keeps;
use super::options::PartitionCommit;
use super::overwrite::Removal;
use super::staged::StagedFile;
use super::{FileTable, HandleDetail, detail_json, folder, partition};
use crate::contract::SinkWriter;
use crate::encode::{Encoder, conform, kinds};

/// Bytes that all open files of a subtask hold in memory; past it the largest is written out.
const BUFFERED_BYTES_MAX: usize = 128 << 20;

pub(super) struct FileWriter {
    table: Arc<FileTable>,
    file_schema: SchemaRef,
    subtask: SubtaskId,
    token: Token,
    /// Counts up for the life of the writer: no two files share a name.
    sequence: u64,
    /// The epoch that is open, once it has rows.
    epoch: Option<Epoch>,
    /// By folder.
    open: BTreeMap<String, OpenFile>,
    /// Files of the open epoch that are complete and synced.
    sealed: Vec<PreparedHandle>,
    /// What an overwrite takes away, until it is handed over with the first epoch.
    removals: Option<Vec<Removal>>,
    /// How far event time has come, ms.
    watermark: i64,
    /// Nothing comes for now.
    is_idle: bool,
    hasher: RowHasher,
    clock: u64,
    /// A failed write or sync leaves unknown bytes: nothing more is prepared (S15).
    is_poisoned: bool,
}

struct OpenFile {
    object: String,
    file: Arc<dyn File>,
    encoder: Box<dyn Encoder>,
    sum: RowSum,
    last_used: u64,
    /// By the monotonic clock.
    opened: Duration,
}

impl FileWriter {
    pub(super) fn new(table: Arc<FileTable>, subtask: SubtaskId, token: Token, removals: Option<Vec<Removal>>) -> Self {
        let file_schema = table.file_schema();
        Self {
            table,
            file_schema,
            subtask,
            token,
            sequence: 0,
            epoch: None,
            open: BTreeMap::new(),
            sealed: Vec::new(),
            removals,
            watermark: i64::MIN,
            is_idle: false,
            hasher: RowHasher::default(),
            clock: 0,
            is_poisoned: false,
        }
    }

    fn next_object(&mut self, epoch: Epoch) -> String {
        let object = Origin { token: self.token, epoch, subtask: self.subtask }.object(self.sequence);
        self.sequence += 1;
        object
    }

    fn staged_name(&self, object: &str) -> String {
        format!("{object}.{}", self.table.spec.extension())
    }

    fn write_group(&mut self, epoch: Epoch, group: &partition::Group) -> Result<()> {
        let sum = self.hasher.sum(&group.rows)?;
        if !self.open.contains_key(&group.folder) {
            if self.open.len() >= SINK_OPEN_FILES_MAX {
                let oldest = self.open.iter().min_by_key(|(_, file)| file.last_used).map(|(folder, _)| folder.clone());
                if let Some(oldest) = oldest {
                    self.seal(&oldest)?;
                }
            }
            if let Some(commit) = &self.table.options.partition_commit {
                commit.time_of(&group.folder)?;
            }
            let file = self.create(epoch)?;
            self.open.insert(group.folder.clone(), file);
        }
        self.clock += 1;
        let Some(file) = self.open.get_mut(&group.folder) else {
            return Err(Error::internal("the file just opened is not there"));
        };
        let rows = group
            .rows
            .project(&self.table.file_columns)
            .and_then(|rows| RecordBatch::try_new(self.file_schema.clone(), rows.columns().to_vec()))
            .map_err(|e| Error::internal(e.to_string()))?;
        file.encoder.write(&rows)?;
        file.sum.add(sum);
        file.last_used = self.clock;
        let age = self.table.env.clock.monotonic().saturating_sub(file.opened);
        if file.encoder.bytes() >= self.table.options.file_bytes
            || age >= Duration::from_millis(self.table.options.file_ms)
        {
            self.seal(&group.folder)?;
        }
        Ok(())
    }

    fn create(&mut self, epoch: Epoch) -> Result<OpenFile> {
        let object = self.next_object(epoch);
        let path = self.table.staged_folder().join(self.staged_name(&object));
        let file = self
            .table
            .env
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|e| Error::io(format!("create {}", path.display()), &e))?;
        let opened = self.table.env.clock.monotonic();
        let encoder = self.table.spec.encoder(&self.file_schema, Box::new(StagedFile::new(file.clone())))?;
        Ok(OpenFile { object, file, encoder, sum: RowSum::default(), last_used: self.clock, opened })
    }

    /// Ends the open file of a folder and makes its bytes durable. Its name is made durable by `prepare`.
    fn seal(&mut self, folder: &str) -> Result<()> {
        let Some(open) = self.open.remove(folder) else { return Ok(()) };
        let staged = self.staged_name(&open.object);
        let target = open.encoder.finish()?;
        let (bytes, crc32c) = target.close().map_err(|e| Error::io(format!("write {staged}"), &e))?;
        let path = self.table.staged_folder().join(&staged);
        open.file.sync_all().map_err(|e| folder::sync_error(&path, &e))?;
        let file_name = format!("part-{staged}");
        let path = if folder.is_empty() { file_name } else { format!("{folder}/{file_name}") };
        self.sealed.push(PreparedHandle {
            subtask: self.subtask,
            channel: SinkChannel::Table,
            name: open.object,
            sum: open.sum,
            detail: detail_json(&HandleDetail::File { path, staged, bytes, crc32c })?,
        });
        Ok(())
    }

    /// Keeps what encoders hold in memory within its bound.
    fn bound_memory(&mut self) -> Result<()> {
        while self.open.values().map(|file| file.encoder.buffered()).sum::<usize>() > BUFFERED_BYTES_MAX {
            match self.open.values_mut().max_by_key(|file| file.encoder.buffered()) {
                Some(largest) => largest.encoder.flush()?,
                None => break,
            }
        }
        Ok(())
    }

    /// The overwrite's list rides on the first epoch this generation prepares, unless an earlier epoch of
    /// the job has carried it already: then a record stands.
    fn overwrite_handle(&mut self, epoch: Epoch) -> Result<Option<PreparedHandle>> {
        let Some(overwrite) = self.removals.take() else { return Ok(None) };
        let records = self.table.records_folder(self.token.job, self.subtask.operator);
        let is_done = match self.table.env.disk.list(&records) {
            Ok(entries) => entries.iter().any(|e| super::commit::record_epoch(&e.path).is_some()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(format!("list {}", records.display()), &e)),
        };
        if is_done {
            return Ok(None);
        }
        Ok(Some(PreparedHandle {
            subtask: self.subtask,
            channel: SinkChannel::Table,
            name: self.next_object(epoch),
            sum: RowSum::default(),
            detail: detail_json(&HandleDetail::Overwrite { overwrite })?,
        }))
    }

    /// Where partitions wait for a time, every epoch brings news of it, with rows or without.
    fn watermark_handle(&mut self, epoch: Epoch) -> Result<Option<PreparedHandle>> {
        if !self.table.options.partition_commit.as_ref().is_some_and(PartitionCommit::waits) {
            return Ok(None);
        }
        Ok(Some(PreparedHandle {
            subtask: self.subtask,
            channel: SinkChannel::Table,
            name: self.next_object(epoch),
            sum: RowSum::default(),
            detail: detail_json(&HandleDetail::Watermark { watermark: (!self.is_idle).then_some(self.watermark) })?,
        }))
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
        let rows = match self.table.options.keeps {
            Keeps::Log => &kinds::as_text(rows, self.table.spec.tells_updates())?,
            Keeps::Rows | Keeps::Table(_) => rows,
        };
        let rows = conform(&self.table.name, &self.table.columns, rows)?;
        let table = self.table.clone();
        for group in partition::split(&rows, &table.partition_columns, &table.partition_names)? {
            self.write_group(epoch, &group)?;
        }
        self.bound_memory()
    }

    fn try_prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        if let Some(open) = self.epoch.take()
            && open != epoch
        {
            return Err(Error::internal(format!("epoch {epoch} is prepared while {open} is open")));
        }
        while let Some(folder) = self.open.keys().next().cloned() {
            self.seal(&folder)?;
        }
        let mut handles = std::mem::take(&mut self.sealed);
        if !handles.is_empty() {
            folder::sync(&self.table.env, &self.table.staged_folder())?;
        }
        handles.extend(self.overwrite_handle(epoch)?);
        handles.extend(self.watermark_handle(epoch)?);
        Ok(handles)
    }
}

/// What was not handed over is nobody's: no handle names it. A process that wakes up behind its successor begins a file
/// after the abort of that one, and finds out that it is over; no later abort may come.
impl Drop for FileWriter {
    fn drop(&mut self) {
        // A process that is killed does not tidy up either.
        if thread::is_ending() {
            return;
        }
        let open = self.open.values().map(|file| &file.object);
        for object in open.chain(self.sealed.iter().map(|handle| &handle.name)) {
            // If it cannot be removed it stays hidden, for the next generation's abort.
            let _ = self.table.env.disk.remove_file(&self.table.staged_folder().join(self.staged_name(object)));
        }
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, epoch: Epoch, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.guarded(|writer| writer.try_write(epoch, rows))
    }

    fn watermark(&mut self, watermark_ms: i64) {
        self.watermark = self.watermark.max(watermark_ms);
        self.is_idle = false;
    }

    fn idle(&mut self) {
        self.is_idle = true;
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        self.guarded(|writer| writer.try_prepare(epoch))
    }
}
