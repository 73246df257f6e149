//! Rows of one partition in their order.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use qanat_proto::graph::RankFunction;

/// Where a row stands among those of its partition: smaller ones come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) key: Key,
    /// Orders rows of equal keys.
    pub(super) tie: u64,
    /// Of the row: tells apart those that are equal in everything.
    pub(super) number: i64,
}

/// The columns that rows are ordered by, as bytes that compare as they do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The first bytes; no key is the start of another one, so that it does not matter what stands behind the last.
    start: u128,
    rest: Option<Box<[u8]>>,
}

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let (start, rest) = split(bytes);
        Self { start, rest: (!rest.is_empty()).then(|| Box::from(rest)) }
    }

    /// With another one that is not kept.
    fn compare(&self, bytes: &[u8]) -> Ordering {
        let (start, rest) = split(bytes);
        self.start.cmp(&start).then_with(|| self.rest.as_deref().unwrap_or_default().cmp(rest))
    }

    fn bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.len())
    }
}

fn split(bytes: &[u8]) -> (u128, &[u8]) {
    let mut start = [0; 16];
    let length = bytes.len().min(16);
    start[..length].copy_from_slice(&bytes[..length]);
    (u128::from_be_bytes(start), &bytes[length..])
}

/// The rows of a partition in their order.
#[derive(Clone, Debug, Default)]
pub(super) enum List {
    #[default]
    None,
    /// Most partitions of a deduplication: without memory of its own.
    One(Place),
    Few(Vec<Place>),
    Many(BTreeSet<Place>),
}

/// Rows that are put into their place by moving others.
const FEW_MAX: usize = 256;

