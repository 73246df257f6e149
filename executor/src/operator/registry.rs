//! Makes the operator of a graph node.

use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::has_kinds;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{self, OperatorKind, WindowAggregateNode, WindowShape, WindowSource};
use qanat_proto::physical::{Phase, runs_in_two_phases};

use super::aggregate::calls::Calls;
use super::aggregate::layout::Layout;
use super::aggregate::session::{SessionAggregate, SessionWindow};
use super::aggregate::window_aggregate::WindowAggregate;
use super::assign_window::AssignWindow;
use super::calc::Calc;
use super::changes::Changes;
use super::group::GroupAggregate;
use super::join::{IntervalJoin, Join, TemporalJoin};
use super::latest_rows::LatestRows;
use super::lookup_join::LookupJoin;
use super::over_aggregate::OverAggregate;
use super::top_n::{FirstRows, TopN};
use super::unnest::Unnest;
use super::window_join::WindowJoin;
use super::window_top_n::WindowTopN;
use super::{BoxedOperator, OperatorContext};

/// The operator of `node`. `raw_input`: schema of the node's first input, which differs from
/// `context.inputs[0]` only in [`Phase::Final`].
///
/// # Errors
/// E0503 for a source or sink, or for a phase that the node does not have; what compiling its
/// expressions gives.
pub fn build(
    node: &graph::Operator,
    phase: Phase,
    raw_input: &SchemaRef,
    context: OperatorContext,
) -> Result<BoxedOperator> {
    let in_two_phases = matches!(&node.kind, OperatorKind::WindowAggregate(node) if runs_in_two_phases(node));
    if phase != Phase::Whole && !in_two_phases {
        return Err(Error::internal(format!("{} does not run in two phases", node.name)));
    }
    Ok(match &node.kind {
        OperatorKind::Calc(node) => Box::new(Calc::new(node, context)?),
        OperatorKind::Changes(node) => Box::new(Changes::new(node, context)),
        OperatorKind::LatestRows(node) => Box::new(LatestRows::new(node, context)?),
        OperatorKind::Unnest(node) => Box::new(Unnest::new(node, &context)),
        OperatorKind::AssignWindow(node) => match node.shape {
            WindowShape::Session { gap } => Box::new(SessionWindow::new(node, gap, context)?),
            WindowShape::Tumble { .. } | WindowShape::Hop { .. } | WindowShape::Cumulate { .. } => {
                Box::new(AssignWindow::new(node, &context)?)
            }
        },
        OperatorKind::WindowAggregate(node) => match node.window {
            WindowSource::Function { shape: WindowShape::Session { gap }, time_column, domain } => {
                Box::new(SessionAggregate::new(node, gap, time_column, domain, context)?)
            }
            WindowSource::Function { .. } | WindowSource::Columns { .. } => {
                Box::new(WindowAggregate::new(node, phase, context, raw_input)?)
            }
        },
        OperatorKind::GroupAggregate(node) => Box::new(GroupAggregate::new(node, context)?),
        OperatorKind::OverAggregate(node) => Box::new(OverAggregate::new(node, context)?),
        OperatorKind::Join(node) => Box::new(Join::new(node, context)?),
        OperatorKind::IntervalJoin(node) => Box::new(IntervalJoin::new(node, context)?),
        OperatorKind::TemporalJoin(node) => Box::new(TemporalJoin::new(node, context)?),
        OperatorKind::WindowJoin(node) => Box::new(WindowJoin::new(node, context)?),
        OperatorKind::WindowTopN(node) => Box::new(WindowTopN::new(node, context)?),
        OperatorKind::TopN(node) if node.is_final() && !has_kinds(&context.output) => {
            Box::new(FirstRows::new(node, context)?)
        }
        OperatorKind::TopN(node) => Box::new(TopN::new(node, context)?),
        OperatorKind::LookupJoin(node) => Box::new(LookupJoin::new(node, &context)?),
        OperatorKind::Source(_) | OperatorKind::Sink(_) => {
            return Err(Error::internal(format!("{} is run by its task, not as an operator", node.name)));
        }
    })
}

/// Whether the operator of a node puts state aside if it is asked to ([`super::Operator::put_aside`]). With a time to live
/// it does not: what is too old is looked for in memory.
pub fn spills(node: &graph::Operator) -> bool {
    let puts_aside = match &node.kind {
        // Without a key its distinct values may go.
        OperatorKind::GroupAggregate(node) => node.windows.is_none(),
        OperatorKind::Join(node) => !node.on.is_empty(),
        OperatorKind::IntervalJoin(node) => !node.on.is_empty(),
        OperatorKind::OverAggregate(node) => !node.partition_by.is_empty(),
        OperatorKind::LatestRows(node) => !node.key.is_empty(),
        OperatorKind::TopN(node) => !node.partition_by.is_empty(),
        _ => false,
    };
    !node.has_ttl() && puts_aside
}

/// The schema of rows between the two phases of `node` over `input`, and the columns of it by which they
/// are hash-partitioned. No columns: all rows go to subtask 0.
///
/// # Errors
/// What compiling the node's expressions gives.
pub fn partial_schema(node: &WindowAggregateNode, input: &SchemaRef) -> Result<(SchemaRef, Vec<usize>)> {
    let calls = Calls::new("WindowAggregate", &node.keys, &node.aggregates, input)?;
    let layout = Layout::new(node, &calls);
    let partition = layout.partial_partition();
    Ok((layout.partial, partition))
}
