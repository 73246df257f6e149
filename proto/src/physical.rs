//! The physical graph: what a logical graph becomes at a parallelism.
//!
//! A pure function that coordinator and executors share: the coordinator knows from it which reports
//! an epoch needs and which edges must balance, the executor which operators form a chain.
//!
//! Two things happen. A windowed aggregation behind a shuffle is split into a partial phase before and
//! a final phase behind it. And operators joined by forward edges, where the consumer has no other
//! input, form one *task*: a tree that runs inside one subtask without queues.

use std::collections::BTreeMap;

use crate::graph::{JobGraph, OperatorKind, Partitioning, TimeDomain, WindowAggregateNode, WindowShape, WindowSource};
use crate::ids::OperatorId;

/// Which part of a logical operator a physical one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Whole,
    Partial,
    Final,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalOperator {
    /// Equal to `logical`, except for a partial phase.
    pub id: OperatorId,
    pub logical: OperatorId,
    pub phase: Phase,
    /// Index into [`PhysicalGraph::tasks`].
    pub task: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalEdge {
    pub from: OperatorId,
    pub to: OperatorId,
    pub port: usize,
    pub routing: Routing,
}

/// How rows get from one physical operator to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// A function call inside one task.
    Chained,
    /// A queue from subtask i to subtask i.
    Forward,
    /// By key group of these columns of the producer's output.
    Hash { columns: Vec<usize> },
    /// From a partial phase: by key group of its partition columns, which the executor knows.
    PartialKeys,
    /// All to subtask 0.
    Single,
    /// Subtask i to subtask i modulo `subtasks`.
    Limited { subtasks: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalGraph {
    /// In topological order.
    pub operators: Vec<PhysicalOperator>,
    pub edges: Vec<PhysicalEdge>,
    /// Each task's operators in topological order; the first is its root.
    pub tasks: Vec<Vec<OperatorId>>,
}

impl PhysicalGraph {
    /// Expands `graph` at `parallelism`.
    pub fn expand(graph: &JobGraph, parallelism: u32) -> Self {
        let mut operators = Vec::new();
        let mut edges = Vec::new();
        for operator in &graph.operators {
            let inputs = graph.inputs(operator.id);
            let is_split = match &operator.kind {
                OperatorKind::WindowAggregate(node) => parallelism > 1 && runs_in_two_phases(node),
                _ => false,
            };
            let whole = |phase| PhysicalOperator { id: operator.id, logical: operator.id, phase, task: 0 };
            if !is_split {
                operators.push(whole(Phase::Whole));
                for edge in inputs {
                    let routing = match &edge.partitioning {
                        _ if parallelism == 1 => Routing::Forward,
                        Partitioning::Forward => Routing::Forward,
                        Partitioning::Hash { columns } => Routing::Hash { columns: columns.clone() },
                        Partitioning::Single => Routing::Single,
                        Partitioning::Limited { subtasks } if *subtasks < parallelism => {
                            Routing::Limited { subtasks: *subtasks }
                        }
                        Partitioning::Limited { .. } => Routing::Forward,
                    };
                    edges.push(PhysicalEdge { from: edge.from, to: edge.to, port: edge.port, routing });
                }
                continue;
            }
            let partial = partial_id(operator.id);
            operators.push(PhysicalOperator { id: partial, logical: operator.id, phase: Phase::Partial, task: 0 });
            for edge in inputs {
                edges.push(PhysicalEdge { from: edge.from, to: partial, port: edge.port, routing: Routing::Forward });
            }
            operators.push(whole(Phase::Final));
            edges.push(PhysicalEdge { from: partial, to: operator.id, port: 0, routing: Routing::PartialKeys });
        }
        let mut expanded = Self { operators, edges, tasks: Vec::new() };
        expanded.chain();
        expanded
    }

    /// Groups operators into tasks.
    fn chain(&mut self) {
        let mut inputs: BTreeMap<OperatorId, usize> = BTreeMap::new();
        for edge in &self.edges {
            *inputs.entry(edge.to).or_default() += 1;
        }
        for edge in &mut self.edges {
            if edge.routing == Routing::Forward && inputs.get(&edge.to) == Some(&1) {
                edge.routing = Routing::Chained;
            }
        }
        let mut task_of: BTreeMap<OperatorId, usize> = BTreeMap::new();
        for operator in &mut self.operators {
            let parent = self
                .edges
                .iter()
                .find(|e| e.to == operator.id && e.routing == Routing::Chained)
                .and_then(|e| task_of.get(&e.from).copied());
            let task = parent.unwrap_or_else(|| {
                self.tasks.push(Vec::new());
                self.tasks.len() - 1
            });
            operator.task = task;
            task_of.insert(operator.id, task);
            if let Some(members) = self.tasks.get_mut(task) {
                members.push(operator.id);
            }
        }
    }

    pub fn operator(&self, id: OperatorId) -> Option<&PhysicalOperator> {
        self.operators.iter().find(|o| o.id == id)
    }

    pub fn inputs(&self, id: OperatorId) -> impl Iterator<Item = &PhysicalEdge> {
        self.edges.iter().filter(move |e| e.to == id)
    }

    pub fn outputs(&self, id: OperatorId) -> impl Iterator<Item = &PhysicalEdge> {
        self.edges.iter().filter(move |e| e.from == id)
    }
}

/// Whether an aggregation may be split in a partial and a final phase: not for sessions, whose bounds
/// need all rows of a key, and not in processing time, where the two phases would disagree on the time.
pub fn runs_in_two_phases(node: &WindowAggregateNode) -> bool {
    match node.window {
        WindowSource::Function { shape: WindowShape::Session { .. }, .. } => false,
        WindowSource::Function { domain, .. } | WindowSource::Columns { domain, .. } => domain == TimeDomain::Event,
    }
}

/// The id of the partial phase of an aggregation: fixed, so that reports and receipts can name it.
pub fn partial_id(id: OperatorId) -> OperatorId {
    OperatorId(id.0.rotate_left(32) ^ 0x7061_7274_6961_6c00)
}