impl List {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Few(places) => places.len(),
            Self::Many(places) => places.len(),
        }
    }

    /// Of all its rows.
    pub(super) fn numbers(self) -> Vec<i64> {
        match self {
            Self::None => Vec::new(),
            Self::One(place) => vec![place.number],
            Self::Few(places) => places.into_iter().map(|place| place.number).collect(),
            Self::Many(places) => places.into_iter().map(|place| place.number).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn first(&self) -> Option<&Place> {
        match self {
            Self::None => None,
            Self::One(place) => Some(place),
            Self::Few(places) => places.first(),
            Self::Many(places) => places.first(),
        }
    }

    fn last(&self) -> Option<&Place> {
        match self {
            Self::None => None,
            Self::One(place) => Some(place),
            Self::Few(places) => places.last(),
            Self::Many(places) => places.last(),
        }
    }

    /// Whether a row with this key stands behind all of the first `limit` and those that are equal to the last of them;
    /// `is_last`: behind those that are equal, too.
    pub(super) fn is_beyond(&self, key: &[u8], is_last: bool, limit: usize) -> bool {
        self.len() >= limit
            && self.last().is_some_and(|last| match last.key.compare(key) {
                Ordering::Less => true,
                Ordering::Equal => is_last,
                Ordering::Greater => false,
            })
    }

    pub(super) fn insert(&mut self, place: Place) {
        match self {
            Self::None => *self = Self::One(place),
            Self::One(_) => {
                let Self::One(other) = std::mem::take(self) else { return };
                let both = if other < place { [other, place] } else { [place, other] };
                *self = Self::Few(both.into());
            }
            Self::Few(places) if places.len() < FEW_MAX => {
                let at = places.partition_point(|other| *other < place);
                places.insert(at, place);
            }
            Self::Few(places) => {
                let mut many: BTreeSet<Place> = std::mem::take(places).into_iter().collect();
                many.insert(place);
                *self = Self::Many(many);
            }
            Self::Many(places) => {
                places.insert(place);
            }
        }
    }

    /// Keeps the first of the row that is there and this one, and tells the number of the other.
    pub(super) fn keep_first(&mut self, place: Place) -> Option<i64> {
        match self {
            Self::One(other) if *other < place => Some(place.number),
            Self::One(other) => Some(std::mem::replace(other, place).number),
            _ => {
                *self = Self::One(place);
                None
            }
        }
    }

    /// Takes away a row with this key and tie, and tells its number.
    pub(super) fn remove(&mut self, key: &Key, tie: u64) -> Option<i64> {
        let is_wanted = |place: &Place| place.key == *key && place.tie == tie;
        let from = Place { key: key.clone(), tie, number: i64::MIN };
        match self {
            Self::None => None,
            Self::One(place) => {
                let number = is_wanted(place).then_some(place.number)?;
                *self = Self::None;
                Some(number)
            }
            Self::Few(places) => {
                let at = places.partition_point(|place| *place < from);
                let number = places.get(at).filter(|place| is_wanted(place))?.number;
                places.remove(at);
                if places.is_empty() {
                    *self = Self::None;
                }
                Some(number)
            }
            Self::Many(places) => {
                let found = places.range(from..).next().filter(|place| is_wanted(place))?.clone();
                places.remove(&found);
                if places.is_empty() {
                    *self = Self::None;
                }
                Some(found.number)
            }
        }
    }

    /// Numbers and ranks of the rows whose rank is in `(skip, limit]`, in their order.
    pub(super) fn ranked(&self, function: RankFunction, skip: usize, limit: usize) -> Vec<(i64, i64)> {
        match self {
            Self::None => Vec::new(),
            Self::One(place) => ranked([place], function, skip, limit),
            Self::Few(places) => ranked(places, function, skip, limit),
            Self::Many(places) => ranked(places, function, skip, limit),
        }
    }

    /// Drops the rows whose rank is beyond the limit, and tells their numbers.
    pub(super) fn cut(&mut self, function: RankFunction, limit: usize, gone: &mut Vec<i64>) {
        if self.len() <= limit {
            return;
        }
        let kept = match function {
            RankFunction::RowNumber => limit,
            RankFunction::Rank | RankFunction::DenseRank => self.ranked(function, 0, limit).len(),
        };
        match self {
            Self::None | Self::One(_) => {}
            Self::Few(places) => gone.extend(places.drain(kept..).map(|place| place.number)),
            Self::Many(places) => {
                while places.len() > kept {
                    let Some(last) = places.pop_last() else { break };
                    gone.push(last.number);
                }
            }
        }
        // A deduplication puts a second row next to the first one, and takes one of them away.
        if let Self::Few(places) = self
            && places.len() == 1
            && let Some(only) = places.pop()
        {
            *self = Self::One(only);
        }
    }

    /// Bytes beside its own.
    pub(super) fn bytes(&self) -> usize {
        let own = match self {
            Self::None | Self::One(_) => 0,
            Self::Few(places) => places.capacity() * size_of::<Place>(),
            // A node holds several and is two thirds full.
            Self::Many(places) => places.len() * size_of::<Place>() * 3 / 2,
        };
        // All keys are about as long as the first one.
        own + self.first().map_or(0, |first| first.key.bytes()) * self.len()
    }
}

fn ranked<'p>(
    places: impl IntoIterator<Item = &'p Place>,
    function: RankFunction,
    skip: usize,
    limit: usize,
) -> Vec<(i64, i64)> {
    let (mut rank, mut told, mut before) = (0, Vec::new(), None);
    for (at, place) in places.into_iter().enumerate() {
        let is_tie = before == Some(&place.key);
        rank = match function {
            RankFunction::RowNumber => at + 1,
            RankFunction::Rank if is_tie => rank,
            RankFunction::Rank => at + 1,
            RankFunction::DenseRank => rank + usize::from(!is_tie),
        };
        if rank > limit {
            break;
        }
        if rank > skip {
            told.push((place.number, rank as i64));
        }
        before = Some(&place.key);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against sorting it all anew, for all functions and both ways to keep it.
    #[test]
    fn ranks_are_those_of_sorting() {
        let mut random = 7_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for size in [1, 3, 20, 2_000] {
            let mut list = List::default();
            let mut rows: Vec<(Vec<u8>, u64, i64)> = Vec::new();
            for number in 0..size {
                let key = format!("{:020}", draw(size as u64 / 2 + 1)).into_bytes();
                let tie = draw(3);
                list.insert(Place { key: Key::new(&key), tie, number });
                rows.push((key, tie, number));
                if draw(4) == 0 {
                    let (key, tie, _) = rows[draw(rows.len() as u64) as usize].clone();
                    let gone = list.remove(&Key::new(&key), tie).expect("it is there");
                    rows.retain(|row| row.2 != gone);
                }
            }
            rows.sort();
            let ranks = |function: RankFunction| -> Vec<(i64, i64)> {
                let smaller =
                    |key: &[u8]| rows.iter().filter(|row| row.0[..] < *key).map(|row| &row.0).collect::<Vec<_>>();
                let rank = |(at, row): (usize, &(Vec<u8>, u64, i64))| match function {
                    RankFunction::RowNumber => at,
                    RankFunction::Rank => smaller(&row.0).len(),
                    RankFunction::DenseRank => smaller(&row.0).into_iter().collect::<BTreeSet<_>>().len(),
                };
                rows.iter().enumerate().map(|(at, row)| (row.2, rank((at, row)) as i64 + 1)).collect()
            };
            for function in [RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank] {
                for (skip, limit) in [(0, 1), (0, 4), (2, 5), (0, 10_000)] {
                    let wanted: Vec<_> = ranks(function)
                        .into_iter()
                        .filter(|(_, rank)| (skip as i64 + 1..=limit as i64).contains(rank))
                        .collect();
                    assert_eq!(list.ranked(function, skip, limit), wanted, "{function:?} of {size}");
                    let (mut cut, mut gone) = (list.clone(), Vec::new());
                    cut.cut(function, limit, &mut gone);
                    assert_eq!(cut.ranked(function, skip, limit), wanted);
                    assert_eq!(cut.len() + gone.len(), list.len());
                    assert!(gone.iter().all(|number| wanted.iter().all(|(kept, _)| kept != number)));
                }
            }
        }
    }
}
