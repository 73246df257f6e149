//! `apply`: the one function through which durable facts change.
//!
//! It enforces the epoch protocol by itself: a driver that proposes nonsense, late or twice is refused
//! with a reason and changes nothing.

use qanat_proto::control::CommitPermit;
use qanat_proto::error::{Code, Domain};
use qanat_proto::ids::{Epoch, Generation, JobId, StartId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::receipt::{OperatorReceipt, Receipt};
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{EpochRanges, Error, Place};
use serde::{Deserialize, Serialize};

use crate::command::{Command, GroupJob, Outcome, Refusal, RunWith};
use crate::state::{Claimed, GroupPlace, Job, JobStatus, State};

/// What an applied command gives the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    Done,
    /// A generation was opened.
    Opened {
        token: Token,
        restore: Epoch,
    },
    /// The proof that an epoch may be committed (I5). Built nowhere else.
    Permit(CommitPermit),
    /// A topic is to be changed.
    Changing {
        number: u64,
    },
}

impl State {
    /// Applies one command.
    ///
    /// # Errors
    /// The rule that forbids it; the state is then unchanged but for `applied`.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Refusal> {
        self.applied += 1;
        match command {
            Command::CreateJob { job, name, script_digest, manifest_key, checksum, run_with } => {
                self.check_new(*job, name, run_with.as_deref())?;
                self.create(*job, name, script_digest, manifest_key, checksum, run_with.as_deref(), None)
            }
            Command::CreateGroup { group, jobs } => self.create_group(group, jobs),
            Command::OpenGeneration { job, expected, placement, parallelism, settings } => {
                let state = self.job_mut(*job)?;
                let opened = open_generation(*job, state, *expected, placement)?;
                state.parallelism = *parallelism;
                state.settings = Some(settings.clone());
                Ok(opened)
            }
            Command::Claim { token, epoch, manifest_key, checksum, handles, is_final, receipt } => {
                let job = self.current(*token)?;
                let claim = Claimed {
                    generation: token.generation,
                    manifest_key: manifest_key.clone(),
                    checksum: checksum.clone(),
                    handles: handles.clone(),
                    is_final: *is_final,
                    committed: false,
                };
                claim_epoch(job, *token, *epoch, claim, has_moved(receipt))
            }
            Command::Committed { token, epoch, manifest_key, handle_names } => {
                committed(self.current(*token)?, *epoch, manifest_key, handle_names)
            }
            Command::RecordFailure { token, error, is_last } => record_failure(self.current(*token)?, error, *is_last),
            Command::StopWithSavepoint { job } => {
                let job = self.job_mut(*job)?;
                if job.closing.is_some() || job.status.is_ended() {
                    return Err(Refusal::Closing);
                }
                job.stop_requested = true;
                Ok(Applied::Done)
            }
            Command::Close { job, outcome } => close(self.job_mut(*job)?, outcome),
            Command::Resume { job } => self.resume(*job),
            Command::Retire { job, epochs } => retire(self.job_mut(*job)?, epochs),
            Command::Acknowledge { job } => {
                let job = self.job_mut(*job)?;
                if job.status != JobStatus::Finished {
                    return Err(Refusal::WrongStatus);
                }
                job.acknowledged = true;
                Ok(Applied::Done)
            }
            Command::Rescale { job, parallelism } => {
                let job = self.job_mut(*job)?;
                let run_with = job.run_with.as_mut().filter(|_| *parallelism > 0).ok_or(Refusal::WrongStatus)?;
                run_with.parallelism = *parallelism;
                Ok(Applied::Done)
            }
            Command::OwnLog { start } => Ok(self.own_log(*start)),
            Command::OwnTopics { start, topics } => Ok(self.own_topics(*start, topics)),
            Command::CreateToken { id, facts } => self.access.create(*id, facts).map(|()| Applied::Done),
            Command::RevokeToken { id } => self.access.revoke(*id).map(|()| Applied::Done),
            Command::Drain { start, undo: true, known, .. } => self.undrain(*start, known),
            Command::Drain { start, undo: false, known, usable, .. } => self.drain(*start, known, usable.as_deref()),
            Command::Register { node, start, incarnation, known } => self.register(node, *start, *incarnation, known),
            Command::ChangeTopic { topic, change } => self.change_topic(topic, change),
            Command::TopicChanged { topic, number } => Ok(self.topic_changed(topic, *number)),
            Command::CutTopic { topic, cut, as_of } => self.cut_topic(topic, cut, *as_of),
            Command::Note { .. } => Ok(Applied::Done),
            Command::Savepoint { job, name, request } => self.job_mut(*job)?.name_epoch(name, request),
            Command::DropSavepoint { job, name } => self.job_mut(*job)?.drop_savepoint(name),
            Command::Rollback { job, to, expected, objects, starts, request } => {
                self.roll_back(*job, *to, *expected, (objects, starts), request)
            }
            Command::Withdrawn { token } => {
                let job = self.current(*token)?;
                if job.rolled_back {
                    return Err(Refusal::OldGeneration);
                }
                job.withdrawing.clear();
                finish_closing(job);
                Ok(Applied::Done)
            }
            Command::DropJob { job } => self.job_mut(*job)?.mark_dropped(),
            Command::Collected { job: id, epochs } => {
                let job = self.job_mut(*id)?;
                job.retired.retain(|epoch, _| !epochs.contains(epoch));
                if job.dropped && job.retired.is_empty() {
                    self.jobs.remove(id);
                }
                Ok(Applied::Done)
            }
        }
    }

    fn job_mut(&mut self, job: JobId) -> Result<&mut Job, Refusal> {
        self.jobs.get_mut(&job).ok_or(Refusal::UnknownJob)
    }

    /// A failed job goes on from its last claim once its cause is mended; only a finished one has nothing left to do.
    fn resume(&mut self, id: JobId) -> Result<Applied, Refusal> {
        let job = self.job(id).ok_or(Refusal::UnknownJob)?;
        self.check_topics(job.run_with.as_deref())?;
        let is_name_taken = self.find(&job.name).is_some_and(|(active, _)| active != id);
        let job = self.job_mut(id)?;
        if job.stop_requested && job.closing.is_none() && !job.status.is_ended() {
            // The process died before the stop came about: whoever runs the job again wants it to run.
            job.stop_requested = false;
            return Ok(Applied::Done);
        }
        if job.dropped {
            return Err(Refusal::UnknownJob);
        }
        if !matches!(job.status, JobStatus::Stopped | JobStatus::Failed { .. }) {
            return Err(Refusal::WrongStatus);
        }
        if is_name_taken {
            return Err(Refusal::NameTaken);
        }
        job.status = JobStatus::Restarting;
        job.last_failure = None;
        Ok(Applied::Done)
    }

    /// The job, if `token` is its newest generation.
    fn current(&mut self, token: Token) -> Result<&mut Job, Refusal> {
        let job = self.job_mut(token.job)?;
        if job.generation != token.generation {
            return Err(Refusal::OldGeneration);
        }
        Ok(job)
    }

    fn check_new(&self, id: JobId, name: &str, run_with: Option<&RunWith>) -> Result<(), Refusal> {
        if self.jobs.contains_key(&id) {
            return Err(Refusal::DuplicateJob);
        }
        if self.find(name).is_some() {
            return Err(Refusal::NameTaken);
        }
        self.check_topics(run_with)?;
        let topics = run_with.and_then(|run_with| run_with.topics.as_ref());
        topics.map_or(Ok(()), |topics| self.check_starts(&topics.starts))
    }

    /// None is made unless all can be.
    fn create_group(&mut self, group: &str, jobs: &[GroupJob]) -> Result<Applied, Refusal> {
        for (index, job) in jobs.iter().enumerate() {
            self.check_new(job.job, &job.name, job.run_with.as_deref())?;
            let is_same = |other: &GroupJob| other.job == job.job || other.name == job.name;
            if jobs.iter().take(index).any(is_same) {
                return Err(Refusal::NameTaken);
            }
        }
        for (index, job) in (0..).zip(jobs) {
            let GroupJob { job, name, script_digest, manifest_key, checksum, run_with } = job;
            let place = GroupPlace { name: group.to_owned(), index };
            self.create(*job, name, script_digest, manifest_key, checksum, run_with.as_deref(), Some(place))?;
        }
        Ok(Applied::Done)
    }

    fn create(
        &mut self,
        id: JobId,
        name: &str,
        script_digest: &str,
        manifest_key: &str,
        checksum: &str,
        run_with: Option<&RunWith>,
        group: Option<GroupPlace>,
    ) -> Result<Applied, Refusal> {
        let mut run_with = run_with.cloned();
        if let Some(topics) = run_with.as_mut().and_then(|run_with| run_with.topics.as_mut()) {
            // Where it begins stands in its manifest, too, and was only looked at.
            topics.starts.clear();
        }
        self.last_begun = self.applied;
        let epoch_zero = Claimed {
            generation: Generation(0),
            manifest_key: manifest_key.to_owned(),
            checksum: checksum.to_owned(),
            handles: Vec::new(),
            is_final: false,
            committed: true,
        };
        let job = Job {
            name: name.to_owned(),
            number: self.applied,
            group,
            script_digest: script_digest.to_owned(),
            run_with: run_with.map(Box::new),
            status: JobStatus::Created,
            generation: Generation(0),
            placement: Vec::new(),
            parallelism: 0,
            settings: None,
            generation_open: false,
            restore_point: Epoch(0),
            has_claimed: false,
            has_output: false,
            acknowledged: false,
            rolled_back: false,
            stop_requested: false,
            closing: None,
            claims: [(Epoch(0), epoch_zero)].into(),
            retired: Default::default(),
            last_failure: None,
            savepoints: Default::default(),
            savepoints_wanted: Default::default(),
            withdrawn: EpochRanges::default(),
            withdrawing: Vec::new(),
            rolled_back_by: String::new(),
            dropped: false,
        };
        self.jobs.insert(id, job);
        Ok(Applied::Done)
    }
}

