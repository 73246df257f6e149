//! Aggregates `OVER` the rows before each row, in the order of time.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{OperatorKind, OverAggregateNode, OverFrame, TimeDomain};

use super::Lowering;
use super::aggregate::Call;
use super::graph::Port;
use super::group::ORDERED;
use super::interval_join::milliseconds;
use super::rank::unaliased;
use super::refuse::{self, place_of, placed};
use super::relation::{Output, Relation, TimeAttribute, UniqueNames, column, internal};
use super::source::proctime_of;
use crate::rules::aggregate_types::aggregate_of;

const HINT: &str = "write `OVER (PARTITION BY k ORDER BY time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)`, or \
                    `ROWS BETWEEN 10 PRECEDING AND CURRENT ROW`; UNBOUNDED PRECEDING takes all rows before";

/// Whether window expressions are aggregates, and no ranks.
pub(super) fn is_over(exprs: &[Expr]) -> bool {
    let is_aggregate = |expr: &Expr| match unaliased(expr) {
        Expr::WindowFunction(function) => matches!(function.fun, WindowFunctionDefinition::AggregateUDF(_)),
        _ => false,
    };
    !exprs.is_empty() && exprs.iter().all(is_aggregate)
}

impl Lowering<'_> {
    pub(super) fn over(&mut self, window: &Window) -> Result<Relation> {
        let schema = window.input.schema();
        for expr in &window.window_expr {
            refuse::subqueries(expr, &window.input)?;
        }
        let relation = self.lower(&window.input)?;
        refuse::changelog(&relation, "OVER", place_of(&window.window_expr))?;
        let width = relation.columns.len();
        let relation = self.materialise(relation)?;
        let mut current = relation;
        let results = window.schema.fields().iter().skip(width);
        // Calls of one frame are one operator.
        let mut calls: Vec<(OverFrame, Vec<(&WindowFunction, FieldRef, usize)>)> = Vec::new();
        for (position, (expr, field)) in window.window_expr.iter().zip(results).enumerate() {
            let Expr::WindowFunction(function) = unaliased(expr) else {
                return Err(Error::internal(format!("`{expr}` is no window function")));
            };
            let frame = frame_of(&function.params.window_frame).map_err(|e| placed(e, place_of([expr])))?;
            let call = (function.as_ref(), Arc::clone(field), position);
            match calls.iter_mut().find(|(known, _)| *known == frame) {
                Some((_, calls)) => calls.push(call),
                None => calls.push((frame, vec![call])),
            }
        }
        let mut placed_at = vec![0; window.window_expr.len()];
        for (frame, calls) in calls {
            for (_, _, position) in &calls {
                if let Some(at) = placed_at.get_mut(*position) {
                    *at = current.columns.len() + calls.iter().take_while(|call| call.2 != *position).count();
                }
            }
            current = self.over_frame(current, schema, frame, &calls)?;
        }
        let mut columns: Vec<Output> = current.columns.iter().take(width).cloned().collect();
        columns.extend(placed_at.iter().filter_map(|at| current.columns.get(*at).cloned()));
        Ok(Relation { columns, hint: None, ..current })
    }

    /// One operator. The relation's rows are its columns, of which the first are those of `schema`.
    fn over_frame(
        &mut self,
        relation: Relation,
        schema: &DFSchema,
        frame: OverFrame,
        calls: &[(&WindowFunction, FieldRef, usize)],
    ) -> Result<Relation> {
        let params = calls.first().map(|(function, ..)| &function.params);
        let params = params.ok_or_else(|| Error::internal("no call of a frame"))?;
        let WindowFunctionParams { partition_by, order_by, .. } = params;
        let place = || place_of(order_by.iter().map(|sort| &sort.expr).chain(partition_by));
        let refused = |code: Code, message: &str| Err(placed(Error::new(code, message).hint(HINT), place()));
        let [order] = order_by.as_slice() else {
            return refused(Code::UnboundedState, "OVER needs ORDER BY of one column, a time attribute");
        };
        let time = proctime_of(&order.expr, relation.time_of(&order.expr, schema));
        let is_event = match time {
            TimeAttribute::Rowtime => true,
            TimeAttribute::WindowTime(spec) => spec.domain == TimeDomain::Event,
            TimeAttribute::Proctime => false,
            _ => return refused(Code::TimeAttribute, "OVER is ordered by something else than a time attribute"),
        };
        if !order.asc {
            return refused(
                Code::SqlUnsupported,
                "OVER in descending order of time would wait for its first row for ever",
            );
        }
        let frame = match frame {
            // A row has come when it has come: none is of the same time.
            OverFrame::UnboundedRange if !is_event => OverFrame::UnboundedRows,
            frame => frame,
        };
        // Keys that are expressions get columns of their own, behind all others.
        let mut relation = relation;
        let logical = relation.columns.len();
        let keys = relation.columns_of(partition_by, schema, "partition_key")?;
        // Rows are of the time that they show.
        let clock = match frame {
            OverFrame::RangeMs(_) if !is_event => relation.columns_of([&order.expr], schema, "proctime")?.pop(),
            _ => None,
        };
        let mut relation = self.materialise(relation)?;
        let index = |relation: &Relation, position: usize| {
            relation.base_index(position).ok_or_else(|| Error::internal("a column of OVER is no column"))
        };
        let partition_by = keys.into_iter().map(|position| index(&relation, position)).collect::<Result<Vec<_>>>()?;
        let clock_column = clock.map(|position| index(&relation, position)).transpose()?;
        let time_column = match is_event {
            true => {
                let expr = relation.translate(&order.expr, schema)?;
                let column =
                    relation.index_of(&expr).ok_or_else(|| Error::internal("a time attribute is no column"))?;
                Some(column)
            }
            false => None,
        };
        relation.columns.truncate(logical);
        let input = DFSchema::try_from(Arc::clone(&relation.base)).map_err(|e| internal(&e))?;
        let mut names = UniqueNames::of(&relation.base);
        let mut fields: Vec<FieldRef> = relation.base.fields().iter().cloned().collect();
        let (mut aggregates, mut outputs) = (Vec::new(), Vec::new());
        for (function, field, _) in calls {
            let aggregate =
                aggregate_of(function).ok_or_else(|| Error::internal("a window function among aggregates"))?;
            let expr = Expr::AggregateFunction(aggregate);
            let call = Call::new(&expr, &relation, schema, &mut UniqueNames::default())?;
            let is_kept = matches!(frame, OverFrame::UnboundedRange | OverFrame::UnboundedRows);
            if !is_kept && ORDERED.contains(&call.function.as_str()) {
                let message = format!("`{}` over rows that leave the frame again is not supported yet", call.function);
                return refused(Code::SqlUnsupported, &message);
            }
            let name = names.take(&call.name);
            fields.push(Arc::new(Field::new(&name, field.data_type().clone(), field.is_nullable())));
            outputs.push(Output { expr: column(&name), field: Arc::clone(field), time: TimeAttribute::None });
            aggregates.push(call.encode(name, &input)?);
        }
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let allowed_lateness_ms = if is_event { self.allowed_lateness_ms } else { 0 };
        let port = Port::hash(&relation.inputs, partition_by.clone());
        let node =
            OverAggregateNode { partition_by, time_column, clock_column, frame, aggregates, allowed_lateness_ms };
        let kind = OperatorKind::OverAggregate(node);
        let hint = relation.hint;
        let id = self.add_keeping(("OverAggregate".to_owned(), kind), &output, vec![port], [hint, None])?;
        let columns = relation.columns.into_iter().chain(outputs).collect();
        // Frames of their own are of the same rows.
        Ok(Relation { hint, ..Relation::of(id, output, columns) })
    }
}

