//! `qanat validate`: plan a script and say what it would run.

use clap::Args;
use qanat_proto::Result;
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cli::ScriptArguments;
use crate::output::{self, Format};
use crate::script;

#[derive(Args, Debug)]
pub(crate) struct Validate {
    #[command(flatten)]
    script: ScriptArguments,
}

#[derive(Serialize)]
struct Report {
    valid: bool,
    jobs: Vec<JobSummary>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct JobSummary {
    sources: Vec<String>,
    sinks: Vec<String>,
    operators: usize,
    bounded: bool,
}

impl Validate {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let env = Env::real();
        let text = script::read(&env, &self.script.script)?;
        let planned = script::plan(&env, &text, &script::options(&self.script.set)?)?;
        let jobs = planned.jobs.iter().map(|job| JobSummary {
            sources: job.graph.sources().map(|(_, source)| source.table.name.clone()).collect(),
            sinks: job.graph.sinks().map(|(_, sink)| sink.table.name.clone()).collect(),
            operators: job.graph.operators.len(),
            bounded: job.graph.is_bounded(),
        });
        let report = Report { valid: true, jobs: jobs.collect(), warnings: planned.warnings.clone() };
        output::print_object(&report, format, || {
            let mut text = String::new();
            for job in &report.jobs {
                let kind = if job.bounded { "bounded" } else { "unbounded" };
                text.push_str(&format!(
                    "{} -> {}: {} operators, {kind}\n",
                    job.sources.join(", "),
                    job.sinks.join(", "),
                    job.operators
                ));
            }
            report.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
            text + "valid"
        });
        Ok(())
    }
}
