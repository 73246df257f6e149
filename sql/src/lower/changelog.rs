//! Which changelog each operator of a finished graph gives: the cheapest that is right.
//!
//! An operator whose rows change can tell what a row was before it tells what it is. Who keeps rows by a key needs only
//! the latter, which is half as much. So the graph is looked at from its sinks up: a key that a sink asks for goes up
//! through projections as long as they keep it, and where it meets an operator whose rows have that key, this one tells
//! keys and what they have become. Everything else takes back row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion_expr::Expr;
use qanat_proto::changelog::{Changelog, width};
use qanat_proto::graph::{CalcNode, EncodedExpr, JobGraph, Operator, OperatorKind};
use qanat_proto::ids::OperatorId;

use crate::expr::decode_loose;

/// What those that read an operator need of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    /// Each row that is replaced or gone, as it was.
    Before,
    /// What a key has become, by these columns of the operator's output.
    Key(BTreeSet<usize>),
}

/// Sinks say what they take by the changelog that they have so far; every other operator that has kinds gives all
/// rows, and gets what it is to give here.
pub(super) fn choose(graph: &mut JobGraph) {
    let mut needs: BTreeMap<OperatorId, Need> = BTreeMap::new();
    for at in (0..graph.operators.len()).rev() {
        let Some(operator) = graph.operators.get(at) else { continue };
        let own = needs.get(&operator.id).cloned().unwrap_or(Need::Before);
        for edge in graph.inputs(operator.id) {
            let need = match (&operator.kind, &operator.changelog) {
                (OperatorKind::Sink(_), Changelog::Upsert { key }) => Need::Key(key.iter().copied().collect()),
                (OperatorKind::Calc(node), _) => match graph.operator(edge.from) {
                    Some(producer) => through(node, &producer.output, &own),
                    None => Need::Before,
                },
                _ => Need::Before,
            };
            // Rows of several producers may have one key.
            let is_alone = graph.inputs(operator.id).iter().filter(|other| other.port == edge.port).count() == 1;
            let need = if is_alone { need } else { Need::Before };
            let merged = match needs.get(&edge.from) {
                Some(other) if *other != need => Need::Before,
                _ => need,
            };
            needs.insert(edge.from, merged);
        }
    }
    for at in 0..graph.operators.len() {
        let Some(operator) = graph.operators.get(at) else { continue };
        if operator.changelog.is_append() {
            continue;
        }
        let input = || graph.inputs(operator.id).first().and_then(|edge| graph.operator(edge.from));
        let chosen = match &operator.kind {
            OperatorKind::Source(_) => operator.changelog.clone(),
            OperatorKind::GroupAggregate(_) | OperatorKind::TopN(_) | OperatorKind::LatestRows(_) => {
                match key_of(operator) {
                    Some(key) if needs.get(&operator.id) == Some(&Need::Key(key.iter().copied().collect())) => {
                        Changelog::Upsert { key }
                    }
                    _ => Changelog::Retract,
                }
            }
            OperatorKind::Calc(node) => match input().map(|input| (&input.changelog, &input.output)) {
                Some((Changelog::Upsert { key }, schema)) => Changelog::Upsert { key: behind(node, schema, key) },
                _ => Changelog::Retract,
            },
            OperatorKind::Sink(_) => input().map_or(Changelog::Retract, |input| input.changelog.clone()),
            _ => Changelog::Retract,
        };
        if let Some(operator) = graph.operators.get_mut(at) {
            operator.changelog = chosen;
        }
    }
}

/// The columns of which an operator never has two rows at a time that are equal, if it can tell by them.
fn key_of(operator: &Operator) -> Option<Vec<usize>> {
    match &operator.kind {
        OperatorKind::GroupAggregate(node) => Some((0..node.keys.len()).collect()),
        OperatorKind::LatestRows(node) => Some(node.key.clone()),
        OperatorKind::TopN(node) if node.tells_by_rank() => {
            let rank = node.rank_column.as_ref().map(|_| width(&operator.output) - 1);
            Some(node.partition_by.iter().copied().chain(rank).collect())
        }
        _ => None,
    }
}

/// Whether an operator never has two rows at a time that are equal in `key`. `producer`: the only one of an operator's rows.
pub(super) fn has_key<'g>(
    operator: &'g Operator,
    key: &[usize],
    producer: &impl Fn(OperatorId) -> Option<&'g Operator>,
) -> bool {
    let (mut key, mut operator) = (key.iter().copied().collect(), operator);
    while let (OperatorKind::Calc(node), Some(input)) = (&operator.kind, producer(operator.id)) {
        let Some(columns) = before(node, &input.output, &key) else { return false };
        (key, operator) = (columns, input);
    }
    key_of(operator).is_some_and(|own| key == own.into_iter().collect())
}

/// Takes away row numbers that no reader asks for: a new first row would change those of all behind it.
pub(super) fn drop_unused_ranks(graph: &mut JobGraph) {
    for at in 0..graph.operators.len() {
        let Some(operator) = graph.operators.get(at) else { continue };
        let OperatorKind::TopN(node) = &operator.kind else { continue };
        let Some(rank) = &node.rank_column else { continue };
        let readers = graph.edges.iter().filter(|edge| edge.from == operator.id);
        let is_unused = readers.filter_map(|edge| graph.operator(edge.to)).all(|reader| match &reader.kind {
            OperatorKind::Calc(node) => {
                let projected = node.projection.iter().map(|named| &named.expr);
                node.filter.iter().chain(projected).all(|expr| !names_column(expr, rank))
            }
            _ => false,
        });
        if !is_unused {
            continue;
        }
        let fields = operator.output.fields().iter().filter(|field| field.name() != rank);
        let output = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        if let Some(Operator { kind: OperatorKind::TopN(node), output: schema, .. }) = graph.operators.get_mut(at) {
            (node.rank_column, *schema) = (None, output);
        }
    }
}

/// Whether an expression has a column; an unreadable one has all.
fn names_column(expr: &EncodedExpr, name: &str) -> bool {
    decode_loose(expr).map_or(true, |expr| expr.column_refs().iter().any(|column| column.name == name))
}

/// The need that a projection passes up. A filter has to see a row as it was: it may let it pass and not what it becomes.
fn through(node: &CalcNode, input: &SchemaRef, need: &Need) -> Need {
    match need {
        Need::Key(key) if node.filter.is_none() => before(node, input, key).map_or(Need::Before, Need::Key),
        _ => Need::Before,
    }
}

/// Where columns of a projection stand in its input, if they are nothing else.
fn before(node: &CalcNode, input: &SchemaRef, key: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
    key.iter().map(|output| source_of(node, input, *output)).collect()
}

/// Where columns of the input stand behind a projection, which keeps them.
fn behind(node: &CalcNode, input: &SchemaRef, key: &[usize]) -> Vec<usize> {
    let place =
        |column: &usize| (0..node.projection.len()).find(|output| source_of(node, input, *output) == Some(*column));
    key.iter().filter_map(place).collect()
}

/// The column of the input that a projected one is, if it is nothing else.
fn source_of(node: &CalcNode, input: &SchemaRef, output: usize) -> Option<usize> {
    match decode_loose(&node.projection.get(output)?.expr).ok()? {
        Expr::Column(column) => input.column_with_name(&column.name).map(|(index, _)| index),
        _ => None,
    }
}
