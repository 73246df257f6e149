//! Watermark alignment: which splits wait, so that none runs far ahead of the slowest (design section 6).
//!
//! Splits whose event time is ahead of the slowest by more than a bound are not read until the slowest has
//! come closer; so a backfill does not fill the state with windows that only the slowest can close. What
//! counts is what can be read: a split that is not opened, is idle, has ended, or has caught up with its
//! origin holds nobody back, since nothing would be gained by waiting for it. The slowest of all is never
//! ahead of itself, so somebody always goes on.
//!
//! Called by the source tasks, one [`Reading`] per subtask; the least of their [`Reading::slowest`] is the
//! slowest of all.

use std::collections::BTreeMap;

use qanat_proto::ids::SplitId;

use crate::watermark::ENDED;

/// The splits of a source subtask that are being read, with their watermarks.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    splits: BTreeMap<SplitId, i64>,
}

impl Reading {
    /// A split was opened or gave rows, and stands at `watermark` now
    /// ([`UNKNOWN`](crate::watermark::UNKNOWN): it has none yet).
    pub fn advance(&mut self, id: &SplitId, watermark: i64) {
        match self.splits.get_mut(id) {
            Some(known) => *known = (*known).max(watermark),
            None => _ = self.splits.insert(id.clone(), watermark),
        }
    }

    /// A split has nothing to read: it has ended, fell idle, or caught up.
    pub fn leave(&mut self, id: &SplitId) {
        self.splits.remove(id);
    }

    /// This subtask's part in the slowest of all; [`ENDED`] without a split that is being read.
    pub fn slowest(&self) -> i64 {
        self.splits.values().min().copied().unwrap_or(ENDED)
    }

    /// Whether a split has to wait: it stands ahead of `slowest` (of all subtasks) by more than `drift_ms`.
    pub fn is_ahead(&self, id: &SplitId, slowest: i64, drift_ms: i64) -> bool {
        self.splits.get(id).is_some_and(|watermark| *watermark > slowest.saturating_add(drift_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::watermark::UNKNOWN;

    fn id(split: usize) -> SplitId {
        SplitId(format!("split-{split}"))
    }

    #[test]
    fn what_cannot_be_read_holds_nobody_back() {
        let mut reading = Reading::default();
        assert_eq!(reading.slowest(), ENDED);
        reading.advance(&id(0), UNKNOWN);
        reading.advance(&id(1), 100);
        assert!(reading.is_ahead(&id(1), reading.slowest(), 1_000), "nobody knows where the other is");
        reading.advance(&id(0), 40);
        assert!(reading.is_ahead(&id(1), reading.slowest(), 59) && !reading.is_ahead(&id(1), reading.slowest(), 60));
        reading.leave(&id(0));
        assert!(!reading.is_ahead(&id(1), reading.slowest(), 0));
        assert!(!reading.is_ahead(&id(7), UNKNOWN, 0), "a split that is not being read is not ahead");
    }

    proptest! {
        /// Over several subtasks and any order of reading: while there are rows somebody may read, so all
        /// rows are read; and nobody reads while a split with rows stands more than the bound behind.
        #[test]
        fn nobody_runs_ahead_and_somebody_always_goes_on(
            splits in prop::collection::vec(prop::collection::vec(0_i64..50, 0..12), 1..8),
            subtasks in 1_usize..4,
            drift in 0_i64..60,
            choices in prop::collection::vec(0_usize..1_000, 120),
        ) {
            let mut readings = vec![Reading::default(); subtasks];
            // Rows read and watermark per split, kept beside: the oracle.
            let mut read: Vec<Option<(usize, i64)>> = vec![None; splits.len()];
            let mut choices = choices.into_iter().cycle();
            loop {
                let slowest = readings.iter().map(Reading::slowest).min().unwrap_or(ENDED);
                let unread: Vec<usize> =
                    (0..splits.len()).filter(|s| read[*s].is_none_or(|(rows, _)| rows < splits[*s].len())).collect();
                if unread.is_empty() {
                    break;
                }
                let free: Vec<usize> = unread
                    .iter()
                    .copied()
                    .filter(|s| !readings[s % subtasks].is_ahead(&id(*s), slowest, drift))
                    .collect();
                prop_assert!(!free.is_empty(), "all wait: {read:?}");
                let split = free[choices.next().unwrap_or(0) % free.len()];
                let Some((rows, watermark)) = read[split] else {
                    read[split] = Some((0, UNKNOWN));
                    readings[split % subtasks].advance(&id(split), UNKNOWN);
                    if splits[split].is_empty() {
                        readings[split % subtasks].leave(&id(split));
                    }
                    continue;
                };
                let others = unread.iter().filter_map(|s| read[*s]).map(|(_, w)| w);
                let behind = others.min().unwrap_or(ENDED);
                prop_assert!(watermark <= behind.saturating_add(drift), "split {split} at {watermark}: {read:?}");
                let now = watermark.max(0) + splits[split][rows];
                read[split] = Some((rows + 1, now));
                readings[split % subtasks].advance(&id(split), now);
                if rows + 1 == splits[split].len() {
                    readings[split % subtasks].leave(&id(split));
                }
            }
        }
    }
}
