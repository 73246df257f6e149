//! A topic: named partitions that share a schema.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::names::Name;
use serde::{Deserialize, Serialize};

use super::frame::{EventTime, WriterStamp};
use super::group::Pending;
use super::partition::{Access, Partition};
use super::payload::TopicSchema;
use super::reader::{LogBatch, LogReader};
use super::retention::Retention;
use super::writer::{Append, Appended, OwnerToken, Work};
use super::{Setup, document, ends, lock};
use crate::crash_safe;
use crate::env::Env;

/// Partitions a topic may have: each costs open files and, once written to, a preallocated segment.
pub const PARTITIONS_MAX: u32 = 1_000;
/// The file whose presence makes a folder a topic.
pub(super) const TOPIC_FILE: &str = "topic";
const SCHEMA_FILE: &str = "schema";

/// What a topic was created with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    pub partitions: u32,
    #[serde(default)]
    pub retention: Retention,
}

impl TopicSpec {
    /// `partitions` partitions that keep everything.
    pub fn new(partitions: u32) -> Self {
        Self { partitions, retention: Retention::default() }
    }
}

/// Content of the file that makes a folder a topic.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    pub partitions: u32,
    #[serde(default)]
    pub retention: Retention,
    /// Random. 0: created before topics had one.
    #[serde(default)]
    pub id: u64,
}

/// What an append says beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct AppendOptions {
    pub event_time: Option<EventTime>,
    pub writer: WriterStamp,
    /// E0306 if the partition has another owner by now. None: whoever owns it here.
    pub owner: Option<OwnerToken>,
    /// The rows begin a segment, so that what lies before them can be removed ([`Partition::remove_before`]).
    pub begins_segment: bool,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self { event_time: None, writer: WriterStamp::NONE, owner: None, begins_segment: false }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    Offset(u64),
    /// Milliseconds since 1970 UTC.
    Time(i64),
}

/// Which rows a look at a topic shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    /// Staged rows too, after the others and marked as such.
    Uncommitted,
}

/// What `topics` prints.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDescription {
    pub name: Name,
    /// See [`Topic::id`].
    pub id: u64,
    pub spec: TopicSpec,
    /// None until the first append.
    pub schema: Option<SchemaRef>,
    pub partitions: Vec<PartitionDescription>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: u32,
    pub first_offset: u64,
    pub end_offset: u64,
    pub bytes: u64,
    pub segments: usize,
}

/// An open topic.
pub struct Topic {
    name: Name,
    spec: TopicSpec,
    id: u64,
    /// Of its rows.
    folder: PathBuf,
    setup: Setup,
    schema: Mutex<Option<TopicSchema>>,
    partitions: Vec<OnceLock<Arc<Partition>>>,
    /// Held while a partition is recovered, so that it happens once.
    opening: Mutex<()>,
    /// Held while the ends that a commit reached are noted.
    pub(super) noting: Mutex<()>,
    /// Held while a partition is taken over.
    pub(super) owning: Mutex<()>,
}

