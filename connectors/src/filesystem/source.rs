//! Reads files: lists them, cuts them into splits, opens splits at positions.
//!
//! A split is a file, or a byte range or a run of row groups of a large one. Its id is the file's path
//! below the table's path, with number and range of the part. What must never happen: a record in two splits, a record in
//! none, or half a line.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::SplitId;
use qanat_proto::limits::{FILE_SPLIT_BYTES, SPLITS_MAX};
use qanat_storage::env::{Env, thread};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::listing::{FoundFile, Location};
use super::output::Output;
use super::partition::PartitionValues;
use super::split_reader::{FileSplitReader, FirstRow, IDENTITY};
use super::watched::{Identity, Watched, changed};
use crate::contract::{ReadOutcome, ReadRequest, Source, Split, SplitReader, StopFlag};
use crate::format::decode::{FormatOptions, TextSplit};
use crate::format::reader::{DecodeRequest, Policy};
use crate::format::stream::{Compression, FileInput, shrank};
use crate::options::Options;

pub struct FilesystemSource {
    env: Env,
    request: ReadRequest,
    location: Location,
    /// Files whose path it does not match are left out.
    pattern: Option<Regex>,
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
    /// Of a file that may not change, as it was listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<Identity>,
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
        let path = options.required("path")?;
        if path.trim().is_empty() {
            return Err(options.bad("path", "it is empty"));
        }
        let location = Location::new(env.disk.as_ref(), base, path);
        let monitor = options.duration_ms("source.monitor-interval").filter(|_| !request.bounded);
        let format = FormatOptions::of(options)?;
        Ok(Self {
            env: env.clone(),
            location,
            pattern: path_pattern(options)?,
            policy: Policy::of(options, format.name())?,
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
            unread: self.request.unread.clone(),
            batch_rows: self.request.batch_rows,
            policy: self.policy,
            origin: origin.to_owned(),
            filter: None,
        }
    }

