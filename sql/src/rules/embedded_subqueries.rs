//! EXISTS and IN beside other conditions, under an OR: as a value of the rows that are asked about, which is NULL if there are
//! none. Those that stand alone become joins that keep rows or not (DataFusion's rule for them).

use std::cell::Cell;
use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{Exists, InSubquery};
use datafusion_expr::logical_plan::Subquery;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{BinaryExpr, Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, lit};

use crate::functions::registry;

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let count = Cell::new(0);
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        if !filter.predicate.exists(|expr| Ok(asks(expr)))? {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let conjuncts = split_conjunction_owned(filter.predicate.clone()).into_iter();
        let conjuncts = conjuncts.map(|conjunct| match &conjunct {
            Expr::Not(inner) if asks(inner) => Ok(conjunct),
            _ if asks(&conjunct) => Ok(conjunct),
            _ => embedded(conjunct, filter.input.schema(), &count),
        });
        let predicate = conjunction(conjuncts.collect::<Result<Vec<_>>>()?).unwrap_or(filter.predicate);
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
    });
    rewritten.map(|plan| plan.data)
}

fn asks(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_))
}

/// A condition over `schema` without EXISTS. IN goes only where it does not matter whether it is false or NULL: under AND and OR.
/// `count`: of those that have gone.
fn embedded(expr: Expr, schema: &DFSchema, count: &Cell<usize>) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (embedded(*left, schema, count)?, embedded(*right, schema, count)?);
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated: false }) => {
            count.set(count.get() + 1);
            there_is(with_value(*expr, subquery, schema, count.get())?)
        }
        other => Ok(other
            .transform_up(|expr| match expr {
                Expr::Exists(Exists { subquery, negated }) => {
                    let there_is = there_is(subquery)?;
                    Ok(Transformed::yes(if negated { !there_is } else { there_is }))
                }
                other => Ok(Transformed::no(other)),
            })?
            .data),
    }
}

/// The rows of a subquery whose only column is `value`, which is of the rows around it. They get a name of their own: both may be
/// of the same table.
fn with_value(value: Expr, subquery: Subquery, schema: &DFSchema, number: usize) -> Result<Subquery> {
    let mut outer_ref_columns = subquery.outer_ref_columns;
    let value = value.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let (qualifier, field) =
                schema.qualified_field_from_column(&column).map(|(q, field)| (q.cloned(), field))?;
            let column = datafusion_common::Column::new(qualifier, field.name());
            let outer = Expr::OuterReferenceColumn(Arc::clone(field), column);
            outer_ref_columns.push(outer.clone());
            Ok(Transformed::yes(outer))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let plan = LogicalPlanBuilder::from(subquery.subquery).alias(format!("__in_{number}"))?.build()?;
    let column = Expr::Column(plan.schema().columns().swap_remove(0));
    let plan = LogicalPlanBuilder::from(plan).filter(column.eq(value.data))?.build()?;
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans })
}

/// Whether a subquery has rows. Its value stays what it is when more of them come.
fn there_is(subquery: Subquery) -> Result<Expr> {
    let Some(max) = registry().aggregate("max") else {
        return datafusion_common::internal_err!("there is no MAX");
    };
    let plan = LogicalPlanBuilder::from(subquery.subquery);
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![max.call(vec![lit(1_i64)])])?.build()?;
    let value = Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery });
    Ok(value.is_not_null())
}
