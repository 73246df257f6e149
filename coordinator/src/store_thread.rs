//! The leader loop's IO with the checkpoint store, on threads of its own: the loop never waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};
use qanat_coordinator_core::audit::Caller;
use qanat_coordinator_core::command::{Command, GroupJob};
use qanat_coordinator_core::job::Input;
use qanat_coordinator_core::state::{Claimed, Job};
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::manifest::Manifest;
use qanat_proto::{Error, Result};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::checkpoint::gc::{self, JobCheckpoints};
use qanat_storage::env::failpoint::{SUBMIT_FAILPOINT, failpoint};
use qanat_storage::env::thread;

use crate::driver::{Event, NewJobs};

/// What is done there.
pub(crate) enum StoreWork {
    Submit { jobs: NewJobs, caller: Option<Caller>, reply: Sender<Result<()>>, attempt: u64 },
    Read { job: JobId, key: String, checksum: String },
    Write { job: JobId, epoch: Epoch, manifest: Box<Manifest>, attempt: u64 },
}

/// Does it, and tells the loop.
#[derive(Clone)]
pub(crate) struct StoreThread {
    pub(crate) checkpoints: Arc<CheckpointStore>,
    pub(crate) events: Sender<Event>,
}

impl StoreThread {
    /// Until nobody can ask any more.
    pub(crate) fn run(&self, work: &Receiver<StoreWork>) {
        for item in thread::messages(work) {
            self.perform(item);
        }
    }

    /// Of collections that wait, the last one does what all of them would.
    pub(crate) fn collect_newest(&self, work: &Receiver<BTreeMap<JobId, Job>>) {
        for jobs in thread::messages(work) {
            self.collect(work.try_iter().last().unwrap_or(jobs));
        }
    }

    /// Copies share objects with their origin, so all jobs of the store are looked at.
    fn collect(&self, jobs: BTreeMap<JobId, Job>) {
        match gc::collect(&self.checkpoints, &checkpoints_of(&jobs)) {
            Ok(_) => {
                failpoint("collect.done");
                for (id, job) in jobs.into_iter().filter(|(_, job)| !job.retired.is_empty()) {
                    self.tell(Event::Input(id, Input::Collected(job.retired.into_keys().collect())));
                }
            }
            // What could not be deleted is found again at the next collection.
            Err(error) => tracing::warn!(%error, "could not collect retired checkpoints"),
        }
    }

    fn perform(&self, item: StoreWork) {
        match item {
            StoreWork::Submit { jobs, caller, reply, attempt } => match self.creation(jobs, attempt) {
                Ok(command) => self.tell(Event::Create { command: Box::new(command), caller, reply }),
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            StoreWork::Read { job, key, checksum } => {
                let input = match self.checkpoints.read_manifest(&key, &checksum) {
                    Ok(manifest) => Input::ManifestRead(Box::new(manifest)),
                    Err(error) => Input::StoreFailed(error),
                };
                self.tell(Event::Input(job, input));
            }
            StoreWork::Write { job, epoch, manifest, attempt } => {
                failpoint("manifest.write");
                let input = match self.checkpoints.put_manifest(&manifest, attempt) {
                    Ok((key, checksum)) => Input::ManifestWritten { epoch, manifest, key, checksum },
                    Err(error) => Input::StoreFailed(error),
                };
                failpoint("manifest.written");
                self.tell(Event::Input(job, input));
            }
        }
    }

    /// Makes epoch 0 of each job durable. Nobody knows them before the command is applied.
    fn creation(&self, jobs: NewJobs, attempt: u64) -> Result<Command> {
        let mut made = Vec::new();
        for job in jobs.jobs {
            let manifest = &job.epoch_zero;
            let (manifest_key, checksum) = self.checkpoints.put_manifest(manifest, attempt)?;
            made.push(GroupJob {
                job: manifest.job,
                name: manifest.job_name.clone(),
                script_digest: job.script_digest,
                manifest_key,
                checksum,
                run_with: job.run_with.map(Box::new),
            });
            if jobs.group.is_some() {
                failpoint(SUBMIT_FAILPOINT);
            }
        }
        match (jobs.group, made.pop()) {
            (Some(group), Some(last)) => {
                made.push(last);
                Ok(Command::CreateGroup { group, jobs: made })
            }
            (None, Some(GroupJob { job, name, script_digest, manifest_key, checksum, run_with })) => {
                Ok(Command::CreateJob { job, name, script_digest, manifest_key, checksum, run_with })
            }
            (_, None) => Err(Error::internal("a submit of no job")),
        }
    }

    fn tell(&self, event: Event) {
        // The loop may have ended first.
        let _ = self.events.send(event);
    }
}

fn checkpoints_of(jobs: &BTreeMap<JobId, Job>) -> Vec<JobCheckpoints> {
    let keys = |claims: &BTreeMap<Epoch, Claimed>| {
        claims.values().map(|claim| (claim.manifest_key.clone(), claim.checksum.clone())).collect()
    };
    jobs.iter()
        .map(|(id, job)| JobCheckpoints {
            job: *id,
            // Of a dropped job everything is of a generation that is over.
            generation: if job.dropped { job.generation.next() } else { job.generation },
            live: keys(&job.claims),
            retired: keys(&job.retired),
        })
        .collect()
}