    fn splits_of(&self, file: &FoundFile, splits: &mut Vec<Split>) -> Result<()> {
        let is_once = self.monitor.is_none();
        let whole = Detail {
            path: file.relative.clone(),
            part: None,
            file: (is_once || !self.format.can_grow())
                .then_some(Identity { size: file.len, modified_ms: file.modified_ms }),
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
        for (part, (from, to)) in parts.into_iter().enumerate() {
            // The number of the part goes first: whoever spreads splits gives neighbours to neighbours.
            let id = SplitId(format!("{}#{part}:{from}-{to}", file.relative));
            let detail = Detail { part: Some((from, to)), ..whole.clone() };
            splits.push(Split { id, detail: json!(detail), start: self.format.start(Some(from)) });
        }
        Ok(())
    }

    /// The file that is there. E0212 if it may not grow and is not the one that was begun. While nothing
    /// of a whole file has been read, whichever is there is the one; and a compressed file may be replaced
    /// by one with the same beginning, as one that was cut off is mended: the stream checks that.
    fn check_unchanged(&self, input: &FileInput, detail: &Detail, position: &Value) -> Result<Watched> {
        let found = Watched::open(input)?;
        let is_free = detail.part.is_none() && *position == self.format.start(None);
        let is_checked = input.compression != Compression::None && position.get("crc").is_some();
        let begun = position.get(IDENTITY).and_then(|file| serde_json::from_value(file.clone()).ok()).or(detail.file);
        match begun.filter(|begun| *begun != found.identity && !is_free && !is_checked) {
            Some(begun) => Err(changed(input, begun, found.identity)),
            None => Ok(found),
        }
    }
}

fn detail_of(split: &Split) -> Result<Detail> {
    serde_json::from_value(split.detail.clone())
        .map_err(|e| Error::internal(format!("split `{}` has a bad detail: {e}", split.id)))
}

/// `source.path.regex-pattern`, which a whole path must match, as in Flink.
///
/// # Errors
/// E0203 for what is no regular expression.
pub(super) fn path_pattern(options: &Options<'_>) -> Result<Option<Regex>> {
    const KEY: &str = "source.path.regex-pattern";
    let Some(text) = options.text(KEY) else { return Ok(None) };
    let pattern = Regex::new(&format!("^(?:{text})$"));
    pattern.map(Some).map_err(|e| options.bad(KEY, format!("`{text}` is no regular expression: {e}")))
}

/// A followed file that is not there: rotated away, done with, or on a share that is not mounted.
struct Away;

impl SplitReader for Away {
    fn next(&mut self, _stop: &StopFlag) -> Result<ReadOutcome> {
        Ok(ReadOutcome::Away)
    }
}

impl Source for FilesystemSource {
    fn discover(&self) -> Result<Vec<Split>> {
        let now = self.env.clock.monotonic();
        let mut last = thread::lock(&self.last);
        if let (Some((at, splits)), Some(interval)) = (last.as_ref(), self.monitor)
            && now.saturating_sub(*at) < interval
        {
            return Ok(splits.clone());
        }
        let mut splits = Vec::new();
        let is_wanted = |file: &FoundFile| {
            self.pattern.as_ref().is_none_or(|pattern| file.path.to_str().is_some_and(|path| pattern.is_match(path)))
        };
        let files = match (self.location.list(self.env.disk.as_ref(), self.monitor.is_some()), last.as_mut()) {
            // A share that blinks: what was found before is read on, and what is new is found when it is back.
            (Err(error), Some((at, splits))) if error.code() == Code::PathNotFound => {
                tracing::warn!(%error, "a followed path is away");
                *at = now;
                return Ok(splits.clone());
            }
            (files, _) => files?,
        };
        for file in files.into_iter().filter(is_wanted) {
            if file.is_of_table && self.monitor.is_some() {
                let message =
                    format!("`{}` is of a table that is kept by its key", self.location.origin(&file.relative));
                return Err(Error::new(Code::BadRole, message).hint(
                    "each version has other files, with rows that were there before: read it without \
                     `source.monitor-interval`, or write a log of changes (`'sink.changelog' = 'log'`) to follow",
                ));
            }
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

    /// By its size: a file that was only touched is still the one that was read.
    fn check_finished(&self, split: &Split, position: &Value) -> Result<()> {
        let detail = detail_of(split)?;
        let read = position.get(IDENTITY).and_then(|file| serde_json::from_value::<Identity>(file.clone()).ok());
        match (read, detail.file) {
            (Some(read), Some(found)) if read.size != found.size => {
                Err(changed(&self.input(&detail.path), read, found))
            }
            _ => Ok(()),
        }
    }

    fn open(&self, split: &Split, position: &Value) -> Result<Box<dyn SplitReader>> {
        let detail = detail_of(split)?;
        let input = self.input(&detail.path);
        if self.monitor.is_some() && !input.disk.exists(&input.path).map_err(|e| input.io_error("look for", &e))? {
            return Ok(Box::new(Away));
        }
        let file = self.check_unchanged(&input, &detail, position)?;
        let partitions = PartitionValues::of(&detail.path, &self.partitioned_by, &self.physical).map_err(|e| {
            e.or_at(|| Place::Origin { origin: input.origin.clone(), offset: None, unit: String::new() })
        })?;
        let output = self.output.with_constants(&partitions, &input.origin, file.identity.modified_ms)?;
        let mut request = self.decode_request(&input.origin);
        request.filter = self.request.filter.as_ref().map(|filter| filter.bind(&|column| output.binding(column)));
        let text = TextSplit { part: detail.part, position: position.clone() };
        if input.compression == Compression::None
            && let Some(byte) = position.get("byte").and_then(Value::as_u64)
            && byte > file.identity.size
        {
            return Err(shrank(&input.origin, byte, file.identity.size));
        }
        let reader = self.format.open(&input, &text, request.clone())?;
        let first_row = match detail.part {
            Some((from, _)) if from > 0 => FirstRow::unknown(self.format.clone(), input.clone(), from, &request),
            _ => FirstRow::Known(0),
        };
        Ok(Box::new(FileSplitReader::new(
            reader,
            output,
            input.origin.clone(),
            first_row,
            self.policy,
            Arc::clone(&self.env.clock),
            self.monitor,
            (self.monitor.is_none() || !self.format.can_grow()).then_some(file),
        )))
    }
}