/// P5: the restore point is the last claim as of this command. A closing job opens generations too, but
/// only to replay its commit (P7).
fn open_generation(id: JobId, job: &mut Job, expected: Generation, placement: &[StartId]) -> Result<Applied, Refusal> {
    if job.generation != expected {
        return Err(Refusal::OldGeneration);
    }
    if job.status.is_ended() {
        return Err(Refusal::WrongStatus);
    }
    let (mut restore, _) = job.last_claim().ok_or(Refusal::UnknownJob)?;
    if planted(Bug::RestoreCommitted) {
        let committed = job.claims.iter().rev().find(|(_, claim)| claim.committed);
        restore = committed.map_or(restore, |(epoch, _)| *epoch);
    }
    job.generation = job.generation.next();
    job.placement = placement.to_vec();
    job.generation_open = job.closing.is_none();
    job.rolled_back = false;
    job.restore_point = restore;
    job.has_claimed = false;
    if job.closing.is_none() {
        job.status = JobStatus::Running;
    }
    Ok(Applied::Opened { token: job.token(id), restore })
}

/// So many epochs without a row say that a generation lives, too.
const EMPTY_EPOCHS_SURVIVED: u64 = 10;

/// Whether anything was read or went from one operator to another.
fn has_moved(receipt: &Receipt) -> bool {
    let counts = |operator: &OperatorReceipt| operator.counts.rows_in + operator.counts.rows_out;
    receipt.sources.iter().any(|source| !source.splits.is_empty()) || receipt.operators.iter().any(|o| counts(o) > 0)
}

