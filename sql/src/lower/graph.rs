//! The graph under construction: operators by stable id, edges, and the cut into connected jobs.
//!
//! An operator's id is a hash of what it *is*: its kind with columns by name, and the ids of its inputs
//! with their partitioning. So equal sub-plans of a script become one operator, and an edited query
//! keeps the state of the parts that did not change. A source is identified by its table alone: it may
//! read another column and still continues from its offsets.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::{Changelog, has_kinds};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{
    CalcNode, Edge, JobGraph, Operator, OperatorKind, Partitioning, RankFunction, SortKey, WindowSource,
};
use qanat_proto::ids::OperatorId;
use qanat_proto::limits::OPERATORS_MAX;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::changelog;
use super::growth::forgets;

/// An input of an operator to be added: all `from` rows go to `port`.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) from: Vec<OperatorId>,
    pub(crate) partitioning: Partitioning,
}

impl Port {
    pub(crate) fn forward(from: &[OperatorId]) -> Self {
        Self { from: from.to_vec(), partitioning: Partitioning::Forward }
    }

    /// To `subtasks` subtasks at most; None: to as many as there are.
    pub(crate) fn limited(from: &[OperatorId], subtasks: Option<u32>) -> Self {
        let partitioning = subtasks.map_or(Partitioning::Forward, |subtasks| Partitioning::Limited { subtasks });
        Self { from: from.to_vec(), partitioning }
    }

    /// By `columns`; all rows to one subtask if there are none.
    pub(crate) fn hash(from: &[OperatorId], columns: Vec<usize>) -> Self {
        let partitioning = if columns.is_empty() { Partitioning::Single } else { Partitioning::Hash { columns } };
        Self { from: from.to_vec(), partitioning }
    }
}

#[derive(Debug)]
pub(crate) struct GraphBuilder {
    /// Of operators that forget and have no hint.
    ttl_ms: u64,
    operators: Vec<Operator>,
    index: HashMap<OperatorId, usize>,
    edges: Vec<Edge>,
}

