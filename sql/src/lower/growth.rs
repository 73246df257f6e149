//! Warns of state that grows for as long as an endless job lives.

use std::collections::BTreeSet;

use qanat_proto::graph::{JobGraph, OperatorKind, OverFrame};
use qanat_proto::ids::OperatorId;

/// Whether an operator keeps state that no event time ends, and can forget it after a time to live.
pub(super) fn forgets(kind: &OperatorKind) -> bool {
    match kind {
        OperatorKind::GroupAggregate(node) => !node.keys.is_empty() && node.windows.is_none(),
        OperatorKind::OverAggregate(node) => !matches!(node.frame, OverFrame::RangeMs(_)),
        OperatorKind::Join(_) | OperatorKind::TopN(_) | OperatorKind::LatestRows(_) => true,
        _ => false,
    }
}

/// One warning for each join that keeps every row of an endless table.
pub(super) fn warnings(graph: &JobGraph) -> Vec<String> {
    let joins = graph.operators.iter().filter(|operator| matches!(operator.kind, OperatorKind::Join(_)));
    joins
        .filter_map(|join| {
            let (mut endless, mut seen) = (BTreeSet::new(), BTreeSet::new());
            for edge in graph.inputs(join.id).into_iter().filter(|edge| join.ttl_ms.get(edge.port) == Some(&0)) {
                endless_tables(graph, edge.from, &mut endless, &mut seen);
            }
            let first = endless.first()?;
            let others = match endless.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            Some(format!(
                "{} keeps all rows that reach it from `{first}`{others}, which has no end: its state grows for as long as the \
                 job lives. Times of both sides in its condition would bound it: `b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR`; \
                 so would `SET 'table.exec.state.ttl' = '1 d'`, or a hint SELECT /*+ STATE_TTL('a' = '1 d') */, which forgets what is older",
                join.name
            ))
        })
        .collect()
}

/// The tables without an end whose rows an operator gives.
fn endless_tables<'g>(
    graph: &'g JobGraph,
    operator: OperatorId,
    found: &mut BTreeSet<&'g str>,
    seen: &mut BTreeSet<OperatorId>,
) {
    if !seen.insert(operator) {
        return;
    }
    match graph.operator(operator).map(|operator| &operator.kind) {
        Some(OperatorKind::Source(source)) if !source.bounded => {
            found.insert(&source.table.name);
        }
        _ => {
            for edge in graph.inputs(operator) {
                endless_tables(graph, edge.from, found, seen);
            }
        }
    }
}
