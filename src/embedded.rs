//! A coordinator and an executor in one process: the whole system behind `qanat run`.
//!
//! The same messages flow as between processes; only the link is a queue.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::unbounded;
use qanat_connectors::Registry;
use qanat_connectors::contract::{Context, Opener};
use qanat_connectors::log::hold::{hold_positions, release_positions};
use qanat_connectors::side;
use qanat_coordinator::raft::{Member, Reach};
use qanat_coordinator::{Coordinator, CoordinatorConfig, ExecutorLink, Executors};
use qanat_coordinator_core::state::{Job, JobStatus};
use qanat_executor::metrics::JobMetrics;
use qanat_executor::node::{Node, NodeConfig, OpenSideTables};
use qanat_executor::spill::SpillRoot;
use qanat_executor::task::side::SideTables;
use qanat_proto::control::ToExecutor;
use qanat_proto::exposition::Page;
use qanat_proto::ids::{JobId, StartId};
use qanat_proto::manifest::{Manifest, SinkChannel};
use qanat_proto::{Error, Result};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::File;
use qanat_storage::log::Topics;

use crate::data_folder::{DataFolder, DataView, JobFolder};

/// Everything that runs jobs in this process.
pub(crate) struct Embedded {
    pub(crate) coordinator: Coordinator,
    member: Arc<Member>,
    node: Arc<Node>,
    pub(crate) opener: Arc<dyn Opener>,
    topics: Arc<Topics>,
    checkpoints: Arc<CheckpointStore>,
    /// The whole data folder, for the other jobs that lie in it.
    data: DataView,
    _lock: Arc<dyn File>,
}

struct InProcess(Arc<Node>);

impl ExecutorLink for InProcess {
    fn send(&self, message: ToExecutor) {
        self.0.send(message);
    }
}

/// Opens the side tables of any job among these topics.
pub(crate) fn side_tables(topics: Arc<Topics>) -> Arc<OpenSideTables> {
    Arc::new(move |name, _| {
        Ok(SideTables {
            late: side::sink(&topics, name, SinkChannel::Late)?,
            dead_letters: side::sink(&topics, name, SinkChannel::DeadLetters)?,
        })
    })
}

impl Embedded {
    /// Starts both halves over an opened data folder. `base` is what relative paths are resolved against.
    pub(crate) fn start(data: &DataFolder, job: JobFolder, base: PathBuf, workers: usize) -> Result<Self> {
        let env = data.env.clone();
        let context = Context { env: env.clone(), topics: data.topics.clone(), base };
        let opener: Arc<dyn Opener> = Arc::new(Registry::new(context));
        let (topics, checkpoints, lock) = (data.topics.clone(), job.checkpoints.clone(), job.lock);
        let config = NodeConfig {
            env: env.clone(),
            opener: opener.clone(),
            checkpoints: job.checkpoints.clone(),
            side_tables: side_tables(topics),
            workers,
            exchange: None,
            commit_log: None,
            spill: Some(SpillRoot::open(&env, data.root.join("spill"))?),
        };
        let start = StartId(env.entropy.u64());
        let (outbox, inbox) = unbounded();
        let node = Arc::new(Node::start(start, config, outbox)?);
        let member = job.member;
        let coordinator = Coordinator::start(CoordinatorConfig {
            env,
            member: member.clone(),
            checkpoints: job.checkpoints,
            executors: Executors::Own { start, link: Box::new(InProcess(node.clone())) },
            inbox,
        })?;
        let (topics, data) = (data.topics.clone(), data.view());
        Ok(Self { coordinator, member, node, opener, topics, checkpoints, data, _lock: lock })
    }

    /// Applies the retention of topics. What a restorable manifest still needs is held first (P15).
    pub(crate) fn retain_topics(&self) -> Result<()> {
        // Only for topics that ask what is read: manifests may be large.
        let mut asks = false;
        for name in self.topics.list()? {
            asks |= self.topics.topic(&name)?.spec().retention.consumed;
        }
        let held = if asks { self.hold_all() } else { Ok(()) };
        // What goes by size and age asks nobody.
        if held.is_ok() {
            self.topics.retain()?
        } else {
            self.topics.retain_unasked()?
        };
        held
    }

    fn hold_all(&self) -> Result<()> {
        let state = self.coordinator.state()?;
        for (id, job) in &state.jobs {
            self.hold(*id, job, &self.checkpoints)?;
        }
        for found in self.data.jobs(Reach::State)? {
            if !state.jobs.contains_key(&found.history.id) {
                self.hold(found.history.id, &found.history.job, &found.checkpoints(&self.data.env)?)?;
            }
        }
        Ok(())
    }

    fn hold(&self, id: JobId, job: &Job, checkpoints: &CheckpointStore) -> Result<()> {
        // A finished job reads nothing again.
        if job.status == JobStatus::Finished {
            return release_positions(&self.topics, &id.to_string());
        }
        let mut manifests = Vec::with_capacity(job.claims.len());
        for claim in job.claims.values() {
            manifests.push(checkpoints.read_manifest(&claim.manifest_key, &claim.checksum)?);
        }
        hold_positions(&self.topics, &id.to_string(), &manifests)
    }

    /// Why no checkpoint can be written any more, if that is so.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.checkpoints.objects().poisoned()
    }

    /// The manifest of a job's last claim.
    pub(crate) fn last_manifest(&self, job: JobId) -> Result<Option<Manifest>> {
        let state = self.coordinator.state()?;
        let Some((_, claim)) = state.job(job).and_then(|job| job.last_claim()) else { return Ok(None) };
        self.checkpoints.read_manifest(&claim.manifest_key, &claim.checksum).map(Some)
    }

    /// Shows what both halves count.
    pub(crate) fn show(&self, page: &mut Page) {
        self.coordinator.metrics().show(page, &self.member, None);
        self.node.show(page);
    }

    pub(crate) fn metrics(&self, job: JobId) -> Option<Arc<JobMetrics>> {
        self.node.metrics(job)
    }
}
