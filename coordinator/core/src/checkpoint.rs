//! From the reports of an epoch to its manifest, or to the reason why it may not be claimed.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::control::{EdgeCount, OperatorReport, SubtaskReport};
use qanat_proto::graph::{AssignWindowNode, OperatorKind, WindowShape};
use qanat_proto::ids::{Epoch, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{MANIFEST_VERSION, Manifest, OperatorState, SinkChannel, SourceState, TableState};
use qanat_proto::physical::{PhysicalGraph, Routing};
use qanat_proto::receipt::{
    EdgeReceipt, OperatorCounts, OperatorReceipt, Receipt, RowSum, SinkObject, SinkReceipt, SourceReceipt, Totals,
};
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{Code, Error, Place, Result};

/// The reports of one epoch of one generation, as they come in.
#[derive(Clone, Debug)]
pub struct EpochReports {
    pub epoch: Epoch,
    expected: BTreeSet<SubtaskId>,
    parts: BTreeMap<SubtaskId, OperatorReport>,
}

impl EpochReports {
    /// Expects a part from each subtask of each physical operator.
    pub fn new(epoch: Epoch, physical: &PhysicalGraph, parallelism: u32) -> Self {
        let expected = physical
            .operators
            .iter()
            .flat_map(|o| (0..parallelism).map(|index| SubtaskId { operator: o.id, index }))
            .collect();
        Self { epoch, expected, parts: BTreeMap::new() }
    }

    /// Takes a report; repeats of a part are ignored (P4).
    pub fn add(&mut self, report: SubtaskReport) {
        for part in report.parts {
            if self.expected.contains(&part.subtask) {
                self.parts.entry(part.subtask).or_insert(part);
            }
        }
    }

    pub fn is_complete(&self) -> bool {
        self.parts.len() == self.expected.len()
    }

    /// Subtasks that have not reported, for the message of a timeout.
    pub fn missing(&self) -> Vec<SubtaskId> {
        self.expected.iter().filter(|s| !self.parts.contains_key(s)).copied().collect()
    }

    /// Builds the manifest of a complete epoch.
    ///
    /// `base` is the manifest that the generation restored: graph and settings come from it. `totals` are
    /// those of the claim before.
    ///
    /// # Errors
    /// E0405 where sent and received, or an operator's counts, do not balance (I13, P1).
    pub fn assemble(
        &self,
        token: Token,
        base: &Manifest,
        physical: &PhysicalGraph,
        totals: &Totals,
        now_ms: i64,
    ) -> Result<Manifest> {
        let receipt = self.receipt(token, base, physical)?;
        let mut totals = totals.clone();
        totals.add(&receipt);
        let mut sources = Vec::new();
        let mut operators = Vec::new();
        let mut all_ended = true;
        for physical_operator in &physical.operators {
            let id = physical_operator.id;
            let parts: Vec<_> = self.parts_of(id).collect();
            let is_source = base.graph.operator(id).is_some_and(|o| matches!(o.kind, OperatorKind::Source(_)));
            if is_source {
                all_ended &= parts.iter().all(|part| part.ended);
                let mut splits: Vec<_> = parts.iter().flat_map(|part| part.splits.iter().cloned()).collect();
                splits.sort_by(|a, b| a.id.cmp(&b.id));
                sources.push(SourceState { operator: id, splits });
                continue;
            }
            let mut tables: BTreeMap<String, TableState> = BTreeMap::new();
            for (name, files) in parts.iter().flat_map(|part| &part.tables) {
                let table =
                    tables.entry(name.clone()).or_insert_with(|| TableState { name: name.clone(), files: Vec::new() });
                for file in files {
                    // After a rescale subtasks share older files, each for its own key groups.
                    if !table.files.contains(file) {
                        table.files.push(file.clone());
                    }
                }
            }
            for table in tables.values_mut() {
                // Those of one subtask and epoch stay in their order, in which the later ones win.
                table.files.sort_by_key(|file| file.epoch);
            }
            operators.push(OperatorState {
                operator: id,
                watermarks: parts.iter().map(|part| (part.key_groups, part.watermark)).collect(),
                tables: tables.into_values().collect(),
            });
        }
        let prepared = self.parts.values().flat_map(|part| part.prepared.iter().cloned()).collect();
        Ok(Manifest {
            version: MANIFEST_VERSION,
            job: token.job,
            job_name: base.job_name.clone(),
            generation: token.generation,
            epoch: self.epoch,
            created_ms: now_ms,
            graph: base.graph.clone(),
            settings: base.settings.clone(),
            parallelism: base.parallelism,
            key_groups: base.key_groups,
            sources,
            operators,
            prepared,
            is_final: all_ended,
            receipt,
            totals,
        })
    }

    fn parts_of(&self, id: OperatorId) -> impl Iterator<Item = &OperatorReport> {
        self.parts.values().filter(move |part| part.subtask.operator == id)
    }

    fn receipt(&self, token: Token, base: &Manifest, physical: &PhysicalGraph) -> Result<Receipt> {
        let mut receipt = Receipt {
            job: token.job,
            generation: token.generation,
            epoch: self.epoch,
            sources: Vec::new(),
            operators: Vec::new(),
            edges: self.edges(physical)?,
            sinks: Vec::new(),
        };
        for physical_operator in &physical.operators {
            let Some(logical) = base.graph.operator(physical_operator.logical) else { continue };
            let id = physical_operator.id;
            let mut counts = OperatorCounts::default();
            self.parts_of(id).for_each(|part| counts.add(&part.counts));
            let mut name = logical.name.clone();
            if id != physical_operator.logical {
                name.push_str(" (partial)");
            }
            match &logical.kind {
                OperatorKind::Source(node) => receipt.sources.push(SourceReceipt {
                    operator: id,
                    table: node.table.name.clone(),
                    splits: self.parts_of(id).flat_map(|part| part.split_receipts.iter().cloned()).collect(),
                }),
                OperatorKind::Sink(node) => {
                    let handles = self.parts_of(id).flat_map(|part| &part.prepared);
                    let objects = handles
                        .filter(|handle| handle.channel == SinkChannel::Table)
                        .map(|handle| SinkObject { name: handle.name.clone(), sum: handle.sum })
                        .collect();
                    receipt.sinks.push(SinkReceipt { operator: id, table: node.table.name.clone(), objects });
                }
                OperatorKind::Changes(_)
                | OperatorKind::LatestRows(_)
                | OperatorKind::Calc(_)
                | OperatorKind::Unnest(_)
                | OperatorKind::AssignWindow(_)
                | OperatorKind::WindowAggregate(_)
                | OperatorKind::GroupAggregate(_)
                | OperatorKind::OverAggregate(_)
                | OperatorKind::Join(_)
                | OperatorKind::IntervalJoin(_)
                | OperatorKind::TemporalJoin(_)
                | OperatorKind::WindowJoin(_)
                | OperatorKind::WindowTopN(_)
                | OperatorKind::TopN(_)
                | OperatorKind::LookupJoin(_) => {}
            }
            let role = role(&logical.kind);
            balance(&name, role, &counts)?;
            receipt.operators.push(OperatorReceipt { operator: id, name, role: role.to_owned(), counts });
        }
        Ok(receipt)
    }

    /// Every edge that is not a function call: rows and hash sent = received.
    fn edges(&self, physical: &PhysicalGraph) -> Result<Vec<EdgeReceipt>> {
        let total = |side: fn(&OperatorReport) -> &Vec<EdgeCount>, from, to, port| {
            let mut sum = RowSum::default();
            let counts = self.parts.values().flat_map(side);
            counts.filter(|c| (c.from, c.to, c.port) == (from, to, port)).for_each(|c| sum.add(c.sum));
            sum
        };
        let mut receipts = Vec::new();
        for edge in physical.edges.iter().filter(|edge| edge.routing != Routing::Chained) {
            let sent = total(|part| &part.sent, edge.from, edge.to, edge.port);
            let received = total(|part| &part.received, edge.from, edge.to, edge.port);
            if sent != received && !planted(Bug::UnbalancedEdges) {
                return Err(Error::new(
                    Code::Imbalance,
                    format!(
                        "edge {} to {} does not balance in epoch {}: {} rows sent, {} received",
                        edge.from, edge.to, self.epoch, sent.rows, received.rows
                    ),
                ));
            }
            receipts.push(EdgeReceipt { from: edge.from, to: edge.to, port: edge.port, sent, received });
        }
        Ok(receipts)
    }
}

fn role(kind: &OperatorKind) -> &'static str {
    match kind {
        OperatorKind::Source(_) => "source",
        OperatorKind::Calc(_) => "stateless",
        // Sessions keep their rows until they close.
        OperatorKind::AssignWindow(AssignWindowNode { shape: WindowShape::Session { .. }, .. }) => "windowed",
        OperatorKind::Changes(_)
        | OperatorKind::Unnest(_)
        | OperatorKind::AssignWindow(_)
        | OperatorKind::LookupJoin(_) => "expanding",
        OperatorKind::WindowAggregate(_)
        | OperatorKind::OverAggregate(_)
        | OperatorKind::IntervalJoin(_)
        | OperatorKind::TemporalJoin(_)
        | OperatorKind::WindowJoin(_)
        | OperatorKind::WindowTopN(_) => "windowed",
        OperatorKind::LatestRows(_)
        | OperatorKind::GroupAggregate(_)
        | OperatorKind::Join(_)
        | OperatorKind::TopN(_) => "keyed",
        OperatorKind::Sink(_) => "sink",
    }
}

/// I13 for one operator and epoch.
fn balance(name: &str, role: &str, counts: &OperatorCounts) -> Result<()> {
    let lost = counts.late + counts.dead_lettered;
    let (taken, accounted) = match role {
        "stateless" => (counts.rows_in, counts.rows_out + counts.filtered + lost),
        "windowed" | "keyed" => (counts.rows_in, counts.accumulated + lost),
        "expanding" => {
            (counts.rows_in + counts.expanded, counts.rows_out + counts.filtered + counts.accumulated + lost)
        }
        "sink" => (counts.rows_in, counts.rows_out + lost),
        _ => return Ok(()),
    };
    if taken == accounted {
        return Ok(());
    }
    let message = format!("`{name}` does not balance: {counts:?}");
    Err(Error::new(Code::Imbalance, message).at(Place::Named(name.to_owned())))
}