/// P4 and P7.
fn claim_epoch(job: &mut Job, token: Token, epoch: Epoch, claim: Claimed, has_moved: bool) -> Result<Applied, Refusal> {
    let is_over = !job.generation_open || job.closing.is_some() || job.status.is_ended();
    if is_over && !planted(Bug::ClaimAfterClose) {
        return Err(Refusal::Closing);
    }
    let (last, last_claim) = job.last_claim().ok_or(Refusal::UnknownJob)?;
    if epoch != job.next_epoch() && !planted(Bug::AnyEpoch) {
        return Err(Refusal::NotNext { next: job.next_epoch() });
    }
    if !job.withdrawing.is_empty() && !planted(Bug::SkipWithdrawal) {
        return Err(Refusal::WithdrawalPending);
    }
    if !last_claim.committed && !planted(Bug::ClaimBeforeCommit) {
        return Err(Refusal::CommitPending { epoch: last });
    }
    let permit =
        CommitPermit { token, epoch, manifest_key: claim.manifest_key.clone(), handles: claim.handles.clone() };
    if claim.is_final {
        job.closing = Some(Outcome::Finished);
    } else if job.stop_requested && !planted(Bug::StopForgotten) {
        job.closing = Some(Outcome::Stopped);
    }
    if planted(Bug::EndEarly) {
        finish_closing(job);
    }
    job.has_claimed = true;
    job.has_output |= !claim.handles.is_empty();
    // Progress forgives what came before it, except an error at a certain record, which the epochs in
    // between did not get past, and a budget that is too small: barriers flow while sources are paused.
    // An epoch of nothing is none: what fails on the next row has not met it yet. Of such epochs a generation
    // that lives claims many.
    let is_progress = has_moved || epoch.0.saturating_sub(job.restore_point.0) >= EMPTY_EPOCHS_SURVIVED;
    let stays = |error: &Error| is_at_record(error) || error.code() == Code::MemoryLimit;
    if is_progress && !job.last_failure.as_ref().is_some_and(|(error, _)| stays(error)) {
        job.last_failure = None;
    }
    job.claims.insert(epoch, claim);
    job.name_claim(epoch);
    Ok(Applied::Permit(permit))
}

