//! Topics, described.

use qanat_client::{Topic, TopicColumn, TopicPartition};
use qanat_proto::Result;
use qanat_proto::names::Name;
use qanat_sql::types::sql_name;
use qanat_storage::log::TopicDescription;

use crate::data_folder::DataView;

/// All topics, by name.
///
/// # Errors
/// E0304 for a damaged one; the disk's.
pub(crate) fn list(view: &DataView) -> Result<Vec<Topic>> {
    let topics = view.topics()?;
    topics.list()?.iter().map(|name| Ok(shown(&topics.describe(name)?))).collect()
}

/// One topic.
///
/// # Errors
/// E0308 if there is none, with the nearest name.
pub(crate) fn describe(view: &DataView, name: &str) -> Result<Topic> {
    Ok(shown(&view.topics()?.describe(&Name::new(name)?)?))
}

/// A topic as everybody is shown it.
pub(crate) fn shown(topic: &TopicDescription) -> Topic {
    let fields = topic.schema.iter().flat_map(|schema| schema.fields());
    let columns = fields.map(|field| TopicColumn {
        name: field.name().clone(),
        r#type: sql_name(field.data_type()),
        nullable: field.is_nullable(),
    });
    let partitions = topic.partitions.iter().map(|p| TopicPartition {
        partition: p.partition,
        first_offset: p.first_offset,
        end_offset: p.end_offset,
        bytes: p.bytes,
        segments: p.segments as u64,
    });
    let retention = &topic.spec.retention;
    Topic {
        name: topic.name.to_string(),
        retention_bytes: retention.bytes,
        retention_age_ms: retention.age_ms,
        retention_consumed: retention.consumed,
        columns: columns.collect(),
        partitions: partitions.collect(),
        id: topic.id,
    }
}
