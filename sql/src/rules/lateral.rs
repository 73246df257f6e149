//! `t CROSS JOIN UNNEST(t.items) AS i (…)`: the join above the unnested leaf becomes a node over `t`.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, JoinType, Result};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder};
use qanat_proto::error::{Code, Error};

use crate::plan::expand::{Expand, LateralUnnest};
use crate::plan::failure::carry;

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut number = 0_usize;
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match leaf(&join.right) {
            Some(unnest) => {
                number += 1;
                expand(&join, unnest, number).map(Transformed::yes)
            }
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}

fn leaf(plan: &LogicalPlan) -> Option<LateralUnnest> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<LateralUnnest>().cloned(),
        _ => None,
    }
}

fn expand(join: &Join, unnest: LateralUnnest, number: usize) -> Result<LogicalPlan> {
    let refuse = |what: &str| carry(Error::new(Code::SqlUnsupported, format!("{what} is not supported yet")));
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Err(refuse("this kind of join with UNNEST")),
    };
    let condition = condition_of(join);
    if outer && condition.is_some() {
        return Err(refuse("LEFT JOIN UNNEST with another condition than ON TRUE"));
    }
    // The reference to the tables before it is a plain column of the left side now.
    let list = unnest
        .expr
        .clone()
        .transform(|e| match e {
            Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
            other => Ok(Transformed::no(other)),
        })?
        .data;
    list.get_type(join.left.schema())?;
    let name = format!("__unnest_{number}");
    let mut exprs: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    exprs.push(list.alias(&name));
    let input = LogicalPlanBuilder::from(join.left.as_ref().clone()).project(exprs)?.build()?;
    let elements = unnest.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    let node = Expand::try_new(input, Column::new_unqualified(name), outer, unnest.ordinality, elements)?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    match condition {
        Some(condition) => Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?)),
        None => Ok(plan),
    }
}

/// What an inner join asks beside `TRUE`.
fn condition_of(join: &Join) -> Option<Expr> {
    let equalities = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
    let rest = join.filter.iter().filter(|f| !is_true(f)).cloned();
    datafusion_expr::utils::conjunction(equalities.chain(rest))
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(datafusion_common::ScalarValue::Boolean(Some(true)), _))
}
