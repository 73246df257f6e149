//! Why an operator might give other rows when the same input is read again.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use qanat_proto::graph::{
    AggregateCall, CalcNode, EncodedExpr, Firing, Operator, OperatorKind, OverFrame, RankFunction, Ties, TimeDomain,
    WindowShape, WindowSource,
};

use crate::functions::registry;

/// Aggregates whose result depends on the order in which rows arrive.
const ORDERED: &[&str] = &["array_agg", "string_agg", "first_value", "last_value", "nth_value"];
/// Aggregates whose result depends on how rows are spread over subtasks.
const APPROXIMATE: &[&str] = &["approx_percentile_cont", "approx_percentile_cont_with_weight", "approx_median"];

/// `None`: deterministic.
pub(super) fn reason(operator: &Operator) -> Option<String> {
    if operator.has_ttl() {
        return Some("what is older than the time to live is forgotten".to_owned());
    }
    let processing = |domain: TimeDomain| (domain == TimeDomain::Processing).then(|| "processing time".to_owned());
    match &operator.kind {
        OperatorKind::Source(node) => {
            let clock = node.metadata.iter().filter_map(|index| node.table.metadata.get(*index));
            let clock = clock.filter(|m| m.kind == qanat_proto::connector::MetadataKind::IngestTime).count();
            (clock > 0).then(|| "ingest time".to_owned())
        }
        OperatorKind::Calc(node) => calc(node),
        OperatorKind::Changes(_) | OperatorKind::LatestRows(_) | OperatorKind::Unnest(_) | OperatorKind::Sink(_) => {
            None
        }
        OperatorKind::AssignWindow(node) => processing(node.domain).or_else(|| eager(&node.shape, node.firing)),
        OperatorKind::WindowAggregate(node) => {
            let domain = match &node.window {
                WindowSource::Function { domain, .. } | WindowSource::Columns { domain, .. } => *domain,
            };
            let shape = match &node.window {
                WindowSource::Function { shape, .. } => Some(shape),
                WindowSource::Columns { .. } => None,
            };
            let eager = shape.and_then(|shape| eager(shape, node.firing));
            processing(domain).or(eager).or_else(|| {
                node.aggregates.iter().enumerate().find_map(|(index, call)| {
                    aggregate(call, operator.output.fields().get(node.keys.len() + index).map(|f| f.data_type()))
                })
            })
        }
        OperatorKind::GroupAggregate(node) => node.aggregates.iter().enumerate().find_map(|(index, call)| {
            aggregate(call, operator.output.fields().get(node.keys.len() + index).map(|f| f.data_type()))
        }),
        OperatorKind::OverAggregate(node) => {
            let arrival = match node.frame {
                _ if node.time_column.is_none() => Some("processing time"),
                OverFrame::Rows(_) | OverFrame::UnboundedRows => {
                    Some("rows of the same time stand in the order of arrival")
                }
                OverFrame::UnboundedRange | OverFrame::RangeMs(_) => None,
            };
            arrival.map(str::to_owned).or_else(|| {
                let width = operator.output.fields().len() - node.aggregates.len();
                node.aggregates.iter().enumerate().find_map(|(index, call)| {
                    aggregate(call, operator.output.fields().get(width + index).map(|f| f.data_type()))
                })
            })
        }
        OperatorKind::Join(node) => node.filter.as_ref().and_then(volatile),
        OperatorKind::TemporalJoin(node) => node.filter.as_ref().and_then(volatile),
        OperatorKind::IntervalJoin(node) => node.filter.as_ref().and_then(volatile),
        OperatorKind::WindowJoin(node) => processing(node.domain).or_else(|| node.filter.as_ref().and_then(volatile)),
        OperatorKind::WindowTopN(node) => {
            let cuts_ties = node.function == RankFunction::RowNumber;
            processing(node.domain).or_else(|| cuts_ties.then(|| "ties are kept in the order of arrival".to_owned()))
        }
        OperatorKind::TopN(node) => match node.ties {
            Ties::Contents => node.order_by.iter().find_map(|key| volatile(&key.expr)),
            Ties::Oldest | Ties::Newest => Some("rows are taken in the order of arrival".to_owned()),
        },
        OperatorKind::LookupJoin(node) => match node.refresh_ms {
            Some(_) => Some("the table is loaded anew".to_owned()),
            None => node.calc.as_ref().and_then(calc).or_else(|| node.filter.as_ref().and_then(volatile)),
        },
    }
}

fn eager(shape: &WindowShape, firing: Firing) -> Option<String> {
    (shape.overlaps() && firing == Firing::Eager)
        .then(|| "a row behind the watermark misses those of its windows that have fired".to_owned())
}

fn calc(node: &CalcNode) -> Option<String> {
    node.filter.iter().chain(node.projection.iter().map(|named| &named.expr)).find_map(volatile)
}

fn aggregate(call: &AggregateCall, output: Option<&DataType>) -> Option<String> {
    if ORDERED.contains(&call.function.as_str()) {
        let what = if call.order_by.is_empty() { "the order of arrival" } else { "ties in the order of arrival" };
        return Some(format!("{} takes {what}", call.function));
    }
    if APPROXIMATE.contains(&call.function.as_str()) {
        return Some(format!("{} depends on how rows are spread", call.function));
    }
    let float = matches!(output, Some(DataType::Float32 | DataType::Float64));
    if float && !matches!(call.function.as_str(), "min" | "max") {
        return Some(format!("{} of floats depends on their order in the last digits", call.function));
    }
    call.args.iter().chain(&call.filter).find_map(volatile)
}

/// The first function in the expression that may give another result when it runs again.
fn volatile(encoded: &EncodedExpr) -> Option<String> {
    let expr = crate::expr::decode_loose(encoded).ok()?;
    let mut found = None;
    let visited = expr.apply(|e| {
        if let Expr::ScalarFunction(function) = e
            && !registry().is_deterministic(function.name())
        {
            found = Some(format!("{}()", function.name()));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "a visit that only looks does not fail");
    found
}
