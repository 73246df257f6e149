//! Tests of the log as a whole, and what they share.

mod beside;
mod changes;
mod crash;
mod faults;
mod flip;
mod follow;
mod kept_index;
mod model;
mod retained;
mod shared;
mod threads;
mod zombie;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::names::{Name, Origin};

use super::segment::segment_path;
use super::{GroupCommit, LogOptions, OwnerToken, StagedHandle, Start, Topic, TopicSpec, Topics};
use crate::env::sim::{CrashState, SimEnv};
use crate::env::{Disk, Env, OpenMode};

/// Segments of a few frames and little preallocation, so that small logs reach every corner.
pub(super) const SMALL: LogOptions =
    LogOptions { segment_bytes: 8 << 10, allocate_bytes: 1 << 10, roll_after_ms: None };
pub(super) const FOLDER: &str = "/topics";

pub(super) fn open(env: &Env, folder: impl AsRef<Path>) -> Topics {
    Topics::open_with(env.clone(), folder.as_ref(), GroupCommit::inline(), SMALL).expect("the folder opens")
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

/// One of several processes that share the topic `t`: what it knows of it is its own.
pub(super) fn process(env: &Env) -> Arc<Topic> {
    process_with(env, LogOptions::default())
}

pub(super) fn process_with(env: &Env, options: LogOptions) -> Arc<Topic> {
    let folder = Path::new(FOLDER);
    let topics = Topics::open_shared_with(env.clone(), folder, GroupCommit::inline(), options).expect("opens");
    topics.get_or_create(&name("t"), TopicSpec::new(1)).expect("there")
}

/// Rows that a job staged. Jobs do not wait for each other's commits.
pub(super) fn staged_by(topic: &Arc<Topic>, job: u128, rows_of: std::ops::Range<i64>) -> StagedHandle {
    let mut origin = origin(1, 2, 0);
    origin.token.job = JobId(job);
    let mut staging = topic.stage(origin, 0);
    staging.write(0, &rows(rows_of), None).expect("room");
    staging.prepare().expect("durable")
}

pub(super) fn commit_as_owner(topic: &Arc<Topic>, handle: &StagedHandle, owner: u64) -> qanat_proto::Result<()> {
    topic.commit_owned(std::slice::from_ref(handle), OwnerToken(owner)).map(drop)
}

/// Rows `(id, text)`.
pub(super) fn rows(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let texts: Vec<String> = ids.iter().map(|id| format!("row {id}")).collect();
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(texts))])
        .expect("columns fit")
}

/// All ids of a partition, from its first offset on; the offsets must have no gap.
pub(super) fn ids(topic: &Topic, partition: u32) -> qanat_proto::Result<Vec<i64>> {
    let mut reader = topic.read_from(partition, Start::Earliest)?;
    let mut ids = Vec::new();
    let mut next = topic.partition(partition)?.first_offset();
    while let Some(batch) = reader.poll()? {
        assert_eq!(batch.first_offset, next, "offsets have no gap");
        next += batch.rows.num_rows() as u64;
        let column = batch.rows.column(0).as_primitive::<Int64Type>();
        ids.extend(column.values());
        for (id, text) in column.values().iter().zip(batch.rows.column(1).as_string::<i32>()) {
            assert_eq!(text, Some(format!("row {id}").as_str()));
        }
    }
    assert_eq!(next, topic.partition(partition)?.end_offset(), "a reader reaches the end");
    Ok(ids)
}

pub(super) fn origin(generation: u64, epoch: u64, index: u32) -> Origin {
    Origin {
        token: Token { job: JobId(7), generation: Generation(generation) },
        epoch: Epoch(epoch),
        subtask: SubtaskId { operator: OperatorId(3), index },
    }
}

/// A machine that starts again after a crash.
pub(super) fn reboot(sim: &SimEnv, state: &CrashState) -> Env {
    Env { disk: Arc::new(state.disk.clone()), ..sim.env.clone() }
}
