//! Rollback: the sinks are asked first, then one command decides (P10).

use std::collections::BTreeMap;

use qanat_coordinator_core::state::Claimed;
use qanat_coordinator_core::{Command, Refusal};
use qanat_proto::control::WithdrawnObjects;
use qanat_proto::ids::{Epoch, JobId, OperatorId};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::rpc::control::rollback_request::To;
use qanat_proto::rpc::control::{JobRequest, RollbackRequest, RollbackResponse, rollback_response};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, Place, limits};
use tonic::Status;

use super::jobs::{JobsService, WithdrawableSink};
use super::savepoints::gone;

/// While sinks are read the job goes on: so often the list is made anew if claims went in between.
const LISTS_MAX: usize = 5;
/// Claims since the list was made are added to it without reading; so often, if another one comes meanwhile.
const TRIES_MAX: usize = 100;

/// What is known of a job at one moment.
struct Facts {
    to: Epoch,
    restored: Claimed,
    last: Epoch,
    /// What is claimed and withdrawn by this, as far as it is still known.
    after: BTreeMap<Epoch, Vec<PreparedHandle>>,
    /// The highest number that was ever claimed.
    highest: Epoch,
    is_done: bool,
}

impl JobsService {
    pub(super) async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackResponse, Status> {
        let id = self.find(&JobRequest { job: request.job.clone() })?;
        if request.request_id.is_empty() && !request.dry_run {
            let error = Error::new(Code::Usage, "a rollback needs a request id");
            return Err(status_of(&error.hint("draw it at random, once for each rollback, and keep it for repeats")));
        }
        let to = request.to.as_ref();
        let mut facts = self.facts(id, to, &request.request_id)?;
        if facts.is_done {
            return self.told_of_rollback(id, &facts, &[]);
        }
        for _ in 0..LISTS_MAX {
            let mut sinks = Vec::new();
            if facts.last > facts.to {
                let (planner, restored, after) = (self.planner.clone(), facts.restored.clone(), facts.to);
                sinks = self.blocking(move || planner.withdrawable(id, &restored, after)).await?;
            }
            self.add_claims(&mut sinks, &facts);
            let kept = sinks.iter().find_map(|sink| sink.keeps.as_ref().map(|why| (&sink.table, why)));
            if let Some((table, why)) = kept.filter(|_| !request.allow_duplicates && !request.dry_run) {
                let error = Error::new(Code::CannotWithdraw, format!("`{table}` cannot be rolled back: {why}"));
                let hint = "--dry-run says what would be taken back; --allow-duplicates goes on all the same";
                return Err(status_of(&error.at(Place::Named(table.clone())).hint(hint)));
            }
            if request.dry_run {
                return self.told_of_rollback(id, &facts, &sinks);
            }
            let listed = facts.last;
            for _ in 0..TRIES_MAX {
                facts = self.facts(id, to, "")?;
                let is_known = |epoch: u64| facts.after.contains_key(&Epoch(epoch));
                if !(listed.0 + 1..=facts.last.0).all(is_known) {
                    // Claims since then were let go of: only their records tell of them.
                    break;
                }
                self.add_claims(&mut sinks, &facts);
                match self.decide(self.command(id, &facts, &sinks, &request.request_id)?).await? {
                    Ok(_) => return self.told_of_rollback(id, &facts, &sinks),
                    Err(Refusal::NotNext { .. }) => {}
                    Err(refusal) => return Err(refused(&refusal)),
                }
            }
        }
        let error = Error::new(Code::CommitPending, "the job claims epochs faster than its sinks can be read");
        Err(status_of(&error.hint("stop it with `qanat job stop`, and roll it back then")))
    }

