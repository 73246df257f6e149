//! From a client's SQL to jobs, on the coordinator that leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use qanat_connectors::contract::Opener;
use qanat_coordinator::service::{PlannedJob, PlannedScript, Planner};
use qanat_proto::{Code, Error, Result};
use qanat_sql::PlanOptions;

use crate::beginning;
use crate::cluster::roots::Roots;
use crate::script;

/// Plans with all connectors there are.
pub(crate) struct ScriptPlanner {
    pub(crate) opener: Arc<dyn Opener>,
    pub(crate) roots: Roots,
    /// Subtasks per operator when nobody says.
    pub(crate) parallelism: u32,
}

impl Planner for ScriptPlanner {
    fn plan(
        &self,
        text: &str,
        set: &BTreeMap<String, String>,
        parallelism: u32,
        starts: bool,
    ) -> Result<PlannedScript> {
        let settings =
            |(key, _): &(&String, &String)| qanat_proto::settings::KEYS.contains(&key.as_str()) || key.contains('.');
        let options = PlanOptions {
            settings: set.iter().filter(settings).map(|(key, value)| (key.clone(), value.clone())).collect(),
            variables: set.clone(),
        };
        let planned = script::plan(text, &options)?;
        let settings = &planned.settings;
        let most = beginning::parallelism_max(settings);
        let asked = match (parallelism, settings.parallelism) {
            (0, 0) => self.parallelism.min(most),
            (0, asked) | (asked, _) => asked,
        };
        if asked > most {
            return Err(Error::new(Code::Usage, format!("parallelism {asked} is not possible"))
                .hint(format!("use 1 to {most}: a subtask needs a key group (`pipeline.max-parallelism`)")));
        }
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
}
