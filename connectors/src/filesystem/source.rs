//! Reads files: lists them, cuts them into splits, opens splits at positions.
//!
//! A split is a file, or a byte range or a run of row groups of a large one. Its id is the file's path
//! below the table's path, with the range. What must never happen: a record in two splits, a record in
//! none, or half a line.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::SplitId;
use qanat_proto::limits::{FILE_SPLIT_BYTES, SPLITS_MAX};
use qanat_storage::env::{Entry, Env};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::listing::{FoundFile, Location};
use super::output::Output;
use super::partition::PartitionValues;
use super::split_reader::{FileSplitReader, FirstRow};
use crate::contract::{ReadRequest, Source, Split, SplitReader};
use crate::format::decode::{FormatOptions, TextSplit};
use crate::format::reader::{DecodeRequest, Policy};
use crate::format::stream::{Compression, FileInput, shrank};
use crate::options::Options;

pub struct FilesystemSource {
    env: Env,
    request: ReadRequest,
    location: Location,
    format: FormatOptions,
    policy: Policy,
    compression: String,
    /// Columns that the files hold.
    columns: SchemaRef,
    /// Of `columns`, those that are decoded.
    projection: Vec<usize>,
    output: Output,
    partitioned_by: Vec<String>,
    physical: SchemaRef,
    /// How often to look for more. None: the path is read once.
    monitor: Option<Duration>,
    split_bytes: u64,
    last: Mutex<Option<(Duration, Vec<Split>)>>,
}

/// What `open` needs to find a split again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Detail {
    path: String,
    /// First and last unit of a part of a file: bytes of text, row groups of Parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<(u64, u64)>,
    /// Size and time of a file that is read once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified_ms: Option<i64>,
}

impl FilesystemSource {
    /// # Errors
    /// Those of the options; nothing is read.
    pub fn new(
        env: &Env,
        base: &Path,
        table: &TableDescriptor,
        options: &Options<'_>,
        request: ReadRequest,
    ) -> Result<Self> {
        let is_file_column = |name: &str| !table.partitioned_by.iter().any(|p| p == name);
        let columns: Vec<_> = table.physical.fields().iter().filter(|f| is_file_column(f.name())).cloned().collect();
        let columns = Arc::new(Schema::new(columns));
        let output = Output::new(&table.physical, &columns, &request)?;
        let location = Location::new(env.disk.as_ref(), base, options.required("path")?);
        let monitor = options.duration_ms("source.monitor-interval").filter(|_| !request.bounded);
        let format = FormatOptions::of(options)?;
        Ok(Self {
            env: env.clone(),
            location,
            policy: Policy::of(options, format.name()),
            format,
            compression: options.text("compression").unwrap_or("auto").to_owned(),
            projection: output.file_projection(),
            columns,
            output,
            partitioned_by: table.partitioned_by.clone(),
            physical: Arc::clone(&table.physical),
            monitor: monitor.map(|ms| Duration::from_millis(ms.max(1))),
            request,
            split_bytes: FILE_SPLIT_BYTES,
            last: Mutex::new(None),
        })
    }

    /// Cuts files above so many bytes, where that is safe.
    #[must_use]
    pub fn with_split_bytes(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes.max(1);
        self
    }

    fn input(&self, relative: &str) -> FileInput {
        let path = self.location.path(relative);
        FileInput {
            disk: Arc::clone(&self.env.disk),
            compression: Compression::of(&self.compression, &path),
            origin: self.location.origin(relative),
            path,
            follow: self.monitor.is_some(),
        }
    }

    fn decode_request(&self, origin: &str) -> DecodeRequest {
        DecodeRequest {
            columns: Arc::clone(&self.columns),
            projection: self.projection.clone(),
            batch_rows: self.request.batch_rows,
            policy: self.policy,
            origin: origin.to_owned(),
        }
    }

