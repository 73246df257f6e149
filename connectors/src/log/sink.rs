//! Writes rows to a topic: staged aside per subtask, appended as atomic runs at commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMillisecondType;
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use qanat_executor_core::partition::Partitioner;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::CommitPermit;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::names::{Name, Origin};
use qanat_proto::receipt::RowSum;
use qanat_storage::log::{EventTime, OwnerToken, StagedHandle, Staging, Topic, Topics};

use super::options::{LogOptions, SinkPartitioner};
use crate::contract::{CommitScope, Sink, SinkWriter};
use crate::encode::{conform, kinds};

/// How rows choose their partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// All to one.
    Single,
    /// By the hash of these columns.
    Key { columns: Vec<usize>, partitions: u32 },
    /// A subtask to the partition of its number.
    Fixed { partitions: u32 },
    /// Batches in turn.
    RoundRobin { partitions: u32 },
}

impl Routing {
    pub(super) fn of(options: &LogOptions, table: &TableDescriptor, partitions: u32) -> Result<Self> {
        Ok(match options.partitioner {
            _ if partitions == 1 => Self::Single,
            SinkPartitioner::Fixed => Self::Fixed { partitions },
            SinkPartitioner::RoundRobin => Self::RoundRobin { partitions },
            SinkPartitioner::Key => {
                for column in &options.keys {
                    qanat_executor_core::canonical::check_type(table.physical.field(*column).data_type())?;
                }
                Self::Key { columns: options.keys.clone(), partitions }
            }
        })
    }
}

/// One topic, opened for writing by one generation. Side tables are written through it too.
pub struct LogSink {
    topics: Arc<Topics>,
    name: Name,
    topic: Arc<Topic>,
    columns: SchemaRef,
    event_time_column: Option<usize>,
    routing: Routing,
    channel: SinkChannel,
    /// The last of its columns says of each row what it does.
    tells_kinds: bool,
}

impl LogSink {
    /// Opens a topic that exists for rows of `columns`.
    ///
    /// # Errors
    /// E0308 without the topic; E0114 if it holds rows of another schema.
    pub fn open(
        topics: Arc<Topics>,
        name: Name,
        columns: SchemaRef,
        event_time_column: Option<usize>,
        routing: Routing,
        channel: SinkChannel,
        tells_kinds: bool,
    ) -> Result<Self> {
        let topic = topics.topic(&name)?;
        topic.declare_schema(&columns)?;
        Ok(Self { topics, name, topic, columns, event_time_column, routing, channel, tells_kinds })
    }
}

impl Sink for LogSink {
    fn writer(&self, subtask: SubtaskId, token: Token) -> Result<Box<dyn SinkWriter>> {
        let partitioner = match &self.routing {
            Routing::Key { columns, partitions } => {
                let groups =
                    u16::try_from(*partitions).map_err(|_| Error::internal("more partitions than key groups"))?;
                Some(Partitioner::new(columns.clone(), groups, *partitions)?)
            }
            Routing::Single | Routing::Fixed { .. } | Routing::RoundRobin { .. } => None,
        };
        Ok(Box::new(LogWriter {
            topic: self.topic.clone(),
            columns: self.columns.clone(),
            event_time_column: self.event_time_column,
            routing: self.routing.clone(),
            channel: self.channel,
            tells_kinds: self.tells_kinds,
            partitioner,
            subtask,
            token,
            turn: subtask.index,
            sequence: 0,
            staging: None,
            sum: RowSum::default(),
            hasher: RowHasher::default(),
            is_poisoned: false,
        }))
    }

    fn commit(&self, _operator: CommitScope, permit: &CommitPermit, handles: &[PreparedHandle]) -> Result<()> {
        if let Some(stranger) = handles.iter().find(|handle| !permit.handles.contains(handle)) {
            let message = format!("the permit of epoch {} does not name {}", permit.epoch, stranger.name);
            return Err(Error::new(Code::Invariant, message));
        }
        let staged = handles.iter().map(|handle| self.staged_of(handle)).collect::<Result<Vec<_>>>()?;
        if staged.is_empty() {
            return Ok(());
        }
        // Found again by name: a topic that was deleted meanwhile is not written to.
        let topic = self.topics.topic(&self.name)?;
        topic.commit(&staged)?;
        keep_size(&topic);
        Ok(())
    }

    fn abort_lower(&self, operator: CommitScope, token: Token, keep: &[PreparedHandle]) -> Result<()> {
        let keep: BTreeSet<String> = keep.iter().map(|handle| handle.name.clone()).collect();
        self.topic.abort_lower(token.job, token.generation, self.own(operator), &keep).map(drop)
    }

    fn newest_commit(&self, operator: CommitScope, job: JobId) -> Result<Option<Epoch>> {
        self.topic.newest_commit(job, self.own(operator))
    }

    fn remembers_commits(&self) -> bool {
        // A side table may be deleted: its rows are the user's to throw away.
        self.channel == SinkChannel::Table
    }
}

impl LogSink {
    /// The operator whose handles are meant. Several tasks put rows into a side table, each under an id of
    /// its own: all that a job staged there is the side table's.
    fn own(&self, scope: CommitScope) -> Option<OperatorId> {
        match self.channel {
            SinkChannel::Table => Some(scope.operator),
            SinkChannel::Late | SinkChannel::DeadLetters => None,
        }
    }

