//! Rollback (P10): one command withdraws epochs for ever and fixes what is taken back of them.

use qanat_proto::control::{Withdrawal, WithdrawnObjects};
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::zoo::{Bug, planted};

use crate::apply::Applied;
use crate::command::Refusal;
use crate::retention::TopicStart;
use crate::state::{Job, JobStatus, State};

impl Job {
    /// Whether an epoch was withdrawn.
    pub fn is_withdrawn(&self, epoch: Epoch) -> bool {
        self.withdrawn.contains(epoch)
    }

    /// The highest epoch that was ever withdrawn; 0: none.
    pub fn withdrawn_to(&self) -> Epoch {
        self.withdrawn.last().map_or(Epoch(0), |(_, last)| last)
    }
}

impl State {
    /// Ends the running generation, so that nothing of it is claimed any more; the next one opens from `to` and first
    /// finishes what is to be withdrawn. `objects` must have been listed as of the last claim; `starts` are those of `to`.
    pub(crate) fn roll_back(
        &mut self,
        id: JobId,
        to: Epoch,
        expected: Epoch,
        (objects, starts): (&[WithdrawnObjects], &[TopicStart]),
        request: &str,
    ) -> Result<Applied, Refusal> {
        let job = self.jobs.get(&id).filter(|job| !job.dropped).ok_or(Refusal::UnknownJob)?;
        if !request.is_empty() && job.rolled_back_by == request {
            return Ok(Applied::Done);
        }
        if job.closing.is_some() {
            return Err(Refusal::Closing);
        }
        self.check_topics(job.run_with.as_deref())?;
        if job.status.is_ended() && self.find(&job.name).is_some() {
            return Err(Refusal::NameTaken);
        }
        let (last, _) = job.last_claim().ok_or(Refusal::UnknownJob)?;
        if last != expected {
            return Err(Refusal::NotNext { next: last.next() });
        }
        // The last claim may be restored before its commit is recorded: it is replayed then.
        if job.claims.get(&to).is_none_or(|claim| !claim.committed && to != last) {
            return Err(Refusal::NotRestorable { epoch: to });
        }
        // P15: nothing is taken back that could not be read again.
        if !planted(Bug::RetainNewest) {
            self.check_starts(starts)?;
        }
        self.last_begun = self.applied;
        let job = self.jobs.get_mut(&id).ok_or(Refusal::UnknownJob)?;
        if to < last {
            let (first, last) = (to.next(), job.highest_epoch());
            job.withdrawn.put(first, last);
            job.withdrawing.push(Withdrawal { first, last, objects: objects.to_vec() });
            job.savepoints.retain(|_, savepoint| savepoint.epoch <= to);
            let withdrawn = job.claims.split_off(&first);
            job.retired.extend(withdrawn);
        }
        request.clone_into(&mut job.rolled_back_by);
        job.generation_open = false;
        job.rolled_back = true;
        job.restore_point = to;
        job.has_claimed = false;
        job.stop_requested = false;
        job.acknowledged = false;
        job.last_failure = None;
        if job.status != JobStatus::Created {
            job.status = JobStatus::Restarting;
        }
        Ok(Applied::Done)
    }
}