    fn splits_of(&self, file: &FoundFile, splits: &mut Vec<Split>) -> Result<()> {
        let is_once = self.monitor.is_none();
        let whole = Detail {
            path: file.relative.clone(),
            part: None,
            size: is_once.then_some(file.len),
            modified_ms: is_once.then_some(file.modified_ms),
        };
        let input = self.input(&file.relative);
        let parts = if is_once && file.len > self.split_bytes && input.compression == Compression::None {
            self.format.parts(&input, file.len, self.split_bytes)?
        } else {
            Vec::new()
        };
        if parts.len() < 2 {
            let start = self.format.start(None);
            splits.push(Split { id: SplitId(file.relative.clone()), detail: json!(whole), start });
            return Ok(());
        }
        for (from, to) in parts {
            let id = SplitId(format!("{}#{from}-{to}", file.relative));
            let detail = Detail { part: Some((from, to)), ..whole.clone() };
            splits.push(Split { id, detail: json!(detail), start: self.format.start(Some(from)) });
        }
        Ok(())
    }

    /// E0212 if a file that is read once is not the one that was listed.
    fn check_unchanged(&self, input: &FileInput, detail: &Detail) -> Result<Entry> {
        let entry = input.disk.metadata(&input.path).map_err(|e| input.io_error("read", &e))?;
        let is_same = detail.size.is_none_or(|size| size == entry.len)
            && detail.modified_ms.is_none_or(|modified| modified == entry.modified_ms);
        if !is_same {
            let was = detail.size.unwrap_or_default();
            let message = format!(
                "`{}` changed since the job first saw it (it had {was} bytes, now it has {})",
                input.origin, entry.len
            );
            let hint = "files must not change while they are read; start the job anew, or follow the path with \
                        'source.monitor-interval'";
            return Err(Error::new(Code::SourceChanged, message).at(input.place()).hint(hint));
        }
        Ok(entry)
    }
}

impl Source for FilesystemSource {
    fn discover(&self) -> Result<Vec<Split>> {
        let now = self.env.clock.monotonic();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((at, splits)), Some(interval)) = (last.as_ref(), self.monitor)
            && now.saturating_sub(*at) < interval
        {
            return Ok(splits.clone());
        }
        let mut splits = Vec::new();
        for file in self.location.list(self.env.disk.as_ref(), self.monitor.is_some())? {
            self.splits_of(&file, &mut splits)?;
            if splits.len() > SPLITS_MAX {
                let message = format!("`{}` has more than {SPLITS_MAX} splits", self.location.text);
                return Err(Error::new(Code::BadOption, message).hint("read fewer or larger files"));
            }
        }
        *last = Some((now, splits.clone()));
        Ok(splits)
    }

    fn is_growing(&self) -> bool {
        self.monitor.is_some()
    }

    fn open(&self, split: &Split, position: &Value) -> Result<Box<dyn SplitReader>> {
        let detail: Detail = serde_json::from_value(split.detail.clone())
            .map_err(|e| Error::internal(format!("split `{}` has a bad detail: {e}", split.id)))?;
        let input = self.input(&detail.path);
        let entry = self.check_unchanged(&input, &detail)?;
        let length = entry.len;
        let request = self.decode_request(&input.origin);
        let text = TextSplit { part: detail.part, position: position.clone() };
        if input.compression == Compression::None
            && let Some(byte) = position.get("byte").and_then(Value::as_u64)
            && byte > length
        {
            return Err(shrank(&input.origin, byte, length));
        }
        let reader = self.format.open(&input, &text, request.clone())?;
        let first_row = match detail.part {
            Some((from, _)) if from > 0 => FirstRow::unknown(self.format.clone(), input.clone(), from, &request),
            _ => FirstRow::Known(0),
        };
        let partitions = PartitionValues::of(&detail.path, &self.partitioned_by, &self.physical).map_err(|e| {
            e.or_at(|| Place::Origin { origin: input.origin.clone(), offset: None, unit: String::new() })
        })?;
        Ok(Box::new(FileSplitReader::new(
            reader,
            self.output.with_constants(&partitions, &input.origin, entry.modified_ms)?,
            input.origin.clone(),
            first_row,
            self.policy,
            Arc::clone(&self.env.clock),
            self.monitor,
        )))
    }
}
