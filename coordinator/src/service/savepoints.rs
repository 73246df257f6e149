//! Savepoints, and jobs that are dropped.

use qanat_coordinator_core::{Command, Refusal};
use qanat_proto::names::Name;
use qanat_proto::rpc::control::{
    DropRequest, DropResponse, DropSavepointRequest, Job, JobRequest, Savepoint, SavepointRequest, SavepointsResponse,
};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error};
use tonic::Status;

use super::jobs::JobsService;
use super::refused;

impl JobsService {
    pub(super) async fn make_savepoint(&self, request: SavepointRequest) -> Result<Savepoint, Status> {
        let SavepointRequest { job, name, request_id } = request;
        let id = self.find(&job)?;
        let name = Name::new(&name).map_err(|error| status_of(&error))?.to_string();
        if name.bytes().all(|b| b.is_ascii_digit()) {
            let error = Error::new(Code::Usage, format!("`{name}` is a number, as an epoch is"));
            return Err(status_of(&error.hint("choose a name with a letter in it")));
        }
        if request_id.is_empty() {
            let error = Error::new(Code::Usage, "a savepoint needs a request id");
            return Err(status_of(&error.hint("draw it at random, once for each savepoint, and keep it for repeats")));
        }
        let command = Command::Savepoint { job: id, name: name.clone(), request: request_id };
        self.decide(command).await?.map_err(|refusal| refused(&refusal))?;
        let epoch = self.member.state(|state| {
            let savepoints = state.job(id).map(|job| &job.savepoints);
            savepoints.and_then(|savepoints| savepoints.get(&name)).map(|savepoint| savepoint.epoch)
        });
        Ok(Savepoint { name, epoch: epoch.map_or(0, |epoch| epoch.0), pending: epoch.is_none() })
    }

    pub(super) fn list_savepoints(&self, request: &JobRequest) -> Result<SavepointsResponse, Status> {
        let id = self.find_run(&request.job, &request.run)?;
        let listed = self.member.state(|state| {
            let job = state.job(id)?;
            let named = job.savepoints.iter();
            let mut savepoints: Vec<Savepoint> = named
                .map(|(name, savepoint)| Savepoint { name: name.clone(), epoch: savepoint.epoch.0, pending: false })
                .collect();
            savepoints.sort_by_key(|savepoint| savepoint.epoch);
            let pending = |name: &String| Savepoint { name: name.clone(), epoch: 0, pending: true };
            savepoints.extend(job.savepoints_wanted.keys().map(pending));
            Some(SavepointsResponse {
                savepoints,
                restorable: job.claims.keys().map(|epoch| epoch.0).collect(),
                withdrawn: job.withdrawn.iter().flat_map(|(first, last)| [first.0, last.0]).collect(),
            })
        });
        listed.ok_or_else(super::gone)
    }

    pub(super) async fn forget_savepoint(&self, request: DropSavepointRequest) -> Result<Job, Status> {
        let DropSavepointRequest { job, name } = request;
        let id = self.find(&job)?;
        // A repeat finds nothing any more, which is what was asked for: only a name that never was is a mistake that
        // nobody can tell from it.
        self.decide(Command::DropSavepoint { job: id, name }).await?.map_err(|refusal| refused(&refusal))?;
        self.shown(id)
    }

    pub(super) async fn drop_job(&self, request: DropRequest) -> Result<DropResponse, Status> {
        let DropRequest { job, dry_run } = request;
        let id = self.find(&job)?;
        let shown = self.shown(id)?;
        let (is_ended, checkpoints) = self.member.state(|state| {
            let job = state.job(id);
            job.map_or((false, 0), |job| (job.status.is_ended(), job.claims.len() + job.retired.len()))
        });
        if !is_ended {
            return Err(still_runs(&shown.name));
        }
        if !dry_run {
            let decided = self.decide(Command::DropJob { job: id }).await?;
            decided.map_err(|refusal| match refusal {
                Refusal::WrongStatus => still_runs(&shown.name),
                other => refused(&other),
            })?;
        }
        Ok(DropResponse { job: Some(shown), checkpoints: checkpoints as u64 })
    }
}

fn still_runs(name: &str) -> Status {
    let error = Error::new(Code::Usage, format!("job `{name}` has not ended"));
    status_of(&error.hint("stop it first: `qanat job stop`"))
}
