//! EXPLAIN: the logical plan, the streaming graph with its partitioning, the state each operator keeps
//! and whether it is deterministic.

mod determinism;
mod operator;

use std::fmt::Write;

use qanat_proto::graph::{JobGraph, Operator, Partitioning};

use crate::{PlannedJob, PlannedScript};

/// The text of a whole script.
pub fn explain(script: &PlannedScript) -> String {
    jobs(&script.jobs)
}

pub(crate) fn jobs(jobs: &[PlannedJob]) -> String {
    let mut text = String::new();
    for (number, job) in jobs.iter().enumerate() {
        if jobs.len() > 1 {
            let _ = writeln!(text, "== Job {} of {} ==\n", number + 1, jobs.len());
        }
        for insert in &job.inserts {
            let _ = writeln!(text, "== Logical plan: {} ==\n{}\n", insert.table, insert.logical.trim_end());
        }
        let _ = writeln!(text, "== Streaming graph ==");
        graph(&job.graph, &mut text);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Operators in order, numbered, each with its inputs.
fn graph(graph: &JobGraph, text: &mut String) {
    for (position, operator) in graph.operators.iter().enumerate() {
        let _ = writeln!(text, "[{}] {}", position + 1, operator.name);
        for edge in graph.inputs(operator.id) {
            let from = graph.operators.iter().position(|o| o.id == edge.from).map_or(0, |p| p + 1);
            let producer = graph.operator(edge.from);
            let port = if graph.inputs(operator.id).iter().any(|e| e.port > 0) {
                if edge.port == 0 { "left " } else { "right " }
            } else {
                ""
            };
            let _ = writeln!(text, "    {port}from [{from}] {}", partitioning(&edge.partitioning, producer));
        }
        operator::lines(operator, text);
        let producers = graph.inputs(operator.id).into_iter().filter_map(|edge| graph.operator(edge.from));
        let input_changes = producers.into_iter().any(|producer| !producer.changelog.is_append());
        if let Some(state) = operator::state(operator, input_changes) {
            let _ = writeln!(text, "    state: {state}");
        }
        match determinism::reason(operator) {
            None => {}
            Some(reason) => {
                let _ = writeln!(text, "    not deterministic: {reason}");
            }
        }
    }
}

fn partitioning(partitioning: &Partitioning, producer: Option<&Operator>) -> String {
    match partitioning {
        Partitioning::Forward => "forward".to_owned(),
        Partitioning::Single => "single".to_owned(),
        Partitioning::Limited { subtasks } => format!("to {subtasks} subtasks at most"),
        Partitioning::Hash { columns } => {
            let names = columns
                .iter()
                .map(|c| producer.and_then(|p| p.output.fields().get(*c)).map_or("?", |field| field.name().as_str()));
            format!("hash({})", names.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Whether every operator of the graph gives the same rows for the same input, whenever it runs.
pub fn is_deterministic(graph: &JobGraph) -> bool {
    graph.operators.iter().all(|operator| determinism::reason(operator).is_none())
}
