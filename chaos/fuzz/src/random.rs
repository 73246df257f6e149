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

    /// One of these, of which there is one.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        bytes
    }
}
