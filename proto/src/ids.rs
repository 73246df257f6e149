//! Identifiers and their total order. Each is a newtype, so that one cannot stand for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A job: random and new for every run that starts anew (P3). Written as 32 lower-case hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u128);

/// An operator of a job graph: derived from what the operator is, not from its position, so that an
/// edited query keeps the state of the parts that did not change. Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId(pub u64);

/// One start of an executor process; new at every start (P1). Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartId(pub u64);

/// An access token, without its secret. Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

macro_rules! hex_id {
    ($name:ident, $int:ty, $digits:literal, $width:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $width, self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if text.len() != $digits || !lower {
                    return Err(format!("`{text}` is not {} lower-case hex digits", $digits));
                }
                <$int>::from_str_radix(text, 16).map(Self).map_err(|e| e.to_string())
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
hex_id!(JobId, u128, 32, "{:032x}");
hex_id!(OperatorId, u64, 16, "{:016x}");
hex_id!(StartId, u64, 16, "{:016x}");
hex_id!(TokenId, u64, 16, "{:016x}");

impl JobId {
    /// The first eight hex digits: enough to tell the runs of one job apart in a file name.
    pub fn short(&self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next number. Overflow would need 2^64 steps and is a bug.
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("a 64-bit counter does not wrap"))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
counter!(
    /// One incarnation of a job: every deploy, recovery or rescale opens a new one.
    Generation
);
counter!(
    /// Checkpoint number within a job, claimed at most once (P2). Epoch 0 holds the start offsets (P9).
    Epoch
);

/// Fencing token: an effect that carries an older generation than the current one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    pub job: JobId,
    pub generation: Generation,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.generation)
    }
}

/// One parallel instance of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    pub operator: OperatorId,
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.operator, self.index)
    }
}

/// A unit of a source that has its own offset and watermark: a file or a range of one, a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitId(pub String);

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A contiguous, half-open range of key groups: the part of a job's keys that one subtask owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    pub start: u16,
    pub end: u16,
}

impl KeyGroupRange {
    /// The range that subtask `index` of `parallelism` owns out of `key_groups`.
    ///
    /// Ranges of all subtasks cover every group exactly once: the inverse of [`owner_of`].
    pub fn of_subtask(key_groups: u16, parallelism: u32, index: u32) -> Self {
        let groups = u64::from(key_groups);
        let cut = |i: u64| u16::try_from((i * groups).div_ceil(u64::from(parallelism))).unwrap_or(key_groups);
        Self { start: cut(u64::from(index)), end: cut(u64::from(index) + 1) }
    }

    pub fn contains(&self, group: u16) -> bool {
        self.start <= group && group < self.end
    }
}

/// The subtask that owns `group`.
pub fn owner_of(group: u16, key_groups: u16, parallelism: u32) -> u32 {
    let owner = u64::from(group) * u64::from(parallelism) / u64::from(key_groups);
    u32::try_from(owner).unwrap_or(parallelism - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_hex() {
        let job = JobId(0xab);
        assert_eq!(job.to_string().parse::<JobId>().expect("own text"), job);
        assert!("AB".parse::<JobId>().is_err());
        assert!("+0000000000000ab".parse::<OperatorId>().is_err());
    }

    #[test]
    fn key_group_ranges_partition_all_groups() {
        for key_groups in [1_u16, 2, 7, 128, 256, 1000] {
            for parallelism in 1..=u32::from(key_groups.min(40)) {
                for group in 0..key_groups {
                    let owner = owner_of(group, key_groups, parallelism);
                    for index in 0..parallelism {
                        let range = KeyGroupRange::of_subtask(key_groups, parallelism, index);
                        assert_eq!(range.contains(group), index == owner, "{key_groups} {parallelism} {group} {index}");
                    }
                }
            }
        }
    }
}
