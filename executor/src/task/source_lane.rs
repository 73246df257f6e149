//! The lane of a source: a thread that reads and decodes splits, ahead of its task by a few batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use qanat_connectors::contract::{ReadOutcome, Source, SourceBatch, Split, SplitReader, StopFlag};
use qanat_proto::ids::SplitId;
use qanat_proto::manifest::SplitState;
use qanat_proto::{Place, Result};
use qanat_storage::env::{Clock, thread};

use crate::memory::{JobMemory, batch_bytes};
use crate::task::alignment::Alignment;
use crate::task::pool::Waker;

/// Lanes that read the splits of one unbounded source subtask, at most.
const UNBOUNDED_LANES_MAX: usize = 16;
/// Splits of a bounded read that one lane keeps open at a time.
const OPEN_SPLITS_MAX: usize = 16;
/// How often a growing source is asked for new splits.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lane without splits waits before it looks whether there are some.
const DISCOVERY_WAIT: Duration = Duration::from_millis(50);
/// A round over splits that have nothing is a wait of itself if it took this long; else the lane waits.
const DRY_ROUND_MIN: Duration = Duration::from_millis(5);
const DRY_WAIT: Duration = Duration::from_millis(10);

/// What a lane tells its task, in order per split.
pub enum LaneItem {
    /// A split found after the start.
    Discovered(SplitState),
    Opened(SplitId),
    Batch {
        split: SplitId,
        batch: SourceBatch,
        /// Bytes counted against the job's budget.
        held: usize,
    },
    /// The split's polls began to give nothing.
    Pending(SplitId),
    /// What the split lies in is not there for now.
    Away(SplitId),
    Finished(SplitId),
    /// The lane has read all its splits, and no more will come.
    Done,
}

/// Everything a lane works with.
pub struct SourceLane {
    pub source: Arc<dyn Source>,
    /// Splits to read, in order, finished ones left out.
    pub splits: VecDeque<SplitState>,
    /// All splits of the source that are known at the start, of other subtasks too.
    pub known: std::collections::BTreeSet<SplitId>,
    /// Where splits ended that are read.
    pub finished: std::collections::BTreeMap<SplitId, Arc<serde_json::Value>>,
    /// Whether this subtask owns a split that is found later.
    pub owns: Arc<dyn Fn(&SplitId) -> bool + Send + Sync>,
    /// Whether this lane looks for new splits.
    pub discovers: bool,
    /// Splits have no end: all of them are open at the same time, or some would never be read.
    pub is_endless: bool,
    /// Splits follow each other: one is read at a time, as far as it goes.
    pub in_order: bool,
    pub alignment: Option<Arc<Alignment>>,
    pub items: Sender<LaneItem>,
    pub waker: Waker,
    pub memory: Arc<JobMemory>,
    pub clock: Arc<dyn Clock>,
    pub stop: StopFlag,
}

struct Open {
    reader: Box<dyn SplitReader>,
    pending: bool,
    /// As it was opened, but for its position.
    state: SplitState,
    /// It was away before.
    was_away: bool,
}

