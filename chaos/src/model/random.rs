//! Choices of a seed.

use qanat_storage::env::Entropy;
use qanat_storage::env::sim::SimEntropy;

/// A seeded source of choices: the same seed and the same calls give the same ones.
#[derive(Debug)]
pub struct Random(SimEntropy);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SimEntropy::new(seed))
    }

    pub fn u64(&mut self) -> u64 {
        self.0.u64()
    }

    /// Below `bound`; 0 if that is 0. The bias of the remainder does not matter here.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        if bound == 0 { 0 } else { (self.0.u64() % bound) as usize }
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these, each as often as its weight says; one of them has a weight.
    pub fn weighted<T: Copy>(&mut self, of: &[(usize, T)]) -> T {
        let mut at = self.below(of.iter().map(|(weight, _)| weight).sum());
        let chosen = of.iter().find(|(weight, _)| match at.checked_sub(*weight) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        chosen.map_or(of[0].1, |(_, item)| *item)
    }
}
