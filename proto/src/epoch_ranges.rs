//! Ranges of epochs: which of a job's were withdrawn (P10).

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;

/// First and last epoch of each range, both included, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochRanges(Vec<(Epoch, Epoch)>);

impl EpochRanges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, epoch: Epoch) -> bool {
        self.range_of(epoch).is_some()
    }

    /// The range that an epoch lies in.
    pub fn range_of(&self, epoch: Epoch) -> Option<(Epoch, Epoch)> {
        self.iter().find(|(first, last)| (*first..=*last).contains(&epoch))
    }

    /// The highest range.
    pub fn last(&self) -> Option<(Epoch, Epoch)> {
        self.0.last().copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Epoch, Epoch)> {
        self.0.iter().copied()
    }

    /// Adds a range in place of those that begin in it or above.
    pub fn put(&mut self, first: Epoch, last: Epoch) {
        self.0.retain(|(earlier, _)| *earlier < first);
        self.0.push((first, last));
    }
}

impl FromIterator<(Epoch, Epoch)> for EpochRanges {
    fn from_iter<I: IntoIterator<Item = (Epoch, Epoch)>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        Self(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ranges: &[(u64, u64)]) -> EpochRanges {
        ranges.iter().map(|(first, last)| (Epoch(*first), Epoch(*last))).collect()
    }

    #[test]
    fn both_ends_lie_in_a_range() {
        let ranges = ranges(&[(8, 8), (3, 5)]);
        let inside: Vec<u64> = (0..10).filter(|epoch| ranges.contains(Epoch(*epoch))).collect();
        assert_eq!(inside, [3, 4, 5, 8]);
        assert_eq!(
            (ranges.range_of(Epoch(4)), ranges.last()),
            (Some((Epoch(3), Epoch(5))), Some((Epoch(8), Epoch(8))))
        );
    }

    #[test]
    fn a_range_takes_the_place_of_those_above() {
        let mut withdrawn = ranges(&[(2, 3), (6, 7)]);
        withdrawn.put(Epoch(5), Epoch(9));
        assert_eq!(withdrawn, ranges(&[(2, 3), (5, 9)]));
        let text = serde_json::to_string(&withdrawn).expect("encodes");
        assert_eq!(text, "[[2,3],[5,9]]", "as the state of a group holds them");
    }
}
