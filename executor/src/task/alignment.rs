//! Watermark alignment between the source subtasks of a job: the shell around
//! [`qanat_executor_core::alignment`].
//!
//! Tasks say how far their splits are, lanes ask before each read whether a split has to wait. Nothing is
//! done on a timer: a lane whose splits all wait sleeps until the slowest has moved. A split runs over the
//! bound by at most what its lane has read ahead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qanat_executor_core::alignment::Reading;
use qanat_executor_core::watermark::ENDED;
use qanat_proto::control::Deployment;
use qanat_proto::ids::{OperatorId, SplitId};
use qanat_storage::env::thread::Condvar;

/// How long a lane sleeps before it looks whether it should stop.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// The subtasks that wait for each other: those of a table, or of a group of tables.
#[derive(Debug)]
pub struct AlignmentGroup {
    /// The slowest of each subtask.
    parts: Mutex<Vec<i64>>,
    slowest: AtomicI64,
    moved: Condvar,
}

impl Default for AlignmentGroup {
    fn default() -> Self {
        Self { parts: Mutex::default(), slowest: AtomicI64::new(ENDED), moved: Condvar::new() }
    }
}

impl AlignmentGroup {
    fn publish(&self, part: usize, slowest: i64) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.get_mut(part) {
            Some(known) if *known != slowest => *known = slowest,
            _ => return,
        }
        let slowest = parts.iter().min().copied().unwrap_or(ENDED);
        if self.slowest.swap(slowest, Ordering::AcqRel) != slowest {
            self.moved.notify_all();
        }
    }
}

/// One source subtask in its group.
#[derive(Debug)]
pub struct Alignment {
    group: Arc<AlignmentGroup>,
    part: usize,
    drift_ms: i64,
    reading: Mutex<Reading>,
}

impl Alignment {
    pub fn join(group: &Arc<AlignmentGroup>, drift_ms: i64) -> Arc<Self> {
        let mut parts = group.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(ENDED);
        Arc::new(Self { group: group.clone(), part: parts.len() - 1, drift_ms, reading: Mutex::default() })
    }

    /// A split is being read, and stands at `watermark`.
    pub fn advance(&self, id: &SplitId, watermark: i64) {
        self.change(|reading| reading.advance(id, watermark));
    }

    /// A split has nothing to read.
    pub fn leave(&self, id: &SplitId) {
        self.change(|reading| reading.leave(id));
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        let slowest = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut reading);
            reading.slowest()
        };
        self.group.publish(self.part, slowest);
    }

    /// Whether a split has to wait.
    pub fn holds(&self, id: &SplitId) -> bool {
        let slowest = self.group.slowest.load(Ordering::Acquire);
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).is_ahead(id, slowest, self.drift_ms)
    }

    /// Sleeps until the slowest has moved, unless `is_free` holds; a bounded time.
    pub fn wait(&self, is_free: impl FnOnce() -> bool) {
        let parts = self.group.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock under which the slowest moves, so that no move is missed.
        if !is_free() {
            drop(self.group.moved.wait_timeout(&self.group.parts, parts, WAIT_MAX));
        }
    }
}

/// Which sources wait for each other: those of tables in one group, and each other one for itself.
pub fn alignment_groups(deployment: &Deployment) -> BTreeMap<OperatorId, Arc<AlignmentGroup>> {
    let mut named: BTreeMap<&str, Arc<AlignmentGroup>> = BTreeMap::new();
    let aligned = deployment.graph.sources().filter_map(|(operator, source)| {
        let alignment = source.watermark.as_ref()?.alignment.as_ref()?;
        let group = alignment.group.as_deref().map(|name| named.entry(name).or_default().clone());
        Some((operator.id, group.unwrap_or_default()))
    });
    aligned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_sleeps_until_the_slowest_of_another_subtask_moves() {
        let group = Arc::default();
        let (fast, slow) = (Alignment::join(&group, 10), Alignment::join(&group, 10));
        let (a, b) = (SplitId("a".to_owned()), SplitId("b".to_owned()));
        fast.advance(&a, 100);
        assert!(!fast.holds(&a));
        slow.advance(&b, 5);
        assert!(fast.holds(&a) && !slow.holds(&b));
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| {
                while fast.holds(&a) {
                    fast.wait(|| !fast.holds(&a));
                }
            });
            slow.advance(&b, 90);
            lane.join().expect("wakes up");
        });
        slow.advance(&b, 200);
        assert!(slow.holds(&b));
        fast.leave(&a);
        assert!(!slow.holds(&b));
    }
}
