//! SQL text to job graphs: Flink's streaming dialect on DataFusion's parser and planner. No IO.
//!
//! [`plan_script`] is the whole road: `parse` reads the script, `catalog` binds its tables to connectors,
//! `plan` makes and optimises logical plans, `rules` give them Flink's value semantics, and `lower` turns
//! them into streaming operators. Executors use [`expr`] to decode what the graphs carry.
//!
//! What must never happen: a script that panics or overflows the stack; a query that is accepted and
//! answers wrongly. What is not supported is refused with a code, a place and a hint.

pub mod catalog;
mod explain;
pub mod expr;
pub mod functions;
mod lower;
pub mod parse;
mod plan;
mod rules;
pub mod types;

use std::collections::BTreeMap;

use qanat_proto::connector::ConnectorCatalog;
use qanat_proto::error::Result;
use qanat_proto::graph::JobGraph;
use qanat_proto::settings::JobSettings;

pub use explain::{explain, is_deterministic};

/// What the command line adds to a script.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// `--set key=value`: go before the script's own SET.
    pub settings: BTreeMap<String, String>,
    /// Values of `${NAME}`.
    pub variables: BTreeMap<String, String>,
}

/// A planned script.
#[derive(Clone, Debug)]
pub struct PlannedScript {
    /// One per connected graph; empty if the script only explains or lists.
    pub jobs: Vec<PlannedJob>,
    /// Texts of the EXPLAIN statements, in order.
    pub explains: Vec<String>,
    /// Texts of SHOW, DESCRIBE and plain SET, in order.
    pub listings: Vec<String>,
    pub settings: JobSettings,
    pub warnings: Vec<String>,
}

/// One connected graph and the statements it runs.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    pub graph: JobGraph,
    pub inserts: Vec<PlannedInsert>,
}

/// One INSERT (or bare SELECT, into `print`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedInsert {
    /// The table written to.
    pub table: String,
    /// The statement as the user wrote it.
    pub text: String,
    /// The optimised logical plan, for EXPLAIN.
    pub logical: String,
}

/// Plans a script. Runs on a thread with a deep stack; a panic of the planner becomes an error.
///
/// # Errors
/// Codes E0101 to E0114 for the text, E0201 to E0205 for tables and their options; with the place in the
/// text and a hint where there is one.
pub fn plan_script(text: &str, options: &PlanOptions, connectors: &dyn ConnectorCatalog) -> Result<PlannedScript> {
    parse::on_deep_stack(|| plan::plan(text, options, connectors))
}
