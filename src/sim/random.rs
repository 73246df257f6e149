//! Dice of a simulation: all follow from its seed.

use qanat_storage::env::Entropy;
use qanat_storage::env::sim::SimEntropy;

/// Draws numbers.
pub(super) struct Random(SimEntropy);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SimEntropy::new(seed))
    }

    pub(super) fn draw(&self) -> u64 {
        self.0.u64()
    }

    /// Uniform below `bound`; 0 if that is 0. The bias of the remainder does not matter here.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// From `least` to `most`, both included.
    pub(super) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    pub(super) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True once in `times`.
    pub(super) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }
}
