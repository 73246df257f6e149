//! Names: the only way to make a path segment or an object name.
//!
//! P3: every object name, staged or final, carries job, generation, epoch, operator, subtask and
//! attempt, so that no two objects ever share one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Code, Error, Result};
use crate::ids::{Epoch, JobId, OperatorId, SubtaskId, Token};
use crate::zoo::{Bug, planted};

/// A validated path segment: 1 to 120 characters of `A-Z a-z 0-9 . _ -`, not starting with a dot or a dash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// # Errors
    /// E0501 if the text is no valid segment.
    pub fn new(text: &str) -> Result<Self> {
        let ok = !text.is_empty()
            && text.len() <= 120
            && !text.starts_with(['.', '-'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::new(Code::Usage, format!("`{text}` is not a valid name"))
                .hint("use 1 to 120 letters, digits, `.`, `_` or `-`, starting with a letter, digit or `_`"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Who makes an object: one subtask of one generation in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub token: Token,
    pub epoch: Epoch,
    pub subtask: SubtaskId,
}

impl Origin {
    /// `<job>-g<generation>-e<epoch>-<operator>-<subtask>-<sequence>`: unique for ever, because a
    /// generation deploys a subtask once (P1) and the subtask counts `sequence` up.
    pub fn object(&self, sequence: u64) -> String {
        let generation = if planted(Bug::NamesWithoutGeneration) { 1 } else { self.token.generation.0 };
        format!(
            "{}-g{generation}-e{:08}-{}-{}-{}",
            self.token.job, self.epoch.0, self.subtask.operator, self.subtask.index, sequence
        )
    }

    /// Whether a generation that has just been restored may remove what it staged: only what lower generations of its own
    /// job did (P6).
    pub fn may_be_aborted_by(&self, token: Token) -> bool {
        let is_lower = self.token.generation < token.generation;
        let is_own = self.token.job == token.job || planted(Bug::OtherJobs);
        is_own && (is_lower || planted(Bug::AbortHigher))
    }

    /// Reads back what [`Origin::object`] wrote, ignoring anything from the first `.` on.
    pub fn parse_object(name: &str) -> Option<(Self, u64)> {
        let stem = name.split('.').next()?;
        let mut parts = stem.split('-');
        let job: JobId = parts.next()?.parse().ok()?;
        let generation = parts.next()?.strip_prefix('g')?.parse().ok()?;
        let epoch = parts.next()?.strip_prefix('e')?.parse().ok()?;
        let operator: OperatorId = parts.next()?.parse().ok()?;
        let index = parts.next()?.parse().ok()?;
        let sequence = parts.next()?.parse().ok()?;
        if parts.next().is_some() {
            return None;
        }
        let token = Token { job, generation: crate::ids::Generation(generation) };
        Some((Self { token, epoch: Epoch(epoch), subtask: SubtaskId { operator, index } }, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Generation;

    #[test]
    fn object_names_round_trip() {
        let origin = Origin {
            token: Token { job: JobId(7), generation: Generation(3) },
            epoch: Epoch(12),
            subtask: SubtaskId { operator: OperatorId(9), index: 1 },
        };
        let name = origin.object(4);
        assert_eq!(Origin::parse_object(&format!("{name}.csv.gz")), Some((origin, 4)));
        assert_eq!(Origin::parse_object("part-0.csv"), None);
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "a\0", "-x", "é"] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(Name::new("delays_by.hour-1").is_ok());
    }
}
