//! Rollback: the sinks are asked first, then one command decides (P10).

use qanat_coordinator_core::Refusal;
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::rpc::control::rollback_request::To;
use qanat_proto::rpc::control::{RollbackRequest, RollbackResponse, rollback_response};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error};
use tonic::Status;

use super::jobs::JobsService;
use super::{gone, refused};
use crate::rollback::{RestorePoint, RollbackPlan, WithdrawableSink, check_all_withdraw};

/// While sinks are read the job goes on: so often the list is made anew if claims went in between.
const LISTS_MAX: usize = 5;
/// Claims since the list was made are added to it without reading; so often, if another one comes meanwhile.
const TRIES_MAX: usize = 100;

impl JobsService {
    pub(super) async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackResponse, Status> {
        let id = self.find(&request.job)?;
        if request.request_id.is_empty() && !request.dry_run {
            let error = Error::new(Code::Usage, "a rollback needs a request id");
            return Err(status_of(&error.hint("draw it at random, once for each rollback, and keep it for repeats")));
        }
        let to = match &request.to {
            Some(To::Savepoint(name)) => RestorePoint::Savepoint(name),
            Some(To::Epoch(epoch)) => RestorePoint::Epoch(Epoch(*epoch)),
            None => {
                let error = Error::new(Code::Usage, "a rollback needs an epoch or the name of a savepoint");
                return Err(status_of(&error));
            }
        };
        if let Some(told) = self.told_again(id, to, &request.request_id)? {
            return Ok(told);
        }
        let mut plan = self.plan_rollback(id, to)?;
        let (planner, restored) = (self.planner.clone(), plan.restored.clone());
        let starts = self.blocking(move || planner.starts(&restored)).await?;
        for _ in 0..LISTS_MAX {
            let (mut sinks, mut listed) = (Vec::new(), None);
            if plan.withdrawn().is_some() {
                let (planner, restored, after) = (self.planner.clone(), plan.restored.clone(), plan.to);
                sinks = self.blocking(move || planner.withdrawable(id, &restored, after)).await?;
                listed = Some(plan.last);
            }
            self.add_claims(&plan, &mut sinks);
            if request.dry_run {
                return self.told_of_rollback(id, plan.to, plan.withdrawn(), &sinks);
            }
            if !request.allow_duplicates {
                check_all_withdraw(&sinks).map_err(|error| status_of(&error))?;
            }
            for _ in 0..TRIES_MAX {
                plan = self.plan_rollback(id, to)?;
                if plan.needs_list(listed) {
                    break;
                }
                self.add_claims(&plan, &mut sinks);
                let command = plan.command(id, &sinks, starts.clone(), request.request_id.clone());
                match self.decide(command.map_err(|error| status_of(&error))?).await? {
                    Ok(_) => return self.told_of_rollback(id, plan.to, plan.withdrawn(), &sinks),
                    Err(Refusal::NotNext { .. }) => {}
                    Err(refusal) => return Err(refused(&refusal)),
                }
            }
        }
        let error = Error::new(Code::CommitPending, "the job claims epochs faster than its sinks can be read");
        Err(status_of(&error.hint("stop it with `qanat job stop`, and roll it back then")))
    }

    fn plan_rollback(&self, id: JobId, to: RestorePoint<'_>) -> Result<RollbackPlan, Status> {
        let plan = self.member.state(|state| state.job(id).map(|job| RollbackPlan::new(job, to)));
        plan.ok_or_else(gone)?.map_err(|error| status_of(&error))
    }

    /// What a repeat is answered: the job has gone on since, so that its claims tell no more what was withdrawn.
    fn told_again(&self, id: JobId, to: RestorePoint<'_>, request: &str) -> Result<Option<RollbackResponse>, Status> {
        let done = self.member.state(|state| {
            let job = state.job(id).filter(|job| !request.is_empty() && job.rolled_back_by == request)?;
            let newest = job.withdrawn.last();
            let to = match to {
                RestorePoint::Epoch(epoch) => Some(epoch),
                RestorePoint::Savepoint(name) => job.savepoints.get(name).map(|savepoint| savepoint.epoch),
            };
            // A name may be gone by now.
            let to = to.or_else(|| newest.map(|(first, _)| Epoch(first.0.saturating_sub(1)))).unwrap_or_default();
            Some((to, newest.filter(|(first, _)| *first == to.next())))
        });
        done.map(|(to, withdrawn)| self.told_of_rollback(id, to, withdrawn, &[])).transpose()
    }

    fn add_claims(&self, plan: &RollbackPlan, sinks: &mut [WithdrawableSink]) {
        plan.add_claims(sinks, |handle| self.planner.withdrawable_name(handle));
    }

    fn told_of_rollback(
        &self,
        id: JobId,
        to: Epoch,
        withdrawn: Option<(Epoch, Epoch)>,
        sinks: &[WithdrawableSink],
    ) -> Result<RollbackResponse, Status> {
        let sink = |sink: &WithdrawableSink| rollback_response::Sink {
            table: sink.table.clone(),
            objects: sink.names.len() as u64,
            keeps: sink.keeps.clone().unwrap_or_default(),
        };
        let (first, last) = withdrawn.unwrap_or_default();
        Ok(RollbackResponse {
            job: Some(self.shown(id)?),
            to: to.0,
            first: first.0,
            last: last.0,
            sinks: sinks.iter().map(sink).collect(),
        })
    }
}