impl Topic {
    /// Opens a topic that is described in this folder. Partitions are recovered when first used.
    pub(super) fn open(name: Name, described: Described, folder: &Path, setup: Setup) -> Result<Self> {
        let Described { partitions, retention, id } = described;
        let folder = rows_folder(folder, id);
        let setup = Setup { options: setup.options.for_retention(&retention), ..setup };
        let spec = TopicSpec { partitions, retention };
        let schema = read_schema(&setup.env, &folder)?;
        let partitions = (0..spec.partitions).map(|_| OnceLock::new()).collect();
        let [opening, noting, owning] = [const { Mutex::new(()) }; 3];
        Ok(Self { name, spec, id, folder, setup, schema: Mutex::new(schema), partitions, opening, noting, owning })
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn spec(&self) -> &TopicSpec {
        &self.spec
    }

    /// Tells it from another topic that had its name before it was deleted.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether retention never removes a row.
    pub fn keeps_everything(&self) -> bool {
        self.spec.retention == Retention::default()
    }

    pub fn partitions(&self) -> u32 {
        self.spec.partitions
    }

    /// The folder that its rows lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a partition's segments.
    pub fn folder_of(&self, partition: u32) -> PathBuf {
        self.partition_folder(partition)
    }

    pub(super) fn env(&self) -> &Env {
        &self.setup.env
    }

    /// The schema of its rows; None until the first append.
    pub fn schema(&self) -> Option<SchemaRef> {
        lock(&self.schema).as_ref().map(|known| Arc::clone(&known.schema))
    }

    /// A partition, recovered if this is the first use of it.
    ///
    /// # Errors
    /// E0304 if it is damaged, E0501 if there is no such partition.
    pub fn partition(&self, index: u32) -> Result<Arc<Partition>> {
        let slot = self.partitions.get(index as usize).ok_or_else(|| self.no_partition(index))?;
        if let Some(partition) = slot.get() {
            return Ok(Arc::clone(partition));
        }
        let _opening = lock(&self.opening);
        if let Some(partition) = slot.get() {
            return Ok(Arc::clone(partition));
        }
        let folder = self.partition_folder(index);
        let least_end = ends::least(self.setup.env.disk.as_ref(), &self.folder, index)?;
        let opened = Partition::open(self.name.clone(), index, folder, self.setup.clone(), least_end)?;
        if self.setup.access == Access::Write {
            opened.sweep_staged(None)?;
        }
        Ok(Arc::clone(slot.get_or_init(|| opened)))
    }

    pub(super) fn open_all(&self) -> Result<Vec<Arc<Partition>>> {
        (0..self.partitions()).map(|index| self.partition(index)).collect()
    }

    pub(super) fn open_already(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(OnceLock::get)
    }

    pub(super) fn no_partition(&self, index: u32) -> Error {
        Error::new(
            Code::Usage,
            format!("topic `{}` has {} partitions, there is no partition {index}", self.name, self.spec.partitions),
        )
    }

    pub(super) fn partition_folder(&self, index: u32) -> PathBuf {
        partition_folder(&self.folder, index)
    }

    /// Records the schema if the topic has none, and otherwise checks that rows of `schema` fit it.
    ///
    /// # Errors
    /// E0114 if they do not.
    pub fn declare_schema(&self, schema: &Schema) -> Result<()> {
        self.ensure_schema(schema).map(drop)
    }

    pub(super) fn ensure_schema(&self, schema: &Schema) -> Result<TopicSchema> {
        let mut slot = lock(&self.schema);
        let known = match slot.take() {
            Some(known) => known,
            None => self.record_schema(schema)?,
        };
        let fits = known.accepts(schema);
        let known = slot.insert(known);
        if fits {
            return Ok(known.clone());
        }
        Err(Error::new(
            Code::SinkSchema,
            format!(
                "the rows have the columns ({}), topic `{}` has ({})",
                columns(schema),
                self.name,
                columns(&known.schema)
            ),
        )
        .hint("cast the columns to the topic's types, or write to another topic"))
    }

    fn record_schema(&self, schema: &Schema) -> Result<TopicSchema> {
        let plain: Schema = Schema::new(schema.fields().clone());
        let recorded = TopicSchema::new(&plain)?;
        let path = self.folder.join(SCHEMA_FILE);
        match crash_safe::write_new(&self.setup.env, &path, &document::wrap(&recorded.message)) {
            Ok(()) => Ok(recorded),
            // Another process was first: its schema is the topic's.
            Err(crash_safe::Error::Exists(_)) => {
                read_schema(&self.setup.env, &self.folder)?.ok_or_else(|| Error::internal("a schema came and went"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Appends rows to a partition as one atomic run and waits until they are durable.
    ///
    /// # Errors
    /// E0114 if the rows do not fit the topic's schema; E0305 if the disk failed; E0306 if another owner
    /// took the partition over; E0215 if the disk is full.
    pub fn append(&self, partition: u32, rows: &RecordBatch, options: &AppendOptions) -> Result<Appended> {
        self.append_later(partition, rows, options)?.wait()
    }

    /// Queues an append. Offsets are given in the order of these calls.
    pub fn append_later(&self, partition: u32, rows: &RecordBatch, options: &AppendOptions) -> Result<Pending> {
        let partition = self.partition(partition)?;
        if rows.num_rows() == 0 {
            let end = partition.end_offset();
            return Ok(Pending::ready(Appended { offsets: end..end, was_done: false }));
        }
        let schema = self.ensure_schema(rows.schema_ref())?;
        let run = schema.encode(rows, options.event_time, &options.writer, "")?;
        let append = Append::memory(run, schema, options);
        Ok(partition.commit.submit(&partition, Work::Append(append)))
    }

    /// The offset at which `start` lies in a partition now.
    pub fn resolve(&self, partition: u32, start: Start) -> Result<u64> {
        let partition = self.partition(partition)?;
        match start {
            Start::Earliest => Ok(partition.first_offset()),
            Start::Latest => Ok(partition.end_offset()),
            Start::Offset(offset) => Ok(offset),
            Start::Time(time_ms) => partition.offset_for_time(time_ms),
        }
    }

    /// Reads a partition from `start` on, for ever.
    pub fn read_from(&self, partition: u32, start: Start) -> Result<LogReader> {
        let offset = self.resolve(partition, start)?;
        self.partition(partition)?.read_from(offset)
    }

    /// Reads a partition from `start` to what is its end now, and, uncommitted, what is staged then.
    pub fn read_to_latest(self: &Arc<Self>, partition: u32, start: Start, isolation: Isolation) -> Result<ToLatest> {
        let end = self.partition(partition)?.end_offset();
        let reader = self.read_from(partition, start)?;
        Ok(ToLatest { topic: Arc::clone(self), partition, reader, end, isolation, staged: None })
    }

    /// Applies the topic's retention to every partition. Returns how many segments went.
    pub fn retain(&self) -> Result<usize> {
        self.retain_by(&self.spec.retention)
    }

    /// The same without what goes when it was read.
    pub fn retain_unasked(&self) -> Result<usize> {
        self.retain_by(&Retention { consumed: false, ..self.spec.retention })
    }

    /// Applies what of the topic's retention goes by size, which asks nobody.
    pub fn retain_size(&self) -> Result<usize> {
        self.retain_by(&Retention { bytes: self.spec.retention.bytes, ..Retention::default() })
    }

    /// As [`Topic::retain_unasked`] for the partitions that this process owns, of several that share the folder.
    pub fn retain_owned(&self) -> Result<usize> {
        let retention = Retention { consumed: false, ..self.spec.retention };
        if retention == Retention::default() {
            return Ok(0);
        }
        goes_on(self.open_already(), |partition| partition.retain_owned(&retention))
    }

    fn retain_by(&self, retention: &Retention) -> Result<usize> {
        if *retention == Retention::default() {
            // No partition need be opened for it.
            return Ok(0);
        }
        self.open_all()?.iter().try_fold(0, |sum, partition| Ok(sum + partition.retain(retention)?))
    }

    pub fn describe(&self) -> Result<TopicDescription> {
        let describe = |partition: &Arc<Partition>| PartitionDescription {
            partition: partition.index(),
            first_offset: partition.first_offset(),
            end_offset: partition.end_offset(),
            bytes: partition.bytes(),
            segments: partition.segments(),
        };
        Ok(TopicDescription {
            name: self.name.clone(),
            id: self.id,
            spec: self.spec.clone(),
            schema: self.schema(),
            partitions: self.open_all()?.iter().map(describe).collect(),
        })
    }
}

/// A reader that ends. See [`Topic::read_to_latest`].
pub struct ToLatest {
    topic: Arc<Topic>,
    partition: u32,
    reader: LogReader,
    end: u64,
    isolation: Isolation,
    staged: Option<std::vec::IntoIter<LogBatch>>,
}

impl ToLatest {
    /// The next rows; None at the end.
    #[expect(clippy::should_implement_trait, reason = "it may fail, and callers stop at the first error")]
    pub fn next(&mut self) -> Result<Option<LogBatch>> {
        if self.reader.next_offset() < self.end
            && let Some(batch) = self.reader.poll()?
        {
            return Ok(Some(batch));
        }
        if self.staged.is_none() {
            let rows = match self.isolation {
                Isolation::Committed => Vec::new(),
                Isolation::Uncommitted => self.topic.staged_rows(self.partition)?,
            };
            self.staged = Some(rows.into_iter());
        }
        Ok(self.staged.as_mut().and_then(Iterator::next))
    }
}

impl FromStr for Start {
    type Err = Error;

    /// `earliest`, `latest`, an offset, or a time (`2013-01-01T05:00:00Z`, `2013-01-01 05:00:00`,
    /// `2013-01-01`; UTC where no zone is given).
    fn from_str(text: &str) -> Result<Self> {
        let midnight = chrono::NaiveTime::MIN;
        let naive = |text: &str| {
            chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
                .or_else(|_| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f"))
                .or_else(|_| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(midnight)))
                .map(|time| time.and_utc().timestamp_millis())
        };
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map(Self::Offset).map_err(|_| bad_start(text))
            }
            _ => chrono::DateTime::parse_from_rfc3339(text)
                .map(|time| time.timestamp_millis())
                .or_else(|_| naive(text))
                .map(Self::Time)
                .map_err(|_| bad_start(text)),
        }
    }
}

fn bad_start(text: &str) -> Error {
    Error::new(Code::Usage, format!("`{text}` is no place to start from"))
        .hint("use `earliest`, `latest`, an offset, or a time such as 2013-01-01T05:00:00Z")
}

impl FromStr for Isolation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "committed" => Ok(Self::Committed),
            "uncommitted" => Ok(Self::Uncommitted),
            _ => {
                Err(Error::new(Code::Usage, format!("`{text}` is no isolation"))
                    .hint("use `committed` or `uncommitted`"))
            }
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::Uncommitted => "uncommitted",
        })
    }
}

