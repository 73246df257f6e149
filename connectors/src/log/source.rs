//! Reads a topic: a split per partition, an offset as position.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::FormatOptions;
use qanat_proto::changelog::kind_field;
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_proto::ids::SplitId;
use qanat_proto::names::Name;
use qanat_storage::env::Env;
use qanat_storage::log::{LogReader, Start, Topic, TopicSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options::{LogOptions, Startup};
use crate::contract::{Context, ReadOutcome, ReadRequest, Source, SourceBatch, Split, SplitReader, StopFlag};
use crate::encode::kinds;

/// How long a reader waits to be woken before it says that there is nothing.
const WAIT: Duration = Duration::from_millis(50);

pub(super) struct LogSource {
    topic: Arc<Topic>,
    table: TableDescriptor,
    startup: Startup,
    is_bounded: bool,
    shape: Arc<Shape>,
}

/// What the rows of a batch look like.
struct Shape {
    env: Env,
    /// Names and types of the table's columns that are asked for.
    columns: Vec<Arc<Field>>,
    metadata: Vec<(String, MetadataKind)>,
    schema: SchemaRef,
    batch_rows: usize,
    /// Rows may change, and say what they do.
    has_kinds: bool,
}

/// How a split is found again; kept in manifests.
#[derive(Debug, Serialize, Deserialize)]
struct Detail {
    topic: Name,
    /// Tells the topic from another that was made anew under its name. None in the positions of old versions.
    #[serde(default)]
    id: Option<u64>,
    partition: u32,
    /// Where a bounded read ends (excluded), as of the submit (P9).
    end: Option<u64>,
}

/// Topic and partition of a split's detail, if it is one of a log source.
pub(super) fn split_of(detail: &Value) -> Option<(Name, u32)> {
    Detail::deserialize(detail).ok().map(|detail| (detail.topic, detail.partition))
}

/// Which topic of its name that is, where the detail says so.
pub(super) fn topic_of(detail: &Value) -> Option<u64> {
    Detail::deserialize(detail).ok().and_then(|detail| detail.id)
}

pub(super) fn offset_of(position: &Value) -> Option<u64> {
    position.get("offset")?.as_u64()
}

impl LogSource {
    pub(super) fn open(context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Self> {
        let options = LogOptions::of_table(table)?;
        let place = || Place::Named(table.name.clone());
        // A topic is made by who writes to it; a reader may come first only if it says how many partitions.
        let topic = match options.partitions {
            Some(partitions) => context.topics.get_or_create(&options.topic, TopicSpec::new(partitions)),
            None => context.topics.topic(&options.topic),
        };
        let columns = request
            .projection
            .iter()
            .map(|i| table.physical.fields().get(*i).cloned())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::internal("a projection names a column that is not there"))?;
        let metadata = request.metadata.iter().map(|(name, kind)| Arc::new(Field::new(name, kind.data_type(), true)));
        let has_kinds = options.changelog.is_some();
        let kind = has_kinds.then(|| Arc::new(kind_field()));
        let schema = Arc::new(Schema::new(columns.iter().cloned().chain(metadata).chain(kind).collect::<Vec<_>>()));
        let batch_rows = request.batch_rows.max(1);
        let (env, metadata) = (context.env.clone(), request.metadata);
        let shape = Shape { env, columns, metadata, schema, batch_rows, has_kinds };
        let source = Self {
            topic: topic
                .and_then(|topic| options.check_partitions(&topic).map(|()| topic))
                .map_err(|e| e.or_at(place))?,
            table: table.clone(),
            startup: options.startup,
            is_bounded: options.is_bounded || request.bounded,
            shape: Arc::new(shape),
        };
        if let Some(schema) = source.topic.schema() {
            source.shape.check(&schema, source.topic.name()).map_err(|e| e.or_at(place))?;
        }
        Ok(source)
    }

    fn place(&self) -> Place {
        Place::Named(self.table.name.clone())
    }

    fn start_of(&self, partition: u32) -> Result<u64> {
        match &self.startup {
            Startup::At(start) => self.topic.resolve(partition, *start),
            Startup::Offsets(offsets) => match offsets.get(&partition) {
                None => self.topic.resolve(partition, Start::Earliest),
                Some(offset) => {
                    // Refuses an offset that is gone or not there yet.
                    self.topic.read_from(partition, Start::Offset(*offset)).map(|reader| reader.next_offset())
                }
            },
        }
    }
}

impl Source for LogSource {
    fn discover(&self) -> Result<Vec<Split>> {
        let name = self.topic.name();
        if let Startup::Offsets(offsets) = &self.startup
            && let Some((stranger, _)) = offsets.range(self.topic.partitions()..).next()
        {
            let message = format!("topic `{name}` has {} partitions: there is no {stranger}", self.topic.partitions());
            return Err(Error::new(Code::BadOption, message).at(self.place()));
        }
        let split = |partition: u32| {
            // In a cluster another process appends and removes.
            self.topic.partition(partition)?.refresh()?;
            let start = self.start_of(partition).map_err(|e| e.or_at(|| self.place()))?;
            let end = if self.is_bounded { Some(self.topic.resolve(partition, Start::Latest)?) } else { None };
            let detail = Detail { topic: name.clone(), id: Some(self.topic.id()), partition, end };
            Ok(Split {
                id: SplitId(format!("{name}/{partition}")),
                detail: serde_json::to_value(detail).map_err(|e| Error::internal(format!("write a split: {e}")))?,
                start: json!({ "offset": start }),
            })
        };
        (0..self.topic.partitions()).map(split).collect()
    }

    fn is_growing(&self) -> bool {
        false
    }

    fn open(&self, split: &Split, position: &Value) -> Result<Box<dyn SplitReader>> {
        let bad = || Error::new(Code::CorruptCheckpoint, format!("split {} has no readable position", split.id));
        let detail = Detail::deserialize(&split.detail).map_err(|_| bad())?;
        let offset = offset_of(position).ok_or_else(bad)?;
        if detail.topic != *self.topic.name() {
            return Err(
                Error::new(Code::ForeignState, format!("split {} is of another topic", split.id)).at(self.place())
            );
        }
        if detail.id.is_some_and(|id| id != self.topic.id()) {
            let message =
                format!("topic `{}` was deleted and made anew: offset {offset} was of the old one", detail.topic);
            return Err(Error::new(Code::OffsetGone, message)
                .at(self.place())
                .hint("start the job anew with another --name to read the new topic from its beginning"));
        }
        let reader =
            self.topic.read_from(detail.partition, Start::Offset(offset)).map_err(|e| e.or_at(|| self.place()))?;
        Ok(Box::new(PartitionReader {
            shape: self.shape.clone(),
            topic: self.topic.clone(),
            origin: split.id.0.clone(),
            reader,
            end: detail.end,
            rest: None,
            checked: None,
        }))
    }
}

impl Shape {
    /// Every column asked for must be in the topic, with a type that can become the table's.
    fn check(&self, topic: &Schema, name: &Name) -> Result<()> {
        let kinds = self.has_kinds.then(|| Arc::new(kinds::field()));
        for column in self.columns.iter().chain(&kinds) {
            let Ok(found) = topic.field_with_name(column.name()) else {
                let message = format!("topic `{name}` has no column `{}`", column.name());
                let error = Error::new(Code::UnknownColumn, message);
                return Err(match nearest(column.name(), topic.fields().iter().map(|f| f.name().as_str())) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!(
                        "its columns are: {}",
                        topic.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
                    )),
                });
            };
            if !can_cast_types(found.data_type(), column.data_type()) {
                let message = format!(
                    "column `{}` of topic `{name}` is {}, not {}",
                    column.name(),
                    found.data_type(),
                    column.data_type()
                );
                return Err(Error::new(Code::TypeMismatch, message).hint("declare the column with the topic's type"));
            }
        }
        Ok(())
    }

    fn rows(&self, origin: &str, first_offset: u64, append_ms: i64, rows: &RecordBatch) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let offset = i64::try_from(first_offset).map_err(|_| Error::internal("an offset above 2^63"))?;
        let unfit = |name: &str, why: &str| {
            Error::new(Code::BadRecord, format!("column `{name}` cannot be read as declared: {why}"))
                .at(Place::Origin { origin: origin.to_owned(), offset: Some(first_offset), unit: "offset".to_owned() })
        };
        let physical = self.columns.iter().map(|field| {
            let column = rows.column_by_name(field.name()).ok_or_else(|| unfit(field.name(), "it is not there"))?;
            let column = convert(column, field.data_type()).map_err(|e| unfit(field.name(), &e.to_string()))?;
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(unfit(field.name(), "it is NOT NULL and a row holds NULL"));
            }
            Ok(column)
        });
        let metadata = self.metadata.iter().map(|(_, kind)| {
            Ok(match kind {
                MetadataKind::Origin => Arc::new(StringArray::from(vec![origin; count])) as ArrayRef,
                MetadataKind::Offset => Arc::new(Int64Array::from_iter_values((offset..).take(count))),
                MetadataKind::IngestTime => times(self.env.clock.now_ms(), count),
                MetadataKind::Timestamp => times(append_ms, count),
            })
        });
        let kinds = self.has_kinds.then(|| {
            let kinds =
                rows.column_by_name(kinds::ROW_KIND).ok_or_else(|| unfit(kinds::ROW_KIND, "it is not there"))?;
            kinds::of_text(kinds).map_err(|why| unfit(kinds::ROW_KIND, &why))
        });
        let columns = physical.chain(metadata).chain(kinds).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &RecordBatchOptions::new().with_row_count(Some(count)),
        )
        .map_err(|e| Error::internal(e.to_string()))
    }
}

