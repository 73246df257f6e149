//! What a rollback would do, worked out before one command decides it (P10): the same for a coordinator and for the
//! command line, which decides about a job of a folder by itself.

use std::collections::{BTreeMap, BTreeSet};

use qanat_coordinator_core::Command;
use qanat_coordinator_core::retention::TopicStart;
use qanat_coordinator_core::state::{Claimed, Job};
use qanat_proto::control::WithdrawnObjects;
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::{Code, Error, Place, Result, limits};

/// Where a rollback goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePoint<'a> {
    Savepoint(&'a str),
    Epoch(Epoch),
}

/// What a rollback would take back of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawableSink {
    pub operator: OperatorId,
    pub table: String,
    pub names: BTreeSet<String>,
    /// Why rows would stay.
    pub keeps: Option<String>,
}

/// A rollback as of one moment.
#[derive(Clone, Debug)]
pub struct RollbackPlan {
    pub to: Epoch,
    pub restored: Claimed,
    /// The last claim.
    pub last: Epoch,
    /// The highest number that was ever claimed.
    pub highest: Epoch,
    /// What is claimed and withdrawn by this, as far as it is still known.
    after: BTreeMap<Epoch, Vec<PreparedHandle>>,
}

impl RollbackPlan {
    /// # Errors
    /// E0310 if there is nothing to go back to.
    pub fn new(job: &Job, to: RestorePoint<'_>) -> Result<Self> {
        let unknown = |what: String| {
            let epochs: Vec<String> = job.claims.keys().map(ToString::to_string).collect();
            Error::new(Code::NotRestorable, what)
                .hint(format!("`qanat job savepoints` lists names; epochs that can be restored: {}", epochs.join(", ")))
        };
        let to = match to {
            RestorePoint::Savepoint(name) => {
                let savepoint = job.savepoints.get(name);
                savepoint.ok_or_else(|| unknown(format!("the job has no savepoint `{name}`")))?.epoch
            }
            RestorePoint::Epoch(epoch) => epoch,
        };
        let restored = job.claims.get(&to).ok_or_else(|| unknown(format!("epoch {to} cannot be restored")))?;
        let (last, _) = job.last_claim().ok_or_else(|| unknown("the job has no epochs".to_owned()))?;
        Ok(Self {
            to,
            restored: restored.clone(),
            last,
            highest: job.highest_epoch(),
            after: job.claims.range(to.next()..).map(|(epoch, claim)| (*epoch, claim.handles.clone())).collect(),
        })
    }

    /// First and last of the epochs that it withdraws.
    pub fn withdrawn(&self) -> Option<(Epoch, Epoch)> {
        (self.last > self.to).then_some((self.to.next(), self.highest))
    }

    /// Whether the sinks must be asked (again) what they hold. `listed`: the last claim when that was done, if it was.
    /// What claims since then name is known from them, as long as they are kept.
    pub fn needs_list(&self, listed: Option<Epoch>) -> bool {
        let is_known = |listed: Epoch| (listed.0 + 1..=self.last.0).all(|epoch| self.after.contains_key(&Epoch(epoch)));
        self.withdrawn().is_some() && !listed.is_some_and(is_known)
    }

    /// Adds what claims name that are too new for any record of the sinks. `name` gives that by which a sink takes
    /// back what it prepared.
    pub fn add_claims(&self, sinks: &mut [WithdrawableSink], name: impl Fn(&PreparedHandle) -> Option<String>) {
        for handle in self.after.values().flatten().filter(|handle| handle.channel == SinkChannel::Table) {
            let sink = sinks.iter_mut().find(|sink| sink.operator == handle.subtask.operator);
            if let (Some(sink), Some(name)) = (sink, name(handle)) {
                sink.names.insert(name);
            }
        }
    }

    /// What decides it. `starts` is where its epoch begins to read topics; `request` tells a repeat from another rollback.
    ///
    /// # Errors
    /// E0409 if it would take back more than one command can name.
    pub fn command(
        &self,
        job: JobId,
        sinks: &[WithdrawableSink],
        starts: Vec<TopicStart>,
        request: String,
    ) -> Result<Command> {
        let count: usize = sinks.iter().map(|sink| sink.names.len()).sum();
        if count > limits::WITHDRAWN_OBJECTS_MAX {
            let message = format!("{count} files would be taken back, and {} can be", limits::WITHDRAWN_OBJECTS_MAX);
            let error = Error::new(Code::CannotWithdraw, message);
            return Err(error.hint("go back in several steps, to later epochs first"));
        }
        let named = sinks.iter().filter(|sink| !sink.names.is_empty());
        let objects = named
            .map(|sink| WithdrawnObjects { operator: sink.operator, names: sink.names.iter().cloned().collect() })
            .collect();
        Ok(Command::Rollback { job, to: self.to, expected: self.last, objects, starts, request })
    }
}

/// Refuses a rollback that would leave rows behind.
///
/// # Errors
/// E0409 for the first sink that keeps what it has.
pub fn check_all_withdraw(sinks: &[WithdrawableSink]) -> Result<()> {
    match sinks.iter().find_map(|sink| sink.keeps.as_ref().map(|why| (&sink.table, why))) {
        Some((table, why)) => Err(Error::new(Code::CannotWithdraw, format!("`{table}` cannot be rolled back: {why}"))
            .at(Place::Named(table.clone()))
            .hint(
                "`qanat job rollback` says with --dry-run what would be taken back, and goes on all the same with \
                 --allow-duplicates",
            )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::ids::Generation;

    use super::*;

    #[test]
    fn sinks_are_asked_if_claims_went_by_that_nobody_tells_of() {
        let plan = |last: u64, known: &[u64]| RollbackPlan {
            to: Epoch(14),
            restored: Claimed {
                generation: Generation(1),
                manifest_key: String::new(),
                checksum: String::new(),
                handles: Vec::new(),
                is_final: false,
                committed: true,
            },
            last: Epoch(last),
            highest: Epoch(last),
            after: known.iter().map(|epoch| (Epoch(*epoch), Vec::new())).collect(),
        };
        assert!(!plan(14, &[]).needs_list(None), "nothing is withdrawn");
        assert!(plan(15, &[15]).needs_list(None), "an epoch was claimed since nothing was to be withdrawn");
        assert!(!plan(15, &[15]).needs_list(Some(Epoch(15))));
        assert!(!plan(17, &[16, 17]).needs_list(Some(Epoch(15))), "claims tell of what came since");
        assert!(plan(17, &[17]).needs_list(Some(Epoch(15))), "epoch 16 is retired already");
    }
}
