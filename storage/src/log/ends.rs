//! How far the partitions of a topic reach at least: noted apart from their segments.
//!
//! A segment tells of its own damage, and each header of the segment before it. That the newest segment is
//! gone, or is cut where a torn write could have cut it, nothing in the chain can tell: such a partition
//! looks like a younger one. A commit therefore ends with a note of the offsets that it reached, and a
//! partition that ends below its note is refused before anything is mended. Retention takes rows at the
//! front and never moves the end.
//!
//! The note is written after the rows are durable, so that it never says more than there is. A topic
//! without a note was not committed to yet.

use std::collections::BTreeMap;
use std::path::Path;

use qanat_proto::error::Result;
use serde::{Deserialize, Serialize};

use super::document;
use crate::crash_safe;
use crate::env::{Disk, Env};

const ENDS_FILE: &str = "ends";

/// Content of the note: the offset behind the last row, by partition.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    ends: BTreeMap<u32, u64>,
}

/// Where a partition ends at the least. Read before its segments are: they may grow meanwhile.
///
/// # Errors
/// E0304 if the note is damaged.
pub(super) fn least(disk: &dyn Disk, topic: &Path, partition: u32) -> Result<u64> {
    Ok(read(disk, topic)?.ends.get(&partition).copied().unwrap_or(0))
}

/// Notes what partitions reached, durably. Only one call per topic at a time.
pub(super) fn note(env: &Env, topic: &Path, reached: impl IntoIterator<Item = (u32, u64)>) -> Result<()> {
    let mut noted = read(env.disk.as_ref(), topic)?;
    let mut has_grown = false;
    for (partition, end) in reached {
        let known = noted.ends.entry(partition).or_default();
        has_grown |= end > *known;
        *known = end.max(*known);
    }
    if has_grown {
        crash_safe::replace(env, &topic.join(ENDS_FILE), &document::to_bytes(&noted))?;
    }
    Ok(())
}

fn read(disk: &dyn Disk, topic: &Path) -> Result<Ends> {
    Ok(document::read(disk, &topic.join(ENDS_FILE))?.unwrap_or_default())
}
