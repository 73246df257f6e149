//! Subqueries that stand for one value. A later rule joins them with the rows around them, so each has to give exactly one row:
//! an aggregate without GROUP BY, whose value over no rows is known, since a stream tells of no row before there is one.
//!
//! One that is correlated is such an aggregate of the rows that are equal in some columns. DataFusion's rule groups it by these
//! columns, and forgets some of what may stand around or below it: what it would get wrong is refused here.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result, ScalarValue};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Aggregate, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use qanat_proto::{Code, Error};

use crate::functions::registry;
use crate::plan::failure::carry;
use crate::plan::state_ttl::StateTtl;

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, |expr, _| {
        expr.transform_up(|expr| match &expr {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                correlated(&subquery.subquery)?;
                Ok(Transformed::no(expr))
            }
            Expr::ScalarSubquery(subquery) => {
                let empty = over_no_rows(&subquery.subquery)?;
                if empty.is_null() {
                    return Ok(Transformed::no(expr));
                }
                let or_else = registry().scalar("coalesce").ok_or_else(|| refused("without COALESCE"))?;
                Ok(Transformed::yes(or_else.call(vec![expr, Expr::Literal(empty, None)])))
            }
            _ => Ok(Transformed::no(expr)),
        })
    })
}

fn refused(what: &str) -> datafusion_common::DataFusionError {
    let error =
        Error::new(Code::SqlUnsupported, format!("a subquery that stands for one value, {what}, is not supported"));
    carry(error.hint("make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two"))
}

/// Refuses a correlated subquery that is more than an aggregate, or tied by a cast that makes one value of several.
fn correlated(plan: &LogicalPlan) -> Result<()> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => correlated(&alias.input),
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<StateTtl>() => {
            extension.node.inputs().into_iter().try_for_each(correlated)
        }
        LogicalPlan::Projection(projection) => correlated(&projection.input),
        LogicalPlan::Aggregate(Aggregate { input, group_expr, .. }) if group_expr.is_empty() => {
            only_aggregate(input)?;
            input.apply(|node| {
                if let LogicalPlan::Filter(filter) = node {
                    split_conjunction(&filter.predicate)
                        .into_iter()
                        .try_for_each(|tie| tied(tie, filter.input.schema()))?;
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(())
        }
        LogicalPlan::Filter(_) => Err(refused("tied to the rows around it and with a HAVING")),
        _ => Err(refused("which may have any number of rows")),
    }
}

/// An aggregate of an aggregate of all rows has a row to count before there is one.
fn only_aggregate(input: &LogicalPlan) -> Result<()> {
    let is_whole = |node: &LogicalPlan| matches!(node, LogicalPlan::Aggregate(below) if below.group_expr.is_empty());
    if input.exists(|node| Ok(is_whole(node)))? {
        return Err(refused("which aggregates an aggregate of all rows"));
    }
    Ok(())
}

fn tied(tie: &Expr, schema: &DFSchema) -> Result<()> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = tie else { return Ok(()) };
    for (side, other) in [(left, right), (right, left)] {
        if let Expr::Cast(cast) = side.as_ref()
            && other.contains_outer()
            && !side.contains_outer()
            && !is_one_to_one(&cast.expr.get_type(schema)?, cast.field.data_type())
        {
            return Err(refused("tied to the rows around it by a CAST"));
        }
    }
    Ok(())
}

/// Whether a cast makes different values of different values.
pub(crate) fn is_one_to_one(from: &DataType, to: &DataType) -> bool {
    let width = |data_type: &DataType| data_type.primitive_width();
    match (from, to) {
        _ if from == to => true,
        _ if from.is_signed_integer() && to.is_signed_integer() => width(from) <= width(to),
        (DataType::Float32, DataType::Float64) | (DataType::Date32, DataType::Timestamp(..)) => true,
        (DataType::Timestamp(from, a), DataType::Timestamp(to, b)) => from <= to && a == b,
        (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) => from <= to,
        _ => from.is_signed_integer() && matches!(to, DataType::Decimal128(_, scale) if *scale >= 0),
    }
}

/// What a subquery gives where there are no rows.
fn over_no_rows(plan: &LogicalPlan) -> Result<ScalarValue> {
    let mut outputs = value_of(plan)?;
    let field = plan.schema().field(0);
    let value = match (outputs.pop(), outputs.is_empty()) {
        (Some(Expr::Literal(value, _)), true) => value.cast_to(field.data_type())?,
        _ => return Err(refused("whose value over no rows is not known")),
    };
    if !value.is_null() && field.is_nullable() {
        // A row with NULL could not be told from none.
        return Err(refused("which may be NULL over rows and is something else over none"));
    }
    Ok(value)
}

/// Its columns where there are no rows.
fn value_of(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => value_of(&alias.input),
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<StateTtl>() {
            Some(hinted) => value_of(&hinted.input),
            None => Err(refused("which may have any number of rows")),
        },
        LogicalPlan::Projection(projection) => {
            let below = value_of(&projection.input)?;
            projection.expr.iter().map(|expr| simplified(expr.clone(), projection.input.schema(), &below)).collect()
        }
        LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. }) if group_expr.is_empty() => {
            only_aggregate(input)?;
            aggr_expr.iter().map(|expr| default_of(expr, input.schema())).collect()
        }
        LogicalPlan::Filter(filter) => {
            let (schema, below) = (filter.input.schema(), value_of(&filter.input)?);
            let holds = simplified(filter.predicate.clone(), schema, &below)?;
            let is_dropped = matches!(holds, Expr::Literal(ScalarValue::Boolean(None | Some(false)), _));
            if !is_dropped && !below.iter().all(is_null) {
                // No row, for the condition does not hold over rows, could not be told from no rows.
                return Err(refused("whose HAVING may hold over no rows"));
            }
            let null = |field: &FieldRef| Ok(Expr::Literal(ScalarValue::try_from(field.data_type())?, None));
            schema.fields().iter().map(null).collect()
        }
        _ => Err(refused("which may have any number of rows")),
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn default_of(expr: &Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Alias(alias) => default_of(&alias.expr, schema),
        Expr::AggregateFunction(AggregateFunction { func, .. }) => {
            Ok(Expr::Literal(func.default_value(&expr.get_type(schema)?)?, None))
        }
        _ => Err(refused("whose value over no rows is not known")),
    }
}

/// An expression over columns with these values.
fn simplified(expr: Expr, schema: &DFSchema, values: &[Expr]) -> Result<Expr> {
    let value_of = |column: &Column| schema.index_of_column(column).ok().and_then(|at| values.get(at)).cloned();
    let expr = expr.unalias().transform_up(|part| match &part {
        Expr::Column(column) => Ok(value_of(column).map_or_else(|| Transformed::no(part.clone()), Transformed::yes)),
        _ => Ok(Transformed::no(part)),
    })?;
    let context = SimplifyContext::builder().with_schema(Arc::new(DFSchema::empty())).build();
    ExprSimplifier::new(context).simplify(expr.data)
}
