//! Which keys a run may have.
//!
//! A blocked Bloom filter (Putze, Sanders, Singler, *Cache-, hash- and space-efficient Bloom filters*, 2007): all bits of
//! a key lie in 64 bytes, so that a key costs one access to memory. With ten bits for each key about two in a hundred
//! that are not there seem to be.

/// Bits of one block.
const BLOCK_BITS: u64 = 512;
const BITS_PER_KEY: u64 = 10;
/// Bits of one key, nine bits of its hash for each.
const PROBES: u32 = 6;

pub(super) struct Bloom {
    blocks: Vec<[u64; 8]>,
}

impl Bloom {
    /// For so many keys.
    pub(super) fn new(keys: u64) -> Self {
        let blocks = (keys.saturating_mul(BITS_PER_KEY) / BLOCK_BITS).max(1);
        Self { blocks: vec![[0; 8]; usize::try_from(blocks).unwrap_or(usize::MAX)] }
    }

    fn block(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.blocks.len() as u128) >> 64) as usize
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let block = self.block(hash);
        if let Some(block) = self.blocks.get_mut(block) {
            bits(hash).for_each(|(word, bit)| block[word] |= bit);
        }
    }

    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.blocks.get(self.block(hash)).is_some_and(|block| bits(hash).all(|(word, bit)| block[word] & bit != 0))
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.capacity() * 64
    }
}

/// Word of the block and bit of the word, for each bit of a key.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    // The upper bits of the hash say which block; all of them say which bits.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| {
        let bit = (mixed >> (9 * probe + 8)) & (BLOCK_BITS - 1);
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn keys_that_are_there_are_found_and_few_others() {
        let hash = |n: u64| xxh3_64(&n.to_le_bytes());
        let mut bloom = Bloom::new(20_000);
        (0..20_000).for_each(|n| bloom.insert(hash(n)));
        assert!((0..20_000).all(|n| bloom.may_have(hash(n))));
        let wrong = (20_000..120_000).filter(|n| bloom.may_have(hash(*n))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000");
        assert!(!Bloom::new(0).may_have(hash(1)));
    }
}
