//! `qanat explain`: the logical plan, the streaming graph and the state each operator keeps.

use clap::Args;
use qanat_proto::Result;
use qanat_storage::env::Env;

use crate::cli::ScriptArguments;
use crate::output::{self, Format};
use crate::script;

#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    script: ScriptArguments,
}

impl Explain {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let env = Env::real();
        let text = script::read(&env, &self.script.script)?;
        let planned = script::plan(&env, &text, &script::options(&self.script.set)?)?;
        let graphs: Vec<_> = planned.jobs.iter().map(|job| &job.graph).collect();
        output::print_object(&serde_json::json!({ "jobs": graphs }), format, || qanat_sql::explain(&planned));
        Ok(())
    }
}
