//! From a client's SQL to jobs, on the coordinator that leads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use qanat_connectors::contract::Opener;
use qanat_connectors::filesystem::withdrawn::path_of;
use qanat_connectors::log::hold;
use qanat_connectors::{log, side};
use qanat_coordinator::rollback::WithdrawableSink;
use qanat_coordinator::service::{PlannedJob, PlannedScript, Planner};
use qanat_coordinator_core::Claimed;
use qanat_coordinator_core::command::JobTopics;
use qanat_coordinator_core::retention::TopicStart;
use qanat_executor::lookup;
use qanat_proto::Result;
use qanat_proto::graph::JobGraph;
use qanat_proto::ids::{Epoch, JobId};
use qanat_proto::manifest::{OperatorState, PreparedHandle, SinkChannel, SourceState};
use qanat_proto::settings::JobSettings;
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::env::Env;

use crate::beginning;
use crate::cluster::roots::Roots;
use crate::{script, withdrawable};

/// Plans with all connectors there are.
pub(crate) struct ScriptPlanner {
    pub(crate) opener: Arc<dyn Opener>,
    pub(crate) roots: Roots,
    pub(crate) env: Env,
    pub(crate) checkpoints: Arc<CheckpointStore>,
}

/// Where sources begin to read topics.
pub(crate) fn starts_of(sources: &[SourceState]) -> Vec<TopicStart> {
    let start =
        |hold::Start { topic, id, partition, offset }| TopicStart { topic: topic.to_string(), id, partition, offset };
    hold::starts(sources).into_iter().map(start).collect()
}

impl Planner for ScriptPlanner {
    fn plan(
        &self,
        text: &str,
        set: &BTreeMap<String, String>,
        parallelism: u32,
        starts: bool,
    ) -> Result<PlannedScript> {
        let planned = script::plan(&self.env, text, &script::options_of(set.clone()))?;
        let settings = &planned.settings;
        let asked = beginning::parallelism((parallelism > 0).then_some(parallelism), settings)?;
        let mut jobs = Vec::new();
        for job in &planned.jobs {
            self.roots.check(&job.graph)?;
            let mut sources = Vec::new();
            if starts {
                sources = beginning::sources(self.opener.as_ref(), &job.graph)?;
                beginning::check_sinks(self.opener.as_ref(), &job.graph)?;
            }
            jobs.push(PlannedJob {
                digest: beginning::digest(&job.graph),
                parallelism: beginning::widened(asked, &job.graph, settings)?,
                sources,
                graph: job.graph.clone(),
            });
        }
        let plans = vec![qanat_sql::explain(&planned)];
        Ok(PlannedScript { jobs, settings: settings.clone(), warnings: planned.warnings.clone(), plans })
    }

    fn lookups(&self, job: JobId, graph: &JobGraph, settings: &JobSettings) -> Result<Vec<OperatorState>> {
        // The same request may come again, and to another coordinator, and each try has names of its own.
        let sequence = self.env.entropy.u64() >> 1;
        lookup::begin(self.opener.as_ref(), &self.checkpoints, job, graph, settings, sequence)
    }

    fn withdrawable(&self, job: JobId, restored: &Claimed, after: Epoch) -> Result<Vec<WithdrawableSink>> {
        let manifest = self.checkpoints.read_manifest(&restored.manifest_key, &restored.checksum)?;
        withdrawable::sinks(&self.env, &manifest.graph, job, after, Path::new("/"))
    }

    fn starts(&self, restored: &Claimed) -> Result<Vec<TopicStart>> {
        let manifest = self.checkpoints.read_manifest(&restored.manifest_key, &restored.checksum)?;
        Ok(starts_of(&manifest.sources))
    }

    fn topics(&self, job_name: &str, job: &PlannedJob) -> Result<JobTopics> {
        let side = [SinkChannel::Late, SinkChannel::DeadLetters].map(|channel| side::topic_name(job_name, channel));
        let names = side.into_iter().chain(log::topics_of(&job.graph));
        let names = names.map(|name| name.map(|name| name.to_string())).collect::<Result<_>>()?;
        Ok(JobTopics { names, starts: starts_of(&job.sources) })
    }

    fn withdrawable_name(&self, handle: &PreparedHandle) -> Option<String> {
        path_of(handle)
    }
}