impl SourceLane {
    /// Reads until all is read, or until it is told to stop.
    ///
    /// # Errors
    /// What the connector says, with the split as its place.
    pub fn run(mut self) -> Result<()> {
        let mut open: VecDeque<Open> = VecDeque::new();
        let mut away: Vec<SplitState> = Vec::new();
        let mut discovered = self.clock.monotonic();
        let mut looked = discovered;
        let most = if self.in_order { 1 } else { OPEN_SPLITS_MAX };
        // Splits in a row that had nothing, and since when.
        let (mut dry, mut dry_since) = (0, Duration::ZERO);
        while !self.stop.is_set() {
            if self.discovers && self.clock.monotonic() >= discovered + DISCOVERY_INTERVAL {
                discovered = self.clock.monotonic();
                self.discover()?;
            }
            if !away.is_empty() && self.clock.monotonic() >= looked + DISCOVERY_INTERVAL {
                looked = self.clock.monotonic();
                for state in std::mem::take(&mut away) {
                    open.push_back(Open { was_away: true, ..self.open(state)? });
                }
            }
            // A read that never ends keeps all its splits open; a bounded one a few at a time.
            while let Some(state) = self.splits.front().filter(|_| open.len() < most || self.is_endless).cloned() {
                self.splits.pop_front();
                let opened = self.open(state)?;
                if !self.send(LaneItem::Opened(opened.state.id.clone())) {
                    return Ok(());
                }
                open.push_back(opened);
            }
            if open.is_empty() {
                if self.discovers || !away.is_empty() {
                    self.wait(DISCOVERY_WAIT);
                    continue;
                }
                self.send(LaneItem::Done);
                return Ok(());
            }
            if dry > open.len() {
                // All of them: unless their readers wait themselves, somebody must.
                if self.clock.monotonic().saturating_sub(dry_since) < DRY_ROUND_MIN {
                    self.wait(DRY_WAIT);
                }
                dry = 0;
            }
            let Some(mut current) = self.next_of(&mut open) else { continue };
            let item = match current.reader.next(&self.stop).map_err(|e| at_split(e, &current.state.id))? {
                ReadOutcome::Away => {
                    if !current.was_away {
                        tracing::warn!(split = %current.state.id, "is gone; the job goes on without it until it is back");
                        if !self.send(LaneItem::Away(current.state.id.clone())) {
                            return Ok(());
                        }
                    }
                    away.push(current.state);
                    continue;
                }
                ReadOutcome::Batch(batch) => {
                    dry = 0;
                    current.pending = false;
                    if self.discovers {
                        current.state.position = Arc::new(batch.position.clone());
                    }
                    let held = batch_bytes(&batch.rows) + batch.hidden.as_ref().map_or(0, batch_bytes);
                    self.memory.grow(held);
                    Some(LaneItem::Batch { split: current.state.id.clone(), batch, held })
                }
                ReadOutcome::Pending if current.pending => {
                    if dry == 0 {
                        dry_since = self.clock.monotonic();
                    }
                    dry += 1;
                    None
                }
                ReadOutcome::Pending => {
                    current.pending = true;
                    Some(LaneItem::Pending(current.state.id.clone()))
                }
                ReadOutcome::End => {
                    if self.discovers {
                        self.finished.insert(current.state.id.clone(), Arc::clone(&current.state.position));
                    }
                    if !self.send(LaneItem::Finished(current.state.id)) {
                        return Ok(());
                    }
                    continue;
                }
            };
            open.push_back(current);
            if item.is_some_and(|item| !self.send(item)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open(&self, state: SplitState) -> Result<Open> {
        let split = Split {
            id: state.id.clone(),
            detail: state.detail.as_ref().clone(),
            start: state.position.as_ref().clone(),
        };
        let reader = self.source.open(&split, &state.position).map_err(|e| at_split(e, &split.id))?;
        Ok(Open { reader, pending: false, state, was_away: false })
    }

    /// The split to read next, in turn. None if all have to wait, after a while.
    fn next_of(&self, open: &mut VecDeque<Open>) -> Option<Open> {
        let Some(alignment) = &self.alignment else {
            // Of those that follow each other the first that has something. All that have nothing are asked in turn.
            let readable = open.iter().enumerate().filter(|(_, split)| self.in_order && !split.pending);
            let first = readable.min_by(|(_, a), (_, b)| a.state.id.cmp(&b.state.id)).map(|(at, _)| at);
            return open.remove(first.unwrap_or(0));
        };
        // A split that has caught up is asked for more, wherever it stands: else it would look idle.
        let is_free = |split: &Open| split.pending || !alignment.holds(&split.state.id);
        let position = open.iter().position(is_free);
        if position.is_none() {
            alignment.wait(|| open.iter().any(is_free));
        }
        position.and_then(|position| open.remove(position))
    }

    /// Hands an item over; false once nobody listens.
    fn send(&self, item: LaneItem) -> bool {
        let sent = thread::send(&self.items, item);
        if let Err(crossbeam::channel::SendError(LaneItem::Batch { held, .. })) = &sent {
            self.memory.shrink(*held);
        }
        self.waker.wake();
        sent.is_ok()
    }

    fn discover(&mut self) -> Result<()> {
        for split in self.source.discover()? {
            if let Some(position) = self.finished.get(&split.id) {
                self.source.check_finished(&split, position).map_err(|e| at_split(e, &split.id))?;
            }
            if !self.known.insert(split.id.clone()) || !(self.owns)(&split.id) {
                continue;
            }
            let state = new_split(split);
            if !self.send(LaneItem::Discovered(state.clone())) {
                return Ok(());
            }
            self.splits.push_back(state);
        }
        Ok(())
    }

    /// A folder that is followed and holds nothing yet.
    fn wait(&self, time: Duration) {
        thread::park_timeout(time);
    }
}

/// A split of which nothing was read.
pub fn new_split(split: Split) -> SplitState {
    SplitState {
        id: split.id,
        detail: Arc::new(split.detail),
        position: Arc::new(split.start),
        rows: 0,
        watermark: None,
        idle: false,
        finished: false,
    }
}

fn at_split(error: qanat_proto::Error, split: &SplitId) -> qanat_proto::Error {
    error.or_at(|| Place::Origin { origin: split.0.clone(), offset: None, unit: "split".to_owned() })
}

/// The subtask that reads a split: a pure function of its id and the parallelism. Parts of one file
/// (`path#3:from-to`) go to neighbours, so that a large file is read by all.
pub fn split_owner(id: &SplitId, parallelism: u32) -> u32 {
    let part = id.0.rsplit_once('#').and_then(|(path, part)| {
        let (ordinal, _) = part.split_once(':')?;
        Some((path, ordinal.parse::<u64>().ok()?))
    });
    let (path, ordinal) = part.unwrap_or((id.0.as_str(), 0));
    let hash = xxhash_rust::xxh3::xxh3_64(path.as_bytes());
    u32::try_from(hash.wrapping_add(ordinal) % u64::from(parallelism.max(1))).unwrap_or(0)
}

/// A bounded read takes its splits in turn, in one lane; one that never ends has a lane per split as
/// far as there are lanes, so that a quiet split does not delay the others.
pub fn lane_groups(splits: Vec<SplitState>, bounded: bool) -> Vec<Vec<SplitState>> {
    let lanes = if bounded { 1 } else { splits.len().clamp(1, UNBOUNDED_LANES_MAX) };
    let mut groups: Vec<Vec<SplitState>> = vec![Vec::new(); lanes];
    for (position, split) in splits.into_iter().enumerate() {
        if let Some(group) = groups.get_mut(position % lanes) {
            group.push(split);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_file_are_spread_evenly() {
        let owners: Vec<_> =
            (0..8).map(|k| split_owner(&SplitId(format!("a/b.csv#{k}:{}-{}", k * 100, (k + 1) * 100)), 4)).collect();
        for owner in 0..4 {
            assert_eq!(owners.iter().filter(|o| **o == owner).count(), 2);
        }
    }
}