    fn facts(&self, id: JobId, to: Option<&To>, request: &str) -> Result<Facts, Status> {
        let facts = self.member.state(|state| {
            let job = state.job(id).ok_or_else(|| Error::new(Code::UnknownJob, "the job is gone"))?;
            let unknown = |what: String| {
                let epochs: Vec<String> = job.claims.keys().map(ToString::to_string).collect();
                Error::new(Code::NotRestorable, what).hint(format!(
                    "`qanat job savepoints` lists names; epochs that can be restored: {}",
                    epochs.join(", ")
                ))
            };
            let to = match to {
                Some(To::Savepoint(name)) => {
                    let savepoint = job.savepoints.get(name);
                    savepoint.ok_or_else(|| unknown(format!("the job has no savepoint `{name}`")))?.epoch
                }
                Some(To::Epoch(epoch)) => Epoch(*epoch),
                None => return Err(Error::new(Code::Usage, "a rollback needs an epoch or the name of a savepoint")),
            };
            let restored = job.claims.get(&to).ok_or_else(|| unknown(format!("epoch {to} cannot be restored")))?;
            let (last, _) = job.last_claim().ok_or_else(|| unknown("the job has no epochs".to_owned()))?;
            let after = job.claims.range(to.next()..).map(|(epoch, claim)| (*epoch, claim.handles.clone())).collect();
            Ok(Facts {
                to,
                restored: restored.clone(),
                last,
                after,
                highest: Epoch(job.next_epoch().0.saturating_sub(1)),
                is_done: !request.is_empty() && job.rolled_back_by == request,
            })
        });
        facts.map_err(|error| status_of(&error))
    }

    /// What claims name that are too new for any record.
    fn add_claims(&self, sinks: &mut [WithdrawableSink], facts: &Facts) {
        for handle in facts.after.values().flatten().filter(|handle| handle.channel == SinkChannel::Table) {
            let sink = sinks.iter_mut().find(|sink| sink.operator == handle.subtask.operator);
            if let (Some(sink), Some(name)) = (sink, self.planner.withdrawable_name(handle)) {
                sink.names.insert(name);
            }
        }
    }

    fn command(&self, job: JobId, facts: &Facts, sinks: &[WithdrawableSink], request: &str) -> Result<Command, Status> {
        let count: usize = sinks.iter().map(|sink| sink.names.len()).sum();
        if count > limits::WITHDRAWN_OBJECTS_MAX {
            let message = format!("{count} files would be taken back, and {} can be", limits::WITHDRAWN_OBJECTS_MAX);
            let error = Error::new(Code::CannotWithdraw, message);
            return Err(status_of(&error.hint("go back in several steps, to later epochs first")));
        }
        let objects = |sink: &WithdrawableSink| -> (OperatorId, Vec<String>) {
            (sink.operator, sink.names.iter().cloned().collect())
        };
        let objects = sinks.iter().map(objects).filter(|(_, names)| !names.is_empty());
        let objects = objects.map(|(operator, names)| WithdrawnObjects { operator, names }).collect();
        Ok(Command::Rollback { job, to: facts.to, expected: facts.last, objects, request: request.to_owned() })
    }

    fn told_of_rollback(
        &self,
        id: JobId,
        facts: &Facts,
        sinks: &[WithdrawableSink],
    ) -> Result<RollbackResponse, Status> {
        let sink = |sink: &WithdrawableSink| rollback_response::Sink {
            table: sink.table.clone(),
            objects: sink.names.len() as u64,
            keeps: sink.keeps.clone().unwrap_or_default(),
        };
        let (first, last) = if facts.last > facts.to { (facts.to.0 + 1, facts.highest.0) } else { (0, 0) };
        Ok(RollbackResponse {
            job: Some(self.job(id).ok_or_else(gone)?),
            to: facts.to.0,
            first,
            last,
            sinks: sinks.iter().map(sink).collect(),
        })
    }
}

fn refused(refusal: &Refusal) -> Status {
    let error = Error::new(
        match refusal {
            Refusal::UnknownJob => Code::UnknownJob,
            Refusal::NotRestorable { .. } => Code::NotRestorable,
            Refusal::Closing => Code::CommitPending,
            Refusal::NameTaken => Code::ForeignState,
            _ => Code::Usage,
        },
        refusal.to_string(),
    );
    status_of(&match refusal {
        Refusal::Closing => error.hint("try again when it has ended"),
        Refusal::NameTaken => error.hint("stop the job that has its name first"),
        _ => error,
    })
}