fn frame_of(frame: &WindowFrame) -> Result<OverFrame> {
    let unsupported =
        |what: &str| Error::new(Code::SqlUnsupported, format!("{what} is not supported in OVER")).hint(HINT);
    if frame.end_bound != WindowFrameBound::CurrentRow {
        return Err(unsupported("a frame that ends elsewhere than at CURRENT ROW"));
    }
    let before = match &frame.start_bound {
        WindowFrameBound::Preceding(before) => before,
        WindowFrameBound::CurrentRow => &ScalarValue::Null,
        WindowFrameBound::Following(_) => return Err(unsupported("a frame of rows to come")),
    };
    let starts_here = frame.start_bound == WindowFrameBound::CurrentRow;
    match (frame.units, before) {
        (WindowFrameUnits::Rows, _) if starts_here => Ok(OverFrame::Rows(0)),
        (WindowFrameUnits::Range, _) if starts_here => Ok(OverFrame::RangeMs(0)),
        (WindowFrameUnits::Rows, before) if before.is_null() => Ok(OverFrame::UnboundedRows),
        (WindowFrameUnits::Range, before) if before.is_null() => Ok(OverFrame::UnboundedRange),
        (WindowFrameUnits::Rows, ScalarValue::UInt64(Some(rows))) => Ok(OverFrame::Rows(*rows)),
        (WindowFrameUnits::Range, length) => match milliseconds(length).filter(|ms| *ms >= 0) {
            Some(ms) => Ok(OverFrame::RangeMs(ms)),
            None => Err(unsupported("a length in months, or in anything but time,")),
        },
        _ => Err(unsupported("such a frame")),
    }
}
