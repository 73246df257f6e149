//! What of a partition may go, and letting it go, oldest first.
//!
//! Whole sealed segments are removed, never a part of one and never the last. First a record of what stays is
//! made durable ([`super::listing`]): what a removal that stopped leaves below it is nobody's. Rows that a reader still
//! needs (P15) stay, unless size or age force them out; the reader then fails with E0213 and skips
//! nothing.

use std::sync::Arc;

use qanat_proto::error::Result;
use serde::{Deserialize, Serialize};

use super::lock;
use super::partition::{Partition, Shared};
use super::segment::Segment;

/// How long a topic keeps its rows. The default keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Bytes per partition above which the oldest segments go, read or not.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Milliseconds after which rows go, read or not.
    #[serde(default)]
    pub age_ms: Option<i64>,
    /// Rows that every reader with a hold has passed go at once.
    #[serde(default)]
    pub consumed: bool,
}

impl Partition {
    /// Notes that `reader` still needs everything from `offset` on (P15): the lowest offset in any
    /// manifest or savepoint that may be restored. Kept in memory: whoever owns the manifests sets the
    /// holds again at start, before it applies retention.
    pub fn hold(&self, reader: &str, offset: u64) {
        lock(&self.shared).holds.insert(reader.to_owned(), offset);
    }

    /// Forgets a reader.
    pub fn release(&self, reader: &str) {
        lock(&self.shared).holds.remove(reader);
    }

    /// Removes what `retention` no longer keeps. Returns how many segments went.
    ///
    /// # Errors
    /// E0214 or E0305 if the disk fails: nothing goes then, or what is left goes with the next removal, opening or takeover.
    pub fn retain(&self, retention: &Retention) -> Result<usize> {
        let now_ms = self.env.clock.now_ms();
        self.remove_while(|shared| doomed(shared, retention, now_ms))
    }

    /// As [`Partition::retain`] in one of several processes that share the folder: only its owner removes anything.
    ///
    /// # Errors
    /// As [`Partition::retain`].
    pub fn retain_owned(&self, retention: &Retention) -> Result<usize> {
        if self.owner().is_none() {
            return Ok(0);
        }
        // Another one may have taken it over meanwhile.
        self.refresh()?;
        if self.owner().is_some() { self.retain(retention) } else { Ok(0) }
    }

    /// Removes the segments that end at or before `offset`, whoever holds them. Returns how many went.
    ///
    /// # Errors
    /// As [`Partition::retain`].
    pub fn remove_before(&self, offset: u64) -> Result<usize> {
        self.remove_while(|shared| {
            let oldest = shared.segments.front()?;
            // Never the last: that one is not sealed.
            oldest.sealed.get().is_some_and(|end| end.offset <= offset).then(|| Arc::clone(oldest))
        })
    }

    /// How far [`Partition::remove_before`] can remove of what lies before `offset`; None if that is nothing.
    pub fn removable(&self, offset: u64) -> Option<u64> {
        let shared = lock(&self.shared);
        let ends = shared.segments.iter().filter_map(|segment| segment.sealed.get()).map(|end| end.offset);
        ends.take_while(|end| *end <= offset).last().filter(|end| *end > 0)
    }

    fn remove_while(&self, next: impl Fn(&Shared) -> Option<Arc<Segment>>) -> Result<usize> {
        // The writer's lock keeps takeover and other retention out.
        let writer = lock(&self.writer);
        if writer.is_none() {
            return Err(self.read_only());
        }
        let first = {
            // As if they were gone, to find the last that may go. Nobody else looks meanwhile.
            let mut shared = lock(&self.shared);
            let mut gone: Vec<Arc<Segment>> = Vec::new();
            while let Some(segment) = next(&shared) {
                shared.segments.pop_front();
                gone.push(segment);
            }
            let first = gone.last().map(|last| last.header.sequence + 1);
            gone.into_iter().rev().for_each(|segment| shared.segments.push_front(segment));
            first
        };
        first.map_or(Ok(0), |first| self.remove_below(first))
    }
}

/// The oldest segment, if it may go.
fn doomed(shared: &Shared, retention: &Retention, now_ms: i64) -> Option<Arc<Segment>> {
    let oldest = shared.segments.front()?;
    let next = shared.segments.get(1)?;
    let end = oldest.sealed.get()?;
    let bytes: u64 = shared.segments.iter().map(|segment| segment.sealed.get().unwrap_or(&shared.end).position).sum();
    let is_too_much = retention.bytes.is_some_and(|most| bytes > most);
    // A segment's newest row is at most as old as the segment after it.
    let is_too_old = retention.age_ms.is_some_and(|most| now_ms.saturating_sub(next.header.created_ms) > most);
    let is_consumed =
        retention.consumed && !shared.holds.is_empty() && shared.holds.values().all(|held| *held >= end.offset);
    (is_too_much || is_too_old || is_consumed).then(|| Arc::clone(oldest))
}
