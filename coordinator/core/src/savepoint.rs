//! Epochs with a name: they are ordinary ones, kept until the name is dropped. And jobs that are dropped whole.

use qanat_proto::ids::Epoch;
use qanat_proto::limits::SAVEPOINTS_MAX;
use qanat_proto::zoo::{Bug, planted};

use crate::apply::Applied;
use crate::command::Refusal;
use crate::state::{Job, Savepoint};

impl Job {
    /// Whether an epoch has a name.
    pub fn is_savepoint(&self, epoch: Epoch) -> bool {
        !planted(Bug::LoseSavepoint) && self.savepoints.values().any(|savepoint| savepoint.epoch == epoch)
    }

    /// The next claim gets this name; where none will come, the last one has it now.
    pub(crate) fn name_epoch(&mut self, name: &str, request: &str) -> Result<Applied, Refusal> {
        if self.dropped {
            return Err(Refusal::UnknownJob);
        }
        let known = self.savepoints.get(name).map(|savepoint| (savepoint.request.as_str(), Some(savepoint.epoch)));
        let wanted = self.savepoints_wanted.get(name).map(|request| (request.as_str(), None));
        match known.or(wanted) {
            Some((same, _)) if same == request => return Ok(Applied::Done),
            Some((_, epoch)) => return Err(Refusal::SavepointExists { epoch }),
            None => {}
        }
        if self.savepoints.len() + self.savepoints_wanted.len() >= SAVEPOINTS_MAX {
            return Err(Refusal::TooManySavepoints);
        }
        self.savepoints_wanted.insert(name.to_owned(), request.to_owned());
        if self.closing.is_some() || self.status.is_ended() {
            let (last, _) = self.last_claim().ok_or(Refusal::UnknownJob)?;
            self.name_claim(last);
        }
        Ok(Applied::Done)
    }

    /// An epoch was claimed: it gets the names that wait.
    pub(crate) fn name_claim(&mut self, epoch: Epoch) {
        let wanted = std::mem::take(&mut self.savepoints_wanted);
        self.savepoints.extend(wanted.into_iter().map(|(name, request)| (name, Savepoint { epoch, request })));
    }

    pub(crate) fn drop_savepoint(&mut self, name: &str) -> Result<Applied, Refusal> {
        let was_wanted = self.savepoints_wanted.remove(name).is_some();
        let was_there = self.savepoints.remove(name).is_some();
        if was_wanted || was_there { Ok(Applied::Done) } else { Err(Refusal::UnknownSavepoint) }
    }

    /// P14: everything it has may be collected from now on; it is forgotten when that is done. Its side tables and
    /// what its sinks hold stay.
    pub(crate) fn mark_dropped(&mut self) -> Result<Applied, Refusal> {
        if !self.status.is_ended() {
            return Err(Refusal::WrongStatus);
        }
        self.dropped = true;
        self.savepoints.clear();
        self.savepoints_wanted.clear();
        let claims = std::mem::take(&mut self.claims);
        self.retired.extend(claims);
        Ok(Applied::Done)
    }
}