/// `0123456789abcdef`: named by the topic's id, so that whoever still has a topic that was deleted finds nothing of
/// another one that has its name by now.
pub(super) fn rows_folder(topic: &Path, id: u64) -> PathBuf {
    topic.join(format!("{id:016x}"))
}

/// The sum over all; the first error only at the end, so that one that fails keeps nobody else from it.
pub(super) fn goes_on<T>(all: impl IntoIterator<Item = T>, each: impl Fn(T) -> Result<usize>) -> Result<usize> {
    let mut failed = None;
    let mut sum = 0;
    for one in all {
        match each(one) {
            Ok(count) => sum += count,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(sum), Err)
}

/// `p00000`
pub(super) fn partition_folder(rows: &Path, index: u32) -> PathBuf {
    rows.join(format!("p{index:05}"))
}

fn read_schema(env: &Env, folder: &Path) -> Result<Option<TopicSchema>> {
    let message = document::read_bytes(env.disk.as_ref(), &folder.join(SCHEMA_FILE))?;
    message.map(|message| TopicSchema::parse(&message)).transpose()
}

/// `name type` of each column.
fn columns(schema: &Schema) -> String {
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let null = if field.is_nullable() { "" } else { " not null" };
            format!("{} {}{null}", field.name(), field.data_type())
        })
        .collect();
    columns.join(", ")
}