/// P2: names the manifest and every handle in it. A repeat changes nothing.
fn committed(job: &mut Job, epoch: Epoch, manifest_key: &str, names: &[String]) -> Result<Applied, Refusal> {
    let claim = job.claims.get_mut(&epoch).ok_or(Refusal::WrongCommit)?;
    let complete = claim.handles.iter().all(|handle| names.contains(&handle.name));
    if claim.manifest_key != manifest_key || !complete {
        return Err(Refusal::WrongCommit);
    }
    claim.committed = true;
    finish_closing(job);
    Ok(Applied::Done)
}

/// A closing job reaches its terminal state with the commit of its last claim (P7), and when nothing is left to be
/// withdrawn (P10).
fn finish_closing(job: &mut Job) {
    let owes = job.last_claim().is_none_or(|(_, claim)| !claim.committed) || !job.withdrawing.is_empty();
    if owes && !planted(Bug::EndEarly) {
        return;
    }
    if let Some(outcome) = job.closing.take() {
        job.generation_open = false;
        job.stop_requested = false;
        job.status = match outcome {
            Outcome::Finished => JobStatus::Finished,
            Outcome::Stopped => JobStatus::Stopped,
            Outcome::Failed(error) => JobStatus::Failed { error },
        };
        // No claim will come that could get the names that wait.
        if let Some((last, _)) = job.last_claim() {
            job.name_claim(last);
        }
    }
}

/// Ends the generation; the same error at the same place `SAME_FAILURE_MAX` times with no claim in
/// between that moved a row closes the job, unless it lies outside of it. One failure does if nothing can be read again.
fn record_failure(job: &mut Job, error: &Error, is_last: bool) -> Result<Applied, Refusal> {
    if job.status.is_ended() {
        return Err(Refusal::WrongStatus);
    }
    job.generation_open = false;
    job.status = JobStatus::Restarting;
    // The world outside may mend itself or be mended: such a job goes on trying, however often it fails. Not so if a
    // log is damaged or gone: nobody but the user can bring it back, and has to be told. If rows are still owed to it
    // trying goes on in any case, and another run is all that it takes.
    // A full disk is one failure, wherever it shows next. And so are records that cannot be taken: of several,
    // in splits that are read side by side, now this one fails first and now that one.
    let is_external = error.code().domain() == Domain::External;
    let is_same = |last: &Error| {
        let is_one_kind = is_external || is_at_record(last) && is_at_record(error);
        last.code() == error.code() && (is_one_kind || last.place() == error.place())
    };
    let repeated = match &job.last_failure {
        Some((last, count)) if is_same(last) => count + 1,
        _ => 1,
    };
    job.last_failure = Some((error.clone(), repeated));
    if job.closing.is_some() {
        // The commit of the last claim is still owed; its replay never gives up.
        return Ok(Applied::Done);
    }
    let owes = job.last_claim().is_some_and(|(_, claim)| !claim.committed);
    let may_mend = is_external && (error.code() != Code::CorruptLog || owes);
    if is_last || repeated >= qanat_proto::limits::SAME_FAILURE_MAX && !may_mend {
        return close(job, &Outcome::Failed(error.clone()));
    }
    Ok(Applied::Done)
}

/// Whether an error lies at one record of an origin.
fn is_at_record(error: &Error) -> bool {
    matches!(error.place(), Some(Place::Origin { offset: Some(_), .. }))
}

fn close(job: &mut Job, outcome: &Outcome) -> Result<Applied, Refusal> {
    if job.closing.is_some() || job.status.is_ended() {
        return Err(Refusal::Closing);
    }
    job.generation_open = false;
    job.closing = Some(outcome.clone());
    finish_closing(job);
    Ok(Applied::Done)
}

/// P14: never the last claim, a savepoint, nor a restore point whose generation has not claimed yet.
fn retire(job: &mut Job, epochs: &[Epoch]) -> Result<Applied, Refusal> {
    let last = job.last_claim().map(|(epoch, _)| epoch);
    for epoch in epochs {
        let is_restore_point = *epoch == job.restore_point && !job.has_claimed && !job.status.is_ended();
        if planted(Bug::RetireLast) {
            continue;
        }
        if Some(*epoch) == last || is_restore_point || job.is_savepoint(*epoch) {
            return Err(Refusal::StillNeeded { epoch: *epoch });
        }
    }
    for epoch in epochs {
        if let Some(claim) = job.claims.remove(epoch) {
            job.retired.insert(*epoch, claim);
        }
    }
    Ok(Applied::Done)
}

/// Names of handles, as `Committed` carries them.
pub fn handle_names(handles: &[PreparedHandle]) -> Vec<String> {
    handles.iter().map(|handle| handle.name.clone()).collect()
}