impl GraphBuilder {
    /// `ttl_ms`: of operators that forget, but for those with hints.
    pub(crate) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, operators: Vec::new(), index: HashMap::new(), edges: Vec::new() }
    }

    /// Adds an operator, or finds the equal one that is there.
    ///
    /// # Errors
    /// E0107 for too many operators.
    pub(crate) fn add(
        &mut self,
        name: String,
        kind: OperatorKind,
        output: SchemaRef,
        ports: Vec<Port>,
    ) -> Result<OperatorId> {
        self.add_keeping(name, kind, output, ports, [None; 2])
    }

    /// As [`Self::add`]; what it keeps of each input has the given time to live.
    pub(crate) fn add_keeping(
        &mut self,
        name: String,
        kind: OperatorKind,
        output: SchemaRef,
        ports: Vec<Port>,
        hints: [Option<u64>; 2],
    ) -> Result<OperatorId> {
        let has_port = |port: usize| port < ports.len().max(1);
        let ttl_ms = match forgets(&kind) {
            true => [0, 1].map(|port| if has_port(port) { hints[port].unwrap_or(self.ttl_ms) } else { 0 }),
            false => [0; 2],
        };
        let mut description = self.describe(&kind, &output, &ports);
        let salted = matches!(kind, OperatorKind::Sink(_));
        let mut copy = 0_u64;
        let id = loop {
            let id = OperatorId(xxh3_64(description.to_string().as_bytes()));
            // Two equal INSERTs are two sinks. A second try also keeps ids apart should hashes ever meet. An id does not
            // hang on the time to live.
            match self.operator(id) {
                None => break id,
                Some(same) if !salted && same.kind_name() == kind.name() && same.ttl_ms == ttl_ms => return Ok(id),
                Some(_) => {
                    copy += 1;
                    description["copy"] = json!(copy);
                }
            }
        };
        if self.operators.len() >= OPERATORS_MAX {
            return Err(Error::new(Code::SqlLimit, format!("the script needs more than {OPERATORS_MAX} operators"))
                .hint("run parts of it as scripts of their own, joined by log topics"));
        }
        for (port, input) in ports.into_iter().enumerate() {
            for (position, from) in input.from.iter().enumerate() {
                // The same rows twice into one port need two edges that can be told apart.
                let repeats = input.from.iter().take(position).filter(|earlier| *earlier == from).count();
                let from = if repeats == 0 { *from } else { self.pass_through(*from, repeats)? };
                self.edges.push(Edge { from, to: id, port, partitioning: input.partitioning.clone() });
            }
        }
        self.index.insert(id, self.operators.len());
        let changelog = if has_kinds(&output) { Changelog::Retract } else { Changelog::Append };
        self.operators.push(Operator { id, name, kind, output, changelog, ttl_ms });
        Ok(id)
    }

    pub(crate) fn operator(&self, id: OperatorId) -> Option<&Operator> {
        self.index.get(&id).and_then(|position| self.operators.get(*position))
    }

    /// Whether an operator never has two rows at a time that are equal in `key`, as far as it can tell.
    pub(crate) fn has_key(&self, operator: OperatorId, key: &[usize]) -> bool {
        let producer = |id: OperatorId| {
            let mut edges = self.edges.iter().filter(|edge| edge.to == id);
            let edge = edges.next().filter(|_| edges.next().is_none());
            edge.and_then(|edge| self.operator(edge.from))
        };
        self.operator(operator).is_some_and(|operator| changelog::has_key(operator, key, &producer))
    }

    /// Says what rows a sink takes.
    pub(crate) fn set_changelog(&mut self, id: OperatorId, changelog: Changelog) {
        if let Some(operator) = self.index.get(&id).and_then(|position| self.operators.get_mut(*position)) {
            operator.changelog = changelog;
        }
    }

    /// A copy of `from`'s rows under another id.
    fn pass_through(&mut self, from: OperatorId, repeat: usize) -> Result<OperatorId> {
        let schema = match self.operator(from) {
            Some(operator) => operator.output.clone(),
            None => return Err(Error::internal("an edge leaves an operator that is not there")),
        };
        let id = OperatorId(xxh3_64(json!(["again", from, repeat]).to_string().as_bytes()));
        if self.operator(id).is_none() {
            let projection = super::relation::identity(&schema)?;
            let kind = OperatorKind::Calc(CalcNode { filter: None, projection });
            self.edges.push(Edge { from, to: id, port: 0, partitioning: Partitioning::Forward });
            self.index.insert(id, self.operators.len());
            let changelog = if has_kinds(&schema) { Changelog::Retract } else { Changelog::Append };
            let ttl_ms = [0; 2];
            self.operators.push(Operator { id, name: "Calc".to_owned(), kind, output: schema, changelog, ttl_ms });
        }
        Ok(id)
    }

    fn schema_of(&self, port: &Port) -> Option<SchemaRef> {
        port.from.first().and_then(|id| self.operator(*id)).map(|operator| operator.output.clone())
    }

    /// What the operator is, with columns by name.
    fn describe(&self, kind: &OperatorKind, output: &SchemaRef, ports: &[Port]) -> Value {
        let schemas: Vec<Option<SchemaRef>> = ports.iter().map(|port| self.schema_of(port)).collect();
        let name = |port: usize, index: usize| match schemas.get(port).and_then(Option::as_ref) {
            Some(schema) => json!(schema.fields().get(index).map(|f| f.name().as_str())),
            None => json!(index),
        };
        let names = |port: usize, columns: &[usize]| -> Vec<Value> { columns.iter().map(|c| name(port, *c)).collect() };
        let keys = |order: &[SortKey]| json!(order);
        let body = match kind {
            OperatorKind::Source(n) => json!([n.table.name, n.table.connector, n.table.options]),
            OperatorKind::Changes(n) => json!(n),
            OperatorKind::LatestRows(n) => json!(names(0, &n.key)),
            OperatorKind::Calc(n) => json!(n),
            OperatorKind::Unnest(n) => json!([name(0, n.column), n.outer, n.expand_struct, n.ordinality]),
            OperatorKind::AssignWindow(n) => {
                json!([
                    n.shape,
                    n.domain,
                    name(0, n.time_column),
                    names(0, &n.partition_by),
                    n.allowed_lateness_ms,
                    n.firing
                ])
            }
            OperatorKind::WindowAggregate(n) => {
                let window = match &n.window {
                    WindowSource::Function { shape, domain, time_column } => {
                        json!([shape, domain, name(0, *time_column)])
                    }
                    WindowSource::Columns { start, end, domain } => json!([name(0, *start), name(0, *end), domain]),
                };
                json!([window, names(0, &n.keys), n.aggregates, n.window_columns, n.allowed_lateness_ms, n.firing])
            }
            OperatorKind::GroupAggregate(n) => match n.windows {
                None => json!([names(0, &n.keys), n.aggregates]),
                Some(windows) => json!([names(0, &n.keys), n.aggregates, windows.end, windows.allowed_lateness_ms]),
            },
            OperatorKind::OverAggregate(n) => {
                let time = n.time_column.or(n.clock_column).map(|column| name(0, column));
                json!([names(0, &n.partition_by), time, n.frame, n.aggregates, n.allowed_lateness_ms])
            }
            OperatorKind::Join(n) => {
                let on: Vec<_> = n.on.iter().map(|(l, r)| [name(0, *l), name(1, *r)]).collect();
                json!([n.kind, on, n.null_equals_null, n.filter])
            }
            OperatorKind::IntervalJoin(n) => {
                let on: Vec<_> = n.on.iter().map(|(l, r)| [name(0, *l), name(1, *r)]).collect();
                let times = [name(0, n.times.0), name(1, n.times.1)];
                json!([n.kind, on, times, n.lower_ms, n.upper_ms, n.filter, n.allowed_lateness_ms])
            }
            OperatorKind::TemporalJoin(n) => {
                let on: Vec<_> = n.on.iter().map(|(l, r)| [name(0, *l), name(1, *r)]).collect();
                json!([n.kind, on, [name(0, n.times.0), name(1, n.times.1)], n.filter])
            }
            OperatorKind::WindowJoin(n) => {
                let on: Vec<_> = n.on.iter().map(|(l, r)| [name(0, *l), name(1, *r)]).collect();
                let left = names(0, &[n.left_window.0, n.left_window.1]);
                let right = names(1, &[n.right_window.0, n.right_window.1]);
                json!([n.kind, on, n.filter, left, right, n.domain, n.allowed_lateness_ms])
            }
            OperatorKind::WindowTopN(n) => {
                let window = names(0, &[n.window.0, n.window.1]);
                let partition = names(0, &n.partition_by);
                let bounds = [json!(n.limit), json!(n.skip), json!(n.allowed_lateness_ms)];
                // Row numbers have the ids that they had before there were others.
                let function = (n.function != RankFunction::RowNumber).then(|| json!(n.function));
                let parts = [json!(window), json!(n.domain), json!(partition), json!(keys(&n.order_by))];
                parts.into_iter().chain(bounds).chain(function).collect()
            }
            OperatorKind::TopN(n) => {
                json!([n.function, names(0, &n.partition_by), keys(&n.order_by), n.ties, n.limit, n.skip])
            }
            OperatorKind::LookupJoin(n) => {
                let on: Vec<_> = n.on.iter().map(|(l, r)| json!([name(0, *l), r])).collect();
                let table = [json!(n.table.name), json!(n.table.connector), json!(n.table.options)];
                json!([table, n.projection, n.calc, n.kind, on, n.filter, n.refresh_ms])
            }
            OperatorKind::Sink(n) => json!([n.table.name, n.table.connector, n.table.options, n.overwrite]),
        };
        let inputs: Vec<Value> = ports
            .iter()
            .enumerate()
            .map(|(port, input)| {
                let by = match &input.partitioning {
                    Partitioning::Forward => json!("forward"),
                    Partitioning::Hash { columns } => json!(names(port, columns)),
                    Partitioning::Single => json!("single"),
                    Partitioning::Limited { subtasks } => json!(subtasks),
                };
                json!([input.from, by])
            })
            .collect();
        // State holds rows of the output's types: another type is another operator.
        let types: Vec<String> = match kind {
            OperatorKind::Source(_) => Vec::new(),
            _ => output.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect(),
        };
        let mut body = body;
        without_text(&mut body);
        json!({ "kind": kind.name(), "body": body, "inputs": inputs, "types": types })
    }

    /// The connected graphs, in the order of their first operators.
    pub(crate) fn into_graphs(self) -> Vec<JobGraph> {
        let mut group: HashMap<OperatorId, usize> = HashMap::new();
        let mut parent: Vec<usize> = (0..self.operators.len()).collect();
        fn root(parent: &mut [usize], mut at: usize) -> usize {
            while let Some(next) = parent.get(at).copied()
                && next != at
            {
                at = next;
            }
            at
        }
        for edge in &self.edges {
            if let (Some(a), Some(b)) = (self.index.get(&edge.from), self.index.get(&edge.to)) {
                let (a, b) = (root(&mut parent, *a), root(&mut parent, *b));
                let (low, high) = (a.min(b), a.max(b));
                if let Some(slot) = parent.get_mut(high) {
                    *slot = low;
                }
            }
        }
        let mut graphs: BTreeMap<usize, JobGraph> = BTreeMap::new();
        for (position, operator) in self.operators.into_iter().enumerate() {
            let component = root(&mut parent, position);
            group.insert(operator.id, component);
            let graph =
                graphs.entry(component).or_insert_with(|| JobGraph { operators: Vec::new(), edges: Vec::new() });
            graph.operators.push(operator);
        }
        for edge in self.edges {
            if let Some(graph) = group.get(&edge.to).and_then(|component| graphs.get_mut(component)) {
                graph.edges.push(edge);
            }
        }
        graphs.into_values().collect()
    }
}

/// Drops the texts that encoded expressions carry for EXPLAIN: they say nothing that the bytes do not.
fn without_text(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.contains_key("bytes") {
                map.remove("text");
            }
            map.values_mut().for_each(without_text);
        }
        Value::Array(items) => items.iter_mut().for_each(without_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
