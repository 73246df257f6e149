//! Which of the ids `0..n` were seen, and how often: the exact answer to "lost or twice".

use serde::Serialize;

/// How many examples of each kind a verdict names.
const EXAMPLES: usize = 8;

/// One bit per expected id, and the ids that came again.
#[derive(Clone, Debug)]
pub struct IdSet {
    expected: u64,
    seen: Vec<u64>,
    count: u64,
    twice: u64,
    foreign: u64,
    examples: Vec<String>,
}

/// What became of the expected ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    pub expected: u64,
    /// Different expected ids that were seen.
    pub reconciled: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Ids that nobody made.
    pub foreign: u64,
    /// A few of the ids that are wrong.
    pub examples: Vec<String>,
}

impl Reconciliation {
    /// With those of another set.
    pub fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.reconciled += other.reconciled;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.foreign += other.foreign;
        self.examples.extend(other.examples);
    }

    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.foreign == 0
    }
}

impl IdSet {
    /// For the ids `0..expected`.
    pub fn new(expected: u64) -> Self {
        let words = usize::try_from(expected.div_ceil(64)).unwrap_or(usize::MAX);
        Self { expected, seen: vec![0; words], count: 0, twice: 0, foreign: 0, examples: Vec::new() }
    }

    /// Notes one more row with this id.
    pub fn see(&mut self, id: i64) {
        let Some(index) = u64::try_from(id).ok().filter(|index| *index < self.expected) else {
            self.foreign += 1;
            self.example(format!("{id} is foreign"));
            return;
        };
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.count += 1;
        } else {
            self.twice += 1;
            self.example(format!("{id} is there again"));
        }
    }

    /// Different expected ids so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Rows that should not be there, as far as can be said before the end.
    pub fn surplus(&self) -> u64 {
        self.twice + self.foreign
    }

    pub fn reconcile(&self) -> Reconciliation {
        let mut examples = self.examples.clone();
        if self.count < self.expected {
            let missing = (0..self.expected).filter(|id| self.seen[(id / 64) as usize] & (1 << (id % 64)) == 0);
            examples.extend(missing.take(EXAMPLES).map(|id| format!("{id} is lost")));
        }
        Reconciliation {
            expected: self.expected,
            reconciled: self.count,
            lost: self.expected - self.count,
            duplicated: self.twice,
            foreign: self.foreign,
            examples,
        }
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_is_counted() {
        let mut ids = IdSet::new(130);
        (0..130).filter(|id| *id != 64 && *id != 129).for_each(|id| ids.see(id));
        ids.see(3);
        ids.see(-1);
        ids.see(130);
        let found = ids.reconcile();
        assert_eq!((found.reconciled, found.lost, found.duplicated, found.foreign), (128, 2, 1, 2));
        assert!(
            found.examples.contains(&"64 is lost".to_owned())
                && found.examples.contains(&"3 is there again".to_owned())
        );
        assert!(!found.is_exact());
    }

    #[test]
    fn the_exact_set_is_exact() {
        let mut ids = IdSet::new(64);
        (0..64).rev().for_each(|id| ids.see(id));
        assert!(ids.reconcile().is_exact() && ids.surplus() == 0);
    }
}