    fn staged_of(&self, handle: &PreparedHandle) -> Result<StagedHandle> {
        let staged = staged_of(handle)?;
        if staged.topic == self.name.as_str() {
            Ok(staged)
        } else {
            let message = format!("handle {} is for `{}` in topic `{}`", handle.name, staged.name, staged.topic);
            Err(Error::new(Code::Invariant, message).at(Place::Named(self.name.to_string())))
        }
    }
}

/// Appends what a permit names to its topics, whatever jobs and sinks it came from, as the owner with this token.
///
/// # Errors
/// E0306 if a partition has a newer owner; E0304 if staged rows are missing; E0305 if a sync failed.
pub fn commit_owned(topics: &Topics, permit: &CommitPermit, owner: u64) -> Result<()> {
    let mut by_topic: BTreeMap<String, Vec<StagedHandle>> = BTreeMap::new();
    for handle in &permit.handles {
        let staged = staged_of(handle)?;
        by_topic.entry(staged.topic.clone()).or_default().push(staged);
    }
    for (name, staged) in by_topic {
        let topic = topics.topic(&Name::new(&name)?)?;
        topic.commit_owned(&staged, OwnerToken(owner))?;
        keep_size(&topic);
    }
    Ok(())
}

/// Between two sweeps a fast job would write many times the size.
fn keep_size(topic: &Topic) {
    if let Err(error) = topic.retain_size() {
        tracing::info!(%error, topic = %topic.name(), "could not apply retention");
    }
}

fn staged_of(handle: &PreparedHandle) -> Result<StagedHandle> {
    let staged: StagedHandle = serde_json::from_value(handle.detail.clone()).map_err(|e| {
        Error::new(Code::UnknownVersion, format!("handle {} is not one of a log sink: {e}", handle.name))
    })?;
    if staged.name == handle.name {
        return Ok(staged);
    }
    Err(Error::new(Code::Invariant, format!("handle {} is for `{}`", handle.name, staged.name)))
}

struct LogWriter {
    topic: Arc<Topic>,
    columns: SchemaRef,
    event_time_column: Option<usize>,
    routing: Routing,
    channel: SinkChannel,
    tells_kinds: bool,
    partitioner: Option<Partitioner>,
    subtask: SubtaskId,
    token: Token,
    /// The partition whose turn it is.
    turn: u32,
    sequence: u64,
    /// The open epoch, once it has rows.
    staging: Option<(Epoch, Staging)>,
    sum: RowSum,
    hasher: RowHasher,
    is_poisoned: bool,
}

impl LogWriter {
    fn route(&mut self, rows: RecordBatch) -> Result<Vec<(u32, RecordBatch)>> {
        Ok(match (&self.routing, self.partitioner.as_mut()) {
            (Routing::Key { .. }, Some(partitioner)) => partitioner.partition(&rows)?,
            (Routing::Fixed { partitions }, _) => vec![(self.subtask.index % partitions, rows)],
            (Routing::RoundRobin { partitions }, _) => {
                let partition = self.turn % partitions;
                self.turn = (partition + 1) % partitions;
                vec![(partition, rows)]
            }
            (Routing::Single | Routing::Key { .. }, _) => vec![(0, rows)],
        })
    }

    fn try_write(&mut self, epoch: Epoch, rows: &RecordBatch) -> Result<()> {
        let rows = if self.tells_kinds { &kinds::as_text(rows, true)? } else { rows };
        let rows = conform(self.topic.name().as_str(), &self.columns, rows)?;
        if let Some((open, _)) = &self.staging
            && *open != epoch
        {
            return Err(Error::internal(format!("rows of epoch {epoch} arrive while {open} is open")));
        }
        let sum = self.hasher.sum(&rows)?;
        let parts = self.route(rows)?;
        let (_, staging) = match &mut self.staging {
            Some(open) => open,
            empty => {
                let origin = Origin { token: self.token, epoch, subtask: self.subtask };
                let sequence = self.sequence;
                self.sequence += 1;
                empty.insert((epoch, self.topic.stage(origin, sequence)))
            }
        };
        for (partition, part) in parts {
            staging.write(partition, &part, event_time(&part, self.event_time_column)?)?;
        }
        self.sum.add(sum);
        Ok(())
    }

    fn try_prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        let Some((open, staging)) = self.staging.take() else { return Ok(Vec::new()) };
        if open != epoch {
            return Err(Error::internal(format!("epoch {epoch} is prepared while {open} is open")));
        }
        let staged = staging.prepare()?;
        let detail = serde_json::to_value(&staged).map_err(|e| Error::internal(format!("write a handle: {e}")))?;
        let sum = std::mem::take(&mut self.sum);
        Ok(vec![PreparedHandle { subtask: self.subtask, channel: self.channel, name: staged.name, sum, detail }])
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let place = || Place::Named(format!("topic {}", self.topic.name()));
        if self.is_poisoned {
            return Err(Error::new(Code::Io, "this writer failed before and takes no more rows").at(place()));
        }
        act(self).map_err(|error| {
            self.is_poisoned = true;
            error.or_at(|| Place::Named(format!("topic {}", self.topic.name())))
        })
    }
}

impl SinkWriter for LogWriter {
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

/// Lowest and highest event time of rows, in ms; none without a column or without a value.
fn event_time(rows: &RecordBatch, column: Option<usize>) -> Result<Option<EventTime>> {
    let Some(column) = column else { return Ok(None) };
    let times = cast(rows.column(column), &DataType::Timestamp(TimeUnit::Millisecond, None))
        .map_err(|e| Error::internal(format!("event time of rows: {e}")))?;
    let times = times.as_primitive::<TimestampMillisecondType>();
    Ok(min(times).zip(max(times)).map(|(min, max)| EventTime { min, max }))
}