fn convert(column: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    cast_with_options(column, to, &CastOptions { safe: false, format_options: FormatOptions::default() })
}

fn times(value_ms: i64, count: usize) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_value(value_ms, count))
}

struct PartitionReader {
    shape: Arc<Shape>,
    topic: Arc<Topic>,
    /// `topic/partition`
    origin: String,
    reader: LogReader,
    end: Option<u64>,
    /// Rows of a frame that was larger than a batch.
    rest: Option<Rest>,
    /// The batch schema that was checked.
    checked: Option<SchemaRef>,
}

struct Rest {
    first_offset: u64,
    append_ms: i64,
    rows: RecordBatch,
}

impl PartitionReader {
    /// The next undivided rows.
    fn fetch(&mut self, stop: &StopFlag) -> Result<Option<Rest>> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let Some(batch) = self.reader.next(WAIT, &|| stop.is_set())? else { return Ok(None) };
        if self.checked.as_ref() != Some(batch.rows.schema_ref()) {
            self.shape.check(batch.rows.schema_ref(), self.topic.name())?;
            self.checked = Some(batch.rows.schema());
        }
        Ok(Some(Rest { first_offset: batch.first_offset, append_ms: batch.append_ms, rows: batch.rows }))
    }

    fn at_end(&self) -> bool {
        let next = self.rest.as_ref().map_or_else(|| self.reader.next_offset(), |rest| rest.first_offset);
        self.end.is_some_and(|end| next >= end)
    }
}

impl SplitReader for PartitionReader {
    fn next(&mut self, stop: &StopFlag) -> Result<ReadOutcome> {
        if self.at_end() {
            return Ok(ReadOutcome::End);
        }
        let Some(Rest { first_offset, append_ms, rows }) = self.fetch(stop)? else { return Ok(ReadOutcome::Pending) };
        let left = self.end.map_or(usize::MAX, |end| usize::try_from(end - first_offset).unwrap_or(usize::MAX));
        let count = rows.num_rows().min(self.shape.batch_rows).min(left);
        let next_offset = first_offset + count as u64;
        if count < rows.num_rows() {
            let rows = rows.slice(count, rows.num_rows() - count);
            self.rest = Some(Rest { first_offset: next_offset, append_ms, rows });
        }
        let taken = rows.slice(0, count);
        Ok(ReadOutcome::Batch(SourceBatch {
            rows: self.shape.rows(&self.origin, first_offset, append_ms, &taken)?,
            dead_letters: Vec::new(),
            position: json!({ "offset": next_offset }),
            records: count as u64,
            // All columns lie in the buffer of their frame: of it only what is theirs was read for them.
            bytes: taken.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0) as u64).sum(),
            hidden: None,
        }))
    }
}
