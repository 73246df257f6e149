//! What a partition remembers of commits, so that a replay does nothing (P12).
//!
//! Per (job, operator) the highest epoch committed and the handles of that epoch. Carried forward in
//! every segment header and never aged: only dropping the job removes it. The key is the handle's name
//! in the manifest, never the token of whoever replays it.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::error::{Code, Error, Result};
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::names::Origin;
use serde::{Deserialize, Serialize};

use super::frame::WriterStamp;

/// The name of a staged handle and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayKey {
    pub origin: Origin,
    pub name: String,
}

impl ReplayKey {
    /// # Errors
    /// E0304 if the text is no object name: only [`Origin::object`] makes handles.
    pub(super) fn parse(name: &str) -> Result<Self> {
        match Origin::parse_object(name) {
            Some((origin, sequence)) if origin.object(sequence) == name => Ok(Self { origin, name: name.to_owned() }),
            _ => Err(Error::new(Code::CorruptLog, format!("`{name}` is not the name of a staged handle"))),
        }
    }

    pub(super) fn stamp(&self) -> WriterStamp {
        WriterStamp {
            job: self.origin.token.job,
            generation: self.origin.token.generation,
            epoch: self.origin.epoch,
            operator: self.origin.subtask.operator,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembered {
    epoch: Epoch,
    handles: BTreeSet<String>,
}

/// The replay table of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReplayTable(BTreeMap<(JobId, OperatorId), Remembered>);

/// One line of the table as segment headers hold it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    job: JobId,
    operator: OperatorId,
    epoch: Epoch,
    handles: BTreeSet<String>,
}

impl ReplayTable {
    /// Whether a handle's rows are already in the partition.
    pub(super) fn is_done(&self, stamp: &WriterStamp, name: &str) -> bool {
        self.0.get(&(stamp.job, stamp.operator)).is_some_and(|known| {
            stamp.epoch < known.epoch || (stamp.epoch == known.epoch && known.handles.contains(name))
        })
    }

    /// Notes a handle as committed. A higher epoch takes the place of the one before: that one was
    /// committed everywhere before this one could be claimed (P4).
    pub(super) fn remember(&mut self, stamp: &WriterStamp, name: &str) {
        let known = self
            .0
            .entry((stamp.job, stamp.operator))
            .or_insert_with(|| Remembered { epoch: stamp.epoch, handles: BTreeSet::new() });
        if stamp.epoch > known.epoch {
            known.epoch = stamp.epoch;
            known.handles.clear();
        }
        if stamp.epoch == known.epoch {
            known.handles.insert(name.to_owned());
        }
    }

    /// The highest epoch of a job, or of one of its operators, of which something was committed.
    pub(super) fn newest(&self, job: JobId, operator: Option<OperatorId>) -> Option<Epoch> {
        let of_job = self.0.iter().filter(|((known, _), _)| *known == job);
        of_job
            .filter(|((_, by), _)| operator.is_none_or(|operator| operator == *by))
            .map(|(_, known)| known.epoch)
            .max()
    }

    /// Drops everything known of a job. Returns whether there was anything.
    pub(super) fn forget(&mut self, job: JobId) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _), _| *known != job);
        self.0.len() != before
    }

    pub(super) fn knows(&self, job: JobId) -> bool {
        self.0.keys().any(|(known, _)| *known == job)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let lines: Vec<Line> = self
            .0
            .iter()
            .map(|((job, operator), known)| Line {
                job: *job,
                operator: *operator,
                epoch: known.epoch,
                handles: known.handles.clone(),
            })
            .collect();
        serde_json::to_vec(&lines).expect("ids and strings always serialize")
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let lines: Vec<Line> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let table = lines
            .into_iter()
            .map(|line| ((line.job, line.operator), Remembered { epoch: line.epoch, handles: line.handles }));
        Ok(Self(table.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(job: u128, epoch: u64) -> WriterStamp {
        WriterStamp { job: JobId(job), epoch: Epoch(epoch), ..WriterStamp::NONE }
    }

    #[test]
    fn lower_epochs_and_known_handles_are_done() {
        let mut table = ReplayTable::default();
        table.remember(&stamp(1, 5), "a");
        assert!(table.is_done(&stamp(1, 5), "a"));
        assert!(!table.is_done(&stamp(1, 5), "b"));
        assert!(table.is_done(&stamp(1, 4), "anything"));
        assert!(!table.is_done(&stamp(2, 4), "anything"));
        table.remember(&stamp(1, 6), "c");
        assert!(table.is_done(&stamp(1, 5), "b"));
        assert_eq!(table.newest(JobId(1), None), Some(Epoch(6)));
        assert_eq!(table.newest(JobId(1), Some(OperatorId(1))), None);
        assert_eq!(table.newest(JobId(2), None), None);
        assert_eq!(ReplayTable::from_json(&table.to_json()), Ok(table.clone()));
        assert!(table.forget(JobId(1)));
        assert!(!table.is_done(&stamp(1, 4), "a"));
    }
}
