//! The processes of a cluster, as `cluster status` and `top` print them.

use qanat_client::{Coordinator, Executor};
use serde::Serialize;

use crate::output::{self, printable};

#[derive(Serialize)]
pub(super) struct CoordinatorLine {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) leads: bool,
    pub(super) votes: bool,
    /// Whether it acknowledged something lately.
    pub(super) up: bool,
}

impl From<Coordinator> for CoordinatorLine {
    fn from(coordinator: Coordinator) -> Self {
        let Coordinator { id, address, leads, votes, down } = coordinator;
        Self { id, address, leads, votes, up: !down }
    }
}

impl CoordinatorLine {
    pub(super) fn table(lines: &[Self]) -> String {
        let role = |line: &Self| match (line.leads, line.votes) {
            (true, _) => "leads",
            (false, true) => "follows",
            (false, false) => "learns",
        };
        let row = |line: &Self| {
            let state = if line.up { "up" } else { "down" };
            vec![line.id.to_string(), printable(&line.address), role(line).to_owned(), state.to_owned()]
        };
        output::table(&["coordinator", "address", "role", "state"], &lines.iter().map(row).collect::<Vec<_>>())
    }
}

#[derive(Serialize)]
pub(super) struct ExecutorLine {
    pub(super) node: String,
    pub(super) start: String,
    pub(super) slots: u32,
    pub(super) attached: bool,
    pub(super) draining: bool,
    pub(super) jobs: Vec<String>,
    /// Where other executors reach it.
    address: String,
}

impl From<Executor> for ExecutorLine {
    fn from(executor: Executor) -> Self {
        let Executor { node, start, slots, attached, draining, jobs, address } = executor;
        Self { node, start, slots, attached, draining, jobs, address }
    }
}

impl ExecutorLine {
    pub(super) fn table(lines: &[Self]) -> String {
        let state = |line: &Self| match (line.attached, line.draining) {
            (false, _) => "away",
            (true, true) => "draining",
            (true, false) => "attached",
        };
        let row = |line: &Self| {
            let jobs = printable(&line.jobs.join(", "));
            vec![printable(&line.node), line.slots.to_string(), state(line).to_owned(), jobs]
        };
        output::table(&["executor", "slots", "state", "jobs"], &lines.iter().map(row).collect::<Vec<_>>())
    }
}
